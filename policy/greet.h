/* greet - what is found out about a client before the banner: does it wait for its turn, and what
 * do the weighted DNS lists say (after postscreen, spec 10).
 * Together: the client's names, the lists and the pause are asked for at once; the lists hide
 *         behind the pause. A client that passed is remembered for greet_ttl and not made to
 *         wait again.
 * Actions: ignore (log it), enforce (every recipient is refused), drop (521 and the end).
 * Thread: as the evaluation. */
#ifndef POSTERN_GREET_H
#define POSTERN_GREET_H

#include "policy/eval.h"

enum greet_action { GREET_IGNORE, GREET_ENFORCE, GREET_DROP };

struct greet {
    bool has_talked;          /* before the banner */
    bool is_to_be_remembered; /* it waited, and nothing was found */
    enum greet_action action; /* the strictest that anything asks for */
    struct smtp_reply reply;  /* GREET_ENFORCE: for each RCPT; GREET_DROP: now */
    int score;                /* of the lists */
};

/* VERDICT_PENDING, or VERDICT_DUNNO with *out filled. Notes go to the outcome. */
enum verdict greet_evaluate(struct eval *e, struct greet *out);

/* One list of dns_list_sites: "domain=filter*weight". NULL, or what is wrong. */
const char *greet_parse_site(struct span text, struct arena *memory, struct dnsbl *list);

#endif
