/* smtp_reply - one SMTP reply as a value, and its wire form (RFC 5321 4.2, RFC 2034).
 * Shape:  code and text as Postfix words them: "5.7.1 <a@b>: Relay access denied". The text
 *         may hold '\n' for further lines; each line gets the code, and continuation lines of
 *         a reply with an enhanced code repeat that too.
 * Bounds: a line is cut at 510 bytes before CR LF; what cannot be printed becomes a blank.
 * Thread: any. */
#ifndef POSTERN_SMTP_REPLY_H
#define POSTERN_SMTP_REPLY_H

#include "protocol/buf.h"

struct smtp_reply {
    int code;             /* 0: no reply, which means "accepted" where a verdict is given */
    const char *enhanced; /* "5.7.1"; NULL or "": none */
    const char *text;     /* shares: with whoever made the reply */
};

enum { SMTP_REPLY_LINE_MAX = 510 };

void smtp_reply_write(struct buf *out, const struct smtp_reply *reply);

/* "CODE E TEXT" on one line, for logs. */
void smtp_reply_print(struct buf *out, const struct smtp_reply *reply);

/* soft_bounce: 5xx becomes 4xx, in the enhanced code too (spec 1.9). enhanced_room holds the
 * new code and must live as long as the reply. */
struct smtp_reply smtp_reply_softened(struct smtp_reply reply, char enhanced_room[16]);

static inline bool smtp_reply_is_error(const struct smtp_reply *reply)
{
    return reply->code >= 400;
}

/* A reply of 421 or 521 ends the connection (spec 1.6). */
static inline bool smtp_reply_closes(const struct smtp_reply *reply)
{
    return reply->code == 421 || reply->code == 521;
}

/* Length of an enhanced status code "d.ddd.ddd" at the start of text, 0 if there is none. */
size_t smtp_enhanced_length(struct span text);

#endif
