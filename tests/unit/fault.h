/* fault - stands between the code and the C library: the n-th system call that matters fails, and
 * all of them are written down. Include it in one source file of a test program only.
 *
 * The letters: w data written, d fdatasync of a file, r rename, D fsync of a directory, m mkdir,
 * o open by openat2(). */
#ifndef POSTERN_TESTS_FAULT_H
#define POSTERN_TESTS_FAULT_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h> /* renameat2 */
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    pthread_mutex_t mutex; /* several threads may call at a time */
    bool is_on;
    int countdown, error; /* the call that brings it to 0 fails with error */
    char letter;          /* only calls of this kind count down; 0: all */
    bool has_fired;
    char calls[4096];
    size_t count;
} fault;

/* Writes the calls down; the n-th fails with error (0: none does). */
static inline void fault_arm(int n, int error)
{
    memset(&fault, 0, sizeof fault);
    pthread_mutex_init(&fault.mutex, NULL);
    fault.is_on = true;
    fault.countdown = n;
    fault.error = error;
}

/* The first call of this kind fails. */
static inline void fault_fail(char letter, int error)
{
    fault.letter = letter;
    fault.countdown = 1;
    fault.error = error;
}

static inline void fault_disarm(void)
{
    fault.is_on = false;
}

/* True: this call must fail. */
static inline bool fault_here(char letter)
{
    if (!fault.is_on)
        return false;
    pthread_mutex_lock(&fault.mutex);
    if (fault.count < sizeof fault.calls - 1)
        fault.calls[fault.count++] = letter;
    bool counts = fault.countdown > 0 && (fault.letter == 0 || fault.letter == letter);
    bool fails = counts && --fault.countdown == 0;
    fault.has_fired |= fails;
    pthread_mutex_unlock(&fault.mutex);
    if (fails)
        errno = fault.error;
    return fails;
}

static inline void *fault_real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static inline bool fault_is_directory(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A regular file: the test program itself writes to pipes. */
static inline bool fault_is_file(int fd)
{
    struct stat st;
    return fault.is_on && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Nothing is synced really: the order is what these tests are about, and a thousand waits for a
 * busy disk are minutes. */
int fdatasync(int fd)
{
    return fault_here('d') || fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int fsync(int fd)
{
    return fault_here(fault_is_directory(fd) ? 'D' : 'd') || fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    int (*real)(int, const char *, int, const char *, unsigned) =
        (int (*)(int, const char *, int, const char *, unsigned))fault_real("renameat2");
    return fault_here('r') ? -1 : real(from_fd, from, to_fd, to, flags);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    int (*real)(int, const char *, mode_t) = (int (*)(int, const char *, mode_t))fault_real("mkdirat");
    return fault_here('m') ? -1 : real(fd, path, mode);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t (*)(int, const void *, size_t))fault_real("write");
    return fault_is_file(fd) && fault_here('w') ? -1 : real(fd, bytes, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t (*real)(int, const struct iovec *, int) =
        (ssize_t (*)(int, const struct iovec *, int))fault_real("writev");
    return fault_is_file(fd) && fault_here('w') ? -1 : real(fd, parts, count);
}

ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
    ssize_t (*real)(int, int, off_t *, size_t) =
        (ssize_t (*)(int, int, off_t *, size_t))fault_real("sendfile");
    return fault_here('w') ? -1 : real(out_fd, in_fd, offset, count);
}

/* Nobody knows how many arguments there are, so all six are read: not for AddressSanitizer. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    long (*real)(long, ...) = (long (*)(long, ...))fault_real("syscall");
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_openat2 && fault_here('o'))
        return -1;
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#endif
