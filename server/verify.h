/* verify - FACT_VERIFY: does this address exist? (policy/verify.h, spec 8) What is remembered of
 * it, in the store; else a probe: MAIL, RCPT, RSET at its mail host, under the name of
 * address_verify_sender.
 * Answers: a first question at once; further ones when the probe under way has ended, or after
 *          address_verify_poll_delay. Without a store: could not be found out.
 * Bounds:  address_verify_pending_request_limit probes in all and address_verify_domain_limit for
 *          a domain, both shared among the loops; beyond that the address stays unknown for now.
 *          Hosts that strangers have named are reached at public addresses that are not our own
 *          only, and those in address_verify_networks.
 * Thread:  the loop's. */
#ifndef POSTERN_SERVER_VERIFY_H
#define POSTERN_SERVER_VERIFY_H

#include "server/fetch.h"

struct verifier;

void verify_ask(struct fetcher *fetcher, struct question *q);

/* The pool of next hops is gone already: no probe is under way. */
void verifier_free(struct verifier *verifier);

#endif
