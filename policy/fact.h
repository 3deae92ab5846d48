/* fact - what a decision may rest on and cannot compute itself: a look-up in a slow table, a DNS
 * answer, a policy server's word, a pause. "Could not find out" is a fact too.
 * Shape:  a key (kind, object, text) and a result. DNS facts hold records (see record_next());
 *         names in keys and records are lower case without a trailing dot.
 * Scope:  facts are forgotten when what they were found out for changes: the client, the HELO,
 *         the sender, the recipient. What has a side effect (a policy server, a pause) has the
 *         recipient's scope, so it happens once for each RCPT, DATA or end of data.
 * Owns:   the store owns copies of all keys and values, an arena per scope.
 * Bounds: by what evaluations ask (policy_fact_limit each).
 * Thread: any, one at a time. */
#ifndef POSTERN_FACT_H
#define POSTERN_FACT_H

#include "protocol/arena.h"
#include "protocol/buf.h"

enum fact_kind {
    FACT_A,      /* text: name; records: 4 bytes */
    FACT_AAAA,   /* text: name; records: 16 bytes */
    FACT_MX,     /* text: name; records: 2 bytes preference, host ("" for the null MX) */
    FACT_NS,     /* text: name; records: host */
    FACT_PTR,    /* text: reverse name; records: host */
    FACT_CNAME,  /* text: name; records: the host it is an alias of. Only doctor asks */
    FACT_TXT,    /* text: name; records: text, strings joined */
    FACT_MAP,    /* object: struct map; text: key; value: what was found */
    FACT_POLICY, /* object: struct policy_server; text: the request; value: the action */
    FACT_SLEEP,  /* text: "SECONDS NUMBER": the NUMBER-th pause of the run */
    FACT_GREYLIST, /* text: "WHO/SENDER/RECIPIENT<TAB>CLIENT"; value: greylist_print()'s */
    FACT_GREET,      /* text: MS to wait; value: "quiet", or "talked BYTES MS TEXT" */
    FACT_REMEMBERED, /* text: "greet ADDRESS"; found: remembered */
    FACT_PROBE,  /* text: probe_key(); value: the next hop's answer, probe_answer() */
    FACT_VERIFY, /* text: verify_key(); value: what is known, verify_answer_print() */
    FACT_KIND_COUNT
};

enum scope { SCOPE_CLIENT, SCOPE_HELO, SCOPE_SENDER, SCOPE_RCPT, SCOPE_COUNT };

enum fact_status {
    FACT_FOUND,
    FACT_NOT_FOUND,
    FACT_TEMPFAIL, /* could not be found out now */
    FACT_BROKEN,   /* can never be found out: malformed, or our own configuration is wrong */
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
    const char *source; /* static: "dns", "cache", "table", "given"; NULL: unknown */
    int64_t took_ms;
};

struct facts {
    struct arena memory[SCOPE_COUNT]; /* owns */
    struct fact *first[SCOPE_COUNT];
};

extern const char *const fact_kind_names[FACT_KIND_COUNT];

static inline bool fact_kind_is_dns(enum fact_kind kind)
{
    return kind <= FACT_TXT;
}

void facts_fini(struct facts *facts);

/* Forgets what belongs to this scope and the narrower ones behind it. */
void facts_forget(struct facts *facts, enum scope scope);
const struct fact *facts_find(const struct facts *facts, const struct fact_key *key);

/* Copies the fact; one with the same key must not be there yet. */
void facts_put(struct facts *facts, const struct fact *fact);
bool fact_key_equals(const struct fact_key *a, const struct fact_key *b);

/* Records in a value: each with its length in front. */
void record_add(struct buf *value, struct span record);
bool record_next(struct span *value, struct span *record);

/* A fact's result as text, "127.0.0.2, 127.0.0.4", "10 mx.example.org", and back again; "-" is
 * not found, "?" could not be found out, "!" broken. False: malformed. */
void fact_print(struct buf *out, const struct fact *fact);
bool fact_parse(enum fact_kind kind, struct span text, enum fact_status *status,
                struct buf *value);

/* The kind of that name; FACT_KIND_COUNT if there is none. */
enum fact_kind fact_kind_find(struct span name);

#endif
