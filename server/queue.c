#include "server/queue.h"
#include "protocol/mem.h"
#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { LOAD_BATCH = 256, DOWN_MAX = 64, WRITE_AGAIN_MS = 5000 };

/* What other threads may know about destinations. */
struct down {
    uint64_t hash;
    int64_t until_s;
};

struct turn;

struct queue {
    struct server *server;   /* lent */
    struct spool *spool;     /* owns */
    struct lane lane;        /* any thread */
    struct schedule *schedule; /* owns */
    uv_timer_t timer;        /* the next turn */
    struct turn *turns;      /* owns: under way */
    bool is_draining, is_started;
    atomic_int late_count;   /* any thread: see queue_begin_late() */
    pthread_mutex_t mutex;
    struct down down[DOWN_MAX]; /* guarded */
};

static struct loop *loop_of_queue(struct queue *q)
{
    return q->server->loops[0];
}

static int64_t wall_s(struct loop *loop)
{
    return loop->services.wall_us(&loop->services) / 1000000;
}

/* The schedule's clock: never runs back. */
static int64_t now_s(void)
{
    return (int64_t)(uv_hrtime() / 1000000000u);
}

struct lane *queue_lane(struct queue *q)
{
    return &q->lane;
}

struct spool *queue_spool(struct queue *q)
{
    return q->spool;
}

bool queue_begin_late(struct queue *q, const struct params *p)
{
    if (atomic_fetch_add(&q->late_count, 1) < p->qmgr_message_active_limit)
        return true;
    atomic_fetch_sub(&q->late_count, 1);
    return false;
}

void queue_end_late(struct queue *q)
{
    atomic_fetch_sub(&q->late_count, 1);
}

/* ------------------------------------------------------------ destinations that are down */

bool queue_is_down(struct queue *q, const char *destination)
{
    uint64_t hash = span_hash(span_of(destination));
    pthread_mutex_lock(&q->mutex);
    const struct down *d = &q->down[hash % DOWN_MAX];
    bool is_down = d->hash == hash && now_s() < d->until_s;
    pthread_mutex_unlock(&q->mutex);
    return is_down;
}

static void publish_down(struct queue *q, const char *destination, bool is_down)
{
    uint64_t hash = span_hash(span_of(destination));
    pthread_mutex_lock(&q->mutex);
    struct down *d = &q->down[hash % DOWN_MAX];
    if (is_down)
        *d = (struct down){ hash, now_s() + q->server->config->params.queue_run_delay / 1000 };
    else if (d->hash == hash)
        d->until_s = 0;
    pthread_mutex_unlock(&q->mutex);
}

static void learn_reached(struct queue *q, const char *destination, bool is_reached)
{
    schedule_reached(q->schedule, destination, is_reached, now_s());
    publish_down(q, destination, !is_reached);
}

/* ------------------------------------------------------------ turns */

static void start_entry(struct queue *q, struct queue_entry *e, enum schedule_task task);

static void on_timer(uv_timer_t *timer);

static void pump(struct queue *q)
{
    struct queue_entry *e;
    enum schedule_task task;
    if (q->is_draining || !q->is_started)
        return;
    while ((task = schedule_next(q->schedule, now_s(), &e)) != SCHEDULE_NOTHING)
        start_entry(q, e, task);
    int64_t wake_s = schedule_wake_s(q->schedule), wait_s = wake_s - now_s();
    if (wake_s == INT64_MAX)
        uv_timer_stop(&q->timer);
    else
        uv_timer_start(&q->timer, on_timer, wait_s > 0 ? (uint64_t)wait_s * 1000 : 1, 0);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

/* ------------------------------------------------------------ what has become of a message */

static void add_entry(struct queue *q, const struct envelope *e, bool is_held)
{
    struct buf destination = { 0 };
    struct loop *loop = loop_of_queue(q);
    uint64_t id;
    int64_t age_s = wall_s(loop) - e->arrived_s, wait_s = e->next_s - wall_s(loop);
    if (!queue_id_parse(span_of(e->id), &id))
        return;
    if (!envelope_single_destination(e, &destination))
        buf_clear(&destination);
    struct queue_entry *entry = schedule_add(q->schedule, id, buf_text(&destination),
                                             now_s() - age_s, now_s() + wait_s, now_s(), is_held);
    if (entry != NULL) {
        entry->is_bounce = e->sender.len == 0;
        entry->is_delay_told = e->is_delay_told;
    }
    buf_fini(&destination);
}

static void end_active(struct queue *q, struct queue_entry *entry, const struct envelope *e,
                       bool is_unreachable)
{
    struct buf destination = { 0 };
    if (!envelope_single_destination(e, &destination))
        buf_clear(&destination);
    entry->is_delay_told = e->is_delay_told;
    schedule_redirect(q->schedule, entry, buf_text(&destination));
    if (is_unreachable)
        schedule_wait(q->schedule, entry, now_s());
    else
        schedule_retry(q->schedule, entry, now_s());
    buf_fini(&destination);
}

static void carry_out(struct queue *q, struct queue_entry *entry);

static void take_event(struct queue *q, enum queue_event event, const struct envelope *e,
                       bool is_unreachable)
{
    uint64_t id = 0;
    queue_id_parse(span_of(e->id), &id);
    struct queue_entry *entry = schedule_find(q->schedule, id);
    if (entry == NULL && event != QUEUE_GONE) {
        add_entry(q, e, event == QUEUE_HELD);
        entry = schedule_find(q->schedule, id);
        if (entry != NULL && event == QUEUE_ACTIVE)
            schedule_activate(q->schedule, entry);
        return;
    }
    if (entry == NULL)
        return;
    if (event == QUEUE_GONE)
        schedule_remove(q->schedule, entry);
    else if (event == QUEUE_AGAIN && entry->state == ENTRY_ACTIVE)
        end_active(q, entry, e, is_unreachable);
    if (event == QUEUE_AGAIN)
        carry_out(q, entry);
}

/* The same from another loop: a copy of what is needed. */
struct told {
    struct post post;
    struct queue *queue;
    enum queue_event event;
    struct envelope envelope; /* owns */
    struct buf reached;       /* owns: "+name\0" or "-name\0" */
    bool is_unreachable;
};

static void take_reached(struct queue *q, struct span list)
{
    while (list.len > 0) {
        learn_reached(q, list.at + 1, list.at[0] == '+');
        list = span_skip(list, strlen(list.at) + 1);
    }
}

static void run_told(struct loop *loop, struct post *post)
{
    struct told *t = (struct told *)(void *)post;
    (void)loop;
    take_reached(t->queue, buf_span(&t->reached));
    take_event(t->queue, t->event, &t->envelope, t->is_unreachable);
    pump(t->queue);
    envelope_fini(&t->envelope);
    buf_fini(&t->reached);
    free(t);
}

static void copy_envelope(struct envelope *copy, const struct envelope *e)
{
    envelope_init(copy, e->id);
    copy->arrived_s = e->arrived_s;
    copy->next_s = e->next_s;
    copy->sender = arena_span(&copy->memory, e->sender);
    copy->is_delay_told = e->is_delay_told;
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        envelope_add(copy, r);
}

void queue_tell(struct queue *q, struct loop *loop, enum queue_event event,
                const struct envelope *e, const struct attempt *attempt, bool is_unreachable)
{
    struct told *t = xcalloc(1, sizeof *t);
    t->post.run = run_told;
    t->queue = q;
    t->event = event;
    t->is_unreachable = is_unreachable;
    copy_envelope(&t->envelope, e);
    for (const struct reached *r = attempt != NULL ? attempt->reached : NULL; r != NULL;
         r = r->next)
        buf_append(&t->reached, arena_printf(&t->envelope.memory, "%c%s",
                                             r->is_reached ? '+' : '-', r->destination),
                   strlen(r->destination) + 2);
    if (loop == loop_of_queue(q))
        run_told(loop, &t->post);
    else
        ENSURE(loop_post(loop_of_queue(q), &t->post)); /* loop 0 ends last */
}

/* ------------------------------------------------------------ settling */

struct again {
    uv_timer_t timer;
    struct queue *queue;
    struct loop *loop;
    struct record *record;
};

static void on_again_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_again(uv_timer_t *timer)
{
    struct again *a = timer->data;
    record_put(&a->queue->lane, a->loop, a->record);
    loop_work_done(a->loop);
    uv_close((uv_handle_t *)&a->timer, on_again_closed);
}

/* Put off; nothing is lost, but if we are killed now somebody gets the message twice. */
static void write_again(struct queue *q, struct loop *loop, struct record *r)
{
    struct again *a = xcalloc(1, sizeof *a);
    *a = (struct again){ .queue = q, .loop = loop, .record = r };
    log_line(loop->services.log, "qmgr", 0,
             "warning: %s: the spool cannot be written: %s; trying again", r->envelope->id,
             strerror(-r->result));
    uv_timer_init(&loop->uv, &a->timer);
    a->timer.data = a;
    loop->work_count++;
    uv_timer_start(&a->timer, on_again, WRITE_AGAIN_MS, 0);
}

struct settling {
    struct queue *queue;
    void (*done)(struct loop *loop, struct record *r);
    void *owner;
};

static void on_settled(struct loop *loop, struct record *r)
{
    struct settling *s = r->owner;
    if (r->result != 0 && !loop->is_draining) {
        write_again(s->queue, loop, r);
        return;
    }
    const char *id = r->envelope->id;
    if (r->has_bounce && r->changes[0].result == 0) {
        log_line(loop->services.log, "bounce", 0, "%s: %s: %s", id, r->bounce_name, r->bounce_id);
        queue_tell(s->queue, loop, QUEUE_AGAIN, &r->bounce, NULL, false);
    }
    if (r->is_untold)
        log_line(loop->services.log, "bounce", 0,
                 "warning: %s: nobody takes the notification for its sender "
                 "(bounce_transport, postmaster): %s", id,
                 r->is_removed ? "given up" : "trying again later");
    if (r->result == 0 && r->is_removed)
        log_line(loop->services.log, "qmgr", 0, "%s: removed", id);
    r->owner = s->owner;
    r->done = s->done;
    free(s);
    r->done(loop, r); /* may free it: last line */
}

void queue_settle(struct queue *q, struct loop *loop, struct record *r)
{
    struct settling *s = xcalloc(1, sizeof *s);
    *s = (struct settling){ .queue = q, .done = r->done, .owner = r->owner };
    r->owner = s;
    r->done = on_settled;
    record_put(&q->lane, loop, r);
}

/* ------------------------------------------------------------ one message of the spool */

struct turn {
    struct turn *prev, *next; /* of all that are under way */
    struct record record;
    struct attempt attempt;
    struct queue *queue;
    uint64_t id;
    enum schedule_task task;
};

/* May end the loop: nothing may follow. */
static void free_turn(struct turn *t)
{
    struct queue *q = t->queue;
    *(t->prev != NULL ? &t->prev->next : &q->turns) = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    record_fini(&t->record);
    attempt_fini(&t->attempt);
    free(t);
    loop_work_done(loop_of_queue(q));
}

static void on_turn_settled(struct loop *loop, struct record *r)
{
    struct turn *t = r->owner;
    struct queue *q = t->queue;
    bool is_gone = r->is_removed && r->result == 0;
    queue_tell(q, loop, is_gone ? QUEUE_GONE : QUEUE_AGAIN, &t->attempt.envelope, &t->attempt,
               r->is_unreachable);
    free_turn(t);
}

static void settle_turn(struct turn *t)
{
    struct record *r = &t->record;
    const struct queue_entry *e = schedule_find(t->queue->schedule, t->id);
    *r = (struct record){ .kind = RECORD_SETTLE, .config = t->attempt.config,
                          .envelope = &t->attempt.envelope, .folder = SPOOL_ACTIVE,
                          .age_s = e != NULL ? now_s() - e->arrived_s : 0,
                          .is_unreachable = t->attempt.is_unreachable,
                          .done = on_turn_settled, .owner = t };
    queue_settle(t->queue, t->attempt.loop, r);
}

static void on_tried(struct attempt *a)
{
    settle_turn(a->owner);
}

static bool is_damage(int error)
{
    return error == -ENOENT || error == -EBADMSG || error == -EPROTONOSUPPORT;
}

/* Damaged ones were set aside; others may be readable later. */
static void give_up_reading(struct turn *t, int error)
{
    struct queue *q = t->queue;
    struct queue_entry *e = schedule_find(q->schedule, t->id);
    log_line(loop_of_queue(q)->services.log, "qmgr", 0, "warning: %s: cannot be read: %s%s",
             t->record.id, error == -EBADMSG ? "it is damaged" : strerror(-error),
             is_damage(error) && error != -ENOENT ? "; moved to corrupt/" : "");
    if (e != NULL && is_damage(error))
        schedule_remove(q->schedule, e);
    else if (e != NULL)
        schedule_retry(q->schedule, e, now_s());
    pump(q);
    free_turn(t);
}

/* Whoever goes the same way and was looked at before; NULL: nobody. */
static const struct envelope_rcpt *companion(const struct envelope *e,
                                             const struct envelope_rcpt *r)
{
    for (const struct envelope_rcpt *other = e->rcpts; other != r; other = other->next)
        if (other->state == RCPT_OWED && strcmp(other->transport, r->transport) == 0
            && strcmp(other->nexthop, r->nexthop) == 0)
            return other;
    return NULL;
}

/* A message for several destinations stands in nobody's line: those that are down are left out. */
static void skip_what_is_down(struct queue *q, struct envelope *e)
{
    struct buf name = { 0 };
    bool is_single = envelope_single_destination(e, &name);
    for (struct envelope_rcpt *r = e->rcpts; r != NULL && !is_single; r = r->next) {
        const struct envelope_rcpt *other = companion(e, r);
        if (r->state != RCPT_OWED)
            continue;
        buf_clear(&name);
        envelope_destination(r, &name);
        r->is_skipped = other != NULL ? other->is_skipped
                                      : !schedule_take_turn(q->schedule, buf_text(&name), now_s());
    }
    buf_fini(&name);
}

static void on_read(struct loop *loop, struct record *r)
{
    struct turn *t = r->owner;
    struct attempt *a = &t->attempt;
    if (r->result != 0) {
        give_up_reading(t, r->result);
        return;
    }
    a->message_fd = r->message_fd;
    a->body = (struct body){ .fd = r->message_fd, .dir_fd = -1, .has_head = true,
                             .size_bytes = r->message_bytes };
    if (t->queue->is_draining) { /* told to end while it was read: no new tries */
        free_turn(t);
        return;
    }
    a->envelope.tries += t->task == SCHEDULE_TRY;
    a->is_unreachable = t->task == SCHEDULE_SETTLE;
    skip_what_is_down(t->queue, &a->envelope);
    (void)loop;
    if (t->task == SCHEDULE_SETTLE || envelope_count(&a->envelope, RCPT_OWED) == 0)
        settle_turn(t);
    else
        attempt_start(a);
}

static void start_entry(struct queue *q, struct queue_entry *e, enum schedule_task task)
{
    struct turn *t = xcalloc(1, sizeof *t);
    t->queue = q;
    t->id = e->id;
    t->task = task;
    t->next = q->turns;
    if (t->next != NULL)
        t->next->prev = t;
    q->turns = t;
    loop_of_queue(q)->work_count++;
    t->attempt = (struct attempt){ .loop = loop_of_queue(q), .message_fd = -1, .done = on_tried,
                                   .config = config_hold(q->server->config), .owner = t };
    envelope_init(&t->attempt.envelope, "");
    t->record = (struct record){ .kind = RECORD_READ, .envelope = &t->attempt.envelope,
                                 .folder = SPOOL_ACTIVE, .done = on_read, .owner = t };
    queue_id_print(e->id, t->record.id);
    record_put(&q->lane, loop_of_queue(q), &t->record);
}

/* ------------------------------------------------------------ start */

/* The envelopes that were there at the start, read in batches on a work thread. */
struct load {
    uv_work_t request;
    struct queue *queue;
    enum spool_folder folder;
    uint64_t *ids; /* owns */
    size_t count, next, batch_count;
    struct envelope batch[LOAD_BATCH];
    int results[LOAD_BATCH];
};

static void run_load(uv_work_t *request)
{
    struct load *l = (struct load *)(void *)request;
    char id[QUEUE_ID_MAX];
    l->batch_count = 0;
    while (l->next < l->count && l->batch_count < LOAD_BATCH) {
        size_t i = l->batch_count++;
        queue_id_print(l->ids[l->next++], id);
        l->results[i] = spool_read(l->queue->spool, l->folder, id, &l->batch[i]);
        snprintf(l->batch[i].id, QUEUE_ID_MAX, "%s", id);
        if (l->results[i] == -EBADMSG || l->results[i] == -EPROTONOSUPPORT)
            spool_set_aside(l->queue->spool, l->folder, id);
    }
}

static void take_loaded(struct queue *q, const struct load *l, size_t i)
{
    if (l->results[i] == 0)
        add_entry(q, &l->batch[i], l->folder == SPOOL_HOLD);
    else if (l->results[i] != -ENOENT) /* that one was dealt with meanwhile */
        log_line(loop_of_queue(q)->services.log, "qmgr", 0, "warning: %s: cannot be read: %s%s",
                 l->batch[i].id, l->results[i] == -EBADMSG ? "it is damaged"
                                                            : strerror(-l->results[i]),
                 is_damage(l->results[i]) ? "; moved to corrupt/" : "");
}

static void after_load(uv_work_t *request, int status)
{
    struct load *l = (struct load *)(void *)request;
    struct queue *q = l->queue;
    struct loop *loop = loop_of_queue(q);
    (void)status;
    for (size_t i = 0; i < l->batch_count; i++) {
        take_loaded(q, l, i);
        envelope_fini(&l->batch[i]);
    }
    pump(q);
    if (l->next < l->count && !q->is_draining) {
        ENSURE(uv_queue_work(&loop->uv, &l->request, run_load, after_load) == 0);
        return;
    }
    free(l->ids);
    free(l);
    loop_work_done(loop);
}

/* Lists before anybody is served: what is spooled later has somebody who tells of it. */
static void begin_load(struct queue *q, enum spool_folder folder)
{
    struct loop *loop = loop_of_queue(q);
    struct load *l = xcalloc(1, sizeof *l);
    l->queue = q;
    l->folder = folder;
    if (spool_list(q->spool, folder, &l->ids, &l->count) != 0)
        l->count = 0;
    if (l->count > 0)
        log_line(loop->services.log, "qmgr", 0, "%zu messages in the spool%s", l->count,
                 folder == SPOOL_HOLD ? " on hold" : "");
    loop->work_count++;
    ENSURE(uv_queue_work(&loop->uv, &l->request, run_load, after_load) == 0);
}

static void log_notes(struct loop *loop, struct span notes)
{
    while (notes.len > 0) {
        size_t n = span_find(notes, '\n');
        log_line(loop->services.log, "qmgr", 0, "warning: %.*s", (int)n, notes.at);
        notes = span_skip(notes, n + 1);
    }
}

struct queue *queue_open(struct server *server, const char **error)
{
    struct queue *q = xcalloc(1, sizeof *q);
    struct buf notes = { 0 };
    const struct params *p = &server->config->params;
    const struct schedule_limits limits = record_limits(p);
    q->server = server;
    int rc = spool_open(p->queue_directory, SPOOL_LOCKED, &q->spool);
    if (rc == 0)
        rc = spool_recover(q->spool, &notes);
    *error = rc == 0 ? NULL : rc == -EWOULDBLOCK ? "another server works there" : strerror(-rc);
    q->schedule = schedule_new(&limits);
    record_lane_init(&q->lane, q->spool);
    pthread_mutex_init(&q->mutex, NULL);
    uv_timer_init(&loop_of_queue(q)->uv, &q->timer);
    q->timer.data = q;
    log_notes(loop_of_queue(q), buf_span(&notes));
    buf_fini(&notes);
    return q;
}

void queue_start(struct queue *q)
{
    q->is_started = true;
    begin_load(q, SPOOL_ACTIVE);
    begin_load(q, SPOOL_HOLD);
}

void queue_reload(struct queue *q)
{
    const struct schedule_limits limits = record_limits(&q->server->config->params);
    schedule_set_limits(q->schedule, &limits);
    pump(q);
}

void queue_drain(struct queue *q)
{
    q->is_draining = true;
    uv_timer_stop(&q->timer);
    for (struct turn *t = q->turns; t != NULL; t = t->next)
        attempt_cancel(&t->attempt);
}

void queue_close(struct queue *q)
{
    uv_close((uv_handle_t *)&q->timer, NULL);
}

void queue_free(struct queue *q)
{
    schedule_free(q->schedule);
    spool_close(q->spool);
    lane_fini(&q->lane);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

struct schedule_counts queue_count(struct queue *q)
{
    return schedule_count(q->schedule);
}

int64_t queue_oldest_s(struct queue *q)
{
    int64_t arrived_s = schedule_oldest_s(q->schedule);
    return arrived_s == INT64_MAX ? 0 : now_s() - arrived_s;
}

/* ------------------------------------------------------------ what the command line asks */

/* A change by hand, on its way to the disk. */
struct order {
    struct record record;
    struct queue *queue;
    uint64_t id;
    struct command *command; /* NULL: it was put off until the message was at rest */
};

struct command {
    struct control_call *call; /* NULL: the other end has left */
    size_t pending, count;
    int failed;
    bool is_reading; /* more orders may come */
};

static void end_command(struct command *c)
{
    char text[64];
    if (c->pending > 0 || c->is_reading)
        return;
    if (c->call != NULL) {
        int n = snprintf(text, sizeof text, "%zu %s\n", c->count,
                         c->count == 1 ? "message" : "messages");
        c->call->gone = NULL;
        control_say(c->call, span_make(text, (size_t)n));
        control_end(c->call, c->failed != 0 ? EX_UNAVAILABLE : EX_OK);
    }
    free(c);
}

static void on_order_done(struct loop *loop, struct record *r)
{
    struct order *o = r->owner;
    struct queue *q = o->queue;
    struct queue_entry *e = schedule_find(q->schedule, o->id);
    struct command *c = o->command;
    if (e != NULL && r->result == 0 && r->kind == RECORD_REMOVE) {
        log_line(loop->services.log, "qmgr", 0, "%s: removed by the administrator", r->id);
        schedule_remove(q->schedule, e);
    } else if (e != NULL && r->folder == SPOOL_HOLD && r->result == 0) {
        log_line(loop->services.log, "qmgr", 0, "%s: placed on hold", r->id);
        schedule_hold(q->schedule, e);
    } else if (e != NULL && r->result == 0) {
        log_line(loop->services.log, "qmgr", 0, "%s: released from hold", r->id);
        schedule_hold(q->schedule, e);
        schedule_flush(q->schedule, e, now_s());
    } else if (e != NULL) {
        bool was_held = (r->kind == RECORD_MOVE) != (r->folder == SPOOL_HOLD);
        log_line(loop->services.log, "qmgr", 0, "warning: %s: %s", r->id, strerror(-r->result));
        if (was_held)
            schedule_hold(q->schedule, e);
        else
            schedule_retry(q->schedule, e, now_s());
    }
    if (c != NULL) {
        c->count += r->result == 0;
        c->failed |= r->result != 0;
        c->pending--;
        end_command(c);
    }
    e = schedule_find(q->schedule, o->id);
    if (e != NULL) /* somebody may have asked for more meanwhile */
        carry_out(q, e);
    record_fini(r);
    free(o);
    pump(q);
}

/* Nobody else touches the message meanwhile: it is active. */
static void give_order(struct queue *q, struct queue_entry *e, enum record_kind kind,
                       enum spool_folder folder, struct command *c)
{
    struct order *o = xcalloc(1, sizeof *o);
    o->queue = q;
    o->id = e->id;
    o->command = c;
    o->record = (struct record){ .kind = kind, .folder = folder, .done = on_order_done,
                                 .owner = o };
    queue_id_print(e->id, o->record.id);
    schedule_activate(q->schedule, e);
    if (c != NULL)
        c->pending++;
    record_put(&q->lane, loop_of_queue(q), &o->record);
}

static enum spool_folder folder_of(const struct queue_entry *e)
{
    return e->state == ENTRY_HELD ? SPOOL_HOLD : SPOOL_ACTIVE;
}

/* What was asked for while somebody tried it, or while another order was carried out. */
static void carry_out(struct queue *q, struct queue_entry *e)
{
    bool is_delete = e->is_delete_due, is_hold = e->is_hold_due;
    e->is_delete_due = e->is_hold_due = false;
    if (q->is_draining)
        return;
    if (is_delete)
        give_order(q, e, RECORD_REMOVE, folder_of(e), NULL);
    else if (is_hold && e->state != ENTRY_HELD)
        give_order(q, e, RECORD_MOVE, SPOOL_HOLD, NULL);
}

static void order_flush(struct queue *q, struct queue_entry *e, struct command *c)
{
    if (e->state == ENTRY_HELD) /* that is what release is for */
        return;
    schedule_flush(q->schedule, e, now_s());
    publish_down(q, e->destination->name, false);
    c->count++;
}

static void order_hold(struct queue *q, struct queue_entry *e, struct command *c)
{
    if (e->state == ENTRY_ACTIVE) {
        e->is_hold_due = true;
        c->count++;
    } else if (e->state != ENTRY_HELD) {
        give_order(q, e, RECORD_MOVE, SPOOL_HOLD, c);
    }
}

static void order_release(struct queue *q, struct queue_entry *e, struct command *c)
{
    e->is_hold_due = false;
    if (e->state == ENTRY_HELD)
        give_order(q, e, RECORD_MOVE, SPOOL_ACTIVE, c);
}

static void order_delete(struct queue *q, struct queue_entry *e, struct command *c)
{
    if (e->state == ENTRY_ACTIVE) {
        e->is_delete_due = true;
        c->count++;
    } else {
        give_order(q, e, RECORD_REMOVE, folder_of(e), c);
    }
}

static const struct {
    const char *name;
    void (*run)(struct queue *q, struct queue_entry *e, struct command *c);
} orders[] = {
    { "flush", order_flush }, { "hold", order_hold },
    { "release", order_release }, { "delete", order_delete },
};

static void on_gone(struct control_call *call)
{
    struct command *c = call->context;
    c->call = NULL;
}

struct every {
    uint64_t *ids; /* owns */
    size_t count;
};

static void add_every(void *context, struct queue_entry *e)
{
    struct every *every = context;
    every->ids[every->count++] = e->id;
}

/* Orders change the schedule, so the ids are taken down first. */
static void order_all(struct queue *q, size_t order, struct command *c)
{
    struct every every = { .ids = xcalloc(schedule_count(q->schedule).entries + 1,
                                          sizeof *every.ids) };
    schedule_each(q->schedule, &every, add_every);
    for (size_t i = 0; i < every.count; i++) {
        struct queue_entry *e = schedule_find(q->schedule, every.ids[i]);
        if (e != NULL)
            orders[order].run(q, e, c);
    }
    free(every.ids);
}

void queue_command(struct control_call *call)
{
    struct queue *q = call->loop->server->queue;
    struct span rest = span_of(call->words), verb = span_next_word(&rest), word;
    struct command *c = xcalloc(1, sizeof *c);
    size_t i = 0;
    if (span_equals(verb, SPAN_LITERAL("status"))) { /* is somebody there? */
        free(c);
        control_end(call, EX_OK);
        return;
    }
    while (i < ARRAY_LEN(orders) && !span_equals(verb, span_of(orders[i].name)))
        i++;
    *c = (struct command){ .call = call, .is_reading = true, .failed = i == ARRAY_LEN(orders) };
    call->context = c;
    call->gone = on_gone;
    while (i < ARRAY_LEN(orders) && (word = span_next_word(&rest)).len > 0) {
        uint64_t id;
        struct queue_entry *e = queue_id_parse(word, &id) ? schedule_find(q->schedule, id) : NULL;
        if (span_equals(word, SPAN_LITERAL("all")))
            order_all(q, i, c);
        else if (e != NULL)
            orders[i].run(q, e, c);
    }
    c->is_reading = false;
    pump(q);
    end_command(c);
}
