/* Restrictions about the form and the domain of sender and recipient (spec 2.6, 2.7): one check
 * serves both; the row's subject says whose address it is. */
#include "policy/domain_dns.h"
#include "policy/restriction.h"
#include "protocol/hostname.h"
#include "protocol/smtp_path.h"

/* The address the rule is about; false: there is none, or it is the null sender. */
static bool has_address(const struct eval *e, enum subject subject, struct span *address)
{
    bool is_sender = subject == SUBJECT_SENDER;
    *address = is_sender ? e->in->sender : e->in->recipient;
    return (is_sender ? e->in->has_sender : e->in->has_recipient) && address->len > 0;
}

static bool is_literal(struct span domain)
{
    return domain.len > 0 && domain.at[0] == '[';
}

enum verdict check_non_fqdn_address(struct eval *e, const struct rule *r)
{
    struct span address;
    if (!has_address(e, r->row->subject, &address))
        return VERDICT_DUNNO;
    struct span domain = smtp_path_of(address).domain, name = hostname_without_dot(domain);
    if (is_literal(domain)
        || (hostname_is_valid(name, true) && span_find(name, '.') < name.len))
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->non_fqdn_reject_code, "5.5.2",
                       "%sneed fully-qualified address", eval_prefix(e, r->row->subject));
}

struct unknown {
    enum subject subject;
    struct span domain, address;
    const char *status; /* 4.1.8 for a sender, 4.1.2 for a recipient */
};

static enum verdict refuse_null_mx(struct eval *e, const struct unknown *u)
{
    bool is_sender = u->subject == SUBJECT_SENDER; /* RFC 7505 4 */
    return eval_reject(e, is_sender ? 550 : 556, is_sender ? "5.7.27" : "5.1.10",
                       "%sDomain %.*s does not accept mail (nullMX)",
                       eval_prefix(e, u->subject), (int)u->domain.len, u->domain.at);
}

static enum verdict tempfail(struct eval *e, const struct unknown *u)
{
    const char *prefix = eval_prefix(e, u->subject);
    if (e->policy->params->unknown_address_tempfail_action == TEMPFAIL_DEFER)
        return eval_reject(e, 450, u->status, "%sDomain not found", prefix);
    return eval_defer_if_permit(e, 450, u->status, "%sDomain not found", prefix);
}

static enum verdict judge_domain(struct eval *e, const struct unknown *u)
{
    int code = e->policy->params->unknown_address_reject_code;
    switch (domain_for_mail(e, eval_scope(e, u->subject), u->domain)) {
    case DOMAIN_PENDING: return VERDICT_PENDING;
    case DOMAIN_FOUND: return VERDICT_DUNNO;
    case DOMAIN_NULL_MX: return refuse_null_mx(e, u);
    case DOMAIN_TEMPFAIL: return tempfail(e, u);
    case DOMAIN_MALFORMED:
        return eval_reject(e, code, u->status, "%sMalformed DNS server reply",
                           eval_prefix(e, u->subject));
    case DOMAIN_NOT_FOUND: break;
    }
    return eval_reject(e, code, u->status, "%sDomain not found", eval_prefix(e, u->subject));
}

enum verdict check_unknown_domain(struct eval *e, const struct rule *r)
{
    bool is_sender = r->row->subject == SUBJECT_SENDER;
    struct unknown u = { .subject = r->row->subject, .status = is_sender ? "4.1.8" : "4.1.2" };
    if (!has_address(e, u.subject, &u.address))
        return VERDICT_DUNNO;
    enum map_result result = is_sender ? eval_sender(e) : eval_recipient(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, u.address);
    const struct resolved *address = is_sender ? &e->sender : &e->recipient;
    u.domain = address->domain;
    if (address_class_is_final(address->class) || is_literal(u.domain))
        return VERDICT_DUNNO;
    return judge_domain(e, &u);
}
