/* handoff - a message that needs more than a Maildir, from the end of its data until the client has
 * an answer and somebody else has the message (DESIGN 3, "verdict mode").
 * Tried first: the next hops get it while the client waits. If all recipients fare alike, and it
 *        is the next hop's own word, the client gets that answer, and nothing is kept. If not
 *        (some were refused, a host cannot be reached), the message is spooled with what is still
 *        owed, then the client gets 250; what was refused comes back as a bounce.
 * Slow:  after delivery_verdict_time_limit the message is spooled, the client gets 250, and the
 *        try goes on: its results are those of the spooled message, so that nobody is asked twice.
 *        If it cannot be spooled the client waits on.
 * Word of success: a sender who asked for it gets it from the spool, after 250.
 * Spooled first: with delivery_verdict = no, on hold, and when a destination is known to be down;
 *        then it is tried from the spool.
 * Left:  a client that goes away before its answer comes sends the message again: what is under
 *        way ends, and nothing is kept.
 * Thread: the loop of the connection. */
#ifndef POSTERN_HANDOFF_H
#define POSTERN_HANDOFF_H

#include "queue/delivery.h"

struct loop;

/* smtpd_delivered() once the client's answer is known. */
void handoff_start(struct loop *loop, struct delivery *delivery);

#endif
