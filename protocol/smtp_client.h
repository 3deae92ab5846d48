/* smtp_client - the other side of the conversation: SMTP and LMTP towards a next hop
 * (RFC 5321, 2033, 2920, 1870, 6152, 6531, 3461, 3207).
 * Pulled: smtp_client_next() consumes input, appends commands to *out, and says what it needs.
 *         Fed one byte at a time it does the same as fed whole.
 * Life:   begin, READY; then any number of transactions: smtp_client_send(), BODY with
 *         smtp_client_body() and smtp_client_body_end(), READY with all results; at last
 *         smtp_client_quit(). Lost or out of patience: smtp_client_lost(), which gives every
 *         recipient without a result one.
 * Asks:   only what the peer has offered: SIZE, BODY, SMTPUTF8, RET, ENVID, NOTIFY, ORCPT,
 *         pipelining (MAIL, RCPT and DATA together, SMTP_CLIENT_WINDOW commands ahead). 8-bit
 *         text goes to a peer without 8BITMIME as it is, as everybody else does it.
 * Result: one for each recipient. LMTP answers the last dot once for each accepted recipient:
 *         answers that are missing when the connection ends are UNKNOWN for their recipients;
 *         an answer too many spoils the connection, not the results. 421 ends the connection
 *         and answers for all who have no answer yet. A 354 without a recipient is not followed
 *         by a message.
 * Bounds: a line counts with its first SMTP_CLIENT_LINE_MAX bytes, a reply has at most
 *         SMTP_CLIENT_REPLY_LINES lines and SMTP_CLIENT_REPLY_BYTES; more, or what is no reply,
 *         is a broken connection. Texts are escaped, on one line, SMTP_CLIENT_TEXT_MAX bytes.
 * Owns:   the line and the reply at hand; texts of results lie in the arena given.
 * Thread: any, one at a time. */
#ifndef POSTERN_SMTP_CLIENT_H
#define POSTERN_SMTP_CLIENT_H

#include "protocol/arena.h"
#include "protocol/smtp_line.h"
#include "protocol/smtp_param.h"

enum {
    SMTP_CLIENT_LINE_MAX = 2048,
    SMTP_CLIENT_REPLY_LINES = 200,
    SMTP_CLIENT_REPLY_BYTES = 65536,
    SMTP_CLIENT_TEXT_MAX = 500,
    SMTP_CLIENT_WINDOW = 100,
};

enum smtp_client_need {
    SMTP_CLIENT_INPUT, /* send *out, read */
    SMTP_CLIENT_TLS,   /* send *out, throw away what is left of the input, shake hands; then
                          smtp_client_secured() */
    SMTP_CLIENT_READY, /* send *out; no transaction is open: the results are complete */
    SMTP_CLIENT_BODY,  /* the message, please */
    SMTP_CLIENT_CLOSE, /* send *out, close */
};

enum smtp_client_step {
    SMTP_CLIENT_GREETING,
    SMTP_CLIENT_HELLO,
    SMTP_CLIENT_HELO, /* EHLO was not understood */
    SMTP_CLIENT_STARTTLS,
    SMTP_CLIENT_HANDSHAKE,
    SMTP_CLIENT_IDLE,
    SMTP_CLIENT_ENVELOPE,
    SMTP_CLIENT_MESSAGE,
    SMTP_CLIENT_DOT,
    SMTP_CLIENT_QUIT,
    SMTP_CLIENT_CLOSED,
};

enum smtp_client_source {
    SMTP_CLIENT_NO_RESULT,
    SMTP_CLIENT_SAID,    /* the peer's own answer for this recipient */
    SMTP_CLIENT_UNABLE,  /* the peer has not what this message needs: ours, permanent */
    SMTP_CLIENT_LOST,    /* the connection ended before the last dot */
    SMTP_CLIENT_UNKNOWN, /* ... behind it */
};

enum { /* bits: what the peer has offered */
    SMTP_CLIENT_HAS_PIPELINING = 1,
    SMTP_CLIENT_HAS_SIZE = 2,
    SMTP_CLIENT_HAS_8BITMIME = 4,
    SMTP_CLIENT_HAS_SMTPUTF8 = 8,
    SMTP_CLIENT_HAS_DSN = 16,
    SMTP_CLIENT_HAS_STARTTLS = 32,
};

struct smtp_client_result {
    enum smtp_client_source source;
    int code;
    const char *enhanced; /* "5.1.1"; "" if the peer gave none */
    const char *text;     /* without codes */
    const char *command;  /* static: what it answers, "RCPT TO" */
};

struct smtp_client_rcpt {
    struct span address; /* given: internal form */
    unsigned notify;
    struct span orcpt;
    bool is_accepted;    /* at RCPT; made */
    bool is_left_out;    /* it had its result before anything was sent; made */
    struct smtp_client_result result; /* made */
};

struct smtp_client_mail {
    struct span sender; /* internal form */
    struct smtp_mail_params params;
    struct smtp_client_rcpt *rcpts; /* lent until READY, CLOSE or smtp_client_lost() */
    size_t count;
    bool is_question;     /* RSET instead of DATA: the answers to RCPT are the results */
    struct arena *memory; /* lent: for the texts of results */
};

struct smtp_client {
    /* given; the rest is zero at the start */
    bool is_lmtp;
    bool wants_tls, needs_tls; /* STARTTLS if it is offered; or else nothing */
    const char *hello;         /* lent: our name */

    enum smtp_client_step step;
    unsigned offered; /* SMTP_CLIENT_HAS_ bits */
    uint64_t size_limit_bytes; /* 0: none known */
    bool is_tls, is_ourselves; /* the peer has our own name */
    bool has_refused;          /* the greeting, LHLO or EHLO: *refusal has the words */
    bool is_dot_sent, is_dsn_passed;
    struct smtp_client_result refusal; /* texts in refusal_memory */
    struct arena refusal_memory;       /* owns */
    struct smtp_line line;             /* owns */
    int code;                          /* of the reply at hand */
    char enhanced[12];
    struct buf text;                   /* owns */
    size_t reply_lines, reply_bytes;
    unsigned skip; /* answers to RSET that are still to come */

    /* the transaction: command 0 is MAIL, then RCPTs, the last one DATA */
    struct smtp_client_mail mail;
    size_t sent, answered;
    size_t accepted, dot_answered;
    bool is_mail_refused, is_line_start, has_held_cr;
};

void smtp_client_begin(struct smtp_client *c);
void smtp_client_fini(struct smtp_client *c);
enum smtp_client_need smtp_client_next(struct smtp_client *c, struct span *in, struct buf *out);
void smtp_client_secured(struct smtp_client *c);

/* A transaction; only when READY. */
void smtp_client_send(struct smtp_client *c, const struct smtp_client_mail *mail);

/* Message bytes in pieces of any size, as they go out: dots stuffed, CR LF only. */
void smtp_client_body(struct smtp_client *c, struct span bytes, struct buf *out);

/* The last dot, from which on only the peer knows. */
void smtp_client_body_end(struct smtp_client *c, struct buf *out);

/* QUIT when nothing is open; then CLOSE. */
void smtp_client_quit(struct smtp_client *c, struct buf *out);

/* The connection is over; why: "connection timed out". Recipients without result get one. */
void smtp_client_lost(struct smtp_client *c, const char *why);

/* What is being waited for, "RCPT TO"; "" if nothing. */
const char *smtp_client_waits_for(const struct smtp_client *c);

static inline bool smtp_client_is_good(const struct smtp_client_result *r)
{
    return r->source == SMTP_CLIENT_SAID && r->code / 100 == 2;
}

#endif
