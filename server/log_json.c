#include "server/log_json.h"
#include "protocol/text.h"

#include <stdio.h>

void json_string(struct buf *out, struct span text)
{
    buf_putc(out, '"');
    while (text.len > 0) {
        size_t len = utf8_sequence(text);
        unsigned char c = (unsigned char)text.at[0];
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (len == 0 || c < ' ' || c == 0x7f)
            buf_printf(out, "\\u%04x", c);
        else
            buf_append(out, text.at, len);
        text = span_skip(text, len > 0 ? len : 1);
    }
    buf_putc(out, '"');
}

void json_member(struct buf *out, const char *name, struct span value)
{
    buf_printf(out, ",\"%s\":", name);
    json_string(out, value);
}

void json_time(struct buf *out, const struct timespec *time)
{
    struct tm utc;
    char text[40];
    gmtime_r(&time->tv_sec, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    buf_printf(out, "\"%s.%06ldZ\"", text, time->tv_nsec / 1000);
}
