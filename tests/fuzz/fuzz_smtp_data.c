/* Message bytes by DATA and BDAT, against a second reading of the same text. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_data.h"

struct result {
    struct buf out;
    size_t used_bytes;
    uint64_t bare_lf_count, bare_cr_count;
    bool is_ended;
};

static void run(struct fuzz *f, bool is_bdat, struct result *r)
{
    struct smtp_data d;
    struct span text = f->text, piece, bytes;
    smtp_data_begin(&d, is_bdat);
    while (!d.is_ended && fuzz_piece(f, &text, &piece)) {
        size_t len = piece.len;
        while (smtp_data_next(&d, &piece, &bytes))
            buf_add(&r->out, bytes);
        ENSURE(piece.len == 0 || d.is_ended);
        r->used_bytes += len - piece.len;
    }
    ENSURE(d.size_bytes == r->out.len);
    r->is_ended = d.is_ended;
    r->bare_lf_count = d.bare_lf_count;
    r->bare_cr_count = d.bare_cr_count;
}

/* The final dot, and whatever is cut away as one: only CR LF "." CR LF ends. */
static bool ends_at(struct span text, size_t end)
{
    static const char dot[] = "\r\n.\r\n";
    size_t want = end >= 5 ? 5 : 3;
    return (end >= 5 || end == 3) && end <= text.len
           && memcmp(text.at + end - want, dot + 5 - want, want) == 0;
}

static void check_out(const struct result *r)
{
    for (size_t i = 0; i < r->out.len; i++)
        if (r->out.at[i] == '\n')
            ENSURE(i > 0 && r->out.at[i - 1] == '\r');
}

static void check_data(struct fuzz *f, const struct result *r)
{
    check_out(r);
    ENSURE(r->used_bytes <= f->text.len && r->out.len <= 2 * r->used_bytes);
    ENSURE(r->is_ended == ends_at(f->text, r->used_bytes) || !r->is_ended);
    for (size_t end = 3; end < r->used_bytes; end++)
        ENSURE(!ends_at(f->text, end));
    ENSURE(r->is_ended || !ends_at(f->text, f->text.len));
}

/* A chunk only changes a bare LF, which gets its CR. */
static void check_bdat(struct fuzz *f, const struct result *r)
{
    size_t at = 0;
    uint64_t bare = 0;
    check_out(r);
    ENSURE(!r->is_ended && r->used_bytes == f->text.len);
    for (size_t i = 0; i < f->text.len; i++) {
        char c = f->text.at[i];
        if (c == '\n' && (i == 0 || f->text.at[i - 1] != '\r')) {
            bare++;
            ENSURE(at < r->out.len && r->out.at[at++] == '\r');
        }
        ENSURE(at < r->out.len && r->out.at[at++] == c);
    }
    ENSURE(at == r->out.len && bare == r->bare_lf_count);
}

static void check_same(const struct result *a, const struct result *b)
{
    ENSURE(span_equals(buf_span(&a->out), buf_span(&b->out)));
    ENSURE(a->used_bytes == b->used_bytes && a->is_ended == b->is_ended);
    ENSURE(a->bare_lf_count == b->bare_lf_count && a->bare_cr_count == b->bare_cr_count);
}

void fuzz_one(struct fuzz *f)
{
    for (int is_bdat = 0; is_bdat < 2; is_bdat++) {
        struct result pieces = { 0 }, whole = { 0 };
        fuzz_cut_pieces(f);
        run(f, is_bdat, &pieces);
        fuzz_cut_whole(f);
        run(f, is_bdat, &whole);
        check_same(&pieces, &whole);
        if (is_bdat)
            check_bdat(f, &whole);
        else
            check_data(f, &whole);
        buf_fini(&pieces.out);
        buf_fini(&whole.out);
    }
}
