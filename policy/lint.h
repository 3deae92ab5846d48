/* lint - what is allowed, works, and is probably not meant: warnings about a compiled policy.
 * Thread: any. */
#ifndef POSTERN_LINT_H
#define POSTERN_LINT_H

#include "policy/policy.h"

/* What the outside adds: the default gateway, if this host is a container. */
struct lint_host {
    bool is_container;
    struct ip gateway; /* family 0: none or unknown */
};

void lint_policy(const struct policy *policy, struct problems *problems);

/* The same about what this machine makes of it. */
void lint_on_host(const struct policy *policy, const struct lint_host *host,
                  struct problems *problems);

#endif
