/* What `postern check` warns of although it would work (policy/lint.c), and what it refuses. */
#include "scratch.h"
#include "world.h"

#include "policy/lint.h"
#include "protocol/mem.h"

#define RELAY "smtpd_relay_restrictions = "
#define RECIPIENT "smtpd_recipient_restrictions = "
#define RELAY_SHUT RELAY "permit_mynetworks, reject_unauth_destination\n"

static const struct {
    const char *conf;
    int count; /* of warnings and errors together */
    enum problem_level level;
    const char *subject, *words;
} rows[] = {
    { "", 0, PROBLEM_WARNING, "", "" },

    /* the relay */
    { RELAY "permit_mynetworks", 1, PROBLEM_ERROR, "smtpd_relay_restrictions", "add reject_unauth_destination" },
    { RELAY "\n", 1, PROBLEM_ERROR, "smtpd_relay_restrictions", "add reject_unauth_destination" },
    { RELAY "permit, reject_unauth_destination", 2, PROBLEM_ERROR, "smtpd_relay_restrictions", "add reject_unauth_destination" },
    { RELAY "\n" RECIPIENT "reject_unauth_destination", 0, PROBLEM_WARNING, "", "" },
    { RELAY "check_client_access static:OK, reject_unauth_destination", 1, PROBLEM_WARNING, "smtpd_relay_restrictions",
      "check_client_access static:OK stands before reject_unauth_destination: a permit from it opens the relay" },
    { RELAY "static:OK, defer_unauth_destination", 1, PROBLEM_WARNING, "smtpd_relay_restrictions", "opens the relay" },
    { RELAY "check_helo_access static:OK, check_sender_access static:OK, reject", 2, PROBLEM_WARNING, "smtpd_relay_restrictions",
      "opens the relay" },
    { RELAY "check_policy_service inet:127.0.0.1:1, reject_unauth_destination", 1, PROBLEM_WARNING, "smtpd_relay_restrictions",
      "check_policy_service inet:127.0.0.1:1 stands before" },
    { RELAY "reject_unauth_destination, check_client_access static:OK", 0, PROBLEM_WARNING, "", "" },
    { RELAY "permit_inet_interfaces, permit_auth_destination, reject", 0, PROBLEM_WARNING, "", "" },
    { RELAY "check_sender_mx_access static:REJECT, reject_unauth_destination", 0, PROBLEM_WARNING, "", "" },
    { RELAY "\n" RECIPIENT "check_sender_access static:OK, reject_unauth_destination", 1, PROBLEM_WARNING,
      "smtpd_recipient_restrictions", "opens the relay" },
    { RELAY_SHUT RECIPIENT "check_sender_access static:OK, reject_unauth_destination", 0, PROBLEM_WARNING, "", "" },
    { RELAY "warn_if_reject reject_unauth_destination, check_client_access static:OK, reject_unauth_destination", 1, PROBLEM_WARNING,
      "smtpd_relay_restrictions", "opens the relay" },
    { "smtpd_restriction_classes = A\nA = check_client_access static:OK\n" RELAY "A, reject_unauth_destination", 1, PROBLEM_WARNING,
      "smtpd_relay_restrictions", "check_client_access static:OK stands before reject_unauth_destination" },
    { "smtpd_restriction_classes = A\nA = check_client_access static:OK, reject_unauth_destination\n" RELAY "A", 1, PROBLEM_WARNING,
      "smtpd_relay_restrictions", "opens the relay" },
    { "smtpd_restriction_classes = A\nA = reject_unauth_destination\n" RELAY "A, check_client_access static:OK", 0, PROBLEM_WARNING,
      "", "" },
    { "smtpd_restriction_classes = A\nA = A\n" RELAY "A, check_client_access static:OK, reject", 0, PROBLEM_WARNING, "", "" },

    /* rules that never run */
    { RECIPIENT "permit, reject_unlisted_recipient", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions",
      "\"reject_unlisted_recipient\" and what follows is behind \"permit\" and never runs" },
    { RECIPIENT "reject, permit", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions", "never runs" },
    { RECIPIENT "warn_if_reject reject, permit_mynetworks", 0, PROBLEM_WARNING, "", "" },
    { RECIPIENT "permit_mynetworks, warn_if_reject", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions", "has nothing to warn about" },

    /* lists without a filter */
    { RECIPIENT "reject_rbl_client bl.test", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions", "reject_rbl_client bl.test has no =filter" },
    { RECIPIENT "reject_rhsbl_sender bl.test", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions", "has no =filter" },
    { RECIPIENT "reject_rbl_client bl.test=127.0.0.[2..11]", 0, PROBLEM_WARNING, "", "" },
    { "dns_list_guard = no\n" RECIPIENT "reject_rbl_client bl.test", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions",
      "every answer refuses, also the list's error answers" },
    { RECIPIENT "permit_dnswl_client wl.test", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions",
      "permit_dnswl_client wl.test has no =filter: an answer that means something else permits" },
    { RECIPIENT "permit_rhswl_client wl.test", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions", "permits" },
    { RECIPIENT "permit_dnswl_client wl.test=127.0.[0..255].[1..3]", 0, PROBLEM_WARNING, "", "" },
    { "smtpd_restriction_classes = A\nA = reject_rbl_client bl.test\n" RECIPIENT "A", 1, PROBLEM_WARNING, "A", "has no =filter" },
    { RECIPIENT "reject_rbl_client bl.test=127.0.0.[2", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions", "bad filter" },

    /* who is trusted */
    { "mynetworks = 0.0.0.0/0", 1, PROBLEM_WARNING, "mynetworks", "covers 8.8.8.8, an address of the public Internet" },
    { "mynetworks = 0.0.0.0/1, 128.0.0.0/1", 1, PROBLEM_WARNING, "mynetworks", "strangers are trusted" },
    { "mynetworks = 128.0.0.0/1", 1, PROBLEM_WARNING, "mynetworks", "covers 198.41.0.4" },
    { "mynetworks = [::]/0", 1, PROBLEM_WARNING, "mynetworks", "covers 2001:4860:4860::8888" },
    { "mynetworks = !8.8.8.8, 8.0.0.0/8", 0, PROBLEM_WARNING, "", "" },
    { "mynetworks = 172.16.0.0/12", 1, PROBLEM_WARNING, "mynetworks", "covers 172.17.0.1, a container bridge" },
    { "mynetworks = 10.0.0.0/8", 1, PROBLEM_WARNING, "mynetworks", "covers 10.88.0.1, a container bridge" },
    { "mynetworks = 127.0.0.0/8, 192.0.2.0/24, [2001:db8::]/32", 0, PROBLEM_WARNING, "", "" },
    { "mynetworks = 10.0.0.1/8", 1, PROBLEM_ERROR, "mynetworks", "has bits set behind its prefix" },

    /* names */
    { RECIPIENT "reject_unlisted_recipents", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions",
      "unknown restriction \"reject_unlisted_recipents\", did you mean \"reject_unlisted_recipient\"?" },
    { RECIPIENT "warn_if_rejekt reject", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions", "did you mean \"warn_if_reject\"?" },
    { "smtpd_restriction_classes = STRICT\nSTRICT = reject\n" RECIPIENT "STRICKT", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions",
      "did you mean \"STRICT\"?" },
    { RECIPIENT "xyzzy", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions", "unknown restriction \"xyzzy\"" },
    { "smtpd_recipient_restriction = reject", 1, PROBLEM_WARNING, "smtpd_recipient_restriction",
      "did you mean \"smtpd_recipient_restrictions\"?" },

    /* tables */
    { RECIPIENT "check_sender_access hash:/nonexistent/x", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions",
      "table hash:/nonexistent/x: /nonexistent/x.db: No such file" },
    { RECIPIENT "check_sender_access texthash:/nonexistent/x", 1, PROBLEM_WARNING, "smtpd_recipient_restrictions",
      "/nonexistent/x: No such file" },
    { RECIPIENT "check_sender_access", 1, PROBLEM_ERROR, "smtpd_recipient_restrictions", "missing or bad argument" },
    { "virtual_mailbox_domains = vmbox.test, example.org", 1, PROBLEM_WARNING, "virtual_mailbox_domains",
      "\"example.org\" is in mydestination already, which counts" },
};

static struct world world_behind_base(const char *conf)
{
    struct buf all = { 0 };
    buf_printf(&all, "%s%s\n", WORLD_BASE, conf);
    struct world w = world_try(buf_text(&all));
    buf_fini(&all);
    return w;
}

/* All but that a row sets again what the base has set. */
static const struct problem *own_problems(const struct world *w, int *count)
{
    const struct problem *first = NULL;
    *count = 0;
    for (const struct problem *p = w->problems.first; p != NULL; p = p->next) {
        if (strstr(p->text, "set before in line") != NULL)
            continue;
        first = first != NULL ? first : p;
        ++*count;
    }
    return first;
}

/* Exactly these are said: a warning too many is as bad as one that is missing. */
Test(lint, by_table)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w = world_behind_base(rows[i].conf);
        int count;
        const struct problem *first = own_problems(&w, &count);
        int said = rows[i].count > 0 ? world_said(&w, rows[i].level, rows[i].subject, rows[i].words) : 0;
        cr_expect(count == rows[i].count && (said > 0) == (rows[i].count > 0), "%s: %d, the first: %s: %s", rows[i].conf, count,
                  first != NULL ? first->subject : "", first != NULL ? first->text : "");
        world_fini(&w);
    }
}

/* The configuration that the manual recommends has no fault. */
Test(lint, the_reference_configuration_is_clean)
{
    struct scratch s = scratch_new();
    struct buf conf = { 0 };
    scratch_write(&s, "recipients", "you@example.org you/\n");
    scratch_write(&s, "clients", "192.0.2.0/24 OK\n");
    scratch_write(&s, "senders", "bad.test REJECT\n");
    scratch_postmap(&s, "hash", "recipients");
    scratch_postmap(&s, "hash", "senders");
    buf_printf(&conf,
               "myhostname = mx.example.org\nmydestination =\nmynetworks = 127.0.0.0/8\n"
               "virtual_mailbox_domains = example.org\nvirtual_mailbox_maps = hash:%s/recipients\n"
               "smtpd_helo_required = yes\nsmtpd_relay_restrictions = reject_unauth_destination\n"
               "smtpd_recipient_restrictions =\n reject_unlisted_recipient,\n permit_mynetworks,\n"
               " check_client_access cidr:%s/clients,\n check_sender_access hash:%s/senders,\n"
               " reject_non_fqdn_sender, reject_unknown_sender_domain,\n"
               " reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname,\n"
               " permit_dnswl_client allow.example.net=127.0.[0..255].[1..3],\n"
               " reject_rbl_client block.example.net=127.0.0.[2..11],\n"
               " reject_rhsbl_sender domains.example.net=127.0.1.[2..99],\n"
               " check_policy_service inet:127.0.0.1:10023\n"
               "smtpd_data_restrictions = reject_unauth_pipelining, reject_multi_recipient_bounce\n"
               "smtpd_forbid_bare_newline = normalize\nsmtpd_forbid_unauth_pipelining = yes\n", s.dir, s.dir, s.dir);
    struct world w = world_try(buf_text(&conf));
    cr_expect_eq(w.problems.count, 0, "%s: %s", w.problems.first != NULL ? w.problems.first->subject : "",
                 w.problems.first != NULL ? w.problems.first->text : "");
    buf_fini(&conf);
    world_fini(&w);
    scratch_fini(&s);
}

/* A text that is newer than its table: somebody forgot to make it. */
Test(lint, a_stale_table)
{
    struct scratch s = scratch_new();
    char conf[300];
    scratch_write(&s, "senders", "bad.test REJECT\n");
    scratch_postmap(&s, "hash", "senders");
    scratch_age(&s, "senders.db", 100);
    snprintf(conf, sizeof conf, RECIPIENT "check_sender_access hash:%s/senders", s.dir);
    struct world w = world_behind_base(conf);
    cr_expect_eq(w.problems.count, 1, "%d", w.problems.count);
    cr_expect(w.problems.first != NULL && strstr(w.problems.first->text, "postern map make hash:") != NULL);
    world_fini(&w);
    scratch_fini(&s);
}

Test(lint, a_containers_gateway)
{
    static const struct {
        const char *mynetworks, *gateway;
        bool is_container, is_said;
    } hosts[] = {
        { "192.0.2.0/24", "192.0.2.1", true, true },   { "192.0.2.0/24", "192.0.2.1", false, false },
        { "192.0.2.0/24", "198.51.100.1", true, false }, { "!192.0.2.1, 192.0.2.0/24", "192.0.2.1", true, false },
        { "192.0.2.0/24", NULL, true, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct lint_host host = { .is_container = hosts[i].is_container };
        struct problems problems = { 0 };
        char conf[100];
        if (hosts[i].gateway != NULL)
            cr_assert(ip_parse(span_of(hosts[i].gateway), &host.gateway));
        snprintf(conf, sizeof conf, "mynetworks = %s", hosts[i].mynetworks);
        struct world w = world_behind_base(conf);
        lint_on_host(w.policy, &host, &problems);
        cr_expect_eq(problems.count, hosts[i].is_said, "%zu", i);
        if (hosts[i].is_said)
            cr_expect_str_eq(problems.first->text, "covers 192.0.2.1, this container's gateway: strangers that come in "
                                                   "through it are all trusted");
        problems_fini(&problems);
        world_fini(&w);
    }
}
