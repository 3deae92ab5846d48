#include "protocol/mem.h"
#include "protocol/smtp_verb.h"

#include <criterion/criterion.h>

static const struct {
    const char *line;
    enum smtp_verb verb;
    const char *word, *argument;
} lines[] = {
    { "HELO a.b", SMTP_VERB_HELO, "HELO", "a.b" },
    { "ehlo a.b", SMTP_VERB_EHLO, "ehlo", "a.b" },
    { "StartTLS", SMTP_VERB_STARTTLS, "StartTLS", "" },
    { "XCLIENT A=b", SMTP_VERB_XCLIENT, "XCLIENT", "A=b" },
    { "MAIL FROM:<a@b>  SIZE=1 ", SMTP_VERB_MAIL, "MAIL", "FROM:<a@b>  SIZE=1" },
    { "RCPT\tTO:<a@b>", SMTP_VERB_RCPT, "RCPT", "TO:<a@b>" },
    { "DATA", SMTP_VERB_DATA, "DATA", "" },
    { "BDAT 5 LAST", SMTP_VERB_BDAT, "BDAT", "5 LAST" },
    { "RSET", SMTP_VERB_RSET, "RSET", "" },
    { "NOOP x y", SMTP_VERB_NOOP, "NOOP", "x y" },
    { "VRFY a", SMTP_VERB_VRFY, "VRFY", "a" },
    { "EXPN a", SMTP_VERB_EXPN, "EXPN", "a" },
    { "HELP", SMTP_VERB_HELP, "HELP", "" },
    { "ETRN a", SMTP_VERB_ETRN, "ETRN", "a" },
    { "AUTH PLAIN", SMTP_VERB_AUTH, "AUTH", "PLAIN" },
    { "SEND FROM:<>", SMTP_VERB_SEND, "SEND", "FROM:<>" },
    { "SOML", SMTP_VERB_SOML, "SOML", "" },
    { "SAML", SMTP_VERB_SAML, "SAML", "" },
    { "QUIT ", SMTP_VERB_QUIT, "QUIT", "" },
    { "  NOOP", SMTP_VERB_NOOP, "NOOP", "" },
    { "NOO", SMTP_VERB_UNKNOWN, "NOO", "" },
    { "NOOPS", SMTP_VERB_UNKNOWN, "NOOPS", "" },
    { "MAILFROM:<a>", SMTP_VERB_UNKNOWN, "MAILFROM:<a>", "" },
    { "Subject: hi", SMTP_VERB_UNKNOWN, "Subject:", "hi" },
    { "UNKNOWN x", SMTP_VERB_UNKNOWN, "UNKNOWN", "x" },
    { "", SMTP_VERB_UNKNOWN, "", "" },
    { "   ", SMTP_VERB_UNKNOWN, "", "" },
};

Test(smtp_verb, a_command_line_is_a_verb_and_its_argument)
{
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct span line = span_of(lines[i].line), word;
        cr_expect_eq(smtp_verb_parse(&line, &word), lines[i].verb, "%s", lines[i].line);
        cr_expect(span_equals(word, span_of(lines[i].word)), "%s", lines[i].line);
        cr_expect(span_equals(line, span_of(lines[i].argument)), "%s", lines[i].line);
    }
}

Test(smtp_verb, a_nul_belongs_to_the_word)
{
    struct span line = SPAN_LITERAL("NOOP\0 x"), word;
    cr_expect_eq(smtp_verb_parse(&line, &word), SMTP_VERB_UNKNOWN);
}

Test(smtp_verb, every_verb_has_a_name_that_leads_to_it)
{
    for (int v = SMTP_VERB_UNKNOWN + 1; v < SMTP_VERB_COUNT; v++) {
        cr_assert_not_null(smtp_verbs[v].name);
        struct span line = span_of(smtp_verbs[v].name), word;
        cr_expect_eq((int)smtp_verb_parse(&line, &word), v, "%s", smtp_verbs[v].name);
    }
}

/* RFC 2920 3.1 and spec 9.7 */
Test(smtp_verb, the_client_must_wait_behind_these)
{
    static const enum smtp_verb last[] = { SMTP_VERB_HELO, SMTP_VERB_EHLO, SMTP_VERB_STARTTLS,
                                           SMTP_VERB_XCLIENT, SMTP_VERB_DATA, SMTP_VERB_NOOP,
                                           SMTP_VERB_VRFY, SMTP_VERB_EXPN };
    unsigned expected = 0, found = 0;
    for (size_t i = 0; i < ARRAY_LEN(last); i++)
        expected |= 1u << last[i];
    for (int v = 0; v < SMTP_VERB_COUNT; v++)
        if ((smtp_verbs[v].flags & SMTP_VERB_ENDS_GROUP) != 0)
            found |= 1u << v;
    cr_expect_eq(found, expected);
}

/* spec 9.1; EXPN and HELP are our own and do no work either */
Test(smtp_verb, these_do_no_work_and_count_as_junk)
{
    static const enum smtp_verb junk[] = { SMTP_VERB_HELO, SMTP_VERB_EHLO, SMTP_VERB_RSET,
                                           SMTP_VERB_NOOP, SMTP_VERB_VRFY, SMTP_VERB_ETRN,
                                           SMTP_VERB_EXPN, SMTP_VERB_HELP };
    unsigned expected = 0, found = 0;
    for (size_t i = 0; i < ARRAY_LEN(junk); i++)
        expected |= 1u << junk[i];
    for (int v = 0; v < SMTP_VERB_COUNT; v++)
        if ((smtp_verbs[v].flags & SMTP_VERB_IS_JUNK) != 0)
            found |= 1u << v;
    cr_expect_eq(found, expected);
}
