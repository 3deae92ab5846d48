/* control_commands - what can be asked over the control socket, by name.
 * Thread: the main loop's. */
#ifndef POSTERN_CONTROL_COMMANDS_H
#define POSTERN_CONTROL_COMMANDS_H

#include "server/control.h"

/* Starts the command of that name; false: there is none. */
bool control_run(struct control_call *call, const char *name);

#endif
