#include "queue/commit.h"
#include "queue/quota.h"

#include "tests/unit/scratch_dir.h"

#include <criterion/criterion.h>

/* A Maildir with this maildirsize (NULL: none). */
static struct scratch begin(const char *maildirsize, int *new_fd)
{
    struct scratch s = scratch_begin();
    scratch_mkdir(&s, "you");
    scratch_mkdir(&s, "you/new");
    scratch_mkdir(&s, "you/cur");
    scratch_mkdir(&s, "you/tmp");
    if (maildirsize != NULL)
        scratch_write(&s, "you/maildirsize", span_of(maildirsize));
    *new_fd = openat(s.fd, "you/new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s;
}

static const struct {
    const char *maildirsize;
    uint64_t size_bytes;
    int result;
    bool has_quota;
} rows[] = {
    { NULL, 1000000, 0, false },
    { "", 1000000, 0, false },
    { "\n", 1000000, 0, false },
    { "1000S\n", 1000, 0, true },
    { "1000S\n", 1001, -EDQUOT, true },
    { "1000S\n400 1\n-100 -1\n", 700, 0, true },
    { "10C\n", 1000000, 0, true },
    { "0C\n5 5\n", 1000000, 0, false }, /* 0: no limit */
    { "1000S,10C\n", 1000, 0, true },
    { "1000S, 10C \n", 1001, -EDQUOT, true },
    { "garbage\n1 1\n", 1000000, 0, false },
    { "S,C,,xS,-5S\n", 1000000, 0, false },
    { "1000S\ngarbage\n1 2 3\n\n5\n", 999, 0, true },
    { "1000S", 1001, -EDQUOT, true },
    { "1000S\r\n", 1001, -EDQUOT, true },
    { "99999999999999999999S\n", 1000000, 0, false },
};

Test(quota, the_limits_of_maildirsize_hold_to_the_byte)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int new_fd;
        bool has_quota = !rows[i].has_quota;
        struct scratch s = begin(rows[i].maildirsize, &new_fd);
        size_t before = scratch_descriptors();
        cr_expect_eq(quota_check(new_fd, rows[i].size_bytes, &has_quota), rows[i].result, "row %zu", i);
        cr_expect_eq(has_quota, rows[i].has_quota, "row %zu", i);
        cr_expect_eq(scratch_count(&s, "you/tmp"), 0);
        cr_expect_eq(scratch_descriptors(), before);
        close(new_fd);
        scratch_end(&s);
    }
}

/* 300 bytes in 3 messages in the inbox, 100 in 1 in a folder, 5000 in the trash. */
static void fill(const struct scratch *s)
{
    static char bytes[5000];
    scratch_write(s, "you/new/a", span_make(bytes, 100));
    scratch_write(s, "you/new/.hidden", span_make(bytes, 100));
    scratch_write(s, "you/cur/b,S=150:2,S", span_make(bytes, 7)); /* the name is believed */
    scratch_write(s, "you/cur/c:2,", span_make(bytes, 50));
    scratch_write(s, "you/tmp/d", span_make(bytes, 100));
    scratch_mkdir(s, "you/.Sub");
    scratch_mkdir(s, "you/.Sub/cur");
    scratch_write(s, "you/.Sub/cur/e,S=100", span_make(bytes, 100));
    scratch_mkdir(s, "you/.Trash");
    scratch_mkdir(s, "you/.Trash/new");
    scratch_write(s, "you/.Trash/new/f", span_make(bytes, 5000));
    scratch_mkdir(s, "you/plain");
    scratch_mkdir(s, "you/plain/new");
    scratch_write(s, "you/plain/new/g", span_make(bytes, 100));
    cr_assert_eq(symlinkat("you", s->fd, "you/.Link"), 0);
}

static const struct {
    const char *maildirsize;
    uint64_t size_bytes;
    int result;
    const char *rewritten; /* NULL: it stays */
} recounts[] = {
    { "1000S\n900 9\n", 200, 0, "1000S\n400 4\n" },     /* it was out of date */
    { "1000S\n400 4\n", 600, 0, NULL },                  /* exactly */
    { "1000S\n400 4\n", 601, -EDQUOT, "1000S\n400 4\n" },
    { "1000S\n5000 1\n", 601, -EDQUOT, "1000S\n400 4\n" },
    { "5C\n0 9\n", 1, 0, "5C\n400 4\n" },
    { "4C\n0 4\n", 1, -EDQUOT, "4C\n400 4\n" },
    { "1000S,4C\n0 3\n", 1, 0, NULL },
    { "1000S,4C\n0 9\n", 1, -EDQUOT, "1000S,4C\n400 4\n" },
};

Test(quota, a_sum_that_is_over_is_counted_again_and_written_anew)
{
    for (size_t i = 0; i < ARRAY_LEN(recounts); i++) {
        int new_fd;
        bool has_quota;
        struct scratch s = begin(recounts[i].maildirsize, &new_fd);
        size_t before = scratch_descriptors();
        fill(&s);
        const char *expected = recounts[i].rewritten != NULL ? recounts[i].rewritten : recounts[i].maildirsize;
        cr_expect_eq(quota_check(new_fd, recounts[i].size_bytes, &has_quota), recounts[i].result, "row %zu", i);
        cr_expect(scratch_holds(&s, "you/maildirsize", span_of(expected)), "row %zu", i);
        cr_expect_eq(scratch_count(&s, "you/tmp"), 1, "only what lay there before");
        cr_expect_eq(scratch_descriptors(), before);
        close(new_fd);
        scratch_end(&s);
    }
}

Test(quota, a_delivery_adds_its_line)
{
    int new_fd;
    struct scratch s = begin("1000S\n400 4\n", &new_fd);
    quota_add(new_fd, 123);
    cr_expect(scratch_holds(&s, "you/maildirsize", SPAN_LITERAL("1000S\n400 4\n123 1\n")));
    unlinkat(s.fd, "you/maildirsize", 0);
    quota_add(new_fd, 123);
    cr_expect_eq(faccessat(s.fd, "you/maildirsize", F_OK, 0), -1, "without a file nothing is made");
    close(new_fd);
    scratch_end(&s);
}

Test(quota, a_file_too_long_to_add_up_is_counted_again)
{
    int new_fd;
    bool has_quota;
    struct buf text = { 0 };
    buf_puts(&text, "1000S\n");
    while (text.len < 17000)
        buf_puts(&text, "0 0\n");
    struct scratch s = begin(buf_text(&text), &new_fd);
    fill(&s);
    cr_expect_eq(quota_check(new_fd, 1, &has_quota), 0);
    cr_expect(scratch_holds(&s, "you/maildirsize", SPAN_LITERAL("1000S\n400 4\n")));
    buf_fini(&text);
    close(new_fd);
    scratch_end(&s);
}

/* Whoever owns the mailbox can write anything into the file. */
Test(quota, figures_that_overflow_are_figures_that_are_over)
{
    static const char *const files[] = {
        "1000S\n9223372036854775807 1\n9223372036854775807 1\n",
        "9223372036854775807S\n9223372036854775807 1\n",
        "1000S\n-9223372036854775808 1\n-9223372036854775808 1\n",
        "1000C\n1 9223372036854775807\n1 9223372036854775807\n",
        "1000S\n99999999999999999999999 99999999999999999999999\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        int new_fd;
        bool has_quota;
        struct scratch s = begin(files[i], &new_fd);
        cr_expect_eq(quota_check(new_fd, 100, &has_quota), 0, "%zu: counted again, there is room", i);
        cr_expect(has_quota);
        close(new_fd);
        scratch_end(&s);
    }
}

Test(quota, message_names_that_lie_cannot_break_the_sum)
{
    int new_fd;
    bool has_quota;
    struct scratch s = begin("1000S\n2000 1\n", &new_fd);
    scratch_write(&s, "you/new/a,S=9223372036854775807", SPAN_LITERAL("x"));
    scratch_write(&s, "you/new/b,S=9223372036854775807", SPAN_LITERAL("x"));
    scratch_write(&s, "you/new/c,S=99999999999999999999999999", SPAN_LITERAL("x"));
    cr_expect_eq(quota_check(new_fd, 1, &has_quota), -EDQUOT);
    close(new_fd);
    scratch_end(&s);
}

Test(quota, an_odd_first_line_leaves_nothing_in_tmp)
{
    int new_fd;
    bool has_quota;
    struct buf text = { 0 };
    buf_puts(&text, "1000S");
    while (text.len < 400)
        buf_puts(&text, ",junk");
    buf_puts(&text, "\n2000 1\n");
    struct scratch s = begin(buf_text(&text), &new_fd);
    quota_check(new_fd, 1, &has_quota);
    cr_expect_eq(scratch_count(&s, "you/tmp"), 0);
    buf_fini(&text);
    close(new_fd);
    scratch_end(&s);
}

Test(quota, a_link_in_its_place_is_not_followed)
{
    int new_fd;
    bool has_quota;
    struct scratch s = begin(NULL, &new_fd);
    scratch_write(&s, "target", SPAN_LITERAL("1S\n"));
    cr_assert_eq(symlinkat("../target", s.fd, "you/maildirsize"), 0);
    cr_expect_eq(quota_check(new_fd, 5, &has_quota), -ELOOP);
    quota_add(new_fd, 5);
    cr_expect(scratch_holds(&s, "target", SPAN_LITERAL("1S\n")));
    close(new_fd);
    scratch_end(&s);
}

/* ------------------------------------------------------------ with deliveries */

static int deliver(const struct scratch *s, const char *const *mailboxes, size_t count, const char *unique)
{
    struct body body = { .memory = SPAN_LITERAL("0123456789"), .fd = -1, .dir_fd = -1 };
    struct maildir_item items[4] = { 0 };
    struct commit c = { .base = s->path, .items = items, .count = count };
    for (size_t i = 0; i < count; i++)
        items[i] = (struct maildir_item){ .mailbox = mailboxes[i], .body = &body, .unique = unique };
    commit_run(&c);
    return c.result;
}

Test(quota, mail_goes_in_until_the_mailbox_is_full)
{
    int new_fd;
    struct scratch s = begin("25S\n", &new_fd);
    static const char *const you[] = { "you" };
    cr_expect_eq(deliver(&s, you, 1, "a"), 0);
    cr_expect_eq(deliver(&s, you, 1, "b"), 0);
    cr_expect(scratch_holds(&s, "you/maildirsize", SPAN_LITERAL("25S\n10 1\n10 1\n")));
    cr_expect_eq(deliver(&s, you, 1, "c"), -EDQUOT);
    cr_expect_eq(scratch_count(&s, "you/new"), 2);
    cr_expect_eq(scratch_count(&s, "you/tmp"), 0);
    unlinkat(s.fd, "you/new/a,S=10", 0); /* the reader deletes one and tells nobody */
    cr_expect_eq(deliver(&s, you, 1, "c"), 0);
    cr_expect(scratch_holds(&s, "you/maildirsize", SPAN_LITERAL("25S\n10 1\n10 1\n")), "10 counted, 10 new");
    close(new_fd);
    scratch_end(&s);
}

Test(quota, one_full_mailbox_keeps_the_message_from_all)
{
    int new_fd;
    struct scratch s = begin("5S\n", &new_fd);
    static const char *const all[] = { "first", "you", "last" };
    cr_expect_eq(deliver(&s, all, 3, "a"), -EDQUOT);
    cr_expect_eq(scratch_count(&s, "first/new") + scratch_count(&s, "first/tmp"), 0);
    cr_expect_eq(scratch_count(&s, "last/new") + scratch_count(&s, "you/new"), 0);
    cr_expect(scratch_holds(&s, "you/maildirsize", SPAN_LITERAL("5S\n0 0\n")));
    close(new_fd);
    scratch_end(&s);
}

/* The second mailbox has the name already: found at the last step, behind the first one's rename. */
Test(quota, a_message_that_is_taken_back_does_not_count)
{
    int new_fd;
    struct scratch s = begin("100S\n", &new_fd);
    static const char *const both[] = { "you", "other" };
    scratch_mkdir(&s, "other");
    scratch_mkdir(&s, "other/new");
    scratch_mkdir(&s, "other/tmp");
    scratch_write(&s, "other/new/a,S=10", SPAN_LITERAL("precious"));
    cr_expect_eq(deliver(&s, both, 2, "a"), -EEXIST);
    cr_expect_eq(scratch_count(&s, "you/new"), 0);
    struct buf text = scratch_read(&s, "you/maildirsize");
    long long sum = 0, bytes;
    for (char *line = strchr(buf_text(&text), '\n'); line != NULL; line = strchr(line + 1, '\n'))
        sum += sscanf(line, "%lld", &bytes) == 1 ? bytes : 0;
    cr_expect_eq(sum, 0, "%s", buf_text(&text));
    buf_fini(&text);
    close(new_fd);
    scratch_end(&s);
}
