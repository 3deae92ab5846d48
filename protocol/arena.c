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

static struct arena_block *arena_grow(struct arena *a, size_t need)
{
    size_t size = a->block != NULL ? a->block->size * 2 : ARENA_FIRST_BLOCK;
    if (size > ARENA_LARGEST_BLOCK)
        size = ARENA_LARGEST_BLOCK;
    if (size < need)
        size = need;
    struct arena_block *block = xmalloc(sizeof *block + size);
    *block = (struct arena_block){ .older = a->block, .size = size };
    a->block = block;
    return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
    ENSURE(size < SIZE_MAX / 2);
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct arena_block *block = a->block;
    if (block == NULL || block->size - block->used < size)
        block = arena_grow(a, size);
    void *p = block->bytes + block->used;
    block->used += size;
    a->used_bytes += size;
    return memset(p, 0, size);
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

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    ENSURE(n >= 0);
    char *text = arena_alloc(a, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}
