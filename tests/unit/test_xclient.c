#include "protocol/mem.h"
#include "protocol/xclient.h"

#include <criterion/criterion.h>

static struct ip ip_of(const char *text)
{
    struct ip ip = { 0 };
    cr_assert(ip_parse(span_of(text), &ip));
    return ip;
}

static void begin(struct smtp_peer *peer)
{
    struct ip client = ip_of("192.0.2.1"), server = ip_of("192.0.2.2");
    smtp_peer_init(peer, &client, 1234, &server, 25);
    smtp_peer_set_name(peer, "old.test", SMTP_NAME_OK);
    smtp_peer_set_reverse(peer, "old.test", SMTP_NAME_OK);
}

/* Parses, and describes the outcome: the reply, or what the peer is now. */
static const char *run(const char *args, struct arena *memory)
{
    struct smtp_peer peer;
    char ip[IP_TEXT_MAX];
    begin(&peer);
    struct xclient x = { .peer = &peer };
    const struct smtp_reply *reply = xclient_parse(span_of(args), memory, &x);
    const char *text = NULL;
    if (reply != NULL)
        text = arena_printf(memory, "%d %s %s", reply->code, reply->enhanced, reply->text);
    else
        text = arena_printf(memory, "%s/%d %s/%d [%s]:%d -> [%s]:%d %s %d", peer.name,
                            peer.name_status, peer.reverse_name, peer.reverse_status,
                            peer.address, peer.port, ip_text(&peer.server_ip, ip),
                            peer.server_port, x.helo != NULL ? x.helo : "-", x.proto);
    smtp_peer_fini(&peer);
    return text;
}

#define OLD " -> [192.0.2.2]:25 - 0"

/* status 1: known, 2: there is none, 4: temporary */
static const struct {
    const char *args, *outcome;
} rows[] = {
    { "NAME=a.test", "a.test/1 a.test/1 [192.0.2.1]:1234" OLD },
    { "name=a.test", "a.test/1 a.test/1 [192.0.2.1]:1234" OLD },
    { "NAME=[UNAVAILABLE]", "unknown/2 old.test/1 [192.0.2.1]:1234" OLD },
    { "NAME=[tempunavail]", "unknown/4 old.test/1 [192.0.2.1]:1234" OLD },
    { "REVERSE_NAME=a.test", "old.test/1 a.test/1 [192.0.2.1]:1234" OLD },
    { "REVERSE_NAME=[UNAVAILABLE]", "old.test/1 unknown/2 [192.0.2.1]:1234" OLD },
    { "REVERSE_NAME=[TEMPUNAVAIL]", "old.test/1 unknown/4 [192.0.2.1]:1234" OLD },
    { "NAME=[UNAVAILABLE] REVERSE_NAME=r.test", "unknown/2 r.test/1 [192.0.2.1]:1234" OLD },
    { "ADDR=198.51.100.7", "old.test/1 old.test/1 [198.51.100.7]:1234" OLD },
    { "ADDR=IPV6:2001:db8::7", "old.test/1 old.test/1 [2001:db8::7]:1234" OLD },
    { "ADDR=ipv6:::ffff:192.0.2.9", "old.test/1 old.test/1 [192.0.2.9]:1234" OLD },
    { "ADDR=[UNAVAILABLE]", "old.test/1 old.test/1 [unknown]:1234" OLD },
    { "PORT=65535", "old.test/1 old.test/1 [192.0.2.1]:65535" OLD },
    { "PORT=[UNAVAILABLE]", "old.test/1 old.test/1 [192.0.2.1]:0" OLD },
    { "DESTADDR=198.51.100.9 DESTPORT=2525",
      "old.test/1 old.test/1 [192.0.2.1]:1234 -> [198.51.100.9]:2525 - 0" },
    { "HELO=h.test PROTO=ESMTP",
      "old.test/1 old.test/1 [192.0.2.1]:1234 -> [192.0.2.2]:25 h.test 2" },
    { "PROTO=smtp", "old.test/1 old.test/1 [192.0.2.1]:1234 -> [192.0.2.2]:25 - 1" },
    { "PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] LOGIN=joe", "old.test/1 old.test/1 [192.0.2.1]:1234" OLD },
    { "NAME=a.test\tADDR=198.51.100.7   PORT=1", "a.test/1 a.test/1 [198.51.100.7]:1" OLD },
    { "NAME=a+2Etest", "a.test/1 a.test/1 [192.0.2.1]:1234" OLD }, /* xtext */
    { "", "old.test/1 old.test/1 [192.0.2.1]:1234" OLD },
    /* errors: Postfix's words */
    { "a", "501 5.5.4 Error: attribute=value expected" },
    { "NAME=a.test PORT", "501 5.5.4 Error: attribute=value expected" },
    { "A=b", "501 5.5.4 Bad XCLIENT attribute name: A" },
    { "=b", "501 5.5.4 Bad XCLIENT attribute name: " },
    { "NAM=b", "501 5.5.4 Bad XCLIENT attribute name: NAM" },
    { "ADDR=1.2.3", "501 5.5.4 Bad ADDR syntax: 1.2.3" },
    { "ADDR=[1.2.3.4]", "501 5.5.4 Bad ADDR syntax: [1.2.3.4]" },
    { "ADDR=", "501 5.5.4 Bad ADDR syntax: " },
    { "NAME=-x", "501 5.5.4 Bad NAME syntax: -x" },
    { "NAME=1.2.3.4", "501 5.5.4 Bad NAME syntax: 1.2.3.4" },
    { "NAME=a+20b", "501 5.5.4 Bad NAME syntax: a b" },
    { "REVERSE_NAME=a..b", "501 5.5.4 Bad REVERSE_NAME syntax: a..b" },
    { "PORT=65536", "501 5.5.4 Bad PORT syntax: 65536" },
    { "PORT=-1", "501 5.5.4 Bad PORT syntax: -1" },
    { "DESTPORT=x", "501 5.5.4 Bad DESTPORT syntax: x" },
    { "DESTADDR=x", "501 5.5.4 Bad DESTADDR syntax: x" },
    { "PROTO=LMTP", "501 5.5.4 Bad PROTO syntax: LMTP" },
    { "NAME=a+4", "501 5.5.4 Bad attribute value syntax: a+4" },
    { "NAME=a+0Ab", "501 5.5.4 Bad attribute value syntax: a+0Ab" },
    { "X\x1b[1m=b", "501 5.5.4 Bad XCLIENT attribute name: X?[1m" },
    { "PORT=x NAME=-y", "501 5.5.4 Bad PORT syntax: x" }, /* the first one is told */
};

Test(xclient, attributes_change_the_peer_or_are_refused)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena memory = { 0 };
        cr_expect_str_eq(run(rows[i].args, &memory), rows[i].outcome, "%s", rows[i].args);
        arena_fini(&memory);
    }
}

/* "NAME=xxx...": len bytes behind the '=' once decoded. */
static bool is_accepted(const char *name, size_t len, bool coded)
{
    struct arena memory = { 0 };
    struct buf args = { 0 };
    buf_printf(&args, "%s=", name);
    for (size_t i = 0; i < len; i++)
        buf_puts(&args, coded ? "+78" : "x");
    bool is_good = span_istarts(span_of(run(buf_text(&args), &memory)), SPAN_LITERAL("old"));
    arena_fini(&memory);
    buf_fini(&args);
    return is_good;
}

Test(xclient, a_value_has_at_most_255_bytes)
{
    cr_expect(is_accepted("HELO", 255, false));
    cr_expect(is_accepted("HELO", 255, true), "decoded bytes count");
    cr_expect(!is_accepted("HELO", 256, false));
    cr_expect(!is_accepted("LOGIN", 256, true));
}
