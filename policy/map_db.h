/* map_db - making the .db file of a hash: or btree: table, as postmap does (spec 6.2).
 * Order:  a new file beside the old one, synced by the library, then renamed over it: a reader
 *         sees the old or the new table, never half of one. It may be read by whom the source
 *         may be read by.
 * Errors: 0, or an errno or Berkeley DB code; problems has the words.
 * Thread: any; blocks. */
#ifndef POSTERN_MAP_DB_H
#define POSTERN_MAP_DB_H

#include "policy/text_table.h"

int map_db_make(const char *source, bool is_btree, struct span text, struct problems *problems);

#endif
