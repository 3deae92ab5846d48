#include "policy/transport.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

Test(transport, names_and_next_hops)
{
    static const struct {
        const char *text;
        enum transport_kind kind;
        const char *name, *nexthop;
    } rows[] = {
        { "", TRANSPORT_NONE, "none", "" },
        { "virtual", TRANSPORT_VIRTUAL, "virtual", "" },
        { "virtual:", TRANSPORT_VIRTUAL, "virtual", "" },
        { "lmtp:unix:/run/lmtp", TRANSPORT_LMTP, "lmtp", "unix:/run/lmtp" },
        { "lmtp:inet:[::1]:24", TRANSPORT_LMTP, "lmtp", "inet:[::1]:24" },
        { "lmtp: inet:host:24 ", TRANSPORT_LMTP, "lmtp", "inet:host:24" },
        { "smtp:[mx.example.org]:25", TRANSPORT_SMTP, "smtp", "[mx.example.org]:25" },
        { "relay:[mx.example.org]", TRANSPORT_SMTP, "relay", "[mx.example.org]" },
        { "discard:", TRANSPORT_DISCARD, "discard", "" },
        { "discard", TRANSPORT_DISCARD, "discard", "" },
        { "error:5.1.1 no such user: gone", TRANSPORT_ERROR, "error", "5.1.1 no such user: gone" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena memory = { 0 };
        struct transport t;
        cr_expect_null(transport_parse(span_of(rows[i].text), &memory, &t), "%s", rows[i].text);
        cr_expect_eq(t.kind, rows[i].kind, "%s", rows[i].text);
        cr_expect_str_eq(t.name, rows[i].name);
        cr_expect_str_eq(t.nexthop, rows[i].nexthop);
        arena_fini(&memory);
    }
}

Test(transport, what_is_none)
{
    static const char *const texts[] = { "lmtp", "lmtp:", "smtp:", "smtp: ", "relay", "local:",
                                         "LMTP:unix:/x", ":", ":[host]", "uucp:x", "virtualx",
                                         " virtual" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct arena memory = { 0 };
        struct transport t;
        cr_expect_not_null(transport_parse(span_of(texts[i]), &memory, &t), "%s", texts[i]);
        arena_fini(&memory);
    }
}
