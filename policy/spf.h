/* spf - Sender Policy Framework (RFC 7208), its look-ups answered by facts.
 * Pure:   an evaluation asks nothing itself; what it misses goes to the outcome's missing and
 *         also, so that all of it is fetched together, and it runs again.
 * Inside: spf_gate.h reads records, spf_macro.h expands names and explanations, spf_layer.h
 *         counts look-ups and asks for facts, spf_library.h has libspf2 decide.
 * Local:  clients on a loopback address have no SPF result: nobody could publish one.
 * Owns:   nothing; texts live in the outcome's memory.
 * Thread: any. */
#ifndef POSTERN_SPF_H
#define POSTERN_SPF_H

#include "policy/eval.h"

enum spf_result {
    SPF_NONE,
    SPF_NEUTRAL,
    SPF_PASS,
    SPF_FAIL,
    SPF_SOFTFAIL,
    SPF_TEMPERROR,
    SPF_PERMERROR,
};

enum spf_identity { SPF_IDENTITY_MAILFROM, SPF_IDENTITY_HELO };

enum { SPF_RESULT_COUNT = SPF_PERMERROR + 1 };
enum { SPF_EXPLANATION_MAX = 300 }; /* bytes; what is longer is cut */

struct spf {
    enum spf_result result;
    enum spf_identity identity;
    const char *domain;      /* whose record was asked for; "" if there is none to ask */
    const char *explanation; /* SPF_FAIL: the domain's own words, or ""; printable ASCII */
    const char *problem;     /* SPF_PERMERROR, SPF_TEMPERROR: why, in a few words; or "" */
};

extern const char *const spf_result_names[]; /* "none", "neutral", "pass", ... */

/* The MAIL FROM identity; for the null sender postmaster@HELO (RFC 7208 2.4), which is the HELO
 * identity. VERDICT_PENDING, or VERDICT_DUNNO with *out filled. wants_explanation: look it up
 * after a fail. */
enum verdict spf_check_mailfrom(struct eval *e, bool wants_explanation, struct spf *out);

/* The HELO identity (RFC 7208 2.3); SPF_NONE if the HELO name is no full host name. */
enum verdict spf_check_helo(struct eval *e, bool wants_explanation, struct spf *out);

/* A whole Received-SPF: header (RFC 7208 9.1), folded, without the last line end. */
void spf_received_header(struct buf *out, const struct eval *e, const struct spf *spf);

/* A whole Authentication-Results: header (RFC 8601) of so many results and of the client's name
 * (iprev), folded, without the last line end. */
void spf_results_header(struct buf *out, const struct eval *e, const struct spf *results,
                        size_t count);

#endif
