/* fact - what a decision may rest on and cannot compute itself: a look-up in a slow table, later
 * DNS answers, greylist records and the like. "Could not find out" is a fact too.
 * Shape:  a key (kind, object, text) and a result. Facts are forgotten by scope: when the HELO,
 *         the sender or the recipient changes, what was found out for it goes.
 * Owns:   the store owns copies of all keys and values, an arena per scope.
 * Bounds: by what evaluations ask (POLICY_MAX_ASKS each).
 * Thread: any, one at a time. */
#ifndef POSTERN_FACT_H
#define POSTERN_FACT_H

#include "protocol/arena.h"

enum fact_kind {
    FACT_MAP, /* object: struct map; text: the key */
    FACT_KIND_COUNT
};

enum scope { SCOPE_CLIENT, SCOPE_HELO, SCOPE_SENDER, SCOPE_RCPT, SCOPE_COUNT };

enum fact_status {
    FACT_FOUND,
    FACT_NOT_FOUND,
    FACT_TEMPFAIL, /* could not be found out now */
    FACT_BROKEN,   /* can never be found out: our own configuration is wrong */
};

struct fact_key {
    enum fact_kind kind;
    enum scope scope;
    void *object; /* lent: compared by address */
    struct span text;
};

struct fact {
    struct fact *next;
    struct fact_key key;
    enum fact_status status;
    struct span value;
};

struct facts {
    struct arena memory[SCOPE_COUNT]; /* owns */
    struct fact *first[SCOPE_COUNT];
};

void facts_fini(struct facts *facts);

/* Forgets what belongs to this scope and the narrower ones behind it. */
void facts_forget(struct facts *facts, enum scope scope);
const struct fact *facts_find(const struct facts *facts, const struct fact_key *key);

/* Copies the fact; a fact with the same key must not be there yet. */
void facts_put(struct facts *facts, const struct fact *fact);

#endif
