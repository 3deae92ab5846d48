/* problems - what is wrong with a configuration or a table, collected while it is read.
 * Owns:   copies of all texts. Order: as found.
 * Shape:  subject is a parameter name or a table ("hash:/etc/x"); file and line are filled in by
 *         whoever knows where the subject stands (0: nobody does).
 * Bounds: PROBLEMS_MAX, then one line that says how many more there were.
 * Thread: any, one at a time. */
#ifndef POSTERN_PROBLEMS_H
#define POSTERN_PROBLEMS_H

#include "protocol/arena.h"

enum problem_level { PROBLEM_WARNING, PROBLEM_ERROR };

struct problem {
    struct problem *next;
    enum problem_level level;
    const char *subject, *text;
    const char *file; /* NULL: see subject */
    int line;
};

enum { PROBLEMS_MAX = 1000 };

struct problems {
    struct arena memory; /* owns */
    struct problem *first, *last;
    int count, error_count;
};

void problems_fini(struct problems *p);
void problems_add(struct problems *p, enum problem_level level, const char *subject,
                  const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

#define problems_error(p, subject, ...) \
    problems_add((p), PROBLEM_ERROR, (subject), NULL, 0, __VA_ARGS__)
#define problems_warning(p, subject, ...) \
    problems_add((p), PROBLEM_WARNING, (subject), NULL, 0, __VA_ARGS__)

#endif
