#include "server/dns_parse.h"
#include "protocol/hostname.h"

#include <arpa/nameser.h>
#include <resolv.h>

int dns_type(enum fact_kind kind)
{
    static const int types[] = {
        [FACT_A] = ns_t_a,   [FACT_AAAA] = ns_t_aaaa, [FACT_MX] = ns_t_mx,
        [FACT_NS] = ns_t_ns, [FACT_PTR] = ns_t_ptr,   [FACT_TXT] = ns_t_txt,
        [FACT_CNAME] = ns_t_cname,
    };
    return types[kind];
}

/* A name out of the record, in lower case. False: not even DNS. */
static bool get_name(ns_msg *message, const unsigned char *at, char out[DNS_NAME_MAX])
{
    char name[NS_MAXDNAME];
    if (ns_name_uncompress(ns_msg_base(*message), ns_msg_end(*message), at, name, sizeof name) < 0)
        return false;
    struct span text = hostname_without_dot(span_of(name));
    if (text.len >= DNS_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++)
        out[i] = ascii_lower(text.at[i]);
    out[text.len] = '\0';
    return true;
}

/* A host in a record: a numeric one is tolerated, as everywhere (spec 2.8). */
static bool is_host(const char *name)
{
    struct ip ip;
    return hostname_is_valid(span_of(name), false) || ip_parse(span_of(name), &ip);
}

/* A name that no host can have is what its owner wrote, and stays so; rubbish comes from the
 * resolver or the way, and the next answer may be better: that one is temporary. */
enum record { RECORD_GOOD, RECORD_BAD_HOST, RECORD_RUBBISH };

static enum record add_host(ns_msg *message, const ns_rr *rr, struct buf *value)
{
    char name[DNS_NAME_MAX];
    if (!get_name(message, ns_rr_rdata(*rr), name))
        return RECORD_RUBBISH;
    if (!is_host(name))
        return RECORD_BAD_HOST;
    record_add(value, span_of(name));
    return RECORD_GOOD;
}

static enum record add_mx(ns_msg *message, const ns_rr *rr, struct buf *value)
{
    char name[DNS_NAME_MAX + 2];
    if (ns_rr_rdlen(*rr) < 3 || !get_name(message, ns_rr_rdata(*rr) + 2, name + 2))
        return RECORD_RUBBISH;
    if (name[2] != '\0' && !is_host(name + 2)) /* "" is the null MX */
        return RECORD_BAD_HOST;
    memcpy(name, ns_rr_rdata(*rr), 2);
    record_add(value, span_make(name, 2 + strlen(name + 2)));
    return RECORD_GOOD;
}

/* All strings of one record joined (spec 5.4, RFC 7208 3.3). */
static enum record add_txt(const ns_rr *rr, struct buf *value)
{
    struct buf text = { 0 };
    const unsigned char *at = ns_rr_rdata(*rr), *end = at + ns_rr_rdlen(*rr);
    while (at < end && at + 1 + *at <= end) {
        buf_append(&text, at + 1, *at);
        at += 1 + *at;
    }
    bool is_good = at == end;
    if (is_good)
        record_add(value, buf_span(&text));
    buf_fini(&text);
    return is_good ? RECORD_GOOD : RECORD_RUBBISH;
}

static enum record add_address(const ns_rr *rr, size_t size, struct buf *value)
{
    if (ns_rr_rdlen(*rr) != size)
        return RECORD_RUBBISH;
    record_add(value, span_make((const char *)ns_rr_rdata(*rr), size));
    return RECORD_GOOD;
}

static enum record add_record(enum fact_kind kind, ns_msg *message, const ns_rr *rr, struct buf *value)
{
    switch (kind) {
    case FACT_A: return add_address(rr, 4, value);
    case FACT_AAAA: return add_address(rr, 16, value);
    case FACT_MX: return add_mx(message, rr, value);
    case FACT_TXT: return add_txt(rr, value);
    case FACT_CNAME:
    case FACT_NS:
    case FACT_PTR: return add_host(message, rr, value);
    default: return RECORD_RUBBISH;
    }
}

struct walk {
    int count[RECORD_RUBBISH + 1];
    uint32_t ttl_s;
};

static void lower_ttl(struct walk *w, const ns_rr *rr)
{
    if (ns_rr_ttl(*rr) < w->ttl_s)
        w->ttl_s = ns_rr_ttl(*rr);
}

/* False: rubbish. */
static bool walk_answers(enum fact_kind kind, ns_msg *message, struct walk *w,
                         struct dns_result *out, struct buf *value)
{
    ns_rr rr;
    for (int i = 0; i < ns_msg_count(*message, ns_s_an); i++) {
        if (ns_parserr(message, ns_s_an, i, &rr) != 0)
            return false;
        if ((int)ns_rr_type(rr) == ns_t_cname && kind != FACT_CNAME) {
            lower_ttl(w, &rr);
            if (!get_name(message, ns_rr_rdata(rr), out->cname))
                return false;
        } else if ((int)ns_rr_type(rr) == dns_type(kind)
                   && w->count[RECORD_GOOD] < DNS_RECORDS_MAX) {
            lower_ttl(w, &rr);
            w->count[add_record(kind, message, &rr, value)]++;
        }
    }
    return true;
}

/* RFC 2308 5: the lesser of the SOA's TTL and its minimum; 0 without SOA. */
static uint32_t negative_ttl(ns_msg *message)
{
    ns_rr rr;
    for (int i = 0; i < ns_msg_count(*message, ns_s_ns); i++) {
        if (ns_parserr(message, ns_s_ns, i, &rr) != 0)
            return 0;
        if (ns_rr_type(rr) != ns_t_soa || ns_rr_rdlen(rr) < 20)
            continue;
        uint32_t minimum = (uint32_t)ns_get32(ns_rr_rdata(rr) + ns_rr_rdlen(rr) - 4);
        uint32_t ttl = ns_rr_ttl(rr) < minimum ? ns_rr_ttl(rr) : minimum;
        return ttl < DNS_NEGATIVE_TTL_MAX_S ? ttl : DNS_NEGATIVE_TTL_MAX_S;
    }
    return 0;
}

struct dns_result dns_parse(enum fact_kind kind, const unsigned char *answer, int len,
                            struct buf *value)
{
    struct dns_result out = { .status = FACT_TEMPFAIL, .rcode = -1 };
    struct walk walk = { .ttl_s = DNS_TTL_MAX_S };
    ns_msg message;
    buf_clear(value);
    if (len <= 0 || ns_initparse(answer, len, &message) != 0)
        return out;
    out.rcode = ns_msg_getflag(message, ns_f_rcode);
    if (out.rcode != ns_r_noerror && out.rcode != ns_r_nxdomain)
        return out;
    if (!walk_answers(kind, &message, &walk, &out, value)) {
        buf_clear(value); /* what came before the rubbish is none the better for it */
        out.cname[0] = '\0';
        return out;
    }
    if (walk.count[RECORD_GOOD] > 0) {
        out.status = FACT_FOUND;
        out.ttl_s = walk.ttl_s;
    } else if (walk.count[RECORD_RUBBISH] == 0) {
        out.status = walk.count[RECORD_BAD_HOST] > 0 ? FACT_BROKEN : FACT_NOT_FOUND;
        out.ttl_s = negative_ttl(&message);
    }
    if (out.status != FACT_NOT_FOUND || out.rcode == ns_r_nxdomain)
        out.cname[0] = '\0';
    return out;
}
