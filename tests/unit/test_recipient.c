#include "world.h"

#include "protocol/mem.h"
#include "protocol/smtp_path.h"

static const char *class_name(enum address_class class)
{
    static const char *const names[] = { "local", "alias", "mailbox", "relay", "default" };
    return names[class];
}

/* "CLASS address user extension", with "routed" behind it. */
static void describe(struct world *w, struct span address, struct buf *out)
{
    struct arena memory = { 0 };
    struct resolved r;
    cr_assert_eq(recipient_resolve(&w->policy->domains, &map_reader_direct, address, &memory, &r),
                 MAP_FOUND);
    buf_printf(out, "%s %.*s %.*s", class_name(r.class), (int)r.address.len, r.address.at,
               (int)r.user.len, r.user.at);
    if (r.extension.len > 0)
        buf_printf(out, " %.*s", (int)r.extension.len, r.extension.at);
    if (r.is_routed)
        buf_puts(out, " routed");
    cr_expect(r.local.len >= r.user.len + r.extension.len);
    arena_fini(&memory);
}

static void expect_resolved(struct world *w, const char *address, const char *expected)
{
    struct buf seen = { 0 };
    describe(w, span_of(address), &seen);
    cr_expect_str_eq(buf_text(&seen), expected, "<%s> is \"%s\"", address, buf_text(&seen));
    buf_fini(&seen);
}

struct row {
    const char *address, *expected;
};

static void expect_rows(const char *text, const struct row *rows, size_t count)
{
    struct world w = world_of(text);
    for (size_t i = 0; i < count; i++)
        expect_resolved(&w, rows[i].address, rows[i].expected);
    world_fini(&w);
}

#define EXPECT_ROWS(text, rows) expect_rows(text, rows, ARRAY_LEN(rows))

/* ------------------------------------------------------------ classes */

Test(recipient, the_class_of_a_domain)
{
    static const struct row rows[] = {
        { "u@example.org", "local u@example.org u" },
        { "u@EXAMPLE.Org", "local u@example.org u" },
        { "u@example.org.", "local u@example.org u" },
        { "u@localhost", "local u@localhost u" },
        { "u@sub.example.org", "default u@sub.example.org u" },
        { "u@[127.0.0.1]", "local u@[127.0.0.1] u" },
        { "u@[IPv6:::1]", "local u@[ipv6:::1] u" },
        { "u@[203.0.113.9]", "default u@[203.0.113.9] u" },
        { "u@valias.test", "alias u@valias.test u" },
        { "u@sub.valias.test", "default u@sub.valias.test u" },
        { "u@vmbox.test", "mailbox u@vmbox.test u" },
        { "u@sub.vmbox.test", "default u@sub.vmbox.test u" },
        { "u@relay.test", "relay u@relay.test u" },
        { "u@sub.relay.test", "relay u@sub.relay.test u" },
        { "u@a.b.relay.test", "relay u@a.b.relay.test u" },
        { "u@xrelay.test", "default u@xrelay.test u" },
        { "u@foreign.test", "default u@foreign.test u" },
        { "u@mx.example.org", "default u@mx.example.org u" }, /* $myhostname is not local by itself */
    };
    EXPECT_ROWS("", rows);
}

Test(recipient, the_first_class_wins)
{
    static const struct row rows[] = {
        { "u@example.org", "local u@example.org u" },
        { "u@vmbox.test", "mailbox u@vmbox.test u" },
    };
    EXPECT_ROWS("virtual_mailbox_domains = example.org, vmbox.test\n"
                "relay_domains = relay.test, vmbox.test\n", rows);
}

Test(recipient, domains_are_keys_of_tables_by_default)
{
    struct world w = world_of("virtual_alias_domains = $virtual_alias_maps\n"
                              "virtual_alias_maps = inline:{ valias.test=x, dave@valias.test=alice }\n"
                              "virtual_mailbox_domains = $virtual_mailbox_maps\n"
                              "virtual_mailbox_maps = inline:{ {vmbox.test=x}, {c@other.test=c/} }\n");
    expect_resolved(&w, "u@valias.test", "alias u@valias.test u");
    expect_resolved(&w, "u@VMBOX.test", "mailbox u@vmbox.test u");
    expect_resolved(&w, "u@other.test", "default u@other.test u");
    world_fini(&w);
}

Test(recipient, without_parent_matching_a_relay_domain_is_itself_only)
{
    static const struct row rows[] = {
        { "u@relay.test", "relay u@relay.test u" },
        { "u@sub.relay.test", "default u@sub.relay.test u" },
        { "u@sub.dot.test", "relay u@sub.dot.test u" },
        { "u@dot.test", "default u@dot.test u" },
    };
    EXPECT_ROWS("parent_domain_matches_subdomains = mynetworks\n"
                "relay_domains = relay.test, .dot.test\n", rows);
}

/* ------------------------------------------------------------ rewriting */

/* spec 3.3: what each form becomes, and whether it may be relayed for a stranger. */
Test(recipient, routing_in_a_local_part)
{
    static const struct row rows[] = {
        { "alice", "local alice@example.org alice" },
        { "ALICE@EXAMPLE.ORG", "local alice@example.org alice" },
        { "alice%example.org@example.org", "local alice@example.org alice" },
        { "alice%example.org", "local alice@example.org alice" },
        { "example.org!alice", "local alice@example.org alice" },
        { "example.org!alice@example.org", "local alice@example.org alice" },
        { "alice%example.org%localhost@example.org", "local alice@example.org alice" },
        { "u%foreign@example.org", "default u@foreign u" },
        { "u@foreign@example.org", "default u@foreign u" },
        { "foreign!u@example.org", "default u@foreign u" },
        { "a!b!u@example.org", "default b!u@a b!u routed" },
        { "erin%x@relay.test", "relay erin%x@relay.test erin%x routed" },
        { "erin@x@relay.test", "relay erin@x@relay.test erin@x routed" },
        { "carol%x@vmbox.test", "mailbox carol%x@vmbox.test carol%x routed" },
        { "a!b@vmbox.test", "mailbox a!b@vmbox.test a!b routed" },
        { "a%b@foreign.test", "default a%b@foreign.test a%b routed" },
        { "carol%vmbox.test@example.org", "mailbox carol@vmbox.test carol" },
        { "erin%relay.test@example.org", "relay erin@relay.test erin" },
        { "carol%x%vmbox.test@example.org", "mailbox carol%x@vmbox.test carol%x routed" },
        { "@example.org", "local mailer-daemon@example.org mailer-daemon" },
        { "@vmbox.test", "mailbox mailer-daemon@vmbox.test mailer-daemon" },
        { "", "local mailer-daemon@example.org mailer-daemon" },
    };
    EXPECT_ROWS("", rows);
}

/* A loop of rewriting ends, whatever the address. */
Test(recipient, rewriting_ends)
{
    static const char letters[] = "a%@!.";
    struct world w = world_of("");
    struct buf address = { 0 }, seen = { 0 };
    for (unsigned n = 0; n < 5 * 5 * 5 * 5 * 5 * 5; n++) {
        buf_clear(&address);
        for (unsigned k = n, i = 0; i < 6; i++, k /= 5)
            buf_putc(&address, letters[k % 5]);
        buf_clear(&seen);
        describe(&w, buf_span(&address), &seen);
        buf_puts(&address, "@example.org");
        describe(&w, buf_span(&address), &seen);
    }
    buf_clear(&address);
    buf_puts(&address, "a");
    for (int i = 0; i < 1000; i++)
        buf_puts(&address, "%example.org");
    buf_clear(&seen);
    describe(&w, buf_span(&address), &seen);
    cr_expect(strstr(buf_text(&seen), "routed") != NULL, "what is left is not ours to relay");
    buf_fini(&address);
    buf_fini(&seen);
    world_fini(&w);
}

Test(recipient, an_address_without_domain_gets_myorigin)
{
    static const struct row rows[] = {
        { "alice", "mailbox alice@vmbox.test alice" },
        { "alice+x", "mailbox alice+x@vmbox.test alice +x" },
    };
    EXPECT_ROWS("myorigin = vmbox.test\n", rows);
}

/* ------------------------------------------------------------ extensions */

Test(recipient, the_extension_begins_at_the_first_delimiter)
{
    static const struct row rows[] = {
        { "alice+a@example.org", "local alice+a@example.org alice +a" },
        { "alice+a+b@example.org", "local alice+a+b@example.org alice +a+b" },
        { "alice+@example.org", "local alice+@example.org alice +" },
        { "alice-a@example.org", "local alice-a@example.org alice-a" },
        { "+a@example.org", "local +a@example.org +a" }, /* an empty user: it stays whole */
        { "+@example.org", "local +@example.org +" },
        { "Alice+A@Example.org", "local alice+a@example.org alice +a" },
        { "postmaster@example.org", "local postmaster@example.org postmaster" },
        { "mailer-daemon@example.org", "local mailer-daemon@example.org mailer-daemon" },
    };
    EXPECT_ROWS("", rows);
}

Test(recipient, several_delimiters_and_lists)
{
    static const struct row special[] = {
        { "alice-a@example.org", "local alice-a@example.org alice -a" },
        { "alice+a-b@example.org", "local alice+a-b@example.org alice +a-b" },
        { "alice-a+b@example.org", "local alice-a+b@example.org alice -a+b" },
        { "owner-list@example.org", "local owner-list@example.org owner-list" },
        { "list-request@example.org", "local list-request@example.org list-request" },
        { "mailer-daemon@example.org", "local mailer-daemon@example.org mailer-daemon" },
        { "double-bounce@example.org", "local double-bounce@example.org double-bounce" },
        { "postmaster-x@example.org", "local postmaster-x@example.org postmaster -x" },
    };
    EXPECT_ROWS("recipient_delimiter = -+\n", special);
    static const struct row plain[] = {
        { "owner-list@example.org", "local owner-list@example.org owner -list" },
        { "list-request@example.org", "local list-request@example.org list -request" },
    };
    EXPECT_ROWS("recipient_delimiter = -\nowner_request_special = no\n", plain);
    static const struct row none[] = {
        { "alice+a@example.org", "local alice+a@example.org alice+a" },
    };
    EXPECT_ROWS("recipient_delimiter =\n", none);
}

/* ------------------------------------------------------------ keys */

struct asked {
    struct buf keys;
    bool is_partial_only;
};

/* Notes the keys in their order; finds the one behind "=" in its context. */
static enum map_result note_key(void *context, struct map *map, struct span key, struct buf *value)
{
    struct asked *asked = context;
    (void)map, (void)value;
    buf_printf(&asked->keys, "%s%.*s", asked->keys.len > 0 ? "; " : "", (int)key.len, key.at);
    return MAP_NOT_FOUND;
}

/* The keys that are tried in a table of this kind, in order. */
static void expect_keys(struct world *w, const char *address, const char *table,
                        const char *expected)
{
    struct asked asked = { 0 };
    const struct map_reader reader = { note_key, &asked };
    struct arena memory = { 0 };
    struct map_list list;
    struct resolved r;
    struct buf value = { 0 };
    bool with_extension;
    map_list_compile(&list, w->config->maps, table, "x", &memory, &w->problems);
    recipient_resolve(&w->policy->domains, &map_reader_direct, span_of(address), &memory, &r);
    cr_expect_eq(recipient_find(&w->policy->domains, &list, &reader, &r, &value, &with_extension),
                 MAP_NOT_FOUND);
    cr_expect_str_eq(buf_text(&asked.keys), expected, "<%s> in %s: %s", address, table,
                     buf_text(&asked.keys));
    buf_fini(&asked.keys);
    buf_fini(&value);
    arena_fini(&memory);
}

Test(recipient, the_keys_of_an_address_in_their_order)
{
    static const struct {
        const char *address, *table, *keys;
    } rows[] = {
        { "Alice+X@Example.ORG", "static:x",
          "alice+x@example.org; alice@example.org; alice+x; alice; @example.org" },
        { "alice@example.org", "static:x", "alice@example.org; alice; @example.org" },
        { "carol+x@vmbox.test", "static:x", "carol+x@vmbox.test; carol@vmbox.test; @vmbox.test" },
        { "u@foreign.test", "static:x", "u@foreign.test; @foreign.test" },
        { "u@[127.0.0.1]", "static:x", "u@[127.0.0.1]; u; @[127.0.0.1]" },
        { "a b@vmbox.test", "static:x", "\"a b\"@vmbox.test; a b@vmbox.test; @vmbox.test" },
        { "a b+x@example.org", "static:x",
          "\"a b+x\"@example.org; a b+x@example.org; \"a b\"@example.org; a b@example.org; "
          "\"a b+x\"; a b+x; \"a b\"; a b; @example.org" },
        { "alice+x y@vmbox.test", "static:x",
          "\"alice+x y\"@vmbox.test; alice+x y@vmbox.test; alice@vmbox.test; @vmbox.test" },
        { "a\"b@vmbox.test", "static:x", "\"a\\\"b\"@vmbox.test; a\"b@vmbox.test; @vmbox.test" },
        /* patterns get the whole address only */
        { "alice+x@example.org", "pcre:{{/z/ x}}", "alice+x@example.org" },
        { "alice+x@example.org", "regexp:{{/z/ x}}", "alice+x@example.org" },
        { "alice+x@example.org", "cidr:{{::1 x}}", "alice+x@example.org" },
        { "a b@vmbox.test", "pcre:{{/z/ x}}", "\"a b\"@vmbox.test; a b@vmbox.test" },
    };
    struct world w = world_of("");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        expect_keys(&w, rows[i].address, rows[i].table, rows[i].keys);
    world_fini(&w);
}

Test(recipient, bare_users_are_keys_for_myorigin_too)
{
    struct world w = world_of("myorigin = foreign.test\n");
    expect_keys(&w, "u+x@foreign.test", "static:x",
                "u+x@foreign.test; u@foreign.test; u+x; u; @foreign.test");
    expect_keys(&w, "u@relay.test", "static:x", "u@relay.test; @relay.test");
    world_fini(&w);
}

Test(recipient, a_hit_tells_whether_its_key_held_the_extension)
{
    static const struct {
        const char *table, *value;
        bool with_extension;
    } rows[] = {
        { "inline:{alice+x@example.org=1}", "1", true },
        { "inline:{alice@example.org=2}", "2", false },
        { "inline:{alice+x=3}", "3", true },
        { "inline:{alice=4}", "4", false },
        { "inline:{@example.org=5}", "5", false },
        { "inline:{alice=4, @example.org=5, alice@example.org=2}", "2", false },
    };
    struct world w = world_of("");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena memory = { 0 };
        struct map_list list;
        struct resolved r;
        struct buf value = { 0 };
        bool with_extension = !rows[i].with_extension;
        map_list_compile(&list, w.config->maps, rows[i].table, "x", &memory, &w.problems);
        recipient_resolve(&w.policy->domains, &map_reader_direct,
                          SPAN_LITERAL("alice+x@example.org"), &memory, &r);
        cr_expect_eq(recipient_find(&w.policy->domains, &list, &map_reader_direct, &r, &value,
                                    &with_extension), MAP_FOUND);
        cr_expect_str_eq(buf_text(&value), rows[i].value, "%s", rows[i].table);
        cr_expect_eq(with_extension, rows[i].with_extension, "%s", rows[i].table);
        buf_fini(&value);
        arena_fini(&memory);
    }
    world_fini(&w);
}

/* ------------------------------------------------------------ is there such a user? */

/* "known", "CODE TEXT", "retry", "broken" */
static void listing_of(struct world *w, const char *address, struct buf *out)
{
    struct arena memory = { 0 };
    struct resolved r;
    struct listing listing;
    const struct domains *d = &w->policy->domains;
    enum map_result result = recipient_resolve(d, &map_reader_direct, span_of(address), &memory, &r);
    if (result == MAP_FOUND)
        result = recipient_listing(d, &map_reader_direct, &r, &listing);
    if (result != MAP_FOUND)
        buf_puts(out, result == MAP_RETRY ? "retry" : "broken");
    else if (listing.is_known)
        buf_puts(out, "known");
    else
        buf_printf(out, "%d %s", listing.code, listing.text);
    arena_fini(&memory);
}

static void expect_listings(const char *text, const struct row *rows, size_t count)
{
    struct world w = world_of(text);
    struct buf seen = { 0 };
    for (size_t i = 0; i < count; i++) {
        buf_clear(&seen);
        listing_of(&w, rows[i].address, &seen);
        cr_expect_str_eq(buf_text(&seen), rows[i].expected, "<%s> with:\n%s", rows[i].address,
                         text);
    }
    buf_fini(&seen);
    world_fini(&w);
}

#define EXPECT_LISTINGS(text, rows) expect_listings(text, rows, ARRAY_LEN(rows))

Test(recipient, users_of_each_class)
{
    static const struct row rows[] = {
        { "alice@example.org", "known" },
        { "ALICE+anything@example.org", "known" },
        { "alice@localhost", "550 User unknown in local recipient table" },
        { "nobody@example.org", "550 User unknown in local recipient table" },
        { "+alice@example.org", "550 User unknown in local recipient table" },
        { "carol@vmbox.test", "known" },
        { "carol+x@vmbox.test", "known" },
        { "zz@vmbox.test", "550 User unknown in virtual mailbox table" },
        { "dave@valias.test", "known" },
        { "zz@valias.test", "550 User unknown in virtual alias table" },
        { "erin@relay.test", "known" },
        { "zz@relay.test", "550 User unknown in relay recipient table" },
        { "erin@sub.relay.test", "550 User unknown in relay recipient table" },
        { "zz@foreign.test", "known" }, /* the relay list decides */
        { "mailer-daemon@example.org", "known" },
        { "MAILER-DAEMON@localhost", "known" },
        { "double-bounce@example.org", "known" },
        { "mailer-daemon@vmbox.test", "550 User unknown in virtual mailbox table" },
        { "postmaster@example.org", "known" },
        { "abuse@example.org", "550 User unknown in local recipient table" },
        { "postmaster@relay.test", "550 User unknown in relay recipient table" },
    };
    EXPECT_LISTINGS("", rows);
}

/* RFC 5321 4.5.1; Postfix refuses those of the virtual classes. */
Test(recipient, postmaster_exists_in_every_domain_of_ours)
{
    static const struct row rows[] = {
        { "postmaster@vmbox.test", "known" },
        { "Postmaster@valias.test", "known" },
        { "postmaster", "known" },
        { "postmasterx@vmbox.test", "550 User unknown in virtual mailbox table" },
    };
    EXPECT_LISTINGS("", rows);
}

Test(recipient, an_empty_parameter_accepts_all_and_an_empty_table_nobody)
{
    static const struct row open[] = {
        { "zz@vmbox.test", "known" },
        { "zz@relay.test", "known" },
        { "zz@valias.test", "550 User unknown in virtual alias table" },
    };
    EXPECT_LISTINGS("virtual_mailbox_maps =\nrelay_recipient_maps =\n", open);
    static const struct row shut[] = {
        { "zz@vmbox.test", "550 User unknown in virtual mailbox table" },
        { "zz@relay.test", "550 User unknown in relay recipient table" },
    };
    EXPECT_LISTINGS("virtual_mailbox_maps = texthash:/dev/null\n"
                    "relay_recipient_maps = texthash:/dev/null\n", shut);
}

Test(recipient, a_catch_all_makes_every_user_known)
{
    static const struct row rows[] = {
        { "zz@vmbox.test", "known" },
        { "zz@relay.test", "known" },
    };
    EXPECT_LISTINGS("virtual_mailbox_maps = inline:{@vmbox.test=all/}\n"
                    "relay_recipient_maps = inline:{@relay.test=x}\n", rows);
}

Test(recipient, an_alias_makes_a_user_of_any_class_known)
{
    static const struct row rows[] = {
        { "nobody@example.org", "known" },
        { "zz@relay.test", "known" },
        { "bare@example.org", "known" },
        { "bare@vmbox.test", "550 User unknown in virtual mailbox table" },
    };
    EXPECT_LISTINGS("virtual_alias_maps = inline:{ nobody@example.org=alice@example.org,"
                    " zz@relay.test=alice@example.org, bare=alice@example.org }\n", rows);
}

Test(recipient, codes_and_words_are_parameters)
{
    static const struct row rows[] = {
        { "zz@example.org", "451 User unknown" },
        { "zz@valias.test", "452 User unknown" },
        { "zz@vmbox.test", "453 User unknown" },
        { "zz@relay.test", "454 User unknown" },
    };
    EXPECT_LISTINGS("unknown_local_recipient_reject_code = 451\n"
                    "unknown_virtual_alias_reject_code = 452\n"
                    "unknown_virtual_mailbox_reject_code = 453\n"
                    "unknown_relay_recipient_reject_code = 454\n"
                    "show_user_unknown_table_name = no\n", rows);
}

Test(recipient, a_failing_table_is_no_unknown_user)
{
    static const struct row rows[] = {
        { "zz@vmbox.test", "broken" },
        { "zz@relay.test", "broken" },
        { "alice@example.org", "known" },
    };
    EXPECT_LISTINGS("virtual_mailbox_maps = fail:x\nrelay_recipient_maps = static:{}\n", rows);
    static const struct row all[] = {
        { "alice@example.org", "broken" },
        { "postmaster@example.org", "broken" }, /* who may have an alias */
        { "u@foreign.test", "broken" },
    };
    EXPECT_LISTINGS("virtual_alias_maps = fail:x\n", all);
    static const struct row domains[] = {
        { "u@vmbox.test", "retry" },
        { "u@foreign.test", "retry" },
        { "alice@example.org", "known" }, /* found before the list that fails */
    };
    EXPECT_LISTINGS("virtual_mailbox_domains = fail:x\n", domains);
}
