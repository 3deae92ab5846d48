#include "protocol/smtp_client.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include <stdio.h>

enum reply { REPLY_NONE, REPLY_WHOLE, REPLY_BROKEN };

/* ------------------------------------------------------------ results */

static void set_result(struct smtp_client *c, struct smtp_client_rcpt *r,
                       struct smtp_client_result result)
{
    if (r->result.source != SMTP_CLIENT_NO_RESULT)
        return;
    r->result = result;
    r->result.text = text_escaped(c->mail.memory, span_of(result.text), SMTP_CLIENT_TEXT_MAX);
    r->result.enhanced = arena_text(c->mail.memory, span_of(result.enhanced));
}

/* The same for all who have none yet. */
static void set_results(struct smtp_client *c, struct smtp_client_result result)
{
    for (size_t i = 0; i < c->mail.count; i++)
        set_result(c, &c->mail.rcpts[i], result);
}

static struct smtp_client_result reply_result(struct smtp_client *c, const char *command)
{
    struct smtp_client_result result = { SMTP_CLIENT_SAID, c->code, c->enhanced,
                                         buf_text(&c->text), command };
    /* too many recipients: the others may come later (RFC 5321 4.5.3.1.10) */
    if (c->code == 552 && strcmp(c->enhanced, "5.5.3") == 0) {
        result.code = 452;
        result.enhanced = "4.5.3";
    }
    return result;
}

static bool is_yes(const struct smtp_client *c)
{
    return c->code / 100 == 2;
}

static bool is_no(const struct smtp_client *c)
{
    return c->code / 100 == 4 || c->code / 100 == 5;
}

const char *smtp_client_waits_for(const struct smtp_client *c)
{
    static const char *const names[SMTP_CLIENT_CLOSED + 1] = {
        [SMTP_CLIENT_GREETING] = "greeting", [SMTP_CLIENT_HELLO] = "EHLO",
        [SMTP_CLIENT_HELO] = "HELO",         [SMTP_CLIENT_STARTTLS] = "STARTTLS",
        [SMTP_CLIENT_HANDSHAKE] = "TLS handshake", [SMTP_CLIENT_MESSAGE] = "message body",
        [SMTP_CLIENT_DOT] = "end of DATA",   [SMTP_CLIENT_QUIT] = "QUIT",
    };
    if (c->step == SMTP_CLIENT_HELLO && c->is_lmtp)
        return "LHLO";
    if (c->step == SMTP_CLIENT_ENVELOPE)
        return c->answered == 0                ? "MAIL FROM"
               : c->answered <= c->mail.count ? "RCPT TO"
                                               : "DATA";
    return names[c->step] != NULL ? names[c->step] : "";
}

void smtp_client_lost(struct smtp_client *c, const char *why)
{
    char text[SMTP_CLIENT_TEXT_MAX];
    bool is_unknown = c->is_dot_sent;
    snprintf(text, sizeof text, "%s while waiting for %s", why, smtp_client_waits_for(c));
    if (c->mail.rcpts != NULL)
        set_results(c, (struct smtp_client_result){
                           is_unknown ? SMTP_CLIENT_UNKNOWN : SMTP_CLIENT_LOST, 451,
                           "4.4.2", text, smtp_client_waits_for(c) });
    c->mail.rcpts = NULL;
    c->mail.count = 0;
    c->step = SMTP_CLIENT_CLOSED;
}

/* ------------------------------------------------------------ replies */

static void begin_reply(struct smtp_client *c)
{
    buf_clear(&c->text);
    c->text.max = SMTP_CLIENT_LINE_MAX;
    c->enhanced[0] = '\0';
    c->reply_lines = c->reply_bytes = 0;
}

static bool read_code(struct span line, int *code)
{
    uint64_t number;
    if (line.len < 3 || (line.len > 3 && line.at[3] != ' ' && line.at[3] != '-')
        || !span_to_u64(span_make(line.at, 3), 599, &number) || number < 200)
        return false;
    *code = (int)number;
    return true;
}

/* An enhanced code counts only if it belongs to the reply code (RFC 2034 4). */
static void take_text(struct smtp_client *c, struct span text)
{
    size_t n = smtp_enhanced_length(text);
    if (n > 0 && n < sizeof c->enhanced && text.at[0] - '0' == c->code / 100) {
        memcpy(c->enhanced, text.at, n);
        c->enhanced[n] = '\0';
        text = span_trim(span_skip(text, n));
    }
    if (c->text.len > 0)
        buf_putc(&c->text, ' ');
    buf_add(&c->text, text);
}

struct keyword {
    const char *name;
    unsigned bit;
};

static void take_keyword(struct smtp_client *c, struct span text)
{
    static const struct keyword keywords[] = {
        { "PIPELINING", SMTP_CLIENT_HAS_PIPELINING }, { "SIZE", SMTP_CLIENT_HAS_SIZE },
        { "8BITMIME", SMTP_CLIENT_HAS_8BITMIME },     { "SMTPUTF8", SMTP_CLIENT_HAS_SMTPUTF8 },
        { "DSN", SMTP_CLIENT_HAS_DSN },               { "STARTTLS", SMTP_CLIENT_HAS_STARTTLS },
    };
    struct span word = span_next_word(&text), number = span_next_word(&text);
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (span_iequals(word, span_of(keywords[i].name)))
            c->offered |= keywords[i].bit;
    if (span_iequals(word, SPAN_LITERAL("SIZE")))
        span_to_u64(number, UINT64_MAX, &c->size_limit_bytes);
}

static void take_hello_line(struct smtp_client *c, struct span text)
{
    if (c->reply_lines > 1)
        take_keyword(c, text);
    else
        c->is_ourselves = span_iequals(span_next_word(&text), span_of(c->hello));
}

static enum reply take_line(struct smtp_client *c, struct span line)
{
    bool is_first = c->reply_lines == 0;
    int code;
    if (!read_code(line, &code) || ++c->reply_lines > SMTP_CLIENT_REPLY_LINES)
        return REPLY_BROKEN;
    if (!is_first && code != c->code)
        c->enhanced[0] = '\0';
    c->code = code; /* of several, the last one counts */
    struct span text = span_trim(span_skip(line, 4));
    take_text(c, text);
    if (c->step == SMTP_CLIENT_HELLO && code == 250)
        take_hello_line(c, text);
    return line.len > 3 && line.at[3] == '-' ? REPLY_NONE : REPLY_WHOLE;
}

static enum reply read_reply(struct smtp_client *c, struct span *in)
{
    struct smtp_line_out line;
    for (;;) {
        size_t before = in->len;
        bool is_line = smtp_line_next(&c->line, in, &line);
        c->reply_bytes += before - in->len;
        if (c->reply_bytes > SMTP_CLIENT_REPLY_BYTES)
            return REPLY_BROKEN;
        if (!is_line)
            return REPLY_NONE;
        enum reply reply = take_line(c, line.text);
        if (reply != REPLY_NONE)
            return reply;
    }
}

/* ------------------------------------------------------------ hello */

static void refuse(struct smtp_client *c)
{
    struct arena *memory = &c->refusal_memory;
    c->refusal = reply_result(c, smtp_client_waits_for(c));
    c->refusal.text = text_escaped(memory, span_of(c->refusal.text), SMTP_CLIENT_TEXT_MAX);
    c->refusal.enhanced = arena_text(memory, span_of(c->refusal.enhanced));
    c->has_refused = true;
    c->step = SMTP_CLIENT_CLOSED;
}

static void send_hello(struct smtp_client *c, struct buf *out)
{
    c->offered = 0;
    c->size_limit_bytes = 0;
    c->step = SMTP_CLIENT_HELLO;
    buf_printf(out, "%s %s\r\n", c->is_lmtp ? "LHLO" : "EHLO", c->hello);
}

static void on_greeting(struct smtp_client *c, struct buf *out)
{
    if (c->code == 220)
        send_hello(c, out);
    else
        refuse(c);
}

/* What a peer without encryption gets when it must have it. */
static void refuse_plaintext(struct smtp_client *c)
{
    c->code = 451;
    snprintf(c->enhanced, sizeof c->enhanced, "4.7.4");
    buf_clear(&c->text);
    buf_puts(&c->text, "TLS is required, but was not offered");
    refuse(c);
}

static void end_hello(struct smtp_client *c, struct buf *out)
{
    bool has_tls = (c->offered & SMTP_CLIENT_HAS_STARTTLS) != 0;
    if (!c->is_tls && has_tls && (c->wants_tls || c->needs_tls)) {
        c->step = SMTP_CLIENT_STARTTLS;
        buf_puts(out, "STARTTLS\r\n");
    } else if (!c->is_tls && c->needs_tls) {
        refuse_plaintext(c);
    } else {
        c->step = SMTP_CLIENT_IDLE;
    }
}

static void on_hello(struct smtp_client *c, struct buf *out)
{
    if (is_yes(c)) {
        end_hello(c, out);
    } else if (c->code / 100 == 5 && !c->is_lmtp && c->step == SMTP_CLIENT_HELLO) {
        c->offered = 0;
        c->step = SMTP_CLIENT_HELO;
        buf_printf(out, "HELO %s\r\n", c->hello);
    } else {
        refuse(c);
    }
}

static void on_starttls(struct smtp_client *c, struct buf *out)
{
    (void)out;
    if (c->code == 220)
        c->step = SMTP_CLIENT_HANDSHAKE;
    else if (c->needs_tls || c->code == 421)
        refuse(c);
    else
        c->step = SMTP_CLIENT_IDLE; /* as if it had not been offered */
}

void smtp_client_secured(struct smtp_client *c)
{
    smtp_line_fini(&c->line);
    begin_reply(c);
    c->is_tls = true;
}

/* ------------------------------------------------------------ what the peer cannot take */

static bool has(const struct smtp_client *c, unsigned bit)
{
    return (c->offered & bit) != 0;
}

/* Such an address would end the command: nothing that parses has it. */
static bool is_sendable(struct span address)
{
    for (size_t i = 0; i < address.len; i++)
        if ((unsigned char)address.at[i] < ' ' || address.at[i] == 0x7f)
            return false;
    return address.len <= 1024;
}

static void judge_address(struct smtp_client *c, struct smtp_client_rcpt *r, struct span address)
{
    if (!is_sendable(address))
        set_result(c, r, (struct smtp_client_result){ SMTP_CLIENT_UNABLE, 553, "5.1.3",
                                                      "malformed address", "" });
    else if (!text_is_ascii(address) && !has(c, SMTP_CLIENT_HAS_SMTPUTF8))
        set_result(c, r, (struct smtp_client_result){
                             SMTP_CLIENT_UNABLE, 553, "5.6.7",
                             "SMTPUTF8 is required, but was not offered", "" });
}

static void judge_size(struct smtp_client *c)
{
    char text[120];
    uint64_t size = c->mail.params.size_bytes;
    if (c->size_limit_bytes == 0 || size <= c->size_limit_bytes)
        return;
    snprintf(text, sizeof text, "message size %llu exceeds size limit %llu of server",
             (unsigned long long)size, (unsigned long long)c->size_limit_bytes);
    set_results(c, (struct smtp_client_result){ SMTP_CLIENT_UNABLE, 552, "5.3.4", text, "" });
}

static bool all_have_results(const struct smtp_client *c)
{
    for (size_t i = 0; i < c->mail.count; i++)
        if (c->mail.rcpts[i].result.source == SMTP_CLIENT_NO_RESULT)
            return false;
    return true;
}

static void end_transaction(struct smtp_client *c, struct buf *out, bool is_open)
{
    if (is_open) {
        buf_puts(out, "RSET\r\n");
        c->skip++;
    }
    c->mail.rcpts = NULL;
    c->mail.count = 0;
    c->step = SMTP_CLIENT_IDLE;
}

void smtp_client_send(struct smtp_client *c, const struct smtp_client_mail *mail)
{
    ENSURE(c->step == SMTP_CLIENT_IDLE && mail->count > 0);
    c->mail = *mail;
    c->sent = c->answered = c->accepted = c->dot_answered = 0;
    c->is_mail_refused = c->is_dot_sent = c->is_dsn_passed = c->has_held_cr = false;
    c->is_line_start = true;
    for (size_t i = 0; i < mail->count; i++) {
        mail->rcpts[i].is_accepted = false;
        mail->rcpts[i].result = (struct smtp_client_result){ 0 };
        judge_address(c, &mail->rcpts[i], mail->sender);
        judge_address(c, &mail->rcpts[i], mail->rcpts[i].address);
    }
    judge_size(c);
    for (size_t i = 0; i < mail->count; i++)
        mail->rcpts[i].is_left_out = mail->rcpts[i].result.source != SMTP_CLIENT_NO_RESULT;
    if (!all_have_results(c))
        c->step = SMTP_CLIENT_ENVELOPE;
    else
        end_transaction(c, NULL, false);
}

/* ------------------------------------------------------------ the envelope */

static void put_path(struct buf *out, const char *command, struct span address)
{
    buf_printf(out, "%s:<", command);
    smtp_path_quote(out, address);
    buf_putc(out, '>');
}

static void put_mail(struct smtp_client *c, struct buf *out)
{
    static const char *const ret[] = { [SMTP_RET_DEFAULT] = "", [SMTP_RET_FULL] = " RET=FULL",
                                       [SMTP_RET_HDRS] = " RET=HDRS" };
    const struct smtp_mail_params *p = &c->mail.params;
    put_path(out, "MAIL FROM", c->mail.sender);
    if (p->size_bytes > 0 && has(c, SMTP_CLIENT_HAS_SIZE))
        buf_printf(out, " SIZE=%llu", (unsigned long long)p->size_bytes);
    if (p->is_8bitmime && has(c, SMTP_CLIENT_HAS_8BITMIME))
        buf_puts(out, " BODY=8BITMIME");
    if (p->is_smtputf8 && has(c, SMTP_CLIENT_HAS_SMTPUTF8))
        buf_puts(out, " SMTPUTF8");
    if (has(c, SMTP_CLIENT_HAS_DSN)) {
        c->is_dsn_passed = true;
        buf_puts(out, ret[p->ret]);
        if (p->envid.len > 0)
            buf_printf(out, " ENVID=%.*s", (int)p->envid.len, p->envid.at);
    }
    buf_puts(out, "\r\n");
}

static void put_notify(struct buf *out, unsigned notify)
{
    static const struct keyword words[] = { { "NEVER", SMTP_NOTIFY_NEVER },
                                            { "SUCCESS", SMTP_NOTIFY_SUCCESS },
                                            { "FAILURE", SMTP_NOTIFY_FAILURE },
                                            { "DELAY", SMTP_NOTIFY_DELAY } };
    const char *separator = " NOTIFY=";
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if ((notify & words[i].bit) == 0)
            continue;
        buf_printf(out, "%s%s", separator, words[i].name);
        separator = ",";
    }
}

static void put_rcpt(struct smtp_client *c, struct buf *out, const struct smtp_client_rcpt *r)
{
    put_path(out, "RCPT TO", r->address);
    if (has(c, SMTP_CLIENT_HAS_DSN)) {
        put_notify(out, r->notify);
        if (r->orcpt.len > 0)
            buf_printf(out, " ORCPT=%.*s", (int)r->orcpt.len, r->orcpt.at);
    }
    buf_puts(out, "\r\n");
}

/* The recipient of command n; NULL for MAIL and DATA. */
static struct smtp_client_rcpt *rcpt_of(const struct smtp_client *c, size_t n)
{
    return n >= 1 && n <= c->mail.count ? &c->mail.rcpts[n - 1] : NULL;
}

static bool is_left_out(const struct smtp_client *c, size_t n)
{
    const struct smtp_client_rcpt *r = rcpt_of(c, n);
    return r != NULL && r->is_left_out;
}

/* Recipients that were left out have nothing to wait for. */
static void pass_left_out(struct smtp_client *c)
{
    while (c->answered < c->sent && is_left_out(c, c->answered))
        c->answered++;
}

static bool is_pointless(const struct smtp_client *c)
{
    if (c->is_mail_refused)
        return true;
    return c->sent == c->mail.count + 1
           && (c->mail.is_question || (c->answered == c->sent && c->accepted == 0));
}

/* Commands as far ahead as the peer allows. */
static void send_more(struct smtp_client *c, struct buf *out)
{
    size_t ahead = has(c, SMTP_CLIENT_HAS_PIPELINING) ? SMTP_CLIENT_WINDOW : 1;
    size_t end = c->mail.count + 2;
    while (c->sent < end && c->sent - c->answered < ahead && !is_pointless(c)) {
        if (c->sent == 0)
            put_mail(c, out);
        else if (c->sent == end - 1)
            buf_puts(out, "DATA\r\n");
        else if (!is_left_out(c, c->sent))
            put_rcpt(c, out, rcpt_of(c, c->sent));
        c->sent++;
        pass_left_out(c);
    }
}

static void on_mail(struct smtp_client *c)
{
    if (is_yes(c))
        return;
    set_results(c, reply_result(c, "MAIL FROM"));
    c->is_mail_refused = true;
}

static void on_rcpt(struct smtp_client *c, struct smtp_client_rcpt *r)
{
    if (c->is_mail_refused)
        return;
    r->is_accepted = is_yes(c);
    c->accepted += r->is_accepted;
    if (!r->is_accepted || c->mail.is_question)
        set_result(c, r, reply_result(c, "RCPT TO"));
}

/* A message without recipients is never begun, whatever the peer says. */
static void on_data(struct smtp_client *c)
{
    if (is_no(c))
        set_results(c, reply_result(c, "DATA"));
    else if (c->accepted > 0)
        c->step = SMTP_CLIENT_MESSAGE;
    else
        smtp_client_lost(c, "unexpected reply");
}

/* The group is answered as far as it was sent, and nothing more is to be said. */
static void end_if_answered(struct smtp_client *c, struct buf *out)
{
    if (c->step == SMTP_CLIENT_ENVELOPE && c->answered == c->sent
        && (c->sent == c->mail.count + 2 || is_pointless(c)))
        end_transaction(c, out, !c->is_mail_refused);
}

static void on_envelope(struct smtp_client *c, struct buf *out)
{
    size_t n = c->answered++;
    struct smtp_client_rcpt *r = rcpt_of(c, n);
    if (n == 0)
        on_mail(c);
    else if (r != NULL)
        on_rcpt(c, r);
    else
        on_data(c);
    pass_left_out(c);
    end_if_answered(c, out);
}

/* ------------------------------------------------------------ the message */

/* Up to the next CR or LF. */
static size_t text_length(struct span in)
{
    size_t n = span_find(in, '\n');
    const char *cr = memchr(in.at, '\r', n);
    return cr != NULL ? (size_t)(cr - in.at) : n;
}

static void put_line_end(struct smtp_client *c, struct buf *out)
{
    buf_append(out, "\r\n", 2);
    c->is_line_start = true;
}

/* The octet behind a CR is there: LF makes it a line end, anything else a blank. */
static void settle_cr(struct smtp_client *c, struct span *in, struct buf *out)
{
    c->has_held_cr = false;
    if (in->at[0] == '\n') {
        put_line_end(c, out);
        *in = span_skip(*in, 1);
    } else {
        buf_putc(out, ' ');
        c->is_line_start = false;
    }
}

static void put_text(struct smtp_client *c, struct span text, struct buf *out)
{
    if (text.len == 0)
        return;
    if (c->is_line_start && text.at[0] == '.')
        buf_putc(out, '.');
    buf_add(out, text);
    c->is_line_start = false;
}

void smtp_client_body(struct smtp_client *c, struct span bytes, struct buf *out)
{
    while (bytes.len > 0) {
        if (c->has_held_cr) {
            settle_cr(c, &bytes, out);
            continue;
        }
        size_t n = text_length(bytes);
        put_text(c, span_make(bytes.at, n), out);
        bytes = span_skip(bytes, n);
        if (bytes.len == 0)
            return;
        if (bytes.at[0] == '\r')
            c->has_held_cr = true;
        else
            put_line_end(c, out);
        bytes = span_skip(bytes, 1);
    }
}

void smtp_client_body_end(struct smtp_client *c, struct buf *out)
{
    ENSURE(c->step == SMTP_CLIENT_MESSAGE);
    if (c->has_held_cr || !c->is_line_start)
        put_line_end(c, out);
    c->has_held_cr = false;
    buf_puts(out, ".\r\n");
    c->is_dot_sent = true;
    c->step = SMTP_CLIENT_DOT;
}

/* The next recipient that waits for an answer to the dot; NULL: none. */
static struct smtp_client_rcpt *next_owed(struct smtp_client *c)
{
    while (c->dot_answered < c->mail.count) {
        struct smtp_client_rcpt *r = &c->mail.rcpts[c->dot_answered];
        if (r->is_accepted && r->result.source == SMTP_CLIENT_NO_RESULT)
            return r;
        c->dot_answered++;
    }
    return NULL;
}

static void on_dot(struct smtp_client *c, struct buf *out)
{
    struct smtp_client_result result = reply_result(c, "end of DATA");
    if (!c->is_lmtp)
        set_results(c, result);
    else
        set_result(c, next_owed(c), result);
    if (next_owed(c) == NULL)
        end_transaction(c, out, false);
}

/* ------------------------------------------------------------ the conversation */

/* While nothing is open only the answer to RSET may come. */
static void on_idle(struct smtp_client *c, struct buf *out)
{
    (void)out;
    if (c->skip > 0 && is_yes(c))
        c->skip--;
    else
        c->step = SMTP_CLIENT_CLOSED;
}

static void on_quit(struct smtp_client *c, struct buf *out)
{
    (void)out;
    c->step = SMTP_CLIENT_CLOSED;
}

static const struct step {
    void (*on_reply)(struct smtp_client *c, struct buf *out);
    enum smtp_client_need need;
    bool is_quiet; /* no reply is waited for */
} steps[] = {
    [SMTP_CLIENT_GREETING] = { on_greeting, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_HELLO] = { on_hello, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_HELO] = { on_hello, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_STARTTLS] = { on_starttls, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_HANDSHAKE] = { NULL, SMTP_CLIENT_TLS, true },
    [SMTP_CLIENT_IDLE] = { on_idle, SMTP_CLIENT_READY, false },
    [SMTP_CLIENT_ENVELOPE] = { on_envelope, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_MESSAGE] = { NULL, SMTP_CLIENT_BODY, true },
    [SMTP_CLIENT_DOT] = { on_dot, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_QUIT] = { on_quit, SMTP_CLIENT_INPUT, false },
    [SMTP_CLIENT_CLOSED] = { NULL, SMTP_CLIENT_CLOSE, true },
};

/* 421: it answers for everybody who still waits, and nothing else will come. Behind the dot of
 * LMTP it is one recipient's answer, and what became of the others is open. */
static void on_closing(struct smtp_client *c)
{
    struct smtp_client_result result = reply_result(c, smtp_client_waits_for(c));
    if (c->is_dot_sent && c->is_lmtp) {
        set_result(c, next_owed(c), result);
        result.source = SMTP_CLIENT_UNKNOWN;
    }
    set_results(c, result);
    smtp_client_lost(c, "closed");
}

/* 3xx belongs to DATA, and 2xx to all else. */
static bool is_odd(const struct smtp_client *c)
{
    bool is_data = c->step == SMTP_CLIENT_ENVELOPE && c->answered == c->mail.count + 1;
    return !is_no(c) && is_yes(c) == is_data;
}

static void on_transaction_reply(struct smtp_client *c, struct buf *out)
{
    if (c->skip > 0 && is_yes(c))
        c->skip--;
    else if (c->skip > 0)
        smtp_client_lost(c, "RSET was refused");
    else if (c->code == 421)
        on_closing(c);
    else if (is_odd(c))
        smtp_client_lost(c, "unexpected reply");
    else
        steps[c->step].on_reply(c, out);
}

static void on_reply(struct smtp_client *c, struct buf *out)
{
    if (c->mail.rcpts != NULL)
        on_transaction_reply(c, out);
    else
        steps[c->step].on_reply(c, out);
    begin_reply(c);
}

enum smtp_client_need smtp_client_next(struct smtp_client *c, struct span *in, struct buf *out)
{
    if (c->step == SMTP_CLIENT_HANDSHAKE && c->is_tls)
        send_hello(c, out);
    while (!steps[c->step].is_quiet) {
        if (c->step == SMTP_CLIENT_ENVELOPE) {
            send_more(c, out);
            end_if_answered(c, out); /* those who are left were left out */
        }
        enum reply reply = read_reply(c, in);
        if (reply == REPLY_NONE)
            break;
        if (reply == REPLY_BROKEN)
            smtp_client_lost(c, "malformed or endless reply");
        else
            on_reply(c, out);
    }
    return steps[c->step].need;
}

void smtp_client_quit(struct smtp_client *c, struct buf *out)
{
    if (c->step != SMTP_CLIENT_IDLE)
        return;
    buf_puts(out, "QUIT\r\n");
    c->step = SMTP_CLIENT_QUIT;
}

void smtp_client_begin(struct smtp_client *c)
{
    c->line.limit_bytes = SMTP_CLIENT_LINE_MAX;
    c->step = SMTP_CLIENT_GREETING;
    begin_reply(c);
}

void smtp_client_fini(struct smtp_client *c)
{
    smtp_line_fini(&c->line);
    buf_fini(&c->text);
    arena_fini(&c->refusal_memory);
}
