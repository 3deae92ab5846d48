/* parallel - one blocking step for many things, on several threads at the same time: files that
 * are synced together share journal commits and the disk's flushes, and a slow disk is waited for
 * once, not once for each.
 * Life:   parallel_new() costs nothing; threads are started when there is work for them, and end
 *         with parallel_free(), which waits for them.
 * Owns:   its threads. The things are the caller's, who waits until all are done.
 * Order:  none among the things; what is done to each of them is seen by the caller.
 * Errors: without threads (limits of the system) the caller does all by itself.
 * Thread: any; several callers at a time share the threads. */
#ifndef POSTERN_PARALLEL_H
#define POSTERN_PARALLEL_H

#include <stddef.h>

struct parallel;

struct parallel *parallel_new(unsigned threads);
void parallel_free(struct parallel *p);

/* step() on each thing, by the caller and the threads; p NULL: by the caller, in order. */
void parallel_run(struct parallel *p, void (*step)(void *thing), void *const *things,
                  size_t count);

#endif
