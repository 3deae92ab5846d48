#include "server/record.h"
#include "policy/dns_name.h"
#include "policy/route.h"
#include "protocol/mem.h"
#include "queue/bounce.h"
#include "server/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct schedule_limits record_limits(const struct params *p)
{
    return (struct schedule_limits){
        .minimal_backoff_s = p->minimal_backoff_time / 1000,
        .maximal_backoff_s = p->maximal_backoff_time / 1000,
        .lifetime_s = p->maximal_queue_lifetime / 1000,
        .bounce_lifetime_s = p->bounce_queue_lifetime / 1000,
        .delay_warning_s = p->delay_warning_time / 1000,
        .probe_s = p->destination_probe_time / 1000,
        .probe_max_s = p->queue_run_delay / 1000,
        .concurrency = (unsigned)p->default_destination_concurrency_limit,
        .active_limit = (unsigned)p->qmgr_message_active_limit,
    };
}

static struct spool_change *add_change(struct record *r, enum spool_act act, const char *id)
{
    struct spool_change *c = &r->changes[r->change_count++];
    *c = (struct spool_change){ .act = act, .folder = r->folder };
    snprintf(c->id, sizeof c->id, "%s", id);
    return c;
}

/* ------------------------------------------------------------ notifications */

static void format_date(int64_t at_s, char text[64])
{
    time_t at = (time_t)at_s;
    struct tm tm;
    localtime_r(&at, &tm);
    strftime(text, 64, "%a, %d %b %Y %H:%M:%S %z (%Z)", &tm);
}

static int write_bounce(struct record *r, int message_fd, uint64_t message_bytes)
{
    const struct params *p = &r->config->params;
    char date[64], arrival[64], until[64];
    struct envelope *e = r->envelope;
    format_date(r->now_s, date);
    format_date(e->arrived_s, arrival);
    format_date(e->arrived_s + p->maximal_queue_lifetime / 1000, until);
    const struct bounce b = {
        .id = r->bounce_id, .myhostname = p->myhostname, .mail_name = p->mail_name,
        .date = date, .arrival_date = arrival, .retry_until = until,
        .size_limit = (uint64_t)p->bounce_size_limit, .message_fd = message_fd,
        .message_bytes = message_bytes,
    };
    return bounce_write(&b, e, &r->bounce_body, &r->bounce.is_8bitmime, &r->bounce.is_smtputf8);
}

static void add_target(struct record *r, const struct target *t)
{
    envelope_add(&r->bounce, &(struct envelope_rcpt){
                                 .address = t->address, .original = r->envelope->sender,
                                 .transport = t->transport.name,
                                 .nexthop = t->mailbox != NULL ? t->mailbox
                                                               : t->transport.nexthop,
                                 .notify = SMTP_NOTIFY_NEVER });
}

/* Our own users get it where they get everything. */
static enum route_status route_to(struct record *r, struct span address)
{
    struct arena memory = { 0 };
    struct target *targets = NULL;
    const char *text;
    enum route_status status = route_recipient(r->config->policy, &map_reader_direct, address,
                                               &memory, &targets, &text);
    for (const struct target *t = targets; t != NULL && status == ROUTE_OK; t = t->next)
        add_target(r, t);
    arena_fini(&memory);
    return status;
}

/* The sender's own mail hosts: at public addresses only, whatever the sender claims to be. */
static const char *mx_of(struct span domain, struct arena *memory)
{
    char name[DNS_NAME_MAX];
    if (dns_name_ask(name, domain))
        return arena_printf(memory, "mx:%s", name);
    return arena_printf(memory, "mx:%.*s", (int)domain.len, domain.at);
}

static void route_by_transport(struct record *r, const char *text)
{
    struct arena memory = { 0 };
    struct transport transport;
    struct span sender = r->envelope->sender;
    transport_parse(span_of(text), &memory, &transport);
    size_t at = span_find_last(sender, '@');
    const char *domain = mx_of(span_skip(sender, at + 1), &memory);
    bool is_mx = transport.nexthop[0] == '\0';
    envelope_add(&r->bounce, &(struct envelope_rcpt){
                                 .address = sender, .transport = transport.name,
                                 .nexthop = is_mx ? domain : transport.nexthop,
                                 .notify = SMTP_NOTIFY_NEVER });
    arena_fini(&memory);
}

static void route_bounce(struct record *r)
{
    const struct params *p = &r->config->params;
    bool has_domain = span_find(r->envelope->sender, '@') < r->envelope->sender.len;
    enum route_status status = route_to(r, r->envelope->sender);
    if (r->bounce.count > 0 || status == ROUTE_RETRY || status == ROUTE_BROKEN)
        return; /* it is ours, or may be: a table cannot answer now */
    if (p->bounce_transport[0] != '\0' && has_domain)
        route_by_transport(r, p->bounce_transport);
    else
        route_to(r, SPAN_LITERAL("postmaster"));
}

/* With the message out of the spool, where it lies whoever has tried it. */
static void write_bounce_of_message(struct record *r)
{
    uint64_t size_bytes = 0;
    int fd = spool_open_message(r->spool, r->envelope->id, &size_bytes);
    int rc = write_bounce(r, fd, size_bytes);
    if (fd >= 0)
        close(fd);
    if (rc == 0)
        return;
    buf_clear(&r->bounce_body); /* the message cannot be read: without it, then */
    write_bounce(r, -1, 0);
}

/* False: there is nobody to tell it to. */
static bool make_bounce(struct record *r)
{
    envelope_init(&r->bounce, r->bounce_id);
    r->bounce.arrived_s = r->bounce.next_s = r->now_s;
    route_bounce(r);
    if (r->bounce.count == 0)
        return false;
    write_bounce_of_message(r);
    r->bounce.size_bytes = r->bounce_body.len;
    r->bounce_message = (struct body){ .memory = buf_span(&r->bounce_body), .fd = -1,
                                       .dir_fd = -1 };
    envelope_print(&r->bounce, &r->bounce_text);
    struct spool_change *c = add_change(r, SPOOL_CREATE, r->bounce_id);
    c->folder = SPOOL_ACTIVE;
    c->envelope = buf_span(&r->bounce_text);
    c->body = &r->bounce_message;
    r->has_bounce = true;
    r->bounce_name = bounce_name(r->envelope);
    return true;
}

/* ------------------------------------------------------------ kinds */

static void prepare_create(struct record *r)
{
    struct spool_change *c = add_change(r, SPOOL_CREATE, r->id);
    c->envelope = buf_span(&r->text);
    c->head = r->head;
    c->body = r->body;
    c->skip_bytes = r->skip_bytes;
}

static void prepare_settle(struct record *r)
{
    struct envelope *e = r->envelope;
    const struct schedule_limits limits = record_limits(&r->config->params);
    int64_t at_s = e->arrived_s + r->age_s; /* the wall clock may be years away from where it was */
    r->is_untold = bounce_plan(e, &limits, at_s) && !make_bounce(r);
    if (r->is_untold && !schedule_is_expired(&limits, e->arrived_s, false, at_s))
        bounce_put_off(e);
    e->next_s = r->is_unreachable ? r->now_s
                                  : r->now_s + schedule_backoff_s(&limits, e->arrived_s, at_s);
    r->is_removed = envelope_count(e, RCPT_OWED) + envelope_count(e, RCPT_FAILED) == 0;
    struct spool_change *c = add_change(r, r->is_removed ? SPOOL_REMOVE : SPOOL_UPDATE, e->id);
    c->after = r->has_bounce ? &r->changes[0] : NULL;
    envelope_print(e, &r->text);
    c->envelope = buf_span(&r->text);
}

static void prepare_move(struct record *r)
{
    add_change(r, SPOOL_MOVE, r->id);
}

static void prepare_remove(struct record *r)
{
    add_change(r, SPOOL_REMOVE, r->id);
    r->is_removed = true;
}

static void prepare_read(struct record *r)
{
    (void)r;
}

static void (*const prepare[])(struct record *r) = {
    [RECORD_CREATE] = prepare_create, [RECORD_SETTLE] = prepare_settle,
    [RECORD_MOVE] = prepare_move, [RECORD_REMOVE] = prepare_remove,
    [RECORD_READ] = prepare_read,
};

/* Damage does not go away by itself, and must not be tried again and again. */
static void read_message(struct spool *spool, struct record *r)
{
    r->message_fd = -1;
    r->result = spool_read(spool, r->folder, r->id, r->envelope);
    if (r->result == 0)
        r->message_fd = spool_open_message(spool, r->id, &r->message_bytes);
    if (r->result == 0 && r->message_fd < 0)
        r->result = r->message_fd == -ENOENT ? -EBADMSG : r->message_fd;
    if (r->result == -EBADMSG || r->result == -EPROTONOSUPPORT)
        spool_set_aside(spool, r->folder, r->id);
}

/* ------------------------------------------------------------ the lane */

static void finish(struct spool *spool, struct record *r)
{
    r->result = 0;
    for (size_t i = 0; i < r->change_count && r->result == 0; i++)
        r->result = r->changes[i].result;
    if (r->kind == RECORD_READ)
        read_message(spool, r);
}

static struct record *record_of(struct lane_item *item)
{
    return (struct record *)(void *)item;
}

/* The second time it only does again what has failed: everything was decided before. */
static struct spool_change **add_changes(struct record *r, struct spool_change **end)
{
    for (size_t i = 0; i < r->change_count; i++)
        if (!r->is_prepared || r->changes[i].result != 0) {
            *end = &r->changes[i];
            end = &r->changes[i].next;
        }
    r->is_prepared = true;
    return end;
}

static void run_batch(struct lane *lane, struct lane_item *batch)
{
    struct spool_change *changes = NULL, **end = &changes;
    for (struct lane_item *i = batch; i != NULL; i = i->next) {
        struct record *r = record_of(i);
        r->spool = lane->context;
        if (!r->is_prepared)
            prepare[r->kind](r);
        end = add_changes(r, end);
    }
    *end = NULL;
    spool_run(lane->context, changes);
    for (struct lane_item *i = batch; i != NULL; i = i->next)
        finish(lane->context, record_of(i));
}

static void on_done(struct loop *loop, struct lane_item *item)
{
    struct record *r = record_of(item);
    r->done(loop, r); /* may free it: last line */
}

void record_lane_init(struct lane *lane, struct spool *spool)
{
    lane_init(lane, run_batch, spool);
}

void record_put(struct lane *lane, struct loop *loop, struct record *r)
{
    r->item.done = on_done;
    r->now_s = loop->services.wall_us(&loop->services) / 1000000;
    if (r->kind == RECORD_SETTLE && r->bounce_id[0] == '\0')
        smtpd_new_queue_id(&loop->services, r->bounce_id);
    bool is_large = r->kind == RECORD_CREATE && r->body->fd >= 0;
    bool waits_for_nobody = r->kind == RECORD_READ || is_large;
    if (r->kind == RECORD_CREATE) { /* here: a try that is under way changes the envelope */
        snprintf(r->id, sizeof r->id, "%s", r->envelope->id);
        buf_clear(&r->text);
        envelope_print(r->envelope, &r->text);
    }
    if (waits_for_nobody)
        lane_put_beside(lane, loop, &r->item);
    else
        lane_put(lane, loop, &r->item);
}

void record_fini(struct record *r)
{
    if (r->has_bounce || r->kind == RECORD_SETTLE)
        envelope_fini(&r->bounce);
    buf_fini(&r->text);
    buf_fini(&r->bounce_text);
    buf_fini(&r->bounce_body);
}
