/* XCLIENT's attributes: whatever they are, what comes out can be printed. */
#include "fuzz/fuzz.h"
#include "protocol/xclient.h"

static void check(const struct xclient *x)
{
    ENSURE(fuzz_is_printable(span_of(x->peer->address)));
    ENSURE(fuzz_is_printable(span_of(x->peer->name)));
    ENSURE(fuzz_is_printable(span_of(x->peer->reverse_name)));
    ENSURE(x->helo == NULL || fuzz_is_printable(span_of(x->helo)));
}

void fuzz_one(struct fuzz *f)
{
    const struct ip client = { 4, { 192, 0, 2, 1 } }, server = { 4, { 192, 0, 2, 2 } };
    struct smtp_peer peer;
    struct xclient x = { .peer = &peer };
    struct buf wire = { 0 };
    smtp_peer_init(&peer, &client, 1234, &server, 25);
    const struct smtp_reply *refusal = xclient_parse(f->text, &f->memory, &x);
    if (refusal == NULL) {
        check(&x);
    } else {
        ENSURE(refusal->code >= 400);
        smtp_reply_write(&wire, refusal);
        ENSURE(fuzz_replies(buf_span(&wire)) == 1);
    }
    buf_fini(&wire);
    smtp_peer_fini(&peer);
}
