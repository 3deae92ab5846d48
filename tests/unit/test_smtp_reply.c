#include "protocol/mem.h"
#include "protocol/smtp_reply.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>

static const struct {
    struct smtp_reply reply;
    const char *wire, *line; /* line: for the log */
} replies[] = {
    { { 250, "2.1.0", "Ok" }, "250 2.1.0 Ok\r\n", "250 2.1.0 Ok" },
    { { 354, NULL, "Go on" }, "354 Go on\r\n", "354 Go on" },
    { { 220, "", "mx ESMTP" }, "220 mx ESMTP\r\n", "220 mx ESMTP" },
    { { 250, NULL, "mx\nPIPELINING\nSIZE 5" },
      "250-mx\r\n250-PIPELINING\r\n250 SIZE 5\r\n",
      "250 mx PIPELINING SIZE 5" },
    { { 554, "5.7.1", "one\ntwo" }, "554-5.7.1 one\r\n554 5.7.1 two\r\n", "554 5.7.1 one two" },
    { { 550, "5.0.0", "a\n" }, "550-5.0.0 a\r\n550 5.0.0 \r\n", "550 5.0.0 a " },
    { { 550, "5.0.0", "" }, "550 5.0.0 \r\n", "550 5.0.0 " },
    { { 550, "5.0.0", NULL }, "550 5.0.0 \r\n", "550 5.0.0 " },
    /* a reply cannot be split by what a peer or a table put into it */
    { { 550, "5.0.0", "a\r\n250 b" }, "550-5.0.0 a \r\n550 5.0.0 250 b\r\n", "550 5.0.0 a  250 b" },
    { { 550, "5.0.0", "\x1b[1m\x7f\t\x80x" }, "550 5.0.0  [1m   x\r\n", "550 5.0.0  [1m   x" },
    { { 550, "5.0.0", "caf\xc3\xa9" }, "550 5.0.0 caf\xc3\xa9\r\n", "550 5.0.0 caf\xc3\xa9" },
    { { 550, "5.0.0", "c1 \xc2\x9b." }, "550 5.0.0 c1  .\r\n", "550 5.0.0 c1  ." },
};

Test(smtp_reply, replies_have_one_wire_form_and_one_log_form)
{
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct buf out = { 0 };
        smtp_reply_write(&out, &replies[i].reply);
        cr_expect_str_eq(buf_text(&out), replies[i].wire, "row %zu", i);
        buf_clear(&out);
        smtp_reply_print(&out, &replies[i].reply);
        cr_expect_str_eq(buf_text(&out), replies[i].line, "row %zu", i);
        buf_fini(&out);
    }
}

/* Length of the longest line without CR LF; checks that every line has it. */
static size_t longest_line(struct span wire)
{
    size_t longest = 0;
    while (wire.len > 0) {
        size_t end = span_find(wire, '\n');
        cr_assert(end < wire.len && end > 0 && wire.at[end - 1] == '\r');
        cr_assert_eq(span_find(wire, '\r'), end - 1, "one CR, in front of the LF");
        longest = end - 1 > longest ? end - 1 : longest;
        wire = span_skip(wire, end + 1);
    }
    return longest;
}

Test(smtp_reply, a_line_is_cut_at_510_bytes)
{
    for (size_t len = 490; len < 530; len++) {
        struct buf text = { 0 }, out = { 0 };
        for (size_t i = 0; i < len; i++)
            buf_putc(&text, 'x');
        buf_puts(&text, "\nshort");
        smtp_reply_write(&out, &(struct smtp_reply){ 550, "5.7.1", buf_text(&text) });
        size_t whole = strlen("550-5.7.1 ") + len;
        size_t expected = whole < SMTP_REPLY_LINE_MAX ? whole : SMTP_REPLY_LINE_MAX;
        cr_expect_eq(longest_line(buf_span(&out)), expected, "%zu", len);
        cr_expect(span_iends(buf_span(&out), SPAN_LITERAL("\r\n550 5.7.1 short\r\n")));
        buf_fini(&text);
        buf_fini(&out);
    }
}

Test(smtp_reply, a_cut_never_goes_through_a_character)
{
    for (int shift = 0; shift < 4; shift++) {
        struct buf text = { 0 }, out = { 0 };
        buf_printf(&text, "%*s", shift, "");
        for (int i = 0; i < 200; i++)
            buf_puts(&text, "\xe2\x82\xac");
        smtp_reply_write(&out, &(struct smtp_reply){ 550, NULL, buf_text(&text) });
        cr_expect_leq(out.len, SMTP_REPLY_LINE_MAX + 2);
        cr_expect_geq(out.len, SMTP_REPLY_LINE_MAX);
        cr_expect_eq((out.len - 6 - (size_t)shift) % 3, 0);
        buf_fini(&text);
        buf_fini(&out);
    }
}

Test(smtp_reply, random_texts_stay_well_formed_lines)
{
    struct seeded r = seeded_begin(3);
    char text[1200];
    for (int round = 0; round < 3000; round++) {
        struct buf out = { 0 };
        size_t len = seeded_below(&r, sizeof text);
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(1 + seeded_below(&r, 255));
        text[len] = '\0';
        smtp_reply_write(&out, &(struct smtp_reply){ 450, "4.0.0", text });
        cr_assert_leq(longest_line(buf_span(&out)), SMTP_REPLY_LINE_MAX);
        buf_fini(&out);
    }
}

static const struct {
    struct smtp_reply reply;
    int code;
    const char *enhanced;
} softened[] = {
    { { 550, "5.1.1", "" }, 450, "4.1.1" }, { { 554, NULL, "" }, 454, NULL },
    { { 521, "5.5.4", "" }, 421, "4.5.4" }, { { 599, "5.999.999", "" }, 499, "4.999.999" },
    { { 450, "4.1.1", "" }, 450, "4.1.1" }, { { 250, "2.0.0", "" }, 250, "2.0.0" },
    { { 500, "", "" }, 400, "" },           { { 354, NULL, "" }, 354, NULL },
};

Test(smtp_reply, soft_bounce_turns_every_5_into_a_4)
{
    for (size_t i = 0; i < ARRAY_LEN(softened); i++) {
        char room[16];
        struct smtp_reply soft = smtp_reply_softened(softened[i].reply, room);
        cr_expect_eq(soft.code, softened[i].code, "row %zu", i);
        if (softened[i].enhanced == NULL)
            cr_expect_null(soft.enhanced);
        else
            cr_expect_str_eq(soft.enhanced, softened[i].enhanced);
    }
}

Test(smtp_reply, errors_begin_at_400_and_two_codes_close)
{
    for (int code = 200; code < 600; code++) {
        struct smtp_reply reply = { code, NULL, "" };
        cr_expect_eq(smtp_reply_is_error(&reply), code >= 400);
        cr_expect_eq(smtp_reply_closes(&reply), code == 421 || code == 521);
    }
}

static const struct {
    const char *text;
    size_t length;
} codes[] = {
    { "5.7.1", 5 },       { "5.7.1 text", 5 },   { "2.0.0\tx", 5 },  { "4.123.456 x", 9 },
    { "5.7.1234", 0 },    { "5.1234.1", 0 },     { "5.7", 0 },       { "5.7.", 0 },
    { "5..1 x", 0 },      { "57.1.1", 0 },       { "x.7.1", 0 },     { "5.7.1x", 0 },
    { "5.7.1.", 0 },      { "5 7 1", 0 },        { "", 0 },          { "5.7.x", 0 },
    { " 5.7.1", 0 },
};

Test(smtp_reply, an_enhanced_code_is_three_numbers_and_a_blank)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        cr_expect_eq(smtp_enhanced_length(span_of(codes[i].text)), codes[i].length, "%s",
                     codes[i].text);
}
