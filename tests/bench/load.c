/* load - SMTP clients for the benchmarks: many at a time in one thread, each saying one command
 * after the other and waiting for its reply (no pipelining, as smtp-source does it).
 *
 *   load [-k KIND] [-n CONNECTIONS] [-c AT_A_TIME] [-m MESSAGES] [-r RCPTS] [-u USERS]
 *        [-s BYTES] [-b UNGREETED] [-o FIRST] [-T] ADDRESS PORT
 *
 *   -k mail     each connection sends -m messages of -s bytes to -r recipients, then QUIT
 *      refuse   each connection offers -m recipients that must be refused (x1, x2 ..., from
 *               number -o on), QUIT
 *      defer    the same, with a code of 4xx
 *      quit     banner, EHLO, QUIT
 *      hold     all -n connections stay past EHLO until standard input ends
 *      stall    the same, past a RCPT that gets no answer
 *   -T          STARTTLS first        -b  at most so many without a banner at a time
 *   -u          recipients go round among user1 ... userUSERS, all @example.org; the sender's
 *               domain is another one for each connection with stall
 *
 * Prints one line of JSON: {"connections": N, "units": N, "errors": N, "seconds": S}; units are
 * messages, refusals or connections. With hold and stall the line comes when all are in place.
 * Exit code 1 if anything was answered otherwise than it should be. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum kind { KIND_MAIL, KIND_REFUSE, KIND_DEFER, KIND_QUIT, KIND_HOLD, KIND_STALL, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = { "mail", "refuse", "defer", "quit", "hold", "stall" };

static struct {
    enum kind kind;
    unsigned connections, at_a_time, messages, rcpts, users, ungreeted;
    size_t size;
    bool is_tls;
    struct sockaddr_in server;
} options = { .connections = 1, .at_a_time = 1, .messages = 1, .rcpts = 1, .users = 1,
              .ungreeted = 500, .size = 4096 };

/* What a client waits for. */
enum step {
    STEP_BANNER,
    STEP_EHLO,
    STEP_STARTTLS,
    STEP_HANDSHAKE,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_END,
    STEP_QUIT,
    STEP_STAY,
};

struct client {
    int fd;
    SSL *ssl;
    enum step step;
    unsigned messages, rcpts; /* done; of the message at hand */
    unsigned serial;          /* for the next recipient */
    const char *out;          /* what is being sent */
    size_t out_len, in_len;
    char command[320], in[512];
    bool is_over;
};

static struct {
    int epoll;
    SSL_CTX *tls;
    char *message;
    size_t message_len;
    unsigned started, ungreeted, open, ended, settled;
    unsigned long units, errors, serial;
} run;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ------------------------------------------------------------ bytes */

/* > 0, 0 at the end, -1: later. */
static ssize_t tls_result(struct client *c, int n)
{
    if (n > 0)
        return n;
    int error = SSL_get_error(c->ssl, n);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static ssize_t plain_result(ssize_t n)
{
    return n > 0 ? n : n < 0 && errno == EAGAIN ? -1 : 0;
}

static ssize_t receive(struct client *c)
{
    char *room = c->in + c->in_len;
    size_t size = sizeof c->in - 1 - c->in_len;
    if (c->ssl != NULL)
        return tls_result(c, SSL_read(c->ssl, room, (int)size));
    return plain_result(recv(c->fd, room, size, 0));
}

/* False: the connection is broken. */
static bool send_out(struct client *c)
{
    while (c->out_len > 0) {
        ssize_t n = c->ssl != NULL ? tls_result(c, SSL_write(c->ssl, c->out, (int)c->out_len))
                                   : plain_result(send(c->fd, c->out, c->out_len, MSG_NOSIGNAL));
        if (n == 0)
            return false;
        if (n < 0)
            return true;
        c->out += n;
        c->out_len -= (size_t)n;
    }
    return true;
}

static void say(struct client *c, enum step step, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(struct client *c, enum step step, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(c->command, sizeof c->command, format, ap);
    va_end(ap);
    c->step = step;
    c->out = c->command;
    c->out_len = (size_t)n;
}

/* ------------------------------------------------------------ the dialogue */

static void fail(struct client *c, const char *why)
{
    if (run.errors++ < 3)
        fprintf(stderr, "load: step %d: %s\n", (int)c->step, why);
    c->is_over = true;
}

static void settle(struct client *c)
{
    c->step = STEP_STAY;
    run.settled++;
}

static void say_rcpt(struct client *c)
{
    bool is_known = options.kind == KIND_MAIL;
    unsigned user = is_known ? c->serial++ % options.users + 1 : (unsigned)++run.serial;
    say(c, STEP_RCPT, "RCPT TO:<%s%u@example.org>\r\n", is_known ? "user" : "x", user);
    if (options.kind == KIND_STALL)
        run.settled++;
}

static void begin_envelope(struct client *c)
{
    if (options.kind == KIND_QUIT)
        say(c, STEP_QUIT, "QUIT\r\n");
    else if (options.kind == KIND_HOLD)
        settle(c);
    else if (options.kind == KIND_STALL)
        say(c, STEP_MAIL, "MAIL FROM:<sender@c%u.client.test>\r\n", c->serial);
    else
        say(c, STEP_MAIL, "MAIL FROM:<sender@client.test>\r\n");
}

static void next_after_rcpt(struct client *c)
{
    bool is_refusal = options.kind == KIND_REFUSE || options.kind == KIND_DEFER;
    c->rcpts++;
    run.units += is_refusal;
    if (c->rcpts < (is_refusal ? options.messages : options.rcpts))
        say_rcpt(c);
    else if (is_refusal)
        say(c, STEP_QUIT, "QUIT\r\n");
    else
        say(c, STEP_DATA, "DATA\r\n");
}

static void send_message(struct client *c)
{
    c->step = STEP_END;
    c->out = run.message;
    c->out_len = run.message_len;
}

static void next_after_message(struct client *c)
{
    run.units++;
    c->rcpts = 0;
    if (++c->messages < options.messages)
        begin_envelope(c);
    else
        say(c, STEP_QUIT, "QUIT\r\n");
}

static void begin_tls(struct client *c)
{
    c->step = STEP_HANDSHAKE;
    c->ssl = SSL_new(run.tls);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
}

static void next_after_ehlo(struct client *c)
{
    if (options.is_tls && c->ssl == NULL)
        say(c, STEP_STARTTLS, "STARTTLS\r\n");
    else
        begin_envelope(c);
}

/* The first digit that is right at each step. */
static char wanted(const struct client *c)
{
    if (c->step == STEP_RCPT && options.kind == KIND_REFUSE)
        return '5';
    if (c->step == STEP_RCPT && options.kind == KIND_DEFER)
        return '4';
    return c->step == STEP_DATA ? '3' : '2';
}

static void on_reply(struct client *c, const char *line)
{
    if (line[0] != wanted(c)) {
        fail(c, line);
        return;
    }
    switch (c->step) {
    case STEP_BANNER: run.ungreeted--; say(c, STEP_EHLO, "EHLO client.test\r\n"); break;
    case STEP_EHLO: next_after_ehlo(c); break;
    case STEP_STARTTLS: begin_tls(c); break;
    case STEP_HANDSHAKE: break;
    case STEP_MAIL: say_rcpt(c); break;
    case STEP_RCPT: next_after_rcpt(c); break;
    case STEP_DATA: send_message(c); break;
    case STEP_END: next_after_message(c); break;
    case STEP_QUIT: run.units += options.kind == KIND_QUIT; c->is_over = true; break;
    case STEP_STAY: fail(c, line); break;
    }
}

static void take_lines(struct client *c)
{
    char *at = c->in, *end;
    c->in[c->in_len] = '\0';
    while (!c->is_over && (end = strchr(at, '\n')) != NULL) {
        *end = '\0';
        if (end - at > 3 && at[3] == ' ')
            on_reply(c, at);
        at = end + 1;
    }
    c->in_len -= (size_t)(at - c->in);
    memmove(c->in, at, c->in_len);
}

/* True: done. */
static bool shake_hands(struct client *c)
{
    int n = SSL_do_handshake(c->ssl);
    if (n == 1)
        say(c, STEP_EHLO, "EHLO client.test\r\n");
    else if (tls_result(c, n) == 0)
        fail(c, "no TLS");
    return n == 1;
}

/* Goes on until the socket has nothing more, or the client is over. */
static void drive(struct client *c)
{
    while (!c->is_over) {
        if (c->step == STEP_HANDSHAKE && !shake_hands(c))
            return;
        if (!send_out(c)) {
            fail(c, "cannot send");
            return;
        }
        ssize_t n = receive(c);
        if (n < 0)
            return;
        if (n == 0) {
            fail(c, "connection closed");
            return;
        }
        c->in_len += (size_t)n;
        take_lines(c);
    }
}

/* ------------------------------------------------------------ connections */

static void start(void)
{
    struct client *c = calloc(1, sizeof *c);
    int on = 1;
    if (c == NULL)
        die("memory");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->serial = run.started * options.messages * options.rcpts;
    run.started++;
    run.ungreeted++;
    run.open++;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    if (c->fd < 0 || epoll_ctl(run.epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&options.server, sizeof options.server) != 0
        && errno != EINPROGRESS)
        die("connect");
}

static void end(struct client *c)
{
    run.ungreeted -= c->step == STEP_BANNER;
    run.open--;
    run.ended++;
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
}

static void start_some(void)
{
    while (run.started < options.connections && run.open < options.at_a_time
           && run.ungreeted < options.ungreeted)
        start();
}

static bool is_done(void)
{
    bool stays = options.kind == KIND_HOLD || options.kind == KIND_STALL;
    return stays ? run.settled + run.ended >= options.connections
                 : run.ended >= options.connections;
}

static void loop(int timeout_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(run.epoll, events, 256, timeout_ms);
    if (n == 0 && timeout_ms > 0) {
        fprintf(stderr, "load: nothing happens: %u started, %u ended\n", run.started, run.ended);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if ((events[i].events & ~(unsigned)EPOLLOUT) == 0 && c->out_len == 0
            && c->step != STEP_HANDSHAKE)
            continue; /* connected: the banner comes by itself */
        drive(c);
        if (c->is_over)
            end(c);
    }
    start_some();
}

static void hold_until_stdin_ends(void)
{
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    while (poll(&p, 1, 50) == 0)
        loop(0);
}

/* ------------------------------------------------------------ start-up */

static void make_message(void)
{
    static const char head[] = "From: <sender@client.test>\r\nTo: <someone@example.org>\r\n"
                               "Subject: a message of the benchmark\r\n"
                               "Date: Mon, 23 Nov 2026 03:41:15 +0000\r\n"
                               "Message-ID: <bench@client.test>\r\n\r\n";
    static const char line[] = "The quick brown fox jumps over the lazy dog, and so on, and on.\r\n";
    run.message = malloc(options.size + sizeof head + sizeof line + 8);
    if (run.message == NULL)
        die("memory");
    size_t n = sizeof head - 1;
    memcpy(run.message, head, n);
    while (n < options.size) {
        memcpy(run.message + n, line, sizeof line - 1);
        n += sizeof line - 1;
    }
    memcpy(run.message + n, ".\r\n", 3);
    run.message_len = n + 3;
}

static enum kind kind_of(const char *name)
{
    for (int k = 0; k < KIND_COUNT; k++)
        if (strcmp(kind_names[k], name) == 0)
            return (enum kind)k;
    fprintf(stderr, "load: no kind %s\n", name);
    exit(64);
}

static void set_option(int letter, const char *value)
{
    unsigned number = (unsigned)strtoul(value != NULL ? value : "", NULL, 10);
    switch (letter) {
    case 'k': options.kind = kind_of(value); break;
    case 'n': options.connections = number; break;
    case 'c': options.at_a_time = number; break;
    case 'm': options.messages = number; break;
    case 'r': options.rcpts = number; break;
    case 'u': options.users = number; break;
    case 'b': options.ungreeted = number; break;
    case 's': options.size = number; break;
    case 'o': run.serial = number; break;
    case 'T': options.is_tls = true; break;
    default: exit(64);
    }
}

static void parse(int argc, char **argv)
{
    for (int letter; (letter = getopt(argc, argv, "k:n:c:m:r:u:b:s:o:T")) != -1;)
        set_option(letter, optarg);
    options.server.sin_family = AF_INET;
    if (argc - optind != 2 || inet_pton(AF_INET, argv[optind], &options.server.sin_addr) != 1) {
        fprintf(stderr, "usage: load [options] ADDRESS PORT\n");
        exit(64);
    }
    options.server.sin_port = htons((uint16_t)strtoul(argv[optind + 1], NULL, 10));
    if (options.kind == KIND_HOLD || options.kind == KIND_STALL)
        options.at_a_time = options.connections;
}

static void raise_limits(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    enum { PATIENCE_MS = 60000 };
    parse(argc, argv);
    raise_limits();
    make_message();
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.tls = SSL_CTX_new(TLS_client_method());
    double began = now_s();
    for (start_some(); !is_done();)
        loop(PATIENCE_MS);
    printf("{\"connections\": %u, \"units\": %lu, \"errors\": %lu, \"seconds\": %.6f}\n",
           run.started, options.kind >= KIND_HOLD ? run.settled : run.units, run.errors,
           now_s() - began);
    fflush(stdout);
    if (options.kind >= KIND_HOLD)
        hold_until_stdin_ends();
    free(run.message);
    SSL_CTX_free(run.tls);
    return run.errors > 0;
}
