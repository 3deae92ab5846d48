/* session_driver - drives smtp_session by dialogues in text, without sockets or clock.
 *
 * A script is lines:
 *   = NAME VALUE    a parameter of params.def, or a feature (starttls, xclient, ...)
 *   ? ASK REPLY     the next verdict of this kind is REPLY; all others are yes
 *   > TEXT          the client's line; '|' is CR LF, '^' LF, '~' CR, '`' NUL within it
 *   >> TEXT         the same without CR LF at the end
 *   ! connect       the connection is there, nothing was said; also: early, timeout, shutdown
 *   anything else   what must come out: reply lines, and in round brackets what the machine asks
 *                   of its driver: (reset) (commit BODY) (sleep MS) (tls) (rejected REPLY)
 *                   (close WHY)
 * Every line of output must be expected, in order. */
#ifndef POSTERN_TESTS_SESSION_DRIVER_H
#define POSTERN_TESTS_SESSION_DRIVER_H

#include "protocol/mem.h"
#include "protocol/smtp_session.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { DRIVER_ASKS = 16, DRIVER_BODY_SHOWN = 60 };

struct driver {
    struct params params;
    struct smtp_session s;
    struct buf out;                      /* owns: replies and events */
    struct buf body;                     /* owns: of the message at hand */
    size_t chunk;                        /* input comes in pieces of this size */
    char verdict[DRIVER_ASKS][600];      /* by enum smtp_ask; [15]: the commit */
    uint64_t asks[DRIVER_ASKS];
    uint64_t commits, resets;
    /* What to answer where no verdict was set; NULL: yes. */
    const char *(*judge)(struct driver *d, int ask);
    bool is_quiet; /* events are not written */
    bool is_closed;
};

static const char *const driver_asks[DRIVER_ASKS] = {
    [SMTP_ASK_CONNECT] = "connect", [SMTP_ASK_HELO] = "helo",         [SMTP_ASK_MAIL] = "mail",
    [SMTP_ASK_RCPT] = "rcpt",       [SMTP_ASK_VRFY] = "vrfy",         [SMTP_ASK_DATA] = "data",
    [SMTP_ASK_STARTTLS] = "starttls", [SMTP_ASK_COMMAND] = "command", [DRIVER_ASKS - 1] = "commit",
};

static const char *const driver_reasons[] = {
    [SMTP_CLOSE_NONE] = "none",           [SMTP_CLOSE_QUIT] = "quit",
    [SMTP_CLOSE_REPLY] = "reply",         [SMTP_CLOSE_ERRORS] = "errors",
    [SMTP_CLOSE_TIMEOUT] = "timeout",     [SMTP_CLOSE_SYNC] = "sync",
    [SMTP_CLOSE_FORBIDDEN] = "forbidden", [SMTP_CLOSE_BARE_LF] = "bare_lf",
    [SMTP_CLOSE_SHUTDOWN] = "shutdown",
};

/* Every text is empty, also that of a parameter to come; then what the dialogues rest on. */
static inline struct params driver_params(void)
{
    struct params p = {
#define PARAM_SECTION(title)
#define PARAM_BOOL(name, value, text)
#define PARAM_INT(name, value, min, max, text)
#define PARAM_SIZE(name, value, text)
#define PARAM_TIME(name, value, unit, text)
#define PARAM_TEXT(name, value, text) .name = "",
#define PARAM_RAW(name, value, text)  .name = "",
#define PARAM_PATH(name, value, text) .name = "",
#define PARAM_CHOICE(name, value, choices, text)
#include "protocol/params.def"
    };
    p.myhostname = "mx.example.org";
    p.smtpd_banner = "mx.example.org ESMTP Postern";
    p.line_length_limit = 2048;
    p.message_size_limit = 1000;
    p.smtpd_recipient_limit = p.smtpd_recipient_overshoot_limit = 1000;
    p.smtpd_soft_error_limit = 10;
    p.smtpd_hard_error_limit = 20;
    p.smtpd_error_sleep_time = 1000;
    p.smtpd_junk_command_limit = 100;
    p.smtputf8_enable = p.smtpd_forbid_unauth_pipelining = true;
    p.smtpd_forbid_bare_newline_reject_code = 550;
    return p;
}

static inline void driver_begin(struct driver *d)
{
    struct ip client = { 4, { 192, 0, 2, 1 } }, server = { 4, { 192, 0, 2, 2 } };
    *d = (struct driver){ .params = driver_params(), .chunk = SIZE_MAX };
    smtp_session_init(&d->s, &d->params);
    smtp_peer_init(&d->s.peer, &client, 1234, &server, 25);
    smtp_peer_set_name(&d->s.peer, "c.test", SMTP_NAME_OK);
    d->s.features.smtputf8_ok = true;
}

static inline void driver_end(struct driver *d)
{
    smtp_session_fini(&d->s);
    buf_fini(&d->out);
    buf_fini(&d->body);
}

/* ------------------------------------------------------------ what the machine needs */

static inline void driver_event(struct driver *d, const char *what, struct span detail)
{
    if (d->is_quiet)
        return;
    buf_printf(&d->out, "(%s%s", what, detail.len > 0 ? " " : "");
    for (size_t i = 0; i < detail.len; i++)
        if (detail.at[i] == '\n')
            buf_putc(&d->out, '|');
        else if (detail.at[i] != '\r' || i + 1 == detail.len || detail.at[i + 1] != '\n')
            buf_putc(&d->out, detail.at[i] == '\r' ? '~' : detail.at[i]);
    buf_puts(&d->out, ")\r\n");
}

/* "450 4.2.0 Text", "421 Text" */
static inline struct smtp_reply driver_reply(char *text, char enhanced[16])
{
    struct span rest = span_of(text);
    struct smtp_reply reply = { .code = atoi(text) };
    span_next_word(&rest);
    rest = span_trim(rest);
    size_t n = smtp_enhanced_length(rest);
    if (n > 0) {
        memcpy(enhanced, rest.at, n);
        enhanced[n] = '\0';
        reply.enhanced = enhanced;
        rest = span_trim(span_skip(rest, n));
    }
    reply.text = rest.at;
    return reply;
}

static inline void driver_answer(struct driver *d, int ask)
{
    char enhanced[16], text[600];
    const char *judged = d->judge != NULL ? d->judge(d, ask) : NULL;
    bool is_set = d->verdict[ask][0] != '\0' || judged == NULL;
    snprintf(text, sizeof text, "%s", is_set ? d->verdict[ask] : judged);
    d->verdict[ask][0] = '\0';
    d->asks[ask]++;
    struct smtp_reply reply = driver_reply(text, enhanced);
    smtp_session_answer(&d->s, reply.code != 0 ? &reply : NULL, &d->out);
}

static inline void driver_commit(struct driver *d)
{
    char size[32];
    snprintf(size, sizeof size, "%zu bytes", d->body.len);
    cr_assert_eq(d->s.data.size_bytes, d->body.len, "every byte was handed over");
    cr_assert(d->s.mail.is_open && d->s.mail.rcpt_count > 0);
    driver_event(d, "commit",
                 d->body.len <= DRIVER_BODY_SHOWN ? buf_span(&d->body) : span_of(size));
    buf_clear(&d->body);
    d->commits++;
    if (d->verdict[DRIVER_ASKS - 1][0] == '\0' && d->judge == NULL)
        snprintf(d->verdict[DRIVER_ASKS - 1], sizeof d->verdict[0], "250 2.0.0 Ok: queued as 4C1F");
    driver_answer(d, DRIVER_ASKS - 1);
}

static inline void driver_rejected(struct driver *d)
{
    struct buf text = { 0 };
    smtp_reply_print(&text, &d->s.refusal);
    driver_event(d, "rejected", buf_span(&text));
    buf_fini(&text);
}

static inline void driver_sleep(struct driver *d)
{
    char text[32];
    snprintf(text, sizeof text, "sleep %lld", (long long)d->s.sleep_ms);
    driver_event(d, text, span_make(NULL, 0));
}

/* Until the machine wants input, or has ended. */
static inline void driver_pump(struct driver *d, struct span in)
{
    while (!d->is_closed) {
        switch (smtp_session_next(&d->s, &in, &d->out)) {
        case SMTP_NEED_INPUT: cr_assert_eq(in.len, 0, "all input is used up"); return;
        case SMTP_NEED_VERDICT: driver_answer(d, (int)d->s.ask); break;
        case SMTP_BODY:
            cr_assert_gt(d->s.body.len, 0);
            buf_add(&d->body, d->s.body);
            break;
        case SMTP_NEED_COMMIT: driver_commit(d); break;
        case SMTP_RESET:
            d->resets++;
            buf_clear(&d->body);
            driver_event(d, "reset", span_make(NULL, 0));
            break;
        case SMTP_REJECTED: driver_rejected(d); break;
        case SMTP_SLEEP: driver_sleep(d); break;
        case SMTP_NEED_TLS:
            driver_event(d, "tls", span_make(NULL, 0));
            smtp_session_secured(&d->s);
            return; /* what the client sent before is thrown away */
        case SMTP_CLOSE:
            driver_event(d, "close", span_of(driver_reasons[d->s.close_reason]));
            d->is_closed = true;
            break;
        }
    }
}

/* From memory of exactly the piece's size: what reads behind it is noticed. */
static inline void driver_feed(struct driver *d, struct span in)
{
    while (in.len > 0 && !d->is_closed) {
        size_t n = in.len < d->chunk ? in.len : d->chunk;
        char *piece = xmalloc(n);
        memcpy(piece, in.at, n);
        driver_pump(d, span_make(piece, n));
        free(piece);
        in = span_skip(in, n);
    }
}

static inline void driver_say(struct driver *d, const char *line)
{
    struct buf in = { 0 };
    buf_printf(&in, "%s\r\n", line);
    driver_feed(d, buf_span(&in));
    buf_fini(&in);
}

/* ------------------------------------------------------------ scripts */

static inline void driver_set_feature(struct driver *d, struct span name, const char *value)
{
    struct smtp_features *f = &d->s.features;
    bool is_yes = strcmp(value, "yes") == 0;
    if (span_equals(name, SPAN_LITERAL("starttls")))
        f->starttls_ok = is_yes;
    else if (span_equals(name, SPAN_LITERAL("tls_required")))
        f->tls_required = is_yes;
    else if (span_equals(name, SPAN_LITERAL("smtputf8")))
        f->smtputf8_ok = is_yes;
    else if (span_equals(name, SPAN_LITERAL("xclient")))
        f->xclient_ok = is_yes;
    else if (span_equals(name, SPAN_LITERAL("bare_newline_reject")))
        f->bare_newline_reject = is_yes;
    else if (span_equals(name, SPAN_LITERAL("discard")))
        f->discard_ehlo = (unsigned)atoi(value);
    else
        cr_assert_fail("no parameter or feature: %.*s", (int)name.len, name.at);
}

/* Any row of params.def by its name; value lives as long as the script. */
static inline void driver_set(struct driver *d, struct span name, const char *value)
{
    struct params *p = &d->params;
#define DRIVER_IF(row, assignment) \
    if (span_equals(name, SPAN_LITERAL(#row))) { assignment; return; }
#define PARAM_SECTION(title)
#define PARAM_BOOL(row, v, text)            DRIVER_IF(row, p->row = strcmp(value, "yes") == 0)
#define PARAM_INT(row, v, min, max, text)   DRIVER_IF(row, p->row = atoi(value))
#define PARAM_SIZE(row, v, text)            DRIVER_IF(row, p->row = atoll(value))
#define PARAM_TIME(row, v, unit, text)      DRIVER_IF(row, p->row = atoll(value))
#define PARAM_TEXT(row, v, text)            DRIVER_IF(row, p->row = value)
#define PARAM_RAW(row, v, text)             DRIVER_IF(row, p->row = value)
#define PARAM_PATH(row, v, text)            DRIVER_IF(row, p->row = value)
#define PARAM_CHOICE(row, v, choices, text) DRIVER_IF(row, p->row = atoi(value))
#include "protocol/params.def"
    driver_set_feature(d, name, value);
}

static inline void driver_expect_verdict(struct driver *d, struct span line)
{
    struct span ask = span_next_word(&line), reply = span_trim(line);
    for (int i = 0; i < DRIVER_ASKS; i++)
        if (driver_asks[i] != NULL && span_equals(ask, span_of(driver_asks[i]))) {
            snprintf(d->verdict[i], sizeof d->verdict[i], "%.*s", (int)reply.len, reply.at);
            return;
        }
    cr_assert_fail("no question: %.*s", (int)ask.len, ask.at);
}

static inline void driver_client_line(struct driver *d, struct span text, bool has_end)
{
    struct buf in = { 0 };
    for (size_t i = 0; i < text.len; i++)
        switch (text.at[i]) {
        case '|': buf_puts(&in, "\r\n"); break;
        case '^': buf_putc(&in, '\n'); break;
        case '~': buf_putc(&in, '\r'); break;
        case '`': buf_putc(&in, '\0'); break;
        default: buf_putc(&in, text.at[i]);
        }
    if (has_end)
        buf_puts(&in, "\r\n");
    driver_feed(d, buf_span(&in));
    buf_fini(&in);
}

static inline void driver_act(struct driver *d, struct span what)
{
    static const struct smtp_reply shutdown = { 421, "4.3.2", "shutting down" };
    if (span_equals(what, SPAN_LITERAL("early")))
        d->s.has_talked_early = true;
    else if (span_equals(what, SPAN_LITERAL("timeout")))
        smtp_session_timeout(&d->s, &d->out);
    else if (span_equals(what, SPAN_LITERAL("shutdown")))
        smtp_session_end(&d->s, SMTP_CLOSE_SHUTDOWN, &shutdown, &d->out);
    else
        cr_assert(span_equals(what, SPAN_LITERAL("connect")), "%.*s", (int)what.len, what.at);
    if (!span_equals(what, SPAN_LITERAL("early")))
        driver_pump(d, span_make(NULL, 0));
}

static inline void driver_line(struct driver *d, struct arena *memory, struct span line)
{
    struct span rest = span_skip(line, 2);
    if (span_istarts(line, SPAN_LITERAL("= "))) {
        struct span name = span_next_word(&rest);
        driver_set(d, name, arena_text(memory, span_trim(rest)));
        d->s.line.limit_bytes = (size_t)d->params.line_length_limit;
    } else if (span_istarts(line, SPAN_LITERAL("? "))) {
        driver_expect_verdict(d, rest);
    } else if (span_istarts(line, SPAN_LITERAL("! "))) {
        driver_act(d, rest);
    } else if (span_istarts(line, SPAN_LITERAL(">> "))) {
        driver_client_line(d, span_skip(line, 3), false);
    } else {
        driver_client_line(d, rest, true);
    }
}

static inline bool driver_is_output(struct span line)
{
    return line.len < 2 || strchr("=?>!", line.at[0]) == NULL
           || (line.at[1] != ' ' && line.at[1] != '>');
}

/* The greeting and an EHLO, without a trace in the output. */
static inline void driver_greet(struct driver *d)
{
    driver_pump(d, span_make(NULL, 0));
    driver_say(d, "EHLO x");
    buf_clear(&d->out);
}

/* The next line of output must be this one. */
static inline bool driver_expect(struct driver *d, struct span line)
{
    struct span out = buf_span(&d->out);
    size_t end = span_find(out, '\n');
    bool is_same = end < out.len && end > 0 && span_equals(span_make(out.at, end - 1), line);
    if (is_same)
        buf_drop(&d->out, end + 1);
    return is_same;
}

/* Runs the script; NULL, or the line of it that went wrong. */
static inline const char *driver_run(struct driver *d, struct arena *memory, const char *script)
{
    for (struct span rest = span_of(script); rest.len > 0;) {
        size_t end = span_find(rest, '\n');
        struct span line = span_make(rest.at, end);
        rest = span_skip(rest, end + 1);
        bool is_output = driver_is_output(line);
        if (is_output ? !driver_expect(d, line) : d->out.len > 0)
            return arena_text(memory, line);
        if (!is_output)
            driver_line(d, memory, line);
    }
    return d->out.len > 0 ? "(the end)" : NULL;
}

#endif
