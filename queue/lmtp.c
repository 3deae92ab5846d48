#include "queue/lmtp.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "queue/lmtp_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

enum line { LINE_QUESTIONS, LINE_MESSAGES, LINE_COUNT };

/* One next hop: its connections, and who waits for one. */
struct hop {
    struct hop *next;
    struct lmtp_pool *pool;
    enum lmtp_protocol protocol;
    bool is_public_only;     /* asked for; */
    bool is_strange;         /* ... or as a stranger has named it */
    char *text;              /* owns: the next hop as written */
    struct arena memory;     /* owns: of where */
    struct next_hop where;
    struct lmtp_task *first[LINE_COUNT], **end[LINE_COUNT];
    size_t waiting;
    struct link *links;      /* owns: all */
    int count;               /* of them */
    uint64_t down_until_ms;  /* nobody was reached a moment ago: */
    char down_text[600];
};

/* A piece of a file, read on a work thread; done() waits for it. */
struct reading {
    uv_work_t work;
    struct lmtp_task *task;
    int fd;
    off_t offset;
    ssize_t size; /* or -errno */
    char bytes[LMTP_PIECE_BYTES];
};

/* A job under way. */
struct lmtp_task {
    struct lmtp_task *next;       /* in line, or among the ended */
    struct lmtp_task *prev_all, *next_all;
    struct lmtp_pool *pool;
    struct lmtp_job *job;
    struct hop *hop;
    struct link *link;            /* lent; NULL: in line, or over */
    struct smtp_client_rcpt *rcpts; /* owns */
    uv_timer_t *deadline;         /* owns; NULL: none */
    struct reading *reading;      /* owns */
    uint64_t offset;              /* of the body, as far as it is sent */
    bool is_begun, is_in_line, is_head_sent, is_reading, is_over;
};

struct lmtp_pool {
    struct lmtp_outside outside;
    struct link_settings settings[2];
    struct hop *hops;
    struct lmtp_task *tasks;      /* all that are not over */
    struct lmtp_task *ended, **ended_end; /* done() is due */
    uv_timer_t *timer;            /* owns: calls it */
    size_t readings;              /* under way */
    bool is_closing;              /* it is freed when the last reading is back */
};

static void serve(struct hop *hop);

/* ------------------------------------------------------------ settings */

static int share(const struct lmtp_pool *pool, int limit)
{
    int loops = pool->outside.loops > 0 ? (int)pool->outside.loops : 1;
    return (limit + loops - 1) / loops;
}

static void free_settings(struct link_settings *s)
{
    free(s->hello);
    free(s->own_name);
    free(s->directory);
}

#define SETTINGS(p, prefix, hello_time, name)                                                    \
    {                                                                                            \
        .connect_ms = (uint64_t)(p)->prefix##_connect_timeout,                                   \
        .hello_ms = (uint64_t)(p)->hello_time,                                                   \
        .starttls_ms = (uint64_t)(p)->prefix##_starttls_timeout,                                 \
        .mail_ms = (uint64_t)(p)->prefix##_mail_timeout,                                         \
        .rcpt_ms = (uint64_t)(p)->prefix##_rcpt_timeout,                                         \
        .data_init_ms = (uint64_t)(p)->prefix##_data_init_timeout,                               \
        .data_xfer_ms = (uint64_t)(p)->prefix##_data_xfer_timeout,                               \
        .data_done_ms = (uint64_t)(p)->prefix##_data_done_timeout,                               \
        .idle_ms = (uint64_t)(p)->prefix##_connection_cache_time_limit,                          \
        .reuse_ms = (uint64_t)(p)->prefix##_connection_reuse_time_limit,                         \
        .port = (uint16_t)(p)->prefix##_tcp_port,                                                \
        .concurrency = (p)->prefix##_destination_concurrency_limit,                              \
        .wants_tls = (p)->prefix##_tls_security_level >= TLS_LEVEL_MAY,                          \
        .needs_tls = (p)->prefix##_tls_security_level == TLS_LEVEL_ENCRYPT,                      \
        .hello = xstrdup((p)->name), .own_name = xstrdup((p)->myhostname),                       \
        .directory = xstrdup((p)->queue_directory),                                              \
    }

void lmtp_pool_set_params(struct lmtp_pool *pool, const struct params *p)
{
    const struct link_settings fresh[2] = {
        [LMTP_PROTOCOL_LMTP] = SETTINGS(p, lmtp, lmtp_lhlo_timeout, lmtp_lhlo_name),
        [LMTP_PROTOCOL_SMTP] = SETTINGS(p, smtp, smtp_helo_timeout, smtp_helo_name),
    };
    for (int i = 0; i < 2; i++) {
        free_settings(&pool->settings[i]);
        pool->settings[i] = fresh[i];
        pool->settings[i].concurrency = share(pool, fresh[i].concurrency);
    }
    pool->settings[LMTP_PROTOCOL_LMTP].is_lmtp = true;
    pool->outside.params = NULL; /* everything is copied */
}

/* ------------------------------------------------------------ results */

static const enum lmtp_source sources[] = {
    [SMTP_CLIENT_NO_RESULT] = LMTP_LOST,  [SMTP_CLIENT_SAID] = LMTP_SAID,
    [SMTP_CLIENT_UNABLE] = LMTP_UNABLE,   [SMTP_CLIENT_LOST] = LMTP_LOST,
    [SMTP_CLIENT_UNKNOWN] = LMTP_UNKNOWN,
};

/* What the conversation has left open. */
static void set_open_results(struct lmtp_task *task, struct lmtp_result result)
{
    struct lmtp_job *job = task->job;
    const char *text = text_escaped(&job->memory, span_of(result.text), LMTP_TEXT_MAX);
    const char *enhanced = arena_text(&job->memory, span_of(result.enhanced));
    for (size_t i = 0; i < job->count; i++) {
        const struct smtp_client_result *said = &task->rcpts[i].result;
        bool is_said = said->source != SMTP_CLIENT_NO_RESULT;
        job->rcpts[i].result = is_said
                                   ? (struct lmtp_result){ sources[said->source], said->code,
                                                           said->enhanced, said->text,
                                                           said->command }
                                   : (struct lmtp_result){ result.source, result.code, enhanced,
                                                           text, "" };
    }
}

void lmtp_result_print(struct buf *out, const struct lmtp_job *job,
                       const struct lmtp_result *result)
{
    if (result->source != LMTP_SAID) {
        buf_puts(out, result->text);
        return;
    }
    size_t host = span_find_last(span_of(job->host), ']') + 1; /* as Postfix: without the port */
    buf_printf(out, "host %.*s said: %d %s%s%s", (int)host, job->host, result->code,
               result->enhanced, result->enhanced[0] != '\0' ? " " : "", result->text);
    if (result->command[0] != '\0')
        buf_printf(out, " (in reply to %s command)", result->command);
}

/* ------------------------------------------------------------ the end of a task */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void unlink_all(struct lmtp_task *task)
{
    *(task->prev_all != NULL ? &task->prev_all->next_all : &task->pool->tasks) = task->next_all;
    if (task->next_all != NULL)
        task->next_all->prev_all = task->prev_all;
}

static void run_ended(struct lmtp_pool *pool)
{
    struct lmtp_task *list = pool->ended;
    pool->ended = NULL;
    pool->ended_end = &pool->ended;
    while (list != NULL) {
        struct lmtp_task *task = list;
        struct lmtp_job *job = task->job;
        list = task->next;
        free(task->rcpts);
        free(task->reading);
        free(task);
        job->task = NULL;
        job->done(job); /* may free it, and start others */
    }
}

static void free_pool(struct lmtp_pool *pool)
{
    uv_close((uv_handle_t *)pool->timer, free_handle);
    for (int i = 0; i < 2; i++)
        free_settings(&pool->settings[i]);
    free(pool);
}

static void on_ended(uv_timer_t *timer)
{
    struct lmtp_pool *pool = timer->data;
    run_ended(pool);
    if (pool->is_closing && pool->readings == 0)
        free_pool(pool);
}

/* done() is called in a turn of its own, when no work thread has the message any more. */
static void end_when_free(struct lmtp_task *task)
{
    struct lmtp_pool *pool = task->pool;
    if (task->is_reading)
        return;
    task->next = NULL;
    *pool->ended_end = task;
    pool->ended_end = &task->next;
    uv_timer_start(pool->timer, on_ended, 0, 0);
}

static void end_task(struct lmtp_task *task, struct lmtp_result open)
{
    if (task->is_over)
        return;
    task->is_over = true;
    set_open_results(task, open);
    if (task->deadline != NULL)
        uv_close((uv_handle_t *)task->deadline, free_handle);
    task->deadline = NULL;
    unlink_all(task);
    if (task->link != NULL)
        task->link->task = NULL;
    task->link = NULL;
    end_when_free(task);
}

static struct lmtp_result trouble(enum lmtp_source source, const char *enhanced,
                                  const char *text)
{
    return (struct lmtp_result){ source, 451, enhanced, text, "" };
}

/* ------------------------------------------------------------ the line */

static enum line line_of(const struct lmtp_task *task)
{
    return task->job->body != NULL ? LINE_MESSAGES : LINE_QUESTIONS;
}

static void put_in_line(struct lmtp_task *task, bool is_first)
{
    struct hop *hop = task->hop;
    enum line line = line_of(task);
    struct lmtp_task **at = is_first ? &hop->first[line] : hop->end[line];
    task->next = *at;
    *at = task;
    if (task->next == NULL)
        hop->end[line] = &task->next;
    task->is_in_line = true;
    hop->waiting++;
}

static void take_out_of_line(struct lmtp_task *task)
{
    struct hop *hop = task->hop;
    enum line line = line_of(task);
    struct lmtp_task **at = &hop->first[line];
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (*at == NULL)
        hop->end[line] = at;
    task->is_in_line = false;
    hop->waiting--;
}

/* NULL: none. When all connections are in use, only questions count. */
static struct lmtp_task *first_in_line(const struct hop *hop, bool is_full)
{
    struct lmtp_task *task = hop->first[LINE_QUESTIONS];
    return task != NULL || is_full ? task : hop->first[LINE_MESSAGES];
}

/* ------------------------------------------------------------ the message */

static void read_piece(uv_work_t *work)
{
    struct reading *r = (struct reading *)(void *)work;
    do
        r->size = pread(r->fd, r->bytes, sizeof r->bytes, r->offset);
    while (r->size < 0 && errno == EINTR);
}

static void feed(struct lmtp_task *task);

static void on_piece(uv_work_t *work, int status)
{
    struct reading *r = (struct reading *)(void *)work;
    struct lmtp_task *task = r->task;
    struct lmtp_pool *pool = task->pool;
    (void)status;
    task->is_reading = false;
    pool->readings--;
    if (task->is_over) {
        end_when_free(task);
    } else if (r->size <= 0) {
        link_abort(task->link, "the message cannot be read");
    } else {
        link_body(task->link, span_make(r->bytes, (size_t)r->size));
        task->offset += (uint64_t)r->size;
        feed(task);
    }
    if (pool->outside.work_done != NULL)
        pool->outside.work_done(pool->outside.context);
}

static void begin_reading(struct lmtp_task *task)
{
    const struct body *body = task->job->body;
    struct lmtp_pool *pool = task->pool;
    if (task->reading == NULL)
        task->reading = xmalloc(sizeof *task->reading);
    task->reading->task = task;
    task->reading->fd = body->fd;
    task->reading->offset = (off_t)task->offset;
    task->is_reading = true;
    pool->readings++;
    if (pool->outside.work_begun != NULL)
        pool->outside.work_begun(pool->outside.context);
    ENSURE(uv_queue_work(pool->outside.uv, &task->reading->work, read_piece, on_piece) == 0);
}

static void feed_memory(struct lmtp_task *task)
{
    struct span rest = span_skip(task->job->body->memory, (size_t)task->offset);
    if (rest.len > LMTP_PIECE_BYTES)
        rest.len = LMTP_PIECE_BYTES;
    link_body(task->link, rest);
    task->offset += rest.len;
}

static bool is_all_fed(const struct lmtp_task *task)
{
    const struct body *body = task->job->body;
    uint64_t size = body->fd >= 0 ? body->size_bytes : body->memory.len;
    return task->offset >= size;
}

/* The last dot: from here on neither deadline nor cancelling counts. */
static void end_message(struct lmtp_task *task)
{
    if (task->deadline != NULL)
        uv_timer_stop(task->deadline);
    link_body_end(task->link);
}

/* As much as the connection takes now; called again when it takes more. */
static void feed(struct lmtp_task *task)
{
    const struct body *body = task->job->body;
    struct link *l = task->link;
    if (!task->is_head_sent && !(body->fd >= 0 && body->has_head))
        link_body(l, task->job->head);
    task->is_head_sent = true;
    while (!l->has_failed && !task->is_reading) {
        if (is_all_fed(task)) {
            end_message(task);
            return;
        }
        if (l->out.len >= LMTP_PIECE_BYTES)
            link_flush(l);
        if (l->has_failed || l->out.len >= LMTP_PIECE_BYTES)
            break; /* body() comes when it has been written */
        if (body->fd >= 0)
            begin_reading(task);
        else
            feed_memory(task);
    }
    link_flush(l);
}

/* ------------------------------------------------------------ events of a connection */

static void fill_rcpts(struct lmtp_task *task)
{
    const struct lmtp_job *job = task->job;
    for (size_t i = 0; i < job->count; i++)
        task->rcpts[i] = (struct smtp_client_rcpt){ .address = job->rcpts[i].address,
                                                    .notify = job->rcpts[i].notify,
                                                    .orcpt = job->rcpts[i].orcpt };
}

static void begin_transaction(struct lmtp_task *task)
{
    struct lmtp_job *job = task->job;
    task->is_begun = true;
    job->host = arena_text(&job->memory, span_of(task->link->host));
    job->is_tls = task->link->client.is_tls;
    fill_rcpts(task);
    link_send(task->link, &(struct smtp_client_mail){
                              .sender = job->sender, .params = job->mail, .rcpts = task->rcpts,
                              .count = job->count, .is_question = job->body == NULL,
                              .memory = &job->memory });
}

static uint64_t now_ms(const struct lmtp_pool *pool)
{
    return uv_now(pool->outside.uv);
}

/* MX hosts of strangers do not like to be kept waiting (and are rarely needed again). */
static bool may_be_kept(const struct link *l)
{
    const struct hop *hop = l->hop;
    return !hop->where.is_mx && !hop->is_strange && l->settings->idle_ms > 0
           && now_ms(hop->pool) - l->opened_ms < l->settings->reuse_ms;
}

static void give_task(struct link *l, struct lmtp_task *task)
{
    take_out_of_line(task);
    task->link = l;
    l->task = task;
}

static void on_ready(struct link *l)
{
    struct lmtp_task *task = l->task;
    struct hop *hop = l->hop;
    hop->down_until_ms = 0;
    if (task != NULL && task->is_begun) {
        task->job->dsn_is_passed = l->client.is_dsn_passed;
        end_task(task, trouble(LMTP_LOST, "4.3.0", "no result"));
        task = first_in_line(hop, false);
        if (task != NULL)
            give_task(l, task);
        else if (may_be_kept(l))
            link_idle(l, l->settings->idle_ms);
        else
            link_quit(l);
    }
    if (task != NULL)
        begin_transaction(task);
}

static void on_body(struct link *l)
{
    struct lmtp_task *task = l->task;
    if (task != NULL && !task->is_reading)
        feed(task);
}

/* An idle connection that its peer had closed already, before we came back to it: nothing has
 * been said, so nothing is lost by asking somebody else. */
static bool is_stale(const struct link *l)
{
    return l->is_greeted && l->uses > 1 && !l->is_timeout && !l->is_over
           && l->client.answered == 0;
}

static void quit_idle(struct hop *hop)
{
    for (struct link *l = hop->links; l != NULL; l = l->next)
        if (l->task == NULL && l->is_greeted && !l->has_failed)
            link_quit(l);
}

static void try_again(struct lmtp_task *task)
{
    quit_idle(task->hop);
    task->link = NULL;
    task->is_begun = task->is_head_sent = false;
    task->offset = 0;
    put_in_line(task, true);
}

static bool is_anybody_talking(const struct hop *hop)
{
    for (const struct link *l = hop->links; l != NULL; l = l->next)
        if (l->is_greeted && !l->has_failed)
            return true;
    return false;
}

/* For the questions of the near future. */
static void mark_down(struct hop *hop, const char *why)
{
    snprintf(hop->down_text, sizeof hop->down_text, "%s", why);
    hop->down_until_ms = now_ms(hop->pool) + LMTP_DOWN_MS;
}

/* Nobody was reached: whoever waits need not try the same, one by one. */
static void tell_line(struct hop *hop, const struct link *l)
{
    struct lmtp_result open = { LMTP_UNREACHABLE, l->code, l->enhanced, l->why, "" };
    if (l->code >= 500)
        open.source = LMTP_UNABLE;
    mark_down(hop, l->why);
    for (int line = 0; line < LINE_COUNT; line++) {
        while (hop->first[line] != NULL) {
            struct lmtp_task *task = hop->first[line];
            take_out_of_line(task);
            end_task(task, open);
        }
    }
}

static void settle_task(struct link *l, struct lmtp_task *task)
{
    enum lmtp_source source = l->is_greeted ? LMTP_LOST
                              : l->code >= 500 ? LMTP_UNABLE
                                               : LMTP_UNREACHABLE;
    if (is_stale(l)) {
        try_again(task);
        return;
    }
    task->job->host = arena_text(&task->job->memory, span_of(l->host));
    end_task(task, (struct lmtp_result){ source, l->code, l->enhanced, l->why, "" });
}

static void remove_link(struct link *l)
{
    struct hop *hop = l->hop;
    struct link **at = &hop->links;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    hop->count--;
}

static void on_gone(struct link *l)
{
    struct hop *hop = l->hop;
    struct lmtp_task *task = l->task;
    remove_link(l);
    if (task != NULL)
        settle_task(l, task);
    if (!l->is_greeted && task != NULL && !l->is_cancelled && !is_anybody_talking(hop))
        tell_line(hop, l);
    link_free(l);
    serve(hop); /* may free it */
}

static const struct link_events events = { on_ready, on_body, on_gone };

/* ------------------------------------------------------------ next hops */

static void unlink_hop(struct hop *hop)
{
    struct hop **at = &hop->pool->hops;
    while (*at != hop)
        at = &(*at)->next;
    *at = hop->next;
}

static void free_hop(struct hop *hop)
{
    arena_fini(&hop->memory);
    free(hop->text);
    free(hop);
}

/* Those that strangers can name are forgotten at once, those of the configuration never. */
static bool is_done_with(const struct hop *hop)
{
    return (hop->where.is_mx || hop->is_strange) && hop->links == NULL && hop->waiting == 0;
}

static struct link *find_idle(const struct hop *hop)
{
    for (struct link *l = hop->links; l != NULL; l = l->next)
        if (l->task == NULL && l->is_greeted && !l->has_failed)
            return l;
    return NULL;
}

static void open_link(struct hop *hop, struct lmtp_task *task)
{
    struct lmtp_pool *pool = hop->pool;
    struct link *l = link_new(&pool->outside, &pool->settings[hop->protocol], &events,
                              &hop->where, hop->is_strange);
    l->hop = hop;
    l->next = hop->links;
    hop->links = l;
    hop->count++;
    give_task(l, task);
}

/* Gives connections to those who wait, as long as there are both. */
static void serve(struct hop *hop)
{
    int limit = hop->pool->settings[hop->protocol].concurrency;
    for (;;) {
        struct link *idle = find_idle(hop);
        struct lmtp_task *task = first_in_line(hop, idle == NULL && hop->count >= limit);
        if (task == NULL || (idle == NULL && hop->count > limit)) /* questions: one more */
            break;
        if (idle == NULL) {
            open_link(hop, task);
        } else {
            give_task(idle, task);
            begin_transaction(task);
        }
    }
    if (is_done_with(hop)) {
        unlink_hop(hop);
        free_hop(hop);
    }
}

/* NULL and *error: the text is no next hop. */
static struct hop *find_hop(struct lmtp_pool *pool, const struct lmtp_job *job,
                            const char **error)
{
    for (struct hop *hop = pool->hops; hop != NULL; hop = hop->next)
        if (hop->protocol == job->protocol && hop->is_public_only == job->is_public_only
            && strcmp(hop->text, job->nexthop) == 0)
            return hop;
    struct hop *hop = xcalloc(1, sizeof *hop);
    *hop = (struct hop){ .pool = pool, .protocol = job->protocol, .next = pool->hops,
                         .is_public_only = job->is_public_only, .text = xstrdup(job->nexthop) };
    for (int line = 0; line < LINE_COUNT; line++)
        hop->end[line] = &hop->first[line];
    pool->hops = hop;
    *error = next_hop_parse(job->protocol, job->nexthop, &hop->memory, &hop->where);
    hop->is_strange = hop->is_public_only || hop->where.is_strange;
    if (*error == NULL)
        return hop;
    unlink_hop(hop);
    free_hop(hop);
    return NULL;
}

/* ------------------------------------------------------------ jobs */

/* Neither answer nor dot is out: the job can be given up, whoever has it. */
static void give_up(struct lmtp_task *task, struct lmtp_result result)
{
    struct link *l = task->link;
    struct hop *hop = task->hop;
    if (task->is_over || (l != NULL && l->client.is_dot_sent))
        return;
    if (task->is_in_line)
        take_out_of_line(task);
    end_task(task, result);
    if (l != NULL) {
        l->is_cancelled = true;
        link_abort(l, result.text);
    }
    serve(hop);
}

static void on_deadline(uv_timer_t *timer)
{
    struct lmtp_task *task = timer->data;
    bool is_begun = task->is_begun;
    if (task->link != NULL)
        mark_down(task->hop, "the next hop takes too long");
    give_up(task, trouble(is_begun ? LMTP_LOST : LMTP_UNREACHABLE, "4.4.2",
                          is_begun ? "the next hop takes too long"
                                   : "no connection in time"));
}

static void set_deadline(struct lmtp_task *task)
{
    if (task->job->timeout_ms <= 0)
        return;
    task->deadline = xcalloc(1, sizeof *task->deadline);
    uv_timer_init(task->pool->outside.uv, task->deadline);
    task->deadline->data = task;
    uv_timer_start(task->deadline, on_deadline, (uint64_t)task->job->timeout_ms, 0);
}

static struct lmtp_task *task_new(struct lmtp_pool *pool, struct lmtp_job *job)
{
    struct lmtp_task *task = xcalloc(1, sizeof *task);
    *task = (struct lmtp_task){ .pool = pool, .job = job, .next_all = pool->tasks };
    if (pool->tasks != NULL)
        pool->tasks->prev_all = task;
    pool->tasks = task;
    task->rcpts = xcalloc(job->count, sizeof *task->rcpts);
    job->task = task;
    job->host = job->nexthop;
    job->dsn_is_passed = job->is_tls = false;
    return task;
}

static bool is_down(const struct hop *hop, const struct lmtp_task *task)
{
    return line_of(task) == LINE_QUESTIONS && now_ms(hop->pool) < hop->down_until_ms;
}

void lmtp_start(struct lmtp_pool *pool, struct lmtp_job *job)
{
    const char *error = NULL;
    ENSURE(job->task == NULL && job->count > 0);
    struct lmtp_task *task = task_new(pool, job);
    struct hop *hop = task->hop = find_hop(pool, job, &error);
    if (hop == NULL) {
        end_task(task, trouble(LMTP_UNREACHABLE, "4.3.5", error));
    } else if (is_down(hop, task)) {
        end_task(task, trouble(LMTP_UNREACHABLE, "4.4.1", hop->down_text));
    } else if (hop->waiting >= LMTP_LINE_MAX) {
        end_task(task, trouble(LMTP_UNREACHABLE, "4.3.2", "too many wait for this next hop"));
    } else {
        set_deadline(task);
        put_in_line(task, false);
        serve(hop);
    }
}

void lmtp_cancel(struct lmtp_job *job)
{
    if (job->task != NULL)
        give_up(job->task, trouble(LMTP_CANCELLED, "4.3.0", "cancelled"));
}

void lmtp_job_fini(struct lmtp_job *job)
{
    ENSURE(job->task == NULL);
    arena_fini(&job->memory);
}

/* ------------------------------------------------------------ life */

struct lmtp_pool *lmtp_pool_new(const struct lmtp_outside *outside)
{
    struct lmtp_pool *pool = xcalloc(1, sizeof *pool);
    pool->outside = *outside;
    pool->ended_end = &pool->ended;
    pool->timer = xcalloc(1, sizeof *pool->timer);
    uv_timer_init(outside->uv, pool->timer);
    pool->timer->data = pool;
    lmtp_pool_set_params(pool, outside->params);
    return pool;
}

static void stop_task(struct lmtp_task *task)
{
    bool is_unknown = task->link != NULL && task->link->client.is_dot_sent;
    if (task->is_in_line)
        take_out_of_line(task);
    end_task(task, trouble(is_unknown ? LMTP_UNKNOWN : LMTP_CANCELLED, "4.3.2", "stopped"));
}

static void stop_hop(struct hop *hop)
{
    for (struct link *l = hop->links, *next; l != NULL; l = next) {
        next = l->next;
        link_free(l);
    }
    free_hop(hop);
}

void lmtp_pool_free(struct lmtp_pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->tasks != NULL)
        stop_task(pool->tasks);
    for (struct hop *hop = pool->hops, *next; hop != NULL; hop = next) {
        next = hop->next;
        stop_hop(hop);
    }
    while (pool->ended != NULL)
        run_ended(pool);
    pool->is_closing = true;
    if (pool->readings == 0)
        free_pool(pool);
}
