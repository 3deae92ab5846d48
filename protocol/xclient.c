#include "protocol/xclient.h"
#include "protocol/hostname.h"
#include "protocol/mem.h"
#include "protocol/text.h"

enum { XCLIENT_VALUE_MAX = 255 };

static bool is_unavailable(struct span value)
{
    return span_iequals(value, SPAN_LITERAL("[UNAVAILABLE]"));
}

static bool is_tempunavail(struct span value)
{
    return span_iequals(value, SPAN_LITERAL("[TEMPUNAVAIL]"));
}

static bool set_names(struct smtp_peer *peer, struct span value, bool both)
{
    const char *name = NULL;
    enum smtp_name_status status = SMTP_NAME_OK;
    if (is_unavailable(value))
        status = SMTP_NAME_PERMANENT;
    else if (is_tempunavail(value))
        status = SMTP_NAME_TEMPORARY;
    else if (hostname_is_valid(hostname_without_dot(value), true))
        name = arena_text(&peer->memory, value);
    else
        return false;
    if (both)
        smtp_peer_set_name(peer, name, status);
    if (!both || name != NULL)
        smtp_peer_set_reverse(peer, name, status);
    return true;
}

static bool on_name(struct xclient *x, struct span value)
{
    return set_names(x->peer, value, true);
}

static bool on_reverse_name(struct xclient *x, struct span value)
{
    return set_names(x->peer, value, false);
}

static bool parse_address(struct span value, struct ip *ip)
{
    static const struct span prefix = { "IPV6:", 5 };
    bool has_prefix = span_istarts(value, prefix);
    if (is_unavailable(value)) {
        *ip = (struct ip){ 0 };
        return true;
    }
    if (has_prefix)
        value = span_skip(value, prefix.len);
    return ip_parse(value, ip);
}

static bool on_addr(struct xclient *x, struct span value)
{
    struct ip ip;
    if (!parse_address(value, &ip))
        return false;
    smtp_peer_set_ip(x->peer, &ip);
    return true;
}

static bool on_destaddr(struct xclient *x, struct span value)
{
    return parse_address(value, &x->peer->server_ip);
}

static bool parse_port(struct span value, uint16_t *port)
{
    uint64_t n = 0;
    if (!is_unavailable(value) && !span_to_u64(value, UINT16_MAX, &n))
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool on_port(struct xclient *x, struct span value)
{
    return parse_port(value, &x->peer->port);
}

static bool on_destport(struct xclient *x, struct span value)
{
    return parse_port(value, &x->peer->server_port);
}

static bool on_helo(struct xclient *x, struct span value)
{
    x->helo = is_unavailable(value) ? NULL : text_escaped(&x->peer->memory, value, value.len);
    return true;
}

static bool on_proto(struct xclient *x, struct span value)
{
    if (span_iequals(value, SPAN_LITERAL("SMTP")))
        x->proto = XCLIENT_PROTO_SMTP;
    else if (span_iequals(value, SPAN_LITERAL("ESMTP")))
        x->proto = XCLIENT_PROTO_ESMTP;
    else
        return is_unavailable(value);
    return true;
}

static bool on_login(struct xclient *x, struct span value)
{
    (void)x, (void)value; /* no SASL here: accepted and forgotten */
    return true;
}

static const struct {
    const char *name;
    bool (*set)(struct xclient *x, struct span value);
} attributes[] = {
    { "NAME", on_name },         { "REVERSE_NAME", on_reverse_name },
    { "ADDR", on_addr },         { "PORT", on_port },
    { "DESTADDR", on_destaddr }, { "DESTPORT", on_destport },
    { "HELO", on_helo },         { "PROTO", on_proto },
    { "LOGIN", on_login },
};

static const struct smtp_reply *refuse(struct arena *scratch, const char *what, struct span word)
{
    struct smtp_reply *reply = arena_alloc(scratch, sizeof *reply);
    const char *shown = text_escaped(scratch, word, XCLIENT_VALUE_MAX);
    *reply = (struct smtp_reply){ 501, "5.5.4", arena_printf(scratch, "%s%s", what, shown) };
    return reply;
}

static const struct smtp_reply *set_attribute(struct xclient *x, struct arena *scratch,
                                              struct span name, struct span value)
{
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (!span_iequals(name, span_of(attributes[i].name)))
            continue;
        if (value.len <= XCLIENT_VALUE_MAX && attributes[i].set(x, value))
            return NULL;
        const char *what = arena_printf(scratch, "Bad %s syntax: ", attributes[i].name);
        return refuse(scratch, what, value);
    }
    return refuse(scratch, "Bad XCLIENT attribute name: ", name);
}

static const struct smtp_reply *parse_word(struct xclient *x, struct arena *scratch,
                                           struct span word)
{
    struct buf value = { 0 };
    size_t equals = span_find(word, '=');
    const struct smtp_reply *reply;
    if (equals == word.len)
        return refuse(scratch, "Error: attribute=value expected", span_make("", 0));
    if (xtext_decode(span_skip(word, equals + 1), &value))
        reply = set_attribute(x, scratch, span_make(word.at, equals), buf_span(&value));
    else
        reply = refuse(scratch, "Bad attribute value syntax: ", span_skip(word, equals + 1));
    buf_fini(&value);
    return reply;
}

const struct smtp_reply *xclient_parse(struct span args, struct arena *scratch,
                                       struct xclient *out)
{
    const struct smtp_reply *reply = NULL;
    for (;;) {
        struct span word = span_next_word(&args);
        if (word.len == 0 || reply != NULL)
            return reply;
        reply = parse_word(out, scratch, word);
    }
}
