#include "policy/nearest.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

static const char *nearest(const char *name, const char *const *known, size_t count)
{
    struct nearest n = nearest_begin(span_of(name));
    for (size_t i = 0; i < count; i++)
        nearest_try(&n, known[i]);
    return n.best != NULL ? n.best : "";
}

Test(nearest, the_name_that_was_meant)
{
    static const char *const known[] = { "reject_code", "defer_code", "myhostname", "mydomain",
                                         "permit" };
    static const struct {
        const char *name, *best;
    } rows[] = {
        { "myhostname", "myhostname" }, { "myhostnam", "myhostname" },
        { "myhostnmae", "myhostname" }, { "MyHostName", "myhostname" },
        { "my_hostname", "myhostname" }, { "rejekt_code", "reject_code" },
        { "permt", "permit" },          { "permi", "permit" },
        { "prmt", "" },                 /* two of four letters are too far */
        { "p", "" },                    { "", "" },
        { "something_else_entirely", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_str_eq(nearest(rows[i].name, known, ARRAY_LEN(known)), rows[i].best, "%s",
                         rows[i].name);
}

Test(nearest, the_first_of_two_equally_near_names_stays)
{
    static const char *const known[] = { "abcd", "abce", "abc" };
    cr_expect_str_eq(nearest("abcx", known, 3), "abcd");
}

/* At most a third of the name may differ: the bound and one past it. */
Test(nearest, the_bound_is_a_third_of_the_length)
{
    static const char *const known[] = { "abcdefghi" };
    cr_expect_str_eq(nearest("abcdefxyz", known, 1), "abcdefghi", "3 of 9");
    cr_expect_str_eq(nearest("abcdewxyz", known, 1), "", "4 of 9");
    static const char *const two[] = { "ab" };
    cr_expect_str_eq(nearest("ax", two, 1), "", "1 of 2");
    cr_expect_str_eq(nearest("abx", two, 1), "ab", "1 of 3");
}

Test(nearest, names_past_the_bound_are_never_near)
{
    char name[NEAREST_NAME_MAX + 2], known[NEAREST_NAME_MAX + 2];
    memset(name, 'a', sizeof name);
    memset(known, 'a', sizeof known);
    name[NEAREST_NAME_MAX] = known[NEAREST_NAME_MAX] = '\0';
    const char *const longest[] = { known };
    cr_expect_str_eq(nearest(name, longest, 1), known, "80 bytes");
    name[NEAREST_NAME_MAX] = 'a';
    name[NEAREST_NAME_MAX + 1] = '\0';
    cr_expect_str_eq(nearest(name, longest, 1), "", "the name is too long");
    name[NEAREST_NAME_MAX] = '\0';
    known[NEAREST_NAME_MAX] = 'a';
    known[NEAREST_NAME_MAX + 1] = '\0';
    cr_expect_str_eq(nearest(name, longest, 1), "", "the candidate is too long");
}
