/* Restrictions about the client (spec 2.4). */
#include "policy/restriction.h"

enum verdict check_mynetworks(struct eval *e, const struct rule *r)
{
    const struct smtp_peer *peer = e->in->peer;
    (void)r;
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
