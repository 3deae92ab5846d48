/* Escaping, xtext and replies: what a peer's bytes become is one printable line. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_reply.h"
#include "protocol/text.h"

static void escape(struct fuzz *f)
{
    struct buf once = { 0 }, twice = { 0 };
    size_t max = 4 + seeded_below(&f->random, 200);
    text_escape(&once, f->text, max);
    ENSURE(once.len <= max + 3 && fuzz_is_printable(buf_span(&once)));
    text_escape(&twice, buf_span(&once), once.len + 1);
    ENSURE(span_equals(buf_span(&once), buf_span(&twice)));
    const char *copy = text_escaped(&f->memory, f->text, max);
    ENSURE(span_equals(span_of(copy), buf_span(&once)));
    buf_fini(&once);
    buf_fini(&twice);
}

static void xtext(struct fuzz *f)
{
    struct buf coded = { 0 }, back = { 0 }, decoded = { 0 };
    xtext_encode(&coded, f->text);
    ENSURE(fuzz_is_printable(buf_span(&coded)));
    if (xtext_decode(buf_span(&coded), &back))
        ENSURE(span_equals(buf_span(&back), f->text));
    if (xtext_decode(f->text, &decoded))
        ENSURE(fuzz_is_printable(buf_span(&decoded)) && decoded.len <= f->text.len);
    buf_fini(&coded);
    buf_fini(&back);
    buf_fini(&decoded);
}

static void reply(struct fuzz *f)
{
    static const char *const enhanced[] = { NULL, "", "5.7.1", "4.3.0" };
    struct buf wire = { 0 }, line = { 0 };
    char room[16];
    struct smtp_reply r = { 550, enhanced[seeded_below(&f->random, 4)],
                            arena_text(&f->memory, f->text) };
    smtp_reply_write(&wire, &r);
    ENSURE(fuzz_replies(buf_span(&wire)) == 1);
    smtp_reply_print(&line, &r);
    r = smtp_reply_softened(r, room);
    ENSURE(r.code == 450);
    ENSURE(smtp_enhanced_length(f->text) <= f->text.len);
    buf_fini(&wire);
    buf_fini(&line);
}

void fuzz_one(struct fuzz *f)
{
    escape(f);
    xtext(f);
    reply(f);
}
