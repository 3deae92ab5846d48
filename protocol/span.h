/* span - borrowed bytes: a pointer and a length, not NUL terminated.
 * Owns:   nothing; valid until the next call into whoever lent it.
 * Case:   "i" functions fold ASCII letters only, as SMTP does (RFC 5321 2.4); no locale.
 * Thread: any. */
#ifndef POSTERN_SPAN_H
#define POSTERN_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *at;
    size_t len;
};

#define SPAN_LITERAL(text) ((struct span){ (text), sizeof(text) - 1 })

static inline struct span span_make(const char *at, size_t len)
{
    return (struct span){ at, len };
}

static inline struct span span_of(const char *text)
{
    return (struct span){ text, text != NULL ? strlen(text) : 0 };
}

static inline bool span_equals(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool ascii_is_alnum(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

static inline bool ascii_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool ascii_is_print(char c)
{
    return c >= ' ' && c <= '~';
}

/* Value of a hexadecimal digit, or -1. */
int ascii_hex_value(char c);

bool span_iequals(struct span a, struct span b);
bool span_istarts(struct span text, struct span prefix);
bool span_iends(struct span text, struct span suffix);
struct span span_trim(struct span text);

/* The rest after n bytes; n is cut to the length. */
static inline struct span span_skip(struct span text, size_t n)
{
    if (n > text.len)
        n = text.len;
    return n == 0 ? text : span_make(text.at + n, text.len - n);
}

/* Index of c, or text.len. */
size_t span_find(struct span text, char c);

/* Index of the last c, or text.len. */
size_t span_find_last(struct span text, char c);

/* Cuts the next word (not white space) off *text; empty at the end. */
struct span span_next_word(struct span *text);

/* FNV-1a: for tables where no stranger gains anything by two that are alike. */
uint64_t span_hash(struct span text);

/* All digits, no sign, at most max. False leaves *value alone. */
bool span_to_u64(struct span digits, uint64_t max, uint64_t *value);

#endif
