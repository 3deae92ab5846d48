/* store - the policy's memory (policy/store_db.h) as a service of the server: a lane of its own,
 * so that Berkeley DB never stops a loop, and what is asked at the same moment shares a
 * transaction.
 * State:  opened on the lane at start (recovery may take seconds); until then, and while it is
 *         damaged or the disk is full, every question gets "could not be found out" at once. A
 *         damaged store is opened again once a minute at most.
 * Sweeps: once an hour, in steps between the questions. Checkpoints every few seconds.
 * Thread: store_service_tick() the main loop; questions any loop. */
#ifndef POSTERN_STORE_H
#define POSTERN_STORE_H

#include "policy/greylist_store.h"
#include "server/fetch.h"
#include "server/lane.h"
#include "server/log.h"

#include <stdatomic.h>

struct loop;

enum { STORE_PAYLOAD_MAX = STORE_VALUE_MAX - 8 };

enum store_state { STORE_IS_CLOSED, STORE_IS_OPENING, STORE_IS_OPEN, STORE_IS_DAMAGED };

struct store_service {
    struct lane lane;
    atomic_int state;
    atomic_bool is_wanted; /* somebody asked: an access table may name a rule that remembers */
    /* the lane's */
    struct store *store;
    struct greylist_store greylist;
    char *dir; /* owns */
    int cache_mb;
    /* main loop */
    int64_t tried_ms, checked_ms, swept_ms;
    bool is_sweeping;
    atomic_ullong decided, failed;
};

void store_service_init(struct store_service *s, const char *dir, int cache_mb);

/* After the last loop has ended. */
void store_service_fini(struct store_service *s);

/* Once a second: opens, writes back, sweeps when it is time. */
void store_service_tick(struct store_service *s, struct loop *loop, struct config *config,
                        int64_t wall_s);

/* FACT_GREYLIST: q->key.text as greylist_store.h says. */
void store_service_greylist(struct store_service *s, struct loop *loop, struct question *q,
                            int64_t wall_s);

/* FACT_REMEMBERED: was this text remembered, and is its time not over? */
void store_service_recall(struct store_service *s, struct loop *loop, struct question *q,
                          int64_t wall_s);
void store_service_remember(struct store_service *s, struct loop *loop, const char *text,
                            int64_t until_s, struct span payload);

/* The same for others, with what was remembered (at most STORE_PAYLOAD_MAX bytes). */
void store_service_find(struct store_service *s, struct loop *loop, const char *text,
                        int64_t wall_s, store_found *found, void *arg);

/* One step of a "postern greylist" command. done() gets the text; more steps while
 * !command->is_done. */
struct store_command {
    struct lane_item item;
    struct store_service *service;
    struct greylist_command command;
    struct greylist_params params;
    int64_t now_s;
    struct buf out;
    int rc;
    void (*done)(struct loop *loop, struct store_command *c);
};

void store_service_command(struct store_service *s, struct loop *loop, struct store_command *c);

struct greylist_params store_greylist_params(const struct params *p);

#endif
