/* reject_unverified_sender, reject_unverified_recipient (spec 8): does the address exist? Our own
 * are looked up, mail hosts of others are asked, and the answer is remembered. */
#include "policy/probe.h"
#include "policy/restriction.h"
#include "policy/route.h"
#include "policy/verify.h"
#include "protocol/smtp_path.h"

/* What the row's two forms differ in. */
struct form {
    enum subject subject;
    const char *status; /* X.1.7, X.1.1 */
    int reject_code, defer_code, tempfail_action;
    const char *reject_reason;
};

static struct form form_of(const struct eval *e, enum subject subject)
{
    const struct params *p = e->policy->params;
    if (subject == SUBJECT_SENDER)
        return (struct form){ subject, "4.1.7", p->unverified_sender_reject_code,
                              p->unverified_sender_defer_code,
                              p->unverified_sender_tempfail_action,
                              p->unverified_sender_reject_reason };
    return (struct form){ subject, "4.1.1", p->unverified_recipient_reject_code,
                          p->unverified_recipient_defer_code,
                          p->unverified_recipient_tempfail_action,
                          p->unverified_recipient_reject_reason };
}

/* What the other side said, or what the admin says instead. */
static struct span words_of(const struct form *f, struct span why)
{
    struct span words = f->reject_reason[0] != '\0' ? span_of(f->reject_reason) : why;
    return span_make(words.at, words.len < VERIFY_TEXT_MAX ? words.len : VERIFY_TEXT_MAX);
}

static enum verdict tempfail(struct eval *e, const struct form *f, int code, const char *text)
{
    const char *prefix = eval_prefix(e, f->subject);
    if (f->tempfail_action == TEMPFAIL_DEFER)
        return eval_reject(e, code, f->status, "%s%s", prefix, text);
    return eval_defer_if_permit(e, code, f->status, "%s%s", prefix, text);
}

static enum verdict defer(struct eval *e, const struct form *f, int code, struct span why)
{
    struct span words = words_of(f, why);
    return tempfail(e, f, code, arena_printf(&e->out->memory, "unverified address: %.*s",
                                             (int)words.len, words.at));
}

static enum verdict problem(struct eval *e, const struct form *f)
{
    return tempfail(e, f, 450, "address verification problem");
}

/* The address is known not to exist: by default that counts for now only (spec 8.3). */
static enum verdict refuse(struct eval *e, const struct form *f, struct span why)
{
    struct span words = words_of(f, why);
    if (f->reject_code / 100 == 2)
        return VERDICT_DUNNO;
    if (f->reject_code / 100 == 4)
        return defer(e, f, f->reject_code, why);
    return eval_reject(e, f->reject_code, f->subject == SUBJECT_SENDER ? "5.1.7" : "5.1.1",
                       "%sundeliverable address: %.*s", eval_prefix(e, f->subject),
                       (int)words.len, words.at);
}

/* Asks as often as address_verify_poll_count says, while the probe is under way. NULL: pending. */
static const struct fact *ask(struct eval *e, const struct form *f, struct span target,
                              struct span address)
{
    const struct fact *answer = NULL;
    enum verify_status status = VERIFY_TODO;
    struct span why;
    for (int round = 0; round < e->in->verify_poll_count && status == VERIFY_TODO; round++) {
        struct buf key = { 0 };
        verify_key(&key, round, target, address);
        answer = eval_need(e, FACT_VERIFY, eval_scope(e, f->subject), NULL, buf_span(&key));
        buf_fini(&key);
        if (answer == NULL)
            return NULL;
        if (answer->status != FACT_FOUND || !verify_answer_parse(answer->value, &status, &why))
            return answer;
    }
    return answer;
}

static enum verdict judge(struct eval *e, const struct form *f, const struct fact *answer)
{
    enum verify_status status;
    struct span why;
    if (answer == NULL)
        return VERDICT_PENDING;
    if (answer->status != FACT_FOUND || !verify_answer_parse(answer->value, &status, &why))
        return problem(e, f);
    switch (status) {
    case VERIFY_OK: return VERDICT_DUNNO;
    case VERIFY_BOUNCE: return refuse(e, f, why);
    case VERIFY_DEFER: return defer(e, f, f->defer_code, why);
    case VERIFY_TODO: break;
    }
    return defer(e, f, f->defer_code, SPAN_LITERAL("Address verification in progress"));
}

static enum verdict ask_target(struct eval *e, const struct form *f, struct span target,
                               const struct resolved *address)
{
    return judge(e, f, ask(e, f, target, address->address));
}

/* Somebody else's domain: its mail hosts know. */
static enum verdict ask_strangers(struct eval *e, const struct form *f,
                                  const struct resolved *address)
{
    struct span domain = address->domain;
    if (domain.len == 0)
        return refuse(e, f, SPAN_LITERAL("no domain"));
    const char *target = arena_printf(&e->out->memory, "mx:%.*s", (int)domain.len, domain.at);
    return ask_target(e, f, span_of(target), address);
}

/* Where mail for one of our addresses goes: what takes mail by itself knows the address. */
static enum verdict ask_own(struct eval *e, const struct form *f,
                            const struct resolved *address, const struct target *targets)
{
    struct buf hop = { 0 };
    if (targets == NULL || targets->next != NULL || !probe_target(&hop, &targets->transport)) {
        buf_fini(&hop);
        return VERDICT_DUNNO;
    }
    struct span target = arena_span(&e->out->memory, buf_span(&hop));
    buf_fini(&hop);
    struct resolved final = *address;
    final.address = targets->address;
    return ask_target(e, f, target, &final);
}

static enum verdict verify_route(struct eval *e, const struct form *f,
                                 const struct resolved *address)
{
    struct target *targets;
    const char *text;
    enum route_status status = route_recipient(e->policy, &e->reader, address->address,
                                               &e->out->memory, &targets, &text);
    switch (status) {
    case ROUTE_OK: return ask_own(e, f, address, targets);
    case ROUTE_PENDING: return VERDICT_PENDING;
    case ROUTE_NOT_OURS: return ask_strangers(e, f, address);
    case ROUTE_UNKNOWN: return refuse(e, f, SPAN_LITERAL("User unknown"));
    case ROUTE_REFUSED: return refuse(e, f, span_of(text));
    case ROUTE_RETRY:
    case ROUTE_BROKEN:
    case ROUTE_TOO_LONG:
    case ROUTE_OUTSIDE: break;
    }
    return problem(e, f);
}

/* Our own users are in our own tables; nobody is asked about those who are not. */
static enum verdict verify(struct eval *e, const struct form *f, const struct resolved *address)
{
    struct listing listing;
    if (!address_class_is_final(address->class) && address->class != ADDRESS_RELAY)
        return verify_route(e, f, address);
    enum map_result result = recipient_listing(&e->policy->domains, &e->reader, address,
                                               &listing);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, address->address);
    if (!listing.is_known)
        return refuse(e, f, span_of(listing.text));
    return verify_route(e, f, address);
}

enum verdict check_unverified(struct eval *e, const struct rule *r)
{
    bool is_sender = r->row->subject == SUBJECT_SENDER;
    struct span given = is_sender ? e->in->sender : e->in->recipient;
    if (!(is_sender ? e->in->has_sender : e->in->has_recipient) || given.len == 0)
        return VERDICT_DUNNO;
    enum map_result result = is_sender ? eval_sender(e) : eval_recipient(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, given);
    struct form form = form_of(e, r->row->subject);
    return verify(e, &form, is_sender ? &e->sender : &e->recipient);
}
