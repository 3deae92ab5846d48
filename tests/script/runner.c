/* script_runner [--fails-with TEXT] FILE... - runs dialogues against the real conversation
 * (smtpd and all below it): no sockets, no clock, no threads, nothing delivered.
 *
 * A file is a list of steps, one a line, run in order; the first that does not come true ends
 * its scenario. Each scenario runs three times, with the same result: the client's bytes at
 * once, one at a time, and in pieces of seven that go where the server reads message bytes to.
 * Everything must be expected: a reply, log line, question, delivery, sleep or close that no
 * step names is a failure, as is a step that nothing answers. Exit 0: all came true; 1: not; 2:
 * a file cannot be read. With --fails-with, 0 means that exactly this went wrong (must_fail/).
 *
 *   # comment; lines without text are skipped
 *   scenario TITLE         starts anew; the lines before the first one belong to every scenario
 *   include FILE           the lines of that file, beside this one
 *   conf NAME = VALUE      a line of main.cf, in place of an earlier one with this name; lines
 *                          that begin with white space continue it
 *   file NAME              a file beside main.cf; its text follows in lines "| text"
 *   certificate NAME       a key and a self-signed certificate in a file beside main.cf
 *   warning TEXT           what the configuration is told, in order; none may be left out
 *   error TEXT             the same; such a configuration serves nobody
 *   whole only             not in pieces: the test is about what arrives together
 *   log ignore [TEXT]      log lines need not be expected: none of them, or none like TEXT
 *
 *   client ADDR [name NAME] [reverse NAME] [lookup] [early]
 *                          a connection; without a name it has none, with lookup the server asks
 *                          for it; early: the bytes that follow come before the banner
 *   C: TEXT                bytes and CR LF from the client; \r \n \t \0 \\ \xNN, and \c at the
 *                          end for no CR LF. C: steps in a row arrive together.
 *   repeat N TEXT          the same, N times
 *   S: TEXT                the next line of a reply, exactly
 *   log TEXT               the next line of the log; "component: " is in front unless it is
 *                          smtpd. "..." stands for anything.
 *   ask KIND KEY = ANSWER  the fact the policy wants; see the table of kinds below. ANSWER:
 *                          what was found, or one of: none tempfail broken
 *   spill ok|ERRNO         the message goes to disk (once or more)
 *   to ADDRESS [MAILDIR [NAME]]
 *                          in front of deliver: its next recipient, and what is written for it.
 *                          No Maildir: nothing is written. NAME: the unique file name, with "..."
 *                          Of what needs more than Maildirs: TRANSPORT:NEXTHOP, and NOTIFY=n if
 *                          the client gave it
 *   message [N]            in front of deliver: all bytes of the N-th file (default 1), each
 *                          line "| TEXT" with the escapes of C:; "|* N TEXT": N such lines
 *   deliver ok|ERRNO       the delivery, and how it ends. All recipients must have been named
 *                          if one was.
 *   deliver spooled        the same, when it needs more than Maildirs: it lies in the spool
 *   deliver CODE E TEXT    the next hop's own answer, for all recipients
 *   sleep MS               the server holds its replies back for this long
 *   time +SECONDS          passes
 *   timeout                the client has been silent for too long
 *   tls TEXT               the handshake succeeds; TEXT describes it
 *   stress on|off          the server is at its connection limit
 *   space low|ok           the disk
 *   close                  the server has closed the connection
 *   leave [TEXT]           the client has; TEXT: what the network said
 *
 * IDn stands for the n-th queue id of the scenario, ".PIDQ" for the number of the process in a
 * file name. */
#include "certificate.h"
#include "drive.h"
#include "script.h"

#include "policy/policy_server.h"
#include "protocol/mem.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum mode { MODE_WHOLE, MODE_BYTES, MODE_ROOM, MODE_COUNT };

static const struct {
    const char *name;
    size_t piece_bytes; /* 0: all there is */
    bool uses_room;
} modes[MODE_COUNT] = { { "whole", 0, false }, { "byte by byte", 1, false },
                        { "into its room", 7, true } };

enum { IGNORED_MAX = 16 };

/* One scenario in one mode. */
struct run {
    const struct script *script;
    const size_t *order; /* indexes of its lines */
    size_t count, at;
    enum mode mode;
    char dir[64]; /* with main.cf and everything it names */
    struct buf conf, typed;
    struct config *config;
    struct problems problems;
    const struct problem *problem; /* the next one to be expected */
    struct drive drive;
    bool is_driving, is_started, has_failed, is_whole_only, ignores_all_logs;
    const char *ignored[IGNORED_MAX];
    size_t ignored_count;
    size_t to_count; /* recipients named for the delivery at hand */
    char failure[2048];
};

static const struct script_line *line_at(const struct run *r, size_t i)
{
    return &r->script->lines[r->order[i]];
}

static bool fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Remembers the first failure. False, for the caller to return. */
static bool fail(struct run *r, const char *format, ...)
{
    char text[1500];
    va_list ap;
    if (r->has_failed)
        return false;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    size_t i = r->at < r->count ? r->at : r->count - 1;
    snprintf(r->failure, sizeof r->failure, "%s:%d: (%s) %s", line_at(r, i)->file,
             line_at(r, i)->number, modes[r->mode].name, text);
    r->has_failed = true;
    return false;
}

/* ------------------------------------------------------------ names that change */

static void replace(struct buf *text, const char *what, const char *by)
{
    const char *at = strstr(buf_text(text), what);
    if (at == NULL)
        return;
    struct buf out = { 0 };
    buf_append(&out, text->at, (size_t)(at - text->at));
    struct buf rest = { 0 };
    buf_puts(&rest, at + strlen(what));
    replace(&rest, what, by);
    buf_printf(&out, "%s%s", by, buf_text(&rest));
    buf_fini(&rest);
    buf_fini(text);
    *text = out;
}

static void tidy(struct run *r, struct buf *text)
{
    char from[64], to[64];
    for (size_t i = 0; i < r->drive.id_count; i++) {
        snprintf(to, sizeof to, "ID%zu", i + 1);
        replace(text, r->drive.ids[i], to);
    }
    snprintf(from, sizeof from, ".P%dQ", (int)getpid());
    replace(text, from, ".PIDQ");
}

/* ------------------------------------------------------------ the configuration */

/* What every script has; it accepts nothing. */
static const char base_conf[] = "myhostname = mx.example.org\n"
                                "mynetworks = 127.0.0.0/8\n"
                                "data_directory = .\n"
                                "queue_directory = spool\n"
                                "virtual_mailbox_base = mail\n";

static bool next_problem(struct run *r, enum problem_level level, const char *pattern)
{
    const struct problem *p = r->problem;
    struct buf got = { 0 };
    if (p == NULL)
        return fail(r, "expected: %s\n  got no further problem of the configuration", pattern);
    buf_printf(&got, "%s: %s", p->subject, p->text);
    bool is_same = p->level == level && script_matches(pattern, buf_text(&got));
    if (!is_same)
        fail(r, "expected: %s\n       got: %s%s", pattern,
             p->level == PROBLEM_ERROR ? "error " : "warning ", buf_text(&got));
    buf_fini(&got);
    r->problem = p->next;
    return is_same;
}

static bool no_more_problems(struct run *r)
{
    if (r->problem == NULL)
        return true;
    return fail(r, "unexpected %s: %s: %s",
                r->problem->level == PROBLEM_ERROR ? "error" : "warning", r->problem->subject,
                r->problem->text);
}

static void load(struct run *r)
{
    if (r->config != NULL)
        return;
    char *file = xprintf("%s/main.cf", r->dir);
    r->config = config_load(file, buf_text(&r->conf), &r->problems);
    r->problem = r->problems.first;
    free(file);
}

static bool write_file(struct run *r, const char *name, struct span text)
{
    char *path = xprintf("%s/%s", r->dir, name);
    FILE *f = fopen(path, "we");
    bool is_good = f != NULL && fwrite(text.at, 1, text.len, f) == text.len;
    if (f != NULL && fclose(f) != 0)
        is_good = false;
    free(path);
    return is_good || fail(r, "cannot write %s: %s", name, strerror(errno));
}

/* ------------------------------------------------------------ steps: setting up */

/* The line of main.cf that sets this name, with its continuation lines; empty: none does. */
static struct span find_setting(const struct run *r, struct span name)
{
    struct span rest = buf_span(&r->conf);
    while (rest.len > 0) {
        size_t n = 0;
        do
            n += span_find(span_skip(rest, n), '\n') + 1;
        while (n < rest.len && ascii_is_space(rest.at[n]));
        struct span setting = span_make(rest.at, n), copy = setting;
        if (span_equals(span_next_word(&copy), name))
            return setting;
        rest = span_skip(rest, n);
    }
    return span_make(NULL, 0);
}

/* A later conf takes the place of an earlier one, so that scenarios can differ. */
static bool step_conf(struct run *r, const char *text)
{
    struct span rest = span_of(text), old = find_setting(r, span_next_word(&rest));
    if (r->config != NULL)
        return fail(r, "conf behind the first use of the configuration");
    if (old.len > 0) {
        size_t at = (size_t)(old.at - r->conf.at), end = at + old.len;
        memmove(r->conf.at + at, r->conf.at + end, r->conf.len - end);
        r->conf.len -= old.len;
    }
    buf_printf(&r->conf, "%s\n", text);
    return true;
}

static bool step_continue(struct run *r, const char *text)
{
    buf_printf(&r->conf, " %s\n", text);
    return true;
}

static bool add_block_line(const char *text, bool is_escaped, const char *line_end,
                           struct buf *block)
{
    bool has_end = true;
    if (!is_escaped)
        buf_puts(block, text);
    else if (!script_unescape(span_of(text), block, &has_end))
        return false;
    buf_puts(block, has_end ? line_end : "");
    return true;
}

/* The "| " lines behind the step at hand, each with its line end; "|* N TEXT" is N of them. */
static bool take_block(struct run *r, bool is_escaped, const char *line_end, struct buf *block)
{
    for (; r->at + 1 < r->count && line_at(r, r->at + 1)->word[0] == '|'; r->at++) {
        const struct script_line *line = line_at(r, r->at + 1);
        struct span rest = span_of(line->text);
        uint64_t n = 1;
        if (line->word[1] == '*' && !span_to_u64(span_next_word(&rest), 10000000, &n))
            return fail(r, "how many lines?");
        const char *text = line->word[1] == '*' ? rest.at + (rest.len > 0) : line->text;
        for (uint64_t i = 0; i < n; i++)
            if (!add_block_line(text, is_escaped, line_end, block))
                return fail(r, "bad escape");
    }
    return true;
}

static bool step_file(struct run *r, const char *name)
{
    struct buf text = { 0 };
    take_block(r, false, "\n", &text);
    bool is_good = write_file(r, name, buf_span(&text));
    buf_fini(&text);
    return is_good;
}

static bool step_certificate(struct run *r, const char *name)
{
    char *path = xprintf("%s/%s", r->dir, name);
    bool is_good = certificate_make(path);
    free(path);
    return is_good || fail(r, "no certificate could be made");
}

static bool step_warning(struct run *r, const char *text)
{
    load(r);
    return next_problem(r, PROBLEM_WARNING, text);
}

static bool step_error(struct run *r, const char *text)
{
    load(r);
    return next_problem(r, PROBLEM_ERROR, text);
}

static bool step_whole(struct run *r, const char *text)
{
    r->is_whole_only = true;
    return strcmp(text, "only") == 0 || fail(r, "whole what?");
}

/* ------------------------------------------------------------ what came out */

static bool is_ignored(const struct run *r, const char *text)
{
    bool is_known = r->ignores_all_logs;
    for (size_t i = 0; i < r->ignored_count; i++)
        is_known |= script_matches(r->ignored[i], text);
    return is_known;
}

/* The next log line that must be expected. */
static bool next_log(struct run *r, struct buf *line)
{
    while (r->is_driving && drive_log_line(&r->drive, line)) {
        if (span_istarts(buf_span(line), SPAN_LITERAL("smtpd: ")))
            buf_drop(line, 7);
        tidy(r, line);
        if (!is_ignored(r, buf_text(line)))
            return true;
        buf_clear(line);
    }
    return false;
}

static bool next_reply(struct run *r, struct buf *line)
{
    if (!r->is_driving || !drive_line(&r->drive, line))
        return false;
    tidy(r, line);
    return true;
}

static const char *waiting_for(const struct run *r)
{
    static char text[600];
    static const char *const words[] = {
        [DRIVE_NONE] = "there is no connection", [DRIVE_READING] = "it waits for the client",
        [DRIVE_DELIVERING] = "it waits for a delivery", [DRIVE_SPILLING] = "it waits for a spill",
        [DRIVE_TLS] = "it waits for the TLS handshake",
        [DRIVE_CLOSED] = "it has closed the connection",
    };
    const struct drive *d = &r->drive;
    if (!r->is_driving)
        return words[DRIVE_NONE];
    if (d->state == DRIVE_ASKING)
        snprintf(text, sizeof text, "it asks for %.*s", (int)d->question.text.len,
                 d->question.text.at);
    else if (d->state == DRIVE_SLEEPING)
        snprintf(text, sizeof text, "it sleeps for %lld ms",
                 (long long)d->smtpd->smtp.sleep_ms);
    else
        return words[d->state];
    return text;
}

/* Everything so far must have been expected before the client says more. */
static bool nothing_is_left(struct run *r)
{
    struct buf line = { 0 };
    bool is_good = true;
    if (next_reply(r, &line))
        is_good = fail(r, "unexpected reply: %s", buf_text(&line));
    else if (next_log(r, &line))
        is_good = fail(r, "unexpected log line: %s", buf_text(&line));
    buf_fini(&line);
    return is_good;
}

static bool step_reply(struct run *r, const char *text)
{
    struct buf expected = { 0 }, got = { 0 };
    bool has_end, is_good = script_unescape(span_of(text), &expected, &has_end);
    if (!is_good)
        fail(r, "bad escape");
    else if (!next_reply(r, &got))
        is_good = fail(r, "expected: %s\n  got no reply: %s", text, waiting_for(r));
    else if (!span_equals(buf_span(&expected), buf_span(&got)))
        is_good = fail(r, "expected: %s\n       got: %s", text, buf_text(&got));
    buf_fini(&expected);
    buf_fini(&got);
    return is_good;
}

static bool step_log(struct run *r, const char *text)
{
    struct buf got = { 0 };
    bool is_good = true;
    if (strncmp(text, "ignore", 6) == 0 && (text[6] == '\0' || text[6] == ' ')) {
        ENSURE(r->ignored_count < IGNORED_MAX);
        if (text[6] == '\0')
            r->ignores_all_logs = true;
        else
            r->ignored[r->ignored_count++] = text + 7;
        return true;
    }
    if (!next_log(r, &got))
        is_good = fail(r, "expected: log %s\n  got no log line: %s", text, waiting_for(r));
    else if (!script_matches(text, buf_text(&got)))
        is_good = fail(r, "expected: log %s\n       got: log %s", text, buf_text(&got));
    buf_fini(&got);
    return is_good;
}

/* ------------------------------------------------------------ steps: the client */

static bool is_open(struct run *r)
{
    if (r->is_driving && r->drive.state != DRIVE_NONE && r->drive.state != DRIVE_CLOSED)
        return true;
    return fail(r, "there is no connection");
}

static void begin_driving(struct run *r)
{
    if (r->is_driving)
        return;
    drive_init(&r->drive, r->config);
    r->drive.uses_room = modes[r->mode].uses_room;
    r->is_driving = true;
}

struct client_words {
    struct ip ip;
    char *name, *reverse; /* owns */
    bool is_early, is_looked_up;
};

static bool parse_client(struct run *r, struct span rest, struct client_words *c)
{
    const struct {
        const char *word;
        bool *flag;
        char **name;
    } words[] = { { "name", NULL, &c->name }, { "reverse", NULL, &c->reverse },
                  { "lookup", &c->is_looked_up, NULL }, { "early", &c->is_early, NULL } };
    struct span word;
    if (!ip_parse(span_next_word(&rest), &c->ip))
        return fail(r, "no address of a client");
    while ((word = span_next_word(&rest)).len > 0) {
        size_t i = 0;
        while (i < ARRAY_LEN(words) && !span_equals(word, span_of(words[i].word)))
            i++;
        if (i == ARRAY_LEN(words))
            return fail(r, "what is \"%.*s\" of a client?", (int)word.len, word.at);
        if (words[i].flag != NULL) {
            *words[i].flag = true;
            continue;
        }
        struct span value = span_next_word(&rest);
        free(*words[i].name);
        *words[i].name = xprintf("%.*s", (int)value.len, value.at);
    }
    return true;
}

static bool step_client(struct run *r, const char *text)
{
    struct client_words c = { 0 };
    load(r);
    if (!no_more_problems(r))
        return false;
    if (r->problems.error_count > 0)
        return fail(r, "a client, but the configuration has errors");
    if (r->is_driving && r->drive.smtpd != NULL)
        return fail(r, "another client, but the first one is still there");
    begin_driving(r);
    bool is_good = nothing_is_left(r) && parse_client(r, span_of(text), &c);
    if (is_good) {
        drive_connect(&r->drive, &c.ip, c.name, c.reverse != NULL ? c.reverse : c.name,
                      c.is_looked_up);
        if (!c.is_early)
            drive_feed(&r->drive, span_make("", 0));
    }
    free(c.name);
    free(c.reverse);
    return is_good;
}

static bool step_bytes(struct run *r, const char *text)
{
    bool has_end;
    if (r->typed.len == 0 && (!is_open(r) || !nothing_is_left(r)))
        return false;
    if (!script_unescape(span_of(text), &r->typed, &has_end))
        return fail(r, "bad escape");
    if (has_end)
        buf_puts(&r->typed, "\r\n");
    return true;
}

static bool step_repeat(struct run *r, const char *text)
{
    struct span rest = span_of(text), count = span_next_word(&rest);
    uint64_t n;
    bool is_good = span_to_u64(count, 10000000, &n) || fail(r, "repeat how often?");
    for (uint64_t i = 0; is_good && i < n; i++)
        is_good = step_bytes(r, text + count.len + (rest.len > 0));
    return is_good;
}

/* The bytes of the C: steps so far go out: each read is memory of exactly its size. */
static bool send_typed(struct run *r)
{
    struct span rest = buf_span(&r->typed);
    while (rest.len > 0 && r->drive.smtpd != NULL) {
        size_t piece = modes[r->mode].piece_bytes;
        size_t n = piece == 0 || piece > rest.len ? rest.len : piece;
        char *exact = xmalloc(n);
        memcpy(exact, rest.at, n);
        drive_feed(&r->drive, span_make(exact, n));
        free(exact);
        rest = span_skip(rest, n);
    }
    buf_clear(&r->typed);
    return true;
}

static bool step_leave(struct run *r, const char *text)
{
    if (!is_open(r))
        return false;
    struct buf line = { 0 };
    bool is_good = !next_reply(r, &line) || fail(r, "unexpected reply: %s", buf_text(&line));
    buf_fini(&line);
    if (is_good)
        drive_leave(&r->drive, text[0] != '\0' ? text : NULL);
    return is_good;
}

static bool expect_state(struct run *r, enum drive_state state, const char *what)
{
    if (r->is_driving && r->drive.state == state)
        return true;
    return fail(r, "expected: %s\n       but: %s", what, waiting_for(r));
}

static bool step_close(struct run *r, const char *text)
{
    struct buf line = { 0 };
    (void)text;
    bool is_good = expect_state(r, DRIVE_CLOSED, "the connection is closed");
    if (is_good && next_reply(r, &line))
        is_good = fail(r, "unexpected reply: %s", buf_text(&line));
    buf_fini(&line);
    if (is_good)
        r->drive.state = DRIVE_NONE;
    return is_good;
}

/* ------------------------------------------------------------ steps: services */

static void key_of_map(const struct fact_key *key, struct buf *out)
{
    buf_printf(out, "%s %.*s", map_name(key->object), (int)key->text.len, key->text.at);
}

static void key_of_server(const struct fact_key *key, struct buf *out)
{
    buf_puts(out, ((const struct policy_server *)key->object)->argument);
}

/* Tabulators are written as blanks. */
static void key_as_words(const struct fact_key *key, struct buf *out)
{
    for (size_t i = 0; i < key->text.len; i++)
        buf_putc(out, key->text.at[i] == '\t' ? ' ' : key->text.at[i]);
}

/* How each kind of fact is written in a script; the ANSWER is its value, that of a DNS question
 * as fact_parse() reads it: "192.0.2.1, 192.0.2.2", "10 mx.test", "\"text\"". */
static const struct {
    const char *name;
    enum fact_kind kind;
    void (*key)(const struct fact_key *key, struct buf *out);
} fact_kinds[] = {
    { "map", FACT_MAP, key_of_map }, /* TYPE:NAME KEY */
    { "verify", FACT_VERIFY, key_as_words }, /* ROUND TARGET ADDRESS */
    { "probe", FACT_PROBE, key_as_words }, /* KIND:NEXTHOP SENDER RECIPIENT */
    { "A", FACT_A, key_as_words },
    { "AAAA", FACT_AAAA, key_as_words },
    { "MX", FACT_MX, key_as_words },
    { "NS", FACT_NS, key_as_words },
    { "PTR", FACT_PTR, key_as_words },
    { "TXT", FACT_TXT, key_as_words },
    { "greylist", FACT_GREYLIST, key_as_words }, /* WHO/SENDER/RECIPIENT CLIENT */
    { "policy", FACT_POLICY, key_of_server }, /* SERVER, as it stands in main.cf */
    { "sleep", FACT_SLEEP, key_as_words }, /* SECONDS NUMBER: the NUMBER-th pause of a decision */
    { "greet", FACT_GREET, key_as_words }, /* MS */
    { "remembered", FACT_REMEMBERED, key_as_words },
};

static void print_question(const struct fact_key *key, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(fact_kinds); i++) {
        if (fact_kinds[i].kind != key->kind)
            continue;
        buf_printf(out, "%s ", fact_kinds[i].name);
        fact_kinds[i].key(key, out);
        return;
    }
    buf_printf(out, "kind %d, which this runner does not know", (int)key->kind);
}

static enum fact_status status_of(struct span *answer)
{
    static const struct {
        const char *word;
        enum fact_status status;
    } words[] = { { "none", FACT_NOT_FOUND }, { "tempfail", FACT_TEMPFAIL },
                  { "broken", FACT_BROKEN } };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!span_equals(*answer, span_of(words[i].word)))
            continue;
        *answer = span_make("", 0);
        return words[i].status;
    }
    return FACT_FOUND;
}

static bool learn(struct run *r, struct span answer)
{
    struct buf value = { 0 };
    enum fact_status status = status_of(&answer);
    bool is_dns = status == FACT_FOUND && fact_kind_is_dns(r->drive.question.kind);
    bool is_good = is_dns ? fact_parse(r->drive.question.kind, answer, &status, &value)
                          : buf_add(&value, answer);
    if (is_good)
        drive_learn(&r->drive, status, buf_span(&value));
    buf_fini(&value);
    return is_good || fail(r, "malformed answer");
}

static bool step_ask(struct run *r, const char *text)
{
    struct span rest = span_of(text);
    struct buf got = { 0 };
    const char *equals = strstr(text, " =");
    if (equals == NULL)
        return fail(r, "ask KIND KEY = ANSWER");
    if (!r->is_driving || r->drive.state != DRIVE_ASKING)
        return fail(r, "expected: ask %s\n       but: %s", text, waiting_for(r));
    struct span key = span_make(rest.at, (size_t)(equals - text));
    struct span answer = span_trim(span_skip(rest, key.len + 2));
    print_question(&r->drive.question, &got);
    bool is_good = span_equals(key, buf_span(&got))
                   || fail(r, "expected: ask %.*s\n       got: ask %s", (int)key.len, key.at,
                           buf_text(&got));
    buf_fini(&got);
    return is_good && learn(r, answer);
}

/* "ok" or the name of an error: 0 or -errno; 1 for anything else. */
static int parse_result(const char *text)
{
    static const struct {
        const char *name;
        int error;
    } errors[] = {
        { "ok", 0 },           { "ENOSPC", ENOSPC }, { "EDQUOT", EDQUOT }, { "EROFS", EROFS },
        { "EMFILE", EMFILE },  { "ENFILE", ENFILE }, { "EIO", EIO },       { "EACCES", EACCES },
        { "ENOENT", ENOENT },  { "ELOOP", ELOOP },   { "EXDEV", EXDEV },   { "EFBIG", EFBIG },
        { "EEXIST", EEXIST },  { "ENOMEM", ENOMEM },
    };
    for (size_t i = 0; i < ARRAY_LEN(errors); i++)
        if (strcmp(errors[i].name, text) == 0)
            return -errors[i].error;
    return 1;
}

static bool step_spill(struct run *r, const char *text)
{
    int result = parse_result(text);
    if (result > 0)
        return fail(r, "unknown result \"%s\"", text);
    if (!r->is_driving || r->drive.spilling.count == 0)
        return fail(r, "expected: a spill\n       but: %s", waiting_for(r));
    drive_spilled(&r->drive, result);
    while (result == 0 && r->drive.state == DRIVE_SPILLING)
        drive_spilled(&r->drive, result); /* how often depends on the pieces */
    return true;
}

static const struct delivery *delivery_at_hand(struct run *r)
{
    if (r->is_driving && r->drive.delivering.count > 0)
        return r->drive.delivering.items[0];
    fail(r, "expected: a delivery\n       but: %s", waiting_for(r));
    return NULL;
}

/* The item of the delivery's n-th recipient; NULL: nothing is written for it. */
static const struct maildir_item *item_of(const struct delivery *delivery, size_t n)
{
    size_t item = 0;
    const struct delivery_rcpt *rcpt = delivery->rcpts;
    for (size_t i = 0; i < n; i++, rcpt = rcpt->next)
        item += rcpt->mailbox != NULL;
    return rcpt->mailbox != NULL && !delivery_needs_queue(delivery)
               ? &delivery->commit.items[item]
               : NULL;
}

static void print_recipient(struct run *r, const struct delivery *delivery, size_t n,
                            bool with_name, struct buf *out)
{
    const struct delivery_rcpt *rcpt = delivery->rcpts;
    const struct maildir_item *item = item_of(delivery, n);
    for (size_t i = 0; i < n; i++)
        rcpt = rcpt->next;
    buf_add(out, rcpt->address);
    if (item != NULL)
        buf_printf(out, " %s", item->mailbox);
    if (item != NULL && with_name)
        buf_printf(out, " %s", item->unique);
    if (delivery_needs_queue(delivery))
        buf_printf(out, " %s:%s", rcpt->transport,
                   rcpt->mailbox != NULL ? rcpt->mailbox : rcpt->nexthop);
    if (delivery_needs_queue(delivery) && rcpt->notify != 0)
        buf_printf(out, " NOTIFY=%u", rcpt->notify);
    tidy(r, out);
}

static bool step_to(struct run *r, const char *text)
{
    const struct delivery *delivery = delivery_at_hand(r);
    struct buf brief = { 0 }, full = { 0 };
    if (delivery == NULL)
        return false;
    if (r->to_count == delivery->count)
        return fail(r, "expected: to %s\n  got no further recipient", text);
    print_recipient(r, delivery, r->to_count, false, &brief);
    print_recipient(r, delivery, r->to_count++, true, &full);
    bool is_good = script_matches(text, buf_text(&brief))
                   || script_matches(text, buf_text(&full))
                   || fail(r, "expected: to %s\n       got: to %s", text, buf_text(&full));
    buf_fini(&brief);
    buf_fini(&full);
    return is_good;
}

/* What the file would hold. */
static bool read_stored(const struct maildir_item *item, struct buf *out)
{
    const struct body *body = item->body;
    if (!body->has_head)
        buf_add(out, item->head);
    if (body->fd < 0) {
        buf_add(out, body->memory);
        return true;
    }
    char *room = buf_reserve(out, body->size_bytes);
    ssize_t n = pread(body->fd, room, body->size_bytes, 0);
    out->len += n > 0 ? (size_t)n : 0;
    return n >= 0 && (uint64_t)n == body->size_bytes;
}

/* The first line that differs, for the report. */
static bool fail_at_difference(struct run *r, struct span expected, struct span got)
{
    size_t line = 1, start = 0, i = 0;
    for (; i < expected.len && i < got.len && expected.at[i] == got.at[i]; i++) {
        if (expected.at[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    struct span e = span_skip(expected, start), g = span_skip(got, start);
    return fail(r, "line %zu of the message\n  expected: %.*s\n       got: %.*s", line,
                (int)(span_find(e, '\n')), e.at, (int)(span_find(g, '\n')), g.at);
}

static bool step_message(struct run *r, const char *text)
{
    const struct delivery *delivery = delivery_at_hand(r);
    struct buf expected = { 0 }, got = { 0 };
    uint64_t n = 1;
    if (delivery == NULL)
        return false;
    if (text[0] != '\0' && !span_to_u64(span_of(text), delivery->commit.count, &n))
        return fail(r, "there is no such file");
    bool is_good = n > 0 && n <= delivery->commit.count
                   && read_stored(&delivery->commit.items[n - 1], &got);
    if (!is_good)
        fail(r, "the stored message cannot be read");
    is_good = take_block(r, true, "\r\n", &expected) && is_good;
    tidy(r, &got);
    if (is_good && !span_equals(buf_span(&expected), buf_span(&got)))
        is_good = fail_at_difference(r, buf_span(&expected), buf_span(&got));
    buf_fini(&expected);
    buf_fini(&got);
    return is_good;
}

/* "spooled", or "CODE E TEXT". */
static bool hand_off(struct run *r, const char *text)
{
    struct span rest = span_of(text), code = span_next_word(&rest), enhanced;
    uint64_t number = 0;
    if (strcmp(text, "spooled") == 0) {
        drive_handed_off(&r->drive, DELIVERY_SPOOLED, NULL);
        return true;
    }
    if (!span_to_u64(code, 599, &number))
        return fail(r, "a delivery that needs the queue cannot end with \"%s\"", text);
    struct arena memory = { 0 };
    enhanced = span_next_word(&rest);
    const struct smtp_reply reply = { (int)number, arena_text(&memory, enhanced),
                                      arena_text(&memory, span_trim(rest)) };
    drive_handed_off(&r->drive, DELIVERY_ANSWERED, &reply);
    arena_fini(&memory);
    return true;
}

static bool step_deliver(struct run *r, const char *text)
{
    const struct delivery *delivery = delivery_at_hand(r);
    int result = parse_result(text);
    if (delivery == NULL)
        return false;
    bool needs_queue = delivery_needs_queue(delivery);
    if (result > 0 && !needs_queue)
        return fail(r, "unknown result \"%s\"", text);
    if (r->to_count > 0 && r->to_count < delivery->count)
        return fail(r, "%zu recipients of the delivery were not named",
                    delivery->count - r->to_count);
    r->to_count = 0;
    if (needs_queue)
        return hand_off(r, text);
    drive_delivered(&r->drive, result);
    return true;
}

static bool step_sleep(struct run *r, const char *text)
{
    if (!expect_state(r, DRIVE_SLEEPING, "a sleep"))
        return false;
    long long ms = r->drive.smtpd->smtp.sleep_ms;
    if (ms != atoll(text))
        return fail(r, "expected: sleep %s\n       got: sleep %lld", text, ms);
    drive_wake(&r->drive);
    return true;
}

static bool step_time(struct run *r, const char *text)
{
    if (text[0] != '+' || !r->is_driving)
        return fail(r, "time +SECONDS, behind the first client");
    drive_wait(&r->drive, (int64_t)(atof(text + 1) * 1000));
    return true;
}

static bool step_timeout(struct run *r, const char *text)
{
    (void)text;
    if (!is_open(r) || !expect_state(r, DRIVE_READING, "a client that is listened to"))
        return false;
    drive_timeout(&r->drive);
    return true;
}

static bool step_tls(struct run *r, const char *text)
{
    if (!expect_state(r, DRIVE_TLS, "a TLS handshake"))
        return false;
    drive_secured(&r->drive, text);
    return true;
}

static bool set_flag(struct run *r, bool *flag, const char *text, const char *on, const char *off)
{
    *flag = strcmp(text, on) == 0;
    return *flag || strcmp(text, off) == 0 || fail(r, "%s or %s", on, off);
}

static bool step_stress(struct run *r, const char *text)
{
    if (!r->is_driving)
        return fail(r, "stress, behind the first client");
    return set_flag(r, &r->drive.services.is_stressed, text, "on", "off");
}

static bool step_space(struct run *r, const char *text)
{
    if (!r->is_driving)
        return fail(r, "space, behind the first client");
    return set_flag(r, &r->drive.services.is_space_low, text, "low", "ok");
}

/* ------------------------------------------------------------ a scenario */

static const struct {
    const char *word;
    bool (*run)(struct run *r, const char *text);
    bool is_typing; /* more bytes of the client, that go together with the next ones */
} steps[] = {
    { "conf", step_conf, false },       { " ", step_continue, false },
    { "\t", step_continue, false },     { "file", step_file, false },
    { "certificate", step_certificate, false },
    { "warning", step_warning, false }, { "error", step_error, false },
    { "whole", step_whole, false },     { "log", step_log, false },
    { "client", step_client, false },   { "C:", step_bytes, true },
    { "repeat", step_repeat, true },    { "S:", step_reply, false },
    { "ask", step_ask, false },         { "spill", step_spill, false },
    { "to", step_to, false },           { "message", step_message, false },
    { "deliver", step_deliver, false }, { "sleep", step_sleep, false },
    { "time", step_time, false },       { "timeout", step_timeout, false },
    { "tls", step_tls, false },         { "stress", step_stress, false },
    { "space", step_space, false },     { "close", step_close, false },
    { "leave", step_leave, false },
};

static bool run_step(struct run *r)
{
    const struct script_line *line = line_at(r, r->at);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (strcmp(steps[i].word, line->word) != 0)
            continue;
        if (!steps[i].is_typing && r->typed.len > 0)
            send_typed(r);
        return steps[i].run(r, line->text);
    }
    return fail(r, "unknown step \"%s\"", line->word);
}

/* The end of a scenario: nothing may be left, nothing may be under way. */
static void finish(struct run *r)
{
    if (r->typed.len > 0)
        send_typed(r);
    load(r);
    if (!r->has_failed)
        no_more_problems(r);
    if (!r->has_failed && r->is_driving && nothing_is_left(r)) {
        bool is_quiet = r->drive.state == DRIVE_NONE || r->drive.state == DRIVE_READING;
        if (!is_quiet || r->drive.delivering.count > 0 || r->drive.spilling.count > 0)
            fail(r, "the script is over, but %s", waiting_for(r));
    }
    const char *complaint = r->is_driving ? drive_complaint(&r->drive) : NULL;
    if (complaint != NULL)
        fail(r, "%s", complaint);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void make_directories(struct run *r)
{
    const char *top = getenv("TMPDIR");
    snprintf(r->dir, sizeof r->dir, "%.30s/postern-script-XXXXXX", top != NULL ? top : "/tmp");
    ENSURE(mkdtemp(r->dir) != NULL);
    const char *const subs[] = { "spool", "spool/tmp", "mail" };
    for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
        char *path = xprintf("%s/%s", r->dir, subs[i]);
        ENSURE(mkdir(path, 0700) == 0);
        free(path);
    }
}

static void run_fini(struct run *r)
{
    if (r->is_driving)
        drive_fini(&r->drive);
    config_release(r->config);
    problems_fini(&r->problems);
    buf_fini(&r->conf);
    buf_fini(&r->typed);
    nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* True: the scenario came true. *whole_only is set when the other modes are not for it. */
static bool run_once(const struct script *script, const size_t *order, size_t count,
                     enum mode mode, bool *whole_only, struct buf *failure)
{
    struct run *r = xcalloc(1, sizeof *r);
    r->script = script;
    r->order = order;
    r->count = count;
    r->mode = mode;
    make_directories(r);
    buf_puts(&r->conf, base_conf);
    for (; r->at < count && !r->has_failed; r->at++)
        if (!run_step(r))
            break;
    finish(r);
    run_fini(r);
    bool is_good = !r->has_failed;
    *whole_only = r->is_whole_only;
    buf_puts(failure, r->failure);
    free(r);
    return is_good;
}

/* ------------------------------------------------------------ a file */

static bool is_scenario(const struct script *s, size_t i)
{
    return strcmp(s->lines[i].word, "scenario") == 0;
}

static bool run_scenario(const struct script *s, const size_t *order, size_t count,
                         struct buf *failure)
{
    bool is_good = true, whole_only = false;
    for (int mode = MODE_WHOLE; mode < MODE_COUNT && is_good && !whole_only; mode++)
        is_good = run_once(s, order, count, (enum mode)mode, &whole_only, failure);
    return is_good;
}

static void report(const struct script *s, size_t title, const struct buf *failure)
{
    printf("%s\n", buf_text((struct buf *)(uintptr_t)failure));
    if (title < s->count)
        printf("  in scenario \"%s\"\n", s->lines[title].text);
}

struct result {
    int scenarios, failed;
    struct buf failure; /* owns: of the last one that failed */
};

/* The lines before the first scenario, and those of the one that begins at index start. */
static size_t run_part(const struct script *s, size_t preamble, size_t start,
                       struct result *result)
{
    size_t *order = xcalloc(s->count, sizeof *order);
    size_t count = 0, i = start;
    for (size_t p = 0; p < preamble; p++)
        order[count++] = p;
    for (i += start < s->count; i < s->count && !is_scenario(s, i); i++)
        order[count++] = i;
    struct buf failure = { 0 };
    result->scenarios++;
    if (!run_scenario(s, order, count, &failure)) {
        result->failed++;
        report(s, start, &failure);
        buf_fini(&result->failure);
        result->failure = failure;
    } else {
        buf_fini(&failure);
    }
    free(order);
    return i;
}

static void run_script(const struct script *s, struct result *result)
{
    size_t preamble = 0;
    while (preamble < s->count && !is_scenario(s, preamble))
        preamble++;
    size_t i = preamble;
    do
        i = run_part(s, preamble, i, result);
    while (i < s->count);
}

/* With --fails-with the last failure must say so. */
static int exit_code(const struct result *result, const char *fails_with)
{
    if (fails_with == NULL)
        return result->failed > 0 ? 1 : 0;
    char *pattern = xprintf("...%s...", fails_with);
    bool says_so = result->failed == 1
                   && script_matches(pattern, buf_text((struct buf *)(uintptr_t)&result->failure));
    free(pattern);
    if (!says_so)
        printf("this was to fail with \"%s\"\n", fails_with);
    return says_so ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct result result = { 0 };
    const char *fails_with = NULL;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--fails-with") == 0) {
        fails_with = argv[2];
        first = 3;
    }
    for (int i = first; i < argc; i++) {
        struct script script = { 0 };
        const char *error = script_read(&script, argv[i]);
        if (error != NULL || script.count == 0) {
            fprintf(stderr, "%s: %s\n", argv[i], error != NULL ? error : "has no steps");
            return 2;
        }
        run_script(&script, &result);
        script_fini(&script);
    }
    printf("%d scenarios, %d failed\n", result.scenarios, result.failed);
    int code = result.scenarios > 0 ? exit_code(&result, fails_with) : 2;
    buf_fini(&result.failure);
    return code;
}
