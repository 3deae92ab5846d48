/* check_spf and the restrictions on its result (RFC 7208 8, RFC 7372 3.2). What a record means is
 * the library's business (test_spf.c). */
#include "verdicts.h"

#define OK_TEST "TXT ok.test = "
#define NONE    "\nTXT good.client.test = -"
#define FAILED  "550 5.7.23 " ON_SENDER "SPF fail: 192.0.2.10 may not send for ok.test"

static const struct verdict_case cases[] = {
    { "fail", SENDER "reject_spf_fail", "", OK_TEST "\"v=spf1 -all\"" NONE, FAILED },
    { "its code", SENDER "reject_spf_fail\nspf_reject_code = 451", "", OK_TEST "\"v=spf1 -all\"" NONE,
      "451 4.7.23 " ON_SENDER "SPF fail: 192.0.2.10 may not send for ok.test" },
    { "pass", SENDER "reject_spf_fail", "", OK_TEST "\"v=spf1 ip4:192.0.2.0/24 -all\"" NONE, "ok" },
    { "softfail is no fail", SENDER "reject_spf_fail", "", OK_TEST "\"v=spf1 ~all\"" NONE, "ok" },
    { "neither is none", SENDER "reject_spf_fail", "", OK_TEST "-" NONE, "ok" },
    { "softfail", SENDER "reject_spf_softfail", "", OK_TEST "\"v=spf1 ~all\"" NONE,
      "550 5.7.1 " ON_SENDER "SPF softfail: 192.0.2.10 should not send for ok.test" },
    { "fail is no softfail", SENDER "reject_spf_softfail", "", OK_TEST "\"v=spf1 -all\"" NONE, "ok" },
    { "not now", SENDER "defer_spf_temperror", "", OK_TEST "?" NONE, "451 4.7.24 " },
    { "not now is no fail", SENDER "reject_spf_fail, reject_spf_softfail, reject_spf_permerror", "", OK_TEST "?" NONE, "ok" },
    { "rubbish", SENDER "reject_spf_permerror", "", OK_TEST "\"v=spf1 nonsense -all\"" NONE, "550 5.7.24 " },
    { "rubbish is no fail", SENDER "reject_spf_fail", "", OK_TEST "\"v=spf1 nonsense -all\"" NONE, "ok" },
    { "no MAIL", CLIENT "check_spf, reject_spf_fail, reject_spf_softfail, reject_spf_permerror, defer_spf_temperror",
      "from=- stage=VRFY", "", "ok" },
    { "as a warning", SENDER "warn_if_reject reject_spf_fail", "", OK_TEST "\"v=spf1 -all\"" NONE, "ok | reject_warning: " FAILED },
};

/* Some words are the library's: only the front is compared. */
Test(check_spf, by_table)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w = world_of(cases[i].conf);
        struct buf got = { 0 };
        case_decide(&cases[i], w.policy, &got);
        cr_expect(span_istarts(buf_span(&got), span_of(cases[i].result)), "%s: expected: %s\n     got: %s", cases[i].what,
                  cases[i].result, buf_text(&got));
        cr_expect_null(strstr(buf_text(&got), "needs "), "%s: %s", cases[i].what, buf_text(&got));
        buf_fini(&got);
        world_fini(&w);
    }
}
