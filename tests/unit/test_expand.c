#include "protocol/expand.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* name1 -> value1, name2 ...; "loop" refers to itself, "deepN" to the next one. */
static const char *lookup(void *context, struct span name)
{
    static const char *const values[][2] = {
        { "a", "A" },           { "b_1", "B" },        { "empty", "" },      { "ref", "<$a>" },
        { "loop", "x$loop" },   { "ping", "$pong" },   { "pong", "$ping" },  { "dollar", "$$a" },
        { "broken", "${a" },    { "n10", "10" },       { "n9", "9" },        { "v", "3.10" },
        { "spaces", "a  b" },   { "nine", "009" },     { "double", "$ref$ref" },
    };
    (void)context;
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        if (span_equals(name, span_of(values[i][0])))
            return values[i][1];
    return NULL;
}

static const struct {
    const char *text, *value; /* NULL: an error */
} rows[] = {
    { "", "" },
    { "plain", "plain" },
    { "$a", "A" },
    { "x${a}y$(a)z", "xAyAz" },
    { "$b_1-ar", "B-ar" },
    { "$a.b", "A.b" },
    { "$unknown|${unknown}|$(unknown)", "||" },
    { "$$", "$" },
    { "$$a", "$a" },
    { "$$$a", "$A" },
    { "5 $", "5 $" },
    { "$ a $. $-", "$ a $. $-" },
    { "{a} (a)", "{a} (a)" },
    { "$empty", "" },
    /* the value is expanded in turn */
    { "$ref", "<A>" },
    { "$double", "<A><A>" },
    { "$dollar", "$a" },
    { "${spaces}", "a  b" },
    /* by whether the value is empty */
    { "${a?yes}", "yes" },
    { "${empty?yes}", "" },
    { "${unknown?yes}", "" },
    { "${a:no}", "" },
    { "${empty:no}", "no" },
    { "${unknown:no}", "no" },
    { "${a?{yes}}", "yes" },
    { "${a?{yes}:{no}}", "yes" },
    { "${empty?{yes}:{no}}", "no" },
    { "${empty?{yes}:no}", "no" },
    { "${a ? {yes} : {no}}", "yes" },
    { "${a?{ yes }}", "yes" },
    { "${a?x:y}", "x:y" }, /* without braces the colon belongs to the text */
    { "${a?<$a$b_1>}", "<AB>" },
    { "${a?{${empty?{1}:{2}}}:{3}}", "2" },
    { "${empty:{${a}}}", "A" },
    { "$(a?yes)", "yes" },
    { "${empty?$broken}good", "good" }, /* the other branch is not looked at */
    { "${stress?{10}:{300}}s", "300s" },
    /* comparisons: numbers if both sides are digits, else bytes */
    { "${{3} < {20} ? {yes} : {no}}", "yes" },
    { "${{3} > {20} ? {yes} : {no}}", "no" },
    { "${{x3} < {x20} ? {yes} : {no}}", "no" },
    { "${{3.10} < {3.9} ? {yes} : {no}}", "yes" },
    { "${{3.10} <level {3.9} ? {yes} : {no}}", "no" },
    { "${{3.9} <level {3.10} ? {yes} : {no}}", "yes" },
    { "${{3.10} ==level {3.10.0} ? {yes} : {no}}", "yes" },
    { "${{3} <=level {3.6} ? {yes} : {no}}", "yes" },
    { "${{3.6} >=level {3.6} ? {yes} : {no}}", "yes" },
    { "${{4} >level {3.99} ? {yes} : {no}}", "yes" },
    { "${{3.6} !=level {3.06} ? {yes} : {no}}", "no" },
    { "${{$n10} > {$n9} ? {yes} : {no}}", "yes" },
    { "${{$nine} == {9} ? {yes} : {no}}", "yes" },
    { "${{18446744073709551617} > {18446744073709551616} ? {yes} : {no}}", "yes" },
    { "${{a} == {a} ? {yes}}", "yes" },
    { "${{a} == {b} ? {yes}}", "" },
    { "${{a} != {b} ? {yes} : {no}}", "yes" },
    { "${{a} <= {a} ? {yes} : {no}}", "yes" },
    { "${{a} >= {b} ? {yes} : {no}}", "no" },
    { "${{} == {} ? {yes} : {no}}", "yes" },
    { "${{} < {a} ? {yes} : {no}}", "yes" },
    { "${{a}=={a}?{yes}:{no}}", "yes" },
    { "${{$unknown} == {} ? {$a} : {no}}", "A" },
    { "${{a} == {b} : {no}}", "no" },
    /* errors */
    { "${a", NULL },
    { "$(a", NULL },
    { "x ${a?{y} z", NULL },
    { "$broken", NULL },
    { "${}", NULL },
    { "${?x}", NULL },
    { "${a!x}", NULL },
    { "${a?{x}y}", NULL },
    { "${{a} = {b} ? {x}}", NULL },
    { "${{a} ! {b} ? {x}}", NULL },
    { "${{a} === {b} ? {x}}", NULL },
    { "${{a} =< {b} ? {x}}", NULL },
    { "${{a} {b} ? {x}}", NULL },
    { "${{a} == b ? {x}}", NULL },
    { "${{a} == {b}}", NULL },
    { "${{a} lt {b} ? {x}}", NULL },
    { "$loop", NULL },
    { "$ping", NULL },
};

static bool expand(const char *text, bool is_recursive, struct buf *out, const char **error)
{
    struct expand x = { .lookup = lookup, .is_recursive = is_recursive };
    bool is_good = expand_text(&x, span_of(text), out);
    *error = x.error;
    return is_good;
}

Test(expand, dollar_forms_have_their_value_or_an_error_in_words)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = { .max = 10000 };
        const char *error;
        bool is_good = expand(rows[i].text, true, &out, &error);
        cr_expect_eq(is_good, rows[i].value != NULL, "%s", rows[i].text);
        cr_expect_eq(error == NULL, is_good, "%s", rows[i].text);
        if (is_good && rows[i].value != NULL)
            cr_expect_str_eq(buf_text(&out), rows[i].value, "%s", rows[i].text);
        buf_fini(&out);
    }
}

Test(expand, a_value_that_is_not_recursive_stays_as_it_is)
{
    struct buf out = { 0 };
    const char *error;
    cr_expect(expand("$ref $loop", false, &out, &error));
    cr_expect_str_eq(buf_text(&out), "<$a> x$loop");
    buf_fini(&out);
}

/* context: how many levels there are. "d0" ... refer to the next one, the last one is "end". */
static const char *deep_lookup(void *context, struct span name)
{
    static char values[2 * EXPAND_DEPTH_MAX][16];
    int levels = *(int *)context, level = atoi(name.at + 1);
    if (level + 1 == levels)
        return "end";
    snprintf(values[level], sizeof values[level], "$d%d", level + 1);
    return values[level];
}

static bool expand_deep(int levels)
{
    struct expand x = { .lookup = deep_lookup, .context = &levels, .is_recursive = true };
    struct buf out = { 0 };
    bool is_good = expand_text(&x, SPAN_LITERAL("$d0"), &out);
    cr_expect(!is_good || strcmp(buf_text(&out), "end") == 0);
    buf_fini(&out);
    return is_good;
}

Test(expand, one_hundred_levels_are_the_limit)
{
    cr_expect(expand_deep(1));
    cr_expect(expand_deep(EXPAND_DEPTH_MAX - 1), "the text itself is a level");
    cr_expect(!expand_deep(EXPAND_DEPTH_MAX));
}

/* Each name means the next one twice: 2^60 expansions in the end. */
static const char *doubling_lookup(void *context, struct span name)
{
    static char values[64][32];
    int level = atoi(name.at + 1);
    (void)context;
    if (level == 60)
        return "";
    snprintf(values[level], sizeof values[level], "$d%d$d%d", level + 1, level + 1);
    return values[level];
}

Test(expand, values_that_multiply_end_in_an_error_soon, .timeout = 20)
{
    struct expand x = { .lookup = doubling_lookup, .is_recursive = true };
    struct buf out = { .max = EXPAND_RESULT_MAX };
    cr_expect(!expand_text(&x, SPAN_LITERAL("$d0"), &out));
    cr_expect_not_null(x.error);
    buf_fini(&out);
}

Test(expand, the_result_is_bounded_by_its_buffer)
{
    struct buf out = { .max = 6 };
    const char *error;
    cr_expect(expand("$ref$ref", true, &out, &error), "exactly");
    buf_clear(&out);
    cr_expect(!expand("$ref$ref.", true, &out, &error));
    cr_expect_str_eq(error, "the expanded value is too long");
    buf_clear(&out);
    cr_expect(!expand("${a?{$ref$ref$ref}}", true, &out, &error));
    buf_fini(&out);
}

static void collect(void *context, struct span name)
{
    struct buf *out = context;
    buf_add(out, name);
    buf_putc(out, ' ');
}

static const struct {
    const char *text, *names;
} mentions[] = {
    { "", "" },
    { "plain", "" },
    { "$a ${b} $(c)", "a b c " },
    { "${a?{$b}:{$c}}", "a b c " },
    { "${{$x} == {$y} ? {$z}}", "x y z " },
    { "$a$a", "a a " },
    { "$ $- 5$", "" },
};

Test(expand, every_name_that_a_text_mentions_is_found)
{
    for (size_t i = 0; i < ARRAY_LEN(mentions); i++) {
        struct buf out = { 0 };
        expand_names(span_of(mentions[i].text), collect, &out);
        cr_expect_str_eq(buf_text(&out), mentions[i].names, "%s", mentions[i].text);
        buf_fini(&out);
    }
}

Test(expand, an_escaped_dollar_mentions_nothing)
{
    struct buf out = { 0 };
    expand_names(SPAN_LITERAL("$$a"), collect, &out);
    cr_expect_str_eq(buf_text(&out), "");
    buf_fini(&out);
}
