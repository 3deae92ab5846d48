/* metrics - GET /metrics on metrics_listen, in Prometheus' text format.
 * HTTP:   libevent's, on a thread of its own, so that no scrape ever delays a client of SMTP.
 * Bounds: requests of METRICS_REQUEST_MAX bytes, GET and HEAD only, METRICS_TIMEOUT_S per request.
 * Reads:  atomics within struct loop and struct server only, which outlive the thread:
 *         metrics_stop() joins it before any loop ends. They are the counters of all loops
 *         (stats.h, next_hop_counts), and gauges that the main loop publishes once a
 *         second (struct gauges). Its address is fixed at the start; a reload does not move it.
 * Thread: main; the handler its own. */
#ifndef POSTERN_METRICS_H
#define POSTERN_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

struct metrics;
struct server;

enum { METRICS_REQUEST_MAX = 4096, METRICS_TIMEOUT_S = 5 };

/* Written by the main loop, read by the metrics thread. */
struct gauges {
    _Atomic int64_t certificate_expiry_s; /* 0: no certificate */
    _Atomic int64_t queue_waiting, queue_active, queue_held, queue_oldest_s;
    _Atomic int64_t reload_ok;            /* 1: the last reload was good, or there was none */
};

/* Binds the endpoint, while we may bind a low port. *out NULL: none is configured. NULL, or what
 * went wrong. */
const char *metrics_bind(struct server *server, struct metrics **out);
void metrics_start(struct metrics *metrics);
void metrics_stop(struct metrics *metrics); /* before the loops end */

#endif
