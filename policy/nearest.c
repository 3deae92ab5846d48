#include "policy/nearest.h"

struct nearest nearest_begin(struct span name)
{
    return (struct nearest){ .name = name, .distance = name.len / 3 + 1 };
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance with one row, case folded. */
static size_t distance(struct span a, struct span b)
{
    size_t row[NEAREST_NAME_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t above = row[j];
            bool is_same = ascii_lower(a.at[i - 1]) == ascii_lower(b.at[j - 1]);
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + !is_same);
            diagonal = above;
        }
    }
    return row[b.len];
}

void nearest_try(struct nearest *n, const char *candidate)
{
    struct span c = span_of(candidate);
    if (n->name.len > NEAREST_NAME_MAX || c.len > NEAREST_NAME_MAX)
        return;
    size_t d = distance(n->name, c);
    if (d < n->distance) {
        n->best = candidate;
        n->distance = d;
    }
}
