#include "server/control.h"
#include "protocol/mem.h"
#include "server/control_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

struct control {
    uv_pipe_t pipe;
    struct loop *loop;
    struct link *links; /* owns */
    int count;
    char *path;         /* owns */
    bool is_closing;
};

/* One connection. */
struct link {
    uv_pipe_t pipe;
    struct link *next;
    struct control *control;
    struct control_call call;
    char line[CONTROL_LINE_MAX + 1];
    size_t len;
    bool has_line, is_ending, is_closing;
    int writes;
};

struct write {
    uv_write_t request;
    struct link *link;
    char bytes[];
};

static struct link *link_of(struct control_call *call)
{
    return (struct link *)(void *)((char *)call - offsetof(struct link, call));
}

/* ------------------------------------------------------------ life of a connection */

static void on_link_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void close_link(struct link *link)
{
    struct link **at = &link->control->links;
    if (link->is_closing)
        return;
    link->is_closing = true;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link->control->count--;
    if (link->has_line && !link->is_ending && link->call.gone != NULL)
        link->call.gone(&link->call);
    uv_close((uv_handle_t *)&link->pipe, on_link_closed);
}

static void on_written(uv_write_t *request, int status)
{
    struct write *w = (struct write *)(void *)request;
    struct link *link = w->link;
    free(w);
    link->writes--;
    if (link->is_closing)
        return;
    if (status < 0 || (link->is_ending && link->writes == 0))
        close_link(link);
    else if (link->writes == 0 && link->call.more != NULL)
        link->call.more(&link->call);
}

void control_say(struct control_call *call, struct span text)
{
    struct link *link = link_of(call);
    struct write *w = xmalloc(sizeof *w + text.len);
    memcpy(w->bytes, text.len > 0 ? text.at : "", text.len);
    w->link = link;
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)text.len);
    if (link->is_closing
        || uv_write(&w->request, (uv_stream_t *)&link->pipe, &buf, 1, on_written) != 0)
        free(w);
    else
        link->writes++;
}

void control_end(struct control_call *call, int exit_code)
{
    struct link *link = link_of(call);
    char last[16];
    int n = snprintf(last, sizeof last, "%c%d\n", CONTROL_EOT, exit_code);
    link->is_ending = true;
    call->more = NULL;
    control_say(call, span_make(last, (size_t)n));
}

/* ------------------------------------------------------------ the line */

static void run_line(struct link *link)
{
    struct span rest = span_of(link->line), name = span_next_word(&rest);
    rest = span_trim(rest);
    link->has_line = true;
    link->call.loop = link->control->loop;
    link->call.words = rest.at != NULL ? rest.at : "";
    link->line[rest.at != NULL ? (size_t)(rest.at - link->line) + rest.len : 0] = '\0';
    char verb[64];
    snprintf(verb, sizeof verb, "%.*s", (int)name.len, name.at);
    if (control_run(&link->call, verb))
        return;
    control_say(&link->call, SPAN_LITERAL("unknown command\n"));
    control_end(&link->call, EX_USAGE);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct link *link = handle->data;
    (void)suggested;
    *buf = uv_buf_init(link->line + link->len, (unsigned)(CONTROL_LINE_MAX - link->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct link *link = stream->data;
    (void)buf;
    if (link->is_closing || n == 0)
        return;
    if (n < 0) {
        close_link(link);
        return;
    }
    if (link->has_line)
        return; /* nothing is expected behind the line */
    link->len += (size_t)n;
    char *end = memchr(link->line, '\n', link->len);
    if (end == NULL)
        return;
    *end = '\0';
    run_line(link);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct control *control = stream->data;
    if (status < 0)
        return;
    struct link *link = xcalloc(1, sizeof *link);
    uv_pipe_init(&control->loop->uv, &link->pipe, 0);
    link->pipe.data = link;
    link->control = control;
    link->next = control->links;
    control->links = link;
    control->count++;
    if (uv_accept(stream, (uv_stream_t *)&link->pipe) != 0
        || control->count > CONTROL_CONNECTIONS_MAX
        || uv_read_start((uv_stream_t *)&link->pipe, on_alloc, on_read) != 0)
        close_link(link);
}

/* ------------------------------------------------------------ the socket */

struct control *control_open(struct loop *loop, const char *path, const char **error)
{
    struct control *control = xcalloc(1, sizeof *control);
    control->loop = loop;
    control->path = xstrdup(path);
    uv_pipe_init(&loop->uv, &control->pipe, 0);
    control->pipe.data = control;
    unlink(path); /* what an earlier run left: the store's lock tells whether one still runs */
    mode_t old = umask(0177);
    int rc = uv_pipe_bind(&control->pipe, path);
    umask(old);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&control->pipe, 16, on_connection);
    *error = rc == 0 ? NULL : uv_strerror(rc);
    return control;
}

static void on_closed(uv_handle_t *handle)
{
    struct control *control = handle->data;
    free(control->path);
    free(control);
}

void control_close(struct control *control)
{
    if (control->is_closing)
        return;
    control->is_closing = true;
    while (control->links != NULL)
        close_link(control->links);
    unlink(control->path);
    uv_close((uv_handle_t *)&control->pipe, on_closed);
}

/* ------------------------------------------------------------ the other end */

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)(void *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Copies to stdout up to the EOT; the code behind it. */
static int print_answer(FILE *in)
{
    int c, code = EX_UNAVAILABLE;
    while ((c = getc(in)) != EOF && c != CONTROL_EOT)
        putchar(c);
    if (c == CONTROL_EOT && fscanf(in, "%d", &code) != 1)
        code = EX_PROTOCOL;
    return code;
}

int control_ask(const char *path, const char *line)
{
    int fd = connect_to(path);
    FILE *stream = fd >= 0 ? fdopen(fd, "r+") : NULL;
    if (stream == NULL)
        return -1;
    fprintf(stream, "%s\n", line);
    fflush(stream);
    int code = print_answer(stream);
    fclose(stream);
    return code;
}
