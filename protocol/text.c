#include "protocol/text.h"

bool text_is_ascii(struct span text)
{
    unsigned char all = 0;
    for (size_t i = 0; i < text.len; i++)
        all |= (unsigned char)text.at[i];
    return all < 0x80;
}

/* Bytes that follow this lead byte, or -1: C0, C1 (overlong) and F5.. never start a sequence. */
static int utf8_tail_length(unsigned char lead)
{
    if (lead < 0x80)
        return 0;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 1;
    if ((lead & 0xf0) == 0xe0)
        return 2;
    return lead >= 0xf0 && lead <= 0xf4 ? 3 : -1;
}

/* The second byte decides overlong forms, surrogates and code points past U+10FFFF. */
static bool utf8_second_is_valid(unsigned char lead, unsigned char second)
{
    switch (lead) {
    case 0xe0: return second >= 0xa0;
    case 0xed: return second <= 0x9f;
    case 0xf0: return second >= 0x90;
    case 0xf4: return second <= 0x8f;
    default: return true;
    }
}

size_t utf8_sequence(struct span text)
{
    if (text.len == 0)
        return 0;
    unsigned char lead = (unsigned char)text.at[0];
    int tail = utf8_tail_length(lead);
    if (tail < 0 || text.len <= (size_t)tail)
        return 0;
    for (int i = 1; i <= tail; i++)
        if (((unsigned char)text.at[i] & 0xc0) != 0x80)
            return 0;
    if (tail > 0 && !utf8_second_is_valid(lead, (unsigned char)text.at[1]))
        return 0;
    return (size_t)tail + 1;
}

bool utf8_is_valid(struct span text)
{
    while (text.len > 0) {
        size_t n = utf8_sequence(text);
        if (n == 0)
            return false;
        text = span_skip(text, n);
    }
    return true;
}

static bool is_c1_control(struct span sequence)
{
    return sequence.len == 2 && (unsigned char)sequence.at[0] == 0xc2
           && (unsigned char)sequence.at[1] < 0xa0;
}

bool utf8_is_printable(struct span sequence)
{
    return sequence.len > 1 ? !is_c1_control(sequence)
                            : sequence.len == 1 && ascii_is_print(sequence.at[0]);
}

size_t text_plain_length(struct span text)
{
    size_t n = 0;
    while (n < text.len && ascii_is_print(text.at[n]))
        n++;
    return n;
}

void text_escape(struct buf *out, struct span text, size_t max)
{
    size_t start = out->len;
    while (text.len > 0) {
        size_t room = max - (out->len - start), plain = text_plain_length(text);
        size_t n = plain > 0 ? plain : utf8_sequence(text);
        bool is_good = plain > 0 || utf8_is_printable(span_make(text.at, n));
        struct span some = span_make(text.at, n > 0 ? n : 1);
        if (some.len > room) {
            buf_append(out, some.at, plain > 0 ? room : 0);
            buf_puts(out, "...");
            return;
        }
        buf_add(out, is_good ? some : SPAN_LITERAL("?"));
        text = span_skip(text, some.len);
    }
}

const char *text_escaped(struct arena *a, struct span text, size_t max)
{
    struct buf out = { 0 };
    text_escape(&out, text, max);
    const char *copy = arena_text(a, buf_span(&out));
    buf_fini(&out);
    return copy;
}

bool xtext_decode(struct span text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '+') {
            if (text.len - i < 3)
                return false;
            int high = ascii_hex_value(text.at[i + 1]), low = ascii_hex_value(text.at[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (!ascii_is_print(c) || !buf_putc(out, c))
            return false;
    }
    return true;
}

void xtext_encode(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c > ' ' && c <= '~' && c != '+' && c != '=')
            buf_putc(out, c);
        else
            buf_printf(out, "+%02X", (unsigned)(unsigned char)c);
    }
}
