#include "queue/maildir.h"
#include "queue/dir.h"
#include "queue/quota.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SWEEP_SECONDS = 36 * 3600, PATH_MAX_BYTES = 4096, COPY_BYTES = 65536 };

/* ------------------------------------------------------------ directories */

static int open_sub(int base_fd, const char *mailbox, const char *sub, int flags)
{
    char path[PATH_MAX_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", mailbox, sub);
    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    return dir_open_beneath(base_fd, path, flags);
}

static int make_maildir(int base_fd, const char *mailbox)
{
    static const char *const subs[] = { "tmp", "new", "cur" };
    char path[PATH_MAX_BYTES];
    int rc = 0;
    for (size_t i = 0; i < 3 && rc == 0; i++) {
        int n = snprintf(path, sizeof path, "%s/%s", mailbox, subs[i]);
        rc = n < 0 || (size_t)n >= sizeof path ? -ENAMETOOLONG : dir_make_beneath(base_fd, path);
    }
    return rc;
}

static int open_new(struct maildir_item *item)
{
    if (item->new_fd >= 0)
        return 0;
    item->new_fd = open_sub(item->base_fd, item->mailbox, "new", O_RDONLY);
    return item->new_fd < 0 ? item->new_fd : 0;
}

static int open_or_make(struct maildir_item *item)
{
    int rc = open_new(item);
    if (rc != -ENOENT)
        return rc;
    rc = make_maildir(item->base_fd, item->mailbox);
    return rc == 0 ? open_new(item) : rc;
}

/* ------------------------------------------------------------ content */

/* CR LF -> LF in place of writing as it is; *was_cr carries over from piece to piece. */
static int write_lf(int fd, struct span text, bool *was_cr, bool is_end)
{
    char out[COPY_BYTES];
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < text.len && rc == 0; i++) {
        char c = text.at[i];
        if (*was_cr && c != '\n')
            out[n++] = '\r';
        *was_cr = c == '\r';
        if (!*was_cr)
            out[n++] = c;
        if (n + 2 > sizeof out) {
            rc = fd_write_all(fd, out, n);
            n = 0;
        }
    }
    if (is_end && *was_cr)
        out[n++] = '\r';
    return rc == 0 ? fd_write_all(fd, out, n) : rc;
}

static int write_two(int fd, struct span a, struct span b)
{
    struct iovec parts[2] = { { (void *)(uintptr_t)a.at, a.len }, { (void *)(uintptr_t)b.at, b.len } };
    ssize_t n = writev(fd, parts, 2);
    if (n < 0)
        return -errno;
    if ((size_t)n == a.len + b.len)
        return 0;
    struct span rest = (size_t)n < a.len ? span_skip(a, (size_t)n) : span_make(NULL, 0);
    size_t done_b = (size_t)n > a.len ? (size_t)n - a.len : 0;
    int rc = fd_write_all(fd, rest.at, rest.len);
    return rc == 0 ? fd_write_all(fd, b.at + done_b, b.len - done_b) : rc;
}

static int copy_file_lf(int out_fd, const struct body *body)
{
    char piece[COPY_BYTES];
    bool was_cr = false;
    int rc = 0;
    for (off_t offset = 0; (uint64_t)offset < body->size_bytes && rc == 0;) {
        ssize_t n = pread(body->fd, piece, sizeof piece, offset);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        offset += n;
        rc = write_lf(out_fd, span_make(piece, (size_t)n), &was_cr,
                      (uint64_t)offset == body->size_bytes);
    }
    return rc;
}

static int write_content(struct maildir_item *item)
{
    const struct body *body = item->body;
    bool was_cr = false;
    struct span head = body->has_head ? span_make(NULL, 0) : item->head;
    if (!item->newline_is_lf && body->fd < 0)
        return write_two(item->fd, head, body->memory);
    int rc = item->newline_is_lf ? write_lf(item->fd, head, &was_cr, true)
                                 : fd_write_all(item->fd, head.at, head.len);
    if (rc != 0)
        return rc;
    if (body->fd < 0)
        return write_lf(item->fd, body->memory, &was_cr, true);
    return item->newline_is_lf ? copy_file_lf(item->fd, body)
                               : fd_copy_all(item->fd, body->fd, 0, body->size_bytes);
}

/* ------------------------------------------------------------ steps */

static bool can_move(const struct maildir_item *item)
{
    struct stat a, b;
    const struct body *body = item->body;
    return body->fd >= 0 && body->has_head && !item->newline_is_lf
           && fstat(body->fd, &a) == 0 && fstat(item->new_fd, &b) == 0 && a.st_dev == b.st_dev;
}

static void tmp_path(const struct maildir_item *item, char path[MAILDIR_NAME_MAX + 8])
{
    snprintf(path, MAILDIR_NAME_MAX + 8, "../tmp/%s", item->name);
}

static int create_file(const struct maildir_item *item)
{
    char path[MAILDIR_NAME_MAX + 8];
    tmp_path(item, path);
    int fd = dir_create_beside(item->new_fd, "tmp", item->name);
    bool is_mended = false;
    if (fd == -ENOENT) /* tmp/ alone was gone */
        is_mended = make_maildir(item->base_fd, item->mailbox) == 0;
    else if (fd == -EEXIST && item->is_lasting) /* may be half of it: never to be published */
        is_mended = unlinkat(item->new_fd, path, 0) == 0;
    return is_mended ? dir_create_beside(item->new_fd, "tmp", item->name) : fd;
}

static int write_file(struct maildir_item *item)
{
    if (can_move(item)) {
        item->is_moved_file = true;
        item->fd = item->body->fd;
        return 0;
    }
    item->fd = create_file(item);
    if (item->fd < 0)
        return item->fd;
    item->is_created = true;
    return write_content(item);
}

static void name_file(struct maildir_item *item)
{
    const struct body *body = item->body;
    item->size_bytes = body->fd >= 0 ? body->size_bytes : body->memory.len;
    if (!body->has_head)
        item->size_bytes += item->head.len;
    if (item->newline_is_lf) /* the size is not known yet: no ,S= */
        snprintf(item->name, sizeof item->name, "%s", item->unique);
    else
        snprintf(item->name, sizeof item->name, "%s,S=%llu", item->unique,
                 (unsigned long long)item->size_bytes);
}

static int sync_file(struct maildir_item *item)
{
    if (fdatasync(item->fd) != 0)
        return -errno;
    if (!item->is_moved_file)
        fd_close(&item->fd);
    return 0;
}

/* After each step: take back what is there on failure, keep nothing open if frugal. All Maildirs
 * have one owner, so that a quota of the file system is a full disk, not somebody's mailbox. */
static void end_step(struct maildir_item *item, int result)
{
    item->result = result == -EDQUOT && !item->is_over_quota ? -ENOSPC : result;
    if (result != 0)
        maildir_abort(item);
    if (result != 0 || item->is_frugal)
        maildir_close(item);
}

void maildir_write(struct maildir_item *item)
{
    item->new_fd = item->fd = -1;
    item->is_moved_file = item->is_created = item->is_published = item->is_settled = false;
    name_file(item);
    int rc = open_or_make(item);
    if (rc == 0)
        rc = quota_check(item->new_fd, item->size_bytes, &item->has_quota);
    item->is_over_quota = rc == -EDQUOT && item->has_quota;
    if (rc == 0)
        rc = write_file(item);
    if (rc == 0 && item->is_frugal) {
        rc = sync_file(item);
    } else if (rc == 0) { /* only a hint: the disk may begin while others are written */
        sync_file_range(item->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    end_step(item, rc);
}

void maildir_sync(struct maildir_item *item)
{
    if (item->result == 0 && item->fd >= 0)
        end_step(item, sync_file(item));
}

/* It is in new/ already; settling makes sure of it. The one made now is not needed. */
static int keep_delivered(struct maildir_item *item, const char *path)
{
    if (item->is_created)
        unlinkat(item->new_fd, path, 0);
    item->is_created = false;
    return 0;
}

static int publish(struct maildir_item *item)
{
    char path[MAILDIR_NAME_MAX + 8];
    int rc = open_new(item);
    tmp_path(item, path);
    if (rc == 0 && item->is_moved_file)
        rc = dir_rename_new(item->body->dir_fd, item->body->file_name, item->new_fd, item->name);
    else if (rc == 0)
        rc = dir_rename_new(item->new_fd, path, item->new_fd, item->name);
    if (rc == -EEXIST && item->is_lasting)
        return keep_delivered(item, path);
    item->is_published = rc == 0;
    if (rc == 0 && item->has_quota)
        quota_add(item->new_fd, item->size_bytes);
    return rc;
}

void maildir_publish(struct maildir_item *item)
{
    if (item->result == 0)
        end_step(item, publish(item));
}

void maildir_settle(struct maildir_item *item)
{
    if (item->result != 0)
        return;
    int rc = open_new(item);
    if (rc == 0 && fsync(item->new_fd) != 0)
        rc = -errno;
    item->is_settled = rc == 0;
    end_step(item, rc);
}

void maildir_abort(struct maildir_item *item)
{
    char path[MAILDIR_NAME_MAX + 8];
    tmp_path(item, path);
    if (!item->is_published && !item->is_created)
        return;
    if (open_new(item) == 0) {
        unlinkat(item->new_fd, item->is_published ? item->name : path, 0);
        if (item->is_published && item->has_quota)
            quota_take_back(item->new_fd, item->size_bytes);
    }
    item->is_published = item->is_created = false;
}

void maildir_close(struct maildir_item *item)
{
    if (item->is_moved_file)
        item->fd = -1;
    fd_close(&item->fd);
    fd_close(&item->new_fd);
}

void maildir_sweep(int base_fd, const char *mailbox)
{
    struct stat st;
    int fd = open_sub(base_fd, mailbox, "tmp", O_RDONLY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.' && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
            && S_ISREG(st.st_mode) && st.st_mtime < time(NULL) - SWEEP_SECONDS)
            unlinkat(fd, e->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}
