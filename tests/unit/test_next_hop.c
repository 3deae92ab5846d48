#include "protocol/mem.h"
#include "queue/next_hop.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* A DNS of our own: answers at once, or when told. */
struct later {
    lmtp_resolved *answer;
    void *arg;
    enum lmtp_question kind;
    char name[NEXT_HOP_NAME_MAX];
};

static struct buf mx_records;
static enum lmtp_dns mx_status;
static bool is_slow;
static struct later waiting[64];
static size_t waiting_count;

static void reply(enum lmtp_question kind, const char *name, lmtp_resolved *answer, void *arg)
{
    bool is_good = strncmp(name, "h", 1) == 0; /* "h7" has 192.0.2.7 and nothing else */
    char record[6] = { 0, 4, (char)192, 0, 2, (char)atoi(name + 1) };
    if (kind == LMTP_ASK_MX)
        answer(arg, mx_status, mx_status == LMTP_DNS_FOUND ? buf_span(&mx_records)
                                                           : span_make(NULL, 0));
    else if (strcmp(name, "retry") == 0)
        answer(arg, LMTP_DNS_RETRY, span_make(NULL, 0));
    else if (kind == LMTP_ASK_A && is_good)
        answer(arg, LMTP_DNS_FOUND, span_make(record, 6));
    else
        answer(arg, LMTP_DNS_NONE, span_make(NULL, 0));
}

static void resolve(void *context, enum lmtp_question kind, struct span name,
                    lmtp_resolved *answer, void *arg)
{
    char text[NEXT_HOP_NAME_MAX];
    (void)context;
    snprintf(text, sizeof text, "%.*s", (int)name.len, name.at);
    if (!is_slow) {
        reply(kind, text, answer, arg);
        return;
    }
    cr_assert(waiting_count < ARRAY_LEN(waiting));
    struct later *l = &waiting[waiting_count++];
    *l = (struct later){ .answer = answer, .arg = arg, .kind = kind };
    memcpy(l->name, text, sizeof text);
}

static const struct lmtp_outside outside = { .resolve = resolve };

static void add_mx(unsigned preference, const char *host)
{
    size_t len = strlen(host) + 2;
    buf_putc(&mx_records, (char)(len >> 8));
    buf_putc(&mx_records, (char)len);
    buf_putc(&mx_records, (char)(preference >> 8));
    buf_putc(&mx_records, (char)preference);
    buf_puts(&mx_records, host);
}

static void begin(void)
{
    buf_fini(&mx_records);
    mx_status = LMTP_DNS_FOUND;
    is_slow = false;
    waiting_count = 0;
}

/* "found h1 h2", in order. */
static char got[400];
static int calls;

static void on_done(void *owner, const struct hop_hosts *hosts)
{
    static const char *const words[] = { "found", "none", "retry", "null", "loop" };
    int n = snprintf(got, sizeof got, "%s", words[hosts->found]);
    (void)owner;
    calls++;
    for (size_t i = 0; i < hosts->count; i++)
        n += snprintf(got + n, sizeof got - (size_t)n, " %s", hosts->addresses[i].host);
}

static const char *search(const char *text, uint64_t seed)
{
    struct arena memory = { 0 };
    struct next_hop hop;
    got[0] = '\0';
    calls = 0;
    cr_assert_null(next_hop_parse(LMTP_PROTOCOL_SMTP, text, &memory, &hop));
    cr_expect_null(hop_search_begin(&outside, &hop, "me.test", seed, on_done, got));
    cr_expect_eq(calls, 1);
    arena_fini(&memory);
    return got;
}

Test(next_hop, hosts_by_preference)
{
    begin();
    add_mx(300, "h3");
    add_mx(10, "h1");
    add_mx(20, "h2");
    for (uint64_t seed = 0; seed < 20; seed++)
        cr_expect_str_eq(search("a.test", seed), "found h1 h2 h3");
    buf_fini(&mx_records);
}

Test(next_hop, equal_ones_in_any_order)
{
    bool is_first[3] = { false };
    begin();
    add_mx(10, "h1");
    add_mx(10, "h2");
    add_mx(20, "h3");
    for (uint64_t seed = 0; seed < 64; seed++) {
        const char *order = search("a.test", seed);
        is_first[order[7] - '1'] = true;
        cr_expect_str_eq(order + 12, "h3");
    }
    cr_expect(is_first[0] && is_first[1] && !is_first[2]);
    buf_fini(&mx_records);
}

Test(next_hop, only_the_best_of_many)
{
    begin();
    for (int i = 20; i > 0; i--) {
        char name[8];
        snprintf(name, sizeof name, "h%d", i);
        add_mx((unsigned)i, name);
    }
    cr_expect_str_eq(search("a.test", 1), "found h1 h2 h3 h4 h5");
    buf_fini(&mx_records);
}

Test(next_hop, we_are_no_way_for_the_mail)
{
    begin();
    add_mx(10, "h1");
    add_mx(20, "ME.test");
    add_mx(20, "h2");
    add_mx(30, "h3");
    cr_expect_str_eq(search("a.test", 1), "found h1");
    begin();
    add_mx(20, "me.test");
    add_mx(30, "h3");
    cr_expect_str_eq(search("a.test", 1), "loop");
    buf_fini(&mx_records);
}

Test(next_hop, what_is_not_there)
{
    begin();
    add_mx(0, "");
    cr_expect_str_eq(search("a.test", 1), "null");
    begin();
    add_mx(10, "x");
    cr_expect_str_eq(search("a.test", 1), "none");
    add_mx(20, "retry");
    cr_expect_str_eq(search("a.test", 1), "retry");
    begin();
    mx_status = LMTP_DNS_NONE; /* the domain is its own host */
    cr_expect_str_eq(search("h9", 1), "found h9");
    cr_expect_str_eq(search("x", 1), "none");
    mx_status = LMTP_DNS_RETRY;
    cr_expect_str_eq(search("h9", 1), "retry");
    buf_fini(&mx_records);
}

Test(next_hop, fixed_hosts_are_not_looked_up_as_domains)
{
    begin();
    add_mx(10, "h1");
    cr_expect_str_eq(search("[h2]:25", 1), "found h2");
    cr_expect_str_eq(search("[192.0.2.77]", 1), "found 192.0.2.77");
    cr_expect_str_eq(search("inet:H3.", 1), "found h3");
    buf_fini(&mx_records);
}

/* Rubbish from the DNS leads nowhere. */
Test(next_hop, any_records)
{
    struct seeded random = seeded_begin(3);
    for (int round = 0; round < 5000; round++) {
        begin();
        size_t len = seeded_below(&random, 60);
        for (size_t i = 0; i < len; i++)
            buf_putc(&mx_records, (char)seeded_below(&random, seeded_below(&random, 2) ? 4 : 256));
        search("a.test", (uint64_t)round);
    }
    buf_fini(&mx_records);
}

/* Whoever leaves hears nothing, whatever is still on its way. */
Test(next_hop, leaving)
{
    for (size_t answers = 0; answers < 7; answers++) {
        struct next_hop hop = { .host = "a.test", .is_mx = true };
        begin();
        add_mx(10, "h1");
        add_mx(20, "h2");
        add_mx(30, "h3");
        is_slow = true;
        calls = 0;
        struct hop_search *s = hop_search_begin(&outside, &hop, "me.test", 1, on_done, got);
        cr_assert_not_null(s);
        for (size_t i = 0; i < answers; i++)
            reply(waiting[i].kind, waiting[i].name, waiting[i].answer, waiting[i].arg);
        hop_search_leave(s);
        for (size_t i = answers; i < waiting_count; i++)
            reply(waiting[i].kind, waiting[i].name, waiting[i].answer, waiting[i].arg);
        cr_expect_eq(waiting_count, 7);
        cr_expect_eq(calls, 0);
    }
    buf_fini(&mx_records);
}
