/* buf - growable bytes with a ceiling.
 * Owns:   its memory; all zero is an empty buffer without a ceiling. buf_fini() frees.
 * Bounds: max 0 = no ceiling (the caller bounds it otherwise); past max nothing is added,
 *         is_full stays true and the call returns false.
 * Text:   buf_text() puts a NUL behind the bytes that is not counted.
 * Thread: any, one at a time. */
#ifndef POSTERN_BUF_H
#define POSTERN_BUF_H

#include "protocol/span.h"

struct buf {
    char *at; /* owns */
    size_t len, cap, max;
    bool is_full;
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b);
bool buf_append(struct buf *b, const void *bytes, size_t len);
bool buf_add(struct buf *b, struct span bytes);
bool buf_puts(struct buf *b, const char *text);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for len more bytes at b->at + b->len, or NULL past the ceiling. */
char *buf_reserve(struct buf *b, size_t len);

/* Forgets the first n bytes. */
void buf_drop(struct buf *b, size_t n);

const char *buf_text(struct buf *b);

static inline struct span buf_span(const struct buf *b)
{
    return span_make(b->at, b->len);
}

#endif
