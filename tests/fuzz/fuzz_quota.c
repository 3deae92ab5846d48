/* maildirsize, which other programs write too. */
#include "fuzz/fuzz.h"
#include "queue/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/postern-fuzz-XXXXXX";
static int dir_fd, new_fd;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static void clean(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fuzz_begin(void)
{
    ENSURE(mkdtemp(dir) != NULL);
    atexit(clean);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ENSURE(mkdirat(dir_fd, "new", 0700) == 0 && mkdirat(dir_fd, "cur", 0700) == 0
           && mkdirat(dir_fd, "tmp", 0700) == 0);
    new_fd = openat(dir_fd, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ENSURE(new_fd >= 0);
}

void fuzz_one(struct fuzz *f)
{
    bool has_quota = false;
    int fd = openat(dir_fd, "maildirsize", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ENSURE(fd >= 0 && write(fd, f->text.at, f->text.len) == (ssize_t)f->text.len);
    close(fd);
    int rc = quota_check(new_fd, 1000, &has_quota);
    ENSURE(rc == 0 || rc == -EDQUOT);
    if (rc == 0 && has_quota) {
        quota_add(new_fd, 1000);
        quota_take_back(new_fd, 1000);
    }
}
