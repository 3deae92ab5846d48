/* scratch_dir - a directory for one test, and few words to look into it.
 * scratch_end() removes it with all it holds. */
#ifndef POSTERN_TESTS_SCRATCH_DIR_H
#define POSTERN_TESTS_SCRATCH_DIR_H

#include "protocol/buf.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch {
    char path[256];
    int fd;
};

static inline struct scratch scratch_begin(void)
{
    struct scratch s;
    const char *tmp = getenv("TMPDIR");
    snprintf(s.path, sizeof s.path, "%s/postern-unit-XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(s.path));
    s.fd = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(s.fd, 0);
    return s;
}

static inline int scratch_remove(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static inline void scratch_end(struct scratch *s)
{
    close(s->fd);
    nftw(s->path, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_mkdir(const struct scratch *s, const char *name)
{
    cr_assert_eq(mkdirat(s->fd, name, 0700), 0, "%s", name);
}

static inline void scratch_write(const struct scratch *s, const char *name, struct span text)
{
    int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0, "%s", name);
    cr_assert_eq(write(fd, text.at, text.len), (ssize_t)text.len);
    close(fd);
}

/* The whole file; NULL at, if there is none. */
static inline struct buf scratch_read(const struct scratch *s, const char *name)
{
    struct buf text = { 0 };
    int fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC);
    for (ssize_t n = fd >= 0; n > 0;) {
        char *room = buf_reserve(&text, 65536);
        n = read(fd, room, 65536);
        text.len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    return text;
}

static inline bool scratch_holds(const struct scratch *s, const char *name, struct span text)
{
    struct buf found = scratch_read(s, name);
    bool is_same = span_equals(buf_span(&found), text);
    buf_fini(&found);
    return is_same;
}

static inline int scratch_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, sorted, each with a blank behind it; "-" if there is none. */
static inline const char *scratch_list(const struct scratch *s, const char *name, struct buf *out)
{
    char *names[2048];
    size_t count = 0;
    int fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    buf_clear(out);
    if (dir == NULL) {
        buf_puts(out, "-");
        return buf_text(out);
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL && count < ARRAY_LEN(names);)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            names[count++] = xstrdup(e->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, scratch_compare);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s ", names[i]);
        free(names[i]);
    }
    return buf_text(out);
}

static inline size_t scratch_count(const struct scratch *s, const char *name)
{
    struct buf names = { 0 };
    struct span rest = span_of(scratch_list(s, name, &names));
    size_t count = 0;
    while (span_next_word(&rest).len > 0)
        count++;
    if (strcmp(buf_text(&names), "-") == 0)
        count = 0;
    buf_fini(&names);
    return count;
}

/* How many descriptors this process has open. */
static inline size_t scratch_descriptors(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        closedir(dir);
    return count;
}

#endif
