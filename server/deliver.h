/* deliver - deliveries on their way to disk: the lane of the commit point (queue/commit.h).
 * Messages that end at the same moment share journal commits and directory fsyncs. Large ones,
 * whose data is in a file, go beside the lane: nobody waits for their fsync.
 * Thread: any loop. */
#ifndef POSTERN_DELIVER_H
#define POSTERN_DELIVER_H

#include "queue/delivery.h"
#include "server/lane.h"

void deliver_init(struct lane *lane);

/* smtpd_delivered() is called on the loop when it is done. */
void deliver_put(struct lane *lane, struct loop *loop, struct delivery *delivery);

#endif
