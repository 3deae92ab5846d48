/* list - the list syntax of main.cf values (spec 7.2): items separated by commas and white
 * space; braces protect separators, and stay in the item.
 * Thread: any. */
#ifndef POSTERN_LIST_H
#define POSTERN_LIST_H

#include "protocol/span.h"

/* Cuts the next item off *text; an empty item means the end. */
struct span list_next(struct span *text);

/* As list_next, but only commas separate: for rules and pairs that may hold blanks. */
struct span list_next_comma(struct span *text);

/* The inside of "{ ... }" without surrounding blanks; false if the item is not in braces. */
bool list_unbrace(struct span item, struct span *inside);

/* Open and closed braces match. */
bool list_is_balanced(struct span text);

#endif
