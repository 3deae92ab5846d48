/* spf_layer - the DNS as one SPF evaluation sees it: facts, counted (RFC 7208 4.6.4).
 * Pure:   what is missing goes to the outcome and raises is_pending; the run is then worthless
 *         and begins anew when the fact is there. All counts start at 0 with it.
 * Limits: spf_lookup_limit terms with look-ups in the whole evaluation, spf_void_lookup_limit
 *         void answers to them, SPF_NAMES_MAX names of an MX or PTR answer, spf_time_limit of
 *         waiting. The first failure decides: spf_layer_fail().
 * Names:  as DNS carries them, lower case; what it cannot carry is "not found" unasked.
 * Thread: as the evaluation. */
#ifndef POSTERN_SPF_LAYER_H
#define POSTERN_SPF_LAYER_H

#include "policy/spf.h"
#include "policy/spf_macro.h"

enum { SPF_NAMES_MAX = 10 };

struct spf_layer {
    struct eval *e;
    enum scope scope;
    struct spf_macros macros; /* current and client_name are set for each expansion */
    int terms, voids;
    int64_t waited_ms;
    bool is_pending, has_failed;
    enum spf_result failure;
    const char *problem;
};

void spf_layer_fail(struct spf_layer *l, enum spf_result result, const char *problem);

/* Nothing that follows matters any more. */
static inline bool spf_layer_is_over(const struct spf_layer *l)
{
    return l->is_pending || l->has_failed;
}

/* A term with look-ups is looked at. False: it was one too many. */
bool spf_layer_count_term(struct spf_layer *l);

/* A void answer to a term of its own. False: one too many. */
bool spf_layer_count_void(struct spf_layer *l, const struct fact *answer);

/* The answer; NULL: over, or pending. */
const struct fact *spf_layer_ask(struct spf_layer *l, enum fact_kind kind, const char *name);

/* Asks for the addresses of all hosts at once, at most SPF_NAMES_MAX. */
void spf_layer_prefetch(struct spf_layer *l, struct span hosts, size_t skip);

/* FACT_A or FACT_AAAA: what the client's address is compared with. */
enum fact_kind spf_layer_address_kind(const struct spf_layer *l);

/* The name that a domain-spec in the record of that domain means, in the outcome's memory; ""
 * if DNS cannot carry it; NULL: pending. An empty spec is the domain itself. */
const char *spf_layer_name(struct spf_layer *l, struct span spec, const char *domain);

/* Fills in what the macros of this text need; false: pending. */
bool spf_layer_set_macros(struct spf_layer *l, struct span text, const char *domain);

/* Does a validated name of the client end with this one (RFC 7208 5.5)? A failure is no. */
bool spf_layer_client_is(struct spf_layer *l, const char *name);

#endif
