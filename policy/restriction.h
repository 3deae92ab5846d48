/* restriction - THE table: one row per name that may stand in a restriction list (spec 2).
 * A row without check is not served; its text says why, at start-up.
 * Thread: any. */
#ifndef POSTERN_RESTRICTION_H
#define POSTERN_RESTRICTION_H

#include "policy/eval.h"
#include "policy/nearest.h"

enum argument_kind {
    ARG_NONE,
    ARG_MAP,    /* type:name */
    ARG_NUMBER, /* digits */
    ARG_DNSBL,  /* domain, or domain=filter */
    ARG_SERVER, /* inet:host:port, unix:path, { ... } */
};

enum restriction_flags {
    RESTRICTION_PERMITS = 1,    /* may permit: worth a look in front of relay protection */
    RESTRICTION_NO_PERMIT = 2,  /* OK in its table is a mistake (spec 2.9) */
    RESTRICTION_IS_ALLOWLIST = 4,
};

struct restriction {
    const char *name; /* lower case */
    enum argument_kind argument;
    enum verdict (*check)(struct eval *e, const struct rule *r);
    const char *text; /* what it does, for the manual; without check: why it is not here */
    enum subject subject;  /* what it is about, where one check serves several rows */
    enum fact_kind detail; /* FACT_MX, FACT_NS, FACT_A: whose hosts check_*_access looks up */
    unsigned flags;
    /* The DNS question it will ask first, so that neighbours are asked in parallel; may be NULL.
     * Only for rows whose facts have no side effect. */
    bool (*wants)(struct eval *e, const struct rule *r, struct fact_key *key);
};

extern const struct restriction restrictions[];
extern const size_t restriction_count;

/* The row of that name, any case; an old name gives the row of the new one. */
const struct restriction *restriction_find(struct span name);

/* Offers all names to somebody who looks for the nearest one. */
void restriction_try_nearest(struct nearest *nearest);

/* The rows behind a class, and behind a table that stands in a list by itself. */
extern const struct restriction restriction_class_row, restriction_table_row;

/* ------------------------------------------------------------ the checks, check_*.c */

enum verdict check_permit(struct eval *e, const struct rule *r);
enum verdict check_reject(struct eval *e, const struct rule *r);
enum verdict check_defer(struct eval *e, const struct rule *r);
enum verdict check_defer_if_permit(struct eval *e, const struct rule *r);
enum verdict check_defer_if_reject(struct eval *e, const struct rule *r);
enum verdict check_dunno(struct eval *e, const struct rule *r);
enum verdict check_sleep(struct eval *e, const struct rule *r);
enum verdict check_unauth_pipelining(struct eval *e, const struct rule *r);
enum verdict check_plaintext_session(struct eval *e, const struct rule *r);
enum verdict check_class(struct eval *e, const struct rule *r);
enum verdict check_greylist(struct eval *e, const struct rule *r);
enum verdict check_spf(struct eval *e, const struct rule *r);
enum verdict check_spf_fail(struct eval *e, const struct rule *r);
enum verdict check_spf_softfail(struct eval *e, const struct rule *r);
enum verdict check_spf_permerror(struct eval *e, const struct rule *r);
enum verdict check_spf_temperror(struct eval *e, const struct rule *r);
enum verdict check_policy_service(struct eval *e, const struct rule *r);

enum verdict check_mynetworks(struct eval *e, const struct rule *r);
enum verdict check_inet_interfaces(struct eval *e, const struct rule *r);
enum verdict check_unknown_client(struct eval *e, const struct rule *r);
enum verdict check_unknown_reverse_client(struct eval *e, const struct rule *r);
enum verdict check_unknown_forward_client(struct eval *e, const struct rule *r);

enum verdict check_invalid_helo(struct eval *e, const struct rule *r);
enum verdict check_non_fqdn_helo(struct eval *e, const struct rule *r);
enum verdict check_unknown_helo(struct eval *e, const struct rule *r);

enum verdict check_non_fqdn_address(struct eval *e, const struct rule *r);
enum verdict check_unknown_domain(struct eval *e, const struct rule *r);
enum verdict check_unverified(struct eval *e, const struct rule *r);

enum verdict check_unauth_destination(struct eval *e, const struct rule *r);
enum verdict check_defer_unauth_destination(struct eval *e, const struct rule *r);
enum verdict check_auth_destination(struct eval *e, const struct rule *r);
enum verdict check_unlisted_recipient(struct eval *e, const struct rule *r);
enum verdict check_unlisted_sender(struct eval *e, const struct rule *r);
enum verdict check_multi_recipient_bounce(struct eval *e, const struct rule *r);

enum verdict check_access(struct eval *e, const struct rule *r);
enum verdict check_host_access(struct eval *e, const struct rule *r); /* mx, ns, a */

enum verdict check_rbl(struct eval *e, const struct rule *r);
enum verdict check_dnswl(struct eval *e, const struct rule *r);
bool wants_rbl(struct eval *e, const struct rule *r, struct fact_key *key);

#endif
