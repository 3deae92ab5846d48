/* policy - the compiled part of a configuration that decides: restriction lists, tables, domains.
 * Owns:   its arena and everything compiled; shares params and maps with the configuration.
 * Immutable once made. Thread: reading any. */
#ifndef POSTERN_POLICY_H
#define POSTERN_POLICY_H

#include "policy/recipient.h"
#include "policy/transport.h"

/* In the order in which they run at RCPT (relay and recipient may be swapped). */
enum list_name {
    LIST_CLIENT,
    LIST_HELO,
    LIST_SENDER,
    LIST_RELAY,
    LIST_RECIPIENT,
    LIST_DATA,
    LIST_END_OF_DATA,
    LIST_COUNT
};

extern const char *const list_parameters[LIST_COUNT]; /* "smtpd_client_restrictions", ... */

struct restriction;
struct dnsbl;
struct policy_server;

/* One item of a list, ready to run. */
struct rule {
    const struct restriction *row;
    struct span argument;          /* as written; empty: none */
    struct map *map;               /* ARG_MAP */
    uint64_t number;               /* ARG_NUMBER */
    struct dnsbl *dnsbl;           /* ARG_DNSBL */
    struct policy_server *server;  /* ARG_SERVER */
    const struct rules_list *sub;  /* restriction class */
    bool is_warned;                /* stands behind warn_if_reject */
};

struct rules_list {
    struct rule *rules;
    size_t count;
};

struct restriction_class {
    const char *name;
    struct rules_list rules;
};

struct policy {
    struct arena memory; /* owns */
    const struct params *params; /* shares */
    struct maps *maps;           /* shares */
    struct domains domains;
    struct match_list mynetworks, greylist_exempt_clients, greylist_exempt_recipients;
    struct match_list spf_exempt_clients;
    struct dnsbl *greylist_dnswl;     /* greylist_exempt_dnswl */
    struct match_list greet_exempt_clients;
    struct match_list verify_networks; /* address_verify_networks */
    struct dnsbl *sites;              /* dns_list_sites */
    struct rules_list lists[LIST_COUNT];
    struct restriction_class *classes;
    size_t class_count;
    struct transport virtual_transport, local_transport, relay_transport, default_transport;
    struct map_list transport_maps, rbl_reply_maps;
    bool verifies;                    /* some rule asks whether addresses exist */
    bool parents_without_dot;         /* smtpd_access_maps in parent_domain_matches_subdomains */
    struct dnsbl *dnsbls;             /* each list once, for the self-test */
    const char *expansion_filter;     /* smtpd_expansion_filter, its escapes undone */
    const char *base_dir;             /* shares: of relative file names */
    struct policy_server *servers;    /* each policy server once */
};

struct policy_source {
    const struct params *params;
    struct maps *maps;
    const char *base_dir;
    const struct ip *own_ips; /* addresses of this host; copied */
    size_t own_ip_count;
    /* The expanded value of any parameter, also one that only main.cf knows; NULL: none. */
    const char *(*lookup)(void *context, struct span name);
    void *context;
    struct problems *problems;
};

struct policy *policy_new(const struct policy_source *source);
void policy_free(struct policy *policy);

#endif
