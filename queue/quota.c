#include "queue/quota.h"
#include "protocol/buf.h"
#include "protocol/span.h"
#include "queue/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 16384 };

struct usage {
    int64_t bytes, count;
};

struct limits {
    int64_t bytes, count; /* 0: none */
};

/* "10000000S,1000C" */
static struct limits parse_limits(struct span line)
{
    struct limits limits = { 0 };
    while (line.len > 0) {
        size_t comma = span_find(line, ',');
        struct span item = span_trim(span_make(line.at, comma));
        uint64_t n;
        if (item.len > 1 && span_to_u64(span_make(item.at, item.len - 1), INT64_MAX, &n)) {
            if (item.at[item.len - 1] == 'S')
                limits.bytes = (int64_t)n;
            if (item.at[item.len - 1] == 'C')
                limits.count = (int64_t)n;
        }
        line = span_skip(line, comma + 1);
    }
    return limits;
}

/* The owner of the mailbox can write any figure: sums stop at the ends of the range. */
static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

static struct usage sum_lines(struct span text)
{
    struct usage usage = { 0 };
    while (text.len > 0) {
        size_t end = span_find(text, '\n');
        char line[64];
        long long bytes = 0, count = 0;
        snprintf(line, sizeof line, "%.*s", (int)end, text.at);
        if (sscanf(line, "%lld %lld", &bytes, &count) == 2) {
            usage.bytes = add(usage.bytes, bytes);
            usage.count = add(usage.count, count);
        }
        text = span_skip(text, end + 1);
    }
    return usage;
}

static bool is_over(struct limits limits, struct usage usage, uint64_t more_bytes)
{
    return (limits.bytes > 0 && add(usage.bytes, (int64_t)more_bytes) > limits.bytes)
           || (limits.count > 0 && add(usage.count, 1) > limits.count);
}

/* ",S=123" in the name saves a stat. */
static int64_t file_size(int dir_fd, const char *name)
{
    const char *mark = strstr(name, ",S=");
    struct stat st;
    if (mark != NULL && mark[3] >= '0' && mark[3] <= '9')
        return strtoll(mark + 3, NULL, 10);
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : 0;
}

static void count_directory(int parent_fd, const char *name, struct usage *usage)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        usage->bytes = add(usage->bytes, file_size(fd, e->d_name));
        usage->count++;
    }
    if (dir != NULL)
        closedir(dir);
}

static void count_folder(int folder_fd, struct usage *usage)
{
    count_directory(folder_fd, "new", usage);
    count_directory(folder_fd, "cur", usage);
}

/* The inbox and all ".Folder" directories; what is in ".Trash" does not count. */
static struct usage count_maildir(int maildir_fd)
{
    struct usage usage = { 0 };
    count_folder(maildir_fd, &usage);
    int fd = openat(maildir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] != '.' || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0
            || strcmp(e->d_name, ".Trash") == 0)
            continue;
        int folder = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
            continue;
        count_folder(folder, &usage);
        close(folder);
    }
    if (dir != NULL)
        closedir(dir);
    return usage;
}

/* In tmp/ first, then renamed: other writers of the same Maildir see old or new. */
static void rewrite(int maildir_fd, struct span first_line, struct usage usage)
{
    char name[64], text[256];
    snprintf(name, sizeof name, "tmp/maildirsize.%d", (int)getpid());
    int n = snprintf(text, sizeof text, "%.*s\n%lld %lld\n", (int)first_line.len, first_line.at,
                     (long long)usage.bytes, (long long)usage.count);
    if (n < 0 || (size_t)n >= sizeof text)
        return;
    int fd = openat(maildir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    int rc = fd_write_all(fd, text, (size_t)n);
    close(fd);
    if (rc != 0 || renameat(maildir_fd, name, maildir_fd, "maildirsize") != 0)
        unlinkat(maildir_fd, name, 0);
}

/* O_NONBLOCK: were it a FIFO, nobody's mail would be delivered any more. */
static int open_file(int new_fd, int flags)
{
    int fd = openat(new_fd, "../maildirsize", flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

static int read_file(int fd, char *text, size_t size, size_t *len)
{
    ssize_t n = read(fd, text, size);
    *len = n > 0 ? (size_t)n : 0;
    return n < 0 ? -errno : 0;
}

/* The sum says there is no room: count what is really there. */
static int check_again(int new_fd, struct span first_line, uint64_t size_bytes)
{
    int maildir_fd = openat(new_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (maildir_fd < 0)
        return -errno;
    struct usage usage = count_maildir(maildir_fd);
    rewrite(maildir_fd, first_line, usage);
    close(maildir_fd);
    return is_over(parse_limits(first_line), usage, size_bytes) ? -EDQUOT : 0;
}

static int check_text(int new_fd, struct span text, uint64_t size_bytes, bool *has_quota)
{
    struct span first = span_make(text.at, span_find(text, '\n'));
    struct limits limits = parse_limits(first);
    *has_quota = limits.bytes > 0 || limits.count > 0;
    struct usage usage = sum_lines(span_skip(text, first.len + 1));
    bool is_doubtful = is_over(limits, usage, size_bytes) || text.len == FILE_MAX_BYTES;
    return is_doubtful ? check_again(new_fd, first, size_bytes) : 0;
}

int quota_check(int new_fd, uint64_t size_bytes, bool *has_quota)
{
    char text[FILE_MAX_BYTES];
    size_t len = 0;
    *has_quota = false;
    int fd = open_file(new_fd, O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int rc = read_file(fd, text, sizeof text, &len);
    close(fd);
    return rc == 0 ? check_text(new_fd, span_make(text, len), size_bytes, has_quota) : rc;
}

static void append_line(int new_fd, const char *sign, uint64_t size_bytes)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s%llu %s1\n", sign, (unsigned long long)size_bytes, sign);
    int fd = open_file(new_fd, O_WRONLY | O_APPEND);
    if (fd < 0)
        return;
    fd_write_all(fd, line, (size_t)n); /* a lost line is found when it is counted again */
    close(fd);
}

void quota_add(int new_fd, uint64_t size_bytes)
{
    append_line(new_fd, "", size_bytes);
}

void quota_take_back(int new_fd, uint64_t size_bytes)
{
    append_line(new_fd, "-", size_bytes);
}
