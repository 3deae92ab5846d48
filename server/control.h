/* control - the command line's door into the running server: a unix socket that only its owner
 * and root can open.
 * Protocol: one line of words in; text out, ended by a line of EOT and an exit code; then the
 *         server closes. Text goes out piece by piece: what is slow to read slows only itself.
 * Bounds: a line of CONTROL_LINE_MAX bytes, CONTROL_CONNECTIONS_MAX connections.
 * Thread: the main loop's; control_call() is the other end, in the command line. */
#ifndef POSTERN_CONTROL_H
#define POSTERN_CONTROL_H

#include "server/loop.h"

enum { CONTROL_LINE_MAX = 4096, CONTROL_CONNECTIONS_MAX = 16, CONTROL_EOT = 4 };

struct control;
struct control_call;

/* NULL and *error when the socket cannot be made. */
struct control *control_open(struct loop *loop, const char *path, const char **error);
void control_close(struct control *control);

/* What a command handler has: it answers with control_say(), any number of times, and ends with
 * control_end(). After control_say() it waits for more(), if it set that, before it says more. */
struct control_call {
    struct loop *loop;
    const char *words; /* behind the command's name */
    void *context;     /* the handler's */
    void (*more)(struct control_call *call);
    void (*gone)(struct control_call *call); /* the other end has left; no more calls */
};

void control_say(struct control_call *call, struct span text);
void control_end(struct control_call *call, int exit_code);

/* Sends a line and prints the answer. The exit code; -1: no server is there. */
int control_ask(const char *path, const char *line);

#endif
