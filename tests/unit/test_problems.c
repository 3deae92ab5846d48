#include "policy/problems.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(problems, stay_in_order_with_copies_of_all_texts)
{
    struct problems p = { 0 };
    char subject[] = "mynetworks", file[] = "/etc/main.cf", word[] = "bad";
    problems_add(&p, PROBLEM_ERROR, subject, file, 7, "a %s item %d", word, 3);
    problems_warning(&p, subject, "hm");
    subject[0] = file[0] = word[0] = '?';
    cr_assert_eq(p.count, 2);
    cr_expect_eq(p.error_count, 1);
    cr_expect_str_eq(p.first->subject, "mynetworks");
    cr_expect_str_eq(p.first->file, "/etc/main.cf");
    cr_expect_str_eq(p.first->text, "a bad item 3");
    cr_expect_eq(p.first->line, 7);
    cr_expect_eq(p.first->level, PROBLEM_ERROR);
    cr_expect_eq(p.first->next, p.last);
    cr_expect_null(p.last->file);
    cr_expect_eq(p.last->line, 0);
    cr_expect_eq(p.last->level, PROBLEM_WARNING);
    problems_fini(&p);
    cr_expect(p.first == NULL && p.count == 0 && p.error_count == 0);
}

Test(problems, are_counted_past_the_bound_and_kept_up_to_it)
{
    struct problems p = { 0 };
    int kept = 0;
    for (int i = 0; i < PROBLEMS_MAX + 5; i++)
        problems_error(&p, "x", "%d", i);
    for (const struct problem *one = p.first; one != NULL; one = one->next)
        kept++;
    cr_expect_eq(kept, PROBLEMS_MAX);
    cr_expect_eq(p.count, PROBLEMS_MAX + 5);
    cr_expect_eq(p.error_count, PROBLEMS_MAX + 5);
    cr_expect_str_eq(p.last->text, "999");
    problems_fini(&p);
}

Test(problems, a_long_text_is_cut)
{
    struct problems p = { 0 };
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    problems_error(&p, "s", "%s", text);
    cr_expect_eq(strlen(p.first->text), 1023);
    problems_fini(&p);
}
