/* map - "type:name" lookup tables (spec 6): one interface, many types.
 * Types:  hash btree (files of postmap), texthash inline static cidr regexp pcre fail, and
 *         unix:passwd.byname. "proxy:T" means T.
 * Owns:   struct maps owns every table that a configuration names, each once. A table's
 *         contents are a snapshot; maps_refresh() swaps it when the file has changed, while
 *         others look things up. A table that cannot be opened again keeps its old contents.
 * Keys:   is_partial says that the caller may try parts of a key; without it only the full one.
 *         Tables that fold do so themselves.
 * Slow:   is_slow tables may read the disk or ask somebody: not on an event loop.
 * Errors: MAP_RETRY (may work later) and MAP_BROKEN (the table is unusable); never a crash.
 * Thread: map_find() any; maps_get(), maps_refresh() one at a time. */
#ifndef POSTERN_MAP_H
#define POSTERN_MAP_H

#include "policy/problems.h"
#include "protocol/buf.h"

enum map_result {
    MAP_FOUND,
    MAP_NOT_FOUND,
    MAP_RETRY,
    MAP_BROKEN,
    MAP_PENDING, /* only from a map_reader: the answer is being fetched */
};

struct map;
struct maps;

struct maps *maps_new(const char *base_dir); /* of relative file names */
void maps_free(struct maps *maps);

/* The table of that name, opened now; never NULL. What is wrong goes to problems: a bad name is
 * an error, a table that cannot be opened a warning (its lookups answer MAP_BROKEN). */
struct map *maps_get(struct maps *maps, struct span name, const char *parameter,
                     struct problems *problems);

/* Opens again what has changed on disk; problems gets a line for each table that could not be
 * read. Returns how many were swapped. */
int maps_refresh(struct maps *maps, struct problems *problems);

/* A file that is no table but is read with them: a list in a file of its own. */
void maps_note_file(struct maps *maps, const char *path);

/* Every file that is read, tables' and noted ones. */
void maps_each_file(const struct maps *maps, void (*each)(void *context, const char *path),
                    void *context);

const char *map_name(const struct map *map);
bool map_is_partial(const struct map *map);
bool map_is_slow(struct map *map);

/* Why the table is unusable, or NULL. */
const char *map_error(const struct map *map);

/* Appends the value to *value. An empty key is never found. */
enum map_result map_find(struct map *map, struct span key, struct buf *value);

/* Calls back for every entry; false: this type of table cannot be read whole. */
bool map_each(struct map *map, void (*each)(void *context, struct span key, struct span value),
              void *context);

/* How pure code looks things up: straight, or through the facts of an evaluation (eval.h). */
struct map_reader {
    enum map_result (*find)(void *context, struct map *map, struct span key, struct buf *value);
    void *context;
};

extern const struct map_reader map_reader_direct; /* map_find() */

/* Several tables, asked in order: the first hit wins, an error ends the search (spec 6.1). An empty
 * value counts as an error (spec 3.7). */
struct map_list {
    struct map **maps; /* in the arena of whoever compiled it */
    size_t count;
};

void map_list_compile(struct map_list *list, struct maps *maps, const char *text,
                      const char *parameter, struct arena *memory, struct problems *problems);

/* is_whole: key is the full key, which pattern tables get too. */
enum map_result map_list_find(const struct map_list *list, const struct map_reader *reader,
                              struct span key, bool is_whole, struct buf *value);

/* The names of all known types, for messages: "hash, btree, ...". */
void map_type_names(struct buf *out);

/* Is this "type:name" with a type we know? */
bool map_is_name(struct span text);

#endif
