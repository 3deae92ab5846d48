/* tables - opens lookup tables for tests, and tells results as text.
 * Owns:   the tables and what was said about them.
 * Thread: the test's. */
#ifndef POSTERN_TEST_TABLES_H
#define POSTERN_TEST_TABLES_H

#include "policy/map.h"

#include <criterion/criterion.h>

struct tables {
    struct problems problems;
    struct maps *maps;
    struct buf value;
};

static inline struct tables tables_new(const char *base_dir)
{
    return (struct tables){ .maps = maps_new(base_dir) };
}

static inline void tables_fini(struct tables *t)
{
    buf_fini(&t->value);
    maps_free(t->maps);
    problems_fini(&t->problems);
}

static inline struct map *tables_open(struct tables *t, const char *name)
{
    return maps_get(t->maps, span_of(name), "test_maps", &t->problems);
}

/* "=VALUE" found, "-" not found, "?" not now, "!" unusable. Valid until the next call. */
static inline const char *tables_look(struct tables *t, struct map *map, const char *key)
{
    buf_clear(&t->value);
    buf_putc(&t->value, '=');
    switch (map_find(map, span_of(key), &t->value)) {
    case MAP_FOUND: return buf_text(&t->value);
    case MAP_NOT_FOUND: return "-";
    case MAP_RETRY: return "?";
    case MAP_BROKEN: return "!";
    case MAP_PENDING: break;
    }
    return "PENDING";
}

/* The same for a table that is opened by its name first. */
static inline const char *tables_ask(struct tables *t, const char *name, const char *key)
{
    return tables_look(t, tables_open(t, name), key);
}

static inline bool tables_said(const struct tables *t, const char *words)
{
    for (const struct problem *p = t->problems.first; p != NULL; p = p->next)
        if (strstr(p->text, words) != NULL)
            return true;
    return false;
}

/* Forgets what was said. */
static inline void tables_hush(struct tables *t)
{
    problems_fini(&t->problems);
}

#endif
