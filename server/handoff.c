#include "server/handoff.h"
#include "protocol/mem.h"
#include "server/conn.h"
#include "server/queue.h"
#include "server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct handoff {
    struct attempt attempt;
    struct record record;
    struct queue *queue;
    struct delivery *delivery; /* owns, until the client has its answer and nobody reads it */
    uv_timer_t *timer;         /* owns: the time limit */
    bool is_tried, is_trying;  /* the attempt has begun; it is under way */
    bool is_slow;              /* it is being spooled because the time is over */
    bool is_spooling;          /* the record is under way */
    bool is_spooled;           /* it is ours: on disk, known to the queue */
    bool is_answered;
    bool is_late;              /* counted among those that are tried from memory after their 250 */
};

/* ------------------------------------------------------------ ends */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void stop_timer(struct handoff *h)
{
    if (h->timer == NULL)
        return;
    uv_close((uv_handle_t *)h->timer, on_timer_closed);
    h->timer = NULL;
}

static void finish(struct handoff *h)
{
    struct loop *loop = h->attempt.loop;
    stop_timer(h);
    if (h->is_late)
        queue_end_late(h->queue);
    record_fini(&h->record);
    attempt_fini(&h->attempt);
    delivery_free(h->delivery);
    free(h);
    loop_work_done(loop);
}

/* Before an answer that ends all: who hears it finds nothing of the message left. */
static void forget_bytes(struct handoff *h)
{
    intake_drop(&h->delivery->intake);
}

/* The client's part is over. We still have the delivery: its bytes may be on their way. */
static void answer(struct handoff *h, enum delivery_end end, const struct smtp_reply *reply)
{
    struct delivery *d = h->delivery;
    if (h->is_answered)
        return;
    h->is_answered = true;
    d->end = end;
    if (reply != NULL)
        d->reply = (struct smtp_reply){ reply->code,
                                        arena_text(&d->memory, span_of(reply->enhanced)),
                                        arena_text(&d->memory, span_of(reply->text)) };
    d->is_kept = true;
    loop_now_ms(h->attempt.loop);
    struct smtpd *smtpd = smtpd_delivered(&h->attempt.loop->services, d);
    if (smtpd != NULL)
        conn_resume(smtpd->conn);
}

static bool is_abandoned(const struct handoff *h)
{
    return h->delivery->owner == NULL && !h->is_answered;
}

static void log_removed(struct handoff *h)
{
    log_line(h->attempt.loop->services.log, "qmgr", h->attempt.number, "%s: removed",
             h->attempt.envelope.id);
}

/* ------------------------------------------------------------ after the time limit */

static void on_settled(struct loop *loop, struct record *r)
{
    struct handoff *h = r->owner;
    bool is_gone = r->is_removed && r->result == 0;
    queue_tell(h->queue, loop, is_gone ? QUEUE_GONE : QUEUE_AGAIN, &h->attempt.envelope,
               &h->attempt, r->is_unreachable);
    finish(h);
}

/* Tried and spooled: the results are the spooled message's. */
static void settle(struct handoff *h)
{
    int64_t age_ms = loop_now_ms(h->attempt.loop) - h->delivery->arrived_ms;
    record_fini(&h->record);
    h->record = (struct record){ .kind = RECORD_SETTLE, .config = h->attempt.config,
                                 .envelope = &h->attempt.envelope, .folder = SPOOL_ACTIVE,
                                 .age_s = age_ms / 1000,
                                 .is_unreachable = h->attempt.is_unreachable,
                                 .done = on_settled, .owner = h };
    queue_settle(h->queue, h->attempt.loop, &h->record);
}

/* ------------------------------------------------------------ spooling */

static void decide(struct handoff *h);

/* It is ours now. What was tried is settled; what was not has its turn from the queue. */
static void on_durable(struct handoff *h, enum spool_folder folder)
{
    enum queue_event event = folder == SPOOL_HOLD ? QUEUE_HELD
                             : h->is_tried        ? QUEUE_ACTIVE
                                                  : QUEUE_AGAIN;
    h->is_spooled = true;
    queue_tell(h->queue, h->attempt.loop, event, &h->attempt.envelope, &h->attempt, false);
    answer(h, DELIVERY_SPOOLED, NULL);
    if (!h->is_tried) {
        finish(h);
    } else if (!h->is_trying) {
        settle(h);
    } else {
        h->is_late = queue_begin_late(h->queue, &h->attempt.config->params);
        if (!h->is_late) /* the queue tries it from the file; what is behind the dot goes on */
            attempt_cancel(&h->attempt);
    }
}

static void refuse(struct handoff *h, int error)
{
    const struct smtp_reply reply = delivery_failure(error == EDQUOT ? ENOSPC : error, 1);
    bool has_words = reply.code == 452 || error == EMFILE || error == ENFILE;
    forget_bytes(h);
    answer(h, DELIVERY_ANSWERED,
           &(struct smtp_reply){ reply.code, reply.enhanced,
                                 has_words ? reply.text : "Error: queue file write error" });
    finish(h);
}

static void on_spooled(struct loop *loop, struct record *r)
{
    struct handoff *h = r->owner;
    bool was_slow = h->is_slow;
    h->is_spooling = h->is_slow = false;
    if (r->result == 0) {
        on_durable(h, r->folder);
        return;
    }
    log_line(loop->services.log, "qmgr", h->attempt.number,
             "warning: %s: the spool cannot be written: %s", h->attempt.envelope.id,
             strerror(-r->result));
    if (!was_slow)
        refuse(h, -r->result);
    else if (!h->is_trying) /* else the try has to say */
        decide(h);
}

static void spool(struct handoff *h)
{
    struct delivery *d = h->delivery;
    record_fini(&h->record);
    h->record = (struct record){
        .kind = RECORD_CREATE, .config = h->attempt.config, .envelope = &h->attempt.envelope,
        .folder = d->is_hold ? SPOOL_HOLD : SPOOL_ACTIVE, .head = h->attempt.head,
        .body = &h->attempt.body, .done = on_spooled, .owner = h,
        .skip_bytes = d->file_head == HEAD_MAILBOX && d->intake.fd >= 0 ? d->skip_bytes : 0,
    };
    h->is_spooling = true;
    record_put(queue_lane(h->queue), h->attempt.loop, &h->record);
}

/* ------------------------------------------------------------ the verdict */

enum { ALL_SENT = 1, ALL_REFUSED = 2, ALL_DEFERRED = 4 };

/* What is true of all recipients. */
static unsigned unanimity(const struct envelope *e)
{
    unsigned all = ALL_SENT | ALL_REFUSED | ALL_DEFERRED;
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next) {
        bool is_word = r->is_said && r->code >= 400;
        all &= r->state == RCPT_SENT                  ? ALL_SENT
               : is_word && r->state == RCPT_FAILED ? ALL_REFUSED
               : is_word                            ? ALL_DEFERRED
                                                    : 0u;
    }
    return all;
}

static bool wants_word_of_success(const struct envelope *e)
{
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        if (r->state == RCPT_SENT && (r->notify & SMTP_NOTIFY_SUCCESS) != 0)
            return true;
    return false;
}

/* That a host answers is no news: it was not down. */
static void tell_if_down(struct handoff *h)
{
    bool is_down = false;
    for (const struct reached *r = h->attempt.reached; r != NULL; r = r->next)
        is_down |= !r->is_reached;
    if (is_down)
        queue_tell(h->queue, h->attempt.loop, QUEUE_GONE, &h->attempt.envelope, &h->attempt,
                   false);
}

static void decide(struct handoff *h)
{
    const struct envelope *e = &h->attempt.envelope;
    unsigned all = unanimity(e);
    if (h->is_spooled) {
        settle(h);
        return;
    }
    bool is_over = is_abandoned(h) || (all & (ALL_REFUSED | ALL_DEFERRED)) != 0
                   || ((all & ALL_SENT) != 0 && !wants_word_of_success(e));
    if (!is_over) {
        spool(h);
        return;
    }
    tell_if_down(h);
    forget_bytes(h);
    answer(h, DELIVERY_ANSWERED,
           &(struct smtp_reply){ e->rcpts->code, e->rcpts->enhanced, e->rcpts->text });
    log_removed(h);
    finish(h);
}

static void on_tried(struct attempt *a)
{
    struct handoff *h = a->owner;
    h->is_trying = false;
    stop_timer(h);
    if (!h->is_spooling) /* else on_spooled() looks again */
        decide(h);
}

static void on_time_over(uv_timer_t *timer)
{
    struct handoff *h = timer->data;
    stop_timer(h);
    if (!h->is_trying || is_abandoned(h))
        return;
    h->is_slow = true;
    spool(h);
}

static bool is_any_down(struct handoff *h)
{
    struct buf name = { 0 };
    bool is_down = false;
    for (const struct envelope_rcpt *r = h->attempt.envelope.rcpts; r != NULL; r = r->next) {
        buf_clear(&name);
        envelope_destination(r, &name);
        is_down |= queue_is_down(h->queue, buf_text(&name));
    }
    buf_fini(&name);
    return is_down;
}

static void try_first(struct handoff *h)
{
    struct loop *loop = h->attempt.loop;
    h->timer = xcalloc(1, sizeof *h->timer);
    uv_timer_init(&loop->uv, h->timer);
    h->timer->data = h;
    uv_timer_start(h->timer, on_time_over,
                   (uint64_t)h->attempt.config->params.delivery_verdict_time_limit, 0);
    h->is_tried = h->is_trying = true;
    attempt_start(&h->attempt);
}

void handoff_start(struct loop *loop, struct delivery *d)
{
    struct handoff *h = xcalloc(1, sizeof *h);
    struct smtpd *smtpd = d->owner;
    h->queue = loop->server->queue;
    h->delivery = d;
    h->attempt = (struct attempt){ .loop = loop, .config = config_hold(smtpd->config),
                                   .number = d->number, .message_fd = -1, .done = on_tried,
                                   .owner = h, .head = delivery_trace(d),
                                   .body = intake_body(&d->intake) };
    h->attempt.body.has_head = d->file_head != HEAD_NONE && d->intake.fd >= 0;
    delivery_envelope(d, loop->services.wall_us(&loop->services) / 1000000,
                      &h->attempt.envelope);
    loop->work_count++;
    bool is_spool_first = d->is_hold || d->is_spool_first || d->file_head == HEAD_MAILBOX
                          || is_any_down(h);
    if (is_spool_first)
        spool(h);
    else
        try_first(h);
}
