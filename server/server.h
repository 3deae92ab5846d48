/* server - what the loops share: configuration, client table, the commit lane, counters; and the
 * life of the process: start, reload, drain.
 * Thread: server_run() on the main thread, which is loop 0; fields as marked. */
#ifndef POSTERN_SERVER_H
#define POSTERN_SERVER_H

#include "server/control.h"
#include "server/crowd.h"
#include "server/decisions.h"
#include "server/lane.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/notify.h"
#include "server/sandbox.h"
#include "server/store.h"

#include <stdatomic.h>

enum { LOOPS_MAX = 64 };

struct server {
    struct config *config;      /* main thread: one reference */
    struct log_sink *log_sink;  /* owns; any thread */
    struct sandbox sandbox;     /* entered at the start; then only read */
    struct clients *clients;    /* owns; any thread */
    struct crowd *crowd;        /* owns; any thread */
    struct lane deliver_lane;   /* any thread */
    struct store_service store; /* any thread */
    struct queue *queue;        /* owns: the spool; as its header says */
    struct loop *loops[LOOPS_MAX]; /* owns */
    unsigned loop_count;
    atomic_uint ended_count;    /* loops that are drained */
    atomic_int connections;     /* in all */
    int connection_limit;       /* what the configuration and our descriptors allow */
    int connection_reserve;     /* of these, for clients that have brought mail before */
    atomic_ullong last_number;  /* of connections, for the log */
    atomic_bool is_space_low;   /* queue_minfree */

    /* main thread: loop 0 */
    struct control *control;    /* owns: the command line's door */
    unsigned refreshes;         /* counted */
    bool is_reloading, is_reload_due, is_refreshing, is_draining;
    const struct config *lists_tested; /* whose DNS lists were tested last; only compared */
    int64_t lists_tested_ms;
    struct decisions *decisions; /* owns; any loop: NULL without decision_records */
    struct watchdog watchdog;
    struct metrics *metrics;    /* owns: NULL without metrics_listen */
    struct gauges gauges;
    uv_signal_t signals[3];
    uv_timer_t refresh;         /* tables, certificates, disk space; then the drain's limit */
};

/* Runs until it is told to stop; returns the exit code. */
int server_run(struct config *config);

/* A loop is drained; any thread. */
void server_loop_ended(struct server *server);

#endif
