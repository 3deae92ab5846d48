/* mem - small allocations that abort when memory is gone, and assertions that stay on.
 * Owns:   nothing.
 * Errors: xmalloc and friends abort: whatever was not acknowledged is still the sender's.
 *         Sizes a peer can choose are bounded by the caller or kept on disk, never here.
 * Thread: any. */
#ifndef POSTERN_MEM_H
#define POSTERN_MEM_H

#include <stddef.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof(a)[0])

/* A broken promise of our own: stop at once, in releases too. */
#define ENSURE(cond) ((cond) ? (void)0 : ensure_failed(#cond, __FILE__, __LINE__))

_Noreturn void ensure_failed(const char *cond, const char *file, int line);

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
