/* spf_macro - the macro language of SPF records and explanations (RFC 7208 7): checked, expanded.
 * In:     text of a stranger. Check it before it is expanded: spf_macro_expand() takes only what
 *         passed spf_macro_check().
 * Bounds: each value is cut to SPF_VALUE_MAX bytes; the caller gives *out a ceiling.
 * Thread: any. */
#ifndef POSTERN_SPF_MACRO_H
#define POSTERN_SPF_MACRO_H

#include "protocol/buf.h"
#include "protocol/ip.h"

enum { SPF_VALUE_MAX = 512 };

/* What the letters stand for. */
struct spf_macros {
    struct span local, domain; /* l, o: of the sender; s is both */
    struct span current;       /* d: the domain whose record is read */
    struct span helo;          /* h */
    const struct ip *ip;       /* i, c, v */
    const char *client_name;   /* p: the validated name, or "unknown" */
    const char *receiver;      /* r */
    int64_t now_s;             /* t: since the epoch */
};

enum spf_macro_use {
    SPF_MACRO_DOMAIN, /* a domain-spec: must end as a domain does */
    SPF_MACRO_STRING, /* of an unknown modifier */
    SPF_MACRO_TEXT,   /* an explanation: blanks, and the letters c, r and t */
};

/* Is the text well formed (RFC 7208 12)? */
bool spf_macro_check(struct span text, enum spf_macro_use use);

/* Does one of these letters (lower case) occur as a macro? */
bool spf_macro_uses(struct span text, const char *letters);
void spf_macro_expand(struct buf *out, struct span text, const struct spf_macros *macros);

#endif
