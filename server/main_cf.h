/* main_cf - the text of a main.cf as name -> value, with file and line (spec 7.1).
 * Owns:   all its strings. Values are collapsed to one line, not expanded.
 * Errors: lines that are no "name = value" go to problems as errors; a repeated name (the last
 *         one wins) as a warning.
 * Thread: any. */
#ifndef POSTERN_MAIN_CF_H
#define POSTERN_MAIN_CF_H

#include "policy/problems.h"

struct main_cf_entry {
    struct main_cf_entry *next;
    const char *name, *value;
    int line;
    bool is_used; /* somebody knows or refers to this name */
};

struct main_cf {
    struct arena memory; /* owns */
    const char *file;
    struct main_cf_entry *first, **end; /* in file order, each name once */
};

void main_cf_parse(struct main_cf *cf, const char *file, struct span text,
                   struct problems *problems);
void main_cf_fini(struct main_cf *cf);
struct main_cf_entry *main_cf_find(const struct main_cf *cf, struct span name);

/* Sets a value as if the file had it (command line --set). */
void main_cf_set(struct main_cf *cf, struct span name, struct span value, int line);

#endif
