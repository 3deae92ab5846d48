/* conn - one client: pumps bytes between libuv, TLS and smtpd; waits and deadlines.
 * Life:   conn_accept() to the close callback of its socket. What it waits for (work threads)
 *         outlives it and finds it gone.
 * Reads:  while smtpd waits for something, at most one read's bytes are kept, then reading
 *         stops: the client waits in its own socket buffer. While replies cannot be sent,
 *         nothing is read either.
 * Bounds: one read of LOOP_COMMAND_READ_BYTES between commands; replies of one such read.
 * Thread: its loop's. */
#ifndef POSTERN_CONN_H
#define POSTERN_CONN_H

#include "server/loop.h"

struct listener;
struct tls_stream;

enum conn_phase {
    CONN_PROXY,     /* the PROXY header is to come */
    CONN_HANDSHAKE, /* TLS is being set up */
    CONN_SMTP,
    CONN_LINGER,    /* all is said: read and forget until the client closes */
};

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    struct conn *prev, *next; /* in loop->conns */
    struct loop *loop;        /* lent */
    struct smtpd smtpd;       /* owns */
    struct tls_stream *tls;   /* owns: NULL in plain text */
    uv_timer_t *sleep;        /* owns: while a reply is held back, or the banner */
    struct fact_key greet;    /* of the pause before the banner; text: owned, NULL: no pause */
    int64_t greet_began_ms;
    struct asker asker;       /* questions under way; they find out when we go */
    struct span in, cipher;   /* input of the callback at hand: plain, encrypted */
    struct buf held, held_cipher; /* owns: input that waits */
    struct buf delayed;       /* owns: output that waits for the timer */
    int64_t deadline_ms;      /* INT64_MAX: none */
    int64_t active_ms;        /* when it last got anywhere: a command, message bytes */
    enum conn_phase phase;
    int writes;               /* uv_write requests that are not done */
    bool is_reading, is_closing, has_eof, is_greeted, is_close_due, is_tls_from_start;
    bool is_waiting;          /* smtpd waits: input is kept, not read on */
    bool is_asking;           /* inside a question: the pump goes on by itself */
};

/* is_scarce: the place is one of those kept for clients that have brought mail before. */
void conn_accept(struct listener *listener, bool is_scarce);

/* Room is scarce: the connection that has been idle for longest (smtpd_idle_time at least) gets
 * 421. False: nobody is. Clients that have brought mail before stay. */
bool conn_make_room(struct loop *loop);

/* smtpd can go on. */
void conn_resume(struct conn *c);

/* Once a second. */
void conn_check_deadline(struct conn *c, int64_t now_ms);

/* The server is going down: 421 now if the client is idle, after its message otherwise. */
void conn_drain(struct conn *c);
void conn_close(struct conn *c, const char *error);

/* smtpd's question for a fact. */
void conn_ask(struct smtpd *d, const struct fact_key *key);

/* ------------------------------------------------------------ between conn*.c */

static inline const struct params *conn_params(const struct conn *c)
{
    return c->smtpd.smtp.params;
}

/* conn.c. Whoever is told that the connection is gone (false) must not touch it again. */
void conn_pump(struct conn *c);
int conn_send(struct conn *c, struct span bytes); /* as they are; 0 or -errno */
bool conn_flush(struct conn *c); /* sends the loop's out, through TLS if there is any */
void conn_hold_input(struct conn *c);
void conn_start_reading(struct conn *c);
void conn_stop_reading(struct conn *c);
void conn_set_deadline(struct conn *c, int64_t timeout_ms);
void conn_end_sleep(struct conn *c);
void conn_say_goodbye(struct conn *c, const char *why); /* 421 */
void conn_learn(struct asker *asker, const struct fact *fact);

/* conn_tls.c */
void conn_begin_tls(struct conn *c);
bool conn_shake_hands(struct conn *c);
bool conn_decrypt(struct conn *c);
void conn_encrypt(struct conn *c); /* the loop's out */

/* conn_greet.c: the pause before the banner */
void conn_begin_greet(struct conn *c, const struct fact_key *key);
void conn_client_talked(struct conn *c);

/* conn_accept.c: the PROXY header */
void conn_read_proxy(struct conn *c, struct span bytes);
void conn_refuse_proxy(struct conn *c);

#endif
