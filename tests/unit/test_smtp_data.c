#include "protocol/buf.h"
#include "protocol/smtp_data.h"

#include <criterion/criterion.h>

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
    { "\0x\xff\r\n", "", 0, 0, false },
};

Test(smtp_data, every_piece_size_gives_the_same_message)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] - 1; i++) {
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
