/* Greylist records in the store: decisions in batches, expiry in steps, the command line's verbs,
 * and what a store does after harm. */
#include "policy/greylist_store.h"
#include "protocol/mem.h"
#include "scratch_dir.h"

#include <sys/wait.h>

#ifdef __has_include
#if __has_include(<sanitizer/lsan_interface.h>)
#include <sanitizer/lsan_interface.h>
#endif
#endif
#if !defined(__SANITIZE_ADDRESS__) && defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

static const struct greylist_params params = {
    .delay_s = 300, .retry_window_s = 2 * 86400, .max_age_s = 35 * 86400,
    .auto_allow_clients = 5, .auto_allow_senders = 2,
};

enum { BEGIN_S = 1000000000 };

struct fixture {
    struct scratch scratch;
    char dir[300];
    struct store *store;
    struct greylist_store greylist;
    struct buf notes;
};

static void reopen(struct fixture *f)
{
    cr_assert_eq(store_open(f->dir, 8, &f->store, &f->notes), 0, "%s", buf_text(&f->notes));
    cr_assert_eq(greylist_store_begin(&f->greylist, f->store), 0);
}

static void shut(struct fixture *f)
{
    greylist_store_end(&f->greylist);
    store_close(f->store);
    f->store = NULL;
}

static struct fixture begin(void)
{
    struct fixture f = { .scratch = scratch_begin() };
    snprintf(f.dir, sizeof f.dir, "%s/store", f.scratch.path);
    reopen(&f);
    return f;
}

static void end(struct fixture *f)
{
    shut(f);
    buf_fini(&f->notes);
    scratch_end(&f->scratch);
}

static enum greylist_result decide(struct fixture *f, const char *key, int64_t now_s)
{
    struct greylist_request r = { .key = span_of(key), .params = params, .now_s = now_s };
    cr_assert_eq(greylist_store_decide(&f->greylist, &r), 0);
    return r.decision.result;
}

/* Runs a verb to its end; what it said, until the next call. */
static const char *command(struct fixture *f, const char *verb, const char *words, int64_t now_s)
{
    static struct buf out;
    struct greylist_command c = { .verb = verb, .words = words };
    buf_clear(&out);
    for (int i = 0; !c.is_done; i++) {
        cr_assert_lt(i, 1000, "it never ends");
        cr_assert_eq(greylist_store_command(&f->greylist, &c, &params, now_s, &out), 0);
    }
    return buf_text(&out);
}

#define ONE "192.0.2.0/24/s@a.test/you@example.org\t192.0.2.7"
#define TWO "192.0.2.0/24/s@a.test/two@example.org\t192.0.2.7"

/* ------------------------------------------------------------ decisions */

Test(greylist_store, decisions_survive_an_orderly_end)
{
    struct fixture f = begin();
    cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_WAIT);
    shut(&f);
    reopen(&f);
    cr_expect_eq(decide(&f, ONE, BEGIN_S + 300), GREYLIST_FIRST_PASS);
    cr_expect_eq(decide(&f, TWO, BEGIN_S + 300), GREYLIST_WAIT);
    end(&f);
}

Test(greylist_store, what_was_answered_survives_a_kill)
{
    struct fixture f = begin();
    shut(&f);
    pid_t child = fork();
    if (child == 0) { /* ends without closing anything */
        reopen(&f);
        for (int i = 0; i < 2000; i++) {
            char key[100];
            snprintf(key, sizeof key, "192.0.2.0/24/s@a.test/u%d@example.org\t192.0.2.7", i);
            if (decide(&f, key, BEGIN_S) != GREYLIST_WAIT)
                _exit(1);
        }
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(WIFSIGNALED(status));
    reopen(&f);
    for (int i = 0; i < 2000; i++) {
        char key[100];
        snprintf(key, sizeof key, "192.0.2.0/24/s@a.test/u%d@example.org\t192.0.2.7", i);
        cr_assert_eq(decide(&f, key, BEGIN_S + 400), GREYLIST_FIRST_PASS, "%d", i);
    }
    end(&f);
}

Test(greylist_store, a_batch_is_decided_in_order)
{
    struct fixture f = begin();
    struct greylist_request second = { .key = span_of(ONE), .params = params,
                                       .now_s = BEGIN_S + 300 };
    struct greylist_request first = { .next = &second, .key = span_of(ONE), .params = params,
                                      .now_s = BEGIN_S };
    cr_assert_eq(greylist_store_decide(&f.greylist, &first), 0);
    cr_expect_eq(first.decision.result, GREYLIST_WAIT);
    cr_expect_eq(second.decision.result, GREYLIST_FIRST_PASS);
    end(&f);
}

Test(greylist_store, another_process_is_kept_out)
{
    struct fixture f = begin();
    struct store *other = NULL;
    cr_expect_eq(store_open(f.dir, 8, &other, &f.notes), STORE_BUSY);
    cr_expect_null(other);
    end(&f);
}

/* ------------------------------------------------------------ expiry */

static int sweep(struct fixture *f, int64_t now_s, int *steps)
{
    struct store_key at = { 0 };
    int removed = 0;
    bool is_done = false;
    for (*steps = 0; !is_done; ++*steps)
        cr_assert_eq(greylist_store_sweep(&f->greylist, &params, now_s, &at, &removed, &is_done),
                     0);
    return removed;
}

Test(greylist_store, the_sweep_goes_in_steps_and_takes_only_what_is_old)
{
    struct fixture f = begin();
    int steps;
    for (int i = 0; i < 1500; i++) {
        char key[100];
        snprintf(key, sizeof key, "192.0.2.0/24/s@a.test/u%d@example.org\t192.0.2.7", i);
        decide(&f, key, i % 3 == 0 ? BEGIN_S + 86400 : BEGIN_S);
    }
    cr_expect_eq(sweep(&f, BEGIN_S + 2 * 86400, &steps), 0);
    cr_expect_geq(steps, 3, "more than one transaction");
    cr_expect_eq(sweep(&f, BEGIN_S + 2 * 86400 + 1, &steps), 1000);
    cr_expect_eq(decide(&f, "192.0.2.0/24/s@a.test/u3@example.org\t192.0.2.7",
                        BEGIN_S + 2 * 86400 + 1), GREYLIST_FIRST_PASS);
    end(&f);
}

/* ------------------------------------------------------------ the command line's verbs */

Test(greylist_store, the_allowed_pass_by_any_name_and_after_a_restart)
{
    static const char *const names[] = { "192.0.2.7", "192.0.2.0/24", "A.test", "s@a.test",
                                         "YOU@example.org" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct fixture f = begin();
        cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_WAIT);
        command(&f, "allow", names[i], BEGIN_S);
        cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_ALLOWED, "%s", names[i]);
        shut(&f);
        reopen(&f);
        cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_ALLOWED, "%s", names[i]);
        end(&f);
    }
}

Test(greylist_store, the_expected_pass_for_some_minutes)
{
    struct fixture f = begin();
    command(&f, "expect", "you@example.org 10", BEGIN_S);
    cr_expect_eq(decide(&f, ONE, BEGIN_S + 599), GREYLIST_ALLOWED);
    cr_expect_eq(decide(&f, TWO, BEGIN_S + 599), GREYLIST_WAIT);
    cr_expect_eq(decide(&f, ONE, BEGIN_S + 600), GREYLIST_WAIT);
    end(&f);
}

Test(greylist_store, verbs_that_make_no_sense_say_so)
{
    static const char *const rows[][2] = {
        { "allow", "" }, { "expect", "" },    { "expect", "you@example.org 0" },
        { "forget", "" }, { "expect", "you@example.org many" }, { "dance", "" },
    };
    struct fixture f = begin();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_not_null(strchr(command(&f, rows[i][0], rows[i][1], BEGIN_S), '?'), "%s %s",
                           rows[i][0], rows[i][1]);
    end(&f);
}

Test(greylist_store, list_shows_and_forget_forgets)
{
    struct fixture f = begin();
    decide(&f, ONE, BEGIN_S);
    decide(&f, TWO, BEGIN_S);
    const char *text = command(&f, "list", "", BEGIN_S + 60);
    cr_expect_not_null(strstr(text, "waits"), "%s", text);
    cr_expect_not_null(strstr(text, "first 60s ago"), "%s", text);
    cr_expect_not_null(strstr(text, "s@a.test/you@"), "%s", text);
    text = command(&f, "list", "two@", BEGIN_S + 60);
    cr_expect_null(strstr(text, "you@"), "%s", text);
    cr_expect_str_eq(command(&f, "forget", "two@", BEGIN_S + 60), "1 forgotten\n");
    cr_expect_eq(decide(&f, TWO, BEGIN_S + 400), GREYLIST_WAIT, "it begins anew");
    cr_expect_eq(decide(&f, ONE, BEGIN_S + 400), GREYLIST_FIRST_PASS);
    text = command(&f, "stats", "", BEGIN_S + 400);
    cr_expect_not_null(strstr(text, "triplets waiting   1\n"), "%s", text);
    cr_expect_not_null(strstr(text, "triplets passed    1\n"), "%s", text);
    end(&f);
}

Test(greylist_store, what_was_allowed_can_be_forgotten)
{
    struct fixture f = begin();
    command(&f, "allow", "a.test", BEGIN_S);
    command(&f, "forget", "a.test", BEGIN_S);
    cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_WAIT);
    end(&f);
}

/* A stranger's address is shown, not obeyed. */
Test(greylist_store, labels_are_escaped_where_they_are_listed)
{
    struct fixture f = begin();
    decide(&f, "192.0.2.0/24/\x1b[2J@a.test/you@example.org\t192.0.2.7", BEGIN_S);
    cr_expect_null(strchr(command(&f, "list", "", BEGIN_S), '\x1b'));
    end(&f);
}

/* ------------------------------------------------------------ harm */

/* Berkeley DB itself loses some 300 bytes when it gives a ruined environment up (5.3.28). */
static void reopen_ruined(struct fixture *f)
{
#ifdef __SANITIZE_ADDRESS__
    __lsan_disable();
#endif
    reopen(f);
#ifdef __SANITIZE_ADDRESS__
    __lsan_enable();
#endif
}

static void ruin(struct fixture *f, const char *name, size_t keep_bytes, bool with_noise)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(ftruncate(fd, (off_t)keep_bytes), 0);
    for (int i = 0; with_noise && i < 4096; i++)
        cr_assert_eq(pwrite(fd, &i, 1, i), 1);
    close(fd);
}

Test(greylist_store, a_ruined_store_is_set_aside_and_an_empty_one_serves)
{
    static const struct {
        const char *file;
        size_t keep_bytes;
        bool with_noise;
    } rows[] = { { "store.db", 0, false }, { "store.db", 8192, true }, { "store.db", 5000, false } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f = begin();
        for (int k = 0; k < 300; k++) {
            char key[100];
            snprintf(key, sizeof key, "192.0.2.0/24/s@a.test/u%d@example.org\t192.0.2.7", k);
            decide(&f, key, BEGIN_S);
        }
        shut(&f);
        ruin(&f, rows[i].file, rows[i].keep_bytes, rows[i].with_noise);
        buf_clear(&f.notes);
        reopen_ruined(&f);
        cr_expect_not_null(strstr(buf_text(&f.notes), "set aside"), "row %zu: %s", i,
                           buf_text(&f.notes));
        cr_expect_eq(decide(&f, ONE, BEGIN_S), GREYLIST_WAIT);
        end(&f);
    }
}

Test(greylist_store, at_most_two_ruined_stores_are_kept)
{
    struct fixture f = begin();
    struct buf names = { 0 };
    shut(&f);
    scratch_mkdir(&f.scratch, "store.bad-0000000001");
    scratch_mkdir(&f.scratch, "store.bad-0000000002");
    scratch_mkdir(&f.scratch, "store.bad-0000000003");
    ruin(&f, "store.db", 0, false);
    reopen_ruined(&f);
    scratch_list(&f.scratch, ".", &names);
    cr_expect_null(strstr(buf_text(&names), "bad-0000000001"), "%s", buf_text(&names));
    cr_expect_null(strstr(buf_text(&names), "bad-0000000002"), "%s", buf_text(&names));
    cr_expect_not_null(strstr(buf_text(&names), "bad-0000000003"), "%s", buf_text(&names));
    buf_fini(&names);
    end(&f);
}

Test(greylist_store, where_nothing_can_be_written_it_says_why)
{
    struct store *store = NULL;
    struct buf notes = { 0 };
    cr_expect_eq(store_open("/proc/no/such/place", 8, &store, &notes), ENOENT);
    cr_expect_null(store);
    buf_fini(&notes);
}
