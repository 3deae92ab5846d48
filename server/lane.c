#include "server/lane.h"
#include "protocol/mem.h"
#include "server/conn.h"
#include "server/loop.h"

#include <stdlib.h>

void lane_init(struct lane *lane)
{
    *lane = (struct lane){ .first = NULL };
    pthread_mutex_init(&lane->mutex, NULL);
    lane->end = &lane->first;
}

void lane_fini(struct lane *lane)
{
    pthread_mutex_destroy(&lane->mutex);
}

/* ------------------------------------------------------------ handing back */

/* Deliveries of one batch for one loop travel together: one wake-up. */
struct done_post {
    struct post post;
    struct delivery *first;
};

static void run_done(struct loop *loop, struct post *post)
{
    struct done_post *done = (struct done_post *)(void *)post;
    struct delivery *delivery = done->first;
    free(done);
    while (delivery != NULL) {
        struct delivery *next = delivery->next;
        loop_now_ms(loop);
        struct smtpd *d = smtpd_delivered(&loop->services, delivery);
        if (d != NULL)
            conn_resume(d->conn);
        loop_work_done(loop);
        delivery = next;
    }
}

/* Takes all deliveries of the first one's loop out of the list, in order. */
static struct delivery *cut_loop(struct delivery **list)
{
    struct delivery *same = NULL, **same_end = &same, **at = list;
    void *home = (*list)->home;
    while (*at != NULL) {
        struct delivery *d = *at;
        if (d->home != home) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        d->next = NULL;
        *same_end = d;
        same_end = &d->next;
    }
    return same;
}

static void hand_back(struct delivery *list)
{
    while (list != NULL) {
        struct done_post *done = xcalloc(1, sizeof *done);
        done->first = cut_loop(&list);
        done->post.run = run_done;
        loop_post(done->first->home, &done->post);
    }
}

/* ------------------------------------------------------------ the work thread */

static void run_batch(struct delivery *batch)
{
    struct commit *commits = NULL, **end = &commits;
    for (struct delivery *d = batch; d != NULL; d = d->next) {
        *end = &d->commit;
        end = &d->commit.next;
    }
    *end = NULL;
    commit_run(commits);
    hand_back(batch);
}

/* What waits, at most LANE_BATCH_MAX; NULL ends the lane's run. */
static struct delivery *take_batch(struct lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    struct delivery *batch = lane->first, **at = &lane->first;
    for (int i = 0; i < LANE_BATCH_MAX && *at != NULL; i++)
        at = &(*at)->next;
    lane->first = *at;
    if (lane->first == NULL)
        lane->end = &lane->first;
    *at = NULL;
    if (batch == NULL)
        lane->is_running = false;
    pthread_mutex_unlock(&lane->mutex);
    return batch;
}

struct run {
    uv_work_t request;
    struct lane *lane;         /* NULL: beside the lane */
    struct delivery *delivery; /* beside the lane: the only one */
};

static void work(uv_work_t *request)
{
    struct run *run = (struct run *)(void *)request;
    struct delivery *batch;
    if (run->lane == NULL) {
        run_batch(run->delivery);
        return;
    }
    while ((batch = take_batch(run->lane)) != NULL)
        run_batch(batch);
}

static void after_work(uv_work_t *request, int status)
{
    (void)status;
    free(request);
}

static void start(struct loop *loop, struct lane *lane, struct delivery *delivery)
{
    struct run *run = xcalloc(1, sizeof *run);
    run->lane = lane;
    run->delivery = delivery;
    ENSURE(uv_queue_work(&loop->uv, &run->request, work, after_work) == 0);
}

void lane_deliver(struct lane *lane, struct loop *loop, struct delivery *delivery)
{
    delivery->home = loop;
    delivery->next = NULL;
    if (delivery->intake.fd >= 0) {
        start(loop, NULL, delivery);
        return;
    }
    pthread_mutex_lock(&lane->mutex);
    *lane->end = delivery;
    lane->end = &delivery->next;
    bool is_idle = !lane->is_running;
    lane->is_running = true;
    pthread_mutex_unlock(&lane->mutex);
    if (is_idle)
        start(loop, lane, NULL);
}
