#include "policy/plan.h"
#include "policy/dnsbl.h"
#include "policy/nearest.h"
#include "policy/policy_server.h"
#include "policy/restriction.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <stdlib.h>

struct compiler {
    const struct plan_context *context;
    struct rules_list *out;
    size_t cap;
    struct span rest;
    const char *ended_by; /* permit, reject, defer: nothing behind it runs */
    bool is_warned;       /* warn_if_reject was the last word */
};

static void complain(struct compiler *c, enum problem_level level, const char *what,
                     struct span item)
{
    problems_add(c->context->problems, level, c->context->parameter, NULL, 0, "%s: \"%.*s\"",
                 what, (int)(item.len < 200 ? item.len : 200), item.at);
}

static struct rule *add_rule(struct compiler *c, const struct restriction *row)
{
    if (c->out->count == c->cap) {
        size_t cap = c->cap > 0 ? c->cap * 2 : 8;
        struct rule *more = arena_alloc(c->context->memory, cap * sizeof *more);
        if (c->out->count > 0)
            memcpy(more, c->out->rules, c->out->count * sizeof *more);
        c->out->rules = more;
        c->cap = cap;
    }
    struct rule *rule = &c->out->rules[c->out->count++];
    *rule = (struct rule){ .row = row, .is_warned = c->is_warned };
    c->is_warned = false;
    return rule;
}

/* Tables that a table's own value names would have to be opened in the middle of a decision:
 * Postfix refuses them, and so do we (spec 4.4). */
static struct map *get_map(struct compiler *c, struct span name)
{
    if (c->context->registry == NULL)
        return NULL;
    return maps_get(c->context->policy->maps, name, c->context->parameter,
                    c->context->problems);
}

/* Each list once, so that all rules share what the self-test found. */
static struct dnsbl *get_dnsbl(struct compiler *c, struct span argument, bool is_by_name)
{
    struct policy *registry = c->context->registry;
    for (struct dnsbl *d = c->context->policy->dnsbls; d != NULL; d = d->next)
        if (span_equals(span_of(d->argument), argument) && d->is_by_name == is_by_name)
            return d;
    struct dnsbl *dnsbl = arena_alloc(c->context->memory, sizeof *dnsbl);
    const char *error = dnsbl_parse(argument, c->context->memory, dnsbl);
    dnsbl->is_by_name = is_by_name;
    if (error != NULL) {
        complain(c, PROBLEM_ERROR, error, argument);
        return NULL;
    }
    if (registry != NULL) {
        dnsbl->next = registry->dnsbls;
        registry->dnsbls = dnsbl;
    }
    return dnsbl;
}

static struct policy_server *get_server(struct compiler *c, struct span argument)
{
    const char *error = "unknown policy server";
    if (c->context->registry == NULL)
        return policy_server_find(c->context->policy, argument);
    struct policy_server *server = policy_server_get(c->context->registry, argument,
                                                     c->context->policy->base_dir, &error);
    if (server == NULL)
        complain(c, PROBLEM_ERROR, error, argument);
    return server;
}

/* Lists of names are asked with the client's name; those of addresses with its address. */
static bool is_list_of_names(const struct restriction *row)
{
    return strstr(row->name, "_rhs") != NULL;
}

static bool looks_like_table(struct span item)
{
    return span_find(item, ':') < item.len;
}

static bool read_argument(struct compiler *c, struct rule *rule)
{
    if (rule->row->argument == ARG_NONE)
        return true;
    struct span item = list_next(&c->rest), inside;
    if (rule->row->argument != ARG_SERVER && list_unbrace(item, &inside))
        item = inside;
    rule->argument = arena_span(c->context->memory, item);
    switch (rule->row->argument) {
    case ARG_NONE: break;
    case ARG_NUMBER: return span_to_u64(item, 3600, &rule->number);
    case ARG_MAP:
        if (looks_like_table(item))
            rule->map = get_map(c, item);
        return rule->map != NULL;
    case ARG_DNSBL:
        if (item.len > 0)
            rule->dnsbl = get_dnsbl(c, item, is_list_of_names(rule->row));
        return rule->dnsbl != NULL;
    case ARG_SERVER:
        if (item.len > 0)
            rule->server = get_server(c, item);
        return rule->server != NULL;
    }
    return true;
}

static void add_restriction(struct compiler *c, const struct restriction *row, struct span item)
{
    if (row->check == NULL) {
        problems_error(c->context->problems, c->context->parameter, "\"%.*s\" is not served: %s",
                       (int)item.len, item.at, row->text);
        return;
    }
    struct rule *rule = add_rule(c, row);
    int errors = c->context->problems->error_count;
    if (!read_argument(c, rule) && c->context->problems->error_count == errors)
        complain(c, PROBLEM_ERROR, "missing or bad argument of", item);
    if (row->check == check_permit || row->check == check_reject || row->check == check_defer)
        if (!rule->is_warned)
            c->ended_by = row->name;
}

static const struct restriction_class *find_class(const struct compiler *c, struct span name)
{
    const struct policy *policy = c->context->policy;
    for (size_t i = 0; i < policy->class_count; i++)
        if (span_equals(name, span_of(policy->classes[i].name))) /* case counts (spec 1.7) */
            return &policy->classes[i];
    return NULL;
}

static void add_table(struct compiler *c, struct span item)
{
    bool is_data = c->context->list == LIST_DATA || c->context->list == LIST_END_OF_DATA;
    struct map *map = is_data ? NULL : get_map(c, item);
    if (map == NULL) {
        complain(c, PROBLEM_ERROR, "a table cannot stand here by itself", item);
        return;
    }
    struct rule *rule = add_rule(c, &restriction_table_row);
    rule->argument = arena_span(c->context->memory, item);
    rule->map = map;
}

static const char *nearest_name(const struct compiler *c, struct span item)
{
    struct nearest nearest = nearest_begin(item);
    const struct policy *policy = c->context->policy;
    restriction_try_nearest(&nearest);
    nearest_try(&nearest, "warn_if_reject");
    for (size_t i = 0; i < policy->class_count; i++)
        nearest_try(&nearest, policy->classes[i].name);
    return nearest.best;
}

static void add_unknown(struct compiler *c, struct span item)
{
    const char *nearest = nearest_name(c, item);
    problems_error(c->context->problems, c->context->parameter,
                   "unknown restriction \"%.*s\"%s%s%s",
                   (int)(item.len < 200 ? item.len : 200), item.at,
                   nearest != NULL ? ", did you mean \"" : "", nearest != NULL ? nearest : "",
                   nearest != NULL ? "\"?" : "");
}

static void add_item(struct compiler *c, struct span item)
{
    const struct restriction_class *class = find_class(c, item);
    const struct restriction *row = restriction_find(item);
    if (span_iequals(item, SPAN_LITERAL("warn_if_reject")))
        c->is_warned = true;
    else if (class != NULL)
        add_rule(c, &restriction_class_row)->sub = &class->rules;
    else if (row != NULL)
        add_restriction(c, row, item);
    else if (looks_like_table(item))
        add_table(c, item);
    else
        add_unknown(c, item);
}

void plan_compile(struct rules_list *out, struct span text, const struct plan_context *context)
{
    struct compiler c = { .context = context, .out = out, .rest = text };
    struct span item, inside;
    *out = (struct rules_list){ 0 };
    while ((item = list_next(&c.rest)).len > 0) {
        if (list_unbrace(item, &inside))
            item = inside;
        if (c.ended_by != NULL) {
            problems_warning(context->problems, context->parameter,
                             "\"%.*s\" and what follows is behind \"%s\" and never runs",
                             (int)item.len, item.at, c.ended_by);
            return;
        }
        add_item(&c, item);
    }
    if (c.is_warned)
        problems_warning(context->problems, context->parameter,
                         "warn_if_reject at the end has nothing to warn about");
}

/* ------------------------------------------------------------ relay protection */

static bool protects(const struct rule *rule)
{
    static enum verdict (*const checks[])(struct eval *, const struct rule *) = {
        check_unauth_destination, check_defer_unauth_destination, check_reject, check_defer,
        check_defer_if_permit,
    };
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (rule->row->check == checks[i])
            return !rule->is_warned;
    return false;
}

struct relay_search {
    const struct policy *policy;
    bool *was_seen; /* owns: by class; each is looked into once, however often it is named */
};

static bool list_protects(struct relay_search *s, const struct rules_list *rules);

static bool class_protects(struct relay_search *s, const struct rules_list *rules)
{
    for (size_t i = 0; i < s->policy->class_count; i++) {
        if (&s->policy->classes[i].rules != rules || s->was_seen[i])
            continue;
        s->was_seen[i] = true;
        return list_protects(s, rules);
    }
    return false;
}

static bool list_protects(struct relay_search *s, const struct rules_list *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];
        if (rule->row->check == check_permit && !rule->is_warned)
            return false;
        if (protects(rule))
            return true;
        if (rule->sub != NULL && !rule->is_warned && class_protects(s, rule->sub))
            return true;
    }
    return false;
}

void plan_check_relay(const struct policy *policy, struct problems *problems)
{
    struct relay_search search = { policy, xcalloc(policy->class_count + 1, sizeof(bool)) };
    bool is_protected = list_protects(&search, &policy->lists[LIST_RELAY])
                        || list_protects(&search, &policy->lists[LIST_RECIPIENT]);
    free(search.was_seen);
    if (is_protected)
        return;
    problems_error(problems, "smtpd_relay_restrictions",
                   "neither this nor smtpd_recipient_restrictions refuses mail for other "
                   "domains: add reject_unauth_destination");
}

static bool list_uses(const struct rules_list *rules, const struct restriction *row)
{
    for (size_t i = 0; i < rules->count; i++)
        if (rules->rules[i].row == row)
            return true;
    return false;
}

bool policy_uses(const struct policy *policy, const char *restriction)
{
    const struct restriction *row = restriction_find(span_of(restriction));
    for (enum list_name list = 0; list < LIST_COUNT; list++)
        if (list_uses(&policy->lists[list], row))
            return true;
    for (size_t i = 0; i < policy->class_count; i++)
        if (list_uses(&policy->classes[i].rules, row))
            return true;
    return false;
}

bool policy_verifies(const struct policy *policy)
{
    return policy_uses(policy, "reject_unverified_sender")
           || policy_uses(policy, "reject_unverified_recipient");
}
