#include "protocol/buf.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

Test(buf, an_empty_buffer_is_an_empty_text)
{
    struct buf b = { 0 };
    cr_expect_str_eq(buf_text(&b), "");
    cr_expect_eq(buf_span(&b).len, 0);
    buf_fini(&b);
    buf_fini(&b);
}

Test(buf, what_is_added_comes_out_in_order)
{
    struct buf b = { 0 };
    cr_expect(buf_puts(&b, "ab"));
    cr_expect(buf_putc(&b, 'c'));
    cr_expect(buf_append(&b, "d\0e", 3));
    cr_expect(buf_add(&b, SPAN_LITERAL("f")));
    cr_expect(buf_add(&b, span_make(NULL, 0)));
    cr_expect(buf_printf(&b, "%d%s", 42, "!"));
    cr_expect(span_equals(buf_span(&b), SPAN_LITERAL("abcd\0ef42!")));
    buf_fini(&b);
}

/* printf writes into free room first: every length around the borders of the capacity */
Test(buf, printf_of_every_length_is_whole_whatever_room_is_left)
{
    for (size_t before = 0; before < 140; before += 7) {
        for (int width = 0; width < 300; width++) {
            struct buf b = { 0 };
            for (size_t i = 0; i < before; i++)
                buf_putc(&b, '.');
            cr_assert(buf_printf(&b, "%*s", width, ""));
            cr_assert_eq(b.len, before + (size_t)width);
            cr_assert_eq(strlen(buf_text(&b)), b.len);
            buf_fini(&b);
        }
    }
}

Test(buf, the_ceiling_holds_to_the_byte)
{
    struct buf b = { .max = 4 };
    cr_expect(buf_puts(&b, "abcd"), "exactly the ceiling");
    cr_expect(!b.is_full);
    cr_expect(!buf_putc(&b, 'e'));
    cr_expect(b.is_full);
    cr_expect_eq(b.len, 4);
    buf_drop(&b, 4);
    cr_expect(b.is_full, "it stays told until the buffer is cleared");
    cr_expect(!buf_puts(&b, "abcde"));
    cr_expect(!buf_printf(&b, "%s", "abcde"));
    cr_expect_eq(b.len, 0, "nothing is added in part");
    cr_expect_null(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    cr_expect(!b.is_full);
    cr_expect(buf_printf(&b, "%s", "abcd"));
    buf_fini(&b);
    cr_expect_eq(b.max, 4, "the ceiling outlives the memory");
}

Test(buf, printf_past_the_ceiling_adds_nothing_even_if_there_is_room)
{
    struct buf b = { .max = 10 };
    buf_puts(&b, "123456789");
    cr_expect(!buf_printf(&b, "%s", "ab"));
    cr_expect_str_eq(buf_text(&b), "123456789");
    buf_fini(&b);
}

Test(buf, reserved_room_is_free_to_write)
{
    struct buf b = { 0 };
    buf_puts(&b, "x");
    char *room = buf_reserve(&b, 5000);
    cr_assert_not_null(room);
    memset(room, 'y', 5000);
    b.len += 5000;
    cr_expect_eq(strlen(buf_text(&b)), 5001, "and the NUL still fits");
    buf_fini(&b);
}

Test(buf, drop_forgets_the_front)
{
    struct buf b = { 0 };
    buf_puts(&b, "abcdef");
    buf_drop(&b, 0);
    cr_expect_str_eq(buf_text(&b), "abcdef");
    buf_drop(&b, 2);
    cr_expect_str_eq(buf_text(&b), "cdef");
    buf_drop(&b, 4);
    cr_expect_str_eq(buf_text(&b), "");
    buf_fini(&b);
}

Test(buf, dropping_more_than_there_is_aborts, .signal = SIGABRT)
{
    struct buf b = { 0 };
    buf_putc(&b, 'x');
    buf_drop(&b, 2);
}

Test(buf, growth_keeps_every_byte)
{
    struct buf b = { 0 };
    for (size_t i = 0; i < 100000; i++)
        buf_putc(&b, (char)(i * 7));
    for (size_t i = 0; i < b.len; i++)
        cr_assert_eq(b.at[i], (char)(i * 7), "%zu", i);
    cr_expect_leq(b.cap, 2 * b.len + 2, "it at most doubles");
    buf_fini(&b);
}
