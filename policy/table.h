/* table - an immutable set of key -> value in memory: what texthash:, inline: and small .db files
 * become (spec 6.2, 6.3).
 * Owns:   all its bytes, in two blocks; about key + value + 16 bytes an entry.
 * Filled by table_add(), then only read. First key wins; the caller hears of duplicates.
 * Thread: filling one, reading any. */
#ifndef POSTERN_TABLE_H
#define POSTERN_TABLE_H

#include "protocol/span.h"

struct table;

struct table *table_new(void);
void table_free(struct table *t);

/* False: the key was there before, nothing is changed. */
bool table_add(struct table *t, struct span key, struct span value);

/* As table_add(), but the new value replaces an old one (inline:). */
bool table_put(struct table *t, struct span key, struct span value);
bool table_find(const struct table *t, struct span key, struct span *value);
size_t table_count(const struct table *t);

/* Gives back what growing left over. */
void table_trim(struct table *t);

/* Walks all entries in the order they came; *cursor begins at 0. */
bool table_next(const struct table *t, size_t *cursor, struct span *key, struct span *value);

#endif
