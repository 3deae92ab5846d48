#include "server/sandbox.h"
#include "protocol/mem.h"
#include "server/helper.h"
#include "server/listener_spec.h"
#include "server/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The sanitizers fork, trace and execute when they have something to say. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

/* ------------------------------------------------------------ seccomp */

/* What a server does: files, sockets, threads, time, memory. Names that this libseccomp or this
 * architecture does not know are passed over. */
static const char *const allowed_calls[] = {
    "accept", "accept4", "access", "arch_prctl", "bind", "brk", "chmod", "clock_getres",
    "clock_gettime", "clock_nanosleep", "close", "close_range", "connect", "copy_file_range",
    "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd2", "exit", "exit_group", "faccessat", "faccessat2",
    "fadvise64", "fallocate", "fchmod", "fchmodat", "fchown", "fcntl", "fdatasync", "flock",
    "fstat", "fstatfs", "fsync", "ftruncate", "futex", "get_robust_list", "getcpu", "getcwd",
    "getdents", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getpeername",
    "getpid", "getppid", "getrandom", "getrlimit", "getrusage", "getsockname", "getsockopt",
    "gettid", "gettimeofday", "getuid", "link", "linkat", "listen", "lseek", "lstat", "madvise",
    "membarrier", "mincore", "mkdir", "mkdirat", "mmap", "mprotect", "mremap", "msync", "munmap",
    "nanosleep", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "poll", "ppoll",
    "pread64", "preadv", "prlimit64", "pselect6", "pwrite64", "pwritev", "read", "readlink", "readlinkat",
    "readv", "recvfrom", "recvmmsg", "recvmsg", "rename", "renameat", "renameat2",
    "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigreturn", "rt_sigtimedwait", "sched_getaffinity", "sched_getparam",
    "sched_getscheduler", "sched_yield", "select", "sendfile", "sendmmsg", "sendmsg", "sendto",
    "set_robust_list", "set_tid_address", "setsockopt", "shutdown", "sigaltstack", "socketpair",
    "stat", "statfs", "statx", "sync_file_range", "sysinfo", "tgkill", "time", "timerfd_create",
    "timerfd_settime", "times", "truncate", "umask", "uname", "unlink", "unlinkat", "utimensat",
    "write", "writev",
};

static const char *const sanitizer_calls[] = {
    "clone", "clone3", "execve", "fork", "kill", "mlock", "munlock", "personality", "prctl",
    "process_vm_readv", "ptrace", "tkill", "vfork", "wait4", "waitid",
};

/* What only somebody who has taken over the process would do. */
static const char *const deadly_calls[] = {
    "acct", "add_key", "bpf", "delete_module", "execve", "execveat", "finit_module",
    "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "mount",
    "open_by_handle_at", "perf_event_open", "pivot_root", "process_vm_readv",
    "process_vm_writev", "ptrace", "reboot", "request_key", "setns", "swapoff", "swapon",
    "umount2", "unshare", "userfaultfd",
};

static bool add_calls(scmp_filter_ctx filter, uint32_t action, const char *const *names,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        if (number != __NR_SCMP_ERROR && seccomp_rule_add(filter, action, number, 0) != 0)
            return false;
    }
    return true;
}

/* Calls of which only some uses are a server's: the first argument must be one of these. */
static const struct {
    const char *call;
    unsigned argument;
    uint64_t value;
} narrow_calls[] = {
    { "socket", 0, AF_UNIX },         { "socket", 0, AF_INET },
    { "socket", 0, AF_INET6 },        { "socket", 0, AF_NETLINK },
    { "ioctl", 1, FIONBIO },          { "ioctl", 1, FIONREAD },
    { "ioctl", 1, FIOCLEX },          { "ioctl", 1, TCGETS },
    { "ioctl", 1, SIOCGIFINDEX },     { "ioctl", 1, SIOCGIFNAME },
    { "prctl", 0, PR_SET_NAME },      { "prctl", 0, PR_GET_NO_NEW_PRIVS },
    { "prctl", 0, 0x53564d41 /* PR_SET_VMA: the C library names its memory */ },
};

static bool add_narrow_calls(scmp_filter_ctx filter)
{
    const unsigned thread = CLONE_THREAD | CLONE_VM;
    bool is_good = true;
    for (size_t i = 0; i < ARRAY_LEN(narrow_calls) && is_good; i++)
        is_good = seccomp_rule_add(filter, SCMP_ACT_ALLOW,
                                   seccomp_syscall_resolve_name(narrow_calls[i].call), 1,
                                   SCMP_CMP(narrow_calls[i].argument, SCMP_CMP_EQ,
                                            narrow_calls[i].value)) == 0;
    /* threads, but no processes; clone3 hides its flags, and the C library can do without */
    return is_good
           && seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                               SCMP_CMP(0, SCMP_CMP_MASKED_EQ, thread, thread)) == 0;
}

static bool enter_seccomp(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (filter == NULL)
        return false;
    bool is_good = add_calls(filter, SCMP_ACT_ALLOW, allowed_calls, ARRAY_LEN(allowed_calls))
                   && add_narrow_calls(filter);
    if (is_good && IS_SANITIZED)
        is_good = add_calls(filter, SCMP_ACT_ALLOW, sanitizer_calls, ARRAY_LEN(sanitizer_calls));
    else if (is_good)
        is_good = add_calls(filter, SCMP_ACT_KILL_PROCESS, deadly_calls, ARRAY_LEN(deadly_calls));
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a long list */
    is_good = is_good && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_good;
}

/* ------------------------------------------------------------ Landlock */

/* Of later kernels than the header. */
enum { ACCESS_TRUNCATE = 1 << 14, ACCESS_IOCTL_DEV = 1 << 15, ABI_WITH_REFER = 2 };

static const uint64_t may_read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t may_write =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE
    | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR
    | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER
    | ACCESS_TRUNCATE;
static const uint64_t of_files = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE
                                 | LANDLOCK_ACCESS_FS_EXECUTE | ACCESS_TRUNCATE;

static uint64_t handled_by(int abi)
{
    uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    all |= abi >= ABI_WITH_REFER ? LANDLOCK_ACCESS_FS_REFER : 0;
    all |= abi >= 3 ? (uint64_t)ACCESS_TRUNCATE : 0;
    return all | (abi >= 5 ? (uint64_t)ACCESS_IOCTL_DEV : 0);
}

static int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi < ABI_WITH_REFER ? 0 : (int)abi; /* before, a message could not move to new/ */
}

/* A path that is not there cannot be allowed, and need not be. */
static bool allow(int ruleset, uint64_t handled, const char *path, uint64_t access)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return true;
    struct landlock_path_beneath_attr rule = { .allowed_access = access & handled,
                                               .parent_fd = fd };
    if (!S_ISDIR(st.st_mode))
        rule.allowed_access &= of_files;
    long rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
    return rc == 0;
}

static int new_ruleset(int abi)
{
    struct landlock_ruleset_attr attr = { .handled_access_fs = handled_by(abi) };
    return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
}

static bool restrict_by(int ruleset)
{
    bool is_good = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    close(ruleset);
    return is_good;
}

/* What the C library, the resolver, OpenSSL and the time zones read. Whole directories: files in
 * /etc are replaced while we run. */
static const struct {
    const char *path;
    bool is_writable;
} system_paths[] = {
    { "/etc", false },       { "/usr", false },        { "/lib", false },
    { "/lib64", false },     { "/proc/self", false },  { "/sys/devices/system/cpu", false },
    { "/dev/null", true },   { "/dev/urandom", false }, { "/dev/random", false },
    { "/run/systemd/resolve", false }, { "/run/resolvconf", false },
    { "/run/NetworkManager", false },
};

static bool enter_landlock(const struct sandbox *s, int abi)
{
    uint64_t handled = handled_by(abi);
    int ruleset = new_ruleset(abi);
    if (ruleset < 0)
        return false;
    bool is_good = true;
    for (size_t i = 0; i < ARRAY_LEN(system_paths) && is_good; i++)
        is_good = allow(ruleset, handled, system_paths[i].path,
                        system_paths[i].is_writable ? may_write : may_read);
    if (IS_SANITIZED) { /* their symbolizer runs, and reads this program */
        allow(ruleset, handled, "/usr", may_read | LANDLOCK_ACCESS_FS_EXECUTE);
        allow(ruleset, handled, "/proc/self/exe", may_read);
    }
    for (size_t i = 0; i < s->path_count && is_good; i++)
        is_good = allow(ruleset, handled, s->paths[i].path,
                        s->paths[i].is_writable ? may_write : may_read);
    if (is_good)
        return restrict_by(ruleset);
    close(ruleset);
    return false;
}

/* ------------------------------------------------------------ the configuration's directories */

static bool has(const struct sandbox *s, const char *path, bool is_writable)
{
    for (size_t i = 0; i < s->path_count; i++)
        if (strcmp(s->paths[i].path, path) == 0 && s->paths[i].is_writable >= is_writable)
            return true;
    return false;
}

static void add_real(struct sandbox *s, const char *path, const char *parameter,
                     bool is_writable)
{
    char *real = realpath(path, NULL);
    if (real != NULL && s->path_count < SANDBOX_PATHS_MAX && !has(s, real, is_writable))
        s->paths[s->path_count++] = (struct sandbox_path){
            arena_text(&s->memory, span_of(real)), parameter, is_writable };
    free(real);
}

/* The directory that a file lies in, and the one that a link leads to. */
static void add_parent(struct sandbox *s, const char *path, const char *parameter,
                       bool is_writable)
{
    char *real = realpath(path, NULL), *copy = xstrdup(path);
    add_real(s, dirname(copy), parameter, is_writable);
    if (real != NULL)
        add_real(s, dirname(real), parameter, is_writable);
    free(copy);
    free(real);
}

/* Mailboxes are mounted, made and moved while we run, and Landlock knows a directory, not a name:
 * the one above it, then, unless that is all there is or the configuration lies there. */
static void add_base(struct sandbox *s, const struct config *config)
{
    const char *base = config->params.virtual_mailbox_base;
    char *above = xstrdup(base), *file = xstrdup(config->file);
    const char *directory = dirname(above);
    if (strcmp(directory, "/") == 0 || strcmp(directory, dirname(file)) == 0)
        add_real(s, base, "virtual_mailbox_base", true);
    else
        add_parent(s, base, "virtual_mailbox_base", true);
    free(above);
    free(file);
}

struct walk {
    struct sandbox *sandbox;
    const char *parameter;
};

static void add_read_file(void *context, const char *file)
{
    struct walk *walk = context;
    add_parent(walk->sandbox, file, walk->parameter, false);
}

static void add_files(struct sandbox *s, const struct config *config)
{
    const struct params *p = &config->params;
    struct walk keys = { s, "smtpd_tls_cert_file" }, tables = { s, "a table" };
    struct problems problems = { 0 };
    add_parent(s, config->file, "main.cf", false);
    maps_each_file(config->maps, add_read_file, &tables);
    if (!helper_is_there()) /* else it reads them for us */
        tls_each_file(p, config->maps, &problems, add_read_file, &keys);
    problems_fini(&problems);
}

static bool is_below(const char *path, const char *directory)
{
    size_t len = strlen(directory);
    if (len == 1)
        return true; /* "/" */
    return strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static void collect(struct sandbox *s, const struct config *config)
{
    const struct params *p = &config->params;
    add_real(s, p->data_directory, "data_directory", true);
    add_real(s, p->queue_directory, "queue_directory", true);
    add_base(s, config);
    add_parent(s, p->control_socket, "control_socket", true);
    if (p->maillog_file[0] == '/' && !is_below(p->maillog_file, "/dev")) /* /dev/stdout is open */
        add_parent(s, p->maillog_file, "maillog_file", true);
    for (size_t i = 0; i < config->listener_count; i++)
        if (config->listeners[i].kind == LISTEN_UNIX)
            add_parent(s, config->listeners[i].host, "listen", true);
    add_files(s, config);
}

static bool covers(const struct sandbox *s, const struct sandbox_path *wanted)
{
    for (size_t i = 0; i < s->path_count; i++)
        if (s->paths[i].is_writable >= wanted->is_writable
            && is_below(wanted->path, s->paths[i].path))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(system_paths); i++)
        if (!wanted->is_writable && is_below(wanted->path, system_paths[i].path))
            return true;
    return false;
}

void sandbox_check(const struct sandbox *s, const struct config *config,
                   struct problems *problems)
{
    struct sandbox *fresh = xcalloc(1, sizeof *fresh);
    if (s->landlock_abi > 0)
        collect(fresh, config);
    for (size_t i = 0; i < fresh->path_count; i++)
        if (!covers(s, &fresh->paths[i]))
            problems_error(problems, fresh->paths[i].parameter,
                           "%s is outside of what the sandbox in force allows: a restart is "
                           "needed, not a reload", fresh->paths[i].path);
    arena_fini(&fresh->memory);
    free(fresh);
}

/* ------------------------------------------------------------ together */

static void forbid_core_dumps(void)
{
    const struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    /* a dump that goes to a program does not mind the limit: nothing is in it */
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "0", 1);
        close(fd);
    }
}

const char *sandbox_enter(struct sandbox *s, const struct config *config)
{
    *s = (struct sandbox){ .is_off = config->params.sandbox == SANDBOX_NO };
    if (s->is_off)
        return NULL;
    collect(s, config);
    forbid_core_dumps();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int abi = landlock_abi();
    s->landlock_abi = abi > 0 && enter_landlock(s, abi) ? abi : 0;
    s->has_seccomp = enter_seccomp();
    if (config->params.sandbox == SANDBOX_AUTO || (s->landlock_abi > 0 && s->has_seccomp))
        return NULL;
    return s->has_seccomp ? "this kernel has no Landlock (sandbox = yes)"
                          : "this kernel has no seccomp filters (sandbox = yes)";
}

const char *sandbox_enter_helper(const struct params *params)
{
    int abi = landlock_abi(), ruleset = -1;
    if (params->sandbox == SANDBOX_NO)
        return NULL;
    forbid_core_dumps();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (abi > 0 && (ruleset = new_ruleset(abi)) >= 0) {
        allow(ruleset, handled_by(abi), "/", may_read);
        restrict_by(ruleset);
    }
    return enter_seccomp() || params->sandbox == SANDBOX_AUTO ? NULL : "no seccomp";
}

void sandbox_describe(const struct sandbox *s, struct buf *out)
{
    if (s->is_off) {
        buf_puts(out, "off (sandbox = no)");
        return;
    }
    buf_puts(out, s->has_seccomp ? "seccomp" : "no seccomp: the kernel has none for us");
    if (s->landlock_abi > 0)
        buf_printf(out, ", Landlock %d", s->landlock_abi);
    else
        buf_puts(out, ", no Landlock: the kernel has none for us");
    buf_puts(out, ", no_new_privs, no core dumps");
}
