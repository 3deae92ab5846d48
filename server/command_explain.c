/* postern explain - the staged evaluation of one client, HELO, sender and recipient, rule by rule.
 * It drives the same conversation code as the server (smtpd.h) with commands made from the
 * options, and prints what every decision rested on. Nothing is delivered; policy servers are
 * not asked (they would remember) unless --ask-policy says so, and nobody sleeps. */
#include "policy/restriction.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/clients.h"
#include "server/command.h"
#include "server/decisions.h"
#include "server/fetch.h"
#include "server/smtpd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <uv.h>

enum { FACTS_MAX = 200 };

struct options {
    struct command_options common;
    const char *client, *client_name, *helo, *from, *to, *size, *log_line;
    bool is_tls, is_offline, asks_policy, is_smtp;
    const char *facts[FACTS_MAX];
    int fact_count;
    const char *reference; /* of a recorded decision, which gives all of the rest */
    struct recorded {
        char *kind, *question, *answer;
    } recorded[FACTS_MAX];
    int recorded_count;
};

struct explain {
    const struct options *options;
    uv_loop_t uv;
    struct fetcher fetcher;
    struct asker asker;
    struct smtpd smtpd;
    struct smtpd_services services;
    struct log log;
    struct span in;
    struct buf input, out;
    bool is_asking, is_used[FACTS_MAX]; /* is_used: the facts given */
    int code; /* exit code */
};

/* ------------------------------------------------------------ printing */

static const char *verdict_name(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_DUNNO: return "dunno";
    case VERDICT_PERMIT: return "permit";
    case VERDICT_REJECT: return "reject";
    case VERDICT_PENDING: break;
    }
    return "?";
}

static const char *list_title(enum list_name list)
{
    return list < LIST_COUNT ? list_parameters[list] : "beside the lists";
}

/* Answers are a stranger's words: they must not move the cursor. */
static void print_fact(const struct step_fact *f, int depth)
{
    struct buf text = { 0 };
    text_escape(&text, span_of(f->question), SIZE_MAX);
    buf_puts(&text, " = ");
    text_escape(&text, span_of(f->answer), SIZE_MAX);
    printf("%*s%s", depth * 4 + 8, "", buf_text(&text));
    buf_fini(&text);
    if (f->source != NULL)
        printf("   (%s%s", f->source, f->took_ms > 0 ? "" : ")");
    if (f->source != NULL && f->took_ms > 0)
        printf(", %lld ms)", (long long)f->took_ms);
    putchar('\n');
}

static void print_steps(const struct outcome *out)
{
    int list = -1;
    for (const struct step *s = out->steps; s != NULL; s = s->next) {
        if ((int)s->list != list)
            printf("  %s\n", list_title(s->list));
        list = (int)s->list;
        int depth = s->depth > 0 ? s->depth - 1 : 0;
        char what[300];
        snprintf(what, sizeof what, "%s%s%s%s", s->is_warned ? "warn_if_reject " : "", s->rule,
                 s->argument[0] != '\0' ? " " : "", s->argument);
        bool is_rule = s->list < LIST_COUNT || s->verdict != VERDICT_DUNNO;
        printf("%*s%-60s %s\n", depth * 4 + 4, "", what, is_rule ? verdict_name(s->verdict) : "");
        for (const struct step_fact *f = s->facts; f != NULL; f = f->next)
            print_fact(f, depth);
    }
}

static void print_effects(const struct outcome *out)
{
    for (const struct note *n = out->notes; n != NULL; n = n->next)
        printf("  note: %s: %s\n", n->tag, n->text);
    for (const struct text_item *p = out->prepends; p != NULL; p = p->next)
        printf("  effect: PREPEND %s\n", p->text);
    for (const struct text_item *b = out->bccs; b != NULL; b = b->next)
        printf("  effect: BCC %s\n", b->text);
    if (out->redirect != NULL)
        printf("  effect: REDIRECT %s\n", out->redirect);
    if (out->is_hold)
        printf("  effect: HOLD\n");
    if (out->is_discard)
        printf("  effect: DISCARD\n");
    if (out->raised.code != 0)
        printf("  raised: defer_if_permit: %d %s %s\n", out->raised.code, out->raised.enhanced,
               out->raised.text);
}

static void on_decided(struct smtpd *d, enum verdict verdict)
{
    static const char *const names[] = {
        [STAGE_CONNECT] = "CONNECT", [STAGE_HELO] = "HELO", [STAGE_MAIL] = "MAIL",
        [STAGE_RCPT] = "RCPT",       [STAGE_VRFY] = "VRFY", [STAGE_DATA] = "DATA",
        [STAGE_END_OF_DATA] = "END-OF-DATA",
    };
    const struct outcome *out = &d->run.out;
    if (out->steps == NULL && out->notes == NULL && verdict != VERDICT_REJECT)
        return; /* nothing ran here: the lists wait for RCPT */
    printf("%s\n", names[d->in.stage]);
    print_steps(out);
    print_effects(out);
    if (verdict == VERDICT_REJECT && out->rule != NULL)
        printf("  decided by: %s\n", out->rule);
    for (const struct target *t = d->targets; t != NULL; t = t->next)
        printf("  goes to: %.*s by %s%s%s\n", (int)t->address.len, t->address.at,
               t->transport.name, t->mailbox != NULL ? ", " : "",
               t->mailbox != NULL ? t->mailbox : "");
}

/* ------------------------------------------------------------ facts */

static void learn(struct smtpd *d, const struct fact_key *key, enum fact_status status,
                  const char *value, const char *source)
{
    smtpd_learn(d, &(struct fact){ .key = *key, .status = status, .value = span_of(value),
                                   .source = source });
}

/* "A 7.2.0.192.bl.test = 127.0.0.2": is it about this key? */
static bool is_given(const char *line, const struct fact_key *key, struct span *value)
{
    struct span rest = span_of(line);
    size_t equals = span_find(rest, '=');
    struct span left = span_make(rest.at, equals), kind = span_next_word(&left);
    *value = span_skip(rest, equals + 1);
    left = span_trim(left);
    return equals < rest.len && fact_kind_find(kind) == key->kind
           && (span_iequals(left, key->text) || key->kind == FACT_POLICY);
}

/* What the decision of that reference rested on. */
static bool learn_recorded(struct explain *x, const struct fact_key *key)
{
    for (int i = 0; i < x->options->recorded_count; i++) {
        const struct recorded *r = &x->options->recorded[i];
        struct buf value = { 0 };
        enum fact_status status;
        bool is_it = fact_kind_find(span_of(r->kind)) == key->kind
                     && (key->kind == FACT_POLICY || span_iequals(span_of(r->question), key->text))
                     && fact_parse(key->kind, span_of(r->answer), &status, &value);
        if (is_it)
            smtpd_learn(&x->smtpd, &(struct fact){ .key = *key, .status = status,
                                                   .value = buf_span(&value),
                                                   .source = "recorded" });
        buf_fini(&value);
        if (is_it)
            return true;
    }
    return false;
}

static bool learn_given(struct explain *x, const struct fact_key *key)
{
    for (int i = 0; i < x->options->fact_count; i++) {
        struct span text;
        struct buf value = { 0 };
        enum fact_status status;
        if (!is_given(x->options->facts[i], key, &text))
            continue;
        if (!fact_parse(key->kind, text, &status, &value)) {
            fprintf(stderr, "postern: --fact %s: malformed value\n", x->options->facts[i]);
            exit(EX_USAGE);
        }
        x->is_used[i] = true;
        smtpd_learn(&x->smtpd, &(struct fact){ .key = *key, .status = status,
                                               .value = buf_span(&value), .source = "given" });
        buf_fini(&value);
        return true;
    }
    return false;
}

static void pump(struct explain *x);

static void on_fact(struct asker *asker, const struct fact *fact)
{
    struct explain *x = (struct explain *)(void *)((char *)asker - offsetof(struct explain, asker));
    bool was_asking = x->is_asking;
    x->is_asking = true;
    smtpd_learn(&x->smtpd, fact);
    x->is_asking = was_asking;
    if (!was_asking && !x->smtpd.is_waiting)
        pump(x);
}

static void ask(struct smtpd *d, const struct fact_key *key)
{
    struct explain *x = d->conn;
    bool was_asking = x->is_asking;
    if (learn_given(x, key) || learn_recorded(x, key))
        return;
    if (key->kind == FACT_SLEEP || key->kind == FACT_GREET) {
        learn(d, key, FACT_FOUND, key->kind == FACT_GREET ? "quiet" : "", "skipped");
    } else if (key->kind == FACT_REMEMBERED) {
        learn(d, key, FACT_NOT_FOUND, "", "not asked");
    } else if (key->kind == FACT_VERIFY) {
        learn(d, key, FACT_FOUND, "ok", "not asked");
    } else if (key->kind == FACT_PROBE && !x->options->asks_policy) {
        learn(d, key, FACT_TEMPFAIL, "", "not asked");
    } else if (key->kind == FACT_POLICY && !x->options->asks_policy) {
        learn(d, key, FACT_FOUND, "DUNNO", "not asked");
    } else if (x->options->is_offline && key->kind != FACT_MAP) {
        learn(d, key, FACT_TEMPFAIL, "", "not given");
    } else {
        x->is_asking = true;
        fetch_fact(&x->fetcher, &x->asker, key);
        x->is_asking = was_asking;
    }
}

/* ------------------------------------------------------------ the conversation */

static int64_t wall_us(struct smtpd_services *services)
{
    (void)services;
    return (int64_t)time(NULL) * 1000000;
}

static const char *date(struct smtpd_services *services)
{
    (void)services;
    return "now";
}

static void no_delivery(struct smtpd_services *services, struct delivery *delivery)
{
    (void)services;
    delivery_free(delivery); /* never reached: no data is sent */
}

static void nothing_begun(struct fetcher *fetcher)
{
    (void)fetcher;
}

/* The last line of what the server said. */
static struct span last_reply(struct explain *x)
{
    struct span last = span_of(buf_text(&x->out));
    while (last.len > 0 && (last.at[last.len - 1] == '\n' || last.at[last.len - 1] == '\r'))
        last.len--;
    size_t line = span_find_last(last, '\n');
    return line < last.len ? span_skip(last, line + 1) : last;
}

/* A fact that no rule wanted is most likely misspelt. */
static void print_unused_facts(const struct explain *x)
{
    for (int i = 0; i < x->options->fact_count; i++)
        if (!x->is_used[i])
            printf("note: nobody asked for --fact '%s'\n", x->options->facts[i]);
}

static void end(struct explain *x)
{
    struct span last = last_reply(x);
    print_unused_facts(x);
    printf("reply: %.*s\n", (int)last.len, last.at);
    x->code = last.len == 0          ? EX_TEMPFAIL
              : last.at[0] == '2'    ? EX_OK
              : last.at[0] == '4'    ? EX_TEMPFAIL
                                     : 1;
    uv_stop(&x->uv);
}

static bool is_refused(struct explain *x)
{
    struct span last = last_reply(x);
    return last.len > 0 && last.at[0] >= '4';
}

static void say_next(struct explain *x)
{
    size_t n = span_find(buf_span(&x->input), '\n') + 1;
    buf_clear(&x->out);
    x->in = arena_span(&x->smtpd.answer_memory, span_make(x->input.at, n));
    buf_drop(&x->input, n);
}

/* Until the input is used up and every question is answered, or something is refused. */
static void pump(struct explain *x)
{
    for (;;) {
        switch (smtpd_next(&x->smtpd, &x->in, &x->out)) {
        case SMTPD_WAIT: return;
        case SMTPD_SLEEP: break;
        case SMTPD_INPUT:
            if (x->in.len > 0)
                break;
            if (x->input.len == 0 || is_refused(x)) { /* what would follow explains nothing */
                end(x);
                return;
            }
            say_next(x);
            break;
        case SMTPD_TLS:
        case SMTPD_CLOSE: end(x); return;
        }
    }
}

static void write_commands(struct explain *x)
{
    const struct options *o = x->options;
    if (o->helo != NULL)
        buf_printf(&x->input, "%s %s\r\n", o->is_smtp ? "HELO" : "EHLO", o->helo);
    if (o->from != NULL)
        buf_printf(&x->input, "MAIL FROM:<%s>%s%s\r\n", o->from, o->size != NULL ? " SIZE=" : "",
                   o->size != NULL ? o->size : "");
    if (o->to != NULL)
        buf_printf(&x->input, "RCPT TO:<%s>\r\n", o->to);
}

static void set_client(struct explain *x, const struct ip *ip)
{
    static const struct ip nobody = { .family = 4 };
    const char *name = x->options->client_name;
    smtpd_init(&x->smtpd, x->asker.config, &x->services, ip, 0, &nobody, 25, 1);
    x->smtpd.conn = x;
    x->smtpd.is_traced = true;
    x->smtpd.smtp.is_tls = x->options->is_tls;
    if (name == NULL)
        return;
    bool is_unknown = strcmp(name, "unknown") == 0;
    enum smtp_name_status status = is_unknown ? SMTP_NAME_PERMANENT : SMTP_NAME_OK;
    smtp_peer_set_name(&x->smtpd.smtp.peer, is_unknown ? NULL : name, status);
    smtp_peer_set_reverse(&x->smtpd.smtp.peer, is_unknown ? NULL : name, status);
}

static int run(const struct options *options, struct config *config, const struct ip *ip)
{
    struct explain *x = xcalloc(1, sizeof *x);
    const char *error;
    x->options = options;
    uv_loop_init(&x->uv);
    x->fetcher.work_begun = x->fetcher.work_done = nothing_begun;
    if ((error = fetcher_init(&x->fetcher, &x->uv, &config->params)) != NULL) {
        fprintf(stderr, "postern: no DNS: %s\n", error);
        return EX_UNAVAILABLE;
    }
    struct params quiet = config->params;
    quiet.maillog_file = "/dev/null";
    quiet.log_target = LOG_TARGET_FILE;
    struct log_sink *sink = log_sink_open(&quiet, &error);
    log_init(&x->log, sink);
    x->services = (struct smtpd_services){
        .log = &x->log, .clients = clients_new(), .context = x, .wall_us = wall_us, .date = date,
        .decided = on_decided, .ask = ask, .deliver = no_delivery, .spill = no_delivery,
    };
    x->asker = (struct asker){ .config = config, .learn = on_fact };
    set_client(x, ip);
    write_commands(x);
    pump(x);
    if (x->smtpd.is_waiting)
        uv_run(&x->uv, UV_RUN_DEFAULT);
    return x->code; /* the process ends: the kernel tidies up */
}

/* ------------------------------------------------------------ options */

/* "name[address]" behind " from ", and "key=<value>" of a logged rejection. */
static char *cut_between(const char *line, const char *before, const char *after)
{
    const char *start = strstr(line, before), *stop;
    if (start == NULL)
        return NULL;
    start += strlen(before);
    stop = strstr(start, after);
    return stop != NULL ? xprintf("%.*s", (int)(stop - start), start) : NULL;
}

static void set_if_new(const char **option, char *value)
{
    if (*option == NULL)
        *option = value;
}

static bool read_log_line(struct options *o)
{
    static char typed[4096];
    const char *line = o->log_line;
    if (strcmp(line, "-") == 0)
        line = fgets(typed, sizeof typed, stdin);
    char *client = line != NULL ? cut_between(line, " from ", "]:") : NULL;
    char *bracket = client != NULL ? strchr(client, '[') : NULL;
    if (bracket == NULL)
        return false;
    *bracket = '\0';
    set_if_new(&o->client, bracket + 1);
    set_if_new(&o->client_name, client);
    set_if_new(&o->helo, cut_between(line, "helo=<", ">"));
    set_if_new(&o->from, cut_between(line, "from=<", ">"));
    set_if_new(&o->to, cut_between(line, " to=<", ">"));
    o->is_smtp |= strstr(line, "proto=SMTP") != NULL;
    return true;
}

static const char *const value_options[] = { "--client", "--client-name", "--helo", "--from",
                                             "--to", "--size", "--log" };

/* "KIND NAME = VALUE" of a kind that there is. */
static bool add_fact(struct options *o, const char *text)
{
    struct span rest = span_of(text);
    if (span_find(rest, '=') == rest.len || fact_kind_find(span_next_word(&rest)) == FACT_KIND_COUNT) {
        fprintf(stderr, "postern: --fact %s: not KIND NAME = VALUE\n", text);
        return false;
    }
    if (o->fact_count == FACTS_MAX)
        return false;
    o->facts[o->fact_count++] = text;
    return true;
}

static bool read_options(int argc, char **argv, struct options *o)
{
    const char **values[] = { &o->client, &o->client_name, &o->helo, &o->from,
                              &o->to, &o->size, &o->log_line };
    int rest = command_options(argc, argv, &o->common);
    for (int i = 0; i < rest; i++) {
        size_t k = 0;
        while (k < ARRAY_LEN(value_options) && strcmp(argv[i], value_options[k]) != 0)
            k++;
        bool is_fact = strcmp(argv[i], "--fact") == 0;
        if (k < ARRAY_LEN(value_options) && i + 1 < rest)
            *values[k] = argv[++i];
        else if (is_fact && i + 1 < rest && add_fact(o, argv[i + 1]))
            i++;
        else if (o->reference == NULL && decisions_is_reference(argv[i]))
            o->reference = argv[i];
        else if (strcmp(argv[i], "--tls") == 0)
            o->is_tls = true;
        else if (strcmp(argv[i], "--offline") == 0)
            o->is_offline = true;
        else if (strcmp(argv[i], "--ask-policy") == 0)
            o->asks_policy = true;
        else
            return false;
    }
    return rest >= 0 && (o->log_line == NULL || read_log_line(o))
           && (o->client != NULL) != (o->reference != NULL);
}

/* ------------------------------------------------------------ a recorded decision */

static void keep_recorded(struct options *o, char *rest)
{
    char *question = strchr(rest, '\t'), *answer;
    if (question == NULL || o->recorded_count == FACTS_MAX)
        return;
    *question++ = '\0';
    if ((answer = strchr(question, '\t')) == NULL)
        return;
    *answer++ = '\0';
    decisions_unescape(question);
    decisions_unescape(answer);
    o->recorded[o->recorded_count++] = (struct recorded){ rest, question, answer };
}

static void read_field(struct options *o, const char *name, char *value)
{
    const struct {
        const char *name;
        const char **option;
    } fields[] = { { "client", &o->client }, { "client_name", &o->client_name },
                   { "helo", &o->helo }, { "from", &o->from }, { "to", &o->to },
                   { "size", &o->size } };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (strcmp(name, fields[i].name) == 0)
            set_if_new(fields[i].option, value);
    if (strcmp(name, "tls") == 0)
        o->is_tls = strcmp(value, "1") == 0;
    else if (strcmp(name, "protocol") == 0)
        o->is_smtp = strcmp(value, "SMTP") == 0;
    else if (strcmp(name, "time") == 0)
        printf("recorded at: %s\n", value);
    else if (strcmp(name, "verdict") == 0 || strcmp(name, "rule") == 0
             || strcmp(name, "reply") == 0)
        printf("recorded %s: %s\n", name, value);
}

/* Fills the options; text stays theirs. */
static void read_record(struct options *o, char *text)
{
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *value = strchr(line, '\t');
        if (value == NULL)
            continue;
        *value++ = '\0';
        if (strcmp(line, "fact") == 0) {
            keep_recorded(o, value);
        } else {
            decisions_unescape(value);
            read_field(o, line, value);
        }
    }
    o->is_offline = true;
    putchar('\n');
}

/* False: there is no such record; it was said. */
static bool load_record(struct options *o, const struct config *config)
{
    struct buf text = { 0 };
    const char *error = decisions_read(&config->params, o->reference, &text);
    if (error == NULL)
        read_record(o, xstrdup(buf_text(&text)));
    else
        fprintf(stderr, "postern: %s: %s\n", o->reference, error);
    buf_fini(&text);
    return error == NULL;
}

int command_explain(int argc, char **argv)
{
    struct options options = { 0 };
    struct ip ip;
    if (!read_options(argc, argv, &options)
        || (options.client != NULL && !ip_parse(span_of(options.client), &ip))) {
        fprintf(stderr,
                "usage: postern explain [-c FILE] [--set NAME=VALUE]... --client IP\n"
                "         [--client-name NAME] [--helo NAME] [--from ADDRESS] [--to ADDRESS]\n"
                "         [--size BYTES] [--tls] [--fact 'KIND NAME = VALUE']... [--offline]\n"
                "         [--ask-policy] [--log 'LINE' | --log -]\n"
                "       postern explain [-c FILE] REFERENCE\n");
        return EX_USAGE;
    }
    struct config *config = command_load(&options.common);
    if (config == NULL)
        return EX_CONFIG;
    if (options.reference != NULL
        && (!load_record(&options, config) || !ip_parse(span_of(options.client), &ip))) {
        config_release(config);
        return EX_NOINPUT;
    }
    return run(&options, config, &ip);
}
