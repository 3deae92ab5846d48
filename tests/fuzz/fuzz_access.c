/* Actions of access tables, and the answers of policy servers with such actions: whatever they say
 * becomes a verdict whose reply is well-formed, and the same one every time. */
#include "fuzz/fuzz.h"
#include "policy/access.h"
#include "policy/policy_server.h"
#include "protocol/text.h"
#include "server/config.h"

static const char main_cf[] =
    "myhostname = mx.example.org\n"
    "virtual_mailbox_domains = example.org\n"
    "virtual_mailbox_maps = inline:{ {a@example.org=a/} }\n"
    "smtpd_restriction_classes = strict\n"
    "strict = reject_non_fqdn_sender, check_sender_access inline:{ {x.test=strict} }\n"
    "smtpd_relay_restrictions = reject_unauth_destination\n";

static struct config *config;

void fuzz_begin(void)
{
    struct problems problems = { 0 };
    config = config_load("/nonexistent/main.cf", main_cf, &problems);
    ENSURE(problems.error_count == 0);
    problems_fini(&problems);
}

static void check_reply(const struct smtp_reply *reply)
{
    struct buf wire = { 0 };
    if (reply->code == 0)
        return;
    ENSURE(reply->code >= 400 && reply->code <= 599);
    smtp_reply_write(&wire, reply);
    ENSURE(fuzz_replies(buf_span(&wire)) == 1);
    buf_fini(&wire);
}

static void check(const struct outcome *out, enum verdict verdict)
{
    ENSURE((verdict == VERDICT_REJECT) == (out->reply.code != 0));
    check_reply(&out->reply);
    check_reply(&out->raised);
    for (const struct text_item *p = out->prepends; p != NULL; p = p->next)
        ENSURE(fuzz_is_printable(span_of(p->text)));
}

static void describe(const struct outcome *out, enum verdict verdict, struct buf *text)
{
    buf_printf(text, "%d %d %d %d %d ", verdict, out->reply.code, out->raised.code,
               out->is_discard, out->is_hold);
    buf_puts(text, out->reply.text != NULL ? out->reply.text : "");
    buf_puts(text, out->redirect != NULL ? out->redirect : "");
}

static void apply(struct span action, enum subject subject, struct buf *text)
{
    const struct ip client = { 4, { 192, 0, 2, 1 } };
    struct facts facts = { 0 };
    struct outcome out = { 0 };
    struct smtp_peer peer;
    struct eval e;
    smtp_peer_init(&peer, &client, 1234, &client, 25);
    const struct envelope_in in = {
        .stage = STAGE_RCPT, .peer = &peer, .helo = "h.test", .protocol = "ESMTP", .queue_id = "",
        .has_sender = true, .has_recipient = true, .sender = SPAN_LITERAL("s@x.test"),
        .recipient = SPAN_LITERAL("a@example.org"), .instance = "1", .tls_protocol = "",
        .tls_cipher = "", .tls_sni = "", .date = "", .now_ms = 1,
    };
    eval_begin(&e, config->policy, &in, &facts, &out);
    enum verdict verdict = access_apply(&e, action, subject, "inline:table");
    check(&out, verdict);
    describe(&out, verdict, text);
    outcome_fini(&out);
    facts_fini(&facts);
    smtp_peer_fini(&peer);
}

static void apply_twice(struct span action, enum subject subject)
{
    struct buf once = { 0 }, again = { 0 };
    apply(action, subject, &once);
    apply(action, subject, &again);
    ENSURE(span_equals(buf_span(&once), buf_span(&again)));
    buf_fini(&once);
    buf_fini(&again);
}

void fuzz_one(struct fuzz *f)
{
    enum subject subject = SUBJECT_CLIENT + f->seed % SUBJECT_END_OF_DATA;
    struct span action;
    if (fuzz_names_files(f->text))
        return;
    apply_twice(f->text, subject);
    if (policy_server_action(f->text, &action)) {
        ENSURE(utf8_is_valid(action) && span_find(action, '\n') == action.len);
        apply_twice(action, subject);
    }
}
