/* check_*_access: tables by client, HELO, sender and recipient, and by the hosts behind their
 * domains (spec 2.4-2.9, 4). */
#include "policy/access.h"
#include "policy/restriction.h"
#include "protocol/hostname.h"

static enum verdict lookup_failed(struct eval *e, enum map_result result, enum subject subject)
{
    if (result == MAP_PENDING)
        return VERDICT_PENDING;
    return eval_reject(e, 451, "4.3.5", "%sServer configuration error", eval_prefix(e, subject));
}

/* A permit from a table that a client can put itself into is a mistake (spec 2.9). */
static enum verdict apply(struct eval *e, const struct rule *r, struct span action,
                          enum subject subject)
{
    enum verdict verdict = access_apply(e, action, subject, map_name(r->map));
    bool is_forbidden = (r->row->flags & RESTRICTION_NO_PERMIT) != 0
                        && verdict == VERDICT_PERMIT && !e->out->is_discard;
    if (!is_forbidden)
        return verdict;
    return eval_configuration_error(
        e, arena_printf(&e->out->memory,
                        "%s %s: OK is not allowed here, for the client could make it true; "
                        "use DUNNO", r->row->name, map_name(r->map)));
}

static enum map_result find_sender(struct eval *e, struct map *map, struct buf *value)
{
    if (e->in->sender.len == 0)
        return e->reader.find(e->reader.context, map,
                              span_of(e->policy->params->smtpd_null_access_lookup_key), value);
    enum map_result result = eval_sender(e);
    return result == MAP_FOUND ? access_find_mail(e, map, &e->sender, value) : result;
}

static enum map_result find_recipient(struct eval *e, struct map *map, struct buf *value)
{
    enum map_result result = eval_recipient(e);
    return result == MAP_FOUND ? access_find_mail(e, map, &e->recipient, value) : result;
}

static bool has_subject(const struct eval *e, enum subject subject)
{
    switch (subject) {
    case SUBJECT_HELO: return e->in->helo != NULL;
    case SUBJECT_SENDER: return e->in->has_sender;
    case SUBJECT_RECIPIENT: return e->in->has_recipient;
    default: return true;
    }
}

static enum map_result find_subject(struct eval *e, struct map *map, enum subject subject,
                                    struct buf *value)
{
    const struct smtp_peer *peer = e->in->peer;
    switch (subject) {
    case SUBJECT_CLIENT:
        return access_find_host(e, map, span_of(peer->name), &peer->ip, value);
    case SUBJECT_REVERSE_CLIENT:
        return access_find_host(e, map, span_of(peer->reverse_name), &peer->ip, value);
    case SUBJECT_HELO: return access_find_host(e, map, span_of(e->in->helo), NULL, value);
    case SUBJECT_SENDER: return find_sender(e, map, value);
    case SUBJECT_RECIPIENT: return find_recipient(e, map, value);
    default: return MAP_BROKEN; /* a bare table in the data lists: refused at start-up */
    }
}

/* An OK does not make a routed recipient ours (spec 3.3.5). */
static enum verdict untrust_routed(const struct eval *e, enum subject subject,
                                   enum verdict verdict)
{
    bool is_routed = subject == SUBJECT_RECIPIENT && e->is_recipient_resolved
                     && e->recipient.is_routed;
    return verdict == VERDICT_PERMIT && is_routed && !e->out->is_discard ? VERDICT_DUNNO
                                                                         : verdict;
}

enum verdict check_access(struct eval *e, const struct rule *r)
{
    enum subject subject = eval_subject(e, r->row->subject);
    struct buf value = { 0 };
    enum verdict verdict = VERDICT_DUNNO;
    if (!has_subject(e, subject))
        return VERDICT_DUNNO;
    enum map_result result = find_subject(e, r->map, subject, &value);
    if (result == MAP_FOUND)
        verdict = apply(e, r, buf_span(&value), subject);
    else if (result != MAP_NOT_FOUND)
        verdict = lookup_failed(e, result, subject);
    buf_fini(&value);
    return untrust_routed(e, subject, verdict);
}

/* ------------------------------------------------------------ mx, ns, a */

enum { HOSTS_MAX = 20, ADDRESSES_MAX = 20 };

struct hosts {
    struct span names[HOSTS_MAX];
    size_t count;
};

static void add_host(struct hosts *hosts, struct span name)
{
    if (hosts->count < HOSTS_MAX)
        hosts->names[hosts->count++] = name;
}

/* False: not known yet. A failure is no hosts, and a line in the log. */
static bool mx_hosts(struct eval *e, enum scope scope, struct span domain, struct hosts *hosts)
{
    const struct fact *mx = eval_dns(e, FACT_MX, scope, domain);
    if (mx == NULL)
        return false;
    struct span value = mx->value, record;
    if (mx->status == FACT_NOT_FOUND) {
        add_host(hosts, domain); /* RFC 5321 5.1: the domain is its own mail host */
    } else if (mx->status == FACT_FOUND) {
        while (record_next(&value, &record))
            if (record.len > 2) /* shorter: the null MX */
                add_host(hosts, span_skip(record, 2));
    } else {
        eval_note(e, "warning", "mail host lookup failure for %.*s", (int)domain.len, domain.at);
    }
    return true;
}

/* The name servers of the domain or of the nearest parent that has some. */
static bool ns_hosts(struct eval *e, enum scope scope, struct span domain, struct hosts *hosts)
{
    struct span record;
    while (domain.len > 0) {
        const struct fact *ns = eval_dns(e, FACT_NS, scope, domain);
        if (ns == NULL)
            return false;
        struct span value = ns->value;
        if (ns->status == FACT_FOUND)
            while (record_next(&value, &record))
                add_host(hosts, record);
        else if (ns->status != FACT_NOT_FOUND)
            eval_note(e, "warning", "name server lookup failure for %.*s", (int)domain.len,
                      domain.at);
        if (ns->status != FACT_NOT_FOUND)
            return true;
        size_t dot = span_find(domain, '.');
        domain = span_skip(domain, dot + 1);
    }
    return true;
}

static bool find_hosts(struct eval *e, const struct rule *r, enum scope scope,
                       struct span domain, struct hosts *hosts)
{
    switch (r->row->detail) {
    case FACT_MX: return mx_hosts(e, scope, domain, hosts);
    case FACT_NS: return ns_hosts(e, scope, domain, hosts);
    default: add_host(hosts, domain); return true;
    }
}

static enum map_result find_ip(struct eval *e, struct map *map, struct span record,
                               struct buf *value)
{
    struct ip ip = { .family = record.len == 4 ? 4 : 6 };
    char text[IP_TEXT_MAX];
    if (record.len != 4 && record.len != 16)
        return MAP_NOT_FOUND;
    memcpy(ip.bytes, record.at, record.len);
    return access_find_host(e, map, span_of(ip_text(&ip, text)), &ip, value);
}

/* The addresses of a host, with their networks. */
static enum map_result find_addresses(struct eval *e, const struct rule *r, enum scope scope,
                                      struct span host, struct buf *value)
{
    static const enum fact_kind kinds[] = { FACT_A, FACT_AAAA };
    int looked = 0;
    for (size_t i = 0; i < 2; i++) {
        const struct fact *fact = eval_dns(e, kinds[i], scope, host);
        if (fact == NULL)
            return MAP_PENDING;
        struct span records = fact->value, record;
        while (fact->status == FACT_FOUND && looked++ < ADDRESSES_MAX
               && record_next(&records, &record)) {
            enum map_result result = find_ip(e, r->map, record, value);
            if (result != MAP_NOT_FOUND)
                return result;
        }
    }
    return MAP_NOT_FOUND;
}

static enum map_result find_by_host(struct eval *e, const struct rule *r, enum scope scope,
                                    struct span host, struct buf *value)
{
    struct ip ip;
    enum map_result result = MAP_NOT_FOUND;
    if (ip_parse(host, &ip))
        return access_find_host(e, r->map, host, &ip, value);
    if (r->row->detail != FACT_A) /* its own name is check_*_access's business */
        result = access_find_host(e, r->map, host, NULL, value);
    return result == MAP_NOT_FOUND ? find_addresses(e, r, scope, host, value) : result;
}

/* "[192.0.2.1]" stands for the address itself. */
static enum map_result find_literal(struct eval *e, const struct rule *r, struct span literal,
                                    struct buf *value)
{
    struct ip ip;
    char text[IP_TEXT_MAX];
    if (r->row->detail == FACT_NS || !address_literal_parse(literal, &ip))
        return MAP_NOT_FOUND;
    return access_find_host(e, r->map, span_of(ip_text(&ip, text)), &ip, value);
}

static enum map_result find_hosts_of(struct eval *e, const struct rule *r, enum scope scope,
                                     struct span domain, struct buf *value)
{
    struct hosts hosts = { .count = 0 };
    enum map_result result = MAP_NOT_FOUND;
    if (domain.at[0] == '[')
        return find_literal(e, r, domain, value);
    domain = hostname_without_dot(domain);
    if (!find_hosts(e, r, scope, domain, &hosts))
        return MAP_PENDING;
    for (size_t i = 0; i < hosts.count && result == MAP_NOT_FOUND; i++)
        result = find_by_host(e, r, scope, hosts.names[i], value);
    return result;
}

enum verdict check_host_access(struct eval *e, const struct rule *r)
{
    enum subject subject = r->row->subject;
    struct span domain;
    struct buf value = { 0 };
    enum verdict verdict = VERDICT_DUNNO;
    if (!eval_domain(e, subject, &domain) || domain.len == 0)
        return VERDICT_DUNNO;
    enum map_result result = find_hosts_of(e, r, eval_scope(e, subject), domain, &value);
    if (result == MAP_FOUND)
        verdict = apply(e, r, buf_span(&value), subject);
    else if (result != MAP_NOT_FOUND)
        verdict = lookup_failed(e, result, subject);
    buf_fini(&value);
    return verdict;
}
