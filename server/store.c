#include "server/store.h"
#include "protocol/mem.h"
#include "server/loop.h"
#include "server/server.h"

#include <errno.h>
#include <stdlib.h>

enum { RETRY_MS = 60000, CHECKPOINT_MS = 5000, SWEEP_MS = 3600 * 1000, FULL_RETRY_MS = 10000 };

/* What travels on the lane; the kinds differ in what run() does with them. */
enum job_kind { JOB_OPEN, JOB_DECIDE, JOB_SWEEP, JOB_CHECKPOINT, JOB_RECALL, JOB_REMEMBER };

struct job {
    struct lane_item item;
    enum job_kind kind;
    struct store_service *service;
    int rc;
    /* JOB_OPEN */
    struct buf notes;
    /* JOB_DECIDE */
    struct greylist_request request;
    struct question *question;
    /* JOB_SWEEP */
    struct greylist_params params;
    int64_t now_s;
    struct store_key at;
    int removed;
    bool is_done;
    /* JOB_RECALL, JOB_REMEMBER */
    char *text; /* owns */
    int64_t until_s;
    bool is_found;
    struct buf payload; /* owns */
    store_found *found; /* NULL: a question waits */
    void *arg;
};

struct greylist_params store_greylist_params(const struct params *p)
{
    return (struct greylist_params){
        .delay_s = p->greylist_delay / 1000,
        .retry_window_s = p->greylist_retry_window / 1000,
        .max_age_s = p->greylist_max_age / 1000,
        .auto_allow_clients = p->greylist_auto_allow_clients,
        .auto_allow_senders = p->greylist_auto_allow_senders,
    };
}

/* ------------------------------------------------------------ on the lane */

/* Damage is not healed by trying again: the handle is given up, and opened anew later. */
static int judge(struct store_service *s, int rc)
{
    if (rc != STORE_BROKEN || s->store == NULL)
        return rc;
    greylist_store_end(&s->greylist);
    store_close(s->store);
    s->store = NULL;
    atomic_store(&s->state, STORE_IS_DAMAGED);
    return rc;
}

static void run_open(struct store_service *s, struct job *job)
{
    if (s->store == NULL)
        job->rc = store_open(s->dir, s->cache_mb, &s->store, &job->notes);
    if (job->rc == 0)
        job->rc = judge(s, greylist_store_begin(&s->greylist, s->store));
    atomic_store(&s->state, job->rc == 0 ? STORE_IS_OPEN : STORE_IS_DAMAGED);
}

/* The decisions of a batch that stand together in line: one transaction. */
static struct lane_item *run_decisions(struct store_service *s, struct lane_item *first)
{
    struct greylist_request *requests = NULL, **end = &requests;
    struct lane_item *i = first;
    for (; i != NULL && ((struct job *)(void *)i)->kind == JOB_DECIDE; i = i->next) {
        struct job *job = (struct job *)(void *)i;
        *end = &job->request;
        end = &job->request.next;
    }
    *end = NULL;
    int rc = s->store == NULL ? STORE_BROKEN : greylist_store_decide(&s->greylist, requests);
    rc = judge(s, rc);
    for (struct lane_item *k = first; k != i; k = k->next)
        ((struct job *)(void *)k)->rc = rc;
    return i;
}

static void run_command(struct store_service *s, struct store_command *c)
{
    c->rc = s->store == NULL ? STORE_BROKEN
                             : greylist_store_command(&s->greylist, &c->command, &c->params,
                                                      c->now_s, &c->out);
    c->rc = judge(s, c->rc);
}

/* A text with a time until which it counts, and a payload behind that; tag 'G'. */
static int run_recall(struct store_service *s, struct job *job)
{
    struct store_key key;
    char value[STORE_VALUE_MAX];
    int64_t until_s = 0;
    size_t size = 0;
    store_key(s->store, 'G', span_of(job->text), &key);
    int rc = store_begin(s->store);
    if (rc != 0)
        return rc;
    rc = store_get(s->store, &key, value, sizeof value, &size);
    store_abort(s->store); /* nothing was written */
    if (rc == 0 && size >= sizeof until_s)
        memcpy(&until_s, value, sizeof until_s);
    job->is_found = until_s > job->now_s;
    if (job->is_found)
        buf_append(&job->payload, value + sizeof until_s, size - sizeof until_s);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int run_remember(struct store_service *s, struct job *job)
{
    struct store_key key;
    char value[STORE_VALUE_MAX];
    size_t len = job->payload.len < STORE_PAYLOAD_MAX ? job->payload.len : STORE_PAYLOAD_MAX;
    memcpy(value, &job->until_s, sizeof job->until_s);
    if (len > 0)
        memcpy(value + sizeof job->until_s, job->payload.at, len);
    store_key(s->store, 'G', span_of(job->text), &key);
    int rc = store_begin(s->store);
    if (rc != 0)
        return rc;
    rc = store_put(s->store, &key, value, sizeof job->until_s + len);
    if (rc == 0)
        return store_commit(s->store);
    store_abort(s->store);
    return rc;
}

static void on_command_done(struct loop *loop, struct lane_item *item);

static void run_job(struct store_service *s, struct job *job)
{
    if (job->kind == JOB_OPEN)
        run_open(s, job);
    else if (s->store == NULL)
        job->rc = STORE_BROKEN;
    else if (job->kind == JOB_SWEEP)
        job->rc = judge(s, greylist_store_sweep(&s->greylist, &job->params, job->now_s,
                                                &job->at, &job->removed, &job->is_done));
    else if (job->kind == JOB_CHECKPOINT)
        job->rc = judge(s, store_checkpoint(s->store));
    else if (job->kind == JOB_RECALL)
        job->rc = judge(s, run_recall(s, job));
    else if (job->kind == JOB_REMEMBER)
        job->rc = judge(s, run_remember(s, job));
}

static void run_batch(struct lane *lane, struct lane_item *batch)
{
    struct store_service *s = lane->context;
    while (batch != NULL) {
        struct lane_item *next = batch->next;
        if (batch->done == on_command_done)
            run_command(s, (struct store_command *)(void *)batch);
        else if (((struct job *)(void *)batch)->kind == JOB_DECIDE)
            next = run_decisions(s, batch);
        else
            run_job(s, (struct job *)(void *)batch);
        batch = next;
    }
}

/* ------------------------------------------------------------ life */

void store_service_init(struct store_service *s, const char *dir, int cache_mb)
{
    *s = (struct store_service){ .dir = xstrdup(dir), .cache_mb = cache_mb };
    lane_init(&s->lane, run_batch, s);
    s->tried_ms = -RETRY_MS;
}

void store_service_fini(struct store_service *s)
{
    greylist_store_end(&s->greylist);
    store_close(s->store);
    lane_fini(&s->lane);
    free(s->dir);
}

/* ------------------------------------------------------------ housekeeping */

static struct job *new_job(struct store_service *s, enum job_kind kind,
                           void (*done)(struct loop *loop, struct lane_item *item))
{
    struct job *job = xcalloc(1, sizeof *job);
    job->kind = kind;
    job->service = s;
    job->item.done = done;
    return job;
}

static void log_notes(struct loop *loop, const struct buf *notes)
{
    struct span rest = buf_span(notes);
    while (rest.len > 0) {
        size_t end = span_find(rest, '\n');
        log_line(&loop->log, "master", 0, "warning: %.*s", (int)end, rest.at);
        rest = span_skip(rest, end + 1);
    }
}

static void on_opened(struct loop *loop, struct lane_item *item)
{
    struct job *job = (struct job *)(void *)item;
    log_notes(loop, &job->notes);
    if (job->rc != 0)
        log_line(&loop->log, "master", 0,
                 "warning: %s cannot be opened: %s; greylisting and remembered clients are off",
                 job->service->dir, store_error_text(job->rc));
    buf_fini(&job->notes);
    free(job);
}

static void on_checkpoint(struct loop *loop, struct lane_item *item)
{
    struct job *job = (struct job *)(void *)item;
    if (job->rc != 0 && job->rc != STORE_BROKEN)
        log_line(&loop->log, "master", 0, "warning: %s: %s", job->service->dir,
                 store_error_text(job->rc));
    free(job);
}

/* One step after the other, so that decisions get their turn between them. */
static void on_sweep_step(struct loop *loop, struct lane_item *item)
{
    struct job *job = (struct job *)(void *)item;
    if (job->rc == 0 && !job->is_done && !loop->is_draining) {
        lane_put(&job->service->lane, loop, &job->item);
        return;
    }
    if (job->removed > 0)
        log_line(&loop->log, "master", 0, "greylist: %d old records removed", job->removed);
    job->service->is_sweeping = false;
    free(job);
}

static void begin_sweep(struct store_service *s, struct loop *loop, struct config *config,
                        int64_t wall_s)
{
    struct job *job = new_job(s, JOB_SWEEP, on_sweep_step);
    job->params = store_greylist_params(&config->params);
    job->now_s = wall_s;
    s->is_sweeping = true;
    lane_put(&s->lane, loop, &job->item);
}

void store_service_tick(struct store_service *s, struct loop *loop, struct config *config,
                        int64_t wall_s)
{
    int64_t now_ms = loop_now_ms(loop);
    int state = atomic_load(&s->state);
    bool is_shut = state == STORE_IS_CLOSED || state == STORE_IS_DAMAGED;
    if (is_shut && now_ms - s->tried_ms >= RETRY_MS) {
        s->tried_ms = now_ms;
        atomic_store(&s->state, STORE_IS_OPENING);
        lane_put(&s->lane, loop, &new_job(s, JOB_OPEN, on_opened)->item);
    }
    if (state != STORE_IS_OPEN)
        return;
    if (now_ms - s->checked_ms >= CHECKPOINT_MS) {
        s->checked_ms = now_ms;
        lane_put(&s->lane, loop, &new_job(s, JOB_CHECKPOINT, on_checkpoint)->item);
    }
    if (!s->is_sweeping && now_ms - s->swept_ms >= SWEEP_MS) {
        s->swept_ms = now_ms;
        begin_sweep(s, loop, config, wall_s);
    }
}

/* Also notes that somebody asked, for a store that no list had asked for. */
static bool is_open(struct store_service *s)
{
    atomic_store(&s->is_wanted, true);
    return atomic_load(&s->state) == STORE_IS_OPEN;
}

/* ------------------------------------------------------------ decisions */

static void on_decided(struct loop *loop, struct lane_item *item)
{
    struct job *job = (struct job *)(void *)item;
    struct store_service *s = job->service;
    struct question *q = job->question;
    struct buf text = { 0 };
    atomic_fetch_add(job->rc == 0 ? &s->decided : &s->failed, 1);
    if (job->rc != 0 && job->rc != STORE_BROKEN)
        log_line(&loop->log, "smtpd", 0, "warning: greylist: %s", store_error_text(job->rc));
    if (job->rc == 0)
        greylist_print(&text, &job->request.decision);
    free(job);
    question_answer(q, text.len > 0 ? FACT_FOUND : FACT_TEMPFAIL, buf_span(&text), "store");
    buf_fini(&text);
}

void store_service_greylist(struct store_service *s, struct loop *loop, struct question *q,
                            int64_t wall_s)
{
    if (!is_open(s)) {
        atomic_fetch_add(&s->failed, 1);
        question_answer(q, FACT_TEMPFAIL, span_make("", 0), "store not open");
        return;
    }
    struct job *job = new_job(s, JOB_DECIDE, on_decided);
    job->question = q;
    job->request = (struct greylist_request){
        .key = q->key.text, .params = store_greylist_params(&q->config->params),
        .now_s = wall_s,
    };
    lane_put(&s->lane, loop, &job->item);
}

/* ------------------------------------------------------------ what is remembered */

static void free_text_job(struct job *job)
{
    buf_fini(&job->payload);
    free(job->text);
    free(job);
}

static void on_recalled(struct loop *loop, struct lane_item *item)
{
    struct job *job = (struct job *)(void *)item;
    enum fact_status status = job->rc != 0     ? FACT_TEMPFAIL
                              : job->is_found ? FACT_FOUND
                                              : FACT_NOT_FOUND;
    (void)loop;
    if (job->found != NULL)
        job->found(job->arg, job->rc == 0, buf_span(&job->payload));
    else
        question_answer(job->question, status, span_make("", 0), "store");
    free_text_job(job);
}

static struct job *new_recall(struct store_service *s, struct span text, int64_t wall_s)
{
    struct job *job = new_job(s, JOB_RECALL, on_recalled);
    job->now_s = wall_s;
    job->text = xprintf("%.*s", (int)text.len, text.at);
    return job;
}

void store_service_recall(struct store_service *s, struct loop *loop, struct question *q,
                          int64_t wall_s)
{
    if (atomic_load(&s->state) != STORE_IS_OPEN) {
        question_answer(q, FACT_TEMPFAIL, span_make("", 0), "store not open");
        return;
    }
    struct job *job = new_recall(s, q->key.text, wall_s);
    job->question = q;
    lane_put(&s->lane, loop, &job->item);
}

void store_service_find(struct store_service *s, struct loop *loop, const char *text,
                        int64_t wall_s, store_found *found, void *arg)
{
    if (!is_open(s)) {
        found(arg, false, span_make("", 0));
        return;
    }
    struct job *job = new_recall(s, span_of(text), wall_s);
    job->found = found;
    job->arg = arg;
    lane_put(&s->lane, loop, &job->item);
}

static void on_remembered(struct loop *loop, struct lane_item *item)
{
    (void)loop;
    free_text_job((struct job *)(void *)item);
}

void store_service_remember(struct store_service *s, struct loop *loop, const char *text,
                            int64_t until_s, struct span payload)
{
    if (atomic_load(&s->state) != STORE_IS_OPEN)
        return;
    struct job *job = new_job(s, JOB_REMEMBER, on_remembered);
    job->text = xstrdup(text);
    job->until_s = until_s;
    buf_add(&job->payload, payload);
    lane_put(&s->lane, loop, &job->item);
}

/* ------------------------------------------------------------ commands */

static void on_command_done(struct loop *loop, struct lane_item *item)
{
    struct store_command *c = (struct store_command *)(void *)item;
    c->done(loop, c);
}

void store_service_command(struct store_service *s, struct loop *loop, struct store_command *c)
{
    c->service = s;
    c->item.done = on_command_done;
    lane_put(&s->lane, loop, &c->item);
}
