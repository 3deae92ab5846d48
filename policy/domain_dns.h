/* domain_dns - does a domain exist for mail? MX, A and AAAA asked in turn (spec 2.6, 2.8).
 * Thread: as the evaluation. */
#ifndef POSTERN_DOMAIN_DNS_H
#define POSTERN_DOMAIN_DNS_H

#include "policy/eval.h"

enum domain_state {
    DOMAIN_PENDING,
    DOMAIN_FOUND,
    DOMAIN_NOT_FOUND,
    DOMAIN_NULL_MX,
    DOMAIN_MALFORMED,
    DOMAIN_TEMPFAIL,
};

/* For an address: MX, A, AAAA; stops at the first that exists, at a null MX and at rubbish. */
enum domain_state domain_for_mail(struct eval *e, enum scope scope, struct span domain);

/* For a host name: A, AAAA, MX, where any MX will do. */
enum domain_state domain_for_host(struct eval *e, enum scope scope, struct span name);

#endif
