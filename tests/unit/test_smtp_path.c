#include "protocol/hostname.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>

static const struct {
    const char *args, *path, *rest;
} cuts[] = {
    { "<a@b> SIZE=1", "<a@b>", " SIZE=1" },
    { "  \t<a@b>", "<a@b>", "" },
    { "a@b SIZE=1", "a@b", " SIZE=1" },
    { "<a@b>\tSIZE=1", "<a@b>", "\tSIZE=1" },
    { "< a@b > X", "< a@b >", " X" },
    { "<\"a b\"@c> X", "<\"a b\"@c>", " X" },
    { "\"a b\"@c X", "\"a b\"@c", " X" },
    { "\"a\\\" b\"@c X", "\"a\\\" b\"@c", " X" },
    { "a\\ b@c X", "a\\ b@c", " X" },
    { "<\"a>\" b@c> X", "<\"a>\" b@c>", " X" },
    { "<a@b>X Y", "<a@b>X", " Y" },
    { "\"a b", "\"a b", "" }, /* without an end it eats everything, and is then refused */
    { "<a b", "<a b", "" },
    { "a\\", "a\\", "" },
    { "", "", "" },
    { "   ", "", "" },
};

Test(smtp_path, the_path_ends_at_a_blank_outside_quotes_and_angles)
{
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct span args = span_of(cuts[i].args);
        struct span path = smtp_path_cut(&args);
        cr_expect(span_equals(path, span_of(cuts[i].path)), "%s", cuts[i].args);
        cr_expect(span_equals(args, span_of(cuts[i].rest)), "%s", cuts[i].args);
    }
}

static const struct {
    const char *text, *local, *domain; /* local NULL: refused; domain NULL: there is none */
} paths[] = {
    { "<a@b.c>", "a", "b.c" },
    { "a@b.c", "a", "b.c" },
    { "< a@b.c >", "a", "b.c" },
    { "<A.B@C.d>", "A.B", "C.d" }, /* the case is kept */
    { "<>", "", NULL },
    { "<a>", "a", NULL },
    { "<postmaster>", "postmaster", NULL },
    { "<\"\"@b.c>", "", "b.c" },
    { "<\"a b\"@c.d>", "a b", "c.d" },
    { "<\"a\\\"b\"@c.d>", "a\"b", "c.d" },
    { "<\"a\\\\b\"@c.d>", "a\\b", "c.d" },
    { "<\"a>\"@c.d>", "a>", "c.d" },
    { "<a\\ b@c.d>", "a b", "c.d" },
    { "<a\\@b@c.d>", "a@b", "c.d" },
    { "<\"u@foreign\"@c.d>", "u@foreign", "c.d" },
    { "<u@foreign@c.d>", "u@foreign", "c.d" }, /* the last one divides */
    { "<\"x@y\">", "x@y", NULL },              /* a quoted one does not */
    { "<a.\"b c\".d@e.f>", "a.b c.d", "e.f" },
    { "<a%b!c@d.e>", "a%b!c", "d.e" },
    { "<a..b@c.d>", "a..b", "c.d" }, /* seen in the wild, Postfix takes it */
    { "<.a.@c.d>", ".a.", "c.d" },
    { "<!#$%&'*+-/=?^_`{|}~@c.d>", "!#$%&'*+-/=?^_`{|}~", "c.d" },
    { "<a@b.c.>", "a", "b.c." },
    { "<a@b>", "a", "b" },
    { "<a@b_c.d>", "a", "b_c.d" },
    { "<a@[192.0.2.1]>", "a", "[192.0.2.1]" },
    { "<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]" },
    { "<\xc3\xa9@x.test>", "\xc3\xa9", "x.test" },
    { "<a@caf\xc3\xa9.test>", "a", "caf\xc3\xa9.test" },
    /* source routes are dropped */
    { "<@x:a@b.c>", "a", "b.c" },
    { "<@x,@y.z:a@b.c>", "a", "b.c" },
    { "<@[IPv6:::1],@y:a@b.c>", "a", "b.c" },
    { "<@x:\"a@y\"@b.c>", "a@y", "b.c" },
    /* what is not exactly one address */
    { "", NULL, NULL },
    { "<", NULL, NULL },
    { ">", NULL, NULL },
    { "<a@b.c", NULL, NULL },
    { "a@b.c>", NULL, NULL },
    { "<<a@b.c>>", NULL, NULL },
    { "<a@b.c><d@e.f>", NULL, NULL },
    { "<a@b.c>,<d@e.f>", NULL, NULL },
    { "<a@b.c,d@e.f>", NULL, NULL },
    { "<a@b.c;>", NULL, NULL },
    { "<a b@c.d>", NULL, NULL },
    { "<a(x)@b.c>", NULL, NULL },
    { "<a:b@c.d>", NULL, NULL },
    { "Name <a@b.c>", NULL, NULL },
    { "<@>", NULL, NULL },
    { "<@b.c>", NULL, NULL },
    { "<@x:>x", NULL, NULL },
    { "<@x;a@b.c>", NULL, NULL },
    { "<a@>", NULL, NULL },
    { "<a@.b>", NULL, NULL },
    { "<a@b..c>", NULL, NULL },
    { "<a@b.c..>", NULL, NULL },
    { "<a@.>", NULL, NULL },
    { "<a@-b.c>", NULL, NULL },
    { "<a@b-.c>", NULL, NULL },
    { "<a@1.2.3.4>", NULL, NULL },
    { "<a@[1.2.3.4>", NULL, NULL },
    { "<a@[1.2.3.4]x>", NULL, NULL },
    { "<a@[1.2.3.4]@x.y>", NULL, NULL },
    { "<a@x[1.2.3.4]>", NULL, NULL },
    { "<a@[::1]>", NULL, NULL },
    { "<a@[0.1.2.3]>", NULL, NULL },
    { "<a@b%c>", NULL, NULL },
    { "<a@b/c>", NULL, NULL },
    { "<a@\"b@c\">", NULL, NULL },
    { "<\"a@b.c>", NULL, NULL },
    { "<\"a\\\">", NULL, NULL },
    { "<\"a\\", NULL, NULL },
    { "<a\\>", NULL, NULL },
    { "<a\x01@b.c>", NULL, NULL },
    { "<\"a\tb\"@c.d>", NULL, NULL },
    { "<\"a\\\x01\"@c.d>", NULL, NULL },
    { "<a\x7f@b.c>", NULL, NULL },
    { "<\xe9@x.test>", NULL, NULL }, /* Latin-1 */
    { "<a@\xc3.test>", NULL, NULL },
};

static void check_path(size_t i, struct arena *memory)
{
    struct smtp_path path;
    struct span domain = span_of(paths[i].domain);
    bool is_good = smtp_path_parse(span_of(paths[i].text), false, memory, &path);
    cr_expect_eq(is_good, paths[i].local != NULL, "%s", paths[i].text);
    if (!is_good || paths[i].local == NULL)
        return;
    cr_expect(span_equals(path.local, span_of(paths[i].local)), "%s", paths[i].text);
    cr_expect_eq(path.has_domain, paths[i].domain != NULL, "%s", paths[i].text);
    cr_expect(span_equals(path.domain, domain), "%s", paths[i].text);
    cr_expect_eq(path.address.len, path.local.len + path.has_domain + domain.len);
    cr_expect_eq(path.is_ascii, text_is_ascii(span_of(paths[i].text)), "%s", paths[i].text);
}

Test(smtp_path, a_path_is_exactly_one_address)
{
    struct arena memory = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        check_path(i, &memory);
    arena_fini(&memory);
}

Test(smtp_path, strict_envelopes_want_angles)
{
    struct arena memory = { 0 };
    struct smtp_path path;
    cr_expect(smtp_path_parse(SPAN_LITERAL("<a@b.c>"), true, &memory, &path));
    cr_expect(smtp_path_parse(SPAN_LITERAL("<>"), true, &memory, &path));
    cr_expect(!smtp_path_parse(SPAN_LITERAL("a@b.c"), true, &memory, &path));
    cr_expect(!smtp_path_parse(SPAN_LITERAL(""), true, &memory, &path));
    arena_fini(&memory);
}

Test(smtp_path, a_nul_is_a_control_octet)
{
    struct arena memory = { 0 };
    struct smtp_path path;
    cr_expect(!smtp_path_parse(SPAN_LITERAL("<a\0@b.c>"), false, &memory, &path));
    cr_expect(!smtp_path_parse(SPAN_LITERAL("<\"a\0\"@b.c>"), false, &memory, &path));
    cr_expect(!smtp_path_parse(SPAN_LITERAL("<a@b.c\0>"), false, &memory, &path));
    arena_fini(&memory);
}

Test(smtp_path, keeping_copies_all_parts)
{
    struct arena scratch = { 0 }, kept = { 0 };
    struct smtp_path with, without;
    cr_assert(smtp_path_parse(SPAN_LITERAL("<\"a@b\"@c.d>"), false, &scratch, &with));
    cr_assert(smtp_path_parse(SPAN_LITERAL("<\"a@b\">"), false, &scratch, &without));
    smtp_path_keep(&with, &kept);
    smtp_path_keep(&without, &kept);
    arena_fini(&scratch); /* AddressSanitizer sees a span that still points there */
    cr_expect(span_equals(with.local, SPAN_LITERAL("a@b")));
    cr_expect(span_equals(with.domain, SPAN_LITERAL("c.d")));
    cr_expect(span_equals(with.address, SPAN_LITERAL("a@b@c.d")));
    cr_expect(!without.has_domain && span_equals(without.local, SPAN_LITERAL("a@b")));
    arena_fini(&kept);
}

Test(smtp_path, an_address_is_divided_at_its_last_at)
{
    struct smtp_path path = smtp_path_of(SPAN_LITERAL("a@b@c.d"));
    cr_expect(span_equals(path.local, SPAN_LITERAL("a@b")));
    cr_expect(span_equals(path.domain, SPAN_LITERAL("c.d")));
    path = smtp_path_of(SPAN_LITERAL("a"));
    cr_expect(!path.has_domain && span_equals(path.local, SPAN_LITERAL("a")));
    path = smtp_path_of(SPAN_LITERAL("a@"));
    cr_expect(path.has_domain && path.domain.len == 0);
    path = smtp_path_of(span_make(NULL, 0));
    cr_expect(!path.has_domain && path.is_ascii);
}

static const struct {
    const char *address, *quoted;
} quotes[] = {
    { "a.b@c.d", "a.b@c.d" },
    { "a b@c.d", "\"a b\"@c.d" },
    { "a@b@c.d", "\"a@b\"@c.d" },
    { "a\"b\\c@d.e", "\"a\\\"b\\\\c\"@d.e" },
    { ".a@b.c", "\".a\"@b.c" },
    { "a.@b.c", "\"a.\"@b.c" },
    { "a..b@b.c", "\"a..b\"@b.c" },
    { "@b.c", "\"\"@b.c" },
    { "a,b@c.d", "\"a,b\"@c.d" },
    { "a<b>@c.d", "\"a<b>\"@c.d" },
    { "\xc3\xa9@x.test", "\xc3\xa9@x.test" },
    { "postmaster", "postmaster" },
    { "a b", "\"a b\"" },
    { "", "" },
};

Test(smtp_path, the_local_part_is_quoted_when_it_must_be)
{
    for (size_t i = 0; i < ARRAY_LEN(quotes); i++) {
        struct buf out = { 0 };
        smtp_path_quote(&out, span_of(quotes[i].address));
        cr_expect_str_eq(buf_text(&out), quotes[i].quoted);
        buf_fini(&out);
    }
}

static void check_accepted(const struct smtp_path *path, struct arena *memory)
{
    struct buf quoted = { 0 };
    struct smtp_path again;
    struct ip ip;
    const struct span a = path->address;
    for (size_t i = 0; i < a.len; i++)
        cr_assert(ascii_is_print(a.at[i]) || (a.at[i] & 0x80) != 0);
    cr_assert_eq(a.at[a.len], '\0');
    cr_assert(utf8_is_valid(a));
    bool is_name = hostname_is_valid(hostname_without_dot(path->domain), true);
    cr_assert(!path->has_domain || is_name || address_literal_parse(path->domain, &ip));
    if (!path->has_domain && span_find(a, '@') < a.len)
        return; /* the internal form cannot tell any more */
    buf_putc(&quoted, '<');
    smtp_path_quote(&quoted, a);
    buf_putc(&quoted, '>');
    cr_assert(smtp_path_parse(buf_span(&quoted), true, memory, &again), "%s", buf_text(&quoted));
    cr_assert(span_equals(again.address, a), "%s", buf_text(&quoted));
    cr_assert(span_equals(again.domain, path->domain), "%s", buf_text(&quoted));
    buf_fini(&quoted);
}

/* Writes a text that is nearly an address. */
static size_t make_path(struct seeded *r, char *text)
{
    static const char *const parts[] = { "a", "b.c", "@", "@", "\"", "\\", "<", ">", " ", ".", ",",
                                         ":", "@x:", "[1.2.3.4]", "[IPv6:::1]", "-", "%", "\x01",
                                         "\xc3\xa9", "\xff", "1" };
    size_t len = 0, count = seeded_below(r, 9);
    text[len++] = '<';
    for (size_t i = 0; i < count; i++) {
        const char *part = parts[seeded_below(r, ARRAY_LEN(parts))];
        memcpy(text + len, part, strlen(part));
        len += strlen(part);
    }
    text[len++] = '>';
    return len;
}

Test(smtp_path, whatever_is_accepted_is_clean_and_survives_quoting)
{
    struct seeded r = seeded_begin(5);
    struct arena memory = { 0 };
    int accepted = 0;
    for (int round = 0; round < 100000; round++) {
        char text[128];
        struct smtp_path path;
        size_t len = make_path(&r, text);
        if (smtp_path_parse(span_make(text, len), false, &memory, &path)) {
            check_accepted(&path, &memory);
            accepted++;
        }
        arena_fini(&memory);
    }
    cr_expect_gt(accepted, 5000, "the generator makes enough good ones: %d", accepted);
}
