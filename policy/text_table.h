/* text_table - "key value" lines: the source of postmap, and texthash: (spec 6.3).
 * Key:    up to the first blank outside double quotes, folded to lower case; quotes stay.
 * Errors: a line without key or value, and a key that was there before (the first one wins),
 *         are warnings.
 * Thread: any. */
#ifndef POSTERN_TEXT_TABLE_H
#define POSTERN_TEXT_TABLE_H

#include "policy/problems.h"

/* add returns false for a duplicate. */
void text_table_read(struct span text, const char *file, struct problems *problems,
                     bool (*add)(void *context, struct span key, struct span value),
                     void *context);

#endif
