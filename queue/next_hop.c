#include "queue/next_hop.h"
#include "protocol/hostname.h"
#include "protocol/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------ text */

static bool parse_port(struct span text, uint16_t *port)
{
    uint64_t number = 0;
    static const struct {
        const char *name;
        uint16_t port;
    } services[] = { { "smtp", 25 }, { "lmtp", 24 }, { "submission", 587 } };
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        if (span_iequals(text, span_of(services[i].name))) {
            *port = services[i].port;
            return true;
        }
    }
    if (!span_to_u64(text, UINT16_MAX, &number) || number == 0)
        return false;
    *port = (uint16_t)number;
    return true;
}

/* As questions to the DNS are written. */
static const char *lower(struct arena *memory, struct span name)
{
    char *text = arena_text(memory, name);
    for (char *c = text; *c != '\0'; c++)
        *c = ascii_lower(*c);
    return text;
}

/* "[HOST]" with or without ":PORT" behind it, or "HOST" the same way. */
static const char *parse_host(struct span text, struct arena *memory, struct next_hop *out)
{
    bool is_bracketed = text.len > 0 && text.at[0] == '[';
    size_t end = is_bracketed ? span_find(text, ']') : span_find(text, ':');
    struct span host = span_make(text.at, end), rest = span_skip(text, end);
    if (is_bracketed) {
        if (rest.len == 0)
            return "\"[\" without \"]\"";
        host = span_skip(host, 1);
        rest = span_skip(rest, 1);
    }
    if (span_istarts(host, SPAN_LITERAL("ipv6:")))
        host = span_skip(host, 5);
    if (host.len == 0 || host.len >= NEXT_HOP_NAME_MAX)
        return "no host";
    if (rest.len > 0 && (rest.at[0] != ':' || !parse_port(span_skip(rest, 1), &out->port)))
        return "bad port";
    out->host = lower(memory, hostname_without_dot(host));
    if (!ip_parse(host, &out->ip))
        out->ip = (struct ip){ 0 };
    out->is_mx = !is_bracketed && out->ip.family == 0;
    return NULL;
}

const char *next_hop_parse(enum lmtp_protocol protocol, const char *text, struct arena *memory,
                           struct next_hop *out)
{
    struct span rest = span_of(text);
    *out = (struct next_hop){ 0 };
    if (span_istarts(rest, SPAN_LITERAL("unix:"))) {
        out->path = arena_text(memory, span_skip(rest, 5));
        return out->path[0] != '\0' ? NULL : "no path behind unix:";
    }
    bool is_inet = span_istarts(rest, SPAN_LITERAL("inet:"));
    out->is_strange = span_istarts(rest, SPAN_LITERAL("mx:"));
    size_t prefix = is_inet ? 5 : out->is_strange ? 3 : 0;
    const char *error = parse_host(span_skip(rest, prefix), memory, out);
    if (is_inet || protocol == LMTP_PROTOCOL_LMTP)
        out->is_mx = false;
    return error;
}

const char *lmtp_nexthop_check(enum lmtp_protocol protocol, const char *nexthop)
{
    struct arena memory = { 0 };
    struct next_hop hop;
    const char *error = next_hop_parse(protocol, nexthop, &memory, &hop);
    arena_fini(&memory);
    return error;
}

/* ------------------------------------------------------------ addresses */

enum { PER_HOST = 4 };

struct host {
    char name[NEXT_HOP_NAME_MAX];
    unsigned preference;
    struct ip ips[2][PER_HOST]; /* IPv6, IPv4 */
    size_t counts[2];
};

struct hop_search {
    const struct lmtp_outside *outside;
    void (*done)(void *owner, const struct hop_hosts *hosts);
    void *owner; /* NULL: nobody waits any more */
    char domain[NEXT_HOP_NAME_MAX], own_name[NEXT_HOP_NAME_MAX];
    struct host hosts[NEXT_HOP_HOSTS];
    size_t host_count;
    uint64_t seed;
    int pending; /* questions, and one while we are at work */
    bool is_retry, is_null_mx, is_loop;
};

/* A question for the addresses of one family of one host. */
struct ask {
    struct hop_search *search;
    size_t host;
    int family; /* 0: IPv6, 1: IPv4 */
};

static bool next_record(struct span *records, struct span *record)
{
    const unsigned char *at = (const unsigned char *)records->at;
    if (records->len < 2)
        return false;
    size_t len = (size_t)at[0] << 8 | at[1];
    if (records->len < 2 + len)
        return false;
    *record = span_make(records->at + 2, len);
    *records = span_skip(*records, 2 + len);
    return true;
}

static void take_host(struct hop_hosts *out, const struct host *host)
{
    for (size_t i = 0; i < PER_HOST; i++) {
        for (int family = 0; family < 2; family++) {
            if (i >= host->counts[family] || out->count == NEXT_HOP_ADDRESSES)
                continue;
            struct hop_address *a = &out->addresses[out->count++];
            a->ip = host->ips[family][i];
            snprintf(a->host, sizeof a->host, "%s", host->name);
        }
    }
}

/* The work at hand, or one question, is done; the last one ends the search: true. */
static bool step_back(struct hop_search *s)
{
    if (--s->pending > 0)
        return false;
    struct hop_hosts *out = xcalloc(1, sizeof *out);
    for (size_t i = 0; i < s->host_count; i++)
        take_host(out, &s->hosts[i]);
    out->found = out->count > 0    ? HOP_FOUND
                 : s->is_retry   ? HOP_RETRY
                 : s->is_null_mx ? HOP_NULL_MX
                 : s->is_loop    ? HOP_LOOP
                                 : HOP_NONE;
    void *owner = s->owner;
    if (owner != NULL)
        s->done(owner, out); /* may begin another search: s is ours alone */
    free(out);
    free(s);
    return true;
}

static void on_addresses(void *arg, enum lmtp_dns status, struct span records)
{
    struct ask *ask = arg;
    struct hop_search *s = ask->search;
    struct host *host = &s->hosts[ask->host];
    size_t *count = &host->counts[ask->family];
    struct span record;
    s->is_retry |= status == LMTP_DNS_RETRY;
    while (status == LMTP_DNS_FOUND && *count < PER_HOST && next_record(&records, &record)) {
        size_t size = ask->family == 0 ? 16 : 4;
        if (record.len != size)
            continue;
        struct ip *ip = &host->ips[ask->family][(*count)++];
        *ip = (struct ip){ .family = size == 16 ? 6 : 4 };
        memcpy(ip->bytes, record.at, size);
    }
    free(ask);
    step_back(s);
}

static void ask_addresses(struct hop_search *s, size_t host, int family)
{
    struct ask *ask = xcalloc(1, sizeof *ask);
    *ask = (struct ask){ s, host, family };
    s->pending++;
    s->outside->resolve(s->outside->context, family == 0 ? LMTP_ASK_AAAA : LMTP_ASK_A,
                        span_of(s->hosts[host].name), on_addresses, ask);
}

static void ask_hosts(struct hop_search *s)
{
    for (size_t i = 0; i < s->host_count; i++) {
        ask_addresses(s, i, 0);
        ask_addresses(s, i, 1);
    }
}

static void add_host(struct hop_search *s, struct span name, unsigned preference)
{
    size_t at = s->host_count;
    s->seed = s->seed * 6364136223846793005u + 1442695040888963407u;
    bool goes_first = (s->seed >> 40 & 1) != 0; /* among equals */
    while (at > 0 && (s->hosts[at - 1].preference > preference
                      || (goes_first && s->hosts[at - 1].preference == preference)))
        at--;
    if (at == NEXT_HOP_HOSTS || name.len >= NEXT_HOP_NAME_MAX)
        return;
    if (s->host_count < NEXT_HOP_HOSTS)
        s->host_count++;
    memmove(&s->hosts[at + 1], &s->hosts[at], (s->host_count - at - 1) * sizeof s->hosts[0]);
    struct host *host = &s->hosts[at];
    *host = (struct host){ .preference = preference };
    memcpy(host->name, name.at, name.len);
}

static void take_mx(struct hop_search *s, struct span records)
{
    struct span record;
    while (next_record(&records, &record)) {
        const unsigned char *at = (const unsigned char *)record.at;
        if (record.len == 2)
            s->is_null_mx = true;
        else if (record.len > 2)
            add_host(s, span_skip(record, 2), (unsigned)at[0] << 8 | at[1]);
    }
}

/* We, and whoever is not better than us, are no way for this mail (RFC 5321 5.1). */
static void leave_us_out(struct hop_search *s)
{
    unsigned own = UINT16_MAX + 1;
    size_t kept = 0;
    for (size_t i = 0; i < s->host_count; i++)
        if (span_iequals(span_of(s->hosts[i].name), span_of(s->own_name)))
            own = s->hosts[i].preference;
    while (kept < s->host_count && s->hosts[kept].preference < own)
        kept++;
    s->is_loop = kept == 0 && s->host_count > 0;
    s->host_count = kept;
}

static void on_mx(void *arg, enum lmtp_dns status, struct span records)
{
    struct hop_search *s = arg;
    s->is_retry |= status == LMTP_DNS_RETRY;
    if (status == LMTP_DNS_FOUND)
        take_mx(s, records);
    else if (status == LMTP_DNS_NONE) /* the domain is its own host (RFC 5321 5.1) */
        add_host(s, span_of(s->domain), 0);
    leave_us_out(s);
    ask_hosts(s);
    step_back(s);
}

struct hop_search *hop_search_begin(const struct lmtp_outside *outside,
                                    const struct next_hop *hop, const char *own_name,
                                    uint64_t seed,
                                    void (*done)(void *owner, const struct hop_hosts *hosts),
                                    void *owner)
{
    struct hop_search *s = xcalloc(1, sizeof *s);
    *s = (struct hop_search){ .outside = outside, .done = done, .owner = owner, .seed = seed,
                              .pending = 2 };
    snprintf(s->domain, sizeof s->domain, "%s", hop->host);
    snprintf(s->own_name, sizeof s->own_name, "%s", own_name);
    if (hop->ip.family != 0) {
        add_host(s, span_of(hop->host), 0);
        int family = hop->ip.family == 6 ? 0 : 1;
        s->hosts[0].ips[family][s->hosts[0].counts[family]++] = hop->ip;
        s->pending--;
    } else if (hop->is_mx) {
        outside->resolve(outside->context, LMTP_ASK_MX, span_of(s->domain), on_mx, s);
    } else {
        add_host(s, span_of(s->domain), 0);
        ask_hosts(s);
        s->pending--;
    }
    return step_back(s) ? NULL : s;
}

void hop_search_leave(struct hop_search *search)
{
    if (search != NULL)
        search->owner = NULL;
}
