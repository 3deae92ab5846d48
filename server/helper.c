#include "server/helper.h"
#include "protocol/mem.h"
#include "server/bind.h"
#include "server/listener_spec.h"
#include "server/sandbox.h"
#include "server/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_TIME_S = 5, CHILD_FD = 3 };

enum request_kind { REQUEST_OPEN, REQUEST_BIND, REQUEST_REFRESH };

struct request {
    int kind, port;
    char text[PATH_MAX];
};

/* Our end; set once, before there are threads. */
static int helper_fd = -1;
static pthread_mutex_t helper_mutex = PTHREAD_MUTEX_INITIALIZER; /* one question at a time */

/* ------------------------------------------------------------ one message with a descriptor */

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static bool send_answer(int socket, int result)
{
    union control control = { 0 };
    struct iovec io = { &result, sizeof result };
    struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
    if (result >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        *c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof result), .cmsg_level = SOL_SOCKET,
                               .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(c), &result, sizeof result);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof result;
}

/* The descriptor, or -errno. */
static int receive_answer(int socket)
{
    union control control = { 0 };
    int result = -EIO, fd = -EIO;
    struct iovec io = { &result, sizeof result };
    struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.room,
                              .msg_controllen = sizeof control.room };
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof result)
        return -EIO;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return result < 0 ? result : fd;
}

/* ------------------------------------------------------------ the helper itself */

struct helper {
    char *file;             /* main.cf */
    char **settings;
    size_t setting_count;
    struct config *config;  /* values only; NULL: to be read */
    struct problems problems;
    struct buf files;       /* those that may be opened, each with a NUL behind it */
};

/* What only root can write, in a directory that only root can write. */
static bool is_roots(const char *path)
{
    char copy[PATH_MAX];
    struct stat st;
    if (strlen(path) >= sizeof copy)
        return false;
    memcpy(copy, path, strlen(path) + 1);
    return stat(path, &st) == 0 && st.st_uid == 0 && (st.st_mode & 022) == 0
           && stat(dirname(copy), &st) == 0 && st.st_uid == 0 && (st.st_mode & 022) == 0;
}

static void add_file(void *context, const char *file)
{
    struct helper *h = context;
    buf_append(&h->files, file, strlen(file) + 1);
}

static void read_config(struct helper *h)
{
    if (h->config != NULL || !is_roots(h->file))
        return;
    h->config = config_load_values(h->file, (const char *const *)h->settings, h->setting_count,
                                   &h->problems);
    buf_clear(&h->files);
    add_file(h, h->file);
    tls_each_file(&h->config->params, h->config->maps, &h->problems, add_file, h);
    problems_fini(&h->problems);
    h->problems = (struct problems){ 0 };
}

static void forget_config(struct helper *h)
{
    config_release(h->config);
    h->config = NULL;
    buf_clear(&h->files);
}

static int answer_open(struct helper *h, const char *path)
{
    bool is_named = false;
    struct stat st;
    for (size_t i = 0; i < h->files.len; i += strlen(h->files.at + i) + 1)
        is_named |= strcmp(h->files.at + i, path) == 0;
    if (!is_named || !is_roots(path))
        return -EACCES;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return -EACCES;
}

static bool is_endpoint(const struct listener_spec *spec, const char *host, int port)
{
    bool is_any = strcmp(spec->host, "*") == 0
                  && (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0);
    return spec->kind == LISTEN_TCP && spec->port == port
           && (is_any || strcmp(spec->host, host) == 0);
}

static int answer_bind(struct helper *h, const char *host, int port)
{
    struct ip ip;
    for (size_t i = 0; h->config != NULL && i < h->config->listener_count; i++)
        if (is_endpoint(&h->config->listeners[i], host, port) && ip_parse(span_of(host), &ip))
            return bind_tcp(&ip, port);
    return -EACCES;
}

static int answer(struct helper *h, const struct request *request)
{
    if (request->kind == REQUEST_REFRESH)
        forget_config(h);
    read_config(h);
    if (request->kind == REQUEST_OPEN)
        return answer_open(h, request->text);
    return request->kind == REQUEST_BIND ? answer_bind(h, request->text, request->port) : -ENOENT;
}

static void serve(struct helper *h)
{
    static struct request request;
    for (;;) {
        ssize_t n = recv(CHILD_FD, &request, sizeof request, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != sizeof request || memchr(request.text, '\0', sizeof request.text) == NULL)
            return; /* the server has ended */
        int result = answer(h, &request);
        bool is_sent = send_answer(CHILD_FD, result);
        if (result >= 0)
            close(result);
        if (!is_sent)
            return;
    }
}

/* Reads what root may read, binds what root may bind, and nothing else. */
static bool keep_two_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    const unsigned kept = 1U << CAP_DAC_READ_SEARCH | 1U << CAP_NET_BIND_SERVICE;
    struct __user_cap_data_struct data[2] = { { .effective = kept, .permitted = kept } };
    return syscall(SYS_capset, &header, data) == 0;
}

static void ignore_signals(void)
{
    static const int numbers[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGPIPE };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        signal(numbers[i], SIG_IGN); /* it ends when the server does */
}

static _Noreturn void be_helper(const struct config *config, int socket)
{
    struct helper h = { .file = xstrdup(config->file), .settings = config->settings,
                        .setting_count = config->setting_count };
    ignore_signals();
    prctl(PR_SET_NAME, "postern-helper");
    if (dup2(socket, CHILD_FD) != CHILD_FD || close_range(CHILD_FD + 1, ~0U, 0) != 0)
        _exit(1);
    if (keep_two_capabilities() && sandbox_enter_helper(&config->params) == NULL)
        serve(&h);
    _exit(0);
}

/* ------------------------------------------------------------ the server's side */

const char *helper_start(const struct config *config)
{
    int pair[2];
    struct timeval limit = { .tv_sec = ANSWER_TIME_S };
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return strerror(errno);
    pid_t pid = fork();
    if (pid == 0)
        be_helper(config, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return strerror(errno);
    }
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    helper_fd = pair[0];
    return NULL;
}

bool helper_is_there(void)
{
    return helper_fd >= 0;
}

static int ask(enum request_kind kind, const char *text, int port)
{
    if (helper_fd < 0 || strlen(text) >= PATH_MAX)
        return -EACCES;
    struct request *request = xcalloc(1, sizeof *request);
    request->kind = (int)kind;
    request->port = port;
    memcpy(request->text, text, strlen(text) + 1);
    pthread_mutex_lock(&helper_mutex);
    bool is_sent = send(helper_fd, request, sizeof *request, MSG_NOSIGNAL) == sizeof *request;
    int result = is_sent ? receive_answer(helper_fd) : -EIO;
    if (result == -EIO) /* it has died, or a late answer would be taken for the next one's */
        shutdown(helper_fd, SHUT_RDWR);
    pthread_mutex_unlock(&helper_mutex);
    free(request);
    return result;
}

int helper_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 || errno != EACCES || helper_fd < 0)
        return fd >= 0 ? fd : -errno;
    return ask(REQUEST_OPEN, path, 0);
}

int helper_stat(const char *path, struct stat *st)
{
    if (stat(path, st) == 0)
        return 0;
    if (errno != EACCES || helper_fd < 0)
        return -errno;
    int fd = ask(REQUEST_OPEN, path, 0);
    if (fd < 0)
        return fd;
    int rc = fstat(fd, st) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

int helper_bind(const char *host, int port)
{
    return ask(REQUEST_BIND, host, port);
}

void helper_refresh(void)
{
    if (helper_fd >= 0)
        ask(REQUEST_REFRESH, "", 0);
}
