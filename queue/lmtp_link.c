#include "queue/lmtp_link.h"
#include "protocol/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

enum { READ_BYTES = 16384 };

/* A socket outlives its link by the turns that closing takes. */
struct link_sock {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    uv_connect_t connect;
    uv_write_t write;
    struct buf sending; /* owns */
    struct link *link;  /* NULL: it has let go */
    bool is_writing;
};

static void pump(struct link *l, struct span in);
static bool try_next(struct link *l);

/* ------------------------------------------------------------ the socket */

static void on_sock_closed(uv_handle_t *handle)
{
    struct link_sock *s = handle->data;
    buf_fini(&s->sending);
    free(s);
}

static void close_sock(struct link *l)
{
    if (l->sock == NULL)
        return;
    l->sock->link = NULL;
    uv_close(&l->sock->h.handle, on_sock_closed);
    l->sock = NULL;
    if (l->tls != NULL)
        l->outside->tls->free(l->tls);
    l->tls = NULL;
}

static struct link_sock *open_sock(struct link *l, bool is_pipe)
{
    struct link_sock *s = xcalloc(1, sizeof *s);
    if (is_pipe) {
        uv_pipe_init(l->outside->uv, &s->h.pipe, 0);
    } else {
        uv_tcp_init(l->outside->uv, &s->h.tcp);
        uv_tcp_nodelay(&s->h.tcp, 1); /* a message's last piece waits for no acknowledgement */
    }
    s->h.handle.data = s;
    s->link = l;
    return s;
}

/* ------------------------------------------------------------ failure */

static void on_timer(uv_timer_t *timer);

static void set_code(struct link *l, int code, const char *enhanced)
{
    l->code = code;
    snprintf(l->enhanced, sizeof l->enhanced, "%s", enhanced);
}

/* From here on nothing happens but the timer's turn. */
static void fail(struct link *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct link *l, const char *format, ...)
{
    char cause[500];
    va_list args;
    if (l->has_failed)
        return;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    const char *what = smtp_client_waits_for(&l->client);
    bool is_talking = l->sock != NULL && what[0] != '\0';
    snprintf(l->why, sizeof l->why, "%s%s%s", cause, is_talking ? " while waiting for " : "",
             is_talking ? what : "");
    l->has_failed = true;
    set_code(l, 451, l->sock != NULL ? "4.4.2" : "4.4.1");
    smtp_client_lost(&l->client, cause);
    close_sock(l);
    uv_timer_start(l->timer, on_timer, 0, 0);
}

/* Another host, or another time, may have better words: never for good. */
static void refused(struct link *l)
{
    const struct smtp_client_result *r = &l->client.refusal;
    fail(l, "host %s refused to talk to me: %d %s%s%s", l->host, r->code, r->enhanced,
         r->enhanced[0] != '\0' ? " " : "", r->text);
    if (r->enhanced[0] != '\0') {
        set_code(l, 451, r->enhanced);
        l->enhanced[0] = '4';
    }
}

/* ------------------------------------------------------------ time */

static uint64_t timeout_ms(const struct link *l)
{
    const struct link_settings *s = l->settings;
    switch (l->client.step) {
    case SMTP_CLIENT_GREETING:
    case SMTP_CLIENT_HELLO:
    case SMTP_CLIENT_HELO: return s->hello_ms;
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_HANDSHAKE: return s->starttls_ms;
    case SMTP_CLIENT_ENVELOPE:
        return l->client.answered == 0                       ? s->mail_ms
               : l->client.answered <= l->client.mail.count ? s->rcpt_ms
                                                             : s->data_init_ms;
    case SMTP_CLIENT_MESSAGE: return s->data_xfer_ms;
    case SMTP_CLIENT_DOT: return s->data_done_ms;
    case SMTP_CLIENT_IDLE:
    case SMTP_CLIENT_QUIT:
    case SMTP_CLIENT_CLOSED: break;
    }
    return s->idle_ms;
}

static void start_timer(struct link *l, uint64_t ms)
{
    if (ms > 0)
        uv_timer_start(l->timer, on_timer, ms, 0);
    else
        uv_timer_stop(l->timer);
}

/* Only an answer is progress: a peer that sends a byte a minute shall not keep us for hours. */
static void arm(struct link *l)
{
    const struct smtp_client *c = &l->client;
    uint64_t progress = (uint64_t)c->step << 48 ^ (uint64_t)c->answered << 24
                        ^ (uint64_t)c->dot_answered ^ (uint64_t)l->uses << 56;
    if (progress == l->progress && c->step != SMTP_CLIENT_MESSAGE)
        return;
    l->progress = progress;
    start_timer(l, timeout_ms(l));
}

/* A host that breaks off the handshake is asked once more, in plain text. */
static void judge_tls(struct link *l)
{
    if (!l->is_tls_broken || l->skips_tls || l->settings->needs_tls || l->at == 0)
        return;
    l->skips_tls = true;
    l->at--;
}

static void settle_failure(struct link *l)
{
    if (!l->is_greeted && !l->is_over) {
        judge_tls(l);
        if (try_next(l))
            return;
    }
    l->events->gone(l);
}

static void on_timer(uv_timer_t *timer)
{
    struct link *l = timer->data;
    if (l->has_failed) {
        settle_failure(l);
        return;
    }
    l->is_timeout = true;
    if (l->search != NULL)
        fail(l, "the name of the host cannot be looked up: timed out");
    else if (l->client.step == SMTP_CLIENT_IDLE && l->is_greeted)
        link_quit(l);
    else if (l->sock != NULL && l->client.step == SMTP_CLIENT_CLOSED)
        fail(l, "connect to %s: %s", l->host, strerror(ETIMEDOUT));
    else
        fail(l, "conversation with %s timed out", l->host);
}

/* ------------------------------------------------------------ writing */

static void lost(struct link *l)
{
    l->is_tls_broken |= l->client.step == SMTP_CLIENT_HANDSHAKE;
    fail(l, "lost connection with %s", l->host);
}

static void on_written(uv_write_t *request, int status)
{
    struct link_sock *s = request->data;
    struct link *l = s->link;
    s->is_writing = false;
    buf_clear(&s->sending);
    if (l == NULL)
        return;
    if (status != 0) {
        lost(l);
        return;
    }
    arm(l);
    link_flush(l);
    if (!l->has_failed && link_is_drained(l) && l->client.step == SMTP_CLIENT_MESSAGE)
        l->events->body(l);
}

/* What the system does not take at once is written by the loop. */
static void write_rest(struct link *l, struct buf *bytes)
{
    struct link_sock *s = l->sock;
    struct buf empty = s->sending;
    s->sending = *bytes;
    *bytes = empty;
    uv_buf_t buf = uv_buf_init(s->sending.at, (unsigned)s->sending.len);
    s->write.data = s;
    s->is_writing = true;
    if (uv_write(&s->write, &s->h.stream, &buf, 1, on_written) != 0) {
        s->is_writing = false;
        lost(l);
    }
}

void link_flush(struct link *l)
{
    if (l->has_failed || l->sock == NULL || l->sock->is_writing)
        return;
    struct buf *bytes = &l->out;
    if (l->tls != NULL && l->outside->tls->is_ready(l->tls) && l->out.len > 0) {
        if (!l->outside->tls->write(l->tls, buf_span(&l->out), &l->wire)) {
            lost(l);
            return;
        }
        buf_clear(&l->out);
    }
    if (l->tls != NULL)
        bytes = &l->wire;
    if (bytes->len == 0)
        return;
    uv_buf_t buf = uv_buf_init(bytes->at, (unsigned)bytes->len);
    int n = uv_try_write(&l->sock->h.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        lost(l);
        return;
    }
    buf_drop(bytes, n > 0 ? (size_t)n : 0);
    if (bytes->len > 0)
        write_rest(l, bytes);
}

bool link_is_drained(const struct link *l)
{
    return l->sock == NULL || (!l->sock->is_writing && l->out.len == 0 && l->wire.len == 0);
}

/* ------------------------------------------------------------ reading */

static void feed_tls(struct link *l, struct span cipher)
{
    static _Thread_local char plain[READ_BYTES];
    const struct lmtp_tls *tls = l->outside->tls;
    size_t size;
    for (;;) {
        enum lmtp_tls_result result = tls->read(l->tls, &cipher, plain, sizeof plain, &size,
                                                &l->wire);
        bool is_shaken = l->client.step == SMTP_CLIENT_HANDSHAKE && tls->is_ready(l->tls);
        if (is_shaken) {
            smtp_client_secured(&l->client);
            pump(l, span_make(NULL, 0));
        }
        link_flush(l);
        if (l->has_failed)
            return;
        if (result == LMTP_TLS_DATA)
            pump(l, span_make(plain, size));
        else if (result != LMTP_TLS_WANT)
            lost(l);
        if (l->has_failed || result != LMTP_TLS_DATA)
            return;
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static _Thread_local char room[READ_BYTES];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(room, sizeof room);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct link_sock *s = stream->data;
    struct link *l = s->link;
    if (l == NULL || n == 0)
        return;
    if (n < 0)
        lost(l);
    else if (l->tls != NULL)
        feed_tls(l, span_make(buf->base, (size_t)n));
    else
        pump(l, span_make(buf->base, (size_t)n));
}

/* While the message goes out nobody listens: what the peer says then waits in its socket. */
static void set_reading(struct link *l, bool is_reading)
{
    if (l->sock == NULL || l->is_reading == is_reading)
        return;
    l->is_reading = is_reading;
    if (!is_reading)
        uv_read_stop(&l->sock->h.stream);
    else if (uv_read_start(&l->sock->h.stream, on_alloc, on_read) != 0)
        lost(l);
}

/* ------------------------------------------------------------ the conversation */

static void begin_tls(struct link *l)
{
    char room[1];
    size_t size;
    struct span none = { 0 };
    const char *name = l->where->path != NULL ? "" : l->hosts->addresses[l->at - 1].host;
    l->tls = l->outside->tls->begin(l->outside->context, name);
    l->outside->tls->read(l->tls, &none, room, sizeof room, &size, &l->wire); /* our hello */
    link_flush(l);
    set_reading(l, true);
    arm(l);
}

/* Are we talking to ourselves? Then mail would go in circles. */
static bool is_loop(const struct link *l)
{
    return l->where->is_mx && l->client.is_ourselves;
}

static void on_ready(struct link *l)
{
    if (!l->is_greeted && is_loop(l)) {
        fail(l, "mail for %s loops back to myself", l->where->host);
        set_code(l, 451, "4.4.6");
        return;
    }
    l->is_greeted = true;
    l->events->ready(l);
}

static void on_close(struct link *l)
{
    if (l->client.has_refused)
        refused(l);
    else
        fail(l, "host %s sent no proper reply", l->host);
}

static void on_message(struct link *l)
{
    set_reading(l, false);
    arm(l);
    if (!l->has_failed)
        l->events->body(l);
}

static void pump_on(struct link *l, struct span in)
{
    while (!l->has_failed) {
        enum smtp_client_need need = smtp_client_next(&l->client, &in, &l->out);
        unsigned uses = l->uses;
        link_flush(l);
        if (l->has_failed)
            return;
        switch (need) {
        case SMTP_CLIENT_INPUT:
            set_reading(l, true);
            arm(l);
            return;
        case SMTP_CLIENT_TLS: begin_tls(l); return; /* what else came in plain text is dropped */
        case SMTP_CLIENT_READY:
            on_ready(l);
            if (l->uses == uses)
                return;
            break;
        case SMTP_CLIENT_BODY:
            on_message(l);
            if (l->client.step == SMTP_CLIENT_MESSAGE)
                return;
            break;
        case SMTP_CLIENT_CLOSE: on_close(l); return;
        }
    }
}

static void pump(struct link *l, struct span in)
{
    if (l->is_pumping)
        return;
    l->is_pumping = true;
    pump_on(l, in);
    l->is_pumping = false;
}

void link_send(struct link *l, const struct smtp_client_mail *mail)
{
    l->uses++;
    smtp_client_send(&l->client, mail);
    pump(l, span_make(NULL, 0));
}

void link_body(struct link *l, struct span bytes)
{
    smtp_client_body(&l->client, bytes, &l->out);
}

void link_body_end(struct link *l)
{
    smtp_client_body_end(&l->client, &l->out);
    pump(l, span_make(NULL, 0));
}

void link_idle(struct link *l, uint64_t ms)
{
    l->progress = UINT64_MAX;
    start_timer(l, ms > 0 ? ms : 1);
}

void link_quit(struct link *l)
{
    smtp_client_quit(&l->client, &l->out);
    link_flush(l);
    link_abort(l, "done");
}

void link_abort(struct link *l, const char *why)
{
    l->is_over = true;
    fail(l, "%s", why);
}

/* ------------------------------------------------------------ connecting */

static void begin_client(struct link *l)
{
    bool has_tls = l->outside->tls != NULL && !l->skips_tls;
    smtp_client_fini(&l->client);
    l->client = (struct smtp_client){
        .is_lmtp = l->settings->is_lmtp, .hello = l->hello,
        .wants_tls = has_tls && l->settings->wants_tls, .needs_tls = l->settings->needs_tls,
    };
    smtp_client_begin(&l->client);
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct link_sock *s = connect->data;
    struct link *l = s->link;
    if (l == NULL)
        return;
    if (status != 0) {
        fail(l, "connect to %s: %s", l->host, strerror(-status));
        set_code(l, 451, "4.4.1");
        return;
    }
    begin_client(l);
    pump(l, span_make(NULL, 0));
}

static int connect_ip(struct link *l, const struct ip *ip, uint16_t port)
{
    struct sockaddr_storage address = { 0 };
    if (ip->family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, ip->bytes, 16);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, ip->bytes, 4);
    }
    return uv_tcp_connect(&l->sock->connect, &l->sock->h.tcp,
                          (struct sockaddr *)(void *)&address, on_connect);
}

static void begin_connect(struct link *l, bool is_pipe)
{
    l->client.step = SMTP_CLIENT_CLOSED;
    l->is_reading = l->is_timeout = false;
    l->progress = UINT64_MAX;
    buf_clear(&l->out);
    buf_clear(&l->wire);
    l->sock = open_sock(l, is_pipe);
    l->sock->connect.data = l->sock;
    start_timer(l, l->settings->connect_ms);
}

static void connect_path(struct link *l)
{
    const char *path = l->where->path, *directory = l->settings->directory;
    char full[sizeof((struct sockaddr_un *)0)->sun_path + 400];
    snprintf(full, sizeof full, "%s%s%s", path[0] == '/' ? "" : directory,
             path[0] == '/' ? "" : "/", path);
    snprintf(l->host, sizeof l->host, "%.100s[%.250s]", l->settings->own_name, path);
    begin_connect(l, true);
    if (strlen(full) >= sizeof((struct sockaddr_un *)0)->sun_path)
        fail(l, "connect to %s: the path of the socket is too long", l->host);
    else
        uv_pipe_connect(&l->sock->connect, &l->sock->h.pipe, full, on_connect);
}

static void connect_address(struct link *l, const struct hop_address *a)
{
    char ip[IP_TEXT_MAX];
    uint16_t port = l->where->port != 0 ? l->where->port : l->settings->port;
    ip_text(&a->ip, ip);
    snprintf(l->host, sizeof l->host, "%s[%s]:%u", a->host, ip, (unsigned)port);
    begin_connect(l, false);
    int rc = connect_ip(l, &a->ip, port);
    if (rc != 0)
        fail(l, "connect to %s: %s", l->host, strerror(-rc));
}

static bool is_allowed(const struct link *l, const struct hop_address *a)
{
    return !l->is_public_only
           || (l->outside->allows != NULL && l->outside->allows(l->outside->context, &a->ip));
}

/* False: there is no further one. */
static bool try_next(struct link *l)
{
    size_t count = l->hosts != NULL ? l->hosts->count : 0;
    while (l->at < count && !is_allowed(l, &l->hosts->addresses[l->at]))
        l->at++;
    if (l->at >= count)
        return false;
    l->has_failed = false;
    connect_address(l, &l->hosts->addresses[l->at++]);
    return true;
}

static const struct {
    int code;
    const char *enhanced, *before, *behind;
} not_found[] = {
    [HOP_FOUND] = { 451, "4.4.1", "", " has no address that may be connected to" },
    [HOP_NONE] = { 550, "5.4.4", "Host or domain name not found: ", "" },
    [HOP_RETRY] = { 451, "4.4.3", "Host or domain name cannot be looked up now: ", "" },
    [HOP_NULL_MX] = { 556, "5.1.10", "Domain ", " does not accept mail (nullMX)" },
    [HOP_LOOP] = { 451, "4.4.6", "mail for ", " loops back to myself" },
};

/* A host of our own configuration may come back; that is never for good. */
static void on_found(void *owner, const struct hop_hosts *hosts)
{
    struct link *l = owner;
    char text[400];
    l->search = NULL;
    l->hosts = xmalloc(sizeof *l->hosts);
    *l->hosts = *hosts;
    if (try_next(l))
        return;
    snprintf(text, sizeof text, "%s%s%s", not_found[hosts->found].before, l->where->host,
             not_found[hosts->found].behind);
    link_abort(l, text);
    bool is_final = l->where->is_mx || not_found[hosts->found].code < 500;
    set_code(l, is_final ? not_found[hosts->found].code : 451,
             is_final ? not_found[hosts->found].enhanced : "4.4.4");
}

static void begin_search(struct link *l)
{
    snprintf(l->host, sizeof l->host, "%.300s", l->where->host);
    start_timer(l, l->settings->connect_ms);
    struct hop_search *search = hop_search_begin(l->outside, l->where, l->settings->own_name,
                                                 uv_hrtime(), on_found, l);
    if (l->hosts == NULL)
        l->search = search;
}

/* ------------------------------------------------------------ life */

struct link *link_new(const struct lmtp_outside *outside, const struct link_settings *settings,
                      const struct link_events *events, const struct next_hop *where,
                      bool is_public_only)
{
    struct link *l = xcalloc(1, sizeof *l);
    *l = (struct link){ .outside = outside, .settings = settings, .events = events,
                        .where = where, .is_public_only = is_public_only };
    l->hello = xstrdup(settings->hello);
    l->timer = xcalloc(1, sizeof *l->timer);
    uv_timer_init(outside->uv, l->timer);
    l->timer->data = l;
    l->client.step = SMTP_CLIENT_CLOSED;
    l->opened_ms = uv_now(outside->uv);
    if (where->path != NULL)
        connect_path(l);
    else
        begin_search(l);
    return l;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void link_free(struct link *l)
{
    hop_search_leave(l->search);
    close_sock(l);
    uv_close((uv_handle_t *)l->timer, free_handle);
    smtp_client_fini(&l->client);
    buf_fini(&l->out);
    buf_fini(&l->wire);
    free(l->hosts);
    free(l->hello);
    free(l);
}
