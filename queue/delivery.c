#include "queue/delivery.h"
#include "protocol/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct delivery *delivery_new(const char *queue_id, struct span sender, int64_t arrived_ms)
{
    struct delivery *d = xcalloc(1, sizeof *d);
    snprintf(d->queue_id, sizeof d->queue_id, "%s", queue_id);
    d->sender = arena_span(&d->memory, sender);
    d->arrived_ms = arrived_ms;
    d->rcpts_end = &d->rcpts;
    d->intake.fd = d->intake.dir_fd = -1;
    return d;
}

void delivery_free(struct delivery *d)
{
    intake_drop(&d->intake);
    arena_fini(&d->memory);
    free(d);
}

static bool is_known(const struct delivery *d, const struct delivery_rcpt *rcpt)
{
    for (const struct delivery_rcpt *r = d->rcpts; r != NULL; r = r->next)
        if (span_equals(r->address, rcpt->address) && span_equals(r->original, rcpt->original))
            return true;
    return false;
}

void delivery_add(struct delivery *d, const struct delivery_rcpt *rcpt)
{
    if (is_known(d, rcpt))
        return;
    struct delivery_rcpt *copy = arena_alloc(&d->memory, sizeof *copy);
    *copy = *rcpt;
    copy->next = NULL;
    copy->address = arena_span(&d->memory, rcpt->address);
    copy->original = arena_span(&d->memory, rcpt->original);
    if (rcpt->mailbox != NULL)
        copy->mailbox = arena_text(&d->memory, span_of(rcpt->mailbox));
    copy->transport = arena_text(&d->memory, span_of(rcpt->transport));
    copy->nexthop = arena_text(&d->memory, span_of(rcpt->nexthop != NULL ? rcpt->nexthop : ""));
    copy->orcpt = arena_span(&d->memory, rcpt->orcpt);
    *d->rcpts_end = copy;
    d->rcpts_end = &copy->next;
    d->count++;
}

void delivery_clear(struct delivery *d)
{
    d->rcpts = NULL;
    d->rcpts_end = &d->rcpts;
    d->count = 0;
}

static void write_head(const struct delivery *d, const struct delivery_rcpt *rcpt,
                       struct buf *head)
{
    trace_delivery(head, d->sender, rcpt->original, rcpt->address);
    buf_add(head, d->prepends);
    buf_add(head, d->received);
}

static const struct delivery_rcpt *next_with_mailbox(const struct delivery_rcpt *r)
{
    while (r != NULL && r->mailbox == NULL)
        r = r->next;
    return r;
}

static const struct delivery_rcpt *only_mailbox(const struct delivery *d)
{
    const struct delivery_rcpt *first = next_with_mailbox(d->rcpts);
    return first != NULL && next_with_mailbox(first->next) == NULL ? first : NULL;
}

static bool is_local(const struct delivery_rcpt *r)
{
    return r->mailbox != NULL || strcmp(r->transport, "discard") == 0;
}

bool delivery_needs_queue(const struct delivery *d)
{
    bool needs = d->is_hold || d->is_spool_first || d->file_head == HEAD_TRACE
                 || (d->file_head == HEAD_MAILBOX && only_mailbox(d) != d->head_rcpt);
    for (const struct delivery_rcpt *r = d->rcpts; r != NULL && !needs; r = r->next)
        needs = !is_local(r) || (r->notify & SMTP_NOTIFY_SUCCESS) != 0;
    return needs;
}

void delivery_begin_file(struct delivery *d, bool newline_is_lf)
{
    struct buf head = { 0 };
    if (d->intake.fd >= 0 || d->file_head != HEAD_NONE)
        return;
    if (delivery_needs_queue(d)) {
        buf_add(&head, d->prepends);
        buf_add(&head, d->received);
        d->file_head = HEAD_TRACE;
    } else if (!newline_is_lf && only_mailbox(d) != NULL) {
        d->head_rcpt = only_mailbox(d);
        write_head(d, d->head_rcpt, &head);
        d->skip_bytes = head.len - d->prepends.len - d->received.len;
        d->file_head = HEAD_MAILBOX;
    }
    if (d->file_head != HEAD_NONE)
        intake_set_head(&d->intake, &head);
    buf_fini(&head);
}

struct span delivery_trace(struct delivery *d)
{
    struct buf head = { 0 };
    if (d->file_head != HEAD_NONE && d->intake.fd >= 0)
        return span_make(NULL, 0);
    buf_add(&head, d->prepends);
    buf_add(&head, d->received);
    struct span copy = arena_span(&d->memory, buf_span(&head));
    buf_fini(&head);
    return copy;
}

void delivery_envelope(const struct delivery *d, int64_t arrived_s, struct envelope *e)
{
    envelope_init(e, d->queue_id);
    e->arrived_s = e->next_s = arrived_s;
    e->size_bytes = d->prepends.len + d->received.len + d->intake.body_bytes;
    e->client = arena_text(&e->memory, span_of(d->client != NULL ? d->client : ""));
    e->sender = arena_span(&e->memory, d->sender);
    e->envid = arena_span(&e->memory, d->mail.envid);
    e->ret = d->mail.ret;
    e->is_8bitmime = d->mail.is_8bitmime;
    e->is_smtputf8 = d->mail.is_smtputf8;
    for (const struct delivery_rcpt *r = d->rcpts; r != NULL; r = r->next)
        envelope_add(e, &(struct envelope_rcpt){
                            .address = r->address, .original = r->original, .orcpt = r->orcpt,
                            .notify = r->notify, .transport = r->transport,
                            .nexthop = r->mailbox != NULL ? r->mailbox : r->nexthop });
}

static const struct {
    int error;
    struct smtp_reply reply;
} failures[] = {
    { EDQUOT, { 552, "5.2.2", "Mailbox is full" } },
    { ENOSPC, { 452, "4.3.1", "Insufficient system storage" } },
    { EMFILE, { 451, "4.3.1", "Error: too many open files" } },
    { ENFILE, { 451, "4.3.1", "Error: too many open files" } },
    { 0, { 451, "4.3.0", "Error: mailbox cannot be written now" } },
};

struct smtp_reply delivery_failure(int error, size_t count)
{
    size_t i = 0;
    while (failures[i].error != 0 && failures[i].error != error)
        i++;
    if (error == EDQUOT && count > 1) /* not everybody's mailbox: they may come one by one */
        return (struct smtp_reply){ 452, "4.2.2", "Error: a recipient's mailbox is full" };
    return failures[i].reply;
}

void delivery_prepare(struct delivery *d, const char *base, const char *unique,
                      bool newline_is_lf)
{
    struct buf head = { 0 };
    size_t i = 0;
    d->body = intake_body(&d->intake);
    d->commit = (struct commit){ .base = base };
    d->commit.items = arena_alloc(&d->memory, d->count * sizeof *d->commit.items);
    for (const struct delivery_rcpt *r = next_with_mailbox(d->rcpts); r != NULL;
         r = next_with_mailbox(r->next), i++) {
        buf_clear(&head);
        write_head(d, r, &head);
        d->commit.items[i] = (struct maildir_item){
            .mailbox = r->mailbox, .body = &d->body, .newline_is_lf = newline_is_lf,
            .head = arena_span(&d->memory, buf_span(&head)),
            .unique = i == 0 ? unique : arena_printf(&d->memory, "%s_%zu", unique, i),
            .new_fd = -1, .fd = -1,
        };
    }
    d->commit.count = i;
    buf_fini(&head);
}
