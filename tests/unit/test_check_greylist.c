/* check_greylist: who is asked to wait, under which name, in which words (spec 11.1). When a
 * record is ripe is greylist's own business (test_greylist.c). */
#include "verdicts.h"

#define GREY  RECIPIENT "check_greylist"
#define NO_SPF "TXT ok.test = -\n"
#define ID    NO_SPF "GREYLIST ptr:ok.test/s@ok.test/alice@example.org\tptr:ok.test = "
#define MX    "name=mx.ok.test"
#define NET   "GREYLIST 192.0.2.0/24/s@ok.test/alice@example.org\t192.0.2.10 = "

static const struct verdict_case cases[] = {
    { "passed before", GREY, MX, ID "pass", "ok" },
    { "a proven client", GREY, MX, ID "known", "ok" },
    { "allowed by hand", GREY, MX, ID "allowed", "ok" },
    { "must be asked", GREY, MX, "TXT ok.test = -", "needs GREYLIST ptr:ok.test/s@ok.test/alice@example.org\tptr:ok.test" },
    { "nobody knows", GREY, MX, ID "?", "ok | general: the greylist cannot answer: the rule is passed over" },
    { "rubbish", GREY, MX, ID "soon", "ok | general: the greylist cannot answer: the rule is passed over" },
    { "without a name by network", GREY, "name=-", NO_SPF NET "pass", "ok" },
    { "an unconfirmed name is none", GREY, "name=! reverse=good.client.test", NO_SPF NET "pass", "ok" },
    { "one handed out by the dozen is none", GREY, "name=192-0-2-10.dyn.ok.test", NO_SPF NET "pass", "ok" },
    { "SPF says whose it is", GREY, MX, "TXT ok.test = \"v=spf1 ip4:192.0.2.10 -all\"\n"
      "GREYLIST spf:ok.test/s@ok.test/alice@example.org\tspf:ok.test = pass", "ok" },
    { "always by network", GREY "\ngreylist_key = network", "", NET "pass", "ok" },
    { "always by address", GREY "\ngreylist_key = address", "",
      "GREYLIST 192.0.2.10/32/s@ok.test/alice@example.org\t192.0.2.10 = pass", "ok" },
    { "the address that mail will have", GREY, MX " to=ALICE+x@Example.ORG from=S+tag@OK.test",
      NO_SPF "GREYLIST ptr:ok.test/s@ok.test/alice+x@example.org\tptr:ok.test = pass", "ok" },

    /* not asked */
    { "the null sender", GREY, "from=", "", "ok" },
    { "no sender", GREY, "from=- stage=VRFY", "", "ok" },
    { "no recipient", DATA "check_greylist", "to=- stage=DATA count=2", "", "ok" },
    { "clients of ours", GREY, "client=127.0.0.5 name=localhost", "", "ok" },
    { "other clients", GREY "\ngreylist_exempt_clients = .ok.test", MX, "", "ok" },
    { "by user@", GREY "\ngreylist_exempt_recipients = alice@", "", "", "ok" },
    { "by address", GREY "\ngreylist_exempt_recipients = alice@example.org", "to=alice+x@example.org", "", "ok" },
    { "by domain", GREY "\ngreylist_exempt_recipients = example.org", "", "", "ok" },
    { "unknown users are told so", GREY, "to=nobody@example.org", "",
      "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in local recipient table" },
    { "foreign ones are others' business", RECIPIENT "check_greylist, reject", "to=u@foreign.test", "",
      "554 5.7.1 <u@foreign.test>: Relay access denied" },
    { "on an allow list", GREY "\ngreylist_exempt_dnswl = wl.test=127.0.0.2", MX, "A 10.2.0.192.wl.test = 127.0.0.2", "ok" },
    { "not on it", GREY "\ngreylist_exempt_dnswl = wl.test=127.0.0.2", MX, "A 10.2.0.192.wl.test = -\n" ID "pass", "ok" },
    { "a list that cannot answer", GREY "\ngreylist_exempt_dnswl = wl.test=127.0.0.2", MX, "A 10.2.0.192.wl.test = ?\n" ID "pass", "ok" },
};

Test(check_greylist, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}

static const struct verdict_case words[] = {
    { "wait", GREY "\ngreylist_text = come in %s s, %r", MX, ID "wait 120", "450 4.2.0 " ON_RECIPIENT "come in 120 s, example.org" },
    { "a refusal behind it wins", GREY ", reject", MX, ID "wait 120", "554 5.7.1 " ON_RECIPIENT "Access denied" },
    { "unless it is final", GREY ", reject\ngreylist_action = defer\ngreylist_text = later", MX, ID "wait 120",
      "450 4.2.0 " ON_RECIPIENT "later" },
    { "as a warning", RECIPIENT "warn_if_reject check_greylist\ngreylist_text = later", MX, ID "wait 120",
      "ok | reject_warning: 450 4.2.0 " ON_RECIPIENT "later" },
    { "told in a header", GREY "\ngreylist_header = X-Late: %t by %h on %d", MX, ID "first 310",
      "ok | prepend X-Late: 310 by mx.example.org on Tue, 14 Nov 2023 22:13:20 +0000" },
    { "or not", GREY "\ngreylist_header =", MX, ID "first 310", "ok" },
};

Test(check_greylist, words)
{
    cases_run(words, ARRAY_LEN(words));
}
