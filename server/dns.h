/* dns - DNS questions of one event loop, over c-ares.
 * Cache:  answers by TTL (at most an hour; negative ones by the SOA), temporary failures for a
 *         second; at most dns_cache_size entries, the least recently used goes first. Equal
 *         questions under way are one.
 * Bounds: dns_query_limit questions under way, DNS_QUEUE_MAX in line behind them; beyond that,
 *         and dns_timeout after the question, the answer is "could not be found out". A CNAME
 *         that the resolver did not follow is followed DNS_CNAME_MAX times.
 * Ports:  c-ares uses one socket and so one source port for a channel; the channel is renewed
 *         every DNS_RENEW_AFTER questions. A resolver on this host is best all the same.
 * Files:  /etc/hosts is asked first, for A, AAAA and PTR.
 * Thread: the loop's. The callback may run before dns_ask() returns. */
#ifndef POSTERN_DNS_H
#define POSTERN_DNS_H

#include "policy/fact.h"
#include "protocol/params.h"

#include <uv.h>

enum { DNS_QUEUE_MAX = 8192, DNS_RENEW_AFTER = 2000, DNS_CNAME_MAX = 10 };

struct dns;
struct stats;

/* value and source live during the call. */
typedef void dns_callback(void *arg, enum fact_status status, struct span value,
                          const char *source);

/* NULL and *error when the resolver cannot be set up. stats is lent; NULL: nothing is counted. */
struct dns *dns_new(uv_loop_t *loop, const struct params *params, struct stats *stats,
                    const char **error);

/* Whoever still waits hears that it could not be found out. The handles close in the loop's next
 * turns. */
void dns_free(struct dns *dns);

void dns_ask(struct dns *dns, enum fact_kind kind, struct span text, dns_callback *callback,
             void *arg);

#endif
