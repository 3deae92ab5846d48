/* What is found out before the banner: the pause, weighted lists, and what follows (spec 10). */
#include "verdicts.h"

#include "policy/dnsbl.h"
#include "policy/greet.h"

#include <stdio.h>

#define PAUSE "greet_pause = 5s\n"
#define SITES "dns_list_sites = bl.test=127.0.0.2*3 weak.test wl.test=127.0.0.[2..9]*-2\ndns_list_action = enforce\n"
#define NEW   "REMEMBERED greet 192.0.2.10 = -\n"
#define QUIET "GREET 5000 = quiet\n"
#define BL    "A 10.2.0.192.bl.test = "
#define WEAK  "A 10.2.0.192.weak.test = "
#define WL    "A 10.2.0.192.wl.test = "
#define NO_LISTS BL "-\n" WEAK "-\n" WL "-\n"

/* action: 0 ignore, 1 enforce, 2 drop; "talked" and "remember" if so. */
static const struct {
    const char *what, *conf, *envelope, *facts, *result;
} cases[] = {
    { "nothing is asked", "", "", "", "0 score=0" },
    { "it waits", PAUSE, "", NEW QUIET, "0 score=0 remember" },
    { "it has waited before", PAUSE, "", "REMEMBERED greet 192.0.2.10 = ", "0 score=0" },
    { "nobody knows: it waits", PAUSE, "", "REMEMBERED greet 192.0.2.10 = ?\n" QUIET, "0 score=0 remember" },
    { "it talks", PAUSE, "", NEW "GREET 5000 = talked 6 70 HELO x",
      "1 score=0 talked 550 5.5.1 Protocol error | event: PREGREET 6 after 0.07 from [192.0.2.10]:40000: HELO x" },
    { "that is only noted", PAUSE "pregreet_action = ignore\n", "", NEW "GREET 5000 = talked 6 1270 HELO x",
      "0 score=0 talked | event: PREGREET 6 after 1.27 from [192.0.2.10]:40000: HELO x" },
    { "or ends it", PAUSE "pregreet_action = drop\n", "", NEW "GREET 5000 = talked 6 70 HELO x",
      "2 score=0 talked 521 5.5.1 Protocol error | event: PREGREET 6 after 0.07 from [192.0.2.10]:40000: HELO x" },
    { "ours do not wait", PAUSE, "client=127.0.0.1 name=localhost", "", "0 score=0" },
    { "nor others who need not", PAUSE "greet_exempt_clients = good.client.test\n", "", "", "0 score=0" },
    { "an unconfirmed name is no excuse", PAUSE "greet_exempt_clients = good.client.test\n", "name=! reverse=good.client.test",
      NEW QUIET, "0 score=0 remember" },

    { "lists: nothing", SITES, "", NO_LISTS, "0 score=0" },
    { "listed", SITES, "", BL "127.0.0.2\n" WEAK "-\n" WL "-",
      "1 score=3 550 5.7.1 Service unavailable; client [192.0.2.10] blocked using bl.test"
      " | event: DNSBL rank 3 for [192.0.2.10]:40000" },
    { "the heaviest is named", SITES, "", BL "127.0.0.2\n" WEAK "127.0.0.9\n" WL "-",
      "1 score=4 550 5.7.1 Service unavailable; client [192.0.2.10] blocked using bl.test"
      " | event: DNSBL rank 4 for [192.0.2.10]:40000" },
    { "by another answer", SITES, "", BL "127.0.0.3\n" WEAK "-\n" WL "-", "0 score=0" },
    { "below the threshold", SITES "dns_list_threshold = 4\n", "", BL "127.0.0.2\n" WEAK "-\n" WL "-", "0 score=3" },
    { "outweighed", SITES "dns_list_threshold = 2\n", "", BL "127.0.0.2\n" WEAK "-\n" WL "127.0.0.3", "0 score=1" },
    { "only noted", SITES "dns_list_action = ignore\n", "", BL "127.0.0.2\n" WEAK "-\n" WL "-",
      "0 score=3 | event: DNSBL rank 3 for [192.0.2.10]:40000" },
    { "a list that does not answer", SITES, "", BL "?\n" WEAK "127.0.0.2\n" WL "?",
      "1 score=1 550 5.7.1 Service unavailable; client [192.0.2.10] blocked using weak.test"
      " | event: DNSBL rank 1 for [192.0.2.10]:40000" },
    { "an error answer is none", SITES, "", BL "-\n" WEAK "127.255.255.254\n" WL "-", "0 score=0" },

    { "both: the stricter counts", PAUSE SITES "dns_list_action = drop\n", "", NEW BL "127.0.0.2\n" WEAK "-\n" WL "-\n"
      "GREET 5000 = talked 6 70 x",
      "2 score=3 talked 521 5.7.1 Service unavailable; client [192.0.2.10] blocked using bl.test"
      " | event: PREGREET 6 after 0.07 from [192.0.2.10]:40000: x | event: DNSBL rank 3 for [192.0.2.10]:40000" },
    { "listed, it is not remembered", PAUSE SITES, "", NEW BL "127.0.0.2\n" WEAK "-\n" WL "-\n" QUIET,
      "1 score=3 550 5.7.1 Service unavailable; client [192.0.2.10] blocked using bl.test"
      " | event: DNSBL rank 3 for [192.0.2.10]:40000" },
    { "who is trusted need not wait", PAUSE SITES "dns_list_allow_threshold = -2\n", "", NEW BL "-\n" WEAK "-\n" WL "127.0.0.3",
      "0 score=-2" },
    { "who is trusted too little must", PAUSE SITES "dns_list_allow_threshold = -3\n", "",
      NEW BL "-\n" WEAK "-\n" WL "127.0.0.3\n" QUIET, "0 score=-2 remember" },
};

/* All that is missing is asked for at once, so it is learned together. */
static void learn_all(struct trial *t)
{
    trial_learn(t, &t->outcome.missing);
    for (size_t i = 0; i < t->outcome.also_count; i++)
        trial_learn(t, &t->outcome.also[i]);
}

static void meet(struct trial *t, const struct policy *policy, struct greet *greet, int *rounds)
{
    struct eval e;
    enum verdict verdict = VERDICT_PENDING;
    for (*rounds = 0; *rounds < 10; ++*rounds) {
        outcome_fini(&t->outcome);
        eval_begin(&e, policy, &t->in, &t->facts, &t->outcome);
        verdict = greet_evaluate(&e, greet);
        if (verdict != VERDICT_PENDING)
            return;
        learn_all(t);
    }
    cr_expect(false, "it does not end");
}

static void print_greet(struct buf *out, const struct greet *g, const struct outcome *outcome)
{
    buf_printf(out, "%d score=%d%s%s", (int)g->action, g->score, g->has_talked ? " talked" : "",
               g->is_to_be_remembered ? " remember" : "");
    if (g->reply.code != 0)
        buf_printf(out, " %d %s %s", g->reply.code, g->reply.enhanced, g->reply.text);
    for (const struct note *n = outcome->notes; n != NULL; n = n->next)
        buf_printf(out, " | %s: %s", n->tag, n->text);
}

Test(greet, by_table)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w = world_of(cases[i].conf);
        struct trial *t = xcalloc(1, sizeof *t);
        struct buf got = { 0 };
        struct greet greet;
        int rounds;
        trial_begin(t, "stage=CONNECT helo=- from=- to=-", cases[i].facts);
        trial_set(t, cases[i].envelope);
        meet(t, w.policy, &greet, &rounds);
        print_greet(&got, &greet, &t->outcome);
        cr_expect_str_eq(buf_text(&got), cases[i].result, "%s: %s", cases[i].what, buf_text(&got));
        cr_expect_leq(rounds, 3, "%s", cases[i].what);
        for (size_t k = 0; k < t->given_count; k++)
            cr_expect(t->given[k].is_asked, "%s: fact %zu was not asked for", cases[i].what, k);
        trial_end(t);
        free(t);
        buf_fini(&got);
        world_fini(&w);
    }
}

/* The lists hide behind the pause. */
Test(greet, lists_and_pause_are_asked_together)
{
    struct world w = world_of(PAUSE SITES);
    struct trial *t = xcalloc(1, sizeof *t);
    struct greet greet;
    struct eval e;
    trial_begin(t, "stage=CONNECT helo=- from=- to=-", NEW);
    for (int i = 0; i < 2; i++) {
        outcome_fini(&t->outcome);
        eval_begin(&e, w.policy, &t->in, &t->facts, &t->outcome);
        cr_expect_eq(greet_evaluate(&e, &greet), VERDICT_PENDING);
        if (i == 0)
            learn_all(t);
    }
    cr_expect_eq(t->outcome.also_count, 3, "one list is missing, two more and the pause beside it: %zu", t->outcome.also_count);
    trial_end(t);
    free(t);
    world_fini(&w);
}

Test(greet, sites)
{
    static const struct {
        const char *text;
        int weight; /* 0: refused */
    } rows[] = {
        { "bl.test", 1 },           { "bl.test*3", 3 },      { "bl.test*-2", -2 }, { "bl.test=127.0.0.2*5", 5 },
        { "bl.test*1000", 1000 },   { "bl.test*1001", 0 },   { "bl.test*", 0 },    { "bl.test*x", 0 },
        { "bl.test*--2", 0 },       { "bl.test=127.0.0*2", 0 }, { "*2", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena memory = { 0 };
        struct dnsbl list;
        const char *error = greet_parse_site(span_of(rows[i].text), &memory, &list);
        cr_expect_eq(error == NULL, rows[i].weight != 0, "%s: %s", rows[i].text, error != NULL ? error : "good");
        if (error == NULL)
            cr_expect_eq(list.weight, rows[i].weight, "%s: %d", rows[i].text, list.weight);
        arena_fini(&memory);
    }
}
