/* How lists run: stages, permits, flags, warnings, classes, DISCARD, the implicit tests
 * (spec 1.1 to 1.8). */
#include "verdicts.h"

#include "policy/restriction.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#define CLASSES(list) "smtpd_restriction_classes = A, B\nA = " list "\nB = reject_unauth_destination\n"
#define EARLY "smtpd_delay_reject = no\n"
#define NO_USERS "smtpd_reject_unlisted_recipient = no\n"
#define OPEN RELAY "permit\n" NO_USERS RECIPIENT "permit_mynetworks, defer_if_permit\n" /* protected on paper */
#define DIP(on) "450 4.7.0 " on "defer_if_permit requested"
#define DIR(on) "450 4.7.0 " on "defer_if_reject requested"
#define DENIED(on) "554 5.7.1 " on "Access denied"
#define TRIGGERED "discard: <good.client.test[192.0.2.10]>: Client host triggers DISCARD action"

static const struct verdict_case cases[] = {
    /* which lists run when (1.2) */
    { "connect: nothing yet", CLIENT "reject", "stage=CONNECT helo=- from=- to=-", "", "ok" },
    { "HELO: nothing yet", HELO "reject", "stage=HELO from=- to=-", "", "ok" },
    { "MAIL: nothing yet", SENDER "reject", "stage=MAIL to=-", "", "ok" },
    { "at once: connect", EARLY CLIENT "reject\n" HELO "defer", "stage=CONNECT helo=- from=- to=-", "", DENIED(ON_CLIENT) },
    { "at once: HELO", EARLY CLIENT "reject\n" HELO "defer", "stage=HELO from=- to=-", "", "450 4.3.2 " ON_HELO "Try again later" },
    { "at once: MAIL", EARLY SENDER "reject\n" HELO "defer", "stage=MAIL to=-", "", DENIED(ON_SENDER) },
    { "then RCPT has only its own", EARLY CLIENT "reject\n" HELO "reject\n" SENDER "reject", "", "", "ok" },
    { "RCPT: client first", CLIENT "reject\n" HELO "defer\n" SENDER "defer", "", "", DENIED(ON_CLIENT) },
    { "then HELO", CLIENT "permit\n" HELO "reject\n" SENDER "defer", "", "", DENIED(ON_HELO) },
    { "then sender", CLIENT "permit\n" HELO "permit\n" SENDER "reject\n" RELAY "defer", "", "", DENIED(ON_SENDER) },
    { "then relay", SENDER "permit\n" RELAY "reject\n" RECIPIENT "defer", "", "", DENIED(ON_RECIPIENT) },
    { "then recipient", RELAY "permit\n" RECIPIENT "defer", "", "", "450 4.3.2 " ON_RECIPIENT "Try again later" },
    { "or the other way round", "smtpd_relay_before_recipient_restrictions = no\n" RELAY "reject\n" RECIPIENT "defer", "", "",
      "450 4.3.2 " ON_RECIPIENT "Try again later" },
    { "VRFY too", CLIENT "reject", "stage=VRFY", "", DENIED(ON_CLIENT) },
    { "VRFY without MAIL has no sender list", SENDER "reject", "stage=VRFY from=-", "", "ok" },
    { "without HELO there is no HELO list", HELO "reject", "helo=-", "", "ok" },
    { "data", DATA "reject\n" END_OF_DATA "defer", "stage=DATA count=1", "", "554 5.7.1 <DATA>: Data command rejected: Access denied" },
    { "end of data", DATA "reject\n" END_OF_DATA "defer", "stage=END count=1", "",
      "450 4.3.2 <END-OF-MESSAGE>: End-of-data rejected: Try again later" },

    /* bypasses (1.4) */
    { "postmaster", CLIENT "reject\n" RELAY "reject", "to=postmaster", "", "ok" },
    { "in any case", CLIENT "reject", "to=PostMaster", "", "ok" },
    { "not with a domain", CLIENT "reject", "to=postmaster@example.org", "", DENIED(ON_CLIENT) },
    { "nor with an extension", CLIENT "reject", "to=postmaster+x", "", DENIED(ON_CLIENT) },
    { "nor in VRFY's way", CLIENT "reject", "stage=VRFY to=postmaster", "", "ok" },

    /* defer_if_permit (1.5) */
    { "flag of an earlier list", CLIENT "defer_if_permit", "", "", DIP(ON_CLIENT) },
    { "the first one counts", CLIENT "defer_if_permit\n" SENDER "defer_if_permit", "", "", DIP(ON_CLIENT) },
    { "a permit does not lower it", CLIENT "defer_if_permit, permit", "", "", DIP(ON_CLIENT) },
    { "a later refusal wins", CLIENT "defer_if_permit\n" RECIPIENT "reject", "", "", DENIED(ON_RECIPIENT) },
    { "a later deferral too", CLIENT "defer_if_permit\n" RECIPIENT "defer", "", "", "450 4.3.2 " ON_RECIPIENT "Try again later" },
    { "it comes before the unknown user", RECIPIENT "defer_if_permit", "to=nobody@example.org", "",
      DIP("<nobody@example.org>: Recipient address rejected: ") },
    { "unless that was asked for first", RECIPIENT "reject_unlisted_recipient, defer_if_permit", "to=nobody@example.org", "",
      "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in local recipient table" },
    { "raised before, at RCPT", EARLY, "raised", "", "450 4.2.0 early" },
    { "at DATA it is forgotten", "", "raised stage=DATA count=1", "", "ok" },
    { "at DATA its own counts", DATA "defer_if_permit", "stage=DATA count=1", "", DIP("<DATA>: Data command rejected: ") },
    { "early lists only raise it", EARLY CLIENT "defer_if_permit", "stage=CONNECT helo=- from=- to=-", "", "ok" },

    /* defer_if_reject */
    { "within a list", RECIPIENT "defer_if_reject, reject", "", "", DIR(ON_RECIPIENT) },
    { "not across lists", CLIENT "defer_if_reject\n" RECIPIENT "reject", "", "", DENIED(ON_RECIPIENT) },
    { "but from relay to recipient", RELAY "defer_if_reject, reject_unauth_destination\n" RECIPIENT "reject", "", "", DIR(ON_RECIPIENT) },
    { "or the other way round", "smtpd_relay_before_recipient_restrictions = no\n" RECIPIENT "defer_if_reject\n" RELAY "reject", "", "",
      DIR(ON_RECIPIENT) },
    { "a 4xx is left alone", RECIPIENT "defer_if_reject, defer", "", "", "450 4.3.2 " ON_RECIPIENT "Try again later" },
    { "the first one counts", RECIPIENT "check_client_access static:{DEFER_IF_REJECT one}, defer_if_reject, reject", "", "",
      "450 4.7.1 " ON_CLIENT "one" },
    { "it does not soften the implicit test", RECIPIENT "permit_mynetworks\n" RELAY "defer_if_reject, reject_unauth_destination",
      "to=nobody@example.org", "", DIR("<nobody@example.org>: Recipient address rejected: ") },
    { "both flags end the list", RECIPIENT "defer_if_permit, defer_if_reject, reject", "", "", DIP(ON_RECIPIENT) },
    { "in either order", RECIPIENT "defer_if_reject, defer_if_permit, reject", "", "", DIP(ON_RECIPIENT) },
    { "the next list still runs its first rule", RELAY "defer_if_permit, defer_if_reject, reject_unauth_destination\n"
      RECIPIENT "reject", "", "", DIR(ON_RECIPIENT) },
    { "and no more of it", RELAY "defer_if_permit, defer_if_reject, reject_unauth_destination\n"
      RECIPIENT "permit_mynetworks, reject", "", "", DIP(ON_RECIPIENT) },

    /* warn_if_reject */
    { "a refusal", CLIENT "warn_if_reject reject", "", "", "ok | reject_warning: " DENIED(ON_CLIENT) },
    { "one item only", CLIENT "warn_if_reject reject, defer", "", "",
      "450 4.3.2 " ON_CLIENT "Try again later | reject_warning: " DENIED(ON_CLIENT) },
    { "a flag is a warning too", CLIENT "warn_if_reject defer_if_permit", "", "", "ok | reject_warning: " DIP(ON_CLIENT) },
    { "but not what softens", CLIENT "warn_if_reject defer_if_reject, reject", "", "", DIR(ON_CLIENT) },
    { "a permit permits", CLIENT "warn_if_reject permit, reject", "", "", "ok" },
    { "at the end it does nothing", CLIENT "permit_mynetworks, warn_if_reject\n" HELO "reject", "", "", DENIED(ON_HELO) },
    { "a whole class", CLASSES("reject, defer") CLIENT "warn_if_reject A", "", "",
      "ok | reject_warning: " DENIED(ON_CLIENT) },
    { "each rule of it", CLASSES("reject_plaintext_session, reject_unauth_pipelining, reject") CLIENT "warn_if_reject A, defer", "turn", "",
      "450 4.3.2 " ON_CLIENT "Try again later | reject_warning: 450 4.7.1 Session encryption is required"
      " | reject_warning: 503 5.5.0 " ON_CLIENT "Improper use of SMTP command pipelining | reject_warning: " DENIED(ON_CLIENT) },
    { "nested", "smtpd_restriction_classes = A, B\nA = B, reject_plaintext_session\nB = reject\n" CLIENT "warn_if_reject A, defer", "", "",
      "450 4.3.2 " ON_CLIENT "Try again later | reject_warning: " DENIED(ON_CLIENT)
      " | reject_warning: 450 4.7.1 Session encryption is required" },
    { "inside of one it is for its item", "smtpd_restriction_classes = A\nA = warn_if_reject reject, defer\n" CLIENT "A", "", "",
      "450 4.3.2 " ON_CLIENT "Try again later | reject_warning: " DENIED(ON_CLIENT) },

    /* classes (1.7) */
    { "the reply is that of the place", CLASSES("reject") SENDER "A", "", "", DENIED(ON_SENDER) },
    { "its permit ends the list", CLASSES("permit") CLIENT "A, reject", "", "", "ok" },
    { "its end goes on", CLASSES("permit_mynetworks") CLIENT "A, reject", "", "", DENIED(ON_CLIENT) },
    { "its tables are looked up as the list's", CLASSES("inline:{ok.test=REJECT}") SENDER "A", "", "", DENIED(ON_SENDER) },
    { "or another's", CLASSES("inline:{client.test=REJECT}") CLIENT "A", "", "", DENIED(ON_CLIENT) },
    { "a class in a class", "smtpd_restriction_classes = A, B\nA = B\nB = reject\n" CLIENT "A", "", "", DENIED(ON_CLIENT) },
    { "one that names itself", "smtpd_restriction_classes = A\nA = A\n" CLIENT "A", "", "",
      "451 4.3.5 Server configuration error | warning: restriction lists nested too deeply" },
    { "even as a warning", "smtpd_restriction_classes = A\nA = A\n" CLIENT "warn_if_reject A", "", "",
      "451 4.3.5 Server configuration error | warning: restriction lists nested too deeply" },

    /* DISCARD */
    { "nothing runs behind it", CLIENT "check_client_access static:DISCARD, reject\n" HELO "reject\n" RELAY "reject", "", "",
      "ok | " TRIGGERED " | discard" },
    { "unknown and foreign recipients too", CLIENT "check_client_access static:DISCARD", "to=nobody@foreign.test", "",
      "ok | " TRIGGERED " | discard" },
    { "nor the unlisted sender", "smtpd_reject_unlisted_sender = yes\n" CLIENT "check_client_access static:DISCARD",
      "from=nobody@example.org", "", "ok | " TRIGGERED " | discard" },
    { "a flag from before it still counts", CLIENT "defer_if_permit, check_client_access static:DISCARD", "", "",
      DIP(ON_CLIENT) " | " TRIGGERED " | discard" },

    /* 1.5: a permit does not make a user */
    { "permit", RELAY "permit_auth_destination, reject\n" RECIPIENT "permit", "to=nobody@example.org", "",
      "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in local recipient table" },
};

Test(eval, by_table)
{
    cases_run(cases, ARRAY_LEN(cases));
}

/* The rule that decided is known, for the log and for explain. */
Test(eval, the_rule_that_decided)
{
    static const struct {
        const char *conf, *envelope, *rule;
    } rows[] = {
        { CLIENT "reject", "", "reject" },
        { CLIENT "check_client_access static:REJECT", "", "check_client_access" },
        { CLIENT "static:REJECT", "", "table" },
        { "smtpd_restriction_classes = A\nA = defer\n" CLIENT "A", "", "defer" },
        { CLIENT "defer_if_permit", "", "defer_if_permit" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w = world_of(rows[i].conf);
        struct trial *t = xcalloc(1, sizeof *t);
        trial_begin(t, rows[i].envelope, "");
        cr_expect_eq(trial_run(t, w.policy), VERDICT_REJECT);
        cr_expect_str_eq(t->outcome.rule, rows[i].rule);
        trial_end(t);
        free(t);
        world_fini(&w);
    }
}

/* ------------------------------------------------------------ every row has a case */

static bool is_in(const char *name, const struct buf *text)
{
    const char *at = buf_text((struct buf *)(uintptr_t)text);
    size_t len = strlen(name);
    for (; (at = strstr(at, name)) != NULL; at += len)
        if (strchr("abcdefghijklmnopqrstuvwxyz_", at[len]) == NULL || at[len] == '\0')
            return true;
    return false;
}

/* Tables (test_check_*.c) and dialogues. */
static void read_cases(struct buf *text)
{
    static const char *const patterns[] = { "unit/test_check_*.c", "script/*.smtp" };
    const char *top = getenv("SOURCE_DIR");
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        glob_t found;
        char pattern[1000];
        snprintf(pattern, sizeof pattern, "%s/tests/%s", top != NULL ? top : ".", patterns[i]);
        cr_assert_eq(glob(pattern, 0, NULL, &found), 0, "%s: is SOURCE_DIR set?", pattern);
        for (size_t k = 0; k < found.gl_pathc; k++) {
            FILE *f = fopen(found.gl_pathv[k], "re");
            char *room = buf_reserve(text, 1 << 17);
            text->len += fread(room, 1, 1 << 17, f);
            fclose(f);
        }
        globfree(&found);
    }
}

/* A restriction that nobody tests is one that nobody knows: a new row needs a case. */
Test(eval, every_restriction_has_a_case)
{
    struct buf text = { 0 };
    read_cases(&text);
    for (size_t i = 0; i < restriction_count; i++)
        if (restrictions[i].check != NULL)
            cr_expect(is_in(restrictions[i].name, &text), "%s", restrictions[i].name);
    buf_fini(&text);
}

/* What is not served says why, at the start. */
Test(eval, what_is_not_served_stops_the_start)
{
    for (size_t i = 0; i < restriction_count; i++) {
        struct buf conf = { 0 };
        if (restrictions[i].check != NULL)
            continue;
        buf_printf(&conf, "%s%s%s static:x\n", WORLD_BASE, RECIPIENT, restrictions[i].name);
        struct world w = world_try(buf_text(&conf));
        cr_expect_eq(world_said(&w, PROBLEM_ERROR, "smtpd_recipient_restrictions", restrictions[i].text), 1, "%s",
                     restrictions[i].name);
        buf_fini(&conf);
        world_fini(&w);
    }
}
