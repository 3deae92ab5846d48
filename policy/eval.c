#include "policy/eval.h"
#include "policy/dns_name.h"
#include "policy/restriction.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"

#include <stdarg.h>
#include <stdio.h>

enum { RECURSION_MAX = 100, TEXT_MAX = 2000 };

void outcome_fini(struct outcome *out)
{
    arena_fini(&out->memory);
    *out = (struct outcome){ 0 };
}

bool outcome_add_also(struct outcome *out, const struct fact_key *key)
{
    if (out->also_count == OUTCOME_ALSO_MAX)
        return false;
    if (out->also == NULL)
        out->also = arena_alloc(&out->memory, OUTCOME_ALSO_MAX * sizeof *out->also);
    out->also[out->also_count++] = *key;
    return true;
}

/* ------------------------------------------------------------ facts and tables */

/* Tabulators part the pieces of a question: shown as blanks. */
static const char *with_blanks(struct arena *memory, const char *question)
{
    char *text = arena_text(memory, span_of(question));
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\t' ? ' ' : *c;
    return text;
}

static void trace_fact(struct eval *e, const char *question, struct span answer,
                       const char *source, int64_t took_ms)
{
    struct arena *memory = &e->out->memory;
    if (e->step == NULL)
        return;
    struct step_fact *f = arena_alloc(memory, sizeof *f);
    f->question = with_blanks(memory, question);
    f->answer = arena_text(memory, answer);
    f->source = source;
    f->took_ms = took_ms;
    *e->step->facts_end = f;
    e->step->facts_end = &f->next;
}

void eval_tell(struct eval *e, const char *question, const char *answer)
{
    trace_fact(e, question, span_of(answer), NULL, 0);
}

static void trace_need(struct eval *e, const struct fact *fact)
{
    struct buf answer = { 0 };
    if (e->step == NULL)
        return;
    const struct fact_key *key = &fact->key;
    bool is_request = key->kind == FACT_POLICY; /* its text is a whole request */
    const char *question = arena_printf(&e->out->memory, "%s %.*s", fact_kind_names[key->kind],
                                        is_request ? 0 : (int)key->text.len, key->text.at);
    if (key->kind == FACT_MAP)
        question = arena_printf(&e->out->memory, "%s %.*s", map_name(key->object),
                                (int)key->text.len, key->text.at);
    fact_print(&answer, fact);
    trace_fact(e, question, buf_span(&answer), fact->source, fact->took_ms);
    buf_fini(&answer);
}

const struct fact *eval_need(struct eval *e, enum fact_kind kind, enum scope scope, void *object,
                             struct span text)
{
    struct fact_key key = { kind, scope, object, text };
    const struct fact *fact = facts_find(e->facts, &key);
    if (fact == NULL) {
        key.text = arena_span(&e->out->memory, text);
        e->out->missing = key;
    } else {
        trace_need(e, fact);
    }
    return fact;
}

void eval_want_key(struct eval *e, const struct fact_key *key)
{
    struct outcome *out = e->out;
    if (out->also_count == OUTCOME_ALSO_MAX || facts_find(e->facts, key) != NULL)
        return;
    struct fact_key wanted = *key;
    wanted.text = arena_span(&out->memory, key->text);
    outcome_add_also(out, &wanted);
}

void eval_want(struct eval *e, enum fact_kind kind, enum scope scope, struct span text)
{
    eval_want_key(e, &(struct fact_key){ kind, scope, NULL, text });
}

const struct fact *eval_dns(struct eval *e, enum fact_kind kind, enum scope scope,
                            struct span name)
{
    static const struct fact not_asked = { .status = FACT_NOT_FOUND };
    char ask[DNS_NAME_MAX];
    if (!dns_name_ask(ask, name))
        return &not_asked;
    return eval_need(e, kind, scope, NULL, span_of(ask));
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

static void trace_table(struct eval *e, const struct map *map, struct span key,
                        enum map_result result, struct span value)
{
    if (e->step == NULL)
        return;
    const char *question = arena_printf(&e->out->memory, "%s %.*s", map_name(map), (int)key.len,
                                        key.at);
    if (result != MAP_FOUND)
        value = result == MAP_NOT_FOUND ? SPAN_LITERAL("-") : SPAN_LITERAL("!");
    trace_fact(e, question, value, "table", 0);
}

static enum map_result find_in_map(void *context, struct map *map, struct span key,
                                   struct buf *value)
{
    struct eval *e = context;
    if (!map_is_slow(map)) {
        size_t before = value->len;
        enum map_result result = map_find(map, key, value);
        trace_table(e, map, key, result, span_skip(buf_span(value), before));
        return result;
    }
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
    note->rule = e->rule != NULL ? e->rule->row->name : NULL;
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

const char *eval_class(enum subject subject)
{
    static const char *const classes[] = {
        [SUBJECT_LIST] = "",
        [SUBJECT_CLIENT] = "Client host",
        [SUBJECT_REVERSE_CLIENT] = "Unverified Client host",
        [SUBJECT_HELO] = "Helo command",
        [SUBJECT_SENDER] = "Sender address",
        [SUBJECT_RECIPIENT] = "Recipient address",
        [SUBJECT_DATA] = "Data command",
        [SUBJECT_END_OF_DATA] = "End-of-data",
    };
    return classes[subject];
}

enum scope eval_scope(const struct eval *e, enum subject subject)
{
    switch (eval_subject(e, subject)) {
    case SUBJECT_CLIENT:
    case SUBJECT_REVERSE_CLIENT: return SCOPE_CLIENT;
    case SUBJECT_HELO: return SCOPE_HELO;
    case SUBJECT_SENDER: return SCOPE_SENDER;
    default: return SCOPE_RCPT;
    }
}

static bool known_name(const char *name, struct span *domain)
{
    *domain = span_of(name);
    return strcmp(name, "unknown") != 0;
}

bool eval_domain(struct eval *e, enum subject subject, struct span *domain)
{
    const struct envelope_in *in = e->in;
    switch (eval_subject(e, subject)) {
    case SUBJECT_CLIENT: return known_name(in->peer->name, domain);
    case SUBJECT_REVERSE_CLIENT: return known_name(in->peer->reverse_name, domain);
    case SUBJECT_HELO: *domain = span_of(in->helo); return in->helo != NULL;
    case SUBJECT_SENDER:
        *domain = smtp_path_of(in->sender).domain;
        return in->has_sender && domain->len > 0;
    case SUBJECT_RECIPIENT:
        *domain = smtp_path_of(in->recipient).domain;
        return in->has_recipient && domain->len > 0;
    default: return false;
    }
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
                            in->sender.len > 0 ? in->sender.at : "");
    case SUBJECT_RECIPIENT:
        return arena_printf(memory, "<%.*s>: Recipient address rejected: ",
                            (int)in->recipient.len, in->recipient.at);
    case SUBJECT_DATA: return "<DATA>: Data command rejected: ";
    case SUBJECT_END_OF_DATA: return "<END-OF-MESSAGE>: End-of-data rejected: ";
    }
    return "";
}

struct text_item **eval_add_text(struct eval *e, struct text_item **end, const char *text)
{
    struct text_item *item = arena_alloc(&e->out->memory, sizeof *item);
    item->text = arena_text(&e->out->memory, span_of(text));
    *end = item;
    return &item->next;
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
    if (result == MAP_BROKEN) /* to Postfix, too, a table that cannot be opened may come back */
        eval_note(e, "general", "a table that an address needs is unusable");
    return eval_reject(e, 451, "4.3.0", "<%.*s>: Temporary lookup failure", (int)address.len,
                       address.at);
}

/* ------------------------------------------------------------ lists */

static void add_step(struct eval *e, const struct step *step)
{
    struct outcome *out = e->out;
    if (!out->is_traced)
        return;
    e->step = arena_alloc(&out->memory, sizeof *step);
    *e->step = *step;
    e->step->facts_end = &e->step->facts;
    if (out->steps_end == NULL)
        out->steps_end = &out->steps;
    *out->steps_end = e->step;
    out->steps_end = &e->step->next;
}

static void begin_step(struct eval *e, const struct rule *rule)
{
    if (e->out->is_traced)
        add_step(e, &(struct step){ .list = e->list, .depth = e->depth, .rule = rule->row->name,
                                    .argument = arena_text(&e->out->memory, rule->argument),
                                    .is_warned = rule->is_warned });
}

void eval_begin_step(struct eval *e, const char *name)
{
    add_step(e, &(struct step){ .list = LIST_COUNT, .rule = name, .argument = "" });
}

static enum verdict run_rule(struct eval *e, const struct rule *rule)
{
    struct step *outer = e->step;
    e->rule = rule;
    begin_step(e, rule);
    struct step *step = e->step;
    enum verdict verdict = rule->row->check(e, rule);
    if (step != outer)
        step->verdict = verdict;
    e->step = outer;
    return verdict;
}

/* The questions of the rules next to one that waits, so that they are asked together. */
static void look_ahead(struct eval *e, const struct rules_list *rules, size_t i)
{
    for (i++; i < rules->count && rules->rules[i].row->wants != NULL; i++) {
        struct fact_key key;
        if (rules->rules[i].row->wants(e, &rules->rules[i], &key))
            eval_want_key(e, &key);
    }
}

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
        const struct rule *rule = &rules->rules[i];
        if (e->out->is_discard)
            break;
        if (rule->is_warned && e->warn_depth == 0)
            e->warn_depth = depth;
        verdict = run_rule(e, rule);
        if (e->warn_depth >= depth)
            e->warn_depth = 0;
        if (verdict == VERDICT_PENDING && rule->row->wants != NULL)
            look_ahead(e, rules, i);
        if (e->out->raised.code != 0 && e->defer_if_reject.code != 0)
            break; /* whatever follows in this list, the answer is "later" */
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
    if (stops(verdict) || !is_due)
        return verdict;
    e->rule = NULL;
    eval_begin_step(e, "unlisted recipient");
    verdict = check_unlisted_recipient(e, NULL);
    if (e->step != NULL)
        e->step->verdict = verdict;
    return verdict;
}

/* DISCARD ends all lists of the transaction, but not what was raised before it (spec 1.3). */
static enum verdict evaluate_discarded(struct eval *e)
{
    bool is_rcpt = e->in->stage == STAGE_RCPT || e->in->stage == STAGE_VRFY;
    if (!is_rcpt || is_bare_postmaster(e->in->recipient))
        return VERDICT_PERMIT;
    return convert_raised(e, VERDICT_PERMIT);
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
    if (in->is_discarding)
        return evaluate_discarded(&e);
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
