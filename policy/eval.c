#include "policy/eval.h"
#include "policy/restriction.h"
#include "protocol/mem.h"

#include <stdarg.h>
#include <stdio.h>

enum { RECURSION_MAX = 100, TEXT_MAX = 2000 };

void outcome_fini(struct outcome *out)
{
    arena_fini(&out->memory);
    *out = (struct outcome){ 0 };
}

/* ------------------------------------------------------------ facts and tables */

const struct fact *eval_need(struct eval *e, enum fact_kind kind, enum scope scope, void *object,
                             struct span text)
{
    struct fact_key key = { kind, scope, object, text };
    const struct fact *fact = facts_find(e->facts, &key);
    if (fact == NULL) {
        key.text = arena_span(&e->out->memory, text);
        e->out->missing = key;
    }
    return fact;
}

static enum map_result result_of_fact(const struct fact *fact, struct buf *value)
{
    switch (fact->status) {
    case FACT_FOUND: buf_add(value, fact->value); return MAP_FOUND;
    case FACT_NOT_FOUND: return MAP_NOT_FOUND;
    case FACT_TEMPFAIL: return MAP_RETRY;
    case FACT_BROKEN: break;
    }
    return MAP_BROKEN;
}

static enum map_result find_in_map(void *context, struct map *map, struct span key,
                                   struct buf *value)
{
    struct eval *e = context;
    if (!map_is_slow(map))
        return map_find(map, key, value);
    const struct fact *fact = eval_need(e, FACT_MAP, SCOPE_RCPT, map, key);
    return fact != NULL ? result_of_fact(fact, value) : MAP_PENDING;
}

static enum map_result resolve(struct eval *e, struct span address, bool *is_done,
                               struct resolved *out)
{
    if (*is_done)
        return MAP_FOUND;
    enum map_result result = recipient_resolve(&e->policy->domains, &e->reader, address,
                                               &e->out->memory, out);
    *is_done = result == MAP_FOUND;
    return result;
}

enum map_result eval_sender(struct eval *e)
{
    return resolve(e, e->in->sender, &e->is_sender_resolved, &e->sender);
}

enum map_result eval_recipient(struct eval *e)
{
    return resolve(e, e->in->recipient, &e->is_recipient_resolved, &e->recipient);
}

/* ------------------------------------------------------------ replies */

void eval_note(struct eval *e, const char *tag, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    struct note *note = arena_alloc(&e->out->memory, sizeof *note);
    note->tag = tag;
    note->text = arena_text(&e->out->memory, span_of(text));
    if (e->out->notes_end == NULL)
        e->out->notes_end = &e->out->notes;
    *e->out->notes_end = note;
    e->out->notes_end = &note->next;
}

static struct smtp_reply make_reply(struct eval *e, int code, const char *enhanced,
                                    const char *format, va_list ap)
    __attribute__((format(printf, 4, 0)));

/* The first digit of the enhanced code follows the reply code (spec 1.9). */
static struct smtp_reply make_reply(struct eval *e, int code, const char *enhanced,
                                    const char *format, va_list ap)
{
    char text[TEXT_MAX];
    vsnprintf(text, sizeof text, format, ap);
    char *status = arena_text(&e->out->memory, span_of(enhanced));
    if (status[0] != '\0')
        status[0] = (char)('0' + code / 100);
    return (struct smtp_reply){ code, status, arena_text(&e->out->memory, span_of(text)) };
}

static void note_warned(struct eval *e, const struct smtp_reply *reply)
{
    eval_note(e, "reject_warning", "%d %s %s", reply->code, reply->enhanced, reply->text);
}

static enum verdict decide(struct eval *e, const struct smtp_reply *reply)
{
    if (e->warn_depth > 0) {
        note_warned(e, reply);
        return VERDICT_DUNNO;
    }
    bool is_softened = reply->code >= 500 && e->defer_if_reject.code != 0;
    e->out->reply = is_softened ? e->defer_if_reject : *reply;
    e->out->rule = e->rule != NULL ? e->rule->row->name : NULL;
    return VERDICT_REJECT;
}

enum verdict eval_reject(struct eval *e, int code, const char *enhanced, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    struct smtp_reply reply = make_reply(e, code, enhanced, format, ap);
    va_end(ap);
    return decide(e, &reply);
}

enum verdict eval_defer_if_permit(struct eval *e, int code, const char *enhanced,
                                  const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    struct smtp_reply reply = make_reply(e, code, enhanced, format, ap);
    va_end(ap);
    if (e->warn_depth > 0)
        note_warned(e, &reply);
    else if (e->out->raised.code == 0)
        e->out->raised = reply;
    return VERDICT_DUNNO;
}

enum verdict eval_defer_if_reject(struct eval *e, int code, const char *enhanced,
                                  const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    struct smtp_reply reply = make_reply(e, code, enhanced, format, ap);
    va_end(ap);
    if (e->defer_if_reject.code == 0)
        e->defer_if_reject = reply;
    return VERDICT_DUNNO;
}

enum subject eval_subject(const struct eval *e, enum subject subject)
{
    static const enum subject of_list[LIST_COUNT] = {
        [LIST_CLIENT] = SUBJECT_CLIENT,       [LIST_HELO] = SUBJECT_HELO,
        [LIST_SENDER] = SUBJECT_SENDER,       [LIST_RELAY] = SUBJECT_RECIPIENT,
        [LIST_RECIPIENT] = SUBJECT_RECIPIENT, [LIST_DATA] = SUBJECT_DATA,
        [LIST_END_OF_DATA] = SUBJECT_END_OF_DATA,
    };
    return subject == SUBJECT_LIST ? of_list[e->list] : subject;
}

const char *eval_prefix(struct eval *e, enum subject subject)
{
    struct arena *memory = &e->out->memory;
    const struct envelope_in *in = e->in;
    switch (eval_subject(e, subject)) {
    case SUBJECT_LIST:
    case SUBJECT_CLIENT:
        return arena_printf(memory, "<%s[%s]>: Client host rejected: ", in->peer->name,
                            in->peer->address);
    case SUBJECT_REVERSE_CLIENT:
        return arena_printf(memory, "<%s>: Unverified Client host rejected: ",
                            in->peer->reverse_name);
    case SUBJECT_HELO:
        return arena_printf(memory, "<%s>: Helo command rejected: ", in->helo);
    case SUBJECT_SENDER:
        return arena_printf(memory, "<%.*s>: Sender address rejected: ", (int)in->sender.len,
                            in->sender.at);
    case SUBJECT_RECIPIENT:
        return arena_printf(memory, "<%.*s>: Recipient address rejected: ",
                            (int)in->recipient.len, in->recipient.at);
    case SUBJECT_DATA: return "<DATA>: Data command rejected: ";
    case SUBJECT_END_OF_DATA: return "<END-OF-MESSAGE>: End-of-data rejected: ";
    }
    return "";
}

/* warn_if_reject does not silence a mistake of ours (spec 1.5). */
enum verdict eval_configuration_error(struct eval *e, const char *why)
{
    eval_note(e, "warning", "%s", why);
    e->warn_depth = 0;
    return eval_reject(e, 451, "4.3.5", "Server configuration error");
}

enum verdict eval_table_error(struct eval *e, enum map_result result, struct span address)
{
    if (result == MAP_PENDING)
        return VERDICT_PENDING;
    if (result == MAP_BROKEN)
        return eval_configuration_error(e, "a table that an address needs is unusable");
    return eval_reject(e, 451, "4.3.0", "<%.*s>: Temporary lookup failure", (int)address.len,
                       address.at);
}

/* ------------------------------------------------------------ lists */

enum verdict eval_rules(struct eval *e, const struct rules_list *rules)
{
    enum verdict verdict = VERDICT_DUNNO;
    const struct rule *outer = e->rule;
    int depth = ++e->depth;
    if (depth > RECURSION_MAX) {
        e->depth--;
        return eval_configuration_error(e, "restriction lists nested too deeply");
    }
    for (size_t i = 0; i < rules->count && verdict == VERDICT_DUNNO; i++) {
        if (e->out->is_discard)
            break;
        if (e->out->raised.code != 0 && e->defer_if_reject.code != 0)
            break; /* whatever follows, the answer is "later" */
        e->rule = &rules->rules[i];
        if (e->rule->is_warned && e->warn_depth == 0)
            e->warn_depth = depth;
        verdict = e->rule->row->check(e, e->rule);
        if (e->warn_depth >= depth)
            e->warn_depth = 0;
    }
    e->rule = outer;
    e->depth--;
    return verdict;
}

static void begin_list(struct eval *e, enum list_name list)
{
    e->list = list;
    e->rule = NULL;
    e->depth = e->warn_depth = 0;
    e->defer_if_reject = (struct smtp_reply){ 0 };
}

static enum verdict run_list(struct eval *e, enum list_name list)
{
    bool has_input = list == LIST_HELO ? e->in->helo != NULL
                                       : list != LIST_SENDER || e->in->has_sender;
    if (!has_input || e->out->is_discard)
        return VERDICT_DUNNO;
    return eval_rules(e, &e->policy->lists[list]);
}

static bool stops(enum verdict verdict)
{
    return verdict == VERDICT_REJECT || verdict == VERDICT_PENDING;
}

static enum verdict run_sender_list(struct eval *e)
{
    begin_list(e, LIST_SENDER);
    enum verdict verdict = run_list(e, LIST_SENDER);
    bool is_due = e->policy->params->smtpd_reject_unlisted_sender && e->in->has_sender
                  && e->in->sender.len > 0 && !e->sender_is_checked && !e->out->is_discard;
    return stops(verdict) || !is_due ? verdict : check_unlisted_sender(e, NULL);
}

static enum verdict run_delayed_lists(struct eval *e)
{
    enum verdict verdict = VERDICT_DUNNO;
    for (enum list_name list = LIST_CLIENT; list <= LIST_HELO && !stops(verdict); list++) {
        begin_list(e, list);
        verdict = run_list(e, list);
    }
    return stops(verdict) ? verdict : run_sender_list(e);
}

/* One reset for both: defer_if_reject carries from the first to the second. */
static enum verdict run_recipient_lists(struct eval *e)
{
    bool relay_first = e->policy->params->smtpd_relay_before_recipient_restrictions;
    enum list_name first = relay_first ? LIST_RELAY : LIST_RECIPIENT;
    enum list_name second = relay_first ? LIST_RECIPIENT : LIST_RELAY;
    begin_list(e, first);
    enum verdict verdict = run_list(e, first);
    if (stops(verdict))
        return verdict;
    e->list = second;
    return run_list(e, second);
}

static enum verdict convert_raised(struct eval *e, enum verdict verdict)
{
    if (stops(verdict) || e->out->raised.code == 0)
        return verdict;
    e->out->reply = e->out->raised;
    e->out->rule = "defer_if_permit";
    return VERDICT_REJECT;
}

/* RFC 5321 4.5.1: "postmaster" without a domain is never refused (spec 1.4). */
static bool is_bare_postmaster(struct span recipient)
{
    return span_iequals(recipient, SPAN_LITERAL("postmaster"));
}

static enum verdict evaluate_rcpt(struct eval *e)
{
    enum verdict verdict = VERDICT_DUNNO;
    if (is_bare_postmaster(e->in->recipient))
        return VERDICT_PERMIT;
    if (e->policy->params->smtpd_delay_reject)
        verdict = run_delayed_lists(e);
    if (!stops(verdict))
        verdict = run_recipient_lists(e);
    verdict = convert_raised(e, verdict);
    bool is_due = e->policy->params->smtpd_reject_unlisted_recipient && !e->rcpt_is_checked
                  && !e->out->is_discard;
    e->rule = NULL;
    return stops(verdict) || !is_due ? verdict : check_unlisted_recipient(e, NULL);
}

static enum verdict evaluate_data(struct eval *e, enum list_name list)
{
    e->out->raised = (struct smtp_reply){ 0 };
    begin_list(e, list);
    return convert_raised(e, run_list(e, list));
}

static enum verdict evaluate_early(struct eval *e, enum list_name list)
{
    if (e->policy->params->smtpd_delay_reject)
        return VERDICT_DUNNO;
    if (list == LIST_SENDER)
        return run_sender_list(e);
    begin_list(e, list);
    return run_list(e, list);
}

void eval_begin(struct eval *e, const struct policy *policy, const struct envelope_in *in,
                const struct facts *facts, struct outcome *out)
{
    *e = (struct eval){ .policy = policy, .in = in, .facts = facts, .out = out };
    e->reader = (struct map_reader){ find_in_map, e };
}

enum verdict policy_evaluate(const struct policy *policy, const struct envelope_in *in,
                             const struct facts *facts, struct outcome *out)
{
    struct eval e;
    eval_begin(&e, policy, in, facts, out);
    out->raised = in->raised;
    switch (in->stage) {
    case STAGE_CONNECT: return evaluate_early(&e, LIST_CLIENT);
    case STAGE_HELO: return evaluate_early(&e, LIST_HELO);
    case STAGE_MAIL: return evaluate_early(&e, LIST_SENDER);
    case STAGE_RCPT:
    case STAGE_VRFY: return evaluate_rcpt(&e);
    case STAGE_DATA: return evaluate_data(&e, LIST_DATA);
    case STAGE_END_OF_DATA: return evaluate_data(&e, LIST_END_OF_DATA);
    }
    return VERDICT_DUNNO;
}
