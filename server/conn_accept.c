/* The beginning of a connection: whether there is room for it, who it is, and what comes first. */
#include "server/conn.h"
#include "protocol/mem.h"
#include "protocol/proxy.h"
#include "server/clients.h"
#include "server/listener.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* ------------------------------------------------------------ limits */

static bool is_limited(struct conn *c, int connections, int rate)
{
    const struct config *config = c->smtpd.config;
    const struct params *p = &config->params;
    bool is_over = (p->smtpd_client_connection_count_limit > 0
                    && connections > p->smtpd_client_connection_count_limit)
                   || (p->smtpd_client_connection_rate_limit > 0
                       && rate > p->smtpd_client_connection_rate_limit);
    return is_over
           && match_list_host(&config->event_limit_exceptions, &map_reader_direct,
                              SPAN_LITERAL("unknown"), &c->smtpd.client_ip) != MATCH_YES;
}

/* A reply in place of the banner, and the end. */
static void refuse_client(struct conn *c, const char *enhanced, const char *why)
{
    c->smtpd.smtp.close_reason = SMTP_CLOSE_REPLY;
    buf_printf(&c->loop->out, "421 %s %.255s %s\r\n", enhanced, conn_params(c)->myhostname, why);
    if (conn_flush(c))
        conn_close(c, NULL);
}

static void refuse_limited(struct conn *c, int connections, int rate)
{
    char why[100];
    snprintf(why, sizeof why, "Error: too many connections from %s",
             c->smtpd.smtp.peer.address);
    smtpd_log(&c->smtpd, "smtpd",
              "warning: connection limit exceeded: %d at a time, %d per unit from %s",
              connections, rate, smtpd_client(&c->smtpd));
    refuse_client(c, "4.7.0", why);
}

/* ------------------------------------------------------------ when room is scarce */

static const char busy[] = "All server ports are busy";

enum { LOOK_AT_MAX = 256 };

static bool is_welcome(const struct conn *c)
{
    const struct config *config = c->smtpd.config;
    const struct ip *ip = &c->smtpd.client_ip;
    return clients_is_welcome(c->loop->server->clients, ip, &config->params,
                              c->loop->services.now_ms)
           || match_list_host(&config->event_limit_exceptions, &map_reader_direct,
                              SPAN_LITERAL("unknown"), ip) == MATCH_YES;
}

/* It waits for its client, not for us, and has done so for long enough. */
static bool is_evictable(const struct conn *c)
{
    bool is_quiet = c->phase == CONN_PROXY || c->phase == CONN_HANDSHAKE
                    || (c->phase == CONN_SMTP && c->smtpd.smtp.state == SMTP_STATE_COMMAND);
    return !c->is_closing && !c->is_waiting && is_quiet
           && c->loop->services.now_ms - c->active_ms >= conn_params(c)->smtpd_idle_time
           && !is_welcome(c);
}

static void evict(struct conn *c)
{
    smtpd_log(&c->smtpd, "smtpd", "makes room for others: %s", smtpd_client(&c->smtpd));
    if (c->phase == CONN_SMTP && c->writes == 0) {
        conn_say_goodbye(c, busy);
        if (!conn_flush(c))
            return;
    }
    conn_close(c, "made room");
}

bool conn_make_room(struct loop *loop)
{
    struct conn *c = loop->oldest;
    loop_now_ms(loop);
    for (int i = 0; i < LOOK_AT_MAX && c != NULL; i++, c = c->prev) {
        if (!is_evictable(c))
            continue;
        evict(c);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------ PROXY */

void conn_refuse_proxy(struct conn *c)
{
    smtpd_log(&c->smtpd, "smtpd", "warning: no PROXY header from %s", smtpd_client(&c->smtpd));
    refuse_client(c, "4.3.0", "Server local error");
}

static void begin_session(struct conn *c)
{
    c->phase = CONN_SMTP;
    if (c->is_tls_from_start)
        conn_begin_tls(c);
    else
        conn_pump(c);
}

/* From now on the connection counts as the announced client's. False: one too many. */
static bool become_proxied(struct conn *c, const struct proxy_header *header)
{
    struct smtpd *d = &c->smtpd;
    struct clients *clients = c->loop->server->clients;
    int64_t now_ms = c->loop->services.now_ms;
    int connections, rate;
    if (header->is_local)
        return true;
    clients_disconnect(clients, &d->client_ip, &d->config->params, now_ms);
    d->client_ip = header->client;
    clients_connect(clients, &d->client_ip, &d->config->params, now_ms, &connections, &rate);
    smtp_peer_fini(&d->smtp.peer);
    smtp_peer_init(&d->smtp.peer, &header->client, header->client_port, &header->server,
                   header->server_port);
    if (is_limited(c, connections, rate)) {
        refuse_limited(c, connections, rate);
        return false;
    }
    return true;
}

/* What came behind the header belongs to the client: SMTP too early, or its TLS hello. */
static void proxy_done(struct conn *c, size_t header_bytes)
{
    struct buf rest = c->held;
    buf_drop(&rest, header_bytes);
    rest.max = 0;
    c->held = (struct buf){ 0 };
    if (!c->is_tls_from_start) {
        c->held = rest;
        begin_session(c);
        return;
    }
    begin_session(c);
    c->cipher = buf_span(&rest);
    conn_pump(c);
    buf_fini(&rest);
}

void conn_read_proxy(struct conn *c, struct span bytes)
{
    struct proxy_header header;
    size_t used;
    c->held.max = PROXY_HEADER_MAX + LOOP_COMMAND_READ_BYTES;
    buf_add(&c->held, bytes);
    switch (proxy_parse(buf_span(&c->held), &header, &used)) {
    case PROXY_MORE: return;
    case PROXY_BAD: conn_refuse_proxy(c); return;
    case PROXY_OK: break;
    }
    if (become_proxied(c, &header))
        proxy_done(c, used);
}

/* ------------------------------------------------------------ accepting */

static void addresses_of(struct conn *c, struct ip *client, uint16_t *client_port,
                         struct ip *server, uint16_t *server_port, bool is_unix)
{
    struct sockaddr_storage address = { 0 };
    int size = sizeof address;
    *client = *server = (struct ip){ 0 };
    *client_port = *server_port = 0;
    if (is_unix) { /* as Postfix: a local socket is this host */
        ip_parse(SPAN_LITERAL("127.0.0.1"), client);
        *server = *client;
        return;
    }
    if (uv_tcp_getpeername(&c->h.tcp, (struct sockaddr *)(void *)&address, &size) == 0)
        ip_from_sockaddr((struct sockaddr *)(void *)&address, client, client_port);
    size = sizeof address;
    if (uv_tcp_getsockname(&c->h.tcp, (struct sockaddr *)(void *)&address, &size) == 0)
        ip_from_sockaddr((struct sockaddr *)(void *)&address, server, server_port);
}

/* Bytes before the banner: this client does not wait for anybody (spec 9.7). */
static bool talks_early(struct conn *c)
{
    uv_os_fd_t fd;
    char byte;
    return uv_fileno(&c->h.handle, &fd) == 0
           && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void link_conn(struct conn *c)
{
    struct loop *loop = c->loop;
    c->next = loop->conns;
    if (loop->conns != NULL)
        loop->conns->prev = c;
    else
        loop->oldest = c;
    loop->conns = c;
    loop_conn_added(loop);
}

static struct conn *conn_new(struct listener *l)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->loop = l->loop;
    c->is_tls_from_start = l->is_tls;
    c->deadline_ms = INT64_MAX;
    if (l->is_unix)
        uv_pipe_init(&l->loop->uv, &c->h.pipe, 0);
    else
        uv_tcp_init(&l->loop->uv, &c->h.tcp);
    c->h.handle.data = c;
    return c;
}

void conn_accept(struct listener *l, bool is_scarce)
{
    struct server *server = l->loop->server;
    struct conn *c = conn_new(l);
    struct ip client, server_ip;
    uint16_t client_port, server_port;
    int connections, rate;
    int64_t now_ms = loop_now_ms(l->loop);
    link_conn(c);
    c->active_ms = now_ms;
    int rc = uv_accept(&l->h.stream, &c->h.stream);
    addresses_of(c, &client, &client_port, &server_ip, &server_port, l->is_unix);
    smtpd_init(&c->smtpd, l->loop->config, &l->loop->services, &client, client_port, &server_ip,
               server_port, atomic_fetch_add(&server->last_number, 1) + 1);
    c->smtpd.conn = c;
    c->asker = (struct asker){ .config = c->smtpd.config, .learn = conn_learn };
    clients_connect(server->clients, &client, conn_params(c), now_ms, &connections, &rate);
    bool is_proxied = l->is_proxy
                      || conn_params(c)->smtpd_upstream_proxy_protocol == PROXY_PROTOCOL_HAPROXY;
    if (rc != 0 || client.family == 0) {
        conn_close(c, NULL); /* it left before we came */
    } else if (!is_proxied && is_limited(c, connections, rate)) {
        refuse_limited(c, connections, rate);
    } else if (!is_proxied && is_scarce && !is_welcome(c)) {
        refuse_client(c, "4.3.2", busy);
    } else if (is_proxied) {
        c->phase = CONN_PROXY;
        conn_set_deadline(c, conn_params(c)->smtpd_upstream_proxy_timeout);
        conn_start_reading(c);
    } else {
        c->smtpd.smtp.has_talked_early = !l->is_tls && talks_early(c);
        begin_session(c);
    }
}
