/* dns_name - names as questions to the DNS: reverse names, A-labels, what may be asked at all.
 * Names leave here in lower case, without a trailing dot, NUL terminated.
 * Thread: any. */
#ifndef POSTERN_DNS_NAME_H
#define POSTERN_DNS_NAME_H

#include "protocol/ip.h"

enum { DNS_NAME_MAX = 256 };

/* "7.2.0.192.in-addr.arpa", nibbles under ip6.arpa. */
void dns_name_reverse(char out[DNS_NAME_MAX], const struct ip *ip);

/* The octets or nibbles of the address in front of a zone, as DNS lists want them
 * (RFC 5782 2.1, 2.4). False: too long. */
bool dns_name_listed(char out[DNS_NAME_MAX], const struct ip *ip, struct span zone);

/* A host name as it can be asked: U-labels become A-labels. False: no valid host name (an
 * address, a bad label, too long): then nothing is asked (spec 2.8). */
bool dns_name_ask(char out[DNS_NAME_MAX], struct span name);

/* Two names with a dot between; the first must be a host name. */
bool dns_name_join(char out[DNS_NAME_MAX], struct span name, struct span zone);

/* NULL, or what is wrong with a list of DNS servers. */
const char *dns_servers_error(const char *list);

#endif
