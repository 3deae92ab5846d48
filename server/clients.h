/* clients - how much each client does: connections now, and events per time unit (spec 9.2).
 * Owns:   a table of clients, in shards with a lock each; an entry lives while it has connections
 *         or a window that has not expired.
 * Keys:   the address cut to smtpd_client_ipv4_prefix_length / _ipv6_.
 * Units:  a window begins with the first event and is begun anew by the first one after it.
 * Bounds: CLIENTS_MAX entries; past that, events of new clients are not counted. Who has brought
 *         mail is remembered in a fixed number of slots: a newer client may take an older one's.
 * Thread: any. */
#ifndef POSTERN_CLIENTS_H
#define POSTERN_CLIENTS_H

#include "protocol/ip.h"
#include "protocol/params.h"

enum client_event {
    CLIENT_CONNECTION,
    CLIENT_MESSAGE,
    CLIENT_RECIPIENT,
    CLIENT_TLS_SESSION,
    CLIENT_EVENT_COUNT
};

enum { CLIENTS_MAX = 1 << 17, CLIENTS_KNOWN_MS = 7 * 86400 * 1000 };

struct clients;

struct clients *clients_new(void);
void clients_free(struct clients *clients);

/* A connection begins: counts it; both figures are after counting. */
void clients_connect(struct clients *clients, const struct ip *ip, const struct params *params,
                     int64_t now_ms, int *connections, int *rate);
void clients_disconnect(struct clients *clients, const struct ip *ip,
                        const struct params *params, int64_t now_ms);

/* Another event; its number in the present window. */
int clients_count(struct clients *clients, const struct ip *ip, const struct params *params,
                  enum client_event event, int64_t now_ms);

/* Mail of this client was accepted: when room is scarce, there is some for it. */
void clients_welcome(struct clients *clients, const struct ip *ip, const struct params *params,
                     int64_t now_ms);
bool clients_is_welcome(struct clients *clients, const struct ip *ip,
                        const struct params *params, int64_t now_ms);

#endif
