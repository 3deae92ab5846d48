/* postern queue - what lies in the spool, and orders about it. Looking needs nobody's leave: files
 * are replaced whole. Orders go through the running server's control socket, which carries them
 * out when a message is at rest; with no server, to the spool itself, under its lock. */
#include "protocol/mem.h"
#include "protocol/text.h"
#include "queue/spool.h"
#include "server/command.h"
#include "server/config.h"
#include "server/control.h"
#include "server/privilege.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

static int usage(void)
{
    fprintf(stderr,
            "usage: postern queue [-c FILE] list [-j] [WHICH...] | show [-e] ID |\n"
            "         flush | hold | release | delete WHICH...\n"
            "WHICH: all, a queue id, to=ADDRESS, from=ADDRESS (from=<> for bounces)\n");
    return EX_USAGE;
}

/* ------------------------------------------------------------ which */

struct which {
    char **words;
    int count;
};

static bool is_address(struct span word, const char *prefix, struct span address)
{
    struct span name = span_of(prefix);
    if (!span_istarts(word, name))
        return false;
    word = span_skip(word, name.len);
    if (span_equals(word, SPAN_LITERAL("<>")))
        word.len = 0;
    return span_iequals(word, address);
}

static bool is_meant(const struct which *which, const struct envelope *e)
{
    for (int i = 0; i < which->count; i++) {
        struct span word = span_of(which->words[i]);
        if (span_equals(word, SPAN_LITERAL("all")) || span_equals(word, span_of(e->id))
            || is_address(word, "from=", e->sender))
            return true;
        for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
            if (is_address(word, "to=", r->address) || is_address(word, "to=", r->original))
                return true;
    }
    return which->count == 0;
}

/* A word that can be no queue id and nothing else is a mistake, not "none". */
static bool is_good(const struct which *which)
{
    for (int i = 0; i < which->count; i++) {
        struct span word = span_of(which->words[i]);
        uint64_t id;
        if (span_equals(word, SPAN_LITERAL("all")) || queue_id_parse(word, &id)
            || span_istarts(word, SPAN_LITERAL("from="))
            || span_istarts(word, SPAN_LITERAL("to=")))
            continue;
        fprintf(stderr, "postern: \"%s\" is no queue id\n", which->words[i]);
        return false;
    }
    return true;
}

/* Calls each() for every message that is meant. 0 or -errno. */
static int walk(const struct spool *spool, const struct which *which, void *context,
                void (*each)(void *context, enum spool_folder folder, const struct envelope *e))
{
    static const enum spool_folder folders[] = { SPOOL_ACTIVE, SPOOL_HOLD };
    int rc = 0;
    for (size_t f = 0; f < ARRAY_LEN(folders) && rc == 0; f++) {
        uint64_t *ids;
        size_t count;
        rc = spool_list(spool, folders[f], &ids, &count);
        for (size_t i = 0; i < count && rc == 0; i++) {
            struct envelope e;
            char id[QUEUE_ID_MAX];
            queue_id_print(ids[i], id);
            if (spool_read(spool, folders[f], id, &e) == 0 && is_meant(which, &e))
                each(context, folders[f], &e);
            envelope_fini(&e);
        }
        free(ids);
    }
    return rc;
}

/* ------------------------------------------------------------ list */

struct queue_listing {
    bool is_json;
    size_t count;
    uint64_t bytes;
};

static void print_escaped(struct span text)
{
    struct buf out = { 0 };
    text_escape(&out, text, 1000);
    fwrite(out.at, 1, out.len, stdout);
    buf_fini(&out);
}

static void print_reason(const struct envelope_rcpt *r)
{
    if (r->code == 0 || r->state == RCPT_SENT)
        return;
    printf("%*s(%d %s ", 11, "", r->code, r->enhanced);
    print_escaped(span_of(r->text));
    printf(")\n");
}

static void print_for_people(struct queue_listing *l, enum spool_folder folder,
                             const struct envelope *e)
{
    char date[32];
    time_t arrived = (time_t)e->arrived_s;
    struct tm tm;
    localtime_r(&arrived, &tm);
    strftime(date, sizeof date, "%a %b %d %H:%M:%S", &tm);
    if (l->count == 0)
        printf("-Queue ID-----   --Size-- ----Arrival Time--- -Sender/Recipient-------\n");
    printf("%s%c %*" PRIu64 " %s  ", e->id, folder == SPOOL_HOLD ? '!' : ' ',
           (int)(24 - strlen(e->id) > 8 ? 24 - strlen(e->id) : 8), e->size_bytes, date);
    print_escaped(e->sender.len > 0 ? e->sender : SPAN_LITERAL("MAILER-DAEMON"));
    printf("\n");
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next) {
        print_reason(r);
        printf("%*s", 47, "");
        print_escaped(r->address);
        printf("\n");
    }
    printf("\n");
}

static void print_json_string(struct span text)
{
    struct buf out = { 0 };
    text_escape(&out, text, 2000);
    putchar('"');
    for (size_t i = 0; i < out.len; i++) {
        if (out.at[i] == '"' || out.at[i] == '\\')
            putchar('\\');
        putchar(out.at[i]);
    }
    putchar('"');
    buf_fini(&out);
}

/* One object a line, with the names of "postqueue -j". */
static void print_for_programs(enum spool_folder folder, const struct envelope *e)
{
    printf("{\"queue_name\": \"%s\", \"queue_id\": \"%s\", \"arrival_time\": %" PRId64
           ", \"message_size\": %" PRIu64 ", \"next_try\": %" PRId64 ", \"tries\": %u"
           ", \"sender\": ",
           folder == SPOOL_HOLD ? "hold" : e->tries > 0 || e->rcpts->code != 0 ? "deferred"
                                                                              : "active",
           e->id, e->arrived_s, e->size_bytes, e->next_s, e->tries);
    print_json_string(e->sender);
    printf(", \"recipients\": [");
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next) {
        printf("{\"address\": ");
        print_json_string(r->address);
        printf(", \"transport\": \"%s\", \"nexthop\": ", r->transport);
        print_json_string(span_of(r->nexthop));
        if (r->code != 0) {
            printf(", \"delay_reason\": ");
            print_json_string(span_of(r->text));
            printf(", \"code\": %d, \"dsn\": ", r->code);
            print_json_string(span_of(r->enhanced));
        }
        printf("}%s", r->next != NULL ? ", " : "");
    }
    printf("]}\n");
}

static void list_one(void *context, enum spool_folder folder, const struct envelope *e)
{
    struct queue_listing *l = context;
    if (e->rcpts == NULL)
        return;
    if (l->is_json)
        print_for_programs(folder, e);
    else
        print_for_people(l, folder, e);
    l->count++;
    l->bytes += e->size_bytes;
}

static int run_list(const struct config *config, int count, char **words)
{
    struct spool *spool;
    struct queue_listing listing = { 0 };
    if (count > 0 && strcmp(words[0], "-j") == 0) {
        listing.is_json = true;
        words++;
        count--;
    }
    struct which which = { words, count };
    if (!is_good(&which))
        return EX_USAGE;
    int rc = spool_open(config->params.queue_directory, SPOOL_READ_ONLY, &spool);
    if (rc == 0)
        rc = walk(spool, &which, &listing, list_one);
    spool_close(spool);
    if (rc != 0 && rc != -ENOENT) {
        fprintf(stderr, "postern: %s: %s\n", config->params.queue_directory, strerror(-rc));
        return EX_NOPERM;
    }
    if (!listing.is_json && listing.count == 0)
        printf("The queue is empty\n");
    else if (!listing.is_json)
        printf("-- %" PRIu64 " Kbytes in %zu %s.\n", (listing.bytes + 1023) / 1024,
               listing.count, listing.count == 1 ? "message" : "messages");
    return EX_OK;
}

/* ------------------------------------------------------------ show */

/* Nothing goes to a terminal that it would obey. */
static void print_to_terminal(struct span text)
{
    struct buf out = { 0 };
    while (text.len > 0) {
        size_t n = 0;
        while (n < text.len && text.at[n] != '\t' && text.at[n] != '\r' && text.at[n] != '\n')
            n++;
        text_escape(&out, span_make(text.at, n), n);
        if (n < text.len && text.at[n] != '\r')
            buf_putc(&out, text.at[n]);
        text = span_skip(text, n + 1);
    }
    fwrite(buf_text(&out), 1, out.len, stdout);
    buf_fini(&out);
}

static void print_message(int fd)
{
    char piece[65536];
    bool is_terminal = isatty(STDOUT_FILENO) != 0;
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;) {
        if (is_terminal)
            print_to_terminal(span_make(piece, (size_t)n));
        else
            fwrite(piece, 1, (size_t)n, stdout);
    }
}

static bool show_envelope(const struct spool *spool, const char *id)
{
    struct envelope e;
    struct buf text = { 0 };
    int rc = spool_read(spool, SPOOL_ACTIVE, id, &e);
    if (rc == -ENOENT) {
        envelope_fini(&e);
        rc = spool_read(spool, SPOOL_HOLD, id, &e);
    }
    if (rc == 0) {
        envelope_print(&e, &text);
        fwrite(text.at, 1, text.len, stdout);
    } else {
        fprintf(stderr, "postern: %s: %s\n", id,
                rc == -ENOENT ? "there is no such message" : strerror(-rc));
    }
    envelope_fini(&e);
    buf_fini(&text);
    return rc == 0;
}

static int run_show(const struct config *config, int count, char **words)
{
    struct spool *spool;
    uint64_t id, size;
    bool no_message = count > 1 && strcmp(words[0], "-e") == 0;
    if (no_message) {
        words++;
        count--;
    }
    if (count != 1 || !queue_id_parse(span_of(words[0]), &id))
        return usage();
    int rc = spool_open(config->params.queue_directory, SPOOL_READ_ONLY, &spool);
    if (rc != 0) {
        fprintf(stderr, "postern: %s: %s\n", config->params.queue_directory, strerror(-rc));
        return EX_NOPERM;
    }
    bool is_there = show_envelope(spool, words[0]);
    int fd = is_there && !no_message ? spool_open_message(spool, words[0], &size) : -1;
    if (fd >= 0) {
        printf("\n");
        print_message(fd);
        close(fd);
    }
    spool_close(spool);
    return is_there ? EX_OK : EX_DATAERR;
}

/* ------------------------------------------------------------ orders */

struct ids {
    struct spool *spool;
    const char *verb;
    const char *socket;
    struct buf line;  /* to the server: "queue verb id id" */
    int code;
    size_t count;
};

static void send_line(struct ids *ids)
{
    if (ids->line.len > 0) {
        int code = control_ask(ids->socket, buf_text(&ids->line));
        ids->code = code != EX_OK ? code : ids->code;
    }
    buf_clear(&ids->line);
}

static void add_id(void *context, enum spool_folder folder, const struct envelope *e)
{
    struct ids *ids = context;
    (void)folder;
    if (ids->line.len == 0)
        buf_printf(&ids->line, "queue %s", ids->verb);
    buf_printf(&ids->line, " %s", e->id);
    ids->count++;
    if (ids->line.len + QUEUE_ID_MAX + 2 > CONTROL_LINE_MAX)
        send_line(ids);
}

/* The server does it. -1: there is none. */
static int order_server(const struct config *config, const char *verb, const struct which *which)
{
    struct ids ids = { .verb = verb, .socket = config->params.control_socket };
    if (which->count == 1 && strcmp(which->words[0], "all") == 0) {
        buf_printf(&ids.line, "queue %s all", verb);
        send_line(&ids);
        buf_fini(&ids.line);
        return ids.code;
    }
    int rc = spool_open(config->params.queue_directory, SPOOL_READ_ONLY, &ids.spool);
    if (rc == 0)
        rc = walk(ids.spool, which, &ids, add_id);
    send_line(&ids);
    spool_close(ids.spool);
    buf_fini(&ids.line);
    if (rc != 0 && rc != -ENOENT)
        return EX_NOPERM;
    if (ids.count == 0)
        printf("0 messages\n");
    return ids.code;
}

/* One message at a time: nobody else is at work here. */
static void change_one(void *context, enum spool_folder folder, const struct envelope *e)
{
    struct ids *ids = context;
    struct buf text = { 0 };
    struct spool_change c = { .folder = folder };
    bool is_held = folder == SPOOL_HOLD;
    snprintf(c.id, sizeof c.id, "%s", e->id);
    if (strcmp(ids->verb, "delete") == 0) {
        c.act = SPOOL_REMOVE;
    } else if (strcmp(ids->verb, "flush") == 0 && !is_held) {
        struct envelope now = *e;
        now.next_s = (int64_t)time(NULL);
        envelope_print(&now, &text);
        c.act = SPOOL_UPDATE;
        c.envelope = buf_span(&text);
    } else if (is_held == (strcmp(ids->verb, "release") == 0)
               && strcmp(ids->verb, "flush") != 0) {
        c.act = SPOOL_MOVE;
        c.folder = is_held ? SPOOL_ACTIVE : SPOOL_HOLD;
    } else {
        return; /* it is as it should be */
    }
    spool_run(ids->spool, &c);
    ids->count += c.result == 0;
    if (c.result != 0) {
        fprintf(stderr, "postern: %s: %s\n", e->id, strerror(-c.result));
        ids->code = EX_IOERR;
    }
    buf_fini(&text);
}

static int order_offline(const struct config *config, const char *verb,
                         const struct which *which)
{
    struct ids ids = { .verb = verb };
    const char *error = privilege_drop(&config->params); /* what we make must be the server's */
    int rc = error == NULL ? spool_open(config->params.queue_directory, SPOOL_LOCKED, &ids.spool)
                           : -EPERM;
    if (rc == 0)
        rc = walk(ids.spool, which, &ids, change_one);
    spool_close(ids.spool);
    if (rc != 0) {
        fprintf(stderr, "postern: %s: %s\n", config->params.queue_directory,
                rc == -EWOULDBLOCK ? "a server works there, but its control socket is not here"
                : error != NULL    ? error
                                   : strerror(-rc));
        return rc == -EWOULDBLOCK ? EX_TEMPFAIL : EX_NOPERM;
    }
    printf("%zu %s\n", ids.count, ids.count == 1 ? "message" : "messages");
    return ids.code;
}

static int run_order(const struct config *config, const char *verb, int count, char **words)
{
    struct which which = { words, count };
    if (count == 0 || !is_good(&which))
        return usage();
    int code = control_ask(config->params.control_socket, "queue status") < 0
                   ? order_offline(config, verb, &which)
                   : order_server(config, verb, &which);
    return code < 0 ? EX_UNAVAILABLE : code;
}

static bool is_order(const char *verb)
{
    static const char *const orders[] = { "flush", "hold", "release", "delete" };
    for (size_t i = 0; i < ARRAY_LEN(orders); i++)
        if (strcmp(verb, orders[i]) == 0)
            return true;
    return false;
}

int command_queue(int argc, char **argv)
{
    struct command_options options;
    int rest = command_options(argc, argv, &options);
    if (rest < 1)
        return usage();
    const char *verb = argv[0];
    struct config *config = command_load(&options);
    if (config == NULL)
        return EX_CONFIG;
    int code = strcmp(verb, "list") == 0   ? run_list(config, rest - 1, argv + 1)
               : strcmp(verb, "show") == 0 ? run_show(config, rest - 1, argv + 1)
               : is_order(verb)            ? run_order(config, verb, rest - 1, argv + 1)
                                           : usage();
    config_release(config);
    return code;
}
