#include "protocol/hostname.h"
#include "protocol/text.h"

struct span hostname_without_dot(struct span name)
{
    if (name.len > 0 && name.at[name.len - 1] == '.')
        name.len--;
    return name;
}

static bool label_is_valid(struct span label, bool utf8_ok)
{
    if (label.len == 0 || label.len > HOSTNAME_LABEL_MAX || label.at[0] == '-'
        || label.at[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++) {
        char c = label.at[i];
        bool is_high = ((unsigned char)c & 0x80) != 0;
        if (!ascii_is_alnum(c) && c != '_' && c != '-' && !(is_high && utf8_ok))
            return false;
    }
    return true;
}

static bool is_all_numeric(struct span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!ascii_is_digit(name.at[i]) && name.at[i] != '.')
            return false;
    return true;
}

bool hostname_is_valid(struct span name, bool utf8_ok)
{
    if (name.len == 0 || name.len > HOSTNAME_MAX || is_all_numeric(name))
        return false;
    if (utf8_ok && !utf8_is_valid(name))
        return false;
    for (;;) {
        size_t dot = span_find(name, '.');
        if (!label_is_valid(span_make(name.at, dot), utf8_ok))
            return false;
        if (dot == name.len)
            return true;
        name = span_skip(name, dot + 1);
        if (name.len == 0)
            return false; /* a trailing dot */
    }
}

/* Four decimal octets; leading zeros do not count. 0.x.x.x is no host, but 0.0.0.0 itself is let
 * through, as Postfix does (spec 2.11). */
static bool parse_ipv4(struct span text, struct ip *ip)
{
    *ip = (struct ip){ .family = 4 };
    for (size_t i = 0; i < 4; i++) {
        size_t dot = span_find(text, '.');
        uint64_t octet;
        if ((dot == text.len) != (i == 3) || !span_to_u64(span_make(text.at, dot), 255, &octet))
            return false;
        ip->bytes[i] = (uint8_t)octet;
        text = span_skip(text, dot + 1);
    }
    bool is_zero = (ip->bytes[1] | ip->bytes[2] | ip->bytes[3]) == 0;
    return ip->bytes[0] != 0 || is_zero;
}

bool hostaddr_parse(struct span text, struct ip *ip)
{
    return span_find(text, ':') < text.len ? ip_parse(text, ip) : parse_ipv4(text, ip);
}

bool address_literal_parse(struct span text, struct ip *ip)
{
    static const struct span prefix = { "IPv6:", 5 };
    if (text.len < 3 || text.at[0] != '[' || text.at[text.len - 1] != ']')
        return false;
    struct span inner = span_make(text.at + 1, text.len - 2);
    bool has_prefix = span_istarts(inner, prefix);
    if (has_prefix)
        inner = span_skip(inner, prefix.len);
    bool has_colon = span_find(inner, ':') < inner.len;
    return has_colon == has_prefix && hostaddr_parse(inner, ip);
}
