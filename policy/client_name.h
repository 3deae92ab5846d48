/* client_name - the client's names, from PTR and the way back (spec 2.2).
 * Verified is the first of at most CLIENT_NAMES_MAX PTR names whose addresses hold the client's;
 * the reverse name is the first PTR name that is a host name at all. (Postfix sees only one PTR
 * name, whichever its resolver puts first.)
 * Thread: as the evaluation. */
#ifndef POSTERN_CLIENT_NAME_H
#define POSTERN_CLIENT_NAME_H

#include "policy/eval.h"

enum { CLIENT_NAMES_MAX = 5 };

struct client_name {
    const char *name, *reverse_name; /* NULL: unknown; in the outcome's memory */
    enum smtp_name_status name_status, reverse_status;
};

/* VERDICT_PENDING, or VERDICT_DUNNO with *out filled. */
enum verdict client_name_find(struct eval *e, struct client_name *out);

#endif
