/* record - changes of the spool on their way to the disk: a lane (server/lane.h), so that messages
 * that are spooled or dealt with at the same moment share their fsyncs (queue/spool.h).
 * Create:  the message and its envelope; then it is ours.
 * Settle:  after a round of tries: what has ended is told to the sender if he is to be told
 *          (queue/bounce.h), in a message of its own that is durable first; then the envelope
 *          says what is still owed, or the message is gone. With nobody to tell it to a failure
 *          stays in the envelope, and is tried again until the message's lifetime is over.
 * Move:    to hold/ or back. Remove: it is forgotten without a word.
 * Read:    the envelope and the message, beside the lane; what cannot be read is set aside.
 * Again:   a record that failed may be put again, and does what is still to be done: what was
 *          decided and what has succeeded stays.
 * Owns:    nothing that is given; has_bounce: its envelope, until record_fini().
 * Thread:  record_put() any loop; work on the lane's thread; done() the loop again. */
#ifndef POSTERN_RECORD_H
#define POSTERN_RECORD_H

#include "queue/schedule.h"
#include "queue/spool.h"
#include "server/lane.h"

struct config;
struct params;

enum record_kind { RECORD_CREATE, RECORD_SETTLE, RECORD_MOVE, RECORD_REMOVE, RECORD_READ };

struct record {
    struct lane_item item;
    /* given */
    enum record_kind kind;
    struct config *config;      /* lent */
    struct envelope *envelope;  /* lent: of a read, to be filled */
    char id[QUEUE_ID_MAX];
    enum spool_folder folder;   /* of a move: where it goes to */
    struct span head;           /* create: see struct spool_change */
    const struct body *body;
    uint64_t skip_bytes;
    int message_fd;             /* read: made */
    uint64_t message_bytes;     /* the same */
    int64_t age_s;              /* settle: of the message, by a clock that does not jump */
    bool is_unreachable;        /* settle: the next try waits for the destination, not for its time */
    void (*done)(struct loop *loop, struct record *r);
    void *owner;
    /* made */
    struct spool *spool;        /* lent: the lane's */
    int result;                 /* 0 or -errno */
    bool is_prepared;
    bool is_removed;            /* nothing is owed any more */
    bool is_untold;             /* nobody takes the notification */
    bool has_bounce;
    struct envelope bounce;     /* owns: of the notification */
    const char *bounce_name;
    char bounce_id[QUEUE_ID_MAX];
    int64_t now_s;              /* wall clock */
    struct buf text, bounce_text, bounce_body; /* owns */
    struct body bounce_message;
    struct spool_change changes[2];
    size_t change_count;
};

void record_lane_init(struct lane *lane, struct spool *spool);

void record_put(struct lane *lane, struct loop *loop, struct record *r);
void record_fini(struct record *r);

struct schedule_limits record_limits(const struct params *p);

#endif
