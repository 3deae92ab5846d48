/* smtpd - one SMTP conversation whole: the protocol machine, the policy, the message on its way
 * in, and the log, but no socket, no clock and no thread. The server drives it over libuv, the
 * script tests without anything.
 * Pulled: smtpd_next() consumes input, appends replies to *out, and says what it needs. What it
 *         cannot do itself it asks of its services (facts, commits, spills); the answers come
 *         back through smtpd_learn(), smtpd_delivered(), smtpd_spilled(), and then the driver
 *         calls smtpd_next() again.
 * Owns:   session, facts, transaction; a reference to the configuration. A delivery under way
 *         outlives the conversation: it loses its owner and is logged all the same.
 * Thread: the loop of its connection. */
#ifndef POSTERN_SMTPD_H
#define POSTERN_SMTPD_H

#include "policy/greet.h"
#include "policy/route.h"
#include "policy/run.h"
#include "protocol/smtp_session.h"
#include "queue/delivery.h"
#include "server/config.h"
#include "server/log.h"

struct clients;
struct crowd;
struct smtpd;
struct stats;

/* When a general warning was last written. */
struct smtpd_warning {
    uint64_t hash;
    int64_t at_ms;
};

enum { SMTPD_WARNINGS = 64, SMTPD_WARN_EVERY_MS = 3600 * 1000 };

/* What a conversation gets from outside; one per loop. */
struct smtpd_services {
    struct log *log;
    struct clients *clients;   /* shared by all loops */
    struct stats *stats;       /* NULL: nobody counts */
    struct crowd *crowd;       /* shared by all loops; NULL: nobody looks */
    void *context;             /* the driver's */
    int64_t now_ms;            /* monotonic, kept up to date by the driver */
    int64_t (*wall_us)(struct smtpd_services *services); /* since the epoch */
    const char *(*date)(struct smtpd_services *services); /* RFC 5322, for Received: */
    bool is_stressed;          /* connections at the limit: the stressed values count */
    bool is_space_low;         /* queue_minfree (spec 9.3) */
    unsigned loop_index;
    uint64_t last_id;          /* of queue ids */
    struct smtpd_warning warnings[SMTPD_WARNINGS];
    /* A decision was made, before its effects: d->run.out tells which (may be NULL). */
    void (*decided)(struct smtpd *d, enum verdict verdict);
    /* Fetches a fact; smtpd_learn() now or later. */
    void (*ask)(struct smtpd *d, const struct fact_key *key);
    /* Remembers a text for so long (FACT_REMEMBERED); may be NULL. */
    void (*remember)(struct smtpd *d, const char *text, int64_t ttl_ms);
    /* Makes a delivery durable or hands it on, as delivery_needs_queue() has it; smtpd_delivered()
     * later, with or without its owner. */
    void (*deliver)(struct smtpd_services *services, struct delivery *delivery);
    /* intake_spill() on a work thread; smtpd_spilled() later, with or without its owner. */
    void (*spill)(struct smtpd_services *services, struct delivery *delivery);
};

enum smtpd_need {
    SMTPD_INPUT, /* flush *out, read */
    SMTPD_WAIT,  /* flush *out, do not read: an answer is on its way */
    SMTPD_SLEEP, /* d->smtp.sleep_ms before *out may go */
    SMTPD_TLS,   /* flush *out, throw plaintext input away, shake hands */
    SMTPD_CLOSE, /* flush *out, close */
};

struct smtpd {
    struct smtp_session smtp;         /* owns */
    struct config *config;            /* shares: one reference */
    struct smtpd_services *services;  /* lent */
    void *conn;                       /* lent: the driver's */
    uint64_t number;                  /* of the connection, for the log */
    struct ip client_ip;              /* of the connection itself, for the limits */

    struct policy_run run;            /* owns */
    struct envelope_in in;
    struct facts facts;               /* owns */
    struct greet greet;               /* what was found before the banner */
    struct raised {                   /* defer_if_permit of the client, HELO, sender list, */
        struct smtp_reply reply;      /* or of one before it; code 0: none */
        struct arena memory;          /* owns: its texts */
    } raised[STAGE_MAIL + 1];
    struct target *targets;           /* of the RCPT at hand, in run.out.memory */
    enum route_status route_status;
    const char *route_text;

    char queue_id[QUEUE_ID_MAX];      /* "": the transaction has none yet */
    struct delivery *delivery;        /* owns, until it is under way */
    struct text_item *prepends, *bccs; /* in smtp.mail.memory */
    const char *redirect;             /* in smtp.mail.memory; NULL: none */
    int64_t mail_began_ms;
    bool is_discard, is_hold;         /* access actions */

    bool is_waiting;                  /* for a fact, a delivery or a spill */
    bool is_lent;                     /* the delivery is with a work thread */
    bool has_answer;                  /* the session's question is decided: answer */
    struct smtp_reply answer;         /* code 0: yes; texts in run.out.memory or answer_memory */
    struct arena answer_memory;       /* owns */
    struct buf rescue;                /* owns: input moved out of the intake's way */
    bool is_traced;                   /* decisions tell which rules ran on what */
    bool is_greeted;                  /* "connect from" was logged */
    char *tls_text;                   /* owns: "TLSv1.3 with cipher ..." */
    char *tls_protocol, *tls_cipher, *tls_sni; /* owns: its parts, for policy servers */
    int tls_bits;
    unsigned transactions;            /* counted, for instance */
    char instance[48];                /* unique for the transaction */
};

void smtpd_init(struct smtpd *d, struct config *config, struct smtpd_services *services,
                const struct ip *client, uint16_t client_port, const struct ip *server,
                uint16_t server_port, uint64_t number);
void smtpd_fini(struct smtpd *d);

enum smtpd_need smtpd_next(struct smtpd *d, struct span *in, struct buf *out);

void smtpd_learn(struct smtpd *d, const struct fact *fact);

/* The delivery is durable or has failed (delivery->end); logs it, tells its owner if it still has
 * one, and frees it, unless it is_kept. Returns the owner, whose conversation can go on now; NULL: nobody waits. */
struct smtpd *smtpd_delivered(struct smtpd_services *services, struct delivery *delivery);

/* Some of the message is on disk. Returns the owner; NULL: nobody waits, the message is freed. */
struct smtpd *smtpd_spilled(struct delivery *delivery);

/* Room to read message bytes into without copying; NULL: none now. */
char *smtpd_room(struct smtpd *d, size_t *size);
bool smtpd_is_receiving(const struct smtpd *d);

/* TLS is up; text is "PROTOCOL with cipher CIPHER (BITS/...)"; sni may be NULL. */
void smtpd_secured(struct smtpd *d, const char *text, const char *sni);

/* The connection is over: writes the last log lines. error: NULL, or what broke it. */
void smtpd_closed(struct smtpd *d, const char *error);

/* ------------------------------------------------------------ between smtpd*.c */

void smtpd_log(struct smtpd *d, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *smtpd_client(const struct smtpd *d); /* "name[address]"; valid until the next call */
void smtpd_log_reject(struct smtpd *d, const char *action, const char *command,
                      const char *reply);
void smtpd_log_reply(struct smtpd *d, const char *command, const struct smtp_reply *reply);
/* Members for the line about one recipient; status is "dsn=2.0.0, status=sent (...)". */
void smtpd_log_delivery(struct smtpd_services *services, const char *queue_id, const struct delivery_rcpt *r,
                        const char *status, int64_t delay_ms);
void smtpd_log_disconnect(struct smtpd *d, const char *error);

/* smtpd_verdict.c: decides s->ask; sets has_answer now or later. */
void smtpd_decide(struct smtpd *d);

/* The decision: yes (code 0) or a reply, whose texts are copied. */
void smtpd_answer(struct smtpd *d, const struct smtp_reply *reply);

/* smtpd_message.c */
void smtpd_take_body(struct smtpd *d, struct span body, struct span *in);
void smtpd_commit(struct smtpd *d);
void smtpd_run_end_of_data(struct smtpd *d); /* smtpd_verdict.c; then smtpd_deliver() */
void smtpd_deliver(struct smtpd *d);
void smtpd_add_targets(struct smtpd *d, const struct smtp_rcpt_params *dsn);
void smtpd_new_queue_id(struct smtpd_services *services, char text[QUEUE_ID_MAX]);
void smtpd_drop_message(struct smtpd *d);
void smtpd_begin_message(struct smtpd *d);

#endif
