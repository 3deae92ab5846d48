#include "scratch.h"
#include "tables.h"

/* Asks "cidr:" of rules given as lines; keys with their results: "key>result key>result". */
static void check(const char *rules, const char *key, const char *result, int warnings)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "rules", rules);
    cr_expect_str_eq(tables_ask(&t, "cidr:rules", key), result, "%s in:\n%s", key, rules);
    cr_expect_eq(t.problems.count, warnings, "%d warnings for:\n%s", t.problems.count, rules);
    cr_expect_eq(t.problems.error_count, 0);
    tables_fini(&t);
    scratch_fini(&s);
}

struct row {
    const char *rules, *key, *result;
    int warnings;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(rows[i].rules, rows[i].key, rows[i].result, rows[i].warnings);
}

#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows))

Test(map_cidr, networks_and_addresses)
{
    static const struct row rows[] = {
        { "192.0.2.1 one\n", "192.0.2.1", "=one", 0 },
        { "192.0.2.1 one\n", "192.0.2.2", "-", 0 },
        { "192.0.2.1/32 one\n", "192.0.2.1", "=one", 0 },
        { "192.0.2.0/24 net\n", "192.0.2.0", "=net", 0 },
        { "192.0.2.0/24 net\n", "192.0.2.255", "=net", 0 },
        { "192.0.2.0/24 net\n", "192.0.3.0", "-", 0 },
        { "192.0.2.0/24 net\n", "192.0.1.255", "-", 0 },
        { "192.0.2.128/25 net\n", "192.0.2.127", "-", 0 },
        { "192.0.2.128/25 net\n", "192.0.2.128", "=net", 0 },
        { "0.0.0.0/0 all\n", "255.255.255.255", "=all", 0 },
        { "0.0.0.0/0 all\n", "::1", "-", 0 },
        { "::/0 all\n", "2001:db8::1", "=all", 0 },
        { "::/0 all\n", "192.0.2.1", "-", 0 },
        { "2001:db8::/32 six\n", "2001:db8:ffff::1", "=six", 0 },
        { "2001:db8::/32 six\n", "2001:db9::", "-", 0 },
        { "2001:db8::1 six\n", "2001:DB8:0::1", "=six", 0 },
        { "[2001:db8::]/32 six\n", "2001:db8::1", "=six", 0 },
        { "[2001:db8::1] six\n", "2001:db8::1", "=six", 0 },
        { "[192.0.2.0]/24 four\n", "192.0.2.1", "=four", 0 },
        { "192.0.2.0/24\t two  words \n", "192.0.2.1", "=two  words", 0 },
        { "192.0.2.0/24 one\n two\n", "192.0.2.1", "=one two", 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, the_first_match_wins)
{
    static const struct row rows[] = {
        { "192.0.2.1 a\n192.0.2.0/24 b\n", "192.0.2.1", "=a", 0 },
        { "192.0.2.1 a\n192.0.2.0/24 b\n", "192.0.2.2", "=b", 0 },
        { "192.0.2.0/24 b\n192.0.2.1 a\n", "192.0.2.1", "=b", 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, a_key_must_be_a_plain_address)
{
    static const struct row rows[] = {
        { "0.0.0.0/0 x\n::/0 x\n", "[192.0.2.1]", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "192.0.2", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "192.0.2.1.", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "192.0.2.1/32", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "192.0.2.01", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "2001:db8:", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "[::1]", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "localhost", "-", 0 },
        { "0.0.0.0/0 x\n::/0 x\n", "unknown", "-", 0 },
        { "!192.0.2.0/24 x\n", "localhost", "-", 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, negation_speaks_of_its_own_family_only)
{
    static const struct row rows[] = {
        { "!192.0.2.0/24 other\n", "192.0.3.1", "=other", 0 },
        { "!192.0.2.0/24 other\n", "192.0.2.1", "-", 0 },
        { "!192.0.2.0/24 other\n", "2001:db8::1", "-", 0 },
        { "! 192.0.2.0/24 other\n", "192.0.3.1", "=other", 0 },
        { "!2001:db8::/32 other\n", "192.0.2.1", "-", 0 },
        { "!2001:db8::/32 other\n", "::1", "=other", 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, a_bad_line_is_skipped_and_the_rest_used)
{
    static const struct row rows[] = {
        { "192.0.2.1/24 host bits\n192.0.2.0/24 ok\n", "192.0.2.1", "=ok", 1 },
        { "192.0.2.1/31 host bit\n", "192.0.2.1", "-", 1 },
        { "010.0.0.0/8 zeros\n10.0.0.0/8 ok\n", "10.0.0.1", "=ok", 1 },
        { "10.0.0.0/33 x\n10.0.0.1 ok\n", "10.0.0.1", "=ok", 1 },
        { "2001:db8::/129 x\n2001:db8::1 ok\n", "2001:db8::1", "=ok", 1 },
        { "10.0.0.0/ x\n", "10.0.0.0", "-", 1 },
        { "10.0.0.0/-1 x\n", "10.0.0.0", "-", 1 },
        { "10.0.0/24 x\n", "10.0.0.0", "-", 1 },
        { "10.0.0.256 x\n", "10.0.0.0", "-", 1 },
        { "localhost x\n", "127.0.0.1", "-", 1 },
        { "[10.0.0.0 x\n", "10.0.0.0", "-", 1 },
        { "10.0.0.0/8\n10.0.0.1 ok\n", "10.0.0.1", "=ok", 1 },
        { "! x\n10.0.0.1 ok\n", "10.0.0.1", "=ok", 1 },
        { "!\n", "10.0.0.1", "-", 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, blocks)
{
    static const char rules[] = "if 10.0.0.0/8\n"
                                "10.1.0.0/16 inner\n"
                                "if !10.2.0.0/16\n"
                                "10.0.0.0/8 outer\n"
                                "endif\n"
                                "endif\n"
                                "0.0.0.0/0 rest\n";
    static const struct row rows[] = {
        { rules, "10.1.2.3", "=inner", 0 },
        { rules, "10.3.2.3", "=outer", 0 },
        { rules, "10.2.2.3", "=rest", 0 },
        { rules, "11.2.2.3", "=rest", 0 },
        { rules, "::1", "-", 0 },
        { "IF 10.0.0.0/8\n10.0.0.0/8 x\nENDIF\n", "10.0.0.1", "=x", 0 },
        { "if !10.0.0.0/8\n::/0 six\n0.0.0.0/0 four\nendif\n", "::1", "-", 0 },
        { "if !10.0.0.0/8\n::/0 six\n0.0.0.0/0 four\nendif\n", "11.0.0.1", "=four", 0 },
        { "if!10.0.0.0/8\n0.0.0.0/0 x\nendif\n", "10.0.0.1", "-", 0 },
        { "if ::/0\n::1 six\nendif\n::1 late\n", "::1", "=six", 0 },
        { "if 10.0.0.0/8\nendif\n10.0.0.1 x\n", "10.0.0.1", "=x", 0 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, unbalanced_blocks_are_warned_about)
{
    static const struct row rows[] = {
        { "endif\n10.0.0.1 x\n", "10.0.0.1", "=x", 1 },
        { "if 10.0.0.0/8\n10.0.0.1 x\n", "10.0.0.1", "=x", 1 },
        { "if 10.0.0.0/8\n0.0.0.0/0 x\n", "11.0.0.1", "-", 1 },
        /* a condition that cannot be read never holds: its rules must not apply to everybody */
        { "if 10.0.0.1/8\n0.0.0.0/0 x\nendif\n0.0.0.0/0 y\n", "10.0.0.1", "=y", 1 },
        { "if !10.0.0.1/8\n0.0.0.0/0 x\nendif\n0.0.0.0/0 y\n", "11.0.0.1", "=y", 1 },
        { "if\n0.0.0.0/0 x\nendif\n0.0.0.0/0 y\n", "11.0.0.1", "=y", 1 },
        { "if 10.0.0.0/8\n10.0.0.1 x\nendif words\n", "10.0.0.1", "=x", 1 },
    };
    CHECK_ROWS(rows);
}

Test(map_cidr, blocks_nest_up_to_a_bound)
{
    struct buf rules = { 0 };
    for (int i = 0; i < 100; i++)
        buf_puts(&rules, "if 10.0.0.0/8\n");
    buf_puts(&rules, "10.0.0.1 deep\n");
    struct buf deeper = { 0 };
    buf_printf(&deeper, "if 10.0.0.0/8\n%sendif\n", buf_text(&rules));
    for (int i = 0; i < 100; i++) {
        buf_puts(&rules, "endif\n");
        buf_puts(&deeper, "endif\n");
    }
    check(buf_text(&rules), "10.0.0.1", "=deep", 0);
    check(buf_text(&deeper), "10.0.0.1", "=deep", 2); /* one if too many, and its endif */
    buf_fini(&rules);
    buf_fini(&deeper);
}

Test(map_cidr, a_warning_has_table_file_and_line)
{
    struct scratch s = scratch_new();
    struct tables t = tables_new(s.dir);
    scratch_write(&s, "rules", "# c\n\n10.0.0.1 a\n continued\n10.0.0.1/8 b\n");
    tables_open(&t, "cidr:rules");
    cr_assert_eq(t.problems.count, 1);
    cr_expect_str_eq(t.problems.first->file, scratch_path(&s, "rules"));
    cr_expect_eq(t.problems.first->line, 5);
    cr_expect_str_eq(t.problems.first->subject, "cidr:rules");
    tables_fini(&t);
    scratch_fini(&s);
}

Test(map_cidr, inline_rules)
{
    static const struct {
        const char *name, *key, *result;
    } rows[] = {
        { "cidr:{{192.0.2.0/24 REJECT two words}}", "192.0.2.1", "=REJECT two words" },
        { "cidr:{ {192.0.2.1 a}, {192.0.2.0/24 b} }", "192.0.2.2", "=b" },
        { "cidr:{{!192.0.2.0/24 x}}", "192.0.3.1", "=x" },
        { "cidr:{{if 10.0.0.0/8}, {10.0.0.1 x}, {endif}}", "10.0.0.1", "=x" },
        { "cidr:{{2001:db8::/32 x}}", "2001:db8::1", "=x" },
        { "cidr:{}", "192.0.2.1", "-" },
        { "cidr:{192.0.2.1 x}", "192.0.2.1", "!" },
        { "cidr:{{192.0.2.1 x}, y}", "192.0.2.1", "!" },
    };
    struct tables t = tables_new("/");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_str_eq(tables_ask(&t, rows[i].name, rows[i].key), rows[i].result, "%s",
                         rows[i].name);
    tables_fini(&t);
}
