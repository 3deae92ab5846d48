/* nearest - the known name that a misspelt one probably meant (edit distance).
 * Bounds: names of up to NEAREST_NAME_MAX bytes; longer ones are never near.
 * Thread: any. */
#ifndef POSTERN_NEAREST_H
#define POSTERN_NEAREST_H

#include "protocol/span.h"

enum { NEAREST_NAME_MAX = 80 };

struct nearest {
    struct span name;
    const char *best; /* NULL: nothing near yet */
    size_t distance;  /* of best; only smaller ones replace it */
};

/* Nothing further than a third of the name's length counts as near. */
struct nearest nearest_begin(struct span name);
void nearest_try(struct nearest *n, const char *candidate);

#endif
