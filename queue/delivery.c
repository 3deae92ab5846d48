#include "queue/delivery.h"
#include "protocol/mem.h"

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

bool delivery_single_head(const struct delivery *d, struct buf *head)
{
    const struct delivery_rcpt *first = next_with_mailbox(d->rcpts);
    if (first == NULL || next_with_mailbox(first->next) != NULL)
        return false;
    write_head(d, first, head);
    return true;
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
