/* dns_parse - a DNS answer as the value of a fact (policy/fact.h).
 * In:     the whole message as the resolver sent it; any bytes.
 * Out:    the records of the asked type, names in lower case without trailing dot. A CNAME chain
 *         in the answer is followed; one that leads out of it gives its end in cname.
 * Status: FACT_NOT_FOUND for NXDOMAIN and for no such record; FACT_BROKEN when there are records
 *         and none is usable; FACT_TEMPFAIL for rubbish and for every other response code.
 * Thread: any. */
#ifndef POSTERN_DNS_PARSE_H
#define POSTERN_DNS_PARSE_H

#include "policy/dns_name.h"
#include "policy/fact.h"

enum { DNS_TTL_MAX_S = 3600, DNS_NEGATIVE_TTL_MAX_S = 900, DNS_RECORDS_MAX = 64 };

struct dns_result {
    enum fact_status status;
    uint32_t ttl_s;
    char cname[DNS_NAME_MAX]; /* "": none to follow */
    int rcode;
};

struct dns_result dns_parse(enum fact_kind kind, const unsigned char *answer, int len,
                            struct buf *value);

/* The wire's number of a kind: ns_t_a and so on. */
int dns_type(enum fact_kind kind);

#endif
