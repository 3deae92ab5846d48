/* Command lines and their verbs: cut in pieces they are what they are whole. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_line.h"
#include "protocol/smtp_verb.h"

enum { LIMIT = 60 };

static void check(const struct smtp_line_out *line)
{
    struct span rest = line->text, word;
    ENSURE(line->text.len <= LIMIT);
    ENSURE(span_find(line->text, '\n') == line->text.len);
    enum smtp_verb verb = smtp_verb_parse(&rest, &word);
    ENSURE(verb < SMTP_VERB_COUNT);
    ENSURE(word.len + rest.len <= line->text.len);
    ENSURE(verb == SMTP_VERB_UNKNOWN || span_iequals(word, span_of(smtp_verbs[verb].name)));
    ENSURE(rest.len == 0 || (!ascii_is_space(rest.at[0]) && !ascii_is_space(rest.at[rest.len - 1])));
}

static void run(struct fuzz *f, struct buf *seen)
{
    struct smtp_line l = { .limit_bytes = LIMIT };
    struct smtp_line_out line;
    struct span text = f->text, piece;
    while (fuzz_piece(f, &text, &piece)) {
        while (smtp_line_next(&l, &piece, &line)) {
            check(&line);
            buf_printf(seen, "%d%d%zu:", line.is_bare_lf, line.is_too_long, line.text.len);
            buf_add(seen, line.text);
        }
        ENSURE(piece.len == 0);
        ENSURE(l.partial.len <= LIMIT + 1);
    }
    smtp_line_fini(&l);
}

void fuzz_one(struct fuzz *f)
{
    struct buf pieces = { 0 }, whole = { 0 };
    run(f, &pieces);
    fuzz_cut_whole(f);
    run(f, &whole);
    ENSURE(span_equals(buf_span(&pieces), buf_span(&whole)));
    buf_fini(&pieces);
    buf_fini(&whole);
}
