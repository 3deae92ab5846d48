/* scratch - a directory of a test's own, and the programs that put files there.
 * Owns:   the directory and all in it; scratch_fini() removes it.
 * Errors: a failed preparation fails the test.
 * Thread: the test's. */
#ifndef POSTERN_TEST_SCRATCH_H
#define POSTERN_TEST_SCRATCH_H

#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct scratch {
    char dir[64];
    char path[512]; /* what scratch_path() and scratch_write() gave last */
};

static inline struct scratch scratch_new(void)
{
    struct scratch s = { .dir = "/tmp/postern-unit-XXXXXX" };
    cr_assert_not_null(mkdtemp(s.dir), "%s", strerror(errno));
    return s;
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int kind,
                                     struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static inline void scratch_fini(struct scratch *s)
{
    nftw(s->dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *scratch_path(struct scratch *s, const char *name)
{
    snprintf(s->path, sizeof s->path, "%s/%s", s->dir, name);
    return s->path;
}

static inline const char *scratch_write_bytes(struct scratch *s, const char *name,
                                              const void *bytes, size_t len)
{
    FILE *f = fopen(scratch_path(s, name), "w");
    cr_assert_not_null(f, "%s: %s", s->path, strerror(errno));
    cr_assert_eq(fwrite(bytes, 1, len, f), len);
    cr_assert_eq(fclose(f), 0);
    return s->path;
}

static inline const char *scratch_write(struct scratch *s, const char *name, const char *text)
{
    return scratch_write_bytes(s, name, text, strlen(text));
}

/* Sets the time of change so far back that no clock's grain can hide a later change. */
static inline void scratch_age(struct scratch *s, const char *name, time_t seconds)
{
    const struct timespec times[2] = { { time(NULL) - seconds, 0 }, { time(NULL) - seconds, 0 } };
    cr_assert_eq(utimensat(AT_FDCWD, scratch_path(s, name), times, 0), 0);
}

__attribute__((format(printf, 1, 2))) static inline int scratch_try(const char *format, ...)
{
    char command[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    return system(command);
}

/* The real postmap, with a main.cf of its own; its warnings are no matter here. */
static inline void scratch_postmap(struct scratch *s, const char *type, const char *name)
{
    char main_cf[600];
    snprintf(main_cf, sizeof main_cf, "%s/pf/main.cf", s->dir);
    if (access(main_cf, F_OK) != 0) {
        mkdir(scratch_path(s, "pf"), 0700);
        scratch_write(s, "pf/main.cf", "compatibility_level = 3.6\n");
    }
    cr_assert_eq(scratch_try("postmap -c %s/pf %s:%s/%s 2>/dev/null", s->dir, type, s->dir, name),
                 0, "postmap %s:%s", type, name);
}

/* Waits until a condition holds, for at most some seconds; what it was at the end. */
static inline int scratch_wait(int (*holds)(void *context), void *context, int seconds)
{
    const struct timespec pause = { 0, 5 * 1000 * 1000 };
    for (int i = 0; i < seconds * 200; i++) {
        if (holds(context))
            return 1;
        nanosleep(&pause, NULL);
    }
    return holds(context);
}

#endif
