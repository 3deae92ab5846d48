#include "queue/commit.h"
#include "queue/maildir.h"

#include "tests/unit/scratch_dir.h"
#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <time.h>

/* A scratch directory with mail/ and spool/, and a file in spool/. */
struct setup {
    struct scratch s;
    int base_fd, spool_fd, fd;
    struct body body;
};

static void begin(struct setup *t, struct span file, bool has_head)
{
    t->s = scratch_begin();
    scratch_mkdir(&t->s, "mail");
    scratch_mkdir(&t->s, "spool");
    scratch_write(&t->s, "spool/msg", file);
    t->base_fd = openat(t->s.fd, "mail", O_PATH | O_DIRECTORY | O_CLOEXEC);
    t->spool_fd = openat(t->s.fd, "spool", O_PATH | O_DIRECTORY | O_CLOEXEC);
    t->fd = openat(t->s.fd, "spool/msg", O_RDWR | O_CLOEXEC);
    t->body = (struct body){ .fd = t->fd, .dir_fd = t->spool_fd, .file_name = "msg",
                             .has_head = has_head, .size_bytes = file.len };
}

static void end(struct setup *t)
{
    close(t->fd);
    close(t->spool_fd);
    close(t->base_fd);
    scratch_end(&t->s);
}

static struct maildir_item item_for(const struct setup *t, struct span head)
{
    return (struct maildir_item){ .mailbox = "you/", .head = head, .body = &t->body, .unique = "u",
                                  .base_fd = t->base_fd, .new_fd = -1, .fd = -1 };
}

/* All steps for one item, as commit.c takes them. */
static int deliver(struct maildir_item *item)
{
    maildir_write(item);
    maildir_sync(item);
    maildir_publish(item);
    maildir_settle(item);
    maildir_close(item);
    return item->result;
}

static ino_t inode_of(const struct scratch *s, const char *name)
{
    struct stat st;
    return fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static bool exists(const struct scratch *s, const char *name)
{
    return faccessat(s->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ------------------------------------------------------------ moved or copied */

Test(maildir, a_spool_file_with_its_head_is_moved)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("Head: x\r\n\r\nbody\r\n"), true);
    ino_t spooled = inode_of(&t.s, "spool/msg");
    struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
    cr_expect_eq(deliver(&item), 0);
    cr_expect_eq(inode_of(&t.s, "mail/you/new/u,S=17"), spooled, "the same file");
    cr_expect(!exists(&t.s, "spool/msg"));
    cr_expect(scratch_holds(&t.s, "mail/you/new/u,S=17", SPAN_LITERAL("Head: x\r\n\r\nbody\r\n")));
    cr_expect_eq(scratch_count(&t.s, "mail/you/tmp"), 0);
    cr_expect_eq(fcntl(t.fd, F_GETFD), FD_CLOEXEC, "its descriptor was lent and stays open");
    end(&t);
}

Test(maildir, a_spool_file_without_head_is_copied_behind_it)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("Subject: x\r\n\r\nbody\r\n"), false);
    struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
    cr_expect_eq(deliver(&item), 0);
    cr_expect(scratch_holds(&t.s, "mail/you/new/u,S=29", SPAN_LITERAL("Head: x\r\nSubject: x\r\n\r\nbody\r\n")));
    cr_expect(exists(&t.s, "spool/msg"), "others may still need it");
    end(&t);
}

Test(maildir, a_spool_file_in_another_file_system_is_copied)
{
    struct stat here, there;
    struct setup t;
    if (stat("/tmp", &here) != 0 || stat("/dev/shm", &there) != 0 || here.st_dev == there.st_dev)
        cr_skip_test("there is only one file system");
    begin(&t, SPAN_LITERAL("x"), true);
    setenv("TMPDIR", "/dev/shm", 1);
    struct setup far;
    begin(&far, SPAN_LITERAL("Head: x\r\n\r\nbody\r\n"), true);
    far.body.has_head = true;
    struct maildir_item item = item_for(&far, SPAN_LITERAL("Head: x\r\n"));
    item.base_fd = t.base_fd;
    cr_expect_eq(deliver(&item), 0);
    cr_expect(scratch_holds(&t.s, "mail/you/new/u,S=17", SPAN_LITERAL("Head: x\r\n\r\nbody\r\n")));
    cr_expect(exists(&far.s, "spool/msg"));
    end(&far);
    end(&t);
}

Test(maildir, a_moved_file_never_replaces_another)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("new mail"), true);
    scratch_mkdir(&t.s, "mail/you");
    scratch_mkdir(&t.s, "mail/you/new");
    scratch_write(&t.s, "mail/you/new/u,S=8", SPAN_LITERAL("precious"));
    struct maildir_item item = item_for(&t, span_make("", 0));
    cr_expect_eq(deliver(&item), -EEXIST);
    cr_expect(scratch_holds(&t.s, "mail/you/new/u,S=8", SPAN_LITERAL("precious")));
    cr_expect(exists(&t.s, "spool/msg"), "it is still the spool's");
    end(&t);
}

/* What a crash left of a spooled message under its name: half of it in tmp/ is not the message, all
 * of it in new/ is. */
Test(maildir, a_lasting_name_in_tmp_is_no_delivery_and_one_in_new_is)
{
    static const char name[] = "mail/you/new/u,S=29";
    struct span whole = SPAN_LITERAL("Head: x\r\nSubject: x\r\n\r\nbody\r\n");
    struct setup t;
    begin(&t, SPAN_LITERAL("Subject: x\r\n\r\nbody\r\n"), false);
    scratch_mkdir(&t.s, "mail/you");
    scratch_mkdir(&t.s, "mail/you/new");
    scratch_mkdir(&t.s, "mail/you/tmp");
    scratch_write(&t.s, "mail/you/tmp/u,S=29", SPAN_LITERAL("Head: x\r\nSubj"));
    struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
    cr_expect_eq(deliver(&item), -EEXIST);
    item.is_lasting = true;
    cr_expect_eq(deliver(&item), 0);
    cr_expect(scratch_holds(&t.s, name, whole));
    ino_t delivered = inode_of(&t.s, name);
    cr_expect_eq(deliver(&item), 0, "once more, after a crash");
    cr_expect_eq(inode_of(&t.s, name), delivered);
    cr_expect_eq(scratch_count(&t.s, "mail/you/tmp"), 0);
    maildir_abort(&item);
    maildir_close(&item);
    cr_expect(scratch_holds(&t.s, name, whole), "what was delivered before stays");
    end(&t);
}

Test(maildir, a_published_message_can_be_taken_back)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("body"), false);
    struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
    maildir_write(&item);
    maildir_sync(&item);
    maildir_publish(&item);
    cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 1);
    maildir_abort(&item);
    maildir_close(&item);
    cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 0);
    cr_expect_eq(scratch_count(&t.s, "mail/you/tmp"), 0);
    end(&t);
}

Test(maildir, a_file_that_is_shorter_than_it_was_is_an_error)
{
    for (int is_lf = 0; is_lf < 2; is_lf++) {
        struct setup t;
        begin(&t, SPAN_LITERAL("body"), false);
        t.body.size_bytes = 5;
        struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
        item.newline_is_lf = is_lf;
        cr_expect_eq(deliver(&item), -EIO);
        cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 0);
        cr_expect_eq(scratch_count(&t.s, "mail/you/tmp"), 0);
        end(&t);
    }
}

/* ------------------------------------------------------------ line ends */

static const struct {
    const char *head, *body, *stored;
} line_ends[] = {
    { "H: x\r\n", "\r\nbody\r\n", "H: x\n\nbody\n" },
    { "H: x\r\n", "", "H: x\n" },
    { "", "a\rb\r\r\nc\r", "a\rb\r\nc\r" }, /* only CR LF is a line end */
    { "", "\r\n\r\n\n", "\n\n\n" },
    { "H: x\r\n", "no end", "H: x\nno end" },
    { "H\r", "\n", "H\r\n" }, /* a CR that ends the head belongs to it */
};

static void check_line_ends(size_t i, bool in_file, bool has_head)
{
    struct setup t;
    struct buf whole = { 0 };
    struct span head = span_of(line_ends[i].head), text = span_of(line_ends[i].body);
    buf_add(&whole, has_head ? head : span_make(NULL, 0));
    buf_add(&whole, text);
    begin(&t, buf_span(&whole), has_head);
    if (!in_file)
        t.body = (struct body){ .memory = text, .fd = -1, .dir_fd = -1 };
    struct maildir_item item = item_for(&t, head);
    item.newline_is_lf = true;
    cr_expect_eq(deliver(&item), 0);
    cr_expect(scratch_holds(&t.s, "mail/you/new/u", span_of(line_ends[i].stored)), "row %zu", i);
    cr_expect(exists(&t.s, "spool/msg"), "it cannot be moved as it is");
    buf_fini(&whole);
    end(&t);
}

Test(maildir, cr_lf_is_stored_as_lf_where_that_is_wanted)
{
    for (size_t i = 0; i < ARRAY_LEN(line_ends); i++) {
        check_line_ends(i, false, false);
        check_line_ends(i, true, false);
        if (i != 5) /* in one file the CR LF is a line end */
            check_line_ends(i, true, true);
    }
}

/* The copy works in pieces of 64 KiB: CR and LF on both sides of their borders. */
Test(maildir, line_ends_at_the_borders_of_pieces)
{
    struct seeded r = seeded_begin(20);
    for (int round = 0; round < 40; round++) {
        struct buf text = { 0 }, stored = { 0 };
        struct setup t;
        size_t len = 65530 + seeded_below(&r, 12) + (round % 2 != 0 ? 65536 : 0);
        while (text.len < len)
            buf_putc(&text, text.len % 65536 > 65500 || text.len % 65536 < 30 ? "\r\n\r\nx"[seeded_below(&r, 5)] : 'y');
        for (size_t i = 0; i < text.len; i++)
            if (text.at[i] != '\r' || i + 1 == text.len || text.at[i + 1] != '\n')
                buf_putc(&stored, text.at[i]);
        begin(&t, buf_span(&text), false);
        if (round % 3 == 0)
            t.body = (struct body){ .memory = buf_span(&text), .fd = -1, .dir_fd = -1 };
        struct maildir_item item = item_for(&t, span_make(NULL, 0));
        item.newline_is_lf = true;
        cr_assert_eq(deliver(&item), 0);
        cr_assert(scratch_holds(&t.s, "mail/you/new/u", buf_span(&stored)), "round %d", round);
        end(&t);
        buf_fini(&text);
        buf_fini(&stored);
    }
}

Test(maildir, large_bodies_arrive_whole)
{
    struct buf text = { 0 }, whole = { 0 };
    for (int i = 0; i < 100000; i++)
        buf_printf(&text, "line %d\r\n", i);
    buf_puts(&whole, "Head: x\r\n");
    buf_add(&whole, buf_span(&text));
    for (int in_file = 0; in_file < 2; in_file++) {
        struct setup t;
        char name[64];
        begin(&t, buf_span(&text), false);
        if (!in_file)
            t.body = (struct body){ .memory = buf_span(&text), .fd = -1, .dir_fd = -1 };
        struct maildir_item item = item_for(&t, SPAN_LITERAL("Head: x\r\n"));
        cr_expect_eq(deliver(&item), 0);
        snprintf(name, sizeof name, "mail/you/new/u,S=%zu", whole.len);
        cr_expect(scratch_holds(&t.s, name, buf_span(&whole)));
        end(&t);
    }
    buf_fini(&text);
    buf_fini(&whole);
}

/* ------------------------------------------------------------ Maildirs that are not whole */

Test(maildir, what_is_missing_of_a_maildir_is_made)
{
    static const char *const present[] = { "mail/you", "mail/you/new", "mail/you/tmp", "mail/you/cur" };
    for (unsigned bits = 0; bits < 8; bits++) {
        struct setup t;
        begin(&t, SPAN_LITERAL("body"), false);
        scratch_mkdir(&t.s, present[0]);
        for (unsigned i = 0; i < 3; i++)
            if ((bits & 1u << i) != 0)
                scratch_mkdir(&t.s, present[i + 1]);
        struct maildir_item item = item_for(&t, span_make(NULL, 0));
        cr_expect_eq(deliver(&item), 0, "%u", bits);
        cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 1);
        end(&t);
    }
}

Test(maildir, frugal_items_hold_no_descriptor_between_their_steps)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("body"), false);
    size_t before = scratch_descriptors();
    struct maildir_item item = item_for(&t, span_make(NULL, 0));
    item.is_frugal = true;
    maildir_write(&item);
    cr_expect_eq(scratch_descriptors(), before);
    maildir_sync(&item);
    maildir_publish(&item);
    cr_expect_eq(scratch_descriptors(), before);
    maildir_settle(&item);
    cr_expect_eq(scratch_descriptors(), before);
    cr_expect_eq(item.result, 0);
    cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 1);
    maildir_abort(&item);
    maildir_close(&item);
    cr_expect_eq(scratch_count(&t.s, "mail/you/new"), 0, "it can be taken back all the same");
    cr_expect_eq(scratch_descriptors(), before);
    end(&t);
}

Test(maildir, a_failed_step_ends_the_item)
{
    struct setup t;
    begin(&t, SPAN_LITERAL("body"), false);
    scratch_write(&t.s, "mail/you", SPAN_LITERAL("a file"));
    struct maildir_item item = item_for(&t, span_make(NULL, 0));
    item.mailbox = "you";
    size_t before = scratch_descriptors();
    cr_expect_eq(deliver(&item), -ENOTDIR, "%d", item.result);
    cr_expect_eq(scratch_descriptors(), before);
    maildir_abort(&item);
    maildir_close(&item);
    end(&t);
}

/* ------------------------------------------------------------ what readers left behind */

static void make_old(const struct scratch *s, const char *name, time_t age_s)
{
    scratch_write(s, name, SPAN_LITERAL("x"));
    const struct timespec times[2] = { { time(NULL) - age_s, 0 }, { time(NULL) - age_s, 0 } };
    cr_assert_eq(utimensat(s->fd, name, times, 0), 0);
}

Test(maildir, files_older_than_36_hours_leave_tmp)
{
    struct setup t;
    struct buf names = { 0 };
    begin(&t, SPAN_LITERAL(""), false);
    scratch_mkdir(&t.s, "mail/you");
    scratch_mkdir(&t.s, "mail/you/tmp");
    scratch_mkdir(&t.s, "mail/you/new");
    scratch_mkdir(&t.s, "mail/you/tmp/dir");
    make_old(&t.s, "mail/you/tmp/old", 37 * 3600);
    make_old(&t.s, "mail/you/tmp/young", 35 * 3600);
    make_old(&t.s, "mail/you/tmp/.hidden", 37 * 3600);
    make_old(&t.s, "mail/you/new/old", 37 * 3600);
    cr_assert_eq(symlinkat("../new/old", t.s.fd, "mail/you/tmp/link"), 0);
    size_t before = scratch_descriptors();
    maildir_sweep(t.base_fd, "you");
    cr_expect_str_eq(scratch_list(&t.s, "mail/you/tmp", &names), ".hidden dir link young ");
    cr_expect(exists(&t.s, "mail/you/new/old"));
    maildir_sweep(t.base_fd, "missing");
    maildir_sweep(t.base_fd, "../mail/you");
    cr_expect_eq(scratch_descriptors(), before);
    buf_fini(&names);
    end(&t);
}
