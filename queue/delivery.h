/* delivery - one accepted message and who is still owed a copy of it.
 * Life:   made when the message is complete; prepared into a commit (commit.h); freed when every
 *         recipient has its result. It outlives the client: whoever waits for the result is
 *         `owner`, and may go away (NULL).
 * Owns:   the intake (the message's bytes), all texts, the commit's items.
 * Thread: one at a time: the loop, then a work thread while commit_run() has it, then the loop. */
#ifndef POSTERN_DELIVERY_H
#define POSTERN_DELIVERY_H

#include "protocol/arena.h"
#include "queue/commit.h"
#include "queue/intake.h"

enum { QUEUE_ID_MAX = 24 };

struct delivery_rcpt {
    struct delivery_rcpt *next;
    struct span address, original; /* final; as the client gave it */
    const char *mailbox;           /* Maildir; NULL: nothing to write (discard) */
    const char *transport;         /* "virtual", "discard": for the log */
};

struct delivery {
    struct arena memory; /* owns: texts and arrays */
    struct intake intake; /* owns */
    char queue_id[QUEUE_ID_MAX];
    struct span sender;
    struct delivery_rcpt *rcpts, **rcpts_end; /* in order */
    size_t count;
    struct span prepends; /* header lines above Received: */
    struct span received; /* the Received: header */
    int64_t arrived_ms;
    uint64_t number;       /* of the connection, for the log */
    struct body body;
    struct commit commit;
    void *owner; /* lent: who waits; NULL: nobody any more */
};

struct delivery *delivery_new(const char *queue_id, struct span sender, int64_t arrived_ms);
void delivery_free(struct delivery *d);

/* Copies what it points to; the same address for the same original counts once. */
void delivery_add(struct delivery *d, const struct delivery_rcpt *rcpt);

/* Takes all recipients out. */
void delivery_clear(struct delivery *d);

/* Fills d->commit: a Maildir item for each recipient that has a mailbox. unique: part of the
 * file names that nothing else has. */
void delivery_prepare(struct delivery *d, const char *base, const char *unique,
                      bool newline_is_lf);

/* If exactly one file will be written: the trace headers in front of it, for the intake. */
bool delivery_single_head(const struct delivery *d, struct buf *head);

#endif
