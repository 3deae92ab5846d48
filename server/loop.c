#include "server/loop.h"
#include "protocol/mem.h"
#include "queue/lmtp.h"
#include "server/conn.h"
#include "server/deliver.h"
#include "server/listener.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TICK_MS = 1000 };

/* ------------------------------------------------------------ posts */

bool loop_post(struct loop *loop, struct post *post)
{
    post->next = NULL;
    pthread_mutex_lock(&loop->post_mutex);
    bool is_taken = !loop->is_deaf, was_empty = loop->posts == NULL;
    if (is_taken) {
        *loop->posts_end = post;
        loop->posts_end = &post->next;
        if (was_empty) /* else the wake-up is on its way */
            uv_async_send(&loop->wake);
    }
    pthread_mutex_unlock(&loop->post_mutex);
    return is_taken;
}

static void on_wake(uv_async_t *wake)
{
    struct loop *loop = wake->data;
    pthread_mutex_lock(&loop->post_mutex);
    struct post *post = loop->posts;
    loop->posts = NULL;
    loop->posts_end = &loop->posts;
    pthread_mutex_unlock(&loop->post_mutex);
    while (post != NULL) {
        struct post *next = post->next;
        post->run(loop, post);
        post = next;
    }
}

/* ------------------------------------------------------------ services */

static int64_t wall_us(struct smtpd_services *services)
{
    struct timespec now;
    (void)services;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)", made once a second; C locale. */
static const char *date(struct smtpd_services *services)
{
    struct loop *loop = services->context;
    time_t now = (time_t)(wall_us(services) / 1000000);
    struct tm local;
    if (now != loop->date_second) {
        loop->date_second = now;
        localtime_r(&now, &local);
        strftime(loop->date, sizeof loop->date, "%a, %d %b %Y %H:%M:%S %z (%Z)", &local);
    }
    return loop->date;
}

static void deliver(struct smtpd_services *services, struct delivery *delivery)
{
    struct loop *loop = services->context;
    deliver_put(&loop->server->deliver_lane, loop, delivery);
}

struct spill {
    uv_work_t request;
    struct loop *loop;
    struct delivery *delivery;
};

static void run_spill(uv_work_t *request)
{
    struct spill *spill = (struct spill *)(void *)request;
    intake_spill(&spill->delivery->intake);
}

static void after_spill(uv_work_t *request, int status)
{
    struct spill *spill = (struct spill *)(void *)request;
    struct loop *loop = spill->loop;
    struct smtpd *d = smtpd_spilled(spill->delivery);
    (void)status;
    free(spill);
    loop_work_done(loop);
    if (d != NULL)
        conn_resume(d->conn);
}

static void spill(struct smtpd_services *services, struct delivery *delivery)
{
    struct loop *loop = services->context;
    struct spill *s = xcalloc(1, sizeof *s);
    s->loop = loop;
    s->delivery = delivery;
    loop->work_count++;
    ENSURE(uv_queue_work(&loop->uv, &s->request, run_spill, after_spill) == 0);
}

/* ------------------------------------------------------------ time */

/* Load is connections against the limit; with a little slack before it is over (spec 7.4). */
static void judge_stress(struct loop *loop)
{
    const struct server *server = loop->server;
    int connections = atomic_load(&server->connections);
    int limit = server->connection_limit;
    if (connections >= limit - limit / 4)
        loop->services.is_stressed = true;
    else if (connections < limit / 2)
        loop->services.is_stressed = false;
    loop->services.is_space_low = atomic_load(&server->is_space_low);
}

static void on_tick(uv_timer_t *tick)
{
    struct loop *loop = tick->data;
    int64_t now_ms = loop_now_ms(loop);
    judge_stress(loop);
    decisions_flush(loop->server->decisions, loop);
    for (struct conn *c = loop->conns, *next; c != NULL; c = next) {
        next = c->next;
        conn_check_deadline(c, now_ms);
    }
    if (loop->conn_count == 0) { /* an idle server does not wake up */
        uv_timer_stop(tick);
        loop->is_ticking = false;
    }
}

static void before_sleep(uv_prepare_t *prepare)
{
    struct loop *loop = prepare->data;
    log_flush(&loop->log);
}

/* ------------------------------------------------------------ life */

static struct loop *loop_of(struct fetcher *fetcher)
{
    return (struct loop *)(void *)((char *)fetcher - offsetof(struct loop, fetcher));
}

static void work_begun(struct fetcher *fetcher)
{
    loop_of(fetcher)->work_count++;
}

static void work_done(struct fetcher *fetcher)
{
    loop_work_done(loop_of(fetcher));
}

static void ask_store(struct fetcher *fetcher, struct question *q)
{
    struct loop *loop = loop_of(fetcher);
    int64_t wall_s = wall_us(&loop->services) / 1000000;
    if (q->key.kind == FACT_GREYLIST)
        store_service_greylist(&loop->server->store, loop, q, wall_s);
    else
        store_service_recall(&loop->server->store, loop, q, wall_s);
}

static void remember(struct smtpd *d, const char *text, int64_t ttl_ms)
{
    struct loop *loop = d->services->context;
    int64_t wall_s = wall_us(&loop->services) / 1000000;
    store_service_remember(&loop->server->store, loop, text, wall_s + ttl_ms / 1000,
                           span_make("", 0));
}

static void recall_text(struct fetcher *fetcher, const char *text, store_found *found, void *arg)
{
    struct loop *loop = loop_of(fetcher);
    store_service_find(&loop->server->store, loop, text, wall_us(&loop->services) / 1000000,
                       found, arg);
}

static void remember_text(struct fetcher *fetcher, const char *text, int64_t until_s,
                          struct span payload)
{
    struct loop *loop = loop_of(fetcher);
    store_service_remember(&loop->server->store, loop, text, until_s, payload);
}

static void tell(struct fetcher *fetcher, const char *component, const char *line)
{
    log_line(&loop_of(fetcher)->log, component, 0, "%s", line);
}

static bool is_own_address(const struct policy *policy, const struct ip *ip)
{
    for (size_t i = 0; i < policy->domains.own_ip_count; i++)
        if (ip_equals(&policy->domains.own_ips[i], ip))
            return true;
    return false;
}

/* Nobody makes us talk to ourselves, or to what only we can reach. */
static bool allows_address(struct fetcher *fetcher, const struct ip *ip)
{
    const struct policy *policy = loop_of(fetcher)->config->policy;
    return match_list_host(&policy->verify_networks, &map_reader_direct, span_of(""), ip)
               == MATCH_YES
           || (ip_is_public(ip) && !is_own_address(policy, ip));
}

static void decided(struct smtpd *d, enum verdict verdict)
{
    struct loop *loop = d->services->context;
    struct outcome *out = &d->run.out;
    char reference[DECISION_REFERENCE_MAX];
    if (d->in.stage != STAGE_RCPT)
        return;
    stats_rcpt(d->services->stats, verdict, out);
    decisions_put(loop->server->decisions, d, verdict, reference);
    if (verdict == VERDICT_REJECT && d->config->params.reject_reference && reference[0] != '\0')
        out->reply.text = arena_printf(&out->memory, "%s (reference %s)", out->reply.text,
                                       reference);
}

static void init_handles(struct loop *loop)
{
    uv_async_init(&loop->uv, &loop->wake, on_wake);
    uv_prepare_init(&loop->uv, &loop->before_sleep);
    uv_timer_init(&loop->uv, &loop->tick);
    loop->wake.data = loop->before_sleep.data = loop->tick.data = loop;
    uv_prepare_start(&loop->before_sleep, before_sleep);
    uv_unref((uv_handle_t *)&loop->before_sleep);
}

const char *loop_init(struct loop *loop, struct server *server, unsigned index,
                      struct config *config, struct log_sink *sink)
{
    *loop = (struct loop){ .server = server, .index = index, .config = config_hold(config) };
    int rc = uv_loop_init(&loop->uv);
    if (rc != 0)
        return uv_strerror(rc);
    pthread_mutex_init(&loop->post_mutex, NULL);
    loop->posts_end = &loop->posts;
    log_init(&loop->log, sink);
    init_handles(loop);
    loop->services = (struct smtpd_services){
        .log = &loop->log, .stats = &loop->stats, .crowd = server->crowd, .decided = decided, .clients = server->clients, .context = loop, .loop_index = index,
        .wall_us = wall_us, .date = date, .ask = conn_ask, .remember = remember, .deliver = deliver, .spill = spill,
    };
    loop->fetcher.stats = &loop->stats;
    loop->fetcher.work_begun = work_begun;
    loop->fetcher.work_done = work_done;
    loop->fetcher.ask_store = ask_store;
    loop->fetcher.tell = tell;
    loop->fetcher.recall = recall_text;
    loop->fetcher.remember = remember_text;
    loop->fetcher.allows = allows_address;
    loop->fetcher.loops = server->loop_count;
    return fetcher_init(&loop->fetcher, &loop->uv, &config->params);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    log_flush(&loop->log);
}

void loop_fini(struct loop *loop)
{
    ENSURE(uv_loop_close(&loop->uv) == 0);
    log_fini(&loop->log);
    buf_fini(&loop->out);
    buf_fini(&loop->cipher_out);
    config_release(loop->config);
    pthread_mutex_destroy(&loop->post_mutex);
}

void loop_close_handles(struct loop *loop)
{
    pthread_mutex_lock(&loop->post_mutex);
    loop->is_deaf = true;
    pthread_mutex_unlock(&loop->post_mutex);
    fetcher_fini(&loop->fetcher);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->before_sleep, NULL);
    uv_close((uv_handle_t *)&loop->tick, NULL);
}

/* The main loop stays until all others have ended (server.c). */
static void run_end(struct loop *loop, struct post *post)
{
    free(post);
    loop->is_stopped = loop->work_count == 0;
    if (!loop->is_stopped) /* a timer has begun something: end_if_done() comes again */
        return;
    if (loop->index != 0)
        loop_close_handles(loop);
    server_loop_ended(loop->server);
}

/* In a turn of its own: what has just ended may have been called by what is freed then. */
static void end_if_done(struct loop *loop)
{
    if (!loop->is_draining || loop->conn_count > 0 || loop->work_count > 0 || loop->is_stopped)
        return;
    loop->is_stopped = true;
    struct post *post = xcalloc(1, sizeof *post);
    post->run = run_end;
    loop_post(loop, post);
}

void loop_conn_added(struct loop *loop)
{
    loop->conn_count++;
    judge_stress(loop);
    if (loop->is_ticking)
        return;
    loop->is_ticking = true;
    uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
}

void loop_conn_removed(struct loop *loop)
{
    loop->conn_count--;
    end_if_done(loop);
}

void loop_work_done(struct loop *loop)
{
    loop->work_count--;
    end_if_done(loop);
}

void loop_drain(struct loop *loop)
{
    loop->is_draining = true;
    loop_now_ms(loop);
    listener_close_others(loop, NULL);
    for (struct conn *c = loop->conns, *next; c != NULL; c = next) {
        next = c->next;
        conn_drain(c);
    }
    end_if_done(loop);
}

void loop_stop(struct loop *loop)
{
    while (loop->conns != NULL)
        conn_close(loop->conns, "server stopped");
    struct lmtp_pool *pool = loop->fetcher.lmtp;
    loop->fetcher.lmtp = NULL;
    lmtp_pool_free(pool); /* nobody waits: what has no answer is the client's still */
}
