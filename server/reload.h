/* reload - SIGHUP: a whole new configuration, or none of it (DESIGN 4).
 * Order:  read and compile on a work thread; with any error the old one stays and the log says
 *         why. Otherwise: new endpoints are bound, the log file is opened again, and every loop
 *         takes the new configuration for its next connections. Sessions keep theirs.
 * Thread: main. */
#ifndef POSTERN_RELOAD_H
#define POSTERN_RELOAD_H

struct server;

void reload_begin(struct server *server);

#endif
