/* The client machine for LMTP and SMTP against any peer: the input is all the peer says. Each
 * recipient has one printable result, what is sent is commands, and a message ends once, where it
 * should; the same whether a line comes whole or in pieces. (What comes behind a line at once may
 * be out of turn: that is seen only then, so it is not compared.) */
#include "fuzz/fuzz.h"
#include "protocol/smtp_client.h"
#include "protocol/smtp_data.h"

enum { RCPTS_MAX = 4, TRANSACTIONS = 3 };

struct run {
    struct fuzz *f;
    struct smtp_client c;
    struct buf out; /* commands and message as they go out */
    struct buf seen; /* owns: all that was sent, and the results */
    struct smtp_client_rcpt rcpts[RCPTS_MAX];
    size_t rcpt_count;
    int transactions;
    bool has_dot, is_over, is_open;
};

static void check_result(const struct smtp_client_rcpt *r, const struct run *run)
{
    const struct smtp_client_result *result = &r->result;
    ENSURE(result->source != SMTP_CLIENT_NO_RESULT);
    ENSURE(result->code >= 200 && result->code <= 599);
    ENSURE(fuzz_is_printable(span_of(result->text)));
    ENSURE(strlen(result->text) <= SMTP_CLIENT_TEXT_MAX + 3);
    ENSURE(fuzz_is_printable(span_of(result->enhanced)));
    if (smtp_client_is_good(result) && !run->c.mail.is_question)
        ENSURE(r->is_accepted && run->has_dot);
    if (result->source == SMTP_CLIENT_UNKNOWN)
        ENSURE(run->has_dot);
}

static void end_transaction(struct run *r)
{
    for (size_t i = 0; r->is_open && i < r->rcpt_count; i++) {
        check_result(&r->rcpts[i], r);
        buf_printf(&r->seen, "(%d %d %s %s)\n", r->rcpts[i].result.source,
                   r->rcpts[i].result.code, r->rcpts[i].result.enhanced,
                   r->rcpts[i].result.text);
    }
    r->is_open = false;
}

/* Commands are lines, and one is a command. */
static void take_commands(struct run *r)
{
    struct span rest = buf_span(&r->out);
    while (rest.len > 0) {
        size_t end = span_find(rest, '\n');
        ENSURE(end < rest.len && end > 0 && rest.at[end - 1] == '\r');
        ENSURE(fuzz_is_printable(span_make(rest.at, end - 1)));
        ENSURE(ascii_is_alpha(rest.at[0]));
        rest = span_skip(rest, end + 1);
    }
    buf_add(&r->seen, buf_span(&r->out));
    buf_clear(&r->out);
}

/* By DATA's rules the peer sees the end where we do, and nowhere else. */
static void send_message(struct run *r)
{
    static const char *const messages[] = {
        "", "x", ".", "\r\n.\r\n", "a\n.\nb\r.\r\n..\r\n", "Subject: x\r\n\r\ntext\r\n",
    };
    struct smtp_data d;
    struct span piece, message = span_of(messages[r->f->seed % ARRAY_LEN(messages)]);
    take_commands(r);
    while (fuzz_piece(r->f, &message, &piece))
        smtp_client_body(&r->c, piece, &r->out);
    smtp_client_body_end(&r->c, &r->out);
    struct span wire = buf_span(&r->out);
    smtp_data_begin(&d, false);
    while (smtp_data_next(&d, &wire, &piece))
        ;
    ENSURE(d.is_ended && wire.len == 0 && d.bare_lf_count == 0 && d.bare_cr_count == 0);
    buf_clear(&r->out);
    r->has_dot = true;
}

static void begin_transaction(struct run *r)
{
    r->rcpt_count = 1 + r->f->seed / 4 % RCPTS_MAX;
    for (size_t i = 0; i < r->rcpt_count; i++)
        r->rcpts[i] = (struct smtp_client_rcpt){
            .address = i == 1 ? SPAN_LITERAL("\xc3\xa9@b.test") : SPAN_LITERAL("a b@b.test"),
            .notify = SMTP_NOTIFY_NEVER, .orcpt = SPAN_LITERAL("rfc822;x"),
        };
    const struct smtp_client_mail mail = {
        .sender = SPAN_LITERAL("s@a.test"), .rcpts = r->rcpts, .count = r->rcpt_count,
        .is_question = r->f->seed / 16 % 4 == 0, .memory = &r->f->memory,
        .params = { .size_bytes = 100, .is_8bitmime = true, .envid = SPAN_LITERAL("id") },
    };
    r->is_open = true;
    r->has_dot = false;
    smtp_client_send(&r->c, &mail);
}

/* True: go on with the same input. */
static bool step(struct run *r, enum smtp_client_need need)
{
    if (need != SMTP_CLIENT_BODY)
        take_commands(r);
    switch (need) {
    case SMTP_CLIENT_INPUT: return false;
    case SMTP_CLIENT_READY:
        end_transaction(r);
        if (r->transactions++ < TRANSACTIONS)
            begin_transaction(r);
        else
            smtp_client_quit(&r->c, &r->out);
        break;
    case SMTP_CLIENT_BODY: send_message(r); break;
    case SMTP_CLIENT_TLS: /* the rest is thrown away */
        smtp_client_secured(&r->c);
        r->is_over = true;
        return false;
    case SMTP_CLIENT_CLOSE:
        r->is_over = true;
        return false;
    }
    return true;
}

static void feed(struct run *r, struct span piece)
{
    enum smtp_client_need need;
    do {
        need = smtp_client_next(&r->c, &piece, &r->out);
        ENSURE(r->c.line.partial.len <= SMTP_CLIENT_LINE_MAX + 1);
        ENSURE(r->c.text.len <= SMTP_CLIENT_LINE_MAX);
    } while (step(r, need));
    ENSURE(r->is_over || piece.len == 0);
}

static struct span cut_line(struct span *text)
{
    size_t end = span_find(*text, '\n');
    struct span line = span_make(text->at, end < text->len ? end + 1 : end);
    *text = span_skip(*text, line.len);
    return line;
}

static void run(struct run *r, struct fuzz *f, bool is_by_line)
{
    struct span text = f->text, piece;
    *r = (struct run){ .f = f };
    r->c.is_lmtp = f->seed % 2 == 0;
    r->c.wants_tls = f->seed % 4 >= 2;
    r->c.hello = "mx.example.org";
    smtp_client_begin(&r->c);
    while (!r->is_over && text.len > 0) {
        struct span part = is_by_line ? cut_line(&text) : text;
        while (!r->is_over && fuzz_piece(f, &part, &piece))
            feed(r, piece);
        if (!is_by_line)
            break;
    }
    take_commands(r);
    if (r->is_open) {
        smtp_client_lost(&r->c, "connection reset by peer");
        end_transaction(r);
    }
    smtp_client_fini(&r->c);
    buf_fini(&r->out);
}

void fuzz_one(struct fuzz *f)
{
    struct run pieces, lines, whole;
    run(&pieces, f, true);
    fuzz_cut_whole(f);
    run(&lines, f, true);
    run(&whole, f, false);
    ENSURE(span_equals(buf_span(&pieces.seen), buf_span(&lines.seen)));
    buf_fini(&pieces.seen);
    buf_fini(&lines.seen);
    buf_fini(&whole.seen);
}
