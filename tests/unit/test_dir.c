#include "queue/dir.h"

#include "tests/unit/scratch_dir.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* From now on this process has no openat2(), as in an old kernel (ENOSYS) or a strict container
 * (EPERM). */
static void take_openat2_away(unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { ARRAY_LEN(code), code };
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    cr_assert_eq(syscall(SYS_openat2, -1, "", NULL, 0), -1);
    cr_assert_eq(errno, (int)error);
}

/* base/ with all that could lead out of it, and a directory beside it. */
static struct scratch make_tree(int *base_fd)
{
    struct scratch s = scratch_begin();
    scratch_mkdir(&s, "outside");
    scratch_mkdir(&s, "base");
    scratch_mkdir(&s, "base/a");
    scratch_mkdir(&s, "base/a/b");
    scratch_mkdir(&s, "base/..c");
    scratch_write(&s, "base/file", SPAN_LITERAL("x"));
    cr_assert_eq(symlinkat("a", s.fd, "base/inner"), 0);
    cr_assert_eq(symlinkat("../outside", s.fd, "base/outer"), 0);
    cr_assert_eq(symlinkat("/", s.fd, "base/root"), 0);
    cr_assert_eq(symlinkat("b", s.fd, "base/a/link"), 0);
    cr_assert_eq(symlinkat("loop", s.fd, "base/loop"), 0);
    *base_fd = openat(s.fd, "base", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(*base_fd, 0);
    return s;
}

#define LONG_64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define LONG    LONG_64 LONG_64 LONG_64 LONG_64 /* 256: one too many */

static const struct {
    const char *path;
    bool is_good;
    int error; /* 0: any, because the kernel's differ */
} paths[] = {
    { "a", true, 0 },
    { "a/b", true, 0 },
    { "a//b/", true, 0 },
    { "./a/./b", true, 0 },
    { ".", true, 0 },
    { "..c", true, 0 }, /* a name like others */
    { "", false, ENOENT },
    { "missing", false, ENOENT },
    { "a/missing/b", false, ENOENT },
    { "file", false, ENOTDIR },
    { "file/a", false, ENOTDIR },
    { "..", false, EXDEV },
    { "../outside", false, EXDEV },
    { "a/..", false, EXDEV }, /* it would stay inside: refused all the same */
    { "a/../a", false, EXDEV },
    { "a/../../outside", false, EXDEV },
    { "./..", false, EXDEV },
    { "/", false, EXDEV },
    { "/tmp", false, EXDEV },
    { "//a", false, EXDEV },
    { "inner", false, 0 },
    { "inner/b", false, 0 },
    { "a/link", false, 0 },
    { "outer", false, 0 },
    { "outer/.", false, 0 },
    { "root", false, 0 },
    { "root/tmp", false, 0 },
    { "loop", false, 0 },
    { LONG, false, ENAMETOOLONG },
    { "a/" LONG, false, ENAMETOOLONG },
    { LONG "/../a", false, ENAMETOOLONG },
};

static void check_paths(void)
{
    int base_fd;
    struct scratch s = make_tree(&base_fd);
    size_t before = scratch_descriptors();
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        errno = 0; /* what is left in it must not become the result */
        int fd = dir_open_beneath(base_fd, paths[i].path, O_RDONLY);
        cr_expect_eq(fd > 0, paths[i].is_good, "\"%s\": %d", paths[i].path, fd);
        cr_expect(fd != 0 && (paths[i].error == 0 || fd == -paths[i].error), "\"%s\": %d", paths[i].path, fd);
        if (fd > 0)
            close(fd);
    }
    cr_expect_eq(scratch_descriptors(), before);
    close(base_fd);
    scratch_end(&s);
}

Test(dir, nothing_leads_out_of_the_base)
{
    check_paths();
}

Test(dir, nothing_leads_out_of_the_base_on_an_old_kernel)
{
    take_openat2_away(ENOSYS);
    check_paths();
}

Test(dir, nothing_leads_out_of_the_base_in_a_strict_container)
{
    take_openat2_away(EPERM);
    check_paths();
}

Test(dir, links_are_refused_as_loops)
{
    int base_fd;
    struct scratch s = make_tree(&base_fd);
    cr_expect_eq(dir_open_beneath(base_fd, "inner", O_RDONLY), -ELOOP);
    cr_expect_eq(dir_open_beneath(base_fd, "inner/b", O_RDONLY), -ELOOP);
    close(base_fd);
    scratch_end(&s);
}

static void check_opened(void)
{
    int base_fd;
    struct scratch s = make_tree(&base_fd);
    struct stat opened, wanted;
    int fd = dir_open_beneath(base_fd, "a/b", O_RDONLY);
    cr_assert_gt(fd, 0);
    cr_assert(fstat(fd, &opened) == 0 && fstatat(s.fd, "base/a/b", &wanted, 0) == 0);
    cr_expect(opened.st_ino == wanted.st_ino && opened.st_dev == wanted.st_dev);
    cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    cr_expect_eq(fsync(fd), 0, "open enough to be synced");
    close(fd);
    close(base_fd);
    scratch_end(&s);
}

Test(dir, the_directory_that_was_named_is_opened)
{
    check_opened();
    take_openat2_away(ENOSYS);
    check_opened();
}

/* ------------------------------------------------------------ making */

static const struct {
    const char *path;
    bool is_good;
} makes[] = {
    { "new", true },           { "x/y/z", true },      { "a/b", true },  { "a/b/c/", true },
    { "./d//e", true },        { "..", false },        { "../p", false }, { "a/../p", false },
    { "x/../../outside/p", false }, { "/tmp/p", false }, { "file", false }, { "file/p", false },
    { "inner/p", false },      { "outer/p", false },   { "root/tmp/p", false }, { "a/link/p", false },
    { "loop", false },         { LONG, false },        { "p/" LONG, false },
};

static void check_making(void)
{
    int base_fd;
    struct scratch s = make_tree(&base_fd);
    struct buf outside = { 0 };
    size_t before = scratch_descriptors();
    for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
        errno = 0;
        int rc = dir_make_beneath(base_fd, makes[i].path);
        cr_expect_eq(rc == 0, makes[i].is_good, "\"%s\": %d", makes[i].path, rc);
        cr_expect_leq(rc, 0);
        int fd = dir_open_beneath(base_fd, makes[i].path, O_RDONLY);
        cr_expect_eq(fd > 0, makes[i].is_good, "\"%s\": %d", makes[i].path, fd);
        if (fd > 0)
            close(fd);
    }
    cr_expect_str_eq(scratch_list(&s, "outside", &outside), "");
    cr_expect_eq(faccessat(s.fd, "base/p", F_OK, 0), -1, "a bad path makes nothing");
    cr_expect_eq(scratch_descriptors(), before);
    buf_fini(&outside);
    close(base_fd);
    scratch_end(&s);
}

Test(dir, directories_are_made_below_the_base_only)
{
    check_making();
}

Test(dir, directories_are_made_below_the_base_only_on_an_old_kernel)
{
    take_openat2_away(ENOSYS);
    check_making();
}

Test(dir, what_is_made_belongs_to_us_alone)
{
    int base_fd;
    struct scratch s = make_tree(&base_fd);
    struct stat st;
    umask(0);
    cr_assert_eq(dir_make_beneath(base_fd, "m/n"), 0);
    cr_assert_eq(dir_make_beneath(base_fd, "m/n"), 0, "once more is no error");
    cr_expect(fstatat(s.fd, "base/m", &st, 0) == 0 && (st.st_mode & 07777) == 0700);
    cr_expect(fstatat(s.fd, "base/m/n", &st, 0) == 0 && (st.st_mode & 07777) == 0700);
    close(base_fd);
    scratch_end(&s);
}

/* ------------------------------------------------------------ files beside */

static void check_beside(void)
{
    struct scratch s = scratch_begin();
    struct stat st;
    scratch_mkdir(&s, "new");
    scratch_mkdir(&s, "tmp");
    scratch_mkdir(&s, "elsewhere");
    cr_assert_eq(symlinkat("elsewhere", s.fd, "link"), 0);
    cr_assert_eq(symlinkat("../elsewhere/target", s.fd, "tmp/dangling"), 0);
    int new_fd = openat(s.fd, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    umask(0);
    int fd = dir_create_beside(new_fd, "tmp", "file");
    cr_assert_gt(fd, 0);
    cr_expect(fstatat(s.fd, "tmp/file", &st, 0) == 0 && (st.st_mode & 07777) == 0600);
    cr_expect_eq(write(fd, "x", 1), 1);
    cr_expect_eq(dir_create_beside(new_fd, "tmp", "file"), -EEXIST);
    cr_expect(scratch_holds(&s, "tmp/file", SPAN_LITERAL("x")), "and it is not emptied");
    cr_expect_eq(dir_create_beside(new_fd, "missing", "file"), -ENOENT);
    cr_expect_lt(dir_create_beside(new_fd, "link", "file"), 0);
    cr_expect_lt(dir_create_beside(new_fd, "tmp", "dangling"), 0);
    cr_expect_eq(dir_create_beside(new_fd, "tmp", LONG), -ENAMETOOLONG);
    cr_expect_eq(scratch_count(&s, "elsewhere"), 0);
    close(fd);
    close(new_fd);
    scratch_end(&s);
}

Test(dir, a_file_beside_is_new_and_not_behind_a_link)
{
    check_beside();
}

Test(dir, a_file_beside_is_new_and_not_behind_a_link_on_an_old_kernel)
{
    take_openat2_away(ENOSYS);
    check_beside();
}

Test(dir, a_name_that_no_path_can_hold_is_too_long)
{
    struct scratch s = scratch_begin();
    static char name[PATH_MAX + 1];
    memset(name, 'x', PATH_MAX);
    cr_expect_eq(dir_create_beside(s.fd, "tmp", name), -ENAMETOOLONG);
    cr_expect_eq(dir_create_beside(s.fd, name, "x"), -ENAMETOOLONG);
    scratch_end(&s);
}

/* ------------------------------------------------------------ writing */

Test(dir, all_bytes_are_written_or_an_error_tells_why)
{
    struct scratch s = scratch_begin();
    static char bytes[300000];
    memset(bytes, 'y', sizeof bytes);
    int fd = openat(s.fd, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_expect_eq(fd_write_all(fd, NULL, 0), 0);
    cr_expect_eq(fd_write_all(fd, bytes, sizeof bytes), 0);
    cr_expect(scratch_holds(&s, "f", span_make(bytes, sizeof bytes)));
    const struct rlimit limit = { 300100, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(fd_write_all(fd, bytes, 200), -EFBIG, "100 of them fit");
    close(fd);
    cr_expect_eq(fd_write_all(fd, "x", 1), -EBADF);
    scratch_end(&s);
}

Test(dir, a_pipe_takes_its_bytes_in_portions)
{
    static char bytes[200000], copy[200000];
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    memset(bytes, 'z', sizeof bytes);
    pid_t child = fork();
    if (child == 0)
        _exit(fd_write_all(ends[1], bytes, sizeof bytes) == 0 ? 0 : 1);
    close(ends[1]);
    size_t got = 0;
    for (ssize_t n; (n = read(ends[0], copy + got, sizeof copy - got)) > 0;)
        got += (size_t)n;
    cr_expect_eq(got, sizeof bytes);
    cr_expect_eq(memcmp(bytes, copy, sizeof bytes), 0);
    close(ends[0]);
}
