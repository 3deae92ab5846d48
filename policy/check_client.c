/* Restrictions about the client (spec 2.4). */
#include "policy/restriction.h"

enum verdict check_mynetworks(struct eval *e, const struct rule *r)
{
    const struct smtp_peer *peer = e->in->peer;
    (void)r;
    if (e->in->is_crowd)
        return VERDICT_DUNNO; /* who has this address may be anybody */
    switch (match_list_host(&e->policy->mynetworks, &e->reader, span_of(peer->name), &peer->ip)) {
    case MATCH_YES: return VERDICT_PERMIT;
    case MATCH_NO: return VERDICT_DUNNO;
    case MATCH_PENDING: return VERDICT_PENDING;
    case MATCH_ERROR: break;
    }
    return eval_reject(e, 451, "4.3.0", "<%s[%s]>: Temporary lookup failure", peer->name,
                       peer->address);
}

enum verdict check_inet_interfaces(struct eval *e, const struct rule *r)
{
    const struct domains *d = &e->policy->domains;
    (void)r;
    for (size_t i = 0; i < d->own_ip_count; i++)
        if (ip_equals(&d->own_ips[i], &e->in->peer->ip))
            return VERDICT_PERMIT;
    return VERDICT_DUNNO;
}

/* Could not be found out now: 450 whatever the code says (spec 2.4). */
static enum verdict refuse_name(struct eval *e, enum smtp_name_status status, const char *code3,
                                const char *what)
{
    int code = e->policy->params->unknown_client_reject_code;
    if (status == SMTP_NAME_OK)
        return VERDICT_DUNNO;
    return eval_reject(e, status == SMTP_NAME_TEMPORARY ? 450 : code, code3,
                       "Client host rejected: cannot find your %s, [%s]", what,
                       e->in->peer->address);
}

enum verdict check_unknown_client(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse_name(e, e->in->peer->name_status, "4.7.25", "hostname");
}

enum verdict check_unknown_reverse_client(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse_name(e, e->in->peer->reverse_status, "4.7.1", "reverse hostname");
}

/* A PTR name that does not exist at all, as against one that leads elsewhere. */
enum verdict check_unknown_forward_client(struct eval *e, const struct rule *r)
{
    struct span name;
    (void)r;
    if (e->in->peer->name_status == SMTP_NAME_OK
        || !eval_domain(e, SUBJECT_REVERSE_CLIENT, &name))
        return VERDICT_DUNNO;
    static const enum fact_kind kinds[] = { FACT_A, FACT_AAAA };
    enum smtp_name_status status = SMTP_NAME_PERMANENT;
    for (size_t i = 0; i < 2; i++) {
        const struct fact *fact = eval_dns(e, kinds[i], SCOPE_CLIENT, name);
        if (fact == NULL)
            return VERDICT_PENDING;
        if (fact->status == FACT_FOUND)
            return VERDICT_DUNNO;
        if (fact->status == FACT_TEMPFAIL)
            status = SMTP_NAME_TEMPORARY;
    }
    return refuse_name(e, status, "4.7.1", "forward hostname");
}
