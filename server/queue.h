/* queue - the messages of the spool and their turns (queue/schedule.h, queue/spool.h): read, tried,
 * settled; and what the command line asks of them.
 * Loop 0: the schedule and all decisions. Other loops hand messages over by queue_tell(), and may
 *         ask whether a destination is down (queue_is_down(), any thread).
 * Start:  queue_open() recovers what a crash left, before anybody is served; the envelopes are
 *         read afterwards, beside the service, a batch at a time.
 * Fails:  what cannot be written is written again after a while; until then the message stays
 *         active and is not tried anew, so that nobody gets it twice.
 * Thread: loop 0 unless said otherwise. */
#ifndef POSTERN_QUEUE_H
#define POSTERN_QUEUE_H

#include "server/attempt.h"
#include "server/control.h"
#include "server/record.h"

struct queue;
struct server;

/* NULL and *error: the spool cannot be used. Before the loops run. */
struct queue *queue_open(struct server *server, const char **error);
void queue_free(struct queue *q); /* after the loops have ended */

void queue_start(struct queue *q);
void queue_reload(struct queue *q); /* there is a new configuration */
void queue_drain(struct queue *q);  /* no new tries */
void queue_close(struct queue *q);  /* its handles, so that the loop can end */

/* The lane of spool changes; any loop. */
struct lane *queue_lane(struct queue *q);
struct spool *queue_spool(struct queue *q);

enum queue_event {
    QUEUE_ACTIVE, /* it lies in the spool, and whoever tells this is still trying it */
    QUEUE_AGAIN,  /* something is still owed: from the loop that tried it */
    QUEUE_GONE,   /* it is out of the spool */
    QUEUE_HELD,   /* it lies in hold/ */
};

/* From any loop: what has become of a message. attempt: its results about destinations; may be
 * NULL. The envelope is only read. */
void queue_tell(struct queue *q, struct loop *loop, enum queue_event event,
                const struct envelope *e, const struct attempt *attempt, bool is_unreachable);

/* Any thread: is this destination known to be down now? */
bool queue_is_down(struct queue *q, const char *destination);

/* A spooled message is still being tried by the conversation that brought it, and so in memory.
 * False: there are qmgr_message_active_limit of them; call it off. Any thread. */
bool queue_begin_late(struct queue *q, const struct params *p);
void queue_end_late(struct queue *q);

/* A round is over, or there was none: logs, and puts the record on the lane, again and again until
 * it is written. done() as in record.h, with r->owner. */
void queue_settle(struct queue *q, struct loop *loop, struct record *r);

/* "flush ID...", "hold ID...", "release ID...", "delete ID...", "flush all", "status". */
void queue_command(struct control_call *call);

struct schedule_counts queue_count(struct queue *q);
int64_t queue_oldest_s(struct queue *q); /* age of the oldest message in seconds; 0: none */

#endif
