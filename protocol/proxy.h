/* proxy - the PROXY protocol header, versions 1 and 2, in front of a connection (spec 9.11).
 * In:     all bytes received so far. Out: the addresses, and how many bytes were the header.
 * Errors: PROXY_BAD for everything that is not a complete PROXY or LOCAL header for TCP.
 * Bounds: version 1 at most 107 bytes; version 2 at most 536 (16 + addresses + TLVs).
 * Thread: any. */
#ifndef POSTERN_PROXY_H
#define POSTERN_PROXY_H

#include "protocol/ip.h"

enum proxy_result { PROXY_MORE, PROXY_OK, PROXY_BAD };

enum { PROXY_HEADER_MAX = 536 };

struct proxy_header {
    bool is_local; /* LOCAL: the socket's own addresses count */
    struct ip client, server;
    uint16_t client_port, server_port;
};

enum proxy_result proxy_parse(struct span in, struct proxy_header *out, size_t *used);

#endif
