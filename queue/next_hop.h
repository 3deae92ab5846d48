/* next_hop - where a next hop is: its text taken apart, and the addresses of its hosts found out.
 * Search: one struct hop_search for each attempt; done() is called once, perhaps before
 *         hop_search_begin() returns, with addresses in the order in which they are to be tried:
 *         MX hosts by preference, equal ones in any order (RFC 5321 5.1), of each host IPv6 first.
 *         hop_search_leave() before that: answers then arrive into nothing.
 * Result: none of the hosts can be found, for good (HOP_NONE) or for now (HOP_RETRY), the domain
 *         says that it takes no mail (HOP_NULL_MX, RFC 7505), or we are its best host (HOP_LOOP).
 * Bounds: NEXT_HOP_HOSTS hosts, NEXT_HOP_ADDRESSES addresses.
 * Thread: the loop's; knows no libuv. */
#ifndef POSTERN_NEXT_HOP_H
#define POSTERN_NEXT_HOP_H

#include "protocol/ip.h"
#include "queue/lmtp.h"

enum { NEXT_HOP_HOSTS = 5, NEXT_HOP_ADDRESSES = 12, NEXT_HOP_NAME_MAX = 256 };

struct next_hop {
    const char *path; /* of a unix socket; NULL: the network */
    const char *host; /* name or address */
    struct ip ip;     /* family 0: host is a name */
    uint16_t port;    /* 0: the protocol's own */
    bool is_mx;       /* its MX hosts, not the host itself */
    bool is_strange;  /* not our configuration names it */
};

struct hop_address {
    char host[NEXT_HOP_NAME_MAX];
    struct ip ip;
};

enum hop_found { HOP_FOUND, HOP_NONE, HOP_RETRY, HOP_NULL_MX, HOP_LOOP };

struct hop_search;

struct hop_hosts {
    enum hop_found found;
    struct hop_address addresses[NEXT_HOP_ADDRESSES];
    size_t count;
};

/* NULL, or what is wrong with it. Texts lie in the arena. */
const char *next_hop_parse(enum lmtp_protocol protocol, const char *text, struct arena *memory,
                           struct next_hop *out);

/* own_name: the MX host of that name and those behind it are left out, else mail would come back
 * to us. seed: for the order of equal hosts. NULL when done() has been called already. */
struct hop_search *hop_search_begin(const struct lmtp_outside *outside,
                                    const struct next_hop *hop, const char *own_name,
                                    uint64_t seed,
                                    void (*done)(void *owner, const struct hop_hosts *hosts),
                                    void *owner);
void hop_search_leave(struct hop_search *search);

#endif
