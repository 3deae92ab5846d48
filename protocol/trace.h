/* trace - the header section on its way through, and the trace fields we add to it
 * (RFC 5321 4.4, RFC 5322 2.2, RFC 3848).
 *
 * struct header_scan watches the header section: counts Received: (loops), takes forged headers
 * out (Return-Path:, and Authentication-Results: under our own name), remembers Message-ID: for
 * the log, cuts a header past limit_bytes.
 * Owns:   the header line that has not ended yet, and a header that may have to go.
 * In:     message bytes with CR LF line ends, in pieces of any size.
 * Ends:   at the empty line, or before a line that is no header; a message that begins with
 *         such a line (also when all headers before it were taken out) gets an empty line in
 *         front, so that ours stay headers. A leading mailbox line ("From x ...") passes as it
 *         is, cut like a header.
 * Thread: any, one at a time. */
#ifndef POSTERN_TRACE_H
#define POSTERN_TRACE_H

#include "protocol/buf.h"

enum { TRACE_MESSAGE_ID_MAX = 250 };

struct header_scan {
    struct buf line; /* owns: the physical line so far */
    struct buf held; /* owns: the header at hand, while it is open whether it may stay */
    const char *authserv_id; /* lent; NULL or "": Authentication-Results: are none of ours */
    size_t limit_bytes, header_bytes; /* of the logical header so far */
    bool is_done, is_dropping, is_holding, has_lines, has_kept;
    bool is_id_open; /* the Message-ID's value is still to come, folded */
    int received_count;
    char message_id[TRACE_MESSAGE_ID_MAX + 1];
};

void header_scan_init(struct header_scan *h, size_t limit_bytes);
void header_scan_fini(struct header_scan *h);

/* Appends what stays of the header section to *out; returns how much of *in it took. With
 * is_done the rest of the message is body and needs no further call. */
size_t header_scan_feed(struct header_scan *h, struct span in, struct buf *out);

/* The message is over: a header line without an end still has to leave. */
void header_scan_finish(struct header_scan *h, struct buf *out);

struct trace {
    const char *helo, *client_name, *client_address; /* helo NULL: none was given */
    const char *myhostname, *mail_name;
    const char *protocol; /* "ESMTP", "SMTP" */
    const char *tls;      /* "TLSv1.3 with cipher X (256/256 bits)", NULL: none to tell */
    bool is_tls, is_smtputf8, is_ipv6;
    const char *queue_id;
    struct span recipient; /* internal form, of the only one; empty: not told */
    const char *date;      /* "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)" */
};

/* Appends a folded Received: header. */
void trace_received(struct buf *out, const struct trace *t);

/* "Return-Path: <sender>", "X-Original-To:", "Delivered-To:"; addresses in internal form. */
void trace_delivery(struct buf *out, struct span sender, struct span original,
                    struct span recipient);

#endif
