#include "server/lane.h"
#include "protocol/mem.h"
#include "server/loop.h"

#include <stdlib.h>

void lane_init(struct lane *lane, void (*run)(struct lane *lane, struct lane_item *batch),
               void *context)
{
    *lane = (struct lane){ .run = run, .context = context };
    pthread_mutex_init(&lane->mutex, NULL);
    lane->end = &lane->first;
}

void lane_fini(struct lane *lane)
{
    pthread_mutex_destroy(&lane->mutex);
}

/* ------------------------------------------------------------ handing back */

/* Items of one batch for one loop travel together: one wake-up. */
struct done_post {
    struct post post;
    struct lane_item *first;
};

static void run_done(struct loop *loop, struct post *post)
{
    struct done_post *done = (struct done_post *)(void *)post;
    struct lane_item *item = done->first;
    free(done);
    loop_now_ms(loop);
    while (item != NULL) {
        struct lane_item *next = item->next;
        item->done(loop, item);
        loop_work_done(loop);
        item = next;
    }
}

/* Takes all items of the first one's loop out of the list, in order. */
static struct lane_item *cut_loop(struct lane_item **list)
{
    struct lane_item *same = NULL, **same_end = &same, **at = list;
    const struct loop *home = (*list)->home;
    while (*at != NULL) {
        struct lane_item *item = *at;
        if (item->home != home) {
            at = &item->next;
            continue;
        }
        *at = item->next;
        item->next = NULL;
        *same_end = item;
        same_end = &item->next;
    }
    return same;
}

static void hand_back(struct lane_item *list)
{
    while (list != NULL) {
        struct done_post *done = xcalloc(1, sizeof *done);
        done->first = cut_loop(&list);
        done->post.run = run_done;
        loop_post(done->first->home, &done->post); /* a loop with work under way hears */
    }
}

/* ------------------------------------------------------------ the work thread */

/* What waits, at most LANE_BATCH_MAX; NULL ends the lane's run. */
static struct lane_item *take_batch(struct lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    struct lane_item *batch = lane->first, **at = &lane->first;
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
    struct lane *lane;
    struct lane_item *item; /* beside the line: the only one */
};

static void work(uv_work_t *request)
{
    struct run *run = (struct run *)(void *)request;
    struct lane_item *batch = run->item;
    if (batch != NULL) {
        run->lane->run(run->lane, batch);
        hand_back(batch);
        return;
    }
    while ((batch = take_batch(run->lane)) != NULL) {
        run->lane->run(run->lane, batch);
        hand_back(batch);
    }
}

static void after_work(uv_work_t *request, int status)
{
    (void)status;
    free(request);
}

static void start(struct loop *loop, struct lane *lane, struct lane_item *item)
{
    struct run *run = xcalloc(1, sizeof *run);
    run->lane = lane;
    run->item = item;
    ENSURE(uv_queue_work(&loop->uv, &run->request, work, after_work) == 0);
}

void lane_put_beside(struct lane *lane, struct loop *loop, struct lane_item *item)
{
    item->home = loop;
    item->next = NULL;
    loop->work_count++;
    start(loop, lane, item);
}

void lane_put(struct lane *lane, struct loop *loop, struct lane_item *item)
{
    item->home = loop;
    item->next = NULL;
    loop->work_count++;
    pthread_mutex_lock(&lane->mutex);
    *lane->end = item;
    lane->end = &item->next;
    bool is_idle = !lane->is_running;
    lane->is_running = true;
    pthread_mutex_unlock(&lane->mutex);
    if (is_idle)
        start(loop, lane, NULL);
}
