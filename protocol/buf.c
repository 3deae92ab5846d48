#include "protocol/buf.h"
#include "protocol/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST_CAP = 128 };

void buf_fini(struct buf *b)
{
    free(b->at);
    *b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->is_full = false;
}

static void buf_grow(struct buf *b, size_t need)
{
    size_t cap = b->cap > 0 ? b->cap : BUF_FIRST_CAP;
    while (cap < need)
        cap *= 2;
    b->at = xrealloc(b->at, cap);
    b->cap = cap;
}

char *buf_reserve(struct buf *b, size_t len)
{
    if (b->max > 0 && (len > b->max || b->len > b->max - len)) {
        b->is_full = true;
        return NULL;
    }
    ENSURE(len < SIZE_MAX / 4 && b->len < SIZE_MAX / 4); /* a length that went below zero */
    if (b->len + len + 1 > b->cap) /* 1: buf_text's NUL always fits */
        buf_grow(b, b->len + len + 1);
    return b->at + b->len;
}

bool buf_append(struct buf *b, const void *bytes, size_t len)
{
    char *room = buf_reserve(b, len);
    if (room == NULL)
        return false;
    if (len > 0)
        memcpy(room, bytes, len);
    b->len += len;
    return true;
}

bool buf_add(struct buf *b, struct span bytes)
{
    return buf_append(b, bytes.at, bytes.len);
}

bool buf_puts(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text));
}

bool buf_putc(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

bool buf_printf(struct buf *b, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    size_t room = b->cap > b->len ? b->cap - b->len : 0;
    int n = vsnprintf(b->at != NULL ? b->at + b->len : NULL, room, format, ap);
    va_end(ap);
    ENSURE(n >= 0);
    char *at = buf_reserve(b, (size_t)n);
    if (at != NULL && (size_t)n >= room)
        vsnprintf(at, (size_t)n + 1, format, again);
    va_end(again);
    if (at != NULL)
        b->len += (size_t)n;
    return at != NULL;
}

void buf_drop(struct buf *b, size_t n)
{
    ENSURE(n <= b->len);
    if (n > 0 && n < b->len)
        memmove(b->at, b->at + n, b->len - n);
    b->len -= n;
}

const char *buf_text(struct buf *b)
{
    if (b->at == NULL)
        return "";
    b->at[b->len] = '\0';
    return b->at;
}
