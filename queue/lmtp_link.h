/* lmtp_link - one connection of the pool (lmtp.h): finds the hosts, connects to one after the
 * other until one greets us, then carries transactions.
 * Events: ready()  no transaction is open: after the greeting, after a transaction (its results
 *                  are in the recipients), and when an idle peer says something harmless;
 *         body()   the message is wanted: link_body(), link_flush(); called again whenever all of
 *                  it has been written, until link_body_end();
 *         gone()   the connection is over, results are complete; free the link now. Always from
 *                  a turn of its own, never out of a call into the link.
 * Time:   the timeout of the command that waits; it begins anew with each answer, not with each
 *         byte. link_idle() limits the time without a transaction.
 * Thread: the loop's. */
#ifndef POSTERN_LMTP_LINK_H
#define POSTERN_LMTP_LINK_H

#include "protocol/smtp_client.h"
#include "queue/next_hop.h"

struct link;
struct link_sock;
struct uv_timer_s;

struct link_settings {
    uint64_t connect_ms, hello_ms, starttls_ms, mail_ms, rcpt_ms;
    uint64_t data_init_ms, data_xfer_ms, data_done_ms, idle_ms, reuse_ms;
    int concurrency;
    uint16_t port;
    bool is_lmtp, wants_tls, needs_tls;
    char *hello, *own_name, *directory; /* own: of relative socket paths */
};

struct link_events {
    void (*ready)(struct link *l);
    void (*body)(struct link *l);
    void (*gone)(struct link *l);
};

struct link {
    /* the pool's */
    struct link *next;
    void *hop, *task;
    bool is_cancelled; /* by us: says nothing about the next hop */
    unsigned uses; /* transactions begun */

    const struct lmtp_outside *outside;   /* lent */
    const struct link_settings *settings; /* lent */
    const struct link_events *events;
    const struct next_hop *where;         /* lent */
    bool is_public_only;
    char *hello;               /* owns */
    struct uv_timer_s *timer;  /* owns */
    struct hop_search *search; /* under way */
    struct hop_hosts *hosts;   /* owns */
    size_t at;                 /* the next one to try */
    char host[400];            /* "mx.example.org[192.0.2.1]:25" */
    struct link_sock *sock;    /* owns, until it closes by itself */
    void *tls;                 /* owns */
    struct smtp_client client; /* owns */
    struct buf out, wire;      /* own: to be sent, and the same encrypted */
    uint64_t opened_ms, progress;
    bool is_greeted, is_pumping, is_reading;
    bool skips_tls, is_tls_broken; /* in plain text, as the handshake came to nothing */
    bool has_failed;               /* the timer's next turn goes on */
    bool is_over;                  /* ... and tries no further host */
    bool is_timeout;
    int code;                      /* why nobody was reached: 4xx, or 5xx if that is for good */
    char enhanced[12];
    char why[600];
};

struct link *link_new(const struct lmtp_outside *outside, const struct link_settings *settings,
                      const struct link_events *events, const struct next_hop *where,
                      bool is_public_only);
void link_free(struct link *l);

/* Only while it is ready. */
void link_send(struct link *l, const struct smtp_client_mail *mail);
void link_idle(struct link *l, uint64_t ms);

/* Says goodbye; gone() follows. */
void link_quit(struct link *l);

/* Without a word. why: NULL, or for the results. */
void link_abort(struct link *l, const char *why);

void link_body(struct link *l, struct span bytes);
void link_body_end(struct link *l);
void link_flush(struct link *l);

/* All that was put in has been taken by the system. */
bool link_is_drained(const struct link *l);

#endif
