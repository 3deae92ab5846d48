/* reject_rbl_client, reject_rhsbl_*, permit_dnswl_client, permit_rhswl_client (spec 5). */
#include "verdicts.h"

#include "policy/dnsbl.h"

#include <stdio.h>

#define Q       "10.2.0.192.bl.test"
#define Q6      "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test"
#define RBL     CLIENT "reject_rbl_client bl.test"
#define BLOCKED(class, what, list) "554 5.7.1 Service unavailable; " class " [" what "] blocked using " list
#define BY_IP   BLOCKED("Client host", "192.0.2.10", "bl.test")
#define REPLIES(map) "rbl_reply_maps = inline:{ {" map "} }\n"
#define TEMPLATE(text) "default_rbl_reply = " text "\n"
#define HIT     "A " Q " = 127.0.0.2\nTXT " Q " = "
#define WL      CLIENT "permit_dnswl_client wl.test=127.0.0.[2..4], reject"
#define QW      "10.2.0.192.wl.test"

static const struct verdict_case lists[] = {
    /* spec, appendix A 25 to 28 */
    { "listed, with words", RBL, "", HIT "\"because\"", BY_IP "; because" },
    { "listed, without", RBL, "", HIT "-", BY_IP },
    { "words not now", RBL, "", HIT "?", BY_IP },
    { "several words", RBL, "", HIT "\"one, two\", \"three\"", BY_IP "; one, two / three" },
    { "not listed", RBL, "", "A " Q " = -", "ok" },
    { "not now", RBL, "", "A " Q " = ?", "ok | general: bl.test could not be asked: the rule is passed over" },
    { "rubbish", RBL, "", "A " Q " = !", "ok | general: bl.test could not be asked: the rule is passed over" },
    { "IPv6", RBL, "client=2001:db8::1", "A " Q6 " = 127.0.0.2\nTXT " Q6 " = -", BLOCKED("Client host", "2001:db8::1", "bl.test") },
    { "a mapped address", RBL, "client=::ffff:192.0.2.10", HIT "-", BY_IP },
    { "the old name", CLIENT "reject_rbl bl.test", "", HIT "-", BY_IP },
    { "the filter takes it", CLIENT "reject_rbl_client bl.test=127.0.0.[4..9;11]", "",
      "A " Q " = 127.0.0.2, 127.0.0.4\nTXT " Q " = -", BY_IP },
    { "the filter does not", CLIENT "reject_rbl_client bl.test=127.0.0.[4..9;11]", "", "A " Q " = 127.0.0.10", "ok" },
    { "its code", RBL "\nmaps_rbl_reject_code = 451", "", HIT "-",
      "451 4.7.1 Service unavailable; Client host [192.0.2.10] blocked using bl.test" },
    { "in capitals", CLIENT "reject_rbl_client BL.test.", "", HIT "-", BY_IP },
    { "in another list", RECIPIENT "reject_rbl_client bl.test", "", HIT "-", BY_IP },
    { "as a warning", CLIENT "warn_if_reject reject_rbl_client bl.test", "", HIT "-", "ok | reject_warning: " BY_IP },
    { "the same list twice is asked once", RBL ", reject_rbl_client bl.test=127.0.0.3", "", "A " Q " = -", "ok" },

    { "client name", CLIENT "reject_rhsbl_client rhs.test", "", "A good.client.test.rhs.test = 127.0.0.2\n"
      "TXT good.client.test.rhs.test = -", BLOCKED("Client host", "good.client.test", "rhs.test") },
    { "no parents", CLIENT "reject_rhsbl_client rhs.test", "", "A good.client.test.rhs.test = -", "ok" },
    { "no name", CLIENT "reject_rhsbl_client rhs.test", "name=! reverse=r.test", "", "ok" },
    { "PTR name", CLIENT "reject_rhsbl_reverse_client rhs.test", "name=! reverse=r.test",
      "A r.test.rhs.test = 127.0.0.2\nTXT r.test.rhs.test = -", BLOCKED("Unverified Client host", "r.test", "rhs.test") },
    { "no PTR name", CLIENT "reject_rhsbl_reverse_client rhs.test", "name=-", "", "ok" },
    { "HELO", HELO "reject_rhsbl_helo rhs.test", "helo=h.test", "A h.test.rhs.test = 127.0.0.2\nTXT h.test.rhs.test = -",
      BLOCKED("Helo command", "h.test", "rhs.test") },
    { "a HELO literal", HELO "reject_rhsbl_helo rhs.test", "helo=[1.2.3.4]", "", "ok" },
    { "an address", HELO "reject_rhsbl_helo rhs.test", "helo=1.2.3.4", "", "ok" },
    { "a numeric end", HELO "reject_rhsbl_helo rhs.test", "helo=a.4", "", "ok" },
    { "no name at all", HELO "reject_rhsbl_helo rhs.test", "helo=a..b", "", "ok" },
    { "no HELO", CLIENT "reject_rhsbl_helo rhs.test", "helo=-", "", "ok" },
    { "sender", SENDER "reject_rhsbl_sender rhs.test", "from=u@ok.test", "A ok.test.rhs.test = 127.0.0.2\nTXT ok.test.rhs.test = -",
      BLOCKED("Sender address", "u@ok.test", "rhs.test") },
    { "a domain below it", SENDER "reject_rhsbl_sender rhs.test", "from=u@sub.ok.test", "A sub.ok.test.rhs.test = -", "ok" },
    { "a literal", SENDER "reject_rhsbl_sender rhs.test", "from=u@[1.2.3.4]", "", "ok" },
    { "the null sender", SENDER "reject_rhsbl_sender rhs.test", "from=", "", "ok" },
    { "no sender", CLIENT "reject_rhsbl_sender rhs.test", "from=-", "", "ok" },
    { "recipient", RECIPIENT "reject_rhsbl_recipient rhs.test", "", "A example.org.rhs.test = 127.0.0.2\nTXT example.org.rhs.test = -",
      BLOCKED("Recipient address", "alice@example.org", "rhs.test") },
    { "no recipient", DATA "reject_rhsbl_recipient rhs.test", "to=- stage=DATA count=2", "", "ok" },

    /* the guard */
    { "an error answer", RBL, "", "A " Q " = 127.255.255.254",
      "ok | general: bl.test answers 127.255.255.254, which is no listing: the answer is ignored" },
    { "a wildcard", RBL, "", "A " Q " = 198.51.100.1",
      "ok | general: bl.test answers 198.51.100.1, which is no listing: the answer is ignored" },
    { "plain Postfix", "dns_list_guard = no\n" RBL, "", "A " Q " = 198.51.100.1\nTXT " Q " = -", BY_IP },

    /* replies (spec 5.4) */
    { "a reply of one's own", REPLIES("bl.test=550 5.7.2 no: $$rbl_domain") RBL, "", HIT "-", "550 5.7.2 no: bl.test" },
    { "by the whole argument, then the domain", "rbl_reply_maps = pcre:{ {/^bl\\.test=127\\.0\\.0\\.2$/ 550 whole} }\n"
      CLIENT "reject_rbl_client bl.test=127.0.0.2", "", HIT "-", "550 5.7.1 whole" },
    { "the domain", REPLIES("bl.test=550 domain") CLIENT "reject_rbl_client bl.test=127.0.0.2", "", HIT "-", "550 5.7.1 domain" },
    { "another list's", REPLIES("other.test=550 domain") RBL, "", HIT "-", BY_IP },
    { "4xx has its own class", TEMPLATE("451 5.7.1 later") RBL, "", HIT "-", "451 4.7.1 later" },
    { "no code", TEMPLATE("nonsense") RBL, "", HIT "-", "450 4.7.1 Service unavailable" },
    { "a code that does not refuse", TEMPLATE("250 fine") RBL, "", HIT "-", "450 4.7.1 Service unavailable" },
    { "broken", REPLIES("bl.test=550 $$(rbl_domain") RBL, "", HIT "-", BY_IP },
    { "macros", TEMPLATE("550 $rbl_code $rbl_domain $rbl_class $rbl_what $rbl_reason $rbl_txt $client $client_address "
                         "$client_name $client_port $reverse_client_name $helo_name $server_name") RBL, "", HIT "\"why\"",
      "550 5.7.1 554 bl.test Client host 192.0.2.10 why why good.client.test[192.0.2.10] 192.0.2.10 good.client.test 40000 "
      "good.client.test good.client.test mx.example.org" },
    { "of addresses", TEMPLATE("550 $sender $sender_name $sender_domain $recipient $recipient_name $recipient_domain") RBL, "",
      HIT "-", "550 5.7.1 s@ok.test s ok.test alice@example.org alice example.org" },
    { "of the null sender", TEMPLATE("550 $sender $sender_name x${sender_domain}x") RBL, "from=", HIT "-", "550 5.7.1 <> <> xx" },
    { "if there is a reason", TEMPLATE("550 a${rbl_reason?; $rbl_reason}b${rbl_reason:none}") RBL, "", HIT "\"y\"", "550 5.7.1 a; yb" },
    { "if there is none", TEMPLATE("550 a${rbl_reason?; $rbl_reason}b${rbl_reason:none}") RBL, "", HIT "-", "550 5.7.1 abnone" },
    { "what a stranger wrote is made harmless", TEMPLATE("550 $rbl_reason") RBL, "", HIT "\"a\x01z\"", "550 5.7.1 a_z" },

    /* allow lists (spec 5.5) */
    { "allowed", WL, "", "A " QW " = 127.0.0.3", "ok" },
    { "not allowed", WL, "", "A " QW " = -", "554 5.7.1 " ON_CLIENT "Access denied" },
    { "not by this answer", WL, "", "A " QW " = 127.0.0.9", "554 5.7.1 " ON_CLIENT "Access denied" },
    { "an error answer allows nobody", CLIENT "permit_dnswl_client wl.test, reject", "", "A " QW " = 127.0.0.255",
      "554 5.7.1 " ON_CLIENT "Access denied | general: wl.test answers 127.0.0.255, which is no listing: "
      "the answer is ignored" },
    { "not now: a refusal becomes temporary", WL, "", "A " QW " = ?",
      "450 4.7.1 <192.0.2.10>: Client host rejected: Service unavailable" },
    { "not now, and nobody refuses", CLIENT "permit_dnswl_client wl.test=127.0.0.2", "", "A " QW " = ?", "ok" },
    { "foreign recipients are not asked for", RELAY "permit_dnswl_client wl.test=127.0.0.2, reject_unauth_destination",
      "to=u@foreign.test", "", "554 5.7.1 <u@foreign.test>: Relay access denied" },
    { "nor detours", RELAY "permit_dnswl_client wl.test=127.0.0.2, reject_unauth_destination", "to=erin%x@relay.test", "",
      "554 5.7.1 <erin%x@relay.test>: Relay access denied" },
    { "before RCPT there is none", "smtpd_delay_reject = no\n" WL, "stage=CONNECT helo=- from=- to=-", "A " QW " = 127.0.0.3", "ok" },
    { "by name", CLIENT "permit_rhswl_client wl.test=127.0.0.2, reject", "", "A good.client.test.wl.test = 127.0.0.2", "ok" },
    { "not now", CLIENT "permit_rhswl_client wl.test=127.0.0.2, reject", "", "A good.client.test.wl.test = ?",
      "450 4.7.1 <good.client.test>: Client host rejected: Service unavailable" },
    { "without a name", CLIENT "permit_rhswl_client wl.test=127.0.0.2, reject", "name=-", "",
      "554 5.7.1 <unknown[192.0.2.10]>: Client host rejected: Access denied" },
    { "in front of a block list", CLIENT "permit_dnswl_client wl.test=127.0.0.2, reject_rbl_client bl.test", "",
      "A " QW " = 127.0.0.2", "ok" },
};

Test(check_dnsbl, by_table)
{
    cases_run(lists, ARRAY_LEN(lists));
}

/* A list that failed its self-test is not even asked, unless it is to be as with Postfix. */
Test(check_dnsbl, a_suspended_list_has_nothing_to_say)
{
    static const char *const guards[] = { "yes", "no" };
    for (size_t i = 0; i < 2; i++) {
        char conf[200];
        snprintf(conf, sizeof conf, "dns_list_guard = %s\n%s", guards[i], RBL);
        struct world w = world_of(conf);
        struct trial *t = xcalloc(1, sizeof *t);
        trial_begin(t, "", HIT "-");
        for (struct dnsbl *d = w.policy->dnsbls; d != NULL; d = d->next)
            atomic_store(&d->is_suspended, true);
        cr_expect_eq(trial_run(t, w.policy), i == 0 ? VERDICT_DUNNO : VERDICT_REJECT, "%s", guards[i]);
        cr_expect_eq(t->given[0].is_asked, i == 1);
        trial_end(t);
        free(t);
        world_fini(&w);
    }
}

/* Lists that stand together are asked together, but only as far as nothing else is in between. */
Test(check_dnsbl, neighbours_are_asked_in_parallel)
{
    struct world w = world_of(CLIENT "reject_rbl_client a.test, reject_rhsbl_helo b.test, permit_dnswl_client "
                                     "d.test=127.0.0.2, reject_rbl_client c.test");
    struct trial *t = xcalloc(1, sizeof *t);
    trial_begin(t, "", "");
    cr_expect_eq(trial_run(t, w.policy), VERDICT_PENDING);
    cr_expect(span_equals(t->outcome.missing.text, SPAN_LITERAL("10.2.0.192.a.test")));
    cr_expect_eq(t->outcome.also_count, 1);
    cr_expect(span_equals(t->outcome.also[0].text, SPAN_LITERAL("good.client.test.b.test")));
    trial_end(t);
    free(t);
    world_fini(&w);
}
