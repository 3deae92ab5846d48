/* delivery - one accepted message and who is still owed a copy of it.
 * Life:   made when the message is complete; prepared into a commit (commit.h) if all it needs is
 *         Maildirs, and handed to the next hops and the spool otherwise; freed when every
 *         recipient has its result or the message lies in the spool. It outlives the client:
 *         whoever waits for the result is `owner`, and may go away (NULL).
 * Head:   the trace headers. In a file of the intake's they stand in front, and which ones depends
 *         on what is known when the file begins: delivery_begin_file().
 * Owns:   the intake (the message's bytes), all texts, the commit's items.
 * Thread: one at a time: the loop, then a work thread while commit_run() has it, then the loop. */
#ifndef POSTERN_DELIVERY_H
#define POSTERN_DELIVERY_H

#include "protocol/arena.h"
#include "protocol/smtp_reply.h"
#include "queue/commit.h"
#include "queue/envelope.h"
#include "queue/intake.h"

struct delivery_rcpt {
    struct delivery_rcpt *next;
    struct span address, original; /* final; as the client gave it */
    const char *mailbox;           /* Maildir; NULL: nothing to write (discard) */
    const char *transport;         /* "virtual", "lmtp", "smtp", "discard" */
    const char *nexthop;           /* "lmtp", "smtp": where to */
    unsigned notify;               /* DSN: enum smtp_notify, and the client's ORCPT */
    struct span orcpt;
};

enum delivery_end {
    DELIVERY_COMMITTED, /* commit.result says how */
    DELIVERY_SPOOLED,   /* it is ours, and the client is told so */
    DELIVERY_ANSWERED,  /* reply: the next hop's own answer, or why there is none */
};

struct delivery {
    struct arena memory; /* owns: texts and arrays */
    struct intake intake; /* owns */
    char queue_id[QUEUE_ID_MAX];
    struct span sender;
    struct smtp_mail_params mail; /* its texts are ours */
    const char *client;           /* "name[address]" */
    struct delivery_rcpt *rcpts, **rcpts_end; /* in order */
    size_t count;
    struct span prepends; /* header lines above Received: */
    struct span received; /* the Received: header */
    int64_t arrived_ms;
    uint64_t number;       /* of the connection, for the log */
    struct body body;
    struct commit commit;
    void *owner; /* lent: who waits; NULL: nobody any more */
    bool is_hold;                 /* into the spool, and nothing else happens */
    bool is_spool_first;          /* delivery_verdict = no */
    enum { HEAD_NONE, HEAD_MAILBOX, HEAD_TRACE } file_head; /* what the intake's file begins with */
    const struct delivery_rcpt *head_rcpt; /* HEAD_MAILBOX: whose */
    size_t skip_bytes;            /* ... and how much of it is only his */
    enum delivery_end end;
    struct smtp_reply reply;      /* DELIVERY_ANSWERED: texts in memory */
    bool is_kept;                 /* the client has its answer, but we are still needed */
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

/* More than Maildirs written while the client waits: next hops, the spool, word of success. */
bool delivery_needs_queue(const struct delivery *d);

/* The intake is about to begin its file: what stands in front of it. All of a lone mailbox's trace
 * headers, so that the file itself becomes the mail; those that are for everybody, so that it
 * becomes the spool's; or none. */
void delivery_begin_file(struct delivery *d, bool newline_is_lf);

/* The headers in front of the message for everybody: not in a file that has them. */
struct span delivery_trace(struct delivery *d);

/* Who is owed what, for the spool. arrived_s: since the epoch. */
void delivery_envelope(const struct delivery *d, int64_t arrived_s, struct envelope *e);

/* The reply, and the words for the log, when a Maildir or the spool cannot be written. */
struct smtp_reply delivery_failure(int error, size_t count);

#endif
