#include "policy/greet.h"
#include "policy/dns_name.h"
#include "policy/dnsbl.h"

#include <stdio.h>

const char *greet_parse_site(struct span text, struct arena *memory, struct dnsbl *list)
{
    size_t star = span_find_last(text, '*');
    struct span number = span_skip(text, star + 1);
    bool is_negative = number.len > 0 && number.at[0] == '-';
    uint64_t weight = 1;
    if (star < text.len && !span_to_u64(span_skip(number, is_negative), 1000, &weight))
        return "the weight behind \"*\" must be a number";
    const char *error = dnsbl_parse(span_make(text.at, star), memory, list);
    list->weight = is_negative ? -(int)weight : (int)weight;
    return error;
}

/* ------------------------------------------------------------ the lists */

static void want(struct eval *e, const struct fact_key *key, bool *is_pending)
{
    struct outcome *out = e->out;
    struct fact_key kept = *key;
    kept.text = arena_span(&out->memory, key->text);
    if (!*is_pending)
        out->missing = kept;
    else
        outcome_add_also(out, &kept);
    *is_pending = true;
}

/* The list with the greatest weight among those that hit is the one a refusal names. */
struct tally {
    int score;
    const struct dnsbl *heaviest;
    bool is_pending;
};

static void add_list(struct eval *e, const struct dnsbl *list, struct tally *t)
{
    char name[DNS_NAME_MAX];
    struct ip odd;
    bool is_guarded = e->policy->params->dns_list_guard;
    if ((is_guarded && atomic_load(&list->is_suspended))
        || !dns_name_listed(name, &e->in->peer->ip, span_of(list->domain)))
        return;
    const struct fact_key key = { FACT_A, SCOPE_CLIENT, NULL, span_of(name) };
    const struct fact *answer = facts_find(e->facts, &key);
    if (answer == NULL) {
        want(e, &key, &t->is_pending);
        return;
    }
    answer = eval_need(e, FACT_A, SCOPE_CLIENT, NULL, span_of(name)); /* for the trace */
    if (dnsbl_judge(list, answer, is_guarded, &odd) != DNSBL_YES)
        return;
    t->score += list->weight;
    if (t->heaviest == NULL || list->weight > t->heaviest->weight)
        t->heaviest = list;
}

static struct tally ask_lists(struct eval *e)
{
    struct tally tally = { 0 };
    for (const struct dnsbl *list = e->policy->sites; list != NULL; list = list->next)
        add_list(e, list, &tally);
    return tally;
}

/* ------------------------------------------------------------ the pause */

static bool is_exempt(struct eval *e)
{
    const struct smtp_peer *peer = e->in->peer;
    return match_list_host(&e->policy->greet_exempt_clients, &e->reader, span_of(peer->name),
                           &peer->ip) == MATCH_YES;
}

/* VERDICT_PERMIT: it has waited before. */
static enum verdict is_remembered(struct eval *e)
{
    const char *text = arena_printf(&e->out->memory, "greet %s", e->in->peer->address);
    const struct fact *fact = eval_need(e, FACT_REMEMBERED, SCOPE_CLIENT, NULL, span_of(text));
    if (fact == NULL)
        return VERDICT_PENDING;
    return fact->status == FACT_FOUND ? VERDICT_PERMIT : VERDICT_DUNNO;
}

static const struct fact *find_pause(struct eval *e, bool *is_pending)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)e->policy->params->greet_pause);
    const struct fact_key key = { FACT_GREET, SCOPE_CLIENT, NULL, span_make(text, (size_t)n) };
    const struct fact *fact = facts_find(e->facts, &key);
    if (fact == NULL)
        want(e, &key, is_pending);
    else
        eval_need(e, FACT_GREET, SCOPE_CLIENT, NULL, key.text);
    return fact;
}

/* ------------------------------------------------------------ together */

static void stricter(struct greet *out, int action, struct smtp_reply reply)
{
    if (action <= (int)out->action)
        return;
    out->action = (enum greet_action)action;
    if (action == GREET_DROP)
        reply.code = 521;
    out->reply = reply;
}

/* "talked BYTES MS TEXT" */
static void judge_pause(struct eval *e, const struct fact *pause, struct greet *out)
{
    struct span value = pause->value;
    if (!span_istarts(value, SPAN_LITERAL("talked ")))
        return;
    value = span_skip(value, 7);
    struct span bytes = span_next_word(&value), ms = span_next_word(&value);
    uint64_t waited_ms = 0;
    span_to_u64(ms, 1000000, &waited_ms);
    value = span_trim(value);
    out->has_talked = true;
    eval_note(e, "event", "PREGREET %.*s after %llu.%02llu from [%s]:%u: %.*s", (int)bytes.len,
              bytes.at, (unsigned long long)waited_ms / 1000,
              (unsigned long long)waited_ms / 10 % 100, e->in->peer->address,
              e->in->peer->port, (int)value.len, value.at);
    stricter(out, e->policy->params->pregreet_action,
             (struct smtp_reply){ 550, "5.5.1", "Protocol error" });
}

static void judge_lists(struct eval *e, const struct tally *tally, struct greet *out)
{
    const struct params *p = e->policy->params;
    out->score = tally->score;
    if (tally->heaviest == NULL || tally->score < p->dns_list_threshold)
        return;
    eval_note(e, "event", "DNSBL rank %d for [%s]:%u", tally->score, e->in->peer->address,
              e->in->peer->port);
    const char *text = arena_printf(&e->out->memory,
                                    "Service unavailable; client [%s] blocked using %s",
                                    e->in->peer->address, tally->heaviest->domain);
    stricter(out, p->dns_list_action, (struct smtp_reply){ 550, "5.7.1", text });
}

enum verdict greet_evaluate(struct eval *e, struct greet *out)
{
    const struct params *p = e->policy->params;
    const struct fact *pause = NULL;
    *out = (struct greet){ .action = GREET_IGNORE };
    if ((p->greet_pause == 0 && e->policy->sites == NULL) || is_exempt(e))
        return VERDICT_DUNNO;
    enum verdict remembered = p->greet_pause > 0 ? is_remembered(e) : VERDICT_PERMIT;
    if (remembered == VERDICT_PENDING)
        return VERDICT_PENDING;
    struct tally tally = ask_lists(e);
    bool is_trusted = !tally.is_pending && p->dns_list_allow_threshold < 0
                      && tally.score <= p->dns_list_allow_threshold;
    if (remembered == VERDICT_DUNNO && !is_trusted)
        pause = find_pause(e, &tally.is_pending);
    if (tally.is_pending)
        return VERDICT_PENDING;
    if (pause != NULL)
        judge_pause(e, pause, out);
    judge_lists(e, &tally, out);
    out->is_to_be_remembered = pause != NULL && !out->has_talked && out->action == GREET_IGNORE;
    return VERDICT_DUNNO;
}
