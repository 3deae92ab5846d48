#include "queue/commit.h"

#include <errno.h>
#include <fcntl.h>
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

static void run_step(struct commit *batch, void (*step)(struct maildir_item *item))
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0; i++) {
            step(&c->items[i]);
            if (c->items[i].result != 0)
                fail(c, i, c->items[i].result);
        }
}

enum { OPEN_ITEMS_MAX = 32 }; /* of one message; the rest is frugal */

static void write_one(struct commit *c, int base_fd)
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
    for (size_t i = 0; i < c->count && c->result == 0; i++) {
        maildir_write(&c->items[i]);
        if (c->items[i].result != 0)
            fail(c, i, c->items[i].result);
    }
}

/* The directory was synced for an earlier item of this batch, after that item's rename and,
 * because renaming is a step of its own, after this one's. */
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

static void settle(struct commit *batch)
{
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count && c->result == 0; i++) {
            if (is_settled(batch, c, i))
                continue;
            maildir_settle(&c->items[i]);
            if (c->items[i].result != 0)
                fail(c, i, c->items[i].result);
        }
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

void commit_run(struct commit *batch)
{
    struct bases bases = { .count = 0 };
    for (struct commit *c = batch; c != NULL; c = c->next)
        write_one(c, base_open(&bases, c->base));
    run_step(batch, maildir_sync);
    run_step(batch, maildir_publish);
    settle(batch);
    for (struct commit *c = batch; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count; i++)
            maildir_close(&c->items[i]);
    bases_close(&bases);
}
