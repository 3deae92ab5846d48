#include "policy/probe.h"
#include "policy/verify.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const struct params params = {
    .address_verify_positive_expire_time = 31 * 86400000ll,
    .address_verify_positive_refresh_time = 7 * 86400000ll,
    .address_verify_negative_expire_time = 3 * 86400000ll,
    .address_verify_negative_refresh_time = 3 * 3600000ll,
    .address_verify_negative_cache = true,
    .address_verify_sender = "double-bounce",
    .myorigin = "example.org",
};

enum { NOW = 1000000000, HOUR = 3600, DAY = 86400 };

/* What an entry of this age says, and whether a probe is due then. */
static const struct {
    enum verify_status status;
    int64_t age_s, probe_age_s; /* of a probe under way; 0: none */
    enum verify_status says;
    bool is_due;
} rows[] = {
    { VERIFY_TODO, 0, 0, VERIFY_TODO, true },
    { VERIFY_TODO, 0, 10, VERIFY_TODO, false },
    { VERIFY_TODO, 0, 999, VERIFY_TODO, false },
    { VERIFY_TODO, 0, 1000, VERIFY_TODO, true },
    { VERIFY_OK, 0, 0, VERIFY_OK, false },
    { VERIFY_OK, 7 * DAY, 0, VERIFY_OK, false },
    { VERIFY_OK, 7 * DAY + 1, 0, VERIFY_OK, true },
    { VERIFY_OK, 7 * DAY + 1, 5, VERIFY_OK, false },
    { VERIFY_OK, 31 * DAY, 0, VERIFY_OK, true },
    { VERIFY_OK, 31 * DAY + 1, 0, VERIFY_TODO, true },
    { VERIFY_OK, 31 * DAY + 1, 5, VERIFY_TODO, false },
    { VERIFY_DEFER, 3 * HOUR, 0, VERIFY_DEFER, false },
    { VERIFY_DEFER, 3 * HOUR + 1, 0, VERIFY_DEFER, true },
    { VERIFY_BOUNCE, 3 * HOUR + 1, 0, VERIFY_BOUNCE, true },
    { VERIFY_BOUNCE, 3 * DAY + 1, 0, VERIFY_TODO, true },
};

Test(verify, what_is_known_ages)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct verify_entry e = { .status = rows[i].status, .updated_s = NOW - rows[i].age_s };
        bool is_due;
        if (rows[i].probe_age_s > 0)
            e.probed_s = NOW - rows[i].probe_age_s;
        cr_expect_eq(verify_look(&e, &params, NOW, &is_due), rows[i].says, "row %zu", i);
        cr_expect_eq(is_due, rows[i].is_due, "row %zu", i);
        cr_expect(!is_due || e.probed_s == NOW, "row %zu", i);
        cr_expect_not(is_due && (verify_look(&e, &params, NOW, &is_due), is_due),
                      "row %zu: two probes at once", i);
    }
}

Test(verify, a_failed_probe_never_overwrites_what_still_counts)
{
    struct verify_entry e = { .status = VERIFY_OK, .updated_s = NOW - 8 * DAY, .probed_s = NOW };
    verify_learn(&e, &params, VERIFY_BOUNCE, "no", NOW + 1);
    cr_expect(e.status == VERIFY_OK && e.updated_s == NOW - 8 * DAY && e.probed_s == 0);
    verify_learn(&e, &params, VERIFY_OK, "yes", NOW + 2);
    cr_expect(e.updated_s == NOW + 2);
    verify_learn(&e, &params, VERIFY_DEFER, "down", NOW + 32 * DAY);
    cr_expect(e.status == VERIFY_DEFER && strcmp(e.text, "down") == 0);
    verify_learn(&e, &params, VERIFY_BOUNCE, "no", NOW + 33 * DAY);
    cr_expect(e.status == VERIFY_BOUNCE && strcmp(e.text, "no") == 0);
}

Test(verify, how_long_it_is_kept)
{
    struct params p = params;
    struct verify_entry e = { 0 };
    cr_expect_eq(verify_keep_until(&e, &p, NOW), NOW + VERIFY_LOST_S);
    verify_learn(&e, &p, VERIFY_BOUNCE, "no", NOW);
    cr_expect_eq(verify_keep_until(&e, &p, NOW), NOW + 3 * DAY);
    p.address_verify_negative_cache = false;
    cr_expect_eq(verify_keep_until(&e, &p, NOW), 0);
    verify_learn(&e, &p, VERIFY_OK, "", NOW);
    cr_expect_eq(verify_keep_until(&e, &p, NOW), NOW + 31 * DAY);
}

Test(verify, entries_survive_the_store)
{
    struct verify_entry e = { VERIFY_BOUNCE, NOW, NOW - 5, "host x said: 550  no" }, back;
    struct buf text = { 0 };
    memset(e.text, 'x', VERIFY_TEXT_MAX);
    verify_entry_print(&text, &e);
    cr_assert(verify_entry_parse(buf_span(&text), &back));
    cr_expect(back.status == e.status && back.probed_s == NOW && back.updated_s == NOW - 5
              && strcmp(back.text, e.text) == 0);
    for (size_t n = 0; n < 20; n++) /* cut short it is nothing, or a shorter text */
        verify_entry_parse(span_make(text.at, n), &back);
    cr_expect_not(verify_entry_parse(SPAN_LITERAL(""), &back));
    cr_expect_not(verify_entry_parse(SPAN_LITERAL("4 1 1 x"), &back));
    cr_expect_not(verify_entry_parse(SPAN_LITERAL("1 -1 1 x"), &back));
    buf_putc(&text, 'y');
    cr_expect_not(verify_entry_parse(buf_span(&text), &back), "too long");
    buf_fini(&text);
}

Test(verify, answers_and_keys)
{
    static const char *const answers[] = { "todo", "ok", "defer down", "bounce host x said: no" };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        enum verify_status status;
        struct span why;
        struct buf text = { 0 };
        cr_assert(verify_answer_parse(span_of(answers[i]), &status, &why));
        char *copy = xprintf("%.*s", (int)why.len, why.at);
        verify_answer_print(&text, status, copy);
        cr_expect_str_eq(buf_text(&text), answers[i]);
        free(copy);
        buf_fini(&text);
    }
    struct buf key = { 0 };
    struct span target, address;
    int round;
    verify_key(&key, 2, SPAN_LITERAL("mx:test"), SPAN_LITERAL("a b@test"));
    cr_assert(verify_key_parse(buf_span(&key), &round, &target, &address));
    cr_expect(round == 2 && span_equals(target, SPAN_LITERAL("mx:test"))
              && span_equals(address, SPAN_LITERAL("a b@test")));
    cr_expect_not(verify_key_parse(SPAN_LITERAL("2 mx:test"), &round, &target, &address));
    cr_expect_not(verify_key_parse(SPAN_LITERAL("x mx:test\ta@b"), &round, &target, &address));
    buf_fini(&key);
}

Test(verify, probes_go_out_under_a_name)
{
    static const struct {
        const char *parameter;
        int64_t ttl_ms;
        const char *sender;
    } names[] = {
        { "double-bounce", 0, "double-bounce@example.org" },
        { "verify@probe.test", 0, "verify@probe.test" },
        { "", 0, "" },
        { "<>", 0, "" },
        { "v", 1000000, "vf4240@example.org" },
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct params p = params;
        struct buf sender = { 0 };
        p.address_verify_sender = names[i].parameter;
        p.address_verify_sender_ttl = names[i].ttl_ms;
        verify_sender(&sender, &p, NOW);
        cr_expect_str_eq(buf_text(&sender), names[i].sender);
        cr_expect_eq(verify_is_sender(&p, buf_span(&sender), NOW), sender.len > 0);
        buf_fini(&sender);
    }
}

Test(verify, the_name_is_known_again)
{
    struct params p = params;
    cr_expect(verify_is_sender(&p, SPAN_LITERAL("Double-Bounce@Example.org"), NOW));
    cr_expect(verify_is_sender(&p, SPAN_LITERAL("double-bounce"), NOW));
    cr_expect_not(verify_is_sender(&p, SPAN_LITERAL("double-bounce@other.test"), NOW));
    cr_expect_not(verify_is_sender(&p, SPAN_LITERAL(""), NOW));
    p.address_verify_sender_ttl = 1000000;
    cr_expect(verify_is_sender(&p, SPAN_LITERAL("double-bouncef4240@example.org"), NOW + 999));
    cr_expect(verify_is_sender(&p, SPAN_LITERAL("double-bouncef4240@example.org"), NOW + 1999));
    cr_expect(verify_is_sender(&p, SPAN_LITERAL("double-bouncef4240@example.org"), NOW - 1));
    cr_expect_not(verify_is_sender(&p, SPAN_LITERAL("double-bouncef4240@example.org"), NOW + 2000));
    cr_expect_not(verify_is_sender(&p, SPAN_LITERAL("double-bounce@example.org"), NOW));
}

/* ------------------------------------------------------------ questions to next hops */

Test(probe, keys)
{
    struct buf key = { 0 };
    struct probe p;
    probe_key(&key, SPAN_LITERAL("lmtp:unix:/x"), SPAN_LITERAL(""), SPAN_LITERAL("a b@c"));
    cr_assert(probe_key_parse(buf_span(&key), &p));
    cr_expect(p.is_lmtp && !p.is_public_only && p.sender.len == 0
              && span_equals(p.nexthop, SPAN_LITERAL("unix:/x"))
              && span_equals(p.recipient, SPAN_LITERAL("a b@c")));
    buf_fini(&key);
    static const char *const bad[] = { "", "lmtp:x", "lmtp:x\ts", "lmtp:x\ts\t", "lmtp:\ts\tr",
                                       "http:x\ts\tr" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_not(probe_key_parse(span_of(bad[i]), &p), "%s", bad[i]);
}

Test(probe, answers)
{
    static const struct {
        const char *text;
        bool is_good;
    } answers[] = { { "250 2.1.5 ok", true }, { "550 5.1.1", true }, { "550 no code", false },
                    { "150 1.0.0 x", false }, { "ok", false },       { "", false } };
    struct arena memory = { 0 };
    struct smtp_reply reply;
    struct buf text = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        cr_expect_eq(probe_answer_parse(span_of(answers[i].text), &memory, &reply),
                     answers[i].is_good, "%s", answers[i].text);
    probe_answer(&text, 550, "", "no such user");
    cr_expect_str_eq(buf_text(&text), "550 5.0.0 no such user");
    buf_fini(&text);
    arena_fini(&memory);
}
