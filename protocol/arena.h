/* arena - memory that is freed together: the strings of one session, one transaction, one plan.
 * Owns:   its blocks. All zero is an empty arena; arena_fini() frees everything at once.
 * Sizes:  small requests share blocks of 512 bytes and up, so an idle session stays small.
 * Errors: none; aborts when memory is gone (mem.h). The caller bounds what a peer can put here.
 * Thread: any, one at a time. */
#ifndef POSTERN_ARENA_H
#define POSTERN_ARENA_H

#include "protocol/span.h"

struct arena_block;

struct arena {
    struct arena_block *block; /* owns: newest first */
    size_t used_bytes;         /* handed out in all */
};

void arena_fini(struct arena *a);
void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned for any object */
char *arena_text(struct arena *a, struct span text); /* a NUL terminated copy */
struct span arena_span(struct arena *a, struct span bytes);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
