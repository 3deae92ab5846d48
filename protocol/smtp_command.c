#include "protocol/smtp_command.h"
#include "protocol/list.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "protocol/xclient.h"

#include <stdlib.h>

static bool is_announced(const struct smtp_session *s, unsigned bit)
{
    return (s->features.discard_ehlo & bit) == 0;
}

/* Remembers a refusal of an envelope for the log and says it. */
static void refuse_envelope(struct smtp_session *s, struct smtp_reply reply)
{
    s->refusal = reply;
    s->is_refusal_due = true;
    smtp_say_reply(s, &reply);
}

/* ------------------------------------------------------------ HELO, EHLO */

static const struct {
    const char *keyword;
    unsigned bit;
} ehlo_keywords[] = {
    { "PIPELINING", SMTP_EHLO_PIPELINING },
    { "SIZE", SMTP_EHLO_SIZE },
    { "VRFY", SMTP_EHLO_VRFY },
    { "STARTTLS", SMTP_EHLO_STARTTLS },
    { "XCLIENT", SMTP_EHLO_XCLIENT },
    { "ENHANCEDSTATUSCODES", SMTP_EHLO_ENHANCEDSTATUSCODES },
    { "8BITMIME", SMTP_EHLO_8BITMIME },
    { "DSN", SMTP_EHLO_DSN },
    { "SMTPUTF8", SMTP_EHLO_SMTPUTF8 },
    { "CHUNKING", SMTP_EHLO_CHUNKING },
    { "LIMITS", SMTP_EHLO_LIMITS },
};

unsigned smtp_ehlo_bit(struct span keyword)
{
    for (size_t i = 0; i < ARRAY_LEN(ehlo_keywords); i++)
        if (span_iequals(keyword, span_of(ehlo_keywords[i].keyword)))
            return ehlo_keywords[i].bit;
    return 0;
}

/* Bits that hold for this connection: what the configuration and the state allow. */
static unsigned ehlo_bits(const struct smtp_session *s)
{
    unsigned hidden = s->features.discard_ehlo;
    if (s->params->disable_vrfy_command)
        hidden |= SMTP_EHLO_VRFY;
    if (!s->features.starttls_ok || s->is_tls)
        hidden |= SMTP_EHLO_STARTTLS;
    if (!s->features.xclient_ok)
        hidden |= SMTP_EHLO_XCLIENT;
    if (!s->features.smtputf8_ok)
        hidden |= SMTP_EHLO_SMTPUTF8;
    return ~hidden;
}

/* What stands behind a keyword (RFC 1870, RFC 9422, XCLIENT). */
static void ehlo_value(struct smtp_session *s, struct buf *line, unsigned bit)
{
    if (bit == SMTP_EHLO_SIZE && s->params->message_size_limit > 0)
        buf_printf(line, " %lld", (long long)s->params->message_size_limit);
    if (bit == SMTP_EHLO_LIMITS)
        buf_printf(line, " RCPTMAX=%d", s->params->smtpd_recipient_limit);
    if (bit == SMTP_EHLO_XCLIENT)
        buf_puts(line, " " XCLIENT_ATTRIBUTES);
}

static void say_ehlo(struct smtp_session *s)
{
    struct buf text = { 0 };
    unsigned bits = ehlo_bits(s);
    buf_puts(&text, s->params->myhostname);
    for (size_t i = 0; i < ARRAY_LEN(ehlo_keywords); i++) {
        if ((bits & ehlo_keywords[i].bit) == 0)
            continue;
        buf_putc(&text, '\n');
        buf_puts(&text, ehlo_keywords[i].keyword);
        ehlo_value(s, &text, ehlo_keywords[i].bit);
    }
    smtp_say_reply(s, &(struct smtp_reply){ 250, NULL, buf_text(&text) });
    buf_fini(&text);
}

/* What later stands in logs, headers and look-ups (spec 1.10). */
static char *clean_helo(struct span name)
{
    char *helo = xmalloc(name.len + 1);
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        bool is_bad = !ascii_is_print(c) || strchr(" <>()\\\";@", c) != NULL;
        helo[i] = is_bad ? '?' : c;
    }
    helo[name.len] = '\0';
    return helo;
}

static void cmd_helo(struct smtp_session *s)
{
    if (s->argument.len == 0) {
        smtp_say(s, 501, NULL, "Syntax: %s hostname", smtp_verbs[s->verb].name);
        return;
    }
    s->helo_before = s->helo; /* the verdict is about the new name */
    s->helo = clean_helo(s->argument);
    smtp_ask_for(s, SMTP_ASK_HELO);
}

void smtp_helo_refused(struct smtp_session *s)
{
    free(s->helo);
    s->helo = s->helo_before;
    s->helo_before = NULL;
}

static void helo_accepted(struct smtp_session *s)
{
    free(s->helo_before);
    s->helo_before = NULL;
    smtp_mail_reset(s);
    s->is_esmtp = s->verb == SMTP_VERB_EHLO;
    if (s->is_esmtp)
        say_ehlo(s);
    else
        smtp_say(s, 250, NULL, "%s", s->params->myhostname);
}

/* ------------------------------------------------------------ STARTTLS, XCLIENT */

static void cmd_starttls(struct smtp_session *s)
{
    if (s->argument.len > 0)
        smtp_say(s, 501, "5.5.4", "Syntax: STARTTLS");
    else if (s->is_tls)
        smtp_say(s, 554, "5.5.1", "Error: TLS already active");
    else if (!s->features.starttls_ok || !is_announced(s, SMTP_EHLO_STARTTLS))
        smtp_say(s, 502, "5.5.1", "Error: command not implemented");
    else
        smtp_ask_for(s, SMTP_ASK_STARTTLS);
}

static void starttls_accepted(struct smtp_session *s)
{
    smtp_mail_reset(s);
    smtp_say(s, 220, "2.0.0", "Ready to start TLS");
    s->state = SMTP_STATE_TLS;
}

static void become_xclient(struct smtp_session *s, struct smtp_peer *peer,
                           const struct xclient *x)
{
    smtp_peer_fini(&s->peer);
    s->peer = *peer;
    s->peer.is_from_xclient = true;
    free(s->helo);
    s->helo = x->helo != NULL ? clean_helo(span_of(x->helo)) : NULL;
    s->is_esmtp = x->proto == XCLIENT_PROTO_ESMTP;
    smtp_mail_reset(s);
    s->errors = s->junk_commands = 0;
    smtp_ask_for(s, SMTP_ASK_CONNECT);
}

/* A deep copy to work on: the old identity stays if an attribute is bad. */
static void copy_peer(struct smtp_peer *to, const struct smtp_peer *from)
{
    *to = *from;
    to->memory = (struct arena){ 0 };
    to->address = arena_text(&to->memory, span_of(from->address));
    to->name = arena_text(&to->memory, span_of(from->name));
    to->reverse_name = arena_text(&to->memory, span_of(from->reverse_name));
}

static void cmd_xclient(struct smtp_session *s)
{
    struct smtp_peer peer;
    struct xclient x = { .peer = &peer };
    if (s->mail.is_open) {
        smtp_say(s, 503, "5.5.1", "Error: MAIL transaction in progress");
        return;
    }
    if (s->argument.len == 0) {
        smtp_say(s, 501, "5.5.4", "Syntax: XCLIENT attribute=value...");
        return;
    }
    if (!s->features.xclient_ok) {
        smtp_say(s, 550, "5.7.0", "Error: insufficient authorization");
        return;
    }
    copy_peer(&peer, &s->peer);
    const struct smtp_reply *refusal = xclient_parse(s->argument, &s->scratch, &x);
    if (refusal == NULL) {
        become_xclient(s, &peer, &x);
        return;
    }
    smtp_peer_fini(&peer);
    smtp_say_reply(s, refusal);
}

/* ------------------------------------------------------------ MAIL, RCPT, VRFY */

/* "FROM:" or "TO:" in front of the path, as Postfix reads it: nothing between word and colon. */
static bool cut_keyword(struct span *args, const char *keyword)
{
    struct span k = span_of(keyword);
    if (!span_istarts(*args, k))
        return false;
    *args = span_trim(span_skip(*args, k.len));
    return args->len > 0;
}

static void say_param_error(struct smtp_session *s, enum smtp_param_result result,
                            struct span bad)
{
    struct smtp_reply reply = smtp_param_reply(result);
    if (result == SMTP_PARAM_UNSUPPORTED)
        reply.text = arena_printf(&s->scratch, "%s%s", reply.text,
                                  text_escaped(&s->scratch, bad, 200));
    smtp_say_reply(s, &reply);
}

static bool mail_is_out_of_order(struct smtp_session *s)
{
    if (s->helo == NULL && s->params->smtpd_helo_required)
        smtp_say(s, 503, "5.5.1", "Error: send HELO/EHLO first");
    else if (s->mail.is_open)
        smtp_say(s, 503, "5.5.1", "Error: nested MAIL command");
    else if (s->bdat != BDAT_NONE)
        smtp_say(s, 503, "5.5.1", "Error: MAIL after BDAT");
    else
        return false;
    return true;
}

/* A domain beyond ASCII is none without SMTPUTF8 (RFC 6531 3.3); local parts are taken as they
 * come unless strict_smtputf8 says otherwise. */
static bool domain_is_misplaced(const struct smtp_path *path, bool is_declared)
{
    return !is_declared && !text_is_ascii(path->domain);
}

static bool utf8_is_refused(struct smtp_session *s, const struct smtp_path *path,
                            bool is_declared)
{
    bool is_allowed = s->features.smtputf8_ok && (is_declared || !s->params->strict_smtputf8);
    if (path->is_ascii || is_allowed)
        return false;
    smtp_say(s, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
    return true;
}

static void refuse_mail_size(struct smtp_session *s)
{
    refuse_envelope(s, (struct smtp_reply){ 552, "5.3.4",
                                            "Message size exceeds fixed limit" });
}

/* Sender and parameters are parsed into s->mail; is_open is set when the driver agrees. */
static void cmd_mail(struct smtp_session *s)
{
    struct smtp_mail *mail = &s->mail;
    struct span args = s->argument, bad;
    int64_t limit = s->params->message_size_limit;
    if (mail_is_out_of_order(s))
        return;
    smtp_mail_reset(s);
    if (!cut_keyword(&args, "FROM:")) {
        smtp_say(s, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
        return;
    }
    struct span token = smtp_path_cut(&args);
    if (!smtp_path_parse(token, s->params->strict_rfc821_envelopes, &mail->memory,
                         &mail->sender)) {
        smtp_say(s, 501, "5.1.7", "Bad sender address syntax");
        return;
    }
    struct span kept = arena_span(&mail->memory, args);
    enum smtp_param_result result = smtp_param_mail(
        kept, is_announced(s, SMTP_EHLO_DSN), s->features.smtputf8_ok, &mail->params, &bad);
    if (result != SMTP_PARAM_OK)
        say_param_error(s, result, bad);
    else if (domain_is_misplaced(&mail->sender, mail->params.is_smtputf8))
        smtp_say(s, 501, "5.1.7", "Bad sender address syntax");
    else if (utf8_is_refused(s, &mail->sender, mail->params.is_smtputf8))
        return;
    else if (limit > 0 && mail->params.size_bytes > (uint64_t)limit)
        refuse_mail_size(s);
    else
        smtp_ask_for(s, SMTP_ASK_MAIL);
}

static void mail_accepted(struct smtp_session *s)
{
    s->mail.is_open = true;
    s->mail.rcpts_end = &s->mail.rcpts;
    smtp_say(s, 250, "2.1.0", "Ok");
}

/* Parses the address and parameters into s->rcpt, in scratch memory. */
static bool parse_rcpt(struct smtp_session *s, struct span args)
{
    struct span bad;
    struct span token = smtp_path_cut(&args);
    s->rcpt = (struct smtp_rcpt){ 0 };
    if (!smtp_path_parse(token, s->params->strict_rfc821_envelopes, &s->scratch, &s->rcpt.path)
        || s->rcpt.path.address.len == 0) {
        smtp_say(s, 501, "5.1.3", "Bad recipient address syntax");
        return false;
    }
    enum smtp_param_result result =
        smtp_param_rcpt(args, is_announced(s, SMTP_EHLO_DSN), &s->rcpt.params, &bad);
    if (result != SMTP_PARAM_OK) {
        say_param_error(s, result, bad);
        return false;
    }
    if (domain_is_misplaced(&s->rcpt.path, s->mail.params.is_smtputf8)) {
        smtp_say(s, 501, "5.1.3", "Bad recipient address syntax");
        return false;
    }
    return !utf8_is_refused(s, &s->rcpt.path, s->mail.params.is_smtputf8);
}

static bool rcpt_is_out_of_order(struct smtp_session *s)
{
    if (!s->mail.is_open)
        smtp_say(s, 503, "5.5.1", "Error: need MAIL command");
    else if (s->bdat != BDAT_NONE)
        smtp_say(s, 503, "5.5.1", "Error: RCPT after BDAT");
    else
        return false;
    return true;
}

static bool is_over_rcpt_limit(struct smtp_session *s)
{
    if (s->mail.rcpt_count < s->params->smtpd_recipient_limit)
        return false;
    s->is_uncounted = s->mail.rcpt_overshoot < s->params->smtpd_recipient_overshoot_limit;
    if (s->is_uncounted)
        s->mail.rcpt_overshoot++;
    smtp_say(s, 452, "4.5.3", "Error: too many recipients");
    return true;
}

static void cmd_rcpt(struct smtp_session *s)
{
    struct span args = s->argument;
    if (rcpt_is_out_of_order(s))
        return;
    if (!cut_keyword(&args, "TO:"))
        smtp_say(s, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    else if (parse_rcpt(s, args) && !is_over_rcpt_limit(s))
        smtp_ask_for(s, SMTP_ASK_RCPT);
}

/* From scratch memory, which ends with the command, into the transaction's. */
static void rcpt_accepted(struct smtp_session *s)
{
    struct smtp_mail *mail = &s->mail;
    struct smtp_rcpt *rcpt = arena_alloc(&mail->memory, sizeof *rcpt);
    *rcpt = s->rcpt;
    smtp_path_keep(&rcpt->path, &mail->memory);
    rcpt->params.orcpt = arena_span(&mail->memory, rcpt->params.orcpt);
    *mail->rcpts_end = rcpt;
    mail->rcpts_end = &rcpt->next;
    mail->rcpt_count++;
    smtp_say(s, 250, "2.1.5", "Ok");
}

static bool is_last_word(struct span *args, const char *word)
{
    struct span w = span_of(word);
    if (!span_iends(*args, w) || args->len <= w.len
        || !ascii_is_space(args->at[args->len - w.len - 1]))
        return false;
    *args = span_trim(span_make(args->at, args->len - w.len));
    return true;
}

static void cmd_vrfy(struct smtp_session *s)
{
    struct span args = s->argument;
    if (s->params->disable_vrfy_command) {
        smtp_say(s, 502, "5.5.1", "VRFY command is disabled");
        return;
    }
    if (args.len == 0) {
        smtp_say(s, 501, "5.5.4", "Syntax: VRFY address%s",
                 s->features.smtputf8_ok ? " [SMTPUTF8]" : "");
        return;
    }
    is_last_word(&args, "SMTPUTF8");
    s->argument = args; /* what the 252 repeats */
    struct span token = smtp_path_cut(&args);
    s->rcpt = (struct smtp_rcpt){ 0 };
    if (args.len > 0 || !smtp_path_parse(token, false, &s->scratch, &s->rcpt.path)
        || s->rcpt.path.address.len == 0)
        smtp_say(s, 501, "5.1.3", "Bad recipient address syntax");
    else
        smtp_ask_for(s, SMTP_ASK_VRFY);
}

static void vrfy_accepted(struct smtp_session *s)
{
    smtp_say(s, 252, "2.0.0", "%s", text_escaped(&s->scratch, s->argument, 400));
}

/* ------------------------------------------------------------ DATA, BDAT */

static bool has_no_recipients(struct smtp_session *s, struct smtp_reply *refusal)
{
    if (s->mail.rcpt_count > 0)
        return false;
    *refusal = s->mail.is_open
                   ? (struct smtp_reply){ 554, "5.5.1", "Error: no valid recipients" }
                   : (struct smtp_reply){ 503, "5.5.1", "Error: need RCPT command" };
    return true;
}

static void cmd_data(struct smtp_session *s)
{
    struct smtp_reply refusal;
    if (s->bdat != BDAT_NONE)
        smtp_say(s, 503, "5.5.1", "Error: DATA after BDAT");
    else if (has_no_recipients(s, &refusal))
        smtp_say_reply(s, &refusal);
    else if (s->argument.len > 0)
        smtp_say(s, 501, "5.5.4", "Syntax: DATA");
    else
        smtp_ask_for(s, SMTP_ASK_DATA);
}

void smtp_chunk_skip(struct smtp_session *s, const struct smtp_reply *reply)
{
    s->refusal = *reply;
    s->refusal.text = arena_text(&s->scratch, span_of(reply->text));
    s->refusal.enhanced = arena_text(&s->scratch, span_of(reply->enhanced));
    s->chunk_is_skipped = true;
    s->bdat = BDAT_FAILED;
    s->state = SMTP_STATE_BDAT;
}

static bool parse_chunk(struct smtp_session *s)
{
    struct span args = s->argument;
    struct span size = span_next_word(&args), last = span_next_word(&args);
    s->chunk_is_last = span_iequals(last, SPAN_LITERAL("LAST"));
    if (!span_to_u64(size, INT64_MAX, &s->chunk_bytes) || (last.len > 0 && !s->chunk_is_last)
        || span_trim(args).len > 0)
        return false;
    s->chunk_left_bytes = s->chunk_bytes;
    s->chunk_is_skipped = false;
    return true;
}

/* True: this chunk can only be skipped, with the reply (spec 9.3; RFC 3030 section 2). */
static bool chunk_is_refused(struct smtp_session *s, struct smtp_reply *refusal)
{
    int64_t limit = s->params->message_size_limit;
    uint64_t size_bytes = s->chunk_bytes + (s->bdat == BDAT_ACTIVE ? s->data.size_bytes : 0);
    if (s->bdat == BDAT_FAILED) {
        const char *text = arena_printf(&s->scratch, "Discarded %llu bytes after earlier error",
                                        (unsigned long long)s->chunk_bytes);
        *refusal = (struct smtp_reply){ 551, "5.0.0", text };
    } else if (has_no_recipients(s, refusal)) {
        return true;
    } else if (s->chunk_bytes == 0 && !s->chunk_is_last) {
        *refusal = (struct smtp_reply){ 551, "5.7.1", "Null BDAT request" };
    } else if (limit > 0 && size_bytes > (uint64_t)limit) {
        *refusal = (struct smtp_reply){ 552, "5.3.4", "Chunk exceeds message size limit" };
    } else {
        return false;
    }
    return true;
}

/* A size we cannot read means that we do not know where the next command begins: the end. */
static void cmd_bdat(struct smtp_session *s)
{
    struct smtp_reply refusal;
    if (!parse_chunk(s)) {
        smtp_say(s, 521, "5.5.4", "Syntax: BDAT count [LAST]");
        return;
    }
    if (chunk_is_refused(s, &refusal))
        smtp_chunk_skip(s, &refusal);
    else if (s->bdat == BDAT_NONE)
        smtp_ask_for(s, SMTP_ASK_DATA);
    else
        s->state = SMTP_STATE_BDAT;
}

static void data_accepted(struct smtp_session *s)
{
    bool is_bdat = s->verb == SMTP_VERB_BDAT;
    smtp_data_begin(&s->data, is_bdat);
    s->is_too_big = false;
    if (is_bdat) {
        s->bdat = BDAT_ACTIVE;
        s->state = SMTP_STATE_BDAT;
    } else {
        smtp_say(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
        s->state = SMTP_STATE_DATA;
    }
}

/* ------------------------------------------------------------ the rest */

static void cmd_rset(struct smtp_session *s)
{
    if (s->argument.len > 0) {
        smtp_say(s, 501, "5.5.4", "Syntax: RSET");
        return;
    }
    smtp_mail_reset(s);
    smtp_say(s, 250, "2.0.0", "Ok");
}

static void cmd_noop(struct smtp_session *s)
{
    smtp_say(s, 250, "2.0.0", "Ok");
}

static void cmd_help(struct smtp_session *s)
{
    smtp_say(s, 214, "2.0.0",
             "Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS HELP QUIT");
}

static void cmd_not_implemented(struct smtp_session *s)
{
    smtp_say(s, 502, "5.5.1", "Error: command not implemented");
}

static void cmd_auth(struct smtp_session *s)
{
    smtp_say(s, 503, "5.5.1", "Error: authentication not enabled");
}

static void cmd_quit(struct smtp_session *s)
{
    smtp_say(s, 221, "2.0.0", "Bye");
    smtp_mail_reset(s);
    smtp_close(s, SMTP_CLOSE_QUIT);
}

static void cmd_unknown(struct smtp_session *s)
{
    smtp_ask_for(s, SMTP_ASK_COMMAND);
}

static void unknown_accepted(struct smtp_session *s)
{
    smtp_say(s, 500, "5.5.2", "Error: command not recognized");
}

static const struct {
    void (*run)(struct smtp_session *s);
    bool is_ok_before_tls; /* with smtpd_tls_security_level = encrypt */
} commands[SMTP_VERB_COUNT] = {
    [SMTP_VERB_UNKNOWN] = { cmd_unknown, true },
    [SMTP_VERB_HELO] = { cmd_helo, true },
    [SMTP_VERB_EHLO] = { cmd_helo, true },
    [SMTP_VERB_STARTTLS] = { cmd_starttls, true },
    [SMTP_VERB_XCLIENT] = { cmd_xclient, true },
    [SMTP_VERB_MAIL] = { cmd_mail, false },
    [SMTP_VERB_RCPT] = { cmd_rcpt, false },
    [SMTP_VERB_DATA] = { cmd_data, false },
    [SMTP_VERB_BDAT] = { cmd_bdat, true }, /* must skip its octets, refuses itself */
    [SMTP_VERB_RSET] = { cmd_rset, false },
    [SMTP_VERB_NOOP] = { cmd_noop, true },
    [SMTP_VERB_VRFY] = { cmd_vrfy, false },
    [SMTP_VERB_EXPN] = { cmd_not_implemented, false },
    [SMTP_VERB_HELP] = { cmd_help, true },
    [SMTP_VERB_ETRN] = { cmd_not_implemented, false },
    [SMTP_VERB_AUTH] = { cmd_auth, false },
    [SMTP_VERB_SEND] = { cmd_not_implemented, false },
    [SMTP_VERB_SOML] = { cmd_not_implemented, false },
    [SMTP_VERB_SAML] = { cmd_not_implemented, false },
    [SMTP_VERB_QUIT] = { cmd_quit, true },
};

static bool is_noop_word(struct smtp_session *s)
{
    struct span words = span_of(s->params->smtpd_noop_commands);
    for (;;) {
        struct span word = list_next(&words);
        if (word.len == 0)
            return false;
        if (span_iequals(word, s->command))
            return true;
    }
}

/* It counts as what it does, also as junk (spec 9.1). */
static void run_noop_word(struct smtp_session *s)
{
    s->verb = SMTP_VERB_NOOP;
    cmd_noop(s);
}

void smtp_command_run(struct smtp_session *s)
{
    if (s->features.tls_required && !s->is_tls && !commands[s->verb].is_ok_before_tls)
        smtp_say(s, 530, "5.7.0", "Must issue a STARTTLS command first");
    else if (s->params->smtpd_noop_commands[0] != '\0' && is_noop_word(s))
        run_noop_word(s);
    else
        commands[s->verb].run(s);
}

void smtp_command_accepted(struct smtp_session *s)
{
    switch (s->ask) {
    case SMTP_ASK_CONNECT: break; /* smtp_session.c greets */
    case SMTP_ASK_HELO: helo_accepted(s); break;
    case SMTP_ASK_MAIL: mail_accepted(s); break;
    case SMTP_ASK_RCPT: rcpt_accepted(s); break;
    case SMTP_ASK_VRFY: vrfy_accepted(s); break;
    case SMTP_ASK_DATA: data_accepted(s); break;
    case SMTP_ASK_STARTTLS: starttls_accepted(s); break;
    case SMTP_ASK_COMMAND: unknown_accepted(s); break;
    }
}
