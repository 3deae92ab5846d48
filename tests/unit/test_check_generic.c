/* The restrictions that need nothing but themselves (spec 2.3). */
#include "verdicts.h"

static const struct verdict_case cases[] = {
    { "permit ends its list only", CLIENT "permit\n" SENDER "reject", "", "",
      "554 5.7.1 " ON_SENDER "Access denied" },
    { "permit hides what follows", CLIENT "permit, reject", "", "", "ok" },
    { "reject: client", CLIENT "reject", "", "", "554 5.7.1 " ON_CLIENT "Access denied" },
    { "HELO", HELO "reject", "", "", "554 5.7.1 " ON_HELO "Access denied" },
    { "sender", SENDER "reject", "", "", "554 5.7.1 " ON_SENDER "Access denied" },
    { "null sender", SENDER "reject", "from=", "", "554 5.7.1 <>: Sender address rejected: Access denied" },
    { "relay", RELAY "reject", "", "", "554 5.7.1 " ON_RECIPIENT "Access denied" },
    { "recipient", RECIPIENT "reject", "", "", "554 5.7.1 " ON_RECIPIENT "Access denied" },
    { "recipient as given", RECIPIENT "reject", "to=ALICE+x@Example.ORG", "",
      "554 5.7.1 <ALICE+x@Example.ORG>: Recipient address rejected: Access denied" },
    { "data", DATA "reject", "stage=DATA count=1", "", "554 5.7.1 <DATA>: Data command rejected: Access denied" },
    { "end of data", END_OF_DATA "reject", "stage=END count=1", "",
      "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied" },
    { "reject_code", CLIENT "reject\nreject_code = 521", "", "", "521 5.7.1 " ON_CLIENT "Access denied" },
    { "its class decides the status's", CLIENT "reject\nreject_code = 450", "", "",
      "450 4.7.1 " ON_CLIENT "Access denied" },
    { "defer", CLIENT "defer", "", "", "450 4.3.2 " ON_CLIENT "Try again later" },
    { "defer_code", HELO "defer\ndefer_code = 421", "", "", "421 4.3.2 " ON_HELO "Try again later" },
    { "defer_if_permit", SENDER "defer_if_permit", "", "", "450 4.7.0 " ON_SENDER "defer_if_permit requested" },
    { "defer_if_permit loses to a refusal", SENDER "defer_if_permit, reject", "", "",
      "554 5.7.1 " ON_SENDER "Access denied" },
    { "its code does not follow defer_code", SENDER "defer_if_permit\ndefer_code = 451", "", "",
      "450 4.7.0 " ON_SENDER "defer_if_permit requested" },
    { "defer_if_reject alone", CLIENT "defer_if_reject", "", "", "ok" },
    { "defer_if_reject and 5xx", CLIENT "defer_if_reject, reject", "", "",
      "450 4.7.0 " ON_CLIENT "defer_if_reject requested" },
    { "defer_if_reject and 4xx", CLIENT "defer_if_reject, defer", "", "", "450 4.3.2 " ON_CLIENT "Try again later" },
    { "sleep, then on", CLIENT "sleep 2, reject", "", "SLEEP 2 1 =",
      "554 5.7.1 " ON_CLIENT "Access denied" },
    { "sleep must be waited for", CLIENT "sleep 2, reject", "", "", "needs SLEEP 2 1" },
    { "two are two", CLIENT "sleep 2, sleep 2", "", "SLEEP 2 1 =\nSLEEP 2 2 =", "ok" },
    { "each list has its own", CLIENT "sleep 2\n" HELO "sleep 2", "",
      "SLEEP 2 1 =\nSLEEP 2 2 =", "ok" },
    { "reject_unauth_pipelining", DATA "reject_unauth_pipelining", "stage=DATA count=1 turn", "",
      "503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining" },
    { "in its turn", DATA "reject_unauth_pipelining", "stage=DATA count=1", "", "ok" },
    { "in another list", CLIENT "reject_unauth_pipelining", "turn", "",
      "503 5.5.0 " ON_CLIENT "Improper use of SMTP command pipelining" },
    { "reject_plaintext_session", CLIENT "reject_plaintext_session", "", "",
      "450 4.7.1 Session encryption is required" },
    { "with its code", CLIENT "reject_plaintext_session\nplaintext_reject_code = 550", "", "",
      "550 5.7.1 Session encryption is required" },
    { "under TLS", CLIENT "reject_plaintext_session", "tls", "", "ok" },
    { "what there is no SASL for never matches",
      SENDER "permit_sasl_authenticated, reject_sender_login_mismatch, "
             "reject_authenticated_sender_login_mismatch, reject_unauthenticated_sender_login_mismatch, "
             "reject_known_sender_login_mismatch, reject", "", "", "554 5.7.1 " ON_SENDER "Access denied" },
};

Test(check_generic, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}
