#include "server/metrics.h"
#include "protocol/mem.h"
#include "server/bind.h"
#include "server/listener_spec.h"
#include "server/server.h"
#include "server/version.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { METRICS_BACKLOG = 16 };

struct metrics {
    struct server *server;
    struct event_base *base; /* owns */
    struct evhttp *http;     /* owns */
    struct event *stop;      /* owns */
    int stop_fd;
    pthread_t thread;
};

/* ------------------------------------------------------------ the page */

static void put_value(struct buf *out, const char *name, const char *labels, const char *type,
                      const char *help, int64_t value)
{
    if (help != NULL)
        buf_printf(out, "# HELP postern_%s %s\n# TYPE postern_%s %s\n", name, help, name, type);
    buf_printf(out, "postern_%s%s %" PRId64 "\n", name, labels, value);
}

static void put_answers(struct buf *out, const char *name, const char *help,
                        const uint64_t counts[3])
{
    put_value(out, name, "{answer=\"yes\"}", "counter", help, (int64_t)counts[0]);
    put_value(out, name, "{answer=\"no\"}", NULL, NULL, (int64_t)counts[1]);
    put_value(out, name, "{answer=\"none\"}", NULL, NULL, (int64_t)counts[2]);
}

static void put_next_hops(const struct server *server, struct buf *out)
{
    uint64_t rcpt[3] = { 0 }, probes[3] = { 0 }, cached = 0;
    for (unsigned i = 0; i < server->loop_count; i++) {
        const struct next_hop_counts *c = &server->loops[i]->fetcher.counts;
        const uint64_t one[] = { c->rcpt_yes, c->rcpt_no, c->rcpt_unknown,
                                 c->probe_yes, c->probe_no, c->probe_unknown };
        for (size_t k = 0; k < 3; k++) {
            rcpt[k] += one[k];
            probes[k] += one[k + 3];
        }
        cached += c->rcpt_cached;
    }
    put_answers(out, "next_hop_rcpt_total", "Recipients asked about at next hops, by answer.",
                rcpt);
    put_value(out, "next_hop_rcpt_cached_total", "", "counter",
              "Recipients that need not be asked about again.", (int64_t)cached);
    put_answers(out, "probes_total", "Probes of address verification, by answer.", probes);
}

static void put_gauges(struct server *server, struct buf *out)
{
    const struct gauges *g = &server->gauges;
    put_value(out, "connections_active", "", "gauge", "Connections now.",
              atomic_load(&server->connections));
    put_value(out, "queue_messages", "{state=\"waiting\"}", "gauge", "Messages in the spool.",
              atomic_load(&g->queue_waiting));
    put_value(out, "queue_messages", "{state=\"active\"}", NULL, NULL,
              atomic_load(&g->queue_active));
    put_value(out, "queue_messages", "{state=\"held\"}", NULL, NULL, atomic_load(&g->queue_held));
    put_value(out, "queue_oldest_seconds", "", "gauge", "Age of the oldest message in the spool.",
              atomic_load(&g->queue_oldest_s));
    if (atomic_load(&g->certificate_expiry_s) != 0)
        put_value(out, "tls_certificate_expiry_timestamp_seconds", "", "gauge",
                  "When the certificate ends.", atomic_load(&g->certificate_expiry_s));
    put_value(out, "config_last_reload_successful", "", "gauge",
              "0: the last reload found mistakes, the old configuration is in force.",
              atomic_load(&g->reload_ok));
    put_value(out, "build_info", "{version=\"" POSTERN_VERSION "\"}", "gauge", "What runs.", 1);
}

static void print_page(struct server *server, struct buf *out)
{
    const struct stats *sets[LOOPS_MAX];
    for (unsigned i = 0; i < server->loop_count; i++)
        sets[i] = &server->loops[i]->stats;
    stats_print(sets, server->loop_count, out);
    put_next_hops(server, out);
    put_gauges(server, out);
}

static void on_metrics(struct evhttp_request *request, void *arg)
{
    struct metrics *m = arg;
    struct buf page = { 0 };
    struct evbuffer *body = evbuffer_new();
    ENSURE(body != NULL);
    print_page(m->server, &page);
    evbuffer_add(body, page.at, page.len);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "text/plain; version=0.0.4; charset=utf-8");
    evhttp_send_reply(request, HTTP_OK, "OK", body);
    evbuffer_free(body);
    buf_fini(&page);
}

static void on_other(struct evhttp_request *request, void *arg)
{
    (void)arg;
    evhttp_send_error(request, HTTP_NOTFOUND, "only /metrics is here");
}

/* ------------------------------------------------------------ life */

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    struct metrics *m = arg;
    (void)fd, (void)what;
    event_base_loopbreak(m->base);
}

/* -errno or a listening socket. */
static int open_endpoint(const char *text)
{
    struct arena memory = { 0 };
    struct problems problems = { 0 };
    struct listener_spec *specs;
    struct ip ip = { .family = 4 };
    size_t count = listener_specs_parse(text, &memory, &specs, &problems);
    bool is_good = count == 1 && specs[0].kind == LISTEN_TCP
                   && (strcmp(specs[0].host, "*") == 0 || ip_parse(span_of(specs[0].host), &ip));
    int fd = is_good ? bind_tcp(&ip, specs[0].port) : -EINVAL;
    if (fd >= 0 && listen(fd, METRICS_BACKLOG) != 0) {
        int error = -errno;
        close(fd);
        fd = error;
    }
    problems_fini(&problems);
    arena_fini(&memory);
    return fd;
}

const char *metrics_bind(struct server *server, struct metrics **out)
{
    const char *text = server->config->params.metrics_listen;
    *out = NULL;
    if (text[0] == '\0')
        return NULL;
    int fd = open_endpoint(text);
    if (fd < 0)
        return strerror(-fd);
    struct metrics *m = xcalloc(1, sizeof *m);
    m->server = server;
    m->base = event_base_new();
    m->http = m->base != NULL ? evhttp_new(m->base) : NULL;
    m->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ENSURE(m->http != NULL && m->stop_fd >= 0);
    m->stop = event_new(m->base, m->stop_fd, EV_READ, on_stop, m);
    event_add(m->stop, NULL);
    evhttp_set_allowed_methods(m->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(m->http, METRICS_REQUEST_MAX);
    evhttp_set_max_body_size(m->http, 0);
    evhttp_set_timeout(m->http, METRICS_TIMEOUT_S);
    evhttp_set_cb(m->http, "/metrics", on_metrics, m);
    evhttp_set_gencb(m->http, on_other, NULL);
    ENSURE(evhttp_accept_socket(m->http, fd) == 0);
    *out = m;
    return NULL;
}

static void *run(void *arg)
{
    struct metrics *m = arg;
    event_base_dispatch(m->base);
    return NULL;
}

void metrics_start(struct metrics *m)
{
    if (m != NULL)
        ENSURE(pthread_create(&m->thread, NULL, run, m) == 0);
}

void metrics_stop(struct metrics *m)
{
    uint64_t one = 1;
    if (m == NULL)
        return;
    (void)!write(m->stop_fd, &one, sizeof one);
    pthread_join(m->thread, NULL);
    evhttp_free(m->http);
    event_free(m->stop);
    event_base_free(m->base);
    close(m->stop_fd);
    free(m);
}
