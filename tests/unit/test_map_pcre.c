/* pcre: and regexp: - every rule is asked of both where they agree. */
#include "scratch.h"
#include "tables.h"

#include <time.h>

enum { PCRE = 1, POSIX = 2, BOTH = 3 };

static void check_one(const char *type, const char *rules, const char *key, const char *result,
                      int warnings)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    char name[32];
    scratch_write(&s, "rules", rules);
    snprintf(name, sizeof name, "%s:rules", type);
    cr_expect_str_eq(tables_ask(&t, name, key), result, "%s in %s:\n%s", key, type, rules);
    cr_expect_eq(t.problems.count, warnings, "%d warnings for %s:\n%s", t.problems.count, type,
                 rules);
    cr_expect_eq(t.problems.error_count, 0);
    tables_fini(&t);
    scratch_fini(&s);
}

struct row {
    const char *rules, *key, *result;
    int types, warnings;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].types & PCRE)
            check_one("pcre", rows[i].rules, rows[i].key, rows[i].result, rows[i].warnings);
        if (rows[i].types & POSIX)
            check_one("regexp", rows[i].rules, rows[i].key, rows[i].result, rows[i].warnings);
    }
}

#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows))

Test(map_pcre, the_search_is_not_anchored_and_the_first_match_wins)
{
    static const struct row rows[] = {
        { "/example/ x\n", "user@example.org", "=x", BOTH, 0 },
        { "/example\\.com/ x\n", "example.com.evil.test", "=x", BOTH, 0 },
        { "/^user@example\\.com$/ x\n", "user@example.com", "=x", BOTH, 0 },
        { "/^user@example\\.com$/ x\n", "user@example.com.evil.test", "-", BOTH, 0 },
        { "/^user@example\\.com$/ x\n", "superuser@example.com", "-", BOTH, 0 },
        { "/a/ 1\n/ab/ 2\n", "ab", "=1", BOTH, 0 },
        { "/x/ 1\n/ab/ 2\n", "ab", "=2", BOTH, 0 },
        { "/^<>$/ null\n", "<>", "=null", BOTH, 0 },
        { "/a|b/ x\n", "b", "=x", BOTH, 0 },
        { "/^(a|b){2,3}$/ x\n", "aba", "=x", BOTH, 0 },
        { "/^\\w+$/ x\n", "abc", "=x", PCRE, 0 },
        { "/(?!x)a/ x\n", "a", "=x", PCRE, 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, any_delimiter_that_is_no_letter_or_digit)
{
    static const struct row rows[] = {
        { "%a/b% x\n", "a/b", "=x", BOTH, 0 },
        { "!!a! x\n", "b", "=x", BOTH, 0 }, /* "!" negates, then "!" delimits */
        { "|a| x\n", "a", "=x", BOTH, 0 },
        { ";a; x\n", "a", "=x", BOTH, 0 },
        { "/a\\/b/ x\n", "a/b", "=x", BOTH, 0 },
        { "/a x\n", "a", "-", BOTH, 1 },
        { "aba x\n", "b", "-", BOTH, 1 },
        { "1b1 x\n", "b", "-", BOTH, 1 },
        { "/\n", "a", "-", BOTH, 1 },
        { "/a\\/ x\n", "a", "-", BOTH, 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, flags_toggle_what_is_on_by_default)
{
    static const struct row rows[] = {
        { "/ABC/ x\n", "abc", "=x", BOTH, 0 },
        { "/ABC/i x\n", "abc", "-", BOTH, 0 },
        { "/ABC/i x\n", "ABC", "=x", BOTH, 0 },
        { "/ABC/ii x\n", "abc", "=x", BOTH, 0 },
        { "/^b$/ x\n", "a\nb\nc", "-", BOTH, 0 },
        { "/^b$/m x\n", "a\nb\nc", "=x", BOTH, 0 },
        { "/^a.b$/ x\n", "a\nb", "=x", PCRE, 0 },
        { "/^a.b$/s x\n", "a\nb", "-", PCRE, 0 },
        { "/^a.b$/s x\n", "a\nb", "-", POSIX, 1 },
        { "/a b/x x\n", "ab", "=x", PCRE, 0 },
        { "/a b/ x\n", "ab", "-", PCRE, 0 },
        { "/^(a+)$/ x\n", "aa", "=x", POSIX, 0 },
        { "/^a+$/x x\n", "a+", "=x", POSIX, 0 }, /* basic syntax: + is a plus */
        { "/^a+$/x x\n", "aa", "-", POSIX, 0 },
        { "/b/A x\n", "ab", "-", PCRE, 0 },
        { "/a$/ x\n", "a\n", "=x", PCRE, 0 },
        { "/a$/E x\n", "a\n", "-", PCRE, 0 },
        { "/^(a+)(a*)$/U $1\n", "aaa", "=a", PCRE, 0 },
        { "/^(a+)(a*)$/ $1\n", "aaa", "=aaa", PCRE, 0 },
        { "/a/Q x\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/a/1 x\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/a/imx x\n", "A", "-", BOTH, 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, results_take_groups)
{
    static const struct row rows[] = {
        { "/^(.*)@(.*)$/ $2.$1\n", "u@d", "=d.u", BOTH, 0 },
        { "/^(.*)@(.*)$/ ${2}x$(1)y\n", "u@d", "=dxuy", BOTH, 0 },
        { "/^(.*)@(.*)$/ $1$2\n", "u@d", "=ud", BOTH, 0 },
        { "/a/ cost: 5$$\n", "a", "=cost: 5$", BOTH, 0 },
        { "/(a)/ $$1 $1\n", "a", "=$1 a", BOTH, 0 },
        { "/(x)?(a)/ [$1][$2]\n", "a", "=[][a]", BOTH, 0 },
        { "/((((((((((a))))))))))/ ${10}\n", "a", "=a", BOTH, 0 },
        { "/(A)/ $1\n", "a", "=a", BOTH, 0 }, /* as the key has it */
        /* what cannot be meant disables the rule */
        { "/(a)/ $0\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/(a)/ $2\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/a/ $1\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/(a)/ $x\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/(a)/ ${1\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/(a)/ ${1)\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/(a)/ end $\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "!/(a)/ $1\n/b/ y\n", "b", "=y", BOTH, 1 },
        { "!/a/ 5$$\n", "b", "=5$", BOTH, 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, more_groups_than_can_be_kept_do_no_harm)
{
    struct buf rules = { 0 };
    buf_putc(&rules, '/');
    for (int i = 0; i < 40; i++)
        buf_puts(&rules, "(.)");
    struct buf last = { 0 };
    buf_printf(&last, "%s/ $31-$30\n", buf_text(&rules));
    buf_puts(&rules, "/ $32\n/./ y\n");
    static const char key[] = "0123456789012345678901234567890123456789";
    check_one("pcre", buf_text(&last), key, "=0-9", 0);
    check_one("regexp", buf_text(&last), key, "=0-9", 0);
    check_one("pcre", buf_text(&rules), key, "=y", 1);
    check_one("regexp", buf_text(&rules), key, "=y", 1);
    buf_fini(&rules);
    buf_fini(&last);
}

Test(map_pcre, negation)
{
    static const struct row rows[] = {
        { "!/^a/ x\n", "b", "=x", BOTH, 0 },
        { "!/^a/ x\n", "a", "-", BOTH, 0 },
        { "! /^a/ x\n", "b", "=x", BOTH, 0 },
        { "!/a(b\n/c/ y\n", "c", "=y", BOTH, 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, blocks)
{
    static const char rules[] = "if /@example\\.org$/\n"
                                "/^a/ inner\n"
                                "if !/^b/\n"
                                "/./ not b\n"
                                "endif\n"
                                "endif\n"
                                "/./ rest\n";
    static const struct row rows[] = {
        { rules, "a@example.org", "=inner", BOTH, 0 },
        { rules, "c@example.org", "=not b", BOTH, 0 },
        { rules, "b@example.org", "=rest", BOTH, 0 },
        { rules, "a@example.com", "=rest", BOTH, 0 },
        { "if/a/\n/./ x\nendif\n", "b", "-", BOTH, 0 }, /* Postfix needs no blank there */
        { "if/a/\n/./ x\nendif\n", "a", "=x", BOTH, 0 },
        { "if!/a/\n/./ x\nendif\n", "b", "=x", BOTH, 0 },
        { "  if /a/\n", "a", "-", BOTH, 1 },
        { "if /a(/\n/./ x\nendif\n/./ y\n", "a", "=y", BOTH, 1 },
        { "if !/a(/\n/./ x\nendif\n/./ y\n", "b", "=y", BOTH, 1 },
        { "if /(a)/\n/./ $1\nendif\n/./ y\n", "a", "=y", BOTH, 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, a_bad_rule_is_skipped_and_the_rest_used)
{
    static const struct row rows[] = {
        { "/a(/ x\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/[a/ x\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/*/ x\n/a/ y\n", "a", "=y", PCRE, 1 },
        { "/a/\n/a/ y\n", "a", "=y", BOTH, 1 },
        { "/a/   \n/a/ y\n", "a", "=y", BOTH, 1 },
        { "rubbish\n/a/ y\n", "a", "=y", BOTH, 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_pcre, inline_rules)
{
    static const struct {
        const char *name, *key, *result;
    } rows[] = {
        { "pcre:{{/^(.)$/ $1 found}}", "a", "=a found" },
        { "regexp:{{/^[^A-Z]/ Bogus}}", "1", "=Bogus" },
        { "regexp:{{/^[^A-Z]/ Bogus}}", "get", "-" },
        { "pcre:{{/a{2}/ two}, {/a/ one}}", "aa", "=two" },
        { "pcre:{{/a{2}/ two}, {/a/ one}}", "a", "=one" },
        { "pcre:{{/a,b/ x}}", "a,b", "=x" },
        { "pcre:{{if /a/}, {/./ x}, {endif}}", "b", "-" },
        { "pcre:{/a/ x}", "a", "!" },
    };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_str_eq(tables_ask(&t, rows[i].name, rows[i].key), rows[i].result, "%s",
                         rows[i].name);
    tables_fini(&t);
}

/* Keys come from strangers: a pattern that an admin wrote without thought must not let one key
 * stop the server. */
static double seconds_of(const char *type, const char *rules, const char *key, const char *result)
{
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    check_one(type, rules, key, result, 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    return (double)(after.tv_sec - before.tv_sec)
           + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
}

Test(map_pcre, catastrophic_patterns_are_bounded_in_time, .timeout = 60)
{
    static const char *const rules[] = {
        "/^(a+)+$/ x\n",         "/^(a|aa)+$/ x\n",       "/^(a*)*b$/ x\n",
        "/^(.*)*@(.*)*\\.x$/ x\n", "/(a?){30}a{30}b/ x\n",  "/^((a+)*)+$/ x\n",
    };
    struct buf key = { 0 };
    for (int i = 0; i < 60; i++)
        buf_putc(&key, 'a');
    buf_putc(&key, '!');
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        cr_expect_lt(seconds_of("pcre", rules[i], buf_text(&key), "-"), 2.0, "%s", rules[i]);
        cr_expect_lt(seconds_of("regexp", rules[i], buf_text(&key), "-"), 2.0, "%s", rules[i]);
    }
    buf_fini(&key);
}

/* What is bounded is the work, not the length: an honest pattern takes the longest address and
 * the longest key. */
Test(map_pcre, long_keys_match_honest_patterns)
{
    static const char *const rules[] = {
        "/^([a-z]|[0-9])+@example\\.org$/ x\n",
        "/^(([a-z]+|[0-9]+)\\.?)+@example\\.org$/ x\n",
        "/^.*@.*\\.org$/ x\n",
    };
    static const size_t lengths[] = { 10, 100, 300, 1000, 2000, 4000 };
    for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
        struct buf key = { 0 };
        for (size_t i = 0; i < lengths[k]; i++)
            buf_putc(&key, i % 3 == 0 ? '7' : 'b');
        buf_puts(&key, "@example.org");
        for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
            check_one("pcre", rules[i], buf_text(&key), "=x", 0);
            if (key.len < 2048)
                check_one("regexp", rules[i], buf_text(&key), "=x", 0);
        }
        buf_fini(&key);
    }
}

Test(map_pcre, a_regexp_key_has_a_bound)
{
    struct buf key = { 0 };
    for (int i = 0; i < 2048; i++)
        buf_putc(&key, 'a');
    check_one("regexp", "/a/ x\n", buf_text(&key), "=x", 0);
    buf_putc(&key, 'a');
    check_one("regexp", "/a/ x\n", buf_text(&key), "-", 0);
    check_one("pcre", "/a/ x\n", buf_text(&key), "=x", 0);
    buf_fini(&key);
}
