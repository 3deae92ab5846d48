#include "protocol/mem.h"
#include "protocol/span.h"

#include <criterion/criterion.h>

#define S(text) SPAN_LITERAL(text)

static bool is_text(struct span s, const char *text)
{
    return span_equals(s, span_of(text));
}

Test(span, equality_is_by_bytes_and_an_empty_span_equals_a_null_one)
{
    cr_expect(span_equals(S("ab"), S("ab")));
    cr_expect(!span_equals(S("ab"), S("aB")));
    cr_expect(!span_equals(S("ab"), S("abc")));
    cr_expect(span_equals(S("a\0b"), S("a\0b")));
    cr_expect(!span_equals(S("a\0b"), S("a\0c")), "a NUL is a byte like others");
    cr_expect(span_equals(span_of(NULL), S("")));
    cr_expect_eq(span_of(NULL).len, 0);
}

Test(span, case_folds_ascii_letters_only)
{
    for (int c = 0; c < 256; c++) {
        char a = (char)c, b = (char)(c ^ 0x20);
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        cr_expect_eq(span_iequals(span_make(&a, 1), span_make(&b, 1)), is_letter, "%d", c);
        cr_expect_eq(ascii_is_alpha(a), is_letter, "%d", c);
        cr_expect_eq(ascii_is_digit(a), c >= '0' && c <= '9', "%d", c);
        cr_expect_eq(ascii_is_alnum(a), is_letter || (c >= '0' && c <= '9'), "%d", c);
        cr_expect_eq(ascii_is_space(a), c == ' ' || (c >= 9 && c <= 13), "%d", c);
        cr_expect_eq(ascii_is_print(a), c >= 32 && c <= 126, "%d", c);
    }
}

Test(span, hex_digits_have_their_value_and_nothing_else_has_one)
{
    for (int c = 0; c < 256; c++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        const char *at = c != 0 ? strchr(digits, c) : NULL;
        int value = at == NULL ? -1 : (int)(at - digits) - (at - digits > 15 ? 6 : 0);
        cr_expect_eq(ascii_hex_value((char)c), value, "%d", c);
    }
}

Test(span, starts_and_ends_are_told_without_looking_at_the_case)
{
    cr_expect(span_istarts(S("FROM:<a>"), S("from:")));
    cr_expect(span_istarts(S("x"), S("")));
    cr_expect(!span_istarts(S("FRO"), S("FROM")));
    cr_expect(span_iends(S("a SMTPutf8"), S("SMTPUTF8")));
    cr_expect(span_iends(S(""), S("")));
    cr_expect(!span_iends(S("UTF8"), S("SMTPUTF8")));
    cr_expect(!span_iends(S("ab"), S("a")));
}

Test(span, skip_stops_at_the_end)
{
    struct span text = S("abc");
    cr_expect(is_text(span_skip(text, 0), "abc"));
    cr_expect(is_text(span_skip(text, 2), "c"));
    cr_expect(is_text(span_skip(text, 3), ""));
    cr_expect(is_text(span_skip(text, SIZE_MAX), ""));
    cr_expect_eq(span_skip(text, 4).at, text.at + 3, "never past the end");
    cr_expect_eq(span_skip(span_make(NULL, 0), 5).len, 0);
}

Test(span, trim_takes_white_space_off_both_ends)
{
    cr_expect(is_text(span_trim(S(" \t\r\n\v\fa b \r\n")), "a b"));
    cr_expect(is_text(span_trim(S("   ")), ""));
    cr_expect(is_text(span_trim(S("")), ""));
    cr_expect_eq(span_trim(S(" \0 ")).len, 1, "NUL is no blank");
}

Test(span, find_gives_the_first_or_last_index_or_the_length)
{
    cr_expect_eq(span_find(S("a@b@c"), '@'), 1);
    cr_expect_eq(span_find_last(S("a@b@c"), '@'), 3);
    cr_expect_eq(span_find(S("abc"), '@'), 3);
    cr_expect_eq(span_find_last(S("abc"), '@'), 3);
    cr_expect_eq(span_find(span_make(NULL, 0), 'x'), 0);
    cr_expect_eq(span_find_last(span_make(NULL, 0), 'x'), 0);
    cr_expect_eq(span_find(S("ab\0c"), '\0'), 2);
    cr_expect_eq(span_find_last(S("@"), '@'), 0);
}

Test(span, words_are_cut_off_one_by_one)
{
    struct span text = S("  one\ttwo  three ");
    cr_expect(is_text(span_next_word(&text), "one"));
    cr_expect(is_text(span_next_word(&text), "two"));
    cr_expect(is_text(text, "  three "));
    cr_expect(is_text(span_next_word(&text), "three"));
    cr_expect(is_text(span_next_word(&text), ""));
    cr_expect(is_text(span_next_word(&text), ""), "the end stays the end");
}

static const struct {
    const char *digits;
    uint64_t max;
    bool is_good;
    uint64_t value;
} numbers[] = {
    { "0", 0, true, 0 },
    { "00007", 9, true, 7 },
    { "9", 9, true, 9 },
    { "10", 9, false, 0 },
    { "9", 8, false, 0 },
    { "65535", 65535, true, 65535 },
    { "65536", 65535, false, 0 },
    { "4294967300", UINT32_MAX, false, 0 }, /* not 4 */
    { "9223372036854775807", INT64_MAX, true, INT64_MAX },
    { "9223372036854775808", INT64_MAX, false, 0 },
    { "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
    { "18446744073709551616", UINT64_MAX, false, 0 },
    { "99999999999999999999999999", UINT64_MAX, false, 0 },
    { "", 9, false, 0 },
    { "-1", 9, false, 0 },
    { "+1", 9, false, 0 },
    { " 1", 9, false, 0 },
    { "1 ", 9, false, 0 },
    { "0x1", 99, false, 0 },
    { "1.0", 99, false, 0 },
};

Test(span, hashes_are_those_of_fnv_1a)
{
    cr_expect_eq(span_hash(SPAN_LITERAL("")), 0xcbf29ce484222325u);
    cr_expect_eq(span_hash(SPAN_LITERAL("foobar")), 0x85944171f73967e8u);
}

Test(span, numbers_are_digits_only_and_never_past_the_maximum)
{
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t value = 4711;
        bool is_good = span_to_u64(span_of(numbers[i].digits), numbers[i].max, &value);
        uint64_t expected = numbers[i].is_good ? numbers[i].value : 4711;
        cr_expect_eq(is_good, numbers[i].is_good, "%s", numbers[i].digits);
        cr_expect_eq(value, expected, "%s: a bad number leaves the value alone",
                     numbers[i].digits);
    }
}
