#include "protocol/lines.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

/* Each logical line as "number:text|", with '!' for one that continues nothing. */
static const struct {
    const char *text, *lines;
} rows[] = {
    { "", "" },
    { "\n", "" },
    { "\n\n  \n\t\n", "" },
    { "# only\n  # comments\n", "" },
    { "a = b\n", "1:a = b|" },
    { "a = b", "1:a = b|" },
    { "a = b\r\nc = d\r\n", "1:a = b|2:c = d|" },
    { "a\nb\n", "1:a|2:b|" },
    /* continued lines: the line end goes, the blanks stay */
    { "a = b\n  c\n", "1:a = b  c|" },
    { "a = b\n\tc\n d\ne\n", "1:a = b\tc d|4:e|" },
    { "a = b\r\n  c\r\n", "1:a = b  c|" },
    { "host = mx.\n $mydomain\n", "1:host = mx. $mydomain|" },
    /* ignored lines do not end a logical line */
    { "a = b\n\n  c\n", "1:a = b  c|" },
    { "a = b\n# x\n  c\n", "1:a = b  c|" },
    { "a = b\n  # x\n  \n\n  c\nd\n", "1:a = b  c|6:d|" },
    { "a = b\n\n\n", "1:a = b|" },
    { "a = b\n# x", "1:a = b|" },
    { "a\n \n\nb\n", "1:a|4:b|" },
    /* '#' is a comment only in front */
    { "a = b # c\n", "1:a = b # c|" },
    { "a = b\n  c # d\n", "1:a = b  c # d|" },
    /* numbers count physical lines */
    { "\n# x\na\n\nb\n  c\nd\n", "3:a|5:b  c|7:d|" },
    /* nothing to continue */
    { "  a\nb\n", "1!  a|2:b|" },
    { "\n# x\n  a\n  b\n", "3!  a  b|" },
};

static void describe(struct span text, struct buf *out)
{
    struct lines l;
    struct span line;
    lines_begin(&l, text);
    while (lines_next(&l, &line)) {
        buf_printf(out, "%d%c", l.line, l.is_orphan ? '!' : ':');
        buf_add(out, line);
        buf_putc(out, '|');
    }
    cr_expect(!lines_next(&l, &line), "the end stays the end");
    lines_fini(&l);
}

Test(lines, logical_lines_are_physical_lines_put_together)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = { 0 };
        describe(span_of(rows[i].text), &out);
        cr_expect_str_eq(buf_text(&out), rows[i].lines, "row %zu", i);
        buf_fini(&out);
    }
}

Test(lines, a_nul_is_a_byte_of_the_line)
{
    struct buf out = { 0 };
    describe(SPAN_LITERAL("a\0b\nc"), &out);
    cr_expect(span_equals(buf_span(&out), SPAN_LITERAL("1:a\0b|2:c|")));
    buf_fini(&out);
}

Test(lines, many_and_long_lines)
{
    struct buf text = { 0 }, out = { 0 };
    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "%skey%d value\n", i % 2 != 0 ? " " : "", i);
    describe(buf_span(&text), &out);
    cr_expect(span_istarts(buf_span(&out), SPAN_LITERAL("1:key0 value key1 value|3:key2")));
    cr_expect(span_iends(buf_span(&out), SPAN_LITERAL("|19999:key19998 value key19999 value|")));
    buf_fini(&text);
    buf_fini(&out);
}
