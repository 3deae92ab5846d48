/* listener_spec - the endpoints of the "listen" parameter, parsed (DESIGN 2).
 * Thread: any; texts live in the arena given. */
#ifndef POSTERN_LISTENER_SPEC_H
#define POSTERN_LISTENER_SPEC_H

#include "policy/problems.h"

struct listener_spec {
    const char *text; /* as written, for messages and for comparing across reloads */
    enum { LISTEN_TCP, LISTEN_UNIX, LISTEN_SYSTEMD } kind;
    const char *host; /* LISTEN_TCP: address, "*" both families; else path or name */
    int port;
    bool is_tls, is_proxy;
    bool has_failed;  /* main thread: it could not be bound, the next reload tries again */
};

/* The number of endpoints in *out; mistakes go to problems. */
size_t listener_specs_parse(const char *text, struct arena *memory, struct listener_spec **out,
                            struct problems *problems);

#endif
