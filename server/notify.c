#include "server/notify.h"
#include "protocol/mem.h"
#include "server/server.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void send_state(const char *state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)(void *)&address, size);
        close(fd);
    }
}

void notify_ready(void)
{
    send_state("READY=1");
}

void notify_reloading(void)
{
    struct timespec now;
    char text[80];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    send_state(text);
}

void notify_stopping(void)
{
    send_state("STOPPING=1");
}

/* ------------------------------------------------------------ watchdog */

static void run_alive(struct loop *loop, struct post *post)
{
    free(post);
    atomic_fetch_add(&loop->server->watchdog.alive, 1);
}

static void ask_loops(struct server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct post *post = xcalloc(1, sizeof *post);
        post->run = run_alive;
        if (!loop_post(server->loops[i], post))
            free(post);
    }
}

static void on_watchdog(uv_timer_t *timer)
{
    struct watchdog *w = timer->data;
    if (atomic_load(&w->alive) < w->server->loop_count - atomic_load(&w->server->ended_count))
        return; /* a loop is stuck: systemd will notice */
    send_state("WATCHDOG=1");
    atomic_store(&w->alive, 0);
    ask_loops(w->server);
}

void watchdog_start(struct server *server)
{
    struct watchdog *w = &server->watchdog;
    const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t usec = 0;
    if (text == NULL || !span_to_u64(span_of(text), INT64_MAX, &usec) || usec < 3000
        || (pid != NULL && atol(pid) != (long)getpid()))
        return;
    w->server = server;
    w->is_running = true;
    uv_timer_init(&server->loops[0]->uv, &w->timer);
    w->timer.data = w;
    atomic_store(&w->alive, server->loop_count);
    uv_timer_start(&w->timer, on_watchdog, 0, usec / 3000);
}

void watchdog_close(struct watchdog *w)
{
    if (w->is_running)
        uv_close((uv_handle_t *)&w->timer, NULL);
    w->is_running = false;
}
