#include "world.h"

#include "policy/restriction.h"
#include "protocol/mem.h"

static struct world world_with(const char *list, const char *text)
{
    struct buf all = { 0 };
    buf_printf(&all, "%s%s = %s\n", WORLD_BASE, list, text);
    struct world w = world_try(buf_text(&all));
    buf_fini(&all);
    return w;
}

/* What a list was compiled to: names, "(argument)", "!" in front of what is only warned of. */
static void print_rules(const struct rules_list *rules, struct buf *out)
{
    for (size_t i = 0; i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];
        buf_printf(out, "%s%s%s", i > 0 ? " " : "", rule->is_warned ? "!" : "", rule->row->name);
        if (rule->argument.len > 0)
            buf_printf(out, "(%.*s)", (int)rule->argument.len, rule->argument.at);
    }
}

Test(plan, lists_become_rules)
{
    static const struct {
        const char *text, *rules;
    } rows[] = {
        { "", "" },
        { "  ,, ", "" },
        { "permit", "permit" },
        { "PERMIT", "permit" },
        { "Reject_Unauth_Destination", "reject_unauth_destination" },
        { "permit_mynetworks, reject", "permit_mynetworks reject" },
        { "permit_mynetworks reject", "permit_mynetworks reject" },
        { "{permit_mynetworks}, { reject }", "permit_mynetworks reject" },
        { "warn_if_reject reject, permit", "!reject permit" },
        { "WARN_IF_REJECT reject, permit", "!reject permit" },
        { "warn_if_reject, warn_if_reject, reject permit", "!reject permit" },
        { "check_recipient_maps", "reject_unlisted_recipient" },
        { "reject_unknown_client", "reject_unknown_client_hostname" },
        { "reject_invalid_hostname", "reject_invalid_helo_hostname" },
        { "reject_non_fqdn_hostname", "reject_non_fqdn_helo_hostname" },
        { "reject_unknown_hostname", "reject_unknown_helo_hostname" },
        { "reject_unknown_address", "reject_unknown_sender_domain" },
        { "reject_rbl a.test", "reject_rbl_client(a.test)" },
        { "sleep 0, sleep 3600", "sleep(0) sleep(3600)" },
        { "check_client_access static:ok", "check_client_access(static:ok)" },
        { "check_client_access inline:{a=b, c=d} reject",
          "check_client_access(inline:{a=b, c=d}) reject" },
        { "check_client_access {inline:{a=b}} reject", "check_client_access(inline:{a=b}) reject" },
        { "static:ok, reject", "table(static:ok) reject" },
        { "inline:{{a = REJECT two words}}", "table(inline:{{a = REJECT two words}})" },
        { "reject_rbl_client a.test=127.0.0.[2..11] permit",
          "reject_rbl_client(a.test=127.0.0.[2..11]) permit" },
        { "permit_sasl_authenticated reject", "permit_sasl_authenticated reject" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w = world_with("smtpd_client_restrictions", rows[i].text);
        struct buf seen = { 0 };
        cr_assert_eq(w.problems.error_count, 0, "%s: %s", rows[i].text,
                     w.problems.first != NULL ? w.problems.first->text : "");
        print_rules(&w.policy->lists[LIST_CLIENT], &seen);
        cr_expect_str_eq(buf_text(&seen), rows[i].rules, "%s", rows[i].text);
        buf_fini(&seen);
        world_fini(&w);
    }
}

static const struct {
    const char *text, *words;
} mistakes[] = {
    { "no_such_restriction", "unknown restriction \"no_such_restriction\"" },
    { "reject_unauth_destinatoin", "did you mean \"reject_unauth_destination\"?" },
    { "permitt", "did you mean \"permit\"?" },
    { "reject_unknown_sender_domains", "did you mean \"reject_unknown_sender_domain\"?" },
    { "warn_if_rejekt reject", "did you mean \"warn_if_reject\"?" },
    { "#", "unknown restriction \"#\"" },
    { "nosuch:table", "unknown table type \"nosuch\"" },
    { "check_client_access", "missing or bad argument of: \"check_client_access\"" },
    { "check_client_access reject", "missing or bad argument of: \"check_client_access\"" },
    { "check_client_access nosuch:x", "unknown table type \"nosuch\"" },
    { "sleep", "missing or bad argument of: \"sleep\"" },
    { "sleep x", "missing or bad argument of: \"sleep\"" },
    { "sleep 1s", "missing or bad argument of: \"sleep\"" },
    { "sleep -1", "missing or bad argument of: \"sleep\"" },
    { "sleep 3601", "missing or bad argument of: \"sleep\"" },
    { "reject_rbl_client", "missing or bad argument of: \"reject_rbl_client\"" },
    { "reject_rbl_client a.test=127.0.0.3[4]", "127.0.0.3[4]" },
    { "check_policy_service", "missing or bad argument of: \"check_policy_service\"" },
    { "permit_tls_clientcerts", "\"permit_tls_clientcerts\" is not served: " },
    { "check_ccert_access static:x", "is not served: client certificates" },
    { "permit_mx_backup", "is not served: deprecated" },
    { "reject_maps_rbl", "is not served: removed: use reject_rbl_client" },
};

Test(plan, mistakes_stop_the_start)
{
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        struct world w = world_with("smtpd_client_restrictions", mistakes[i].text);
        cr_expect_eq(world_said(&w, PROBLEM_ERROR, "smtpd_client_restrictions",
                                mistakes[i].words), 1, "%s: %s", mistakes[i].text,
                     w.problems.first != NULL ? w.problems.first->text : "no problem");
        world_fini(&w);
    }
}

Test(plan, all_mistakes_of_a_list_are_found)
{
    struct world w = world_with("smtpd_helo_restrictions", "one, two, permit_mynetworks, three");
    cr_expect_eq(w.problems.error_count, 3);
    world_fini(&w);
}

Test(plan, what_never_runs_is_a_warning)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        { "permit, reject", "\"reject\" and what follows is behind \"permit\"" },
        { "reject, permit, defer", "\"permit\" and what follows is behind \"reject\"" },
        { "defer permit", "\"permit\" and what follows is behind \"defer\"" },
        { "permit_mynetworks, warn_if_reject", "warn_if_reject at the end" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w = world_with("smtpd_sender_restrictions", rows[i].text);
        cr_expect_eq(world_said(&w, PROBLEM_WARNING, "smtpd_sender_restrictions", rows[i].words),
                     1, "%s", rows[i].text);
        cr_expect_eq(w.problems.error_count, 0, "%s", rows[i].text);
        world_fini(&w);
    }
    struct world w = world_with("smtpd_sender_restrictions", "warn_if_reject reject, permit");
    cr_expect_eq(world_said(&w, PROBLEM_WARNING, "smtpd_sender_restrictions", ""), 0,
                 "behind a mere warning the list goes on");
    world_fini(&w);
}

Test(plan, a_bare_table_has_no_meaning_for_data)
{
    static const char *const lists[] = { "smtpd_data_restrictions",
                                         "smtpd_end_of_data_restrictions" };
    for (size_t i = 0; i < 2; i++) {
        struct world w = world_with(lists[i], "static:ok");
        cr_expect_eq(world_said(&w, PROBLEM_ERROR, lists[i], "a table cannot stand here"), 1);
        world_fini(&w);
    }
}

Test(plan, a_table_that_cannot_be_opened_is_a_warning)
{
    struct world w = world_with("smtpd_client_restrictions", "check_client_access hash:/none/x");
    cr_expect_eq(w.problems.error_count, 0);
    cr_expect_eq(world_said(&w, PROBLEM_WARNING, "smtpd_client_restrictions", "/none/x.db"), 1);
    world_fini(&w);
}

/* ------------------------------------------------------------ classes */

static struct world world_of_classes(const char *text)
{
    struct buf all = { 0 };
    buf_printf(&all, "%s%s", WORLD_BASE, text);
    struct world w = world_try(buf_text(&all));
    buf_fini(&all);
    return w;
}

Test(plan, classes_are_lists_of_their_own)
{
    struct world w = world_of_classes("smtpd_restriction_classes = one, Two\n"
                                      "one = permit_mynetworks, Two\n"
                                      "Two = defer\n"
                                      "smtpd_client_restrictions = one\n");
    cr_expect_eq(w.problems.error_count, 0);
    cr_expect_eq(world_said(&w, PROBLEM_WARNING, "one", ""), 0, "a class is a known name");
    const struct rules_list *client = &w.policy->lists[LIST_CLIENT];
    cr_assert_eq(client->count, 1);
    cr_expect_eq(client->rules[0].row, &restriction_class_row);
    cr_assert_not_null(client->rules[0].sub);
    cr_expect_eq(client->rules[0].sub->count, 2);
    cr_expect_eq(client->rules[0].sub->rules[1].sub->count, 1, "classes may name later ones");
    world_fini(&w);
}

Test(plan, mistakes_with_classes)
{
    static const struct {
        const char *text, *subject, *words;
    } rows[] = {
        { "smtpd_restriction_classes = one\n", "smtpd_restriction_classes",
          "class \"one\" has no list of its own" },
        { "smtpd_restriction_classes = one\none =\n", "smtpd_restriction_classes",
          "class \"one\" has no list of its own" },
        { "smtpd_restriction_classes = one\none = $nothing\n", "smtpd_restriction_classes",
          "class \"one\" has no list of its own" },
        { "smtpd_restriction_classes = one\none = nosuch\n", "one", "unknown restriction" },
        /* the case of a class counts, that of a restriction does not */
        { "smtpd_restriction_classes = CLS2\nCLS2 = permit\nsmtpd_helo_restrictions = cls2\n",
          "smtpd_helo_restrictions", "unknown restriction \"cls2\", did you mean \"CLS2\"?" },
        { "one = permit\nsmtpd_helo_restrictions = one\n", "smtpd_helo_restrictions",
          "unknown restriction \"one\"" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w = world_of_classes(rows[i].text);
        cr_expect_eq(world_said(&w, PROBLEM_ERROR, rows[i].subject, rows[i].words), 1, "%s\n%s",
                     rows[i].text, w.problems.first != NULL ? w.problems.first->text : "");
        world_fini(&w);
    }
}

/* ------------------------------------------------------------ relay protection */

static const struct {
    const char *relay, *recipient;
    bool is_protected;
} relays[] = {
    { "", "", false },
    { "reject_unauth_destination", "", true },
    { "", "reject_unauth_destination", true },
    { "defer_unauth_destination", "", true },
    { "", "reject", true },
    { "", "defer", true },
    { "defer_if_permit", "", true },
    { "permit_mynetworks, reject_unauth_destination", "", true },
    { "permit", "", false },
    { "permit, reject_unauth_destination", "", false },
    { "permit_mynetworks", "permit", false },
    { "permit", "reject_unauth_destination", true },
    { "permit_auth_destination", "", false },
    { "warn_if_reject reject_unauth_destination", "", false },
    { "warn_if_reject reject_unauth_destination, reject", "", true },
    { "warn_if_reject permit, reject", "", true },
    { "reject_unlisted_recipient", "", false },
    { "c_reject", "", true },
    { "permit_mynetworks, c_nested", "", true },
    { "warn_if_reject c_reject", "", false },
    { "c_permit", "", false },
    { "check_recipient_access static:reject", "", false },
};

Test(plan, relaying_for_everybody_stops_the_start)
{
    for (size_t i = 0; i < ARRAY_LEN(relays); i++) {
        struct buf text = { 0 };
        buf_printf(&text, "smtpd_restriction_classes = c_reject, c_permit, c_nested\n"
                          "c_reject = reject\nc_permit = permit\nc_nested = permit_mynetworks c_reject\n"
                          "smtpd_relay_restrictions = %s\nsmtpd_recipient_restrictions = %s\n",
                   relays[i].relay, relays[i].recipient);
        struct world w = world_of_classes(buf_text(&text));
        cr_expect_eq(w.problems.error_count, relays[i].is_protected ? 0 : 1, "relay = %s, "
                     "recipient = %s", relays[i].relay, relays[i].recipient);
        cr_expect_eq(world_said(&w, PROBLEM_ERROR, "smtpd_relay_restrictions",
                                "add reject_unauth_destination"), w.problems.error_count);
        buf_fini(&text);
        world_fini(&w);
    }
}

/* The search looks into each class once: neither a circle nor many ways to one class make it
 * long. */
Test(plan, classes_that_name_each_other_do_not_hang, .timeout = 20)
{
    struct world w = world_of_classes("smtpd_restriction_classes = one, two\n"
                                      "one = two, two, two\ntwo = one, one, one\n"
                                      "smtpd_relay_restrictions = one, reject_unauth_destination\n");
    cr_expect_eq(w.problems.error_count, 0);
    world_fini(&w);
    struct buf text = { 0 };
    buf_puts(&text, "smtpd_restriction_classes =");
    for (int i = 0; i < 60; i++)
        buf_printf(&text, " c%d", i);
    for (int i = 0; i < 59; i++)
        buf_printf(&text, "\nc%d = c%d c%d c%d", i, i + 1, i + 1, i + 1);
    buf_puts(&text, "\nc59 = permit_mynetworks\n"
                    "smtpd_relay_restrictions = c0, reject_unauth_destination\n");
    w = world_of_classes(buf_text(&text));
    cr_expect_eq(w.problems.error_count, 0);
    world_fini(&w);
    buf_fini(&text);
}

/* ------------------------------------------------------------ the table of restrictions */

Test(plan, every_restriction_has_a_text_and_one_row)
{
    for (size_t i = 0; i < restriction_count; i++) {
        const struct restriction *r = &restrictions[i];
        cr_expect(r->text != NULL && r->text[0] != '\0', "%s", r->name);
        for (const char *c = r->name; *c != '\0'; c++)
            cr_expect(*c == '_' || (*c >= 'a' && *c <= 'z'), "%s", r->name);
        cr_expect_eq(restriction_find(span_of(r->name)), r, "%s stands there twice", r->name);
    }
    cr_expect_null(restriction_find(SPAN_LITERAL("")));
    cr_expect_null(restriction_find(SPAN_LITERAL("class")));
}
