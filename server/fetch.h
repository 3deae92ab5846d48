/* fetch - who can find out a missing fact: the DNS, a work thread (slow tables), a policy server,
 * or a timer.
 * struct fetcher belongs to a loop (or to "postern explain") and owns its DNS cache and its
 *                connections to policy servers and next hops.
 * struct asker   is embedded in whoever evaluates; it may leave while questions are under way:
 *                the answers then arrive into nothing.
 * learn() is called once for each question, perhaps before fetch_fact() returns; the value lives
 * during the call.
 * Thread: the loop's. */
#ifndef POSTERN_FETCH_H
#define POSTERN_FETCH_H

#include "policy/fact.h"
#include "server/config.h"

#include <stdatomic.h>
#include <uv.h>

struct dns;
struct lmtp_pool;
struct policy_client;
struct probe_cache;
struct question;
struct stats;
struct tls_client;
struct verifier;

/* payload: what was remembered, empty if nothing was; lives during the call. */
typedef void store_found(void *arg, bool is_good, struct span payload);

/* What next hops have answered; written by the loop, read by anybody. */
struct next_hop_counts {
    _Atomic uint64_t rcpt_yes, rcpt_no, rcpt_unknown, rcpt_cached; /* FACT_PROBE */
    _Atomic uint64_t probe_yes, probe_no, probe_unknown;           /* of FACT_VERIFY */
};

struct fetcher {
    uv_loop_t *uv;
    struct stats *stats;                  /* lent; NULL: nothing is counted */
    struct next_hop_counts counts;
    struct dns *dns;                      /* owns */
    struct policy_client *policy_clients; /* owns */
    struct lmtp_pool *lmtp;               /* owns: the loop's, for deliveries too (queue/lmtp.h) */
    struct probe_cache *probe_cache;      /* owns: see probe.h */
    struct tls_client *tls;               /* owns: towards next hops */
    struct verifier *verifier;            /* owns: see verify.h */
    unsigned loops;                       /* that share the limits of next hops; 0: one */
    void (*work_begun)(struct fetcher *fetcher); /* a question is under way off the loop */
    void (*work_done)(struct fetcher *fetcher);
    /* FACT_GREYLIST, FACT_REMEMBERED; NULL: there is no store. */
    void (*ask_store)(struct fetcher *fetcher, struct question *q);
    /* The store, for those who find out by themselves; found() once, perhaps before recall()
     * returns. NULL: there is none. */
    void (*recall)(struct fetcher *fetcher, const char *text, store_found *found, void *arg);
    void (*remember)(struct fetcher *fetcher, const char *text, int64_t until_s,
                     struct span payload);
    /* A line for the log; NULL: there is none. */
    void (*tell)(struct fetcher *fetcher, const char *component, const char *line);
    /* May a host that a stranger has named have this address? NULL: no. */
    bool (*allows)(struct fetcher *fetcher, const struct ip *ip);
    bool is_closing;
};

struct asker {
    struct question *questions; /* under way */
    struct config *config;      /* lent: its tables and servers are asked */
    void (*learn)(struct asker *asker, const struct fact *fact);
};

/* NULL, or why there is no DNS. */
const char *fetcher_init(struct fetcher *fetcher, uv_loop_t *uv, const struct params *params);
void fetcher_fini(struct fetcher *fetcher);

/* After a reload: for next hops. */
void fetcher_set_params(struct fetcher *fetcher, const struct params *params);

void fetch_fact(struct fetcher *fetcher, struct asker *asker, const struct fact_key *key);

/* The asker goes away. */
void fetch_leave(struct asker *asker);

/* ------------------------------------------------------------ for those who find out */

/* One question under way; asker is NULL once nobody waits for the answer. */
struct question {
    struct fetcher *fetcher;
    struct asker *asker;
    struct question *prev, *next; /* in asker->questions */
    struct config *config;        /* one reference: key.object lives as long */
    struct fact_key key;          /* text: owned */
    uint64_t began_ns;
    union {
        uv_work_t work;
        uv_timer_t *timer;
    } by;
    enum map_result result;       /* of a table */
    struct buf value;             /* owns */
};

/* Ends the question; frees it. */
void question_answer(struct question *q, enum fact_status status, struct span value,
                     const char *source);

#endif
