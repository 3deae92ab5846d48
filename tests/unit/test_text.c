#include "protocol/mem.h"
#include "protocol/text.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>

/* What the rules of RFC 3629 say, by way of code points: the reference for the byte rules. */
static size_t naive_sequence(const unsigned char *at, size_t len)
{
    static const struct {
        unsigned char mask, lead;
        unsigned least;
    } forms[] = { { 0x80, 0, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };
    for (size_t tail = 0; tail < 4; tail++) {
        if (len <= tail || (at[0] & forms[tail].mask) != forms[tail].lead)
            continue;
        unsigned code = at[0] & (unsigned char)~forms[tail].mask;
        for (size_t i = 1; i <= tail; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (at[i] & 0x3f);
        }
        bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
        return code < forms[tail].least || code > 0x10ffff || is_surrogate ? 0 : tail + 1;
    }
    return 0;
}

static void check_sequence(const unsigned char *at, size_t len)
{
    size_t n = utf8_sequence(span_make((const char *)at, len));
    cr_assert_eq(n, naive_sequence(at, len), "%02x %02x %02x %02x, %zu bytes", at[0], at[1],
                 at[2], at[3], len);
}

Test(text, every_two_bytes_are_utf8_or_not_as_the_code_point_says)
{
    unsigned char at[4] = { 0 };
    for (unsigned pair = 0; pair < 0x10000; pair++) {
        at[0] = (unsigned char)(pair >> 8);
        at[1] = (unsigned char)pair;
        at[2] = at[3] = 0x80;
        for (size_t len = 1; len <= 4; len++)
            check_sequence(at, len);
    }
    cr_expect_eq(utf8_sequence(span_make(NULL, 0)), 0);
}

Test(text, random_bytes_are_utf8_or_not_as_the_code_point_says)
{
    static const unsigned char likely[] = { 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1,
                                            0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff };
    struct seeded r = seeded_begin(1);
    for (int round = 0; round < 200000; round++) {
        unsigned char at[4];
        for (size_t i = 0; i < 4; i++)
            at[i] = (round & 1) != 0 ? likely[seeded_below(&r, sizeof likely)]
                                     : (unsigned char)seeded_next(&r);
        check_sequence(at, 4);
    }
}

static const struct {
    const char *text;
    bool is_valid, is_ascii;
} texts[] = {
    { "", true, true },
    { "plain", true, true },
    { "caf\xc3\xa9", true, false },
    { "\xf0\x9f\x98\x80", true, false },
    { "\xf4\x8f\xbf\xbf", true, false },  /* U+10FFFF */
    { "\xf4\x90\x80\x80", false, false }, /* past it */
    { "\xed\xa0\x80", false, false },     /* a surrogate */
    { "\xc0\xaf", false, false },         /* '/' in two bytes */
    { "\xe0\x80\xaf", false, false },
    { "caf\xc3", false, false }, /* cut */
    { "caf\xe9", false, false }, /* Latin-1 */
    { "\x80", false, false },
};

Test(text, validity_and_ascii_of_whole_texts)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        cr_expect_eq(utf8_is_valid(span_of(texts[i].text)), texts[i].is_valid, "row %zu", i);
        cr_expect_eq(text_is_ascii(span_of(texts[i].text)), texts[i].is_ascii, "row %zu", i);
    }
}

static const struct {
    struct span text;
    size_t max;
    const char *escaped;
} escapes[] = {
    { SPAN_LITERAL("plain text"), 100, "plain text" },
    { SPAN_LITERAL("a\r\nb\tc"), 100, "a??b?c" },
    { SPAN_LITERAL("nul\0\x1b[31m\x7f"), 100, "nul??[31m?" },
    { SPAN_LITERAL("caf\xc3\xa9"), 100, "caf\xc3\xa9" },
    { SPAN_LITERAL("\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0"), 100, "???\xc2\xa0" }, /* C1 ends at A0 */
    { SPAN_LITERAL("\x9b\xe9\xff"), 100, "???" },
    { SPAN_LITERAL("\xe2\x82"), 100, "??" },
    { SPAN_LITERAL("12345"), 5, "12345" },
    { SPAN_LITERAL("123456"), 5, "12345..." },
    { SPAN_LITERAL("1234\xc3\xa9"), 5, "1234..." }, /* a sequence is never cut in two */
    { SPAN_LITERAL("x"), 0, "..." },
    { SPAN_LITERAL(""), 0, "" },
};

Test(text, escaped_text_is_one_harmless_line_of_bounded_length)
{
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        struct arena a = { 0 };
        struct buf out = { 0 };
        buf_puts(&out, "> ");
        text_escape(&out, escapes[i].text, escapes[i].max);
        cr_expect_str_eq(buf_text(&out) + 2, escapes[i].escaped, "row %zu", i);
        cr_expect_str_eq(text_escaped(&a, escapes[i].text, escapes[i].max), escapes[i].escaped);
        buf_fini(&out);
        arena_fini(&a);
    }
}

Test(text, no_random_bytes_get_through_unescaped)
{
    struct seeded r = seeded_begin(2);
    struct buf out = { 0 };
    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        size_t max = seeded_below(&r, 30);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)(seeded_next(&r) & (seeded_next(&r) | 0xc0));
        buf_clear(&out);
        text_escape(&out, span_make(bytes, sizeof bytes), max);
        cr_assert(utf8_is_valid(buf_span(&out)));
        cr_assert_leq(out.len, max + 3);
        for (size_t i = 0; i < out.len; i++) {
            unsigned char c = (unsigned char)out.at[i];
            bool is_c1 = c == 0xc2 && (unsigned char)out.at[i + 1] < 0xa0;
            cr_assert(c >= ' ' && c != 0x7f && !is_c1);
        }
    }
    buf_fini(&out);
}

static const struct {
    const char *xtext;
    bool is_good;
    const char *plain;
} xtexts[] = {
    { "plain", true, "plain" },
    { "a+2Bb+3Dc", true, "a+b=c" },
    { "a+2bb", true, "a+b" }, /* lower case is read, never written */
    { "a+20b", true, "a b" },
    { "", true, "" },
    { "a+", false, "" },
    { "a+2", false, "" },
    { "a+2G", false, "" },
    { "+G2", false, "" },
    { "+0A", false, "" },
    { "+0D", false, "" },
    { "+00", false, "" },
    { "+7F", false, "" },
    { "+80", false, "" },
    { "caf\xc3\xa9", false, "" },
    { "a\tb", false, "" },
    { "+7E", true, "~" },
};

Test(text, xtext_decodes_to_printable_ascii_or_not_at_all)
{
    for (size_t i = 0; i < ARRAY_LEN(xtexts); i++) {
        struct buf out = { 0 };
        bool is_good = xtext_decode(span_of(xtexts[i].xtext), &out);
        cr_expect_eq(is_good, xtexts[i].is_good, "%s", xtexts[i].xtext);
        if (is_good)
            cr_expect_str_eq(buf_text(&out), xtexts[i].plain);
        buf_fini(&out);
    }
}

Test(text, xtext_of_printable_text_reads_back_and_holds_only_xchars)
{
    struct buf coded = { 0 }, plain = { 0 };
    char all[95];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)(' ' + i);
    xtext_encode(&coded, span_make(all, sizeof all));
    cr_expect(xtext_decode(buf_span(&coded), &plain));
    cr_expect(span_equals(buf_span(&plain), span_make(all, sizeof all)));
    cr_expect_eq(span_find(buf_span(&coded), ' '), coded.len);
    cr_expect_eq(span_find(buf_span(&coded), '='), coded.len);
    buf_clear(&coded);
    xtext_encode(&coded, SPAN_LITERAL("\xff\n+"));
    cr_expect_str_eq(buf_text(&coded), "+FF+0A+2B");
    buf_fini(&coded);
    buf_fini(&plain);
}

Test(text, xtext_stops_at_the_ceiling_of_its_buffer)
{
    struct buf out = { .max = 2 };
    cr_expect(!xtext_decode(SPAN_LITERAL("abc"), &out));
    buf_fini(&out);
}
