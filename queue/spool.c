#include "queue/spool.h"
#include "protocol/mem.h"
#include "queue/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum sub { SUB_ACTIVE, SUB_HOLD, SUB_MSG, SUB_TMP, SUB_CORRUPT, SUB_COUNT };

static const char *const sub_names[SUB_COUNT] = { "active", "hold", "msg", "tmp", "corrupt" };

struct spool {
    int fds[SUB_COUNT]; /* owns: the folders */
    int dir_fd; /* owns; holds the lock */
};

enum { NAME_BYTES = QUEUE_ID_MAX + 16, OPEN_CHANGES_MAX = 64 };

/* ------------------------------------------------------------ opening */

static int open_sub(struct spool *s, enum sub sub, enum spool_how how)
{
    const char *name = sub_names[sub];
    if (how == SPOOL_LOCKED && mkdirat(s->dir_fd, name, 0700) != 0 && errno != EEXIST)
        return -errno;
    s->fds[sub] = openat(s->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return s->fds[sub] >= 0 ? 0 : -errno;
}

int spool_open(const char *directory, enum spool_how how, struct spool **out)
{
    struct spool *s = xmalloc(sizeof *s);
    *s = (struct spool){ .fds = { -1, -1, -1, -1, -1 } };
    s->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = s->dir_fd < 0 ? -errno : 0;
    if (rc == 0 && how == SPOOL_LOCKED && flock(s->dir_fd, LOCK_EX | LOCK_NB) != 0)
        rc = -errno;
    for (int sub = 0; sub < SUB_COUNT && rc == 0; sub++)
        rc = open_sub(s, (enum sub)sub, how);
    if (rc == 0 && how == SPOOL_LOCKED && fsync(s->dir_fd) != 0) /* the folders themselves */
        rc = -errno;
    *out = s;
    if (rc != 0) {
        spool_close(s);
        *out = NULL;
    }
    return rc;
}

void spool_close(struct spool *s)
{
    if (s == NULL)
        return;
    for (int sub = 0; sub < SUB_COUNT; sub++)
        fd_close(&s->fds[sub]);
    fd_close(&s->dir_fd);
    free(s);
}

/* ------------------------------------------------------------ writing */

static int folder_fd(const struct spool *s, enum spool_folder folder)
{
    return s->fds[folder == SPOOL_HOLD ? SUB_HOLD : SUB_ACTIVE];
}

static int other_folder_fd(const struct spool *s, enum spool_folder folder)
{
    return folder_fd(s, folder == SPOOL_HOLD ? SPOOL_ACTIVE : SPOOL_HOLD);
}

static void temp_name(const struct spool_change *c, const char *kind, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s.%s", c->id, kind);
}

static int make_file(const struct spool *s, const struct spool_change *c, const char *kind,
                     int *fd, bool *is_made)
{
    char name[NAME_BYTES];
    temp_name(c, kind, name);
    *fd = openat(s->fds[SUB_TMP], name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 0600);
    *is_made = *fd >= 0;
    return *is_made ? 0 : -errno;
}

static bool is_moved(const struct spool_change *c)
{
    return c->body->fd >= 0 && c->body->has_head && c->skip_bytes == 0;
}

static int write_message(const struct spool *s, struct spool_change *c)
{
    if (is_moved(c))
        return 0;
    int rc = make_file(s, c, "msg", &c->msg_fd, &c->is_msg_made);
    if (rc == 0 && !c->body->has_head)
        rc = fd_write_all(c->msg_fd, c->head.at, c->head.len);
    if (rc != 0)
        return rc;
    const struct body *b = c->body;
    return b->fd >= 0 ? fd_copy_all(c->msg_fd, b->fd, c->skip_bytes, b->size_bytes)
                      : fd_write_all(c->msg_fd, b->memory.at, b->memory.len);
}

static int write_envelope(const struct spool *s, struct spool_change *c)
{
    int rc = make_file(s, c, "env", &c->env_fd, &c->is_env_made);
    return rc == 0 ? fd_write_all(c->env_fd, c->envelope.at, c->envelope.len) : rc;
}

/* ------------------------------------------------------------ taking back */

static void unlink_temp(const struct spool *s, const struct spool_change *c, const char *kind)
{
    char name[NAME_BYTES];
    temp_name(c, kind, name);
    unlinkat(s->fds[SUB_TMP], name, 0);
}

/* Nothing of it may be left that recovery would take for a message. */
static void fail(const struct spool *s, struct spool_change *c, int result)
{
    c->result = result;
    if (c->act == SPOOL_MOVE && c->is_env_there)
        dir_rename_new(folder_fd(s, c->folder), c->id, other_folder_fd(s, c->folder), c->id);
    if (c->act == SPOOL_CREATE && c->is_env_there)
        unlinkat(folder_fd(s, c->folder), c->id, 0);
    if (c->act == SPOOL_CREATE && c->is_msg_there)
        unlinkat(s->fds[SUB_MSG], c->id, 0);
    if (c->is_msg_made)
        unlink_temp(s, c, "msg");
    if (c->is_env_made)
        unlink_temp(s, c, "env");
    c->is_msg_made = c->is_env_made = c->is_msg_there = c->is_env_there = false;
    fd_close(&c->msg_fd);
    fd_close(&c->env_fd);
}

/* ------------------------------------------------------------ steps */

static int step_write(struct spool *s, struct spool_change *c)
{
    int rc = c->act == SPOOL_CREATE ? write_message(s, c) : 0;
    if (rc == 0 && (c->act == SPOOL_CREATE || c->act == SPOOL_UPDATE))
        rc = write_envelope(s, c);
    return rc;
}

static int step_sync(struct spool *s, struct spool_change *c)
{
    (void)s;
    if (c->act == SPOOL_CREATE && is_moved(c) && fdatasync(c->body->fd) != 0)
        return -errno;
    if (c->msg_fd >= 0 && fdatasync(c->msg_fd) != 0)
        return -errno;
    return c->env_fd < 0 || fdatasync(c->env_fd) == 0 ? 0 : -errno;
}

static int publish_message(struct spool *s, struct spool_change *c)
{
    char name[NAME_BYTES];
    temp_name(c, "msg", name);
    int from_fd = is_moved(c) ? c->body->dir_fd : s->fds[SUB_TMP];
    const char *from = is_moved(c) ? c->body->file_name : name;
    int rc = dir_rename_new(from_fd, from, s->fds[SUB_MSG], c->id);
    c->is_msg_there = rc == 0;
    c->is_msg_made = c->is_msg_made && rc != 0;
    return rc;
}

static int publish_envelope(struct spool *s, struct spool_change *c)
{
    char name[NAME_BYTES];
    int rc, to_fd = folder_fd(s, c->folder);
    temp_name(c, "env", name);
    if (c->act == SPOOL_CREATE)
        rc = dir_rename_new(s->fds[SUB_TMP], name, to_fd, c->id);
    else
        rc = renameat2(s->fds[SUB_TMP], name, to_fd, c->id, 0) == 0 ? 0 : -errno;
    c->is_env_there = rc == 0;
    c->is_env_made = rc != 0;
    return rc;
}

static int step_publish(struct spool *s, struct spool_change *c)
{
    int rc = 0;
    switch (c->act) {
    case SPOOL_CREATE:
        rc = publish_message(s, c);
        return rc == 0 ? publish_envelope(s, c) : rc;
    case SPOOL_UPDATE: return publish_envelope(s, c);
    case SPOOL_MOVE:
        rc = dir_rename_new(other_folder_fd(s, c->folder), c->id, folder_fd(s, c->folder), c->id);
        c->is_env_there = rc == 0;
        return rc;
    case SPOOL_REMOVE: break;
    }
    return 0;
}

static int step_unlink_envelope(struct spool *s, struct spool_change *c)
{
    return unlinkat(folder_fd(s, c->folder), c->id, 0) == 0 || errno == ENOENT ? 0 : -errno;
}

/* The message is nobody's any more; what stays of it after an error goes at the next start. */
static int step_unlink_message(struct spool *s, struct spool_change *c)
{
    unlinkat(s->fds[SUB_MSG], c->id, 0);
    return 0;
}

/* ------------------------------------------------------------ rounds */

enum round { ROUND_FIRST, ROUND_AFTER, ROUND_REMOVE, ROUND_NONE };

static enum round round_of(const struct spool_change *c)
{
    if (c->result != 0)
        return ROUND_NONE;
    if (c->act == SPOOL_REMOVE)
        return ROUND_REMOVE;
    return c->after != NULL ? ROUND_AFTER : ROUND_FIRST;
}

static bool may_go(const struct spool *s, struct spool_change *c, enum round round)
{
    if (round_of(c) != round)
        return false;
    if (c->after != NULL && c->after->result != 0)
        fail(s, c, -ECANCELED);
    return c->result == 0;
}

static void run_step(struct spool *s, struct spool_change *batch, enum round round,
                     int (*step)(struct spool *s, struct spool_change *c))
{
    for (struct spool_change *c = batch; c != NULL; c = c->next) {
        int rc = may_go(s, c, round) ? step(s, c) : 0;
        if (rc != 0)
            fail(s, c, rc);
    }
}

/* Descriptors stay open only between writing and syncing. */
static void write_and_sync(struct spool *s, struct spool_change *batch, enum round round)
{
    for (struct spool_change *first = batch, *end; first != NULL; first = end) {
        int rc, count = 0;
        for (end = first; end != NULL && count < OPEN_CHANGES_MAX; end = end->next, count++)
            if (may_go(s, end, round) && (rc = step_write(s, end)) != 0)
                fail(s, end, rc);
        for (struct spool_change *c = first; c != end; c = c->next) {
            if (round_of(c) != round)
                continue;
            if ((rc = step_sync(s, c)) != 0)
                fail(s, c, rc);
            fd_close(&c->msg_fd);
            fd_close(&c->env_fd);
        }
    }
}

/* Which folders a change has touched: where something is, or is gone. */
static unsigned touched(const struct spool_change *c)
{
    unsigned folder = 1u << (c->folder == SPOOL_HOLD ? SUB_HOLD : SUB_ACTIVE);
    return c->act == SPOOL_CREATE ? folder | 1u << SUB_MSG : folder;
}

/* Where an envelope is no longer: synced later, or a power cut might leave it nowhere. */
static unsigned left_behind(const struct spool_change *c)
{
    if (c->act != SPOOL_MOVE)
        return 0;
    return 1u << (c->folder == SPOOL_HOLD ? SUB_ACTIVE : SUB_HOLD);
}

/* Once each for the whole batch, the messages before their envelopes. */
static void sync_folders(struct spool *s, struct spool_change *batch, enum round round,
                         unsigned (*which)(const struct spool_change *c))
{
    static const enum sub order[] = { SUB_MSG, SUB_ACTIVE, SUB_HOLD };
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        int rc = 1; /* not synced yet */
        for (struct spool_change *c = batch; c != NULL; c = c->next) {
            if (round_of(c) != round || (which(c) & 1u << order[i]) == 0)
                continue;
            if (rc == 1)
                rc = fsync(s->fds[order[i]]) == 0 ? 0 : -errno;
            if (rc != 0)
                fail(s, c, rc);
        }
    }
}

static void run_round(struct spool *s, struct spool_change *batch, enum round round)
{
    write_and_sync(s, batch, round);
    run_step(s, batch, round, step_publish);
    sync_folders(s, batch, round, touched);
    sync_folders(s, batch, round, left_behind);
}

void spool_run(struct spool *s, struct spool_change *batch)
{
    bool has_after = false;
    for (struct spool_change *c = batch; c != NULL; c = c->next) {
        c->result = 0;
        c->msg_fd = c->env_fd = -1;
        c->is_msg_made = c->is_env_made = c->is_msg_there = c->is_env_there = false;
        has_after |= round_of(c) == ROUND_AFTER;
    }
    run_round(s, batch, ROUND_FIRST);
    if (has_after)
        run_round(s, batch, ROUND_AFTER);
    run_step(s, batch, ROUND_REMOVE, step_unlink_envelope);
    sync_folders(s, batch, ROUND_REMOVE, touched);
    run_step(s, batch, ROUND_REMOVE, step_unlink_message);
}

/* ------------------------------------------------------------ reading */

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A stream over the folder with a position of its own. */
static DIR *open_folder(const struct spool *s, enum sub sub)
{
    int fd = openat(s->fds[sub], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    return dir;
}

static int list_sub(const struct spool *s, enum sub sub, uint64_t **ids, size_t *count)
{
    size_t cap = 0;
    DIR *dir = open_folder(s, sub);
    *ids = NULL;
    *count = 0;
    if (dir == NULL)
        return -errno;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        uint64_t id;
        if (!queue_id_parse(span_of(e->d_name), &id))
            continue;
        if (*count == cap)
            *ids = xrealloc(*ids, (cap = cap > 0 ? cap * 2 : 256) * sizeof **ids);
        (*ids)[(*count)++] = id;
    }
    closedir(dir);
    if (*count > 0)
        qsort(*ids, *count, sizeof **ids, compare_ids);
    return 0;
}

int spool_list(const struct spool *s, enum spool_folder folder, uint64_t **ids, size_t *count)
{
    return list_sub(s, folder == SPOOL_HOLD ? SUB_HOLD : SUB_ACTIVE, ids, count);
}

static int read_file(int dir_fd, const char *name, struct buf *text)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = 1;
    if (fd < 0)
        return errno == ELOOP ? -EBADMSG : -errno;
    text->max = ENVELOPE_TEXT_MAX;
    for (char *room; n > 0 && (room = buf_reserve(text, 4096)) != NULL;) {
        n = read(fd, room, 4096);
        text->len += n > 0 ? (size_t)n : 0;
    }
    int rc = n < 0 ? -errno : n > 0 ? -EBADMSG : 0;
    close(fd);
    return rc == -EISDIR ? -EBADMSG : rc;
}

int spool_read(const struct spool *s, enum spool_folder folder, const char *id,
               struct envelope *e)
{
    struct buf text = { 0 };
    envelope_init(e, "");
    int rc = read_file(folder_fd(s, folder), id, &text);
    if (rc == 0)
        rc = envelope_parse(e, buf_span(&text));
    if (rc == 0 && strcmp(e->id, id) != 0)
        rc = -EBADMSG; /* a copy under another name */
    buf_fini(&text);
    return rc;
}

int spool_open_message(const struct spool *s, const char *id, uint64_t *size_bytes)
{
    struct stat st;
    int fd = openat(s->fds[SUB_MSG], id, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EBADMSG;
    }
    *size_bytes = (uint64_t)st.st_size;
    return fd;
}

/* ------------------------------------------------------------ setting aside */

enum { ASIDE_MAX = 1000 };

/* Under its name, or NAME.2, NAME.3 ...: nothing is ever overwritten. */
static int set_aside(struct spool *s, int from_fd, const char *name, const char *kind)
{
    char to[NAME_MAX + 32];
    int rc = -EEXIST;
    for (int n = 1; n < ASIDE_MAX && rc == -EEXIST; n++) {
        if (n == 1)
            snprintf(to, sizeof to, "%.200s%s", name, kind);
        else
            snprintf(to, sizeof to, "%.200s%s.%d", name, kind, n);
        rc = dir_rename_new(from_fd, name, s->fds[SUB_CORRUPT], to);
    }
    return rc;
}

int spool_set_aside(struct spool *s, enum spool_folder folder, const char *id)
{
    int rc = set_aside(s, folder_fd(s, folder), id, ".env");
    int rc_msg = set_aside(s, s->fds[SUB_MSG], id, ".msg");
    if (rc == 0 && rc_msg != -ENOENT)
        rc = rc_msg;
    fsync(s->fds[SUB_CORRUPT]);
    return rc;
}

/* ------------------------------------------------------------ recovery */

/* Never acknowledged, whatever it was. */
static void sweep_tmp(struct spool *s)
{
    DIR *dir = open_folder(s, SUB_TMP);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(s->fds[SUB_TMP], e->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}

/* Names that we never give. */
static void set_strangers_aside(struct spool *s, enum sub sub, struct buf *notes)
{
    DIR *dir = open_folder(s, sub);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        uint64_t id;
        if (e->d_name[0] == '.' || queue_id_parse(span_of(e->d_name), &id))
            continue;
        if (set_aside(s, s->fds[sub], e->d_name, "") == 0)
            buf_printf(notes, "a file in %s/ that is none of ours was moved to corrupt/\n",
                       sub_names[sub]);
    }
    if (dir != NULL)
        closedir(dir);
}

static bool has_id(const uint64_t *ids, size_t count, uint64_t id)
{
    return count > 0 && bsearch(&id, ids, count, sizeof *ids, compare_ids) != NULL;
}

struct folder_ids {
    uint64_t *ids; /* owns */
    size_t count;
};

static void check_envelopes(struct spool *s, enum spool_folder folder,
                            const struct folder_ids *envelopes, const struct folder_ids *other,
                            const struct folder_ids *messages, struct buf *notes)
{
    char id[QUEUE_ID_MAX];
    for (size_t i = 0; i < envelopes->count; i++) {
        bool has_message = has_id(messages->ids, messages->count, envelopes->ids[i]);
        bool is_twice = folder == SPOOL_ACTIVE
                        && has_id(other->ids, other->count, envelopes->ids[i]);
        if (has_message && !is_twice)
            continue;
        queue_id_print(envelopes->ids[i], id);
        set_aside(s, folder_fd(s, folder), id, ".env");
        buf_printf(notes, "%s: %s: its envelope was moved to corrupt/\n", id,
                   is_twice ? "is on hold as well" : "the message is missing");
    }
}

static void remove_orphans(struct spool *s, const struct folder_ids *messages,
                           const struct folder_ids *active, const struct folder_ids *held)
{
    char id[QUEUE_ID_MAX];
    for (size_t i = 0; i < messages->count; i++) {
        if (has_id(active->ids, active->count, messages->ids[i])
            || has_id(held->ids, held->count, messages->ids[i]))
            continue;
        queue_id_print(messages->ids[i], id);
        unlinkat(s->fds[SUB_MSG], id, 0);
    }
}

int spool_recover(struct spool *s, struct buf *notes)
{
    struct folder_ids active, held = { 0 }, messages = { 0 };
    sweep_tmp(s);
    set_strangers_aside(s, SUB_ACTIVE, notes);
    set_strangers_aside(s, SUB_HOLD, notes);
    set_strangers_aside(s, SUB_MSG, notes);
    int rc = list_sub(s, SUB_ACTIVE, &active.ids, &active.count);
    if (rc == 0)
        rc = list_sub(s, SUB_HOLD, &held.ids, &held.count);
    if (rc == 0)
        rc = list_sub(s, SUB_MSG, &messages.ids, &messages.count);
    if (rc == 0) { /* with all three lists known for sure, and not otherwise */
        check_envelopes(s, SPOOL_ACTIVE, &active, &held, &messages, notes);
        check_envelopes(s, SPOOL_HOLD, &held, &active, &messages, notes);
        remove_orphans(s, &messages, &active, &held);
    }
    free(active.ids);
    free(held.ids);
    free(messages.ids);
    return rc;
}
