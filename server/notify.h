/* notify - what systemd is told about us (sd_notify(3)): ready, reloading, stopping, and that every
 * loop still turns. A datagram each to $NOTIFY_SOCKET; without it nothing happens.
 * Watchdog: with $WATCHDOG_USEC, every third of that time each loop is asked for a sign; only
 *           when all of them have given it is the next WATCHDOG=1 sent.
 * Thread: the main loop's. */
#ifndef POSTERN_NOTIFY_H
#define POSTERN_NOTIFY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

struct server;

struct watchdog {
    uv_timer_t timer;
    struct server *server;
    atomic_uint alive; /* loops that have answered since the last sign */
    bool is_running;
};

void notify_ready(void);
void notify_reloading(void); /* then notify_ready() */
void notify_stopping(void);

void watchdog_start(struct server *server);
void watchdog_close(struct watchdog *watchdog);

#endif
