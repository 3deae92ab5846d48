/* hash: and btree: - files of the real postmap, of map_db_make(), and of other tools. */
#include "scratch.h"
#include "tables.h"

#include "policy/map_db.h"

#include <db.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/wait.h>

/* ------------------------------------------------------------ files */

struct pair {
    const char *key, *value;
};

static const struct pair pairs[] = {
    { "alice@example.org", "OK one   continued" },
    { "b", "2" },
    { "Capital@Example.ORG", "Value" },
    { NULL, NULL },
};

/* A file as another tool would make it: NUL behind keys and values, or not. */
static void write_db(const char *path, DBTYPE type, const struct pair *p, size_t key_nul,
                     size_t value_nul)
{
    DB *db;
    cr_assert_eq(db_create(&db, NULL, 0), 0);
    cr_assert_eq(db->open(db, NULL, path, NULL, type, DB_CREATE | DB_TRUNCATE, 0600), 0);
    for (; p->key != NULL; p++) {
        DBT key = { 0 }, value = { 0 };
        key.data = (void *)(uintptr_t)p->key;
        key.size = (u_int32_t)(strlen(p->key) + key_nul);
        value.data = (void *)(uintptr_t)p->value;
        value.size = (u_int32_t)(strlen(p->value) + value_nul);
        cr_assert_eq(db->put(db, NULL, &key, &value, 0), 0);
    }
    cr_assert_eq(db->close(db, 0), 0);
}

/* Enough entries for a file that is not copied into memory. */
enum { LARGE_COUNT = 20000, LARGE_VALUE = 1000 };

static void write_large_db(const char *path, size_t nul, char fill)
{
    static char value[LARGE_VALUE + 1];
    DB *db;
    cr_assert_eq(db_create(&db, NULL, 0), 0);
    cr_assert_eq(db->open(db, NULL, path, NULL, DB_BTREE, DB_CREATE | DB_TRUNCATE, 0600), 0);
    memset(value, fill, LARGE_VALUE);
    for (int i = 0; i < LARGE_COUNT; i++) {
        char name[32];
        DBT k = { 0 }, v = { 0 };
        k.data = name;
        k.size = (u_int32_t)((size_t)snprintf(name, sizeof name, "key%06d", i) + nul);
        v.data = value;
        v.size = (u_int32_t)(LARGE_VALUE + nul);
        cr_assert_eq(db->put(db, NULL, &k, &v, 0), 0);
    }
    cr_assert_eq(db->close(db, 0), 0);
}

static int make(struct scratch *s, const char *name, bool is_btree, const char *text,
                struct problems *problems)
{
    return map_db_make(scratch_path(s, name), is_btree, span_of(text), problems);
}

static void make_well(struct scratch *s, const char *name, bool is_btree, const char *text)
{
    struct problems problems = { 0 };
    cr_assert_eq(make(s, name, is_btree, text, &problems), 0);
    cr_assert_eq(problems.count, 0);
    problems_fini(&problems);
}

/* ------------------------------------------------------------ reading */

static void expect_users(struct tables *t, const char *name)
{
    static const struct pair expected[] = {
        { "alice@example.org", "=OK one   continued" }, { "ALICE@Example.org", "=OK one   continued" },
        { "b", "=2" },          { "capital@example.org", "=Value" },
        { "", "-" },            { "alice", "-" },
        { "@example.org", "-" }, { "alice@example.orgx", "-" },
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        cr_expect_str_eq(tables_ask(t, name, expected[i].key), expected[i].value, "%s in %s",
                         expected[i].key, name);
    cr_expect(!map_is_slow(tables_open(t, name)), "small files are in memory");
}

static const char users[] = "# users\nAlice@Example.ORG  OK one\n   continued\n\nb 2\n"
                            "Capital@Example.ORG Value\nb 3\nkey\n";

Test(map_db, files_of_postmap_by_either_name)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "h", users);
    scratch_write(&s, "b", users);
    scratch_postmap(&s, "hash", "h");
    scratch_postmap(&s, "btree", "b");
    expect_users(&t, "hash:h");
    expect_users(&t, "btree:b");
    expect_users(&t, "btree:h"); /* Postfix refuses these two: "unexpected file type" */
    expect_users(&t, "hash:b");
    cr_expect_eq(t.problems.count, 0);
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, files_of_our_own_and_postmap_reads_them)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "b", "x y\n");
    scratch_postmap(&s, "hash", "b"); /* makes its main.cf */
    for (int is_btree = 0; is_btree < 2; is_btree++) {
        const char *type = is_btree ? "btree" : "hash", *name = is_btree ? "b" : "h";
        struct problems problems = { 0 };
        char full[64];
        scratch_write(&s, name, users);
        cr_expect_eq(make(&s, name, is_btree, users, &problems), 0);
        cr_expect_eq(problems.count, 2, "a duplicate and a line without value");
        cr_expect_eq(problems.first->line, 7);
        cr_expect_eq(problems.last->line, 8);
        problems_fini(&problems);
        snprintf(full, sizeof full, "%s:%s", type, name);
        expect_users(&t, full);
        cr_expect_eq(scratch_try("test \"$(postmap -c %s/pf -q ALICE@example.org %s:%s/%s)\" = "
                                 "'OK one   continued'", s.dir, type, s.dir, name), 0, "%s", type);
    }
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, zero_bytes_behind_keys_and_values_or_not)
{
    static const DBTYPE types[] = { DB_HASH, DB_BTREE };
    static const struct pair lower[] = {
        { "alice@example.org", "OK one   continued" }, { "b", "2" },
        { "capital@example.org", "Value" }, { NULL, NULL },
    };
    struct scratch s = scratch_new();
    for (size_t i = 0; i < 8; i++) {
        struct tables t = tables_new(s.dir);
        write_db(scratch_path(&s, "f.db"), types[i & 1], lower, i >> 1 & 1, i >> 2 & 1);
        expect_users(&t, "hash:f");
        tables_fini(&t);
    }
    scratch_fini(&s);
}

/* Look-ups are folded; so is what postmap stores. What another tool stored with capitals cannot
 * be found, as with Postfix. */
Test(map_db, keys_with_capitals_in_the_file_are_not_found)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    write_db(scratch_path(&s, "f.db"), DB_HASH, pairs, 1, 1);
    cr_expect_str_eq(tables_ask(&t, "hash:f", "Capital@Example.ORG"), "-");
    cr_expect_str_eq(tables_ask(&t, "hash:f", "b"), "=2");
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, what_is_no_table_is_refused)
{
    static const struct pair records[] = { { "\1\0\0\0", "x" }, { NULL, NULL } };
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    DB *db;
    char noise[16384];
    scratch_write(&s, "text.db", "alice@example.org OK\n");
    scratch_write(&s, "empty.db", "");
    memset(noise, 0x5a, sizeof noise);
    scratch_write_bytes(&s, "noise.db", noise, sizeof noise);
    (void)records;
    cr_assert_eq(db_create(&db, NULL, 0), 0);
    cr_assert_eq(db->open(db, NULL, scratch_path(&s, "recno.db"), NULL, DB_RECNO, DB_CREATE, 0600), 0);
    DBT key = { 0 }, value = { 0 };
    db_recno_t number = 0;
    key.data = &number;
    key.ulen = key.size = sizeof number;
    key.flags = DB_DBT_USERMEM;
    value.data = (void *)(uintptr_t) "value";
    value.size = 5;
    for (int i = 0; i < 100; i++)
        cr_assert_eq(db->put(db, NULL, &key, &value, DB_APPEND), 0);
    db->close(db, 0);
    static const char *const names[] = { "hash:text", "hash:empty", "hash:noise", "hash:recno",
                                         "btree:recno", "hash:none" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        tables_hush(&t);
        cr_expect_str_eq(tables_ask(&t, names[i], "alice@example.org"), "!", "%s", names[i]);
        cr_expect_eq(t.problems.count, 1, "%s", names[i]);
        cr_expect(tables_said(&t, ".db"), "the file is named");
    }
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, a_cut_file_never_crashes)
{
    struct scratch s = scratch_new();
    struct buf text = { 0 };
    struct stat st;
    for (int i = 0; i < 3000; i++)
        buf_printf(&text, "key%d value%d\n", i, i);
    for (int is_btree = 0; is_btree < 2; is_btree++) {
        make_well(&s, "cut", is_btree, buf_text(&text));
        cr_assert_eq(stat(scratch_path(&s, "cut.db"), &st), 0);
        for (off_t size = st.st_size - 1; size > 0; size -= st.st_size / 12) {
            struct tables t = tables_new(s.dir);
            make_well(&s, "cut", is_btree, buf_text(&text));
            cr_assert_eq(truncate(scratch_path(&s, "cut.db"), size), 0);
            const char *found = tables_ask(&t, "hash:cut", "key77");
            cr_expect(strcmp(found, "!") == 0 || strcmp(found, "?") == 0 || strcmp(found, "-") == 0
                      || strcmp(found, "=value77") == 0, "%s", found);
            tables_fini(&t);
        }
    }
    buf_fini(&text);
    scratch_fini(&s);
}

Test(map_db, a_text_newer_than_its_table_is_warned_about)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "f", "a 1\n");
    make_well(&s, "f", false, "a 1\n");
    scratch_age(&s, "f.db", 100);
    cr_expect_str_eq(tables_ask(&t, "hash:f", "a"), "=1");
    cr_expect_eq(t.problems.count, 1);
    cr_expect(tables_said(&t, "postern map make hash:f"));
    tables_fini(&t);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ making */

Test(map_db, a_made_table_may_be_read_by_whom_its_text_may_be_read_by)
{
    static const mode_t modes[][2] = { { 0600, 0600 }, { 0640, 0640 }, { 0644, 0644 },
                                       { 0666, 0644 }, { 0400, 0600 }, { 0755, 0644 } };
    struct scratch s = scratch_new();
    struct stat st;
    umask(077); /* as postmap, whatever the umask says */
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        cr_assert_eq(chmod(scratch_write(&s, "f", "a 1\n"), modes[i][0]), 0);
        make_well(&s, "f", false, "a 1\n");
        cr_assert_eq(stat(scratch_path(&s, "f.db"), &st), 0);
        cr_expect_eq(st.st_mode & 07777, modes[i][1], "%o", st.st_mode & 07777);
    }
    scratch_fini(&s);
}

Test(map_db, making_leaves_one_file_and_no_other)
{
    struct scratch s = scratch_new();
    struct problems problems = { 0 };
    make_well(&s, "f", false, "a 1\n");
    make_well(&s, "f", true, "a 2\n");
    cr_expect_eq(scratch_try("test \"$(ls %s)\" = f.db", s.dir), 0);
    /* what cannot be put in place leaves nothing behind */
    mkdir(scratch_path(&s, "dir.db"), 0700);
    cr_expect_neq(make(&s, "dir", false, "a 1\n", &problems), 0);
    cr_expect_neq(make(&s, "none/f", false, "a 1\n", &problems), 0);
    cr_expect_eq(problems.error_count, 2);
    cr_expect_eq(scratch_try("test \"$(ls %s | tr '\\n' ' ')\" = 'dir.db f.db '", s.dir), 0);
    problems_fini(&problems);
    scratch_fini(&s);
}

Test(map_db, a_failed_making_keeps_the_old_table)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    struct problems problems = { 0 };
    make_well(&s, "f", false, "a 1\n");
    char temp[64];
    snprintf(temp, sizeof temp, "f.db.%d", (int)getpid());
    mkdir(scratch_path(&s, temp), 0700); /* in the way */
    cr_expect_neq(make(&s, "f", false, "a 2\n", &problems), 0);
    cr_expect_str_eq(tables_ask(&t, "hash:f", "a"), "=1");
    problems_fini(&problems);
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, an_empty_text_makes_an_empty_table)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    make_well(&s, "h", false, "");
    make_well(&s, "b", true, "# nothing\n");
    cr_expect_str_eq(tables_ask(&t, "hash:h", "a"), "-");
    cr_expect_str_eq(tables_ask(&t, "btree:b", "a"), "-");
    tables_fini(&t);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ renewal of small tables */

static int refresh(struct tables *t)
{
    return maps_refresh(t->maps, &t->problems);
}

Test(map_db, a_table_made_anew_is_picked_up)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "f", "a 1\n");
    scratch_postmap(&s, "hash", "f");
    scratch_age(&s, "f", 100);
    scratch_age(&s, "f.db", 50);
    struct map *map = tables_open(&t, "hash:f");
    cr_expect_eq(refresh(&t), 0);
    scratch_write(&s, "f", "a 2\n");
    scratch_postmap(&s, "hash", "f"); /* writes in place */
    cr_expect_eq(refresh(&t), 1);
    cr_expect_str_eq(tables_look(&t, map, "a"), "=2");
    make_well(&s, "f", false, "a 3\n"); /* renames */
    cr_expect_eq(refresh(&t), 1);
    cr_expect_str_eq(tables_look(&t, map, "a"), "=3");
    cr_expect_eq(t.problems.count, 0);
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_db, a_broken_file_keeps_the_old_contents_and_warns_once)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    make_well(&s, "f", false, "a 1\n");
    scratch_age(&s, "f.db", 100);
    struct map *map = tables_open(&t, "hash:f");
    scratch_write(&s, "f.db", "rubbish");
    cr_expect_eq(refresh(&t), 0);
    cr_expect_eq(refresh(&t), 0);
    cr_expect_eq(t.problems.count, 1);
    cr_expect(tables_said(&t, "its old contents stay"));
    cr_expect_str_eq(tables_look(&t, map, "a"), "=1");
    make_well(&s, "f", false, "a 2\n");
    cr_expect_eq(refresh(&t), 1);
    cr_expect_str_eq(tables_look(&t, map, "a"), "=2");
    tables_fini(&t);
    scratch_fini(&s);
}

/* postmap holds an exclusive lock while it writes, over a file that it has emptied. */
Test(map_db, a_file_that_is_being_written_is_left_alone_until_it_is_done)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    make_well(&s, "f", false, "a 1\n");
    scratch_age(&s, "f.db", 100);
    struct map *map = tables_open(&t, "hash:f");
    int fd = open(scratch_path(&s, "f.db"), O_RDWR);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    cr_assert_eq(ftruncate(fd, 0), 0);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(refresh(&t), 0);
    cr_expect_eq(t.problems.count, 0, "that is no news");
    cr_expect_str_eq(tables_look(&t, map, "a"), "=1");
    struct tables late = tables_new(s.dir); /* a start in that moment: unusable, for now */
    struct map *locked = tables_open(&late, "hash:f");
    cr_expect_str_eq(tables_look(&late, locked, "a"), "!");
    make_well(&s, "f", false, "a 2\n");
    close(fd);
    cr_expect_eq(refresh(&t), 1);
    cr_expect_str_eq(tables_look(&t, map, "a"), "=2");
    cr_expect_eq(refresh(&late), 1);
    cr_expect_str_eq(tables_look(&late, locked, "a"), "=2");
    cr_expect_null(map_error(locked));
    tables_fini(&late);
    tables_fini(&t);
    scratch_fini(&s);
}

/* ------------------------------------------------------------ large tables */

struct large {
    struct scratch s;
    struct tables t;
    struct map *map;
};

static struct large large_new(size_t nul)
{
    struct large l = { .s = scratch_new() };
    l.t = tables_new(l.s.dir);
    write_large_db(scratch_path(&l.s, "f.db"), nul, 'v');
    scratch_age(&l.s, "f.db", 100);
    l.map = tables_open(&l.t, "btree:f");
    cr_assert_null(map_error(l.map));
    cr_assert(map_is_slow(l.map), "a large file stays on disk");
    return l;
}

static void large_fini(struct large *l)
{
    tables_fini(&l->t);
    scratch_fini(&l->s);
}

static bool large_has(struct large *l, const char *key, char fill)
{
    const char *found = tables_look(&l->t, l->map, key);
    return strlen(found) == 1 + LARGE_VALUE && found[0] == '=' && found[1] == fill;
}

static void ignore_entry(void *context, struct span key, struct span value)
{
    (void)context, (void)key, (void)value;
}

Test(map_db, a_large_table_with_and_without_zero_bytes)
{
    for (size_t nul = 0; nul < 2; nul++) {
        struct large l = large_new(nul);
        cr_expect_str_eq(tables_look(&l.t, l.map, "missing-first"), "-");
        cr_expect(large_has(&l, "key000000", 'v'));
        cr_expect(large_has(&l, "KEY019999", 'v'));
        cr_expect_str_eq(tables_look(&l.t, l.map, "key020000"), "-");
        cr_expect_str_eq(tables_look(&l.t, l.map, "key00000"), "-");
        cr_expect(!map_each(l.map, ignore_entry, NULL), "it cannot be read whole");
        large_fini(&l);
    }
}

Test(map_db, a_large_table_that_was_renamed_is_seen_at_once)
{
    struct large l = large_new(1);
    char from[600];
    cr_expect(large_has(&l, "key000001", 'v'));
    snprintf(from, sizeof from, "%s", scratch_path(&l.s, "new.db"));
    write_large_db(from, 0, 'w'); /* another tool's, without zero bytes */
    cr_assert_eq(rename(from, scratch_path(&l.s, "f.db")), 0);
    cr_expect(large_has(&l, "key000001", 'w'));
    cr_expect_eq(refresh(&l.t), 1);
    cr_expect(large_has(&l, "key000001", 'w'));
    large_fini(&l);
}

Test(map_db, a_large_table_that_vanished_or_broke_keeps_its_old_contents)
{
    struct large l = large_new(1);
    cr_expect(large_has(&l, "key000001", 'v'));
    cr_assert_eq(unlink(scratch_path(&l.s, "f.db")), 0);
    cr_expect(large_has(&l, "key000002", 'v'), "the file is gone");
    scratch_write(&l.s, "f.db", "rubbish");
    cr_expect(large_has(&l, "key000003", 'v'), "there is rubbish in its place");
    cr_expect_eq(refresh(&l.t), 0);
    cr_expect_eq(refresh(&l.t), 0);
    cr_expect_eq(l.t.problems.count, 1, "told once");
    cr_expect(large_has(&l, "key000004", 'v'));
    make_well(&l.s, "f", true, "key000005 small\n");
    cr_expect_str_eq(tables_look(&l.t, l.map, "key000005"), "=small");
    cr_expect_eq(refresh(&l.t), 1);
    cr_expect(!map_is_slow(l.map), "small now");
    large_fini(&l);
}

Test(map_db, a_large_table_that_was_itself_destroyed_answers_later)
{
    struct large l = large_new(1);
    cr_expect(large_has(&l, "key000001", 'v'));
    cr_assert_eq(truncate(scratch_path(&l.s, "f.db"), 0), 0);
    cr_expect_str_eq(tables_look(&l.t, l.map, "key000001"), "?");
    write_large_db(scratch_path(&l.s, "f.db"), 1, 'w');
    cr_expect(large_has(&l, "key000001", 'w'));
    large_fini(&l);
}

Test(map_db, a_large_table_under_a_writers_lock_answers_later_and_soon, .timeout = 30)
{
    struct large l = large_new(1);
    struct timespec before, after;
    int fd = open(scratch_path(&l.s, "f.db"), O_RDWR);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    cr_expect_str_eq(tables_look(&l.t, l.map, "key000001"), "?");
    clock_gettime(CLOCK_MONOTONIC, &after);
    cr_expect_leq(after.tv_sec - before.tv_sec, 5);
    close(fd);
    cr_expect(large_has(&l, "key000001", 'v'));
    large_fini(&l);
}

/* A writer waits for readers that are at work: none may forget its lock. */
Test(map_db, a_look_up_leaves_no_lock_behind)
{
    struct large l = large_new(1);
    int fd = open(scratch_path(&l.s, "f.db"), O_RDWR);
    cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "after opening");
    flock(fd, LOCK_UN);
    cr_expect(large_has(&l, "key000001", 'v'));
    cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "after a hit");
    flock(fd, LOCK_UN);
    cr_expect_str_eq(tables_look(&l.t, l.map, "nobody"), "-");
    cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "after a miss");
    close(fd);
    large_fini(&l);
}

enum { READERS = 4 };

struct race {
    struct large l;
    atomic_bool is_over;
    atomic_long finds, wrong;
};

static void *read_on(void *context)
{
    struct race *race = context;
    struct buf value = { 0 };
    while (!atomic_load(&race->is_over)) {
        buf_clear(&value);
        enum map_result result = map_find(race->l.map, SPAN_LITERAL("key000123"), &value);
        bool is_good = result == MAP_FOUND && value.len == LARGE_VALUE
                       && value.at[0] == value.at[LARGE_VALUE - 1];
        atomic_fetch_add(&race->wrong, !is_good);
        atomic_fetch_add(&race->finds, 1);
    }
    buf_fini(&value);
    return NULL;
}

Test(map_db, several_threads_and_a_writer_share_a_large_table, .timeout = 60)
{
    struct race *race = xcalloc(1, sizeof *race);
    pthread_t readers[READERS];
    char from[600];
    race->l = large_new(1);
    for (size_t i = 0; i < READERS; i++)
        cr_assert_eq(pthread_create(&readers[i], NULL, read_on, race), 0);
    for (int round = 0; round < 5; round++) {
        snprintf(from, sizeof from, "%s", scratch_path(&race->l.s, "new.db"));
        write_large_db(from, 1, (char)('a' + round));
        cr_assert_eq(rename(from, scratch_path(&race->l.s, "f.db")), 0);
        refresh(&race->l.t);
    }
    atomic_store(&race->is_over, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    cr_expect_gt(race->finds, 0);
    cr_expect_eq(race->wrong, 0, "%ld of %ld", race->wrong, race->finds);
    cr_expect(large_has(&race->l, "key000123", 'e'));
    large_fini(&race->l);
    free(race);
}

/* ------------------------------------------------------------ many */

enum { MANY = 150000, MANY_VALUE = 300 };

static void write_many(struct scratch *s)
{
    FILE *f = fopen(scratch_path(s, "users"), "w");
    cr_assert_not_null(f);
    for (int i = 0; i < MANY; i++)
        fprintf(f, "User%d@example.org user%0*d/\n", i, MANY_VALUE, i);
    cr_assert_eq(fclose(f), 0);
    scratch_postmap(s, "hash", "users");
    unlink(scratch_path(s, "users"));
}

static long resident_kib(void)
{
    long pages = 0, ignored = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert_not_null(f);
    cr_assert_eq(fscanf(f, "%ld %ld", &ignored, &pages), 2);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double seconds_since(const struct timespec *then)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

static void expect_user(struct tables *t, struct map *map, int i)
{
    char key[64], value[MANY_VALUE + 64];
    snprintf(key, sizeof key, "user%d@Example.org", i);
    snprintf(value, sizeof value, "=user%0*d/", MANY_VALUE, i);
    cr_expect_str_eq(tables_look(t, map, key), i < MANY ? value : "-", "%s", key);
}

/* The cache is 8 MiB (the library adds a quarter); the file six times that. */
Test(map_db, many_entries_open_at_once_and_stay_on_disk, .timeout = 60)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    struct timespec start;
    write_many(&s);
    struct stat st;
    cr_expect(stat(scratch_path(&s, "users.db"), &st) == 0 && st.st_size > 48 << 20);
    long before = resident_kib();
    clock_gettime(CLOCK_MONOTONIC, &start);
    struct map *map = tables_open(&t, "hash:users");
    cr_expect_lt(seconds_since(&start), 0.5);
    cr_expect(map_is_slow(map));
    for (int i = 0; i < 30000; i++)
        expect_user(&t, map, (int)((long long)i * 7919 % (MANY + 1000)));
    long grown = resident_kib() - before;
    cr_expect_lt(grown, 20 * 1024, "%ld KiB", grown);
    tables_fini(&t);
    scratch_fini(&s);
}
