/* stats - what is counted: one set per loop, written by that loop alone and summed by whoever
 * reads (names: Prometheus text format, prefix postern_).
 * Labels are bounded: verbs, restriction names, transports, kinds of facts; never an address.
 * Thread: stats_*() the set's loop; stats_print() any. */
#ifndef POSTERN_STATS_H
#define POSTERN_STATS_H

#include "policy/eval.h"
#include "protocol/smtp_session.h"

#include <stdatomic.h>

enum stats_counter {
    STAT_CONNECTIONS,
    STAT_CONNECTIONS_BUSY,
    STAT_MESSAGES,
    STAT_MESSAGE_BYTES,
    STAT_WARN_ONLY,
    STAT_GREYLIST_WAIT,
    STAT_GREYLIST_FIRST,
    STAT_GREYLIST_PASS,
    STAT_TLS_1_2,
    STAT_TLS_1_3,
    STAT_COUNT
};

enum { STATS_REASONS_MAX = 256, STATS_TRANSPORTS = 6, STATS_STATUSES = 3, STATS_SIZES = 8,
       STATS_VERDICTS = 3 };

struct stats {
    _Atomic uint64_t simple[STAT_COUNT];
    _Atomic uint64_t commands[SMTP_VERB_COUNT][2];              /* failed, ok */
    _Atomic uint64_t missing[FACT_KIND_COUNT];
    _Atomic uint64_t rcpt[STATS_REASONS_MAX][STATS_VERDICTS];   /* by row; the last: no row */
    _Atomic uint64_t delivery[STATS_TRANSPORTS][STATS_STATUSES];
    _Atomic uint64_t sizes[STATS_SIZES];
};

/* All of these do nothing if stats is NULL. */
void stats_add(struct stats *stats, enum stats_counter stat, uint64_t n);
void stats_message(struct stats *stats, uint64_t bytes);
void stats_session(struct stats *stats, const struct smtp_session *s); /* at its end */
void stats_fact(struct stats *stats, const struct fact *fact);
void stats_rcpt(struct stats *stats, enum verdict verdict, const struct outcome *out);
void stats_tls(struct stats *stats, struct span protocol);
void stats_delivery(struct stats *stats, const char *transport, const char *status);

/* Appends the sums of all sets. */
void stats_print(const struct stats *const *sets, size_t count, struct buf *out);

#endif
