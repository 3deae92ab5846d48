#include "protocol/mem.h"
#include "protocol/smtp_line.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>

enum { LIMIT = 20 };

/* Every line as "[text]" with L for a bare LF and T for too long; ">rest" for what has no end. */
static void describe(struct smtp_line *l, struct span wire, size_t chunk, struct buf *out)
{
    struct smtp_line_out line;
    for (size_t at = 0; at < wire.len; at += chunk) {
        size_t n = wire.len - at < chunk ? wire.len - at : chunk;
        char piece[4096]; /* its own memory, of this size only: nobody reads behind it */
        memcpy(piece, wire.at + at, n);
        struct span in = span_make(piece, n);
        while (smtp_line_next(l, &in, &line)) {
            buf_putc(out, '[');
            buf_add(out, line.text);
            buf_puts(out, line.is_too_long ? "]T" : line.is_bare_lf ? "]L" : "]");
            cr_assert(!line.is_too_long || !line.is_bare_lf, "its end does not matter");
        }
        cr_assert_eq(in.len, 0);
    }
}

static const struct {
    const char *wire, *lines;
} rows[] = {
    { "NOOP\r\n", "[NOOP]" },
    { "NOOP\n", "[NOOP]L" },
    { "\r\n\n\r\n", "[][]L[]" },
    { "a\r\nb\r\nc", "[a][b]" },
    { "a\rb\r\n", "[a\rb]" },
    { "a\r\r\n", "[a\r]" }, /* exactly one CR belongs to the end */
    { "a\r", "" },
    { "\r\r\r\n", "[\r\r]" },
    { "12345678901234567890\r\n", "[12345678901234567890]" },
    { "12345678901234567890\n", "[12345678901234567890]L" },
    { "1234567890123456789\r\r\n", "[1234567890123456789\r]" },
    { "123456789012345678901\r\nQUIT\r\n", "[12345678901234567890]T[QUIT]" },
    { "123456789012345678901\nQUIT\r\n", "[12345678901234567890]T[QUIT]" },
    { "12345678901234567890\rx\r\nQUIT\r\n", "[12345678901234567890]T[QUIT]" },
    { "12345678901234567890\r\r\nQUIT\r\n", "[12345678901234567890]T[QUIT]" },
    { "1234567890123456789012345678901234567890123456789012345678901234567890\r\nQUIT\r\n",
      "[12345678901234567890]T[QUIT]" },
};

Test(smtp_line, lines_are_the_same_in_pieces_of_any_size)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t chunk = 1; chunk <= strlen(rows[i].wire); chunk++) {
            struct smtp_line l = { .limit_bytes = LIMIT };
            struct buf out = { 0 };
            describe(&l, span_of(rows[i].wire), chunk, &out);
            cr_expect_str_eq(buf_text(&out), rows[i].lines, "row %zu chunk %zu", i, chunk);
            smtp_line_fini(&l);
            buf_fini(&out);
        }
    }
}

Test(smtp_line, a_nul_is_a_byte_like_others)
{
    struct smtp_line l = { .limit_bytes = LIMIT };
    struct smtp_line_out line;
    struct span in = SPAN_LITERAL("a\0b\r\n");
    cr_assert(smtp_line_next(&l, &in, &line));
    cr_expect(span_equals(line.text, SPAN_LITERAL("a\0b")));
    smtp_line_fini(&l);
}

Test(smtp_line, what_follows_the_line_stays_in_the_input)
{
    struct smtp_line l = { .limit_bytes = LIMIT };
    struct smtp_line_out line;
    struct span in = SPAN_LITERAL("DATA\r\nbody\r\n");
    cr_assert(smtp_line_next(&l, &in, &line));
    cr_expect(span_equals(in, SPAN_LITERAL("body\r\n")));
    cr_expect_eq(l.partial.cap, 0, "a whole line is lent from the input");
    smtp_line_fini(&l);
}

Test(smtp_line, a_flood_without_an_end_costs_no_more_than_the_limit)
{
    struct smtp_line l = { .limit_bytes = 2048 };
    struct smtp_line_out line;
    static char flood[65536];
    memset(flood, 'x', sizeof flood);
    for (int i = 0; i < 200; i++) {
        struct span in = span_make(flood, sizeof flood);
        cr_assert(!smtp_line_next(&l, &in, &line));
        cr_assert_leq(l.partial.cap, 4096);
    }
    struct span in = SPAN_LITERAL("\r\nNOOP\r\n");
    cr_expect(smtp_line_next(&l, &in, &line) && line.is_too_long);
    cr_expect_eq(line.text.len, 2048);
    cr_expect(smtp_line_next(&l, &in, &line) && !line.is_too_long);
    smtp_line_fini(&l);
}

Test(smtp_line, an_idle_session_holds_no_line)
{
    struct smtp_line l = { .limit_bytes = LIMIT };
    struct smtp_line_out line;
    struct span in = SPAN_LITERAL("NO"), rest = SPAN_LITERAL("OP\r\n"), none = { 0 };
    cr_expect(!smtp_line_next(&l, &in, &line));
    cr_expect(smtp_line_next(&l, &rest, &line));
    cr_expect(!smtp_line_next(&l, &none, &line));
    cr_expect_null(l.partial.at);
    smtp_line_fini(&l);
}

Test(smtp_line, random_input_gives_the_same_lines_whole_and_in_pieces)
{
    static const char letters[] = "ab\r\r\n\n";
    struct seeded r = seeded_begin(4);
    for (int round = 0; round < 3000; round++) {
        char wire[200];
        size_t len = 1 + seeded_below(&r, sizeof wire);
        for (size_t i = 0; i < len; i++)
            wire[i] = letters[seeded_below(&r, round % 2 != 0 ? 6 : 3 + (i % 17 == 0) * 3)];
        struct smtp_line whole = { .limit_bytes = LIMIT }, parts = { .limit_bytes = LIMIT };
        struct buf a = { 0 }, b = { 0 };
        describe(&whole, span_make(wire, len), len, &a);
        describe(&parts, span_make(wire, len), 1 + seeded_below(&r, 30), &b);
        cr_assert(span_equals(buf_span(&a), buf_span(&b)), "round %d", round);
        smtp_line_fini(&whole);
        smtp_line_fini(&parts);
        buf_fini(&a);
        buf_fini(&b);
    }
}
