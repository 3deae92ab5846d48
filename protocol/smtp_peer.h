/* smtp_peer - who the client is, as the connection, XCLIENT or a PROXY header says.
 * Owns:   its strings, in the arena; all zero is nobody.
 * Shape:  name is the forward-confirmed name, reverse_name the PTR name; "unknown" when there
 *         is none, and the status says why (spec 2.2).
 * Thread: any, one at a time. */
#ifndef POSTERN_SMTP_PEER_H
#define POSTERN_SMTP_PEER_H

#include "protocol/arena.h"
#include "protocol/ip.h"

enum smtp_name_status {
    SMTP_NAME_UNASKED, /* nobody has looked yet */
    SMTP_NAME_OK,
    SMTP_NAME_PERMANENT, /* there is no name */
    SMTP_NAME_FORGED,    /* the name does not lead back to the address */
    SMTP_NAME_TEMPORARY, /* could not be found out now */
};

struct smtp_peer {
    struct arena memory; /* owns: the strings below */
    struct ip ip, server_ip;
    uint16_t port, server_port;
    const char *address; /* text of ip, or "unknown" */
    const char *name, *reverse_name;
    enum smtp_name_status name_status, reverse_status;
    bool is_from_xclient;
};

void smtp_peer_init(struct smtp_peer *peer, const struct ip *ip, uint16_t port,
                    const struct ip *server_ip, uint16_t server_port);
void smtp_peer_fini(struct smtp_peer *peer);
void smtp_peer_set_ip(struct smtp_peer *peer, const struct ip *ip);

/* name NULL: "unknown". */
void smtp_peer_set_name(struct smtp_peer *peer, const char *name, enum smtp_name_status status);
void smtp_peer_set_reverse(struct smtp_peer *peer, const char *name,
                           enum smtp_name_status status);

#endif
