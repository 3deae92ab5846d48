/* A connection's TLS: the handshake, and bytes in and out of it. */
#include "server/conn.h"
#include "server/tls.h"

void conn_encrypt(struct conn *c)
{
    struct loop *loop = c->loop;
    if (c->tls != NULL && loop->out.len > 0 && tls_stream_is_ready(c->tls)) {
        tls_stream_write(c->tls, buf_span(&loop->out), &loop->cipher_out);
        buf_clear(&loop->out);
    }
}

static void log_tls(struct conn *c)
{
    struct buf text = { 0 };
    tls_stream_describe(c->tls, true, &text);
    if (conn_params(c)->smtpd_tls_loglevel > 0)
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
        conn_send(c, alert);
    buf_clear(&c->loop->cipher_out);
    buf_clear(&c->loop->out);
    conn_close(c, tls_stream_error(c->tls));
}

/* More plaintext into c->in. False: none, or the connection is gone (c->is_closing). */
bool conn_decrypt(struct conn *c)
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
        conn_set_deadline(c, conn_params(c)->smtpd_timeout);
    }
    switch (result) {
    case TLS_DATA: c->in = span_make(room, n); return true;
    case TLS_WANT: break;
    case TLS_CLOSED: c->has_eof = true; conn_stop_reading(c); break;
    case TLS_FAILED: tls_failed(c); break;
    }
    return false;
}

void conn_begin_tls(struct conn *c)
{
    c->in = c->cipher = span_make(NULL, 0); /* what came behind STARTTLS was never encrypted */
    conn_hold_input(c);
    c->tls = tls_stream_new(c->smtpd.config->tls);
    c->phase = CONN_HANDSHAKE;
    conn_set_deadline(c, conn_params(c)->smtpd_starttls_timeout);
    conn_start_reading(c);
}

/* False: the handshake needs more from the client, or is over for good. */
bool conn_shake_hands(struct conn *c)
{
    conn_decrypt(c);
    if (c->is_closing)
        return false;
    if (c->phase == CONN_SMTP)
        return true;
    if (conn_flush(c))
        conn_start_reading(c);
    return false;
}
