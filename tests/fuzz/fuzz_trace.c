/* The header section on its way through, and the fields we add to it. */
#include "fuzz/fuzz.h"
#include "protocol/auth_results.h"
#include "protocol/trace.h"

enum { LIMIT = 300 };

static void scan(struct fuzz *f, struct span text, struct buf *out)
{
    struct header_scan h;
    struct span piece;
    header_scan_init(&h, LIMIT);
    h.authserv_id = "mx.test";
    while (fuzz_piece(f, &text, &piece)) {
        if (!h.is_done) {
            size_t used = header_scan_feed(&h, piece, out);
            ENSURE(used <= piece.len && (h.is_done || used == piece.len));
            piece = span_skip(piece, used);
        }
        buf_add(out, piece);
        ENSURE(h.received_count >= 0 && fuzz_is_printable(span_of(h.message_id)));
    }
    header_scan_finish(&h, out);
    header_scan_fini(&h);
}

static bool is_header(struct span line)
{
    size_t colon = span_find(line, ':');
    struct span name = span_make(line.at, colon);
    while (name.len > 0 && (name.at[name.len - 1] == ' ' || name.at[name.len - 1] == '\t'))
        name.len--;
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] <= ' ' || name.at[i] > '~')
            return false;
    return colon < line.len && name.len > 0;
}

static bool is_ours(struct span line)
{
    struct span value = span_skip(line, span_find(line, ':') + 1);
    return span_istarts(line, SPAN_LITERAL("authentication-results:"))
           && auth_results_owner(value, SPAN_LITERAL("mx.test")) == AUTH_RESULTS_OURS;
}

/* A reader must never see the Return-Path that the sender forged, nor results in our name: not
 * above the empty line, nor the first line that is no header. */
static void check_headers(struct span text)
{
    for (bool is_first = true; text.len > 0; is_first = false) {
        size_t end = span_find(text, '\n');
        struct span line = span_make(text.at, end);
        bool is_more = line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t');
        bool is_mailbox = is_first && span_istarts(line, SPAN_LITERAL("From "));
        if (!is_more && !is_mailbox && !is_header(line))
            return;
        ENSURE(!span_istarts(line, SPAN_LITERAL("return-path:")) && !is_ours(line));
        text = span_skip(text, end + 1);
    }
}

/* What leaves DATA and BDAT has no bare LF. */
static struct span with_line_ends(struct fuzz *f, struct buf *text)
{
    for (size_t i = 0; i < f->text.len; i++) {
        if (f->text.at[i] == '\n' && (i == 0 || f->text.at[i - 1] != '\r'))
            buf_putc(text, '\r');
        buf_putc(text, f->text.at[i]);
    }
    return buf_span(text);
}

static void check_field(struct span field)
{
    ENSURE(field.len > 2 && field.at[field.len - 2] == '\r' && field.at[field.len - 1] == '\n');
    while (field.len > 0) {
        size_t end = span_find(field, '\n');
        ENSURE(end < field.len && end > 0 && end <= 998);
        for (size_t i = 0; i + 1 < end; i++)
            ENSURE((unsigned char)field.at[i] >= ' ' || field.at[i] == '\t');
        field = span_skip(field, end + 1);
    }
}

/* Everything a peer can choose. */
static void fields(struct fuzz *f)
{
    struct buf out = { 0 };
    const char *words[4];
    for (size_t i = 0; i < 4; i++)
        words[i] = arena_text(&f->memory, fuzz_line(f));
    struct trace t = {
        .helo = words[0], .client_name = words[1], .client_address = "192.0.2.1",
        .myhostname = "mx.example.org", .mail_name = "Postern", .protocol = "ESMTP",
        .is_tls = f->seed % 2 == 1, .tls = f->seed % 2 == 1 ? "TLSv1.3" : NULL, .queue_id = "1983AB",
        .recipient = span_of(words[3]), .date = "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)",
    };
    trace_received(&out, &t);
    check_field(buf_span(&out));
    buf_clear(&out);
    trace_delivery(&out, span_of(words[3]), span_of(words[1]), span_of(words[2]));
    check_field(buf_span(&out));
    buf_fini(&out);
}

void fuzz_one(struct fuzz *f)
{
    struct buf text = { 0 }, pieces = { 0 }, whole = { 0 };
    struct span in = with_line_ends(f, &text);
    scan(f, in, &pieces);
    fuzz_cut_whole(f);
    scan(f, in, &whole);
    ENSURE(span_equals(buf_span(&pieces), buf_span(&whole)));
    check_headers(buf_span(&whole));
    fields(f);
    buf_fini(&text);
    buf_fini(&pieces);
    buf_fini(&whole);
}
