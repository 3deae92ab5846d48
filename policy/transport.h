/* transport - where mail for a class of addresses goes: "virtual", "lmtp:unix:PATH",
 * "lmtp:inet:HOST:PORT", "smtp:[HOST]:PORT", "discard:", "error:TEXT",
 *             "retry:TEXT".
 * Thread: any; texts live in the arena given. */
#ifndef POSTERN_TRANSPORT_H
#define POSTERN_TRANSPORT_H

#include "protocol/arena.h"

enum transport_kind {
    TRANSPORT_NONE, /* nothing is configured */
    TRANSPORT_VIRTUAL,
    TRANSPORT_LMTP,
    TRANSPORT_SMTP,
    TRANSPORT_DISCARD,
    TRANSPORT_ERROR,
};

struct transport {
    enum transport_kind kind;
    const char *name;    /* "virtual", for logs */
    const char *nexthop; /* what stands behind the first colon */
};

/* NULL, or what is wrong with text. Empty text is TRANSPORT_NONE. */
const char *transport_parse(struct span text, struct arena *memory, struct transport *out);

#endif
