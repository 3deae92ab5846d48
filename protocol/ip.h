/* ip - IPv4 and IPv6 addresses and networks as values.
 * Shape:  an IPv4-mapped IPv6 address is turned into IPv4 wherever it comes in, so that one
 *         client has one form (spec 2.2). family 0 = no address.
 * Text:   IPv6 in compressed lower case, no brackets.
 * Thread: any. */
#ifndef POSTERN_IP_H
#define POSTERN_IP_H

#include "protocol/span.h"

struct ip {
    uint8_t family; /* 0, 4 or 6 */
    uint8_t bytes[16]; /* network order; IPv4 uses the first four */
};

enum { IP_TEXT_MAX = 46 };

struct sockaddr;

static inline unsigned ip_bits(const struct ip *ip)
{
    return ip->family == 4 ? 32 : 128;
}

/* Strict text form: four decimal octets without leading zeros, or RFC 4291. */
bool ip_parse(struct span text, struct ip *ip);
bool ip_from_sockaddr(const struct sockaddr *sa, struct ip *ip, uint16_t *port);
const char *ip_text(const struct ip *ip, char text[IP_TEXT_MAX]);
bool ip_equals(const struct ip *a, const struct ip *b);
bool ip_in_network(const struct ip *ip, const struct ip *network, unsigned prefix_bits);

/* The address with all but the first prefix_bits cleared. */
struct ip ip_masked(const struct ip *ip, unsigned prefix_bits);

/* 127/8, ::1. */
bool ip_is_loopback(const struct ip *ip);

/* Can it be somebody else's host on the Internet? Not private, link-local, multicast, reserved,
 * documentation (RFC 6890), nor IPv6 that leads to IPv4 by translation. */
bool ip_is_public(const struct ip *ip);

/* ADDR or ADDR/LEN, IPv6 may stand in brackets. False on bad syntax; *has_host_bits tells a
 * network with bits set behind its prefix. */
bool ip_parse_network(struct span text, struct ip *network, unsigned *prefix_bits,
                      bool *has_host_bits);

#endif
