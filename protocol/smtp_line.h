/* smtp_line - bytes -> command lines (RFC 5321 2.3.8, 4.5.3.1.4).
 * Owns:   the beginning of a line whose end has not arrived yet; nothing while idle.
 * In:     raw bytes in pieces of any size, down to one byte.
 * Out:    one line without its end. A line ends at LF; exactly one CR before it belongs to the
 *         end, other CRs are data. is_bare_lf tells an LF without CR: the caller has the policy.
 * Bounds: a line longer than limit_bytes is consumed to its LF and reported as too long, with
 *         its first limit_bytes, whatever its end.
 * The line is valid until the next call. Thread: any, one at a time. */
#ifndef POSTERN_SMTP_LINE_H
#define POSTERN_SMTP_LINE_H

#include "protocol/buf.h"

struct smtp_line {
    struct buf partial; /* owns */
    size_t limit_bytes;
    bool is_overflow;
};

struct smtp_line_out {
    struct span text;
    bool is_bare_lf, is_too_long;
};

void smtp_line_fini(struct smtp_line *l);

/* True when *out holds a whole line; the rest of *in is what follows it. False: *in is used up. */
bool smtp_line_next(struct smtp_line *l, struct span *in, struct smtp_line_out *out);

#endif
