#include "protocol/buf.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

static const struct {
    const char *text, *items, *comma_items; /* "[a][b]" */
} rows[] = {
    { "", "", "" },
    { " , ,\t\n, ", "", "" },
    { "a", "[a]", "[a]" },
    { "a b, c\td\ne", "[a][b][c][d][e]", "[a b][c\td\ne]" },
    { ",a,,b,", "[a][b]", "[a][b]" },
    { "{a b, c} d", "[{a b, c}][d]", "[{a b, c} d]" },
    { "{ {a, b}, {c d} }, e", "[{ {a, b}, {c d} }][e]", "[{ {a, b}, {c d} }][e]" },
    { "check { a, b }", "[check][{ a, b }]", "[check { a, b }]" },
    { "inline:{a=b, c=d}, x", "[inline:{a=b, c=d}][x]", "[inline:{a=b, c=d}][x]" },
    { "regexp:{{/^[^A-Z]/ Bogus}}", "[regexp:{{/^[^A-Z]/ Bogus}}]", "[regexp:{{/^[^A-Z]/ Bogus}}]" },
    { "{a b", "[{a b]", "[{a b]" }, /* without an end: the rest */
    { "a} b", "[a}][b]", "[a} b]" },
    { "{a}b c", "[{a}b][c]", "[{a}b c]" },
    { "a ,b", "[a][b]", "[a][b]" },
};

static void describe(const char *text, struct span (*next)(struct span *), struct buf *out)
{
    struct span rest = span_of(text);
    buf_clear(out);
    for (;;) {
        struct span item = next(&rest);
        if (item.len == 0)
            break;
        buf_putc(out, '[');
        buf_add(out, item);
        buf_putc(out, ']');
    }
    cr_expect_eq(rest.len, 0, "%s", text);
}

Test(list, items_are_separated_by_commas_and_blanks_but_not_within_braces)
{
    struct buf out = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        describe(rows[i].text, list_next, &out);
        cr_expect_str_eq(buf_text(&out), rows[i].items, "%s", rows[i].text);
        describe(rows[i].text, list_next_comma, &out);
        cr_expect_str_eq(buf_text(&out), rows[i].comma_items, "%s", rows[i].text);
    }
    buf_fini(&out);
}

static const struct {
    const char *item, *inside; /* NULL: not in braces */
} braces[] = {
    { "{a}", "a" },       { "{ a b }", "a b" }, { "{}", "" },   { "{{a}}", "{a}" },
    { "{", NULL },        { "}", NULL },        { "", NULL },   { "a", NULL },
    { "{a", NULL },       { "a}", NULL },       { "{a}b", NULL },
};

Test(list, the_inside_of_braces)
{
    for (size_t i = 0; i < ARRAY_LEN(braces); i++) {
        struct span inside;
        bool is_braced = list_unbrace(span_of(braces[i].item), &inside);
        cr_expect_eq(is_braced, braces[i].inside != NULL, "%s", braces[i].item);
        if (is_braced && braces[i].inside != NULL)
            cr_expect(span_equals(inside, span_of(braces[i].inside)), "%s", braces[i].item);
    }
}

static const struct {
    const char *text;
    bool is_balanced;
} balances[] = {
    { "", true },      { "a", true },    { "{}", true },   { "{a{b}{c}}", true }, { "{", false },
    { "}", false },    { "}{", false },  { "{}}", false }, { "{}}{", false },     { "{{}", false },
};

Test(list, braces_match_or_they_do_not)
{
    for (size_t i = 0; i < ARRAY_LEN(balances); i++)
        cr_expect_eq(list_is_balanced(span_of(balances[i].text)), balances[i].is_balanced, "%s",
                     balances[i].text);
}
