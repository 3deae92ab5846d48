/* envelope_in - what is known about a client and its message when a list runs.
 * Owns:   nothing; all of it belongs to the session and stays put during a run.
 * Thread: as the session. */
#ifndef POSTERN_ENVELOPE_IN_H
#define POSTERN_ENVELOPE_IN_H

#include "protocol/smtp_peer.h"
#include "protocol/smtp_reply.h"

/* The command that is being answered (policy protocol's protocol_state). */
enum stage {
    STAGE_CONNECT,
    STAGE_HELO,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_VRFY,
    STAGE_DATA,
    STAGE_END_OF_DATA,
};

struct envelope_in {
    enum stage stage;
    const struct smtp_peer *peer;
    const char *helo;     /* NULL: none */
    const char *protocol; /* "SMTP", "ESMTP" */
    const char *queue_id; /* "" until there is one */
    bool is_ehlo;         /* STAGE_HELO: it is EHLO that is being answered */
    bool has_sender;      /* MAIL was given; an empty sender is the null sender */
    bool has_recipient;
    struct span sender, recipient; /* internal form, as given */
    int recipient_count;           /* accepted so far */
    uint64_t size_bytes;           /* announced; at end of data the real one */
    const char *instance; /* unique for a transaction */
    bool is_tls, is_out_of_turn, is_stressed;
    bool is_crowd; /* its address is that of all clients: mynetworks means nothing (server/crowd.h) */
    bool is_discarding; /* DISCARD was said: nothing is refused any more (spec 1.5) */
    const char *tls_protocol, *tls_cipher, *tls_sni; /* "" without TLS */
    int tls_bits;
    struct smtp_reply raised; /* defer_if_permit of an earlier stage (delay_reject = no) */
    const char *date;     /* RFC 5322, of now */
    int verify_poll_count; /* address_verify_poll_count */
    bool is_delay_told;   /* the transaction has its X-Greylist: header */
    int64_t now_ms;
    int64_t wall_s;       /* since the epoch */
};

#endif
