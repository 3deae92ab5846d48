/* smtp_data - message bytes out of the byte stream behind "354" or "BDAT n" (RFC 5321 4.5.2,
 * RFC 3030 section 2).
 * Owns:   nothing; the state is the caller's struct, begun with smtp_data_begin().
 * In:     raw bytes in pieces of any size, down to one byte.
 * Out:    pieces of the message: parts of the input itself (nothing is copied), dots unstuffed
 *         in DATA mode. CR LF stays; a bare LF becomes CR LF and is counted, so what leaves
 *         here holds no bare LF; a bare CR is data and is counted.
 * Ends:   DATA only at CR LF "." CR LF. A "." line that begins or ends with a bare LF neither
 *         ends the message nor is it stored (spec 9.6): it is how mail is smuggled.
 *         BDAT never ends here: the caller counts the chunk's octets.
 * Thread: any. */
#ifndef POSTERN_SMTP_DATA_H
#define POSTERN_SMTP_DATA_H

#include "protocol/span.h"

enum smtp_data_state {
    SMTP_DATA_LINE_START,      /* behind CR LF, or at the very beginning */
    SMTP_DATA_BARE_LINE_START, /* behind a bare LF */
    SMTP_DATA_DOT,             /* "." at a line start, held back */
    SMTP_DATA_BARE_DOT,
    SMTP_DATA_DOT_CR, /* "." CR at a line start, held back */
    SMTP_DATA_BARE_DOT_CR,
    SMTP_DATA_TEXT,
    SMTP_DATA_CR, /* the last octet was CR */
};

struct smtp_data {
    enum smtp_data_state state;
    bool is_bdat, is_ended;
    uint64_t size_bytes; /* of the message so far */
    uint64_t bare_lf_count, bare_cr_count;
};

void smtp_data_begin(struct smtp_data *d, bool is_bdat);

/* The next piece of the message; false when the input is used up or the message has ended.
 * In DATA mode *in is then what follows the final dot. */
bool smtp_data_next(struct smtp_data *d, struct span *in, struct span *piece);

#endif
