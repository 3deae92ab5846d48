#include "policy/client_name.h"
#include "policy/dns_name.h"
#include "protocol/hostname.h"

static bool holds(const struct fact *addresses, const struct ip *ip)
{
    struct span value = addresses->value, record;
    while (record_next(&value, &record))
        if (record.len == ip_bits(ip) / 8 && memcmp(record.at, ip->bytes, record.len) == 0)
            return true;
    return false;
}

static struct client_name unknown(enum smtp_name_status status)
{
    return (struct client_name){ .name_status = status, .reverse_status = status };
}

/* Does this PTR name lead back? SMTP_NAME_UNASKED: not known yet. */
static enum smtp_name_status confirm(struct eval *e, struct span name)
{
    const struct ip *ip = &e->in->peer->ip;
    const struct fact *addresses = eval_dns(e, ip->family == 6 ? FACT_AAAA : FACT_A,
                                            SCOPE_CLIENT, name);
    if (addresses == NULL)
        return SMTP_NAME_UNASKED;
    if (addresses->status == FACT_TEMPFAIL)
        return SMTP_NAME_TEMPORARY;
    return holds(addresses, ip) ? SMTP_NAME_OK : SMTP_NAME_FORGED;
}

/* What is left when no name was confirmed: one that could not be asked leaves it open. */
static enum smtp_name_status weaker(enum smtp_name_status a, enum smtp_name_status b)
{
    return a == SMTP_NAME_TEMPORARY || b == SMTP_NAME_TEMPORARY ? SMTP_NAME_TEMPORARY
                                                                : SMTP_NAME_FORGED;
}

static enum verdict try_names(struct eval *e, struct span names, struct client_name *out)
{
    struct span name;
    *out = unknown(SMTP_NAME_PERMANENT);
    for (int tried = 0; tried < CLIENT_NAMES_MAX && record_next(&names, &name);) {
        if (!hostname_is_valid(name, false))
            continue;
        enum smtp_name_status status = confirm(e, name);
        const char *text = arena_text(&e->out->memory, name);
        if (status == SMTP_NAME_UNASKED)
            return VERDICT_PENDING;
        if (tried++ == 0) {
            out->reverse_name = text;
            out->reverse_status = SMTP_NAME_OK;
            out->name_status = status;
        }
        out->name_status = status == SMTP_NAME_OK ? status : weaker(out->name_status, status);
        if (status == SMTP_NAME_OK) {
            out->name = text;
            return VERDICT_DUNNO;
        }
    }
    return VERDICT_DUNNO;
}

enum verdict client_name_find(struct eval *e, struct client_name *out)
{
    char reverse[DNS_NAME_MAX];
    *out = unknown(SMTP_NAME_PERMANENT);
    if (!e->policy->params->smtpd_peername_lookup || e->in->peer->ip.family == 0)
        return VERDICT_DUNNO;
    dns_name_reverse(reverse, &e->in->peer->ip);
    const struct fact *ptr = eval_need(e, FACT_PTR, SCOPE_CLIENT, NULL, span_of(reverse));
    if (ptr == NULL)
        return VERDICT_PENDING;
    if (ptr->status == FACT_TEMPFAIL)
        *out = unknown(SMTP_NAME_TEMPORARY);
    return ptr->status == FACT_FOUND ? try_names(e, ptr->value, out) : VERDICT_DUNNO;
}
