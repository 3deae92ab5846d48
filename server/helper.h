/* helper - what still needs root after the server has given it up: keys that only root may read,
 * main.cf itself, and low ports that a reload adds.
 * Life:   helper_start() forks, while there is one thread, a process that keeps two capabilities
 *         (CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE), writes nowhere, and ends with the server.
 *         Without it (not started as root) the functions do what we may do by ourselves.
 * Trust:  it believes main.cf, not us: it opens only files that main.cf names as keys, chains and
 *         itself, and binds only what "listen" names, and only while nobody but root can write
 *         main.cf and the files' directories. Nothing from the network ever reaches it.
 * Wire:   one fixed struct per request, one number back, with a descriptor (SCM_RIGHTS).
 * Thread: helper_start() main, before any other exists; the rest any. */
#ifndef POSTERN_HELPER_H
#define POSTERN_HELPER_H

#include "server/config.h"

#include <sys/stat.h>

/* NULL, or why there is none. */
const char *helper_start(const struct config *config);
bool helper_is_there(void);

/* The descriptor of a file, read only; -errno. */
int helper_open(const char *path);

/* stat(2), also where only root may look; 0 or -errno. */
int helper_stat(const char *path, struct stat *st);

/* A bound TCP socket of an endpoint; -EACCES if nobody may. */
int helper_bind(const char *host, int port);

/* main.cf has changed, perhaps: it reads it again before its next answer. */
void helper_refresh(void);

#endif
