#include "protocol/mem.h"
#include "protocol/smtp_client.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>

/* A dialogue as a text of lines: "<" what the peer says, "<EOF" it hangs up, ">" what the client
 * must say. Everything between two ">" lines arrives in pieces of the size given. */
struct talk {
    struct smtp_client c;
    struct smtp_client_mail mail;
    struct smtp_client_rcpt rcpts[4];
    struct arena memory;
    const char *body;
    struct buf out;   /* what the client has said and nobody has expected yet */
    bool is_begun, is_closed, is_quitting;
};

static void answer_need(struct talk *t, enum smtp_client_need need)
{
    struct span none = { 0 };
    if (need == SMTP_CLIENT_READY && !t->is_begun) {
        t->is_begun = true;
        smtp_client_send(&t->c, &t->mail);
        answer_need(t, smtp_client_next(&t->c, &none, &t->out));
    } else if (need == SMTP_CLIENT_READY && !t->is_quitting) {
        t->is_quitting = true;
        smtp_client_quit(&t->c, &t->out);
    } else if (need == SMTP_CLIENT_BODY) {
        for (const char *b = t->body; *b != '\0'; b++)
            smtp_client_body(&t->c, span_make(b, 1), &t->out);
        smtp_client_body_end(&t->c, &t->out);
        answer_need(t, smtp_client_next(&t->c, &none, &t->out));
    } else if (need == SMTP_CLIENT_TLS) {
        buf_puts(&t->out, "(TLS)\r\n");
        smtp_client_secured(&t->c);
        answer_need(t, smtp_client_next(&t->c, &none, &t->out));
    }
    t->is_closed |= need == SMTP_CLIENT_CLOSE;
}

static void feed(struct talk *t, struct span in, size_t chunk)
{
    while (in.len > 0 && !t->is_closed) {
        size_t n = in.len < chunk ? in.len : chunk;
        char *piece = xmalloc(n); /* nobody reads behind it */
        memcpy(piece, in.at, n);
        struct span rest = span_make(piece, n);
        enum smtp_client_need need;
        do {
            size_t before = rest.len;
            need = smtp_client_next(&t->c, &rest, &t->out);
            if (need == SMTP_CLIENT_TLS)
                rest.len = 0;
            answer_need(t, need);
            cr_assert(rest.len < before || need != SMTP_CLIENT_INPUT || before == 0);
        } while (rest.len > 0 && !t->is_closed);
        free(piece);
        in = span_skip(in, n);
    }
}

static void play(struct talk *t, const char *script, size_t chunk)
{
    struct buf peer = { 0 };
    struct span rest = span_of(script);
    while (rest.len > 0) {
        size_t end = span_find(rest, '\n');
        struct span line = span_make(rest.at, end);
        rest = span_skip(rest, end + 1);
        if (span_equals(line, SPAN_LITERAL("<EOF"))) {
            feed(t, buf_span(&peer), chunk);
            buf_clear(&peer);
            smtp_client_lost(&t->c, "connection lost");
            t->is_closed = true;
        } else if (line.at[0] == '<') {
            buf_add(&peer, span_skip(line, 1));
            buf_puts(&peer, "\r\n");
        } else {
            feed(t, buf_span(&peer), chunk);
            buf_clear(&peer);
            struct span want = span_skip(line, 1), have = buf_span(&t->out);
            cr_assert(have.len >= want.len + 2 && memcmp(have.at, want.at, want.len) == 0
                          && memcmp(have.at + want.len, "\r\n", 2) == 0,
                      "chunk %zu: wanted \"%.*s\", have \"%.*s\"", chunk, (int)want.len, want.at,
                      (int)have.len, have.at);
            buf_drop(&t->out, want.len + 2);
        }
    }
    feed(t, buf_span(&peer), chunk);
    cr_expect_eq(t->out.len, 0, "chunk %zu: too much: \"%s\"", chunk, buf_text(&t->out));
    buf_fini(&peer);
}

static void describe(const struct talk *t, struct buf *out)
{
    static const char *const sources[] = { "none", "said", "unable", "lost", "unknown" };
    for (size_t i = 0; i < t->mail.count; i++) {
        const struct smtp_client_result *r = &t->rcpts[i].result;
        buf_printf(out, "%s%s %d %s|%s|%s", i > 0 ? "; " : "", sources[r->source], r->code,
                   r->enhanced != NULL ? r->enhanced : "", r->text != NULL ? r->text : "",
                   r->command != NULL ? r->command : "");
    }
}

struct row {
    const char *name;
    bool is_lmtp, wants_tls, needs_tls, is_question;
    const char *sender, *to[4];
    struct smtp_mail_params params;
    const char *body, *script, *results;
    bool is_closed; /* at the end */
};

static void begin(struct talk *t, const struct row *row)
{
    *t = (struct talk){ .c = { .is_lmtp = row->is_lmtp, .wants_tls = row->wants_tls,
                               .needs_tls = row->needs_tls, .hello = "me.test" },
                        .body = row->body != NULL ? row->body : "hi\r\n" };
    t->mail = (struct smtp_client_mail){ .sender = span_of(row->sender), .params = row->params,
                                         .rcpts = t->rcpts, .is_question = row->is_question,
                                         .memory = &t->memory };
    for (; t->mail.count < 4 && row->to[t->mail.count] != NULL; t->mail.count++)
        t->rcpts[t->mail.count].address = span_of(row->to[t->mail.count]);
    smtp_client_begin(&t->c);
}

static void end(struct talk *t)
{
    smtp_client_fini(&t->c);
    arena_fini(&t->memory);
    buf_fini(&t->out);
}

static void run_row(const struct row *row)
{
    for (size_t chunk = 1; chunk < 200; chunk += chunk < 8 ? 1 : 37) {
        struct talk t;
        struct buf got = { 0 };
        begin(&t, row);
        play(&t, row->script, chunk);
        describe(&t, &got);
        cr_expect_str_eq(buf_text(&got), row->results, "%s, chunk %zu: %s", row->name, chunk,
                         buf_text(&got));
        cr_expect_eq(t.is_closed, row->is_closed, "%s, chunk %zu", row->name, chunk);
        buf_fini(&got);
        end(&t);
    }
}

#define PIPE "<220 hi\n>LHLO me.test\n<250-peer\n<250 PIPELINING\n>MAIL FROM:<s@a>\n"
#define PLAIN "<220 hi\n>LHLO me.test\n<250 peer\n>MAIL FROM:<s@a>\n"
#define SMTP "<220 hi\n>EHLO me.test\n<250 peer\n>MAIL FROM:<s@a>\n"
#define TWO .is_lmtp = true, .sender = "s@a", .to = { "b@c", "d@e" }
#define ONE .is_lmtp = true, .sender = "s@a", .to = { "b@c" }

static const struct row rows[] = {
    { "LMTP, one command at a time", TWO,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 2.1.5 ok\n>RCPT TO:<d@e>\n<250 ok\n>DATA\n"
                      "<354 go\n>hi\n>.\n<250 2.0.0 one\n<250 2.0.0 two\n>QUIT\n",
      .results = "said 250 2.0.0|one|end of DATA; said 250 2.0.0|two|end of DATA" },
    { "LMTP, all at once", TWO,
      .script = PIPE ">RCPT TO:<b@c>\n>RCPT TO:<d@e>\n>DATA\n<250 ok\n<250 ok\n<250 ok\n<354 go\n"
                     ">hi\n>.\n<250 2.0.0 one\n<452 4.2.2 full\n>QUIT\n<221 bye\n",
      .results = "said 250 2.0.0|one|end of DATA; said 452 4.2.2|full|end of DATA",
      .is_closed = true },
    { "a recipient is refused, the dot answers for the other", TWO,
      .script = PIPE ">RCPT TO:<b@c>\n>RCPT TO:<d@e>\n>DATA\n<250 ok\n<550 5.1.1 who\n<250 ok\n"
                     "<354 go\n>hi\n>.\n<250 2.0.0 two\n>QUIT\n",
      .results = "said 550 5.1.1|who|RCPT TO; said 250 2.0.0|two|end of DATA" },
    { "all recipients are refused, one at a time", TWO,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<550 5.1.1 who\n>RCPT TO:<d@e>\n<450 later\n"
                      ">RSET\n>QUIT\n",
      .results = "said 550 5.1.1|who|RCPT TO; said 450 |later|RCPT TO" },
    { "all are refused, DATA too", ONE,
      .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<250 ok\n<550 5.1.1 who\n<503 5.5.1 none\n>RSET\n"
                     ">QUIT\n",
      .results = "said 550 5.1.1|who|RCPT TO" },
    { "all are refused, but the message is asked for: not even a dot", ONE,
      .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<250 ok\n<550 5.1.1 who\n<354 go\n",
      .results = "said 550 5.1.1|who|RCPT TO", .is_closed = true },
    { "MAIL is refused, one at a time", TWO, .script = PLAIN "<552 5.3.4 no\n>QUIT\n",
      .results = "said 552 5.3.4|no|MAIL FROM; said 552 5.3.4|no|MAIL FROM" },
    { "MAIL is refused, all at once", ONE,
      .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<552 5.3.4 no\n<503 x\n<503 x\n>QUIT\n",
      .results = "said 552 5.3.4|no|MAIL FROM" },
    { "DATA is refused", TWO,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>RCPT TO:<d@e>\n<550 5.1.1 who\n>DATA\n"
                      "<451 4.3.0 later\n>RSET\n>QUIT\n",
      .results = "said 451 4.3.0|later|DATA; said 550 5.1.1|who|RCPT TO" },
    { "too few answers to the dot", TWO,
      .script = PIPE ">RCPT TO:<b@c>\n>RCPT TO:<d@e>\n>DATA\n<250 ok\n<250 ok\n<250 ok\n<354 go\n"
                     ">hi\n>.\n<250 2.0.0 one\n<EOF\n",
      .results = "said 250 2.0.0|one|end of DATA; unknown 451 4.4.2|"
                 "connection lost while waiting for end of DATA|end of DATA", .is_closed = true },
    { "too many answers to the dot", ONE,
      .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<250 ok\n<250 ok\n<354 go\n>hi\n>.\n<250 2.0.0 one\n"
                     ">QUIT\n<250 2.0.0 two\n",
      .results = "said 250 2.0.0|one|end of DATA", .is_closed = true },
    { "no answer to the dot", ONE,
      .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<250 ok\n<250 ok\n<354 go\n>hi\n>.\n<EOF\n",
      .results = "unknown 451 4.4.2|connection lost while waiting for end of DATA|end of DATA",
      .is_closed = true },
    { "hung up before the dot", ONE, .script = PIPE ">RCPT TO:<b@c>\n>DATA\n<250 ok\n<EOF\n",
      .results = "lost 451 4.4.2|connection lost while waiting for RCPT TO|RCPT TO",
      .is_closed = true },
    { "421 for MAIL is for all", TWO, .script = PLAIN "<421 4.3.2 down\n",
      .results = "said 421 4.3.2|down|MAIL FROM; said 421 4.3.2|down|MAIL FROM",
      .is_closed = true },
    { "421 for a recipient is for those who wait", TWO,
      .script = PIPE ">RCPT TO:<b@c>\n>RCPT TO:<d@e>\n>DATA\n<250 ok\n<550 5.1.1 who\n"
                     "<421 4.3.2 down\n",
      .results = "said 550 5.1.1|who|RCPT TO; said 421 4.3.2|down|RCPT TO", .is_closed = true },
    { "421 behind the dot is one recipient's", TWO,
      .script = PIPE ">RCPT TO:<b@c>\n>RCPT TO:<d@e>\n>DATA\n<250 ok\n<250 ok\n<250 ok\n<354 go\n"
                     ">hi\n>.\n<421 4.3.2 down\n",
      .results = "said 421 4.3.2|down|end of DATA; unknown 421 4.3.2|down|end of DATA",
      .is_closed = true },
    { "SMTP has one answer for all", .sender = "s@a", .to = { "b@c", "d@e" },
      .script = SMTP "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>RCPT TO:<d@e>\n<251 ok\n>DATA\n<354 go\n"
                     ">hi\n>.\n<250 2.0.0 queued\n>QUIT\n",
      .results = "said 250 2.0.0|queued|end of DATA; said 250 2.0.0|queued|end of DATA" },
    { "SMTP: 421 is an answer", .sender = "s@a", .to = { "b@c" },
      .script = SMTP "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>hi\n>.\n<421 no\n",
      .results = "said 421 |no|end of DATA", .is_closed = true },
    { "EHLO is not known", .sender = "", .to = { "b@c" },
      .script = "<220 hi\n>EHLO me.test\n<502 what\n>HELO me.test\n<250 hi\n>MAIL FROM:<>\n<250 ok\n"
                ">RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>hi\n>.\n<250 done\n>QUIT\n",
      .results = "said 250 |done|end of DATA" },
    { "a question", .sender = "s@a", .to = { "b@c", "d@e" }, .is_question = true,
      .script = SMTP "<250 ok\n>RCPT TO:<b@c>\n<250 2.1.5 yes\n>RCPT TO:<d@e>\n<550 5.1.1 no\n"
                     ">RSET\n>QUIT\n<250 ok\n<221 bye\n",
      .results = "said 250 2.1.5|yes|RCPT TO; said 550 5.1.1|no|RCPT TO", .is_closed = true },
    { "what is not offered is not asked", ONE,
      .params = { .size_bytes = 5, .is_8bitmime = true, .is_smtputf8 = true,
                  .ret = SMTP_RET_HDRS, .envid = { "id", 2 } },
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>hi\n>.\n<250 ok\n>QUIT\n",
      .results = "said 250 |ok|end of DATA" },
    { "what is offered is asked", .sender = "s@a", .to = { "b@c" },
      .params = { .size_bytes = 5, .is_8bitmime = true, .is_smtputf8 = true,
                  .ret = SMTP_RET_HDRS, .envid = { "id", 2 } },
      .script = "<220 hi\n>EHLO me.test\n<250-peer\n<250-SIZE 5\n<250-8bitmime\n<250-SMTPUTF8\n"
                "<250-DSN\n<250 X\n>MAIL FROM:<s@a> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS "
                "ENVID=id\n<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>hi\n>.\n<250 ok\n"
                ">QUIT\n",
      .results = "said 250 |ok|end of DATA" },
    { "too big for the peer", .sender = "s@a", .to = { "b@c" }, .params = { .size_bytes = 6 },
      .script = "<220 hi\n>EHLO me.test\n<250-peer\n<250 SIZE 5\n>QUIT\n",
      .results = "unable 552 5.3.4|message size 6 exceeds size limit 5 of server|" },
    { "SIZE without a number is no limit", .sender = "s@a", .to = { "b@c" },
      .params = { .size_bytes = 6 }, .is_question = true,
      .script = "<220 hi\n>EHLO me.test\n<250-peer\n<250 SIZE\n>MAIL FROM:<s@a> SIZE=6\n"
                "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO" },
    { "one address is UTF-8", .is_lmtp = true, .sender = "s@a",
      .to = { "\xc3\xbc@c", "d@e", "f\xc3\xa4@g" },
      .script = PIPE ">RCPT TO:<d@e>\n>DATA\n<250 ok\n<250 ok\n<354 go\n>hi\n>.\n<250 ok\n>QUIT\n",
      .results = "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|; "
                 "said 250 |ok|end of DATA; "
                 "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "the last recipient is left out, and nothing else is to be said", .sender = "s@a",
      .to = { "d@e", "\xc3\xbc@c" },
      .script = SMTP "<250 ok\n>RCPT TO:<d@e>\n<550 no\n>RSET\n>QUIT\n",
      .results = "said 550 |no|RCPT TO; "
                 "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "the same for a question", .sender = "s@a", .to = { "d@e", "\xc3\xbc@c" },
      .is_question = true,
      .script = SMTP "<250 ok\n>RCPT TO:<d@e>\n<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO; "
                 "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "MAIL is refused where one was left out", .is_lmtp = true, .sender = "s@a",
      .to = { "\xc3\xbc@c", "d@e", "f@g" },
      .script = PIPE ">RCPT TO:<d@e>\n>RCPT TO:<f@g>\n>DATA\n<550 no\n<503 x\n<503 x\n<503 x\n"
                     ">QUIT\n",
      .results = "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|; "
                 "said 550 |no|MAIL FROM; said 550 |no|MAIL FROM" },
    { "the last one was left out, and nobody is taken", .sender = "s@a",
      .to = { "d@e", "\xc3\xbc@c" },
      .script = SMTP "<250 ok\n>RCPT TO:<d@e>\n<550 no\n>RSET\n>QUIT\n",
      .results = "said 550 |no|RCPT TO; "
                 "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "a question whose last one was left out", .sender = "s@a", .to = { "d@e", "\xc3\xbc@c" },
      .is_question = true,
      .script = SMTP "<250 ok\n>RCPT TO:<d@e>\n<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO; "
                 "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "the sender is UTF-8", .is_lmtp = true, .sender = "\xc3\xbc@c", .to = { "d@e" },
      .script = "<220 hi\n>LHLO me.test\n<250 peer\n>QUIT\n",
      .results = "unable 553 5.6.7|SMTPUTF8 is required, but was not offered|" },
    { "an address cannot carry a command", .is_lmtp = true, .sender = "s@a",
      .to = { "b\r\nDATA\r\n@c" }, .script = "<220 hi\n>LHLO me.test\n<250 peer\n>QUIT\n",
      .results = "unable 553 5.1.3|malformed address|" },
    { "addresses are quoted", .is_lmtp = true, .sender = "a b@c", .to = { "d>e@f" },
      .is_question = true,
      .script = "<220 hi\n>LHLO me.test\n<250 peer\n>MAIL FROM:<\"a b\"@c>\n<250 ok\n"
                ">RCPT TO:<\"d>e\"@f>\n<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO" },
    { "TLS when it is there", .sender = "s@a", .to = { "b@c" }, .wants_tls = true,
      .is_question = true,
      .script = "<220 hi\n>EHLO me.test\n<250-peer\n<250-DSN\n<250 STARTTLS\n>STARTTLS\n<220 go\n"
                ">(TLS)\n>EHLO me.test\n<250 peer\n>MAIL FROM:<s@a>\n<250 ok\n>RCPT TO:<b@c>\n"
                "<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO" },
    { "TLS when it is refused after all", .sender = "s@a", .to = { "b@c" }, .wants_tls = true,
      .is_question = true,
      .script = "<220 hi\n>EHLO me.test\n<250-peer\n<250 STARTTLS\n>STARTTLS\n<454 no\n"
                ">MAIL FROM:<s@a>\n<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>RSET\n>QUIT\n",
      .results = "said 250 |ok|RCPT TO" },
    { "nothing without TLS", .sender = "s@a", .to = { "b@c" }, .needs_tls = true,
      .script = "<220 hi\n>EHLO me.test\n<250 peer\n", .results = "none 0 ||", .is_closed = true },
    { "answers of several lines", ONE, .is_question = true,
      .script = "<220-hi\n<220 ho\n>LHLO me.test\n<250-peer\n<250 x\n>MAIL FROM:<s@a>\n<250 ok\n"
                ">RCPT TO:<b@c>\n<550-5.1.1 The mailbox\n<550-5.1.1 is not\n<550 5.1.1 here\n"
                ">RSET\n>QUIT\n",
      .results = "said 550 5.1.1|The mailbox is not here|RCPT TO" },
    { "an enhanced code of another class is text", ONE, .is_question = true,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<450 5.1.1 later\n>RSET\n>QUIT\n",
      .results = "said 450 |5.1.1 later|RCPT TO" },
    { "552 5.5.3 is for now", ONE, .is_question = true,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<552 5.5.3 too many\n>RSET\n>QUIT\n",
      .results = "said 452 4.5.3|too many|RCPT TO" },
    { "552 5.2.2 is for good", ONE, .is_question = true,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<552 5.2.2 full\n>RSET\n>QUIT\n",
      .results = "said 552 5.2.2|full|RCPT TO" },
    { "control octets are escaped", ONE, .is_question = true,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<550 a\tb\x1b[1m\xff\n>RSET\n>QUIT\n",
      .results = "said 550 |a?b?[1m?|RCPT TO" },
    { "garbage is no greeting", ONE, .script = "<SSH-2.0-x\n", .results = "none 0 ||",
      .is_closed = true },
    { "refused at the door", ONE, .script = "<554 5.3.2 go away\n", .results = "none 0 ||",
      .is_closed = true },
    { "LHLO is refused", ONE, .script = "<220 hi\n>LHLO me.test\n<500 what\n",
      .results = "none 0 ||", .is_closed = true },
    { "garbage in between", ONE, .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<25x ok\n",
      .results = "lost 451 4.4.2|malformed or endless reply while waiting for RCPT TO|RCPT TO",
      .is_closed = true },
    { "354 for RCPT", ONE, .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<354 go\n",
      .results = "lost 451 4.4.2|unexpected reply while waiting for RCPT TO|RCPT TO",
      .is_closed = true },
    { "250 for DATA", ONE, .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<250 ok\n",
      .results = "lost 451 4.4.2|unexpected reply while waiting for DATA|DATA", .is_closed = true },
    { "354 for the dot", ONE,
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>hi\n>.\n<354 more\n",
      .results = "unknown 451 4.4.2|unexpected reply while waiting for end of DATA|end of DATA",
      .is_closed = true },
    { "dots and line ends", ONE, .body = ".\r\n..a\n\rb\r.\r\n.c\n.",
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>..\n>...a\n> b .\n>..c\n"
                      ">..\n>.\n<250 ok\n>QUIT\n",
      .results = "said 250 |ok|end of DATA" },
    { "a message without anything", ONE, .body = "",
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>.\n<250 ok\n>QUIT\n",
      .results = "said 250 |ok|end of DATA" },
    { "CR at the end", ONE, .body = "a\r",
      .script = PLAIN "<250 ok\n>RCPT TO:<b@c>\n<250 ok\n>DATA\n<354 go\n>a\n>.\n<250 ok\n>QUIT\n",
      .results = "said 250 |ok|end of DATA" },
};

Test(smtp_client, dialogues)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        run_row(&rows[i]);
}

/* ------------------------------------------------------------ the door */

Test(smtp_client, a_refusal_keeps_its_words)
{
    static const struct {
        const char *peer, *words;
    } refusals[] = {
        { "554-5.3.2 go\r\n554 5.3.2 away\r\n", "554 5.3.2 go away (greeting)" },
        { "421 busy\r\n", "421  busy (greeting)" },
        { "220 hi\r\n500 5.5.1 what\r\n", "500 5.5.1 what (LHLO)" },
    };
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct smtp_client c = { .is_lmtp = true, .hello = "me.test" };
        struct buf out = { 0 }, got = { 0 };
        struct span in = span_of(refusals[i].peer);
        smtp_client_begin(&c);
        cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_CLOSE);
        cr_assert(c.has_refused);
        buf_printf(&got, "%d %s %s (%s)", c.refusal.code, c.refusal.enhanced, c.refusal.text,
                   c.refusal.command);
        cr_expect_str_eq(buf_text(&got), refusals[i].words);
        buf_fini(&got);
        buf_fini(&out);
        smtp_client_fini(&c);
    }
}

Test(smtp_client, the_peer_has_our_name)
{
    struct smtp_client c = { .hello = "me.test" };
    struct buf out = { 0 };
    struct span in = SPAN_LITERAL("220 x\r\n250-ME.test hello\r\n250 DSN\r\n");
    smtp_client_begin(&c);
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_READY);
    cr_expect(c.is_ourselves);
    cr_expect_eq(c.offered, (unsigned)SMTP_CLIENT_HAS_DSN);
    buf_fini(&out);
    smtp_client_fini(&c);
}

/* ------------------------------------------------------------ reuse */

static void greet(struct smtp_client *c, struct buf *out, const char *hello)
{
    struct span in = span_of(hello);
    smtp_client_begin(c);
    cr_assert_eq(smtp_client_next(c, &in, out), SMTP_CLIENT_READY);
    buf_clear(out);
}

static void ask(struct smtp_client *c, struct smtp_client_rcpt *r, struct arena *memory)
{
    *r = (struct smtp_client_rcpt){ .address = SPAN_LITERAL("b@c"),
                                    .notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY,
                                    .orcpt = SPAN_LITERAL("rfc822;b@c") };
    smtp_client_send(c, &(struct smtp_client_mail){ .sender = SPAN_LITERAL("s@a"), .rcpts = r,
                                                    .count = 1, .is_question = true,
                                                    .memory = memory });
}

Test(smtp_client, the_answer_to_RSET_may_come_late)
{
    struct smtp_client c = { .hello = "me.test" };
    struct smtp_client_rcpt r;
    struct arena memory = { 0 };
    struct buf out = { 0 };
    struct span in = SPAN_LITERAL("250 ok\r\n550 no\r\n");
    greet(&c, &out, "220 x\r\n250-x\r\n250 DSN\r\n");
    ask(&c, &r, &memory);
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_READY);
    cr_expect_str_eq(buf_text(&out), "MAIL FROM:<s@a>\r\nRCPT TO:<b@c> NOTIFY=SUCCESS,DELAY "
                                     "ORCPT=rfc822;b@c\r\nRSET\r\n");
    ask(&c, &r, &memory); /* before the answer to RSET */
    in = SPAN_LITERAL("250 reset\r\n250 mail\r\n251 yes\r\n");
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_READY);
    cr_expect_eq(r.result.code, 251);
    in = SPAN_LITERAL("250 reset\r\n");
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_READY);
    in = SPAN_LITERAL("421 idle for too long\r\n");
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_CLOSE);
    buf_fini(&out);
    arena_fini(&memory);
    smtp_client_fini(&c);
}

Test(smtp_client, RSET_refused_spoils_the_next_transaction)
{
    struct smtp_client c = { .hello = "me.test" };
    struct smtp_client_rcpt r;
    struct arena memory = { 0 };
    struct buf out = { 0 };
    struct span in = SPAN_LITERAL("250 ok\r\n550 no\r\n");
    greet(&c, &out, "220 x\r\n250 x\r\n");
    ask(&c, &r, &memory);
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_READY);
    ask(&c, &r, &memory);
    in = SPAN_LITERAL("500 what\r\n");
    cr_expect_eq(smtp_client_next(&c, &in, &out), SMTP_CLIENT_CLOSE);
    cr_expect_eq(r.result.source, SMTP_CLIENT_LOST);
    buf_fini(&out);
    arena_fini(&memory);
    smtp_client_fini(&c);
}

/* ------------------------------------------------------------ bounds */

static enum smtp_client_need flood(struct smtp_client *c, const char *piece, size_t limit)
{
    struct buf out = { 0 };
    enum smtp_client_need need = SMTP_CLIENT_INPUT;
    for (size_t sent = 0; sent < limit && need == SMTP_CLIENT_INPUT; sent += strlen(piece)) {
        struct span in = span_of(piece);
        need = smtp_client_next(c, &in, &out);
    }
    cr_expect(c->text.cap <= 4 * SMTP_CLIENT_LINE_MAX && c->line.partial.cap <= 8192);
    buf_fini(&out);
    return need;
}

Test(smtp_client, endless_replies_end)
{
    static const char *const pieces[] = { "x", "220-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                          "220-more\r\n", "220-" };
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct smtp_client c = { .hello = "me.test" };
        smtp_client_begin(&c);
        cr_expect_eq(flood(&c, pieces[i], 200000), SMTP_CLIENT_CLOSE, "%s", pieces[i]);
        smtp_client_fini(&c);
    }
}

Test(smtp_client, a_long_text_is_cut)
{
    struct talk t;
    static const struct row row = { "long", ONE, .is_question = true };
    struct buf script = { 0 };
    begin(&t, &row);
    buf_puts(&script, PLAIN "<250 ok\n>RCPT TO:<b@c>\n<550 5.1.1 ");
    for (int i = 0; i < 5000; i++)
        buf_putc(&script, 'y');
    buf_puts(&script, "\n>RSET\n>QUIT\n");
    play(&t, buf_text(&script), 7);
    cr_expect_eq(t.rcpts[0].result.code, 550);
    cr_expect(strlen(t.rcpts[0].result.text) <= SMTP_CLIENT_TEXT_MAX + 3);
    buf_fini(&script);
    end(&t);
}

/* Commands go out in windows, so that a thousand recipients are no megabyte of commands. */
Test(smtp_client, the_window_of_pipelining)
{
    enum { COUNT = 1000 };
    static struct smtp_client_rcpt rcpts[COUNT];
    struct smtp_client c = { .is_lmtp = true, .hello = "me.test" };
    struct arena memory = { 0 };
    struct buf out = { 0 };
    size_t replies = 0, most = 0;
    greet(&c, &out, "220 x\r\n250-x\r\n250 PIPELINING\r\n");
    for (size_t i = 0; i < COUNT; i++)
        rcpts[i] = (struct smtp_client_rcpt){ .address = SPAN_LITERAL("b@c") };
    smtp_client_send(&c, &(struct smtp_client_mail){ .rcpts = rcpts, .count = COUNT,
                                                     .memory = &memory });
    struct span in = { 0 };
    while (smtp_client_next(&c, &in, &out) == SMTP_CLIENT_INPUT && replies < COUNT + 5) {
        most = c.sent - c.answered > most ? c.sent - c.answered : most;
        buf_clear(&out);
        in = replies++ == COUNT + 1 ? SPAN_LITERAL("354 go\r\n") : SPAN_LITERAL("250 ok\r\n");
    }
    cr_expect_eq(replies, COUNT + 2);
    cr_expect_eq(most, SMTP_CLIENT_WINDOW);
    cr_expect_eq(c.step, SMTP_CLIENT_MESSAGE);
    smtp_client_lost(&c, "enough");
    buf_fini(&out);
    arena_fini(&memory);
    smtp_client_fini(&c);
}

/* ------------------------------------------------------------ bytes */

/* What a server takes out of the wire must be the message with clean line ends. */
static void naive_body(struct span in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.at[i] == '\r' && i + 1 < in.len && in.at[i + 1] == '\n')
            continue;
        if (in.at[i] == '\n' || (in.at[i] == '\r' && i + 1 == in.len))
            buf_puts(out, "\r\n");
        else
            buf_putc(out, in.at[i] == '\r' ? ' ' : in.at[i]);
    }
    if (out->len > 0 && out->at[out->len - 1] != '\n')
        buf_puts(out, "\r\n");
}

static void unstuff(struct span wire, struct buf *out)
{
    cr_assert(wire.len >= 3 && memcmp(wire.at + wire.len - 3, ".\r\n", 3) == 0);
    wire.len -= 3;
    for (size_t i = 0; i < wire.len; i++)
        if (wire.at[i] != '.' || (i > 0 && wire.at[i - 1] != '\n'))
            buf_putc(out, wire.at[i]);
        else
            cr_assert(i + 1 < wire.len && buf_putc(out, wire.at[++i]), "a lone dot");
}

Test(smtp_client, any_message_arrives)
{
    struct seeded random = seeded_begin(7);
    for (int round = 0; round < 20000; round++) {
        char message[24];
        struct smtp_client c = { .step = SMTP_CLIENT_MESSAGE, .is_line_start = true };
        struct buf wire = { 0 }, got = { 0 }, want = { 0 };
        size_t len = seeded_below(&random, sizeof message);
        for (size_t i = 0; i < len; i++)
            message[i] = "..\r\n\r\nab"[seeded_below(&random, 8)];
        for (size_t at = 0, n; at < len; at += n) {
            n = 1 + seeded_below(&random, len - at);
            smtp_client_body(&c, span_make(message + at, n), &wire);
        }
        smtp_client_body_end(&c, &wire);
        unstuff(buf_span(&wire), &got);
        naive_body(span_make(message, len), &want);
        cr_assert(span_equals(buf_span(&got), buf_span(&want)), "round %d", round);
        buf_fini(&wire);
        buf_fini(&got);
        buf_fini(&want);
        smtp_client_fini(&c);
    }
}
