/* Restrictions that need nothing but themselves (spec 2.3). */
#include "policy/restriction.h"

#include <stdio.h>

enum verdict check_permit(struct eval *e, const struct rule *r)
{
    (void)e, (void)r;
    return VERDICT_PERMIT;
}

enum verdict check_dunno(struct eval *e, const struct rule *r)
{
    (void)e, (void)r;
    return VERDICT_DUNNO;
}

enum verdict check_reject(struct eval *e, const struct rule *r)
{
    (void)r;
    return eval_reject(e, e->policy->params->reject_code, "5.7.1", "%sAccess denied",
                       eval_prefix(e, SUBJECT_LIST));
}

enum verdict check_defer(struct eval *e, const struct rule *r)
{
    (void)r;
    return eval_reject(e, e->policy->params->defer_code, "4.3.2", "%sTry again later",
                       eval_prefix(e, SUBJECT_LIST));
}

enum verdict check_defer_if_permit(struct eval *e, const struct rule *r)
{
    (void)r;
    return eval_defer_if_permit(e, 450, "4.7.0", "%sdefer_if_permit requested",
                                eval_prefix(e, SUBJECT_LIST));
}

enum verdict check_defer_if_reject(struct eval *e, const struct rule *r)
{
    (void)r;
    return eval_defer_if_reject(e, 450, "4.7.0", "%sdefer_if_reject requested",
                                eval_prefix(e, SUBJECT_LIST));
}

enum verdict check_unauth_pipelining(struct eval *e, const struct rule *r)
{
    (void)r;
    if (!e->in->is_out_of_turn)
        return VERDICT_DUNNO;
    return eval_reject(e, 503, "5.5.0", "%sImproper use of SMTP command pipelining",
                       eval_prefix(e, SUBJECT_LIST));
}

enum verdict check_plaintext_session(struct eval *e, const struct rule *r)
{
    (void)r;
    if (e->in->is_tls)
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->plaintext_reject_code, "4.7.1",
                       "Session encryption is required");
}

enum verdict check_class(struct eval *e, const struct rule *r)
{
    return eval_rules(e, r->sub);
}

/* The pause itself is a fact: it has to be waited for, once for each time the list gets here.
 * Its number tells it from the other pauses of the run. */
enum verdict check_sleep(struct eval *e, const struct rule *r)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%llu %d", (unsigned long long)r->number, ++e->sleeps);
    const struct fact *slept = eval_need(e, FACT_SLEEP, SCOPE_RCPT, NULL,
                                         span_make(text, (size_t)n));
    return slept != NULL ? VERDICT_DUNNO : VERDICT_PENDING;
}
