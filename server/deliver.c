#include "server/deliver.h"
#include "protocol/mem.h"
#include "server/conn.h"
#include "server/handoff.h"

#include <stdlib.h>

/* How many files are synced at the same time: these threads only wait for the disk. */
enum { SYNC_THREADS = 16 };

static void run_batch(struct lane *lane, struct lane_item *batch)
{
    struct commit *commits = NULL, **end = &commits;
    for (struct lane_item *i = batch; i != NULL; i = i->next) {
        *end = ((struct deliver_item *)(void *)i)->commits;
        while (*end != NULL)
            end = &(*end)->next;
    }
    commit_run_on(commits, lane->context);
}

void deliver_init(struct lane *lane)
{
    lane_init(lane, run_batch, parallel_new(SYNC_THREADS));
}

void deliver_fini(struct lane *lane)
{
    parallel_free(lane->context);
    lane_fini(lane);
}

void deliver_commits(struct lane *lane, struct loop *loop, struct deliver_item *item,
                     bool is_large)
{
    if (is_large)
        lane_put_beside(lane, loop, &item->item);
    else
        lane_put(lane, loop, &item->item);
}

/* ------------------------------------------------------------ of a client that waits */

struct waiting {
    struct deliver_item item;
    struct delivery *delivery;
};

static void on_done(struct loop *loop, struct lane_item *lane_item)
{
    struct waiting *w = (struct waiting *)(void *)lane_item;
    struct smtpd *d = smtpd_delivered(&loop->services, w->delivery);
    free(w);
    if (d != NULL)
        conn_resume(d->conn);
}

void deliver_put(struct lane *lane, struct loop *loop, struct delivery *delivery)
{
    if (delivery_needs_queue(delivery)) {
        handoff_start(loop, delivery);
        return;
    }
    struct waiting *w = xcalloc(1, sizeof *w);
    w->item.item.done = on_done;
    w->item.commits = &delivery->commit;
    w->delivery = delivery;
    deliver_commits(lane, loop, &w->item, delivery->intake.fd >= 0);
}
