#include "protocol/buf.h"
#include "protocol/mem.h"
#include "protocol/proxy.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Parses from memory of exactly this size, so that reading past it is noticed. */
static enum proxy_result parse(struct span in, struct proxy_header *out, size_t *used)
{
    char *copy = xmalloc(in.len);
    if (in.len > 0)
        memcpy(copy, in.at, in.len);
    enum proxy_result result = proxy_parse(span_make(copy, in.len), out, used);
    free(copy);
    return result;
}

static void expect_address(const struct ip *ip, const char *expected, const char *what)
{
    char text[IP_TEXT_MAX];
    cr_expect_str_eq(ip_text(ip, text), expected, "%s", what);
}

/* ------------------------------------------------------------ version 1 */

static const struct {
    const char *line, *client, *server; /* client NULL: refused */
    uint16_t client_port, server_port;
} lines[] = {
    { "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", "192.0.2.1", "198.51.100.2", 56324, 25 },
    { "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255",
      "255.255.255.255", 65535, 65535 },
    { "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", "0.0.0.0", 0, 0 },
    { "PROXY TCP6 2001:db8::1 ::2 1 2\r\n", "2001:db8::1", "::2", 1, 2 },
    { "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "65535 65535\r\n",
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
      65535 },
    { "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1", "::1", 1, 2 },
    { "PROXY UNKNOWN\r\n", NULL, NULL, 0, 0 },
    { "PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 x 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 ::1 ::2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 ::2 1 2\r\n", NULL, NULL, 0, 0 }, /* one family only */
    { "PROXY TCP6 ::1 192.0.2.2 1 2\r\n", NULL, NULL, 0, 0 },
    { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", NULL, NULL, 0, 0 },
    { "PROXY \r\n", NULL, NULL, 0, 0 },
    { "PROXY\r\n", NULL, NULL, 0, 0 },
    { "EHLO client.test\r\n", NULL, NULL, 0, 0 },
    { "\n", NULL, NULL, 0, 0 },
    { "\r\nEHLO x\r\n", NULL, NULL, 0, 0 },
};

Test(proxy, version_1_is_one_line_of_two_addresses_and_two_ports)
{
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct proxy_header h;
        size_t used = 0;
        enum proxy_result result = parse(span_of(lines[i].line), &h, &used);
        cr_expect_eq(result, lines[i].client != NULL ? PROXY_OK : PROXY_BAD, "%s", lines[i].line);
        if (result != PROXY_OK || lines[i].client == NULL)
            continue;
        cr_expect_eq(used, strlen(lines[i].line));
        cr_expect(!h.is_local);
        expect_address(&h.client, lines[i].client, lines[i].line);
        expect_address(&h.server, lines[i].server, lines[i].line);
        cr_expect(h.client_port == lines[i].client_port && h.server_port == lines[i].server_port);
    }
}

Test(proxy, every_truncation_of_a_version_1_line_asks_for_more)
{
    static const char line[] = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n";
    struct proxy_header h;
    size_t used = 0;
    for (size_t len = 0; len < sizeof line - 1; len++)
        cr_expect_eq(parse(span_make(line, len), &h, &used), PROXY_MORE, "%zu", len);
    cr_expect_eq(parse(SPAN_LITERAL(line), &h, &used), PROXY_OK);
}

Test(proxy, what_follows_the_header_is_not_used)
{
    struct proxy_header h;
    size_t used = 0;
    struct span in = SPAN_LITERAL("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nEHLO x\r\n");
    cr_expect_eq(parse(in, &h, &used), PROXY_OK);
    cr_expect(span_equals(span_skip(in, used), SPAN_LITERAL("EHLO x\r\n")));
}

Test(proxy, a_version_1_line_has_at_most_107_bytes)
{
    struct buf line = { 0 };
    struct proxy_header h;
    size_t used = 0;
    buf_puts(&line, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2");
    while (line.len < 105)
        buf_putc(&line, ' ');
    cr_expect_eq(parse(buf_span(&line), &h, &used), PROXY_MORE);
    buf_puts(&line, "\r\n");
    cr_expect_eq(parse(buf_span(&line), &h, &used), PROXY_OK);
    cr_expect_eq(used, 107);
    line.len = 105;
    buf_puts(&line, " \r\n");
    cr_expect_eq(parse(buf_span(&line), &h, &used), PROXY_BAD);
    cr_expect_eq(parse(span_make(line.at, 106), &h, &used), PROXY_MORE);
    cr_expect_eq(parse(span_make(line.at, 107), &h, &used), PROXY_BAD, "no room for the LF");
    buf_fini(&line);
}

/* ------------------------------------------------------------ version 2 */

static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* A header with this command and family byte, and a body of this length. */
static void make_v2(struct buf *out, unsigned command, unsigned family, const char *body, size_t len)
{
    buf_clear(out);
    buf_append(out, signature, 12);
    buf_putc(out, (char)command);
    buf_putc(out, (char)family);
    buf_putc(out, (char)(len >> 8));
    buf_putc(out, (char)len);
    buf_append(out, body, len);
}

/* 192.0.2.1:1234 to 192.0.2.2:25; then TLVs */
static const char v4_body[600] = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x19";

/* 2001:db8::1 to ::ffff:192.0.2.2 */
static const char v6_body[600] = "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                                 "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x02\xff\xff\x00\x19";

static const struct {
    unsigned command, family;
    const char *body;
    size_t len;
    enum proxy_result result;
    const char *client, *server;
} headers[] = {
    { 0x21, 0x11, v4_body, 12, PROXY_OK, "192.0.2.1", "192.0.2.2" },
    { 0x21, 0x11, v4_body, 520, PROXY_OK, "192.0.2.1", "192.0.2.2" }, /* with TLVs */
    { 0x21, 0x11, v4_body, 521, PROXY_BAD, NULL, NULL },
    { 0x21, 0x11, v4_body, 11, PROXY_BAD, NULL, NULL },
    { 0x21, 0x11, v4_body, 0, PROXY_BAD, NULL, NULL },
    { 0x21, 0x21, v6_body, 36, PROXY_OK, "2001:db8::1", "192.0.2.2" },
    { 0x21, 0x21, v6_body, 35, PROXY_BAD, NULL, NULL },
    { 0x21, 0x12, v4_body, 12, PROXY_BAD, NULL, NULL },  /* UDP */
    { 0x21, 0x00, v4_body, 12, PROXY_BAD, NULL, NULL },  /* unspecified */
    { 0x21, 0x31, v4_body, 216, PROXY_BAD, NULL, NULL }, /* a Unix socket */
    { 0x20, 0x00, v4_body, 0, PROXY_OK, "unknown", "unknown" }, /* LOCAL */
    { 0x20, 0x11, v4_body, 12, PROXY_OK, "unknown", "unknown" },
    { 0x20, 0x00, v4_body, 520, PROXY_OK, "unknown", "unknown" },
    { 0x22, 0x11, v4_body, 12, PROXY_BAD, NULL, NULL }, /* no such command */
    { 0x2f, 0x11, v4_body, 12, PROXY_BAD, NULL, NULL },
    { 0x11, 0x11, v4_body, 12, PROXY_BAD, NULL, NULL }, /* no such version */
    { 0x31, 0x11, v4_body, 12, PROXY_BAD, NULL, NULL },
    { 0xa1, 0x11, v4_body, 12, PROXY_BAD, NULL, NULL },
};

Test(proxy, version_2_is_tcp_over_ip_or_local)
{
    struct buf in = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct proxy_header h;
        size_t used = 0;
        make_v2(&in, headers[i].command, headers[i].family, headers[i].body, headers[i].len);
        cr_expect_eq(parse(buf_span(&in), &h, &used), headers[i].result, "row %zu", i);
        if (headers[i].result != PROXY_OK)
            continue;
        cr_expect_eq(used, 16 + headers[i].len, "row %zu", i);
        cr_expect_leq(used, PROXY_HEADER_MAX);
        cr_expect_eq(h.is_local, headers[i].command == 0x20, "row %zu", i);
        expect_address(&h.client, headers[i].client, "client");
        expect_address(&h.server, headers[i].server, "server");
    }
    buf_fini(&in);
}

Test(proxy, version_2_ports_are_in_network_order)
{
    struct buf in = { 0 };
    struct proxy_header h;
    size_t used;
    make_v2(&in, 0x21, 0x11, v4_body, 12);
    cr_assert_eq(parse(buf_span(&in), &h, &used), PROXY_OK);
    cr_expect(h.client_port == 1234 && h.server_port == 25);
    make_v2(&in, 0x21, 0x21, v6_body, 36);
    cr_assert_eq(parse(buf_span(&in), &h, &used), PROXY_OK);
    cr_expect(h.client_port == 65535 && h.server_port == 25);
    buf_fini(&in);
}

Test(proxy, every_truncation_of_a_version_2_header_asks_for_more)
{
    struct buf in = { 0 };
    struct proxy_header h;
    size_t used;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        if (headers[i].result != PROXY_OK)
            continue;
        make_v2(&in, headers[i].command, headers[i].family, headers[i].body, headers[i].len);
        for (size_t len = 0; len < in.len; len++)
            cr_expect_eq(parse(span_make(in.at, len), &h, &used), PROXY_MORE, "%zu", len);
    }
    buf_fini(&in);
}

Test(proxy, a_wrong_byte_in_the_signature_is_seen_at_once)
{
    struct proxy_header h;
    size_t used;
    for (size_t i = 0; i < 12; i++) {
        char wrong[12];
        memcpy(wrong, signature, 12);
        wrong[i] ^= 1;
        cr_expect_eq(parse(span_make(wrong, i + 1), &h, &used), PROXY_BAD, "%zu", i);
    }
}

/* A header that lies about its length cannot make us wait for more than the limit. */
Test(proxy, a_length_past_the_limit_is_refused_before_it_arrives)
{
    struct buf in = { 0 };
    struct proxy_header h;
    size_t used;
    make_v2(&in, 0x21, 0x11, v4_body, 12);
    in.at[14] = (char)0xff;
    cr_expect_eq(parse(span_make(in.at, 16), &h, &used), PROXY_BAD);
    in.at[14] = (char)(520 >> 8);
    in.at[15] = (char)(520 & 0xff);
    cr_expect_eq(parse(span_make(in.at, 16), &h, &used), PROXY_MORE);
    in.at[15] = (char)(521 & 0xff);
    cr_expect_eq(parse(span_make(in.at, 16), &h, &used), PROXY_BAD);
    buf_fini(&in);
}

Test(proxy, nobody_waits_past_the_largest_header)
{
    struct seeded r = seeded_begin(10);
    for (int round = 0; round < 20000; round++) {
        char in[PROXY_HEADER_MAX];
        struct proxy_header h;
        size_t used = 0;
        for (size_t i = 0; i < sizeof in; i++)
            in[i] = (char)seeded_next(&r);
        if (round % 2 == 0)
            memcpy(in, signature, 12);
        else
            memcpy(in, "PROXY TCP4 1.2.3.4 ", 19);
        in[12] = round % 4 == 0 ? 0x21 : in[12];
        enum proxy_result result = parse(span_make(in, sizeof in), &h, &used);
        cr_assert_neq(result, PROXY_MORE);
        cr_assert(result == PROXY_BAD || used <= sizeof in);
    }
}
