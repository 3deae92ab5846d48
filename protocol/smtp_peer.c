#include "protocol/smtp_peer.h"

void smtp_peer_set_ip(struct smtp_peer *peer, const struct ip *ip)
{
    char text[IP_TEXT_MAX];
    peer->ip = *ip;
    peer->address = arena_text(&peer->memory, span_of(ip_text(ip, text)));
}

void smtp_peer_set_name(struct smtp_peer *peer, const char *name, enum smtp_name_status status)
{
    peer->name = name != NULL ? arena_text(&peer->memory, span_of(name)) : "unknown";
    peer->name_status = status;
}

void smtp_peer_set_reverse(struct smtp_peer *peer, const char *name,
                           enum smtp_name_status status)
{
    peer->reverse_name = name != NULL ? arena_text(&peer->memory, span_of(name)) : "unknown";
    peer->reverse_status = status;
}

void smtp_peer_init(struct smtp_peer *peer, const struct ip *ip, uint16_t port,
                    const struct ip *server_ip, uint16_t server_port)
{
    *peer = (struct smtp_peer){ .port = port, .server_ip = *server_ip,
                                .server_port = server_port };
    smtp_peer_set_ip(peer, ip);
    bool is_self = ip_is_loopback(ip); /* what every hosts file says; no question to anybody */
    enum smtp_name_status status = is_self ? SMTP_NAME_OK : SMTP_NAME_UNASKED;
    smtp_peer_set_name(peer, is_self ? "localhost" : NULL, status);
    smtp_peer_set_reverse(peer, is_self ? "localhost" : NULL, status);
}

void smtp_peer_fini(struct smtp_peer *peer)
{
    arena_fini(&peer->memory);
}
