/* envelope - who a spooled message is from, who is still owed it, and how that went so far; and
 * its text form, which is what lies in the spool beside the message (queue/spool.h).
 * Text:   made for people with "less" as well: a first line with the version, then one item a
 *         line, "name value"; each recipient begins with "to" and its items are indented by a
 *         blank; the last line is "end", so that a torn file shows. A backslash, control octets
 *         and 8-bit octets that are no printable UTF-8 are written \xHH.
 * In:     envelope_parse() takes nothing on trust: -EBADMSG and no envelope for a text that
 *         envelope_print() cannot have written (unknown items, bad numbers, no end, an address
 *         with a line end in it); -EPROTONOSUPPORT for another version.
 * Owns:   all its texts, in one arena. Spans of the caller are copied.
 * Bounds: ENVELOPE_TEXT_MAX bytes of text.
 * Thread: any, one at a time. Pure. */
#ifndef POSTERN_ENVELOPE_H
#define POSTERN_ENVELOPE_H

#include "protocol/arena.h"
#include "protocol/buf.h"
#include "protocol/smtp_param.h"

enum { QUEUE_ID_MAX = 24, ENVELOPE_TEXT_MAX = 64 << 20 };

/* What is still to be done for a recipient. */
enum rcpt_state {
    RCPT_OWED,   /* the message */
    RCPT_SENT,   /* nothing, or the word that it was delivered (NOTIFY=SUCCESS) */
    RCPT_FAILED, /* the word that it cannot be delivered */
    RCPT_DONE,   /* nothing: not written any more */
};

/* What a notification says about a recipient (RFC 3464 2.3.3). */
enum dsn_action { DSN_NONE, DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED };

struct envelope_rcpt {
    struct envelope_rcpt *next;
    struct span address, original; /* final; as the client gave it */
    struct span orcpt;             /* "rfc822;xtext" as the client wrote it; empty: none */
    unsigned notify;               /* enum smtp_notify; 0: not given */
    const char *transport;         /* "virtual", "lmtp", "smtp", "discard" */
    const char *nexthop;           /* where to; of "virtual": the Maildir */
    enum rcpt_state state;
    int code;                      /* last result: reply code, 0: none yet */
    const char *enhanced, *text;   /* "4.2.2"; what was said; "": none */
    const char *relay;             /* who said it: "host[addr]:port", "virtual"; "": nobody */
    enum dsn_action report;        /* in the notification at hand; not written */
    bool is_said;                  /* the last result is the backend's own word; not written */
    bool is_skipped;               /* not in the round at hand: its host is down; not written */
};

struct envelope {
    struct arena memory; /* owns */
    char id[QUEUE_ID_MAX];
    int64_t arrived_s, next_s; /* since the epoch: arrival, next try */
    uint64_t size_bytes;       /* of the message */
    unsigned tries;
    const char *client; /* "name[address]", for people; "": it is our own */
    struct span sender, envid; /* envid: xtext as the client wrote it */
    enum smtp_ret ret;
    bool is_8bitmime, is_smtputf8;
    bool is_delay_told; /* delay_warning_time has passed and was dealt with */
    struct envelope_rcpt *rcpts, **rcpts_end; /* in order */
    size_t count;
};

void envelope_init(struct envelope *e, const char *id);
void envelope_fini(struct envelope *e);

/* Appends a copy; returns it. */
struct envelope_rcpt *envelope_add(struct envelope *e, const struct envelope_rcpt *rcpt);

/* The last result of a recipient; texts are copied. */
void envelope_note(struct envelope *e, struct envelope_rcpt *rcpt, int code,
                   const char *enhanced, const char *text, const char *relay);

void envelope_print(const struct envelope *e, struct buf *out);

/* 0 or -errno; *e is to be freed in both cases. */
int envelope_parse(struct envelope *e, struct span text);

/* How many recipients are in this state. */
size_t envelope_count(const struct envelope *e, enum rcpt_state state);

/* Where a recipient's mail goes, "lmtp:unix:/run/x": what a destination is in the schedule. */
void envelope_destination(const struct envelope_rcpt *rcpt, struct buf *out);

/* The one destination of all that are owed the message, in *out; false: there are several. */
bool envelope_single_destination(const struct envelope *e, struct buf *out);

/* "0" to "FFFFFFFFFFFFFFFF" in capitals without leading zeros: the only names in a spool. */
bool queue_id_parse(struct span text, uint64_t *id);
void queue_id_print(uint64_t id, char text[QUEUE_ID_MAX]);

#endif
