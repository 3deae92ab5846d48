#include "server/attempt.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "protocol/trace.h"
#include "server/deliver.h"
#include "server/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What goes one way: recipients of one next hop, or all Maildirs. */
struct part {
    struct part *next;
    struct attempt *attempt;
    struct envelope_rcpt **rcpts;
    size_t count;
    struct lmtp_job job;       /* next hop */
    struct deliver_item item;  /* Maildirs */
    struct commit *commits;
};

/* ------------------------------------------------------------ results */

static const char *status_of(const struct envelope_rcpt *r)
{
    switch (r->state) {
    case RCPT_SENT: return "sent";
    case RCPT_FAILED: return "bounced";
    case RCPT_OWED:
    case RCPT_DONE: break;
    }
    return "deferred";
}

static void log_rcpt(struct attempt *a, const struct envelope_rcpt *r, const char *why)
{
    struct buf to = { 0 };
    struct smtpd_services *services = &a->loop->services;
    double delay_s = (double)(services->wall_us(services) - a->envelope.arrived_s * 1000000) / 1e6;
    text_escape(&to, r->address, 320);
    if (!span_equals(r->address, r->original) && r->original.len > 0) {
        buf_puts(&to, ">, orig_to=<");
        text_escape(&to, r->original, 320);
    }
    stats_delivery(services->stats, r->transport, status_of(r), (int64_t)(delay_s * 1000));
    log_line(services->log, r->transport, a->number,
             "%s: to=<%s>, relay=%s, delay=%.2f, dsn=%s, status=%s (%s)", a->envelope.id,
             buf_text(&to), r->relay[0] != '\0' ? r->relay : "none", delay_s > 0 ? delay_s : 0.0,
             r->enhanced, status_of(r), why);
    buf_fini(&to);
}

static enum rcpt_state state_of(const struct attempt *a, int code)
{
    if (code < 400)
        return RCPT_SENT;
    return code >= 500 && !a->config->params.soft_bounce ? RCPT_FAILED : RCPT_OWED;
}

static void note_reached(struct attempt *a, const struct envelope_rcpt *r, bool is_reached)
{
    struct buf name = { 0 };
    envelope_destination(r, &name);
    struct reached *item = arena_alloc(&a->memory, sizeof *item);
    *item = (struct reached){ .next = a->reached, .is_reached = is_reached,
                              .destination = arena_text(&a->memory, buf_span(&name)) };
    a->reached = item;
    buf_fini(&name);
}

static void part_done(struct attempt *a)
{
    if (--a->pending == 0 && !a->is_starting)
        a->done(a); /* may free it: last line */
}

/* ------------------------------------------------------------ next hops */

/* What refused it and with what words, or just the good answer. */
static void describe(const struct lmtp_job *job, const struct lmtp_result *result,
                     struct buf *out)
{
    if (result->code >= 400)
        lmtp_result_print(out, job, result);
    else
        buf_printf(out, "%d%s%s %s", result->code, result->enhanced[0] != '\0' ? " " : "",
                   result->enhanced, result->text);
}

static const char *class_status(int code)
{
    return code < 400 ? "2.0.0" : code < 500 ? "4.0.0" : "5.0.0";
}

/* The next hop's own word about the message; 421 is about itself. */
static bool is_verdict(const struct lmtp_result *result)
{
    return result->source == LMTP_UNABLE
           || (result->source == LMTP_SAID && result->code != 421);
}

static void take_result(struct attempt *a, const struct lmtp_job *job,
                        const struct lmtp_rcpt *given, struct envelope_rcpt *r)
{
    const struct lmtp_result *result = &given->result;
    struct buf why = { 0 };
    const char *enhanced = result->enhanced[0] != '\0' ? result->enhanced
                                                       : class_status(result->code);
    r->state = state_of(a, result->code);
    r->is_said = is_verdict(result);
    envelope_note(&a->envelope, r, result->code, enhanced, result->text, job->host);
    if (r->state == RCPT_SENT && job->dsn_is_passed) /* whoever has it now tells */
        r->notify = SMTP_NOTIFY_NEVER;
    a->is_unreachable |= result->source == LMTP_UNREACHABLE;
    describe(job, result, &why);
    log_rcpt(a, r, buf_text(&why));
    buf_fini(&why);
}

static void on_job_done(struct lmtp_job *job)
{
    struct part *part = job->owner;
    struct attempt *a = part->attempt;
    enum lmtp_source source = job->rcpts[0].result.source;
    for (size_t i = 0; i < part->count; i++)
        take_result(a, job, &job->rcpts[i], part->rcpts[i]);
    if (source != LMTP_CANCELLED && source != LMTP_UNABLE)
        note_reached(a, part->rcpts[0], source != LMTP_UNREACHABLE);
    lmtp_job_fini(job);
    part_done(a);
}

static void start_job(struct attempt *a, struct part *part)
{
    const struct envelope *e = &a->envelope;
    bool is_lmtp = strcmp(part->rcpts[0]->transport, "lmtp") == 0;
    struct lmtp_rcpt *rcpts = arena_alloc(&a->memory, part->count * sizeof *rcpts);
    for (size_t i = 0; i < part->count; i++)
        rcpts[i] = (struct lmtp_rcpt){ .address = part->rcpts[i]->address,
                                       .notify = part->rcpts[i]->notify,
                                       .orcpt = part->rcpts[i]->orcpt };
    part->job = (struct lmtp_job){
        .protocol = is_lmtp ? LMTP_PROTOCOL_LMTP : LMTP_PROTOCOL_SMTP,
        .nexthop = part->rcpts[0]->nexthop, .sender = e->sender,
        .mail = { .size_bytes = e->size_bytes, .is_8bitmime = e->is_8bitmime,
                  .is_smtputf8 = e->is_smtputf8, .ret = e->ret, .envid = e->envid },
        .rcpts = rcpts, .count = part->count, .head = a->head, .body = &a->body,
        .done = on_job_done, .owner = part,
    };
    if (a->loop->fetcher.lmtp != NULL) {
        lmtp_start(a->loop->fetcher.lmtp, &part->job);
        return;
    }
    part->job.host = part->job.nexthop; /* the loop was told to stop */
    for (size_t i = 0; i < part->count; i++)
        rcpts[i].result = (struct lmtp_result){ LMTP_CANCELLED, 451, "4.3.2",
                                                "the server is going down", "" };
    on_job_done(&part->job);
}

static struct part *make_part(struct attempt *a, size_t limit)
{
    struct part *part = arena_alloc(&a->memory, sizeof *part);
    part->attempt = a;
    part->next = a->parts;
    part->rcpts = arena_alloc(&a->memory, limit * sizeof(struct envelope_rcpt *));
    a->parts = part;
    a->pending++;
    return part;
}

static bool goes_with(const struct envelope_rcpt *a, const struct envelope_rcpt *b)
{
    return a->state == RCPT_OWED && !a->is_skipped && strcmp(a->transport, b->transport) == 0
           && (strcmp(a->transport, "virtual") == 0 || strcmp(a->nexthop, b->nexthop) == 0);
}

static size_t recipient_limit(const struct attempt *a, const struct envelope_rcpt *r)
{
    const struct params *p = &a->config->params;
    if (strcmp(r->transport, "lmtp") == 0)
        return (size_t)p->lmtp_destination_recipient_limit;
    if (strcmp(r->transport, "smtp") == 0)
        return (size_t)p->smtp_destination_recipient_limit;
    return a->envelope.count;
}

/* ------------------------------------------------------------ Maildirs */

/* Our own for ever: the same for each try, another for each recipient. */
static const char *file_name(struct attempt *a, const struct envelope_rcpt *r)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < r->address.len + r->original.len; i++)
        hash = (hash ^ (unsigned char)(i < r->address.len ? r->address.at[i]
                                                          : r->original.at[i - r->address.len]))
               * 16777619u;
    char *host = arena_text(&a->memory, span_of(a->config->params.myhostname));
    for (char *c = host; *c != '\0'; c++)
        if (*c == '/' || *c == ':')
            *c = '_';
    return arena_printf(&a->memory, "%" PRId64 ".Q%s_%08x.%.128s", a->envelope.arrived_s,
                        a->envelope.id, (unsigned)hash, host);
}

static void take_commit(struct attempt *a, const struct commit *c, struct envelope_rcpt *r)
{
    bool is_there = c->result == 0;
    const struct smtp_reply reply = is_there ? (struct smtp_reply){ 250, "2.0.0", "" }
                                             : delivery_failure(-c->result, 1);
    r->state = state_of(a, reply.code);
    r->is_said = !is_there;
    envelope_note(&a->envelope, r, reply.code, reply.enhanced, reply.text, "virtual");
    log_rcpt(a, r, is_there ? "delivered to maildir" : strerror(-c->result));
}

static void on_commits_done(struct loop *loop, struct lane_item *item)
{
    struct part *part = (struct part *)(void *)((char *)item - offsetof(struct part, item));
    (void)loop;
    for (size_t i = 0; i < part->count; i++)
        take_commit(part->attempt, &part->commits[i], part->rcpts[i]);
    part_done(part->attempt);
}

static void prepare_commit(struct attempt *a, const struct envelope_rcpt *r, struct commit *c,
                           const struct body *body)
{
    struct buf head = { 0 };
    trace_delivery(&head, a->envelope.sender, r->original, r->address);
    if (!a->body.has_head)
        buf_add(&head, a->head);
    struct maildir_item *item = arena_alloc(&a->memory, sizeof *item);
    *item = (struct maildir_item){
        .mailbox = r->nexthop, .body = body, .head = arena_span(&a->memory, buf_span(&head)),
        .newline_is_lf = a->config->params.maildir_newline == NEWLINE_LF,
        .unique = file_name(a, r), .is_lasting = true, .new_fd = -1, .fd = -1,
    };
    *c = (struct commit){ .base = a->config->params.virtual_mailbox_base, .items = item,
                          .count = 1 };
    buf_fini(&head);
}

/* A commit for each: one full mailbox is nobody else's failure. */
static void start_commits(struct attempt *a, struct part *part)
{
    struct body *body = arena_alloc(&a->memory, sizeof *body);
    *body = a->body;
    body->has_head = false; /* of a single mailbox, that is */
    part->commits = arena_alloc(&a->memory, part->count * sizeof *part->commits);
    for (size_t i = 0; i < part->count; i++) {
        prepare_commit(a, part->rcpts[i], &part->commits[i], body);
        part->commits[i].next = i + 1 < part->count ? &part->commits[i + 1] : NULL;
    }
    part->item = (struct deliver_item){ .item.done = on_commits_done, .commits = part->commits };
    deliver_commits(&a->loop->server->deliver_lane, a->loop, &part->item, a->body.fd >= 0);
}

/* ------------------------------------------------------------ the round */

static void discard(struct attempt *a, struct part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        part->rcpts[i]->state = RCPT_SENT;
        envelope_note(&a->envelope, part->rcpts[i], 250, "2.0.0", "discarded", "none");
        log_rcpt(a, part->rcpts[i], "discarded");
    }
    part_done(a);
}

/* All that goes with the first one and is in no part yet. */
static struct part *gather(struct attempt *a, struct envelope_rcpt *first, bool *is_taken)
{
    size_t limit = recipient_limit(a, first), i = 0;
    struct part *part = make_part(a, limit < a->envelope.count ? limit : a->envelope.count);
    for (struct envelope_rcpt *r = a->envelope.rcpts; r != NULL; r = r->next, i++)
        if (!is_taken[i] && part->count < limit && goes_with(r, first)) {
            part->rcpts[part->count++] = r;
            is_taken[i] = true;
        }
    return part;
}

static void start_part(struct attempt *a, struct part *part)
{
    const char *transport = part->rcpts[0]->transport;
    if (strcmp(transport, "virtual") == 0)
        start_commits(a, part);
    else if (strcmp(transport, "discard") == 0)
        discard(a, part);
    else
        start_job(a, part);
}

static void end_in_a_later_turn(struct loop *loop, struct lane_item *item)
{
    struct part *part = (struct part *)(void *)((char *)item - offsetof(struct part, item));
    (void)loop;
    part_done(part->attempt);
}

void attempt_start(struct attempt *a)
{
    bool *is_taken = arena_alloc(&a->memory, a->envelope.count + 1);
    size_t i = 0;
    a->is_starting = true;
    for (struct envelope_rcpt *r = a->envelope.rcpts; r != NULL; r = r->next, i++)
        if (r->state == RCPT_OWED && !r->is_skipped && !is_taken[i])
            start_part(a, gather(a, r, is_taken));
    a->is_starting = false;
    if (a->pending > 0)
        return;
    struct part *nothing = make_part(a, 1);
    nothing->item.item.done = end_in_a_later_turn;
    deliver_commits(&a->loop->server->deliver_lane, a->loop, &nothing->item, false);
}

void attempt_cancel(struct attempt *a)
{
    for (struct part *part = a->parts; part != NULL; part = part->next)
        if (part->job.task != NULL)
            lmtp_cancel(&part->job);
}

void attempt_fini(struct attempt *a)
{
    if (a->message_fd >= 0)
        close(a->message_fd);
    arena_fini(&a->memory);
    envelope_fini(&a->envelope);
    config_release(a->config);
}
