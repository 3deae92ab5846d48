#include "policy/transport.h"
#include "protocol/mem.h"

static const struct {
    const char *name;
    enum transport_kind kind;
    bool needs_nexthop;
} kinds[] = {
    { "virtual", TRANSPORT_VIRTUAL, false }, { "lmtp", TRANSPORT_LMTP, true },
    { "smtp", TRANSPORT_SMTP, true },        { "relay", TRANSPORT_SMTP, true },
    { "discard", TRANSPORT_DISCARD, false }, { "error", TRANSPORT_ERROR, false },
    { "retry", TRANSPORT_ERROR, false },
};

const char *transport_parse(struct span text, struct arena *memory, struct transport *out)
{
    size_t colon = span_find(text, ':');
    struct span name = span_make(text.at, colon), nexthop = span_trim(span_skip(text, colon + 1));
    *out = (struct transport){ .kind = TRANSPORT_NONE, .name = "none", .nexthop = "" };
    if (text.len == 0)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!span_equals(name, span_of(kinds[i].name)))
            continue;
        out->kind = kinds[i].kind;
        out->name = kinds[i].name;
        out->nexthop = arena_text(memory, nexthop);
        return kinds[i].needs_nexthop && nexthop.len == 0 ? "needs a next hop behind the colon"
                                                          : NULL;
    }
    return "unknown transport (there are: virtual, lmtp:, smtp:, discard:, error:, retry:)";
}
