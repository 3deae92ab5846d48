#include "protocol/smtp_session.h"

#include "tests/unit/seeded.h"
#include "tests/unit/session_driver.h"

#include <criterion/criterion.h>

/* Replies are those of Postfix 3.7.11, measured (spec 9 and appendix A); of its later versions
 * where the specification prefers them; of our own where a comment says so. */

struct dialogue {
    const char *title, *script;
};

enum { FROM_CONNECT, FROM_EHLO };

static void run_dialogue(const struct dialogue *dialogue, int from, size_t chunk)
{
    struct driver d;
    struct arena memory = { 0 };
    driver_begin(&d);
    if (from == FROM_EHLO)
        driver_greet(&d);
    d.chunk = chunk;
    const char *wrong = driver_run(&d, &memory, dialogue->script);
    cr_expect_null(wrong, "%s, pieces of %zu: at \"%s\" stands\n%s", dialogue->title, chunk, wrong,
                   buf_text(&d.out));
    driver_end(&d);
    arena_fini(&memory);
}

/* Line by line, then in pieces. */
static void run_all(const struct dialogue *dialogues, size_t count, int from)
{
    static const size_t chunks[] = { SIZE_MAX, 1, 2, 5 };
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < ARRAY_LEN(chunks); k++)
            run_dialogue(&dialogues[i], from, chunks[k]);
}

/* For groups: only input that comes together can be out of turn. */
static void run_whole(const struct dialogue *dialogues, size_t count, int from)
{
    for (size_t i = 0; i < count; i++)
        run_dialogue(&dialogues[i], from, SIZE_MAX);
}

#define CONNECT "! connect\n220 mx.example.org ESMTP Postern\n"
#define MAIL    "> MAIL FROM:<a@b.c>\n250 2.1.0 Ok\n"
#define RCPT    "> RCPT TO:<d@e.f>\n250 2.1.5 Ok\n"
#define DATA    "> DATA\n354 End data with <CR><LF>.<CR><LF>\n"
#define QUEUED  "250 2.0.0 Ok: queued as 4C1F\n"
#define SYNC    "554 5.5.0 Error: SMTP protocol synchronization\n"
#define NO_MAIL "503 5.5.1 Error: need MAIL command\n"
#define NO_RCPT "503 5.5.1 Error: need RCPT command\n"

/* ------------------------------------------------------------ greeting */

#define KEYWORDS_BEFORE "250-mx.example.org\n250-PIPELINING\n250-SIZE 1000\n250-VRFY\n"
#define KEYWORDS_BEHIND "250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250-SMTPUTF8\n250-CHUNKING\n" \
                        "250 LIMITS RCPTMAX=1000\n"

static const struct dialogue greetings[] = {
    { "a whole mail",
      CONNECT "> EHLO x\n" KEYWORDS_BEFORE KEYWORDS_BEHIND MAIL RCPT DATA
              "> hello|..dot|.\n(commit hello|.dot|)\n" QUEUED "> QUIT\n221 2.0.0 Bye\n(close quit)\n" },
    { "STARTTLS and XCLIENT are announced when they are offered",
      CONNECT "= starttls yes\n= xclient yes\n> EHLO x\n" KEYWORDS_BEFORE "250-STARTTLS\n"
              "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\n" KEYWORDS_BEHIND },
    { "what is switched off is not announced",
      CONNECT "= message_size_limit 0\n= disable_vrfy_command yes\n= smtputf8 no\n"
              "= smtpd_recipient_limit 7\n> EHLO x\n250-mx.example.org\n250-PIPELINING\n250-SIZE\n"
              "250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250-CHUNKING\n250 LIMITS RCPTMAX=7\n" },
    { "discarded keywords",
      CONNECT "= starttls yes\n= xclient yes\n= discard 2047\n> EHLO x\n250 mx.example.org\n" },
    { "one keyword is left",
      CONNECT "= discard 2046\n> EHLO x\n250-mx.example.org\n250 PIPELINING\n" },
    { "HELO", CONNECT "> HELO x\n250 mx.example.org\n" },
    { "no HELO is needed", CONNECT MAIL RCPT },
    { "HELO is needed when that is wanted",
      CONNECT "= smtpd_helo_required yes\n> MAIL FROM:<a@b.c>\n503 5.5.1 Error: send HELO/EHLO first\n"
              "> HELO x\n250 mx.example.org\n" MAIL },
    { "a refused client may only quit",
      "? connect 554 5.7.1 <c.test[192.0.2.1]>: Client host rejected: Access denied\n! connect\n"
      "554 5.7.1 <c.test[192.0.2.1]>: Client host rejected: Access denied\n"
      "> MAIL FROM:<a@b.c>\n503 5.7.0 Error: access denied for c.test[192.0.2.1]\n"
      "> XCLIENT NAME=x\n503 5.7.0 Error: access denied for c.test[192.0.2.1]\n"
      "> \n503 5.7.0 Error: access denied for c.test[192.0.2.1]\n"
      "> QUIT\n221 2.0.0 Bye\n(close quit)\n" },
    { "a refused client runs into the limit of errors",
      "= smtpd_hard_error_limit 2\n? connect 450 4.7.1 later\n! connect\n450 4.7.1 later\n"
      "> NOOP\n503 5.7.0 Error: access denied for c.test[192.0.2.1]\n"
      "> NOOP\n503 5.7.0 Error: access denied for c.test[192.0.2.1]\n"
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "421 instead of the banner closes",
      "? connect 421 4.7.0 mx.example.org Error: too many connections from 192.0.2.1\n! connect\n"
      "421 4.7.0 mx.example.org Error: too many connections from 192.0.2.1\n(close reply)\n" },
    { "521 too", "? connect 521 5.7.1 go away\n! connect\n521 5.7.1 go away\n(close reply)\n> NOOP\n" },
    { "a client that the driver saw talk early", "! early\n! connect\n" SYNC "(close sync)\n" },
    { "it may where that is allowed",
      "= smtpd_forbid_unauth_pipelining no\n! early\n" CONNECT "> HELO x\n250 mx.example.org\n" },
};

Test(smtp_session, greets_and_announces)
{
    run_all(greetings, ARRAY_LEN(greetings), FROM_CONNECT);
}

static const struct dialogue early[] = {
    { "a client that talks before the banner", "> EHLO x\n" SYNC "(close sync)\n" },
    { "a refused client that talks early is refused",
      "? connect 554 5.7.1 no\n>> E\n554 5.7.1 no\n>> HLO x|\n503 5.7.0 Error: access denied for "
      "c.test[192.0.2.1]\n" },
};

Test(smtp_session, nobody_talks_before_the_banner)
{
    run_whole(early, ARRAY_LEN(early), FROM_CONNECT);
}

Test(smtp_session, keywords_have_their_bits)
{
    static const char *const keywords[] = { "PIPELINING", "SIZE", "VRFY", "STARTTLS", "XCLIENT",
                                            "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8",
                                            "CHUNKING", "LIMITS" };
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        cr_expect_eq(smtp_ehlo_bit(span_of(keywords[i])), 1u << i, "%s", keywords[i]);
    cr_expect_eq(smtp_ehlo_bit(SPAN_LITERAL("starttls")), SMTP_EHLO_STARTTLS);
    cr_expect_eq(smtp_ehlo_bit(SPAN_LITERAL("silent-discard")), 0);
}

/* ------------------------------------------------------------ single commands */

static const struct dialogue single[] = {
    { "HELO without a name",
      "> HELO\n501 Syntax: HELO hostname\n> EHLO  \n501 Syntax: EHLO hostname\n" },
    { "HELO ends a transaction",
      MAIL RCPT "> HELO x\n250 mx.example.org\n(reset)\n> RCPT TO:<d@e.f>\n" NO_MAIL "> DATA\n" NO_RCPT },
    { "HELO without a name does not", MAIL "> EHLO\n501 Syntax: EHLO hostname\n" RCPT },
    { "a refused name",
      "? helo 550 5.7.1 <y>: Helo command rejected: Access denied\n> HELO y\n"
      "550 5.7.1 <y>: Helo command rejected: Access denied\n> HELO z\n250 mx.example.org\n" },
    /* HELP is ours: Postfix does not know it */
    { "commands that do nothing",
      "> NOOP\n250 2.0.0 Ok\n> NOOP x y\n250 2.0.0 Ok\n> RSET\n250 2.0.0 Ok\n"
      "> RSET x\n501 5.5.4 Syntax: RSET\n>   noop\n250 2.0.0 Ok\n"
      "> HELP\n214 2.0.0 Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS HELP QUIT\n"
      "> AUTH PLAIN\n503 5.5.1 Error: authentication not enabled\n" },
    { "commands of RFC 821 that nobody needs",
      "> EXPN x\n502 5.5.1 Error: command not implemented\n"
      "> ETRN x\n502 5.5.1 Error: command not implemented\n"
      "> SEND FROM:<>\n502 5.5.1 Error: command not implemented\n"
      "> SOML FROM:<>\n502 5.5.1 Error: command not implemented\n"
      "> SAML FROM:<>\n502 5.5.1 Error: command not implemented\n" },
    { "QUIT", "> QUIT x\n221 2.0.0 Bye\n(close quit)\n> NOOP\n" },
    { "QUIT inside a transaction", MAIL RCPT "> QUIT\n221 2.0.0 Bye\n(reset)\n(close quit)\n" },
    { "lines that are no command",
      "> FOO\n500 5.5.2 Error: command not recognized\n> NO`OP\n500 5.5.2 Error: command not recognized\n"
      "> \n500 5.5.2 Error: bad syntax\n>  \t \n500 5.5.2 Error: bad syntax\n" },
    { "a forbidden command",
      MAIL "? command 221 2.7.0 Error: I can break rules, too. Goodbye.\n> GET / HTTP/1.1\n"
           "221 2.7.0 Error: I can break rules, too. Goodbye.\n(close forbidden)\n" },
    { "UTF-8 in commands",
      "> NOOP \xff\n500 5.5.2 Error: bad UTF-8 syntax\n> NOOP \xc3\xa9\n250 2.0.0 Ok\n"
      "= smtputf8_enable no\n> NOOP \xff\n250 2.0.0 Ok\n" },
    { "words that do nothing",
      "= smtpd_noop_commands foo,bar, MAIL\n> FOO\n250 2.0.0 Ok\n> bar x\n250 2.0.0 Ok\n"
      "> foobar\n500 5.5.2 Error: command not recognized\n> MAIL FROM:<a@b.c>\n250 2.0.0 Ok\n"
      "> RCPT TO:<d@e.f>\n" NO_MAIL },
    { "the longest line and one past it",
      "= line_length_limit 20\n> NOOP 678901234567890\n250 2.0.0 Ok\n"
      "> NOOP 6789012345678901\n500 5.5.2 mx.example.org Error: command too long\n"
      "> NOOP 678901234567890123456789012345678901234567890\n"
      "500 5.5.2 mx.example.org Error: command too long\n> NOOP\n250 2.0.0 Ok\n" },
    { "a line too long is not executed",
      "= line_length_limit 20\n" MAIL
      "> RSET                  \n500 5.5.2 mx.example.org Error: command too long\n" RCPT },
    { "a bare LF ends a line, a bare CR does not",
      ">> NOOP^\n250 2.0.0 Ok\n>> NOOP~\n> RSET\n250 2.0.0 Ok\n"
      "> RSET~\n250 2.0.0 Ok\n" },
    { "a bare LF is refused where that is wanted",
      "= bare_newline_reject yes\n> NOOP\n250 2.0.0 Ok\n" MAIL
      ">> RSET^\n550 5.5.2 mx.example.org Error: bare <LF> received\n(close bare_lf)\n" },
    { "with a code of its own",
      "= bare_newline_reject yes\n= smtpd_forbid_bare_newline_reject_code 521\n>> NOOP^\n"
      "521 5.5.2 mx.example.org Error: bare <LF> received\n(close bare_lf)\n" },
    { "VRFY",
      "> VRFY\n501 5.5.4 Syntax: VRFY address [SMTPUTF8]\n> VRFY bob\n252 2.0.0 bob\n"
      "> VRFY <bob@e.f>\n252 2.0.0 <bob@e.f>\n> VRFY bob SMTPUTF8\n252 2.0.0 bob\n"
      "> VRFY a b\n501 5.1.3 Bad recipient address syntax\n> VRFY <>\n"
      "501 5.1.3 Bad recipient address syntax\n> VRFY a@\n501 5.1.3 Bad recipient address syntax\n"
      "> VRFY \xc3\xa9@x.y\n252 2.0.0 \xc3\xa9@x.y\n? vrfy 550 5.1.1 no such user\n> VRFY x\n"
      "550 5.1.1 no such user\n= smtputf8 no\n> VRFY\n501 5.5.4 Syntax: VRFY address\n"
      "= disable_vrfy_command yes\n> VRFY bob\n502 5.5.1 VRFY command is disabled\n" },
    { "VRFY inside a transaction", MAIL RCPT "> VRFY bob\n252 2.0.0 bob\n" DATA "> .\n(commit)\n" QUEUED },
};

Test(smtp_session, commands_have_their_replies)
{
    run_all(single, ARRAY_LEN(single), FROM_EHLO);
}

/* ------------------------------------------------------------ MAIL and RCPT */

static const struct dialogue envelopes[] = {
    { "MAIL by its grammar",
      "> MAIL\n501 5.5.4 Syntax: MAIL FROM:<address>\n> MAIL FROM\n501 5.5.4 Syntax: MAIL FROM:<address>\n"
      "> MAIL FROM:\n501 5.5.4 Syntax: MAIL FROM:<address>\n> MAIL <a@b.c>\n"
      "501 5.5.4 Syntax: MAIL FROM:<address>\n> MAIL FROM :<a@b.c>\n501 5.5.4 Syntax: MAIL FROM:<address>\n"
      "> MAIL TO:<a@b.c>\n501 5.5.4 Syntax: MAIL FROM:<address>\n> MAIL FROM:<a@>\n"
      "501 5.1.7 Bad sender address syntax\n> MAIL FROM:<a@1.2.3.4>\n501 5.1.7 Bad sender address syntax\n"
      "> MAIL FROM: <a@b.c>\n250 2.1.0 Ok\n> RSET\n250 2.0.0 Ok\n(reset)\n> mail from:a@b.c\n250 2.1.0 Ok\n" },
    { "RCPT by its grammar",
      MAIL "> RCPT\n501 5.5.4 Syntax: RCPT TO:<address>\n> RCPT TO:\n501 5.5.4 Syntax: RCPT TO:<address>\n"
           "> RCPT TO:<>\n501 5.1.3 Bad recipient address syntax\n> RCPT TO:<\"\">\n"
           "501 5.1.3 Bad recipient address syntax\n> RCPT TO:<d@e.f\n501 5.1.3 Bad recipient address syntax\n"
           "> RCPT TO:d@e.f\n250 2.1.5 Ok\n> rcpt to: <postmaster>\n250 2.1.5 Ok\n" },
    { "strict envelopes",
      "= strict_rfc821_envelopes yes\n> MAIL FROM:a@b.c\n501 5.1.7 Bad sender address syntax\n" MAIL
      "> RCPT TO:d@e.f\n501 5.1.3 Bad recipient address syntax\n" RCPT },
    { "in order",
      "> RCPT TO:<d@e.f>\n" NO_MAIL "> DATA\n" NO_RCPT MAIL "> DATA\n554 5.5.1 Error: no valid recipients\n"
      "> MAIL FROM:<a@b.c>\n503 5.5.1 Error: nested MAIL command\n" RCPT
      "> MAIL FROM:<a@b.c>\n503 5.5.1 Error: nested MAIL command\n> DATA x\n501 5.5.4 Syntax: DATA\n" DATA
      "> .\n(commit)\n" QUEUED "> DATA\n" NO_RCPT "> RCPT TO:<d@e.f>\n" NO_MAIL },
    { "a refused sender leaves nothing open",
      "? mail 550 5.7.1 <a@b.c>: Sender address rejected: Access denied\n> MAIL FROM:<a@b.c>\n"
      "550 5.7.1 <a@b.c>: Sender address rejected: Access denied\n> RCPT TO:<d@e.f>\n" NO_MAIL MAIL },
    { "a refused recipient leaves the others alone",
      MAIL RCPT "? rcpt 450 4.2.0 <g@e.f>: Recipient address rejected: Greylisted\n> RCPT TO:<g@e.f>\n"
                "450 4.2.0 <g@e.f>: Recipient address rejected: Greylisted\n" RCPT DATA
                "> .\n(commit)\n" QUEUED },
    { "only refused recipients",
      MAIL "? rcpt 550 5.1.1 no\n> RCPT TO:<g@e.f>\n550 5.1.1 no\n> DATA\n"
           "554 5.5.1 Error: no valid recipients\n" RCPT DATA "> .\n(commit)\n" QUEUED },
    { "a refused DATA leaves the transaction open",
      MAIL RCPT "? data 554 5.7.1 <DATA>: Data command rejected: Access denied\n> DATA\n"
                "554 5.7.1 <DATA>: Data command rejected: Access denied\n" RCPT
                "> MAIL FROM:<a@b.c>\n503 5.5.1 Error: nested MAIL command\n" DATA "> .\n(commit)\n" QUEUED },
    { "421 and 521 close whatever they answer",
      MAIL "? rcpt 421 4.7.0 go away\n> RCPT TO:<d@e.f>\n421 4.7.0 go away\n(close reply)\n" },
    { "at MAIL", "? mail 521 5.7.1 go away\n> MAIL FROM:<a@b.c>\n521 5.7.1 go away\n(close reply)\n" },
    { "at HELO", "? helo 421 4.7.0 x\n> HELO x\n421 4.7.0 x\n(close reply)\n" },
    { "at VRFY", "? vrfy 421 4.7.0 x\n> VRFY x\n421 4.7.0 x\n(close reply)\n" },
    { "at DATA", MAIL RCPT "? data 421 4.7.0 x\n> DATA\n421 4.7.0 x\n(close reply)\n" },
    { "RSET", MAIL RCPT "> RSET\n250 2.0.0 Ok\n(reset)\n> RCPT TO:<d@e.f>\n" NO_MAIL "> RSET\n250 2.0.0 Ok\n" },
    { "the size that is announced",
      "> MAIL FROM:<a@b.c> SIZE=1000\n250 2.1.0 Ok\n> RSET\n250 2.0.0 Ok\n(reset)\n"
      "> MAIL FROM:<a@b.c> SIZE=1001\n552 5.3.4 Message size exceeds fixed limit\n"
      "(rejected 552 5.3.4 Message size exceeds fixed limit)\n"
      "> MAIL FROM:<a@b.c> SIZE=9223372036854775808\n"
      "552 5.3.4 Message size exceeds file system imposed limit\n> MAIL FROM:<a@b.c> SIZE=x\n"
      "501 5.5.4 Bad message size syntax\n= message_size_limit 0\n"
      "> MAIL FROM:<a@b.c> SIZE=9223372036854775807\n250 2.1.0 Ok\n" },
    { "parameters",
      "> MAIL FROM:<a@b.c> X-FOO\n555 5.5.4 Unsupported option: X-FOO\n"
      "> MAIL FROM:<a@b.c> X\x1b[1m\n555 5.5.4 Unsupported option: X?[1m\n"
      "> MAIL FROM:<a@b.c> <g@h.i>\n555 5.5.4 Unsupported option: <g@h.i>\n"
      "> MAIL FROM:<a@b.c>SIZE=1\n501 5.1.7 Bad sender address syntax\n"
      "> MAIL FROM:<a@b.c> RET=X\n501 5.5.4 Bad RET parameter syntax\n"
      "> MAIL FROM:<a@b.c> ENVID=\n501 5.5.4 Bad ENVID parameter syntax\n"
      "> MAIL FROM:<a@b.c> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8 AUTH=<>\n250 2.1.0 Ok\n"
      "> RCPT TO:<d@e.f> SIZE=1\n555 5.5.4 Unsupported option: SIZE=1\n"
      "> RCPT TO:<d@e.f> NOTIFY=NEVER,DELAY\n501 5.5.4 Error: Bad NOTIFY parameter syntax\n"
      "> RCPT TO:<d@e.f> ORCPT=x\n501 5.5.4 Error: Bad ORCPT parameter syntax\n"
      "> RCPT TO:<d@e.f> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;d@e.f\n250 2.1.5 Ok\n" },
    { "parameters of what is not announced",
      "= discard 128\n> MAIL FROM:<a@b.c> RET=FULL\n501 5.7.1 DSN support is disabled\n" MAIL
      "> RCPT TO:<d@e.f> NOTIFY=NEVER\n501 5.7.1 DSN support is disabled\n" },
    { "SIZE and BODY are taken without being announced",
      "= discard 66\n> MAIL FROM:<a@b.c> SIZE=1 BODY=8BITMIME\n250 2.1.0 Ok\n" },
    { "UTF-8 addresses",
      "> MAIL FROM:<\xc3\xa9@b.c>\n250 2.1.0 Ok\n> RCPT TO:<\xc3\xa9@e.f>\n250 2.1.5 Ok\n" },
    { "UTF-8 addresses, strictly",
      "= strict_smtputf8 yes\n> MAIL FROM:<\xc3\xa9@b.c>\n"
      "553 5.6.7 Must declare SMTPUTF8 to send unicode address\n" MAIL "> RCPT TO:<\xc3\xa9@e.f>\n"
      "553 5.6.7 Must declare SMTPUTF8 to send unicode address\n> RSET\n250 2.0.0 Ok\n(reset)\n"
      "> MAIL FROM:<\xc3\xa9@b.c> SMTPUTF8\n250 2.1.0 Ok\n> RCPT TO:<\xc3\xa9@e.f>\n250 2.1.5 Ok\n" },
    { "no UTF-8 addresses when a backend cannot",
      "= smtputf8 no\n> MAIL FROM:<\xc3\xa9@b.c>\n"
      "553 5.6.7 Must declare SMTPUTF8 to send unicode address\n> MAIL FROM:<a@b.c> SMTPUTF8\n"
      "555 5.5.4 Unsupported option: SMTPUTF8\n" },
    { "soft_bounce",
      "= soft_bounce yes\n> FOO\n400 4.5.2 Error: command not recognized\n> RCPT TO:<d@e.f>\n"
      "403 4.5.1 Error: need MAIL command\n? mail 550 5.7.1 no\n> MAIL FROM:<a@b.c>\n450 4.7.1 no\n" MAIL
      "> RCPT TO:<>\n401 4.1.3 Bad recipient address syntax\n> HELO\n401 Syntax: HELO hostname\n"
      ">> BDAT 3|abc\n454 4.5.1 Error: no valid recipients\n" },
    { "soft_bounce leaves success alone", "= soft_bounce yes\n" MAIL RCPT DATA "> .\n(commit)\n" QUEUED },
};

Test(smtp_session, envelopes_are_built_in_order)
{
    run_all(envelopes, ARRAY_LEN(envelopes), FROM_EHLO);
}

/* ------------------------------------------------------------ DATA */

#define TOO_BIG "552 5.3.4 Error: message file too big\n(rejected 552 5.3.4 Error: message file too big)\n"
#define BARE_LF "550 5.5.2 mx.example.org Error: bare <LF> received\n" \
    "(rejected 550 5.5.2 mx.example.org Error: bare <LF> received)\n"
#define LINE100 "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567|^"
#define LINE99  "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567|"

static const struct dialogue bodies[] = {
    { "dots", MAIL RCPT DATA "> a|..|.b|...|.\n(commit a|.|b|..|)\n" QUEUED },
    { "nothing but the dot", MAIL RCPT DATA "> .\n(commit)\n" QUEUED },
    { "two messages", MAIL RCPT DATA "> one|.\n(commit one|)\n" QUEUED MAIL RCPT DATA
                      "> two|.\n(commit two|)\n" QUEUED },
    { "commands inside a message are text",
      MAIL RCPT DATA "> QUIT|RSET|.\n(commit QUIT|RSET|)\n" QUEUED "> NOOP\n250 2.0.0 Ok\n" },
    { "no smuggling: LF dot LF, LF dot CR LF, CR LF dot LF, CR dot CR",
      MAIL RCPT DATA ">> x^.^\n>> y^.|\n>> z|.^\n>> w~.~\n> |.\n(commit x|y|z|w~.~|)\n" QUEUED },
    { "a refusal at the end ends the transaction",
      MAIL RCPT DATA "? commit 550 5.7.1 Message rejected\n> x|.\n(commit x|)\n550 5.7.1 Message rejected\n"
                     "> DATA\n" NO_RCPT MAIL },
    { "421 at the end closes",
      MAIL RCPT DATA "? commit 421 4.3.0 x\n> x|.\n(commit x|)\n421 4.3.0 x\n(close reply)\n" },
    { "soft_bounce at the end",
      "= soft_bounce yes\n" MAIL RCPT DATA "? commit 550 5.7.1 no\n> x|.\n(commit x|)\n450 4.7.1 no\n" },
    { "exactly the largest message",
      "= message_size_limit 12\n" MAIL RCPT DATA "> 1234|6789|.\n(commit 1234|6789|)\n" QUEUED },
    { "dot-stuffing does not count",
      "= message_size_limit 12\n" MAIL RCPT DATA "> ..34|..89|.\n(commit .34|.89|)\n" QUEUED },
    { "too large",
      "= message_size_limit 12\n" MAIL RCPT DATA "> 1234|67890|.\n" TOO_BIG
      "(reset)\n> NOOP\n250 2.0.0 Ok\n" MAIL RCPT DATA "> ok|.\n(commit ok|)\n" QUEUED },
    { "much too large",
      "= message_size_limit 12\n" MAIL RCPT DATA "> " LINE99 LINE99 LINE99 "\n>> " LINE99 "\n> " LINE99 "|.\n"
      TOO_BIG "(reset)\n> NOOP\n250 2.0.0 Ok\n" },
    { "an LF counts as CR LF", /* content bytes with CR LF (spec 9.3) */
      "= message_size_limit 12\n" MAIL RCPT DATA ">> 1^2^3^4^\n> .|.\n(commit 1|2|3|4|)\n" QUEUED MAIL RCPT DATA
      ">> 1^2^3^4^5|\n> .\n" TOO_BIG "(reset)\n" },
    { "a bare LF in a message where that is refused",
      "= bare_newline_reject yes\n" MAIL RCPT DATA "> x^y|.\n"
      BARE_LF "(reset)\n> NOOP\n250 2.0.0 Ok\n" },
    { "too large comes first",
      "= bare_newline_reject yes\n= message_size_limit 3\n" MAIL RCPT DATA "> x^y|.\n"
      TOO_BIG "(reset)\n" },
};

Test(smtp_session, messages_by_data)
{
    run_all(bodies, ARRAY_LEN(bodies), FROM_EHLO);
}

/* ------------------------------------------------------------ BDAT (RFC 3030) */

static const struct dialogue chunks_of_mail[] = {
    { "one chunk", MAIL RCPT ">> BDAT 7 LAST|hello|\n(commit hello|)\n" QUEUED },
    { "three chunks",
      MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n>> bdat 4|d|e\n250 2.0.0 Ok: 4 bytes\n"
                ">> BDAT 2 last||\n(commit abcd|e|)\n" QUEUED },
    { "an empty last chunk",
      MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n> BDAT 0 LAST\n(commit abc)\n" QUEUED },
    { "an empty message", MAIL RCPT "> BDAT 0 LAST\n(commit)\n" QUEUED },
    { "dots are data, and a chunk may end between CR and LF",
      MAIL RCPT ">> BDAT 9|.|..|.~\n250 2.0.0 Ok: 9 bytes\n>> BDAT 1 LAST|^\n(commit .|..|.|)\n" QUEUED },
    { "CR LF across chunks",
      MAIL RCPT ">> BDAT 2|a~\n250 2.0.0 Ok: 2 bytes\n>> BDAT 2|^b\n250 2.0.0 Ok: 2 bytes\n"
                "> BDAT 0 LAST\n(commit a|b)\n" QUEUED },
    { "commands within a chunk are data",
      MAIL RCPT ">> BDAT 12 LAST|QUIT|RSET|\n(commit QUIT|RSET|)\n" QUEUED "> NOOP\n250 2.0.0 Ok\n" },
    { "a bare LF becomes CR LF", MAIL RCPT ">> BDAT 4 LAST|a^b^\n(commit a|b|)\n" QUEUED },
    { "refused where that is wanted",
      "= bare_newline_reject yes\n" MAIL RCPT ">> BDAT 4|a^b^\n250 2.0.0 Ok: 4 bytes\n> BDAT 0 LAST\n"
      BARE_LF "(reset)\n> NOOP\n250 2.0.0 Ok\n" },
    /* refused chunks: their octets are skipped all the same */
    { "without MAIL",
      ">> BDAT 6|QUIT|\n" NO_RCPT "> MAIL FROM:<a@b.c>\n503 5.5.1 Error: MAIL after BDAT\n> RCPT TO:<d@e.f>\n" NO_MAIL
      ">> BDAT 6|QUIT|\n551 5.0.0 Discarded 6 bytes after earlier error\n"
      ">> BDAT 6 LAST|QUIT|\n551 5.0.0 Discarded 6 bytes after earlier error\n" MAIL },
    { "RSET ends that too", ">> BDAT 6|QUIT|\n" NO_RCPT "> RSET\n250 2.0.0 Ok\n" MAIL },
    { "HELO ends that too", ">> BDAT 6|QUIT|\n" NO_RCPT "> HELO x\n250 mx.example.org\n" MAIL },
    { "without a recipient",
      MAIL ">> BDAT 6|QUIT|\n554 5.5.1 Error: no valid recipients\n"
           ">> BDAT 6 LAST|QUIT|\n551 5.0.0 Discarded 6 bytes after earlier error\n(reset)\n"
           "> RCPT TO:<d@e.f>\n" NO_MAIL },
    { "without a recipient, last at once",
      MAIL ">> BDAT 6 LAST|QUIT|\n554 5.5.1 Error: no valid recipients\n(reset)\n" MAIL },
    { "by the data list",
      MAIL RCPT "? data 554 5.7.1 <DATA>: Data command rejected: Access denied\n>> BDAT 6|QUIT|\n"
                "554 5.7.1 <DATA>: Data command rejected: Access denied\n"
                ">> BDAT 6|QUIT|\n551 5.0.0 Discarded 6 bytes after earlier error\n"
                "> DATA\n503 5.5.1 Error: DATA after BDAT\n> RSET\n250 2.0.0 Ok\n(reset)\n" MAIL },
    { "by the data list, last at once",
      MAIL RCPT "? data 450 4.7.1 later\n>> BDAT 6 LAST|QUIT|\n450 4.7.1 later\n(reset)\n" MAIL },
    { "by the data list with 421",
      MAIL RCPT "? data 421 4.7.1 go\n>> BDAT 6|QUIT|\n421 4.7.1 go\n(close reply)\n" },
    { "the data list is asked once",
      MAIL RCPT ">> BDAT 1|a\n250 2.0.0 Ok: 1 bytes\n? data 554 5.7.1 no\n>> BDAT 1|b\n"
                "250 2.0.0 Ok: 1 bytes\n> BDAT 0 LAST\n(commit ab)\n" QUEUED },
    { "an empty chunk that is not the last",
      MAIL RCPT "> BDAT 0\n551 5.7.1 Null BDAT request\n>> BDAT 2|ab\n"
                "551 5.0.0 Discarded 2 bytes after earlier error\n> BDAT 0 LAST\n"
                "551 5.0.0 Discarded 0 bytes after earlier error\n(reset)\n" },
    { "an empty chunk in the middle",
      MAIL RCPT ">> BDAT 1|a\n250 2.0.0 Ok: 1 bytes\n> BDAT 0\n551 5.7.1 Null BDAT request\n"
                "> BDAT 0 LAST\n551 5.0.0 Discarded 0 bytes after earlier error\n(reset)\n" },
    { "a chunk past the limit of the message",
      "= message_size_limit 12\n" MAIL RCPT ">> BDAT 13|1234567890123\n"
      "552 5.3.4 Chunk exceeds message size limit\n>> BDAT 1|x\n"
      "551 5.0.0 Discarded 1 bytes after earlier error\n> RSET\n250 2.0.0 Ok\n(reset)\n" },
    { "chunks that are together past it",
      "= message_size_limit 12\n" MAIL RCPT ">> BDAT 12|123456789012\n250 2.0.0 Ok: 12 bytes\n"
      ">> BDAT 1 LAST|3\n552 5.3.4 Chunk exceeds message size limit\n(reset)\n" MAIL },
    { "chunks that are exactly the limit",
      "= message_size_limit 12\n" MAIL RCPT ">> BDAT 10|1234567890\n250 2.0.0 Ok: 10 bytes\n"
      ">> BDAT 2 LAST||\n(commit 1234567890|)\n" QUEUED },
    { "LF that become CR LF count",
      "= message_size_limit 6\n" MAIL RCPT ">> BDAT 5|a^b^c\n" TOO_BIG
      "> BDAT 0 LAST\n551 5.0.0 Discarded 0 bytes after earlier error\n(reset)\n" },
    { "and in the last chunk",
      "= message_size_limit 6\n" MAIL RCPT ">> BDAT 5 LAST|a^b^c\n" TOO_BIG "(reset)\n" },
    { "other commands between chunks",
      MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n> MAIL FROM:<a@b.c>\n"
                "503 5.5.1 Error: nested MAIL command\n> RCPT TO:<d@e.f>\n503 5.5.1 Error: RCPT after BDAT\n"
                "> DATA\n503 5.5.1 Error: DATA after BDAT\n> VRFY bob\n252 2.0.0 bob\n> NOOP\n250 2.0.0 Ok\n"
                "> BDAT 0 LAST\n(commit abc)\n" QUEUED },
    { "RSET between chunks",
      MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n> RSET\n250 2.0.0 Ok\n(reset)\n" MAIL RCPT
                ">> BDAT 1 LAST|x\n(commit x)\n" QUEUED },
    { "QUIT between chunks",
      MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n> QUIT\n221 2.0.0 Bye\n(reset)\n(close quit)\n" },
    /* a size that nobody can read: we cannot know where the next command begins */
    { "no size", MAIL RCPT "> BDAT\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "a bad size", "> BDAT x\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "a negative size", "> BDAT -1\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "a size past 63 bits",
      "> BDAT 9223372036854775808\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "no other word than LAST", "> BDAT 1 FIRST\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "nothing behind LAST", "> BDAT 1 LAST x\n521 5.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "soft_bounce turns 521 into 421, which closes too",
      "= soft_bounce yes\n> BDAT x\n421 4.5.4 Syntax: BDAT count [LAST]\n(close reply)\n" },
    { "the largest size is skipped, not added up",
      "= message_size_limit 100\n" MAIL RCPT ">> BDAT 1|a\n250 2.0.0 Ok: 1 bytes\n"
      ">> BDAT 9223372036854775807|QUIT|\n" },
    { "4294967300 is not 4", "= message_size_limit 100\n" MAIL RCPT ">> BDAT 4294967300|QUIT|QUIT|\n" },
    { "a body refused at the end",
      MAIL RCPT "? commit 552 5.2.2 Mailbox is full\n>> BDAT 1 LAST|a\n(commit a)\n552 5.2.2 Mailbox is full\n" MAIL },
    { "a chunk before TLS is skipped too",
      "= starttls yes\n= tls_required yes\n>> BDAT 6|QUIT|\n" NO_RCPT "> NOOP\n250 2.0.0 Ok\n" },
};

Test(smtp_session, messages_by_bdat)
{
    run_all(chunks_of_mail, ARRAY_LEN(chunks_of_mail), FROM_EHLO);
}

/* ------------------------------------------------------------ STARTTLS, XCLIENT */

static const struct dialogue tls[] = {
    { "not offered", "> STARTTLS\n502 5.5.1 Error: command not implemented\n> STARTTLS x\n501 5.5.4 Syntax: STARTTLS\n" },
    { "not announced",
      "= starttls yes\n= discard 8\n> STARTTLS\n502 5.5.1 Error: command not implemented\n" },
    { "everything said before is forgotten",
      "= starttls yes\n= smtpd_helo_required yes\n" MAIL RCPT
      "> STARTTLS\n220 2.0.0 Ready to start TLS\n(reset)\n(tls)\n> MAIL FROM:<a@b.c>\n"
      "503 5.5.1 Error: send HELO/EHLO first\n> RCPT TO:<d@e.f>\n" NO_MAIL
      "> EHLO x\n" KEYWORDS_BEFORE KEYWORDS_BEHIND "> STARTTLS\n554 5.5.1 Error: TLS already active\n" MAIL },
    { "a BDAT begun before is forgotten",
      "= starttls yes\n" MAIL RCPT ">> BDAT 3|abc\n250 2.0.0 Ok: 3 bytes\n"
      "> STARTTLS\n220 2.0.0 Ready to start TLS\n(reset)\n(tls)\n> HELO x\n250 mx.example.org\n" MAIL },
    { "refused",
      "= starttls yes\n? starttls 454 4.7.0 Error: too many new TLS sessions from 192.0.2.1\n" MAIL
      "> STARTTLS\n454 4.7.0 Error: too many new TLS sessions from 192.0.2.1\n" RCPT },
    { "demanded",
      "= starttls yes\n= tls_required yes\n> MAIL FROM:<a@b.c>\n530 5.7.0 Must issue a STARTTLS command first\n"
      "> RCPT TO:<d@e.f>\n530 5.7.0 Must issue a STARTTLS command first\n> DATA\n"
      "530 5.7.0 Must issue a STARTTLS command first\n> RSET\n530 5.7.0 Must issue a STARTTLS command first\n"
      "> VRFY x\n530 5.7.0 Must issue a STARTTLS command first\n> AUTH x\n"
      "530 5.7.0 Must issue a STARTTLS command first\n> NOOP\n250 2.0.0 Ok\n> HELO x\n250 mx.example.org\n"
      "> FOO\n500 5.5.2 Error: command not recognized\n> STARTTLS\n220 2.0.0 Ready to start TLS\n(tls)\n"
      "> HELO x\n250 mx.example.org\n" MAIL },
    { "QUIT before TLS", "= tls_required yes\n> QUIT\n221 2.0.0 Bye\n(close quit)\n" },
};

static const struct dialogue tls_groups[] = {
    { "plaintext behind STARTTLS is thrown away",
      "= starttls yes\n> STARTTLS|MAIL FROM:<evil@x.y>|RCPT TO:<d@e.f>\n"
      "220 2.0.0 Ready to start TLS\n(tls)\n> RCPT TO:<d@e.f>\n" NO_MAIL },
    { "half a line too",
      "= starttls yes\n>> STARTTLS|MAIL FR\n220 2.0.0 Ready to start TLS\n(tls)\n"
      "> OM:<a@b.c>\n500 5.5.2 Error: command not recognized\n" },
};

Test(smtp_session, starttls_forgets_what_was_said)
{
    run_all(tls, ARRAY_LEN(tls), FROM_EHLO);
    run_whole(tls_groups, ARRAY_LEN(tls_groups), FROM_EHLO);
}

#define NEW_BANNER "220 mx.example.org ESMTP Postern\n"

static const struct dialogue xclients[] = {
    { "not allowed",
      "> XCLIENT\n501 5.5.4 Syntax: XCLIENT attribute=value...\n> XCLIENT NAME=x.y\n"
      "550 5.7.0 Error: insufficient authorization\n" MAIL
      "> XCLIENT NAME=x.y\n503 5.5.1 Error: MAIL transaction in progress\n" },
    { "a new identity begins anew",
      "= xclient yes\n= smtpd_helo_required yes\n> XCLIENT NAME=x.y ADDR=198.51.100.7\n" NEW_BANNER
      "> MAIL FROM:<a@b.c>\n503 5.5.1 Error: send HELO/EHLO first\n> HELO x\n250 mx.example.org\n" MAIL },
    { "HELO and PROTO are kept when they are given",
      "= xclient yes\n= smtpd_helo_required yes\n> XCLIENT HELO=h.test PROTO=ESMTP\n" NEW_BANNER MAIL },
    { "a bad attribute changes nothing",
      "= xclient yes\n= smtpd_helo_required yes\n> XCLIENT NAME=n.test ADDR=x\n501 5.5.4 Bad ADDR syntax: x\n" MAIL
      "? rcpt 450 4.7.1 c.test\n> RCPT TO:<d@e.f>\n450 4.7.1 c.test\n" },
    { "the new client is judged",
      "= xclient yes\n? connect 554 5.7.1 <n.test[192.0.2.1]>: Client host rejected: Access denied\n"
      "> XCLIENT NAME=n.test\n554 5.7.1 <n.test[192.0.2.1]>: Client host rejected: Access denied\n"
      "> NOOP\n503 5.7.0 Error: access denied for n.test[192.0.2.1]\n> QUIT\n221 2.0.0 Bye\n(close quit)\n" },
    { "errors are forgotten",
      "= xclient yes\n= smtpd_hard_error_limit 2\n> FOO\n500 5.5.2 Error: command not recognized\n"
      "> XCLIENT NAME=n.test\n" NEW_BANNER "> FOO\n500 5.5.2 Error: command not recognized\n> NOOP\n250 2.0.0 Ok\n" },
    { "a BDAT that went wrong is forgotten",
      "= xclient yes\n>> BDAT 1|x\n" NO_RCPT "> XCLIENT NAME=n.test\n" NEW_BANNER MAIL },
};

Test(smtp_session, xclient_makes_another_client)
{
    run_all(xclients, ARRAY_LEN(xclients), FROM_EHLO);
}

/* spec 1.10; what Postfix does with XCLIENT's, measured */
static const struct {
    const char *command, *helo;
} cleaned[] = {
    { "HELO a b", "a?b" },
    { "HELO a  b", "a??b" },
    { "HELO (c)\"\x1b;@<x>\\", "?c?" "?????" "x??" },
    { "HELO caf\xc3\xa9", "caf??" },
    { "HELO [192.0.2.1]", "[192.0.2.1]" },
    { "XCLIENT HELO=a+20b", "a?b" },
    { "XCLIENT HELO=(c)\";@<x>\\", "?c?" "????" "x??" },
    { "XCLIENT HELO=[UNAVAILABLE]", NULL },
};

Test(smtp_session, a_helo_name_is_harmless_however_it_comes)
{
    for (size_t i = 0; i < ARRAY_LEN(cleaned); i++) {
        struct driver d;
        driver_begin(&d);
        driver_greet(&d);
        d.s.features.xclient_ok = true;
        driver_say(&d, cleaned[i].command);
        if (cleaned[i].helo == NULL)
            cr_expect_null(d.s.helo);
        else
            cr_expect_str_eq(d.s.helo, cleaned[i].helo, "%s", cleaned[i].command);
        driver_end(&d);
    }
}

/* ------------------------------------------------------------ limits */

#define FOO "> FOO\n500 5.5.2 Error: command not recognized\n"
#define OVER "452 4.5.3 Error: too many recipients\n"

static const struct dialogue limited[] = {
    /* A 39 */
    { "soft 3, hard 6",
      "= smtpd_soft_error_limit 3\n= smtpd_hard_error_limit 6\n" FOO FOO FOO FOO "(sleep 1000)\n" FOO
      "(sleep 1000)\n" FOO "(sleep 1000)\n421 4.7.0 mx.example.org Error: too many errors\n(sleep 1000)\n(close errors)\n" },
    { "good replies are delayed too", "= smtpd_soft_error_limit 1\n" FOO "> NOOP\n250 2.0.0 Ok\n(sleep 1000)\n" },
    { "no sleep", "= smtpd_soft_error_limit 1\n= smtpd_error_sleep_time 0\n" FOO FOO },
    { "every refusal is an error",
      "= smtpd_hard_error_limit 5\n? mail 450 4.7.1 x\n> MAIL FROM:<a@b.c>\n450 4.7.1 x\n" MAIL
      "? rcpt 550 5.1.1 x\n> RCPT TO:<d@e.f>\n550 5.1.1 x\n> DATA\n554 5.5.1 Error: no valid recipients\n"
      "> \n500 5.5.2 Error: bad syntax\n> MAIL FROM:<\n503 5.5.1 Error: nested MAIL command\n"
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "a message clears the errors",
      "= smtpd_hard_error_limit 3\n" FOO FOO MAIL RCPT DATA "> .\n(commit)\n" QUEUED FOO FOO "> NOOP\n250 2.0.0 Ok\n" },
    { "a refused message does not",
      "= smtpd_hard_error_limit 3\n" FOO FOO MAIL RCPT DATA "? commit 550 5.7.1 x\n> .\n(commit)\n550 5.7.1 x\n"
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "nor does RSET",
      "= smtpd_hard_error_limit 2\n" FOO "> RSET\n250 2.0.0 Ok\n" FOO
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "a message too large is an error",
      "= smtpd_hard_error_limit 1\n= message_size_limit 1\n" MAIL RCPT DATA "> xyz|.\n"
      TOO_BIG "(reset)\n421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "a refused chunk is an error",
      "= smtpd_hard_error_limit 1\n>> BDAT 3|abc\n" NO_RCPT
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    /* with 4: EHLO and 4 more are free, the (limit + 2)-th is an error */
    { "junk",
      "= smtpd_junk_command_limit 4\n= smtpd_hard_error_limit 2\n> NOOP\n250 2.0.0 Ok\n> RSET\n250 2.0.0 Ok\n"
      "> VRFY x\n252 2.0.0 x\n> HELO x\n250 mx.example.org\n> NOOP\n250 2.0.0 Ok\n> NOOP\n250 2.0.0 Ok\n"
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "junk is forgotten with a message",
      "= smtpd_junk_command_limit 1\n= smtpd_hard_error_limit 1\n> NOOP\n250 2.0.0 Ok\n" MAIL RCPT DATA
      "> .\n(commit)\n" QUEUED "> NOOP\n250 2.0.0 Ok\n> NOOP\n250 2.0.0 Ok\n> NOOP\n250 2.0.0 Ok\n"
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "words that do nothing are junk",
      "= smtpd_noop_commands foo\n= smtpd_junk_command_limit 1\n= smtpd_hard_error_limit 1\n"
      "> foo\n250 2.0.0 Ok\n> foo\n250 2.0.0 Ok\n421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "work is no junk",
      "= smtpd_junk_command_limit 1\n= smtpd_hard_error_limit 1\n" MAIL RCPT RCPT RCPT DATA "> .\n(commit)\n" QUEUED },
    /* A 40 */
    { "recipients: 2, overshoot 1",
      "= smtpd_recipient_limit 2\n= smtpd_recipient_overshoot_limit 1\n= smtpd_hard_error_limit 3\n" MAIL RCPT RCPT
      "> RCPT TO:<d@e.f>\n" OVER "> RCPT TO:<d@e.f>\n" OVER "> RCPT TO:<d@e.f>\n" OVER "> RCPT TO:<d@e.f>\n" OVER
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "past the limit the transaction goes on",
      "= smtpd_recipient_limit 1\n" MAIL RCPT "> RCPT TO:<d@e.f>\n" OVER DATA "> .\n(commit)\n" QUEUED MAIL RCPT },
    { "the overshoot is for each message",
      "= smtpd_recipient_limit 1\n= smtpd_recipient_overshoot_limit 1\n= smtpd_hard_error_limit 1\n" MAIL RCPT
      "> RCPT TO:<d@e.f>\n" OVER "> RSET\n250 2.0.0 Ok\n(reset)\n" MAIL RCPT "> RCPT TO:<d@e.f>\n" OVER
      "> NOOP\n250 2.0.0 Ok\n" },
    { "refused recipients do not count",
      "= smtpd_recipient_limit 1\n" MAIL "? rcpt 550 5.1.1 x\n> RCPT TO:<x@e.f>\n550 5.1.1 x\n" RCPT
      "> RCPT TO:<d@e.f>\n" OVER },
};

Test(smtp_session, limits_hold)
{
    run_all(limited, ARRAY_LEN(limited), FROM_EHLO);
}

static const struct dialogue ends[] = {
    { "a timeout", CONNECT "! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n" },
    { "a timeout before the banner", "! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n" },
    { "a timeout within a command",
      CONNECT ">> MAIL FR\n! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n" },
    { "a timeout within a message",
      CONNECT MAIL RCPT DATA "> x\n! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n> .\n" },
    { "a timeout within a chunk",
      CONNECT "= discard 2047\n> EHLO x\n250 mx.example.org\n" MAIL RCPT ">> BDAT 10|abc\n! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n" },
    { "no delay in front of the end",
      CONNECT "= smtpd_soft_error_limit 1\n" FOO "! timeout\n421 4.4.2 mx.example.org Error: timeout exceeded\n(close timeout)\n" },
    { "a shutdown", CONNECT MAIL "! shutdown\n421 4.3.2 shutting down\n(close shutdown)\n" },
};

Test(smtp_session, it_can_be_ended_at_any_time)
{
    run_all(ends, ARRAY_LEN(ends), FROM_CONNECT);
}

/* ------------------------------------------------------------ pipelining (RFC 2920) */

static const struct dialogue groups[] = {
    { "a group",
      "> MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>|RCPT TO:<>|DATA\n250 2.1.0 Ok\n250 2.1.5 Ok\n"
      "501 5.1.3 Bad recipient address syntax\n354 End data with <CR><LF>.<CR><LF>\n> x|.\n(commit x|)\n" QUEUED },
    { "the end of a message and the next group",
      MAIL RCPT DATA "> x|.|MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>|DATA\n(commit x|)\n" QUEUED
      "250 2.1.0 Ok\n250 2.1.5 Ok\n354 End data with <CR><LF>.<CR><LF>\n" },
    { "the end of a message and QUIT",
      MAIL RCPT DATA "> x|.|QUIT\n(commit x|)\n" QUEUED "221 2.0.0 Bye\n(close quit)\n" },
    { "RSET, MAIL and QUIT may be followed",
      "> RSET|MAIL FROM:<a@b.c>|RSET|QUIT|NOOP\n250 2.0.0 Ok\n250 2.1.0 Ok\n250 2.0.0 Ok\n(reset)\n"
      "221 2.0.0 Bye\n(close quit)\n" },
    { "chunks with all that belongs to them",
      "> MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>|BDAT 3|a|BDAT 3 LAST|b|QUIT\n250 2.1.0 Ok\n250 2.1.5 Ok\n"
      "250 2.0.0 Ok: 3 bytes\n(commit a|b|)\n" QUEUED "221 2.0.0 Bye\n(close quit)\n" },
    { "refused recipients before DATA in one group",
      "? rcpt 550 5.1.1 x\n> MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>|DATA\n250 2.1.0 Ok\n550 5.1.1 x\n"
      "554 5.5.1 Error: no valid recipients\n" },
    { "chunks behind refused recipients in one group",
      "? rcpt 550 5.1.1 x\n>> MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>|BDAT 6|QUIT|BDAT 6 LAST|QUIT|RSET|\n"
      "250 2.1.0 Ok\n550 5.1.1 x\n554 5.5.1 Error: no valid recipients\n"
      "551 5.0.0 Discarded 6 bytes after earlier error\n(reset)\n250 2.0.0 Ok\n" },
    { "a delay holds up what follows",
      "= smtpd_soft_error_limit 1\n> RCPT TO:<d@e.f>|RSET|RSET\n" NO_MAIL "250 2.0.0 Ok\n(sleep 1000)\n"
      "250 2.0.0 Ok\n(sleep 1000)\n" },
    { "behind the hard limit nothing is read",
      "= smtpd_hard_error_limit 1\n> RCPT TO:<d@e.f>|MAIL FROM:<a@b.c>\n" NO_MAIL
      "421 4.7.0 mx.example.org Error: too many errors\n(close errors)\n" },
    { "behind EHLO", "> EHLO x|MAIL FROM:<a@b.c>\n" SYNC "(close sync)\n" },
    { "behind HELO", "> HELO x|MAIL FROM:<a@b.c>\n" SYNC "(close sync)\n" },
    { "behind DATA", MAIL RCPT "> DATA|x|.\n" SYNC "(close sync)\n" },
    { "behind NOOP", "> NOOP|RSET\n" SYNC "(close sync)\n" },
    { "behind VRFY", "> VRFY x|RSET\n" SYNC "(close sync)\n" },
    { "half a line is enough", ">> NOOP|R\n" SYNC "(close sync)\n" },
    { "it goes on where that is allowed",
      "= smtpd_forbid_unauth_pipelining no\n> NOOP|RSET\n250 2.0.0 Ok\n250 2.0.0 Ok\n" },
    { "a body with DATA where that is allowed",
      "= smtpd_forbid_unauth_pipelining no\n" MAIL RCPT "> DATA|x|.\n"
      "354 End data with <CR><LF>.<CR><LF>\n(commit x|)\n" QUEUED },
    { "a refused DATA whose body came along is read as commands", /* spec 9.8 */
      "= smtpd_forbid_unauth_pipelining no\n? data 503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP "
      "command pipelining\n" MAIL RCPT "> DATA|Subject: x|.\n"
      "503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining\n"
      "500 5.5.2 Error: command not recognized\n500 5.5.2 Error: command not recognized\n" },
};

static const struct dialogue no_groups[] = {
    { "without EHLO nothing may follow", /* A 49 */
      CONNECT "> HELO x\n250 mx.example.org\n> MAIL FROM:<a@b.c>|RCPT TO:<d@e.f>\n" SYNC "(close sync)\n" },
    { "not even RSET", CONNECT "> RSET|RSET\n" SYNC "(close sync)\n" },
    { "nor a chunk", CONNECT MAIL RCPT ">> BDAT 1|x\n" SYNC "(close sync)\n" },
    { "but QUIT may be followed", CONNECT "> QUIT|x\n221 2.0.0 Bye\n(close quit)\n" },
};

Test(smtp_session, groups_are_legal_where_rfc_2920_allows_them)
{
    run_whole(groups, ARRAY_LEN(groups), FROM_EHLO);
    run_whole(no_groups, ARRAY_LEN(no_groups), FROM_CONNECT);
}

Test(smtp_session, talking_out_of_turn_is_remembered)
{
    static const struct {
        const char *input;
        bool is_out_of_turn;
    } rows[] = { { "RSET\r\nRSET\r\n", false }, { "NOOP\r\nRSET\r\n", true }, { "NOOP\r\n", false },
                 { "STARTTLS\r\nRSET\r\n", true }, { "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n", false } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct driver d;
        driver_begin(&d);
        driver_greet(&d);
        d.params.smtpd_forbid_unauth_pipelining = false;
        driver_feed(&d, span_of(rows[i].input));
        cr_expect_eq(d.s.is_out_of_turn, rows[i].is_out_of_turn, "%s", rows[i].input);
        driver_say(&d, "RSET");
        cr_expect_eq(d.s.is_out_of_turn, rows[i].is_out_of_turn, "it stays");
        driver_end(&d);
    }
}

/* ------------------------------------------------------------ figures */

static void expect_count(const struct driver *d, enum smtp_verb verb, unsigned ok, unsigned all)
{
    cr_expect(d->s.counts[verb].ok == ok && d->s.counts[verb].all == all, "%s: %u/%u, not %u/%u",
              smtp_verbs[verb].name, d->s.counts[verb].ok, d->s.counts[verb].all, ok, all);
}

Test(smtp_session, commands_are_counted_good_and_all)
{
    static const char script[] =
        "> FOO\n500 5.5.2 Error: command not recognized\n" MAIL "? rcpt 550 5.1.1 x\n> RCPT TO:<d@e.f>\n"
        "550 5.1.1 x\n" RCPT DATA "> x|.\n(commit x|)\n" QUEUED MAIL RCPT DATA "? commit 450 4.3.0 x\n"
        "> x|.\n(commit x|)\n450 4.3.0 x\n" MAIL RCPT ">> BDAT 1|x\n250 2.0.0 Ok: 1 bytes\n"
        "> BDAT 0\n551 5.7.1 Null BDAT request\n> RSET\n250 2.0.0 Ok\n(reset)\n> NOOP\n250 2.0.0 Ok\n"
        "= smtpd_recipient_limit 0\n" MAIL "> RCPT TO:<d@e.f>\n" OVER "> QUIT\n221 2.0.0 Bye\n(reset)\n(close quit)\n";
    struct driver d;
    struct arena memory = { 0 };
    driver_begin(&d);
    driver_greet(&d);
    cr_expect_null(driver_run(&d, &memory, script), "%s", buf_text(&d.out));
    expect_count(&d, SMTP_VERB_EHLO, 1, 1);
    expect_count(&d, SMTP_VERB_UNKNOWN, 0, 1);
    expect_count(&d, SMTP_VERB_MAIL, 4, 4);
    expect_count(&d, SMTP_VERB_RCPT, 3, 5);
    expect_count(&d, SMTP_VERB_DATA, 1, 2);
    expect_count(&d, SMTP_VERB_BDAT, 1, 2);
    expect_count(&d, SMTP_VERB_RSET, 1, 1);
    expect_count(&d, SMTP_VERB_NOOP, 1, 1);
    expect_count(&d, SMTP_VERB_QUIT, 1, 1);
    driver_end(&d);
    arena_fini(&memory);
}

Test(smtp_session, the_question_shows_what_it_is_about)
{
    struct driver d;
    driver_begin(&d);
    driver_greet(&d);
    driver_say(&d, "MAIL FROM:<\"a b\"@B.c> SIZE=7 RET=HDRS ENVID=x+2B");
    cr_expect(span_equals(d.s.mail.sender.address, SPAN_LITERAL("a b@B.c")));
    cr_expect(d.s.mail.params.size_bytes == 7 && d.s.mail.params.ret == SMTP_RET_HDRS);
    driver_say(&d, "RCPT TO:<d@e.f> NOTIFY=DELAY ORCPT=rfc822;D");
    driver_say(&d, "RCPT TO:<g@h.i>");
    driver_say(&d, "NOOP"); /* the first ones must not live in the memory of one command */
    const struct smtp_rcpt *first = d.s.mail.rcpts;
    cr_expect(span_equals(first->path.address, SPAN_LITERAL("d@e.f")));
    cr_expect(first->params.notify == SMTP_NOTIFY_DELAY);
    cr_expect(span_equals(first->params.orcpt, SPAN_LITERAL("rfc822;D")));
    cr_expect(span_equals(first->next->path.domain, SPAN_LITERAL("h.i")));
    cr_expect(span_equals(d.s.mail.params.envid, SPAN_LITERAL("x+2B")));
    cr_expect(first->next->next == NULL && d.s.mail.rcpt_count == 2);
    driver_end(&d);
}

/* A bare LF is noted for the disconnect line, in commands and in messages. */
Test(smtp_session, a_bare_lf_is_noted)
{
    static const char *const inputs[] = { "NOOP\n", "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nBDAT 1 LAST\r\n\n" };
    for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
        struct driver d;
        driver_begin(&d);
        driver_greet(&d);
        cr_expect(!d.s.has_bare_lf);
        driver_feed(&d, span_of(inputs[i]));
        cr_expect(d.s.has_bare_lf, "%zu", i);
        driver_end(&d);
    }
}

/* ------------------------------------------------------------ memory */

/* What the session holds itself, whatever the allocator does. */
static size_t held_bytes(const struct driver *d)
{
    return d->s.scratch.used_bytes + d->s.mail.memory.used_bytes + d->s.peer.memory.used_bytes
           + d->s.line.partial.cap;
}

Test(smtp_session, a_hundred_thousand_refused_recipients_leave_no_memory_behind)
{
    struct driver d;
    driver_begin(&d);
    driver_greet(&d);
    d.params.smtpd_hard_error_limit = d.params.smtpd_soft_error_limit = 1000000;
    driver_say(&d, "MAIL FROM:<a@b.c>");
    size_t before = held_bytes(&d);
    for (int i = 0; i < 100000; i++) {
        char line[64];
        snprintf(line, sizeof line, "RCPT TO:<user%d@example.org>", i);
        snprintf(d.verdict[SMTP_ASK_RCPT], sizeof d.verdict[0], "550 5.1.1 no such user");
        driver_say(&d, line);
        buf_clear(&d.out);
        cr_assert_leq(held_bytes(&d), before + 512, "at the %dth", i);
    }
    cr_expect_eq(d.asks[SMTP_ASK_RCPT], 100000);
    driver_end(&d);
}

Test(smtp_session, a_hundred_thousand_recipients_past_the_limit_leave_no_memory_behind)
{
    struct driver d;
    driver_begin(&d);
    driver_greet(&d);
    d.params.smtpd_recipient_overshoot_limit = 1000000;
    driver_say(&d, "MAIL FROM:<a@b.c>");
    for (int i = 0; i < 1000; i++)
        driver_say(&d, "RCPT TO:<user@example.org>");
    size_t before = held_bytes(&d);
    for (int i = 0; i < 100000; i++) {
        driver_say(&d, "RCPT TO:<user@example.org>");
        buf_clear(&d.out);
    }
    cr_expect_leq(held_bytes(&d), before + 512);
    cr_expect_eq(d.asks[SMTP_ASK_RCPT], 1000, "nobody is asked about them");
    cr_expect_eq(d.s.errors, 0);
    driver_end(&d);
}

Test(smtp_session, a_message_of_any_size_is_handed_on_and_not_kept)
{
    static char piece[100000];
    struct driver d;
    driver_begin(&d);
    driver_greet(&d);
    d.params.message_size_limit = 0;
    memset(piece, 'x', sizeof piece);
    driver_feed(&d, SPAN_LITERAL("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n"));
    for (int i = 0; i < 100; i++) {
        driver_feed(&d, span_make(piece, sizeof piece));
        buf_clear(&d.body); /* the driver's own copy */
        cr_assert_leq(held_bytes(&d), 2048);
    }
    cr_expect_eq(d.s.data.size_bytes, 100 * sizeof piece);
    driver_end(&d);
}

/* ------------------------------------------------------------ a client at random */

/* Refuses what asks for it by its name. */
static const char *judge_by_name(struct driver *d, int ask)
{
    const struct smtp_session *s = &d->s;
    struct span name = { 0 };
    if (ask == DRIVER_ASKS - 1)
        return s->mail.rcpt_count % 3 == 2 ? "452 4.3.1 Insufficient system storage" : "250 2.0.0 Ok: queued";
    if (ask == SMTP_ASK_MAIL || ask == SMTP_ASK_DATA)
        name = s->mail.sender.local;
    else if (ask == SMTP_ASK_RCPT || ask == SMTP_ASK_VRFY)
        name = s->rcpt.path.local;
    else if (ask == SMTP_ASK_HELO)
        name = s->argument;
    if (ask == SMTP_ASK_DATA && span_equals(name, SPAN_LITERAL("nodata")))
        return "554 5.7.1 <DATA>: Data command rejected: Access denied";
    return span_equals(name, SPAN_LITERAL("no")) ? "550 5.7.1 Access denied" : NULL;
}

/* Counts the replies in *out and checks each line of them. */
static size_t count_replies(struct span out)
{
    size_t replies = 0;
    char code[3] = "";
    while (out.len > 0) {
        size_t end = span_find(out, '\n');
        cr_assert(end < out.len && end >= 5 && end <= 511 && out.at[end - 1] == '\r');
        cr_assert(out.at[0] >= '2' && out.at[0] <= '5' && ascii_is_digit(out.at[1])
                  && ascii_is_digit(out.at[2]) && (out.at[3] == ' ' || out.at[3] == '-'));
        cr_assert(code[0] == '\0' || memcmp(code, out.at, 3) == 0, "one code for all lines");
        for (size_t i = 0; i < end - 1; i++)
            cr_assert(ascii_is_print(out.at[i]) || (out.at[i] & 0x80) != 0);
        bool is_last = out.at[3] == ' ';
        memcpy(code, is_last ? "\0\0" : out.at, 3);
        replies += is_last;
        out = span_skip(out, end + 1);
    }
    cr_assert_eq(code[0], '\0', "a last line ends every reply");
    return replies;
}

/* Lines that may stand anywhere, and those that may be followed in a group. */
static const char *const likely[] = { "MAIL FROM:<a@b.c>", "MAIL FROM:<>", "RCPT TO:<d@e.f>", "RCPT TO:<d@e.f>",
                                      "RCPT TO:<no@e.f>", "DATA", "BDAT" };
static const char *const others[] = {
    "MAIL FROM:<no@b.c>", "MAIL FROM:<nodata@b.c>", "MAIL FROM:<a@b.c> SIZE=5000", "MAIL FROM:<a@b.c> X=y", "MAIL",
    "RCPT TO:<>", "RCPT", "RSET", "RSET x", "DATA x", "EHLO x", "HELO x", "EHLO no", "HELO", "NOOP", "VRFY x",
    "VRFY no", "VRFY", "HELP", "EXPN x", "AUTH x", "FOO", "", " ", "\x01\x02", "\xff", "STARTTLS", "STARTTLS x",
    "XCLIENT NAME=n.test", "XCLIENT x", "XCLIENT HELO=h ADDR=192.0.2.9", "QUIT", "MAIL FROM:<\xc3\xa9@b.c>",
    "RCPT TO:<\xc3\xa9@e.f> NOTIFY=NEVER", "X-LONG", "BDAT x",
};
static const char *const grouped[] = { "MAIL FROM:<a@b.c>", "RCPT TO:<d@e.f>", "RCPT TO:<no@e.f>", "RSET", "BDAT",
                                       "MAIL FROM:<no@b.c>", "RCPT TO:<>", "FOO" };

/* No line of it is a lone dot between CR LF and CR LF. */
static void put_body(struct seeded *r, struct buf *in, size_t max)
{
    static const char *const parts[] = { "\r\n", "\n", "\r", "..", ".text", "text", "QUIT\r\n", "\xff", "x\n.\n",
                                         "x\n.\r\n" };
    size_t start = in->len, len = seeded_below(r, max);
    while (in->len - start < len)
        buf_puts(in, parts[seeded_below(r, ARRAY_LEN(parts))]);
}

/* One command with all that belongs to it; a chunk with its octets. */
static void put_command(struct seeded *r, struct buf *in, const char *line)
{
    if (strcmp(line, "BDAT") == 0) {
        struct buf body = { 0 };
        put_body(r, &body, seeded_below(r, 30) == 0 ? 3000 : 40);
        buf_printf(in, "BDAT %zu%s\r\n", body.len, seeded_below(r, 2) == 0 ? " LAST" : "");
        buf_add(in, buf_span(&body));
        buf_fini(&body);
    } else if (strcmp(line, "X-LONG") == 0) {
        for (size_t n = seeded_below(r, 6000); n > 0; n--)
            buf_putc(in, 'x');
        buf_puts(in, "\r\n");
    } else {
        buf_printf(in, "%s\r\n", line);
    }
}

/* A legal client sends no chunk before EHLO told it that it may. */
static const char *pick(struct seeded *r, bool chunks_ok)
{
    const char *line = seeded_below(r, 10) < 6 ? likely[seeded_below(r, ARRAY_LEN(likely))]
                                               : others[seeded_below(r, ARRAY_LEN(others))];
    return chunks_ok || strcmp(line, "BDAT") != 0 ? line : "EHLO x";
}

/* A single command, or a group; how many commands it is. */
static size_t put_segment(struct seeded *r, const struct smtp_session *s, bool is_legal,
                          struct buf *in)
{
    size_t count = s->is_esmtp && seeded_below(r, 4) == 0 ? 1 + seeded_below(r, 8) : 1;
    if (count == 1)
        put_command(r, in, pick(r, !is_legal || s->is_esmtp));
    for (size_t i = 0; count > 1 && i < count; i++)
        put_command(r, in, grouped[seeded_below(r, ARRAY_LEN(grouped))]);
    return count;
}

static void begin_at_random(struct driver *d, struct seeded *r)
{
    driver_begin(d);
    d->is_quiet = true;
    d->judge = judge_by_name;
    d->chunk = seeded_below(r, 4) == 0 ? SIZE_MAX : 1 + seeded_below(r, 50);
    d->params.smtpd_recipient_limit = 5;
    d->params.smtpd_recipient_overshoot_limit = 2;
    d->params.smtpd_hard_error_limit = seeded_below(r, 2) == 0 ? 20 : 100000;
    d->params.smtpd_junk_command_limit = seeded_below(r, 2) == 0 ? 10 : 100000;
    d->params.soft_bounce = seeded_below(r, 8) == 0;
    d->s.features.starttls_ok = seeded_below(r, 2) == 0;
    d->s.features.tls_required = seeded_below(r, 8) == 0 && d->s.features.starttls_ok;
    d->s.features.xclient_ok = seeded_below(r, 2) == 0;
    d->s.features.bare_newline_reject = seeded_below(r, 8) == 0;
    driver_pump(d, span_make(NULL, 0));
    cr_assert_eq(count_replies(buf_span(&d->out)), 1);
    buf_clear(&d->out);
}

/* The number of replies is the number of commands; a 421 may come on top, and ends it. */
static void check_replies(struct driver *d, size_t commands, uint64_t *opened)
{
    size_t replies = count_replies(buf_span(&d->out));
    if (d->is_closed)
        cr_assert(replies >= 1 && replies <= commands + (d->s.close_reason == SMTP_CLOSE_ERRORS));
    else
        cr_assert_eq(replies, commands);
    const char *text = buf_text(&d->out);
    for (; (text = strstr(text, "250 2.1.0 Ok")) != NULL; text++)
        ++*opened;
    buf_clear(&d->out);
}

/* Every transaction ends once: by its commit or by a reset. */
static void check_state(const struct driver *d, uint64_t opened)
{
    cr_assert_eq(opened, d->commits + d->resets + d->s.mail.is_open);
    cr_assert_leq(d->s.mail.rcpt_count, 5);
    cr_assert_leq(d->s.scratch.used_bytes, 16384);
    cr_assert_leq(d->s.mail.memory.used_bytes, 8192);
    cr_assert_leq(d->s.peer.memory.used_bytes, 2048);
    cr_assert_leq(d->s.line.partial.cap, 4096);
    cr_assert(d->is_closed || d->s.state == SMTP_STATE_COMMAND);
}

/* The wire in the order it was sent, and where the client waited. */
struct record {
    struct buf wire;
    size_t ends[4000], count;
};

static void send_segment(struct driver *d, struct buf *in, struct record *kept)
{
    if (kept != NULL && kept->count < ARRAY_LEN(kept->ends)) {
        buf_add(&kept->wire, buf_span(in));
        kept->ends[kept->count++] = kept->wire.len;
    }
    driver_feed(d, buf_span(in));
    buf_clear(in);
}

static void converse(struct driver *d, struct seeded *r, uint64_t *opened, struct record *kept)
{
    struct buf in = { 0 };
    size_t commands = put_segment(r, &d->s, kept != NULL, &in);
    send_segment(d, &in, kept);
    if (!d->is_closed && d->s.state == SMTP_STATE_DATA) {
        put_body(r, &in, seeded_below(r, 20) == 0 ? 3000 : 60);
        buf_puts(&in, "\r\n.\r\n");
        send_segment(d, &in, kept);
        commands++; /* 354 was a reply too */
    }
    if (kept == NULL)
        check_replies(d, commands, opened);
    buf_fini(&in);
}

static size_t run_sessions(uint64_t seed, int turns)
{
    struct seeded r = seeded_begin(seed);
    struct driver d;
    uint64_t opened = 0;
    size_t sessions = 1;
    begin_at_random(&d, &r);
    for (int i = 0; i < turns; i++) {
        converse(&d, &r, &opened, NULL);
        check_state(&d, opened);
        if (!d.is_closed)
            continue;
        driver_end(&d);
        begin_at_random(&d, &r);
        opened = 0;
        sessions++;
    }
    driver_end(&d);
    return sessions;
}

Test(smtp_session, a_random_client_gets_one_reply_for_each_command_and_nothing_grows)
{
    size_t sessions = run_sessions(12, 120000);
    cr_expect_gt(sessions, 1000, "%zu", sessions);
}

/* The same bytes, the client waiting at the same places, in pieces of one byte. */
static void replay(const struct record *record, struct seeded r, struct buf *out)
{
    struct driver d;
    begin_at_random(&d, &r);
    d.is_quiet = false;
    d.chunk = 1;
    size_t start = 0;
    for (size_t i = 0; i < record->count; i++) {
        driver_feed(&d, span_make(record->wire.at + start, record->ends[i] - start));
        start = record->ends[i];
    }
    buf_add(out, buf_span(&d.out));
    driver_end(&d);
}

Test(smtp_session, a_legal_client_gets_the_same_replies_byte_by_byte)
{
    static struct record record;
    struct seeded r = seeded_begin(13);
    for (int round = 0; round < 1500; round++) {
        struct driver d;
        struct buf out = { 0 };
        struct seeded begun = r;
        begin_at_random(&d, &r);
        d.is_quiet = false;
        d.chunk = SIZE_MAX;
        record.count = record.wire.len = 0;
        for (int i = 0; i < 40 && !d.is_closed; i++)
            converse(&d, &r, NULL, &record);
        replay(&record, begun, &out);
        cr_assert(span_equals(buf_span(&out), buf_span(&d.out)), "round %d:\n%s\n---\n%s", round,
                  buf_text(&d.out), buf_text(&out));
        driver_end(&d);
        buf_fini(&out);
    }
    buf_fini(&record.wire);
}
