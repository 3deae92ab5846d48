#include "queue/bounce.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct schedule_limits limits = { .lifetime_s = 1000, .bounce_lifetime_s = 100,
                                               .delay_warning_s = 500 };

static void begin(struct envelope *e, const char *sender)
{
    envelope_init(e, "1A2B");
    e->sender = arena_span(&e->memory, span_of(sender));
}

static struct envelope_rcpt *add(struct envelope *e, const char *address, enum rcpt_state state,
                                 unsigned notify)
{
    return envelope_add(e, &(struct envelope_rcpt){ .address = span_of(address), .state = state,
                                                    .transport = "lmtp", .nexthop = "unix:x",
                                                    .notify = notify });
}

/* NOTIFY against what has happened, with a sender and without. */
Test(bounce, who_is_told_what)
{
    enum { NONE, OLD, LATE }; /* age: young, warned about, expired */
    static const struct {
        enum rcpt_state state;
        unsigned notify;
        int64_t now_s;
        enum dsn_action report;
        enum rcpt_state then;
    } cases[] = {
        { RCPT_OWED, 0, 10, DSN_NONE, RCPT_OWED },
        { RCPT_OWED, 0, 600, DSN_DELAYED, RCPT_OWED },
        { RCPT_OWED, SMTP_NOTIFY_FAILURE, 600, DSN_NONE, RCPT_OWED },
        { RCPT_OWED, SMTP_NOTIFY_DELAY, 600, DSN_DELAYED, RCPT_OWED },
        { RCPT_OWED, SMTP_NOTIFY_NEVER, 600, DSN_NONE, RCPT_OWED },
        { RCPT_OWED, 0, 1000, DSN_FAILED, RCPT_DONE },
        { RCPT_OWED, SMTP_NOTIFY_NEVER, 1000, DSN_NONE, RCPT_DONE },
        { RCPT_FAILED, 0, 10, DSN_FAILED, RCPT_DONE },
        { RCPT_FAILED, SMTP_NOTIFY_SUCCESS, 10, DSN_NONE, RCPT_DONE },
        { RCPT_FAILED, SMTP_NOTIFY_NEVER, 10, DSN_NONE, RCPT_DONE },
        { RCPT_FAILED, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE, 10, DSN_FAILED, RCPT_DONE },
        { RCPT_SENT, 0, 10, DSN_NONE, RCPT_DONE },
        { RCPT_SENT, SMTP_NOTIFY_SUCCESS, 10, DSN_DELIVERED, RCPT_DONE },
        { RCPT_SENT, SMTP_NOTIFY_FAILURE, 10, DSN_NONE, RCPT_DONE },
        { RCPT_DONE, SMTP_NOTIFY_SUCCESS, 10, DSN_NONE, RCPT_DONE },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int has_sender = 0; has_sender < 2; has_sender++) {
            struct envelope e;
            begin(&e, has_sender ? "a@b" : "");
            struct envelope_rcpt *r = add(&e, "c@d", cases[i].state, cases[i].notify);
            bool is_old = has_sender || cases[i].now_s < 100; /* bounces expire early */
            enum dsn_action expected = has_sender ? cases[i].report : DSN_NONE;
            cr_expect_eq(bounce_plan(&e, &limits, cases[i].now_s), expected != DSN_NONE, "%zu", i);
            cr_expect_eq(r->report, expected, "%zu", i);
            if (is_old)
                cr_expect_eq(r->state, cases[i].then, "%zu", i);
            cr_expect_not(bounce_plan(&e, &limits, cases[i].now_s), "%zu: told once", i);
            envelope_fini(&e);
        }
}

Test(bounce, relayed_mail_is_not_called_delivered)
{
    struct envelope e;
    begin(&e, "a@b");
    struct envelope_rcpt *r = add(&e, "c@d", RCPT_SENT, SMTP_NOTIFY_SUCCESS);
    r->transport = "smtp";
    bounce_plan(&e, &limits, 1);
    cr_expect_eq(r->report, DSN_RELAYED);
    envelope_fini(&e);
}

static int make_message(const char *text)
{
    int fd = memfd_create("message", MFD_CLOEXEC);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

struct result {
    struct buf text;
    bool is_8bit, is_utf8;
};

static struct result write_bounce(struct envelope *e, const char *message, uint64_t limit)
{
    struct result r = { 0 };
    struct bounce b = { .id = "FF01", .myhostname = "mx.example.org", .mail_name = "Postern",
                        .date = "Thu, 26 Nov 2026 10:00:00 +0000 (UTC)", .retry_until = "later",
                        .arrival_date = "Thu, 26 Nov 2026 09:00:00 +0000 (UTC)",
                        .size_limit = limit, .message_fd = make_message(message),
                        .message_bytes = strlen(message) };
    cr_assert_eq(bounce_write(&b, e, &r.text, &r.is_8bit, &r.is_utf8), 0);
    close(b.message_fd);
    return r;
}

static void expect(struct result *r, bool is_there, const char *text)
{
    bool found = strstr(buf_text(&r->text), text) != NULL;
    cr_expect_eq(found, is_there, "%s: %s\n%s", is_there ? "missing" : "unwanted", text,
                 buf_text(&r->text));
}

static const char message[] = "Received: by us\r\nSubject: mine\r\n\r\nthe body\r\n";

Test(bounce, a_failure_brings_the_message_back)
{
    struct envelope e;
    begin(&e, "a@b.example");
    e.envid = arena_span(&e.memory, span_of("QQ+2B1"));
    struct envelope_rcpt *r = add(&e, "c@d.example", RCPT_FAILED, 0);
    r->orcpt = arena_span(&e.memory, span_of("rfc822;c+2Bx@d.example"));
    envelope_note(&e, r, 550, "5.1.1", "<c@d.example> User unknown", "mx.d.example[192.0.2.1]:25");
    add(&e, "later@d.example", RCPT_OWED, 0);
    bounce_plan(&e, &limits, 1);
    struct result out = write_bounce(&e, message, 50000);
    expect(&out, true, "Subject: Undelivered Mail Returned to Sender\r\nTo: a@b.example\r\n");
    expect(&out, true, "Auto-Submitted: auto-replied\r\n");
    expect(&out, true, "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                       "\tboundary=\"FF01/mx.example.org\"\r\n");
    expect(&out, true, "Reporting-MTA: dns; mx.example.org\r\nOriginal-Envelope-Id: QQ+1\r\n");
    expect(&out, true, "\r\n\r\nOriginal-Recipient: rfc822; c+x@d.example\r\n"
                       "Final-Recipient: rfc822; c@d.example\r\nAction: failed\r\n"
                       "Status: 5.1.1\r\nRemote-MTA: dns; mx.d.example\r\n"
                       "Diagnostic-Code: smtp; 550 5.1.1 <c@d.example> User unknown\r\n");
    expect(&out, true, "Content-Type: message/rfc822\r\n\r\nReceived: by us\r\n"
                       "Subject: mine\r\n\r\nthe body\r\n\r\n--FF01/mx.example.org--\r\n");
    expect(&out, false, "later@d.example");
    cr_expect_not(out.is_8bit || out.is_utf8);
    buf_fini(&out.text);
    envelope_fini(&e);
}

Test(bounce, headers_only_when_asked_too_large_or_nothing_failed)
{
    for (int i = 0; i < 3; i++) {
        struct envelope e;
        begin(&e, "a@b");
        add(&e, "c@d", i == 2 ? RCPT_SENT : RCPT_FAILED, i == 2 ? SMTP_NOTIFY_SUCCESS : 0);
        e.ret = i == 0 ? SMTP_RET_HDRS : SMTP_RET_FULL;
        bounce_plan(&e, &limits, 1);
        struct result out = write_bounce(&e, message, i == 1 ? 40 : 50000);
        expect(&out, true, "Content-Type: text/rfc822-headers\r\n\r\nReceived: by us\r\n"
                           "Subject: mine\r\n\r\n--FF01");
        expect(&out, false, "the body");
        buf_fini(&out.text);
        envelope_fini(&e);
    }
}

Test(bounce, an_expired_message_has_the_last_answer_with_class_4)
{
    struct envelope e;
    begin(&e, "a@b");
    envelope_note(&e, add(&e, "c@d", RCPT_OWED, 0), 452, "4.2.2", "full", "x");
    add(&e, "e@f", RCPT_OWED, 0);
    bounce_plan(&e, &limits, 2000);
    struct result out = write_bounce(&e, message, 50000);
    expect(&out, true, "Action: failed\r\nStatus: 4.2.2\r\n");
    expect(&out, true, "Action: failed\r\nStatus: 4.4.7\r\n");
    buf_fini(&out.text);
    envelope_fini(&e);
}

Test(bounce, a_delay_is_only_a_warning)
{
    struct envelope e;
    begin(&e, "a@b");
    envelope_note(&e, add(&e, "c@d", RCPT_OWED, 0), 0, "", "", "");
    bounce_plan(&e, &limits, 600);
    struct result out = write_bounce(&e, message, 50000);
    expect(&out, true, "Subject: Delayed Mail");
    expect(&out, true, "Action: delayed\r\nStatus: 4.0.0\r\n");
    expect(&out, true, "Will-Retry-Until: later\r\n");
    expect(&out, false, "the body");
    cr_expect_str_eq(bounce_name(&e), "sender delay notification");
    buf_fini(&out.text);
    envelope_fini(&e);
}

Test(bounce, addresses_in_utf8)
{
    struct envelope e;
    begin(&e, "a@b");
    add(&e, "j\xc3\xb6rg@d", RCPT_FAILED, 0);
    bounce_plan(&e, &limits, 1);
    struct result out = write_bounce(&e, message, 50000);
    expect(&out, true, "report-type=global-delivery-status");
    expect(&out, true, "Content-Type: message/global-delivery-status\r\n"
                       "Content-Transfer-Encoding: 8bit\r\n");
    expect(&out, true, "Final-Recipient: utf-8; j\xc3\xb6rg@d\r\n");
    expect(&out, true, "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n");
    cr_expect(out.is_utf8 && out.is_8bit);
    buf_fini(&out.text);
    envelope_fini(&e);
}

Test(bounce, nothing_of_a_peer_becomes_a_header)
{
    struct envelope e;
    begin(&e, "a\r\nBcc: x@y\r\n@b");
    struct envelope_rcpt *r = add(&e, "c\r\nX: y@d", RCPT_FAILED, 0);
    r->orcpt = arena_span(&e.memory, span_of("rfc822;c+0D+0AX: z"));
    envelope_note(&e, r, 550, "5.1.1", "no\r\n\r\n--FF01/mx.example.org--", "evil\r\nX: y[1]");
    bounce_plan(&e, &limits, 1);
    struct result out = write_bounce(&e, message, 50000);
    expect(&out, false, "\nBcc:");
    expect(&out, false, "\nX:");
    expect(&out, false, "\r\n--FF01/mx.example.org--\r\n\r\n");
    buf_fini(&out.text);
    envelope_fini(&e);
}

Test(bounce, bytes_above_127_in_the_message)
{
    struct envelope e;
    begin(&e, "a@b");
    add(&e, "c@d", RCPT_FAILED, 0);
    bounce_plan(&e, &limits, 1);
    struct result out = write_bounce(&e, "Subject: x\r\n\r\n\xe4\r\n", 50000);
    cr_expect(out.is_8bit && !out.is_utf8);
    expect(&out, true, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n");
    buf_fini(&out.text);
    envelope_fini(&e);
}
