/* param_table - the rows of params.def as data, and how a value of each kind is read (spec 7.2).
 * Thread: any. */
#ifndef POSTERN_PARAM_TABLE_H
#define POSTERN_PARAM_TABLE_H

#include "protocol/arena.h"
#include "protocol/params.h"

enum param_kind {
    PARAM_KIND_SECTION, /* a heading for the manual, no parameter */
    PARAM_KIND_BOOL,
    PARAM_KIND_INT,
    PARAM_KIND_SIZE,
    PARAM_KIND_TIME,
    PARAM_KIND_TEXT,
    PARAM_KIND_RAW, /* text that is not expanded */
    PARAM_KIND_PATH,
    PARAM_KIND_CHOICE,
};

struct param_row {
    const char *name; /* of a section: its title */
    enum param_kind kind;
    const char *value; /* default, unexpanded */
    long long min, max;
    char unit;
    const char *choices;
    const char *text;
    size_t offset; /* in struct params */
};

extern const struct param_row param_rows[];
extern const size_t param_row_count;

const struct param_row *param_find(struct span name);

/* Stores the expanded value in params. NULL, or what is wrong with it (in memory). base_dir:
 * what relative paths are relative to. */
const char *param_store(const struct param_row *row, struct span value, const char *base_dir,
                        struct params *params, struct arena *memory);

/* A parameter of Postfix's that has no meaning here. */
bool param_is_postfix(struct span name);

/* The nearest known name, or NULL. */
const char *param_nearest(struct span name);

#endif
