#include "queue/commit.h"
#include "protocol/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All or none: one item failed, so the others of its message go too. */
static void fail(struct commit *c, size_t failed, int result)
{
    c->result = result;
    c->failed = failed;
    for (size_t i = 0; i < c->count; i++) {
        if (c->items[i].result == 0)
            maildir_abort(&c->items[i]);
        c->items[i].result = result;
    }
}

/* The first item of each message that has failed takes the others with it. */
static void fail_failed(struct commit *batch)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0; i++)
            if (c->items[i].result != 0)
                fail(c, i, c->items[i].result);
}

static void publish(struct commit *batch)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0; i++) {
            maildir_publish(&c->items[i]);
            if (c->items[i].result != 0)
                fail(c, i, c->items[i].result);
        }
}

enum { OPEN_ITEMS_MAX = 32 }; /* of one message; the rest is frugal */

/* Maildir items that are done at the same time. */
struct group {
    void **items;
    size_t count;
};

static void sync_thing(void *item)
{
    maildir_sync(item);
}

static void settle_thing(void *item)
{
    maildir_settle(item);
}

static void run_group(struct commit *batch, struct group *group, void (*step)(void *item),
                      struct parallel *threads)
{
    parallel_run(threads, step, group->items, group->count);
    group->count = 0;
    fail_failed(batch);
}

static void sync_files(struct commit *batch, struct group *group, struct parallel *threads)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0 && !c->items[i].is_frugal; i++)
            group->items[group->count++] = &c->items[i];
    run_group(batch, group, sync_thing, threads);
}

static void begin_one(struct commit *c, int base_fd)
{
    c->result = base_fd < 0 ? base_fd : 0;
    for (size_t i = 0; i < c->count; i++) {
        struct maildir_item *item = &c->items[i];
        item->new_fd = item->fd = -1;
        item->result = c->result;
        item->is_created = item->is_published = false;
        item->base_fd = base_fd;
        item->is_frugal = i >= OPEN_ITEMS_MAX;
    }
}

static void write_thing(void *item)
{
    maildir_write(item);
}

static void write_files(struct commit *batch)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0 && !c->items[i].is_frugal; i++) {
            maildir_write(&c->items[i]);
            if (c->items[i].result != 0)
                fail(c, i, c->items[i].result);
        }
}

/* Writing what is frugal includes its sync, so it is done at the same time; after the others'
 * files are closed, for descriptors are what they are to save. */
static void write_frugal_files(struct commit *batch, struct group *group,
                               struct parallel *threads)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = OPEN_ITEMS_MAX; i < c->count && c->result == 0; i++)
            group->items[group->count++] = &c->items[i];
    run_group(batch, group, write_thing, threads);
}

/* The directory was or will be synced for an earlier item of this batch, after that item's
 * rename and, because renaming is a step of its own, after this one's. */
static bool is_settled(const struct commit *batch, const struct commit *c, size_t index)
{
    enum { LOOK_BACK_MAX = 64 };
    const char *mailbox = c->items[index].mailbox;
    int looked = 0;
    for (const struct commit *b = batch; b != NULL; b = b->next) {
        size_t end = b == c ? index : b->count;
        for (size_t i = 0; i < end && looked < LOOK_BACK_MAX; i++, looked++)
            if (b->items[i].result == 0 && strcmp(b->base, c->base) == 0
                && strcmp(b->items[i].mailbox, mailbox) == 0)
                return true;
        if (b == c)
            break;
    }
    return false;
}

static bool needs_settling(const struct commit *batch, const struct commit *c, size_t index)
{
    return c->result == 0 && !c->items[index].is_settled && !is_settled(batch, c, index);
}

/* Again while anything is left: when the sync of a directory has failed for one message, the
 * others that relied on it try for themselves. */
static void settle(struct commit *batch, struct group *group, struct parallel *threads)
{
    do {
        for (struct commit *c = batch; c != NULL; c = c->next)
            for (size_t i = 0; i < c->count; i++)
                if (needs_settling(batch, c, i))
                    group->items[group->count++] = &c->items[i];
        if (group->count == 0)
            return;
        run_group(batch, group, settle_thing, threads);
    } while (true);
}

/* The messages of a batch nearly always share their base: it is opened when it changes. Each
 * descriptor stays open until the batch is done, for items refer to it. */
enum { BASES_MAX = 8 };

struct bases {
    const char *path[BASES_MAX];
    int fd[BASES_MAX];
    size_t count;
};

static int base_open(struct bases *bases, const char *path)
{
    for (size_t i = 0; i < bases->count; i++)
        if (strcmp(bases->path[i], path) == 0)
            return bases->fd[i];
    if (bases->count == BASES_MAX)
        return -EAGAIN;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bases->path[bases->count] = path;
    bases->fd[bases->count++] = fd >= 0 ? fd : -errno;
    return bases->fd[bases->count - 1];
}

static void bases_close(struct bases *bases)
{
    for (size_t i = 0; i < bases->count; i++)
        if (bases->fd[i] >= 0)
            close(bases->fd[i]);
}

static size_t count_items(const struct commit *batch)
{
    size_t count = 0;
    for (; batch != NULL; batch = batch->next)
        count += batch->count;
    return count;
}

void commit_run(struct commit *batch)
{
    commit_run_on(batch, NULL);
}

void commit_run_on(struct commit *batch, struct parallel *threads)
{
    struct bases bases = { .count = 0 };
    struct group group = { .items = xcalloc(count_items(batch) + 1, sizeof *group.items) };
    for (struct commit *c = batch; c != NULL; c = c->next)
        begin_one(c, base_open(&bases, c->base));
    write_files(batch);
    sync_files(batch, &group, threads);
    write_frugal_files(batch, &group, threads);
    publish(batch);
    settle(batch, &group, threads);
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count; i++)
            maildir_close(&c->items[i]);
    bases_close(&bases);
    free(group.items);
}
