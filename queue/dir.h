/* dir - directories below a base that nobody can lead us out of.
 * Paths:  relative; ".." , absolute paths and symbolic links in any part are refused (ELOOP,
 *         EXDEV), whatever their owner is.
 * Errors: -errno. Thread: any; blocks. */
#ifndef POSTERN_DIR_H
#define POSTERN_DIR_H

#include <fcntl.h>
#include <stdint.h>

/* Opens the directory base_fd/path; flags as open(2), O_DIRECTORY and O_CLOEXEC are added. */
int dir_open_beneath(int base_fd, const char *path, int flags);

/* Makes every missing part of path, mode 0700, each made durable in its parent (fsync). */
int dir_make_beneath(int base_fd, const char *path);

/* Makes the file ../sub/name as seen from dir_fd, for writing; it must not exist, and sub must
 * not be a link. The descriptor or -errno. */
int dir_create_beside(int dir_fd, const char *sub, const char *name);

/* Renames, and never over something that is there (-EEXIST). */
int dir_rename_new(int from_fd, const char *from, int to_fd, const char *to);

/* All of buf at the descriptor's position. 0 or -errno. */
int fd_write_all(int fd, const void *bytes, size_t len);

/* The bytes of a file from..end to the descriptor's position. -EIO: it is shorter than that. */
int fd_copy_all(int out_fd, int in_fd, uint64_t from, uint64_t end);

/* Unless it is -1, which it is afterwards. */
void fd_close(int *fd);

#endif
