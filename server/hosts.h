/* hosts - the host file as facts: names for addresses and back.
 * Thread: reading any. */
#ifndef POSTERN_HOSTS_H
#define POSTERN_HOSTS_H

#include "policy/fact.h"

struct hosts;

/* Never NULL; a file that cannot be read is an empty one. */
struct hosts *hosts_read(const char *file);
void hosts_free(struct hosts *hosts);

/* Records for an A, AAAA or PTR question. */
bool hosts_find(const struct hosts *hosts, enum fact_kind kind, const char *name,
                struct buf *value);

#endif
