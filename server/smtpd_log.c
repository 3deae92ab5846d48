/* The lines of a conversation, in Postfix's words (spec/features 4.2). */
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/smtpd.h"
#include "server/stats.h"

#include <stdarg.h>
#include <stdio.h>

enum { ADDRESS_SHOWN_MAX = 320, HELO_SHOWN_MAX = 255 };

void smtpd_log(struct smtpd *d, const char *component, const char *format, ...)
{
    va_list ap;
    log_member(d->services->log, "client_name", span_of(d->smtp.peer.name));
    log_member(d->services->log, "client_address", span_of(d->smtp.peer.address));
    va_start(ap, format);
    log_line_v(d->services->log, component, d->number, format, ap);
    va_end(ap);
}

const char *smtpd_client(const struct smtpd *d)
{
    static _Thread_local char text[512];
    const struct smtp_peer *peer = &d->smtp.peer;
    snprintf(text, sizeof text, "%.255s[%.64s]", peer->name, peer->address);
    return text;
}

/* "; from=<a> to=<b> proto=ESMTP helo=<c>": what of it exists. */
static void add_envelope(struct smtpd *d, struct buf *line)
{
    const struct smtp_session *s = &d->smtp;
    buf_putc(line, ';');
    bool has_sender = s->mail.is_open || s->verb == SMTP_VERB_MAIL;
    bool has_rcpt = s->verb == SMTP_VERB_RCPT || s->verb == SMTP_VERB_VRFY;
    if (has_sender) {
        buf_puts(line, " from=<");
        text_escape(line, s->mail.sender.address, ADDRESS_SHOWN_MAX);
        buf_putc(line, '>');
    }
    if (has_rcpt || s->mail.rcpt_count == 1) {
        struct span to = has_rcpt ? s->rcpt.path.address : s->mail.rcpts->path.address;
        buf_puts(line, " to=<");
        text_escape(line, to, ADDRESS_SHOWN_MAX);
        buf_putc(line, '>');
    }
    buf_printf(line, " proto=%s", smtp_session_protocol(s));
    if (s->helo != NULL) {
        buf_puts(line, " helo=<");
        text_escape(line, span_of(s->helo), HELO_SHOWN_MAX);
        buf_putc(line, '>');
    }
}

/* The same for log_format = json. */
static void add_members(struct smtpd *d, const char *action, const char *command,
                        struct span reply)
{
    const struct smtp_session *s = &d->smtp;
    struct log *log = d->services->log;
    bool has_rcpt = s->verb == SMTP_VERB_RCPT || s->verb == SMTP_VERB_VRFY;
    log_member(log, "queue_id", span_of(d->queue_id[0] != '\0' ? d->queue_id : "NOQUEUE"));
    log_member(log, "event", span_of(action));
    log_member(log, "command", span_of(command));
    if (reply.len > 9 && reply.at[3] == ' ' && reply.at[5] == '.') { /* "554 5.7.1 ..." */
        log_member(log, "code", span_next_word(&reply));
        log_member(log, "dsn", span_next_word(&reply));
    }
    if (s->mail.is_open || s->verb == SMTP_VERB_MAIL)
        log_member(log, "from", s->mail.sender.address);
    if (has_rcpt || s->mail.rcpt_count == 1)
        log_member(log, "to", has_rcpt ? s->rcpt.path.address : s->mail.rcpts->path.address);
    log_member(log, "proto", span_of(smtp_session_protocol(s)));
    if (s->helo != NULL)
        log_member(log, "helo", span_of(s->helo));
}

void smtpd_log_reject(struct smtpd *d, const char *action, const char *command,
                      const char *reply)
{
    struct buf line = { 0 };
    buf_printf(&line, "%s: %s: %s from %s: ", d->queue_id[0] != '\0' ? d->queue_id : "NOQUEUE",
               action, command, smtpd_client(d));
    text_escape(&line, span_of(reply), SMTP_REPLY_LINE_MAX);
    add_envelope(d, &line);
    add_members(d, action, command, span_of(reply));
    smtpd_log(d, "smtpd", "%s", buf_text(&line));
    buf_fini(&line);
}

void smtpd_log_reply(struct smtpd *d, const char *command, const struct smtp_reply *reply)
{
    struct buf text = { 0 };
    char room[16];
    struct smtp_reply said = *reply;
    if (d->config->params.soft_bounce)
        said = smtp_reply_softened(said, room);
    smtp_reply_print(&text, &said);
    smtpd_log_reject(d, "reject", command, buf_text(&text));
    buf_fini(&text);
}

/* What stands behind "key=", up to one of the ends. */
static struct span value_behind(const char *text, const char *key, const char *ends)
{
    const char *at = strstr(text, key);
    at = at != NULL ? at + strlen(key) : "";
    return span_make(at, strcspn(at, ends));
}

void smtpd_log_delivery(struct smtpd_services *services, const char *queue_id,
                        const struct delivery_rcpt *r, const char *status, int64_t delay_ms)
{
    struct log *log = services->log;
    struct span word = value_behind(status, "status=", " ");
    stats_delivery(services->stats, r->transport,
                   word.at[0] == 's' ? "sent" : word.at[0] == 'd' ? "deferred" : "bounced",
                   delay_ms);
    log_member(log, "queue_id", span_of(queue_id));
    log_member(log, "event", SPAN_LITERAL("delivery"));
    log_member(log, "to", r->address);
    if (!span_equals(r->address, r->original))
        log_member(log, "orig_to", r->original);
    log_member(log, "relay", span_of(r->transport));
    log_member(log, "dsn", value_behind(status, "dsn=", ","));
    log_member(log, "status", word);
}

static void lower_name(const char *name, char lower[16])
{
    size_t i = 0;
    /* cppcheck-suppress arrayIndexOutOfBoundsCond ; names end before that */
    for (; i < 15 && name[i] != '\0'; i++)
        lower[i] = ascii_lower(name[i]);
    lower[i] = '\0';
}

/* "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4" */
static void add_counts(const struct smtp_session *s, struct buf *line)
{
    unsigned ok = 0, all = 0;
    char name[16];
    for (int v = 0; v <= SMTP_VERB_COUNT; v++) {
        bool is_sum = v == SMTP_VERB_COUNT;
        unsigned good = is_sum ? ok : s->counts[v].ok, total = is_sum ? all : s->counts[v].all;
        if (total == 0 && !is_sum)
            continue;
        lower_name(is_sum ? "commands" : smtp_verbs[v].name, name);
        if (good == total && total > 0) /* no command at all is 0/0, as in Postfix */
            buf_printf(line, " %s=%u", name, total);
        else
            buf_printf(line, " %s=%u/%u", name, good, total);
        ok += good;
        all += total;
    }
}

/* What ended the conversation, if it was not QUIT. */
static void log_reason(struct smtpd *d, const char *error)
{
    const struct smtp_session *s = &d->smtp;
    const char *after = smtp_verbs[s->verb].name;
    bool is_start = s->counts[s->verb].all == 0 && s->verb == SMTP_VERB_UNKNOWN;
    if (is_start)
        after = "CONNECT";
    switch (s->close_reason) {
    case SMTP_CLOSE_NONE:
        smtpd_log(d, "smtpd", "lost connection after %s from %s%s%s", after, smtpd_client(d),
                  error != NULL ? ": " : "", error != NULL ? error : "");
        break;
    case SMTP_CLOSE_TIMEOUT:
        smtpd_log(d, "smtpd", "timeout after %s from %s", after, smtpd_client(d));
        break;
    case SMTP_CLOSE_ERRORS:
        smtpd_log(d, "smtpd", "too many errors after %s from %s", after, smtpd_client(d));
        break;
    case SMTP_CLOSE_SYNC:
        smtpd_log(d, "smtpd", "improper command pipelining after %s from %s", after,
                  smtpd_client(d));
        break;
    case SMTP_CLOSE_BARE_LF:
        smtpd_log(d, "smtpd", "bare <LF> received after %s from %s", after, smtpd_client(d));
        break;
    case SMTP_CLOSE_QUIT:
    case SMTP_CLOSE_REPLY:
    case SMTP_CLOSE_FORBIDDEN:
    case SMTP_CLOSE_SHUTDOWN: break;
    }
}

void smtpd_log_disconnect(struct smtpd *d, const char *error)
{
    struct buf line = { 0 };
    if (!d->is_greeted)
        return;
    log_reason(d, error);
    add_counts(&d->smtp, &line);
    smtpd_log(d, "smtpd", "disconnect from %s%s%s", smtpd_client(d), buf_text(&line),
              d->smtp.has_bare_lf ? " notes=bare_lf" : "");
    buf_fini(&line);
}
