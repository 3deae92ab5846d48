/* deliver - messages on their way out of the conversation.
 * Maildirs only: the lane of the commit point (queue/commit.h). Messages that end at the same
 * moment share journal commits and directory fsyncs. Large ones, whose data is in a file, go
 * beside the lane: nobody waits for their fsync.
 * Everything else: server/handoff.h.
 * Thread: any loop. */
#ifndef POSTERN_DELIVER_H
#define POSTERN_DELIVER_H

#include "queue/delivery.h"
#include "server/lane.h"

void deliver_init(struct lane *lane);
void deliver_fini(struct lane *lane);

/* smtpd_delivered() is called on the loop when it is done. */
void deliver_put(struct lane *lane, struct loop *loop, struct delivery *delivery);

/* Any chain of commits; item.done() when all are done. */
struct deliver_item {
    struct lane_item item;
    struct commit *commits; /* lent: in a chain */
};

void deliver_commits(struct lane *lane, struct loop *loop, struct deliver_item *item,
                     bool is_large);

#endif
