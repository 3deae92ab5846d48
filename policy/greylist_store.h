/* greylist_store - greylist records in the store (store_db.h): decisions in batches, expiry in
 * steps, and what "postern greylist" does.
 * Records: by tag 'T' triplets, 'C' clients, 'P' clients with a sender domain, 'A' allowed by
 *         hand, 'E' expected recipients. (The sweep also removes what the server remembers under
 *         'G' until its time is over.) A triplet keeps the first GREYLIST_LABEL_MAX bytes of
 *         "sender>recipient" for whoever lists it. What was allowed or is expected is also held in
 *         memory, as every decision asks for it.
 * Errors: those of store_db.h; a batch that fails changes nothing.
 * Thread: one at a time (the store lane); blocks. */
#ifndef POSTERN_GREYLIST_STORE_H
#define POSTERN_GREYLIST_STORE_H

#include "policy/greylist.h"
#include "policy/store_db.h"
#include "policy/table.h"

enum { GREYLIST_LABEL_MAX = 24, GREYLIST_SWEEP_STEP = 500 };

struct greylist_store {
    struct store *store;  /* lent */
    struct table *by_hand; /* owns: "A text" -> "", "E recipient" -> until */
};

struct greylist_request {
    struct greylist_request *next;
    struct span key; /* "WHO/SENDER/RECIPIENT<TAB>CLIENT" */
    struct greylist_params params;
    int64_t now_s;
    struct greylist_decision decision; /* out */
};

/* Reads what was allowed by hand. */
int greylist_store_begin(struct greylist_store *g, struct store *store);
void greylist_store_end(struct greylist_store *g);

/* All requests in one transaction. */
int greylist_store_decide(struct greylist_store *g, struct greylist_request *requests);

/* One step of the sweep from *at on; *at all zero at its begin, *is_done at its end. *removed
 * counts. */
int greylist_store_sweep(struct greylist_store *g, const struct greylist_params *p,
                         int64_t now_s, struct store_key *at, int *removed, bool *is_done);

/* A verb of "postern greylist" with its words; text for people goes to out, bit by bit through
 * more calls while *is_done is false (list and stats walk the whole store). */
struct greylist_command {
    const char *verb;  /* "list", "stats", "allow", "forget", "expect" */
    const char *words; /* the rest of the line */
    struct store_key at;
    int64_t counts[8];
    bool is_done;
};

int greylist_store_command(struct greylist_store *g, struct greylist_command *c,
                           const struct greylist_params *p, int64_t now_s, struct buf *out);

#endif
