#include "server/privilege.h"
#include "protocol/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct passwd *owner_of(const struct params *params)
{
    if (geteuid() != 0 || params->mail_owner[0] == '\0')
        return NULL;
    return getpwnam(params->mail_owner);
}

/* mkdir -p; what is made belongs to the owner. */
static int make_path(char *path, const struct passwd *owner)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        int rc = mkdir(path, 0700) == 0 ? 0 : errno;
        if (rc == 0 && owner != NULL && chown(path, owner->pw_uid, owner->pw_gid) != 0)
            rc = errno;
        if (slash != NULL)
            *slash = '/';
        if (rc != 0 && rc != EEXIST)
            return -rc;
        if (slash == NULL)
            return 0;
    }
}

int privilege_make_directories(const struct params *params, const char **path)
{
    const struct passwd *owner = owner_of(params);
    char *spool_tmp = xprintf("%s/tmp", params->queue_directory);
    const char *const paths[] = { params->data_directory, spool_tmp,
                                  params->virtual_mailbox_base };
    const char *const names[] = { params->data_directory, params->queue_directory,
                                  params->virtual_mailbox_base };
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(paths) && rc == 0; i++) {
        char *copy = xstrdup(paths[i]);
        rc = copy[0] == '/' ? make_path(copy, owner) : 0;
        *path = names[i];
        free(copy);
    }
    free(spool_tmp);
    return rc;
}

void privilege_give_log(const struct params *params)
{
    const struct passwd *owner = owner_of(params);
    int fd = owner != NULL && params->maillog_file[0] == '/'
                 ? open(params->maillog_file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY)
                 : -1;
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0)
        (void)!fchown(fd, owner->pw_uid, (gid_t)-1);
    if (fd >= 0)
        close(fd);
}

bool privilege_has_any(const struct params *params)
{
    const struct passwd *owner = owner_of(params);
    return owner != NULL && owner->pw_uid != 0;
}

const char *privilege_drop(const struct params *params)
{
    if (geteuid() != 0 || params->mail_owner[0] == '\0')
        return NULL;
    const struct passwd *owner = getpwnam(params->mail_owner);
    if (owner == NULL)
        return "mail_owner: there is no such user (make it, or set another)";
    if (initgroups(owner->pw_name, owner->pw_gid) != 0 || setgid(owner->pw_gid) != 0
        || setuid(owner->pw_uid) != 0)
        return strerror(errno);
    if (owner->pw_uid != 0 && setuid(0) == 0)
        return "privileges could be had back";
    return NULL;
}

long privilege_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 10000000 ? 10000000 : (long)limit.rlim_cur;
}
