/* lines - logical lines of main.cf and of text tables (spec 6.3, 7.1).
 * Rule:   a line that starts with white space continues the one before (the line end goes, the
 *         blanks stay). Empty lines and lines whose first non-blank is '#' vanish and do not
 *         end a logical line.
 * Owns:   the logical line at hand. Out: valid until the next call.
 * Thread: any, one at a time. */
#ifndef POSTERN_LINES_H
#define POSTERN_LINES_H

#include "protocol/buf.h"

struct lines {
    struct span rest;
    int next_line;      /* number of the physical line at rest */
    int line;           /* first physical line of the logical line returned last */
    bool is_orphan;     /* it began with white space: nothing to continue */
    struct buf logical; /* owns */
};

void lines_begin(struct lines *l, struct span text);
void lines_fini(struct lines *l);
bool lines_next(struct lines *l, struct span *line);

#endif
