/* lane - where the loops' deliveries meet on their way to disk, so that messages that end at the
 * same moment share journal commits and directory fsyncs (queue/commit.h).
 * One work thread at a time takes all that wait, runs them as one batch, hands each back to its
 * loop, and looks again. A lone message goes at once; under load batches form by themselves.
 * Large messages, whose data is long in a file, go beside the lane so that nobody waits for
 * their fsync.
 * Thread: lane_deliver() any loop. */
#ifndef POSTERN_LANE_H
#define POSTERN_LANE_H

#include "queue/delivery.h"

#include <pthread.h>
#include <stdbool.h>

struct loop;

enum { LANE_BATCH_MAX = 128 };

struct lane {
    pthread_mutex_t mutex;
    struct delivery *first, **end; /* guarded: waiting, in order */
    bool is_running;               /* guarded */
};

void lane_init(struct lane *lane);
void lane_fini(struct lane *lane);

/* smtpd_delivered() is called on the loop when it is done. */
void lane_deliver(struct lane *lane, struct loop *loop, struct delivery *delivery);

#endif
