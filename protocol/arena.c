#include "protocol/arena.h"
#include "protocol/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_FIRST_BLOCK = 512, ARENA_LARGEST_BLOCK = 16384, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *older;
    size_t used, size;
    _Alignas(ARENA_ALIGN) char bytes[];
};

void arena_fini(struct arena *a)
{
    while (a->block != NULL) {
        struct arena_block *older = a->block->older;
        free(a->block);
        a->block = older;
    }
    a->used_bytes = 0;
}

static void arena_grow(struct arena *a, size_t need)
{
    size_t size = a->block != NULL ? a->block->size * 2 : ARENA_FIRST_BLOCK;
    if (size > ARENA_LARGEST_BLOCK)
        size = ARENA_LARGEST_BLOCK;
    if (size < need)
        size = need;
    struct arena_block *block = xmalloc(sizeof *block + size);
    *block = (struct arena_block){ .older = a->block, .size = size };
    a->block = block;
}

static size_t aligned(size_t size)
{
    return (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

/* The next bytes of the block, which has room: its size is a multiple of the alignment. */
static void *arena_take(struct arena *a, size_t size)
{
    void *p = a->block->bytes + a->block->used;
    a->block->used += aligned(size);
    a->used_bytes += aligned(size);
    return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
    ENSURE(size < SIZE_MAX / 2);
    size = aligned(size);
    if (a->block == NULL || a->block->size - a->block->used < size)
        arena_grow(a, size);
    return memset(arena_take(a, size), 0, size);
}

char *arena_text(struct arena *a, struct span text)
{
    char *copy = arena_alloc(a, text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.at, text.len);
    return copy;
}

struct span arena_span(struct arena *a, struct span bytes)
{
    return span_make(arena_text(a, bytes), bytes.len);
}

/* Tried in what is left of the block first: most texts fit, and are made once only. */
char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list ap, again;
    struct arena_block *block = a->block;
    size_t room = block != NULL ? block->size - block->used : 0;
    char *tail = block != NULL ? block->bytes + block->used : NULL;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(tail, room, format, ap);
    va_end(ap);
    ENSURE(n >= 0);
    char *text = tail;
    if ((size_t)n < room) {
        arena_take(a, (size_t)n + 1);
    } else {
        text = arena_alloc(a, (size_t)n + 1);
        vsnprintf(text, (size_t)n + 1, format, again);
    }
    va_end(again);
    return text;
}
