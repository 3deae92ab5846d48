#include "server/server.h"
#include "protocol/mem.h"
#include "server/clients.h"
#include "server/deliver.h"
#include "server/dnsbl_guard.h"
#include "server/helper.h"
#include "server/listener.h"
#include "server/privilege.h"
#include "server/queue.h"
#include "server/reload.h"
#include "server/tls.h"
#include "policy/plan.h"
#include "server/version.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum { REFRESH_MS = 1000, TRIM_EVERY = 60, DRAIN_MS = 30000, RESERVED_FILES = 512,
       LIST_TEST_MS = 3600 * 1000 };

static struct loop *main_loop(struct server *server)
{
    return server->loops[0];
}

static void fatal(const char *what, const char *why)
{
    fprintf(stderr, "postern: fatal: %s%s%s\n", what, why != NULL ? ": " : "",
            why != NULL ? why : "");
}

/* ------------------------------------------------------------ once a second */

struct refresh {
    uv_work_t request;
    struct server *server;
    struct config *config; /* one reference */
    struct problems problems;
    bool is_trim_due;
    bool is_tls_swapped;
    bool is_space_low;
};

/* Free space at or below queue_minfree, or too little for a large message (spec 9.3). */
static bool is_low(const char *directory, const struct params *p)
{
    struct statvfs fs;
    if (statvfs(directory, &fs) != 0)
        return false;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return free_bytes <= (uint64_t)p->queue_minfree
           || free_bytes / 3 * 2 < (uint64_t)p->message_size_limit;
}

static void run_refresh(uv_work_t *request)
{
    struct refresh *r = (struct refresh *)(void *)request;
    const struct params *p = &r->config->params;
    maps_refresh(r->config->maps, &r->problems);
    if (r->config->tls != NULL)
        r->is_tls_swapped = tls_config_refresh(r->config->tls, &r->problems);
    r->is_space_low = is_low(p->queue_directory, p) || is_low(p->virtual_mailbox_base, p);
    if (r->is_trim_due) /* the C library keeps what a busy hour needed, in pieces, for ever */
        malloc_trim(0);
}

static void log_space(struct server *server, bool is_space_low)
{
    if (is_space_low != atomic_exchange(&server->is_space_low, is_space_low))
        log_line(&main_loop(server)->log, "master", 0,
                 is_space_low ? "warning: not enough free space in the queue or mail file system: "
                                "mail is refused for now (queue_minfree, message_size_limit)"
                              : "there is enough free space again");
}

static void after_refresh(uv_work_t *request, int status)
{
    struct refresh *r = (struct refresh *)(void *)request;
    struct loop *loop = main_loop(r->server);
    (void)status;
    for (const struct problem *p = r->problems.first; p != NULL; p = p->next)
        log_line(&loop->log, "master", 0, "warning: %s: %s", p->subject, p->text);
    if (r->is_tls_swapped)
        log_line(&loop->log, "master", 0, "certificates read again");
    log_space(r->server, r->is_space_low);
    r->server->is_refreshing = false;
    problems_fini(&r->problems);
    config_release(r->config);
    free(r);
    loop_work_done(loop);
}

/* At start, after a reload, and once an hour. */
static void test_lists(struct server *server)
{
    struct loop *loop = main_loop(server);
    int64_t now_ms = loop_now_ms(loop);
    if (server->lists_tested == server->config
        && now_ms - server->lists_tested_ms < LIST_TEST_MS)
        return;
    server->lists_tested = server->config;
    server->lists_tested_ms = now_ms;
    dnsbl_guard_run(loop->fetcher.dns, server->config, &loop->log);
}

/* Is anything configured that has to be remembered? */
static bool needs_store(const struct config *config)
{
    return config->params.greet_pause > 0 || policy_uses(config->policy, "check_greylist")
           || config->policy->verifies;
}

/* What the metrics thread may not look up by itself. */
static void publish_gauges(struct server *server)
{
    struct gauges *g = &server->gauges;
    const struct tls_config *tls = server->config->tls;
    struct schedule_counts counts = queue_count(server->queue);
    atomic_store(&g->queue_waiting, (int64_t)(counts.waiting + counts.ready));
    atomic_store(&g->queue_active, (int64_t)counts.active);
    atomic_store(&g->queue_held, (int64_t)counts.held);
    atomic_store(&g->queue_oldest_s, queue_oldest_s(server->queue));
    atomic_store(&g->certificate_expiry_s, tls != NULL ? tls_config_expiry(server->config->tls) : 0);
}

static void on_refresh(uv_timer_t *timer)
{
    struct server *server = timer->data;
    if (server->metrics != NULL)
        publish_gauges(server);
    if (server->is_refreshing)
        return;
    test_lists(server);
    struct loop *loop = main_loop(server);
    if (needs_store(server->config) || atomic_load(&server->store.is_wanted))
        store_service_tick(&server->store, loop, server->config,
                           loop->services.wall_us(&loop->services) / 1000000);
    struct refresh *r = xcalloc(1, sizeof *r);
    r->is_trim_due = ++server->refreshes % TRIM_EVERY == 0;
    r->server = server;
    r->config = config_hold(server->config);
    server->is_refreshing = true;
    main_loop(server)->work_count++;
    uv_queue_work(&main_loop(server)->uv, &r->request, run_refresh, after_refresh);
}

/* ------------------------------------------------------------ going down */

static void run_drain(struct loop *loop, struct post *post)
{
    free(post);
    loop_drain(loop);
}

static void run_stop(struct loop *loop, struct post *post)
{
    free(post);
    loop_stop(loop);
}

static void post_all(struct server *server, void (*run)(struct loop *loop, struct post *post))
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct post *post = xcalloc(1, sizeof *post);
        post->run = run;
        if (!loop_post(server->loops[i], post))
            free(post);
    }
}

static void on_drain_over(uv_timer_t *timer)
{
    struct server *server = timer->data;
    log_line(&main_loop(server)->log, "master", 0,
             "warning: clients did not finish in time: closing their connections");
    post_all(server, run_stop);
}

static void drain(struct server *server)
{
    server->is_draining = true;
    notify_stopping();
    metrics_stop(server->metrics); /* what it reads will go away, loop by loop */
    server->metrics = NULL;
    control_close(server->control);
    queue_drain(server->queue);
    log_line(&main_loop(server)->log, "master", 0, "terminating: no new connections");
    uv_timer_stop(&server->refresh);
    uv_timer_start(&server->refresh, on_drain_over, DRAIN_MS, 0);
    post_all(server, run_drain);
}

/* On the main loop, when the last loop has ended: nothing keeps us any more. */
static void run_all_ended(struct loop *loop, struct post *post)
{
    struct server *server = loop->server;
    free(post);
    for (size_t i = 0; i < ARRAY_LEN(server->signals); i++)
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    uv_close((uv_handle_t *)&server->refresh, NULL);
    queue_close(server->queue);
    watchdog_close(&server->watchdog);
    loop_close_handles(loop);
}

void server_loop_ended(struct server *server)
{
    if (atomic_fetch_add(&server->ended_count, 1) + 1 < server->loop_count)
        return;
    struct post *post = xcalloc(1, sizeof *post);
    post->run = run_all_ended;
    loop_post(main_loop(server), post);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    if (number == SIGHUP && !server->is_draining)
        reload_begin(server);
    else if (number != SIGHUP && !server->is_draining)
        drain(server);
    else if (number != SIGHUP)
        post_all(server, run_stop);
}

/* ------------------------------------------------------------ coming up */

static unsigned count_loops(const struct params *p)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (p->event_loops > 0)
        return (unsigned)p->event_loops;
    return cores < 1 ? 1 : cores > 8 ? 8 : (unsigned)cores;
}

/* What is open by now: loops, listeners, log; and what signals and a reload will add. */
static long count_open_files(void)
{
    long count = 8;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return count + 32;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Connections must leave descriptors for the files that mail is written to, and for telling a
 * client that there is no more room: without one it would be closed without a word. */
static int connection_limit(const struct params *p)
{
    long files = privilege_raise_files();
    long reserved = files / 4 < RESERVED_FILES ? files / 4 : RESERVED_FILES;
    long room = files - reserved - count_open_files();
    if (room < 1)
        room = 1;
    return room < p->smtpd_connection_limit ? (int)room : p->smtpd_connection_limit;
}

static bool bind_listeners(struct server *server)
{
    struct arena memory = { 0 };
    const struct config *config = server->config;
    const char *error = NULL;
    for (unsigned i = 0; i < server->loop_count && error == NULL; i++)
        for (size_t k = 0; k < config->listener_count && error == NULL; k++) {
            const struct listener_spec *spec = &config->listeners[k];
            struct bound bound;
            if (i > 0 && spec->kind == LISTEN_UNIX)
                continue; /* one path, one socket */
            error = listener_bind(spec, &bound, &memory);
            if (error == NULL)
                listener_add(server->loops[i], spec, &bound);
        }
    if (error != NULL)
        fatal(error, NULL);
    arena_fini(&memory);
    return error == NULL;
}

static void init_signals(struct server *server)
{
    static const int numbers[] = { SIGHUP, SIGTERM, SIGINT };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uv_signal_init(&main_loop(server)->uv, &server->signals[i]);
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&main_loop(server)->uv, &server->refresh);
    server->refresh.data = server;
    uv_timer_start(&server->refresh, on_refresh, 0, REFRESH_MS);
}

static bool make_loops(struct server *server)
{
    server->loop_count = count_loops(&server->config->params);
    for (unsigned i = 0; i < server->loop_count; i++) {
        server->loops[i] = xcalloc(1, sizeof *server->loops[i]);
        const char *error = loop_init(server->loops[i], server, i, server->config,
                                      server->log_sink);
        if (error != NULL) {
            fatal("cannot make an event loop", error);
            return false;
        }
    }
    return true;
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void run_loops(struct server *server)
{
    for (unsigned i = 1; i < server->loop_count; i++)
        ENSURE(pthread_create(&server->loops[i]->thread, NULL, run_loop, server->loops[i]) == 0);
    loop_run(main_loop(server));
    for (unsigned i = 1; i < server->loop_count; i++)
        pthread_join(server->loops[i]->thread, NULL);
}

static void size_thread_pool(const struct params *p)
{
    char text[16];
    unsigned threads = count_loops(p) * (unsigned)p->work_threads;
    snprintf(text, sizeof text, "%u", threads);
    setenv("UV_THREADPOOL_SIZE", text, 1);
}

/* Everything that may fail before mail is accepted. Returns an exit code. */
static int prepare(struct server *server)
{
    const struct params *p = &server->config->params;
    const char *error, *path;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* past a limit on file sizes: EFBIG, for one message */
    umask(077);
    size_thread_pool(p);
    int rc = privilege_make_directories(p, &path);
    if (rc != 0) {
        fatal(path, strerror(-rc));
        return EX_CANTCREAT;
    }
    server->log_sink = log_sink_open(p, &error);
    if (server->log_sink == NULL) {
        fatal("cannot open the log", error);
        return EX_CANTCREAT;
    }
    if (!make_loops(server) || !bind_listeners(server))
        return EX_UNAVAILABLE;
    if ((error = metrics_bind(server, &server->metrics)) != NULL) {
        fatal("metrics_listen", error);
        return EX_UNAVAILABLE;
    }
    server->connection_limit = connection_limit(p);
    server->connection_reserve = server->connection_limit / 4 < p->smtpd_connection_reserve
                                     ? server->connection_limit / 4
                                     : p->smtpd_connection_reserve;
    privilege_give_log(p);
    if (privilege_has_any(p) && (error = helper_start(server->config)) != NULL) {
        fatal("cannot start the helper", error);
        return EX_OSERR;
    }
    if ((error = privilege_drop(p)) != NULL) {
        fatal("cannot give up root", error);
        return EX_CONFIG;
    }
    server->queue = queue_open(server, &error);
    if (error != NULL) {
        fatal(p->queue_directory, error);
        return EX_CANTCREAT;
    }
    server->control = control_open(main_loop(server), p->control_socket, &error);
    if (error != NULL) {
        fatal(p->control_socket, error);
        return EX_CANTCREAT;
    }
    server->decisions = decisions_open(p, &error);
    if (error != NULL) {
        fatal("cannot open the record of decisions", error);
        return EX_CANTCREAT;
    }
    if ((error = sandbox_enter(&server->sandbox, server->config)) != NULL) {
        fatal("no sandbox", error);
        return EX_UNAVAILABLE;
    }
    return EX_OK;
}

static void log_sandbox(struct server *server)
{
    struct buf text = { 0 };
    sandbox_describe(&server->sandbox, &text);
    log_line(&main_loop(server)->log, "master", 0, "sandbox: %s%s", buf_text(&text),
             helper_is_there() ? "; a helper keeps keys and low ports" : "");
    buf_fini(&text);
}

int server_run(struct config *config)
{
    static struct server server;
    server.config = config_hold(config);
    atomic_init(&server.gauges.reload_ok, 1);
    server.clients = clients_new();
    server.crowd = crowd_new();
    deliver_init(&server.deliver_lane);
    char *store_dir = xprintf("%s/store", config->params.data_directory);
    store_service_init(&server.store, store_dir, config->params.store_cache_mb);
    free(store_dir);
    int code = prepare(&server);
    if (code != EX_OK)
        return code; /* the process ends: nothing needs freeing */
    init_signals(&server);
    log_line(&main_loop(&server)->log, "master", 0,
             "daemon started -- version %s, configuration %s", POSTERN_VERSION, config->file);
    log_sandbox(&server);
    for (size_t i = 0; i < config->listener_count; i++)
        log_line(&main_loop(&server)->log, "master", 0, "listening on %s",
                 config->listeners[i].text);
    log_flush(&main_loop(&server)->log);
    queue_start(server.queue);
    watchdog_start(&server);
    metrics_start(server.metrics);
    notify_ready();
    run_loops(&server);
    log_line(&main_loop(&server)->log, "master", 0, "terminated");
    for (unsigned i = server.loop_count; i > 0; i--) {
        loop_fini(server.loops[i - 1]);
        free(server.loops[i - 1]);
    }
    clients_free(server.clients);
    crowd_free(server.crowd);
    decisions_free(server.decisions);
    deliver_fini(&server.deliver_lane);
    queue_free(server.queue);
    store_service_fini(&server.store);
    log_sink_close(server.log_sink);
    config_release(server.config);
    return EX_OK;
}
