/* bounce - what is said about a message's fate to who sent it (RFC 3461, 3464, 6522; 6533 for
 * addresses in UTF-8).
 * Whether: bounce_plan() decides for each recipient: NOTIFY, the null sender (never a bounce for
 *          a bounce), expiry, the warning about a delay. It marks what is told (rcpt->report) and
 *          moves the states on, so that each thing is told once.
 * What:    one multipart/report: words for people, the fields of RFC 3464, and the message (its
 *          header section alone if RET=HDRS, if it is larger than the limit, or if nothing
 *          failed). Everything of a peer's in it is escaped.
 * Thread:  any; reading the message blocks. */
#ifndef POSTERN_BOUNCE_H
#define POSTERN_BOUNCE_H

#include "queue/envelope.h"
#include "queue/schedule.h"

/* True: there is something to be told. dsn_is_passed: the next hop tells of success itself. */
bool bounce_plan(struct envelope *e, const struct schedule_limits *limits, int64_t now_s);

/* Nobody can be told: what has failed is to be told another time. Back to where it was. */
void bounce_put_off(struct envelope *e);

struct bounce {
    const char *id;         /* of the notification */
    const char *myhostname, *mail_name;
    const char *date, *arrival_date; /* RFC 5322 */
    const char *retry_until;         /* of delayed recipients */
    uint64_t size_limit;    /* bounce_size_limit */
    int message_fd;         /* lent; -1: the message cannot be read */
    uint64_t message_bytes;
};

/* Appends the whole message. *is_8bit, *is_utf8: what its envelope needs. 0 or -errno. */
int bounce_write(const struct bounce *b, const struct envelope *e, struct buf *out,
                 bool *is_8bit, bool *is_utf8);

/* For the log: "sender non-delivery notification". */
const char *bounce_name(const struct envelope *e);

#endif
