#include "protocol/ip.h"
#include "protocol/mem.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static const struct {
    const char *text, *printed; /* printed NULL: not an address */
} addresses[] = {
    { "192.0.2.1", "192.0.2.1" },
    { "0.0.0.0", "0.0.0.0" },
    { "255.255.255.255", "255.255.255.255" },
    { "2001:DB8::1", "2001:db8::1" },
    { "2001:0db8:0:0:0:0:0:1", "2001:db8::1" },
    { "::", "::" },
    { "::1", "::1" },
    { "::ffff:192.0.2.1", "192.0.2.1" }, /* one client has one form */
    { "::FFFF:c000:0201", "192.0.2.1" },
    { "::fffe:192.0.2.1", "::fffe:c000:201" },
    { "64:ff9b::192.0.2.1", "64:ff9b::c000:201" },
    { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "", NULL },
    { "192.0.2", NULL },
    { "192.0.2.1.", NULL },
    { "192.0.2.256", NULL },
    { "192.0.2.01", NULL },
    { "0192.0.2.1", NULL },
    { "192.0.2.-1", NULL },
    { "192.0.2.1 ", NULL },
    { " 192.0.2.1", NULL },
    { "0xc0.0.2.1", NULL },
    { "3221225985", NULL },
    { "1:2:3:4:5:6:7", NULL },
    { "1:2:3:4:5:6:7:8:9", NULL },
    { "1::2::3", NULL },
    { "::12345", NULL },
    { "fe80::1%eth0", NULL },
    { "[::1]", NULL },
    { "::1/128", NULL },
    { "::ffff:192.0.2.01", NULL },
    { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555", NULL },
};

Test(ip, text_is_strict_and_prints_in_one_form)
{
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct ip ip;
        char text[IP_TEXT_MAX];
        bool is_good = ip_parse(span_of(addresses[i].text), &ip);
        cr_expect_eq(is_good, addresses[i].printed != NULL, "%s", addresses[i].text);
        if (is_good && addresses[i].printed != NULL)
            cr_expect_str_eq(ip_text(&ip, text), addresses[i].printed);
    }
}

Test(ip, a_nul_inside_is_no_end)
{
    struct ip ip;
    cr_expect(!ip_parse(SPAN_LITERAL("192.0.2.1\0x"), &ip));
    cr_expect(!ip_parse(SPAN_LITERAL("::1\0"), &ip));
}

Test(ip, no_address_is_unknown)
{
    struct ip none = { 0 };
    char text[IP_TEXT_MAX];
    cr_expect_str_eq(ip_text(&none, text), "unknown");
    cr_expect(!ip_is_loopback(&none));
    cr_expect(!ip_in_network(&none, &none, 0), "nobody is in no network");
}

static struct ip ip_of(const char *text)
{
    struct ip ip = { 0 };
    cr_assert(ip_parse(span_of(text), &ip), "%s", text);
    return ip;
}

Test(ip, sockets_give_address_and_port)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(2525),
                              .sin_addr = { htonl(0xc0000201) } };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(25) };
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    struct ip ip, expected = ip_of("192.0.2.1");
    uint16_t port = 0;
    cr_expect(ip_from_sockaddr((const void *)&v4, &ip, &port));
    cr_expect(ip_equals(&ip, &expected) && port == 2525);
    inet_pton(AF_INET6, "::ffff:192.0.2.1", &v6.sin6_addr);
    cr_expect(ip_from_sockaddr((const void *)&v6, &ip, &port));
    cr_expect(ip_equals(&ip, &expected) && port == 25, "a mapped address is IPv4");
    inet_pton(AF_INET6, "2001:db8::7", &v6.sin6_addr);
    expected = ip_of("2001:db8::7");
    cr_expect(ip_from_sockaddr((const void *)&v6, &ip, &port) && ip_equals(&ip, &expected));
    cr_expect(!ip_from_sockaddr((const void *)&local, &ip, &port));
    cr_expect_eq(ip.family, 0);
}

Test(ip, loopback_is_127_8_and_one_v6_address)
{
    static const struct {
        const char *text;
        bool is_loopback;
    } rows[] = { { "127.0.0.1", true }, { "127.255.255.255", true }, { "126.255.255.255", false },
                 { "128.0.0.0", false }, { "::1", true }, { "::", false }, { "::2", false },
                 { "::ffff:127.0.0.1", true }, { "1::1", false } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip = ip_of(rows[i].text);
        cr_expect_eq(ip_is_loopback(&ip), rows[i].is_loopback, "%s", rows[i].text);
    }
}

/* Bit by bit: the reference for masks. */
static bool same_bits(const struct ip *a, const struct ip *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++)
        if (((a->bytes[i / 8] ^ b->bytes[i / 8]) & (0x80 >> i % 8)) != 0)
            return false;
    return true;
}

static void check_masks(const char *text)
{
    struct ip full = ip_of(text), zero = { .family = full.family };
    for (unsigned bits = 0; bits <= ip_bits(&full) + 9; bits++) {
        unsigned kept = bits < ip_bits(&full) ? bits : ip_bits(&full);
        struct ip network = ip_masked(&full, bits), other = full;
        cr_expect(same_bits(&network, &full, kept), "%s/%u", text, bits);
        for (unsigned i = kept; i < ip_bits(&full); i++)
            cr_expect_eq(network.bytes[i / 8] & (0x80 >> i % 8), 0, "%s/%u bit %u", text, bits, i);
        cr_expect(ip_in_network(&full, &network, bits), "%s/%u", text, bits);
        cr_expect_eq(ip_in_network(&zero, &network, bits), kept == 0, "%s/%u", text, bits);
        if (kept > 0) { /* the last bit that counts */
            other.bytes[(kept - 1) / 8] ^= (uint8_t)(0x80 >> (kept - 1) % 8);
            cr_expect(!ip_in_network(&other, &network, bits), "%s/%u", text, bits);
        }
    }
}

Test(ip, masks_of_every_length)
{
    check_masks("255.255.255.255");
    check_masks("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

Test(ip, families_never_mix)
{
    struct ip v4 = ip_of("0.0.0.0"), v6 = ip_of("::");
    cr_expect(!ip_equals(&v4, &v6));
    cr_expect(!ip_in_network(&v4, &v6, 0));
    cr_expect(!ip_in_network(&v6, &v4, 0));
}

static const struct {
    const char *text, *network; /* NULL: bad */
    unsigned bits;
    bool has_host_bits;
} networks[] = {
    { "192.0.2.0/24", "192.0.2.0", 24, false },
    { "192.0.2.1", "192.0.2.1", 32, false },
    { "192.0.2.1/24", "192.0.2.1", 24, true },
    { "0.0.0.0/0", "0.0.0.0", 0, false },
    { "10.0.0.1/8", "10.0.0.1", 8, true },
    { "[192.0.2.0]/24", "192.0.2.0", 24, false },
    { "[2001:db8::]/32", "2001:db8::", 32, false },
    { "2001:db8::/32", "2001:db8::", 32, false },
    { "[::1]", "::1", 128, false },
    { "::1/127", "::1", 127, true },
    { "192.0.2.0/", NULL, 0, false },
    { "192.0.2.0/33", NULL, 0, false },
    { "192.0.2.0/-1", NULL, 0, false },
    { "192.0.2.0/24x", NULL, 0, false },
    { "192.0.2.0/24/24", NULL, 0, false },
    { "2001:db8::/129", NULL, 0, false },
    { "[2001:db8::/32]", NULL, 0, false },
    { "[2001:db8::", NULL, 0, false },
    { "[]", NULL, 0, false },
    { "/24", NULL, 0, false },
    { "", NULL, 0, false },
    { "192.0.2/24", NULL, 0, false },
};

Test(ip, networks_have_a_prefix_and_tell_about_host_bits)
{
    for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
        struct ip ip;
        unsigned bits = 0;
        bool has_host_bits = false;
        bool is_good = ip_parse_network(span_of(networks[i].text), &ip, &bits, &has_host_bits);
        cr_expect_eq(is_good, networks[i].network != NULL, "%s", networks[i].text);
        if (!is_good || networks[i].network == NULL)
            continue;
        struct ip expected = ip_of(networks[i].network);
        cr_expect(ip_equals(&ip, &expected), "%s", networks[i].text);
        cr_expect_eq(bits, networks[i].bits, "%s", networks[i].text);
        cr_expect_eq(has_host_bits, networks[i].has_host_bits, "%s", networks[i].text);
    }
}

Test(ip, what_is_somebody_elses)
{
    static const struct {
        const char *text;
        bool is_public;
    } known[] = {
        { "8.8.8.8", true },      { "9.255.255.255", true }, { "10.0.0.1", false },
        { "100.64.0.1", false },  { "100.63.0.1", true },    { "127.1.1.1", false },
        { "169.254.0.1", false }, { "172.15.0.1", true },    { "172.16.0.1", false },
        { "172.32.0.1", true },   { "192.168.255.1", false }, { "198.18.0.1", false },
        { "198.20.0.1", true },   { "0.0.0.0", false },      { "224.0.0.1", false },
        { "255.255.255.255", false }, { "223.255.255.255", true }, { "::1", false },
        { "::", false },          { "fe80::1", false },      { "fc00::1", false },
        { "ff02::1", false },     { "2001:db8::1", false },  { "2001:4860::1", true },
        { "2a00::1", true },      { "64:ff9b::7f00:1", false }, { "2002:7f00:1::", false },
        { "::ffff:10.0.0.1", false }, { "::ffff:8.8.8.8", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct ip ip;
        cr_assert(ip_parse(span_of(known[i].text), &ip), "%s", known[i].text);
        cr_expect_eq(ip_is_public(&ip), known[i].is_public, "%s", known[i].text);
    }
    cr_expect_not(ip_is_public(&(struct ip){ 0 }));
}
