/* Restrictions about the recipient, and about users of our own (spec 2.7, 3.6). */
#include "verdicts.h"

#define R(address) "<" address ">: Recipient address rejected: "
#define S(address) "<" address ">: Sender address rejected: "
#define DENIED(address) "554 5.7.1 <" address ">: Relay access denied"
#define UNAUTH RELAY "reject_unauth_destination\n"
#define ALL_USERS "smtpd_reject_unlisted_recipient = no\n"
#define TO_ALL UNAUTH ALL_USERS
#define UNLISTED "smtpd_reject_unlisted_recipient = no\n" RECIPIENT "reject_unlisted_recipient"
#define BOUNCE "reject_multi_recipient_bounce"

static const struct verdict_case cases[] = {
    /* spec 3.3, measured */
    { "ours", TO_ALL, "", "", "ok" },
    { "mailbox domain", TO_ALL, "to=x@vmbox.test", "", "ok" },
    { "alias domain", TO_ALL, "to=x@valias.test", "", "ok" },
    { "relay domain", TO_ALL, "to=x@relay.test", "", "ok" },
    { "below a relay domain", TO_ALL, "to=x@sub.relay.test", "", "ok" },
    { "below a mailbox domain", TO_ALL, "to=x@sub.vmbox.test", "", DENIED("x@sub.vmbox.test") },
    { "foreign", TO_ALL, "to=u@foreign.test", "", DENIED("u@foreign.test") },
    { "percent", TO_ALL, "to=u%foreign@example.org", "", DENIED("u%foreign@example.org") },
    { "two @", TO_ALL, "to=u@foreign@example.org", "", DENIED("u@foreign@example.org") },
    { "bang", TO_ALL, "to=foreign!u@example.org", "", DENIED("foreign!u@example.org") },
    { "percent through a relay domain", TO_ALL, "to=erin%x@relay.test", "", DENIED("erin%x@relay.test") },
    { "@ through a relay domain", TO_ALL, "to=erin@x@relay.test", "", DENIED("erin@x@relay.test") },
    { "percent in a mailbox domain", TO_ALL, "to=carol%x@vmbox.test", "", DENIED("carol%x@vmbox.test") },
    { "bang in a mailbox domain", TO_ALL, "to=a!b@vmbox.test", "", DENIED("a!b@vmbox.test") },
    { "somebody else's literal", TO_ALL, "to=alice@[203.0.113.9]", "", DENIED("alice@[203.0.113.9]") },
    { "our literal", TO_ALL, "to=alice@[127.0.0.1]", "", "ok" },
    { "percent that stays here", TO_ALL, "to=alice%example.org@example.org", "", "ok" },
    { "without domain", TO_ALL, "to=alice", "", "ok" },
    { "with a dot behind", TO_ALL, "to=alice@example.org.", "", "ok" },
    { "in capitals", TO_ALL, "to=ALICE@EXAMPLE.ORG", "", "ok" },
    { "its code", TO_ALL "relay_domains_reject_code = 550", "to=u@foreign.test", "",
      "550 5.7.1 <u@foreign.test>: Relay access denied" },
    { "defer_unauth_destination", RELAY "defer_unauth_destination", "to=u@foreign.test", "",
      "454 4.7.1 <u@foreign.test>: Relay access denied" },
    { "and what is ours", RELAY "defer_unauth_destination", "", "", "ok" },
    { "permit_auth_destination", RELAY "permit_auth_destination, reject", "", "", "ok" },
    { "not for others", RELAY "permit_auth_destination, reject", "to=u@foreign.test", "",
      "554 5.7.1 " R("u@foreign.test") "Access denied" },
    { "nor by a detour", RELAY "permit_auth_destination, reject", "to=erin%x@relay.test", "",
      "554 5.7.1 " R("erin%x@relay.test") "Access denied" },
    { "without a recipient there is nothing to refuse", DATA "reject_unauth_destination", "to=- stage=DATA count=2",
      "", "ok" },
    { "nor to permit", DATA "permit_auth_destination, reject", "to=- stage=DATA count=2", "",
      "554 5.7.1 <DATA>: Data command rejected: Access denied" },
    { "a single one is there at DATA", DATA "reject_unauth_destination", "to=u@foreign.test stage=DATA count=1", "",
      DENIED("u@foreign.test") },
    { "a table that fails", "mydestination = fail:x\nlocal_recipient_maps = static:x\n" RELAY "reject_unauth_destination",
      "to=u@foreign.test", "", "451 4.3.0 <u@foreign.test>: Temporary lookup failure" },

    /* spec 3.6 */
    { "unknown: somebody", UNLISTED, "", "", "ok" },
    { "local", UNLISTED, "to=x@example.org", "", "550 5.1.1 " R("x@example.org") "User unknown in local recipient table" },
    { "alias", UNLISTED, "to=x@valias.test", "", "550 5.1.1 " R("x@valias.test") "User unknown in virtual alias table" },
    { "mailbox", UNLISTED, "to=x@vmbox.test", "", "550 5.1.1 " R("x@vmbox.test") "User unknown in virtual mailbox table" },
    { "relay", UNLISTED, "to=x@relay.test", "", "550 5.1.1 " R("x@relay.test") "User unknown in relay recipient table" },
    { "an alias's name", UNLISTED, "to=dave@valias.test", "", "ok" },
    { "an extension", UNLISTED, "to=alice+x@example.org", "", "ok" },
    { "foreign is no business of this one", UNLISTED "\n" RELAY "permit_mynetworks, defer_if_permit", "to=u@foreign.test",
      "", "450 4.7.0 " R("u@foreign.test") "defer_if_permit requested" },
    { "its codes: local", UNLISTED "\nunknown_local_recipient_reject_code = 450", "to=x@example.org", "",
      "450 4.1.1 " R("x@example.org") "User unknown in local recipient table" },
    { "alias", UNLISTED "\nunknown_virtual_alias_reject_code = 551", "to=x@valias.test", "",
      "551 5.1.1 " R("x@valias.test") "User unknown in virtual alias table" },
    { "mailbox", UNLISTED "\nunknown_virtual_mailbox_reject_code = 552", "to=x@vmbox.test", "",
      "552 5.1.1 " R("x@vmbox.test") "User unknown in virtual mailbox table" },
    { "relay", UNLISTED "\nunknown_relay_recipient_reject_code = 553", "to=x@relay.test", "",
      "553 5.1.1 " R("x@relay.test") "User unknown in relay recipient table" },
    { "which table is nobody's business", UNLISTED "\nshow_user_unknown_table_name = no", "to=x@example.org", "",
      "550 5.1.1 " R("x@example.org") "User unknown" },
    { "a table that cannot be used", UNLISTED "\nrelay_recipient_maps = fail:x", "to=x@relay.test", "",
      "451 4.3.0 <x@relay.test>: Temporary lookup failure | "
      "general: a table that an address needs is unusable" },
    { "one that cannot answer now", UNLISTED "\nrelay_recipient_maps = unix:passwd.byname", "to=x@relay.test",
      "MAP x@relay.test = ?", "451 4.3.0 <x@relay.test>: Temporary lookup failure" },
    { "one that takes its time", UNLISTED "\nrelay_recipient_maps = unix:passwd.byname", "to=x@relay.test",
      "MAP x@relay.test = -\nMAP @relay.test = x", "ok" },
    { "the old name", ALL_USERS RECIPIENT "check_recipient_maps", "to=x@relay.test", "",
      "550 5.1.1 " R("x@relay.test") "User unknown in relay recipient table" },
    { "asked once: a warning is no answer", RECIPIENT "warn_if_reject reject_unlisted_recipient", "to=x@relay.test", "",
      "550 5.1.1 " R("x@relay.test") "User unknown in relay recipient table | reject_warning: 550 5.1.1 "
      R("x@relay.test") "User unknown in relay recipient table" },
    { "the last test by itself", "", "to=x@relay.test", "",
      "550 5.1.1 " R("x@relay.test") "User unknown in relay recipient table" },
    { "which can be switched off", ALL_USERS, "to=x@relay.test", "", "ok" },
    { "VRFY too", "", "to=x@relay.test stage=VRFY from=-", "",
      "550 5.1.1 " R("x@relay.test") "User unknown in relay recipient table" },
    { "the end of data does not ask again", END_OF_DATA "permit", "to=x@relay.test stage=END count=1", "", "ok" },

    { "sender: one of ours", SENDER "reject_unlisted_sender", "from=alice@example.org", "", "ok" },
    { "one we do not have", SENDER "reject_unlisted_sender", "from=x@example.org", "",
      "550 5.1.0 " S("x@example.org") "User unknown in local recipient table" },
    { "one of a relay domain", SENDER "reject_unlisted_sender", "from=x@relay.test", "",
      "550 5.1.0 " S("x@relay.test") "User unknown in relay recipient table" },
    { "a foreign one", SENDER "reject_unlisted_sender", "", "", "ok" },
    { "the null sender", SENDER "reject_unlisted_sender", "from=", "", "ok" },
    { "not without being asked to", "", "from=x@example.org", "", "ok" },
    { "by parameter", "smtpd_reject_unlisted_sender = yes", "from=x@example.org", "",
      "550 5.1.0 " S("x@example.org") "User unknown in local recipient table" },
    { "behind its list", "smtpd_reject_unlisted_sender = yes\n" SENDER "permit", "from=x@example.org", "",
      "550 5.1.0 " S("x@example.org") "User unknown in local recipient table" },
    { "at MAIL, where lists do not wait", "smtpd_reject_unlisted_sender = yes\nsmtpd_delay_reject = no",
      "from=x@example.org to=- stage=MAIL", "", "550 5.1.0 " S("x@example.org") "User unknown in local recipient table" },

    /* spec, appendix A 17 and 18 */
    { "bounce: the first recipient", RECIPIENT BOUNCE, "from=", "", "ok" },
    { "the second", RECIPIENT BOUNCE, "from= count=1", "",
      "550 5.5.3 " ON_RECIPIENT "Multi-recipient bounce" },
    { "no bounce", RECIPIENT BOUNCE, "count=1", "", "ok" },
    { "at DATA: one", DATA BOUNCE, "from= stage=DATA count=1", "", "ok" },
    { "two", DATA BOUNCE, "from= to=- stage=DATA count=2", "",
      "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce" },
    { "no bounce to two", DATA BOUNCE, "to=- stage=DATA count=2", "", "ok" },
    { "at the end of data", END_OF_DATA BOUNCE, "from= to=- stage=END count=2", "",
      "550 5.5.3 <END-OF-MESSAGE>: End-of-data rejected: Multi-recipient bounce" },
    { "its code", DATA BOUNCE "\nmulti_recipient_bounce_reject_code = 450", "from= to=- stage=DATA count=2", "",
      "450 4.5.3 <DATA>: Data command rejected: Multi-recipient bounce" },
};

Test(check_rcpt, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}
