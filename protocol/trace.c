#include "protocol/trace.h"
#include "protocol/auth_results.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

enum { HELD_MAX = 2000 };

void header_scan_init(struct header_scan *h, size_t limit_bytes)
{
    *h = (struct header_scan){ .limit_bytes = limit_bytes };
}

void header_scan_fini(struct header_scan *h)
{
    buf_fini(&h->line);
    buf_fini(&h->held);
}

/* Length of the field name before ':', 0 if the line is no header (RFC 5322 3.6.8; blanks
 * before the colon as in 4.5). */
static size_t field_name_length(struct span line)
{
    size_t n = 0, colon = span_find(line, ':');
    while (n < line.len && line.at[n] > ' ' && line.at[n] < 0x7f && line.at[n] != ':')
        n++;
    if (n == 0 || colon == line.len)
        return 0;
    for (size_t i = n; i < colon; i++)
        if (line.at[i] != ' ' && line.at[i] != '\t')
            return 0;
    return n;
}

static void on_received(struct header_scan *h, struct span value)
{
    (void)value;
    h->received_count++;
}

static void on_return_path(struct header_scan *h, struct span value)
{
    (void)value;
    h->is_dropping = true;
}

/* Whose it is may stand in a line that is still to come. */
static void on_auth_results(struct header_scan *h, struct span value)
{
    (void)value;
    h->is_holding = h->authserv_id != NULL && h->authserv_id[0] != '\0';
}

static void on_message_id(struct header_scan *h, struct span value)
{
    struct buf id = { 0 };
    if (h->message_id[0] != '\0')
        return;
    text_escape(&id, span_trim(value), TRACE_MESSAGE_ID_MAX - 3);
    memcpy(h->message_id, buf_text(&id), id.len + 1);
    h->is_id_open = id.len == 0;
    buf_fini(&id);
}

static const struct {
    const char *name;
    void (*note)(struct header_scan *h, struct span value);
} noted_headers[] = {
    { "Received", on_received },
    { "Return-Path", on_return_path },
    { "Message-ID", on_message_id },
    { "Authentication-Results", on_auth_results },
};

static void begin_header(struct header_scan *h, struct span line, size_t name_len)
{
    struct span name = span_make(line.at, name_len);
    struct span value = span_skip(line, span_find(line, ':') + 1);
    h->header_bytes = 0;
    h->is_dropping = h->is_id_open = h->is_holding = false;
    for (size_t i = 0; i < ARRAY_LEN(noted_headers); i++)
        if (span_iequals(name, span_of(noted_headers[i].name)))
            noted_headers[i].note(h, value);
}

/* What of this line still fits under the header's limit; the line end always does. */
static void keep_line(struct header_scan *h, struct span line, struct buf *out)
{
    size_t room = h->limit_bytes > h->header_bytes ? h->limit_bytes - h->header_bytes : 0;
    h->header_bytes += line.len;
    if (h->is_dropping)
        return;
    h->has_kept |= !h->is_holding;
    if (line.len <= room) {
        buf_add(out, line);
    } else if (room > 0) {
        bool ends_in_cr = line.at[room - 1] == '\r'; /* of the line end */
        buf_append(out, line.at, ends_in_cr ? room - 1 : room);
        buf_puts(out, "\r\n");
    }
}

/* The header that was held back stays. */
static void release(struct header_scan *h, struct buf *out)
{
    buf_add(out, buf_span(&h->held));
    h->has_kept |= h->held.len > 0;
    h->is_holding = false;
    buf_fini(&h->held);
}

/* One more line of a header that may have to go. Who hides the name behind so much loses it. */
static void hold_line(struct header_scan *h, struct span line, struct buf *out)
{
    keep_line(h, line, &h->held);
    struct span value = span_skip(buf_span(&h->held), span_find(buf_span(&h->held), ':') + 1);
    switch (auth_results_owner(value, span_of(h->authserv_id))) {
    case AUTH_RESULTS_UNKNOWN:
        if (h->held.len < HELD_MAX)
            return;
        break;
    case AUTH_RESULTS_OTHER: release(h, out); return;
    case AUTH_RESULTS_OURS: break;
    }
    h->is_holding = false;
    h->is_dropping = true;
    buf_fini(&h->held);
}

static bool is_mailbox_line(const struct header_scan *h, struct span line)
{
    return !h->has_lines && span_istarts(line, SPAN_LITERAL("From "));
}

static bool is_folded(const struct header_scan *h)
{
    char first = h->line.at[0];
    return h->has_lines && (first == ' ' || first == '\t');
}

/* This line is body, or the empty one in front of it. */
static void end_headers(struct header_scan *h, struct span line, struct buf *out)
{
    bool is_empty = span_equals(line, SPAN_LITERAL("\r\n"));
    if (!h->has_kept && !is_empty)
        buf_puts(out, "\r\n");
    buf_add(out, line);
    h->is_done = true;
    h->is_dropping = false;
    h->header_bytes = 0;
    buf_fini(&h->line);
}

static void take_line(struct header_scan *h, struct buf *out)
{
    struct span line = buf_span(&h->line);
    size_t name_len = field_name_length(line);
    bool is_more = is_folded(h);
    if (!is_more)
        release(h, out);
    if (is_more && h->is_id_open) {
        on_message_id(h, line);
    } else if (!is_more && name_len > 0) {
        begin_header(h, line, name_len);
    } else if (!is_more && !is_mailbox_line(h, line)) {
        end_headers(h, line, out);
        return;
    }
    h->has_lines = true;
    if (h->is_holding)
        hold_line(h, line, out);
    else
        keep_line(h, line, out);
    buf_clear(&h->line);
}

/* Adds a piece of the current line. A header may be cut, as it would be later anyway; anything
 * else is body, of which nothing may be lost: it is let go as soon as it is too long to hold. */
static size_t feed_piece(struct header_scan *h, struct span piece, bool is_whole, struct buf *out)
{
    size_t room = h->limit_bytes + 2 - h->line.len;
    size_t n = piece.len < room ? piece.len : room;
    buf_append(&h->line, piece.at, n);
    bool is_header = is_folded(h) || field_name_length(buf_span(&h->line)) > 0
                     || is_mailbox_line(h, buf_span(&h->line));
    if (n < piece.len && is_header)
        n = piece.len;
    if (n < piece.len || is_whole)
        take_line(h, out);
    return n;
}

size_t header_scan_feed(struct header_scan *h, struct span in, struct buf *out)
{
    size_t used = 0;
    while (used < in.len && !h->is_done) {
        struct span rest = span_skip(in, used);
        size_t end = span_find(rest, '\n');
        bool is_whole = end < rest.len;
        used += feed_piece(h, span_make(rest.at, is_whole ? end + 1 : rest.len), is_whole, out);
    }
    return used;
}

void header_scan_finish(struct header_scan *h, struct buf *out)
{
    if (!h->is_done && h->line.len > 0)
        take_line(h, out);
    release(h, out);
    header_scan_fini(h);
    h->is_done = true;
}

enum { TRACE_NAME_MAX = 255 };

static void add_cut(struct buf *out, const char *text)
{
    text_escape(out, span_of(text), TRACE_NAME_MAX);
}

/* Quoted, then escaped: one character for each at most. */
static void add_address(struct buf *out, struct span address)
{
    struct buf quoted = { 0 };
    smtp_path_quote(&quoted, address);
    text_escape(out, buf_span(&quoted), quoted.len + 1);
    buf_fini(&quoted);
}

static void add_protocol(struct buf *out, const struct trace *t)
{
    bool is_extended = strcmp(t->protocol, "ESMTP") == 0;
    if (t->is_smtputf8) /* RFC 6531 4.3 */
        buf_printf(out, "UTF8SMTP%s", t->is_tls ? "S" : "");
    else
        buf_printf(out, "%s%s", t->protocol, t->is_tls && is_extended ? "S" : "");
}

void trace_received(struct buf *out, const struct trace *t)
{
    buf_puts(out, "Received: from ");
    add_cut(out, t->helo != NULL ? t->helo : t->client_name);
    buf_puts(out, " (");
    add_cut(out, t->client_name);
    buf_printf(out, " [%s%s])\r\n", t->is_ipv6 ? "IPv6:" : "", t->client_address);
    if (t->tls != NULL)
        buf_printf(out, "\t(using %s)\r\n", t->tls);
    buf_printf(out, "\tby %s (%s) with ", t->myhostname, t->mail_name);
    add_protocol(out, t);
    buf_printf(out, " id %s", t->queue_id);
    if (t->recipient.len > 0) {
        buf_puts(out, "\r\n\tfor <");
        add_address(out, t->recipient);
        buf_putc(out, '>');
    }
    buf_printf(out, "; %s\r\n", t->date);
}

static void add_address_header(struct buf *out, const char *name, struct span address,
                               bool is_angled)
{
    buf_printf(out, "%s: %s", name, is_angled ? "<" : "");
    add_address(out, address);
    buf_printf(out, "%s\r\n", is_angled ? ">" : "");
}

void trace_delivery(struct buf *out, struct span sender, struct span original,
                    struct span recipient)
{
    add_address_header(out, "Return-Path", sender, true);
    if (original.len > 0)
        add_address_header(out, "X-Original-To", original, false);
    add_address_header(out, "Delivered-To", recipient, false);
}
