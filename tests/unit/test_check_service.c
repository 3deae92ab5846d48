/* check_policy_service: what is asked, and what comes of the answers (spec 11.2, 4.4). */
#include "verdicts.h"

#include "policy/policy_server.h"

#define ASK    RECIPIENT "check_policy_service inet:127.0.0.1:10023"
#define PROBLEM " | warning: problem talking to server inet:127.0.0.1:10023"
#define UNAVAILABLE "451 4.3.5 " ON_RECIPIENT "Server configuration problem" PROBLEM

static const struct verdict_case cases[] = {
    { "DUNNO", ASK, "", "POLICY = DUNNO", "ok" },
    { "OK ends the list", ASK ", reject", "", "POLICY = OK", "ok" },
    { "REJECT", ASK, "", "POLICY = REJECT go", "554 5.7.1 " ON_RECIPIENT "go" },
    { "a code", ASK, "", "POLICY = 450 4.7.2 wait", "450 4.7.2 " ON_RECIPIENT "wait" },
    /* spec, appendix A 42: the flag comes before the unknown user */
    { "defer_if_permit", ASK, "to=nobody@example.org", "POLICY = defer_if_permit 4.2.0 Greylisted",
      "450 4.2.0 <nobody@example.org>: Recipient address rejected: Greylisted" },
    { "PREPEND", ASK, "", "POLICY = PREPEND X-Greylist: delayed", "ok | prepend X-Greylist: delayed" },
    { "the subject is the list's", CLIENT "check_policy_service inet:127.0.0.1:10023", "", "POLICY = REJECT",
      "554 5.7.1 " ON_CLIENT "Access denied" },
    { "at DATA", DATA "check_policy_service inet:127.0.0.1:10023", "stage=DATA count=1", "POLICY = REJECT",
      "554 5.7.1 <DATA>: Data command rejected: Access denied" },
    { "a restriction", ASK, "", "POLICY = reject_unlisted_recipient, defer",
      "450 4.3.2 " ON_RECIPIENT "Try again later" },
    { "a bare code refuses", ASK, "", "POLICY = 554",
      "554 5.7.1 " ON_RECIPIENT "Access denied | warning: inet:127.0.0.1:10023: the value is just \"554\", "
      "which is taken as a refusal" },
    { "nonsense", ASK, "", "POLICY = no_such_thing",
      "451 4.3.5 Server configuration error | warning: inet:127.0.0.1:10023: unknown restriction \"no_such_thing\"" },
    /* spec, appendix A 41 and 43 */
    { "nobody there", ASK, "", "POLICY = ?", UNAVAILABLE },
    { "rubbish", ASK, "", "POLICY = !", UNAVAILABLE },
    { "an empty answer is none", ASK, "", "POLICY =", UNAVAILABLE },
    { "the default action", ASK "\nsmtpd_policy_service_default_action = DUNNO", "", "POLICY = ?", "ok" PROBLEM },
    { "of one server", RECIPIENT "check_policy_service { inet:127.0.0.1:10023, default_action=OK }, reject", "",
      "POLICY = ?", "ok | warning: problem talking to server { inet:127.0.0.1:10023, default_action=OK }" },
    { "is asked for", ASK, "", "", "" },
};

Test(check_service, answers)
{
    cases_run(cases, ARRAY_LEN(cases) - 1);
}

/* ------------------------------------------------------------ the request */

static const struct {
    const char *envelope, *lines; /* which must be in it */
} requests[] = {
    { "", "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.10\n"
          "client_name=good.client.test\nclient_port=40000\nreverse_client_name=good.client.test\n"
          "server_address=192.0.2.25\nserver_port=25\nhelo_name=good.client.test\nsender=s@ok.test\n"
          "recipient=alice@example.org\nrecipient_count=0\nqueue_id=\ninstance=1.2.3\nsize=0\netrn_domain=\nstress=\n" },
    { "from=", "sender=\n" },
    { "helo=- name=-", "client_name=unknown\n" },
    { "name=! reverse=r.test", "client_name=unknown\n" },
    { "name=! reverse=r.test", "reverse_client_name=r.test\n" },
    { "client=2001:db8::1", "client_address=2001:db8::1\n" },
    { "to=Alice+X@Example.ORG", "recipient=Alice+X@Example.ORG\n" },
    { "size=1234", "size=1234\n" },
    { "stage=VRFY from=-", "protocol_state=VRFY\n" },
    { "stage=VRFY from=-", "instance=\n" },
    { "", "sasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n" },
    { "", "policy_context=\n" },
    { "from=a\nb@ok.test", "sender=a?b@ok.test\n" },
    { "helo=h\xff", "helo_name=h?\n" },
};

static void take_request(const struct policy *policy, const char *envelope, struct buf *out)
{
    struct trial *t = xcalloc(1, sizeof *t);
    trial_begin(t, "", "");
    if (strchr(envelope, '\n') != NULL) /* no word of an envelope can hold a line end */
        t->in.sender = span_of(strchr(envelope, '=') + 1);
    else
        trial_set(t, envelope);
    cr_expect_eq(trial_run(t, policy), VERDICT_PENDING, "%s", envelope);
    cr_expect_eq(t->outcome.missing.kind, FACT_POLICY);
    buf_add(out, t->outcome.missing.text);
    trial_end(t);
    free(t);
}

Test(check_service, requests)
{
    struct world w = world_of(ASK "\nsmtpd_reject_unlisted_recipient = no");
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct buf got = { 0 };
        take_request(w.policy, requests[i].envelope, &got);
        cr_expect(strstr(buf_text(&got), requests[i].lines) != NULL, "%s\nin\n%s", requests[i].lines, buf_text(&got));
        cr_expect(span_iends(buf_span(&got), SPAN_LITERAL("\n\n")), "an empty line ends it");
        cr_expect(strstr(buf_text(&got), "\n\n") == buf_text(&got) + got.len - 2, "and there is no other");
        buf_fini(&got);
    }
    world_fini(&w);
}

/* ------------------------------------------------------------ arguments */

static const struct {
    const char *argument, *error;
} arguments[] = {
    { "inet:127.0.0.1:10023", NULL },
    { "inet:[::1]:10023", NULL },
    { "unix:private/policy", NULL },
    { "{ inet:127.0.0.1:10023, timeout=10s, { default_action = 450 4.7.1 later } }", NULL },
    { "{ unix:x, try_limit=1, retry_delay=2s, max_idle=1s, max_ttl=2s, request_limit=5, policy_context=a }", NULL },
    { "127.0.0.1:10023", "" },
    { "inet:127.0.0.1", "" },
    { "inet:127.0.0.1:70000", "" },
    { "unix:", "" },
    { "{ inet:127.0.0.1:10023, timeout=soon }", "" },
    { "{ inet:127.0.0.1:10023, no_such_thing=1 }", "" },
    { "{ inet:127.0.0.1:10023, default_action = OK }", "" }, /* needs braces of its own */
    { "{ }", "" },
};

Test(check_service, arguments)
{
    for (size_t i = 0; i < ARRAY_LEN(arguments); i++) {
        struct buf conf = { 0 };
        buf_printf(&conf, WORLD_BASE RECIPIENT "check_policy_service %s\n", arguments[i].argument);
        struct world w = world_try(buf_text(&conf));
        cr_expect_eq(w.problems.error_count, arguments[i].error != NULL ? 1 : 0, "%s: %s", arguments[i].argument,
                     w.problems.first != NULL ? w.problems.first->text : "good");
        buf_fini(&conf);
        world_fini(&w);
    }
}
