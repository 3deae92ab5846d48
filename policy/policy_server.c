#include "policy/policy_server.h"
#include "protocol/list.h"
#include "protocol/text.h"

#include <netdb.h>
#include <string.h>

bool policy_server_action(struct span lines, struct span *action)
{
    while (lines.len > 0) {
        size_t end = span_find(lines, '\n');
        struct span line = span_make(lines.at, end);
        if (span_istarts(line, SPAN_LITERAL("action="))) {
            *action = span_trim(span_skip(line, 7));
            return utf8_is_valid(*action);
        }
        lines = span_skip(lines, end + 1);
    }
    return false;
}

struct policy_server *policy_server_find(const struct policy *policy, struct span argument)
{
    for (struct policy_server *s = policy->servers; s != NULL; s = s->next)
        if (span_equals(span_of(s->argument), argument))
            return s;
    return NULL;
}

static bool resolve(const char *host, struct ip *ip)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    uint16_t port;
    if (ip_parse(span_of(host), ip))
        return true;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return false;
    bool is_good = ip_from_sockaddr(list->ai_addr, ip, &port);
    freeaddrinfo(list);
    return is_good;
}

static const char *set_inet(struct policy_server *s, struct span text, struct arena *memory)
{
    size_t colon = span_find_last(text, ':');
    struct span host = span_make(text.at, colon);
    uint64_t port;
    if (colon == text.len || !span_to_u64(span_skip(text, colon + 1), 65535, &port))
        return "inet: needs HOST:PORT";
    if (host.len > 1 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        host = span_make(host.at + 1, host.len - 2);
    s->port = (uint16_t)port;
    return resolve(arena_text(memory, host), &s->ip) ? NULL : "unknown host";
}

static const char *set_endpoint(struct policy_server *s, struct span text, const char *base_dir,
                                struct arena *memory)
{
    if (span_istarts(text, SPAN_LITERAL("inet:")))
        return set_inet(s, span_skip(text, 5), memory);
    if (!span_istarts(text, SPAN_LITERAL("unix:")))
        return "neither inet:HOST:PORT nor unix:PATH";
    struct span path = span_skip(text, 5);
    if (path.len == 0)
        return "unix: needs a path";
    s->path = path.at[0] == '/' ? arena_text(memory, path)
                                : arena_printf(memory, "%s/%.*s", base_dir, (int)path.len, path.at);
    return NULL;
}

static bool parse_time(struct span text, int64_t *ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = { { 's', 1000 }, { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 } };
    int64_t unit = 1000;
    uint64_t n;
    for (size_t i = 0; i < 4; i++)
        if (text.len > 0 && text.at[text.len - 1] == units[i].unit) {
            unit = units[i].ms;
            text.len--;
            break;
        }
    if (!span_to_u64(text, 1000000, &n))
        return false;
    *ms = (int64_t)n * unit;
    return true;
}

static bool parse_count(struct span text, int *count)
{
    uint64_t n;
    if (!span_to_u64(text, 1000000, &n))
        return false;
    *count = (int)n;
    return true;
}

static bool set_attribute(struct policy_server *s, struct span name, struct span value,
                          struct arena *memory)
{
    const struct {
        const char *name;
        int64_t *ms;
        int *count;
        const char **text;
    } rows[] = {
        { "timeout", &s->timeout_ms, NULL, NULL },
        { "max_idle", &s->max_idle_ms, NULL, NULL },
        { "max_ttl", &s->max_ttl_ms, NULL, NULL },
        { "retry_delay", &s->retry_delay_ms, NULL, NULL },
        { "request_limit", NULL, &s->request_limit, NULL },
        { "try_limit", NULL, &s->try_limit, NULL },
        { "default_action", NULL, NULL, &s->default_action },
        { "policy_context", NULL, NULL, &s->policy_context },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!span_equals(name, span_of(rows[i].name)))
            continue;
        if (rows[i].ms != NULL)
            return parse_time(value, rows[i].ms);
        if (rows[i].count != NULL)
            return parse_count(value, rows[i].count);
        *rows[i].text = arena_text(memory, value);
        return true;
    }
    return false;
}

/* "{ server, name=value, { name = value with blanks } }" */
static const char *set_braced(struct policy_server *s, struct span inside, const char *base_dir,
                              struct arena *memory)
{
    const char *error = set_endpoint(s, list_next(&inside), base_dir, memory);
    struct span item;
    while (error == NULL && (item = list_next(&inside)).len > 0) {
        list_unbrace(item, &item);
        size_t equals = span_find(item, '=');
        struct span name = span_trim(span_make(item.at, equals));
        if (equals == item.len
            || !set_attribute(s, name, span_trim(span_skip(item, equals + 1)), memory))
            error = "unknown or bad attribute";
    }
    return error;
}

struct policy_server *policy_server_get(struct policy *policy, struct span argument,
                                        const char *base_dir, const char **error)
{
    const struct params *p = policy->params;
    struct arena *memory = &policy->memory;
    struct policy_server *s = policy_server_find(policy, argument);
    struct span inside;
    if (s != NULL)
        return s;
    s = arena_alloc(memory, sizeof *s);
    *s = (struct policy_server){
        .argument = arena_text(memory, argument),
        .timeout_ms = p->smtpd_policy_service_timeout,
        .max_idle_ms = p->smtpd_policy_service_max_idle,
        .max_ttl_ms = p->smtpd_policy_service_max_ttl,
        .retry_delay_ms = p->smtpd_policy_service_retry_delay,
        .request_limit = p->smtpd_policy_service_request_limit,
        .try_limit = p->smtpd_policy_service_try_limit,
        .default_action = p->smtpd_policy_service_default_action,
        .policy_context = p->smtpd_policy_service_policy_context,
    };
    *error = list_unbrace(argument, &inside) ? set_braced(s, inside, base_dir, memory)
                                             : set_endpoint(s, argument, base_dir, memory);
    if (*error != NULL)
        return NULL;
    s->next = policy->servers;
    policy->servers = s;
    return s;
}
