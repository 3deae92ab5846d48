#include "queue/lmtp.h"
#include "protocol/mem.h"

#include <stdlib.h>
#include <uv.h>

/* The parameters and connections of one loop. */
struct lmtp_pool {
    struct lmtp_outside outside;
    struct lmtp_task *tasks;
};

/* A job under way. */
struct lmtp_task {
    struct lmtp_task *next;
    struct lmtp_pool *pool;
    struct lmtp_job *job;
    uv_timer_t timer;
};

static void set_result(struct lmtp_job *job, struct lmtp_rcpt *r, enum lmtp_source source,
                       const char *text)
{
    r->result = (struct lmtp_result){ source, 451, "4.4.1",
                                      arena_text(&job->memory, span_of(text)), "" };
}

static void free_timer(uv_handle_t *handle)
{
    struct lmtp_task *task = handle->data;
    free(task);
}

static void end(struct lmtp_task *task, enum lmtp_source source, const char *text)
{
    struct lmtp_job *job = task->job;
    struct lmtp_task **at = &task->pool->tasks;
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    for (size_t i = 0; i < job->count; i++)
        set_result(job, &job->rcpts[i], source, text);
    job->task = NULL;
    uv_close((uv_handle_t *)&task->timer, free_timer);
    job->done(job);
}

static void on_turn(uv_timer_t *timer)
{
    end(timer->data, LMTP_UNREACHABLE, "no connection");
}

const char *lmtp_nexthop_check(enum lmtp_protocol protocol, const char *nexthop)
{
    (void)protocol;
    return nexthop[0] != '\0' ? NULL : "no next hop";
}

void lmtp_start(struct lmtp_pool *pool, struct lmtp_job *job)
{
    struct lmtp_task *task = xcalloc(1, sizeof *task);
    *task = (struct lmtp_task){ .next = pool->tasks, .pool = pool, .job = job };
    pool->tasks = task;
    job->task = task;
    job->host = job->nexthop;
    uv_timer_init(pool->outside.uv, &task->timer);
    task->timer.data = task;
    uv_timer_start(&task->timer, on_turn, 0, 0);
}

void lmtp_cancel(struct lmtp_job *job)
{
    (void)job; /* its only turn is on its way */
}

void lmtp_job_fini(struct lmtp_job *job)
{
    ENSURE(job->task == NULL);
    arena_fini(&job->memory);
}

struct lmtp_pool *lmtp_pool_new(const struct lmtp_outside *outside)
{
    struct lmtp_pool *pool = xcalloc(1, sizeof *pool);
    pool->outside = *outside;
    return pool;
}

void lmtp_pool_set_params(struct lmtp_pool *pool, const struct params *params)
{
    pool->outside.params = params;
}

void lmtp_pool_free(struct lmtp_pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->tasks != NULL)
        end(pool->tasks, LMTP_CANCELLED, "stopped");
    free(pool);
}
