#include "server/conn.h"
#include "protocol/mem.h"
#include "server/clients.h"
#include "server/server.h"
#include "server/tls.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LINGER_MS = 2000 };

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

void conn_end_sleep(struct conn *c)
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
    conn_end_sleep(c);
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

int conn_send(struct conn *c, struct span bytes)
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

/* Sends the loop's out, through TLS if there is any. False: the connection is gone. */
bool conn_flush(struct conn *c)
{
    struct loop *loop = c->loop;
    int rc = 0;
    conn_encrypt(c);
    struct span bytes = buf_span(c->tls != NULL ? &loop->cipher_out : &loop->out);
    if (bytes.len > 0)
        rc = conn_send(c, bytes);
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

void conn_hold_input(struct conn *c)
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

void conn_start_reading(struct conn *c)
{
    if (c->is_reading || c->has_eof)
        return;
    c->is_reading = uv_read_start(&c->h.stream, on_alloc, on_read) == 0;
}

void conn_stop_reading(struct conn *c)
{
    if (c->is_reading)
        uv_read_stop(&c->h.stream);
    c->is_reading = false;
}

void conn_set_deadline(struct conn *c, int64_t timeout_ms)
{
    c->deadline_ms = c->loop->services.now_ms + timeout_ms;
}

/* smtpd_timeout runs from the last byte, or, with request deadlines, from the beginning of the
 * command; message bytes then buy time at smtpd_min_data_rate (spec 9.4). */
static void input_arrived(struct conn *c, size_t n)
{
    const struct params *p = conn_params(c);
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
    if (c->deadline_ms == INT64_MAX || !is_inside || !conn_params(c)->smtpd_per_request_deadline)
        conn_set_deadline(c, conn_params(c)->smtpd_timeout);
}

/* ------------------------------------------------------------ ends */

/* An error reply must not be lost to a reset: half-close, and read on for a moment. */
static void begin_linger(struct conn *c)
{
    uv_os_fd_t fd;
    c->phase = CONN_LINGER;
    conn_set_deadline(c, LINGER_MS);
    if (uv_fileno(&c->h.handle, &fd) == 0)
        shutdown(fd, SHUT_WR);
    conn_start_reading(c);
}

static void finish(struct conn *c)
{
    conn_encrypt(c); /* the last reply goes before close_notify, not into nothing */
    if (c->tls != NULL)
        tls_stream_shutdown(c->tls, &c->loop->cipher_out);
    c->is_close_due = true;
    if (!conn_flush(c))
        return;
    c->in = c->cipher = span_make(NULL, 0);
    if (c->writes > 0)
        conn_stop_reading(c);
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
    conn_end_sleep(c);
    c->is_waiting = false;
    loop_now_ms(c->loop);
    buf_add(&c->loop->out, buf_span(&c->delayed));
    buf_fini(&c->delayed);
    if (conn_flush(c)) /* now: the next command may have to wait as well */
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
    conn_hold_input(c);
}

/* ------------------------------------------------------------ the pump */

static bool is_idle(const struct conn *c)
{
    return c->phase == CONN_SMTP && c->smtpd.smtp.state == SMTP_STATE_COMMAND
           && !c->smtpd.smtp.mail.is_open;
}

void conn_say_goodbye(struct conn *c, const char *why)
{
    const char *text = arena_printf(&c->smtpd.smtp.scratch, "%s %s", conn_params(c)->myhostname,
                                    why);
    smtp_session_end(&c->smtpd.smtp, SMTP_CLOSE_SHUTDOWN,
                     &(struct smtp_reply){ 421, "4.3.2", text }, &c->loop->out);
}

/* True: there is nothing to do until the client says more. */
static bool wants_input(struct conn *c)
{
    if (c->tls != NULL && conn_decrypt(c))
        return false;
    if (c->is_closing)
        return true;
    if (c->loop->is_draining && is_idle(c)) {
        conn_say_goodbye(c, "Service shutting down");
        return false;
    }
    if (!conn_flush(c))
        return true;
    conn_hold_input(c);
    command_deadline(c);
    if (c->smtpd.smtp.line.partial.len == 0) /* a byte at a time gets nobody anywhere */
        c->active_ms = c->loop->services.now_ms;
    if (c->has_eof && c->writes == 0)
        conn_close(c, NULL);
    else if (c->writes > 0)
        conn_stop_reading(c);
    else
        conn_start_reading(c);
    return true;
}

static void wait_for_answer(struct conn *c)
{
    c->is_waiting = true;
    c->deadline_ms = INT64_MAX;
    if (conn_flush(c))
        conn_hold_input(c);
}

void conn_pump(struct conn *c)
{
    if (c->is_close_due) {
        finish(c);
        return;
    }
    take_held(c);
    if (c->phase == CONN_HANDSHAKE && !conn_shake_hands(c))
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
            if (conn_flush(c))
                conn_begin_tls(c);
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
void conn_learn(struct asker *asker, const struct fact *fact)
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

void conn_ask(struct smtpd *d, const struct fact_key *key)
{
    struct conn *c = d->conn;
    bool was_asking = c->is_asking;
    if (key->kind == FACT_GREET) {
        conn_begin_greet(c, key);
        return;
    }
    c->is_asking = true;
    fetch_fact(&c->loop->fetcher, &c->asker, key);
    c->is_asking = was_asking;
}

/* ------------------------------------------------------------ events */

static void on_eof(struct conn *c, ssize_t status)
{
    c->has_eof = true;
    conn_stop_reading(c);
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
        conn_read_proxy(c, bytes);
        return;
    }
    if (c->is_waiting) { /* one read is kept, then the client waits */
        buf_add(c->tls != NULL ? &c->held_cipher : &c->held, bytes);
        conn_stop_reading(c);
        if (c->greet.text.at != NULL && c->tls == NULL)
            conn_client_talked(c);
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
    case CONN_PROXY: conn_refuse_proxy(c); break;
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
        conn_say_goodbye(c, "Service shutting down");
        conn_pump(c);
    }
}
