#include "protocol/buf.h"
#include "protocol/hostname.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

static const struct {
    const char *name;
    bool is_valid, is_valid_with_utf8;
} names[] = {
    { "mx.example.org", true, true },
    { "localhost", true, true },
    { "a", true, true },
    { "A-1.b--c.D", true, true },
    { "_dmarc._x.example.org", true, true },
    { "1.example", true, true },
    { "1.2.3.4x", true, true },
    { "xn--caf-dma.test", true, true },
    { "1.2.3.4", false, false }, /* an address is no name */
    { "123", false, false },
    { "", false, false },
    { ".", false, false },
    { ".a", false, false },
    { "a.", false, false },
    { "a..b", false, false },
    { "-a.b", false, false },
    { "a-.b", false, false },
    { "a.-b", false, false },
    { "a.b-", false, false },
    { "-", false, false },
    { "a b", false, false },
    { "a/b", false, false },
    { "a@b", false, false },
    { "a:b", false, false },
    { "[1.2.3.4]", false, false },
    { "a\nb", false, false },
    { "caf\xc3\xa9.test", false, true },
    { "\xc3\xa9", false, true },
    { "caf\xe9.test", false, false },
};

Test(hostname, names_are_letters_digits_hyphens_in_labels)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct span name = span_of(names[i].name);
        cr_expect_eq(hostname_is_valid(name, false), names[i].is_valid, "%s", names[i].name);
        cr_expect_eq(hostname_is_valid(name, true), names[i].is_valid_with_utf8, "%s",
                     names[i].name);
    }
    cr_expect(!hostname_is_valid(SPAN_LITERAL("a\0b"), true));
    cr_expect(!hostname_is_valid(SPAN_LITERAL("a.b\0"), true));
}

static bool is_valid_label(size_t len)
{
    struct buf name = { 0 };
    for (size_t i = 0; i < len; i++)
        buf_putc(&name, 'x');
    buf_puts(&name, ".test");
    bool is_valid = hostname_is_valid(buf_span(&name), false);
    buf_fini(&name);
    return is_valid;
}

Test(hostname, a_label_has_63_octets_and_a_name_255)
{
    struct buf name = { 0 };
    cr_expect(is_valid_label(HOSTNAME_LABEL_MAX));
    cr_expect(!is_valid_label(HOSTNAME_LABEL_MAX + 1));
    for (int i = 0; i < 127; i++)
        buf_puts(&name, "x.");
    buf_putc(&name, 'y');
    cr_expect_eq(name.len, HOSTNAME_MAX);
    cr_expect(hostname_is_valid(buf_span(&name), false));
    buf_putc(&name, 'y');
    cr_expect(!hostname_is_valid(buf_span(&name), false));
    buf_fini(&name);
}

Test(hostname, one_trailing_dot_comes_off)
{
    cr_expect(span_equals(hostname_without_dot(SPAN_LITERAL("a.b.")), SPAN_LITERAL("a.b")));
    cr_expect(span_equals(hostname_without_dot(SPAN_LITERAL("a.b..")), SPAN_LITERAL("a.b.")));
    cr_expect(span_equals(hostname_without_dot(SPAN_LITERAL("a.b")), SPAN_LITERAL("a.b")));
    cr_expect_eq(hostname_without_dot(SPAN_LITERAL(".")).len, 0);
    cr_expect_eq(hostname_without_dot(span_make(NULL, 0)).len, 0);
}

static const struct {
    const char *text, *address; /* NULL: no literal */
} literals[] = {
    { "[192.0.2.1]", "192.0.2.1" },
    { "[0.0.0.0]", "0.0.0.0" },
    { "[IPv6:2001:db8::1]", "2001:db8::1" },
    { "[ipv6:::1]", "::1" },
    { "[IPV6:::ffff:192.0.2.1]", "192.0.2.1" },
    { "[0.1.2.3]", NULL }, /* first octet 0 only as 0.0.0.0 (spec 2.11) */
    { "[2001:db8::1]", NULL }, /* the prefix is a must */
    { "[IPv6:192.0.2.1]", NULL },
    { "[IPv6:]", NULL },
    { "[IPv4:192.0.2.1]", NULL },
    { "[192.0.2.1", NULL },
    { "192.0.2.1]", NULL },
    { "[192.0.2.1]x", NULL },
    { "[[192.0.2.1]]", NULL },
    { "[192.0.2]", NULL },
    { "[192.0.2.256]", NULL },
    { "[ 192.0.2.1]", NULL },
    { "[example.org]", NULL },
    { "[]", NULL },
    { "[", NULL },
    { "]", NULL },
    { "", NULL },
};

Test(hostname, address_literals_are_v4_or_tagged_v6)
{
    for (size_t i = 0; i < ARRAY_LEN(literals); i++) {
        struct ip ip;
        char text[IP_TEXT_MAX];
        bool is_good = address_literal_parse(span_of(literals[i].text), &ip);
        cr_expect_eq(is_good, literals[i].address != NULL, "%s", literals[i].text);
        if (is_good && literals[i].address != NULL)
            cr_expect_str_eq(ip_text(&ip, text), literals[i].address, "%s", literals[i].text);
    }
}
