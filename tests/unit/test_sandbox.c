/* The sandbox, tried from inside: each question is asked in a child that has entered it. */
#include "server/sandbox.h"
#include "scratch_dir.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct scratch scratch, outside;

static struct config *load(const char *more)
{
    struct problems problems = { 0 };
    char *file = xprintf("%s/main.cf", scratch.path);
    char *text = xprintf("myhostname = mx.example.org\nmaillog_file = log/mail.log\n"
                         "data_directory = data\nqueue_directory = spool\n"
                         "virtual_mailbox_base = mail\nlisten = 127.0.0.1:2525\n"
                         "smtpd_relay_restrictions = reject_unauth_destination\n%s", more);
    struct config *config = config_load(file, text, &problems);
    for (const struct problem *p = problems.first; p != NULL; p = p->next)
        if (p->level == PROBLEM_ERROR)
            cr_log_error("%s: %s", p->subject, p->text);
    cr_assert_eq(problems.error_count, 0);
    problems_fini(&problems);
    free(file);
    free(text);
    return config;
}

static void begin(void)
{
    scratch = scratch_begin();
    outside = scratch_begin();
    scratch_write(&scratch, "main.cf", SPAN_LITERAL("x\n"));
    scratch_write(&scratch, "table", SPAN_LITERAL("x\n"));
    scratch_write(&outside, "secret", SPAN_LITERAL("x\n"));
    scratch_mkdir(&scratch, "data");
    scratch_mkdir(&scratch, "spool");
    scratch_mkdir(&scratch, "mail");
    scratch_mkdir(&scratch, "log");
}

static void end(void)
{
    scratch_end(&scratch);
    scratch_end(&outside);
}

TestSuite(sandbox, .init = begin, .fini = end, .timeout = 60);

/* What ask() returns in a sandboxed child, 0 to 255; -SIGNAL if that ended it. */
static int inside(const char *more, int (*ask)(void))
{
    struct config *config = load(more);
    pid_t pid = fork();
    if (pid == 0) {
        static struct sandbox sandbox;
        if (sandbox_enter(&sandbox, config) != NULL)
            _exit(250);
        if (!sandbox.is_off && (sandbox.landlock_abi == 0 || !sandbox.has_seccomp))
            _exit(251); /* this kernel has less than the test needs */
        _exit(ask());
    }
    int status = 0;
    waitpid(pid, &status, 0);
    config_release(config);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int try_open(const struct scratch *where, const char *name, int flags)
{
    char *path = xprintf("%s/%s", where->path, name);
    int fd = open(path, flags | O_CLOEXEC, 0600), error = errno;
    free(path);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : error;
}

static int reads_secret(void)
{
    return try_open(&outside, "secret", O_RDONLY);
}

static int writes_outside(void)
{
    return try_open(&outside, "new", O_WRONLY | O_CREAT);
}

static int reads_main_cf(void)
{
    return try_open(&scratch, "main.cf", O_RDONLY);
}

static int writes_main_cf(void)
{
    return try_open(&scratch, "main.cf", O_WRONLY);
}

static int writes_below_a_new_base(void)
{
    if (renameat(scratch.fd, "var/mail", scratch.fd, "var/away") != 0
        || mkdirat(scratch.fd, "var/mail", 0700) != 0)
        return errno;
    return try_open(&scratch, "var/mail/x", O_WRONLY | O_CREAT);
}

static int writes_where_it_must(void)
{
    static const char *const names[] = { "data/x", "spool/x", "mail/x", "log/mail.log" };
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && error == 0; i++)
        error = try_open(&scratch, names[i], O_WRONLY | O_CREAT | O_TRUNC);
    return error;
}

/* As a Maildir does it. */
static int moves_between_directories(void)
{
    if (mkdirat(scratch.fd, "mail/tmp", 0700) != 0 || mkdirat(scratch.fd, "mail/new", 0700) != 0
        || try_open(&scratch, "mail/tmp/a", O_WRONLY | O_CREAT) != 0)
        return errno;
    if (linkat(scratch.fd, "mail/tmp/a", scratch.fd, "mail/new/a", 0) != 0
        || renameat(scratch.fd, "mail/tmp/a", scratch.fd, "spool/b") != 0)
        return errno;
    return 0;
}

static int reads_system_files(void)
{
    static const char *const names[] = { "/etc/passwd", "/dev/urandom", "/proc/self/status",
                                         "/usr/share/zoneinfo" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (open(names[i], O_RDONLY | O_CLOEXEC) < 0 && errno != ENOENT)
            return errno;
    return open("/dev/null", O_RDWR | O_CLOEXEC) < 0 ? errno : 0;
}

Test(sandbox, files_outside_of_the_configuration_are_not_there)
{
    cr_expect_eq(inside("", reads_secret), EACCES);
    cr_expect_eq(inside("", writes_outside), EACCES);
    cr_expect_eq(inside("sandbox = no\n", reads_secret), 0);
}

Test(sandbox, mailboxes_may_be_moved_or_mounted_meanwhile)
{
    scratch_mkdir(&scratch, "var");
    scratch_mkdir(&scratch, "var/mail");
    cr_expect_eq(inside("virtual_mailbox_base = var/mail\n", writes_below_a_new_base), 0);
}

Test(sandbox, the_configuration_is_read_and_not_written)
{
    cr_expect_eq(inside("", reads_main_cf), 0);
    cr_expect_eq(inside("", writes_main_cf), EACCES);
    cr_expect_eq(inside("", reads_system_files), 0);
}

Test(sandbox, mail_can_be_written)
{
    cr_expect_eq(inside("", writes_where_it_must), 0);
    cr_expect_eq(inside("", moves_between_directories), 0);
}

static int opens_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) >= 0 ? 0 : errno;
}

static int opens_tcp_socket(void)
{
    return socket(AF_INET6, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT ? 0 : errno;
}

static int mounts(void)
{
    return mount("none", "/", "tmpfs", 0, NULL) == 0 ? 0 : errno;
}

static int becomes_root(void)
{
    return setuid(0) == 0 ? 0 : errno;
}

static void *nothing(void *arg)
{
    return arg;
}

static int makes_thread(void)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, nothing, NULL);
    return rc != 0 ? rc : pthread_join(thread, NULL);
}

static int shows_state(void)
{
    struct rlimit core = { 1, 1 };
    getrlimit(RLIMIT_CORE, &core);
    return core.rlim_max == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
}

Test(sandbox, only_the_calls_of_a_server)
{
    cr_expect_eq(inside("", opens_packet_socket), ENOSYS);
    cr_expect_eq(inside("", opens_tcp_socket), 0);
    cr_expect_eq(inside("", becomes_root), ENOSYS);
    cr_expect_eq(inside("", makes_thread), 0);
    cr_expect_eq(inside("", shows_state), 0);
    int ended = inside("", mounts); /* the sanitizers' build forgives */
    cr_expect(ended == -SIGSYS || ended == ENOSYS, "%d", ended);
}

static int errors_after(const char *before, const char *after)
{
    struct problems problems = { 0 };
    struct config *old = load(before), *fresh = load(after);
    static struct sandbox sandbox;
    int fds[2], count = 255;
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        sandbox_enter(&sandbox, old);
        sandbox_check(&sandbox, fresh, &problems);
        _exit(problems.error_count);
    }
    int status;
    waitpid(pid, &status, 0);
    count = WEXITSTATUS(status);
    close(fds[0]);
    close(fds[1]);
    config_release(old);
    config_release(fresh);
    return count;
}

Test(sandbox, a_reload_cannot_widen_it)
{
    char *mail = xprintf("virtual_mailbox_base = %s/mail\n", outside.path);
    char *table = xprintf("virtual_mailbox_maps = texthash:%s/secret\n", outside.path);
    scratch_mkdir(&outside, "mail");
    cr_expect_eq(errors_after("", ""), 0);
    cr_expect_eq(errors_after("", "virtual_mailbox_base = spool\n"), 0);
    cr_expect_eq(errors_after("", "virtual_mailbox_maps = texthash:table\n"), 0);
    cr_expect_eq(errors_after("", mail), 1);
    cr_expect_eq(errors_after("", table), 1);
    cr_expect_eq(errors_after(mail, ""), 1, "mail was not among them before");
    cr_expect_eq(errors_after("sandbox = no\n", mail), 0);
    free(mail);
    free(table);
}
