#include "protocol/mem.h"
#include "protocol/trace.h"

#include "tests/unit/seeded.h"

#include <criterion/criterion.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------ header_scan */

/* The whole message through the scan, as intake.c does it. */
static void pass(struct header_scan *h, struct span message, size_t chunk, struct buf *out)
{
    for (size_t at = 0; at < message.len; at += chunk) {
        size_t n = message.len - at < chunk ? message.len - at : chunk;
        char *copy = xmalloc(n); /* of this size: reading past it is noticed */
        memcpy(copy, message.at + at, n);
        size_t used = h->is_done ? 0 : header_scan_feed(h, span_make(copy, n), out);
        cr_assert(used == n || h->is_done, "only the body is left to the caller");
        buf_append(out, copy + used, n - used);
        free(copy);
    }
    header_scan_finish(h, out);
}

static const struct {
    const char *in, *out; /* out NULL: the same */
    int received;
    const char *message_id;
} messages[] = {
    { "Subject: a\r\n\r\nbody\r\n", NULL, 0, "" },
    { "", NULL, 0, "" },
    { "\r\n", NULL, 0, "" },
    { "\r\nbody\r\n", NULL, 0, "" },
    { "Subject: no body\r\n", NULL, 0, "" },
    { "Subject: no end", NULL, 0, "" },
    /* a message without header section: ours must not swallow its first line */
    { "hello\r\nworld\r\n", "\r\nhello\r\nworld\r\n", 0, "" },
    { "hello", "\r\nhello", 0, "" },
    { " Subject: folded\r\n\r\n", "\r\n Subject: folded\r\n\r\n", 0, "" },
    { ": no name\r\n", "\r\n: no name\r\n", 0, "" },
    { "two words: x\r\n", "\r\ntwo words: x\r\n", 0, "" },
    { "caf\xc3\xa9: x\r\n", "\r\ncaf\xc3\xa9: x\r\n", 0, "" },
    { ">From x\r\n", "\r\n>From x\r\n", 0, "" },
    { "\r\r\nx\r\n", "\r\n\r\r\nx\r\n", 0, "" },     /* not an empty line */
    { "\f\r\nx: y\r\n", "\r\n\f\r\nx: y\r\n", 0, "" }, /* nor this */
    /* mailbox lines pass */
    { "From a@b Mon Nov 23 03:41:15 2026\r\nSubject: a\r\n\r\nx", NULL, 0, "" },
    { "From a@b Mon\r\n\r\nx", NULL, 0, "" },
    { "Subject: a\r\nFrom b Mon\r\nReceived: x\r\n", NULL, 0, "" }, /* here it is body */
    /* hops */
    { "Received: a\r\nreceived: b\r\nRECEIVED : c\r\nReceived\t: d\r\n\r\nReceived: e\r\n", NULL, 4, "" },
    { "Received: a\r\n Received: folded\r\n\tReceived: too\r\n\r\n", NULL, 1, "" },
    { "X-Received: a\r\nReceivedx: b\r\nReceive: c\r\n\r\n", NULL, 0, "" },
    { "Received:\r\n\r\n", NULL, 1, "" },
    { "Received: a\r\n \r\nReceived: b\r\n\r\n", NULL, 2, "" }, /* blanks alone are folding */
    { "Subject: a\r\nno header\r\nReceived: x\r\n", NULL, 0, "" },
    /* a forged Return-Path goes, with all its lines, wherever it stands */
    { "Return-Path: <evil@x>\r\nSubject: a\r\n\r\nb", "Subject: a\r\n\r\nb", 0, "" },
    { "Subject: a\r\nRETURN-PATH : <evil@x>\r\n\tmore\r\n more\r\nTo: b\r\n\r\n",
      "Subject: a\r\nTo: b\r\n\r\n", 0, "" },
    { "Return-Path: <a>\r\nReturn-Path: <b>\r\n\r\nb", "\r\nb", 0, "" },
    { "Return-Path: <a>\r\n Subject: folded\r\n\r\nb", "\r\nb", 0, "" },
    { "Return-Path: <a>", "", 0, "" },
    { "Return-Path: <a>\r\nno header\r\n", "\r\nno header\r\n", 0, "" },
    { "Return-Path: <a>\r\n\r\nReturn-Path: <b>\r\n", "\r\nReturn-Path: <b>\r\n", 0, "" },
    { "Return-Paths: <a>\r\nX-Return-Path: <b>\r\n\r\n", NULL, 0, "" },
    { "Subject: a\r\n Return-Path: <b>\r\n\r\n", NULL, 0, "" },
    /* the Message-ID for the log */
    { "Message-ID: <1@x>\r\nMessage-Id: <2@x>\r\n\r\n", NULL, 0, "<1@x>" },
    { "message-id:<1@x>  \r\n\r\n", NULL, 0, "<1@x>" },
    { "Message-ID:\r\n <1@x>\r\n\r\n", NULL, 0, "<1@x>" }, /* as some large senders fold it */
    { "Message-ID:\r\n \r\n\t<1@x>\r\n <2@x>\r\n\r\n", NULL, 0, "<1@x>" },
    { "Message-ID:\r\nSubject: x\r\n <1@x>\r\n\r\n", NULL, 0, "" },
    { "Message-ID: <a\x1b\x7f\xc2\x9b>\r\n\r\n", NULL, 0, "<a?\?\?>" },
    { "Subject: a\r\n\r\nMessage-ID: <1@x>\r\n", NULL, 0, "" },
};

Test(header_scan, headers_are_judged_the_same_in_pieces_of_any_size)
{
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct span in = span_of(messages[i].in);
        for (size_t chunk = 1; chunk <= in.len + 1; chunk++) {
            struct header_scan h;
            struct buf out = { 0 };
            header_scan_init(&h, 1000);
            pass(&h, in, chunk, &out);
            const char *expected = messages[i].out != NULL ? messages[i].out : messages[i].in;
            cr_expect_str_eq(buf_text(&out), expected, "row %zu chunk %zu", i, chunk);
            cr_expect_eq(h.received_count, messages[i].received, "row %zu chunk %zu", i, chunk);
            cr_expect_str_eq(h.message_id, messages[i].message_id, "row %zu chunk %zu", i, chunk);
            header_scan_fini(&h);
            buf_fini(&out);
        }
    }
}

/* limit_bytes 20 */
static const struct {
    const char *in, *out; /* out NULL: the same */
} limits[] = {
    { "X: 456789012345678\r\n\r\nb", NULL }, /* 20 bytes */
    { "X: 4567890123456789\r\n\r\nb", NULL },
    { "X: 45678901234567890\r\n\r\nb", NULL },
    { "X: 456789012345678901\r\n\r\nb", "X: 45678901234567890\r\n\r\nb" },
    { "X: 45678901234567890123456789012345678901234567890\r\nY: z\r\n\r\nb",
      "X: 45678901234567890\r\nY: z\r\n\r\nb" },
    { "X: 4567890123456789012345", "X: 45678901234567890\r\n" },
    /* the limit is for the header with its continuation lines */
    { "X: 45678\r\n 234567890\r\nY: z\r\n\r\nb", NULL },
    { "X: 45678\r\n 2345678901\r\n more\r\nY: z\r\n\r\nb", "X: 45678\r\n 234567890\r\nY: z\r\n\r\nb" },
    { "X: 45678\r\n 2345678\r\n more\r\nY: z\r\n\r\nb", "X: 45678\r\n 2345678\r\nY: z\r\n\r\nb" },
    { "Return-Path: 4567890123456789012345678901234567890\r\n x\r\nY: z\r\n\r\nb", "Y: z\r\n\r\nb" },
    /* a long line that is no header is body: all of it stays */
    { "123456789012345678901234567890\r\n\r\nb", "\r\n123456789012345678901234567890\r\n\r\nb" },
    { "1234567890123456789012345: late colon\r\n", "\r\n1234567890123456789012345: late colon\r\n" },
    { "12345678901234567890\r\nb", "\r\n12345678901234567890\r\nb" },
    { "1234567890123456789012\r\nb", "\r\n1234567890123456789012\r\nb" },
    { "1234567890123456789012", "\r\n1234567890123456789012" },
    { "X: 4\r\n123456789012345678901234567890\r\nX: y\r\n", NULL },
};

Test(header_scan, a_header_past_the_limit_is_cut_and_a_body_never)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct span in = span_of(limits[i].in);
        for (size_t chunk = 1; chunk <= in.len; chunk++) {
            struct header_scan h;
            struct buf out = { 0 };
            header_scan_init(&h, 20);
            pass(&h, in, chunk, &out);
            cr_expect_str_eq(buf_text(&out), limits[i].out != NULL ? limits[i].out : limits[i].in,
                             "row %zu chunk %zu", i, chunk);
            header_scan_fini(&h);
            buf_fini(&out);
        }
    }
}

Test(header_scan, an_endless_header_costs_no_more_than_the_limit)
{
    static char flood[10000];
    struct header_scan h;
    struct buf out = { 0 };
    memset(flood, 'x', sizeof flood);
    header_scan_init(&h, 5000);
    header_scan_feed(&h, SPAN_LITERAL("X: "), &out);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(header_scan_feed(&h, span_make(flood, sizeof flood), &out), sizeof flood);
        cr_assert_leq(h.line.cap, 16384);
    }
    for (int i = 0; i < 1000; i++)
        header_scan_feed(&h, SPAN_LITERAL("\r\n more"), &out);
    header_scan_finish(&h, &out);
    cr_expect_leq(out.len, 5002);
    buf_fini(&out);
}

Test(header_scan, a_long_message_id_is_cut)
{
    struct header_scan h;
    struct buf in = { 0 }, out = { 0 };
    buf_puts(&in, "Message-ID: <");
    for (int i = 0; i < 400; i++)
        buf_puts(&in, "\xc3\xa9");
    buf_puts(&in, ">\r\n\r\n");
    header_scan_init(&h, 10000);
    pass(&h, buf_span(&in), 7, &out);
    cr_expect_leq(strlen(h.message_id), TRACE_MESSAGE_ID_MAX);
    cr_expect(span_iends(span_of(h.message_id), SPAN_LITERAL("...")));
    buf_fini(&in);
    buf_fini(&out);
}

/* Header lines and other lines at random, some longer than the limit. */
static void make_section(struct seeded *r, struct buf *out)
{
    static const char *const starts[] = { "Received: ", "Return-Path: ", "Subject: ", "X:", " ", "\t",
                                          "From ", "no header ", "Message-ID: " };
    size_t count = seeded_below(r, 8);
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, starts[seeded_below(r, ARRAY_LEN(starts))]);
        size_t len = seeded_below(r, seeded_below(r, 3) == 0 ? 90 : 12);
        for (size_t k = 0; k < len; k++)
            buf_putc(out, "ab:\r "[seeded_below(r, 5)]);
        buf_puts(out, "\r\n");
    }
}

Test(header_scan, random_messages_come_out_the_same_in_pieces_and_keep_their_body)
{
    static const char body[] = "\r\nReturn-Path: body\r\n line\r\nReceived: body\r\n";
    struct seeded r = seeded_begin(11);
    for (int round = 0; round < 5000; round++) {
        struct buf in = { 0 }, whole = { 0 }, parts = { 0 };
        struct header_scan h;
        make_section(&r, &in);
        buf_puts(&in, body);
        header_scan_init(&h, 40);
        pass(&h, buf_span(&in), in.len, &whole);
        header_scan_init(&h, 40);
        pass(&h, buf_span(&in), 1 + seeded_below(&r, 20), &parts);
        cr_assert(span_equals(buf_span(&whole), buf_span(&parts)), "%s", buf_text(&in));
        cr_assert(span_iends(buf_span(&whole), SPAN_LITERAL(body)), "%s", buf_text(&in));
        for (size_t i = 0; i + 1 < whole.len; i++)
            cr_assert(whole.at[i + 1] != '\n' || whole.at[i] == '\r', "%s", buf_text(&in));
        buf_fini(&in);
        buf_fini(&whole);
        buf_fini(&parts);
    }
}

/* ------------------------------------------------------------ forged Authentication-Results */

#define AR "Authentication-Results: "

static const struct {
    const char *in, *out; /* out NULL: the same */
} forged[] = {
    { AR "mx.example.org; spf=pass\r\nSubject: a\r\n\r\nb", "Subject: a\r\n\r\nb" },
    { AR "mx.example.org\r\n\r\nb", "\r\nb" },
    { AR "mx.example.org;\r\n\tspf=pass;\r\n dkim=pass\r\nA: b\r\n\r\n", "A: b\r\n\r\n" },
    /* in all the ways a reader might take for our name */
    { "authentication-RESULTS :MX.Example.Org.;none\r\n\r\n", "\r\n" },
    { AR "\"mx.example.org\"; none\r\n\r\n", "\r\n" },
    { AR "\"mx\\.example.org\" 1; none\r\n\r\n", "\r\n" },
    { AR "(a (b) \\) c) mx.example.org(x); none\r\n\r\n", "\r\n" },
    { AR "mx.example.org 1; none\r\n\r\n", "\r\n" },
    { "Authentication-Results:mx.example.org", "" },
    /* where the name is in a later line */
    { "Authentication-Results:\r\n mx.example.org; none\r\nA: b\r\n\r\n", "A: b\r\n\r\n" },
    { AR "(\r\n x\r\n )\r\n \r\n\tmx.example.org;\r\n none\r\n\r\n", "\r\n" },
    { "Authentication-Results:\r\n mx.example.org;\r\n Subject: x\r\n", "" },
    /* between others, once and again */
    { "A: b\r\n" AR "mx.example.org; none\r\n" AR "mx.example.org; none\r\nC: d\r\n\r\n",
      "A: b\r\nC: d\r\n\r\n" },
    { AR "mx.example.org; none\r\nno header\r\n", "\r\nno header\r\n" },
    /* what others found out stays */
    { AR "mx.example.com; spf=pass\r\n\r\n", NULL },
    { AR "amx.example.org; spf=pass\r\n\r\n", NULL },
    { AR "mx.example.org.example.com; spf=pass\r\n\r\n", NULL },
    { "Authentication-Results:\r\n mx.example.com;\r\n spf=pass\r\nA: b\r\n\r\n", NULL },
    { "ARC-" AR "i=1; mx.example.org; none\r\n\r\n", NULL },
    { "X-" AR "mx.example.org; none\r\n\r\n", NULL },
    { "Subject: x\r\n " AR "mx.example.org\r\n\r\n", NULL },
    { "A: b\r\n\r\n" AR "mx.example.org; none\r\n", NULL },
    /* without a name */
    { "Authentication-Results:\r\n \r\nA: b\r\n\r\n", NULL },
    { "Authentication-Results: (\r\n\r\nb", NULL },
    { "Authentication-Results:", NULL },
};

static void pass_forged(const char *in, const char *id, size_t chunk, struct buf *out)
{
    struct header_scan h;
    header_scan_init(&h, 102400);
    h.authserv_id = id;
    pass(&h, span_of(in), chunk, out);
}

Test(header_scan, results_under_our_own_name_are_taken_out)
{
    for (size_t i = 0; i < ARRAY_LEN(forged); i++)
        for (size_t chunk = 1; chunk <= 200; chunk += chunk < 20 ? 1 : 90) {
            struct buf out = { 0 };
            const char *wanted = forged[i].out != NULL ? forged[i].out : forged[i].in;
            pass_forged(forged[i].in, "mx.example.org", chunk, &out);
            cr_expect_str_eq(buf_text(&out), wanted, "%zu by %zu: %s", i, chunk, buf_text(&out));
            buf_fini(&out);
        }
}

Test(header_scan, without_a_name_of_ours_all_results_stay)
{
    static const char *const ids[] = { NULL, "" };
    for (size_t i = 0; i < 2; i++) {
        struct buf out = { 0 };
        pass_forged(AR "; none\r\n\r\n", ids[i], 7, &out);
        cr_expect_str_eq(buf_text(&out), AR "; none\r\n\r\n");
        buf_fini(&out);
    }
}

Test(header_scan, a_name_behind_endless_folds_does_not_cost_more_than_it_brings)
{
    struct buf in = { 0 }, out = { 0 };
    buf_puts(&in, "Authentication-Results: (");
    for (int i = 0; i < 30000; i++)
        buf_puts(&in, "\r\n (");
    buf_puts(&in, "\r\nA: b\r\n\r\n");
    pass_forged(buf_text(&in), "mx.example.org", 1000, &out);
    cr_expect_str_eq(buf_text(&out), "A: b\r\n\r\n");
    buf_fini(&in);
    buf_fini(&out);
}

/* ------------------------------------------------------------ the fields we add */

static const struct trace plain = {
    .helo = "h.test", .client_name = "c.test", .client_address = "192.0.2.1",
    .myhostname = "mx.example.org", .mail_name = "Postern", .protocol = "ESMTP", .queue_id = "4C1F",
    .recipient = { "a@example.org", 13 }, .date = "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)",
};

static void received(const struct trace *t, struct buf *out)
{
    buf_clear(out);
    trace_received(out, t);
}

Test(trace, received_tells_from_by_with_id_for_and_when)
{
    struct buf out = { 0 };
    received(&plain, &out);
    cr_expect_str_eq(buf_text(&out), "Received: from h.test (c.test [192.0.2.1])\r\n"
                                     "\tby mx.example.org (Postern) with ESMTP id 4C1F\r\n"
                                     "\tfor <a@example.org>; Mon, 23 Nov 2026 03:41:15 +0000 (UTC)\r\n");
    struct trace t = plain;
    t.helo = NULL;
    t.is_ipv6 = true;
    t.client_address = "2001:db8::1";
    t.tls = "TLSv1.3 with cipher X (256/256 bits)";
    t.is_tls = true;
    t.recipient = span_make(NULL, 0);
    received(&t, &out);
    cr_expect_str_eq(buf_text(&out),
                     "Received: from c.test (c.test [IPv6:2001:db8::1])\r\n"
                     "\t(using TLSv1.3 with cipher X (256/256 bits))\r\n"
                     "\tby mx.example.org (Postern) with ESMTPS id 4C1F; "
                     "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)\r\n");
    buf_fini(&out);
}

/* RFC 3848 and RFC 6531 4.3 */
static const struct {
    const char *protocol;
    bool is_tls, is_smtputf8;
    const char *name;
} protocols[] = {
    { "SMTP", false, false, "SMTP" },      { "ESMTP", false, false, "ESMTP" },
    { "ESMTP", true, false, "ESMTPS" },    { "ESMTP", false, true, "UTF8SMTP" },
    { "ESMTP", true, true, "UTF8SMTPS" },  { "SMTP", true, false, "SMTP" },
};

Test(trace, protocol_names_are_the_registered_ones)
{
    struct buf out = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        struct trace t = plain;
        char expected[64];
        t.protocol = protocols[i].protocol;
        t.is_tls = protocols[i].is_tls;
        t.is_smtputf8 = protocols[i].is_smtputf8;
        received(&t, &out);
        snprintf(expected, sizeof expected, " with %s id ", protocols[i].name);
        cr_expect_not_null(strstr(buf_text(&out), expected), "%s", expected);
    }
    buf_fini(&out);
}

/* Folded lines of at most 998 bytes that begin with a tab, no control octet anywhere. */
static void expect_harmless(struct buf *header)
{
    struct span rest = buf_span(header);
    for (size_t n = 0; rest.len > 0; n++) {
        size_t end = span_find(rest, '\n');
        cr_assert(end < rest.len && end > 0 && rest.at[end - 1] == '\r');
        cr_expect_leq(end - 1, 998);
        cr_expect(n == 0 || rest.at[0] == '\t', "folded");
        for (size_t i = n > 0; i < end - 1; i++)
            cr_expect(ascii_is_print(rest.at[i]) || (rest.at[i] & 0x80) != 0);
        rest = span_skip(rest, end + 1);
    }
}

static void expect_rfc5321_shape(struct buf *header)
{
    static const char shape[] =
        "^Received: from (\\[[0-9a-f.:]+\\]|[^][:space:]()<>]+) \\([^][:space:]()<>]+ \\[(IPv6:)?[0-9a-f.:]+\\]\\)\r\n"
        "(\t\\(using [^\r\n]+\\)\r\n)?\tby [^ ]+ \\([^ ]+\\) with [A-Z0-9]+ id [^ ;\r]+"
        "(\r\n\tfor <[^\r\n]+>)?; [A-Z][a-z]{2}, [0-9 ]{2} [A-Z][a-z]{2} [0-9]{4} "
        "[0-9]{2}:[0-9]{2}:[0-9]{2} [-+][0-9]{4} \\([A-Z]+\\)\r\n$";
    regex_t re;
    cr_assert_eq(regcomp(&re, shape, REG_EXTENDED | REG_NOSUB), 0);
    cr_expect_eq(regexec(&re, buf_text(header), 0, NULL, 0), 0, "%s", buf_text(header));
    regfree(&re);
}

Test(trace, received_has_the_shape_of_rfc_5321_4_4)
{
    struct buf out = { 0 };
    for (unsigned bits = 0; bits < 32; bits++) {
        struct trace t = plain;
        t.helo = (bits & 1) != 0 ? NULL : (bits & 2) != 0 ? "[192.0.2.1]" : "h.test";
        t.tls = (bits & 4) != 0 ? "TLSv1.3 with cipher X (256/256 bits)" : NULL;
        t.is_tls = (bits & 4) != 0;
        t.recipient = (bits & 8) != 0 ? span_make(NULL, 0) : SPAN_LITERAL("a b@example.org");
        t.is_ipv6 = (bits & 16) != 0;
        received(&t, &out);
        expect_harmless(&out);
        expect_rfc5321_shape(&out);
    }
    buf_fini(&out);
}

Test(trace, received_survives_whatever_names_it_is_given)
{
    struct buf out = { 0 }, name = { 0 };
    struct trace t = plain;
    for (int i = 0; i < 2000; i++)
        buf_putc(&name, "x\r\n\x1b"[i % 4]);
    t.helo = t.client_name = buf_text(&name);
    received(&t, &out);
    expect_harmless(&out);
    t = plain;
    t.recipient = SPAN_LITERAL("a\" b\\\xc2\x9b@example.org");
    received(&t, &out);
    expect_harmless(&out);
    cr_expect_not_null(strstr(buf_text(&out), "for <\"a\\\" b\\\\?\"@example.org>;"), "%s",
                       buf_text(&out));
    buf_fini(&out);
    buf_fini(&name);
}

static const struct {
    const char *sender, *original, *recipient, *headers;
} deliveries[] = {
    { "a@b.c", "x@y.z", "d@e.f",
      "Return-Path: <a@b.c>\r\nX-Original-To: x@y.z\r\nDelivered-To: d@e.f\r\n" },
    { "", "", "d@e.f", "Return-Path: <>\r\nDelivered-To: d@e.f\r\n" },
    { "a b@c.d", "\"@y.z", "x@y@e.f",
      "Return-Path: <\"a b\"@c.d>\r\nX-Original-To: \"\\\"\"@y.z\r\nDelivered-To: \"x@y\"@e.f\r\n" },
    { "\xc3\xa9@b.c", "\xc2\x9b@y.z", "d\r\nX: y@e.f",
      "Return-Path: <\xc3\xa9@b.c>\r\nX-Original-To: ?@y.z\r\n"
      "Delivered-To: \"d??X: y\"@e.f\r\n" },
};

Test(trace, delivery_headers_tell_sender_and_recipient)
{
    for (size_t i = 0; i < ARRAY_LEN(deliveries); i++) {
        struct buf out = { 0 };
        trace_delivery(&out, span_of(deliveries[i].sender), span_of(deliveries[i].original),
                       span_of(deliveries[i].recipient));
        cr_expect_str_eq(buf_text(&out), deliveries[i].headers);
        buf_fini(&out);
    }
}
