#include "protocol/smtp_data.h"

static const struct span crlf = { "\r\n", 2 };
static const struct span cr = { "\r", 1 };

void smtp_data_begin(struct smtp_data *d, bool is_bdat)
{
    *d = (struct smtp_data){ .is_bdat = is_bdat };
}

/* Nothing in at[1..len) needs a second look: every LF follows CR, every CR comes before LF, no
 * dot follows LF. Written so that the compiler turns it into vector code: almost all of a
 * large message passes here. */
static bool block_is_clean(const char *at, size_t len)
{
    unsigned char bad = 0;
    for (size_t i = 1; i < len; i++) {
        unsigned char is_lf = at[i] == '\n', is_behind_cr = at[i - 1] == '\r';
        bad |= (unsigned char)(is_lf ^ is_behind_cr);
        bad |= (unsigned char)(at[i] == '.') & (unsigned char)(at[i - 1] == '\n');
    }
    return bad == 0;
}

enum { BLOCK = 2048 };

/* Length of the prefix that may pass as it is: it stops before an LF without CR, behind a CR
 * without LF, and behind an LF that a dot follows. at[0] itself is known to be good. */
static size_t clean_length(struct span in)
{
    size_t i = 1;
    while (in.len - i >= BLOCK && block_is_clean(in.at + i - 1, BLOCK + 1))
        i += BLOCK;
    for (; i < in.len; i++) {
        bool is_lf = in.at[i] == '\n', is_behind_cr = in.at[i - 1] == '\r';
        if (is_lf != is_behind_cr || (in.at[i] == '.' && in.at[i - 1] == '\n'))
            return i;
    }
    return in.len;
}

static void emit(struct smtp_data *d, struct span bytes, struct span *piece)
{
    *piece = bytes;
    d->size_bytes += bytes.len;
}

/* Inside a line or at the start of one that does not begin with a dot. */
static void next_text(struct smtp_data *d, struct span *in, struct span *piece)
{
    bool is_behind_cr = d->state == SMTP_DATA_CR;
    if (in->at[0] == '\n' && !is_behind_cr) {
        d->bare_lf_count++;
        d->state = SMTP_DATA_BARE_LINE_START;
        *in = span_skip(*in, 1);
        emit(d, crlf, piece);
        return;
    }
    if (is_behind_cr && in->at[0] != '\n')
        d->bare_cr_count++;
    size_t n = clean_length(*in);
    char last = in->at[n - 1];
    bool is_line_end = last == '\n'; /* behind CR: clean_length or is_behind_cr saw to that */
    d->state = is_line_end ? SMTP_DATA_LINE_START : last == '\r' ? SMTP_DATA_CR : SMTP_DATA_TEXT;
    emit(d, span_make(in->at, n), piece);
    *in = span_skip(*in, n);
}

/* Behind "." CR at a line start. True when *piece was filled. */
static bool next_dot_cr(struct smtp_data *d, struct span *in, struct span *piece)
{
    bool is_bare = d->state == SMTP_DATA_BARE_DOT_CR;
    if (in->at[0] != '\n') { /* a line that began with a stuffed dot and CR */
        d->state = SMTP_DATA_CR;
        emit(d, cr, piece);
        return true;
    }
    *in = span_skip(*in, 1);
    d->state = SMTP_DATA_LINE_START;
    d->is_ended = !is_bare;
    return false;
}

static void next_dot(struct smtp_data *d, struct span *in)
{
    bool is_bare = d->state == SMTP_DATA_BARE_DOT;
    if (in->at[0] == '\r') {
        d->state = is_bare ? SMTP_DATA_BARE_DOT_CR : SMTP_DATA_DOT_CR;
        *in = span_skip(*in, 1);
    } else if (in->at[0] == '\n') {
        d->bare_lf_count++;
        d->state = SMTP_DATA_BARE_LINE_START;
        *in = span_skip(*in, 1);
    } else {
        d->state = SMTP_DATA_TEXT; /* the dot was stuffing */
    }
}

static bool is_line_start(const struct smtp_data *d)
{
    return d->state == SMTP_DATA_LINE_START || d->state == SMTP_DATA_BARE_LINE_START;
}

bool smtp_data_next(struct smtp_data *d, struct span *in, struct span *piece)
{
    while (in->len > 0 && !d->is_ended) {
        if (d->state == SMTP_DATA_DOT || d->state == SMTP_DATA_BARE_DOT) {
            next_dot(d, in);
        } else if (d->state == SMTP_DATA_DOT_CR || d->state == SMTP_DATA_BARE_DOT_CR) {
            if (next_dot_cr(d, in, piece))
                return true;
        } else if (is_line_start(d) && in->at[0] == '.' && !d->is_bdat) {
            bool is_bare = d->state == SMTP_DATA_BARE_LINE_START;
            d->state = is_bare ? SMTP_DATA_BARE_DOT : SMTP_DATA_DOT;
            *in = span_skip(*in, 1);
        } else {
            next_text(d, in, piece);
            return true;
        }
    }
    return false;
}
