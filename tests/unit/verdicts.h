/* verdicts - decides cases written as text: configuration, envelope and facts in, the reply and
 * all effects out. Nothing is asked of anybody.
 *
 * conf      lines of main.cf behind WORLD_BASE (world.h)
 * envelope  words that differ from the usual client, "~" standing for a blank:
 *             client=IP  name=N  reverse=N     "-": has none, "?": could not be found out,
 *                                              "!": does not lead back
 *             helo=N  from=S  to=R             "-": not given; from= is the null sender
 *             stage=CONNECT|HELO|MAIL|RCPT|VRFY|DATA|END
 *             count=N  size=N  tls  turn       recipients so far; out of turn
 *             discarding                       DISCARD was said before
 *             raised                           a flag of an earlier stage is up: 450 4.2.0 early
 * facts     lines "KIND NAME = VALUE" as fact_parse() reads them ("-" not found, "?" not now,
 *           "!" rubbish). Each must be asked for, or the result says "unasked"; what is asked
 *           for and not there is "needs KIND NAME".
 * result    "ok" or the reply; then " | " and each note ("TAG: TEXT"), header, redirection...
 *
 * Thread: the test's. */
#ifndef POSTERN_TEST_VERDICTS_H
#define POSTERN_TEST_VERDICTS_H

#include "world.h"

#include "policy/run.h"
#include "protocol/lines.h"
#include "protocol/mem.h"

enum { CASE_FACTS_MAX = 40 };

struct verdict_case {
    const char *what, *conf, *envelope, *facts, *result;
};

struct given_fact {
    enum fact_kind kind;
    struct span name, value; /* in the case's text */
    bool is_asked;
};

struct trial {
    struct smtp_peer peer; /* owns */
    struct envelope_in in;
    struct arena memory;   /* owns: words of the envelope */
    struct given_fact given[CASE_FACTS_MAX];
    size_t given_count;
    struct facts facts;     /* owns */
    struct outcome outcome; /* owns */
};

/* ------------------------------------------------------------ the envelope */

static inline void trial_name(struct trial *t, const char *value, bool is_reverse)
{
    enum smtp_name_status status = value[0] == '-'   ? SMTP_NAME_PERMANENT
                                   : value[0] == '?' ? SMTP_NAME_TEMPORARY
                                   : value[0] == '!' ? SMTP_NAME_FORGED
                                                     : SMTP_NAME_OK;
    const char *name = status == SMTP_NAME_OK ? value : NULL;
    if (!is_reverse)
        smtp_peer_set_name(&t->peer, name, status);
    if (is_reverse || status == SMTP_NAME_PERMANENT || status == SMTP_NAME_TEMPORARY)
        smtp_peer_set_reverse(&t->peer, name, status);
}

static inline enum stage trial_stage(const char *value)
{
    static const char *const names[] = {
        [STAGE_CONNECT] = "CONNECT", [STAGE_HELO] = "HELO", [STAGE_MAIL] = "MAIL",
        [STAGE_RCPT] = "RCPT",       [STAGE_VRFY] = "VRFY", [STAGE_DATA] = "DATA",
        [STAGE_END_OF_DATA] = "END",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], value) == 0)
            return (enum stage)i;
    cr_assert(false, "stage %s", value);
    return STAGE_RCPT;
}

static inline void trial_word(struct trial *t, struct span word)
{
    size_t equals = span_find(word, '=');
    struct span name = span_make(word.at, equals);
    char *value = arena_text(&t->memory, span_skip(word, equals + 1));
    bool is_none = strcmp(value, "-") == 0;
    for (char *c = value; *c != '\0'; c++)
        if (*c == '~')
            *c = ' ';
    if (span_equals(name, SPAN_LITERAL("client"))) {
        struct ip ip;
        cr_assert(ip_parse(span_of(value), &ip), "%s", value);
        smtp_peer_set_ip(&t->peer, &ip);
    } else if (span_equals(name, SPAN_LITERAL("name"))) {
        trial_name(t, value, false);
    } else if (span_equals(name, SPAN_LITERAL("reverse"))) {
        trial_name(t, value, true);
    } else if (span_equals(name, SPAN_LITERAL("helo"))) {
        t->in.helo = is_none ? NULL : value;
    } else if (span_equals(name, SPAN_LITERAL("from"))) {
        t->in.has_sender = !is_none;
        t->in.sender = is_none ? span_make(NULL, 0) : span_of(value);
    } else if (span_equals(name, SPAN_LITERAL("to"))) {
        t->in.has_recipient = !is_none;
        t->in.recipient = is_none ? span_make(NULL, 0) : span_of(value);
    } else if (span_equals(name, SPAN_LITERAL("stage"))) {
        t->in.stage = trial_stage(value);
    } else if (span_equals(name, SPAN_LITERAL("count"))) {
        t->in.recipient_count = atoi(value);
    } else if (span_equals(name, SPAN_LITERAL("size"))) {
        t->in.size_bytes = (uint64_t)atoll(value);
    } else if (span_equals(name, SPAN_LITERAL("tls"))) {
        t->in.is_tls = true;
    } else if (span_equals(name, SPAN_LITERAL("turn"))) {
        t->in.is_out_of_turn = true;
    } else if (span_equals(name, SPAN_LITERAL("discarding"))) {
        t->in.is_discarding = true;
    } else if (span_equals(name, SPAN_LITERAL("raised"))) {
        t->in.raised = (struct smtp_reply){ 450, "4.2.0", "early" };
    } else {
        cr_assert(false, "what is %.*s of an envelope?", (int)word.len, word.at);
    }
}

static inline void trial_set(struct trial *t, const char *words)
{
    struct span rest = span_of(words), word;
    while ((word = span_next_word(&rest)).len > 0)
        trial_word(t, word);
}

/* ------------------------------------------------------------ the facts */

static inline void trial_give(struct trial *t, const char *lines)
{
    struct span rest = span_of(lines);
    while (rest.len > 0) {
        size_t end = span_find(rest, '\n');
        struct span line = span_make(rest.at, end);
        size_t equals = span_find(line, '=');
        struct span left = span_make(line.at, equals), kind = span_next_word(&left);
        cr_assert_lt(t->given_count, CASE_FACTS_MAX);
        cr_assert_lt(equals, line.len, "%.*s", (int)line.len, line.at);
        struct given_fact *g = &t->given[t->given_count++];
        *g = (struct given_fact){ .kind = fact_kind_find(kind), .name = span_trim(left),
                                  .value = span_skip(line, equals + 1) };
        cr_assert_lt(g->kind, FACT_KIND_COUNT, "%.*s", (int)line.len, line.at);
        rest = span_skip(rest, end + 1);
    }
}

/* The whole request of a policy server is nothing to repeat in a case. */
static inline bool given_is(const struct given_fact *g, const struct fact_key *key)
{
    return g->kind == key->kind && (key->kind == FACT_POLICY || span_equals(g->name, key->text));
}

static inline struct given_fact *trial_find(struct trial *t, const struct fact_key *key)
{
    for (size_t i = 0; i < t->given_count; i++)
        if (given_is(&t->given[i], key))
            return &t->given[i];
    return NULL;
}

/* False: it was not given. */
static inline bool trial_learn(struct trial *t, const struct fact_key *key)
{
    struct given_fact *g = trial_find(t, key);
    struct buf value = { 0 };
    struct fact fact = { .key = *key };
    if (g == NULL)
        return false;
    cr_assert(fact_parse(key->kind, g->value, &fact.status, &value), "%.*s", (int)g->value.len,
              g->value.at);
    fact.value = buf_span(&value);
    facts_put(&t->facts, &fact);
    buf_fini(&value);
    return g->is_asked = true;
}

/* ------------------------------------------------------------ the result */

static inline void outcome_print(struct buf *out, enum verdict verdict,
                                 const struct outcome *outcome)
{
    const struct smtp_reply *reply = &outcome->reply;
    if (verdict == VERDICT_REJECT)
        buf_printf(out, "%d %s %s", reply->code, reply->enhanced, reply->text);
    else if (verdict == VERDICT_PENDING)
        buf_printf(out, "needs %s %.*s", fact_kind_names[outcome->missing.kind],
                   (int)outcome->missing.text.len, outcome->missing.text.at);
    else
        buf_puts(out, "ok");
    for (const struct note *n = outcome->notes; n != NULL; n = n->next)
        buf_printf(out, " | %s: %s", n->tag, n->text);
    for (const struct text_item *p = outcome->prepends; p != NULL; p = p->next)
        buf_printf(out, " | prepend %s", p->text);
    for (const struct text_item *b = outcome->bccs; b != NULL; b = b->next)
        buf_printf(out, " | bcc %s", b->text);
    if (outcome->redirect != NULL)
        buf_printf(out, " | redirect %s", outcome->redirect);
    if (outcome->is_hold)
        buf_puts(out, " | hold");
    if (outcome->is_discard)
        buf_puts(out, " | discard");
}

static inline void trial_begin(struct trial *t, const char *envelope, const char *facts)
{
    static const struct ip client = { 4, { 192, 0, 2, 10 } }, server = { 4, { 192, 0, 2, 25 } };
    *t = (struct trial){ .in = { .stage = STAGE_RCPT, .protocol = "ESMTP", .queue_id = "",
                                 .instance = "1.2.3", .tls_protocol = "", .tls_cipher = "",
                                 .tls_sni = "", .date = "Tue, 14 Nov 2023 22:13:20 +0000" } };
    t->in.peer = &t->peer;
    smtp_peer_init(&t->peer, &client, 40000, &server, 25);
    trial_set(t, "name=good.client.test reverse=good.client.test helo=good.client.test"
                 " from=s@ok.test to=alice@example.org");
    trial_set(t, envelope);
    trial_give(t, facts);
}

static inline void trial_end(struct trial *t)
{
    outcome_fini(&t->outcome);
    facts_fini(&t->facts);
    smtp_peer_fini(&t->peer);
    arena_fini(&t->memory);
}

/* Evaluates again for each fact, as the server does. */
static inline enum verdict trial_run(struct trial *t, const struct policy *policy)
{
    enum verdict verdict;
    do {
        outcome_fini(&t->outcome);
        verdict = policy_evaluate(policy, &t->in, &t->facts, &t->outcome);
    } while (verdict == VERDICT_PENDING && trial_learn(t, &t->outcome.missing));
    return verdict;
}

static inline void case_decide(const struct verdict_case *c, const struct policy *policy,
                               struct buf *out)
{
    struct trial *t = xcalloc(1, sizeof *t);
    trial_begin(t, c->envelope, c->facts);
    enum verdict verdict = trial_run(t, policy);
    outcome_print(out, verdict, &t->outcome);
    for (size_t i = 0; i < t->given_count; i++)
        if (!t->given[i].is_asked)
            buf_printf(out, " | unasked %s %.*s", fact_kind_names[t->given[i].kind],
                       (int)t->given[i].name.len, t->given[i].name.at);
    trial_end(t);
    free(t);
}

static inline void cases_run(const struct verdict_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct world w = world_of(cases[i].conf);
        struct buf got = { 0 };
        case_decide(&cases[i], w.policy, &got);
        cr_expect_str_eq(buf_text(&got), cases[i].result, "%s\n   conf: %s envelope: %s\n  facts: %s\n"
                         "expected: %s\n     got: %s", cases[i].what, cases[i].conf,
                         cases[i].envelope, cases[i].facts, cases[i].result, buf_text(&got));
        buf_fini(&got);
        world_fini(&w);
    }
}

#define CLIENT    "smtpd_client_restrictions = "
#define HELO      "smtpd_helo_restrictions = "
#define SENDER    "smtpd_sender_restrictions = "
#define RELAY     "smtpd_relay_restrictions = "
#define RECIPIENT "smtpd_recipient_restrictions = "
#define DATA      "smtpd_data_restrictions = "
#define END_OF_DATA "smtpd_end_of_data_restrictions = "

/* Subjects of replies. */
#define ON_CLIENT    "<good.client.test[192.0.2.10]>: Client host rejected: "
#define ON_HELO      "<good.client.test>: Helo command rejected: "
#define ON_SENDER    "<s@ok.test>: Sender address rejected: "
#define ON_RECIPIENT "<alice@example.org>: Recipient address rejected: "

#endif
