#include "server/listener.h"
#include "protocol/ip.h"
#include "protocol/mem.h"
#include "server/bind.h"
#include "server/conn.h"
#include "server/helper.h"
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096, SYSTEMD_FIRST_FD = 3 };

/* ------------------------------------------------------------ binding */

/* A low port that a reload adds: we may not, the helper may. */
static int bind_ip(const struct ip *ip, const char *host, int port)
{
    int fd = bind_tcp(ip, port);
    return fd == -EACCES ? helper_bind(host, port) : fd;
}

static int bind_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path); /* what an earlier run left */
    if (bind(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

/* The number of a descriptor that systemd passed under this name, -ENOENT if there is none. */
static int find_systemd(const char *name)
{
    const char *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    const char *pid = getenv("LISTEN_PID");
    if (count == NULL || pid == NULL || atol(pid) != (long)getpid())
        return -ENOENT;
    struct span rest = span_of(names);
    for (int i = 0; i < atoi(count); i++) {
        size_t end = span_find(rest, ':');
        if (span_equals(span_make(rest.at, end), span_of(name)))
            return dup(SYSTEMD_FIRST_FD + i);
        rest = span_skip(rest, end + 1);
    }
    return -ENOENT;
}

static int bind_any(const struct listener_spec *spec, struct bound *out)
{
    static const struct ip any4 = { .family = 4 }, any6 = { .family = 6 };
    int fd4 = bind_ip(&any4, "0.0.0.0", spec->port);
    if (fd4 < 0)
        return fd4;
    out->fds[out->count++] = fd4;
    int fd6 = bind_ip(&any6, "::", spec->port);
    if (fd6 >= 0) /* a host without IPv6 serves IPv4 */
        out->fds[out->count++] = fd6;
    return 0;
}

static int bind_spec(const struct listener_spec *spec, struct bound *out)
{
    struct ip ip;
    int fd = -EINVAL;
    if (spec->kind == LISTEN_TCP && strcmp(spec->host, "*") == 0)
        return bind_any(spec, out);
    if (spec->kind == LISTEN_TCP && ip_parse(span_of(spec->host), &ip))
        fd = bind_ip(&ip, spec->host, spec->port);
    else if (spec->kind == LISTEN_UNIX)
        fd = bind_unix(spec->host);
    else if (spec->kind == LISTEN_SYSTEMD)
        fd = find_systemd(spec->host);
    if (fd >= 0)
        out->fds[out->count++] = fd;
    return fd >= 0 ? 0 : fd;
}

const char *listener_bind(const struct listener_spec *spec, struct bound *out,
                          struct arena *memory)
{
    *out = (struct bound){ .count = 0 };
    int rc = bind_spec(spec, out);
    return rc == 0 ? NULL
                   : arena_printf(memory, "cannot listen on %s: %s", spec->text, strerror(-rc));
}

/* ------------------------------------------------------------ accepting */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

/* Too late for a session, but not for a word. */
static void turn_away(struct listener *l, const char *text)
{
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } *h = xmalloc(sizeof *h);
    if (l->is_unix)
        uv_pipe_init(&l->loop->uv, &h->pipe, 0);
    else
        uv_tcp_init(&l->loop->uv, &h->tcp);
    if (uv_accept(&l->h.stream, &h->stream) == 0 && !l->is_tls) {
        uv_buf_t out = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
        uv_try_write(&h->stream, &out, 1);
    }
    uv_close((uv_handle_t *)&h->stream, free_handle);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;
    struct server *server = l->loop->server;
    if (status < 0)
        return;
    int connections = atomic_fetch_add(&server->connections, 1) + 1;
    bool is_scarce = connections > server->connection_limit - server->connection_reserve
                     && !conn_make_room(l->loop);
    if (connections <= server->connection_limit || !is_scarce) {
        conn_accept(l, is_scarce);
        return;
    }
    atomic_fetch_sub(&server->connections, 1);
    stats_add(&l->loop->stats, STAT_CONNECTIONS_BUSY, 1);
    char text[512];
    snprintf(text, sizeof text, "421 4.3.2 %.255s All server ports are busy\r\n",
             l->loop->config->params.myhostname);
    turn_away(l, text);
    log_line(&l->loop->log, "smtpd", 0, "warning: connection limit of %d reached: refused one",
             server->connection_limit);
}

static struct listener *add_one(struct loop *loop, const struct listener_spec *spec, int fd)
{
    struct listener *l = xcalloc(1, sizeof *l);
    l->loop = loop;
    l->text = xstrdup(spec->text);
    l->is_tls = spec->is_tls;
    l->is_proxy = spec->is_proxy;
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;
    getsockname(fd, (struct sockaddr *)(void *)&address, &size);
    l->is_unix = address.ss_family == AF_UNIX;
    int rc = 0;
    if (l->is_unix) {
        uv_pipe_init(&loop->uv, &l->h.pipe, 0);
        rc = uv_pipe_open(&l->h.pipe, fd);
    } else {
        uv_tcp_init(&loop->uv, &l->h.tcp);
        rc = uv_tcp_open(&l->h.tcp, fd);
    }
    l->h.stream.data = l;
    if (rc == 0)
        rc = uv_listen(&l->h.stream, BACKLOG, on_connection);
    if (rc != 0)
        log_line(&loop->log, "master", 0, "warning: cannot listen on %s: %s", spec->text,
                 uv_strerror(rc));
    return l;
}

void listener_add(struct loop *loop, const struct listener_spec *spec, const struct bound *bound)
{
    for (int i = 0; i < bound->count; i++) {
        struct listener *l = add_one(loop, spec, bound->fds[i]);
        l->next = loop->listeners;
        loop->listeners = l;
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    free(l->text);
    free(l);
}

static bool is_configured(const struct listener *l, const struct config *config)
{
    for (size_t i = 0; config != NULL && i < config->listener_count; i++)
        if (strcmp(config->listeners[i].text, l->text) == 0)
            return true;
    return false;
}

void listener_close_others(struct loop *loop, const struct config *config)
{
    struct listener **at = &loop->listeners;
    while (*at != NULL) {
        struct listener *l = *at;
        if (is_configured(l, config)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        uv_close(&l->h.handle, on_closed);
    }
}
