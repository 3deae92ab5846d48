/* greylist - a stranger's first mail is asked to come again (RFC 6647): the decision, pure.
 * Semantics: postgrey's (spec 11.1): a triplet of who, sender and recipient waits delay_s; its
 *         first success must come within retry_window_s; a client with auto_allow_clients
 *         successes (counted once an hour) is let through without triplet. What was not seen for
 *         max_age_s counts as never seen, swept already or not.
 * Who:    greylist_key chooses: the confirmed identity (SPF domain, else registrable domain of
 *         the PTR name unless it looks dynamic, else the network), the network, or the address.
 * Times:  seconds since the epoch, in records and arguments; a time in the future (the clock was
 *         set back) counts as now.
 * Text:   the fact's key is "WHO/SENDER/RECIPIENT<TAB>CLIENT", lower case; its value is
 *         greylist_print()'s.
 * Thread: any. */
#ifndef POSTERN_GREYLIST_H
#define POSTERN_GREYLIST_H

#include "protocol/buf.h"
#include "protocol/ip.h"

struct greylist_params {
    int64_t delay_s, retry_window_s, max_age_s;
    int auto_allow_clients; /* successes; 0: off */
    int auto_allow_senders; /* the same for client and sender domain together; 0: off */
};

/* What is kept of a triplet, and of a client or a client with a sender domain. first 0: none. */
struct greylist_record {
    int64_t first_s, last_s;
    uint32_t count; /* successes */
};

enum greylist_result {
    GREYLIST_WAIT,       /* wait_s more seconds */
    GREYLIST_FIRST_PASS, /* came back in time: waited_s seconds late */
    GREYLIST_PASS,       /* has passed before */
    GREYLIST_KNOWN,      /* a client, or client and sender, that has proved itself */
    GREYLIST_ALLOWED,    /* by hand: allow, expect */
};
enum { GREYLIST_RESULT_COUNT = GREYLIST_ALLOWED + 1 };

struct greylist_decision {
    enum greylist_result result;
    int64_t wait_s, waited_s;
    bool triplet_changed, client_changed, pair_changed; /* records to store */
};

/* Looks at the records and brings them up to date. */
struct greylist_decision greylist_decide(const struct greylist_params *p,
                                         struct greylist_record *triplet,
                                         struct greylist_record *client,
                                         struct greylist_record *pair, int64_t now_s);

/* May the record be forgotten? is_triplet: one that never succeeded goes after the retry
 * window already. */
bool greylist_is_stale(const struct greylist_params *p, const struct greylist_record *r,
                       bool is_triplet, int64_t now_s);

/* "user@domain" as it counts: lower case, BATV tag and extension off, numbers as '#'; the null
 * sender is "<>". */
void greylist_sender(struct buf *out, struct span sender);

/* Does a PTR name look made from the address, or handed out to customers by the dozen? */
bool greylist_looks_dynamic(struct span name, const struct ip *ip);

/* The network of a client: /24 and /64 by default. */
void greylist_network(struct buf *out, const struct ip *ip, int v4_bits, int v6_bits);

/* "wait 120", "first 310", "pass", "known", "allowed", and back. */
void greylist_print(struct buf *out, const struct greylist_decision *d);
bool greylist_parse(struct span text, struct greylist_decision *d);

#endif
