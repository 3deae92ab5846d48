#include "policy/dns_name.h"
#include "protocol/hostname.h"
#include "protocol/list.h"
#include "protocol/text.h"

#include <idn2.h>
#include <stdio.h>

static void put_octets(char out[DNS_NAME_MAX], const struct ip *ip)
{
    snprintf(out, DNS_NAME_MAX, "%u.%u.%u.%u.", ip->bytes[3], ip->bytes[2], ip->bytes[1],
             ip->bytes[0]);
}

static void put_nibbles(char out[DNS_NAME_MAX], const struct ip *ip)
{
    for (int i = 15, at = 0; i >= 0; i--, at += 4)
        snprintf(out + at, (size_t)(DNS_NAME_MAX - at), "%x.%x.", ip->bytes[i] & 15,
                 ip->bytes[i] >> 4);
}

static bool append(char out[DNS_NAME_MAX], struct span tail)
{
    size_t len = strlen(out);
    _Static_assert((int)HOSTNAME_MAX < (int)DNS_NAME_MAX, "a name and its NUL");
    if (len + tail.len > HOSTNAME_MAX)
        return false;
    for (size_t i = 0; i < tail.len; i++)
        out[len + i] = ascii_lower(tail.at[i]);
    out[len + tail.len] = '\0';
    return true;
}

bool dns_name_listed(char out[DNS_NAME_MAX], const struct ip *ip, struct span zone)
{
    if (ip->family == 0)
        return false;
    if (ip->family == 4)
        put_octets(out, ip);
    else
        put_nibbles(out, ip);
    return append(out, hostname_without_dot(zone));
}

void dns_name_reverse(char out[DNS_NAME_MAX], const struct ip *ip)
{
    out[0] = '\0';
    dns_name_listed(out, ip, ip->family == 4 ? SPAN_LITERAL("in-addr.arpa")
                                             : SPAN_LITERAL("ip6.arpa"));
}

static bool to_ascii(char out[DNS_NAME_MAX], struct span name)
{
    char text[DNS_NAME_MAX], *ascii = NULL;
    if (name.len >= sizeof text)
        return false;
    memcpy(text, name.at, name.len);
    text[name.len] = '\0';
    bool is_good = idn2_to_ascii_8z(text, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT)
                   == IDN2_OK;
    out[0] = '\0';
    is_good = is_good && append(out, span_of(ascii));
    idn2_free(ascii);
    return is_good;
}

bool dns_name_ask(char out[DNS_NAME_MAX], struct span name)
{
    out[0] = '\0';
    name = hostname_without_dot(name);
    if (!text_is_ascii(name))
        return to_ascii(out, name) && hostname_is_valid(span_of(out), false);
    return hostname_is_valid(name, false) && append(out, name);
}

bool dns_name_join(char out[DNS_NAME_MAX], struct span name, struct span zone)
{
    return dns_name_ask(out, name) && append(out, SPAN_LITERAL("."))
           && append(out, hostname_without_dot(zone));
}

/* "ADDR", "ADDR:PORT", "[V6]", "[V6]:PORT" */
static bool is_server(struct span item)
{
    struct ip ip;
    uint64_t port;
    if (ip_parse(item, &ip))
        return true;
    size_t colon = span_find_last(item, ':');
    struct span host = span_make(item.at, colon);
    if (item.at[item.len - 1] == ']')
        host = item;
    else if (colon == item.len || !span_to_u64(span_skip(item, colon + 1), 65535, &port))
        return false;
    if (host.len > 1 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        host = span_make(host.at + 1, host.len - 2);
    return ip_parse(host, &ip);
}

const char *dns_servers_error(const char *list)
{
    struct span rest = span_of(list), item;
    while ((item = list_next(&rest)).len > 0)
        if (!is_server(item))
            return "must be addresses, each with :PORT behind it if need be";
    return NULL;
}
