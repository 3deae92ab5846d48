/* Restrictions about the client (spec 2.4), and how it gets its name (2.2). */
#include "verdicts.h"

#include "policy/client_name.h"

#define UNKNOWN_CLIENT "Client host rejected: cannot find your hostname, [192.0.2.10]"
#define UNKNOWN_REVERSE "Client host rejected: cannot find your reverse hostname, [192.0.2.10]"
#define UNKNOWN_FORWARD "Client host rejected: cannot find your forward hostname, [192.0.2.10]"
#define NAME     CLIENT "reject_unknown_client_hostname\nunknown_client_reject_code = 550"
#define REVERSE  CLIENT "reject_unknown_reverse_client_hostname\nunknown_client_reject_code = 550"
#define FORWARD  CLIENT "reject_unknown_forward_client_hostname\nunknown_client_reject_code = 550"

static const struct verdict_case cases[] = {
    { "permit_mynetworks: a stranger", CLIENT "permit_mynetworks, reject", "", "",
      "554 5.7.1 " ON_CLIENT "Access denied" },
    { "one of ours", CLIENT "permit_mynetworks, reject", "client=127.0.0.5 name=localhost", "", "ok" },
    { "by name", "mynetworks = client.test\n" CLIENT "permit_mynetworks, reject", "", "", "ok" },
    { "not by a name that does not lead back", "mynetworks = client.test\n" CLIENT "permit_mynetworks, reject",
      "name=! reverse=good.client.test", "", "554 5.7.1 <unknown[192.0.2.10]>: Client host rejected: Access denied" },
    { "the first match decides", "mynetworks = !192.0.2.10, 192.0.2.0/24\n" CLIENT "permit_mynetworks, reject", "",
      "", "554 5.7.1 " ON_CLIENT "Access denied" },
    { "IPv6", "mynetworks = [2001:db8::]/32\n" CLIENT "permit_mynetworks, reject", "client=2001:db8::1", "", "ok" },
    { "a table that fails", "mynetworks = fail:x\n" CLIENT "permit_mynetworks, reject", "", "",
      "451 4.3.0 <good.client.test[192.0.2.10]>: Temporary lookup failure" },
    { "and warn_if_reject", "mynetworks = fail:x\n" CLIENT "warn_if_reject permit_mynetworks\n" RELAY "permit_auth_destination, reject",
      "", "",
      "ok | reject_warning: 451 4.3.0 <good.client.test[192.0.2.10]>: Temporary lookup failure" },
    { "permit_inet_interfaces: this host", CLIENT "permit_inet_interfaces, reject", "client=127.0.0.1 name=localhost",
      "", "ok" },
    { "another", CLIENT "permit_inet_interfaces, reject", "client=198.51.100.77", "",
      "554 5.7.1 <good.client.test[198.51.100.77]>: Client host rejected: Access denied" },

    /* spec, appendix A 19 and 20 */
    { "a good name", NAME, "", "", "ok" },
    { "forged", NAME, "name=! reverse=x.test", "", "550 5.7.25 " UNKNOWN_CLIENT },
    { "no PTR", NAME, "name=-", "", "550 5.7.25 " UNKNOWN_CLIENT },
    { "PTR not now", NAME, "name=?", "", "450 4.7.25 " UNKNOWN_CLIENT },
    { "address not now", NAME, "name=? reverse=x.test", "", "450 4.7.25 " UNKNOWN_CLIENT },
    { "450 by default", CLIENT "reject_unknown_client", "name=-", "", "450 4.7.25 " UNKNOWN_CLIENT },
    { "reverse: a good name", REVERSE, "", "", "ok" },
    { "reverse: forged", REVERSE, "name=! reverse=x.test", "", "ok" },
    { "reverse: no PTR", REVERSE, "name=-", "", "550 5.7.1 " UNKNOWN_REVERSE },
    { "reverse: PTR not now", REVERSE, "name=?", "", "450 4.7.1 " UNKNOWN_REVERSE },
    { "reverse: address not now", REVERSE, "name=? reverse=x.test", "", "ok" },
    { "forward: a good name asks nobody", FORWARD, "", "", "ok" },
    { "forward: no PTR", FORWARD, "name=-", "", "ok" },
    { "forward: leads elsewhere", FORWARD, "name=! reverse=x.test", "A x.test = 198.51.100.1", "ok" },
    { "forward: leads to IPv6", FORWARD, "name=! reverse=x.test", "A x.test = -\nAAAA x.test = 2001:db8::1", "ok" },
    { "forward: leads nowhere", FORWARD, "name=! reverse=x.test", "A x.test = -\nAAAA x.test = -",
      "550 5.7.1 " UNKNOWN_FORWARD },
    { "forward: not now", FORWARD, "name=! reverse=x.test", "A x.test = ?\nAAAA x.test = -",
      "450 4.7.1 " UNKNOWN_FORWARD },
    { "forward: not now, but IPv6", FORWARD, "name=! reverse=x.test", "A x.test = ?\nAAAA x.test = 2001:db8::1", "ok" },
    { "their class is not that of the list", RECIPIENT "reject_unknown_client_hostname", "name=-", "",
      "450 4.7.25 " UNKNOWN_CLIENT },
};

Test(check_client, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}

/* ------------------------------------------------------------ the client's name */

#define PTR4 "PTR 10.2.0.192.in-addr.arpa = "
#define PTR6 "PTR 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa = "
#define OK  "1"
#define PERMANENT "2"
#define FORGED "3"
#define TEMPORARY "4"

static const struct {
    const char *what, *conf, *client, *facts, *result; /* name/status reverse/status */
} names[] = {
    { "one name that leads back", "", "", PTR4 "good.test\nA good.test = 192.0.2.10", "good.test/" OK " good.test/" OK },
    { "among several addresses", "", "", PTR4 "good.test\nA good.test = 198.51.100.1, 192.0.2.10",
      "good.test/" OK " good.test/" OK },
    { "it leads elsewhere", "", "", PTR4 "bad.test\nA bad.test = 198.51.100.1", "-/" FORGED " bad.test/" OK },
    { "it leads nowhere", "", "", PTR4 "bad.test\nA bad.test = -", "-/" FORGED " bad.test/" OK },
    { "to nobody knows where", "", "", PTR4 "bad.test\nA bad.test = ?", "-/" TEMPORARY " bad.test/" OK },
    { "there is none", "", "", PTR4 "-", "-/" PERMANENT " -/" PERMANENT },
    { "nobody knows", "", "", PTR4 "?", "-/" TEMPORARY " -/" TEMPORARY },
    { "rubbish", "", "", PTR4 "!", "-/" PERMANENT " -/" PERMANENT },
    { "no name at all", "", "", PTR4 "192.0.2.10", "-/" PERMANENT " -/" PERMANENT },
    { "the second of several", "", "", PTR4 "bad.test, good.test\nA bad.test = -\nA good.test = 192.0.2.10",
      "good.test/" OK " bad.test/" OK },
    { "none of several", "", "", PTR4 "a.test, b.test\nA a.test = -\nA b.test = 198.51.100.1",
      "-/" FORGED " a.test/" OK },
    { "one of several cannot be asked", "", "", PTR4 "a.test, b.test\nA a.test = ?\nA b.test = 198.51.100.1",
      "-/" TEMPORARY " a.test/" OK },
    { "what is no name is passed over", "", "", PTR4 "-bad-.test, good.test\nA good.test = 192.0.2.10",
      "good.test/" OK " good.test/" OK },
    { "at most five are tried", "", "",
      PTR4 "a.test, b.test, c.test, d.test, e.test, good.test\nA a.test = -\nA b.test = -\nA c.test = -\n"
      "A d.test = -\nA e.test = -", "-/" FORGED " a.test/" OK },
    { "IPv6", "", "client=2001:db8::1", PTR6 "six.test\nAAAA six.test = 2001:db8::1", "six.test/" OK " six.test/" OK },
    { "an A record is no way back to IPv6", "", "client=2001:db8::1", PTR6 "six.test\nAAAA six.test = -",
      "-/" FORGED " six.test/" OK },
    { "nobody is asked", "smtpd_peername_lookup = no\n", "", "", "-/" PERMANENT " -/" PERMANENT },
    { "the facts do not come by themselves", "", "", "", "needs PTR 10.2.0.192.in-addr.arpa" },
};

static void name_print(struct buf *out, const struct client_name *found)
{
    buf_printf(out, "%s/%d %s/%d", found->name != NULL ? found->name : "-", found->name_status,
               found->reverse_name != NULL ? found->reverse_name : "-", found->reverse_status);
}

static void find_name(struct trial *t, const struct policy *policy, struct buf *out)
{
    struct client_name found;
    struct eval e;
    enum verdict verdict;
    do {
        outcome_fini(&t->outcome);
        eval_begin(&e, policy, &t->in, &t->facts, &t->outcome);
        verdict = client_name_find(&e, &found);
    } while (verdict == VERDICT_PENDING && trial_learn(t, &t->outcome.missing));
    if (verdict == VERDICT_PENDING)
        outcome_print(out, verdict, &t->outcome);
    else
        name_print(out, &found);
}

Test(check_client, names)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct world w = world_of(names[i].conf);
        struct trial *t = xcalloc(1, sizeof *t);
        struct buf got = { 0 };
        trial_begin(t, names[i].client, names[i].facts);
        find_name(t, w.policy, &got);
        cr_expect_str_eq(buf_text(&got), names[i].result, "%s: %s", names[i].what, buf_text(&got));
        for (size_t k = 0; k < t->given_count; k++)
            cr_expect(t->given[k].is_asked, "%s: fact %zu was not asked for", names[i].what, k);
        trial_end(t);
        free(t);
        buf_fini(&got);
        world_fini(&w);
    }
}
