#include "protocol/smtp_line.h"

void smtp_line_fini(struct smtp_line *l)
{
    buf_fini(&l->partial);
    l->is_overflow = false;
}

/* Room for the line, its CR and nothing else: a flood without LF costs limit_bytes + 1. */
static void line_keep(struct smtp_line *l, struct span piece)
{
    size_t room = l->limit_bytes + 1 - l->partial.len;
    if (piece.len > room) {
        l->is_overflow = true;
        piece.len = room;
    }
    buf_add(&l->partial, piece);
}

static void line_finish(struct smtp_line *l, struct span text, struct smtp_line_out *out)
{
    *out = (struct smtp_line_out){ .text = text };
    bool has_cr = text.len > 0 && text.at[text.len - 1] == '\r';
    if (has_cr && !l->is_overflow)
        out->text.len--;
    out->is_too_long = l->is_overflow || out->text.len > l->limit_bytes;
    if (out->is_too_long) /* its end may be forgotten, so it never counts */
        out->text.len = l->limit_bytes;
    else
        out->is_bare_lf = !has_cr;
    l->is_overflow = false;
}

bool smtp_line_next(struct smtp_line *l, struct span *in, struct smtp_line_out *out)
{
    size_t end = span_find(*in, '\n');
    if (end == in->len) {
        if (in->len > 0)
            line_keep(l, *in);
        else if (l->partial.len == 0)
            buf_fini(&l->partial); /* an idle session holds no line */
        *in = span_skip(*in, in->len);
        return false;
    }
    struct span text = span_make(in->at, end);
    *in = span_skip(*in, end + 1);
    if (l->partial.len > 0 || l->is_overflow) { /* the line began in an earlier piece */
        line_keep(l, text);
        text = buf_span(&l->partial);
    }
    line_finish(l, text, out);
    l->partial.len = 0; /* the bytes stay until the next call */
    return true;
}
