/* auth_results - whose is an Authentication-Results: header (RFC 8601 2.2)? One that bears our
 * own name and came from outside is forged and must go (RFC 8601 5).
 * Lenient: what a reader of the message could take for our name counts as our name: any case, in
 *         quotes, behind comments and folds, with or without a version or a trailing dot.
 * Thread: any. */
#ifndef POSTERN_AUTH_RESULTS_H
#define POSTERN_AUTH_RESULTS_H

#include "protocol/span.h"

enum auth_results_owner {
    AUTH_RESULTS_UNKNOWN, /* the name may still come, in a folded line */
    AUTH_RESULTS_OURS,
    AUTH_RESULTS_OTHER,
};

/* value: what stands behind the colon so far. */
enum auth_results_owner auth_results_owner(struct span value, struct span own_id);

#endif
