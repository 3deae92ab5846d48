/* smtp_session - the SMTP server's state machine (RFC 5321 receipt; 1870, 2034, 2920, 3030,
 * 3207, 3461, 6152, 6531, 9422; XCLIENT).
 * Owns:   the peer, the HELO name, the transaction; nothing of the connection.
 * Pulled: smtp_session_next() consumes input, appends replies to *out and says what it needs.
 *         It never calls out. Fed one byte at a time it does the same as fed whole, except that
 *         only input already at hand can be seen as talking out of turn.
 * Needs:  whoever drives it answers SMTP_NEED_VERDICT and SMTP_NEED_COMMIT with
 *         smtp_session_answer(); NULL or code 0 means yes. Until then next() repeats the need.
 * Errors: a bad command is a reply, never an error of ours. Replies are Postfix's.
 * Bounds: those of params; a rejected recipient leaves no memory behind.
 * Thread: any, one at a time. */
#ifndef POSTERN_SMTP_SESSION_H
#define POSTERN_SMTP_SESSION_H

#include "protocol/params.h"
#include "protocol/smtp_data.h"
#include "protocol/smtp_line.h"
#include "protocol/smtp_param.h"
#include "protocol/smtp_path.h"
#include "protocol/smtp_peer.h"
#include "protocol/smtp_reply.h"
#include "protocol/smtp_verb.h"

enum smtp_need {
    SMTP_NEED_INPUT,   /* everything is consumed: flush *out, read */
    SMTP_NEED_VERDICT, /* s->ask: may this go on? */
    SMTP_BODY,         /* s->body: message bytes; take them before the next call */
    SMTP_NEED_COMMIT,  /* the message is complete: make it durable, then answer */
    SMTP_RESET,        /* the transaction ended without delivery: drop what belongs to it */
    SMTP_REJECTED,     /* s->refusal: the machine itself refused a MAIL or a message (for the log) */
    SMTP_SLEEP,        /* wait s->sleep_ms before *out may go */
    SMTP_NEED_TLS,     /* flush *out, discard plaintext input, shake hands, smtp_session_secured() */
    SMTP_CLOSE,        /* flush *out, close; s->close_reason says why */
};

enum smtp_ask {
    SMTP_ASK_CONNECT, /* before the banner, also after XCLIENT: s->peer may be new */
    SMTP_ASK_HELO,    /* s->helo is the new name */
    SMTP_ASK_MAIL,    /* s->mail.sender, s->mail.params */
    SMTP_ASK_RCPT,    /* s->rcpt */
    SMTP_ASK_VRFY,    /* s->rcpt */
    SMTP_ASK_DATA,    /* first DATA or BDAT of the transaction */
    SMTP_ASK_STARTTLS,
    SMTP_ASK_COMMAND, /* s->command is a word we do not know: is it forbidden? */
};

enum smtp_close_reason {
    SMTP_CLOSE_NONE,
    SMTP_CLOSE_QUIT,
    SMTP_CLOSE_REPLY,     /* a 421 or 521 was sent */
    SMTP_CLOSE_ERRORS,    /* smtpd_hard_error_limit */
    SMTP_CLOSE_TIMEOUT,
    SMTP_CLOSE_SYNC,      /* talked out of turn */
    SMTP_CLOSE_FORBIDDEN, /* smtpd_forbidden_commands */
    SMTP_CLOSE_BARE_LF,
    SMTP_CLOSE_SHUTDOWN,
};

/* What the driver decides once a connection (and again after XCLIENT). */
struct smtp_features {
    unsigned discard_ehlo; /* enum smtp_ehlo bits not to announce */
    bool starttls_ok, tls_required, smtputf8_ok, xclient_ok;
    bool bare_newline_reject; /* smtpd_forbid_bare_newline = reject, client not excluded */
};

enum smtp_ehlo { /* in the order of announcement */
    SMTP_EHLO_PIPELINING = 1,
    SMTP_EHLO_SIZE = 2,
    SMTP_EHLO_VRFY = 4,
    SMTP_EHLO_STARTTLS = 8,
    SMTP_EHLO_XCLIENT = 16,
    SMTP_EHLO_ENHANCEDSTATUSCODES = 32,
    SMTP_EHLO_8BITMIME = 64,
    SMTP_EHLO_DSN = 128,
    SMTP_EHLO_SMTPUTF8 = 256,
    SMTP_EHLO_CHUNKING = 512,
    SMTP_EHLO_LIMITS = 1024,
};

/* Bit of a keyword of smtpd_discard_ehlo_keywords; 0 if there is none by this name. */
unsigned smtp_ehlo_bit(struct span keyword);

struct smtp_rcpt {
    struct smtp_rcpt *next;
    struct smtp_path path;
    struct smtp_rcpt_params params;
    void *route; /* lent: the driver's, kept with an accepted recipient */
};

struct smtp_mail {
    bool is_open;        /* between MAIL and its end */
    struct arena memory; /* owns: sender, parameters, recipients */
    struct smtp_path sender;
    struct smtp_mail_params params;
    struct smtp_rcpt *rcpts, **rcpts_end; /* accepted ones, in order */
    int rcpt_count, rcpt_overshoot;
};

enum smtp_state {
    SMTP_STATE_START,  /* nothing sent yet */
    SMTP_STATE_COMMAND,
    SMTP_STATE_VERDICT,
    SMTP_STATE_DATA,   /* behind 354 */
    SMTP_STATE_BDAT,   /* inside a chunk */
    SMTP_STATE_COMMIT,
    SMTP_STATE_TLS,
    SMTP_STATE_DENIED, /* the client list refused the connection: only QUIT is served */
    SMTP_STATE_CLOSE,
};

struct smtp_count {
    uint16_t ok, all;
    uint16_t temporary, permanent; /* last reply 4xx, 5xx */
};

struct smtp_session {
    const struct params *params; /* shares */
    struct smtp_features features;
    struct smtp_peer peer; /* owns */
    struct arena scratch;  /* owns: this command's strings */
    struct buf *out;       /* lent: for one call */
    const char *localtime; /* lent by the driver: for smtpd_reject_footer */
    struct smtp_line line;
    struct smtp_data data;
    struct smtp_mail mail;

    char *helo;        /* owns; NULL: none yet */
    char *helo_before; /* owns: of SMTP_ASK_HELO; comes back if the new name is refused */
    bool is_esmtp, is_tls;
    bool has_talked_early; /* set by the driver: input was waiting before the banner */
    bool may_talk_early;   /* set by the driver: that was judged already */
    bool is_out_of_turn;   /* sticky: what reject_unauth_pipelining looks at */
    bool has_bare_lf;      /* for the disconnect line */

    enum smtp_state state;
    enum smtp_ask ask;
    enum smtp_verb verb; /* the command at hand, the last one otherwise */
    enum smtp_close_reason close_reason;
    struct span command;      /* its word; in scratch */
    struct span argument;     /* what followed it; in scratch */
    struct smtp_rcpt rcpt;    /* the candidate of SMTP_ASK_RCPT and _VRFY; in scratch */
    struct smtp_reply denial; /* SMTP_STATE_DENIED: the reply that replaced the banner */
    struct smtp_reply refusal;
    struct span body;
    int64_t sleep_ms;

    /* BDAT */
    uint64_t chunk_bytes, chunk_left_bytes;
    enum { BDAT_NONE, BDAT_ACTIVE, BDAT_FAILED } bdat;
    bool chunk_is_last, chunk_is_skipped;

    bool is_too_big, is_mail_over, is_reset_due, is_refusal_due, is_sleep_due, has_failed,
        is_uncounted;
    int errors, junk_commands;
    int reply_code; /* the last one */
    struct smtp_count counts[SMTP_VERB_COUNT];
};

void smtp_session_init(struct smtp_session *s, const struct params *params);
void smtp_session_fini(struct smtp_session *s);

enum smtp_need smtp_session_next(struct smtp_session *s, struct span *in, struct buf *out);

/* reply NULL or code 0: yes. For SMTP_NEED_COMMIT a reply is always needed. */
void smtp_session_answer(struct smtp_session *s, const struct smtp_reply *reply, struct buf *out);

/* The handshake is done: forget everything the client said before (RFC 3207 4.2). */
void smtp_session_secured(struct smtp_session *s);

/* Ends the session with this reply, whatever it is doing (timeout, shutdown, over a limit). */
void smtp_session_end(struct smtp_session *s, enum smtp_close_reason why,
                      const struct smtp_reply *reply, struct buf *out);

/* "421 4.4.2 HOST Error: timeout exceeded" and the end. */
void smtp_session_timeout(struct smtp_session *s, struct buf *out);

/* SMTP or ESMTP. */
const char *smtp_session_protocol(const struct smtp_session *s);

#endif
