/* plan - restriction lists from main.cf text to compiled, checked rules (spec 2.1, 1.7, 1.8).
 * Errors: unknown names (with the nearest), missing arguments, names that are not served, and
 *         missing relay protection go to problems as errors; items behind permit, reject or
 *         defer as warnings.
 * Thread: any. */
#ifndef POSTERN_PLAN_H
#define POSTERN_PLAN_H

#include "policy/policy.h"

struct plan_context {
    const struct policy *policy; /* its classes are known already */
    struct policy *registry;     /* where tables, lists and servers are entered; NULL: the list
                                    comes from a table, and may only use what is known */
    struct arena *memory;
    struct problems *problems;
    const char *parameter;
    enum list_name list;
};

void plan_compile(struct rules_list *out, struct span text, const struct plan_context *context);

/* Adds an error unless relay or recipient list refuses what is not ours (spec 1.8). */
void plan_check_relay(const struct policy *policy, struct problems *problems);

/* Does any list or class hold this restriction? (Access tables may name it all the same.) */
bool policy_uses(const struct policy *policy, const char *restriction);

/* Are addresses verified by probes? */
bool policy_verifies(const struct policy *policy);

#endif
