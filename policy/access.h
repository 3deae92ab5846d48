/* access - access(5) tables: keys, actions, and their effects (spec 4). Policy servers answer
 * with the same actions.
 * Thread: as the evaluation. */
#ifndef POSTERN_ACCESS_H
#define POSTERN_ACCESS_H

#include "policy/eval.h"

/* Name, its parents, then the address and its networks; ip NULL: the name alone (spec 4.2). */
enum map_result access_find_host(struct eval *e, struct map *map, struct span name,
                                 const struct ip *ip, struct buf *value);

/* The keys of a mail address (spec 4.3). */
enum map_result access_find_mail(struct eval *e, struct map *map,
                                 const struct resolved *address, struct buf *value);

/* Does what the action says. source: the table or server, for messages. */
enum verdict access_apply(struct eval *e, struct span action, enum subject subject,
                          const char *source);

/* "5.1.1" where an address status stands for something else (spec 1.9), in the outcome's
 * memory; the first digit follows the code. */
const char *access_repair_status(struct eval *e, struct span status, int code,
                                 enum subject subject);

#endif
