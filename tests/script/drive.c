#include "drive.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WIRE_LINE_MAX = 512 };

static const int64_t wall_start_us = 1700000000000000; /* Tue, 14 Nov 2023 22:13:20 UTC */

/* ------------------------------------------------------------ services */

static struct drive *drive_of(struct smtpd_services *services)
{
    return services->context;
}

static int64_t wall_us(struct smtpd_services *services)
{
    return wall_start_us + services->now_ms * 1000;
}

static const char *date(struct smtpd_services *services)
{
    static char text[64];
    time_t now_s = (time_t)(wall_us(services) / 1000000);
    struct tm tm;
    gmtime_r(&now_s, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000 (UTC)", &tm);
    return text;
}

static void complain(struct drive *d, const char *text)
{
    if (d->complaint == NULL)
        d->complaint = text;
}

/* Neighbouring rules ask together; the answers are given in the order of the questions. */
static void ask(struct smtpd *smtpd, const struct fact_key *key)
{
    struct drive *d = drive_of(smtpd->services);
    ENSURE(d->question_count < DRIVE_QUESTIONS_MAX);
    struct drive_question *q = &d->questions[d->question_count++];
    *q = (struct drive_question){ .key = *key };
    buf_add(&q->text, key->text);
    q->key.text = buf_span(&q->text);
    d->question = d->questions[0].key;
    d->state = DRIVE_ASKING;
}

static void drop_question(struct drive *d)
{
    buf_fini(&d->questions[0].text);
    d->question_count--;
    memmove(d->questions, d->questions + 1, d->question_count * sizeof d->questions[0]);
    d->question = d->questions[0].key;
}

/* It was decided without them: nobody waits for their answers any more. */
static void drop_questions(struct drive *d)
{
    while (d->question_count > 0)
        drop_question(d);
}

static void lend(struct drive *d, struct drive_lent *lent, struct delivery *delivery)
{
    ENSURE(lent->count < DRIVE_LENT_MAX);
    lent->items[lent->count++] = delivery;
    d->state = lent == &d->spilling ? DRIVE_SPILLING : DRIVE_DELIVERING;
}

static struct delivery *take_back(struct drive_lent *lent)
{
    ENSURE(lent->count > 0);
    struct delivery *first = lent->items[0];
    lent->count--;
    memmove(lent->items, lent->items + 1, lent->count * sizeof lent->items[0]);
    return first;
}

static void deliver(struct smtpd_services *services, struct delivery *delivery)
{
    lend(drive_of(services), &drive_of(services)->delivering, delivery);
}

static void spill(struct smtpd_services *services, struct delivery *delivery)
{
    lend(drive_of(services), &drive_of(services)->spilling, delivery);
}

/* ------------------------------------------------------------ life */

void drive_init(struct drive *d, struct config *config)
{
    const char *error;
    *d = (struct drive){ .config = config_hold(config) };
    struct log_sink *sink = log_sink_open(&(struct params){ .log_target = LOG_TARGET_STDOUT,
                                                            .syslog_name = "postern" },
                                          &error);
    ENSURE(sink != NULL);
    log_init(&d->log, sink);
    d->services = (struct smtpd_services){
        .log = &d->log, .clients = clients_new(), .context = d, .wall_us = wall_us,
        .date = date, .ask = ask, .deliver = deliver, .spill = spill,
    };
}

static void end_conversation(struct drive *d)
{
    smtpd_fini(d->smtpd);
    free(d->smtpd);
    d->smtpd = NULL;
    drop_questions(d);
    buf_fini(&d->held);
    buf_fini(&d->out);
}

void drive_fini(struct drive *d)
{
    if (d->smtpd != NULL)
        end_conversation(d);
    while (d->spilling.count > 0)
        smtpd_spilled(take_back(&d->spilling));
    while (d->delivering.count > 0)
        smtpd_delivered(&d->services, take_back(&d->delivering));
    clients_free(d->services.clients);
    buf_fini(&d->log.lines); /* before log_fini(), which would write them */
    log_sink_close(d->log.sink);
    buf_fini(&d->wire);
    drop_questions(d);
    config_release(d->config);
}

/* As the server would have found it; loopback addresses have their name already. */
static void name_client(struct smtp_peer *peer, const char *name, const char *reverse_name)
{
    if (name == NULL && reverse_name == NULL && peer->name_status == SMTP_NAME_OK)
        return;
    enum smtp_name_status reverse = reverse_name != NULL ? SMTP_NAME_OK : SMTP_NAME_PERMANENT;
    smtp_peer_set_reverse(peer, reverse_name, reverse);
    smtp_peer_set_name(peer, name,
                       name != NULL           ? SMTP_NAME_OK
                       : reverse_name != NULL ? SMTP_NAME_FORGED
                                              : SMTP_NAME_PERMANENT);
}

void drive_connect(struct drive *d, const struct ip *client, const char *name,
                   const char *reverse_name, bool is_looked_up)
{
    const struct ip server = { 4, { 192, 0, 2, 25 } };
    ENSURE(d->smtpd == NULL);
    d->smtpd = xcalloc(1, sizeof *d->smtpd);
    smtpd_init(d->smtpd, d->config, &d->services, client, 40000, &server, 25, ++d->number);
    if (!is_looked_up)
        name_client(&d->smtpd->smtp.peer, name, reverse_name);
    d->state = DRIVE_READING;
    buf_clear(&d->wire);
}

/* ------------------------------------------------------------ the pump */

static void flush(struct drive *d)
{
    buf_add(&d->wire, buf_span(&d->out));
    buf_clear(&d->out);
}

static void note_id(struct drive *d)
{
    if (d->services.last_id == d->noted_id || d->id_count == DRIVE_IDS_MAX)
        return;
    d->noted_id = d->services.last_id;
    snprintf(d->ids[d->id_count++], QUEUE_ID_MAX, "%llX",
             (unsigned long long)(d->services.last_id << 6 | (d->services.loop_index & 63)));
}

static void closed(struct drive *d)
{
    flush(d);
    d->state = DRIVE_CLOSED;
    smtpd_closed(d->smtpd, NULL);
    end_conversation(d);
}

/* What smtpd wants next; in: input it left, which is kept in d->held. */
static void settle(struct drive *d, enum smtpd_need need, struct span in)
{
    struct buf rest = { 0 };
    buf_add(&rest, in); /* in may lie in d->held itself */
    buf_fini(&d->held);
    d->held = rest;
    switch (need) {
    case SMTPD_INPUT:
        d->state = DRIVE_READING;
        if (in.len > 0)
            complain(d, "input is wanted, but not all of it was read");
        flush(d);
        break;
    case SMTPD_WAIT: /* the service that was called has set the state */
        if (d->state == DRIVE_READING)
            complain(d, "waits, but has asked nobody");
        flush(d);
        break;
    case SMTPD_SLEEP: d->state = DRIVE_SLEEPING; break;
    case SMTPD_TLS:
        d->state = DRIVE_TLS;
        buf_clear(&d->held); /* as the server does: it was never encrypted */
        flush(d);
        break;
    case SMTPD_CLOSE: closed(d); break;
    }
}

static void pump(struct drive *d, struct span in)
{
    d->state = DRIVE_READING;
    enum smtpd_need need = smtpd_next(d->smtpd, &in, &d->out);
    note_id(d);
    settle(d, need, in);
}

/* Goes on with the input that waited, in memory of exactly its size. */
static void resume(struct drive *d)
{
    size_t len = d->held.len;
    char *exact = xmalloc(len);
    if (len > 0)
        memcpy(exact, d->held.at, len);
    buf_clear(&d->held);
    pump(d, span_make(exact, len));
    free(exact);
}

/* As much as fits goes where the message is gathered. False: there is no such room now. */
static bool feed_room(struct drive *d, struct span *bytes)
{
    size_t size;
    char *room = d->uses_room && d->held.len == 0 ? smtpd_room(d->smtpd, &size) : NULL;
    if (room == NULL || bytes->len == 0)
        return false;
    size_t n = bytes->len < size ? bytes->len : size;
    memcpy(room, bytes->at, n);
    *bytes = span_skip(*bytes, n);
    pump(d, span_make(room, n));
    return true;
}

void drive_feed(struct drive *d, struct span bytes)
{
    while (d->state == DRIVE_READING && feed_room(d, &bytes) && bytes.len > 0)
        ;
    if (d->state == DRIVE_CLOSED || d->state == DRIVE_TLS)
        return;
    buf_add(&d->held, bytes);
    if (d->state == DRIVE_READING)
        resume(d);
}

void drive_learn(struct drive *d, enum fact_status status, struct span value)
{
    struct fact fact = { .key = d->question, .status = status, .value = value };
    struct buf text = { 0 }; /* learning may ask the next question */
    ENSURE(d->state == DRIVE_ASKING);
    buf_add(&text, fact.key.text);
    fact.key.text = buf_span(&text);
    drop_question(d);
    d->state = DRIVE_READING;
    smtpd_learn(d->smtpd, &fact);
    buf_fini(&text);
    bool is_decided = !d->smtpd->is_waiting || (d->state != DRIVE_READING && d->state != DRIVE_ASKING);
    if (is_decided)
        drop_questions(d);
    else if (d->question_count > 0)
        d->state = DRIVE_ASKING;
    if (d->state == DRIVE_READING)
        resume(d);
}

void drive_delivered(struct drive *d, int result)
{
    struct delivery *delivery = take_back(&d->delivering);
    delivery->commit.result = result;
    if (smtpd_delivered(&d->services, delivery) != NULL)
        resume(d);
}

/* What the spool and the next hops have made of it. */
void drive_handed_off(struct drive *d, enum delivery_end end, const struct smtp_reply *reply)
{
    struct delivery *delivery = take_back(&d->delivering);
    delivery->end = end;
    if (reply != NULL)
        delivery->reply = *reply;
    if (smtpd_delivered(&d->services, delivery) != NULL)
        resume(d);
}

void drive_spilled(struct drive *d, int error)
{
    struct delivery *delivery = take_back(&d->spilling);
    if (error == 0)
        intake_spill(&delivery->intake);
    else
        delivery->intake.error = error;
    if (smtpd_spilled(delivery) != NULL)
        resume(d);
}

void drive_wait(struct drive *d, int64_t ms)
{
    d->services.now_ms += ms;
}

void drive_wake(struct drive *d)
{
    ENSURE(d->state == DRIVE_SLEEPING);
    drive_wait(d, d->smtpd->smtp.sleep_ms);
    flush(d);
    resume(d);
}

void drive_secured(struct drive *d, const char *text)
{
    ENSURE(d->state == DRIVE_TLS);
    smtpd_secured(d->smtpd, text, "");
    resume(d);
}

void drive_timeout(struct drive *d)
{
    ENSURE(d->state == DRIVE_READING);
    smtp_session_timeout(&d->smtpd->smtp, &d->out);
    resume(d);
}

void drive_leave(struct drive *d, const char *error)
{
    smtpd_closed(d->smtpd, error);
    end_conversation(d);
    d->state = DRIVE_NONE;
}

/* ------------------------------------------------------------ what came out */

static bool has_control(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 0x7f)
            return true;
    return false;
}

static const char *wire_complaint(struct span line)
{
    bool has_code = line.len >= 4;
    for (size_t i = 0; i < 3 && has_code; i++)
        has_code = ascii_is_digit(line.at[i]);
    if (!has_code || (line.at[3] != ' ' && line.at[3] != '-') || line.at[0] < '2'
        || line.at[0] > '5')
        return "a reply line that is no reply";
    if (line.len + 2 > WIRE_LINE_MAX)
        return "a reply line of more than 512 bytes";
    if (has_control(line))
        return "a reply line with a control octet";
    return utf8_is_valid(line) ? NULL : "a reply line that is not UTF-8";
}

bool drive_line(struct drive *d, struct buf *line)
{
    struct span wire = buf_span(&d->wire);
    size_t end = span_find(wire, '\n');
    if (end == wire.len) {
        if (wire.len > 0)
            complain(d, "a reply line without an end");
        return false;
    }
    bool has_cr = end > 0 && wire.at[end - 1] == '\r';
    struct span text = span_make(wire.at, has_cr ? end - 1 : end);
    const char *complaint = has_cr ? wire_complaint(text) : "a reply line without CR";
    if (complaint != NULL)
        complain(d, complaint);
    buf_add(line, text);
    buf_drop(&d->wire, end + 1);
    return true;
}

static const char *log_complaint(struct span line)
{
    if (line.len > LOG_LINE_MAX + 300) /* the time, the host and the tag come on top */
        return "a log line that is too long";
    if (has_control(line))
        return "a log line with a control octet";
    return utf8_is_valid(line) ? NULL : "a log line that is not UTF-8";
}

/* "Nov 14 22:13:20 host postern/smtpd[1]: text" -> "smtpd: text". */
static void strip_tag(struct span line, struct buf *out)
{
    size_t slash = 0, bracket = 0;
    while (slash < line.len && line.at[slash] != '/')
        slash++;
    while (bracket < line.len && line.at[bracket] != '[')
        bracket++;
    size_t end = bracket + span_find(span_skip(line, bracket), ']');
    if (slash < bracket)
        buf_add(out, span_make(line.at + slash + 1, bracket - slash - 1));
    buf_add(out, span_skip(line, end + 1));
}

bool drive_log_line(struct drive *d, struct buf *line)
{
    struct span lines = buf_span(&d->log.lines);
    size_t end = span_find(lines, '\n');
    if (end == lines.len)
        return false;
    struct span text = span_make(lines.at, end);
    const char *complaint = log_complaint(text);
    if (complaint != NULL)
        complain(d, complaint);
    strip_tag(text, line);
    buf_drop(&d->log.lines, end + 1);
    return true;
}

const char *drive_complaint(const struct drive *d)
{
    return d->complaint;
}

size_t drive_idle_bytes(const struct drive *d)
{
    const struct smtpd *s = d->smtpd;
    size_t total = s->smtp.scratch.used_bytes + s->smtp.mail.memory.used_bytes
                   + s->smtp.peer.memory.used_bytes + s->smtp.line.partial.cap + s->rescue.cap
                   + s->answer_memory.used_bytes + s->run.out.memory.used_bytes;
    for (int stage = 0; stage <= STAGE_MAIL; stage++)
        total += s->raised[stage].memory.used_bytes;
    for (int scope = 0; scope < SCOPE_COUNT; scope++)
        total += s->facts.memory[scope].used_bytes;
    return total + (s->smtp.helo != NULL ? strlen(s->smtp.helo) + 1 : 0);
}
