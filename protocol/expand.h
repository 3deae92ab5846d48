/* expand - $name and its relatives in main.cf values and reply templates (spec 7.3):
 *   $name ${name} $(name)   the value, empty if undefined
 *   ${name?text} ${name:text} ${name?{a}:{b}}   by whether the value is empty
 *   ${{x} OP {y} ? {a} : {b}}   OP: == != < <= >= >, numeric if both are digits; with "level"
 *                               behind it dotted versions are compared
 *   $$                      one $
 * Recursion: text and values are expanded in turn when the lookup asks for that.
 * Errors: false and a word in *error for an unterminated or malformed form, and past
 *         EXPAND_DEPTH_MAX levels (a loop) or EXPAND_STEPS_MAX expansions. Bounds: out->max bounds the result.
 * Thread: any. */
#ifndef POSTERN_EXPAND_H
#define POSTERN_EXPAND_H

#include "protocol/buf.h"

enum { EXPAND_DEPTH_MAX = 100, EXPAND_STEPS_MAX = 100000, EXPAND_RESULT_MAX = 1 << 20 };

struct expand {
    /* The value of a name; NULL: undefined. is_recursive: the value is itself expanded. */
    const char *(*lookup)(void *context, struct span name);
    void *context;
    bool is_recursive;
    const char *error; /* static text, set when expand_text() fails */
    int depth, steps;
};

bool expand_text(struct expand *x, struct span text, struct buf *out);

/* Calls back for every name that text refers to. */
void expand_names(struct span text, void (*found)(void *context, struct span name),
                  void *context);

#endif
