/* policy_server - a server that speaks Postfix's policy delegation protocol, as configured
 * (spec 11.2): "inet:host:port", "unix:path", or "{ server, name=value, ... }".
 * Host names are resolved when the configuration is read. Times are milliseconds.
 * Thread: reading any. */
#ifndef POSTERN_POLICY_SERVER_H
#define POSTERN_POLICY_SERVER_H

#include "policy/policy.h"

struct policy_server {
    struct policy_server *next;
    const char *argument; /* as written; what identifies it */
    const char *path;     /* unix: absolute; NULL: TCP */
    struct ip ip;
    uint16_t port;
    int64_t timeout_ms, max_idle_ms, max_ttl_ms, retry_delay_ms;
    int request_limit, try_limit;
    const char *default_action, *policy_context;
};

/* The server of that argument, made if it is new. NULL and *error when it is malformed. */
struct policy_server *policy_server_get(struct policy *policy, struct span argument,
                                        const char *base_dir, const char **error);

/* The one that is known already, or NULL. */
struct policy_server *policy_server_find(const struct policy *policy, struct span argument);

/* The action in an answer, the lines of which come without the empty one behind them. False: there
 * is none, or it is no UTF-8. */
bool policy_server_action(struct span answer, struct span *action);

#endif
