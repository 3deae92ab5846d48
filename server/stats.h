/* stats - what is counted: one set per loop, written by that loop alone and summed by whoever
 * reads (names: Prometheus text format, prefix postern_).
 * Labels are bounded: verbs, restriction names, transports, kinds of facts, the configured DNS
 *         lists (the first STATS_LISTS_MAX - 1, then "other"); never an address.
 * Thread: stats_*() the set's loop; stats_print() any. */
#ifndef POSTERN_STATS_H
#define POSTERN_STATS_H

#include "policy/eval.h"
#include "policy/greylist.h"
#include "policy/spf.h"
#include "protocol/smtp_session.h"

#include <stdatomic.h>

enum stats_counter {
    STAT_CONNECTIONS,
    STAT_CONNECTIONS_BUSY,
    STAT_MESSAGES,
    STAT_DNS_CACHED,
    STAT_TLS_1_2,
    STAT_TLS_1_3,
    STAT_COUNT
};

enum stats_histogram {
    STAT_MESSAGE_BYTES,
    STAT_GREYLIST_DELAY, /* s */
    STAT_DNS_TIME,       /* us */
    STAT_DELIVERY_TIME,  /* ms */
    STAT_HISTOGRAM_COUNT
};

enum { STATS_REASONS_MAX = 256, STATS_TRANSPORTS = 6, STATS_STATUSES = 3, STATS_BUCKETS = 9,
       STATS_VERDICTS = 3, STATS_CODES = 3, STATS_DNS_TYPES = FACT_TXT + 1, STATS_RCODES = 8,
       STATS_LISTS_MAX = 64, STATS_LIST_NAME_MAX = 64, STATS_LIST_RESULTS = 4 };

/* One DNS list. The name is written once, before list_count tells of it. */
struct stats_list {
    char name[STATS_LIST_NAME_MAX];
    _Atomic uint64_t results[STATS_LIST_RESULTS];
};

struct stats {
    _Atomic uint64_t simple[STAT_COUNT];
    _Atomic uint64_t commands[SMTP_VERB_COUNT][STATS_CODES];
    _Atomic uint64_t missing[FACT_KIND_COUNT];
    _Atomic uint64_t rcpt[STATS_REASONS_MAX][STATS_VERDICTS];   /* by row; the last: no row */
    _Atomic uint64_t warned[STATS_REASONS_MAX];
    _Atomic uint64_t delivery[STATS_TRANSPORTS][STATS_STATUSES];
    _Atomic uint64_t greylist[GREYLIST_RESULT_COUNT];
    _Atomic uint64_t spf[SPF_RESULT_COUNT];
    _Atomic uint64_t dns[STATS_DNS_TYPES][STATS_RCODES];
    struct histogram {
        _Atomic uint64_t counts[STATS_BUCKETS], sum;
    } histograms[STAT_HISTOGRAM_COUNT];
    struct stats_list lists[STATS_LISTS_MAX];
    _Atomic size_t list_count;
};

/* All of these do nothing if stats is NULL. */
void stats_add(struct stats *stats, enum stats_counter stat, uint64_t n);
void stats_message(struct stats *stats, uint64_t bytes);
void stats_session(struct stats *stats, const struct smtp_session *s); /* at its end */
void stats_fact(struct stats *stats, const struct fact *fact);
void stats_rcpt(struct stats *stats, enum verdict verdict, const struct outcome *out);
void stats_tls(struct stats *stats, struct span protocol);

/* delay_ms since the message came; of those that arrive. */
void stats_delivery(struct stats *stats, const char *transport, const char *status,
                    int64_t delay_ms);

/* A question that went out, and its end. rcode -1: there was no answer. */
void stats_dns(struct stats *stats, enum fact_kind kind, int rcode, uint64_t took_us);

/* If the fact is an answer of one of the policy's DNS lists. */
void stats_dnslist(struct stats *stats, const struct policy *policy, const struct fact *fact);

/* Appends the sums of all sets. */
void stats_print(const struct stats *const *sets, size_t count, struct buf *out);

#endif
