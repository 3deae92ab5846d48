/* xclient - the XCLIENT command: another identity for this connection (spec 9.9).
 * In:     the argument of the command: NAME=value pairs, values in xtext.
 * Out:    a whole new peer, HELO name and protocol; the old peer is only replaced on success.
 * Errors: NULL, or the reply for the first bad attribute (text in the arena).
 * Thread: any. */
#ifndef POSTERN_XCLIENT_H
#define POSTERN_XCLIENT_H

#include "protocol/smtp_peer.h"
#include "protocol/smtp_reply.h"

#define XCLIENT_ATTRIBUTES "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"

struct xclient {
    struct smtp_peer *peer; /* lent: changed in place */
    const char *helo;       /* in peer's memory; NULL: not given */
    enum { XCLIENT_PROTO_NONE, XCLIENT_PROTO_SMTP, XCLIENT_PROTO_ESMTP } proto;
};

const struct smtp_reply *xclient_parse(struct span args, struct arena *scratch,
                                       struct xclient *out);

#endif
