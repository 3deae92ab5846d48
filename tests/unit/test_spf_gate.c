/* What passes the gate, and as what. */
#include "policy/spf_gate.h"
#include "policy/spf_macro.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

static void print_term(struct buf *out, const struct spf_term *t)
{
    static const char *const names[] = { "all", "include", "a", "mx", "ptr", "ip4", "ip6",
                                         "exists" };
    char text[IP_TEXT_MAX];
    buf_printf(out, " %c%s", t->qualifier, names[t->mechanism]);
    if (t->network.family != 0)
        buf_printf(out, ":%s", ip_text(&t->network, text));
    if (t->spec.len > 0)
        buf_printf(out, ":%.*s", (int)t->spec.len, t->spec.at);
    if (t->v4_bits != 32)
        buf_printf(out, "/%u", t->v4_bits);
    if (t->v6_bits != 128)
        buf_printf(out, "//%u", t->v6_bits);
}

/* Terms, or what is wrong. */
static void print(struct buf *out, const char *text)
{
    struct arena memory = { 0 };
    struct spf_record record;
    const char *problem = spf_parse(&memory, span_of(text), &record);
    if (problem != NULL) {
        buf_printf(out, " !%s", problem);
    } else {
        for (const struct spf_term *t = record.first; t != NULL; t = t->next)
            print_term(out, t);
        if (record.redirect.len > 0)
            buf_printf(out, " redirect %.*s", (int)record.redirect.len, record.redirect.at);
        if (record.exp.len > 0)
            buf_printf(out, " exp %.*s", (int)record.exp.len, record.exp.at);
    }
    arena_fini(&memory);
}

static const struct {
    const char *in, *out;
} records[] = {
    { "v=spf1", "" },
    { "v=spf1 all", " +all" },
    { "v=spf1 -a ~mx ?ptr +exists:%{i}", " -a ~mx ?ptr +exists:%{i}" },
    { "v=spf1 a/24 a//64 a/24//64 a:x.y/8", " +a/24 +a//64 +a/24//64 +a:x.y/8" },
    { "v=spf1 a/0 mx//0", " +a/0 +mx//0" },
    { "v=spf1 a:%{d/}.x.y/24", " +a:%{d/}.x.y/24" },
    { "v=spf1 a:x/y.z", " +a:x/y.z" },
    { "v=spf1 ip4:192.0.2.129/25 ip6:2001:DB8::1/32",
      " +ip4:192.0.2.128/25 +ip6:2001:db8:://32" },
    { "v=spf1 ip6:::ffff:192.0.2.1", " +ip6" }, /* nobody comes from there */
    { "v=spf1 redirect=%{d}.x exp=e.x foo=bar", " redirect %{d}.x exp e.x" },
    { "v=spf1 -all a mx", " -all" },
    { "v=spf1 INCLUDE:x.y ReDiReCt=x.y", " +include:x.y redirect x.y" },
    { "v=spf1 a:", " !a bad domain name" },
    { "v=spf1 -all a:", " !a bad domain name" },
    { "v=spf1 include", " !a mechanism without its domain name" },
    { "v=spf1 all:x", " !all with something behind it" },
    { "v=spf1 mx/33", " !a bad prefix length" },
    { "v=spf1 a//007", " !a bad prefix length" },
    { "v=spf1 ip4:192.0.2.1/99999999999999999999", " !a bad prefix length" },
    { "v=spf1 ip4:1.2.3", " !a bad address" },
    { "v=spf1 ip4:::1", " !an address of the other family" },
    { "v=spf1 ip6:192.0.2.1", " !an address of the other family" },
    { "v=spf1 foo", " !an unknown mechanism" },
    { "v=spf1 a=x%", " !a bad modifier" },
    { "v=spf1 exp=a.b exp=a.b", " !a modifier twice" },
    { "v=spf1 \x80", " !a character that is not ASCII" },
};

Test(spf_gate, records)
{
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        struct buf out = { 0 };
        print(&out, records[i].in);
        cr_expect_str_eq(buf_text(&out), records[i].out, "%s", records[i].in);
        buf_fini(&out);
    }
}

Test(spf_gate, a_domain_name_of_1000_bytes_is_enough)
{
    struct buf text = { 0 }, out = { 0 };
    buf_puts(&text, "v=spf1 a:");
    for (int i = 0; i < 250; i++)
        buf_puts(&text, "%{i}");
    print(&out, buf_text(&text));
    cr_expect_eq(strncmp(buf_text(&out), " +a:", 4), 0);
    buf_clear(&out);
    buf_puts(&text, "%%");
    print(&out, buf_text(&text));
    cr_expect_str_eq(buf_text(&out), " !a domain name too long");
    buf_fini(&text);
    buf_fini(&out);
}

/* ------------------------------------------------------------ selection */

static void add_text(struct fact *txt, struct buf *value, const char *text, size_t len)
{
    record_add(value, span_make(text, len));
    txt->value = buf_span(value);
}

Test(spf_gate, the_record_is_the_one_that_begins_with_its_version)
{
    struct fact txt = { .status = FACT_FOUND };
    struct buf value = { 0 };
    struct span record = { 0 };
    cr_expect_eq(spf_select(&txt, &record), SPF_NO_RECORD);
    add_text(&txt, &value, "v=spf1\0", 7);
    add_text(&txt, &value, "v=spf", 5);
    cr_expect_eq(spf_select(&txt, &record), SPF_NO_RECORD);
    add_text(&txt, &value, "V=SPF1 a", 8);
    cr_expect_eq(spf_select(&txt, &record), SPF_ONE_RECORD);
    cr_expect(span_equals(record, SPAN_LITERAL("V=SPF1 a")));
    add_text(&txt, &value, "v=spf1", 6);
    cr_expect_eq(spf_select(&txt, &record), SPF_MANY_RECORDS);
    buf_fini(&value);
}

/* ------------------------------------------------------------ macros */

static const struct {
    const char *text;
    bool as_domain, as_string, as_text;
} macros[] = {
    { "x.com", true, true, true },      { "x.com.", true, true, true },
    { "com", false, true, true },       { "%{d}", true, true, true },
    { "%{D2R-.+,/_=}", true, true, true }, { "%{c}", false, false, true },
    { "%{r}.%{t}", false, false, true }, { "a b.com", false, false, true },
    { "x%{d}com", false, true, true },  { "x.%{d}.1", false, true, true },
    { "x.1a", true, true, true },       { "x.1-2", true, true, true },
    { "x.-a", false, true, true },      { "x.a-", false, true, true },
    { "x.a_b", false, true, true },     { "%%", true, true, true },
    { "%", false, false, false },       { "%{", false, false, false },
    { "%{}", false, false, false },     { "%{d", false, false, false },
    { "%{0}", false, false, false },    { "%{d0}", false, false, false },
    { "%{d00001}", true, true, true },  { "%{d99999999999999999999}", true, true, true },
    { "%{d:}", false, false, false },   { "%{drr}", false, false, false },
    { "%{z}", false, false, false },    { "%d", false, false, false },
    { "a\tb.com", false, false, false }, { "a\x7f.com", false, false, false },
    { "\xc3\xa9.com", false, false, false }, { "", false, true, true },
};

Test(spf_gate, macro_strings)
{
    for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
        struct span text = span_of(macros[i].text);
        cr_expect_eq(spf_macro_check(text, SPF_MACRO_DOMAIN), macros[i].as_domain, "%zu", i);
        cr_expect_eq(spf_macro_check(text, SPF_MACRO_STRING), macros[i].as_string, "%zu", i);
        cr_expect_eq(spf_macro_check(text, SPF_MACRO_TEXT), macros[i].as_text, "%zu", i);
    }
}

Test(spf_gate, values_and_results_have_a_ceiling)
{
    char local[2000];
    struct ip ip = { .family = 4 };
    memset(local, '.', sizeof local);
    struct spf_macros m = { .local = span_make(local, sizeof local), .ip = &ip,
                            .client_name = "", .receiver = "" };
    struct buf out = { .max = 100 };
    spf_macro_expand(&out, SPAN_LITERAL("%{lr}%{l}%{L}%{i}%{i}%{i}"), &m);
    cr_expect_leq(out.len, 100);
    buf_fini(&out);
}
