/* restriction - THE table: one row per name that may stand in a restriction list (spec 2).
 * A row without check is not served; its text says why, at start-up.
 * Thread: any. */
#ifndef POSTERN_RESTRICTION_H
#define POSTERN_RESTRICTION_H

#include "policy/eval.h"

enum argument_kind {
    ARG_NONE,
    ARG_MAP,    /* type:name */
    ARG_NUMBER, /* digits */
};

struct restriction {
    const char *name; /* lower case */
    enum argument_kind argument;
    enum verdict (*check)(struct eval *e, const struct rule *r);
    const char *text; /* what it does, for the manual; without check: why it is not here */
};

extern const struct restriction restrictions[];
extern const size_t restriction_count;

/* The row of that name, any case; an old name gives the row of the new one. */
const struct restriction *restriction_find(struct span name);

/* The nearest known name, for messages; NULL if none is near. */
const char *restriction_nearest(struct span name);

/* The row that runs a class; the row that runs a bare table in a given list (NULL: none). */
extern const struct restriction restriction_class_row;
const struct restriction *restriction_for_table(enum list_name list);

/* ------------------------------------------------------------ the checks, check_*.c */

enum verdict check_permit(struct eval *e, const struct rule *r);
enum verdict check_reject(struct eval *e, const struct rule *r);
enum verdict check_defer(struct eval *e, const struct rule *r);
enum verdict check_defer_if_permit(struct eval *e, const struct rule *r);
enum verdict check_defer_if_reject(struct eval *e, const struct rule *r);
enum verdict check_dunno(struct eval *e, const struct rule *r);
enum verdict check_unauth_pipelining(struct eval *e, const struct rule *r);
enum verdict check_plaintext_session(struct eval *e, const struct rule *r);
enum verdict check_class(struct eval *e, const struct rule *r);

enum verdict check_mynetworks(struct eval *e, const struct rule *r);
enum verdict check_inet_interfaces(struct eval *e, const struct rule *r);

enum verdict check_unauth_destination(struct eval *e, const struct rule *r);
enum verdict check_defer_unauth_destination(struct eval *e, const struct rule *r);
enum verdict check_auth_destination(struct eval *e, const struct rule *r);
enum verdict check_unlisted_recipient(struct eval *e, const struct rule *r);
enum verdict check_unlisted_sender(struct eval *e, const struct rule *r);

#endif
