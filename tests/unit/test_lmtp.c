/* The pool against a server of the same loop that does what its table says. */
#include "protocol/mem.h"
#include "queue/lmtp.h"

#include "tests/unit/scratch_dir.h"
#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

/* ------------------------------------------------------------ the server */

/* What the server does at a command; rules are looked through in order, and a rule with times is
 * used up. */
struct rule {
    const char *command; /* begins with this; "." is the end of a message, "" the connection */
    const char *reply;   /* CR LF is added; NULL: silence */
    bool closes;
    int times;
};

struct peer_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    struct server *server;
    struct buf line, message;
    bool is_data;
    size_t accepted;
};

struct server {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    const char *name; /* in nexthop form */
    struct rule *rules;
    struct peer_conn *conns[64];
    size_t conn_count;
    int connections, open, most_open, messages;
    struct buf seen; /* commands, one a line */
    struct buf last; /* message */
    struct seeded *whims; /* NULL: none; see capricious() */
    bool has_message[400]; /* by the number in its second line */
};

static uv_loop_t loop;

static void after_write(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void say(struct peer_conn *c, const char *text)
{
    uv_write_t *request = xcalloc(1, sizeof *request + strlen(text) + 3);
    char *copy = (char *)(request + 1);
    sprintf(copy, "%s\r\n", text);
    uv_buf_t buf = uv_buf_init(copy, (unsigned)strlen(copy));
    uv_write(request, &c->h.stream, &buf, 1, after_write);
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct peer_conn *c = handle->data;
    buf_fini(&c->line);
    buf_fini(&c->message);
    free(c);
}

static void hang_up(struct peer_conn *c)
{
    struct server *s = c->server;
    if (uv_is_closing(&c->h.handle))
        return;
    for (size_t i = 0; i < s->conn_count; i++)
        if (s->conns[i] == c)
            s->conns[i] = s->conns[--s->conn_count];
    s->open--;
    uv_close(&c->h.handle, on_conn_closed);
}

static bool is_for(const struct rule *r, const char *command)
{
    size_t len = strlen(r->command);
    return r->times >= 0 && (len > 0 ? strncmp(command, r->command, len) == 0
                                     : command[0] == '\0');
}

/* Now and then: hangs up, with or without a word, says no, or nothing, or too much. */
static bool capricious(struct peer_conn *c, const char *command)
{
    static const char *const words[] = { NULL, "421 4.3.2 enough", "451 4.0.0 later",
                                         "550 5.0.0 never", "250 2.0.0 once\r\n250 2.0.0 twice",
                                         "what?" };
    size_t rarity = command[0] != '\0' ? 12 : 60; /* a line of jobs ends when nobody greets */
    if (c->server->whims == NULL || seeded_below(c->server->whims, rarity) != 0)
        return false;
    size_t whim = seeded_below(c->server->whims, ARRAY_LEN(words) + 1);
    bool is_silent = whim == ARRAY_LEN(words);
    if (!is_silent && words[whim] != NULL)
        say(c, words[whim]);
    if (!is_silent && (whim < 2 || command[0] == '\0'))
        hang_up(c);
    return true;
}

static void obey(struct peer_conn *c, const char *command)
{
    if (capricious(c, command))
        return;
    struct rule *r = c->server->rules;
    while (r->command != NULL && !is_for(r, command))
        r++;
    if (r->command == NULL) {
        say(c, strncmp(command, "DATA", 4) == 0 ? "354 go" : "250 2.0.0 ok");
    } else {
        if (r->times > 0 && --r->times == 0)
            r->times = -1;
        if (r->reply != NULL)
            say(c, r->reply);
        if (r->closes)
            hang_up(c);
        if (r->reply == NULL || r->reply[0] != '2')
            return;
    }
    if (strncmp(command, "MAIL", 4) == 0)
        c->accepted = 0;
    c->accepted += strncmp(command, "RCPT", 4) == 0;
    c->is_data |= strncmp(command, "DATA", 4) == 0;
}

static void end_message(struct peer_conn *c)
{
    struct server *s = c->server;
    c->is_data = false;
    s->messages++;
    const char *number = strstr(buf_text(&c->message), "number ");
    if (number != NULL)
        s->has_message[atoi(number + 7)] = true;
    buf_clear(&s->last);
    buf_add(&s->last, buf_span(&c->message));
    buf_clear(&c->message);
    for (size_t n = c->accepted; n > 0 && !uv_is_closing(&c->h.handle); n--)
        obey(c, ".");
    c->accepted = 0;
}

static void take_line(struct peer_conn *c)
{
    const char *line = buf_text(&c->line);
    if (!c->is_data) {
        buf_printf(&c->server->seen, "%s\n", line);
        obey(c, line);
    } else if (strcmp(line, ".") == 0) {
        end_message(c);
    } else {
        buf_printf(&c->message, "%s\n", line[0] == '.' ? line + 1 : line);
    }
    buf_clear(&c->line);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char room[65536];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(room, sizeof room);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer_conn *c = stream->data;
    if (n < 0)
        hang_up(c);
    for (ssize_t i = 0; i < n && !uv_is_closing(&c->h.handle); i++) {
        if (buf->base[i] == '\n')
            take_line(c);
        else if (buf->base[i] != '\r')
            buf_putc(&c->line, buf->base[i]);
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct server *s = stream->data;
    struct peer_conn *c = xcalloc(1, sizeof *c);
    (void)status;
    c->server = s;
    if (stream->type == UV_NAMED_PIPE)
        uv_pipe_init(&loop, &c->h.pipe, 0);
    else
        uv_tcp_init(&loop, &c->h.tcp);
    c->h.handle.data = c;
    uv_accept(stream, &c->h.stream);
    s->conns[s->conn_count++] = c;
    s->connections++;
    s->most_open = ++s->open > s->most_open ? s->open : s->most_open;
    uv_read_start(&c->h.stream, on_alloc, on_read);
    obey(c, "");
}

static void serve_tcp(struct server *s, char *name)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int len = sizeof address;
    uv_tcp_init(&loop, &s->h.tcp);
    s->h.handle.data = s;
    uv_tcp_bind(&s->h.tcp, (struct sockaddr *)(void *)&address, 0);
    cr_assert_eq(uv_listen(&s->h.stream, 64, on_connection), 0);
    uv_tcp_getsockname(&s->h.tcp, (struct sockaddr *)(void *)&address, &len);
    sprintf(name, "inet:127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    s->name = name;
}

static void stop_server(struct server *s)
{
    while (s->conn_count > 0)
        hang_up(s->conns[0]);
    uv_close(&s->h.handle, NULL);
    buf_fini(&s->seen);
    buf_fini(&s->last);
}

/* ------------------------------------------------------------ jobs */

static struct params params;
static struct lmtp_pool *pool;
static struct lmtp_outside outside;
static int done_count;
static char host_name[40];

/* "mx.test" has two hosts, "down.test" first; all addresses are 127.0.0.1, but down's. */
static void resolve(void *context, enum lmtp_question kind, struct span name,
                    lmtp_resolved *answer, void *arg)
{
    struct buf records = { 0 };
    enum lmtp_dns status = LMTP_DNS_FOUND;
    (void)context;
    if (kind == LMTP_ASK_MX && span_equals(name, SPAN_LITERAL("mx.test")))
        buf_append(&records, "\0\x0b\0\x14host.test\0\x0b\0\x0a" "down.test", 26);
    else if (kind == LMTP_ASK_MX && span_equals(name, SPAN_LITERAL("null.test")))
        buf_append(&records, "\0\x02\0\0", 4);
    else if (kind == LMTP_ASK_MX && span_equals(name, SPAN_LITERAL("ours.test")))
        buf_append(&records, "\0\x09\0\x14me.test\0\x0b\0\x15host.test", 24);
    else if (kind == LMTP_ASK_A && span_equals(name, SPAN_LITERAL("down.test")))
        buf_append(&records, "\0\x04\x7f\x01\x01\x01", 6);
    else if (kind == LMTP_ASK_A && span_equals(name, SPAN_LITERAL("host.test")))
        buf_append(&records, "\0\x04\x7f\0\0\x01", 6);
    else if (span_equals(name, SPAN_LITERAL("slow.test")))
        status = LMTP_DNS_RETRY;
    else
        status = LMTP_DNS_NONE;
    answer(arg, status, buf_span(&records));
    buf_fini(&records);
}

static bool allows_nobody(void *context, const struct ip *ip)
{
    (void)context;
    (void)ip;
    return false;
}

static void begin(void)
{
    enum { LONG = 5000 };
    params = (struct params){
        .lmtp_destination_concurrency_limit = 3, .smtp_destination_concurrency_limit = 3,
        .lmtp_lhlo_name = "me.test", .smtp_helo_name = "me.test", .myhostname = "me.test",
        .queue_directory = "/nonexistent", .lmtp_tcp_port = 24, .smtp_tcp_port = 25,
        .lmtp_connect_timeout = LONG, .smtp_connect_timeout = LONG, .lmtp_lhlo_timeout = LONG,
        .smtp_helo_timeout = LONG, .lmtp_mail_timeout = LONG, .smtp_mail_timeout = LONG,
        .lmtp_rcpt_timeout = LONG, .smtp_rcpt_timeout = LONG, .lmtp_data_init_timeout = LONG,
        .smtp_data_init_timeout = LONG, .lmtp_data_xfer_timeout = LONG,
        .smtp_data_xfer_timeout = LONG, .lmtp_data_done_timeout = LONG,
        .smtp_data_done_timeout = LONG, .lmtp_connection_cache_time_limit = LONG,
        .smtp_connection_cache_time_limit = LONG, .lmtp_connection_reuse_time_limit = LONG,
        .smtp_connection_reuse_time_limit = LONG,
    };
    done_count = 0;
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    uv_loop_init(&loop);
    outside = (struct lmtp_outside){ .uv = &loop, .params = &params, .resolve = resolve,
                                     .allows = allows_nobody };
    pool = lmtp_pool_new(&outside);
}

static void end(struct server *s)
{
    lmtp_pool_free(pool);
    if (s != NULL)
        stop_server(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_expect_eq(uv_loop_close(&loop), 0);
}

struct test_job {
    struct lmtp_job job;
    struct lmtp_rcpt rcpts[3];
    struct body body;
};

static void on_done(struct lmtp_job *job)
{
    (void)job;
    done_count++;
}

static void prepare(struct test_job *t, const char *nexthop, size_t count, const char *message)
{
    static const char *const names[] = { "a@test", "b@test", "c@test" };
    *t = (struct test_job){ .job = { .nexthop = nexthop, .sender = SPAN_LITERAL("s@test"),
                                     .rcpts = t->rcpts, .count = count, .done = on_done,
                                     .head = SPAN_LITERAL("Trace: yes\r\n") } };
    for (size_t i = 0; i < count; i++)
        t->rcpts[i].address = span_of(names[i]);
    t->body = (struct body){ .memory = span_of(message), .fd = -1 };
    if (message != NULL)
        t->job.body = &t->body;
}

static void run_until(int count)
{
    uint64_t began = uv_now(&loop);
    while (done_count < count && uv_now(&loop) - began < 20000)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert_eq(done_count, count);
}

static void turn(int times)
{
    while (times-- > 0)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void expect(struct test_job *t, size_t i, enum lmtp_source source, int code,
                   const char *text)
{
    const struct lmtp_result *r = &t->rcpts[i].result;
    cr_expect(r->source == source && r->code == code && strstr(r->text, text) != NULL,
              "recipient %zu: %d %d %s %s", i, (int)r->source, r->code, r->enhanced, r->text);
}

static void do_job(struct test_job *t)
{
    lmtp_start(pool, &t->job);
    run_until(done_count + 1);
}

#define NONE { NULL, NULL, false, 0 }

/* ------------------------------------------------------------ tests */

Test(lmtp, messages_go_out_and_the_connection_is_used_again)
{
    struct rule rules[] = { { "", "220 hi", false, 0 },
                            { "LHLO", "250-x\r\n250 PIPELINING", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    for (int i = 0; i < 3; i++) {
        prepare(&t, name, 2, "Subject: x\r\n\r\n.dot\r\nend");
        do_job(&t);
        expect(&t, 0, LMTP_SAID, 250, "ok");
        expect(&t, 1, LMTP_SAID, 250, "ok");
        cr_expect_str_eq(buf_text(&s.last), "Trace: yes\nSubject: x\n\n.dot\nend\n");
        cr_expect(strncmp(t.job.host, "127.0.0.1[127.0.0.1]:", 21) == 0, "%s", t.job.host);
        lmtp_job_fini(&t.job);
    }
    cr_expect_eq(s.connections, 1);
    cr_expect_eq(s.messages, 3);
    end(&s);
}

Test(lmtp, each_recipient_has_its_own_result)
{
    struct rule rules[] = { { "", "220 hi", false, 0 },
                            { "RCPT TO:<b", "550 5.1.1 who is b", false, 0 },
                            { ".", "250 2.0.0 first", false, 1 },
                            { ".", "452 4.2.2 full", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    struct buf text = { 0 };
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 3, "x");
    do_job(&t);
    expect(&t, 0, LMTP_SAID, 250, "first");
    expect(&t, 1, LMTP_SAID, 550, "who is b");
    expect(&t, 2, LMTP_SAID, 452, "full");
    lmtp_result_print(&text, &t.job, &t.rcpts[1].result);
    cr_expect(strstr(buf_text(&text), " said: 550 5.1.1 who is b (in reply to RCPT TO command)"));
    buf_fini(&text);
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, a_question_ends_with_RSET)
{
    struct rule rules[] = { { "", "220 hi", false, 0 },
                            { "RCPT TO:<b", "550 5.1.1 who", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 2, NULL);
    do_job(&t);
    expect(&t, 0, LMTP_SAID, 250, "ok");
    expect(&t, 1, LMTP_SAID, 550, "who");
    turn(5);
    cr_expect(strstr(buf_text(&s.seen), "RSET\n") != NULL && s.messages == 0);
    lmtp_job_fini(&t.job);
    end(&s);
}

/* A file is read in pieces, with and without a head of its own. */
Test(lmtp, a_message_from_a_file)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, NONE };
    enum { LINES = 30000 };
    for (int has_head = 0; has_head < 2; has_head++) {
        struct server s = { .rules = rules };
        struct test_job t;
        char name[40];
        FILE *file = tmpfile();
        struct buf want = { 0 };
        if (has_head == 0)
            buf_puts(&want, "Trace: yes\n");
        for (int i = 0; i < LINES; i++) {
            fprintf(file, ".line %d of a long message\r\n", i);
            buf_printf(&want, ".line %d of a long message\n", i);
        }
        fflush(file);
        begin();
        serve_tcp(&s, name);
        prepare(&t, name, 1, "");
        t.body = (struct body){ .fd = fileno(file), .has_head = has_head != 0,
                                .size_bytes = (uint64_t)ftell(file) };
        do_job(&t);
        expect(&t, 0, LMTP_SAID, 250, "ok");
        cr_expect_eq(s.last.len, want.len);
        cr_expect(span_equals(buf_span(&s.last), buf_span(&want)));
        buf_fini(&want);
        lmtp_job_fini(&t.job);
        end(&s);
        fclose(file);
    }
}

Test(lmtp, a_file_that_is_too_short_is_not_sent)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    FILE *file = tmpfile();
    fputs("hi\r\n", file);
    fflush(file);
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 1, "");
    t.body = (struct body){ .fd = fileno(file), .size_bytes = 5 };
    do_job(&t);
    expect(&t, 0, LMTP_LOST, 451, "the message cannot be read");
    turn(5);
    cr_expect_eq(s.messages, 0);
    lmtp_job_fini(&t.job);
    end(&s);
    fclose(file);
}

Test(lmtp, a_large_message_from_memory)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    struct buf message = { 0 };
    char name[40];
    while (message.len < 3000000)
        buf_puts(&message, "0123456789012345678901234567890123456789012345678901234567890\r\n");
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 1, buf_text(&message));
    do_job(&t);
    expect(&t, 0, LMTP_SAID, 250, "ok");
    cr_expect_eq(s.last.len, 11 + message.len / 63 * 62);
    buf_fini(&message);
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, nobody_listens)
{
    struct test_job t, question;
    begin();
    prepare(&t, "unix:/nonexistent/socket", 1, "x");
    do_job(&t);
    expect(&t, 0, LMTP_UNREACHABLE, 451, "connect to me.test[/nonexistent/socket]: No such file");
    lmtp_job_fini(&t.job);
    prepare(&t, "inet:127.1.1.1:1", 1, "x");
    do_job(&t);
    expect(&t, 0, LMTP_UNREACHABLE, 451, "connect to 127.1.1.1[127.1.1.1]:1: Connection refused");
    lmtp_job_fini(&t.job);
    prepare(&question, "inet:127.1.1.1:1", 1, NULL); /* remembered */
    do_job(&question);
    expect(&question, 0, LMTP_UNREACHABLE, 451, "Connection refused");
    lmtp_job_fini(&question.job);
    prepare(&t, "[", 1, "x");
    do_job(&t);
    expect(&t, 0, LMTP_UNREACHABLE, 451, "without");
    lmtp_job_fini(&t.job);
    end(NULL);
}

Test(lmtp, refused_at_the_door)
{
    struct rule rules[] = { { "", "554 5.3.2 go away", true, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 1, "x");
    do_job(&t);
    expect(&t, 0, LMTP_UNREACHABLE, 451, "refused to talk to me: 554 5.3.2 go away");
    cr_expect_str_eq(t.rcpts[0].result.enhanced, "4.3.2");
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, what_is_lost_and_what_is_unknown)
{
    static const struct {
        const char *command;
        const char *reply;
        enum lmtp_source source;
        const char *text;
    } rows[] = {
        { "MAIL", NULL, LMTP_LOST, "while waiting for MAIL FROM" },
        { "RCPT", NULL, LMTP_LOST, "while waiting for RCPT TO" },
        { "DATA", NULL, LMTP_LOST, "while waiting for DATA" },
        { ".", NULL, LMTP_UNKNOWN, "while waiting for end of DATA" },
        { ".", "garbage", LMTP_UNKNOWN, "malformed" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rule rules[] = { { "", "220 hi", false, 0 },
                                { rows[i].command, rows[i].reply, true, 0 }, NONE };
        struct server s = { .rules = rules };
        struct test_job t;
        char name[40];
        begin();
        serve_tcp(&s, name);
        prepare(&t, name, 1, "x");
        do_job(&t);
        expect(&t, 0, rows[i].source, 451, rows[i].text);
        lmtp_job_fini(&t.job);
        end(&s);
    }
}

Test(lmtp, a_connection_that_was_closed_meanwhile_costs_a_try_not_the_job)
{
    struct rule rules[] = { { "", "220 hi", false, 0 },
                            { "MAIL", "250 ok", false, 1 },
                            { "MAIL", "421 4.3.2 idle for too long", true, 1 }, NONE };
    for (int is_polite = 0; is_polite < 2; is_polite++) {
        struct server s = { .rules = rules };
        struct test_job t;
        char name[40];
        rules[1].times = rules[2].times = 1;
        rules[2].reply = is_polite != 0 ? "421 4.3.2 idle for too long" : NULL;
        begin();
        serve_tcp(&s, name);
        for (int i = 0; i < 2; i++) {
            prepare(&t, name, 1, "x");
            do_job(&t);
            expect(&t, 0, LMTP_SAID, 250, "ok");
            lmtp_job_fini(&t.job);
        }
        cr_expect_eq(s.connections, 2);
        cr_expect_eq(s.messages, 2);
        end(&s);
    }
}

/* A new connection that breaks is no stale one: no second try of our own. */
Test(lmtp, a_fresh_connection_is_tried_once)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { "MAIL", NULL, true, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 1, "x");
    do_job(&t);
    expect(&t, 0, LMTP_LOST, 451, "lost connection");
    cr_expect_eq(s.connections, 1);
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, connections_are_bounded_and_all_are_served)
{
    enum { COUNT = 40 };
    struct rule rules[] = { { "", "220 hi", false, 0 }, NONE };
    struct server s = { .rules = rules };
    static struct test_job t[COUNT];
    char name[40];
    begin();
    serve_tcp(&s, name);
    for (int i = 0; i < COUNT; i++) {
        prepare(&t[i], name, 1, i % 4 == 0 ? NULL : "x");
        lmtp_start(pool, &t[i].job);
    }
    cr_expect_eq(done_count, 0);
    run_until(COUNT);
    for (int i = 0; i < COUNT; i++) {
        expect(&t[i], 0, LMTP_SAID, 250, "ok");
        lmtp_job_fini(&t[i].job);
    }
    cr_expect(s.most_open <= 4 && s.messages == 30, "%d open, %d messages", s.most_open,
              s.messages);
    end(&s);
}

/* All connections are stuck in messages: a question still gets through. */
Test(lmtp, a_question_does_not_wait_for_slow_messages)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { ".", NULL, false, 0 }, NONE };
    struct server s = { .rules = rules };
    static struct test_job t[5], question;
    char name[40];
    begin();
    serve_tcp(&s, name);
    for (int i = 0; i < 5; i++) {
        prepare(&t[i], name, 1, "x");
        lmtp_start(pool, &t[i].job);
    }
    while (s.messages < 3)
        uv_run(&loop, UV_RUN_ONCE);
    prepare(&question, name, 1, NULL);
    do_job(&question);
    expect(&question, 0, LMTP_SAID, 250, "ok");
    lmtp_job_fini(&question.job);
    end(&s);
    cr_expect_eq(done_count, 6);
    int unknown = 0, cancelled = 0;
    for (int i = 0; i < 5; i++) {
        unknown += t[i].rcpts[0].result.source == LMTP_UNKNOWN;
        cancelled += t[i].rcpts[0].result.source == LMTP_CANCELLED;
        lmtp_job_fini(&t[i].job);
    }
    cr_expect(unknown == 3 && cancelled == 2, "%d %d", unknown, cancelled);
}

/* The line of a dead host hears of it at once, not one timeout after the other. */
Test(lmtp, the_line_of_a_silent_host)
{
    struct rule rules[] = { { "", NULL, false, 0 }, NONE };
    struct server s = { .rules = rules }, good = { 0 };
    struct rule good_rules[] = { { "", "220 hi", false, 0 }, NONE };
    static struct test_job t[20], other;
    char name[40], good_name[40];
    good.rules = good_rules;
    begin();
    params.lmtp_lhlo_timeout = 300;
    lmtp_pool_set_params(pool, &params);
    serve_tcp(&s, name);
    serve_tcp(&good, good_name);
    for (int i = 0; i < 20; i++) {
        prepare(&t[i], name, 1, "x");
        lmtp_start(pool, &t[i].job);
    }
    uint64_t began = uv_now(&loop);
    prepare(&other, good_name, 1, "x");
    do_job(&other);
    expect(&other, 0, LMTP_SAID, 250, "ok");
    cr_expect(uv_now(&loop) - began < 200, "one next hop waits for another");
    run_until(21);
    cr_expect(uv_now(&loop) - began < 1000);
    for (int i = 0; i < 20; i++) {
        expect(&t[i], 0, LMTP_UNREACHABLE, 451, "timed out while waiting for greeting");
        lmtp_job_fini(&t[i].job);
    }
    lmtp_job_fini(&other.job);
    stop_server(&good);
    end(&s);
}

Test(lmtp, a_peer_that_trickles_is_no_progress)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { "RCPT", "250-a", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    params.lmtp_rcpt_timeout = 300;
    lmtp_pool_set_params(pool, &params);
    serve_tcp(&s, name);
    prepare(&t, name, 1, "x");
    lmtp_start(pool, &t.job);
    uint64_t began = uv_now(&loop);
    while (done_count == 0 && uv_now(&loop) - began < 3000) {
        if (s.conn_count > 0 && s.conns[0]->accepted > 0)
            say(s.conns[0], "250-b");
        usleep(20000);
        turn(2);
    }
    cr_assert_eq(done_count, 1);
    cr_expect(uv_now(&loop) - began < 1500);
    expect(&t, 0, LMTP_LOST, 451, "timed out while waiting for RCPT TO");
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, deadlines)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { "RCPT", NULL, false, 0 }, NONE };
    struct server s = { .rules = rules };
    static struct test_job t[2];
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t[0], name, 1, NULL);
    t[0].job.timeout_ms = 200;
    do_job(&t[0]);
    expect(&t[0], 0, LMTP_LOST, 451, "takes too long");
    prepare(&t[1], name, 1, NULL); /* it is remembered for those who would wait */
    do_job(&t[1]);
    expect(&t[1], 0, LMTP_UNREACHABLE, 451, "takes too long");
    lmtp_job_fini(&t[0].job);
    lmtp_job_fini(&t[1].job);
    end(&s);
}

Test(lmtp, behind_the_dot_nothing_is_given_up)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { ".", NULL, false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    prepare(&t, name, 1, "x");
    t.job.timeout_ms = 300;
    lmtp_start(pool, &t.job);
    while (s.messages == 0)
        uv_run(&loop, UV_RUN_ONCE);
    lmtp_cancel(&t.job);
    usleep(400000);
    turn(5);
    cr_expect_eq(done_count, 0);
    say(s.conns[0], "250 2.0.0 at last");
    run_until(1);
    expect(&t, 0, LMTP_SAID, 250, "at last");
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, cancelled_in_every_state)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { "DATA", NULL, false, 0 }, NONE };
    for (int turns = 0; turns < 12; turns++) {
        struct server s = { .rules = rules };
        static struct test_job t[6];
        char name[40];
        begin();
        serve_tcp(&s, name);
        for (int i = 0; i < 6; i++) {
            prepare(&t[i], name, 2, "x");
            lmtp_start(pool, &t[i].job);
        }
        turn(turns);
        for (int i = 0; i < 6; i++)
            lmtp_cancel(&t[i].job);
        cr_expect_eq(done_count, 0);
        run_until(6);
        for (int i = 0; i < 6; i++) {
            expect(&t[i], 1, LMTP_CANCELLED, 451, "cancelled");
            lmtp_job_fini(&t[i].job);
        }
        cr_expect_eq(s.messages, 0);
        end(&s);
    }
}

static int reads_begun;

static void count_read(void *context)
{
    (void)context;
    reads_begun++;
}

static void keep_busy(uv_work_t *work)
{
    (void)work;
    usleep(300000);
}

static void on_rested(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

Test(lmtp, the_pool_ends_while_a_file_is_read)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    uv_work_t busy;
    char name[40];
    setenv("UV_THREADPOOL_SIZE", "1", 1);
    begin();
    lmtp_pool_free(pool);
    outside.params = &params;
    outside.work_begun = count_read;
    pool = lmtp_pool_new(&outside);
    serve_tcp(&s, name);
    prepare(&t, name, 1, "");
    t.body = (struct body){ .fd = memfd_create("message", 0), .dir_fd = -1, .size_bytes = 100 };
    cr_assert_eq(ftruncate(t.body.fd, 100), 0);
    uv_queue_work(&loop, &busy, keep_busy, on_rested);
    lmtp_start(pool, &t.job);
    while (reads_begun == 0)
        uv_run(&loop, UV_RUN_ONCE);
    lmtp_pool_free(pool);
    cr_expect_eq(done_count, 0); /* somebody still reads from its file */
    stop_server(&s);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_expect_eq(done_count, 1);
    expect(&t, 0, LMTP_CANCELLED, 451, "stopped");
    lmtp_job_fini(&t.job);
    close(t.body.fd);
    cr_expect_eq(uv_loop_close(&loop), 0);
}

/* ------------------------------------------------------------ whatever happens */

struct random_job {
    struct test_job t;
    char message[40];
    int done, number;
};

static void on_random_done(struct lmtp_job *job)
{
    struct random_job *r = job->owner;
    r->done++;
    done_count++;
}

/* Delivered is what the server has; certainly not delivered is what it has not. */
static void check_random(const struct server *s, const struct random_job *r)
{
    bool is_there = s->has_message[r->number], is_question = r->t.job.body == NULL;
    cr_expect_eq(r->done, 1);
    for (size_t i = 0; i < r->t.job.count; i++) {
        const struct lmtp_result *result = &r->t.rcpts[i].result;
        bool is_good = result->source == LMTP_SAID && result->code < 300;
        cr_expect(result->code >= 200 && result->text != NULL && result->enhanced != NULL);
        cr_expect(!is_good || is_there || is_question, "%d: lost", r->number);
        cr_expect(result->source != LMTP_UNKNOWN || is_there, "%d: not unknown", r->number);
        cr_expect((result->source != LMTP_LOST && result->source != LMTP_CANCELLED
                   && result->source != LMTP_UNREACHABLE) || !is_there,
                  "%d: %s, but the server has it", r->number, result->text);
    }
}

static void start_random(struct seeded *random, struct random_job *r, const char *name, int number)
{
    bool is_question = seeded_below(random, 3) == 0;
    snprintf(r->message, sizeof r->message, "number %d\r\n.\r\nend", number);
    prepare(&r->t, name, 1 + seeded_below(random, 3), is_question ? NULL : r->message);
    r->done = 0;
    r->number = number;
    r->t.job.owner = r;
    r->t.job.done = on_random_done;
    r->t.job.timeout_ms = seeded_below(random, 4) == 0 ? 1 + (int64_t)seeded_below(random, 60) : 0;
    lmtp_start(pool, &r->t.job);
}

Test(lmtp, a_capricious_server)
{
    enum { COUNT = 200 };
    static struct random_job jobs[COUNT];
    int messages = 0;
    struct rule rules[] = { { "", "220 hi", false, 0 },
                            { "LHLO", "250-x\r\n250 PIPELINING", false, 0 }, NONE };
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct seeded random = seeded_begin(seed), whims = seeded_begin(seed + 100);
        struct server s = { .rules = rules, .whims = &whims };
        char name[40];
        begin();
        if (seed % 2 == 0)
            rules[1].reply = "250 x";
        params.lmtp_lhlo_timeout = params.lmtp_mail_timeout = params.lmtp_rcpt_timeout = 40;
        params.lmtp_data_init_timeout = params.lmtp_data_done_timeout = 40;
        params.lmtp_connection_cache_time_limit = 5;
        lmtp_pool_set_params(pool, &params);
        serve_tcp(&s, name);
        for (int i = 0; i < COUNT; i++) {
            start_random(&random, &jobs[i], name, i);
            turn((int)seeded_below(&random, 3));
            if (seeded_below(&random, 5) == 0)
                lmtp_cancel(&jobs[seeded_below(&random, (size_t)i + 1)].t.job);
        }
        run_until(COUNT);
        for (int i = 0; i < COUNT; i++) {
            check_random(&s, &jobs[i]);
            lmtp_job_fini(&jobs[i].t.job);
        }
        messages += s.messages;
        end(&s);
    }
    cr_expect(messages > 60, "only %d messages", messages);
}

/* ------------------------------------------------------------ hosts */

Test(lmtp, the_next_host_is_tried)
{
    struct rule rules[] = { { "", "220 hi", false, 0 }, { "EHLO", "250 host.test", false, 0 },
                            NONE };
    struct server s = { .rules = rules };
    struct test_job t;
    char name[40];
    begin();
    serve_tcp(&s, name);
    snprintf(host_name, sizeof host_name, "mx.test:%s", strrchr(name, ':') + 1);
    prepare(&t, host_name, 1, "x");
    t.job.protocol = LMTP_PROTOCOL_SMTP;
    do_job(&t);
    expect(&t, 0, LMTP_SAID, 250, "ok");
    cr_expect(strncmp(t.job.host, "host.test[127.0.0.1]:", 21) == 0, "%s", t.job.host);
    lmtp_job_fini(&t.job);
    end(&s);
}

Test(lmtp, hosts_that_are_not_there)
{
    static const struct {
        const char *nexthop;
        bool is_public_only;
        enum lmtp_source source;
        int code;
        const char *text;
    } rows[] = {
        { "none.test", false, LMTP_UNABLE, 550, "Host or domain name not found: none.test" },
        { "[none.test]", false, LMTP_UNREACHABLE, 451, "Host or domain name not found" },
        { "slow.test", false, LMTP_UNREACHABLE, 451, "cannot be looked up now" },
        { "null.test", false, LMTP_UNABLE, 556, "does not accept mail" },
        { "ours.test", false, LMTP_UNREACHABLE, 451, "loops back to myself" },
        { "mx.test", true, LMTP_UNREACHABLE, 451, "no address that may be connected to" },
        { "mx:mx.test", false, LMTP_UNREACHABLE, 451, "no address that may be connected to" },
        { "mx:[127.0.0.1]", false, LMTP_UNREACHABLE, 451, "no address that may be connected to" },
    };
    begin();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct test_job t;
        prepare(&t, rows[i].nexthop, 1, "x");
        t.job.protocol = LMTP_PROTOCOL_SMTP;
        t.job.is_public_only = rows[i].is_public_only;
        do_job(&t);
        expect(&t, 0, rows[i].source, rows[i].code, rows[i].text);
        lmtp_job_fini(&t.job);
    }
    end(NULL);
}

Test(lmtp, next_hops_are_checked)
{
    static const struct {
        const char *text;
        bool is_good;
    } rows[] = {
        { "unix:/run/lmtp", true },   { "unix:", false },        { "inet:h.test:24", true },
        { "inet:h.test", true },      { "[h.test]:25", true },   { "[::1]:25", true },
        { "[ipv6:::1]", true },       { "inet:[::1]:24", true }, { "h.test", true },
        { "[h.test", false },         { "", false },             { "inet:", false },
        { "h.test:0", false },        { "h.test:99999", false }, { "[h.test]x", false },
        { "h.test:smtp", true },      { "mx:h.test", true },     { "mx:", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(lmtp_nexthop_check(LMTP_PROTOCOL_SMTP, rows[i].text) == NULL,
                     rows[i].is_good, "%s", rows[i].text);
}
