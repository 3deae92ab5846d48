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

struct relay_walk {
    struct problems *problems;
    const char *parameter; /* the list at work */
    const struct rule *protection;
    int depth;
};

enum { CLASS_DEPTH_MAX = 10 }; /* a class may name itself */

/* The first rule that keeps the relay shut, also in a class; NULL: none. */
static const struct rule *find_protection(const struct rules_list *rules, int depth)
{
    for (size_t i = 0; i < rules->count && depth < CLASS_DEPTH_MAX; i++) {
        const struct rule *rule = &rules->rules[i], *inner = NULL;
        if (is_relay_protection(rule))
            return rule;
        if (rule->sub != NULL && !rule->is_warned)
            inner = find_protection(rule->sub, depth + 1);
        if (inner != NULL)
            return inner;
    }
    return NULL;
}

/* Permits that a stranger may get, in front of the protection. True: it was reached. */
static bool warn_of_permits(struct relay_walk *w, const struct rules_list *rules)
{
    bool is_over = ++w->depth > CLASS_DEPTH_MAX;
    for (size_t i = 0; i < rules->count && !is_over; i++) {
        const struct rule *rule = &rules->rules[i];
        is_over = rule == w->protection || (rule->sub != NULL && warn_of_permits(w, rule->sub));
        if (!is_over && (rule->row->flags & RESTRICTION_PERMITS) != 0 && !permits_safely(rule))
            problems_warning(w->problems, w->parameter,
                             "%s %.*s stands before %s: a permit from it opens the relay",
                             rule->row->name, (int)rule->argument.len, rule->argument.at,
                             w->protection->row->name);
    }
    w->depth--;
    return is_over;
}

static void lint_relay(const struct policy *policy, enum list_name list,
                       struct problems *problems)
{
    struct relay_walk walk = { .problems = problems, .parameter = list_parameters[list],
                               .protection = find_protection(&policy->lists[list], 0) };
    if (walk.protection != NULL) /* else the other list does it */
        warn_of_permits(&walk, &policy->lists[list]);
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

static bool covers(const struct policy *policy, const char *address)
{
    struct ip ip;
    return ip_parse(span_of(address), &ip) && match_list_covers(&policy->mynetworks, &ip);
}

/* The first that is covered is enough: who trusts the world has one mistake, not five. */
static void lint_mynetworks(const struct policy *policy, struct problems *problems)
{
    /* an address of each half of the Internet, then bridges that container engines make */
    static const struct {
        const char *address, *words;
    } probes[] = {
        { "8.8.8.8", "an address of the public Internet: strangers are trusted" },
        { "198.41.0.4", "an address of the public Internet: strangers are trusted" },
        { "2001:4860:4860::8888", "an address of the public Internet: strangers are trusted" },
        { "172.17.0.1", "a container bridge: if strangers come in through it, they are all trusted" },
        { "10.88.0.1", "a container bridge: if strangers come in through it, they are all trusted" },
    };
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        if (!covers(policy, probes[i].address))
            continue;
        problems_warning(problems, "mynetworks", "covers %s, %s", probes[i].address,
                         probes[i].words);
        return;
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
