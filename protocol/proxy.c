#include "protocol/proxy.h"

enum { V1_LINE_MAX = 107, V2_FIXED = 16, V2_INET = 12, V2_INET6 = 36 };

static const struct span v2_signature = { "\r\n\r\n\0\r\nQUIT\n", 12 };

static bool starts_like(struct span in, struct span prefix)
{
    size_t n = in.len < prefix.len ? in.len : prefix.len;
    return n == 0 || memcmp(in.at, prefix.at, n) == 0;
}

static bool v1_port(struct span word, uint16_t *port)
{
    uint64_t n;
    if (!span_to_u64(word, UINT16_MAX, &n))
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool v1_fields(struct span line, struct proxy_header *out)
{
    struct span words[6];
    for (size_t i = 0; i < 6; i++)
        words[i] = span_next_word(&line);
    bool is_v6 = span_equals(words[1], SPAN_LITERAL("TCP6"));
    if ((!is_v6 && !span_equals(words[1], SPAN_LITERAL("TCP4"))) || span_trim(line).len > 0)
        return false;
    for (size_t i = 2; i < 4; i++)
        if ((span_find(words[i], ':') < words[i].len) != is_v6)
            return false;
    return ip_parse(words[2], &out->client) && ip_parse(words[3], &out->server)
           && v1_port(words[4], &out->client_port) && v1_port(words[5], &out->server_port);
}

static enum proxy_result v1_parse(struct span in, struct proxy_header *out, size_t *used)
{
    size_t end = span_find(in, '\n');
    if (end == in.len)
        return in.len < V1_LINE_MAX ? PROXY_MORE : PROXY_BAD;
    if (end >= V1_LINE_MAX || end == 0 || in.at[end - 1] != '\r')
        return PROXY_BAD;
    *used = end + 1;
    return v1_fields(span_make(in.at, end - 1), out) ? PROXY_OK : PROXY_BAD;
}

static unsigned get16(const char *at)
{
    return (unsigned)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

static struct ip ip_of_bytes(const char *at, uint8_t family)
{
    struct ip ip = { .family = family };
    memcpy(ip.bytes, at, family == 4 ? 4 : 16);
    char text[IP_TEXT_MAX];
    ip_parse(span_of(ip_text(&ip, text)), &ip); /* folds IPv4-mapped */
    return ip;
}

static enum proxy_result v2_addresses(struct span body, unsigned family,
                                      struct proxy_header *out)
{
    bool is_v6 = family == 0x21;
    size_t size = is_v6 ? 16 : 4;
    if ((family != 0x11 && !is_v6) || body.len < (is_v6 ? V2_INET6 : V2_INET))
        return PROXY_BAD;
    out->client = ip_of_bytes(body.at, is_v6 ? 6 : 4);
    out->server = ip_of_bytes(body.at + size, is_v6 ? 6 : 4);
    out->client_port = (uint16_t)get16(body.at + 2 * size);
    out->server_port = (uint16_t)get16(body.at + 2 * size + 2);
    return PROXY_OK;
}

static enum proxy_result v2_parse(struct span in, struct proxy_header *out, size_t *used)
{
    if (in.len < V2_FIXED)
        return PROXY_MORE;
    unsigned version_command = (unsigned char)in.at[12];
    size_t length = get16(in.at + 14);
    if (version_command >> 4 != 2 || (version_command & 15) > 1
        || length > PROXY_HEADER_MAX - V2_FIXED)
        return PROXY_BAD;
    if (in.len < V2_FIXED + length)
        return PROXY_MORE;
    *used = V2_FIXED + length;
    out->is_local = (version_command & 15) == 0;
    if (out->is_local)
        return PROXY_OK;
    return v2_addresses(span_make(in.at + V2_FIXED, length), (unsigned char)in.at[13], out);
}

enum proxy_result proxy_parse(struct span in, struct proxy_header *out, size_t *used)
{
    *out = (struct proxy_header){ 0 };
    if (starts_like(in, SPAN_LITERAL("PROXY ")))
        return v1_parse(in, out, used);
    if (starts_like(in, v2_signature))
        return v2_parse(in, out, used);
    return PROXY_BAD;
}
