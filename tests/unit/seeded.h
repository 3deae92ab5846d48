/* seeded - numbers that look random and are the same in every run, for the tests that compare
 * with a naive reference. POSTERN_SEED=n in the environment tries others. */
#ifndef POSTERN_TESTS_SEEDED_H
#define POSTERN_TESTS_SEEDED_H

#include <stdint.h>
#include <stdlib.h>

struct seeded {
    uint64_t state;
};

static inline struct seeded seeded_begin(uint64_t seed)
{
    const char *other = getenv("POSTERN_SEED");
    if (other != NULL)
        seed ^= strtoull(other, NULL, 10) * 2654435761u;
    return (struct seeded){ seed * 6364136223846793005u + 1442695040888963407u };
}

/* SplitMix64: any state will do, also 0. */
static inline uint64_t seeded_next(struct seeded *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 .. limit - 1 */
static inline size_t seeded_below(struct seeded *r, size_t limit)
{
    return (size_t)(seeded_next(r) % limit);
}

#endif
