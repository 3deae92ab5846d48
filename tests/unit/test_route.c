#include "world.h"

#include "policy/route.h"
#include "protocol/mem.h"

static const char *status_name(enum route_status status)
{
    static const char *const names[] = { "ok", "pending", "retry", "broken", "too long",
                                         "not ours", "outside", "unknown", "refused" };
    return names[status];
}

/* "ok ADDRESS>MAILBOX ADDRESS>smtp:HOP", or the status alone, with the text of a refusal. */
static void print_route(struct world *w, const char *recipient, struct buf *out)
{
    struct arena memory = { 0 };
    struct target *targets;
    const char *text;
    enum route_status status = route_recipient(w->policy, &map_reader_direct, span_of(recipient),
                                               &memory, &targets, &text);
    buf_puts(out, status_name(status));
    if (status == ROUTE_REFUSED)
        buf_printf(out, " %s", text);
    for (const struct target *t = targets; t != NULL && status == ROUTE_OK; t = t->next) {
        buf_printf(out, " %.*s>", (int)t->address.len, t->address.at);
        if (t->transport.kind == TRANSPORT_VIRTUAL)
            buf_puts(out, t->mailbox);
        else
            buf_printf(out, "%s:%s", t->transport.name, t->transport.nexthop);
        cr_expect(span_equals(t->original, span_of(recipient)), "as the client gave it");
    }
    arena_fini(&memory);
}

struct row {
    const char *recipient, *expected;
};

static void expect_rows(const char *text, const struct row *rows, size_t count)
{
    struct world w = world_of(text);
    struct buf seen = { 0 };
    for (size_t i = 0; i < count; i++) {
        buf_clear(&seen);
        print_route(&w, rows[i].recipient, &seen);
        cr_expect_str_eq(buf_text(&seen), rows[i].expected, "<%s> goes \"%s\" with:\n%s",
                         rows[i].recipient, buf_text(&seen), text);
    }
    buf_fini(&seen);
    world_fini(&w);
}

#define EXPECT_ROWS(text, rows) expect_rows(text, rows, ARRAY_LEN(rows))

/* ------------------------------------------------------------ one address */

Test(route, each_class_has_its_place)
{
    static const struct row rows[] = {
        { "alice@example.org", "ok alice@example.org>alice/" },
        { "Alice@Example.ORG", "ok alice@example.org>alice/" },
        { "alice", "ok alice@example.org>alice/" },
        { "alice+x@example.org", "ok alice+x@example.org>alice/" },
        { "carol@vmbox.test", "ok carol@vmbox.test>carol/" },
        { "dave@valias.test", "ok alice@example.org>alice/" },
        { "erin@relay.test", "ok erin@relay.test>smtp:[127.0.0.1]:2525" },
        { "zz@vmbox.test", "unknown" },
        { "u@foreign.test", "not ours" },
        { "u%foreign.test@example.org", "not ours" },
        { "postmaster@example.org", "ok postmaster@example.org>postmaster/" },
        { "postmaster@valias.test", "ok postmaster@valias.test>postmaster/" },
        { "PostMaster", "ok postmaster@example.org>postmaster/" },
    };
    EXPECT_ROWS("", rows);
}

Test(route, transports_are_parameters)
{
    static const struct row rows[] = {
        { "alice@example.org", "ok alice@example.org>lmtp:unix:/run/lmtp" },
        { "carol@vmbox.test", "ok carol@vmbox.test>discard:" },
        { "erin@relay.test", "refused 5.1.1 moved: away" },
        { "u@foreign.test", "ok u@foreign.test>smtp:[out.test]:25" },
        { "postmaster@vmbox.test", "ok postmaster@vmbox.test>discard:" },
    };
    EXPECT_ROWS("local_transport = lmtp:unix:/run/lmtp\n"
                "virtual_transport = discard:\n"
                "relay_transport = error:5.1.1 moved: away\n"
                "default_transport = smtp:[out.test]:25\n", rows);
}

Test(route, a_table_of_transports_wins_over_the_class)
{
    static const struct row rows[] = {
        { "alice@example.org", "ok alice@example.org>discard:" },
        { "alice+x@example.org", "ok alice+x@example.org>discard:" },
        { "carol@vmbox.test", "ok carol@vmbox.test>smtp:[hop.test]:25" },
        { "bob@example.org", "refused gone" },
        { "u@foreign.test", "ok u@foreign.test>lmtp:inet:h:24" },
        { "erin@relay.test", "broken" },
        { "v@foreign2.test", "not ours" },
    };
    EXPECT_ROWS("transport_maps = inline:{ alice@example.org=discard:,"
                " vmbox.test=smtp:[hop.test]:25, bob@example.org=error:gone,"
                " @foreign.test=lmtp:inet:h:24, relay.test=nosuch:x }\n", rows);
}

Test(route, a_mailbox_path_leads_nowhere_else)
{
    static const struct {
        const char *path;
        bool is_safe;
    } rows[] = {
        { "a", true },         { "a/", true },       { "a/b/", true },     { "example.org/you/", true },
        { "..a/b", true },     { "a..", true },      { ".a", true },       { "", false },
        { "/", false },        { "/a", false },      { ".", false },       { "..", false },
        { "../a", false },     { "a/..", false },    { "a/../b", false },  { "a/../", false },
        { "a/./b", false },    { "a//b", false },    { "a//", false },     { "./a", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(mailbox_path_is_safe(span_of(rows[i].path)), rows[i].is_safe, "\"%s\"",
                     rows[i].path);
    cr_expect(!mailbox_path_is_safe(span_make("a\0b", 3)), "a zero byte");
    static const struct row routes[] = {
        { "a@vmbox.test", "broken" },
        { "b@vmbox.test", "broken" },
        { "c@vmbox.test", "ok c@vmbox.test>c/" },
    };
    EXPECT_ROWS("virtual_mailbox_maps = inline:{ a@vmbox.test=../../etc, b@vmbox.test=/etc,"
                " c@vmbox.test=c/ }\n", routes);
}

/* A key may come from the client, so nothing of it reaches a path but by the table's own words. */
Test(route, a_pattern_table_cannot_make_an_unsafe_path)
{
    static const struct row rows[] = {
        { "carol@vmbox.test", "ok carol@vmbox.test>mail/carol/" },
        { "..@vmbox.test", "ok ..@vmbox.test>mail/\"..\"/" }, /* such keys are quoted */
        { "../..@vmbox.test", "ok ../..@vmbox.test>mail/\"../..\"/" },
        { "a/../../b@vmbox.test", "broken" },
        { "/etc@vmbox.test", "broken" },
        { "a//b@vmbox.test", "broken" },
    };
    EXPECT_ROWS("virtual_mailbox_maps = pcre:{{/^(.*)@vmbox\\.test$$/ mail/$$1/}}\n", rows);
}

/* ------------------------------------------------------------ aliases */

Test(route, an_alias_becomes_its_addresses)
{
    static const struct row rows[] = {
        { "one@valias.test", "ok alice@example.org>alice/" },
        { "two@valias.test", "ok alice@example.org>alice/ bob@example.org>bob/" },
        { "blank@valias.test", "ok alice@example.org>alice/ bob@example.org>bob/" },
        { "twice@valias.test", "ok alice@example.org>alice/" },
        { "nodomain@valias.test", "ok bob@example.org>bob/" },
        { "mixed@valias.test", "ok alice@example.org>alice/ carol@vmbox.test>carol/ "
                               "erin@relay.test>smtp:[127.0.0.1]:2525" },
        { "quoted@valias.test", "ok a b@vmbox.test>ab/ \"c,d@vmbox.test>cd/" },
        { "gone@valias.test", "unknown" },
        { "out@valias.test", "outside" },
        { "half@valias.test", "outside" },
        { "bad@valias.test", "broken" },
        { "zz@valias.test", "unknown" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ one@valias.test=alice@example.org,"
                " {two@valias.test = alice@example.org, bob@example.org},"
                " {blank@valias.test = alice@example.org bob},"
                " {twice@valias.test = alice@example.org, ALICE, alice@example.org.},"
                " nodomain@valias.test=bob,"
                " {mixed@valias.test = alice, carol@vmbox.test, erin@relay.test},"
                " {quoted@valias.test = \"a b\"@vmbox.test, \"\\\"c,d\"@vmbox.test},"
                " gone@valias.test=gone@vmbox.test, out@valias.test=u@foreign.test,"
                " {half@valias.test = alice, u@foreign.test}, bad@valias.test=a@b@@ }\n"
                "virtual_mailbox_maps = inline:{ alice@example.org=alice/, bob@example.org=bob/,"
                " carol@vmbox.test=carol/, {\"a b\"@vmbox.test = ab/}, {\"\\\"c,d\"@vmbox.test = cd/} }\n", rows);
}

Test(route, aliases_of_aliases)
{
    static const struct row rows[] = {
        { "a@valias.test", "ok alice@example.org>alice/" },
        { "fan@valias.test", "ok alice@example.org>alice/ bob@example.org>bob/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ a@valias.test=b@valias.test,"
                " b@valias.test=c@valias.test, c@valias.test=alice,"
                " {fan@valias.test = a@valias.test, b@valias.test, bob, c@valias.test} }\n", rows);
}

/* An address that maps to itself is its own mailbox, as in Postfix; others may get copies. */
Test(route, an_alias_to_itself_is_a_mailbox)
{
    static const struct row rows[] = {
        { "alice@example.org", "ok alice@example.org>alice/" },
        { "bob@example.org", "ok bob@example.org>bob/ alice@example.org>alice/" },
        { "carol@vmbox.test", "ok carol@vmbox.test>carol/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ alice@example.org=ALICE,"
                " {bob@example.org = bob@example.org, alice@example.org},"
                " carol@vmbox.test=@vmbox.test }\n", rows);
}

Test(route, a_circle_of_aliases_ends)
{
    static const struct row rows[] = {
        { "a@valias.test", "too long" },
        { "x@vmbox.test", "too long" },
        { "alice@example.org", "ok alice@example.org>all/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ a@valias.test=b@valias.test,"
                " b@valias.test=a@valias.test,"
                " {x@vmbox.test = x@vmbox.test, y@vmbox.test, z@vmbox.test},"
                " {y@vmbox.test = x@vmbox.test, z@vmbox.test},"
                " {z@vmbox.test = x@vmbox.test, y@vmbox.test} }\n"
                "virtual_mailbox_maps = static:all/\n", rows);
}

/* chain: a0 -> a1 -> ... -> alice, of so many steps */
static void expect_chain(int steps, int limit, const char *expected)
{
    struct buf text = { 0 };
    buf_printf(&text, "virtual_alias_recursion_limit = %d\nvirtual_alias_maps = inline:{", limit);
    for (int i = 0; i < steps; i++)
        buf_printf(&text, " a%d@valias.test=%s%.0d%s,", i, i + 1 < steps ? "a" : "alice",
                   i + 1 < steps ? i + 1 : 0, i + 1 < steps ? "@valias.test" : "");
    buf_puts(&text, " }\n");
    const struct row rows[] = { { "a0@valias.test", expected } };
    EXPECT_ROWS(buf_text(&text), rows);
    buf_fini(&text);
}

Test(route, the_depth_has_a_bound)
{
    expect_chain(1, 1, "ok alice@example.org>alice/");
    expect_chain(2, 1, "too long");
    expect_chain(100, 100, "ok alice@example.org>alice/");
    expect_chain(101, 100, "too long");
}

/* one alias of so many addresses */
static void expect_fan(int addresses, int limit, const char *expected)
{
    struct buf text = { 0 };
    buf_printf(&text, "virtual_alias_expansion_limit = %d\n"
                      "virtual_mailbox_maps = static:all/\n"
                      "virtual_alias_maps = inline:{ {fan@valias.test =", limit);
    for (int i = 0; i < addresses; i++)
        buf_printf(&text, " u%d@vmbox.test", i);
    buf_puts(&text, "} }\n");
    struct world w = world_of(buf_text(&text));
    struct buf seen = { 0 };
    print_route(&w, "fan@valias.test", &seen);
    cr_expect_eq(strncmp(buf_text(&seen), expected, strlen(expected)), 0, "%d of %d: %.40s",
                 addresses, limit, buf_text(&seen));
    buf_fini(&seen);
    buf_fini(&text);
    world_fini(&w);
}

/* The recipient itself is the first address. */
Test(route, the_number_of_addresses_has_a_bound)
{
    expect_fan(9, 10, "ok u0@vmbox.test");
    expect_fan(10, 10, "too long");
    expect_fan(999, 1000, "ok u0@vmbox.test");
    expect_fan(1000, 1000, "too long");
}

Test(route, extensions_move_on_unless_the_key_held_them)
{
    static const struct row rows[] = {
        { "dave+x@valias.test", "ok alice+x@example.org>alice/" },
        { "dave@valias.test", "ok alice@example.org>alice/" },
        { "fred+x@valias.test", "ok bob@example.org>bob/" },
        { "fred+y@valias.test", "ok alice+y@example.org>alice/" },
        { "many+x@valias.test", "ok alice+x@example.org>alice/ bob+x@example.org>bob/" },
        { "alice+x@example.org", "ok alice+x@example.org>alice/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ dave@valias.test=alice@example.org,"
                " fred+x@valias.test=bob, fred@valias.test=alice,"
                " {many@valias.test = alice, bob} }\n", rows);
}

Test(route, a_whole_domain_may_be_mapped)
{
    static const struct row rows[] = {
        { "carol@valias.test", "ok carol@vmbox.test>carol/" },
        { "carol+x@valias.test", "ok carol+x@vmbox.test>carol/" },
        { "special@valias.test", "ok bob@example.org>bob/" },
        { "zz@valias.test", "unknown" },
        { "any@relay.test", "ok alice@example.org>alice/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ @valias.test=@vmbox.test,"
                " special@valias.test=bob, @relay.test=alice@example.org }\n", rows);
}

Test(route, postmaster_reaches_a_mailbox_whatever_the_tables_say)
{
    static const struct row rows[] = {
        { "postmaster", "ok postmaster@example.org>root/" },
        { "postmaster@vmbox.test", "ok postmaster@vmbox.test>root/" },
        { "postmaster@valias.test", "ok postmaster@valias.test>root/" },
        { "postmaster@localhost", "ok postmaster@localhost>root/" },
    };
    EXPECT_ROWS("postmaster_mailbox = root/\nvirtual_mailbox_maps = texthash:/dev/null\n", rows);
    static const struct row aliased[] = {
        { "postmaster", "ok alice@example.org>alice/" },
        { "postmaster@vmbox.test", "ok carol@vmbox.test>carol/" },
        { "postmaster@valias.test", "ok postmaster@valias.test>postmaster/" },
    };
    EXPECT_ROWS("virtual_alias_maps = inline:{ postmaster=alice, "
                " postmaster@vmbox.test=carol@vmbox.test }\n", aliased);
    static const struct row elsewhere[] = {
        { "postmaster", "ok postmaster@foreign.test>postmaster/" },
    };
    EXPECT_ROWS("myorigin = foreign.test\n", elsewhere);
}

Test(route, failing_tables_are_told_apart_from_missing_users)
{
    static const struct row rows[] = {
        { "alice@example.org", "broken" },
    };
    EXPECT_ROWS("virtual_alias_maps = fail:x\n", rows);
    EXPECT_ROWS("virtual_mailbox_maps = fail:x\n", rows);
    EXPECT_ROWS("transport_maps = fail:x\n", rows);
    EXPECT_ROWS("virtual_mailbox_maps = static:{}\n", rows);
    static const struct row domains[] = {
        { "carol@vmbox.test", "retry" },
    };
    EXPECT_ROWS("virtual_mailbox_domains = fail:x\n", domains);
}

static enum map_result answer_later(void *context, struct map *map, struct span key,
                                    struct buf *value)
{
    (void)context, (void)map, (void)key, (void)value;
    return MAP_PENDING;
}

Test(route, a_table_whose_answer_is_on_its_way_is_waited_for)
{
    const struct map_reader slow = { answer_later, NULL };
    struct world w = world_of("");
    struct arena memory = { 0 };
    struct target *targets;
    const char *text;
    cr_expect_eq(route_recipient(w.policy, &slow, SPAN_LITERAL("alice@example.org"), &memory,
                                 &targets, &text), ROUTE_PENDING);
    arena_fini(&memory);
    world_fini(&w);
}
