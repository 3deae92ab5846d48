#include "protocol/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static void ip_unmap(struct ip *ip)
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    if (ip->family != 6 || memcmp(ip->bytes, mapped, sizeof mapped) != 0)
        return;
    struct ip v4 = { .family = 4 };
    memcpy(v4.bytes, ip->bytes + 12, 4);
    *ip = v4;
}

bool ip_parse(struct span text, struct ip *ip)
{
    char copy[IP_TEXT_MAX];
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.at, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    *ip = (struct ip){ .family = memchr(copy, ':', text.len) != NULL ? 6 : 4 };
    if (inet_pton(ip->family == 6 ? AF_INET6 : AF_INET, copy, ip->bytes) != 1)
        return false;
    ip_unmap(ip);
    return true;
}

bool ip_from_sockaddr(const struct sockaddr *sa, struct ip *ip, uint16_t *port)
{
    *ip = (struct ip){ 0 };
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        ip->family = 4;
        memcpy(ip->bytes, &in->sin_addr, 4);
        *port = ntohs(in->sin_port);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        ip->family = 6;
        memcpy(ip->bytes, &in6->sin6_addr, 16);
        *port = ntohs(in6->sin6_port);
        ip_unmap(ip);
        return true;
    }
    return false;
}

const char *ip_text(const struct ip *ip, char text[IP_TEXT_MAX])
{
    if (ip->family == 0
        || inet_ntop(ip->family == 6 ? AF_INET6 : AF_INET, ip->bytes, text, IP_TEXT_MAX) == NULL)
        memcpy(text, "unknown", sizeof "unknown");
    return text;
}

bool ip_equals(const struct ip *a, const struct ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_bits(a) / 8) == 0;
}

struct ip ip_masked(const struct ip *ip, unsigned prefix_bits)
{
    struct ip masked = *ip;
    for (unsigned i = 0; i < ip_bits(ip) / 8; i++) {
        unsigned keep = prefix_bits > i * 8 ? prefix_bits - i * 8 : 0;
        if (keep < 8)
            masked.bytes[i] &= (uint8_t)(0xff00u >> keep);
    }
    return masked;
}

bool ip_in_network(const struct ip *ip, const struct ip *network, unsigned prefix_bits)
{
    if (ip->family == 0 || ip->family != network->family)
        return false;
    struct ip masked = ip_masked(ip, prefix_bits);
    return ip_equals(&masked, network);
}

bool ip_is_loopback(const struct ip *ip)
{
    static const struct ip v6 = { 6, { [15] = 1 } };
    return ip->family == 4 ? ip->bytes[0] == 127 : ip_equals(ip, &v6);
}

bool ip_parse_network(struct span text, struct ip *network, unsigned *prefix_bits,
                      bool *has_host_bits)
{
    size_t slash = span_find(text, '/');
    struct span address = span_make(text.at, slash);
    if (address.len > 1 && address.at[0] == '[' && address.at[address.len - 1] == ']')
        address = span_make(address.at + 1, address.len - 2);
    if (!ip_parse(address, network))
        return false;
    uint64_t bits = ip_bits(network);
    if (slash < text.len && !span_to_u64(span_skip(text, slash + 1), bits, &bits))
        return false;
    *prefix_bits = (unsigned)bits;
    struct ip masked = ip_masked(network, *prefix_bits);
    *has_host_bits = !ip_equals(&masked, network);
    return true;
}

bool ip_is_public(const struct ip *ip)
{
    static const struct {
        struct ip network;
        unsigned bits;
    } others[] = {
        { { 4, { 0 } }, 8 },             { { 4, { 10 } }, 8 },
        { { 4, { 100, 64 } }, 10 },      { { 4, { 127 } }, 8 },
        { { 4, { 169, 254 } }, 16 },     { { 4, { 172, 16 } }, 12 },
        { { 4, { 192, 0, 0 } }, 24 },    { { 4, { 192, 0, 2 } }, 24 },
        { { 4, { 192, 88, 99 } }, 24 },  { { 4, { 192, 168 } }, 16 },
        { { 4, { 198, 18 } }, 15 },      { { 4, { 198, 51, 100 } }, 24 },
        { { 4, { 203, 0, 113 } }, 24 },  { { 4, { 224 } }, 3 },
        { { 6, { 0 } }, 8 },             { { 6, { 0, 0x64, 0xff, 0x9b } }, 32 },
        { { 6, { 1 } }, 8 },             { { 6, { 0x20, 0x01, 0x00 } }, 23 },
        { { 6, { 0x20, 0x01, 0x0d, 0xb8 } }, 32 }, { { 6, { 0x20, 0x02 } }, 16 },
        { { 6, { 0xfc } }, 6 },
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (ip_in_network(ip, &others[i].network, others[i].bits))
            return false;
    return ip->family != 0;
}
