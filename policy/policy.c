#include "policy/policy.h"
#include "policy/dnsbl.h"
#include "policy/greet.h"
#include "policy/plan.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <stdlib.h>

const char *const list_parameters[LIST_COUNT] = {
    [LIST_CLIENT] = "smtpd_client_restrictions",
    [LIST_HELO] = "smtpd_helo_restrictions",
    [LIST_SENDER] = "smtpd_sender_restrictions",
    [LIST_RELAY] = "smtpd_relay_restrictions",
    [LIST_RECIPIENT] = "smtpd_recipient_restrictions",
    [LIST_DATA] = "smtpd_data_restrictions",
    [LIST_END_OF_DATA] = "smtpd_end_of_data_restrictions",
};

static const char *list_text(const struct params *p, enum list_name list)
{
    switch (list) {
    case LIST_CLIENT: return p->smtpd_client_restrictions;
    case LIST_HELO: return p->smtpd_helo_restrictions;
    case LIST_SENDER: return p->smtpd_sender_restrictions;
    case LIST_RELAY: return p->smtpd_relay_restrictions;
    case LIST_RECIPIENT: return p->smtpd_recipient_restrictions;
    case LIST_DATA: return p->smtpd_data_restrictions;
    case LIST_END_OF_DATA: return p->smtpd_end_of_data_restrictions;
    case LIST_COUNT: break;
    }
    return "";
}

static void compile_domains(struct policy *policy, const struct policy_source *source)
{
    const struct params *p = source->params;
    struct domains *d = &policy->domains;
    struct match_source match = { source->maps, source->base_dir,
                                  p->parent_domain_matches_subdomains, &policy->memory,
                                  source->problems, &policy->mynetworks };
    const struct {
        struct match_list *list;
        const char *text, *parameter;
    } lists[] = {
        { &d->mydestination, p->mydestination, "mydestination" },
        { &d->virtual_alias_domains, p->virtual_alias_domains, "virtual_alias_domains" },
        { &d->virtual_mailbox_domains, p->virtual_mailbox_domains, "virtual_mailbox_domains" },
        { &d->relay_domains, p->relay_domains, "relay_domains" },
        { &policy->mynetworks, p->mynetworks, "mynetworks" },
        { &policy->greylist_exempt_clients, p->greylist_exempt_clients,
          "greylist_exempt_clients" },
        { &policy->spf_exempt_clients, p->spf_exempt_clients, "spf_exempt_clients" },
        { &policy->greet_exempt_clients, p->greet_exempt_clients, "greet_exempt_clients" },
        { &policy->verify_networks, p->address_verify_networks, "address_verify_networks" },
        { &policy->greylist_exempt_recipients, p->greylist_exempt_recipients,
          "greylist_exempt_recipients" },
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        match_list_compile(lists[i].list, lists[i].text, lists[i].parameter, &match);
    d->mydestination.is_exact = d->virtual_alias_domains.is_exact = true;
    d->virtual_mailbox_domains.is_exact = true; /* subdomains are for relays (spec 3.1) */
}

static void compile_tables(struct policy *policy, const struct policy_source *source)
{
    const struct params *p = source->params;
    struct domains *d = &policy->domains;
    const struct {
        struct map_list *list;
        const char *text, *parameter;
    } lists[] = {
        { &d->local_recipient_maps, p->local_recipient_maps, "local_recipient_maps" },
        { &d->virtual_alias_maps, p->virtual_alias_maps, "virtual_alias_maps" },
        { &d->virtual_mailbox_maps, p->virtual_mailbox_maps, "virtual_mailbox_maps" },
        { &d->relay_recipient_maps, p->relay_recipient_maps, "relay_recipient_maps" },
        { &policy->transport_maps, p->transport_maps, "transport_maps" },
        { &policy->rbl_reply_maps, p->rbl_reply_maps, "rbl_reply_maps" },
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        map_list_compile(lists[i].list, source->maps, lists[i].text, lists[i].parameter,
                         &policy->memory, source->problems);
}

static void compile_transports(struct policy *policy, const struct policy_source *source)
{
    const struct params *p = source->params;
    const struct {
        struct transport *transport;
        const char *text, *parameter;
    } rows[] = {
        { &policy->virtual_transport, p->virtual_transport, "virtual_transport" },
        { &policy->local_transport, p->local_transport, "local_transport" },
        { &policy->relay_transport, p->relay_transport, "relay_transport" },
        { &policy->default_transport, p->default_transport, "default_transport" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *error = transport_parse(span_of(rows[i].text), &policy->memory,
                                            rows[i].transport);
        if (error != NULL)
            problems_error(source->problems, rows[i].parameter, "\"%s\": %s", rows[i].text,
                           error);
    }
}

static void compile_classes(struct policy *policy, const struct policy_source *source,
                            struct plan_context *context)
{
    struct span names = span_of(source->params->smtpd_restriction_classes), name;
    while ((name = list_next(&names)).len > 0)
        policy->class_count++;
    policy->classes = arena_alloc(&policy->memory,
                                  policy->class_count * sizeof *policy->classes);
    names = span_of(source->params->smtpd_restriction_classes);
    for (size_t i = 0; i < policy->class_count; i++)
        policy->classes[i].name = arena_text(&policy->memory, list_next(&names));
    for (size_t i = 0; i < policy->class_count; i++) { /* all names are known now */
        context->parameter = policy->classes[i].name;
        const char *text = source->lookup(source->context, span_of(context->parameter));
        if (text == NULL || span_trim(span_of(text)).len == 0)
            problems_error(source->problems, "smtpd_restriction_classes",
                           "class \"%s\" has no list of its own", context->parameter);
        else
            plan_compile(&policy->classes[i].rules, span_of(text), context);
    }
}

static void compile_lists(struct policy *policy, const struct policy_source *source)
{
    struct plan_context context = { .policy = policy, .registry = policy,
                                    .memory = &policy->memory, .problems = source->problems };
    context.list = LIST_RECIPIENT;
    compile_classes(policy, source, &context);
    for (enum list_name list = 0; list < LIST_COUNT; list++) {
        context.list = list;
        context.parameter = list_parameters[list];
        plan_compile(&policy->lists[list], span_of(list_text(source->params, list)), &context);
    }
    plan_check_relay(policy, source->problems);
    policy->verifies = policy_verifies(policy);
}

/* Lists that stand outside of restriction lists; the last one comes first. */
static void compile_dnsbls(struct policy *policy, const char *text, const char *parameter,
                           struct dnsbl **out, struct problems *problems)
{
    struct span rest = span_of(text), item;
    while ((item = list_next(&rest)).len > 0) {
        struct dnsbl *list = arena_alloc(&policy->memory, sizeof *list);
        const char *error = greet_parse_site(item, &policy->memory, list);
        if (error != NULL) {
            problems_error(problems, parameter, "\"%.*s\": %s", (int)item.len, item.at, error);
            continue;
        }
        list->next = *out;
        *out = list;
    }
}

/* What would silently accept too much, or what has nowhere to go. */
static void check_destinations(const struct policy *policy, struct problems *problems)
{
    const struct params *p = policy->params;
    bool has_local = policy->domains.mydestination.count > 0;
    if (has_local && policy->domains.local_recipient_maps.count == 0)
        problems_error(problems, "local_recipient_maps",
                       "must be set when mydestination is: empty would accept every user");
    if (policy->domains.relay_domains.count > 0 && policy->relay_transport.kind == TRANSPORT_NONE)
        problems_error(problems, "relay_transport",
                       "relay_domains needs a transport to hand its mail to");
    if (has_local && policy->local_transport.kind == TRANSPORT_VIRTUAL
        && p->virtual_mailbox_maps[0] == '\0')
        problems_warning(problems, "virtual_mailbox_maps",
                         "local_transport is virtual, but no table names the mailboxes");
}

/* "\t" and octal escapes, as in Postfix's default for smtpd_expansion_filter. */
static const char *unescape(struct arena *memory, const char *text)
{
    char *out = arena_text(memory, span_of(text)), *to = out;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c != '\\' || c[1] == '\0') {
            *to++ = *c;
        } else if (*++c >= '0' && *c <= '7') {
            int code = 0;
            for (int n = 0; n < 3 && *c >= '0' && *c <= '7'; n++)
                code = code * 8 + *c++ - '0';
            c--;
            *to++ = (char)code;
        } else {
            *to++ = *c == 't' ? '\t' : *c == 'n' ? '\n' : *c;
        }
    }
    *to = '\0';
    return out;
}

struct policy *policy_new(const struct policy_source *source)
{
    struct policy *policy = xcalloc(1, sizeof *policy);
    policy->params = source->params;
    policy->maps = source->maps;
    policy->domains.params = source->params;
    policy->base_dir = source->base_dir;
    policy->expansion_filter = unescape(&policy->memory, source->params->smtpd_expansion_filter);
    policy->parents_without_dot = match_list_has_parents(
        source->params->parent_domain_matches_subdomains, "smtpd_access_maps");
    struct ip *ips = arena_alloc(&policy->memory, source->own_ip_count * sizeof *ips);
    if (source->own_ip_count > 0)
        memcpy(ips, source->own_ips, source->own_ip_count * sizeof *ips);
    policy->domains.own_ips = ips;
    policy->domains.own_ip_count = source->own_ip_count;
    compile_domains(policy, source);
    compile_tables(policy, source);
    compile_transports(policy, source);
    compile_lists(policy, source);
    compile_dnsbls(policy, policy->params->greylist_exempt_dnswl, "greylist_exempt_dnswl",
                   &policy->greylist_dnswl, source->problems);
    compile_dnsbls(policy, policy->params->dns_list_sites, "dns_list_sites", &policy->sites,
                   source->problems);
    check_destinations(policy, source->problems);
    return policy;
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    arena_fini(&policy->memory);
    free(policy);
}
