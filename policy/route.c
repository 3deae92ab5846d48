#include "policy/route.h"
#include "protocol/smtp_path.h"

struct router {
    const struct policy *policy;
    const struct map_reader *reader;
    struct arena *memory;
    struct span original;
    struct target *first, **end;
    int count;
    const char *text; /* ROUTE_REFUSED */
};

static enum route_status of_map(enum map_result result)
{
    switch (result) {
    case MAP_FOUND:
    case MAP_NOT_FOUND: return ROUTE_OK;
    case MAP_PENDING: return ROUTE_PENDING;
    case MAP_RETRY: return ROUTE_RETRY;
    case MAP_BROKEN: break;
    }
    return ROUTE_BROKEN;
}

bool mailbox_path_is_safe(struct span path)
{
    if (path.len == 0 || path.at[0] == '/' || memchr(path.at, '\0', path.len) != NULL)
        return false;
    while (path.len > 0) {
        size_t n = span_find(path, '/');
        struct span part = span_make(path.at, n);
        if (n == 0 || span_equals(part, SPAN_LITERAL(".")) || span_equals(part, SPAN_LITERAL("..")))
            return false;
        path = span_skip(path, n + 1);
    }
    return true;
}

/* ------------------------------------------------------------ where one address goes */

static enum map_result find(struct router *r, const struct map_list *list,
                            const struct resolved *address, const char **value)
{
    struct buf found = { 0 };
    bool with_extension;
    enum map_result result = recipient_find(&r->policy->domains, list, r->reader, address,
                                            &found, &with_extension);
    *value = result == MAP_FOUND ? arena_text(r->memory, buf_span(&found)) : NULL;
    buf_fini(&found);
    return result;
}

/* The domain itself as key of transport_maps, behind the keys of the address. */
static enum map_result find_domain(struct router *r, const struct map_list *list,
                                   struct span domain, const char **value)
{
    struct buf found = { 0 };
    enum map_result result = map_list_find(list, r->reader, domain, false, &found);
    if (result == MAP_FOUND)
        *value = arena_text(r->memory, buf_span(&found));
    buf_fini(&found);
    return result;
}

static struct transport class_transport(const struct policy *policy,
                                        const struct resolved *address)
{
    switch (address->class) {
    case ADDRESS_LOCAL: return policy->local_transport;
    case ADDRESS_VIRTUAL_ALIAS: /* an alias that nothing expanded: only postmaster gets here */
    case ADDRESS_VIRTUAL_MAILBOX: return policy->virtual_transport;
    case ADDRESS_RELAY: return policy->relay_transport;
    case ADDRESS_DEFAULT: break;
    }
    if (recipient_is_postmaster(&policy->domains, address))
        return (struct transport){ .kind = TRANSPORT_VIRTUAL, .name = "virtual" };
    return policy->default_transport;
}

static enum route_status choose_transport(struct router *r, const struct resolved *address,
                                          struct transport *out)
{
    const char *value = NULL;
    *out = class_transport(r->policy, address);
    if (r->policy->transport_maps.count == 0)
        return ROUTE_OK;
    enum map_result result = find(r, &r->policy->transport_maps, address, &value);
    if (result == MAP_NOT_FOUND)
        result = find_domain(r, &r->policy->transport_maps, address->domain, &value);
    if (result == MAP_FOUND && transport_parse(span_of(value), r->memory, out) != NULL)
        return ROUTE_BROKEN;
    return of_map(result);
}

static enum route_status choose_mailbox(struct router *r, const struct resolved *address,
                                        const char **mailbox)
{
    enum map_result result = find(r, &r->policy->domains.virtual_mailbox_maps, address, mailbox);
    if (result == MAP_NOT_FOUND && recipient_is_postmaster(&r->policy->domains, address)) {
        *mailbox = r->policy->params->postmaster_mailbox;
        result = MAP_FOUND;
    }
    if (result == MAP_NOT_FOUND)
        return ROUTE_UNKNOWN;
    if (result == MAP_FOUND && !mailbox_path_is_safe(span_of(*mailbox)))
        return ROUTE_BROKEN;
    return of_map(result);
}

static bool is_duplicate(const struct router *r, struct span address)
{
    for (const struct target *t = r->first; t != NULL; t = t->next)
        if (span_equals(t->address, address))
            return true;
    return false;
}

static enum route_status add_target(struct router *r, const struct resolved *address)
{
    struct target target = { .original = r->original };
    if (is_duplicate(r, address->address))
        return ROUTE_OK;
    enum route_status status = choose_transport(r, address, &target.transport);
    if (status != ROUTE_OK)
        return status;
    if (target.transport.kind == TRANSPORT_VIRTUAL)
        status = choose_mailbox(r, address, &target.mailbox);
    else if (target.transport.kind == TRANSPORT_NONE)
        status = ROUTE_OUTSIDE;
    else if (target.transport.kind == TRANSPORT_ERROR)
        status = ROUTE_REFUSED;
    if (status == ROUTE_REFUSED)
        r->text = target.transport.nexthop;
    if (status != ROUTE_OK)
        return status;
    struct target *copy = arena_alloc(r->memory, sizeof *copy);
    *copy = target;
    copy->address = arena_span(r->memory, address->address);
    *r->end = copy;
    r->end = &copy->next;
    return ROUTE_OK;
}

/* ------------------------------------------------------------ aliases */

static enum route_status route_address(struct router *r, struct span address, int depth);

/* "@example.com" as a result keeps the user; an extension that the key did not hold moves on. */
static struct span alias_result(struct router *r, struct span item, struct span extension,
                                const struct resolved *from)
{
    struct buf text = { 0 };
    struct smtp_path path = smtp_path_of(item);
    if (path.local.len == 0) {
        buf_add(&text, from->local);
    } else {
        buf_add(&text, path.local);
        buf_add(&text, extension);
    }
    if (path.has_domain) {
        buf_putc(&text, '@');
        buf_add(&text, path.domain);
    }
    struct span copy = arena_span(r->memory, buf_span(&text));
    buf_fini(&text);
    return copy;
}

static bool is_separator(char c)
{
    return c == ',' || ascii_is_space(c);
}

/* The next address; commas and blanks within quotes belong to it. */
static struct span next_address(struct span *list)
{
    bool is_quoted = false;
    size_t n = 0;
    while (list->len > 0 && is_separator(list->at[0]))
        *list = span_skip(*list, 1);
    for (; n < list->len && (is_quoted || !is_separator(list->at[n])); n++) {
        if (list->at[n] == '"')
            is_quoted = !is_quoted;
        else if (list->at[n] == '\\' && n + 1 < list->len)
            n++;
    }
    struct span item = span_make(list->at, n);
    *list = span_skip(*list, n);
    return item;
}

static enum route_status route_results(struct router *r, struct span list,
                                       struct span extension, const struct resolved *from,
                                       int depth)
{
    struct span item;
    while ((item = next_address(&list)).len > 0) {
        struct smtp_path path;
        if (item.at[0] != '@' && !smtp_path_parse(item, false, r->memory, &path))
            return ROUTE_BROKEN;
        struct span next = item.at[0] == '@' ? item : path.address;
        struct span address = alias_result(r, next, extension, from);
        struct resolved same;
        enum map_result result = recipient_resolve(&r->policy->domains, r->reader, address,
                                                   r->memory, &same);
        if (result != MAP_FOUND)
            return of_map(result);
        bool is_itself = span_equals(same.address, from->address);
        enum route_status status = is_itself ? add_target(r, &same)
                                             : route_address(r, address, depth + 1);
        if (status != ROUTE_OK)
            return status;
    }
    return ROUTE_OK;
}

static enum route_status route_address(struct router *r, struct span address, int depth)
{
    struct resolved resolved;
    struct buf found = { 0 };
    bool with_extension = false;
    const struct params *p = r->policy->params;
    if (++r->count > p->virtual_alias_expansion_limit || depth > p->virtual_alias_recursion_limit)
        return ROUTE_TOO_LONG;
    enum map_result result = recipient_resolve(&r->policy->domains, r->reader, address,
                                               r->memory, &resolved);
    if (result != MAP_FOUND)
        return of_map(result);
    result = recipient_find(&r->policy->domains, &r->policy->domains.virtual_alias_maps,
                            r->reader, &resolved, &found, &with_extension);
    if (result == MAP_NOT_FOUND) {
        buf_fini(&found);
        return add_target(r, &resolved);
    }
    struct span list = arena_span(r->memory, buf_span(&found));
    buf_fini(&found);
    struct span extension = with_extension ? span_make("", 0) : resolved.extension;
    return result == MAP_FOUND ? route_results(r, list, extension, &resolved, depth)
                               : of_map(result);
}

enum route_status route_recipient(const struct policy *policy, const struct map_reader *reader,
                                  struct span recipient, struct arena *memory,
                                  struct target **targets, const char **text)
{
    struct router r = { .policy = policy, .reader = reader, .memory = memory,
                        .original = arena_span(memory, recipient) };
    r.end = &r.first;
    enum route_status status = route_address(&r, recipient, 0);
    *targets = r.first;
    *text = r.text;
    return status == ROUTE_OUTSIDE && r.count == 1 ? ROUTE_NOT_OURS : status;
}

enum route_status route_transport(const struct policy *policy, const struct map_reader *reader,
                                  const struct resolved *address, struct arena *memory,
                                  struct transport *out)
{
    struct router r = { .policy = policy, .reader = reader, .memory = memory };
    return choose_transport(&r, address, out);
}
