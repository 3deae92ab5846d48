/* listener - listening sockets, one per loop and endpoint (SO_REUSEPORT), and what is decided
 * before a connection gets a session: limits in all and per client.
 * Sockets are bound on the main thread before privileges are given up, then opened by each loop.
 * Thread: the loop's; listener_bind() main. */
#ifndef POSTERN_LISTENER_H
#define POSTERN_LISTENER_H

#include "server/listener_spec.h"
#include "server/loop.h"

struct listener {
    struct listener *next;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    struct loop *loop;
    char *text; /* owns: the endpoint as configured, to compare across reloads */
    bool is_tls, is_proxy, is_unix;
};

/* Bound sockets of one endpoint: at most two ("*": IPv4 and IPv6). */
struct bound {
    int fds[2];
    int count;
};

/* NULL, or why the endpoint cannot be bound (in memory). */
const char *listener_bind(const struct listener_spec *spec, struct bound *out,
                          struct arena *memory);

/* Takes the descriptors over. */
void listener_add(struct loop *loop, const struct listener_spec *spec, const struct bound *bound);

/* Closes those whose endpoint is not in the configuration any more; all if it is NULL. */
void listener_close_others(struct loop *loop, const struct config *config);

#endif
