#include "server/reload.h"
#include "protocol/mem.h"
#include "server/helper.h"
#include "server/listener.h"
#include "server/queue.h"
#include "server/sandbox.h"
#include "server/server.h"
#include "server/tls.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reload {
    uv_work_t request;
    struct server *server;
    struct config *old; /* one reference: its file and settings are read again */
    struct config *fresh;
    struct problems problems;
};

/* What one loop gets: the configuration, and sockets of endpoints that it did not have. */
struct reload_post {
    struct post post;
    struct config *config; /* one reference */
    struct bound *bounds;  /* owns: by index of the configuration's listeners */
};

static void run_reload_post(struct loop *loop, struct post *post)
{
    struct reload_post *r = (struct reload_post *)(void *)post;
    config_release(loop->config);
    loop->config = r->config;
    fetcher_set_params(&loop->fetcher, &r->config->params);
    if (!loop->is_draining) {
        listener_close_others(loop, r->config);
        for (size_t i = 0; i < r->config->listener_count; i++)
            listener_add(loop, &r->config->listeners[i], &r->bounds[i]);
    }
    free(r->bounds);
    free(r);
}

static bool had_endpoint(const struct config *old, const char *text)
{
    for (size_t i = 0; i < old->listener_count; i++)
        if (strcmp(old->listeners[i].text, text) == 0)
            return !old->listeners[i].has_failed;
    return false;
}

static void bind_new(struct server *server, struct reload_post *r, bool is_first)
{
    struct arena memory = { 0 };
    for (size_t i = 0; i < r->config->listener_count; i++) {
        struct listener_spec *spec = &r->config->listeners[i];
        if (had_endpoint(server->config, spec->text) || (spec->kind == LISTEN_UNIX && !is_first))
            continue;
        const char *error = listener_bind(spec, &r->bounds[i], &memory);
        spec->has_failed |= error != NULL;
        if (error != NULL && is_first)
            log_line(&server->loops[0]->log, "master", 0, "warning: %s", error);
    }
    arena_fini(&memory);
}

static void give_to_loops(struct server *server, struct config *fresh)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct reload_post *r = xcalloc(1, sizeof *r);
        r->post.run = run_reload_post;
        r->config = config_hold(fresh);
        r->bounds = xcalloc(fresh->listener_count, sizeof *r->bounds);
        bind_new(server, r, i == 0);
        loop_post(server->loops[i], &r->post);
    }
}

static void log_problems(struct server *server, const struct reload *r)
{
    for (const struct problem *p = r->problems.first; p != NULL; p = p->next)
        log_line(&server->loops[0]->log, "master", 0, "%s: %s: %s",
                 p->level == PROBLEM_ERROR ? "error" : "warning", p->subject, p->text);
}

static void apply(struct server *server, struct config *fresh)
{
    struct log *log = &server->loops[0]->log;
    tls_config_inherit(fresh->tls, server->config->tls);
    const char *error = log_sink_reopen(server->log_sink, &fresh->params);
    if (error != NULL)
        log_line(log, "master", 0, "warning: the log file cannot be opened again: %s", error);
    give_to_loops(server, fresh);
    config_release(server->config);
    server->config = config_hold(fresh);
    queue_reload(server->queue);
    log_line(log, "master", 0, "reloaded -- configuration %s", fresh->file);
}

/* The spool is open, and locked, where it is. */
static void check_spool(const struct config *old, const struct config *fresh,
                        struct problems *problems)
{
    if (strcmp(old->params.queue_directory, fresh->params.queue_directory) != 0)
        problems_error(problems, "queue_directory", "cannot change while the server runs");
}

static void run_load(uv_work_t *request)
{
    struct reload *r = (struct reload *)(void *)request;
    helper_refresh();
    r->fresh = config_load_with(r->old->file, NULL, (const char *const *)r->old->settings,
                                r->old->setting_count, &r->problems);
    config_lint_host(r->fresh, &r->problems);
    check_spool(r->old, r->fresh, &r->problems);
    if (r->problems.error_count == 0)
        sandbox_check(&r->server->sandbox, r->fresh, &r->problems);
}

static void after_load(uv_work_t *request, int status)
{
    struct reload *r = (struct reload *)(void *)request;
    struct server *server = r->server;
    (void)status;
    log_problems(server, r);
    atomic_store(&server->gauges.reload_ok, r->problems.error_count == 0);
    if (r->problems.error_count > 0)
        log_line(&server->loops[0]->log, "master", 0,
                 "error: %d mistakes in %s: the old configuration stays in force",
                 r->problems.error_count, r->old->file);
    else if (!server->is_draining)
        apply(server, r->fresh);
    config_release(r->fresh);
    problems_fini(&r->problems);
    config_release(r->old);
    free(r);
    server->is_reloading = false;
    notify_ready();
    if (server->is_reload_due && !server->is_draining)
        reload_begin(server);
    loop_work_done(server->loops[0]);
}

void reload_begin(struct server *server)
{
    server->is_reload_due = server->is_reloading; /* the file may be newer than what was read */
    if (server->is_reloading)
        return;
    struct reload *r = xcalloc(1, sizeof *r);
    r->server = server;
    r->old = config_hold(server->config);
    server->is_reloading = true;
    notify_reloading();
    server->loops[0]->work_count++;
    uv_queue_work(&server->loops[0]->uv, &r->request, run_load, after_load);
}
