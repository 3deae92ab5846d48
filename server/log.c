#include "server/log.h"
#include "protocol/mem.h"
#include "server/log_json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Where lines go at present. */
struct target {
    int fd;
    bool is_owned;    /* fd is ours to close */
    bool is_syslog;   /* one datagram a line, with priority */
    bool is_journal;  /* no time stamp */
    bool is_json;
    bool may_block;   /* a pipe, terminal or socket: ask poll() before writing */
    char name[64];    /* syslog_name */
    char host[128];
};

struct log_sink {
    pthread_mutex_t mutex; /* guards target */
    atomic_bool is_json;   /* target's, for whoever prepares a line */
    struct target target;
    unsigned long long pid;
};

enum { FACILITY_MAIL = 2, SEVERITY_INFO = 6, PIPE_BUF_BYTES = 4096 };

static int open_syslog(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static enum log_target target_of(const struct params *p)
{
    if (p->log_target != LOG_TARGET_AUTO)
        return (enum log_target)p->log_target;
    return p->maillog_file[0] != '\0' && strcmp(p->maillog_file, "/dev/stdout") != 0
               ? LOG_TARGET_FILE
               : LOG_TARGET_STDOUT;
}

/* $JOURNAL_STREAM names the journal's end by device and inode: it may be inherited by somebody
 * whose output goes elsewhere. */
static bool is_journal(const struct stat *st)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2
           && dev == (unsigned long long)st->st_dev && ino == (unsigned long long)st->st_ino;
}

static const char *target_start(struct target *sink, const struct params *p)
{
    enum log_target target = target_of(p);
    struct stat st;
    sink->is_syslog = target == LOG_TARGET_SYSLOG;
    sink->is_owned = target != LOG_TARGET_STDOUT;
    if (target == LOG_TARGET_STDOUT)
        sink->fd = STDOUT_FILENO;
    else if (target == LOG_TARGET_SYSLOG)
        sink->fd = open_syslog();
    else
        sink->fd = open(p->maillog_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (sink->fd < 0)
        return strerror(errno);
    bool is_known = fstat(sink->fd, &st) == 0;
    sink->may_block = !is_known || !S_ISREG(st.st_mode);
    sink->is_journal = target == LOG_TARGET_STDOUT && is_known && is_journal(&st);
    sink->is_json = p->log_format == LOG_FORMAT_JSON;
    snprintf(sink->name, sizeof sink->name, "%s", p->syslog_name);
    if (gethostname(sink->host, sizeof sink->host - 1) != 0)
        snprintf(sink->host, sizeof sink->host, "localhost");
    sink->host[strcspn(sink->host, ".")] = '\0';
    return NULL;
}

struct log_sink *log_sink_open(const struct params *params, const char **error)
{
    struct log_sink *sink = xcalloc(1, sizeof *sink);
    *error = target_start(&sink->target, params);
    sink->pid = (unsigned long long)getpid();
    atomic_init(&sink->is_json, sink->target.is_json);
    if (*error == NULL) {
        pthread_mutex_init(&sink->mutex, NULL);
        return sink;
    }
    free(sink);
    return NULL;
}

const char *log_sink_reopen(struct log_sink *sink, const struct params *params)
{
    struct target fresh = { 0 };
    const char *error = target_start(&fresh, params);
    if (error != NULL)
        return error;
    pthread_mutex_lock(&sink->mutex);
    if (sink->target.is_owned)
        close(sink->target.fd);
    sink->target = fresh;
    atomic_store(&sink->is_json, fresh.is_json);
    pthread_mutex_unlock(&sink->mutex);
    return NULL;
}

void log_sink_close(struct log_sink *sink)
{
    if (sink == NULL)
        return;
    if (sink->target.is_owned)
        close(sink->target.fd);
    pthread_mutex_destroy(&sink->mutex);
    free(sink);
}

void log_init(struct log *log, struct log_sink *sink)
{
    *log = (struct log){ .sink = sink, .lines = { .max = LOG_BACKLOG_MAX } };
}

void log_fini(struct log *log)
{
    log_flush(log);
    buf_fini(&log->members);
    buf_fini(&log->lines);
}

void log_member(struct log *log, const char *name, struct span value)
{
    if (atomic_load(&log->sink->is_json))
        json_member(&log->members, name, value);
}

/* Once a second is enough for the text of the time. */
static const char *stamp(struct log *log)
{
    struct timespec now;
    struct tm local;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != log->stamp_second) {
        log->stamp_second = now.tv_sec;
        localtime_r(&now.tv_sec, &local);
        strftime(log->stamp, sizeof log->stamp, "%b %e %H:%M:%S", &local);
    }
    return log->stamp;
}

static void put_texts(struct buf *out, const char *const *texts)
{
    for (; *texts != NULL; texts++)
        buf_puts(out, *texts);
}

static void put_number(struct buf *out, uint64_t number)
{
    char digits[20], *at = digits + sizeof digits;
    do {
        *--at = (char)('0' + number % 10);
    } while ((number /= 10) > 0);
    buf_append(out, at, (size_t)(digits + sizeof digits - at));
}

/* Every line has one, so it is put together without printf. */
static void put_prefix(struct log *log, struct buf *out, const char *component, uint64_t number)
{
    pthread_mutex_lock(&log->sink->mutex);
    const struct target *to = &log->sink->target;
    if (to->is_syslog)
        buf_printf(out, "<%d>%s ", FACILITY_MAIL * 8 + SEVERITY_INFO, stamp(log));
    else if (!to->is_journal)
        put_texts(out, (const char *[]){ stamp(log), " ", to->host, " ", NULL });
    put_texts(out, (const char *[]){ to->name, "/", component, "[", NULL });
    bool has_number = number != 0 && !to->is_syslog;
    put_number(out, has_number ? number : log->sink->pid);
    buf_puts(out, "]: ");
    pthread_mutex_unlock(&log->sink->mutex);
}

/* Without the closing brace; to syslog behind its priority and name, as its readers want. */
static void put_json(struct log *log, const char *component, uint64_t number, struct span text)
{
    struct timespec now;
    struct buf *out = &log->lines;
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&log->sink->mutex);
    const struct target *to = &log->sink->target;
    if (to->is_syslog)
        buf_printf(out, "<%d>%s %s: ", FACILITY_MAIL * 8 + SEVERITY_INFO, stamp(log), to->name);
    buf_puts(out, "{\"time\":");
    json_time(out, &now);
    json_member(out, "host", span_of(to->host));
    json_member(out, "name", span_of(to->name));
    pthread_mutex_unlock(&log->sink->mutex);
    json_member(out, "component", span_of(component));
    if (number != 0)
        buf_printf(out, ",\"id\":%llu", (unsigned long long)number);
    buf_add(out, buf_span(&log->members));
    json_member(out, "text", text);
    buf_putc(out, '}');
}

static void put_plain(struct log *log, const char *component, uint64_t number, struct span text)
{
    put_prefix(log, &log->lines, component, number);
    buf_add(&log->lines, text);
}

void log_line(struct log *log, const char *component, uint64_t number, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    log_line_v(log, component, number, format, ap);
    va_end(ap);
}

void log_line_v(struct log *log, const char *component, uint64_t number, const char *format,
                va_list ap)
{
    char text[LOG_LINE_MAX];
    int n = vsnprintf(text, sizeof text, format, ap);
    size_t before = log->lines.len, len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof text)
        len = sizeof text - 1;
    bool is_json = atomic_load(&log->sink->is_json);
    (is_json ? put_json : put_plain)(log, component, number, span_make(text, len));
    buf_clear(&log->members);
    if (!buf_putc(&log->lines, '\n')) { /* the backlog is full: not even half a line stays */
        log->lines.len = before;
        log->lines.is_full = false;
        log->dropped++;
    }
}

static bool is_writable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
}

/* How much of the lines goes out now: what a pipe surely takes without blocking, one line for a
 * datagram, everything for a file. */
static size_t portion(const struct target *to, struct span lines)
{
    size_t n = lines.len;
    if (to->is_syslog)
        return span_find(lines, '\n') + 1;
    if (to->may_block && n > PIPE_BUF_BYTES) {
        n = span_find_last(span_make(lines.at, PIPE_BUF_BYTES), '\n') + 1;
        if (n > PIPE_BUF_BYTES)
            n = PIPE_BUF_BYTES;
    }
    return n;
}

/* Bytes that need no further try; 0: not now. What cannot be written at all is lost. */
static size_t write_some(const struct target *to, struct span lines)
{
    size_t n = portion(to, lines);
    if (to->may_block && !is_writable(to->fd))
        return 0;
    ssize_t written = write(to->fd, lines.at, to->is_syslog ? n - 1 : n);
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return written > 0 && !to->is_syslog ? (size_t)written : n;
}

static void write_lines(struct log *log)
{
    size_t done = 0, n = 1;
    pthread_mutex_lock(&log->sink->mutex);
    while (n > 0 && done < log->lines.len) {
        n = write_some(&log->sink->target, span_skip(buf_span(&log->lines), done));
        done += n;
    }
    pthread_mutex_unlock(&log->sink->mutex);
    buf_drop(&log->lines, done);
}

void log_flush(struct log *log)
{
    if (log->lines.len == 0)
        return;
    write_lines(log);
    if (log->lines.len > 0 || log->dropped == 0)
        return;
    unsigned long long dropped = log->dropped;
    log->dropped = 0;
    log_line(log, "master", 0, "warning: %llu log lines were lost: their reader was too slow",
             dropped);
}
