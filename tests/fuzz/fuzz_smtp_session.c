/* The whole protocol machine: what it says is one reply for each command, and the same however its
 * input is cut. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_session.h"

struct run {
    struct fuzz *f;
    struct smtp_session s;
    struct buf out;    /* replies and, in brackets, what was asked of the driver */
    struct buf replies;
    struct buf body;
    struct seeded random; /* for verdicts */
    size_t connects, commits;
    bool is_over;
};

static struct params make_params(unsigned seed)
{
    return (struct params){
        .myhostname = "mx.example.org", .smtpd_banner = "mx.example.org ESMTP",
        .line_length_limit = 300, .message_size_limit = seed % 3 == 0 ? 200 : 0,
        .smtpd_recipient_limit = 3, .smtpd_recipient_overshoot_limit = 2,
        .smtpd_soft_error_limit = 3, .smtpd_hard_error_limit = 8, .smtpd_error_sleep_time = 1000,
        .smtpd_junk_command_limit = 4, .smtpd_noop_commands = "", .smtputf8_enable = seed % 5 != 0,
        .smtpd_forbid_bare_newline_reject_code = 550, .soft_bounce = seed % 11 == 0,
        .smtpd_helo_required = seed % 7 == 0, .strict_rfc821_envelopes = seed % 13 == 0,
        .smtpd_reject_footer = seed % 17 == 0 ? "\\c; see $client_address\\nand call" : "",
    };
}

static void begin(struct run *r, struct fuzz *f, const struct params *params)
{
    const struct ip client = { 4, { 192, 0, 2, 1 } }, server = { 4, { 192, 0, 2, 2 } };
    *r = (struct run){ .f = f, .random = seeded_begin(f->seed) };
    smtp_session_init(&r->s, params);
    smtp_peer_init(&r->s.peer, &client, 1234, &server, 25);
    smtp_peer_set_name(&r->s.peer, "c.test", SMTP_NAME_OK);
    r->s.features = (struct smtp_features){ .smtputf8_ok = f->seed % 2 == 0,
                                            .starttls_ok = f->seed % 4 < 2,
                                            .xclient_ok = f->seed % 8 < 4,
                                            .bare_newline_reject = f->seed % 16 < 8 };
}

static void end(struct run *r)
{
    smtp_session_fini(&r->s);
    buf_fini(&r->out);
    buf_fini(&r->replies);
    buf_fini(&r->body);
}

/* The replies so far go into the transcript, where what happens next follows them. */
static void take_replies(struct run *r)
{
    buf_add(&r->out, buf_span(&r->replies));
    buf_clear(&r->replies);
}

static void answer(struct run *r, bool is_commit)
{
    static const struct smtp_reply no[] = {
        { 450, "4.7.1", "Come again" }, { 554, "5.7.1", "Go away\nfor ever" },
        { 421, "4.3.2", "Not now" }, { 521, "5.3.2", "Never" },
    };
    static const struct smtp_reply queued = { 250, "2.0.0", "Ok: queued as 1983AB" };
    size_t i = seeded_below(&r->random, 40);
    const struct smtp_reply *reply = is_commit ? &queued : NULL;
    if (i < ARRAY_LEN(no))
        reply = &no[i];
    r->connects += !is_commit && r->s.ask == SMTP_ASK_CONNECT;
    smtp_session_answer(&r->s, reply, &r->replies);
}

static void commit(struct run *r)
{
    ENSURE(r->s.mail.is_open && r->s.mail.rcpt_count > 0);
    ENSURE(r->s.data.size_bytes == r->body.len);
    buf_printf(&r->out, "(commit %zu ", r->body.len);
    buf_add(&r->out, buf_span(&r->body));
    buf_puts(&r->out, ")\r\n");
    buf_clear(&r->body);
    r->commits++;
    answer(r, true);
}

static void check_bounds(const struct run *r)
{
    const struct params *p = r->s.params;
    ENSURE(r->s.mail.rcpt_count <= p->smtpd_recipient_limit);
    ENSURE(r->s.errors <= p->smtpd_hard_error_limit + 1);
    ENSURE(r->s.line.partial.len <= (size_t)p->line_length_limit + 1);
    ENSURE(p->message_size_limit == 0 || r->body.len <= (size_t)p->message_size_limit + 2);
}

/* True: go on with the same input. */
static bool step(struct run *r, enum smtp_need need)
{
    check_bounds(r);
    take_replies(r);
    switch (need) {
    case SMTP_NEED_INPUT: return false;
    case SMTP_NEED_VERDICT:
        buf_printf(&r->out, "(ask %d)\r\n", r->s.ask);
        answer(r, false);
        break;
    case SMTP_BODY:
        ENSURE(r->s.body.len > 0);
        buf_add(&r->body, r->s.body);
        break;
    case SMTP_NEED_COMMIT: commit(r); break;
    case SMTP_RESET:
        buf_puts(&r->out, "(reset)\r\n");
        buf_clear(&r->body);
        break;
    case SMTP_REJECTED: buf_printf(&r->out, "(rejected %d)\r\n", r->s.refusal.code); break;
    case SMTP_SLEEP: buf_puts(&r->out, "(sleep)\r\n"); break;
    case SMTP_NEED_TLS: /* what a client said in the clear is thrown away: here, all the rest */
        smtp_session_secured(&r->s);
        r->is_over = true;
        return false;
    case SMTP_CLOSE: r->is_over = true; return false;
    }
    return true;
}

static void feed(struct run *r, struct span piece)
{
    enum smtp_need need;
    size_t before = piece.len;
    do {
        need = smtp_session_next(&r->s, &piece, &r->replies);
        ENSURE(piece.len <= before);
    } while (step(r, need));
    ENSURE(r->is_over || piece.len == 0);
}

/* A reply for the connection, for each command, and the 354 of each DATA that got so far. */
static void check_replies(const struct run *r)
{
    struct buf wire = { 0 };
    size_t expected = r->connects, said;
    for (struct span rest = buf_span(&r->out); rest.len > 0;) {
        size_t n = span_find(rest, '\n');
        if (rest.at[0] == '(') { /* a body may hold anything: the commit says how long it is */
            size_t len = strtoull(rest.at + 8, NULL, 10);
            bool is_commit = span_istarts(rest, SPAN_LITERAL("(commit "));
            size_t head = 8 + span_find(span_skip(rest, 8), ' ') + 1;
            rest = span_skip(rest, is_commit ? head + len + 3 : n + 1);
            continue;
        }
        expected += span_istarts(rest, SPAN_LITERAL("354 "));
        buf_add(&wire, span_make(rest.at, n + 1));
        rest = span_skip(rest, n + 1);
    }
    said = fuzz_replies(buf_span(&wire));
    for (size_t i = 0; i < SMTP_VERB_COUNT; i++) {
        ENSURE(r->s.counts[i].ok <= r->s.counts[i].all);
        expected += r->s.counts[i].all;
    }
    ENSURE(said == expected || (r->s.state == SMTP_STATE_CLOSE && said == expected + 1));
    buf_fini(&wire);
}

static void run(struct run *r)
{
    struct span text = r->f->text, piece;
    feed(r, span_make(NULL, 0)); /* the greeting: nobody talks early */
    while (!r->is_over && fuzz_piece(r->f, &text, &piece))
        feed(r, piece);
    take_replies(r);
    check_replies(r);
}

void fuzz_one(struct fuzz *f)
{
    const struct params params = make_params(f->seed);
    struct run pieces, whole;
    begin(&pieces, f, &params);
    run(&pieces);
    fuzz_cut_whole(f);
    begin(&whole, f, &params);
    run(&whole);
    ENSURE(span_equals(buf_span(&pieces.out), buf_span(&whole.out)));
    ENSURE(pieces.commits == whole.commits && pieces.s.close_reason == whole.s.close_reason);
    end(&pieces);
    end(&whole);
}
