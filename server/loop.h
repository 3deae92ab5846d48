/* loop - one event loop: its connections, listeners, timers, log, and the work it has out.
 * Each loop has its own of everything; what several share is in struct server (server.h).
 * Thread: all functions on the loop's own thread, but loop_post(). */
#ifndef POSTERN_LOOP_H
#define POSTERN_LOOP_H

#include "server/config.h"
#include "server/fetch.h"
#include "server/log.h"
#include "server/smtpd.h"
#include "server/stats.h"

#include <pthread.h>
#include <uv.h>

struct conn;
struct listener;
struct loop;
struct server;

/* Something to be run on a loop, from any thread. Freed by run(). */
struct post {
    struct post *next;
    void (*run)(struct loop *loop, struct post *post);
};

enum { LOOP_READ_BYTES = 65536, LOOP_COMMAND_READ_BYTES = 4096, LOOP_PLAIN_BYTES = 16384 };

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_prepare_t before_sleep; /* flushes the log */
    uv_timer_t tick;           /* once a second while there are connections */
    struct server *server;     /* shares */
    unsigned index;
    pthread_t thread;
    struct config *config;     /* one reference: for new connections */
    struct smtpd_services services;
    struct fetcher fetcher;    /* owns: DNS, policy servers */
    struct log log;
    struct stats stats;        /* this loop writes, the metrics thread reads */
    struct listener *listeners; /* owns */
    struct conn *conns, *oldest; /* owns: all connections, newest first; the last of them */
    int conn_count;
    int work_count;            /* deliveries, spills, look-ups under way */
    bool is_draining, is_stopped, is_ticking;

    pthread_mutex_t post_mutex;
    struct post *posts, **posts_end; /* guarded by post_mutex */
    bool is_deaf;                    /* guarded: it has ended, posts are refused */

    /* scratch of the callback at hand */
    char read_buffer[LOOP_READ_BYTES];
    char plain[LOOP_PLAIN_BYTES];
    struct buf out, cipher_out;

    int64_t date_second;
    char date[64];
};

/* NULL, or what went wrong. */
const char *loop_init(struct loop *loop, struct server *server, unsigned index,
                      struct config *config, struct log_sink *sink);
void loop_run(struct loop *loop);  /* until it is drained or stopped */
void loop_fini(struct loop *loop); /* after loop_run() */

/* From any thread. False: the loop has ended, the post is still the caller's. */
bool loop_post(struct loop *loop, struct post *post);

/* Closes the loop's own handles, so that loop_run() returns. */
void loop_close_handles(struct loop *loop);

/* No new connections, idle clients get 421, others may finish what they are at. */
void loop_drain(struct loop *loop);

/* Everybody out. */
void loop_stop(struct loop *loop);

/* A connection came or went. */
void loop_conn_added(struct loop *loop);
void loop_conn_removed(struct loop *loop);
void loop_work_done(struct loop *loop);

static inline int64_t loop_now_ms(struct loop *loop)
{
    loop->services.now_ms = (int64_t)uv_now(&loop->uv);
    return loop->services.now_ms;
}

#endif
