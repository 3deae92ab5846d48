#include "queue/dir.h"

#include <errno.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Set once openat2() turns out to be missing (old kernel, strict container). */
static atomic_bool is_openat2_missing;

/* -errno for a path that nobody may follow, whatever the kernel can do; 0 otherwise. */
static int refusal(const char *path)
{
    if (*path == '\0')
        return -ENOENT;
    if (*path == '/')
        return -EXDEV;
    for (;;) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n == 0)
            return 0;
        if (n > NAME_MAX)
            return -ENAMETOOLONG;
        if (n == 2 && path[0] == '.' && path[1] == '.')
            return -EXDEV;
        path += n;
    }
}

/* The next part of *path, which refusal() has let through, into name; false at the end. */
static bool next_part(const char **path, char name[NAME_MAX + 1])
{
    *path += strspn(*path, "/");
    size_t n = strcspn(*path, "/");
    if (n == 0)
        return false;
    memcpy(name, *path, n);
    name[n] = '\0';
    *path += n;
    return true;
}

/* One part after the other, none of them a link: what openat2() does in one call. */
static int walk_beneath(int base_fd, const char *path, int flags)
{
    char name[NAME_MAX + 1];
    int fd = openat(base_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && next_part(&path, name)) {
        bool is_last = path[strspn(path, "/")] == '\0';
        int how = (is_last ? flags : O_PATH) | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
        int next = openat(fd, name, how);
        int error = errno;
        close(fd);
        errno = error;
        fd = next;
    }
    return fd >= 0 ? fd : -errno;
}

/* False: the kernel or a container does not let us; *fd is a descriptor or -errno otherwise. */
static bool try_openat2(int base_fd, const char *path, int flags, mode_t mode, unsigned resolve,
                        int *fd)
{
    struct open_how how = { .flags = (unsigned)(flags | O_CLOEXEC), .mode = mode,
                            .resolve = resolve | RESOLVE_NO_SYMLINKS };
    if (atomic_load(&is_openat2_missing))
        return false;
    long rc = syscall(SYS_openat2, base_fd, path, &how, sizeof how);
    *fd = rc >= 0 ? (int)rc : -errno;
    if (*fd != -ENOSYS && *fd != -EPERM)
        return true;
    atomic_store(&is_openat2_missing, true);
    return false;
}

int dir_open_beneath(int base_fd, const char *path, int flags)
{
    int fd = refusal(path);
    if (fd < 0 || try_openat2(base_fd, path, flags | O_DIRECTORY, 0, RESOLVE_BENEATH, &fd))
        return fd;
    return walk_beneath(base_fd, path, flags);
}

int dir_create_beside(int dir_fd, const char *sub, const char *name)
{
    char path[PATH_MAX];
    int fd, flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int n = snprintf(path, sizeof path, "../%s/%s", sub, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    if (try_openat2(dir_fd, path, flags, 0600, 0, &fd))
        return fd;
    snprintf(path, sizeof path, "../%s", sub);
    int sub_fd = openat(dir_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub_fd < 0)
        return -errno;
    fd = openat(sub_fd, name, flags, 0600);
    if (fd < 0)
        fd = -errno;
    close(sub_fd);
    return fd;
}

static int make_part(int parent_fd, const char *name)
{
    if (mkdirat(parent_fd, name, 0700) == 0)
        return fsync(parent_fd) == 0 ? 0 : -errno;
    return errno == EEXIST ? 0 : -errno;
}

int dir_make_beneath(int base_fd, const char *path)
{
    char name[NAME_MAX + 1];
    int rc = refusal(path);
    if (rc != 0)
        return rc;
    int fd = openat(base_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && rc == 0 && next_part(&path, name)) {
        rc = make_part(fd, name);
        int next = rc == 0 ? dir_open_beneath(fd, name, O_RDONLY) : -1;
        if (rc == 0 && next < 0)
            rc = next;
        close(fd);
        fd = next;
    }
    if (fd < 0)
        return rc != 0 ? rc : -errno;
    close(fd);
    return rc;
}

int dir_rename_new(int from_fd, const char *from, int to_fd, const char *to)
{
    if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (linkat(from_fd, from, to_fd, to, 0) != 0) /* a file system without NOREPLACE */
        return -errno;
    unlinkat(from_fd, from, 0);
    return 0;
}

int fd_write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOSPC;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_copy_all(int out_fd, int in_fd, uint64_t from, uint64_t end)
{
    off_t offset = (off_t)from;
    while ((uint64_t)offset < end) {
        ssize_t n = sendfile(out_fd, in_fd, &offset, (size_t)(end - (uint64_t)offset));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO; /* shorter than what we wrote ourselves */
    }
    return 0;
}

void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
