/* tracer - watches the system calls of a running server, all its threads, and does something at
 * the N-th that counts:
 *
 *   tracer PID DIR log
 *       writes each down, in the order in which they ended; what is sent to a client when it
 *       begins, so that a line above it tells of something that was over by then
 *   tracer PID DIR kill N CALL...
 *       SIGKILL before the N-th begins
 *   tracer PID DIR fail N ERRNO CALL...
 *       the N-th fails with ERRNO and does nothing
 *
 * CALL: the name of a system call, or a group:
 *   open write sync rename mkdir unlink    of files below DIR, but for DIR/log and DIR/data/,
 *                                          which are no mail
 *   send                                   bytes to a socket
 * or, by its own name, one that makes or asks sockets. (epoll_ctl is left out: libuv ends the
 * program when it fails.)
 * Says "ready" when it watches, and each call it has acted upon. Ends with the server, or when
 * it is killed itself; then the server goes on as if nothing had been.
 * Exit 77: not possible here (another machine than x86-64, or no permission). */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, NAME_BYTES = 4096, PATH_BYTES = 8200, TEXT_BYTES = 20000, THREADS_MAX = 256,
       CALLS_MAX = 16 };

#ifndef __x86_64__
int main(void)
{
    fprintf(stderr, "tracer: knows only x86-64\n");
    return SKIPPED;
}
#else

/* Where a call's file is: a descriptor, or a directory and a name. */
enum shape { SHAPE_FD, SHAPE_OUT_FD, SHAPE_NAME, SHAPE_TWO_NAMES, SHAPE_PATH };

static const struct call {
    long number;
    const char *name, *group;
    enum shape shape;
} calls[] = {
    { SYS_open, "open", "open", SHAPE_PATH },
    { SYS_openat, "openat", "open", SHAPE_NAME },
    { SYS_openat2, "openat2", "open", SHAPE_NAME },
    { SYS_write, "write", "write", SHAPE_FD },
    { SYS_writev, "writev", "write", SHAPE_FD },
    { SYS_pwrite64, "pwrite64", "write", SHAPE_FD },
    { SYS_sendfile, "sendfile", "write", SHAPE_OUT_FD },
    { SYS_sendmsg, "sendmsg", "write", SHAPE_FD },
    { SYS_sendto, "sendto", "write", SHAPE_FD },
    { SYS_fsync, "fsync", "sync", SHAPE_FD },
    { SYS_fdatasync, "fdatasync", "sync", SHAPE_FD },
    { SYS_rename, "rename", "rename", SHAPE_PATH },
    { SYS_renameat, "renameat", "rename", SHAPE_TWO_NAMES },
    { SYS_renameat2, "renameat2", "rename", SHAPE_TWO_NAMES },
    { SYS_linkat, "linkat", "rename", SHAPE_TWO_NAMES },
    { SYS_mkdirat, "mkdirat", "mkdir", SHAPE_NAME },
    { SYS_unlinkat, "unlinkat", "unlink", SHAPE_NAME },
    { SYS_socket, "socket", "network", SHAPE_FD },
    { SYS_connect, "connect", "network", SHAPE_FD },
    { SYS_getsockopt, "getsockopt", "network", SHAPE_FD },
    { SYS_accept4, "accept4", "network", SHAPE_FD },
    { SYS_read, "read", "read", SHAPE_FD },
    { SYS_setsockopt, "setsockopt", "network", SHAPE_FD },
    { SYS_getsockname, "getsockname", "network", SHAPE_FD },
    { SYS_getpeername, "getpeername", "network", SHAPE_FD },
};

static struct {
    pid_t pid;
    const char *dir;
    enum { MODE_LOG, MODE_KILL, MODE_FAIL } mode;
    long countdown;
    int error;
    const char *wanted[CALLS_MAX];
    int wanted_count;
} task;

/* call: the one that counts, between its beginning and its end. */
static struct thread {
    pid_t id;
    const struct call *call;
    bool is_failing, is_awaited; /* awaited: it has not stopped yet */
    char text[TEXT_BYTES];
} threads[THREADS_MAX];

static int awaited;
static bool is_ready; /* until then nothing counts */

static struct thread *thread_find(pid_t id)
{
    for (size_t i = 0; i < THREADS_MAX; i++)
        if (threads[i].id == id)
            return &threads[i];
    return NULL;
}

static struct thread *thread_of(pid_t id)
{
    struct thread *t = thread_find(id);
    if (t != NULL)
        return t;
    t = thread_find(0);
    if (t == NULL)
        abort();
    *t = (struct thread){ .id = id };
    return t;
}

/* ------------------------------------------------------------ the call's arguments */

static void fd_path(int fd, char path[NAME_BYTES])
{
    char link[64];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/%d/cwd" : "/proc/%d/fd/%d", task.pid, fd);
    ssize_t n = readlink(link, path, NAME_BYTES - 1);
    path[n > 0 ? n : 0] = '\0';
}

static void read_memory(uint64_t at, char *out, size_t size)
{
    size_t page_left = 4096 - at % 4096;
    struct iovec to = { out, size - 1 < page_left ? size - 1 : page_left },
                 from = { (void *)(uintptr_t)at, to.iov_len };
    ssize_t n = process_vm_readv(task.pid, &to, 1, &from, 1, 0);
    out[n > 0 ? n : 0] = '\0';
}

static void name_path(int dir_fd, uint64_t name_at, char path[PATH_BYTES])
{
    char dir[NAME_BYTES] = "", name[NAME_BYTES];
    read_memory(name_at, name, sizeof name);
    if (name[0] != '/')
        fd_path(dir_fd, dir);
    snprintf(path, PATH_BYTES, "%s%s%s", dir, name[0] != '/' ? "/" : "", name);
}

/* "CALL PATH" or "CALL PATH PATH"; no path here has a blank. */
static void describe(const struct call *call, const uint64_t args[6], char text[TEXT_BYTES])
{
    char path[PATH_BYTES] = "", second[PATH_BYTES] = "";
    switch (call->shape) {
    case SHAPE_FD:
    case SHAPE_OUT_FD: fd_path((int)args[0], path); break;
    case SHAPE_PATH: name_path(AT_FDCWD, args[0], path); break;
    case SHAPE_NAME: name_path((int)args[0], args[1], path); break;
    case SHAPE_TWO_NAMES:
        name_path((int)args[0], args[1], path);
        name_path((int)args[2], args[3], second);
        break;
    }
    snprintf(text, TEXT_BYTES, "%s %s%s%s", call->name, path, second[0] != '\0' ? " " : "", second);
}

static const char *path_in(const char *text)
{
    return strchr(text, ' ') + 1;
}

static bool is_socket(const char *text)
{
    return strncmp(path_in(text), "socket:", 7) == 0;
}

/* What a client is told: its first bytes, at the place of the path. */
static void describe_sent(const struct call *call, const uint64_t args[6], char text[TEXT_BYTES])
{
    char bytes[60], first[sizeof(uint64_t) + 1];
    uint64_t at = args[1];
    if (call->number == SYS_writev) {
        read_memory(args[1], first, sizeof first);
        memcpy(&at, first, sizeof at);
    }
    read_memory(at, bytes, sizeof bytes);
    bytes[strcspn(bytes, "\r\n")] = '\0';
    snprintf(text, TEXT_BYTES, "send %s", bytes);
}

static bool is_below_dir(const char *text)
{
    const char *path = path_in(text);
    size_t len = strlen(task.dir);
    return strncmp(path, task.dir, len) == 0 && path[len] == '/'
           && strcmp(path + len, "/log") != 0 && strncmp(path + len, "/data/", 6) != 0;
}

static bool is_wanted(const char *name, const char *group)
{
    for (int i = 0; i < task.wanted_count; i++)
        if (strcmp(task.wanted[i], name) == 0 || strcmp(task.wanted[i], group) == 0)
            return true;
    return task.wanted_count == 0;
}

/* Does this call count? */
static bool counts(const struct call *call, const char *text)
{
    bool is_write = strcmp(call->group, "write") == 0;
    if (is_write && is_socket(text))
        return is_wanted("send", "send");
    if (strcmp(call->group, "network") == 0 || strcmp(call->group, "read") == 0)
        return is_wanted(call->name, call->group) && task.mode != MODE_LOG
               && (call->number != SYS_read || is_socket(text));
    return is_below_dir(text) && is_wanted(call->name, call->group);
}

/* ------------------------------------------------------------ what is done */

static void say(const char *text)
{
    printf("%s\n", text);
    fflush(stdout);
}

static void fail_call(pid_t id, struct thread *t)
{
    long nothing = -1;
    ptrace(PTRACE_POKEUSER, id, offsetof(struct user, regs.orig_rax), nothing);
    t->is_failing = true;
}

static void begin_call(pid_t id, struct thread *t, const struct call *call,
                       const uint64_t args[6])
{
    describe(call, args, t->text);
    if (!is_ready || !counts(call, t->text))
        return;
    if (is_socket(t->text) && strcmp(call->group, "write") == 0)
        describe_sent(call, args, t->text);
    t->call = call;
    if (task.mode == MODE_LOG && strncmp(t->text, "send ", 5) == 0)
        say(t->text);
    if (task.mode == MODE_LOG || --task.countdown != 0)
        return;
    say(t->text);
    if (task.mode == MODE_KILL)
        kill(task.pid, SIGKILL);
    else
        fail_call(id, t);
}

static void end_call(pid_t id, struct thread *t, int64_t result)
{
    char line[TEXT_BYTES + 32];
    if (t->is_failing)
        ptrace(PTRACE_POKEUSER, id, offsetof(struct user, regs.rax), (long)-task.error);
    t->is_failing = false;
    if (task.mode != MODE_LOG || t->call == NULL || strncmp(t->text, "send ", 5) == 0)
        return;
    snprintf(line, sizeof line, "%s = %lld", t->text, (long long)result);
    say(line);
}

static void on_call(pid_t id)
{
    struct __ptrace_syscall_info info;
    struct thread *t = thread_of(id);
    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info) <= 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
        end_call(id, t, info.exit.rval);
        t->call = NULL;
        return;
    }
    t->call = NULL;
    for (size_t i = 0; info.op == PTRACE_SYSCALL_INFO_ENTRY && i < sizeof calls / sizeof *calls; i++)
        if ((uint64_t)calls[i].number == info.entry.nr)
            begin_call(id, t, &calls[i], (const uint64_t *)info.entry.args);
}

/* ------------------------------------------------------------ the threads */

static bool seize(pid_t id)
{
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
    return ptrace(PTRACE_SEIZE, id, NULL, options) == 0
           && ptrace(PTRACE_INTERRUPT, id, NULL, NULL) == 0;
}

/* The threads that are not under watch yet; each stops once, and is when it goes on. How many there
 * were, -1: none may be watched. */
static int attach(void)
{
    char path[64];
    int count = 0, refused = 0;
    snprintf(path, sizeof path, "/proc/%d/task", task.pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        pid_t id = (pid_t)atoi(e->d_name);
        if (id <= 0 || thread_find(id) != NULL)
            continue;
        if (seize(id)) {
            thread_of(id)->is_awaited = true;
            count++;
        } else {
            refused++; /* gone, or its parent was under watch already */
        }
    }
    if (dir != NULL)
        closedir(dir);
    awaited += count;
    return count > 0 || refused == 0 ? count : -1;
}

static void go_on(pid_t id, int status)
{
    int stop = WSTOPSIG(status), event = status >> 16;
    long signal = 0;
    if (stop == (SIGTRAP | 0x80))
        on_call(id);
    else if (event == 0)
        signal = stop; /* on its way to the server */
    ptrace(PTRACE_SYSCALL, id, NULL, signal);
}

/* All threads have stopped once: those that came meanwhile are still to be found. */
static void settle(struct thread *t)
{
    if (!t->is_awaited)
        return;
    t->is_awaited = false;
    if (--awaited > 0 || attach() > 0)
        return;
    is_ready = true;
    say("ready");
}

static void watch(void)
{
    int status;
    pid_t id;
    while ((id = waitpid(-1, &status, __WALL)) > 0) {
        struct thread *t = thread_of(id);
        bool is_over = !WIFSTOPPED(status);
        settle(t);
        if (is_over)
            *t = (struct thread){ 0 };
        else
            go_on(id, status);
        if (is_over && id == task.pid)
            return;
    }
}

static bool read_task(int argc, char **argv)
{
    if (argc < 4)
        return false;
    task.pid = atoi(argv[1]);
    task.dir = argv[2];
    int i = 4;
    if (strcmp(argv[3], "log") == 0)
        return argc == 4;
    task.mode = strcmp(argv[3], "kill") == 0 ? MODE_KILL : MODE_FAIL;
    if (i < argc)
        task.countdown = atol(argv[i++]);
    if (task.mode == MODE_FAIL && i < argc)
        task.error = atoi(argv[i++]);
    for (; i < argc && task.wanted_count < CALLS_MAX; i++)
        task.wanted[task.wanted_count++] = argv[i];
    return task.wanted_count > 0;
}

int main(int argc, char **argv)
{
    if (!read_task(argc, argv)) {
        fprintf(stderr, "usage: tracer PID DIR log|kill N CALL...|fail N ERRNO CALL...\n");
        return 64;
    }
    if (attach() <= 0) {
        fprintf(stderr, "tracer: cannot watch %d: %s\n", task.pid, strerror(errno));
        return errno == EPERM ? SKIPPED : 69;
    }
    watch();
    return 0;
}
#endif
