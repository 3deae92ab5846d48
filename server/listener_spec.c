#include "server/listener_spec.h"
#include "protocol/ip.h"
#include "protocol/list.h"

static bool set_option(struct listener_spec *spec, struct span option)
{
    if (span_iequals(option, SPAN_LITERAL("tls")))
        spec->is_tls = true;
    else if (span_iequals(option, SPAN_LITERAL("proxy")))
        spec->is_proxy = true;
    else
        return false;
    return true;
}

static bool parse_tcp(struct listener_spec *spec, struct span text, struct arena *memory)
{
    size_t colon = span_find_last(text, ':');
    struct span host = span_make(text.at, colon);
    struct ip ip;
    uint64_t port;
    if (colon == text.len || !span_to_u64(span_skip(text, colon + 1), 65535, &port))
        return false;
    if (host.len > 1 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        host = span_make(host.at + 1, host.len - 2);
    if (!span_equals(host, SPAN_LITERAL("*")) && !ip_parse(host, &ip))
        return false;
    spec->kind = LISTEN_TCP;
    spec->host = arena_text(memory, host);
    spec->port = (int)port;
    return true;
}

static const char *parse_endpoint(struct listener_spec *spec, struct span text,
                                  struct arena *memory)
{
    if (span_istarts(text, SPAN_LITERAL("unix:"))) {
        spec->kind = LISTEN_UNIX;
        spec->host = arena_text(memory, span_skip(text, 5));
    } else if (span_istarts(text, SPAN_LITERAL("systemd:"))) {
        spec->kind = LISTEN_SYSTEMD;
        spec->host = arena_text(memory, span_skip(text, 8));
    } else if (!parse_tcp(spec, text, memory)) {
        return "not ADDRESS:PORT, [V6]:PORT, *:PORT, unix:PATH or systemd:NAME";
    }
    return NULL;
}

/* "{tls}" may stand right behind the endpoint or as an item of its own. */
static const char *parse_options(struct listener_spec *spec, struct span *text)
{
    size_t brace = span_find(*text, '{');
    struct span options = span_skip(*text, brace), inside, option;
    *text = span_make(text->at, brace);
    if (options.len == 0)
        return NULL;
    if (!list_unbrace(options, &inside))
        return "unbalanced braces";
    while ((option = list_next(&inside)).len > 0)
        if (!set_option(spec, option))
            return "unknown option (there are: tls, proxy)";
    return NULL;
}

size_t listener_specs_parse(const char *text, struct arena *memory, struct listener_spec **out,
                            struct problems *problems)
{
    struct span rest = span_of(text), item;
    size_t count = 0, cap = 0;
    while ((item = list_next(&rest)).len > 0)
        cap++;
    *out = arena_alloc(memory, (cap + 1) * sizeof **out);
    rest = span_of(text);
    while ((item = list_next(&rest)).len > 0) {
        bool is_option = item.at[0] == '{' && count > 0;
        struct listener_spec *spec = &(*out)[is_option ? count - 1 : count];
        struct span endpoint = item;
        const char *error = parse_options(spec, &endpoint);
        if (error == NULL && !is_option)
            error = parse_endpoint(spec, endpoint, memory);
        if (error != NULL)
            problems_error(problems, "listen", "\"%.*s\": %s", (int)item.len, item.at, error);
        else if (!is_option)
            spec->text = arena_text(memory, item);
        else /* a reload must see that an option is another */
            spec->text = arena_printf(memory, "%s%.*s", spec->text, (int)item.len, item.at);
        count += !is_option && error == NULL;
    }
    if (count == 0 && problems->error_count == 0)
        problems_error(problems, "listen", "no endpoint to listen on");
    return count;
}
