/* privilege - giving up root, and the directories that have to exist before.
 * Thread: main, before any other exists. */
#ifndef POSTERN_PRIVILEGE_H
#define POSTERN_PRIVILEGE_H

#include "protocol/params.h"

/* Makes data_directory, queue_directory/tmp and virtual_mailbox_base where they are missing,
 * owned by mail_owner. 0, or -errno and *path. */
int privilege_make_directories(const struct params *params, const char **path);

/* As root: the log file belongs to mail_owner, who must open it again after a rotation. */
void privilege_give_log(const struct params *params);

/* Will privilege_drop() give up anything? */
bool privilege_has_any(const struct params *params);

/* As root: becomes mail_owner for good (an empty name: stays root). NULL, or what went wrong. */
const char *privilege_drop(const struct params *params);

/* Raises the limit of open files as far as it goes; returns it. */
long privilege_raise_files(void);

#endif
