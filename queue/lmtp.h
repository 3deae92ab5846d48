/* lmtp - messages to the next hop over LMTP or SMTP (RFC 2033, 5321): one pool of connections for
 * each event loop.
 * Job:    one message (or one question, see body) for some recipients of one next hop. Embedded in
 *         whoever wants it done, who fills "given"; lmtp_start() begins it, done() ends it, exactly
 *         once, on the loop, never before lmtp_start() has returned. Everything the job points to
 *         is lent until then. In done() every recipient has its result; done() may free the job,
 *         after lmtp_job_fini(), and may start others.
 * Result: in the backend's own words where it said something (LMTP_SAID); else what went wrong,
 *         with a code and text of ours. Codes are 2xx, 4xx or 5xx; a permanent code of ours stands
 *         only for what no retry can mend (a UTF-8 address for a host without SMTPUTF8, a domain
 *         that takes no mail).
 * Dot:    LMTP_LOST is certainly not delivered. LMTP_UNKNOWN is a message whose last dot went out
 *         and whose answer never came: it must be tried again, and may then arrive twice.
 * Cancel: lmtp_cancel() gives the job up while that is safe: before the last dot is sent it ends in
 *         one of the next turns (LMTP_CANCELLED, nothing was delivered). Behind it nothing changes:
 *         the answer is waited for, as the backend may have taken the message. Somebody who no
 *         longer wants to wait but keeps the message does nothing at all: done() comes anyway.
 * Time:   a timeout for each command (lmtp_*_timeout, smtp_*_timeout), and the job's deadline for
 *         everything before the last dot, waiting in line included. done() is sure to come.
 * Line:   at most lmtp_destination_concurrency_limit (smtp_...) connections for a next hop; jobs
 *         beyond wait in line, LMTP_LINE_MAX at most, then they end at once as LMTP_UNREACHABLE.
 *         No next hop waits for another. Questions go first and may open one connection more;
 *         for LMTP_DOWN_MS after nobody was reached they end at once, as somebody waits for them.
 *         If a host cannot be reached, the whole line hears it. Idle connections are used again;
 *         one that turns out to have been closed meanwhile costs a new try, not the job.
 * Bytes:  head and body go out as message lines: CR LF only (a bare LF becomes CR LF, a bare CR a
 *         blank), dots stuffed, a last line end added if it is missing. At most two pieces of
 *         LMTP_PIECE_BYTES in memory; files are read on work threads.
 * Peer:   lines, continuation lines and texts are bounded (protocol/smtp_client.h); texts in
 *         results are escaped, one line, at most LMTP_TEXT_MAX.
 * Thread: the loop's. */
#ifndef POSTERN_LMTP_H
#define POSTERN_LMTP_H

#include "protocol/arena.h"
#include "protocol/buf.h"
#include "protocol/params.h"
#include "protocol/smtp_param.h"
#include "queue/maildir.h"

enum { LMTP_TEXT_MAX = 500, LMTP_LINE_MAX = 10000, LMTP_PIECE_BYTES = 65536,
       LMTP_DOWN_MS = 10000 };

struct lmtp_pool;
struct lmtp_task;

enum lmtp_protocol { LMTP_PROTOCOL_LMTP, LMTP_PROTOCOL_SMTP };

enum lmtp_source {
    LMTP_SAID,        /* the backend answered for this recipient, with yes or no */
    LMTP_UNREACHABLE, /* not connected, or not greeted: another try may use another time or host */
    LMTP_LOST,        /* the connection broke or timed out before the last dot was sent */
    LMTP_UNKNOWN,     /* ... behind it: perhaps delivered */
    LMTP_UNABLE,      /* the next hop cannot take this message (5xx of ours) */
    LMTP_CANCELLED,
};

struct lmtp_result {
    enum lmtp_source source;
    int code;             /* 250, 451, 550 ... */
    const char *enhanced; /* "5.1.1"; "" if the backend gave none */
    const char *text;     /* without codes: "<a@b> User unknown" */
    const char *command;  /* static, what was answered: "MAIL FROM", "RCPT TO", "DATA",
                             "end of DATA"; "" */
};

struct lmtp_rcpt {
    struct span address; /* given: internal form */
    unsigned notify;     /* given: enum smtp_notify bits; passed on if the next hop has DSN */
    struct span orcpt;   /* given: "rfc822;xtext"; empty: none */
    struct lmtp_result result; /* made: texts in the job's memory */
};

struct lmtp_job {
    /* given */
    enum lmtp_protocol protocol;
    const char *nexthop; /* "unix:PATH", "inet:HOST[:PORT]", "[HOST][:PORT]": that host;
                            "DOMAIN[:PORT]": with SMTP the domain's MX hosts in order, with LMTP the
                            host itself; "mx:DOMAIN": the MX hosts of a domain that a stranger has
                            named (also "mx:[ADDRESS]"), as is_public_only */
    struct span sender;  /* internal form; empty: the null sender */
    struct smtp_mail_params mail; /* size_bytes of head and body (0: unknown), is_8bitmime,
                                     is_smtputf8, ret, envid; each passed on if it is offered */
    struct lmtp_rcpt *rcpts; /* one transaction: split what exceeds the recipient limit */
    size_t count;            /* at least 1 */
    struct span head;        /* trace headers in front of the body; not sent if body->has_head */
    const struct body *body; /* NULL: only ask whether the recipients would be taken; then RSET */
    int64_t timeout_ms;      /* the deadline, from lmtp_start() on; 0: none of its own */
    bool is_public_only;     /* only addresses that outside->allows(): for hosts that strangers
                                have named */
    void (*done)(struct lmtp_job *job);
    void *owner;

    /* made */
    const char *host;    /* who answered: "mx.example.org[192.0.2.1]:25", "PATH[unix socket]",
                            or the next hop itself if nobody was reached */
    bool dsn_is_passed;  /* NOTIFY, ORCPT, RET, ENVID were given to the next hop */
    bool is_tls;
    struct arena memory; /* owns: result texts, host */
    struct lmtp_task *task; /* the pool's; NULL: not under way */
};

/* NULL, or what is wrong with a next hop; for checking a configuration. */
const char *lmtp_nexthop_check(enum lmtp_protocol protocol, const char *nexthop);

void lmtp_start(struct lmtp_pool *pool, struct lmtp_job *job);
void lmtp_cancel(struct lmtp_job *job);

/* Frees the results; the job is not under way. */
void lmtp_job_fini(struct lmtp_job *job);

/* For the log and for reports: "host H said: 550 5.1.1 TEXT (in reply to RCPT TO command)", or
 * what went wrong. */
void lmtp_result_print(struct buf *out, const struct lmtp_job *job,
                       const struct lmtp_result *result);

/* ------------------------------------------------------------ the pool, for the server */

struct uv_loop_s;

enum lmtp_question { LMTP_ASK_A, LMTP_ASK_AAAA, LMTP_ASK_MX };
enum lmtp_dns { LMTP_DNS_FOUND, LMTP_DNS_NONE, LMTP_DNS_RETRY };

/* records: as policy/fact.h has them, each with its length (two bytes) in front. Called once,
 * perhaps before resolve() returns. */
typedef void lmtp_resolved(void *arg, enum lmtp_dns status, struct span records);

/* TLS as bytes in, bytes out; see server/tls.h. No certificate is verified: that is no worse than
 * what happens without (RFC 7435). */
enum lmtp_tls_result { LMTP_TLS_DATA, LMTP_TLS_WANT, LMTP_TLS_CLOSED, LMTP_TLS_FAILED };

struct lmtp_tls {
    void *(*begin)(void *context, const char *host);
    enum lmtp_tls_result (*read)(void *stream, struct span *cipher, char *room, size_t room_size,
                                 size_t *size, struct buf *out);
    bool (*write)(void *stream, struct span plain, struct buf *out);
    bool (*is_ready)(const void *stream);
    void (*free)(void *stream);
};

struct ip;

struct lmtp_outside {
    struct uv_loop_s *uv;
    const struct params *params; /* copied from; see lmtp_pool_set_params() */
    unsigned loops;              /* among which the limits are shared; 0: one */
    void *context;
    const struct lmtp_tls *tls;  /* NULL: there is none */
    /* May a host that a stranger has named have this address? NULL: no. */
    bool (*allows)(void *context, const struct ip *ip);
    void (*resolve)(void *context, enum lmtp_question kind, struct span name,
                    lmtp_resolved *answer, void *arg);
    /* A file read is under way on a work thread, or has come back; may be NULL. */
    void (*work_begun)(void *context);
    void (*work_done)(void *context);
};

struct lmtp_pool *lmtp_pool_new(const struct lmtp_outside *outside);

/* From the next connection on. */
void lmtp_pool_set_params(struct lmtp_pool *pool, const struct params *params);

/* Ends all jobs (before the last dot LMTP_CANCELLED, behind it LMTP_UNKNOWN) and connections; a job
 * whose file is being read ends when the work thread is through. The handles close in the loop's
 * next turns. */
void lmtp_pool_free(struct lmtp_pool *pool);

#endif
