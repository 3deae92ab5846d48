/* quota - the Maildir++ quota of a Maildir that has a maildirsize file
 * (first line "NNNS,NNNC", then "size count" lines that add up).
 * A sum that is over the limit may be out of date: then the Maildir is counted again, and the
 * file is written anew, as the specification asks.
 * Thread: any; blocks. */
#ifndef POSTERN_QUOTA_H
#define POSTERN_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* May size_bytes more go in? 0, -EDQUOT, or -errno. *has_quota: there is a maildirsize file.
 * new_fd is the Maildir's new/: without a quota the question costs one system call. */
int quota_check(int new_fd, uint64_t size_bytes, bool *has_quota);

/* Adds a delivered message to the sum; takes one back that is gone again. */
void quota_add(int new_fd, uint64_t size_bytes);
void quota_take_back(int new_fd, uint64_t size_bytes);

#endif
