#include "server/policy_client.h"
#include "policy/policy_server.h"
#include "protocol/mem.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct request {
    struct request *next; /* in line */
    struct policy_client *client;
    struct question *question;
    int tries;
};

struct connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    uv_connect_t connect;
    uv_timer_t *timer;        /* owns: of the request at hand, or of being idle */
    struct policy_client *client; /* NULL: the client is gone */
    struct connection *next;  /* idle ones */
    struct request *request;  /* at hand */
    struct buf answer;        /* owns */
    int64_t opened_ms;
    int requests;             /* carried so far */
    bool is_closing;
};

/* The connections of one loop to one server. */
struct policy_client {
    struct policy_client *next;
    struct fetcher *fetcher;
    char *argument;           /* owns: which server */
    struct connection *idle;
    int count;                /* connections, busy ones included */
    struct request *line, **line_end;
    struct connection *busy_list; /* for shutting down */
    struct retry *retries;        /* requests that pause before another try */
};

struct write {
    uv_write_t request;
    char bytes[];
};

static void serve_line(struct policy_client *client);
static void start_request(struct policy_client *client, struct request *r);

static const struct policy_server *server_of(const struct request *r)
{
    return r->question->key.object;
}

static int64_t now_ms(const struct policy_client *client)
{
    return (int64_t)uv_now(client->fetcher->uv);
}

/* ------------------------------------------------------------ connections */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    buf_fini(&c->answer);
    free(c);
}

static void unlink_connection(struct connection **list, struct connection *c)
{
    while (*list != NULL && *list != c)
        list = &(*list)->next;
    if (*list != NULL)
        *list = c->next;
}

static void close_connection(struct connection *c)
{
    if (c->is_closing)
        return;
    c->is_closing = true;
    unlink_connection(&c->client->idle, c);
    unlink_connection(&c->client->busy_list, c);
    c->client->count--;
    uv_close((uv_handle_t *)c->timer, free_handle);
    uv_close(&c->h.handle, on_closed);
}

/* ------------------------------------------------------------ the end of a request */

static void finish_request(struct request *r, enum fact_status status, struct span value)
{
    struct policy_client *client = r->client;
    question_answer(r->question, status, value, "policy server");
    free(r);
    if (client->line != NULL && !client->fetcher->is_closing)
        serve_line(client);
}

struct retry {
    uv_timer_t timer;
    struct retry *next;
    struct request *request;
};

static struct request *end_retry(struct retry *retry)
{
    struct request *r = retry->request;
    struct retry **at = &r->client->retries;
    while (*at != retry)
        at = &(*at)->next;
    *at = retry->next;
    uv_close((uv_handle_t *)&retry->timer, free_handle);
    return r;
}

static void on_retry(uv_timer_t *timer)
{
    struct request *r = end_retry((struct retry *)(void *)timer);
    start_request(r->client, r);
}

/* This attempt came to nothing. */
static void fail_request(struct request *r, bool is_counted)
{
    const struct policy_server *server = server_of(r);
    r->tries += is_counted;
    if (r->tries >= server->try_limit || r->client->fetcher->is_closing) {
        finish_request(r, FACT_TEMPFAIL, span_make("", 0));
        return;
    }
    struct retry *retry = xcalloc(1, sizeof *retry);
    retry->request = r;
    retry->next = r->client->retries;
    r->client->retries = retry;
    uv_timer_init(r->client->fetcher->uv, &retry->timer);
    uv_timer_start(&retry->timer, on_retry,
                   is_counted ? (uint64_t)server->retry_delay_ms : 0, 0);
}

static void fail_connection(struct connection *c)
{
    struct request *r = c->request;
    bool is_stale = c->requests > 1 && c->answer.len == 0; /* closed while it was idle */
    c->request = NULL;
    close_connection(c);
    if (r != NULL)
        fail_request(r, !is_stale);
}

static void on_timeout(uv_timer_t *timer)
{
    struct connection *c = timer->data;
    if (c->request != NULL)
        c->requests = 1; /* silence is no stale connection */
    fail_connection(c);
}

static bool may_be_kept(const struct connection *c, const struct policy_server *server)
{
    return (server->request_limit == 0 || c->requests < server->request_limit)
           && now_ms(c->client) - c->opened_ms < server->max_ttl_ms;
}

static void make_idle(struct connection *c, const struct policy_server *server)
{
    unlink_connection(&c->client->busy_list, c);
    c->next = c->client->idle;
    c->client->idle = c;
    uv_timer_start(c->timer, on_timeout, (uint64_t)server->max_idle_ms, 0);
}

/* A whole answer is there: lines up to an empty one. */
static void complete(struct connection *c, size_t len)
{
    struct request *r = c->request;
    const struct policy_server *server = server_of(r);
    struct buf kept = { 0 };
    struct span action;
    if (!policy_server_action(span_make(c->answer.at, len), &action)) {
        fail_connection(c);
        return;
    }
    buf_add(&kept, action);
    bool is_clean = c->answer.len == len + 2; /* nothing behind the answer */
    buf_fini(&c->answer);
    c->request = NULL;
    if (is_clean && may_be_kept(c, server))
        make_idle(c, server);
    else
        close_connection(c);
    finish_request(r, FACT_FOUND, buf_span(&kept));
    buf_fini(&kept);
}

/* ------------------------------------------------------------ talking */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct connection *c = handle->data;
    (void)suggested;
    c->answer.max = POLICY_ANSWER_MAX;
    char *room = buf_reserve(&c->answer, 1024);
    *buf = uv_buf_init(room, room != NULL ? 1024 : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct connection *c = stream->data;
    (void)buf;
    if (c->is_closing || n == 0)
        return;
    if (n < 0 || c->request == NULL) { /* idle and talking: not a server of ours any more */
        fail_connection(c);
        return;
    }
    c->answer.len += (size_t)n;
    const char *end = memmem(c->answer.at, c->answer.len, "\n\n", 2);
    if (end != NULL)
        complete(c, (size_t)(end - c->answer.at));
}

static void on_written(uv_write_t *request, int status)
{
    (void)status; /* a broken connection shows when it is read */
    free(request);
}

static void send_request(struct connection *c)
{
    struct span text = c->request->question->key.text;
    struct write *w = xmalloc(sizeof *w + text.len);
    memcpy(w->bytes, text.at, text.len);
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)text.len);
    c->requests++;
    if (uv_write(&w->request, &c->h.stream, &buf, 1, on_written) != 0) {
        free(w);
        fail_connection(c);
    }
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct connection *c = connect->data;
    if (c->is_closing)
        return;
    if (status != 0 || uv_read_start(&c->h.stream, on_alloc, on_read) != 0)
        fail_connection(c);
    else
        send_request(c);
}

static int connect_tcp(struct connection *c, const struct policy_server *server)
{
    struct sockaddr_storage address = { 0 };
    if (server->ip.family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(server->port);
        memcpy(&in6->sin6_addr, server->ip.bytes, 16);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address;
        in->sin_family = AF_INET;
        in->sin_port = htons(server->port);
        memcpy(&in->sin_addr, server->ip.bytes, 4);
    }
    return uv_tcp_connect(&c->connect, &c->h.tcp, (struct sockaddr *)(void *)&address,
                          on_connect);
}

static struct connection *connection_new(struct policy_client *client,
                                         const struct policy_server *server)
{
    struct connection *c = xcalloc(1, sizeof *c);
    uv_loop_t *uv = client->fetcher->uv;
    c->client = client;
    c->opened_ms = now_ms(client);
    c->timer = xcalloc(1, sizeof *c->timer);
    uv_timer_init(uv, c->timer);
    if (server->path != NULL)
        uv_pipe_init(uv, &c->h.pipe, 0);
    else
        uv_tcp_init(uv, &c->h.tcp);
    c->h.handle.data = c->timer->data = c->connect.data = c;
    client->count++;
    return c;
}

static void take_request(struct connection *c, struct request *r)
{
    c->request = r;
    c->next = c->client->busy_list;
    c->client->busy_list = c;
    uv_timer_start(c->timer, on_timeout, (uint64_t)server_of(r)->timeout_ms, 0);
}

static void open_connection(struct policy_client *client, struct request *r)
{
    const struct policy_server *server = server_of(r);
    struct connection *c = connection_new(client, server);
    take_request(c, r);
    if (server->path != NULL)
        uv_pipe_connect(&c->connect, &c->h.pipe, server->path, on_connect);
    else if (connect_tcp(c, server) != 0)
        fail_connection(c);
}

static void start_request(struct policy_client *client, struct request *r)
{
    struct connection *c = client->idle;
    if (c != NULL) {
        client->idle = c->next;
        take_request(c, r);
        send_request(c);
    } else if (client->count < POLICY_CONNECTIONS_MAX) {
        open_connection(client, r);
    } else {
        r->next = NULL;
        *client->line_end = r;
        client->line_end = &r->next;
    }
}

static void serve_line(struct policy_client *client)
{
    struct request *r = client->line;
    if (client->idle == NULL && client->count >= POLICY_CONNECTIONS_MAX)
        return;
    client->line = r->next;
    if (client->line == NULL)
        client->line_end = &client->line;
    start_request(client, r);
}

static struct policy_client *client_for(struct fetcher *fetcher,
                                        const struct policy_server *server)
{
    struct policy_client *client = fetcher->policy_clients;
    while (client != NULL && strcmp(client->argument, server->argument) != 0)
        client = client->next;
    if (client != NULL)
        return client;
    client = xcalloc(1, sizeof *client);
    client->fetcher = fetcher;
    client->argument = xstrdup(server->argument);
    client->line_end = &client->line;
    client->next = fetcher->policy_clients;
    fetcher->policy_clients = client;
    return client;
}

void policy_client_ask(struct fetcher *fetcher, struct question *q)
{
    struct request *r = xcalloc(1, sizeof *r);
    r->question = q;
    r->client = client_for(fetcher, q->key.object);
    start_request(r->client, r);
}

static void free_client(struct policy_client *client)
{
    while (client->idle != NULL)
        close_connection(client->idle);
    while (client->busy_list != NULL)
        fail_connection(client->busy_list);
    while (client->retries != NULL)
        finish_request(end_retry(client->retries), FACT_TEMPFAIL, span_make("", 0));
    while (client->line != NULL) {
        struct request *r = client->line;
        client->line = r->next;
        finish_request(r, FACT_TEMPFAIL, span_make("", 0));
    }
    free(client->argument);
    free(client);
}

void policy_clients_free(struct fetcher *fetcher)
{
    while (fetcher->policy_clients != NULL) {
        struct policy_client *next = fetcher->policy_clients->next;
        free_client(fetcher->policy_clients);
        fetcher->policy_clients = next;
    }
}
