#include "queue/envelope.h"
#include "protocol/mem.h"
#include "seeded.h"

#include <criterion/criterion.h>
#include <errno.h>

/* Every field has a value of its own, some of them ugly. */
static void fill(struct envelope *e)
{
    envelope_init(e, "6A1F2C3D4E5F");
    e->arrived_s = 1700000000;
    e->next_s = 1700000300;
    e->tries = 3;
    e->size_bytes = 123456;
    e->client = arena_text(&e->memory, span_of("mx.example.net[192.0.2.7]"));
    e->sender = arena_span(&e->memory, span_of("a b\\\"c@example.net"));
    e->envid = arena_span(&e->memory, span_of("QQ314159+2B"));
    e->ret = SMTP_RET_HDRS;
    e->is_8bitmime = e->is_smtputf8 = e->is_delay_told = true;
    struct envelope_rcpt *r = envelope_add(e, &(struct envelope_rcpt){
        .address = span_of("j\xc3\xb6rg@example.org"), .original = span_of("J@example.org"),
        .orcpt = span_of("rfc822;j+2Bx@example.org"), .notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY,
        .transport = "lmtp", .nexthop = "unix:/run/dovecot/lmtp", .state = RCPT_OWED });
    envelope_note(e, r, 452, "4.2.2", "<j> quota \x01 exceeded", "127.0.0.1[127.0.0.1]:24");
    envelope_add(e, &(struct envelope_rcpt){ .address = span_of("b@example.org"),
                                             .transport = "virtual", .nexthop = "b/",
                                             .state = RCPT_FAILED, .notify = SMTP_NOTIFY_NEVER });
}

static bool is_same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_same_rcpt(const struct envelope_rcpt *a, const struct envelope_rcpt *b)
{
    return span_equals(a->address, b->address) && span_equals(a->original, b->original)
           && span_equals(a->orcpt, b->orcpt) && a->notify == b->notify
           && is_same_text(a->transport, b->transport) && is_same_text(a->nexthop, b->nexthop)
           && a->state == b->state && a->code == b->code
           && is_same_text(a->enhanced, b->enhanced) && is_same_text(a->text, b->text)
           && is_same_text(a->relay, b->relay);
}

static bool is_same(const struct envelope *a, const struct envelope *b)
{
    const struct envelope_rcpt *x = a->rcpts, *y = b->rcpts;
    bool same = is_same_text(a->id, b->id) && a->arrived_s == b->arrived_s
                && a->next_s == b->next_s && a->tries == b->tries
                && a->size_bytes == b->size_bytes && is_same_text(a->client, b->client)
                && span_equals(a->sender, b->sender) && span_equals(a->envid, b->envid)
                && a->ret == b->ret && a->is_8bitmime == b->is_8bitmime
                && a->is_smtputf8 == b->is_smtputf8 && a->is_delay_told == b->is_delay_told
                && a->count == b->count;
    for (; same && x != NULL && y != NULL; x = x->next, y = y->next)
        same = is_same_rcpt(x, y);
    return same;
}

Test(envelope, comes_back_as_it_was)
{
    struct envelope e, copy;
    struct buf text = { 0 }, again = { 0 };
    fill(&e);
    envelope_print(&e, &text);
    cr_assert_eq(envelope_parse(&copy, buf_span(&text)), 0, "%s", buf_text(&text));
    cr_expect(is_same(&e, &copy));
    envelope_print(&copy, &again);
    cr_expect(span_equals(buf_span(&text), buf_span(&again)));
    buf_fini(&text);
    buf_fini(&again);
    envelope_fini(&e);
    envelope_fini(&copy);
}

Test(envelope, is_made_for_people)
{
    struct envelope e;
    struct buf text = { 0 };
    fill(&e);
    envelope_print(&e, &text);
    cr_expect_str_eq(buf_text(&text),
                     "postern-envelope 1\nid 6A1F2C3D4E5F\narrived 1700000000\nnext 1700000300\n"
                     "tries 3\nsize 123456\nclient mx.example.net[192.0.2.7]\n"
                     "from a b\\x5C\"c@example.net\nenvid QQ314159+2B\nret HDRS\nbody 8BITMIME\n"
                     "smtputf8 yes\ndelay-told yes\nto j\xc3\xb6rg@example.org\n"
                     " original J@example.org\n orcpt rfc822;j+2Bx@example.org\n"
                     " notify SUCCESS,DELAY\n transport lmtp\n nexthop unix:/run/dovecot/lmtp\n"
                     " state owed\n code 452\n dsn 4.2.2\n said <j> quota \\x01 exceeded\n"
                     " relay 127.0.0.1[127.0.0.1]:24\nto b@example.org\n notify NEVER\n"
                     " transport virtual\n nexthop b/\n state failed\nend\n");
    buf_fini(&text);
    envelope_fini(&e);
}

Test(envelope, the_null_sender_and_nothing_else)
{
    struct envelope e, copy;
    struct buf text = { 0 };
    envelope_init(&e, "1");
    envelope_print(&e, &text);
    cr_assert_eq(envelope_parse(&copy, buf_span(&text)), 0);
    cr_expect(copy.sender.len == 0 && copy.count == 0 && is_same_text(copy.client, ""));
    buf_fini(&text);
    envelope_fini(&e);
    envelope_fini(&copy);
}

Test(envelope, what_is_done_is_not_written)
{
    struct envelope e;
    struct buf text = { 0 };
    fill(&e);
    e.rcpts->state = RCPT_DONE;
    envelope_print(&e, &text);
    cr_expect_null(strstr(buf_text(&text), "lmtp"));
    cr_expect_not_null(strstr(buf_text(&text), "to b@example.org"));
    buf_fini(&text);
    envelope_fini(&e);
}

/* Each text that is cut somewhere is refused: a torn file never counts. */
Test(envelope, a_torn_text_shows)
{
    struct envelope e, copy;
    struct buf text = { 0 };
    fill(&e);
    envelope_print(&e, &text);
    for (size_t len = 0; len < text.len; len++) {
        char *exact = xmalloc(len + 1); /* a sanitizer sees any step beyond it */
        memcpy(exact, text.at, len);
        char *shrunk = xrealloc(exact, len > 0 ? len : 1);
        cr_expect_lt(envelope_parse(&copy, span_make(shrunk, len)), 0, "%zu", len);
        envelope_fini(&copy);
        free(shrunk);
    }
    buf_fini(&text);
    envelope_fini(&e);
}

Test(envelope, hostile_texts)
{
#define TEXT(lines) "postern-envelope 1\nid 1A\n" lines "end\n"
    static const struct {
        const char *text;
        int rc;
    } cases[] = {
        { TEXT(""), 0 },
        { "postern-envelope 2\nid 1A\nend\n", -EPROTONOSUPPORT },
        { "postern-envelope 11\nid 1A\nend\n", -EPROTONOSUPPORT },
        { "some text\nid 1A\nend\n", -EBADMSG },
        { "postern-envelope 1\nend\n", -EBADMSG }, /* no id */
        { "postern-envelope 1\nid ../x\nend\n", -EBADMSG },
        { "postern-envelope 1\nid 1a\nend\n", -EBADMSG },
        { "postern-envelope 1\nid 11112222333344445\nend\n", -EBADMSG },
        { TEXT("") "more\n", -EBADMSG },
        { TEXT("unknown item\n"), -EBADMSG },
        { TEXT("from a@b\n"), 0 },
        { TEXT("from a\\x0Ab@c\n"), -EBADMSG },   /* RCPT TO would be two commands */
        { TEXT("from a\\x0Db@c\n"), -EBADMSG },
        { TEXT("from a\\x00b@c\n"), -EBADMSG },
        { TEXT("from a\\x5cb@c\n"), 0 },
        { TEXT("from a\\xZZb@c\n"), -EBADMSG },
        { TEXT("from a\\x4\n"), -EBADMSG },
        { TEXT("from a\tb@c\n"), -EBADMSG },      /* would have been escaped */
        { TEXT("from \n"), -EBADMSG },
        { TEXT("arrived -5\n"), 0 },
        { TEXT("arrived 99999999999999999999\n"), -EBADMSG },
        { TEXT("arrived 12x\n"), -EBADMSG },
        { TEXT("arrived \n"), -EBADMSG },
        { TEXT("tries 99999999999\n"), -EBADMSG },
        { TEXT("size -1\n"), -EBADMSG },
        { TEXT("ret ALL\n"), -EBADMSG },
        { TEXT("body BINARYMIME\n"), -EBADMSG },
        { TEXT(" transport lmtp\n"), -EBADMSG },  /* of nobody */
        { TEXT("to a@b\n"), -EBADMSG },           /* no transport */
        { TEXT("to a@b\n transport lmtp\n"), 0 },
        { TEXT("to a@b\n transport pipe\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n state lost\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n notify SOMETIMES\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n notify \n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n code 42\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n code 600\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\n said a\\x00b\n"), -EBADMSG },
        { TEXT("to a@b\n transport lmtp\nfrom x@y\n"), 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct envelope e;
        cr_expect_eq(envelope_parse(&e, span_of(cases[i].text)), cases[i].rc, "%zu: %s", i,
                     cases[i].text);
        envelope_fini(&e);
    }
}

/* Bytes changed at random: refused, or an envelope that prints to what parses again. */
Test(envelope, damage_is_found_or_harmless)
{
    struct seeded random = seeded_begin(5);
    struct envelope e, copy, third;
    struct buf text = { 0 }, again = { 0 };
    fill(&e);
    envelope_print(&e, &text);
    for (int i = 0; i < 20000; i++) {
        struct buf bad = { 0 };
        buf_add(&bad, buf_span(&text));
        bad.at[seeded_below(&random, (uint32_t)bad.len)] = (char)seeded_below(&random, 256);
        if (envelope_parse(&copy, buf_span(&bad)) == 0) {
            buf_clear(&again);
            envelope_print(&copy, &again);
            cr_expect_eq(envelope_parse(&third, buf_span(&again)), 0, "%s", buf_text(&again));
            envelope_fini(&third);
        }
        envelope_fini(&copy);
        buf_fini(&bad);
    }
    buf_fini(&text);
    buf_fini(&again);
    envelope_fini(&e);
}

Test(envelope, ids)
{
    char text[QUEUE_ID_MAX];
    uint64_t id;
    cr_expect(queue_id_parse(span_of("FFFFFFFFFFFFFFFF"), &id) && id == UINT64_MAX);
    cr_expect(queue_id_parse(span_of("0"), &id) && id == 0);
    cr_expect_not(queue_id_parse(span_of("01"), &id));
    cr_expect_not(queue_id_parse(span_of(""), &id));
    cr_expect_not(queue_id_parse(span_of("1 "), &id));
    queue_id_print(0x1A2B, text);
    cr_expect_str_eq(text, "1A2B");
}

Test(envelope, destinations)
{
    struct envelope e;
    struct buf text = { 0 };
    envelope_init(&e, "1");
    cr_expect_not(envelope_single_destination(&e, &text));
    struct envelope_rcpt *a = envelope_add(&e, &(struct envelope_rcpt){
        .address = span_of("a@b"), .transport = "lmtp", .nexthop = "unix:x" });
    envelope_add(&e, &(struct envelope_rcpt){ .address = span_of("b@b"), .transport = "lmtp",
                                              .nexthop = "unix:x" });
    cr_expect(envelope_single_destination(&e, &text));
    cr_expect_str_eq(buf_text(&text), "lmtp:unix:x");
    struct envelope_rcpt *c = envelope_add(&e, &(struct envelope_rcpt){
        .address = span_of("c@b"), .transport = "virtual", .nexthop = "c/" });
    cr_expect_not(envelope_single_destination(&e, &text));
    a->state = RCPT_SENT;
    a->next->state = RCPT_FAILED;
    cr_expect(envelope_single_destination(&e, &text)); /* only what is owed counts */
    cr_expect_str_eq(buf_text(&text), "virtual");
    c->state = RCPT_SENT;
    cr_expect_not(envelope_single_destination(&e, &text));
    buf_fini(&text);
    envelope_fini(&e);
}
