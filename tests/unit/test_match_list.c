#include "scratch.h"

#include "policy/match_list.h"

struct lists {
    struct arena memory;
    struct problems problems;
    struct maps *maps;
    struct match_list list;
};

/* parents: the parameter "list" is in parent_domain_matches_subdomains. */
static struct lists *compile(const char *text, bool parents)
{
    struct lists *l = xcalloc(1, sizeof *l);
    l->maps = maps_new("/");
    const struct match_source source = { l->maps, "/", parents ? "other, list" : "other",
                                         &l->memory, &l->problems };
    match_list_compile(&l->list, text, "list", &source);
    return l;
}

static void lists_free(struct lists *l)
{
    arena_fini(&l->memory);
    problems_fini(&l->problems);
    maps_free(l->maps);
    free(l);
}

static const char *name_of(enum match match)
{
    switch (match) {
    case MATCH_NO: return "no";
    case MATCH_YES: return "yes";
    case MATCH_ERROR: return "error";
    case MATCH_PENDING: break;
    }
    return "pending";
}

/* ------------------------------------------------------------ words */

static const struct {
    const char *list;
    bool parents;
    const char *word, *match;
} words[] = {
    { "", false, "example.com", "no" },
    { "example.com", false, "example.com", "yes" },
    { "example.com", false, "EXAMPLE.com", "yes" },
    { "Example.COM", false, "example.com", "yes" },
    { "example.com", false, "sub.example.com", "no" },
    { "example.com", false, "badexample.com", "no" },
    { "example.com", true, "example.com", "yes" },
    { "example.com", true, "sub.example.com", "yes" },
    { "example.com", true, "a.b.EXAMPLE.com", "yes" },
    { "example.com", true, "badexample.com", "no" },
    { "example.com", true, "com", "no" },
    { ".example.com", false, "example.com", "no" },
    { ".example.com", false, "sub.example.com", "yes" },
    { ".example.com", false, "a.b.example.com", "yes" },
    { ".example.com", false, "badexample.com", "no" },
    { ".example.com", true, "example.com", "no" }, /* the trap of spec 3.2 */
    { ".example.com", true, "sub.example.com", "no" },
    { ".", false, "a.b", "no" },
    { "a, b c,,d", false, "d", "yes" },
    { "a, b c,,d", false, "", "no" },
    /* from left to right the first match decides */
    { "!a.test, .test", false, "a.test", "no" },
    { "!a.test, .test", false, "b.test", "yes" },
    { ".test, !a.test", false, "a.test", "yes" },
    { "!!a.test", false, "a.test", "yes" },
    { "!a.test", false, "b.test", "no" },
    /* tables: the value does not matter */
    { "inline:{a.test=x}", false, "a.test", "yes" },
    { "inline:{a.test=x}", false, "A.test", "yes" },
    { "inline:{a.test=x}", false, "sub.a.test", "no" },
    { "inline:{a.test=x}", true, "sub.a.test", "yes" },
    { "inline:{a.test=x}", true, "x.sub.a.test", "yes" },
    { "inline:{a.test=x}", true, "xa.test", "no" },
    { "inline:{.a.test=x}", true, "sub.a.test", "no" },
    { "!inline:{a.test=x}, .test", false, "a.test", "no" },
    { "pcre:{{/^a\\.test$/ x}}", true, "sub.a.test", "no" }, /* patterns get the whole word */
    { "pcre:{{/a\\.test$/ x}}", true, "sub.a.test", "yes" },
    { "static:{}", false, "anything", "yes" },
    { "fail:x", false, "a", "error" },
    { "a, fail:x", false, "a", "yes" },
    { "fail:x, a", false, "a", "error" },
    { "!fail:x, a", false, "a", "error" },
    { "hash:/none/x", false, "a", "error" },
};

Test(match_list, words_and_domains)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct lists *l = compile(words[i].list, words[i].parents);
        enum match match = match_list_word(&l->list, &map_reader_direct, span_of(words[i].word));
        cr_expect_str_eq(name_of(match), words[i].match, "\"%s\" in \"%s\", parents %d",
                         words[i].word, words[i].list, words[i].parents);
        cr_expect_eq(l->problems.error_count, 0);
        lists_free(l);
    }
}

/* ------------------------------------------------------------ hosts */

static const struct {
    const char *list;
    bool parents;
    const char *name, *address, *match;
} hosts[] = {
    { "", true, "unknown", "192.0.2.1", "no" },
    { "192.0.2.1", true, "unknown", "192.0.2.1", "yes" },
    { "192.0.2.0/24", true, "unknown", "192.0.2.255", "yes" },
    { "192.0.2.0/24", true, "unknown", "192.0.3.0", "no" },
    { "[192.0.2.0]/24", true, "unknown", "192.0.2.1", "yes" },
    { "0.0.0.0/0", true, "unknown", "2001:db8::1", "no" },
    { "[2001:db8::]/32", true, "unknown", "2001:db8:1::1", "yes" },
    { "[2001:db8::1]", true, "unknown", "2001:db8::1", "yes" },
    { "2001:db8::1", true, "unknown", "2001:db8::1", "yes" },
    { "[::ffff:192.0.2.1]", true, "unknown", "192.0.2.1", "yes" },
    { "!192.0.2.11, 192.0.2.0/24", true, "unknown", "192.0.2.11", "no" },
    { "!192.0.2.11, 192.0.2.0/24", true, "unknown", "192.0.2.12", "yes" },
    { "192.0.2.0/24, !192.0.2.11", true, "unknown", "192.0.2.11", "yes" },
    { "!192.0.2.0/25 192.0.2.0/24", true, "unknown", "192.0.2.127", "no" },
    /* the verified name is matched too */
    { "client.test", true, "client.test", "192.0.2.1", "yes" },
    { "client.test", true, "mx.client.test", "192.0.2.1", "yes" },
    { "client.test", false, "mx.client.test", "192.0.2.1", "no" },
    { ".client.test", true, "mx.client.test", "192.0.2.1", "no" },
    { ".client.test", true, "client.test", "192.0.2.1", "no" },
    { ".client.test", false, "mx.client.test", "192.0.2.1", "yes" },
    { "unknown", true, "unknown", "192.0.2.1", "yes" },
    { "!mx.client.test, 192.0.2.0/24", true, "mx.client.test", "192.0.2.1", "no" },
    /* tables get the name, then the address, whole */
    { "inline:{192.0.2.1=x}", true, "unknown", "192.0.2.1", "yes" },
    { "inline:{192.0.2=x}", true, "unknown", "192.0.2.1", "no" },
    { "inline:{client.test=x}", true, "mx.client.test", "192.0.2.1", "yes" },
    { "cidr:{{192.0.2.0/24 x}}", true, "unknown", "192.0.2.1", "yes" },
    { "cidr:{{192.0.2.0/24 x}}", true, "unknown", "192.0.3.1", "no" },
    { "cidr:{{2001:db8::/32 x}}", true, "unknown", "2001:db8::1", "yes" },
    { "!cidr:{{192.0.2.1 x}}, 192.0.2.0/24", true, "unknown", "192.0.2.1", "no" },
    { "fail:x", true, "unknown", "192.0.2.1", "error" },
    { "192.0.2.0/24, fail:x", true, "unknown", "192.0.2.1", "yes" },
};

Test(match_list, clients_by_name_and_address)
{
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct lists *l = compile(hosts[i].list, hosts[i].parents);
        struct ip ip;
        cr_assert(ip_parse(span_of(hosts[i].address), &ip));
        enum match match = match_list_host(&l->list, &map_reader_direct, span_of(hosts[i].name),
                                           &ip);
        cr_expect_str_eq(name_of(match), hosts[i].match, "%s[%s] in \"%s\"", hosts[i].name,
                         hosts[i].address, hosts[i].list);
        cr_expect_eq(l->problems.error_count, 0, "%s", hosts[i].list);
        lists_free(l);
    }
}

Test(match_list, a_word_never_matches_a_network)
{
    struct lists *l = compile("192.0.2.0/24", true);
    cr_expect_eq(match_list_word(&l->list, &map_reader_direct, SPAN_LITERAL("192.0.2.1")),
                 MATCH_NO);
    lists_free(l);
}

/* ------------------------------------------------------------ mistakes */

static const struct {
    const char *list, *words;
} mistakes[] = {
    { "10.0.0.1/8", "has bits set behind its prefix" },
    { "[2001:db8::1]/32", "has bits set behind its prefix" },
    { "10.0.0.0/33", "not an address or network" },
    { "10.0.0.0/", "not an address or network" },
    { "10.0.0/8", "not an address or network" },
    { "[10.0.0.0/8", "not an address or network" },
    { "[2001:db8::]/129", "not an address or network" },
    { "2001:db8::/32", "" }, /* needs brackets: looks like a table */
    { "/none/file", "No such file" },
    { "!/none/file", "No such file" },
    { "nosuch:x", "unknown table type" },
    { "!", "pattern" },
    { "! 10.0.0.0/8", "pattern" }, /* meant as "not", it would trust all of it */
};

Test(match_list, a_mistake_is_an_error_when_the_list_is_read)
{
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        struct lists *l = compile(mistakes[i].list, true);
        cr_expect_eq(l->problems.error_count, 1, "%s", mistakes[i].list);
        if (l->problems.first != NULL) {
            cr_expect_str_eq(l->problems.first->subject, "list");
            cr_expect_neq(strstr(l->problems.first->text, mistakes[i].words), NULL, "%s: %s",
                          mistakes[i].list, l->problems.first->text);
        }
        lists_free(l);
    }
}

Test(match_list, a_table_that_cannot_be_opened_is_a_warning)
{
    struct lists *l = compile("hash:/none/x, example.com", true);
    cr_expect_eq(l->problems.error_count, 0);
    cr_expect_eq(l->problems.count, 1);
    lists_free(l);
}

/* "a = b # c": the comment is part of the value (spec 7.1); its words must not become items. */
Test(match_list, words_behind_a_number_sign_are_no_items)
{
    struct lists *l = compile("a.test # not c.test", true);
    cr_expect_eq(match_list_word(&l->list, &map_reader_direct, SPAN_LITERAL("a.test")), MATCH_YES);
    cr_expect_eq(match_list_word(&l->list, &map_reader_direct, SPAN_LITERAL("c.test")), MATCH_NO);
    cr_expect_eq(l->problems.count, 1);
    cr_expect_eq(l->problems.error_count, 0);
    lists_free(l);
}

/* ------------------------------------------------------------ files */

Test(match_list, a_file_is_replaced_by_its_items)
{
    struct scratch s = scratch_new();
    char list[700];
    scratch_write(&s, "domains", "a.test, !b.test\n# c.test\nd.test # e.test\n.f.test\n");
    snprintf(list, sizeof list, "x %s y", s.path);
    static const struct {
        const char *word, *match;
    } rows[] = { { "x", "yes" },      { "a.test", "yes" }, { "b.test", "no" },
                 { "c.test", "no" },  { "d.test", "yes" }, { "e.test", "no" },
                 { "g.f.test", "yes" }, { "y", "yes" },    { "z", "no" } };
    struct lists *l = compile(list, false);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_str_eq(name_of(match_list_word(&l->list, &map_reader_direct,
                                                 span_of(rows[i].word))),
                         rows[i].match, "%s", rows[i].word);
    cr_expect_eq(l->problems.error_count, 0);
    lists_free(l);
    scratch_fini(&s);
}

Test(match_list, a_negated_file_negates_each_item)
{
    struct scratch s = scratch_new();
    char list[700];
    scratch_write(&s, "hosts", "192.0.2.1\n!192.0.2.2\n");
    snprintf(list, sizeof list, "!%s, 192.0.2.0/24", s.path);
    struct lists *l = compile(list, true);
    static const char *const matches[] = { "yes", "no", "yes", "yes" };
    for (int i = 0; i < 4; i++) {
        struct ip ip = { 4, { 192, 0, 2, (uint8_t)i } };
        cr_expect_str_eq(name_of(match_list_host(&l->list, &map_reader_direct,
                                                 SPAN_LITERAL("unknown"), &ip)), matches[i], "%d", i);
    }
    lists_free(l);
    scratch_fini(&s);
}

Test(match_list, files_that_name_each_other_end_in_an_error)
{
    struct scratch s = scratch_new();
    char text[700];
    snprintf(text, sizeof text, "%s/b x\n", s.dir);
    scratch_write(&s, "a", text);
    snprintf(text, sizeof text, "%s/a y\n", s.dir);
    scratch_write(&s, "b", text);
    struct lists *l = compile(scratch_path(&s, "a"), true);
    cr_expect_eq(l->problems.error_count, 1);
    lists_free(l);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ the rest */

Test(match_list, many_items_keep_their_order)
{
    struct buf text = { 0 };
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "!no%d.test yes%d.test ", i, i);
    struct lists *l = compile(buf_text(&text), true);
    cr_expect_eq(l->list.count, 2000);
    for (int i = 0; i < 1000; i += 37) {
        char word[32];
        snprintf(word, sizeof word, "yes%d.test", i);
        cr_expect_eq(match_list_word(&l->list, &map_reader_direct, span_of(word)), MATCH_YES);
        snprintf(word, sizeof word, "no%d.test", i);
        cr_expect_eq(match_list_word(&l->list, &map_reader_direct, span_of(word)), MATCH_NO);
    }
    lists_free(l);
    buf_fini(&text);
}

Test(match_list, covers_tells_of_networks_only)
{
    static const struct {
        const char *list, *address;
        bool covers;
    } rows[] = {
        { "0.0.0.0/0", "192.0.2.1", true },    { "!192.0.2.1, 0.0.0.0/0", "192.0.2.1", false },
        { "static:x", "192.0.2.1", false },    { "unknown", "192.0.2.1", false },
        { "10.0.0.0/8", "192.0.2.1", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lists *l = compile(rows[i].list, true);
        struct ip ip;
        cr_assert(ip_parse(span_of(rows[i].address), &ip));
        cr_expect_eq(match_list_covers(&l->list, &ip), rows[i].covers, "%s", rows[i].list);
        lists_free(l);
    }
}

static enum map_result answer_later(void *context, struct map *map, struct span key,
                                    struct buf *value)
{
    (void)context, (void)map, (void)key, (void)value;
    return MAP_PENDING;
}

Test(match_list, a_table_whose_answer_is_on_its_way_is_waited_for)
{
    const struct map_reader slow = { answer_later, NULL };
    struct lists *l = compile("a, static:x, b", true);
    struct ip ip = { 4, { 192, 0, 2, 1 } };
    cr_expect_eq(match_list_word(&l->list, &slow, SPAN_LITERAL("a")), MATCH_YES);
    cr_expect_eq(match_list_word(&l->list, &slow, SPAN_LITERAL("b")), MATCH_PENDING);
    cr_expect_eq(match_list_host(&l->list, &slow, SPAN_LITERAL("b"), &ip), MATCH_PENDING);
    lists_free(l);
}
