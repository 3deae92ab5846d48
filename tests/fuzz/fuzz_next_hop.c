/* Next hops as texts, questions to them, and what is remembered of their answers. */
#include "fuzz/fuzz.h"
#include "policy/probe.h"
#include "policy/transport.h"
#include "policy/verify.h"
#include "protocol/params.h"
#include "protocol/smtp_reply.h"
#include "queue/next_hop.h"

static void hops(struct fuzz *f)
{
    struct transport transport;
    struct next_hop hop;
    struct probe probe;
    struct buf target = { 0 };
    const char *text = arena_text(&f->memory, f->text);
    if (strlen(text) < f->text.len)
        return; /* no configuration holds a NUL */
    next_hop_parse(LMTP_PROTOCOL_LMTP, text, &f->memory, &hop);
    if (next_hop_parse(LMTP_PROTOCOL_SMTP, text, &f->memory, &hop) == NULL)
        ENSURE(hop.path != NULL || hop.host != NULL);
    if (transport_parse(f->text, &f->memory, &transport) == NULL
        && probe_target(&target, &transport))
        ENSURE(probe_target_parse(buf_span(&target), &probe));
    buf_fini(&target);
}

static void questions(struct fuzz *f)
{
    struct probe probe;
    struct smtp_reply reply;
    struct buf wire = { 0 };
    probe_key_parse(f->text, &probe);
    probe_target_parse(f->text, &probe);
    if (probe_answer_parse(f->text, &f->memory, &reply)) {
        ENSURE(reply.code >= 200 && reply.code <= 599);
        smtp_reply_write(&wire, &reply);
        ENSURE(fuzz_replies(buf_span(&wire)) == 1);
    }
    buf_fini(&wire);
}

static void entries(struct fuzz *f)
{
    struct verify_entry e, again;
    struct buf text = { 0 };
    const struct params p = { 0 };
    bool is_due;
    if (!verify_entry_parse(f->text, &e))
        return;
    ENSURE(e.status <= VERIFY_BOUNCE && strlen(e.text) <= VERIFY_TEXT_MAX);
    verify_entry_print(&text, &e);
    ENSURE(verify_entry_parse(buf_span(&text), &again));
    ENSURE(again.status == e.status && again.updated_s == e.updated_s);
    ENSURE(strcmp(again.text, e.text) == 0);
    ENSURE(verify_look(&e, &p, 1700000000, &is_due) <= VERIFY_BOUNCE);
    verify_keep_until(&e, &p, 1700000000);
    buf_fini(&text);
}

static void answers(struct fuzz *f)
{
    enum verify_status status;
    struct span why, target, address;
    struct buf text = { 0 };
    int round;
    if (verify_answer_parse(f->text, &status, &why))
        ENSURE(status <= VERIFY_BOUNCE && why.len <= f->text.len);
    if (verify_key_parse(f->text, &round, &target, &address)) {
        ENSURE(target.len + address.len < f->text.len);
        verify_key(&text, round, target, address);
        struct span t, a;
        int r;
        ENSURE(verify_key_parse(buf_span(&text), &r, &t, &a));
        ENSURE(r == round && span_equals(t, target) && span_equals(a, address));
    }
    buf_fini(&text);
}

void fuzz_one(struct fuzz *f)
{
    hops(f);
    questions(f);
    entries(f);
    answers(f);
}
