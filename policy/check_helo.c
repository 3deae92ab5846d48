/* Restrictions about the HELO name (spec 2.5). Without a HELO none of them applies. */
#include "policy/domain_dns.h"
#include "policy/restriction.h"
#include "protocol/hostname.h"

/* "[...]" must be a good address literal; VERDICT_DUNNO when it is, or when it is no literal. */
static enum verdict check_literal(struct eval *e, struct span helo)
{
    struct ip ip;
    if (helo.at[0] != '[' || address_literal_parse(helo, &ip))
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->invalid_hostname_reject_code, "5.5.2",
                       "%sinvalid ip address", eval_prefix(e, SUBJECT_HELO));
}

static bool has_helo(const struct eval *e, struct span *helo)
{
    *helo = span_of(e->in->helo);
    return helo->len > 0;
}

enum verdict check_invalid_helo(struct eval *e, const struct rule *r)
{
    struct span helo;
    struct ip ip;
    (void)r;
    if (!has_helo(e, &helo))
        return VERDICT_DUNNO;
    if (helo.at[0] == '[')
        return check_literal(e, helo);
    struct span name = hostname_without_dot(helo);
    if (hostname_is_valid(name, false) || hostaddr_parse(name, &ip))
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->invalid_hostname_reject_code, "5.5.2",
                       "%sInvalid name", eval_prefix(e, SUBJECT_HELO));
}

enum verdict check_non_fqdn_helo(struct eval *e, const struct rule *r)
{
    struct span helo;
    (void)r;
    if (!has_helo(e, &helo))
        return VERDICT_DUNNO;
    if (helo.at[0] == '[')
        return check_literal(e, helo);
    struct span name = hostname_without_dot(helo);
    if (hostname_is_valid(name, false) && span_find(name, '.') < name.len)
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->non_fqdn_reject_code, "5.5.2",
                       "%sneed fully-qualified hostname", eval_prefix(e, SUBJECT_HELO));
}

static enum verdict helo_tempfail(struct eval *e)
{
    const char *prefix = eval_prefix(e, SUBJECT_HELO);
    if (e->policy->params->unknown_helo_hostname_tempfail_action == TEMPFAIL_DEFER)
        return eval_reject(e, 450, "4.7.1", "%sHost not found", prefix);
    return eval_defer_if_permit(e, 450, "4.7.1", "%sHost not found", prefix);
}

/* A name with a dot at its end is no host name to Postfix, and is not looked up. */
static enum domain_state look_up(struct eval *e, struct span helo)
{
    return helo.at[helo.len - 1] == '.' ? DOMAIN_NOT_FOUND
                                        : domain_for_host(e, SCOPE_HELO, helo);
}

enum verdict check_unknown_helo(struct eval *e, const struct rule *r)
{
    int code = e->policy->params->unknown_hostname_reject_code;
    struct span helo;
    (void)r;
    if (!has_helo(e, &helo))
        return VERDICT_DUNNO;
    if (helo.at[0] == '[')
        return check_literal(e, helo);
    switch (look_up(e, helo)) {
    case DOMAIN_PENDING: return VERDICT_PENDING;
    case DOMAIN_FOUND:
    case DOMAIN_NULL_MX: return VERDICT_DUNNO;
    case DOMAIN_TEMPFAIL: return helo_tempfail(e);
    case DOMAIN_MALFORMED:
        return eval_reject(e, code, "4.7.1", "%sMalformed DNS server reply",
                           eval_prefix(e, SUBJECT_HELO));
    case DOMAIN_NOT_FOUND: break;
    }
    return eval_reject(e, code, "4.7.1", "%sHost not found", eval_prefix(e, SUBJECT_HELO));
}
