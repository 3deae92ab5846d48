#include "policy/text_table.h"
#include "protocol/buf.h"

#include <criterion/criterion.h>

/* What came out: "key=value\n" each, and "line: text\n" for each warning. */
struct seen {
    struct buf pairs, warnings;
    bool refuses;
};

static bool add(void *context, struct span key, struct span value)
{
    struct seen *seen = context;
    buf_printf(&seen->pairs, "%.*s=%.*s\n", (int)key.len, key.at, (int)value.len, value.at);
    return !seen->refuses;
}

static struct seen read_text(struct span text, bool refuses)
{
    struct seen seen = { .refuses = refuses };
    struct problems problems = { 0 };
    text_table_read(text, "/etc/table", &problems, add, &seen);
    for (const struct problem *p = problems.first; p != NULL; p = p->next) {
        cr_expect_str_eq(p->file, "/etc/table");
        cr_expect_eq(p->level, PROBLEM_WARNING, "a bad line never makes the table unusable");
        buf_printf(&seen.warnings, "%d: %s\n", p->line, p->text);
    }
    problems_fini(&problems);
    return seen;
}

static void seen_fini(struct seen *seen)
{
    buf_fini(&seen->pairs);
    buf_fini(&seen->warnings);
}

static const struct {
    const char *text, *pairs, *warnings;
} rows[] = {
    { "", "", "" },
    { "a b\n", "a=b\n", "" },
    { "a b", "a=b\n", "" },
    { "a b\r\n", "a=b\n", "" },
    { "a\tb \t \n", "a=b\n", "" },
    { "key  two  words\n", "key=two  words\n", "" },
    { "User@Example.ORG Value@Example.ORG\n", "user@example.org=Value@Example.ORG\n", "" },
    /* continuation: the line end goes, the blanks stay; comments and empty lines do not end it */
    { "a one\n two\n", "a=one two\n", "" },
    { "a one\n   two\n", "a=one   two\n", "" },
    { "a one\n# c\n\n \n\ttwo\nb x\n", "a=one\ttwo\nb=x\n", "" },
    { "a\n one\n", "a=one\n", "" },
    { "# c\n  # d\n\na b\n", "a=b\n", "" },
    { "a b # no comment\n", "a=b # no comment\n", "" },
    { "a#b c\n", "a#b=c\n", "" },
    /* quotes protect blanks in a key, and stay */
    { "\"a b\"@x v\n", "\"a b\"@x=v\n", "" },
    { "\"a \\\" b\"@X v\n", "\"a \\\" b\"@x=v\n", "" },
    { "a\\ b v\n", "a\\ b=v\n", "" },
    { "\"open key and value\n", "", "1: not \"key value\", line skipped: \"\"open key and value\"\n" },
    { "key\\\n", "", "1: not \"key value\", line skipped: \"key\\\"\n" },
    { "key\n", "", "1: not \"key value\", line skipped: \"key\"\n" },
    { "ok 1\nkey\n\nlast 2\n", "ok=1\nlast=2\n", "2: not \"key value\", line skipped: \"key\"\n" },
    /* nothing there to continue */
    { " a b\nc d\n", "c=d\n", "1: not \"key value\", line skipped: \" a b\"\n" },
};

Test(text_table, lines_become_pairs)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct seen seen = read_text(span_of(rows[i].text), false);
        cr_expect_str_eq(buf_text(&seen.pairs), rows[i].pairs, "row %zu: %s", i,
                         buf_text(&seen.pairs));
        cr_expect_str_eq(buf_text(&seen.warnings), rows[i].warnings, "row %zu: %s", i,
                         buf_text(&seen.warnings));
        seen_fini(&seen);
    }
}

Test(text_table, a_duplicate_is_a_warning_with_its_line)
{
    struct seen seen = read_text(SPAN_LITERAL("# x\nUSER v\n"), true);
    cr_expect_str_eq(buf_text(&seen.warnings),
                     "2: duplicate key, the first one counts: \"user\"\n");
    seen_fini(&seen);
}

/* A .db file ends keys and values with a zero byte, so none can stand within them. */
Test(text_table, a_line_with_a_zero_byte_is_skipped)
{
    struct seen seen = read_text(span_make("a\0b c\nd e\0f\ng h\n", 16), false);
    cr_expect_str_eq(buf_text(&seen.pairs), "g=h\n");
    cr_expect_str_eq(buf_text(&seen.warnings), "1: not \"key value\", line skipped: \"a\"\n"
                                               "2: not \"key value\", line skipped: \"d e\"\n");
    seen_fini(&seen);
}

Test(text_table, a_very_long_line_is_quoted_in_part)
{
    struct buf text = { 0 };
    for (int i = 0; i < 100000; i++)
        buf_putc(&text, 'k');
    struct seen seen = read_text(buf_span(&text), false);
    cr_expect(seen.warnings.len > 0 && seen.warnings.len < 300);
    seen_fini(&seen);
    buf_fini(&text);
}
