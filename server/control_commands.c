#include "server/control_commands.h"
#include "protocol/mem.h"
#include "server/queue.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* ------------------------------------------------------------ greylist */

/* A command on its way through the store's lane, a step at a time. */
struct greylist_call {
    struct store_command command;
    struct control_call *call; /* NULL: the other end has left */
    char *words;               /* owns: verb and its words */
};

static void free_greylist_call(struct greylist_call *g)
{
    buf_fini(&g->command.out);
    free(g->words);
    free(g);
}

static void next_step(struct control_call *call)
{
    struct greylist_call *g = call->context;
    call->more = NULL; /* until this step is through */
    buf_clear(&g->command.out);
    store_service_command(&call->loop->server->store, call->loop, &g->command);
}

static void on_gone(struct control_call *call)
{
    struct greylist_call *g = call->context;
    if (call->more != NULL) /* nothing is on the lane */
        free_greylist_call(g);
    else
        g->call = NULL;
}

static void on_step(struct loop *loop, struct store_command *c)
{
    struct greylist_call *g = (struct greylist_call *)(void *)c;
    struct control_call *call = g->call;
    (void)loop;
    if (call == NULL) {
        free_greylist_call(g);
        return;
    }
    if (c->rc != 0) {
        buf_printf(&c->out, "the greylist cannot answer: %s\n", store_error_text(c->rc));
        c->command.is_done = true;
    }
    bool is_done = c->command.is_done;
    int code = c->rc != 0 ? EX_UNAVAILABLE : EX_OK;
    call->more = is_done ? NULL : next_step;
    control_say(call, buf_span(&c->out)); /* then more() */
    if (!is_done)
        return;
    call->gone = NULL;
    free_greylist_call(g);
    control_end(call, code);
}

static void run_greylist(struct control_call *call)
{
    struct greylist_call *g = xcalloc(1, sizeof *g);
    struct smtpd_services *services = &call->loop->services;
    g->call = call;
    g->words = xstrdup(call->words);
    char *rest = g->words + strcspn(g->words, " ");
    if (*rest != '\0')
        *rest++ = '\0';
    g->command.command = (struct greylist_command){ .verb = g->words, .words = rest };
    g->command.params = store_greylist_params(&call->loop->server->config->params);
    g->command.now_s = services->wall_us(services) / 1000000;
    g->command.done = on_step;
    call->context = g;
    call->gone = on_gone;
    next_step(call);
}

/* ------------------------------------------------------------ sandbox */

static void run_sandbox(struct control_call *call)
{
    struct buf text = { 0 };
    buf_puts(&text, "sandbox: ");
    sandbox_describe(&call->loop->server->sandbox, &text);
    buf_putc(&text, '\n');
    control_say(call, buf_span(&text));
    buf_fini(&text);
    control_end(call, EX_OK);
}

/* ------------------------------------------------------------ the table */

static const struct {
    const char *name;
    void (*run)(struct control_call *call);
} commands[] = {
    { "greylist", run_greylist },
    { "queue", queue_command },
    { "sandbox", run_sandbox },
};

bool control_run(struct control_call *call, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(name, commands[i].name) == 0) {
            commands[i].run(call);
            return true;
        }
    return false;
}
