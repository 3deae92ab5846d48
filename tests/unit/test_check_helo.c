/* Restrictions about the HELO name (spec 2.5). */
#include "verdicts.h"

#define ON(name)  "<" name ">: Helo command rejected: "
#define INVALID   HELO "reject_invalid_helo_hostname"
#define NON_FQDN  HELO "reject_non_fqdn_helo_hostname"
#define NO_HOST   HELO "reject_unknown_helo_hostname"

static const struct verdict_case cases[] = {
    { "invalid: a name", INVALID, "helo=a.test", "", "ok" },
    { "one word", INVALID, "helo=localhost", "", "ok" },
    { "a trailing dot", INVALID, "helo=a.test.", "", "ok" },
    { "an underscore", INVALID, "helo=foo_bar.example.com", "", "ok" },
    { "a bare address", INVALID, "helo=1.2.3.4", "", "ok" },
    { "a bare IPv6 address", INVALID, "helo=2001:db8::1", "", "ok" },
    { "a literal", INVALID, "helo=[1.2.3.4]", "", "ok" },
    { "an IPv6 literal", INVALID, "helo=[IPv6:2001:db8::1]", "", "ok" },
    { "one without its tag", INVALID, "helo=[2001:db8::1]", "", "501 5.5.2 " ON("[2001:db8::1]") "invalid ip address" },
    { "no address inside", INVALID, "helo=[x]", "", "501 5.5.2 " ON("[x]") "invalid ip address" },
    { "not closed", INVALID, "helo=[1.2.3.4", "", "501 5.5.2 " ON("[1.2.3.4") "invalid ip address" },
    { "a dot", INVALID, "helo=.", "", "501 5.5.2 " ON(".") "Invalid name" },
    { "an empty label", INVALID, "helo=a..b", "", "501 5.5.2 " ON("a..b") "Invalid name" },
    { "a hyphen in front", INVALID, "helo=-x.test", "", "501 5.5.2 " ON("-x.test") "Invalid name" },
    { "digits", INVALID, "helo=123", "", "501 5.5.2 " ON("123") "Invalid name" },
    { "five numbers", INVALID, "helo=1.2.3.4.5", "", "501 5.5.2 " ON("1.2.3.4.5") "Invalid name" },
    { "a replaced character", INVALID, "helo=foo?bar", "", "501 5.5.2 " ON("foo?bar") "Invalid name" },
    { "its code", INVALID "\ninvalid_hostname_reject_code = 450", "helo=123", "", "450 4.5.2 " ON("123") "Invalid name" },
    { "its old name", HELO "reject_invalid_hostname", "helo=123", "", "501 5.5.2 " ON("123") "Invalid name" },
    { "no HELO, no list", HELO "reject_invalid_helo_hostname, reject", "helo=-", "", "ok" },
    { "no HELO in another list", CLIENT "reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname, "
                                        "reject_unknown_helo_hostname", "helo=-", "", "ok" },

    { "fqdn", NON_FQDN, "helo=a.test", "", "ok" },
    { "fqdn with a dot behind", NON_FQDN, "helo=a.test.", "", "ok" },
    { "one word", NON_FQDN, "helo=localhost", "", "504 5.5.2 " ON("localhost") "need fully-qualified hostname" },
    { "one word and a dot", NON_FQDN, "helo=localhost.", "", "504 5.5.2 " ON("localhost.") "need fully-qualified hostname" },
    { "a bare address", NON_FQDN, "helo=1.2.3.4", "", "504 5.5.2 " ON("1.2.3.4") "need fully-qualified hostname" },
    { "a literal", NON_FQDN, "helo=[1.2.3.4]", "", "ok" },
    { "an IPv6 literal, any case", NON_FQDN, "helo=[ipv6:2001:db8::1]", "", "ok" },
    { "a bad literal", NON_FQDN, "helo=[1.2.3]", "", "501 5.5.2 " ON("[1.2.3]") "invalid ip address" },
    { "not a name", NON_FQDN, "helo=a..b", "", "504 5.5.2 " ON("a..b") "need fully-qualified hostname" },
    { "its code", NON_FQDN "\nnon_fqdn_reject_code = 554", "helo=x", "", "554 5.5.2 " ON("x") "need fully-qualified hostname" },

    /* spec, appendix A 21 */
    { "unknown: A", NO_HOST, "helo=h.test", "A h.test = 192.0.2.1", "ok" },
    { "AAAA", NO_HOST, "helo=h.test", "A h.test = -\nAAAA h.test = 2001:db8::1", "ok" },
    { "MX only", NO_HOST, "helo=h.test", "A h.test = -\nAAAA h.test = -\nMX h.test = 10 m.test", "ok" },
    { "a null MX only", NO_HOST, "helo=h.test", "A h.test = -\nAAAA h.test = -\nMX h.test = 0 .", "ok" },
    { "nothing", NO_HOST, "helo=h.test", "A h.test = -\nAAAA h.test = -\nMX h.test = -",
      "450 4.7.1 " ON("h.test") "Host not found" },
    { "its code", NO_HOST "\nunknown_hostname_reject_code = 550", "helo=h.test",
      "A h.test = -\nAAAA h.test = -\nMX h.test = -", "550 5.7.1 " ON("h.test") "Host not found" },
    { "case", NO_HOST, "helo=H.Test", "A h.test = 192.0.2.1", "ok" },
    { "a dot at the end: not even asked", NO_HOST, "helo=h.test.", "",
      "450 4.7.1 " ON("h.test.") "Host not found" },
    { "A not now, AAAA", NO_HOST, "helo=h.test", "A h.test = ?\nAAAA h.test = 2001:db8::1", "ok" },
    { "not now", NO_HOST, "helo=h.test", "A h.test = ?\nAAAA h.test = -\nMX h.test = -",
      "450 4.7.1 " ON("h.test") "Host not found" },
    { "not now is only a flag", NO_HOST ", reject", "helo=h.test", "A h.test = -\nAAAA h.test = ?\nMX h.test = -",
      "554 5.7.1 " ON("h.test") "Access denied" },
    { "unless it is to be final", NO_HOST ", reject\nunknown_helo_hostname_tempfail_action = defer", "helo=h.test",
      "A h.test = -\nAAAA h.test = -\nMX h.test = ?", "450 4.7.1 " ON("h.test") "Host not found" },
    { "by reject_tempfail_action too", NO_HOST ", reject\nreject_tempfail_action = defer", "helo=h.test",
      "A h.test = ?\nAAAA h.test = -\nMX h.test = -", "450 4.7.1 " ON("h.test") "Host not found" },
    { "rubbish", NO_HOST, "helo=h.test", "A h.test = -\nAAAA h.test = -\nMX h.test = !",
      "450 4.7.1 " ON("h.test") "Malformed DNS server reply" },
    { "rubbish and not now", NO_HOST ", reject", "helo=h.test", "A h.test = ?\nAAAA h.test = -\nMX h.test = !",
      "554 5.7.1 " ON("h.test") "Access denied" },
    { "a bare address asks nobody", NO_HOST, "helo=1.2.3.4", "", "450 4.7.1 " ON("1.2.3.4") "Host not found" },
    { "nor does what is no name", NO_HOST, "helo=a..b", "", "450 4.7.1 " ON("a..b") "Host not found" },
    { "nor a literal", NO_HOST, "helo=[1.2.3.4]", "", "ok" },
    { "nor a bad one", NO_HOST, "helo=[1.2]", "", "501 5.5.2 " ON("[1.2]") "invalid ip address" },
    { "a warning", HELO "warn_if_reject reject_unknown_helo_hostname", "helo=h.test",
      "A h.test = ?\nAAAA h.test = -\nMX h.test = -",
      "ok | reject_warning: 450 4.7.1 " ON("h.test") "Host not found" },
};

Test(check_helo, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}
