#include "policy/table.h"
#include "protocol/buf.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct span key_of(char room[32], int i)
{
    return span_make(room, (size_t)snprintf(room, 32, "key-%d@example.org", i));
}

static bool has(const struct table *t, const char *key, const char *value)
{
    struct span found;
    return table_find(t, span_of(key), &found) && span_equals(found, span_of(value));
}

Test(table, an_empty_table_finds_nothing)
{
    struct table *t = table_new();
    struct span value;
    size_t cursor = 0;
    cr_expect(!table_find(t, SPAN_LITERAL("a"), &value));
    cr_expect(!table_find(t, span_make(NULL, 0), &value));
    cr_expect(!table_next(t, &cursor, &value, &value));
    cr_expect_eq(table_count(t), 0);
    table_trim(t);
    table_free(t);
    table_free(NULL);
}

Test(table, the_first_of_two_equal_keys_stays)
{
    struct table *t = table_new();
    cr_expect(table_add(t, SPAN_LITERAL("a"), SPAN_LITERAL("1")));
    cr_expect(!table_add(t, SPAN_LITERAL("a"), SPAN_LITERAL("2")));
    cr_expect(has(t, "a", "1"));
    cr_expect_eq(table_count(t), 1);
    table_free(t);
}

Test(table, put_replaces)
{
    struct table *t = table_new();
    cr_expect(table_put(t, SPAN_LITERAL("a"), SPAN_LITERAL("1")));
    cr_expect(table_add(t, SPAN_LITERAL("b"), SPAN_LITERAL("x")));
    cr_expect(!table_put(t, SPAN_LITERAL("a"), SPAN_LITERAL("a longer value")));
    cr_expect(has(t, "a", "a longer value"));
    cr_expect(has(t, "b", "x"));
    cr_expect_eq(table_count(t), 2);
    table_free(t);
}

Test(table, keys_are_bytes_not_text)
{
    struct table *t = table_new();
    cr_expect(table_add(t, span_make("a\0b", 3), SPAN_LITERAL("nul")));
    cr_expect(table_add(t, SPAN_LITERAL("a"), SPAN_LITERAL("short")));
    cr_expect(table_add(t, SPAN_LITERAL("A"), SPAN_LITERAL("capital")));
    cr_expect(table_add(t, span_make("", 0), SPAN_LITERAL("empty")));
    struct span found;
    cr_assert(table_find(t, span_make("a\0b", 3), &found));
    cr_expect(span_equals(found, SPAN_LITERAL("nul")));
    cr_expect(has(t, "a", "short") && has(t, "A", "capital") && has(t, "", "empty"));
    cr_expect(!table_find(t, span_make("a\0c", 3), &found));
    table_free(t);
}

/* Every size passes through every state of the slots, so each step of growing is met. */
Test(table, every_key_is_found_at_every_size)
{
    struct table *t = table_new();
    char room[32];
    struct span found;
    for (int i = 0; i < 600; i++) {
        cr_assert(table_add(t, key_of(room, i), span_make(room, (size_t)(i % 7))));
        for (int k = 0; k <= i; k++) {
            cr_assert(table_find(t, key_of(room, k), &found), "%d of %d", k, i);
            cr_assert_eq(found.len, (size_t)(k % 7));
        }
        cr_assert(!table_find(t, key_of(room, i + 1), &found));
    }
    cr_expect_eq(table_count(t), 600);
    table_free(t);
}

Test(table, the_walk_gives_all_entries_in_their_order)
{
    struct table *t = table_new();
    struct span key, value;
    char room[32];
    size_t cursor = 0;
    for (int i = 0; i < 100; i++)
        table_add(t, key_of(room, i), key_of(room, i));
    table_trim(t);
    for (int i = 0; i < 100; i++) {
        cr_assert(table_next(t, &cursor, &key, &value));
        cr_expect(span_equals(key, key_of(room, i)));
        cr_expect(span_equals(value, key));
    }
    cr_expect(!table_next(t, &cursor, &key, &value));
    table_free(t);
}

Test(table, the_walk_gives_a_replaced_entry_once)
{
    struct table *t = table_new();
    struct span key, value;
    size_t cursor = 0, count = 0;
    table_put(t, SPAN_LITERAL("a"), SPAN_LITERAL("old"));
    table_put(t, SPAN_LITERAL("b"), SPAN_LITERAL("x"));
    table_put(t, SPAN_LITERAL("a"), SPAN_LITERAL("new"));
    while (table_next(t, &cursor, &key, &value)) {
        count++;
        cr_expect(!span_equals(value, SPAN_LITERAL("old")));
    }
    cr_expect_eq(count, table_count(t));
    table_free(t);
}

Test(table, a_trimmed_table_can_still_grow)
{
    struct table *t = table_new();
    table_add(t, SPAN_LITERAL("a"), SPAN_LITERAL("1"));
    table_trim(t);
    cr_expect(table_add(t, SPAN_LITERAL("b"), SPAN_LITERAL("2")));
    cr_expect(has(t, "a", "1") && has(t, "b", "2"));
    table_free(t);
}
