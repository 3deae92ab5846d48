/* drive - a whole conversation without sockets, threads or a clock: smtpd with services that do
 * nothing until they are told to. The script runner and the fuzz target both drive it.
 * Owns:   the conversation, the services, the log lines; shares the configuration.
 * Time:   virtual: services.now_ms moves only by drive_wait() and drive_wake(); the wall clock is
 *         a fixed date plus now_ms, so queue ids, dates and delays are the same in every run.
 * State:  after each call d->state says what the conversation waits for. One call at a time
 *         answers it; deliveries and spills may also end after their client has left.
 * Checks: drive_complaint() is NULL, or a promise that the program broke (a reply line that is
 *         too long or holds a control octet, a log line that does, input left unread).
 * Memory: each conversation and each read is an allocation of exactly its size, so that a
 *         sanitizer sees any step beside it. */
#ifndef POSTERN_TESTS_DRIVE_H
#define POSTERN_TESTS_DRIVE_H

#include "server/smtpd.h"

enum drive_state {
    DRIVE_NONE,       /* no client */
    DRIVE_READING,    /* the client may speak */
    DRIVE_ASKING,     /* d->question: drive_learn(); neighbours' questions wait behind it */
    DRIVE_DELIVERING, /* d->delivering[0] or a later one: drive_delivered() */
    DRIVE_SPILLING,   /* the same: drive_spilled() */
    DRIVE_SLEEPING,   /* d->smtpd->smtp.sleep_ms: drive_wake() */
    DRIVE_TLS,        /* the handshake: drive_secured() */
    DRIVE_CLOSED,     /* the server has closed the connection */
};

enum { DRIVE_LENT_MAX = 8, DRIVE_IDS_MAX = 64, DRIVE_QUESTIONS_MAX = 32 };

/* Asked, and not answered yet. */
struct drive_question {
    struct fact_key key;
    struct buf text; /* owns: key.text */
};

/* Deliveries that are with "a work thread", oldest first. */
struct drive_lent {
    struct delivery *items[DRIVE_LENT_MAX];
    size_t count;
};

struct drive {
    struct config *config; /* shares */
    struct smtpd_services services;
    struct log log;
    struct smtpd *smtpd; /* owns; NULL: no client */
    enum drive_state state;
    bool uses_room;   /* reads go into smtpd_room() when there is one, as the server's do */
    struct buf held;  /* owns: input that waits */
    struct buf out;   /* owns: replies that are held back */
    struct buf wire;  /* owns: replies the client has, to be taken by drive_line() */
    struct fact_key question; /* the one that is answered next */
    struct drive_question questions[DRIVE_QUESTIONS_MAX]; /* owns: it and those behind it */
    size_t question_count;
    struct drive_lent delivering, spilling;
    char ids[DRIVE_IDS_MAX][QUEUE_ID_MAX]; /* queue ids handed out, in order */
    size_t id_count;
    uint64_t noted_id;
    uint64_t number; /* of connections */
    const char *complaint;
};

void drive_init(struct drive *d, struct config *config);
void drive_fini(struct drive *d);

/* A client; its conversation starts with the first drive_feed(), which may hold what it says
 * before the banner, or nothing. A name that is NULL does not exist, unless it is to be looked
 * up: then the questions for it come. */
void drive_connect(struct drive *d, const struct ip *client, const char *name,
                   const char *reverse_name, bool is_looked_up);

/* One read from the network. While the server waits, the bytes are held. */
void drive_feed(struct drive *d, struct span bytes);

void drive_learn(struct drive *d, enum fact_status status, struct span value);
void drive_delivered(struct drive *d, int result); /* 0 or -errno */
void drive_handed_off(struct drive *d, enum delivery_end end, const struct smtp_reply *reply);
void drive_spilled(struct drive *d, int error);    /* 0: really done; else -errno */
void drive_wake(struct drive *d);                  /* the sleep is over, time has passed */
void drive_wait(struct drive *d, int64_t ms);
void drive_secured(struct drive *d, const char *text);
void drive_timeout(struct drive *d);

/* The client goes away; error: what the network said, or NULL. */
void drive_leave(struct drive *d, const char *error);

/* The next whole line the client got, or the program wrote to its log ("smtpd: text"), without
 * the line end. False: there is none. */
bool drive_line(struct drive *d, struct buf *line);
bool drive_log_line(struct drive *d, struct buf *line);

const char *drive_complaint(const struct drive *d);

/* Bytes a conversation holds that waits between two commands, outside a transaction. */
size_t drive_idle_bytes(const struct drive *d);

#endif
