/* policy_client - connections to policy servers (Postfix's delegation protocol, spec 11.2).
 * Reuse:  a connection carries one request at a time, then waits idle for the next: at most
 *         max_idle, max_ttl and request_limit of its server.
 * Tries:  a request is tried try_limit times, retry_delay apart; a reused connection that turns
 *         out to be closed does not count. Then the answer is "could not be found out".
 * Bounds: POLICY_CONNECTIONS_MAX connections a server and loop; further requests wait in line,
 *         each at most the server's timeout. An answer is at most POLICY_ANSWER_MAX bytes.
 * Thread: the loop's. */
#ifndef POSTERN_POLICY_CLIENT_H
#define POSTERN_POLICY_CLIENT_H

#include "server/fetch.h"

enum { POLICY_CONNECTIONS_MAX = 50, POLICY_ANSWER_MAX = 65536 };

/* q->key.object is the struct policy_server, q->key.text the request. */
void policy_client_ask(struct fetcher *fetcher, struct question *q);
void policy_clients_free(struct fetcher *fetcher);

#endif
