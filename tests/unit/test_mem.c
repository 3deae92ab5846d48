#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(mem, nothing_asked_for_is_still_a_pointer_that_can_be_freed)
{
    void *a = xmalloc(0), *b = xcalloc(0, 0), *c = xrealloc(NULL, 0);
    cr_expect(a != NULL && b != NULL && c != NULL);
    free(a);
    free(b);
    free(c);
}

Test(mem, texts_are_copied_and_printed)
{
    char *copy = xstrdup("abc"), *printed = xprintf("%d %s", 7, "x");
    cr_expect_str_eq(copy, "abc");
    cr_expect_str_eq(printed, "7 x");
    free(copy);
    free(printed);
}

Test(mem, calloc_is_zero)
{
    char *p = xcalloc(10, 10);
    for (size_t i = 0; i < 100; i++)
        cr_expect_eq(p[i], 0);
    free(p);
}
