/* Names as questions: reverse names, lists, A-labels, and what is not asked at all (spec 2.8, 5.2). */
#include "policy/dns_name.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

#define A63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
    const char *name, *asked; /* NULL: nothing is asked */
} names[] = {
    { "a.test", "a.test" },
    { "A.Test.", "a.test" },
    { "localhost", "localhost" },
    { "under_score.test", "under_score.test" },
    { A63 ".test", A63 ".test" },
    { A63 "." A63 "." A63 "." A63, A63 "." A63 "." A63 "." A63 },
    { "a" A63 ".test", NULL },
    { "a." A63 "." A63 "." A63 "." A63, NULL },
    { "", NULL },
    { ".", NULL },
    { "a..b", NULL },
    { "-a.test", NULL },
    { "a-.test", NULL },
    { "a b.test", NULL },
    { "192.0.2.1", NULL },
    { "[192.0.2.1]", NULL },
    { "2001:db8::1", NULL },
    { "b\xc3\xbc" "cher.test", "xn--bcher-kva.test" },
    { "B\xc3\x9c" "CHER.test", "xn--bcher-kva.test" },
    { "stra\xc3\x9f" "e.test", "xn--strae-oqa.test" }, /* not "strasse" */
    { "b\xc3" "cher.test", NULL },
    { "\xff.test", NULL },
};

Test(dns_name, what_is_asked)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char out[DNS_NAME_MAX];
        bool is_good = dns_name_ask(out, span_of(names[i].name));
        cr_expect_eq(is_good, names[i].asked != NULL, "%s", names[i].name);
        if (is_good && names[i].asked != NULL)
            cr_expect_str_eq(out, names[i].asked);
    }
}

Test(dns_name, addresses)
{
    static const struct {
        const char *ip, *reverse, *listed;
    } rows[] = {
        { "192.0.2.10", "10.2.0.192.in-addr.arpa", "10.2.0.192.bl.test" },
        { "::ffff:192.0.2.10", "10.2.0.192.in-addr.arpa", "10.2.0.192.bl.test" },
        { "2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
          "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip;
        char out[DNS_NAME_MAX];
        cr_assert(ip_parse(span_of(rows[i].ip), &ip));
        dns_name_reverse(out, &ip);
        cr_expect_str_eq(out, rows[i].reverse);
        cr_expect(dns_name_listed(out, &ip, SPAN_LITERAL("BL.test.")));
        cr_expect_str_eq(out, rows[i].listed);
    }
    struct ip nobody = { 0 };
    char out[DNS_NAME_MAX];
    cr_expect_not(dns_name_listed(out, &nobody, SPAN_LITERAL("bl.test")));
}

Test(dns_name, a_name_in_front_of_a_zone)
{
    char out[DNS_NAME_MAX];
    struct ip ip = { 6, { 0x20, 0x01 } };
    cr_expect(dns_name_join(out, SPAN_LITERAL("A.Test."), SPAN_LITERAL("rhs.test.")));
    cr_expect_str_eq(out, "a.test.rhs.test");
    cr_expect_not(dns_name_join(out, SPAN_LITERAL("[192.0.2.1]"), SPAN_LITERAL("rhs.test")));
    cr_expect_not(dns_name_join(out, SPAN_LITERAL(A63 "." A63 "." A63), SPAN_LITERAL(A63 ".test")), "too long together");
    cr_expect_not(dns_name_listed(out, &ip, SPAN_LITERAL(A63 "." A63 "." A63 "." A63)));
}

Test(dns_name, servers)
{
    static const char *const good[] = { "", "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]", "[2001:db8::53]:5353",
                                        "2001:db8::53", "192.0.2.53, 192.0.2.54:53" };
    static const char *const bad[] = { "ns.test", "192.0.2.53:", "192.0.2.53:x", "192.0.2.53:65536", "[2001:db8::53", "192.0.2" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        cr_expect_null(dns_servers_error(good[i]), "%s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_not_null(dns_servers_error(bad[i]), "%s", bad[i]);
}
