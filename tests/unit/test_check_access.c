/* check_*_access: which keys are tried, and what each action does (spec 4, 2.9). */
#include "verdicts.h"

#define NO_SUCH_OK "warning: %s"
#define CONFIG_ERROR "451 4.3.5 Server configuration error"
#define C(map) CLIENT "check_client_access inline:{" map "}"
#define S(map) SENDER "check_sender_access inline:{" map "}"
#define R(map) RECIPIENT "check_recipient_access inline:{" map "}"
#define DENIED "Access denied"

/* ------------------------------------------------------------ keys */

static const struct verdict_case keys[] = {
    { "client: its name", C("good.client.test=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "a parent", C("client.test=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "the last one", C("test=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "not with a dot in front", C(".client.test=REJECT"), "", "", "ok" },
    { "unless so configured", "parent_domain_matches_subdomains =\n" C(".client.test=REJECT"), "", "",
      "554 5.7.1 " ON_CLIENT DENIED },
    { "and then not without", "parent_domain_matches_subdomains =\n" C("client.test=REJECT"), "", "", "ok" },
    { "any case", C("Good.Client.TEST=REJECT"), "name=GOOD.client.test", "",
      "554 5.7.1 <GOOD.client.test[192.0.2.10]>: Client host rejected: Access denied" },
    { "its address", C("192.0.2.10=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "its networks", C("192.0.2=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "wider", C("192.0=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "widest", C("192=REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "IPv6", C("2001:db8::1=REJECT"), "client=2001:db8::1", "",
      "554 5.7.1 <good.client.test[2001:db8::1]>: Client host rejected: Access denied" },
    { "its odd network", C("2001:db8:=REJECT"), "client=2001:db8::1", "",
      "554 5.7.1 <good.client.test[2001:db8::1]>: Client host rejected: Access denied" },
    { "its network", C("2001:db8=REJECT"), "client=2001:db8::1", "",
      "554 5.7.1 <good.client.test[2001:db8::1]>: Client host rejected: Access denied" },
    { "a name's parent beats the address", C("client.test=OK, 192.0.2.10=REJECT"), "", "", "ok" },
    { "the nearer key decides, also by DUNNO", C("good.client.test=DUNNO, client.test=REJECT, 192.0.2=REJECT"), "", "",
      "ok" },
    { "no name", C("unknown=REJECT"), "name=-", "", "554 5.7.1 <unknown[192.0.2.10]>: Client host rejected: Access denied" },
    { "only the confirmed name", C("good.client.test=REJECT"), "name=! reverse=good.client.test", "", "ok" },
    { "DUNNO here, on there", C("client.test=DUNNO") ", check_client_access inline:{client.test=REJECT}", "", "",
      "554 5.7.1 " ON_CLIENT DENIED },
    { "a pattern sees the whole name", CLIENT "check_client_access regexp:{ {/^client\\.test$/ REJECT} }", "", "", "ok" },
    { "and the whole address", CLIENT "check_client_access pcre:{ {/^192\\.0\\.2\\.10$/ REJECT} }", "", "",
      "554 5.7.1 " ON_CLIENT DENIED },
    { "networks in cidr", CLIENT "check_client_access cidr:{ {192.0.2.0/24 REJECT} }", "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "the list's own look-up", CLIENT "inline:{192.0.2=REJECT}", "", "", "554 5.7.1 " ON_CLIENT DENIED },

    { "PTR name", CLIENT "check_reverse_client_hostname_access inline:{bad.test=REJECT}", "name=! reverse=x.bad.test", "",
      "554 5.7.1 <x.bad.test>: Unverified Client host rejected: Access denied" },
    { "no PTR name", CLIENT "check_reverse_client_hostname_access inline:{unknown=REJECT}", "name=-", "",
      "554 5.7.1 <unknown>: Unverified Client host rejected: Access denied" },
    { "it must not permit", CLIENT "check_reverse_client_hostname_access inline:{bad.test=OK}", "name=! reverse=x.bad.test", "",
      CONFIG_ERROR " | warning: check_reverse_client_hostname_access inline:{bad.test=OK}: OK is not allowed here, "
      "for the client could make it true; use DUNNO" },

    { "HELO", HELO "check_helo_access inline:{client.test=REJECT}", "", "", "554 5.7.1 " ON_HELO DENIED },
    { "not by address", HELO "check_helo_access inline:{192.0.2.10=REJECT}", "", "", "ok" },
    { "a literal as it is written", HELO "check_helo_access inline:{{[192.0.2.1]=REJECT}}", "helo=[192.0.2.1]", "",
      "554 5.7.1 <[192.0.2.1]>: Helo command rejected: Access denied" },
    { "and in its odd pieces", HELO "check_helo_access inline:{{2.1]=REJECT}}", "helo=[192.0.2.1]", "",
      "554 5.7.1 <[192.0.2.1]>: Helo command rejected: Access denied" },
    { "a dot behind", HELO "check_helo_access inline:{{test.=REJECT}}", "helo=h.test.", "",
      "554 5.7.1 <h.test.>: Helo command rejected: Access denied" },
    { "an address only whole", HELO "check_helo_access inline:{3.4=REJECT}", "helo=1.2.3.4", "", "ok" },
    { "the list's own look-up", HELO "inline:{client.test=REJECT}", "", "", "554 5.7.1 " ON_HELO DENIED },
    { "no HELO in another list", CLIENT "check_helo_access static:REJECT", "helo=-", "", "ok" },

    /* spec 4.3 */
    { "sender: whole", S("s+x@ok.test=REJECT"), "from=s+x@ok.test", "", "554 5.7.1 <s+x@ok.test>: Sender address rejected: Access denied" },
    { "without extension", S("s@ok.test=REJECT"), "from=s+x@ok.test", "", "554 5.7.1 <s+x@ok.test>: Sender address rejected: Access denied" },
    { "its domain", S("ok.test=REJECT"), "", "", "554 5.7.1 " ON_SENDER DENIED },
    { "a parent of it", S("test=REJECT"), "", "", "554 5.7.1 " ON_SENDER DENIED },
    { "user+ext@", S("s+x@=REJECT"), "from=s+x@ok.test", "", "554 5.7.1 <s+x@ok.test>: Sender address rejected: Access denied" },
    { "user@", S("s@=REJECT"), "from=s+x@ok.test", "", "554 5.7.1 <s+x@ok.test>: Sender address rejected: Access denied" },
    { "neither user nor @domain", S("s=REJECT, @ok.test=REJECT"), "", "", "ok" },
    { "in this order: whole", S("s@ok.test=DUNNO, ok.test=REJECT, s@=REJECT"), "", "", "ok" },
    { "domain before user@", S("ok.test=DUNNO, s@=REJECT"), "", "", "ok" },
    { "capitals", S("s@ok.test=REJECT"), "from=S@OK.test", "", "554 5.7.1 <S@OK.test>: Sender address rejected: Access denied" },
    { "quoted", SENDER "check_sender_access inline:{{\"a b\"@ok.test=REJECT}}", "from=a~b@ok.test", "",
      "554 5.7.1 <a b@ok.test>: Sender address rejected: Access denied" },
    { "or not", SENDER "check_sender_access inline:{{a b@ok.test=REJECT}}", "from=a~b@ok.test", "",
      "554 5.7.1 <a b@ok.test>: Sender address rejected: Access denied" },
    { "a pattern sees the whole address", SENDER "check_sender_access pcre:{ {/^s@ok\\.test$/ REJECT} }", "", "",
      "554 5.7.1 " ON_SENDER DENIED },
    { "once", SENDER "check_sender_access pcre:{ {/^ok\\.test$/ REJECT} }", "", "", "ok" },
    { "the null sender", S("<>=REJECT"), "from=", "", "554 5.7.1 <>: Sender address rejected: Access denied" },
    { "by its own key", "smtpd_null_access_lookup_key = nobody\n" S("nobody=REJECT"), "from=", "",
      "554 5.7.1 <>: Sender address rejected: Access denied" },
    { "in patterns too", SENDER "check_sender_access pcre:{ {/^<>$/ REJECT} }", "from=", "",
      "554 5.7.1 <>: Sender address rejected: Access denied" },
    { "no MAIL", CLIENT "check_sender_access static:REJECT", "from=-", "", "ok" },
    { "the list's own look-up", SENDER "inline:{ok.test=REJECT}", "", "", "554 5.7.1 " ON_SENDER DENIED },
    { "recipient", R("alice@example.org=REJECT"), "to=Alice+x@Example.org", "",
      "554 5.7.1 <Alice+x@Example.org>: Recipient address rejected: Access denied" },
    { "of relay and recipient list", RELAY "inline:{example.org=REJECT}, reject", "", "", "554 5.7.1 " ON_RECIPIENT DENIED },
    { "without domain it has ours", R("alice@example.org=REJECT"), "to=alice", "",
      "554 5.7.1 <alice>: Recipient address rejected: Access denied" },
    { "an OK in the relay list relays", RELAY "check_recipient_access inline:{foreign.test=OK}, reject", "to=u@foreign.test", "", "ok" },
    { "but not by a detour", RELAY "check_recipient_access inline:{relay.test=OK}, reject", "to=erin%x@relay.test", "",
      "554 5.7.1 <erin%x@relay.test>: Recipient address rejected: Access denied" },
    { "no recipient", DATA "check_recipient_access static:REJECT", "to=- stage=DATA count=2", "", "ok" },
    { "a single one", DATA "check_recipient_access static:REJECT", "stage=DATA count=1", "",
      "554 5.7.1 " ON_RECIPIENT DENIED },

    { "a table that fails: client", CLIENT "check_client_access fail:x", "", "", "451 4.3.5 " ON_CLIENT "Server configuration error" },
    { "HELO", HELO "check_helo_access fail:x", "", "", "451 4.3.5 " ON_HELO "Server configuration error" },
    { "sender", SENDER "check_sender_access fail:x", "", "", "451 4.3.5 " ON_SENDER "Server configuration error" },
    { "recipient", RECIPIENT "check_recipient_access fail:x", "", "", "451 4.3.5 " ON_RECIPIENT "Server configuration error" },
    { "as a warning it accepts", CLIENT "warn_if_reject fail:x", "", "",
      "ok | reject_warning: 451 4.3.5 " ON_CLIENT "Server configuration error" },
};

Test(check_access, keys_by_table)
{
    cases_run(keys, ARRAY_LEN(keys));
}

/* ------------------------------------------------------------ actions */

#define CV(value) CLIENT "check_client_access static:{" value "}"
#define SV(value) SENDER "check_sender_access static:{" value "}"
#define RV(value) RECIPIENT "check_recipient_access static:{" value "}"
#define ODD(value, text) "warning: static:{" value "}: " text

static const struct verdict_case actions[] = {
    { "OK", CV("OK") ", reject", "", "", "ok" },
    { "ok with text", CV("ok because") ", reject", "", "", "ok" },
    { "RELAY", CV("relay") ", reject", "", "", "ok" },
    { "DUNNO", CV("DUNNO text") ", reject", "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "REJECT", CV("REJECT"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "with text", CV("reject go away"), "", "", "554 5.7.1 " ON_CLIENT "go away" },
    { "with status", CV("REJECT 5.3.2 go"), "", "", "554 5.3.2 " ON_CLIENT "go" },
    { "with one of the other class", CV("REJECT 4.7.9 foo"), "", "", "554 5.7.9 " ON_CLIENT "foo" },
    { "with status alone", CV("REJECT 5.3.2"), "", "", "554 5.3.2 " ON_CLIENT DENIED },
    { "its code", CV("REJECT") "\naccess_map_reject_code = 521", "", "", "521 5.7.1 " ON_CLIENT DENIED },
    { "DEFER", CV("DEFER"), "", "", "450 4.7.1 " ON_CLIENT DENIED },
    { "with text", CV("DEFER 4.3.2 soon"), "", "", "450 4.3.2 " ON_CLIENT "soon" },
    { "its code", CV("DEFER") "\naccess_map_defer_code = 451", "", "", "451 4.7.1 " ON_CLIENT DENIED },
    { "a code", CV("550 5.2.1 no more"), "", "", "550 5.2.1 " ON_CLIENT "no more" },
    { "a code without status", CV("550 no more"), "", "", "550 5.7.1 " ON_CLIENT "no more" },
    { "4xx", CV("450 5.7.1 x"), "", "", "450 4.7.1 " ON_CLIENT "x" },
    { "421", CV("421 bye"), "", "", "421 4.7.1 " ON_CLIENT "bye" },
    { "521", CV("521 bye"), "", "", "521 5.7.1 " ON_CLIENT "bye" },
    { "a bare code is the refusal it was meant to be", CV("554"), "", "",
      "554 5.7.1 " ON_CLIENT DENIED " | " ODD("554", "the value is just \"554\", which is taken as a refusal") },
    { "4xx too", CV("450"), "", "",
      "450 4.7.1 " ON_CLIENT DENIED " | " ODD("450", "the value is just \"450\", which is taken as a refusal") },
    { "as Postfix takes it", "access_map_bare_code_permits = yes\n" CV("554") ", reject", "", "",
      "ok | " ODD("554", "the value is just \"554\", which permits") },
    { "all digits permit", CV("1234567890") ", reject", "", "",
      "ok | " ODD("1234567890", "the value is just \"1234567890\", which permits") },
    { "what is no code is a name", CV("600 x"), "", "",
      CONFIG_ERROR " | " ODD("600 x", "unknown restriction \"600\"") },
    { "DEFER_IF_PERMIT", CV("DEFER_IF_PERMIT"), "", "", "450 4.7.1 " ON_CLIENT "Service unavailable" },
    { "with text", CV("defer_if_permit 4.2.0 Greylisted"), "", "", "450 4.2.0 " ON_CLIENT "Greylisted" },
    { "a refusal wins", CV("DEFER_IF_PERMIT") ", reject", "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "its code", CV("DEFER_IF_PERMIT") "\naccess_map_defer_code = 451", "", "", "451 4.7.1 " ON_CLIENT "Service unavailable" },
    { "DEFER_IF_REJECT", CV("DEFER_IF_REJECT"), "", "", "ok" },
    { "softens", CV("DEFER_IF_REJECT later") ", reject", "", "", "450 4.7.1 " ON_CLIENT "later" },
    { "WARN", CV("WARN look"), "", "", "ok | warn: " ON_CLIENT "look" },
    { "INFO", CV("INFO look"), "", "", "ok | info: " ON_CLIENT "look" },
    { "goes on", CV("WARN look") ", reject", "", "", "554 5.7.1 " ON_CLIENT DENIED " | warn: " ON_CLIENT "look" },
    { "HOLD", CV("HOLD"), "", "", "ok | hold: <good.client.test[192.0.2.10]>: Client host triggers HOLD action | hold" },
    { "once a message", CV("HOLD") ", static:HOLD", "", "",
      "ok | hold: <good.client.test[192.0.2.10]>: Client host triggers HOLD action | hold" },
    { "DISCARD", CV("DISCARD") "\n" SENDER "reject", "to=x@foreign.test", "",
      "ok | discard: <good.client.test[192.0.2.10]>: Client host triggers DISCARD action | discard" },
    { "and from then on all is well", SENDER "reject", "discarding to=x@foreign.test", "", "ok" },
    { "PREPEND", CV("PREPEND X-A: b c"), "", "", "ok | prepend X-A: b c" },
    { "in the order of firing", CV("PREPEND X-A: 1") "\n" SV("prepend X-B: 2"), "", "", "ok | prepend X-A: 1 | prepend X-B: 2" },
    { "not a header", CV("PREPEND nothing"), "", "", "ok | " ODD("PREPEND nothing", "PREPEND needs \"name: value\": \"nothing\"") },
    { "too late", END_OF_DATA "check_client_access static:{PREPEND X-A: b}", "stage=END count=1", "",
      "ok | " ODD("PREPEND X-A: b", "PREPEND comes too late at the end of data: \"X-A: b\"") },
    { "REDIRECT, the last one", CV("REDIRECT bob@example.org") "\n" SV("REDIRECT alice@example.org"), "", "",
      "ok | redirect: <good.client.test[192.0.2.10]>: Client host triggers REDIRECT action"
      " | redirect: <s@ok.test>: Sender address triggers REDIRECT action | redirect alice@example.org" },
    { "no address", CV("REDIRECT bob"), "", "", "ok | " ODD("REDIRECT bob", "REDIRECT needs user@domain: \"bob\"") },
    { "BCC, all of them", CV("BCC bob@example.org") "\n" SV("BCC alice@example.org"), "", "",
      "ok | bcc bob@example.org | bcc alice@example.org" },
    { "no address", CV("BCC bob"), "", "", "ok | " ODD("BCC bob", "BCC needs user@domain: \"bob\"") },
    { "FILTER", CV("FILTER smtp:x") ", reject", "", "",
      "554 5.7.1 " ON_CLIENT DENIED " | " ODD("FILTER smtp:x", "FILTER is not served: \"smtp:x\"") },
    { "no effect without a message", "smtpd_delay_reject = no\n" CV("HOLD"), "stage=CONNECT helo=- from=- to=-", "",
      "ok | " ODD("HOLD", "HOLD is ignored before MAIL") },
    { "none of them", "smtpd_delay_reject = no\n" CV("REDIRECT a@b.test"), "stage=CONNECT helo=- from=- to=-", "",
      "ok | " ODD("REDIRECT a@b.test", "REDIRECT is ignored before MAIL") },
    { "at HELO", "smtpd_delay_reject = no\n" HELO "check_client_access static:{DISCARD}", "stage=HELO from=- to=-", "",
      "ok | " ODD("DISCARD", "DISCARD is ignored before MAIL") },

    /* a list in place of an action */
    { "restrictions", CV("permit_mynetworks, reject"), "", "", "554 5.7.1 " ON_CLIENT DENIED },
    { "one that permits", CV("permit") ", reject", "", "", "ok" },
    { "with arguments", CV("reject_rbl_client bl.test"), "", "A 10.2.0.192.bl.test = -", "ok" },
    { "a class", "smtpd_restriction_classes = CLASS\nCLASS = reject_unauth_destination, defer\n" CV("CLASS"), "", "",
      "450 4.3.2 " ON_CLIENT "Try again later" },
    { "whose name's case counts", "smtpd_restriction_classes = CLASS\nCLASS = reject\n" CV("class"), "", "",
      CONFIG_ERROR " | " ODD("class", "unknown restriction \"class\", did you mean \"CLASS\"?") },
    { "no table inside", CV("inline:{a=b}"), "", "",
      CONFIG_ERROR " | " ODD("inline:{a=b}", "a table cannot stand here by itself: \"inline:{a=b}\"") },
    { "nonsense", CV("no_such_thing"), "", "", CONFIG_ERROR " | " ODD("no_such_thing", "unknown restriction \"no_such_thing\"") },
    { "warn_if_reject covers it", CLIENT "warn_if_reject check_client_access static:{reject}", "", "",
      "ok | reject_warning: 554 5.7.1 " ON_CLIENT DENIED },
    { "but no mistake", CLIENT "warn_if_reject check_client_access static:{nonsense}", "", "",
      CONFIG_ERROR " | warning: static:{nonsense}: unknown restriction \"nonsense\"" },

    /* status codes are adapted to what is refused (spec 1.9) */
    { "of an address for a client", CV("550 5.1.1 no such"), "", "", "550 5.0.0 " ON_CLIENT "no such" },
    { "of a recipient for a sender", SV("550 5.1.1 x"), "", "", "550 5.1.7 " ON_SENDER "x" },
    { "2", SV("550 5.1.2 x"), "", "", "550 5.1.8 " ON_SENDER "x" },
    { "3", SV("550 5.1.3 x"), "", "", "550 5.1.7 " ON_SENDER "x" },
    { "4", SV("550 5.1.4 x"), "", "", "550 5.1.7 " ON_SENDER "x" },
    { "5", SV("550 5.1.5 x"), "", "", "550 5.1.0 " ON_SENDER "x" },
    { "6", SV("550 5.1.6 x"), "", "", "550 5.1.7 " ON_SENDER "x" },
    { "7", SV("550 5.1.7 x"), "", "", "550 5.1.7 " ON_SENDER "x" },
    { "8", SV("550 5.1.8 x"), "", "", "550 5.1.8 " ON_SENDER "x" },
    { "9", SV("550 5.1.9 x"), "", "", "550 5.1.0 " ON_SENDER "x" },
    { "by DEFER too", SV("DEFER 5.1.1 x"), "", "", "450 4.1.7 " ON_SENDER "x" },
    { "of a sender for a recipient", RV("550 5.1.8 x"), "", "", "550 5.1.2 " ON_RECIPIENT "x" },
    { "7", RV("550 5.1.7 x"), "", "", "550 5.1.3 " ON_RECIPIENT "x" },
    { "1 to 6 stay", RV("550 5.1.6 x"), "", "", "550 5.1.6 " ON_RECIPIENT "x" },
    { "others do not", RV("550 5.1.0 x"), "", "", "550 5.1.0 " ON_RECIPIENT "x" },
    { "other subjects are free", SV("550 5.7.1 x"), "", "", "550 5.7.1 " ON_SENDER "x" },
    { "a HELO name is no address", HELO "check_helo_access static:{550 5.1.1 x}", "", "", "550 5.0.0 " ON_HELO "x" },
};

Test(check_access, actions_by_table)
{
    cases_run(actions, ARRAY_LEN(actions));
}

/* ------------------------------------------------------------ mx, ns, a */

#define SMX SENDER "check_sender_mx_access "
#define SNS SENDER "check_sender_ns_access "
#define SA  SENDER "check_sender_a_access "
#define FORBIDDEN(row, map) CONFIG_ERROR " | warning: " row " " map ": OK is not allowed here, " \
    "for the client could make it true; use DUNNO"

static const struct verdict_case hosts[] = {
    { "mx: by name", SMX "inline:{mx.ok.test=REJECT}", "", "MX ok.test = 10 mx.ok.test", "554 5.7.1 " ON_SENDER DENIED },
    { "by a parent of its name", SMX "inline:{ok.test=REJECT}", "", "MX ok.test = 10 mx.ok.test", "554 5.7.1 " ON_SENDER DENIED },
    { "by address", SMX "inline:{127.0.0.1=REJECT}", "", "MX ok.test = 10 m.test\nA m.test = 127.0.0.1",
      "554 5.7.1 " ON_SENDER DENIED },
    { "by network", SMX "cidr:{ {10.0.0.0/8 REJECT} }", "", "MX ok.test = 10 m.test\nA m.test = 192.0.2.1, 10.1.1.1",
      "554 5.7.1 " ON_SENDER DENIED },
    { "by IPv6 address", SMX "inline:{2001:db8::1=REJECT}", "",
      "MX ok.test = 10 m.test\nA m.test = -\nAAAA m.test = 2001:db8::1", "554 5.7.1 " ON_SENDER DENIED },
    { "none of them", SMX "inline:{127.0.0.1=REJECT}", "",
      "MX ok.test = 10 a.test, 20 b.test\nA a.test = 192.0.2.1\nAAAA a.test = -\nA b.test = -\nAAAA b.test = -", "ok" },
    { "the second host", SMX "inline:{b.test=REJECT}", "", "MX ok.test = 10 a.test, 20 b.test\nA a.test = -\nAAAA a.test = -",
      "554 5.7.1 " ON_SENDER DENIED },
    { "without MX the domain itself", SMX "inline:{127.0.0.1=REJECT}", "", "MX ok.test = -\nA ok.test = 127.0.0.1",
      "554 5.7.1 " ON_SENDER DENIED },
    { "the null MX has no host", SMX "static:REJECT", "", "MX ok.test = 0 .", "ok" },
    { "a numeric host", SMX "inline:{127.0.0=REJECT}", "", "MX ok.test = 10 127.0.0.1", "554 5.7.1 " ON_SENDER DENIED },
    { "MX not now", SMX "static:REJECT", "", "MX ok.test = ?", "ok | warning: mail host lookup failure for ok.test" },
    { "MX rubbish", SMX "static:REJECT", "", "MX ok.test = !", "ok | warning: mail host lookup failure for ok.test" },
    { "addresses not now", SMX "inline:{127.0.0.1=REJECT}", "", "MX ok.test = 10 m.test\nA m.test = ?\nAAAA m.test = -", "ok" },
    { "a literal", SMX "inline:{127.0.0.1=REJECT}", "from=s@[127.0.0.1]", "",
      "554 5.7.1 <s@[127.0.0.1]>: Sender address rejected: Access denied" },
    { "an IPv6 literal", SMX "inline:{2001:db8::1=REJECT}", "from=s@[IPv6:2001:db8::1]", "",
      "554 5.7.1 <s@[IPv6:2001:db8::1]>: Sender address rejected: Access denied" },
    { "the null sender", SMX "static:REJECT", "from=", "", "ok" },
    { "OK is a mistake", SMX "inline:{mx.ok.test=OK}", "", "MX ok.test = 10 mx.ok.test",
      FORBIDDEN("check_sender_mx_access", "inline:{mx.ok.test=OK}") },
    { "by a list too", SMX "static:permit", "", "MX ok.test = 10 mx.ok.test",
      FORBIDDEN("check_sender_mx_access", "static:permit") },
    { "DISCARD is none", SMX "static:DISCARD", "", "MX ok.test = 10 mx.ok.test",
      "ok | discard: <s@ok.test>: Sender address triggers DISCARD action | discard" },
    { "a table that fails", SMX "fail:x", "", "MX ok.test = 10 mx.ok.test", "451 4.3.5 " ON_SENDER "Server configuration error" },

    { "ns: of the domain", SNS "inline:{ns.test=REJECT}", "", "NS ok.test = ns.test", "554 5.7.1 " ON_SENDER DENIED },
    { "of its parent", SNS "inline:{ns.test=REJECT}", "from=s@sub.ok.test", "NS sub.ok.test = -\nNS ok.test = ns.test",
      "554 5.7.1 <s@sub.ok.test>: Sender address rejected: Access denied" },
    { "by address", SNS "inline:{192.0.2.53=REJECT}", "", "NS ok.test = ns.test\nA ns.test = 192.0.2.53",
      "554 5.7.1 " ON_SENDER DENIED },
    { "not now", SNS "static:REJECT", "", "NS ok.test = ?", "ok | warning: name server lookup failure for ok.test" },
    { "none at all", SNS "static:REJECT", "", "NS ok.test = -\nNS test = -", "ok" },
    { "a literal has none", SNS "static:REJECT", "from=s@[127.0.0.1]", "", "ok" },

    { "a: by address", SA "inline:{127.0.0.1=REJECT}", "", "A ok.test = 127.0.0.1", "554 5.7.1 " ON_SENDER DENIED },
    { "not by name", SA "inline:{ok.test=REJECT}", "", "A ok.test = 127.0.0.1\nAAAA ok.test = -", "ok" },
    { "a literal", SA "inline:{127.0.0.1=REJECT}", "from=s@[127.0.0.1]", "",
      "554 5.7.1 <s@[127.0.0.1]>: Sender address rejected: Access denied" },

    /* whose domain each row asks for */
    { "client mx", CLIENT "check_client_mx_access static:REJECT", "", "MX good.client.test = 1 m.test", "554 5.7.1 " ON_CLIENT DENIED },
    { "client ns", CLIENT "check_client_ns_access static:REJECT", "", "NS good.client.test = n.test", "554 5.7.1 " ON_CLIENT DENIED },
    { "client a", CLIENT "check_client_a_access static:REJECT", "", "A good.client.test = 192.0.2.1", "554 5.7.1 " ON_CLIENT DENIED },
    { "no name, nothing", CLIENT "check_client_mx_access static:REJECT, check_client_ns_access static:REJECT, "
                                 "check_client_a_access static:REJECT", "name=! reverse=r.test", "", "ok" },
    { "reverse mx", CLIENT "check_reverse_client_hostname_mx_access static:REJECT", "name=! reverse=r.test",
      "MX r.test = 1 m.test", "554 5.7.1 <r.test>: Unverified Client host rejected: Access denied" },
    { "reverse ns", CLIENT "check_reverse_client_hostname_ns_access static:REJECT", "name=! reverse=r.test",
      "NS r.test = n.test", "554 5.7.1 <r.test>: Unverified Client host rejected: Access denied" },
    { "reverse a", CLIENT "check_reverse_client_hostname_a_access static:REJECT", "name=! reverse=r.test",
      "A r.test = 192.0.2.1", "554 5.7.1 <r.test>: Unverified Client host rejected: Access denied" },
    { "helo mx", HELO "check_helo_mx_access static:REJECT", "", "MX good.client.test = 1 m.test", "554 5.7.1 " ON_HELO DENIED },
    { "helo ns", HELO "check_helo_ns_access static:REJECT", "", "NS good.client.test = n.test", "554 5.7.1 " ON_HELO DENIED },
    { "helo a", HELO "check_helo_a_access static:REJECT", "", "A good.client.test = 192.0.2.1", "554 5.7.1 " ON_HELO DENIED },
    { "helo literal", HELO "check_helo_a_access inline:{192.0.2=REJECT}", "helo=[192.0.2.7]", "",
      "554 5.7.1 <[192.0.2.7]>: Helo command rejected: Access denied" },
    { "recipient mx", RECIPIENT "check_recipient_mx_access static:REJECT", "", "MX example.org = 1 m.test", "554 5.7.1 " ON_RECIPIENT DENIED },
    { "recipient ns", RECIPIENT "check_recipient_ns_access static:REJECT", "", "NS example.org = n.test", "554 5.7.1 " ON_RECIPIENT DENIED },
    { "recipient a", RECIPIENT "check_recipient_a_access static:REJECT", "", "A example.org = 192.0.2.1", "554 5.7.1 " ON_RECIPIENT DENIED },
};

Test(check_access, hosts_by_table)
{
    cases_run(hosts, ARRAY_LEN(hosts));
}
