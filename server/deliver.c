#include "server/deliver.h"
#include "protocol/mem.h"
#include "server/conn.h"

#include <stdlib.h>

struct item {
    struct lane_item item;
    struct delivery *delivery;
};

static void run_batch(struct lane *lane, struct lane_item *batch)
{
    struct commit *commits = NULL, **end = &commits;
    (void)lane;
    for (struct lane_item *i = batch; i != NULL; i = i->next) {
        struct delivery *delivery = ((struct item *)(void *)i)->delivery;
        *end = &delivery->commit;
        end = &delivery->commit.next;
    }
    *end = NULL;
    commit_run(commits);
}

static void on_done(struct loop *loop, struct lane_item *lane_item)
{
    struct item *item = (struct item *)(void *)lane_item;
    struct smtpd *d = smtpd_delivered(&loop->services, item->delivery);
    free(item);
    if (d != NULL)
        conn_resume(d->conn);
}

void deliver_init(struct lane *lane)
{
    lane_init(lane, run_batch, NULL);
}

void deliver_put(struct lane *lane, struct loop *loop, struct delivery *delivery)
{
    struct item *item = xcalloc(1, sizeof *item);
    item->item.done = on_done;
    item->delivery = delivery;
    if (delivery->intake.fd >= 0)
        lane_put_beside(lane, loop, &item->item);
    else
        lane_put(lane, loop, &item->item);
}
