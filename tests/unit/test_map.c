/* What all types of tables share: names, folding, partial keys, lists, renewal, threads. */
#include "scratch.h"
#include "tables.h"

#include "protocol/arena.h"

#include <pthread.h>
#include <stdatomic.h>

/* ------------------------------------------------------------ names */

Test(map, every_type_says_what_it_can)
{
    static const struct {
        const char *name;
        bool is_partial, is_slow;
    } rows[] = {
        { "hash:/none", true, false },        { "btree:/none", true, false },
        { "texthash:/none", true, false },    { "inline:{a=b}", true, false },
        { "static:x", true, false },          { "cidr:/none", false, false },
        { "regexp:/none", false, false },     { "pcre:/none", false, false },
        { "fail:x", false, false },           { "unix:passwd.byname", true, true },
        { "proxy:static:x", true, false },
    };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct map *map = tables_open(&t, rows[i].name);
        cr_expect_str_eq(map_name(map), rows[i].name);
        cr_expect(map_is_name(span_of(rows[i].name)), "%s", rows[i].name);
        cr_expect_eq(map_is_partial(map), rows[i].is_partial, "%s", rows[i].name);
        cr_expect_eq(map_is_slow(map), rows[i].is_slow, "%s", rows[i].name);
    }
    tables_fini(&t);
}

Test(map, what_is_no_table_name)
{
    static const char *const names[] = { "", ":", "hash", "static", "hashx:/a", "HASH:/a",
                                         "proxy:", "proxy:x:y", "ldap:/a", " hash:/a" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_expect(!map_is_name(span_of(names[i])), "\"%s\"", names[i]);
}

Test(map, an_unknown_type_is_an_error_and_a_foreign_one_is_named_so)
{
    struct tables t = tables_new("/");
    cr_expect_str_eq(tables_ask(&t, "nosuch:x", "k"), "!");
    cr_expect_eq(t.problems.error_count, 1);
    cr_expect(tables_said(&t, "unknown table type \"nosuch\""));
    cr_expect(tables_said(&t, "hash, btree, texthash"), "the known types are listed");
    cr_expect_str_eq(tables_ask(&t, "ldap:/etc/x", "k"), "!");
    cr_expect(tables_said(&t, "unsupported table type \"ldap\""));
    cr_expect_not_null(map_error(tables_open(&t, "ldap:/etc/x")));
    tables_fini(&t);
}

Test(map, a_table_that_cannot_be_opened_is_a_warning_and_answers_broken)
{
    static const char *const names[] = { "hash:/none/x", "btree:/none/x", "texthash:/none/x",
                                         "hash:{a=b}", "texthash:{a=b}",
                                         "cidr:/none/x", "regexp:/none/x", "pcre:/none/x",
                                         "unix:group.byname", "inline:{a}", "inline:x",
                                         "cidr:{x}" };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        tables_hush(&t);
        cr_expect_str_eq(tables_ask(&t, names[i], "k"), "!", "%s", names[i]);
        cr_expect_eq(t.problems.count, 1, "%s", names[i]);
        cr_expect_eq(t.problems.error_count, 0, "%s", names[i]);
        cr_expect_str_eq(t.problems.first->subject, "test_maps", "the parameter is named");
        cr_expect_not_null(map_error(tables_open(&t, names[i])));
    }
    tables_fini(&t);
}

Test(map, a_name_is_opened_once)
{
    struct tables t = tables_new("/");
    struct map *map = tables_open(&t, "texthash:/none");
    cr_expect_eq(tables_open(&t, "texthash:/none"), map);
    cr_expect_eq(t.problems.count, 1, "and complained about once");
    cr_expect_neq(tables_open(&t, "hash:/none"), map);
    tables_fini(&t);
}

Test(map, relative_names_belong_to_the_base_directory)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    char name[600];
    scratch_write(&s, "users", "a 1\n");
    cr_expect_str_eq(tables_ask(&t, "texthash:users", "a"), "=1");
    snprintf(name, sizeof name, "texthash:%s/users", s.dir);
    cr_expect_str_eq(tables_ask(&t, name, "a"), "=1");
    tables_fini(&t);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ small types */

Test(map, static_gives_its_text_for_every_key)
{
    struct tables t = tables_new("/");
    cr_expect_str_eq(tables_ask(&t, "static:ok", "a@b"), "=ok");
    cr_expect_str_eq(tables_ask(&t, "static:ok", "b"), "=ok");
    cr_expect_str_eq(tables_ask(&t, "static:{ two words }", "a"), "=two words");
    cr_expect_str_eq(tables_ask(&t, "static:{}", "a"), "=");
    cr_expect_str_eq(tables_ask(&t, "proxy:static:p", "a"), "=p");
    tables_fini(&t);
}

Test(map, an_empty_or_endless_key_is_never_found)
{
    struct tables t = tables_new("/");
    struct buf key = { 0 };
    cr_expect_str_eq(tables_ask(&t, "static:x", ""), "-");
    cr_expect_str_eq(tables_ask(&t, "fail:x", ""), "-", "it is not even asked");
    for (int i = 0; i < 4096; i++)
        buf_putc(&key, 'k');
    cr_expect_str_eq(tables_ask(&t, "static:x", buf_text(&key)), "=x", "4096 bytes");
    buf_putc(&key, 'k');
    cr_expect_str_eq(tables_ask(&t, "static:x", buf_text(&key)), "-", "4097 bytes");
    buf_fini(&key);
    tables_fini(&t);
}

Test(map, fail_fails)
{
    struct tables t = tables_new("/");
    cr_expect_str_eq(tables_ask(&t, "fail:anything", "k"), "!");
    cr_expect_eq(t.problems.count, 0);
    tables_fini(&t);
}

Test(map, unix_knows_the_users_of_this_host)
{
    struct tables t = tables_new("/");
    char long_name[300];
    memset(long_name, 'u', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    cr_expect_str_eq(tables_ask(&t, "unix:passwd.byname", "root"), "=root");
    cr_expect_str_eq(tables_ask(&t, "proxy:unix:passwd.byname", "root"), "=root");
    cr_expect_str_eq(tables_ask(&t, "unix:passwd.byname", "no-such-user-here"), "-");
    cr_expect_str_eq(tables_ask(&t, "unix:passwd.byname", long_name), "-");
    tables_fini(&t);
}

Test(map, inline_pairs)
{
    static const struct {
        const char *name, *key, *result;
    } rows[] = {
        { "inline:{a=b}", "a", "=b" },
        { "inline:{a=b}", "A", "=b" },
        { "inline:{A@B.c=Val}", "a@b.C", "=Val" },
        { "inline:{a=b, c=d}", "c", "=d" },
        { "inline:{a=b c=d}", "c", "=d" },
        { "inline:{ {a = two words} }", "a", "=two words" },
        { "inline:{ { a b = c, d } }", "a b", "=c, d" },
        { "inline:{a=b=c}", "a", "=b=c" },
        { "inline:{a=b}", "b", "-" },
        { "inline:{a=b}", "a=b", "-" },
        { "inline:{a=1, A=2}", "a", "=2" }, /* as Postfix: the last one */
        { "inline:{a=b}", "x@a", "-" },
        { "inline:{}", "a", "!" },
        { "inline:{ }", "a", "!" },
        { "inline:{a=}", "a", "!" },
        { "inline:{=b}", "b", "!" },
        { "inline:{a}", "a", "!" },
        { "inline:{a=b, c}", "a", "!" },
        { "inline:a=b", "a", "!" },
        { "inline:{a=b", "a", "!" },
        { "inline:", "a", "!" },
    };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_str_eq(tables_ask(&t, rows[i].name, rows[i].key), rows[i].result, "%s of %s",
                         rows[i].key, rows[i].name);
    tables_fini(&t);
}

Test(map, an_inline_key_has_a_bound)
{
    struct tables t = tables_new("/");
    struct buf name = { 0 };
    buf_puts(&name, "inline:{");
    for (int i = 0; i < 1024; i++)
        buf_putc(&name, 'k');
    struct buf longer = { 0 };
    buf_printf(&longer, "%sk=v}", buf_text(&name));
    struct span key = span_skip(buf_span(&name), 8);
    buf_putc(&t.value, ' ');
    buf_puts(&name, "=v}");
    struct map *map = tables_open(&t, buf_text(&name));
    cr_expect_eq(map_find(map, span_make(key.at, 1024), &t.value), MAP_FOUND);
    cr_expect_str_eq(tables_ask(&t, buf_text(&longer), "k"), "!");
    buf_fini(&name);
    buf_fini(&longer);
    tables_fini(&t);
}

Test(map, texthash_folds_and_keeps_the_first_duplicate)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "users", "User@Example.org  one Two\nuser@example.ORG three\nkey\nb c\n");
    cr_expect_str_eq(tables_ask(&t, "texthash:users", "USER@example.org"), "=one Two");
    cr_expect_str_eq(tables_ask(&t, "texthash:users", "b"), "=c");
    cr_expect_str_eq(tables_ask(&t, "texthash:users", "@example.org"), "-");
    cr_expect_eq(t.problems.count, 2, "one duplicate, one line without a value");
    cr_expect_eq(t.problems.first->line, 2);
    cr_expect_eq(t.problems.last->line, 3);
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map, an_empty_file_is_an_empty_table)
{
    static const char *const names[] = { "texthash:empty", "cidr:empty", "pcre:empty",
                                         "regexp:empty" };
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "empty", "");
    for (size_t i = 0; i < 4; i++)
        cr_expect_str_eq(tables_ask(&t, names[i], "k"), "-", "%s", names[i]);
    cr_expect_eq(t.problems.count, 0);
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map, a_directory_is_no_table)
{
    static const char *const names[] = { "texthash:dir", "cidr:dir", "pcre:dir", "hash:dir",
                                         "btree:dir" };
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    mkdir(scratch_path(&s, "dir"), 0700);
    mkdir(scratch_path(&s, "dir.db"), 0700);
    for (size_t i = 0; i < 5; i++)
        cr_expect_str_eq(tables_ask(&t, names[i], "k"), "!", "%s", names[i]);
    tables_fini(&t);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ walking */

static void note_entry(void *context, struct span key, struct span value)
{
    buf_printf(context, "%.*s=%.*s ", (int)key.len, key.at, (int)value.len, value.at);
}

Test(map, tables_of_pairs_can_be_read_whole)
{
    struct tables t = tables_new("/");
    struct buf seen = { 0 };
    cr_expect(map_each(tables_open(&t, "inline:{b=1, a=2, B=3}"), note_entry, &seen));
    cr_expect_str_eq(buf_text(&seen), "a=2 b=3 ");
    cr_expect(!map_each(tables_open(&t, "static:x"), note_entry, &seen));
    cr_expect(!map_each(tables_open(&t, "inline:{}"), note_entry, &seen), "unusable");
    buf_fini(&seen);
    tables_fini(&t);
}

/* ------------------------------------------------------------ lists */

static const char *ask_list(struct tables *t, const char *text, const char *key, bool is_whole)
{
    struct map_list list;
    struct arena memory = { 0 };
    map_list_compile(&list, t->maps, text, "test_maps", &memory, &t->problems);
    buf_clear(&t->value);
    enum map_result result = map_list_find(&list, &map_reader_direct, span_of(key), is_whole,
                                           &t->value);
    arena_fini(&memory);
    switch (result) {
    case MAP_FOUND: return buf_text(&t->value);
    case MAP_NOT_FOUND: return "-";
    case MAP_RETRY: return "?";
    case MAP_BROKEN: return "!";
    case MAP_PENDING: break;
    }
    return "PENDING";
}

Test(map, tables_of_a_list_are_asked_in_order)
{
    static const struct {
        const char *list, *key;
        bool is_whole;
        const char *result;
    } rows[] = {
        { "", "a", true, "-" },
        { "inline:{a=1}", "a", true, "1" },
        { "inline:{a=1}, inline:{a=2}", "a", true, "1" },
        { "inline:{b=1} inline:{a=2}", "a", true, "2" },
        { "inline:{{a = x, y}},inline:{b=2}", "a", true, "x, y" },
        /* an error ends the search; what was found before it counts */
        { "fail:x, inline:{a=2}", "a", true, "!" },
        { "inline:{a=1}, fail:x", "a", true, "1" },
        { "inline:{b=1}, fail:x", "a", true, "!" },
        { "texthash:/none, inline:{a=2}", "a", true, "!" },
        /* pattern tables get whole keys only */
        { "pcre:{{/a/ p}}, inline:{a=2}", "a", true, "p" },
        { "pcre:{{/a/ p}}, inline:{a=2}", "a", false, "2" },
        { "regexp:{{/a/ p}}", "a", false, "-" },
        { "cidr:{{192.0.2.1 c}}", "192.0.2.1", false, "-" },
        { "fail:x, static:s", "a", false, "s" },
        { "unix:passwd.byname", "root", false, "root" },
    };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_str_eq(ask_list(&t, rows[i].list, rows[i].key, rows[i].is_whole),
                         rows[i].result, "row %zu: %s", i, rows[i].list);
    tables_fini(&t);
}

/* Postfix: "should not return empty string result", 451 (spec 3.7). */
Test(map, an_empty_value_in_a_list_is_an_error_not_a_hit)
{
    struct tables t = tables_new("/");
    cr_expect_str_eq(ask_list(&t, "static:{}", "a", true), "!");
    cr_expect_str_eq(ask_list(&t, "inline:{b=1}, static:{}, static:x", "a", true), "!");
    tables_fini(&t);
}

Test(map, a_list_names_what_is_no_table)
{
    struct tables t = tables_new("/");
    cr_expect_str_eq(ask_list(&t, "/etc/aliases", "a", true), "!");
    cr_expect_eq(t.problems.error_count, 1);
    tables_fini(&t);
}

/* ------------------------------------------------------------ renewal */

struct renewal {
    struct scratch s;
    struct tables t;
    struct map *map;
};

static struct renewal renewal_of(const char *name, const char *text)
{
    struct renewal r = { .s = scratch_new() };
    r.t = tables_new(r.s.dir);
    scratch_write(&r.s, "table", text);
    scratch_age(&r.s, "table", 100);
    r.map = tables_open(&r.t, name);
    cr_assert_eq(r.t.problems.count, 0);
    return r;
}

static void renewal_fini(struct renewal *r)
{
    tables_fini(&r->t);
    scratch_fini(&r->s);
}

static int refresh(struct renewal *r)
{
    return maps_refresh(r->t.maps, &r->t.problems);
}

Test(map, a_changed_file_is_picked_up_once)
{
    static const struct {
        const char *name, *before, *after, *key;
    } rows[] = {
        { "texthash:table", "a 1\n", "a 2\n", "a" },
        { "cidr:table", "192.0.2.0/24 1\n", "192.0.2.0/24 2\n", "192.0.2.7" },
        { "pcre:table", "/^a$/ 1\n", "/^a$/ 2\n", "a" },
        { "regexp:table", "/^a$/ 1\n", "/^a$/ 2\n", "a" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct renewal r = renewal_of(rows[i].name, rows[i].before);
        cr_expect_eq(refresh(&r), 0, "nothing has changed");
        scratch_write(&r.s, "table", rows[i].after);
        cr_expect_str_eq(tables_look(&r.t, r.map, rows[i].key), "=1", "a snapshot until then");
        cr_expect_eq(refresh(&r), 1);
        cr_expect_str_eq(tables_look(&r.t, r.map, rows[i].key), "=2", "%s", rows[i].name);
        cr_expect_eq(refresh(&r), 0);
        cr_expect_eq(r.t.problems.count, 0);
        renewal_fini(&r);
    }
}

Test(map, a_renamed_file_of_the_same_size_and_time_is_picked_up)
{
    struct renewal r = renewal_of("texthash:table", "a 1\n");
    char from[600];
    scratch_write(&r.s, "fresh", "a 2\n");
    scratch_age(&r.s, "fresh", 100);
    snprintf(from, sizeof from, "%s", r.s.path);
    cr_assert_eq(rename(from, scratch_path(&r.s, "table")), 0);
    cr_expect_eq(refresh(&r), 1);
    cr_expect_str_eq(tables_look(&r.t, r.map, "a"), "=2");
    renewal_fini(&r);
}

Test(map, a_vanished_file_leaves_the_old_contents)
{
    struct renewal r = renewal_of("texthash:table", "a 1\n");
    unlink(scratch_path(&r.s, "table"));
    cr_expect_eq(refresh(&r), 0);
    cr_expect_str_eq(tables_look(&r.t, r.map, "a"), "=1");
    scratch_write(&r.s, "table", "a 2\n");
    cr_expect_eq(refresh(&r), 1);
    cr_expect_str_eq(tables_look(&r.t, r.map, "a"), "=2");
    renewal_fini(&r);
}

Test(map, a_file_that_can_no_longer_be_read_keeps_the_old_contents_and_warns_once)
{
    struct renewal r = renewal_of("texthash:table", "a 1\n");
    unlink(scratch_path(&r.s, "table"));
    mkdir(r.s.path, 0700); /* root reads every file, but nobody reads a directory */
    cr_expect_eq(refresh(&r), 0);
    cr_expect_eq(r.t.problems.count, 1);
    cr_expect(tables_said(&r.t, "its old contents stay"));
    cr_expect_eq(refresh(&r), 0);
    cr_expect_eq(refresh(&r), 0);
    cr_expect_eq(r.t.problems.count, 1, "not at each refresh");
    cr_expect_str_eq(tables_look(&r.t, r.map, "a"), "=1");
    cr_expect_null(map_error(r.map));
    rmdir(scratch_path(&r.s, "table"));
    scratch_write(&r.s, "table", "a 2\n");
    cr_expect_eq(refresh(&r), 1);
    cr_expect_str_eq(tables_look(&r.t, r.map, "a"), "=2");
    renewal_fini(&r);
}

Test(map, a_file_that_comes_later_heals_the_table)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    struct map *map = tables_open(&t, "texthash:table");
    cr_expect_str_eq(tables_look(&t, map, "a"), "!");
    cr_expect_eq(maps_refresh(t.maps, &t.problems), 0);
    cr_expect_eq(t.problems.count, 1, "a file that is still missing is no news");
    scratch_write(&s, "table", "a 1\n");
    cr_expect_eq(maps_refresh(t.maps, &t.problems), 1);
    cr_expect_str_eq(tables_look(&t, map, "a"), "=1");
    cr_expect_null(map_error(map));
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map, tables_without_a_file_are_never_renewed)
{
    struct tables t = tables_new("/");
    tables_open(&t, "static:x");
    tables_open(&t, "inline:{a=b}");
    tables_open(&t, "cidr:{{192.0.2.1 x}}");
    tables_open(&t, "unix:passwd.byname");
    tables_open(&t, "nosuch:x");
    tables_hush(&t);
    cr_expect_eq(maps_refresh(t.maps, &t.problems), 0);
    cr_expect_eq(t.problems.count, 0);
    tables_fini(&t);
}

/* ------------------------------------------------------------ threads */

enum { READERS = 4, ROUNDS = 60, KEYS = 50 };

struct race {
    struct renewal r;
    atomic_bool is_over;
    atomic_long finds, torn;
};

/* Whatever contents a reader meets, all of one look-up are of one version. */
static void *read_on(void *context)
{
    struct race *race = context;
    struct buf value = { 0 };
    while (!atomic_load(&race->is_over)) {
        char key[32];
        snprintf(key, sizeof key, "key%ld", atomic_load(&race->finds) % KEYS);
        buf_clear(&value);
        enum map_result result = map_find(race->r.map, span_of(key), &value);
        if (result != MAP_FOUND || strncmp(buf_text(&value), key, strlen(key)) != 0)
            atomic_fetch_add(&race->torn, 1);
        atomic_fetch_add(&race->finds, 1);
    }
    buf_fini(&value);
    return NULL;
}

static void write_version(struct race *race, int version)
{
    struct buf text = { 0 };
    char from[600];
    for (int i = 0; i < KEYS; i++)
        buf_printf(&text, "key%d key%d-%d\n", i, i, version);
    snprintf(from, sizeof from, "%s", scratch_write(&race->r.s, "fresh", buf_text(&text)));
    cr_assert_eq(rename(from, scratch_path(&race->r.s, "table")), 0);
    buf_fini(&text);
}

Test(map, readers_and_a_refresher_do_not_meet, .timeout = 60)
{
    struct race *race = xcalloc(1, sizeof *race);
    pthread_t readers[READERS];
    race->r.s = scratch_new();
    write_version(race, 0);
    race->r.t = tables_new(race->r.s.dir);
    race->r.map = tables_open(&race->r.t, "texthash:table");
    for (size_t i = 0; i < READERS; i++)
        cr_assert_eq(pthread_create(&readers[i], NULL, read_on, race), 0);
    int swapped = 0;
    for (int version = 1; version <= ROUNDS; version++) {
        write_version(race, version);
        swapped += refresh(&race->r);
    }
    atomic_store(&race->is_over, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    cr_expect_eq(swapped, ROUNDS);
    cr_expect_gt(race->finds, 0);
    cr_expect_eq(race->torn, 0, "%ld of %ld", race->torn, race->finds);
    renewal_fini(&race->r);
    free(race);
}
