/* A decision does not depend on when its facts arrive: over random lists, envelopes and worlds,
 * facts that come at once, late, or in any order give the same verdict, reply and effects; and
 * what was decided follows from the facts alone (STYLE: policy is a pure function of facts).
 * POSTERN_SEED=n tries other cases. */
#include "verdicts.h"

#include "seeded.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 400, ORDERS = 6, OPEN_MAX = 64 };

/* ------------------------------------------------------------ random cases */

static const char *pick(struct seeded *r, const char *const *words, size_t count)
{
    return words[seeded_below(r, count)];
}

static const char *const rules[] = {
    "permit_mynetworks", "reject_unknown_client_hostname", "reject_unknown_reverse_client_hostname",
    "reject_unknown_forward_client_hostname", "reject_invalid_helo_hostname", "reject_unknown_helo_hostname",
    "reject_non_fqdn_sender", "reject_unknown_sender_domain", "reject_unknown_recipient_domain",
    "reject_unlisted_recipient", "permit_auth_destination", "reject_unauth_destination", "defer_if_permit",
    "defer_if_reject", "sleep 1", "reject_plaintext_session", "reject_rbl_client a.test", "reject_rbl_client b.test",
    "reject_rbl_client a.test=127.0.0.[2..3]", "reject_rhsbl_sender c.test", "reject_rhsbl_helo c.test",
    "permit_dnswl_client w.test=127.0.0.2", "permit_rhswl_client w.test=127.0.0.2",
    "check_policy_service inet:127.0.0.1:10023", "check_policy_service inet:127.0.0.1:10024",
    "check_client_access inline:{192.0.2.10=WARN,good.client.test={PREPEND X-C: 1}}",
    "check_sender_access inline:{ok.test={PREPEND X-S: 2}}", "check_sender_mx_access inline:{mx.test=REJECT}",
    "check_sender_ns_access inline:{ns.test={DEFER_IF_PERMIT ns}}", "check_helo_a_access inline:{192.0.2.1=HOLD}",
    "check_recipient_access inline:{example.org=DUNNO}", "check_recipient_access unix:passwd.byname",
    "check_client_access unix:passwd.byname", "ONE", "TWO", "check_greylist", "reject_spf_fail", "permit", "reject",
    "defer", "check_sender_access static:{REDIRECT bob@example.org}", "check_client_access static:{INFO seen}",
    "check_helo_access static:{DEFER_IF_REJECT helo}", "check_sender_access static:{reject_rbl_client b.test, defer}",
};

static void random_list(struct seeded *r, const char *parameter, size_t most, struct buf *conf)
{
    size_t count = seeded_below(r, most + 1);
    buf_printf(conf, "%s =", parameter);
    for (size_t i = 0; i < count; i++)
        buf_printf(conf, " %s%s,", seeded_below(r, 6) == 0 ? "warn_if_reject " : "",
                   pick(r, rules, ARRAY_LEN(rules)));
    buf_puts(conf, "\n");
}

static void random_conf(struct seeded *r, struct buf *conf)
{
    static const char *const lists[] = { "smtpd_client_restrictions", "smtpd_helo_restrictions",
                                         "smtpd_sender_restrictions", "smtpd_data_restrictions",
                                         "smtpd_end_of_data_restrictions" };
    buf_puts(conf, "smtpd_restriction_classes = ONE, TWO\n"
                   "ONE = reject_rbl_client b.test, defer_if_permit\n"
                   "TWO = check_policy_service inet:127.0.0.1:10023, permit_mynetworks, ONE\n"
                   "smtpd_relay_restrictions = permit_dnswl_client w.test=127.0.0.2, reject_unauth_destination\n");
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        random_list(r, lists[i], 5, conf);
    random_list(r, "smtpd_recipient_restrictions", 8, conf);
    buf_printf(conf, "reject_tempfail_action = %s\n", seeded_below(r, 2) ? "defer" : "defer_if_permit");
    if (seeded_below(r, 5) == 0)
        buf_puts(conf, "policy_fact_limit = 3\n");
}

static const char *random_envelope(struct seeded *r)
{
    static const char *const envelopes[] = {
        "", "from=", "to=u@foreign.test", "to=nobody@vmbox.test", "helo=[192.0.2.1]", "helo=-",
        "name=! reverse=r.test", "name=?", "client=2001:db8::7 name=-", "from=s@sub.ok.test to=dave@valias.test",
        "stage=DATA count=1", "stage=DATA count=3 to=-", "stage=END count=1", "stage=VRFY from=-", "to=postmaster",
    };
    return pick(r, envelopes, ARRAY_LEN(envelopes));
}

/* What the world answers to a question: always the same for the same seed and key. */
static const char *answer(uint64_t world, const struct fact_key *key)
{
    static const char *const answers[FACT_KIND_COUNT][5] = {
        [FACT_A] = { "127.0.0.2", "192.0.2.1", "-", "?", "!" },
        [FACT_AAAA] = { "2001:db8::1", "-", "-", "?", "!" },
        [FACT_MX] = { "10 mx.test", "0 .", "-", "?", "!" },
        [FACT_NS] = { "ns.test", "-", "-", "?", "!" },
        [FACT_PTR] = { "r.test", "-", "-", "?", "!" },
        [FACT_TXT] = { "\"v=spf1 -all\"", "\"words\"", "-", "?", "!" },
        [FACT_MAP] = { "REJECT map", "PREPEND X-Map: 1", "-", "?", "!" },
        [FACT_POLICY] = { "DUNNO", "defer_if_permit 4.2.0 later", "PREPEND X-P: 1", "?", "REJECT policy" },
        [FACT_SLEEP] = { "", "", "", "", "" },
        [FACT_GREYLIST] = { "wait 10", "pass", "first 300", "?", "known" },
    };
    uint64_t hash = world + (uint64_t)key->kind;
    for (size_t i = 0; i < key->text.len; i++)
        hash = (hash ^ (unsigned char)key->text.at[i]) * 1099511628211u;
    struct seeded r = { hash };
    return answers[key->kind][seeded_below(&r, 5)];
}

/* ------------------------------------------------------------ a run with late facts */

/* Questions that are under way. */
struct late {
    struct policy_run run;
    struct trial *trial;
    struct seeded random;
    uint64_t world;
    bool is_immediate; /* each answer comes before ask() returns */
    struct fact_key open[OPEN_MAX];
    size_t open_count, asked;
    enum verdict verdict;
    int done;
};

static void tell(struct late *l, const struct fact_key *key)
{
    struct buf value = { 0 };
    struct fact fact = { .key = *key };
    cr_assert(fact_parse(key->kind, span_of(answer(l->world, key)), &fact.status, &value));
    fact.value = buf_span(&value);
    policy_learn(&l->run, &fact);
    buf_fini(&value);
}

static void ask(struct policy_run *run, const struct fact_key *key)
{
    struct late *l = (struct late *)(void *)run; /* its first member */
    for (size_t i = 0; i < l->open_count; i++)
        cr_expect_not(fact_key_equals(&l->open[i], key), "the same question again");
    l->asked++;
    if (l->is_immediate || seeded_below(&l->random, 4) == 0) {
        tell(l, key);
        return;
    }
    cr_assert_lt(l->open_count, OPEN_MAX);
    l->open[l->open_count] = *key;
    l->open[l->open_count++].text = arena_span(&l->trial->memory, key->text);
}

static void done(struct policy_run *run, enum verdict verdict)
{
    struct late *l = (struct late *)(void *)run;
    l->verdict = verdict;
    l->done++;
}

/* Any of the open questions is answered next, until there is none. */
static void settle(struct late *l)
{
    while (l->open_count > 0) {
        size_t i = seeded_below(&l->random, l->open_count);
        struct fact_key key = l->open[i];
        l->open[i] = l->open[--l->open_count];
        tell(l, &key);
    }
}

/* One run to its end; the result as text. */
static size_t run_late(const struct policy *policy, const char *envelope, uint64_t world, uint64_t order,
                       struct buf *result)
{
    struct trial *t = xcalloc(1, sizeof *t);
    struct late *l = xcalloc(1, sizeof *l);
    trial_begin(t, envelope, "");
    *l = (struct late){ .run = { .policy = policy, .in = &t->in, .facts = &t->facts, .ask = ask, .done = done },
                        .trial = t, .random = { order }, .world = world, .is_immediate = order == 0 };
    policy_begin(&l->run);
    settle(l);
    cr_assert_eq(l->done, 1, "it ends, once");
    outcome_print(result, l->verdict, &l->run.out);
    size_t asked = l->asked;
    policy_run_fini(&l->run);
    trial_end(t);
    free(t);
    free(l);
    return asked;
}

/* The same with every answer known before it starts: nothing may be missing then. */
static void run_known(const struct policy *policy, const char *envelope, uint64_t world, struct buf *result)
{
    struct trial *t = xcalloc(1, sizeof *t);
    enum verdict verdict;
    int rounds = 0;
    trial_begin(t, envelope, "");
    for (;;) {
        verdict = policy_evaluate(policy, &t->in, &t->facts, &t->outcome);
        if (verdict != VERDICT_PENDING || ++rounds > 1000)
            break;
        struct buf value = { 0 };
        struct fact fact = { .key = t->outcome.missing };
        fact_parse(fact.key.kind, span_of(answer(world, &fact.key)), &fact.status, &value);
        fact.value = buf_span(&value);
        facts_put(&t->facts, &fact);
        buf_fini(&value);
        outcome_fini(&t->outcome);
    }
    outcome_print(result, verdict, &t->outcome);
    trial_end(t);
    free(t);
}

Test(run, the_order_in_which_facts_arrive_does_not_matter, .timeout = 60)
{
    struct seeded r = seeded_begin(3);
    size_t asked = 0, refused = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct buf conf = { 0 }, first = { 0 };
        random_conf(&r, &conf);
        struct world w = world_of(buf_text(&conf));
        const char *envelope = random_envelope(&r);
        uint64_t world = seeded_next(&r);
        bool is_bounded = w.policy->params->policy_fact_limit < 200;
        asked += run_late(w.policy, envelope, world, 0, &first);
        for (uint64_t order = 1; order <= ORDERS && !is_bounded; order++) {
            struct buf other = { 0 };
            run_late(w.policy, envelope, world, seeded_next(&r) | 1, &other);
            cr_expect_str_eq(buf_text(&other), buf_text(&first), "round %d\n%senvelope: %s\n one: %s\nother: %s", round,
                             buf_text(&conf), envelope, buf_text(&first), buf_text(&other));
            buf_fini(&other);
        }
        struct buf known = { 0 };
        run_known(w.policy, envelope, world, &known);
        if (!is_bounded)
            cr_expect_str_eq(buf_text(&known), buf_text(&first), "round %d\n%senvelope: %s\n", round, buf_text(&conf),
                             envelope);
        refused += strncmp(buf_text(&first), "ok", 2) != 0;
        buf_fini(&known);
        buf_fini(&first);
        buf_fini(&conf);
        world_fini(&w);
    }
    cr_expect_gt(asked, ROUNDS, "the cases ask for something: %zu", asked);
    cr_expect(refused > ROUNDS / 10 && refused < ROUNDS * 19 / 20, "and end in either way: %zu", refused);
}

/* ------------------------------------------------------------ bounds */

Test(run, questions_past_the_limit_count_as_not_to_be_found_out)
{
    struct world w = world_of(CLIENT "reject_rbl_client a.test, reject_rbl_client b.test, reject_rbl_client c.test, "
                                     "reject_rbl_client d.test, reject_rbl_client e.test\npolicy_fact_limit = 2");
    struct buf result = { 0 };
    size_t asked = run_late(w.policy, "", 1, 0, &result);
    cr_expect_leq(asked, 2);
    buf_fini(&result);
    world_fini(&w);
}

/* What nobody waits for is remembered, and does nothing. */
Test(run, a_fact_that_comes_too_late_is_only_remembered)
{
    struct world w = world_of(CLIENT "reject_rbl_client a.test");
    struct trial *t = xcalloc(1, sizeof *t);
    struct late *l = xcalloc(1, sizeof *l);
    trial_begin(t, "", "");
    *l = (struct late){ .run = { .policy = w.policy, .in = &t->in, .facts = &t->facts, .ask = ask, .done = done },
                        .trial = t, .world = 1, .is_immediate = true };
    policy_begin(&l->run);
    cr_expect_eq(l->done, 1);
    struct fact_key other = { FACT_A, SCOPE_CLIENT, NULL, SPAN_LITERAL("other.test") };
    tell(l, &other);
    cr_expect_eq(l->done, 1);
    cr_expect_not_null(facts_find(&t->facts, &other));
    policy_run_fini(&l->run);
    trial_end(t);
    free(t);
    free(l);
    world_fini(&w);
}
