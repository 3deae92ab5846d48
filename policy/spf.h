/* spf - Sender Policy Framework (RFC 7208) with libspf2, its look-ups answered by facts.
 * Pure:   an evaluation asks nothing itself; what it misses goes to the outcome's missing and
 *         also, so that all of it is fetched together, and it runs again.
 * Around the library: a gate that reads the record first (one record, strict syntax, what
 *         libspf2 gets wrong rewritten), counters of our own (10 terms with look-ups and 2 void
 *         ones in all, 10 names for ptr and mx), and an own explanation fetcher: Debian's version
 *         can be crashed by a stranger's explanation record, counts by include, and knows no
 *         limit of void look-ups.
 * Owns:   nothing; texts live in the outcome's memory.
 * Thread: any; the library's server object is per thread. */
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

struct spf {
    enum spf_result result;
    enum spf_identity identity;
    const char *domain;      /* whose record was asked for; "" if there is none to ask */
    const char *explanation; /* SPF_FAIL: the domain's own words, or ""; printable ASCII */
    const char *problem;     /* SPF_PERMERROR, SPF_TEMPERROR: why, in a few words; or "" */
};

extern const char *const spf_result_names[]; /* "none", "neutral", "pass", ... */

/* The MAIL FROM identity; for the null sender postmaster@HELO (RFC 7208 2.4). VERDICT_PENDING, or
 * VERDICT_DUNNO with *out filled. wants_explanation: look it up after a fail. */
enum verdict spf_check_mailfrom(struct eval *e, bool wants_explanation, struct spf *out);

/* The HELO identity (RFC 7208 2.3); SPF_NONE if the HELO name is no full host name. */
enum verdict spf_check_helo(struct eval *e, struct spf *out);

/* "pass (mx.example.org: domain of a@b designates 192.0.2.1 as permitted sender)
 * client-ip=...; envelope-from=...; ..." behind "Received-SPF: " (RFC 7208 9.1). */
void spf_received_header(struct buf *out, const struct eval *e, const struct spf *spf);

#endif
