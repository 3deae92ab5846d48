/* The greylist's decision: by table, and against postgrey's own algorithm over random histories. */
#include "policy/greylist.h"
#include "protocol/mem.h"
#include "seeded.h"

#include <criterion/criterion.h>

static const struct greylist_params defaults = {
    .delay_s = 300, .retry_window_s = 2 * 86400, .max_age_s = 35 * 86400,
    .auto_allow_clients = 5, .auto_allow_senders = 2,
};

/* ------------------------------------------------------------ one triplet, step by step */

struct step {
    int64_t at_s;
    enum greylist_result result;
    int64_t number; /* wait_s or waited_s */
};

static void play(const struct greylist_params *p, const struct step *steps, size_t count)
{
    struct greylist_record triplet = { 0 }, client = { 0 }, pair = { 0 };
    for (size_t i = 0; i < count; i++) {
        struct greylist_decision d =
            greylist_decide(p, &triplet, &client, &pair, 1000000 + steps[i].at_s);
        cr_expect_eq(d.result, steps[i].result, "step %zu: %d", i, d.result);
        if (d.result == GREYLIST_WAIT)
            cr_expect_eq(d.wait_s, steps[i].number, "step %zu: %lld", i, (long long)d.wait_s);
        if (d.result == GREYLIST_FIRST_PASS)
            cr_expect_eq(d.waited_s, steps[i].number, "step %zu", i);
    }
}

Test(greylist, a_triplet_waits_once_and_then_passes)
{
    static const struct step steps[] = {
        { 0, GREYLIST_WAIT, 300 },        { 100, GREYLIST_WAIT, 200 },
        { 299, GREYLIST_WAIT, 1 },        { 300, GREYLIST_FIRST_PASS, 300 },
        { 301, GREYLIST_PASS, 0 },        { 20 * 86400, GREYLIST_PASS, 0 },
    };
    play(&defaults, steps, ARRAY_LEN(steps));
}

Test(greylist, who_comes_back_too_late_begins_again)
{
    static const struct step steps[] = {
        { 0, GREYLIST_WAIT, 300 },
        { 2 * 86400 + 1, GREYLIST_WAIT, 300 },
        { 2 * 86400 + 301, GREYLIST_FIRST_PASS, 300 },
    };
    static const struct step at_the_edge[] = {
        { 0, GREYLIST_WAIT, 300 }, { 2 * 86400, GREYLIST_FIRST_PASS, 2 * 86400 },
    };
    play(&defaults, steps, ARRAY_LEN(steps));
    play(&defaults, at_the_edge, ARRAY_LEN(at_the_edge));
}

Test(greylist, a_clock_that_was_set_back_forgets_nobody)
{
    static const struct step steps[] = {
        { 0, GREYLIST_WAIT, 300 },       { 310, GREYLIST_FIRST_PASS, 310 },
        { -5000, GREYLIST_WAIT, 300 },   { -4700, GREYLIST_FIRST_PASS, 300 },
    };
    play(&defaults, steps, ARRAY_LEN(steps));
}

Test(greylist, without_delay_all_pass_at_once)
{
    struct greylist_params p = defaults;
    static const struct step steps[] = { { 0, GREYLIST_FIRST_PASS, 0 }, { 0, GREYLIST_PASS, 0 } };
    p.delay_s = 0;
    play(&p, steps, ARRAY_LEN(steps));
}

/* ------------------------------------------------------------ proven clients */

/* A new triplet of the same client: waits, comes back, passes. Returns when. */
static int64_t succeed(const struct greylist_params *p, struct greylist_record *client,
                       struct greylist_record *pair, int64_t now_s)
{
    struct greylist_record triplet = { 0 };
    cr_expect_eq(greylist_decide(p, &triplet, client, pair, now_s).result, GREYLIST_WAIT);
    now_s += p->delay_s;
    cr_expect_eq(greylist_decide(p, &triplet, client, pair, now_s).result, GREYLIST_FIRST_PASS);
    return now_s;
}

Test(greylist, five_successes_an_hour_apart_prove_a_client)
{
    struct greylist_record client = { 0 }, triplet = { 0 }, none = { 0 };
    int64_t now_s = 1000000;
    for (int i = 0; i < 5; i++, now_s += 3600) {
        struct greylist_record pair = { 0 };
        now_s = succeed(&defaults, &client, &pair, now_s);
    }
    cr_expect_eq(client.count, 5);
    struct greylist_decision d = greylist_decide(&defaults, &triplet, &client, &none, now_s);
    cr_expect_eq(d.result, GREYLIST_KNOWN);
    cr_expect(!d.triplet_changed && triplet.first_s == 0);
    cr_expect(d.client_changed, "its last sight is noted once an hour");
    d = greylist_decide(&defaults, &triplet, &client, &none, now_s + 3599);
    cr_expect(d.result == GREYLIST_KNOWN && !d.client_changed);
}

Test(greylist, a_burst_counts_as_one_success)
{
    struct greylist_record client = { 0 };
    int64_t now_s = 1000000;
    for (int i = 0; i < 10; i++) {
        struct greylist_record pair = { 0 };
        now_s = succeed(&defaults, &client, &pair, now_s);
    }
    cr_expect_leq(client.count, 1 + 10 * 300 / 3600);
}

Test(greylist, two_successes_prove_a_client_for_one_sender_domain)
{
    struct greylist_record client = { 0 }, pair = { 0 }, other_pair = { 0 }, triplet = { 0 };
    int64_t now_s = succeed(&defaults, &client, &pair, 1000000);
    now_s = succeed(&defaults, &client, &pair, now_s + 3600);
    cr_expect_eq(greylist_decide(&defaults, &triplet, &client, &pair, now_s).result,
                 GREYLIST_KNOWN);
    cr_expect_eq(greylist_decide(&defaults, &triplet, &client, &other_pair, now_s).result,
                 GREYLIST_WAIT);
}

Test(greylist, zero_switches_the_proof_off)
{
    struct greylist_params p = defaults;
    struct greylist_record client = { 1, 1000000, 1000000 }, pair = client, triplet = { 0 };
    p.auto_allow_clients = p.auto_allow_senders = 0;
    cr_expect_eq(greylist_decide(&p, &triplet, &client, &pair, 1000000).result, GREYLIST_WAIT);
    struct greylist_decision d = greylist_decide(&p, &triplet, &client, &pair, 1000300);
    cr_expect(d.result == GREYLIST_FIRST_PASS && !d.client_changed && !d.pair_changed);
}

Test(greylist, what_is_stale_does_not_count_even_before_the_sweep)
{
    static const struct step steps[] = {
        { 0, GREYLIST_WAIT, 300 },
        { 300, GREYLIST_FIRST_PASS, 300 },
        { 300 + 35 * 86400, GREYLIST_PASS, 0 },
        { 300 + 70 * 86400 + 1, GREYLIST_WAIT, 300 },
    };
    struct greylist_record triplet = { 0 }, none = { 0 };
    struct greylist_record client = { 1000000, 1000000, 5 };
    play(&defaults, steps, ARRAY_LEN(steps));
    cr_expect_eq(greylist_decide(&defaults, &triplet, &client, &none,
                                 1000001 + 35 * 86400).result, GREYLIST_WAIT);
}

Test(greylist, records_grow_stale)
{
    const struct greylist_params *p = &defaults;
    const int64_t day = 86400, now = 100 * day;
    const struct {
        struct greylist_record record;
        bool is_triplet, is_stale;
    } rows[] = {
        { { now - 2 * day, now - 2 * day, 0 }, true, false },
        { { now - 2 * day - 1, now - 2 * day - 1, 0 }, true, true },
        { { now - 2 * day - 1, now - 2 * day - 1, 1 }, false, false },
        { { now - 40 * day, now - 35 * day, 1 }, true, false },
        { { now - 40 * day, now - 35 * day - 1, 1 }, true, true },
        { { now - 40 * day, now - 35 * day - 1, 9 }, false, true },
        { { now + day, now + day, 0 }, true, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(greylist_is_stale(p, &rows[i].record, rows[i].is_triplet, now),
                     rows[i].is_stale, "row %zu", i);
}

/* ------------------------------------------------------------ postgrey's algorithm, naively */

enum { KEYS = 12, CLIENTS = 3, EVENTS = 400, HISTORIES = 300 };

struct naive {
    bool is_present[KEYS], is_counted[CLIENTS];
    int64_t first[KEYS], last[KEYS], counted[CLIENTS];
    int count[CLIENTS];
};

/* Spec 11.1 line by line, with the purge at every moment instead of every night. */
static enum greylist_result naive_decide(struct naive *n, const struct greylist_params *p,
                                         size_t key, size_t client, int64_t now)
{
    if (n->is_counted[client] && now - n->counted[client] > p->max_age_s)
        n->count[client] = n->is_counted[client] = 0;
    if (n->is_present[key] && now - n->last[key] > p->max_age_s)
        n->is_present[key] = false;
    if (p->auto_allow_clients > 0 && n->count[client] >= p->auto_allow_clients) {
        if (now >= n->counted[client] + 3600)
            n->counted[client] = now;
        return GREYLIST_KNOWN;
    }
    bool is_present = n->is_present[key];
    int64_t first = is_present ? n->first[key] : now, last = n->last[key];
    if (is_present && last - first < p->delay_s && now - first > p->retry_window_s)
        first = now;
    bool was_ok = is_present && last - first >= p->delay_s;
    n->is_present[key] = true;
    n->first[key] = first;
    n->last[key] = now;
    if (p->delay_s - (now - first) > 0)
        return GREYLIST_WAIT;
    if (was_ok)
        return GREYLIST_PASS;
    if (p->auto_allow_clients > 0
        && (!n->is_counted[client] || now - n->counted[client] >= 3600)) {
        n->count[client]++;
        n->counted[client] = now;
        n->is_counted[client] = true;
    }
    return GREYLIST_FIRST_PASS;
}

static void random_history(struct seeded *random)
{
    static const int64_t leaps[] = { 0, 1, 60, 299, 300, 301, 3599, 3600, 86400, 172801,
                                     40 * 86400 };
    struct greylist_params p = defaults;
    struct greylist_record triplets[KEYS] = { 0 }, clients[CLIENTS] = { 0 }, pair = { 0 };
    struct naive naive = { 0 };
    int64_t now = 1000000000;
    p.auto_allow_senders = 0;
    p.auto_allow_clients = (int)seeded_below(random, 4);
    for (int i = 0; i < EVENTS; i++) {
        size_t key = seeded_below(random, KEYS), client = key % CLIENTS;
        now += leaps[seeded_below(random, ARRAY_LEN(leaps))];
        enum greylist_result expected = naive_decide(&naive, &p, key, client, now);
        pair = (struct greylist_record){ 0 };
        struct greylist_decision d =
            greylist_decide(&p, &triplets[key], &clients[client], &pair, now);
        cr_assert_eq(d.result, expected, "event %d: %d, postgrey %d", i, d.result, expected);
        cr_assert_eq(clients[client].count, (uint32_t)naive.count[client], "event %d", i);
    }
}

Test(greylist, random_histories_go_as_with_postgrey)
{
    struct seeded random = seeded_begin(4);
    for (int i = 0; i < HISTORIES; i++)
        random_history(&random);
}

/* ------------------------------------------------------------ names */

Test(greylist, senders_are_counted_without_what_changes)
{
    static const struct {
        const char *sender, *key;
    } rows[] = {
        { "", "<>" },
        { "Some.One@Example.ORG", "some.one@example.org" },
        { "user+ext@x.test", "user@x.test" },
        { "bounce-123-x+foo@x.test", "bounce-#-x@x.test" },
        { "bounce-456-x+bar@x.test", "bounce-#-x@x.test" },
        { "a1b2@x.test", "a1b2@x.test" },
        { "12.34@x.test", "#.#@x.test" },
        { "prvs=1234abcd=user@x.test", "user@x.test" },
        { "prvs=user=1234abcd@x.test", "user@x.test" },
        { "prvs=@x.test", "prvs=@x.test" },
        { "no-domain", "no-domain@" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = { 0 };
        greylist_sender(&out, span_of(rows[i].sender));
        cr_expect_str_eq(buf_text(&out), rows[i].key, "%s", rows[i].sender);
        buf_fini(&out);
    }
}

Test(greylist, names_made_from_addresses_look_dynamic)
{
    static const struct {
        const char *name, *address;
        bool is_dynamic;
    } rows[] = {
        { "mail.example.org", "192.0.2.7", false },
        { "mx7.example.org", "192.0.2.7", false },
        { "mail-2.example.org", "192.0.2.7", false },
        { "192-0-2-7.isp.test", "192.0.2.7", true },
        { "host7.2.isp.test", "192.0.2.7", true },
        { "c0000207.isp.test", "192.0.2.7", true },
        { "C0000207.isp.test", "192.0.2.7", true },
        { "x.dsl.isp.test", "192.0.2.7", true },
        { "pool-a.isp.test", "192.0.2.7", true },
        { "liverpool.example.org", "192.0.2.7", false },
        { "poolside.example.org", "192.0.2.7", false },
        { "p20010db80001.isp.test", "2001:db8:1::5", true },
        { "mail.example.org", "2001:db8:1::5", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip;
        cr_assert(ip_parse(span_of(rows[i].address), &ip));
        cr_expect_eq(greylist_looks_dynamic(span_of(rows[i].name), &ip), rows[i].is_dynamic, "%s",
                     rows[i].name);
    }
}

Test(greylist, networks_are_masked)
{
    static const struct {
        const char *address;
        int v4_bits, v6_bits;
        const char *network;
    } rows[] = {
        { "192.0.2.77", 24, 64, "192.0.2.0/24" },
        { "192.0.2.77", 32, 64, "192.0.2.77/32" },
        { "2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::/64" },
        { "2001:db8:1:2:3:4:5:6", 24, 48, "2001:db8:1::/48" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip;
        struct buf out = { 0 };
        cr_assert(ip_parse(span_of(rows[i].address), &ip));
        greylist_network(&out, &ip, rows[i].v4_bits, rows[i].v6_bits);
        cr_expect_str_eq(buf_text(&out), rows[i].network);
        buf_fini(&out);
    }
}

Test(greylist, what_is_printed_can_be_read)
{
    static const struct greylist_decision all[] = {
        { .result = GREYLIST_WAIT, .wait_s = 120, .waited_s = 120 },
        { .result = GREYLIST_FIRST_PASS, .wait_s = 310, .waited_s = 310 },
        { .result = GREYLIST_PASS }, { .result = GREYLIST_KNOWN }, { .result = GREYLIST_ALLOWED },
    };
    static const char *const bad[] = { "", "wait", "wait x", "first", "wait -1", "passes", "12" };
    struct greylist_decision d;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct buf out = { 0 };
        greylist_print(&out, &all[i]);
        cr_expect(greylist_parse(buf_span(&out), &d), "%s", buf_text(&out));
        cr_expect(d.result == all[i].result && d.wait_s == all[i].wait_s, "%s", buf_text(&out));
        buf_fini(&out);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect(!greylist_parse(span_of(bad[i]), &d), "%s", bad[i]);
}
