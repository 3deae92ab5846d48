#include "protocol/smtp_session.h"
#include "protocol/expand.h"
#include "protocol/mem.h"
#include "protocol/smtp_command.h"
#include "protocol/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void smtp_session_init(struct smtp_session *s, const struct params *params)
{
    *s = (struct smtp_session){ .params = params, .state = SMTP_STATE_START };
    s->line.limit_bytes = (size_t)params->line_length_limit;
}

static void mail_fini(struct smtp_mail *mail)
{
    arena_fini(&mail->memory);
    *mail = (struct smtp_mail){ 0 };
}

void smtp_session_fini(struct smtp_session *s)
{
    mail_fini(&s->mail);
    smtp_line_fini(&s->line);
    smtp_peer_fini(&s->peer);
    arena_fini(&s->scratch);
    free(s->helo);
    free(s->helo_before);
}

const char *smtp_session_protocol(const struct smtp_session *s)
{
    return s->is_esmtp ? "ESMTP" : "SMTP";
}

/* ------------------------------------------------------------ replies */

static const char *lookup_footer(void *context, struct span name)
{
    const struct smtp_session *s = context;
    static _Thread_local char port[8];
    snprintf(port, sizeof port, "%u", s->peer.port);
    const struct {
        const char *name, *value;
    } words[] = {
        { "client_address", s->peer.address }, { "client_port", port },
        { "localtime", s->localtime },         { "server_name", s->params->myhostname },
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (span_equals(name, span_of(words[i].name)))
            return words[i].value;
    return NULL;
}

/* A further line behind the reply; "\c" in front joins it, "\n" makes more lines (spec 1.9). */
static void add_footer(struct smtp_session *s, struct buf *text)
{
    struct expand x = { .lookup = lookup_footer, .context = s };
    struct buf footer = { 0 };
    const char *template = s->params->smtpd_reject_footer;
    bool is_joined = strncmp(template, "\\c", 2) == 0;
    if (!expand_text(&x, span_of(template + (is_joined ? 2 : 0)), &footer))
        buf_clear(&footer);
    if (!is_joined)
        buf_putc(text, '\n');
    const char *c = buf_text(&footer);
    for (; *c != '\0'; c++) {
        bool is_break = c[0] == '\\' && c[1] == 'n';
        buf_putc(text, is_break ? '\n' : *c);
        c += is_break;
    }
    buf_fini(&footer);
}

static void write_reply(struct smtp_session *s, const struct smtp_reply *reply)
{
    struct buf text = { 0 };
    struct smtp_reply said = *reply;
    bool has_footer = smtp_reply_is_error(reply) && s->params->smtpd_reject_footer[0] != '\0';
    if (!has_footer) {
        smtp_reply_write(s->out, reply);
        return;
    }
    buf_puts(&text, reply->text);
    add_footer(s, &text);
    said.text = buf_text(&text);
    smtp_reply_write(s->out, &said);
    buf_fini(&text);
}

void smtp_say_reply(struct smtp_session *s, const struct smtp_reply *reply)
{
    char room[16];
    struct smtp_reply said = *reply;
    if (s->params->soft_bounce)
        said = smtp_reply_softened(said, room);
    write_reply(s, &said);
    s->reply_code = said.code;
    if (smtp_reply_is_error(&said))
        s->has_failed = true;
    if (s->errors >= s->params->smtpd_soft_error_limit && s->params->smtpd_error_sleep_time > 0)
        s->is_sleep_due = true;
    if (smtp_reply_closes(&said))
        smtp_close(s, SMTP_CLOSE_REPLY);
}

void smtp_say(struct smtp_session *s, int code, const char *enhanced, const char *format, ...)
{
    char text[SMTP_REPLY_LINE_MAX * 2];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    smtp_say_reply(s, &(struct smtp_reply){ code, enhanced, text });
}

void smtp_close(struct smtp_session *s, enum smtp_close_reason why)
{
    if (s->close_reason == SMTP_CLOSE_NONE)
        s->close_reason = why;
    s->state = SMTP_STATE_CLOSE;
}

void smtp_ask_for(struct smtp_session *s, enum smtp_ask ask)
{
    s->ask = ask;
    s->state = SMTP_STATE_VERDICT;
}

void smtp_mail_reset(struct smtp_session *s)
{
    if (s->mail.is_open)
        s->is_reset_due = true;
    mail_fini(&s->mail);
    s->bdat = BDAT_NONE;
    s->is_too_big = false;
}

/* ------------------------------------------------------------ commands */

static void count_command(struct smtp_session *s)
{
    struct smtp_count *count = &s->counts[s->verb];
    if (count->all < UINT16_MAX) {
        count->all++;
        count->ok = (uint16_t)(count->ok + !s->has_failed);
        count->temporary = (uint16_t)(count->temporary + (s->reply_code / 100 == 4));
        count->permanent = (uint16_t)(count->permanent + (s->reply_code / 100 == 5));
    }
    if (s->has_failed && !s->is_uncounted)
        s->errors++;
    if ((smtp_verbs[s->verb].flags & SMTP_VERB_IS_JUNK) != 0
        && s->junk_commands++ > s->params->smtpd_junk_command_limit)
        s->errors++;
}

/* A command is over when its last reply is out: DATA and BDAT end behind the body. */
static void finish_command(struct smtp_session *s)
{
    if (s->state == SMTP_STATE_VERDICT || s->state == SMTP_STATE_DATA
        || s->state == SMTP_STATE_BDAT)
        return;
    count_command(s);
}

/* Input behind a command whose reply decides what may come next (RFC 2920 3.1, spec 9.7). */
static bool is_out_of_turn(const struct smtp_session *s, struct span rest)
{
    bool must_wait = (smtp_verbs[s->verb].flags & SMTP_VERB_ENDS_GROUP) != 0
                     || (!s->is_esmtp && s->verb != SMTP_VERB_QUIT);
    return rest.len > 0 && must_wait;
}

/* STARTTLS is left out: what follows it is thrown away, not read (RFC 3207 4.2). */
static bool refuse_out_of_turn(struct smtp_session *s, struct span rest)
{
    if (!is_out_of_turn(s, rest))
        return false;
    s->is_out_of_turn = true;
    if (!s->params->smtpd_forbid_unauth_pipelining || s->verb == SMTP_VERB_STARTTLS)
        return false;
    smtp_say(s, 554, "5.5.0", "Error: SMTP protocol synchronization");
    smtp_close(s, SMTP_CLOSE_SYNC);
    return true;
}

static bool line_is_refused(struct smtp_session *s, const struct smtp_line_out *line)
{
    const char *host = s->params->myhostname;
    if (line->is_too_long) {
        smtp_say(s, 500, "5.5.2", "%s Error: command too long", host);
    } else if (line->is_bare_lf && s->features.bare_newline_reject) {
        smtp_close(s, SMTP_CLOSE_BARE_LF); /* first: the code may be 521, which closes too */
        smtp_say(s, s->params->smtpd_forbid_bare_newline_reject_code, "5.5.2",
                 "%s Error: bare <LF> received", host);
    } else if (span_trim(line->text).len == 0) {
        smtp_say(s, 500, "5.5.2", "Error: bad syntax");
    } else if (s->params->smtputf8_enable && !utf8_is_valid(line->text)) {
        smtp_say(s, 500, "5.5.2", "Error: bad UTF-8 syntax");
    } else {
        return false;
    }
    return true;
}

static void run_line(struct smtp_session *s, const struct smtp_line_out *line, struct span rest)
{
    arena_fini(&s->scratch);
    s->has_failed = s->is_uncounted = false;
    s->has_bare_lf |= line->is_bare_lf;
    s->argument = arena_span(&s->scratch, line->text);
    s->verb = smtp_verb_parse(&s->argument, &s->command);
    if (!line_is_refused(s, line) && !refuse_out_of_turn(s, rest))
        smtp_command_run(s);
    finish_command(s);
}

static bool is_over_hard_limit(struct smtp_session *s)
{
    if (s->errors < s->params->smtpd_hard_error_limit)
        return false;
    smtp_say(s, 421, "4.7.0", "%s Error: too many errors", s->params->myhostname);
    s->close_reason = SMTP_CLOSE_ERRORS;
    return true;
}

/* False: more input is needed. */
static bool next_command(struct smtp_session *s, struct span *in)
{
    struct smtp_line_out line;
    if (is_over_hard_limit(s))
        return true;
    if (!smtp_line_next(&s->line, in, &line))
        return false;
    run_line(s, &line, *in);
    return true;
}

/* After a refused greeting only QUIT is served (spec 1.2). */
static bool next_denied(struct smtp_session *s, struct span *in)
{
    struct smtp_line_out line;
    if (is_over_hard_limit(s))
        return true;
    if (!smtp_line_next(&s->line, in, &line))
        return false;
    arena_fini(&s->scratch);
    s->has_failed = s->is_uncounted = false;
    s->argument = arena_span(&s->scratch, line.text);
    s->verb = smtp_verb_parse(&s->argument, &s->command);
    if (s->verb == SMTP_VERB_QUIT)
        smtp_command_run(s);
    else if (s->denial.code % 100 == 21)
        smtp_say_reply(s, &s->denial);
    else
        smtp_say(s, 503, "5.7.0", "Error: access denied for %s[%s]", s->peer.name,
                 s->peer.address);
    count_command(s);
    return true;
}

/* ------------------------------------------------------------ greeting */

static void greet(struct smtp_session *s)
{
    s->state = SMTP_STATE_COMMAND;
    if (s->has_talked_early && !s->may_talk_early
        && s->params->smtpd_forbid_unauth_pipelining) {
        smtp_say(s, 554, "5.5.0", "Error: SMTP protocol synchronization");
        smtp_close(s, SMTP_CLOSE_SYNC);
        return;
    }
    smtp_say(s, 220, NULL, "%s", s->params->smtpd_banner);
}

static void start(struct smtp_session *s, struct span in)
{
    if (in.len > 0)
        s->has_talked_early = true;
    if (s->has_talked_early)
        s->is_out_of_turn = true;
    smtp_ask_for(s, SMTP_ASK_CONNECT);
}

static void deny(struct smtp_session *s, const struct smtp_reply *reply)
{
    s->denial = *reply;
    s->denial.enhanced = arena_text(&s->peer.memory, span_of(reply->enhanced));
    s->denial.text = arena_text(&s->peer.memory, span_of(reply->text));
    s->state = SMTP_STATE_DENIED;
    smtp_say_reply(s, &s->denial);
}

/* ------------------------------------------------------------ body */

static bool is_over_size(struct smtp_session *s)
{
    int64_t limit = s->params->message_size_limit;
    if (limit > 0 && s->data.size_bytes > (uint64_t)limit)
        s->is_too_big = true;
    return s->is_too_big;
}

/* The driver hears of it, for the log. */
static void refuse_bytes(struct smtp_session *s, const struct smtp_reply *refusal)
{
    smtp_say_reply(s, refusal);
    s->refusal = *refusal;
    s->is_refusal_due = true;
}

static const struct smtp_reply too_big = { 552, "5.3.4", "Error: message file too big" };

/* Behind the last byte of a message: refuse it here, or let the driver make it durable. */
static void body_complete(struct smtp_session *s)
{
    struct smtp_reply refusal = { 0 };
    if (s->is_too_big)
        refusal = too_big;
    else if (s->data.bare_lf_count > 0 && s->features.bare_newline_reject)
        refusal = (struct smtp_reply){
            s->params->smtpd_forbid_bare_newline_reject_code, "5.5.2",
            arena_printf(&s->scratch, "%s Error: bare <LF> received", s->params->myhostname),
        };
    s->has_bare_lf |= s->data.bare_lf_count > 0;
    if (refusal.code == 0) {
        s->state = SMTP_STATE_COMMIT;
        return;
    }
    s->state = SMTP_STATE_COMMAND;
    refuse_bytes(s, &refusal);
    count_command(s);
    s->is_mail_over = true;
}

/* True: s->body holds bytes for the driver. */
static bool next_piece(struct smtp_session *s, struct span *in)
{
    while (smtp_data_next(&s->data, in, &s->body))
        if (!is_over_size(s)) /* past the limit the rest is read and thrown away */
            return true;
    s->body = span_make(NULL, 0); /* of a piece that was thrown away */
    return false;
}

static enum smtp_need next_data(struct smtp_session *s, struct span *in)
{
    if (next_piece(s, in))
        return SMTP_BODY;
    if (!s->data.is_ended)
        return SMTP_NEED_INPUT;
    body_complete(s);
    return SMTP_BODY; /* with an empty body: go on */
}

static void chunk_complete(struct smtp_session *s)
{
    s->state = SMTP_STATE_COMMAND;
    if (s->chunk_is_last && !s->chunk_is_skipped) {
        body_complete(s);
        return;
    }
    if (s->chunk_is_skipped)
        smtp_say_reply(s, &s->refusal);
    else if (s->is_too_big)
        refuse_bytes(s, &too_big);
    else
        smtp_say(s, 250, "2.0.0", "Ok: %llu bytes", (unsigned long long)s->chunk_bytes);
    if (s->is_too_big)
        s->bdat = BDAT_FAILED;
    count_command(s);
    if (s->chunk_is_last)
        smtp_mail_reset(s);
}

static enum smtp_need next_chunk(struct smtp_session *s, struct span *in)
{
    size_t n = in->len < s->chunk_left_bytes ? in->len : (size_t)s->chunk_left_bytes;
    struct span chunk = span_make(in->at, n);
    bool has_piece = false;
    if (!s->chunk_is_skipped)
        has_piece = next_piece(s, &chunk);
    else
        chunk = span_skip(chunk, n);
    n -= chunk.len; /* consumed now */
    *in = span_skip(*in, n);
    s->chunk_left_bytes -= n;
    if (has_piece)
        return SMTP_BODY;
    if (s->chunk_left_bytes > 0)
        return SMTP_NEED_INPUT;
    chunk_complete(s);
    return SMTP_BODY;
}

/* ------------------------------------------------------------ the machine */

static enum smtp_need step(struct smtp_session *s, struct span *in)
{
    switch (s->state) {
    case SMTP_STATE_START: start(s, *in); return SMTP_BODY;
    case SMTP_STATE_COMMAND: return next_command(s, in) ? SMTP_BODY : SMTP_NEED_INPUT;
    case SMTP_STATE_DENIED: return next_denied(s, in) ? SMTP_BODY : SMTP_NEED_INPUT;
    case SMTP_STATE_VERDICT: return SMTP_NEED_VERDICT;
    case SMTP_STATE_DATA: return next_data(s, in);
    case SMTP_STATE_BDAT: return next_chunk(s, in);
    case SMTP_STATE_COMMIT: return SMTP_NEED_COMMIT;
    case SMTP_STATE_TLS: return SMTP_NEED_TLS;
    case SMTP_STATE_CLOSE: return SMTP_CLOSE;
    }
    return SMTP_CLOSE;
}

static bool take(bool *flag)
{
    bool was = *flag;
    *flag = false;
    return was;
}

/* Inside, SMTP_BODY with an empty body means "a step was made, go on". */
enum smtp_need smtp_session_next(struct smtp_session *s, struct span *in, struct buf *out)
{
    s->out = out;
    for (;;) {
        if (take(&s->is_refusal_due))
            return SMTP_REJECTED;
        if (take(&s->is_mail_over)) /* the log still wanted its addresses */
            smtp_mail_reset(s);
        if (take(&s->is_reset_due))
            return SMTP_RESET;
        if (take(&s->is_sleep_due)) {
            s->sleep_ms = s->params->smtpd_error_sleep_time;
            return SMTP_SLEEP;
        }
        s->body = span_make(NULL, 0);
        enum smtp_need need = step(s, in);
        if (need != SMTP_BODY || s->body.len > 0)
            return need;
    }
}

static void answer_commit(struct smtp_session *s, const struct smtp_reply *reply)
{
    ENSURE(reply != NULL && reply->code != 0);
    s->has_failed = false;
    s->state = SMTP_STATE_COMMAND;
    smtp_say_reply(s, reply);
    if (!s->has_failed)
        s->errors = s->junk_commands = 0;
    count_command(s);
    s->mail.is_open = false; /* the driver knows: no SMTP_RESET */
    smtp_mail_reset(s);
}

void smtp_session_answer(struct smtp_session *s, const struct smtp_reply *reply, struct buf *out)
{
    s->out = out;
    if (s->state == SMTP_STATE_COMMIT) {
        answer_commit(s, reply);
        return;
    }
    ENSURE(s->state == SMTP_STATE_VERDICT);
    s->state = SMTP_STATE_COMMAND;
    bool is_refused = reply != NULL && reply->code != 0;
    if (s->ask == SMTP_ASK_CONNECT) { /* not a command: nothing to count */
        if (is_refused)
            deny(s, reply);
        else
            greet(s);
        return;
    }
    if (is_refused && s->verb == SMTP_VERB_BDAT) {
        smtp_chunk_skip(s, reply);
    } else if (!is_refused) {
        smtp_command_accepted(s);
    } else {
        smtp_say_reply(s, reply);
        if (s->ask == SMTP_ASK_HELO)
            smtp_helo_refused(s);
        if (s->ask == SMTP_ASK_COMMAND) {
            s->has_failed = true; /* 221 or not */
            smtp_close(s, SMTP_CLOSE_FORBIDDEN);
        }
    }
    finish_command(s);
}

void smtp_session_secured(struct smtp_session *s)
{
    s->is_tls = true;
    free(s->helo);
    s->helo = NULL;
    s->is_esmtp = false;
    smtp_line_fini(&s->line);
    if (s->state == SMTP_STATE_TLS) /* else: TLS from the first byte, the greeting is to come */
        s->state = SMTP_STATE_COMMAND;
}

void smtp_session_end(struct smtp_session *s, enum smtp_close_reason why,
                      const struct smtp_reply *reply, struct buf *out)
{
    s->out = out;
    s->close_reason = why;
    smtp_say_reply(s, reply);
    s->is_sleep_due = false;
    s->state = SMTP_STATE_CLOSE;
}

void smtp_session_timeout(struct smtp_session *s, struct buf *out)
{
    const char *text = arena_printf(&s->scratch, "%s Error: timeout exceeded",
                                    s->params->myhostname);
    smtp_session_end(s, SMTP_CLOSE_TIMEOUT, &(struct smtp_reply){ 421, "4.4.2", text }, out);
}
