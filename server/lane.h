/* lane - a line of blocking work that all loops share, served by one work thread at a time.
 * What waits is taken all at once and run as one batch; then each item goes back to its loop,
 * and the line is looked at again. A lone item goes at once; under load batches form by
 * themselves, so that what many need alike (a journal commit, a transaction) is done once.
 * Owns:   nothing: items are embedded in whoever queues them.
 * Bounds: LANE_BATCH_MAX items a batch.
 * Thread: lane_put() any loop; run() a work thread, one batch at a time; done() the item's loop. */
#ifndef POSTERN_LANE_H
#define POSTERN_LANE_H

#include <pthread.h>
#include <stdbool.h>

struct loop;

enum { LANE_BATCH_MAX = 128 };

struct lane_item {
    struct lane_item *next;
    struct loop *home;
    /* On the loop, when its batch is done; may free the item. */
    void (*done)(struct loop *loop, struct lane_item *item);
};

struct lane {
    void (*run)(struct lane *lane, struct lane_item *batch);
    void *context;
    pthread_mutex_t mutex;
    struct lane_item *first, **end; /* guarded: waiting, in order */
    bool is_running;                /* guarded */
};

void lane_init(struct lane *lane, void (*run)(struct lane *lane, struct lane_item *batch),
               void *context);
void lane_fini(struct lane *lane);

/* item->done is set; home and next are set here. */
void lane_put(struct lane *lane, struct loop *loop, struct lane_item *item);

/* The same as a batch of its own beside the line, for what would make the others wait. */
void lane_put_beside(struct lane *lane, struct loop *loop, struct lane_item *item);

#endif
