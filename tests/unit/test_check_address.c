/* Restrictions about the form and the domain of sender and recipient (spec 2.6, 2.7). */
#include "verdicts.h"

#define S(address) "<" address ">: Sender address rejected: "
#define R(address) "<" address ">: Recipient address rejected: "
#define FQDN      "need fully-qualified address"
#define SENDER_FORM    SENDER "reject_non_fqdn_sender"
#define RECIPIENT_FORM RECIPIENT "reject_non_fqdn_recipient"
#define SENDER_DNS    SENDER "reject_unknown_sender_domain\nunknown_address_reject_code = 550"
#define RECIPIENT_DNS RELAY "permit\n" RECIPIENT "reject_unknown_recipient_domain, reject\n" \
                            "unknown_address_reject_code = 550"

static const struct verdict_case cases[] = {
    { "form: a full one", SENDER_FORM, "", "", "ok" },
    { "the null sender", SENDER_FORM, "from=", "", "ok" },
    { "no sender", CLIENT "reject_non_fqdn_sender", "from=-", "", "ok" },
    { "a trailing dot", SENDER_FORM, "from=s@ok.test.", "", "ok" },
    { "a literal", SENDER_FORM, "from=s@[1.2.3.4]", "", "ok" },
    { "a bare user", SENDER_FORM, "from=s", "", "504 5.5.2 " S("s") FQDN },
    { "no dot", SENDER_FORM, "from=s@localhost", "", "504 5.5.2 " S("s@localhost") FQDN },
    { "no dot but the last", SENDER_FORM, "from=s@localhost.", "", "504 5.5.2 " S("s@localhost.") FQDN },
    { "no name", SENDER_FORM, "from=s@-x.test", "", "504 5.5.2 " S("s@-x.test") FQDN },
    { "its code", SENDER_FORM "\nnon_fqdn_reject_code = 450", "from=s", "", "450 4.5.2 " S("s") FQDN },
    { "a recipient", RECIPIENT_FORM, "", "", "ok" },
    { "a bare recipient", RECIPIENT_FORM, "to=alice", "", "504 5.5.2 " R("alice") FQDN },
    { "without dot", RECIPIENT_FORM, "to=alice@localhost", "", "504 5.5.2 " R("alice@localhost") FQDN },
    { "postmaster is above that", RECIPIENT_FORM, "to=postmaster", "", "ok" },
    { "but not with a domain", RECIPIENT_FORM, "to=postmaster@localhost", "", "504 5.5.2 " R("postmaster@localhost") FQDN },
    { "the class is that of the address", CLIENT "reject_non_fqdn_recipient", "to=alice", "",
      "504 5.5.2 " R("alice") FQDN },
    { "no recipient", DATA "reject_non_fqdn_recipient", "to=- stage=DATA count=2", "", "ok" },

    /* spec, appendix A 22 */
    { "domain: MX", SENDER_DNS, "", "MX ok.test = 10 m.ok.test", "ok" },
    { "A only", SENDER_DNS, "", "MX ok.test = -\nA ok.test = 192.0.2.1", "ok" },
    { "AAAA only", SENDER_DNS, "", "MX ok.test = -\nA ok.test = -\nAAAA ok.test = 2001:db8::1", "ok" },
    { "nothing", SENDER_DNS, "", "MX ok.test = -\nA ok.test = -\nAAAA ok.test = -",
      "550 5.1.8 " ON_SENDER "Domain not found" },
    { "450 by default", SENDER "reject_unknown_address", "", "MX ok.test = -\nA ok.test = -\nAAAA ok.test = -",
      "450 4.1.8 " ON_SENDER "Domain not found" },
    { "the null MX", SENDER_DNS, "", "MX ok.test = 0 .",
      "550 5.7.27 " ON_SENDER "Domain ok.test does not accept mail (nullMX)" },
    { "whatever the code", SENDER "reject_unknown_sender_domain", "", "MX ok.test = 0 .",
      "550 5.7.27 " ON_SENDER "Domain ok.test does not accept mail (nullMX)" },
    { "a null MX among others is none", SENDER_DNS, "", "MX ok.test = 0 ., 10 m.ok.test", "ok" },
    { "MX not now, A", SENDER_DNS, "", "MX ok.test = ?\nA ok.test = 192.0.2.1", "ok" },
    { "MX not now, no A", SENDER_DNS, "", "MX ok.test = ?\nA ok.test = -\nAAAA ok.test = -",
      "450 4.1.8 " ON_SENDER "Domain not found" },
    { "A not now", SENDER_DNS, "", "MX ok.test = -\nA ok.test = ?\nAAAA ok.test = -",
      "450 4.1.8 " ON_SENDER "Domain not found" },
    { "not now is only a flag", SENDER_DNS "\nsmtpd_recipient_restrictions = reject", "",
      "MX ok.test = ?\nA ok.test = -\nAAAA ok.test = -", "554 5.7.1 " ON_RECIPIENT "Access denied" },
    { "unless it is to be final", SENDER_DNS "\nunknown_address_tempfail_action = defer\n" RECIPIENT "reject", "",
      "MX ok.test = ?\nA ok.test = -\nAAAA ok.test = -", "450 4.1.8 " ON_SENDER "Domain not found" },
    { "a bad MX", SENDER_DNS, "", "MX ok.test = !", "550 5.1.8 " ON_SENDER "Malformed DNS server reply" },
    { "a numeric MX", SENDER_DNS, "", "MX ok.test = 10 1.2.3.4", "ok" },
    { "the null sender", SENDER_DNS, "from=", "", "ok" },
    { "a literal", SENDER_DNS, "from=s@[1.2.3.4]", "", "ok" },
    { "our own domains are not asked for", SENDER_DNS, "from=nosuch@example.org", "", "ok" },
    { "nor a bare user", SENDER_DNS, "from=s", "", "ok" },
    { "nor alias and mailbox domains", SENDER_DNS, "from=x@valias.test", "", "ok" },
    { "nor those", SENDER_DNS, "from=x@vmbox.test", "", "ok" },
    { "relay domains are", SENDER_DNS, "from=x@relay.test", "MX relay.test = 10 m.test", "ok" },
    { "case and dot", SENDER_DNS, "from=s@OK.Test.", "MX ok.test = 10 m.test", "ok" },
    { "U-labels are asked as A-labels", SENDER_DNS, "from=s@b\xc3\xbc" "cher.test", "MX xn--bcher-kva.test = 10 m.test",
      "ok" },
    { "what cannot be asked is not found", SENDER_DNS, "from=s@-x.test", "", "550 5.1.8 " S("s@-x.test") "Domain not found" },
    { "not even a numeric domain", SENDER_DNS, "from=s@1.2.3.4", "", "550 5.1.8 " S("s@1.2.3.4") "Domain not found" },

    /* spec, appendix A 23 */
    { "recipient: MX", RECIPIENT_DNS, "to=u@foreign.test", "MX foreign.test = 10 m.test",
      "554 5.7.1 " R("u@foreign.test") "Access denied" },
    { "nothing", RECIPIENT_DNS, "to=u@foreign.test", "MX foreign.test = -\nA foreign.test = -\nAAAA foreign.test = -",
      "550 5.1.2 " R("u@foreign.test") "Domain not found" },
    { "the null MX", RECIPIENT_DNS, "to=u@foreign.test", "MX foreign.test = 0 .",
      "556 5.1.10 " R("u@foreign.test") "Domain foreign.test does not accept mail (nullMX)" },
    { "a bad MX", RECIPIENT_DNS, "to=u@foreign.test", "MX foreign.test = !",
      "550 5.1.2 " R("u@foreign.test") "Malformed DNS server reply" },
    { "our own", RECIPIENT_DNS, "", "", "554 5.7.1 " ON_RECIPIENT "Access denied" },
    { "its temporary failure", RELAY "reject_unknown_recipient_domain, permit\n" RECIPIENT "permit_mynetworks, defer_if_permit",
      "to=u@foreign.test", "MX foreign.test = ?\nA foreign.test = -\nAAAA foreign.test = -",
      "450 4.1.2 " R("u@foreign.test") "Domain not found" },
};

Test(check_address, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}
