/* sandbox - what is left to a process that has opened all it needs (sandbox = auto | yes | no):
 *   Landlock   files only below the directories of the configuration, and what the C library
 *              and the resolver read (/etc, /usr, /proc/self); written only data_directory,
 *              queue_directory, what virtual_mailbox_base lies in, the log's and sockets'
 *              directories;
 *              executed nothing
 *   seccomp    the system calls of a server; others do not exist (ENOSYS), those that only an
 *              intruder makes (execve, ptrace, mount, bpf) end the process
 *   no_new_privs, no core dumps
 * auto: what the kernel has; yes: all of it or no start; no: nothing.
 * Life:   entered on the main thread before any other exists; threads inherit it. A reload
 *         cannot widen it: sandbox_check() finds what would need that.
 * Thread: sandbox_enter() main; sandbox_check() any. */
#ifndef POSTERN_SANDBOX_H
#define POSTERN_SANDBOX_H

#include "server/config.h"

enum { SANDBOX_PATHS_MAX = 256 };

struct sandbox_path {
    const char *path;      /* real, absolute */
    const char *parameter; /* whose */
    bool is_writable;
};

struct sandbox {
    struct arena memory; /* owns */
    struct sandbox_path paths[SANDBOX_PATHS_MAX];
    size_t path_count;
    int landlock_abi;    /* 0: not in force */
    bool has_seccomp, is_off;
};

/* NULL, or why it cannot be entered although it must be. */
const char *sandbox_enter(struct sandbox *s, const struct config *config);

/* The same for the helper: reads everything, writes nothing. */
const char *sandbox_enter_helper(const struct params *params);

/* Errors for directories of a new configuration that the sandbox in force does not allow. */
void sandbox_check(const struct sandbox *s, const struct config *config,
                   struct problems *problems);

/* "seccomp, Landlock 7, no_new_privs, no core dumps"; or that there is none, and why. */
void sandbox_describe(const struct sandbox *s, struct buf *out);

#endif
