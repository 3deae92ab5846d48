#include "protocol/span.h"

int ascii_hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool span_istarts(struct span text, struct span prefix)
{
    if (text.len < prefix.len)
        return false;
    for (size_t i = 0; i < prefix.len; i++)
        if (ascii_lower(text.at[i]) != ascii_lower(prefix.at[i]))
            return false;
    return true;
}

bool span_iequals(struct span a, struct span b)
{
    return a.len == b.len && span_istarts(a, b);
}

bool span_iends(struct span text, struct span suffix)
{
    return text.len >= suffix.len && span_istarts(span_skip(text, text.len - suffix.len), suffix);
}

struct span span_trim(struct span text)
{
    while (text.len > 0 && ascii_is_space(text.at[0]))
        text = span_skip(text, 1);
    while (text.len > 0 && ascii_is_space(text.at[text.len - 1]))
        text.len--;
    return text;
}

size_t span_find(struct span text, char c)
{
    const char *hit = text.len > 0 ? memchr(text.at, c, text.len) : NULL;
    return hit != NULL ? (size_t)(hit - text.at) : text.len;
}

size_t span_find_last(struct span text, char c)
{
    for (size_t i = text.len; i > 0; i--)
        if (text.at[i - 1] == c)
            return i - 1;
    return text.len;
}

struct span span_next_word(struct span *text)
{
    while (text->len > 0 && ascii_is_space(text->at[0]))
        *text = span_skip(*text, 1);
    size_t n = 0;
    while (n < text->len && !ascii_is_space(text->at[n]))
        n++;
    struct span word = span_make(text->at, n);
    *text = span_skip(*text, n);
    return word;
}

uint64_t span_hash(struct span text)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.at[i]) * 1099511628211u;
    return hash;
}

bool span_to_u64(struct span digits, uint64_t max, uint64_t *value)
{
    uint64_t n = 0;
    if (digits.len == 0)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        if (!ascii_is_digit(digits.at[i]))
            return false;
        uint64_t digit = (uint64_t)(digits.at[i] - '0');
        if (digit > max || n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *value = n;
    return true;
}
