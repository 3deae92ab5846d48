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
    for (size_t room = max; text.len > 0;) {
        size_t plain = text_plain_length(text);
        size_t n = plain > 0 ? plain : utf8_sequence(text);
        bool is_good = plain > 0 || utf8_is_printable(span_make(text.at, n));
        struct span some = is_good ? span_make(text.at, n) : SPAN_LITERAL(" ");
        if (some.len > room) {
            buf_append(out, some.at, plain > 0 ? room : 0);
            return;
        }
        buf_add(out, some);
        room -= some.len;
        text = span_skip(text, n > 0 ? n : 1);
    }
}

static void write_start(struct buf *out, const struct smtp_reply *reply, char separator)
{
    int code = reply->code;
    const char start[] = { (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10),
                           (char)('0' + code % 10), separator };
    buf_append(out, start, sizeof start);
    if (has_enhanced(reply)) {
        buf_puts(out, reply->enhanced);
        buf_putc(out, ' ');
    }
}

static void write_line(struct buf *out, const struct smtp_reply *reply, struct span text,
                       char separator)
{
    size_t start = out->len;
    write_start(out, reply, separator);
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
    write_start(out, reply, ' ');
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
