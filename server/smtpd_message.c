/* A message on its way: queue id, bytes into the intake, the commit, and what is logged. */
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/clients.h"
#include "server/smtpd.h"
#include "server/stats.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------ recipients */

/* Unique while this host's clock does not run backwards for long: microseconds, and the loop. */
void smtpd_new_queue_id(struct smtpd_services *services, char text[QUEUE_ID_MAX])
{
    uint64_t id = (uint64_t)services->wall_us(services);
    if (id <= services->last_id)
        id = services->last_id + 1;
    services->last_id = id;
    queue_id_print(id << 6 | (services->loop_index & 63), text);
}

/* What the spool and the next hops have to know of the transaction. */
static void keep_transaction(struct smtpd *d)
{
    struct delivery *delivery = d->delivery;
    delivery->mail = d->smtp.mail.params;
    delivery->mail.envid = arena_span(&delivery->memory, d->smtp.mail.params.envid);
    delivery->client = arena_text(&delivery->memory, span_of(smtpd_client(d)));
    delivery->is_spool_first = !d->config->params.delivery_verdict;
}

void smtpd_begin_message(struct smtpd *d)
{
    if (d->queue_id[0] != '\0')
        return;
    smtpd_new_queue_id(d->services, d->queue_id);
    d->delivery = delivery_new(d->queue_id, d->smtp.mail.sender.address, d->mail_began_ms);
    keep_transaction(d);
    smtpd_log(d, "smtpd", "%s: client=%s", d->queue_id, smtpd_client(d));
}

/* dsn: what the client wants to be told about the recipient at hand. */
void smtpd_add_targets(struct smtpd *d, const struct smtp_rcpt_params *dsn)
{
    smtpd_begin_message(d);
    for (const struct target *t = d->targets; t != NULL; t = t->next)
        delivery_add(d->delivery, &(struct delivery_rcpt){
                                      .address = t->address, .original = t->original,
                                      .mailbox = t->mailbox, .transport = t->transport.name,
                                      .nexthop = t->transport.nexthop, .notify = dsn->notify,
                                      .orcpt = dsn->orcpt });
    d->targets = NULL;
}

void smtpd_drop_message(struct smtpd *d)
{
    if (d->is_lent) /* it comes back to nobody, and is freed then */
        d->delivery->owner = NULL;
    else if (d->delivery != NULL)
        delivery_free(d->delivery);
    d->delivery = NULL;
    d->is_lent = false;
    d->queue_id[0] = '\0';
    d->prepends = d->bccs = NULL;
    d->redirect = NULL;
    d->is_discard = d->is_hold = false;
}

/* ------------------------------------------------------------ bytes */

static void fill_received(struct smtpd *d, struct buf *out)
{
    const struct smtp_session *s = &d->smtp;
    bool is_single = s->mail.rcpt_count == 1;
    const struct trace trace = {
        .helo = s->helo, .client_name = s->peer.name, .client_address = s->peer.address,
        .is_ipv6 = s->peer.ip.family == 6,
        .myhostname = s->params->myhostname, .mail_name = s->params->mail_name,
        .protocol = smtp_session_protocol(s), .is_tls = s->is_tls,
        .tls = s->params->smtpd_tls_received_header ? d->tls_text : NULL,
        .is_smtputf8 = s->mail.params.is_smtputf8, .queue_id = d->queue_id,
        .recipient = is_single ? s->mail.rcpts->path.address : span_make(NULL, 0),
        .date = d->services->date(d->services),
    };
    trace_received(out, &trace);
}

/* Everything that stands above the sender's own headers is known when the data begins. */
static void begin_intake(struct smtpd *d)
{
    struct delivery *delivery = d->delivery;
    struct buf text = { 0 };
    for (const struct text_item *p = d->prepends; p != NULL; p = p->next)
        buf_printf(&text, "%s\r\n", p->text);
    delivery->prepends = arena_span(&delivery->memory, buf_span(&text));
    buf_clear(&text);
    fill_received(d, &text);
    delivery->received = arena_span(&delivery->memory, buf_span(&text));
    buf_fini(&text);
    const char *dir = arena_printf(&delivery->memory, "%s/tmp", d->smtp.params->queue_directory);
    intake_begin(&delivery->intake, dir, d->queue_id, (size_t)d->smtp.params->header_size_limit);
    delivery->intake.headers.authserv_id = d->smtp.params->authserv_id;
}

/* To a work thread: from now on it may outlive us. */
static void lend(struct smtpd *d)
{
    d->delivery->owner = d;
    d->delivery->number = d->number;
    d->is_waiting = d->is_lent = true;
}

static void spill(struct smtpd *d)
{
    d->delivery->is_hold = d->is_hold;
    delivery_begin_file(d->delivery, d->smtp.params->maildir_newline == NEWLINE_LF);
    lend(d);
    d->services->spill(d->services, d->delivery);
}

struct smtpd *smtpd_spilled(struct delivery *delivery)
{
    struct smtpd *d = delivery->owner;
    if (d == NULL)
        delivery_free(delivery);
    else
        d->is_waiting = d->is_lent = false;
    return d;
}

static bool is_begun(const struct smtpd *d)
{
    return d->delivery->intake.dir != NULL;
}

/* Input that was read into the intake's own room must not be overrun by bytes that the parser
 * adds (CR before a bare LF): it moves out of the way first. */
static void rescue_input(struct smtpd *d, struct span body, struct span *in)
{
    const struct intake *intake = &d->delivery->intake;
    if (in->len == 0 || !intake_holds(intake, *in) || intake_holds(intake, body))
        return;
    buf_clear(&d->rescue);
    buf_add(&d->rescue, *in);
    *in = buf_span(&d->rescue);
}

void smtpd_take_body(struct smtpd *d, struct span body, struct span *in)
{
    if (d->is_discard)
        return;
    if (!is_begun(d))
        begin_intake(d);
    rescue_input(d, body, in);
    intake_take(&d->delivery->intake, body);
    if (intake_is_full(&d->delivery->intake))
        spill(d);
}

char *smtpd_room(struct smtpd *d, size_t *size)
{
    if (!smtpd_is_receiving(d) || d->is_waiting || d->delivery == NULL || d->is_discard
        || d->smtp.is_too_big || !is_begun(d))
        return NULL;
    return intake_room(&d->delivery->intake, size);
}

/* ------------------------------------------------------------ the commit */

static void refuse_message(struct smtpd *d, const struct smtp_reply *reply)
{
    smtpd_log_reply(d, "END-OF-MESSAGE", reply);
    smtpd_answer(d, reply);
}

static bool is_looping(const struct smtpd *d)
{
    /* ours is one of them */
    return d->delivery->intake.headers.received_count + 1 >= d->smtp.params->hopcount_limit;
}

static void log_message(struct smtpd *d)
{
    const struct delivery *delivery = d->delivery;
    struct buf sender = { 0 };
    const char *id = delivery->intake.headers.message_id;
    text_escape(&sender, delivery->sender, 320);
    if (id[0] != '\0')
        smtpd_log(d, "cleanup", "%s: message-id=%s", d->queue_id, id);
    smtpd_log(d, "qmgr", "%s: from=<%s>, size=%llu, nrcpt=%zu (queue active)", d->queue_id,
              buf_text(&sender), (unsigned long long)d->smtp.data.size_bytes, delivery->count);
    buf_fini(&sender);
}

/* Behind the last byte: what can be refused at once, then the end_of_data list. */
void smtpd_commit(struct smtpd *d)
{
    static const struct smtp_reply loop = { 554, "5.4.0", "Error: too many hops" };
    if (d->is_discard) {
        smtpd_deliver(d);
        return;
    }
    if (!is_begun(d))
        begin_intake(d);
    struct intake *intake = &d->delivery->intake;
    intake_finish(intake);
    if (intake_needs_spill(intake)) {
        spill(d);
        return; /* the machine asks again */
    }
    if (is_looping(d)) {
        refuse_message(d, &loop);
        return;
    }
    d->smtp.verb = d->smtp.data.is_bdat ? SMTP_VERB_BDAT : SMTP_VERB_DATA;
    smtpd_run_end_of_data(d);
}

/* Postfix's words: "queued as", although the mail is already where it belongs. */
static void answer_accepted(struct smtpd *d, const char *queue_id)
{
    const char *text = d->smtp.data.is_bdat
                           ? arena_printf(&d->smtp.scratch, "Ok: %llu bytes queued as %s",
                                          (unsigned long long)d->smtp.data.size_bytes, queue_id)
                           : arena_printf(&d->smtp.scratch, "Ok: queued as %s", queue_id);
    stats_message(d->services->stats, d->smtp.data.size_bytes);
    smtpd_answer(d, &(struct smtp_reply){ 250, "2.0.0", text });
}

/* Unique on this host for ever: time, process and queue id (https://cr.yp.to/proto/maildir.html);
 * '/' and ':' of a host name must not appear in a file name. */
static const char *unique_name(struct smtpd *d)
{
    char host[128];
    size_t i = 0;
    for (const char *c = d->smtp.params->myhostname; *c != '\0' && i < sizeof host - 5; c++) {
        if (*c == '/' || *c == ':')
            i += (size_t)snprintf(host + i, sizeof host - i, "\\%03o", (unsigned)*c);
        else
            host[i++] = *c;
    }
    host[i] = '\0';
    int64_t now_us = d->services->wall_us(d->services);
    return arena_printf(&d->delivery->memory, "%lld.P%dQ%s.%s", (long long)(now_us / 1000000),
                        (int)getpid(), d->queue_id, host);
}

void smtpd_deliver(struct smtpd *d)
{
    if (d->is_discard) {
        smtpd_log(d, "smtpd", "%s: discarded", d->queue_id);
        answer_accepted(d, d->queue_id);
        return;
    }
    struct delivery *delivery = d->delivery;
    if (d->redirect != NULL && d->targets != NULL)
        delivery_clear(delivery);
    static const struct smtp_rcpt_params silent = { .notify = SMTP_NOTIFY_NEVER };
    smtpd_add_targets(d, &silent); /* of REDIRECT and BCC: nobody asked to hear about them */
    delivery->is_hold = d->is_hold;
    if (delivery->intake.error != 0) {
        struct smtp_reply reply = delivery_failure(-delivery->intake.error, 1);
        refuse_message(d, &reply);
        return;
    }
    const char *base = arena_text(&delivery->memory, span_of(d->smtp.params->virtual_mailbox_base));
    log_message(d);
    if (!delivery_needs_queue(delivery))
        delivery_prepare(delivery, base, unique_name(d),
                         d->smtp.params->maildir_newline == NEWLINE_LF);
    lend(d);
    d->services->deliver(d->services, delivery);
}

static void log_recipient(struct smtpd_services *services, const struct delivery *delivery,
                          const struct delivery_rcpt *r, const char *status)
{
    struct buf to = { 0 };
    double delay_s = (double)(services->now_ms - delivery->arrived_ms) / 1000.0;
    text_escape(&to, r->address, 320);
    if (!span_equals(r->address, r->original)) {
        buf_puts(&to, ">, orig_to=<");
        text_escape(&to, r->original, 320);
    }
    smtpd_log_delivery(services, delivery->queue_id, r, status,
                       services->now_ms - delivery->arrived_ms);
    log_line(services->log, r->transport, delivery->number,
             "%s: to=<%s>, relay=%s, delay=%.2f, %s", delivery->queue_id, buf_text(&to),
             r->transport, delay_s > 0 ? delay_s : 0.0, status);
    buf_fini(&to);
}

static void log_result(struct smtpd_services *services, const struct delivery *delivery)
{
    char failed[400];
    const struct smtp_reply reply = delivery_failure(-delivery->commit.result, delivery->count);
    snprintf(failed, sizeof failed, "dsn=%s, status=%s (%s)", reply.enhanced,
             reply.code >= 500 ? "bounced" : "deferred", strerror(-delivery->commit.result));
    for (const struct delivery_rcpt *r = delivery->rcpts; r != NULL; r = r->next) {
        const char *good = r->mailbox != NULL ? "dsn=2.0.0, status=sent (delivered to maildir)"
                                              : "dsn=2.0.0, status=sent (discarded)";
        log_recipient(services, delivery, r, delivery->commit.result == 0 ? good : failed);
    }
    log_line(services->log, "qmgr", delivery->number, "%s: removed", delivery->queue_id);
}

static void answer_end(struct smtpd *d, const struct delivery *delivery)
{
    struct smtp_reply reply = delivery->reply;
    switch (delivery->end) {
    case DELIVERY_COMMITTED:
        reply.code = 250;
        if (delivery->commit.result != 0)
            reply = delivery_failure(-delivery->commit.result, delivery->count);
        break;
    case DELIVERY_SPOOLED: reply.code = 250; break;
    case DELIVERY_ANSWERED:
        if (reply.code >= 400)
            smtpd_log_reply(d, "END-OF-MESSAGE", &reply);
        break;
    }
    if (reply.code < 400) {
        clients_welcome(d->services->clients, &d->client_ip, d->smtp.params,
                        d->services->now_ms);
        answer_accepted(d, delivery->queue_id);
    } else {
        smtpd_answer(d, &reply);
    }
}

struct smtpd *smtpd_delivered(struct smtpd_services *services, struct delivery *delivery)
{
    struct smtpd *d = delivery->owner;
    if (delivery->end == DELIVERY_COMMITTED)
        log_result(services, delivery);
    delivery->owner = NULL;
    if (d != NULL) {
        d->delivery = NULL;
        d->is_lent = false;
        answer_end(d, delivery);
    }
    if (!delivery->is_kept)
        delivery_free(delivery);
    return d;
}
