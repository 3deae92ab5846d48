/* Restrictions about the recipient, and about users of our own (spec 2.7, 3.6). */
#include "policy/access.h"
#include "policy/restriction.h"
#include "policy/route.h"


/* VERDICT_PERMIT: the recipient is ours to take; DUNNO: it is not. */
static enum verdict auth_destination(struct eval *e)
{
    enum map_result result = eval_recipient(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->recipient);
    bool is_ours = e->recipient.class != ADDRESS_DEFAULT && !e->recipient.is_routed;
    return is_ours ? VERDICT_PERMIT : VERDICT_DUNNO;
}

enum verdict check_auth_destination(struct eval *e, const struct rule *r)
{
    (void)r;
    return e->in->has_recipient ? auth_destination(e) : VERDICT_DUNNO;
}

static enum verdict refuse_unauth(struct eval *e, int code)
{
    if (!e->in->has_recipient)
        return VERDICT_DUNNO;
    enum verdict verdict = auth_destination(e);
    if (verdict != VERDICT_DUNNO)
        return verdict == VERDICT_PERMIT ? VERDICT_DUNNO : verdict;
    return eval_reject(e, code, "5.7.1", "<%.*s>: Relay access denied",
                       (int)e->in->recipient.len, e->in->recipient.at);
}

enum verdict check_unauth_destination(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse_unauth(e, e->policy->params->relay_domains_reject_code);
}

enum verdict check_defer_unauth_destination(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse_unauth(e, e->policy->params->relay_domains_reject_code - 100);
}

/* "5.1.2 no such domain" of an error: or retry: transport. */
static enum verdict refuse_with_transport(struct eval *e, const struct transport *transport,
                                          enum subject subject)
{
    struct span text = span_of(transport->nexthop);
    size_t n = smtp_enhanced_length(text);
    int code = strcmp(transport->name, "retry") == 0 ? 450 : 550;
    const char *status = subject == SUBJECT_SENDER ? "5.1.0" : "5.1.1";
    if (n > 0)
        status = access_repair_status(e, span_make(text.at, n), code, subject);
    text = span_trim(span_skip(text, n));
    if (text.len == 0)
        text = SPAN_LITERAL("Address is undeliverable");
    return eval_reject(e, code, status, "%s%.*s", eval_prefix(e, subject), (int)text.len,
                       text.at);
}

/* An address that nothing can be delivered to is as good as unknown. */
static enum verdict check_transport(struct eval *e, const struct resolved *address,
                                    enum subject subject, struct span given)
{
    struct transport transport;
    if (e->policy->transport_maps.count == 0)
        return VERDICT_DUNNO;
    switch (route_transport(e->policy, &e->reader, address, &e->out->memory, &transport)) {
    case ROUTE_OK: break;
    case ROUTE_PENDING: return VERDICT_PENDING;
    case ROUTE_RETRY: return eval_table_error(e, MAP_RETRY, given);
    default: return VERDICT_DUNNO; /* the route will tell, if it is a recipient's */
    }
    return transport.kind == TRANSPORT_ERROR ? refuse_with_transport(e, &transport, subject)
                                             : VERDICT_DUNNO;
}

/* What of X.1.n an unlisted address is: unknown as a sender, or as a recipient. In Postfix a
 * virtual alias domain has a transport of its own that says 5.1.1, of which a sender gets 5.1.7. */
static const char *unlisted_status(const struct resolved *address, enum subject subject)
{
    if (subject == SUBJECT_RECIPIENT)
        return "5.1.1";
    return address->class == ADDRESS_VIRTUAL_ALIAS ? "5.1.7" : "5.1.0";
}

static enum verdict refuse_unlisted(struct eval *e, const struct resolved *address,
                                    enum subject subject, struct span given)
{
    struct listing listing;
    enum map_result result = recipient_listing(&e->policy->domains, &e->reader, address,
                                               &listing);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, given);
    if (listing.is_alias)
        return VERDICT_DUNNO;
    enum verdict verdict = check_transport(e, address, subject, given);
    if (verdict != VERDICT_DUNNO || listing.is_known)
        return verdict;
    return eval_reject(e, listing.code, unlisted_status(address, subject), "%s%s",
                       eval_prefix(e, subject), listing.text);
}

enum verdict check_unlisted_recipient(struct eval *e, const struct rule *r)
{
    (void)r;
    if (!e->in->has_recipient || e->rcpt_is_checked)
        return VERDICT_DUNNO;
    enum map_result result = eval_recipient(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->recipient);
    enum verdict verdict = refuse_unlisted(e, &e->recipient, SUBJECT_RECIPIENT,
                                           e->in->recipient);
    if (e->warn_depth == 0)
        e->rcpt_is_checked = true; /* a mere warning does not stand for the real test */
    return verdict;
}

enum verdict check_unlisted_sender(struct eval *e, const struct rule *r)
{
    (void)r;
    if (!e->in->has_sender || e->in->sender.len == 0 || e->sender_is_checked)
        return VERDICT_DUNNO;
    enum map_result result = eval_sender(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->sender);
    enum verdict verdict = refuse_unlisted(e, &e->sender, SUBJECT_SENDER, e->in->sender);
    if (e->warn_depth == 0)
        e->sender_is_checked = true;
    return verdict;
}

/* A bounce goes to one address (RFC 5321 4.5.5). At RCPT one recipient is there already; later
 * more than one was accepted. */
enum verdict check_multi_recipient_bounce(struct eval *e, const struct rule *r)
{
    int allowed = e->in->stage <= STAGE_RCPT ? 0 : 1;
    (void)r;
    if (!e->in->has_sender || e->in->sender.len > 0 || e->in->recipient_count <= allowed)
        return VERDICT_DUNNO;
    return eval_reject(e, e->policy->params->multi_recipient_bounce_reject_code, "5.5.3",
                       "%sMulti-recipient bounce", eval_prefix(e, SUBJECT_LIST));
}
