/* script - a dialogue file as lines, and its escapes. The format is in runner.c.
 * Owns:   all texts. Lines of an included file keep their own file name and number.
 * Thread: any. */
#ifndef POSTERN_TESTS_SCRIPT_H
#define POSTERN_TESTS_SCRIPT_H

#include "protocol/buf.h"

struct script_line {
    char *file; /* owns */
    int number;
    char *word; /* owns: the directive; "|" or "|*" in a block, " " of a continuation */
    char *text; /* owns: what follows it */
};

struct script {
    struct script_line *lines; /* owns */
    size_t count, cap;
};

/* Appends the lines of a file; NULL, or why it cannot be read. Comments and empty lines go. */
const char *script_read(struct script *s, const char *file);
void script_fini(struct script *s);

/* Resolves \r \n \t \0 \\ \xNN; a \c at the end tells that no line end follows. False: a bad
 * escape. */
bool script_unescape(struct span text, struct buf *out, bool *has_line_end);

/* Does text match pattern, where "..." stands for anything? */
bool script_matches(const char *pattern, const char *text);

#endif
