#include "protocol/buf.h"
#include "protocol/mem.h"
#include "protocol/smtp_data.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Feeds the wire bytes in pieces of this size; *rest is what was left behind the end. */
static struct buf feed(struct smtp_data *d, const char *wire, size_t len, size_t chunk,
                       size_t *rest)
{
    struct buf out = { 0 };
    struct span piece;
    *rest = 0;
    for (size_t at = 0; at < len; at += chunk) {
        struct span in = span_make(wire + at, len - at < chunk ? len - at : chunk);
        while (smtp_data_next(d, &in, &piece))
            buf_add(&out, piece);
        if (d->is_ended) {
            *rest = len - at - chunk + in.len;
            if (len - at < chunk)
                *rest = in.len;
            break;
        }
    }
    return out;
}

struct row {
    const char *wire, *message;
    int bare_lf, bare_cr;
    bool is_ended;
};

static const struct row rows[] = {
    { "hi\r\n.\r\n", "hi\r\n", 0, 0, true },
    { ".\r\n", "", 0, 0, true },
    { "..\r\n.\r\n", ".\r\n", 0, 0, true },
    { ".x\r\n...y\r\n.\r\n", "x\r\n..y\r\n", 0, 0, true },
    { "a\r\n\r\nb\r\n.\r\nQUIT\r\n", "a\r\n\r\nb\r\n", 0, 0, true },
    /* smuggling: none of these ends the message, and no lone dot is stored */
    { "hi\n.\nQUIT\r\n.\r\n", "hi\r\nQUIT\r\n", 2, 0, true },
    { "hi\n.\r\nQUIT\r\n.\r\n", "hi\r\nQUIT\r\n", 1, 0, true },
    { "hi\r\n.\nQUIT\r\n.\r\n", "hi\r\nQUIT\r\n", 1, 0, true },
    { "hi\r\n.\rQUIT\r\n.\r\n", "hi\r\n\rQUIT\r\n", 0, 1, true },
    { "hi\r.\r\n", "hi\r.\r\n", 0, 1, false },
    { "hi\r\r\n.\r\n", "hi\r\r\n", 0, 1, true },
    { "a\nb\r\n.\r\n", "a\r\nb\r\n", 1, 0, true },
    { "a\n.b\r\n.\r\n", "a\r\nb\r\n", 1, 0, true },
};

Test(smtp_data, every_piece_size_gives_the_same_message)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        size_t len = strlen(r->wire);
        for (size_t chunk = 1; chunk <= len; chunk++) {
            struct smtp_data d;
            size_t rest;
            smtp_data_begin(&d, false);
            struct buf out = feed(&d, r->wire, len, chunk, &rest);
            cr_expect_str_eq(buf_text(&out), r->message, "row %zu chunk %zu", i, chunk);
            cr_expect_eq(d.is_ended, r->is_ended, "row %zu chunk %zu", i, chunk);
            cr_expect_eq(d.bare_lf_count, (uint64_t)r->bare_lf, "row %zu chunk %zu", i, chunk);
            cr_expect_eq(d.bare_cr_count, (uint64_t)r->bare_cr, "row %zu chunk %zu", i, chunk);
            cr_expect_eq(d.size_bytes, out.len);
            buf_fini(&out);
        }
    }
}

Test(smtp_data, bdat_has_no_dots_and_no_end)
{
    static const char wire[] = ".\r\n..\r\n.\r\nx\ny";
    for (size_t chunk = 1; chunk < sizeof wire; chunk++) {
        struct smtp_data d;
        size_t rest;
        smtp_data_begin(&d, true);
        struct buf out = feed(&d, wire, sizeof wire - 1, chunk, &rest);
        cr_expect_str_eq(buf_text(&out), ".\r\n..\r\n.\r\nx\r\ny", "chunk %zu", chunk);
        cr_expect(!d.is_ended);
        buf_fini(&out);
    }
}

Test(smtp_data, large_clean_input_is_not_copied)
{
    enum { LINES = 2000 };
    struct buf wire = { 0 };
    struct smtp_data d;
    struct span piece;
    for (int i = 0; i < LINES; i++)
        buf_printf(&wire, "line %d of a long message without any dots at the start\r\n", i);
    struct span in = buf_span(&wire);
    smtp_data_begin(&d, false);
    cr_assert(smtp_data_next(&d, &in, &piece));
    cr_expect_eq(piece.at, wire.at, "the input itself is lent out");
    cr_expect_eq(piece.len, wire.len, "and all of it at once");
    buf_fini(&wire);
}

/* ------------------------------------------------------------ against a naive reference */

/* What the rules say about whole lines, one byte after the other; nothing of it is clever. */
struct naive {
    struct buf message;
    uint64_t bare_lf, bare_cr;
    bool is_ended;
    size_t used; /* of the wire */
};

/* The part of a line in front of its end; has_end: the LF was seen. */
static void naive_content(struct naive *n, struct span line, bool is_bdat)
{
    if (!is_bdat && line.len > 0 && line.at[0] == '.')
        line = span_skip(line, 1);
    for (size_t i = 0; i < line.len; i++)
        buf_putc(&n->message, line.at[i]);
}

static uint64_t count_cr(struct span text)
{
    uint64_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += text.at[i] == '\r';
    return count;
}

/* The last line, without LF: a dot and a CR behind it are held back, they may be the end. */
static void naive_rest(struct naive *n, struct span rest, bool is_bdat)
{
    bool is_held = span_equals(rest, SPAN_LITERAL(".")) || span_equals(rest, SPAN_LITERAL(".\r"));
    if (is_bdat || !is_held)
        naive_content(n, rest, is_bdat);
    bool ends_in_cr = rest.len > 0 && rest.at[rest.len - 1] == '\r';
    n->bare_cr += count_cr(rest) - ends_in_cr; /* of the last one nothing is known yet */
    n->used += rest.len;
}

static void naive_run(struct naive *n, struct span wire, bool is_bdat)
{
    bool is_behind_crlf = true;
    for (;;) {
        struct span rest = span_skip(wire, n->used);
        size_t end = span_find(rest, '\n');
        if (end == rest.len) {
            naive_rest(n, rest, is_bdat);
            return;
        }
        bool is_crlf = end > 0 && rest.at[end - 1] == '\r';
        struct span line = span_make(rest.at, is_crlf ? end - 1 : end);
        bool is_dot = !is_bdat && span_equals(line, SPAN_LITERAL("."));
        n->used += end + 1;
        n->bare_lf += !is_crlf;
        n->bare_cr += count_cr(line);
        n->is_ended = is_dot && is_crlf && is_behind_crlf;
        if (n->is_ended)
            return;
        if (!is_dot) {
            naive_content(n, line, is_bdat);
            buf_puts(&n->message, "\r\n");
        }
        is_behind_crlf = is_crlf;
    }
}

/* Feeds one piece from memory of exactly its size, so that reading past it is noticed. */
static size_t feed_piece(struct smtp_data *d, struct span wire, struct buf *out)
{
    char *copy = xmalloc(wire.len);
    memcpy(copy, wire.at, wire.len);
    struct span in = span_make(copy, wire.len), piece;
    while (smtp_data_next(d, &in, &piece)) {
        cr_assert_gt(piece.len, 0, "an empty piece would mean nothing");
        buf_add(out, piece);
    }
    size_t used = wire.len - in.len;
    free(copy);
    return used;
}

static void check_against_naive(struct span wire, bool is_bdat, struct seeded *r, size_t largest)
{
    struct naive n = { 0 };
    struct buf out = { 0 };
    struct smtp_data d;
    size_t used = 0;
    naive_run(&n, wire, is_bdat);
    smtp_data_begin(&d, is_bdat);
    while (used < wire.len && !d.is_ended) {
        size_t chunk = 1 + seeded_below(r, largest), left = wire.len - used;
        used += feed_piece(&d, span_make(wire.at + used, chunk < left ? chunk : left), &out);
    }
    cr_assert(span_equals(buf_span(&out), buf_span(&n.message)));
    cr_assert_eq(d.is_ended, n.is_ended);
    cr_assert_eq(d.bare_lf_count, n.bare_lf);
    cr_assert_eq(d.bare_cr_count, n.bare_cr);
    cr_assert_eq(d.size_bytes, n.message.len);
    cr_assert_eq(used, n.used, "what follows the final dot is left alone");
    buf_fini(&n.message);
    buf_fini(&out);
}

/* Lines made of the parts that matter. */
static void make_wire(struct seeded *r, struct buf *wire)
{
    static const char *const parts[] = { "\r\n", "\r\n", "\n", "\r", ".", ".", "..", "a", "bc",
                                         "\r\n.\r\n", "\r\n.\n", "\n.\r\n", "\n.\n", "\xff" };
    size_t count = seeded_below(r, 24);
    buf_clear(wire);
    for (size_t i = 0; i < count; i++)
        buf_puts(wire, parts[seeded_below(r, ARRAY_LEN(parts))]);
    if (seeded_below(r, 4) == 0)
        buf_append(wire, "\0", 1);
}

Test(smtp_data, random_lines_agree_with_a_naive_reference)
{
    struct seeded r = seeded_begin(6);
    struct buf wire = { 0 };
    for (int round = 0; round < 60000; round++) {
        make_wire(&r, &wire);
        size_t largest = (size_t[]){ 1, 3, 100 }[round % 3];
        check_against_naive(buf_span(&wire), round % 4 == 3, &r, largest);
    }
    buf_fini(&wire);
}

/* The fast path looks at 2048 bytes at a time: anything odd near its borders must be seen. */
static void make_long_wire(struct seeded *r, struct buf *wire)
{
    static const char *const odd[] = { "\n", "\r", "\r\n.", "\r\n..x", "\n.\r\n", "\r\n.\r\n",
                                       "\r\r\n", "\r\n.\n" };
    size_t len = 6000 + seeded_below(r, 1000), column = 0;
    buf_clear(wire);
    while (wire->len < len) {
        bool is_near_border = (wire->len + 4) % 2048 < 8;
        if (seeded_below(r, is_near_border ? 8 : 3000) == 0)
            buf_puts(wire, odd[seeded_below(r, ARRAY_LEN(odd))]);
        else if (++column % 60 == 0)
            buf_puts(wire, "\r\n");
        else
            buf_putc(wire, column % 7 == 0 ? '.' : 'x');
    }
    buf_puts(wire, "\r\n.\r\nNOOP\r\n");
}

Test(smtp_data, long_random_lines_agree_with_a_naive_reference)
{
    struct seeded r = seeded_begin(7);
    struct buf wire = { 0 };
    for (int round = 0; round < 1500; round++) {
        make_long_wire(&r, &wire);
        size_t largest = (size_t[]){ 10000, 5000, 300 }[round % 3];
        check_against_naive(buf_span(&wire), round % 5 == 4, &r, largest);
    }
    buf_fini(&wire);
}

Test(smtp_data, every_short_text_of_the_letters_that_matter_agrees_with_the_reference)
{
    static const char letters[] = "\r\n.a";
    struct seeded r = seeded_begin(8);
    for (size_t len = 1; len <= 7; len++) {
        for (unsigned code = 0; code < 1u << 2 * len; code++) {
            char wire[8];
            for (size_t i = 0; i < len; i++)
                wire[i] = letters[code >> 2 * i & 3];
            check_against_naive(span_make(wire, len), false, &r, 1);
            check_against_naive(span_make(wire, len), false, &r, 8);
        }
    }
}

Test(smtp_data, nothing_that_leaves_holds_a_bare_line_feed)
{
    struct seeded r = seeded_begin(9);
    struct buf wire = { 0 };
    for (int round = 0; round < 20000; round++) {
        struct buf out = { 0 };
        struct smtp_data d;
        make_wire(&r, &wire);
        smtp_data_begin(&d, round % 2 != 0);
        feed_piece(&d, buf_span(&wire), &out);
        for (size_t i = 0; i < out.len; i++)
            cr_assert(out.at[i] != '\n' || (i > 0 && out.at[i - 1] == '\r'));
        buf_fini(&out);
    }
    buf_fini(&wire);
}
