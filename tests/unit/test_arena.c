#include "protocol/arena.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

Test(arena, an_empty_arena_owns_nothing)
{
    struct arena a = { 0 };
    cr_expect_null(a.block);
    arena_fini(&a);
    arena_fini(&a);
}

Test(arena, memory_is_zero_and_aligned_for_any_object)
{
    struct arena a = { 0 };
    for (size_t size = 1; size < 700; size++) {
        unsigned char *p = arena_alloc(&a, size);
        cr_assert_eq((uintptr_t)p % _Alignof(max_align_t), 0, "%zu", size);
        for (size_t i = 0; i < size; i++)
            cr_assert_eq(p[i], 0, "%zu", size);
        memset(p, 0xff, size); /* the next one must be zero all the same */
    }
    arena_fini(&a);
}

/* Each piece gets its own number; a piece that overlaps another loses it. */
Test(arena, pieces_of_any_size_do_not_overlap)
{
    enum { COUNT = 400 };
    static unsigned char *pieces[COUNT];
    static size_t sizes[COUNT];
    struct arena a = { 0 };
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = i % 40 == 39 ? 20000 + i : i * 3 % 257;
        pieces[i] = arena_alloc(&a, sizes[i]);
        memset(pieces[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t at = 0; at < sizes[i]; at++)
            cr_assert_eq(pieces[i][at], i & 0xff, "piece %zu byte %zu", i, at);
    arena_fini(&a);
    cr_expect_null(a.block);
    cr_expect_eq(a.used_bytes, 0);
}

Test(arena, texts_are_copies_with_a_nul_behind)
{
    struct arena a = { 0 };
    char text[] = "abc";
    char *copy = arena_text(&a, span_make(text, 2));
    struct span span = arena_span(&a, span_make(text, 3));
    text[0] = text[1] = 'x';
    cr_expect_str_eq(copy, "ab");
    cr_expect(span_equals(span, SPAN_LITERAL("abc")));
    cr_expect_eq(span.at[3], '\0');
    cr_expect_str_eq(arena_text(&a, span_make(NULL, 0)), "");
    arena_fini(&a);
}

Test(arena, printf_of_any_length_is_whole)
{
    struct arena a = { 0 };
    for (int width = 0; width < 3000; width += 13)
        cr_assert_eq(strlen(arena_printf(&a, "%*s", width, "")), (size_t)width);
    cr_expect_str_eq(arena_printf(&a, "%d-%s", 5, "x"), "5-x");
    arena_fini(&a);
}

Test(arena, what_was_handed_out_is_counted)
{
    struct arena a = { 0 };
    arena_alloc(&a, 1);
    arena_alloc(&a, 16);
    arena_alloc(&a, 17);
    cr_expect_eq(a.used_bytes, 16 + 16 + 32);
    arena_fini(&a);
}
