/* attempt - one round over all that is owed of one message: Maildirs through the commit lane, next
 * hops through the loop's pool (queue/lmtp.h), each destination on its own. Every recipient's
 * result is noted in the envelope and logged in Postfix's words; nothing is written to the spool
 * here (server/record.h). Recipients that are marked as skipped stay owed.
 * Twice:  a Maildir file of a spooled message has a name of its own for ever, so that one that is
 *         there already counts as delivered.
 * Ends:   done() once, in a later turn of the loop, when the last recipient has his result.
 * Owns:   the envelope, the configuration's reference, message_fd.
 * Thread: its loop's. */
#ifndef POSTERN_ATTEMPT_H
#define POSTERN_ATTEMPT_H

#include "queue/envelope.h"
#include "queue/lmtp.h"
#include "server/loop.h"

struct attempt {
    /* given */
    struct loop *loop;
    struct config *config;    /* owns: one reference */
    struct envelope envelope; /* owns */
    uint64_t number;          /* for the log */
    struct span head;         /* lent: in front of the body, for everybody */
    struct body body;         /* lent; has_head: the file begins with that head */
    int message_fd;           /* owns: -1: none */
    void (*done)(struct attempt *a);
    void *owner;
    /* made */
    struct arena memory;      /* owns */
    struct part *parts;
    size_t pending;
    struct reached {          /* what was found out about destinations */
        struct reached *next;
        const char *destination;
        bool is_reached;
    } *reached;
    bool is_starting, is_unreachable; /* a recipient is owed only because his host is not there */
};

/* Everything but what is given is zero. */
void attempt_start(struct attempt *a);
void attempt_fini(struct attempt *a);

/* What can still be called off ends soon (lmtp_cancel()). */
void attempt_cancel(struct attempt *a);

#endif
