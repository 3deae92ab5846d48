/* Envelopes in the spool: a text that is taken prints to one that means the same; whatever an
 * envelope holds comes back. */
#include "fuzz/fuzz.h"
#include "queue/envelope.h"

static void check_same(const struct envelope *a, const struct envelope *b)
{
    const struct envelope_rcpt *x = a->rcpts, *y = b->rcpts;
    ENSURE(strcmp(a->id, b->id) == 0 && a->count == b->count && a->tries == b->tries);
    ENSURE(a->arrived_s == b->arrived_s && a->next_s == b->next_s);
    ENSURE(a->size_bytes == b->size_bytes && a->ret == b->ret);
    ENSURE(span_equals(a->sender, b->sender) && span_equals(a->envid, b->envid));
    for (; x != NULL && y != NULL; x = x->next, y = y->next) {
        ENSURE(span_equals(x->address, y->address) && span_equals(x->original, y->original));
        ENSURE(span_equals(x->orcpt, y->orcpt) && x->notify == y->notify);
        ENSURE(x->state == y->state && x->code == y->code);
        ENSURE(strcmp(x->text, y->text) == 0 && strcmp(x->nexthop, y->nexthop) == 0);
    }
    ENSURE(x == NULL && y == NULL);
}

static void print_and_parse(const struct envelope *e)
{
    struct buf text = { 0 };
    struct envelope again;
    envelope_print(e, &text);
    ENSURE(envelope_parse(&again, buf_span(&text)) == 0);
    size_t counted = 0;
    for (enum rcpt_state s = RCPT_OWED; s <= RCPT_DONE; s++)
        counted += envelope_count(&again, s);
    ENSURE(counted == again.count);
    if (envelope_count(e, RCPT_DONE) == 0)
        check_same(e, &again);
    envelope_fini(&again);
    buf_fini(&text);
}

static void read_text(struct fuzz *f)
{
    struct envelope e;
    struct buf destination = { 0 };
    if (envelope_parse(&e, f->text) == 0) {
        print_and_parse(&e);
        envelope_single_destination(&e, &destination);
    }
    envelope_fini(&e);
    buf_fini(&destination);
}

/* Lines of the input as texts; addresses are what smtp_path lets through. */
static struct span address(struct fuzz *f)
{
    struct span line = fuzz_line(f);
    if (line.len == 0)
        return SPAN_LITERAL("postmaster");
    char *copy = arena_text(&f->memory, line);
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)copy[i] < ' ' || copy[i] == 0x7f)
            copy[i] = '?';
    return span_make(copy, line.len);
}

static void write_any(struct fuzz *f)
{
    struct envelope e;
    envelope_init(&e, "1983AB");
    e.sender = arena_span(&e.memory, address(f));
    e.client = arena_text(&e.memory, fuzz_line(f));
    for (int i = 0; i < 3; i++) {
        const struct envelope_rcpt rcpt = {
            .address = address(f), .original = address(f), .transport = "virtual",
            .nexthop = "box/", .notify = SMTP_NOTIFY_FAILURE, .enhanced = "", .text = "",
            .relay = "",
        };
        struct envelope_rcpt *kept = envelope_add(&e, &rcpt);
        envelope_note(&e, kept, 450, "4.2.2", arena_text(&f->memory, fuzz_line(f)), "mx[192.0.2.1]");
    }
    print_and_parse(&e);
    envelope_fini(&e);
}

void fuzz_one(struct fuzz *f)
{
    uint64_t id;
    char text[QUEUE_ID_MAX];
    if (queue_id_parse(f->text, &id)) {
        queue_id_print(id, text);
        ENSURE(span_equals(span_of(text), f->text));
    }
    read_text(f);
    write_any(f);
}
