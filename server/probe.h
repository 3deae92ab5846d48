/* probe - FACT_PROBE: would this next hop take mail for that recipient? MAIL, RCPT, RSET over the
 * loop's pool of connections (queue/lmtp.h), while a client waits for its answer to RCPT.
 * Key:    probe_key(); value probe_answer(), also for what can never be sent there (no SMTPUTF8).
 *         A next hop that is down, or slower than lmtp_rcpt_verify_timeout: could not be found out.
 * Cache:  of the loop, by next hop and recipient, for lmtp_rcpt_verify_positive_time and
 *         lmtp_rcpt_verify_negative_time; only final answers to RCPT itself. PROBE_CACHE_SIZE
 *         entries, a newer one may take an older one's place.
 * Thread: the loop's. */
#ifndef POSTERN_SERVER_PROBE_H
#define POSTERN_SERVER_PROBE_H

#include "server/fetch.h"

enum { PROBE_CACHE_SIZE = 4096 };

struct probe_cache;

void probe_ask(struct fetcher *fetcher, struct question *q);
void probe_cache_free(struct probe_cache *cache);

#endif
