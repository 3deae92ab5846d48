#include "policy/lint.h"
#include "policy/dnsbl.h"
#include "policy/restriction.h"

/* ------------------------------------------------------------ lists */

static bool is_relay_protection(const struct rule *rule)
{
    return !rule->is_warned
           && (rule->row->check == check_unauth_destination
               || rule->row->check == check_defer_unauth_destination
               || rule->row->check == check_reject || rule->row->check == check_defer);
}

/* These permit only our own people or our own recipients. */
static bool permits_safely(const struct rule *rule)
{
    return rule->row->check == check_mynetworks || rule->row->check == check_inet_interfaces
           || rule->row->check == check_auth_destination || rule->row->check == check_dnswl;
}

/* A permit that a stranger may get, in front of the rule that keeps the relay shut. */
static void lint_relay(const struct policy *policy, enum list_name list,
                       struct problems *problems)
{
    const struct rules_list *rules = &policy->lists[list];
    size_t protection = 0;
    while (protection < rules->count && !is_relay_protection(&rules->rules[protection]))
        protection++;
    if (protection == rules->count)
        return; /* the other list does it */
    for (size_t i = 0; i < protection; i++) {
        const struct rule *rule = &rules->rules[i];
        if ((rule->row->flags & RESTRICTION_PERMITS) == 0 || permits_safely(rule))
            continue;
        problems_warning(problems, list_parameters[list],
                         "%s %.*s stands before %s: a permit from it opens the relay",
                         rule->row->name, (int)rule->argument.len, rule->argument.at,
                         rules->rules[protection].row->name);
    }
}

static void lint_dnsbl(const struct rule *rule, const char *parameter, bool is_guarded,
                       struct problems *problems)
{
    bool is_allowlist = (rule->row->flags & RESTRICTION_IS_ALLOWLIST) != 0;
    if (rule->dnsbl == NULL || rule->dnsbl->has_filter)
        return;
    if (is_allowlist)
        problems_warning(problems, parameter,
                         "%s %s has no =filter: an answer that means something else permits",
                         rule->row->name, rule->dnsbl->argument);
    else
        problems_warning(problems, parameter,
                         "%s %s has no =filter: %s", rule->row->name, rule->dnsbl->argument,
                         is_guarded ? "any answer of the list in 127/8 refuses, but the known "
                                      "error answers"
                                    : "every answer refuses, also the list's error answers");
}

static void lint_rules(const struct policy *policy, const struct rules_list *rules,
                       const char *parameter, struct problems *problems)
{
    for (size_t i = 0; i < rules->count; i++)
        lint_dnsbl(&rules->rules[i], parameter, policy->params->dns_list_guard, problems);
}

/* ------------------------------------------------------------ mynetworks */

static void lint_mynetworks(const struct policy *policy, struct problems *problems)
{
    /* an address of each half of the Internet, and bridges that container engines make */
    static const struct {
        const char *address;
        bool is_bridge;
    } probes[] = { { "8.8.8.8", false }, { "198.41.0.4", false }, { "2001:4860:4860::8888", false },
                   { "172.17.0.1", true }, { "10.88.0.1", true } };
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        struct ip ip;
        if (!ip_parse(span_of(probes[i].address), &ip)
            || !match_list_covers(&policy->mynetworks, &ip))
            continue;
        problems_warning(problems, "mynetworks",
                         probes[i].is_bridge
                             ? "covers %s, a container bridge: if strangers come in through it, "
                               "they are all trusted"
                             : "covers %s, an address of the public Internet: strangers are "
                               "trusted",
                         probes[i].address);
    }
}

void lint_on_host(const struct policy *policy, const struct lint_host *host,
                  struct problems *problems)
{
    char text[IP_TEXT_MAX];
    if (host->is_container && host->gateway.family != 0
        && match_list_covers(&policy->mynetworks, &host->gateway))
        problems_warning(problems, "mynetworks",
                         "covers %s, this container's gateway: strangers that come in through "
                         "it are all trusted", ip_text(&host->gateway, text));
}

/* ------------------------------------------------------------ domains */

/* A domain belongs to the first class that lists it (spec 3.1); twice is a mistake. */
static void lint_domains(const struct policy *policy, struct problems *problems)
{
    const struct domains *d = &policy->domains;
    const struct match_list *const lists[] = { &d->mydestination, &d->virtual_alias_domains,
                                               &d->virtual_mailbox_domains, &d->relay_domains };
    for (size_t a = 0; a < 4; a++)
        for (size_t b = a + 1; b < 4; b++)
            match_list_report_common(lists[a], lists[b], problems);
}

void lint_policy(const struct policy *policy, struct problems *problems)
{
    lint_relay(policy, LIST_RELAY, problems);
    if (policy->lists[LIST_RELAY].count == 0)
        lint_relay(policy, LIST_RECIPIENT, problems);
    for (enum list_name list = 0; list < LIST_COUNT; list++)
        lint_rules(policy, &policy->lists[list], list_parameters[list], problems);
    for (size_t i = 0; i < policy->class_count; i++)
        lint_rules(policy, &policy->classes[i].rules, policy->classes[i].name, problems);
    lint_mynetworks(policy, problems);
    lint_domains(policy, problems);
}
