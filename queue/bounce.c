#include "queue/bounce.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include <errno.h>
#include <unistd.h>

enum { SHOWN_MAX = 900, PIECE_BYTES = 65536 };

/* ------------------------------------------------------------ whether */

static bool wants(const struct envelope_rcpt *r, unsigned what)
{
    if (r->notify == 0) /* RFC 3461 4.1: failures, and delays as we please */
        return what != SMTP_NOTIFY_SUCCESS;
    return (r->notify & what) != 0 && (r->notify & SMTP_NOTIFY_NEVER) == 0;
}

static void expire(struct envelope *e)
{
    for (struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        if (r->state == RCPT_OWED) {
            r->state = RCPT_FAILED;
            if (r->code == 0)
                envelope_note(e, r, 450, "4.4.7", "delivery time expired before the first try",
                              "");
        }
}

/* The word about what has ended; then nothing is owed any more. */
static enum dsn_action close_rcpt(const struct envelope *e, struct envelope_rcpt *r)
{
    enum dsn_action report = DSN_NONE;
    if (r->state == RCPT_FAILED && wants(r, SMTP_NOTIFY_FAILURE))
        report = DSN_FAILED;
    else if (r->state == RCPT_SENT && wants(r, SMTP_NOTIFY_SUCCESS))
        report = strcmp(r->transport, "smtp") == 0 ? DSN_RELAYED : DSN_DELIVERED;
    r->state = RCPT_DONE;
    return e->sender.len > 0 ? report : DSN_NONE;
}

static enum dsn_action report_of(const struct envelope *e, struct envelope_rcpt *r,
                                 bool is_warning_due)
{
    switch (r->state) {
    case RCPT_SENT:
    case RCPT_FAILED: return close_rcpt(e, r);
    case RCPT_OWED: break;
    case RCPT_DONE: return DSN_NONE;
    }
    bool is_told = is_warning_due && e->sender.len > 0 && wants(r, SMTP_NOTIFY_DELAY);
    return is_told ? DSN_DELAYED : DSN_NONE;
}

bool bounce_plan(struct envelope *e, const struct schedule_limits *limits, int64_t now_s)
{
    bool is_told = false;
    if (schedule_is_expired(limits, e->arrived_s, e->sender.len == 0, now_s))
        expire(e);
    bool is_due = schedule_is_warning_due(limits, e->arrived_s, e->is_delay_told, now_s);
    e->is_delay_told |= is_due;
    for (struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next) {
        r->report = report_of(e, r, is_due);
        is_told |= r->report != DSN_NONE;
    }
    return is_told;
}

void bounce_put_off(struct envelope *e)
{
    for (struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next) {
        if (r->report == DSN_FAILED)
            r->state = RCPT_FAILED;
        r->report = DSN_NONE;
    }
}

/* ------------------------------------------------------------ words */

static bool has_report(const struct envelope *e, enum dsn_action action)
{
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        if (r->report == action)
            return true;
    return false;
}

static const struct {
    enum dsn_action action;
    const char *name, *subject, *words;
} kinds[] = { /* the first that is there gives the subject */
    { DSN_FAILED, "sender non-delivery notification", "Undelivered Mail Returned to Sender",
      "Your message could not be delivered to one or more recipients. It is attached below,\r\n"
      "or its headers are." },
    { DSN_DELAYED, "sender delay notification", "Delayed Mail (still being retried)",
      "This is a warning only: you need not send your message again. It could not be\r\n"
      "delivered yet, and will be tried further." },
    { DSN_DELIVERED, "sender delivery status notification", "Successful Mail Delivery Report",
      "Your message was delivered, as you asked to be told." },
    { DSN_RELAYED, "sender delivery status notification", "Successful Mail Delivery Report",
      "Your message was handed on to the system below, as you asked to be told." },
};

static size_t kind_of(const struct envelope *e)
{
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(kinds) && !has_report(e, kinds[i].action))
        i++;
    return i;
}

const char *bounce_name(const struct envelope *e)
{
    return kinds[kind_of(e)].name;
}

static const char *action_name(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED: return "failed";
    case DSN_DELAYED: return "delayed";
    case DSN_DELIVERED: return "delivered";
    case DSN_RELAYED: return "relayed";
    case DSN_NONE: break;
    }
    return "";
}

/* ------------------------------------------------------------ parts */

struct writer {
    const struct bounce *b;
    const struct envelope *e;
    struct buf *out;
    bool is_utf8; /* the forms of RFC 6533 */
    bool is_8bit;
    bool is_full; /* the message, not only its headers */
};

static void add_escaped(struct writer *w, struct span text)
{
    text_escape(w->out, text, SHOWN_MAX);
}

static void add_address(struct writer *w, struct span address)
{
    struct buf quoted = { 0 };
    smtp_path_quote(&quoted, address);
    add_escaped(w, buf_span(&quoted));
    buf_fini(&quoted);
}

static bool needs_utf8(const struct envelope *e)
{
    bool is_ascii = text_is_ascii(e->sender) && !e->is_smtputf8;
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        is_ascii = is_ascii && (r->report == DSN_NONE || text_is_ascii(r->address));
    return !is_ascii;
}

static void add_boundary(struct writer *w, const char *end)
{
    buf_printf(w->out, "\r\n--%s/%s%s\r\n", w->b->id, w->b->myhostname, end);
}

static void write_head(struct writer *w)
{
    const struct bounce *b = w->b;
    buf_printf(w->out, "Received: by %s (%s)\r\n\tid %s; %s\r\n", b->myhostname, b->mail_name,
               b->id, b->date);
    buf_printf(w->out, "Date: %s\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\n", b->date,
               b->myhostname);
    buf_printf(w->out, "Subject: %s\r\nTo: ", kinds[kind_of(w->e)].subject);
    add_address(w, w->e->sender);
    buf_printf(w->out, "\r\nAuto-Submitted: auto-replied\r\nMessage-ID: <%s@%s>\r\n", b->id,
               b->myhostname);
    buf_printf(w->out,
               "MIME-Version: 1.0\r\nContent-Type: multipart/report; "
               "report-type=%s;\r\n\tboundary=\"%s/%s\"\r\nContent-Transfer-Encoding: %s\r\n",
               w->is_utf8 ? "global-delivery-status" : "delivery-status", b->id, b->myhostname,
               w->is_8bit ? "8bit" : "7bit");
    buf_puts(w->out, "\r\nThis is a MIME-encapsulated message.\r\n");
}

static void write_reply(struct writer *w, const struct envelope_rcpt *r)
{
    if (r->code != 0)
        buf_printf(w->out, "%d ", r->code);
    if (r->enhanced[0] != '\0')
        buf_printf(w->out, "%s ", r->enhanced);
    add_escaped(w, span_of(r->text));
}

static void write_words(struct writer *w)
{
    add_boundary(w, "");
    buf_printf(w->out,
               "Content-Description: Notification\r\nContent-Type: text/plain; charset=%s\r\n"
               "%s\r\nThis is the mail system at host %s.\r\n\r\n",
               w->is_utf8 ? "utf-8" : "us-ascii",
               w->is_utf8 ? "Content-Transfer-Encoding: 8bit\r\n" : "", w->b->myhostname);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (has_report(w->e, kinds[i].action))
            buf_printf(w->out, "%s\r\n\r\n", kinds[i].words);
    for (const struct envelope_rcpt *r = w->e->rcpts; r != NULL; r = r->next) {
        if (r->report == DSN_NONE)
            continue;
        buf_puts(w->out, "<");
        add_address(w, r->address);
        buf_printf(w->out, ">: %s", action_name(r->report));
        if (r->relay[0] != '\0') {
            buf_puts(w->out, "; ");
            add_escaped(w, span_of(r->relay));
            buf_puts(w->out, " said");
        }
        buf_puts(w->out, ": ");
        write_reply(w, r);
        buf_puts(w->out, "\r\n");
    }
}

/* "rfc822;xtext" as a field; the client's own words, escaped. */
static void write_original(struct writer *w, struct span orcpt)
{
    struct buf decoded = { 0 };
    size_t n = span_find(orcpt, ';');
    struct span text = span_skip(orcpt, n + 1);
    if (orcpt.len == 0)
        return;
    buf_puts(w->out, "Original-Recipient: ");
    add_escaped(w, span_make(orcpt.at, n));
    buf_puts(w->out, "; ");
    add_escaped(w, xtext_decode(text, &decoded) ? buf_span(&decoded) : text);
    buf_puts(w->out, "\r\n");
    buf_fini(&decoded);
}

/* "5.1.1": the class must be that of the action, whatever the peer has said. */
static void write_status(struct writer *w, const struct envelope_rcpt *r)
{
    bool is_known = smtp_enhanced_length(span_of(r->enhanced)) > 0;
    const char *rest = is_known ? r->enhanced + 1 : ".0.0";
    char class = r->report == DSN_DELIVERED || r->report == DSN_RELAYED ? '2'
                 : r->report == DSN_DELAYED                             ? '4'
                 : r->code >= 400 && r->code < 500                      ? '4'
                                                                        : '5';
    if (class == '2')
        rest = ".0.0";
    buf_printf(w->out, "Status: %c%s\r\n", class, rest);
}

static void write_rcpt(struct writer *w, const struct envelope_rcpt *r)
{
    bool is_ascii = text_is_ascii(r->address);
    buf_puts(w->out, "\r\n");
    write_original(w, r->orcpt);
    buf_printf(w->out, "Final-Recipient: %s; ", is_ascii ? "rfc822" : "utf-8");
    add_address(w, r->address);
    buf_printf(w->out, "\r\nAction: %s\r\n", action_name(r->report));
    write_status(w, r);
    size_t host = strcspn(r->relay, "[:");
    bool is_remote = strcmp(r->transport, "lmtp") == 0 || strcmp(r->transport, "smtp") == 0;
    if (is_remote && host > 0 && r->relay[0] != '/') {
        buf_puts(w->out, "Remote-MTA: dns; ");
        add_escaped(w, span_make(r->relay, host));
        buf_puts(w->out, "\r\n");
    }
    if (r->code != 0 || r->text[0] != '\0') {
        buf_printf(w->out, "Diagnostic-Code: %s; ", is_remote ? "smtp" : "X-Postern");
        write_reply(w, r);
        buf_puts(w->out, "\r\n");
    }
    if (r->report == DSN_DELAYED)
        buf_printf(w->out, "Will-Retry-Until: %s\r\n", w->b->retry_until);
}

static void write_status_part(struct writer *w)
{
    struct buf envid = { 0 };
    add_boundary(w, "");
    buf_printf(w->out, "Content-Description: Delivery report\r\nContent-Type: message/%s\r\n%s\r\n",
               w->is_utf8 ? "global-delivery-status" : "delivery-status",
               w->is_utf8 ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    buf_printf(w->out, "Reporting-MTA: dns; %s\r\n", w->b->myhostname);
    if (w->e->envid.len > 0 && xtext_decode(w->e->envid, &envid)) {
        buf_puts(w->out, "Original-Envelope-Id: ");
        add_escaped(w, buf_span(&envid));
        buf_puts(w->out, "\r\n");
    }
    buf_printf(w->out, "X-Postern-Queue-ID: %s\r\nX-Postern-Sender: rfc822; ", w->e->id);
    add_address(w, w->e->sender);
    buf_printf(w->out, "\r\nArrival-Date: %s\r\n", w->b->arrival_date);
    for (const struct envelope_rcpt *r = w->e->rcpts; r != NULL; r = r->next)
        if (r->report != DSN_NONE)
            write_rcpt(w, r);
    buf_fini(&envid);
}

/* ------------------------------------------------------------ the message */

/* Where the header section ends, behind its last CR LF; the length if it does not. */
static size_t header_length(struct span text)
{
    for (size_t i = 0; i < text.len;) {
        size_t n = span_find(span_skip(text, i), '\n') + 1;
        if (n == 2 && text.at[i] == '\r')
            return i;
        i += n;
    }
    return text.len;
}

/* At most limit bytes from the start of the message. */
static int read_message(const struct bounce *b, uint64_t limit, struct buf *out)
{
    uint64_t left = b->message_bytes < limit ? b->message_bytes : limit;
    off_t at = 0;
    while (left > 0 && b->message_fd >= 0) {
        size_t want = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        ssize_t n = pread(b->message_fd, buf_reserve(out, want), want, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        out->len += (size_t)n;
        at += n;
        left -= (uint64_t)n;
    }
    return 0;
}

/* Whole lines only: the part has to end somewhere. */
static void keep_whole_lines(struct buf *text)
{
    size_t last = span_find_last(buf_span(text), '\n');
    if (last < text->len)
        text->len = last + 1;
}

static void write_message_part(struct writer *w, const struct buf *text)
{
    const char *type = w->is_full ? w->is_utf8 ? "message/global" : "message/rfc822"
                       : w->is_utf8 ? "message/global-headers" : "text/rfc822-headers";
    add_boundary(w, "");
    buf_printf(w->out, "Content-Description: %s\r\nContent-Type: %s\r\n%s\r\n",
               w->is_full ? "Undelivered Message" : "Message Headers", type,
               w->is_8bit ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    buf_add(w->out, buf_span(text));
}

int bounce_write(const struct bounce *b, const struct envelope *e, struct buf *out,
                 bool *is_8bit, bool *is_utf8)
{
    struct writer w = { .b = b, .e = e, .out = out, .is_utf8 = needs_utf8(e) };
    struct buf text = { 0 };
    w.is_full = has_report(e, DSN_FAILED) && e->ret != SMTP_RET_HDRS
                && b->message_bytes <= b->size_limit && b->message_fd >= 0;
    int rc = read_message(b, b->size_limit, &text);
    if (!w.is_full) {
        text.len = header_length(buf_span(&text));
        keep_whole_lines(&text);
    }
    w.is_8bit = w.is_utf8 || !text_is_ascii(buf_span(&text));
    if (rc == 0) {
        write_head(&w);
        write_words(&w);
        write_status_part(&w);
        write_message_part(&w, &text);
        add_boundary(&w, "--");
    }
    buf_fini(&text);
    *is_8bit = w.is_8bit;
    *is_utf8 = w.is_utf8;
    return rc;
}
