#include "server/conn.h"
#include "protocol/mem.h"
#include "protocol/proxy.h"
#include "protocol/text.h"
#include "server/clients.h"
#include "server/listener.h"
#include "server/server.h"
#include "server/tls.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LINGER_MS = 2000 };

static void conn_pump(struct conn *c);

static const struct params *params_of(const struct conn *c)
{
    return c->smtpd.smtp.params;
}

/* ------------------------------------------------------------ closing */

static void on_handle_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    loop_conn_removed(c->loop);
    free(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void stop_sleep(struct conn *c)
{
    if (c->sleep == NULL)
        return;
    c->sleep->data = NULL;
    uv_close((uv_handle_t *)c->sleep, on_timer_closed);
    c->sleep = NULL;
}

static void unlink_conn(struct conn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        c->loop->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        c->loop->oldest = c->prev;
}

void conn_close(struct conn *c, const char *error)
{
    struct server *server = c->loop->server;
    if (c->is_closing)
        return;
    c->is_closing = true;
    loop_now_ms(c->loop);
    smtpd_closed(&c->smtpd, error);
    clients_disconnect(server->clients, &c->smtpd.client_ip, &c->smtpd.config->params,
                       c->loop->services.now_ms);
    fetch_leave(&c->asker);
    free((void *)(uintptr_t)c->greet.text.at);
    c->greet.text.at = NULL;
    stop_sleep(c);
    smtpd_fini(&c->smtpd);
    tls_stream_free(c->tls);
    buf_fini(&c->held);
    buf_fini(&c->held_cipher);
    buf_fini(&c->delayed);
    unlink_conn(c);
    atomic_fetch_sub(&server->connections, 1);
    uv_close(&c->h.handle, on_handle_closed);
}

/* ------------------------------------------------------------ writing */

struct write {
    uv_write_t request;
    struct conn *conn;
    char bytes[];
};

static void on_written(uv_write_t *request, int status)
{
    struct write *w = (struct write *)(void *)request;
    struct conn *c = w->conn;
    free(w);
    c->writes--;
    if (c->is_closing)
        return;
    if (status < 0)
        conn_close(c, uv_strerror(status));
    else if (c->writes == 0 && c->sleep == NULL)
        conn_pump(c);
}

/* What the socket did not take at once is copied and sent when it can be. */
static int queue_write(struct conn *c, struct span rest)
{
    struct write *w = xmalloc(sizeof *w + rest.len);
    memcpy(w->bytes, rest.at, rest.len);
    w->conn = c;
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)rest.len);
    int rc = uv_write(&w->request, &c->h.stream, &buf, 1, on_written);
    if (rc == 0)
        c->writes++;
    else
        free(w);
    return rc;
}

/* The last reply waits in the kernel for the close that follows at once: one packet for both. */
static int send_last(struct conn *c, struct span bytes)
{
    uv_os_fd_t fd;
    int rc = uv_fileno(&c->h.handle, &fd);
    if (rc != 0)
        return rc;
    ssize_t n = send(fd, bytes.at, bytes.len, MSG_MORE | MSG_NOSIGNAL | MSG_DONTWAIT);
    return n >= 0 ? (int)n : errno == EINTR ? UV_EAGAIN : -errno;
}

static int send_bytes(struct conn *c, struct span bytes)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.at, (unsigned)bytes.len);
    int n = c->writes > 0     ? UV_EAGAIN
            : c->is_close_due ? send_last(c, bytes)
                              : uv_try_write(&c->h.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN)
        return n;
    if (n > 0)
        bytes = span_skip(bytes, (size_t)n);
    return bytes.len > 0 ? queue_write(c, bytes) : 0;
}

static void encrypt(struct conn *c)
{
    struct loop *loop = c->loop;
    if (c->tls != NULL && loop->out.len > 0 && tls_stream_is_ready(c->tls)) {
        tls_stream_write(c->tls, buf_span(&loop->out), &loop->cipher_out);
        buf_clear(&loop->out);
    }
}

/* Sends the loop's out, through TLS if there is any. False: the connection is gone. */
static bool flush(struct conn *c)
{
    struct loop *loop = c->loop;
    int rc = 0;
    encrypt(c);
    struct span bytes = buf_span(c->tls != NULL ? &loop->cipher_out : &loop->out);
    if (bytes.len > 0)
        rc = send_bytes(c, bytes);
    buf_clear(&loop->out);
    buf_clear(&loop->cipher_out);
    if (rc < 0)
        conn_close(c, uv_strerror(rc));
    return rc >= 0;
}

/* ------------------------------------------------------------ input that waits */

static void hold(struct buf *held, struct span *in)
{
    size_t rest = in->len;
    bool is_inside = held->at != NULL && in->at >= held->at && in->at <= held->at + held->len;
    if (is_inside) {
        buf_drop(held, held->len - rest);
    } else {
        buf_clear(held);
        buf_add(held, *in);
    }
    if (held->len == 0)
        buf_fini(held);
    *in = span_make(NULL, 0);
}

static void hold_input(struct conn *c)
{
    hold(&c->held, &c->in);
    hold(&c->held_cipher, &c->cipher);
}

static void take_held(struct conn *c)
{
    if (c->in.len == 0)
        c->in = buf_span(&c->held);
    if (c->cipher.len == 0)
        c->cipher = buf_span(&c->held_cipher);
}

/* ------------------------------------------------------------ reading */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = handle->data;
    size_t size = LOOP_COMMAND_READ_BYTES;
    char *room = NULL;
    (void)suggested;
    if (c->phase == CONN_SMTP && c->tls == NULL && !c->is_waiting)
        room = smtpd_room(&c->smtpd, &size);
    if (room == NULL)
        room = c->loop->read_buffer;
    if (room == c->loop->read_buffer && (c->tls != NULL || smtpd_is_receiving(&c->smtpd)))
        size = LOOP_READ_BYTES;
    if (c->is_waiting)
        size = LOOP_COMMAND_READ_BYTES;
    *buf = uv_buf_init(room, (unsigned)size);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void start_reading(struct conn *c)
{
    if (c->is_reading || c->has_eof)
        return;
    c->is_reading = uv_read_start(&c->h.stream, on_alloc, on_read) == 0;
}

static void stop_reading(struct conn *c)
{
    if (c->is_reading)
        uv_read_stop(&c->h.stream);
    c->is_reading = false;
}

static void set_deadline(struct conn *c, int64_t timeout_ms)
{
    c->deadline_ms = c->loop->services.now_ms + timeout_ms;
}

/* smtpd_timeout runs from the last byte, or, with request deadlines, from the beginning of the
 * command; message bytes then buy time at smtpd_min_data_rate (spec 9.4). */
static void input_arrived(struct conn *c, size_t n)
{
    const struct params *p = params_of(c);
    int64_t limit = c->loop->services.now_ms + p->smtpd_timeout;
    if (c->phase != CONN_SMTP)
        return;
    if (!p->smtpd_per_request_deadline)
        c->deadline_ms = limit;
    else if (smtpd_is_receiving(&c->smtpd) && c->deadline_ms < INT64_MAX)
        c->deadline_ms += (int64_t)n * 1000 / p->smtpd_min_data_rate;
    if (c->deadline_ms > limit && c->deadline_ms < INT64_MAX)
        c->deadline_ms = limit;
}

static void command_deadline(struct conn *c)
{
    bool is_inside = c->smtpd.smtp.line.partial.len > 0 || smtpd_is_receiving(&c->smtpd);
    if (c->deadline_ms == INT64_MAX || !is_inside || !params_of(c)->smtpd_per_request_deadline)
        set_deadline(c, params_of(c)->smtpd_timeout);
}

/* ------------------------------------------------------------ ends */

/* An error reply must not be lost to a reset: half-close, and read on for a moment. */
static void begin_linger(struct conn *c)
{
    uv_os_fd_t fd;
    c->phase = CONN_LINGER;
    set_deadline(c, LINGER_MS);
    if (uv_fileno(&c->h.handle, &fd) == 0)
        shutdown(fd, SHUT_WR);
    start_reading(c);
}

static void finish(struct conn *c)
{
    encrypt(c); /* the last reply goes before close_notify, not into nothing */
    if (c->tls != NULL)
        tls_stream_shutdown(c->tls, &c->loop->cipher_out);
    c->is_close_due = true;
    if (!flush(c))
        return;
    c->in = c->cipher = span_make(NULL, 0);
    if (c->writes > 0)
        stop_reading(c);
    else if (c->smtpd.smtp.close_reason == SMTP_CLOSE_QUIT || c->has_eof)
        conn_close(c, NULL);
    else
        begin_linger(c);
}

static void on_sleep_over(uv_timer_t *timer)
{
    struct conn *c = timer->data;
    if (c == NULL)
        return;
    stop_sleep(c);
    c->is_waiting = false;
    loop_now_ms(c->loop);
    buf_add(&c->loop->out, buf_span(&c->delayed));
    buf_fini(&c->delayed);
    if (flush(c)) /* now: the next command may have to wait as well */
        conn_pump(c);
}

/* The replies so far go when the time is over; meanwhile nothing is read (spec 9.1). */
static void begin_sleep(struct conn *c)
{
    c->sleep = xcalloc(1, sizeof *c->sleep);
    uv_timer_init(&c->loop->uv, c->sleep);
    c->sleep->data = c;
    uv_timer_start(c->sleep, on_sleep_over, (uint64_t)c->smtpd.smtp.sleep_ms, 0);
    buf_add(&c->delayed, buf_span(&c->loop->out));
    buf_clear(&c->loop->out);
    c->is_waiting = true;
    c->deadline_ms = INT64_MAX;
    hold_input(c);
}

/* ------------------------------------------------------------ TLS */

static void log_tls(struct conn *c)
{
    struct buf text = { 0 };
    tls_stream_describe(c->tls, true, &text);
    if (params_of(c)->smtpd_tls_loglevel > 0)
        smtpd_log(&c->smtpd, "smtpd", "Anonymous TLS connection %s from %s: %s",
                  tls_stream_is_resumed(c->tls) ? "reused" : "established",
                  smtpd_client(&c->smtpd), buf_text(&text));
    buf_clear(&text);
    tls_stream_describe(c->tls, false, &text);
    smtpd_secured(&c->smtpd, buf_text(&text), tls_stream_sni(c->tls));
    buf_fini(&text);
}

static void tls_failed(struct conn *c)
{
    struct span alert = buf_span(&c->loop->cipher_out);
    if (c->phase == CONN_HANDSHAKE)
        smtpd_log(&c->smtpd, "smtpd", "SSL_accept error from %s: %s", smtpd_client(&c->smtpd),
                  tls_stream_error(c->tls));
    if (alert.len > 0)
        send_bytes(c, alert);
    buf_clear(&c->loop->cipher_out);
    buf_clear(&c->loop->out);
    conn_close(c, tls_stream_error(c->tls));
}

/* More plaintext into c->in. False: none, or the connection is gone (c->is_closing). */
static bool decrypt(struct conn *c)
{
    size_t size = LOOP_PLAIN_BYTES, n;
    char *room = c->phase == CONN_SMTP ? smtpd_room(&c->smtpd, &size) : NULL;
    if (room == NULL) {
        room = c->loop->plain;
        size = LOOP_PLAIN_BYTES;
    }
    enum tls_result result = tls_stream_read(c->tls, &c->cipher, room, size, &n,
                                             &c->loop->cipher_out);
    if (c->phase == CONN_HANDSHAKE && tls_stream_is_ready(c->tls)) {
        c->phase = CONN_SMTP;
        log_tls(c);
        set_deadline(c, params_of(c)->smtpd_timeout);
    }
    switch (result) {
    case TLS_DATA: c->in = span_make(room, n); return true;
    case TLS_WANT: break;
    case TLS_CLOSED: c->has_eof = true; stop_reading(c); break;
    case TLS_FAILED: tls_failed(c); break;
    }
    return false;
}

static void begin_tls(struct conn *c)
{
    c->in = c->cipher = span_make(NULL, 0); /* what came behind STARTTLS was never encrypted */
    hold_input(c);
    c->tls = tls_stream_new(c->smtpd.config->tls);
    c->phase = CONN_HANDSHAKE;
    set_deadline(c, params_of(c)->smtpd_starttls_timeout);
    start_reading(c);
}

/* False: the handshake needs more from the client, or is over for good. */
static bool shake_hands(struct conn *c)
{
    decrypt(c);
    if (c->is_closing)
        return false;
    if (c->phase == CONN_SMTP)
        return true;
    if (flush(c))
        start_reading(c);
    return false;
}

/* ------------------------------------------------------------ the pump */

static bool is_idle(const struct conn *c)
{
    return c->phase == CONN_SMTP && c->smtpd.smtp.state == SMTP_STATE_COMMAND
           && !c->smtpd.smtp.mail.is_open;
}

static void say_goodbye(struct conn *c, const char *why)
{
    const char *text = arena_printf(&c->smtpd.smtp.scratch, "%s %s", params_of(c)->myhostname,
                                    why);
    smtp_session_end(&c->smtpd.smtp, SMTP_CLOSE_SHUTDOWN,
                     &(struct smtp_reply){ 421, "4.3.2", text }, &c->loop->out);
}

/* True: there is nothing to do until the client says more. */
static bool wants_input(struct conn *c)
{
    if (c->tls != NULL && decrypt(c))
        return false;
    if (c->is_closing)
        return true;
    if (c->loop->is_draining && is_idle(c)) {
        say_goodbye(c, "Service shutting down");
        return false;
    }
    if (!flush(c))
        return true;
    hold_input(c);
    command_deadline(c);
    if (c->smtpd.smtp.line.partial.len == 0) /* a byte at a time gets nobody anywhere */
        c->active_ms = c->loop->services.now_ms;
    if (c->has_eof && c->writes == 0)
        conn_close(c, NULL);
    else if (c->writes > 0)
        stop_reading(c);
    else
        start_reading(c);
    return true;
}

static void wait_for_answer(struct conn *c)
{
    c->is_waiting = true;
    c->deadline_ms = INT64_MAX;
    if (flush(c))
        hold_input(c);
}

static void conn_pump(struct conn *c)
{
    if (c->is_close_due) {
        finish(c);
        return;
    }
    take_held(c);
    if (c->phase == CONN_HANDSHAKE && !shake_hands(c))
        return;
    for (;;) {
        switch (smtpd_next(&c->smtpd, &c->in, &c->loop->out)) {
        case SMTPD_INPUT:
            if (wants_input(c))
                return;
            break;
        case SMTPD_WAIT: wait_for_answer(c); return;
        case SMTPD_SLEEP: begin_sleep(c); return;
        case SMTPD_TLS:
            if (flush(c))
                begin_tls(c);
            return;
        case SMTPD_CLOSE: finish(c); return;
        }
    }
}

void conn_resume(struct conn *c)
{
    c->is_waiting = false;
    loop_now_ms(c->loop);
    if (!c->is_closing)
        conn_pump(c);
}

/* ------------------------------------------------------------ questions */

/* An answer may come before the question has returned, and after the decision it was for. */
static void on_fact(struct asker *asker, const struct fact *fact)
{
    struct conn *c = (struct conn *)(void *)((char *)asker - offsetof(struct conn, asker));
    bool was_asking = c->is_asking, was_waiting = c->smtpd.is_waiting;
    loop_now_ms(c->loop);
    c->is_asking = true;
    smtpd_learn(&c->smtpd, fact);
    c->is_asking = was_asking;
    if (!was_asking && was_waiting && !c->smtpd.is_waiting)
        conn_resume(c);
}

/* ------------------------------------------------------------ the pause before the banner */

/* It is over: because the time is, or because the client could not wait. */
static void end_greet(struct conn *c, struct span value)
{
    struct fact fact = { .key = c->greet, .status = FACT_FOUND, .value = value,
                         .source = "client" };
    char *text = (char *)(uintptr_t)c->greet.text.at;
    c->greet = (struct fact_key){ .text = { NULL, 0 } };
    stop_sleep(c);
    on_fact(&c->asker, &fact);
    free(text);
}

static void on_greet_over(uv_timer_t *timer)
{
    if (timer->data != NULL)
        end_greet(timer->data, SPAN_LITERAL("quiet"));
}

static void client_talked(struct conn *c)
{
    struct buf value = { 0 };
    int64_t waited_ms = c->loop->services.now_ms - c->greet_began_ms;
    buf_printf(&value, "talked %zu %lld ", c->held.len, (long long)waited_ms);
    text_escape(&value, buf_span(&c->held), 100);
    end_greet(c, buf_span(&value));
    buf_fini(&value);
}

static void begin_greet(struct conn *c, const struct fact_key *key)
{
    uint64_t pause_ms = 0;
    span_to_u64(key->text, 3600000, &pause_ms);
    c->greet = *key;
    c->greet.text.at = xprintf("%.*s", (int)key->text.len, key->text.at);
    c->greet_began_ms = c->loop->services.now_ms;
    c->sleep = xcalloc(1, sizeof *c->sleep);
    uv_timer_init(&c->loop->uv, c->sleep);
    c->sleep->data = c;
    uv_timer_start(c->sleep, on_greet_over, pause_ms, 0);
    c->is_waiting = true; /* what is read now is kept */
    start_reading(c);
}

void conn_ask(struct smtpd *d, const struct fact_key *key)
{
    struct conn *c = d->conn;
    bool was_asking = c->is_asking;
    if (key->kind == FACT_GREET) {
        begin_greet(c, key);
        return;
    }
    c->is_asking = true;
    fetch_fact(&c->loop->fetcher, &c->asker, key);
    c->is_asking = was_asking;
}

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
    buf_printf(&c->loop->out, "421 %s %.255s %s\r\n", enhanced, params_of(c)->myhostname, why);
    if (flush(c))
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
           && c->loop->services.now_ms - c->active_ms >= params_of(c)->smtpd_idle_time
           && !is_welcome(c);
}

static void evict(struct conn *c)
{
    smtpd_log(&c->smtpd, "smtpd", "makes room for others: %s", smtpd_client(&c->smtpd));
    if (c->phase == CONN_SMTP && c->writes == 0) {
        say_goodbye(c, busy);
        if (!flush(c))
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

static void proxy_refused(struct conn *c)
{
    smtpd_log(&c->smtpd, "smtpd", "warning: no PROXY header from %s", smtpd_client(&c->smtpd));
    refuse_client(c, "4.3.0", "Server local error");
}

static void begin_session(struct conn *c)
{
    c->phase = CONN_SMTP;
    if (c->is_tls_from_start)
        begin_tls(c);
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

static void read_proxy(struct conn *c, struct span bytes)
{
    struct proxy_header header;
    size_t used;
    c->held.max = PROXY_HEADER_MAX + LOOP_COMMAND_READ_BYTES;
    buf_add(&c->held, bytes);
    switch (proxy_parse(buf_span(&c->held), &header, &used)) {
    case PROXY_MORE: return;
    case PROXY_BAD: proxy_refused(c); return;
    case PROXY_OK: break;
    }
    if (become_proxied(c, &header))
        proxy_done(c, used);
}

/* ------------------------------------------------------------ events */

static void on_eof(struct conn *c, ssize_t status)
{
    c->has_eof = true;
    stop_reading(c);
    if (c->is_waiting && c->phase == CONN_SMTP && c->greet.text.at == NULL)
        return; /* what it asked for is still done, and noticed then */
    conn_close(c, status == UV_EOF ? NULL : uv_strerror((int)status));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    struct span bytes = span_make(buf->base, n > 0 ? (size_t)n : 0);
    if (c->is_closing || n == 0)
        return;
    loop_now_ms(c->loop);
    if (n < 0) {
        on_eof(c, n);
        return;
    }
    input_arrived(c, bytes.len);
    if (c->phase == CONN_LINGER)
        return;
    if (c->phase == CONN_PROXY) {
        read_proxy(c, bytes);
        return;
    }
    if (c->is_waiting) { /* one read is kept, then the client waits */
        buf_add(c->tls != NULL ? &c->held_cipher : &c->held, bytes);
        stop_reading(c);
        if (c->greet.text.at != NULL && c->tls == NULL)
            client_talked(c);
        return;
    }
    *(c->tls != NULL ? &c->cipher : &c->in) = bytes;
    conn_pump(c);
}

void conn_check_deadline(struct conn *c, int64_t now_ms)
{
    if (now_ms < c->deadline_ms || c->is_closing)
        return;
    switch (c->phase) {
    case CONN_PROXY: proxy_refused(c); break;
    case CONN_LINGER: conn_close(c, NULL); break;
    case CONN_HANDSHAKE:
        smtpd_log(&c->smtpd, "smtpd", "SSL_accept error from %s: Connection timed out",
                  smtpd_client(&c->smtpd));
        conn_close(c, "handshake timed out");
        break;
    case CONN_SMTP:
        if (c->writes > 0) { /* it does not even read our replies */
            smtp_session_timeout(&c->smtpd.smtp, &c->loop->out);
            buf_clear(&c->loop->out);
            conn_close(c, NULL);
            break;
        }
        smtp_session_timeout(&c->smtpd.smtp, &c->loop->out);
        conn_pump(c);
        break;
    }
}

void conn_drain(struct conn *c)
{
    if (c->is_closing || c->is_waiting || c->writes > 0)
        return;
    if (c->phase != CONN_SMTP) {
        if (c->phase != CONN_HANDSHAKE)
            conn_close(c, NULL);
        return;
    }
    if (is_idle(c) && c->smtpd.smtp.line.partial.len == 0) {
        say_goodbye(c, "Service shutting down");
        conn_pump(c);
    }
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
    c->asker = (struct asker){ .config = c->smtpd.config, .learn = on_fact };
    clients_connect(server->clients, &client, params_of(c), now_ms, &connections, &rate);
    bool is_proxied = l->is_proxy
                      || params_of(c)->smtpd_upstream_proxy_protocol == PROXY_PROTOCOL_HAPROXY;
    if (rc != 0 || client.family == 0) {
        conn_close(c, NULL); /* it left before we came */
    } else if (!is_proxied && is_limited(c, connections, rate)) {
        refuse_limited(c, connections, rate);
    } else if (!is_proxied && is_scarce && !is_welcome(c)) {
        refuse_client(c, "4.3.2", busy);
    } else if (is_proxied) {
        c->phase = CONN_PROXY;
        set_deadline(c, params_of(c)->smtpd_upstream_proxy_timeout);
        start_reading(c);
    } else {
        c->smtpd.smtp.has_talked_early = !l->is_tls && talks_early(c);
        begin_session(c);
    }
}
