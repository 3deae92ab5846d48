/* map_type - what a kind of table implements; private to policy/map*.c.
 * A type opens a source into immutable data, and finds keys in it.
 * Thread: find is called by several threads at once. */
#ifndef POSTERN_MAP_TYPE_H
#define POSTERN_MAP_TYPE_H

#include "policy/map.h"
#include "policy/table.h"

struct map_source {
    const char *full_name; /* "hash:/etc/x", for problems */
    struct span name;      /* behind the type: a file or, for inline forms, the text itself */
    const char *path;      /* absolute file name; NULL if the type has none */
    struct problems *problems;
    bool is_busy; /* set by open: somebody is writing it now, try again soon */
};

struct map_type {
    const char *name;
    const char *suffix; /* of the file; NULL: the table has no file */
    bool is_partial, is_folding, is_slow;
    bool has_inline_form; /* "{{rule}, {rule}}" in place of the file's name */
    /* NULL and *error (static or in problems' memory) when the table cannot be used. */
    void *(*open)(struct map_source *source, const char **error);
    enum map_result (*find)(void *data, struct span key, struct buf *value);
    void (*close)(void *data);
    bool (*data_is_slow)(const void *data); /* NULL: is_slow says */
    const struct table *(*table)(const void *data); /* all entries; NULL: cannot be told */
};

extern const struct map_type map_type_hash, map_type_btree; /* map_db.c */
extern const struct map_type map_type_texthash, map_type_inline; /* map_text.c */
extern const struct map_type map_type_cidr; /* map_cidr.c */
extern const struct map_type map_type_pcre, map_type_regexp; /* map_pcre.c */
extern const struct map_type map_type_static, map_type_fail, map_type_unix; /* map_misc.c */

/* Reads a whole file; false and *error if it cannot be. */
bool map_read_file(const struct map_source *source, struct buf *text, const char **error);

/* The lines of a rule table, from its file or from "{{rule}, {rule}}" (spec 6.7). */
bool map_rule_text(const struct map_source *source, struct buf *text, const char **error);

#endif
