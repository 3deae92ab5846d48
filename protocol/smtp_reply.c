#include "protocol/smtp_reply.h"
#include "protocol/text.h"

#include <stdio.h>

static bool has_enhanced(const struct smtp_reply *reply)
{
    return reply->enhanced != NULL && reply->enhanced[0] != '\0';
}

/* Unlike a log, a reply shows a blank where a byte cannot be printed (spec 1.9). */
static void write_printable(struct buf *out, struct span text, size_t max)
{
    for (size_t used = 0; text.len > 0;) {
        size_t n = utf8_sequence(text);
        struct span one = span_make(text.at, n > 0 ? n : 1);
        bool is_good = n > 1 ? !utf8_is_control(one) : n == 1 && ascii_is_print(text.at[0]);
        used += is_good ? one.len : 1;
        if (used > max)
            return;
        buf_add(out, is_good ? one : SPAN_LITERAL(" "));
        text = span_skip(text, one.len);
    }
}

static void write_line(struct buf *out, const struct smtp_reply *reply, struct span text,
                       char separator)
{
    size_t start = out->len;
    buf_printf(out, "%03d%c", reply->code, separator);
    if (has_enhanced(reply))
        buf_printf(out, "%s ", reply->enhanced);
    size_t used = out->len - start;
    write_printable(out, text, used < SMTP_REPLY_LINE_MAX ? SMTP_REPLY_LINE_MAX - used : 0);
    buf_puts(out, "\r\n");
}

void smtp_reply_write(struct buf *out, const struct smtp_reply *reply)
{
    struct span text = span_of(reply->text);
    for (;;) {
        size_t end = span_find(text, '\n');
        bool is_last = end == text.len;
        write_line(out, reply, span_make(text.at, end), is_last ? ' ' : '-');
        if (is_last)
            return;
        text = span_skip(text, end + 1);
    }
}

void smtp_reply_print(struct buf *out, const struct smtp_reply *reply)
{
    buf_printf(out, "%03d ", reply->code);
    if (has_enhanced(reply))
        buf_printf(out, "%s ", reply->enhanced);
    struct span text = span_of(reply->text);
    write_printable(out, text, SMTP_REPLY_LINE_MAX * 2);
}

struct smtp_reply smtp_reply_softened(struct smtp_reply reply, char enhanced_room[16])
{
    if (reply.code < 500 || reply.code > 599)
        return reply;
    reply.code -= 100;
    if (has_enhanced(&reply)) {
        snprintf(enhanced_room, 16, "%s", reply.enhanced);
        enhanced_room[0] = '4';
        reply.enhanced = enhanced_room;
    }
    return reply;
}

static size_t digits_length(struct span text)
{
    size_t n = 0;
    while (n < text.len && n < 3 && ascii_is_digit(text.at[n]))
        n++;
    return n;
}

size_t smtp_enhanced_length(struct span text)
{
    if (text.len < 5 || !ascii_is_digit(text.at[0]) || text.at[1] != '.')
        return 0;
    size_t subject = digits_length(span_skip(text, 2));
    if (subject == 0 || text.len <= 2 + subject || text.at[2 + subject] != '.')
        return 0;
    size_t detail = digits_length(span_skip(text, 3 + subject));
    size_t n = 3 + subject + detail;
    if (detail == 0 || (n < text.len && !ascii_is_space(text.at[n])))
        return 0;
    return n;
}
