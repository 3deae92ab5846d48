#include "queue/commit.h"

#include "tests/unit/fault.h"
#include "tests/unit/scratch_dir.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>

enum { RCPTS_MAX = 1100 };

/* A message for some mailboxes below base, with a body in memory. */
struct message {
    struct commit commit;
    struct maildir_item items[RCPTS_MAX];
    struct body body;
    char unique[RCPTS_MAX][32], heads[RCPTS_MAX][48], mailboxes[RCPTS_MAX][32];
};

static struct message *message_new(const char *base, const char *name, size_t count,
                                   const char *mailbox_format)
{
    struct message *m = xcalloc(1, sizeof *m);
    m->body = (struct body){ .memory = SPAN_LITERAL("Subject: x\r\n\r\nbody\r\n"), .fd = -1, .dir_fd = -1 };
    m->commit = (struct commit){ .base = base, .items = m->items, .count = count };
    for (size_t i = 0; i < count; i++) {
        snprintf(m->unique[i], sizeof m->unique[i], "%s_%zu", name, i);
        snprintf(m->heads[i], sizeof m->heads[i], "Delivered-To: %zu\r\n", i);
        char *number = m->mailboxes[i] + snprintf(m->mailboxes[i], 20, "%s", mailbox_format);
        snprintf(number, 10, "%zu", i);
        m->items[i] = (struct maildir_item){ .mailbox = m->mailboxes[i], .head = span_of(m->heads[i]),
                                             .body = &m->body, .unique = m->unique[i] };
    }
    return m;
}

static char base_path[PATH_MAX];
static struct parallel *threads; /* NULL: the caller does everything */

static struct scratch begin(void)
{
    struct scratch s = scratch_begin();
    scratch_mkdir(&s, "mail");
    snprintf(base_path, sizeof base_path, "%s/mail", s.path);
    return s;
}

static void expect_files(const struct scratch *s, const char *mailbox, size_t in_new)
{
    char path[128];
    snprintf(path, sizeof path, "mail/%s/new", mailbox);
    cr_expect_eq(scratch_count(s, path), in_new, "%s: %zu", path, scratch_count(s, path));
    snprintf(path, sizeof path, "mail/%s/tmp", mailbox);
    cr_expect_eq(scratch_count(s, path), 0, "nothing is left in %s", path);
}

Test(commit, a_message_lies_in_the_new_of_its_maildir)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 1, "you");
    struct stat st;
    struct buf names = { 0 };
    size_t before = scratch_descriptors();
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, 0);
    cr_expect_str_eq(scratch_list(&s, "mail/you0", &names), "cur new tmp ");
    cr_expect_str_eq(scratch_list(&s, "mail/you0/new", &names), "u_0,S=37 ");
    cr_expect(scratch_holds(&s, "mail/you0/new/u_0,S=37",
                            SPAN_LITERAL("Delivered-To: 0\r\nSubject: x\r\n\r\nbody\r\n")));
    cr_expect(fstatat(s.fd, "mail/you0/new/u_0,S=37", &st, 0) == 0 && (st.st_mode & 07777) == 0600);
    expect_files(&s, "you0", 1);
    cr_expect_eq(scratch_descriptors(), before);
    buf_fini(&names);
    free(m);
    scratch_end(&s);
}

Test(commit, each_recipient_has_its_own_file_with_its_own_head)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 3, "you");
    snprintf(m->mailboxes[2], sizeof m->mailboxes[2], "you0"); /* two of them share a mailbox */
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, 0);
    expect_files(&s, "you0", 2);
    expect_files(&s, "you1", 1);
    cr_expect(scratch_holds(&s, "mail/you1/new/u_1,S=37",
                            SPAN_LITERAL("Delivered-To: 1\r\nSubject: x\r\n\r\nbody\r\n")));
    cr_expect(scratch_holds(&s, "mail/you0/new/u_2,S=37",
                            SPAN_LITERAL("Delivered-To: 2\r\nSubject: x\r\n\r\nbody\r\n")));
    free(m);
    scratch_end(&s);
}

Test(commit, a_message_for_nobody_is_done_at_once)
{
    struct commit none = { .base = "/nonexistent" };
    struct scratch s = begin();
    none.base = base_path;
    commit_run(&none);
    cr_expect_eq(none.result, 0);
    commit_run(NULL);
    scratch_end(&s);
}

/* ------------------------------------------------------------ order */

static const struct {
    size_t recipients, messages;
    const char *calls; /* behind the making of the Maildirs */
} orders[] = {
    { 1, 1, "wdrD" },
    { 3, 1, "wwwdddrrrDDD" },
    { 1, 3, "wwwdddrrrD" }, /* one mailbox: its directory is synced once */
    { 2, 2, "wwwwddddrrrrDD" },
};

/* The calls without those that look around. */
static const char *calls_that_write(void)
{
    static char calls[sizeof fault.calls];
    size_t n = 0;
    for (size_t i = 0; i < fault.count; i++)
        if (strchr("wdrD", fault.calls[i]) != NULL)
            calls[n++] = fault.calls[i];
    calls[n] = '\0';
    return calls;
}

Test(commit, files_are_synced_before_they_are_renamed_and_directories_behind)
{
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct scratch s = begin();
        struct message *messages[3] = { 0 };
        for (int round = 0; round < 2; round++) { /* the first one makes the Maildirs */
            for (size_t k = 0; k < orders[i].messages; k++) {
                char name[32];
                snprintf(name, sizeof name, "%d.%zu", round, k);
                messages[k] = message_new(base_path, name, orders[i].recipients, "you");
                if (k > 0)
                    messages[k - 1]->commit.next = &messages[k]->commit;
            }
            fault_arm(0, 0);
            commit_run(&messages[0]->commit);
            fault_disarm();
            for (size_t k = 0; k < orders[i].messages; k++) {
                cr_expect_eq(messages[k]->commit.result, 0);
                free(messages[k]);
            }
        }
        cr_expect_str_eq(calls_that_write(), orders[i].calls, "row %zu", i);
        scratch_end(&s);
    }
}

Test(commit, new_maildirs_are_durable_in_their_parents_before_mail_is_in_them)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 1, "a/b");
    fault_arm(0, 0);
    commit_run(&m->commit);
    fault_disarm();
    cr_expect_eq(m->commit.result, 0);
    /* each mkdir that made something is followed by the fsync of its parent */
    char calls[64] = "";
    for (size_t i = 0, n = 0; i < fault.count && n < 60; i++)
        if (fault.calls[i] != 'o')
            calls[n++] = fault.calls[i];
    cr_expect_str_eq(calls, "mDmDmD" "mmmD" "mmmD" "wdrD", "a, b0, tmp; new; cur; the message");
    free(m);
    scratch_end(&s);
}

Test(commit, past_32_recipients_the_rest_is_synced_at_once_and_closed)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 34, "you");
    commit_run(&m->commit);
    free(m);
    m = message_new(base_path, "v", 34, "you");
    fault_arm(0, 0);
    commit_run(&m->commit);
    fault_disarm();
    char expected[160];
    snprintf(expected, sizeof expected, "%.32s%.32swdwd%.34s%.34s", "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
             "dddddddddddddddddddddddddddddddddd", "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr",
             "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD");
    cr_expect_str_eq(calls_that_write(), expected);
    free(m);
    scratch_end(&s);
}

Test(commit, a_thousand_recipients_need_few_descriptors)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 1000, "you");
    const struct rlimit limit = { scratch_descriptors() + 80, scratch_descriptors() + 80 };
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, 0, "%s", strerror(-m->commit.result));
    expect_files(&s, "you0", 1);
    expect_files(&s, "you33", 1);
    expect_files(&s, "you999", 1);
    free(m);
    scratch_end(&s);
}

static void commit_many(void)
{
    enum { MANY = 100, MAILBOXES = 7 };
    struct scratch s = begin();
    struct message *messages[MANY];
    size_t before = scratch_descriptors();
    for (size_t i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%zu", i);
        messages[i] = message_new(base_path, name, 1 + i % 3, i % 2 == 0 ? "you" : "other");
        if (i > 0)
            messages[i - 1]->commit.next = &messages[i]->commit;
    }
    commit_run_on(&messages[0]->commit, threads);
    for (size_t i = 0; i < MANY; i++)
        cr_expect_eq(messages[i]->commit.result, 0);
    expect_files(&s, "you0", 50);
    expect_files(&s, "other0", 50);
    expect_files(&s, "you2", 17);
    cr_expect_eq(scratch_descriptors(), before);
    for (size_t i = 0; i < MANY; i++)
        free(messages[i]);
    scratch_end(&s);
}

Test(commit, a_batch_of_many_messages)
{
    commit_many();
    threads = parallel_new(8);
    commit_many();
    parallel_free(threads);
}

/* ------------------------------------------------------------ all or none */

/* What stands in the way of the third of several mailboxes. */
static void put_file(const struct scratch *s)
{
    scratch_write(s, "mail/you2", SPAN_LITERAL("x"));
}

static void put_link(const struct scratch *s)
{
    cr_assert_eq(symlinkat("you0", s->fd, "mail/you2"), 0);
}

static void put_linked_new(const struct scratch *s)
{
    scratch_mkdir(s, "mail/you2");
    scratch_mkdir(s, "mail/you2/tmp");
    cr_assert_eq(symlinkat("../you0/new", s->fd, "mail/you2/new"), 0);
}

static void put_linked_tmp(const struct scratch *s)
{
    scratch_mkdir(s, "mail/you2");
    scratch_mkdir(s, "mail/you2/new");
    cr_assert_eq(symlinkat("../you0/tmp", s->fd, "mail/you2/tmp"), 0);
}

static void put_name(const struct scratch *s)
{
    scratch_mkdir(s, "mail/you2");
    scratch_mkdir(s, "mail/you2/new");
    scratch_mkdir(s, "mail/you2/tmp");
    scratch_write(s, "mail/you2/new/u_2,S=37", SPAN_LITERAL("precious"));
}

static const struct {
    const char *title;
    void (*prepare)(const struct scratch *s);
    int error;
} in_the_way[] = {
    { "a file", put_file, -ENOTDIR },
    { "a link", put_link, -ELOOP },
    { "a linked new", put_linked_new, -ELOOP },
    { "a linked tmp", put_linked_tmp, -ELOOP },
    { "the name is taken", put_name, -EEXIST },
};

static void expect_untouched(const struct scratch *s, const struct message *m, int error)
{
    cr_expect_eq(m->commit.result, error, "%d", m->commit.result);
    cr_expect_eq(m->commit.failed, 2, "%zu", m->commit.failed);
    expect_files(s, "you0", 0);
    expect_files(s, "you1", 0);
    for (size_t i = 0; i < m->commit.count; i++)
        cr_expect_eq(m->items[i].result, error);
}

Test(commit, when_one_maildir_fails_none_has_the_message)
{
    for (size_t i = 0; i < ARRAY_LEN(in_the_way); i++) {
        struct scratch s = begin();
        struct message *m = message_new(base_path, "u", 4, "you");
        size_t before = scratch_descriptors();
        in_the_way[i].prepare(&s);
        commit_run(&m->commit);
        expect_untouched(&s, m, in_the_way[i].error);
        cr_expect_eq(scratch_descriptors(), before, "%s", in_the_way[i].title);
        free(m);
        scratch_end(&s);
    }
}

Test(commit, a_name_that_exists_is_never_overwritten)
{
    struct scratch s = begin();
    struct message *m = message_new(base_path, "u", 3, "you");
    put_name(&s);
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, -EEXIST);
    cr_expect(scratch_holds(&s, "mail/you2/new/u_2,S=37", SPAN_LITERAL("precious")));
    expect_files(&s, "you2", 1);
    unlinkat(s.fd, "mail/you2/new/u_2,S=37", 0);
    scratch_write(&s, "mail/you2/tmp/u_2,S=37", SPAN_LITERAL("somebody else's"));
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, -EEXIST);
    cr_expect(scratch_holds(&s, "mail/you2/tmp/u_2,S=37", SPAN_LITERAL("somebody else's")));
    free(m);
    scratch_end(&s);
}

Test(commit, one_failed_message_leaves_the_others_of_its_batch_alone)
{
    struct scratch s = begin();
    struct message *good = message_new(base_path, "g", 2, "you"), *bad = message_new(base_path, "b", 3, "you"),
                   *last = message_new(base_path, "l", 2, "you");
    good->commit.next = &bad->commit;
    bad->commit.next = &last->commit;
    put_file(&s); /* in the way of you2, which only the second one has */
    commit_run(&good->commit);
    cr_expect(good->commit.result == 0 && last->commit.result == 0);
    cr_expect_eq(bad->commit.result, -ENOTDIR);
    expect_files(&s, "you0", 2);
    expect_files(&s, "you1", 2);
    free(good);
    free(bad);
    free(last);
    scratch_end(&s);
}

Test(commit, a_missing_base_fails_its_own_messages_only)
{
    struct scratch s = begin();
    char missing[PATH_MAX];
    snprintf(missing, sizeof missing, "%s/missing", s.path);
    struct message *bad = message_new(missing, "b", 2, "you"), *good = message_new(base_path, "g", 1, "you"),
                   *again = message_new(missing, "a", 1, "you");
    bad->commit.next = &good->commit;
    good->commit.next = &again->commit;
    commit_run(&bad->commit);
    cr_expect_eq(bad->commit.result, -ENOENT);
    cr_expect_eq(again->commit.result, -ENOENT);
    cr_expect_eq(good->commit.result, 0);
    cr_expect_eq(faccessat(s.fd, "missing", F_OK, 0), -1, "the base is not made");
    expect_files(&s, "you0", 1);
    free(bad);
    free(good);
    free(again);
    scratch_end(&s);
}

Test(commit, more_bases_than_one_batch_can_hold_are_put_off)
{
    enum { BASES = 10 };
    struct scratch s = begin();
    struct message *messages[BASES];
    char paths[BASES][300];
    int good = 0, again = 0;
    for (size_t i = 0; i < BASES; i++) {
        snprintf(paths[i], sizeof paths[i], "base%zu", i);
        scratch_mkdir(&s, paths[i]);
        snprintf(paths[i], sizeof paths[i], "%s/base%zu", s.path, i);
        messages[i] = message_new(paths[i], "u", 1, "you");
        if (i > 0)
            messages[i - 1]->commit.next = &messages[i]->commit;
    }
    commit_run(&messages[0]->commit);
    for (size_t i = 0; i < BASES; i++) {
        good += messages[i]->commit.result == 0;
        again += messages[i]->commit.result == -EAGAIN;
        free(messages[i]);
    }
    cr_expect_eq(good + again, BASES);
    cr_expect_geq(good, 8);
    scratch_end(&s);
}

static const char *const escapes[] = { "..", "../x", "/tmp/x", "a/../../x", "" };

Test(commit, a_mailbox_outside_the_base_is_refused)
{
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        struct scratch s = begin();
        struct buf names = { 0 };
        struct message *m = message_new(base_path, "u", 1, "you");
        snprintf(m->mailboxes[0], sizeof m->mailboxes[0], "%s", escapes[i]);
        commit_run(&m->commit);
        cr_expect_lt(m->commit.result, 0, "%s", escapes[i]);
        cr_expect_str_eq(scratch_list(&s, ".", &names), "mail ");
        buf_fini(&names);
        free(m);
        scratch_end(&s);
    }
}

/* A directory that we may not write to: root may, so the test becomes nobody for a while. */
static void become_nobody(const struct scratch *s)
{
    if (geteuid() != 0)
        return;
    cr_assert_eq(fchown(s->fd, 65534, 65534), 0);
    cr_assert_eq(fchownat(s->fd, "mail", 65534, 65534, 0), 0);
    cr_assert_eq(seteuid(65534), 0);
}

static void become_root_again(void)
{
    if (getuid() == 0)
        cr_assert_eq(seteuid(0), 0);
}

Test(commit, a_read_only_directory_is_an_error_and_nothing_is_left)
{
    static const char *const read_only[] = { "mail/you1/new", "mail/you1/tmp", "mail/you1", "mail" };
    for (size_t i = 0; i < ARRAY_LEN(read_only); i++) {
        struct scratch s = begin();
        become_nobody(&s);
        struct message *first = message_new(base_path, "f", 1, "you"), *m = message_new(base_path, "u", 2, "you");
        commit_run(&first->commit);
        cr_assert_eq(first->commit.result, 0);
        if (i < 2) {
            scratch_mkdir(&s, "mail/you1");
            scratch_mkdir(&s, "mail/you1/new");
            scratch_mkdir(&s, "mail/you1/tmp");
        } else if (i == 2) {
            scratch_mkdir(&s, "mail/you1");
        }
        cr_assert_eq(fchmodat(s.fd, read_only[i], 0500, 0), 0);
        commit_run(&m->commit);
        cr_assert_eq(fchmodat(s.fd, read_only[i], 0700, 0), 0);
        cr_expect_eq(m->commit.result, -EACCES, "%s: %d", read_only[i], m->commit.result);
        expect_files(&s, "you0", 1);
        expect_files(&s, "you1", 0);
        become_root_again();
        free(first);
        free(m);
        scratch_end(&s);
    }
}

Test(commit, a_disk_that_takes_only_part_of_a_file_is_an_error_and_nothing_is_left)
{
    struct scratch s = begin();
    static char large[10000];
    struct message *m = message_new(base_path, "u", 40, "you");
    memset(large, 'x', sizeof large);
    m->body.memory = span_make(large, sizeof large);
    const struct rlimit limit = { 5000, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    commit_run(&m->commit);
    cr_expect_eq(m->commit.result, -EFBIG);
    expect_files(&s, "you0", 0);
    free(m);
    scratch_end(&s);
}

/* ------------------------------------------------------------ the n-th call fails */

static void expect_all_or_none(const struct scratch *s, const struct message *m, size_t others)
{
    for (size_t i = 0; i < m->commit.count; i++)
        expect_files(s, m->mailboxes[i], m->commit.result == 0 ? 1 + others : others);
}

/* count: of the recipients; others: mails that were there before, so that the Maildirs exist.
 * stride 1: every call fails once. */
static void fail_each_call(size_t count, size_t others, int error, int stride)
{
    bool has_fired = true;
    for (int n = 1; has_fired; n += stride) {
        struct scratch s = begin();
        struct message *before = message_new(base_path, "b", count, "you"), *m = message_new(base_path, "u", count, "you");
        if (others > 0)
            commit_run(&before->commit);
        size_t descriptors = scratch_descriptors();
        fault_arm(n, error);
        commit_run_on(&m->commit, threads);
        fault_disarm();
        has_fired = fault.has_fired;
        if (has_fired)
            cr_expect_eq(m->commit.result, -error, "call %d: %d after %s", n, m->commit.result, fault.calls);
        else
            cr_expect_eq(m->commit.result, 0);
        expect_all_or_none(&s, m, others);
        cr_expect_eq(scratch_descriptors(), descriptors, "call %d", n);
        free(before);
        free(m);
        scratch_end(&s);
    }
    fault_disarm();
}

Test(commit, whichever_call_fails_the_message_is_everywhere_or_nowhere)
{
    fail_each_call(1, 1, EIO, 1);
    fail_each_call(3, 1, ENOSPC, 1);
    fail_each_call(34, 1, EMFILE, 13); /* the last two are frugal */
}

Test(commit, whichever_call_fails_while_maildirs_are_made)
{
    fail_each_call(1, 0, EIO, 1);
    fail_each_call(2, 0, ENOSPC, 1);
}

/* Which of the calls it is that fails differs from run to run then. */
Test(commit, whichever_call_fails_on_threads)
{
    threads = parallel_new(8);
    fail_each_call(3, 1, ENOSPC, 1);
    fail_each_call(40, 1, EMFILE, 41);
    parallel_free(threads);
}

/* A directory whose sync failed for one message is no reason to trust it for another. */
Test(commit, who_relied_on_a_failed_sync_tries_again)
{
    for (int round = 0; round < 2; round++) {
        struct scratch s = begin();
        struct message *a = message_new(base_path, "a", 1, "you");
        struct message *b = message_new(base_path, "b", 1, "you");
        struct message *c = message_new(base_path, "c", 1, "you");
        commit_run(&a->commit);
        free(a);
        a = message_new(base_path, "d", 1, "you");
        a->commit.next = &b->commit;
        b->commit.next = &c->commit;
        fault_arm(0, 0);
        fault_fail('D', EIO);
        commit_run_on(&a->commit, threads);
        fault_disarm();
        cr_expect_eq(a->commit.result, -EIO);
        cr_expect_eq(b->commit.result, 0);
        cr_expect_eq(c->commit.result, 0);
        cr_expect_str_eq(calls_that_write(), "wwwdddrrrDD");
        expect_files(&s, "you0", 3);
        free(a);
        free(b);
        free(c);
        scratch_end(&s);
        threads = parallel_new(2);
    }
}

/* The number of the rename among the calls of one message for one mailbox that exists. */
static int number_of_rename(void)
{
    struct message *m = message_new(base_path, "n", 1, "you");
    fault_arm(0, 0);
    commit_run(&m->commit);
    fault_disarm();
    cr_assert_eq(m->commit.result, 0);
    free(m);
    return (int)(strchr(fault.calls, 'r') - fault.calls) + 1;
}

/* A rename that knows no RENAME_NOREPLACE: link and unlink do the same. */
Test(commit, an_old_file_system_gets_links)
{
    static const int errors[] = { EINVAL, ENOSYS };
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct scratch s = begin();
        struct message *m = message_new(base_path, "u", 1, "you"), *again = message_new(base_path, "u", 1, "you");
        struct message *first = message_new(base_path, "f", 1, "you");
        commit_run(&first->commit); /* makes the Maildir */
        int number = number_of_rename();
        fault_arm(number, errors[i]);
        commit_run(&m->commit);
        fault_disarm();
        cr_expect(fault.has_fired && m->commit.result == 0);
        expect_files(&s, "you0", 3);
        fault_arm(number, errors[i]);
        commit_run(&again->commit);
        fault_disarm();
        cr_expect_eq(again->commit.result, -EEXIST, "it does not replace either");
        expect_files(&s, "you0", 3);
        free(first);
        free(m);
        free(again);
        scratch_end(&s);
    }
}
