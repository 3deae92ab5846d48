#include "protocol/smtp_verb.h"

const struct smtp_verb_row smtp_verbs[SMTP_VERB_COUNT] = {
    [SMTP_VERB_UNKNOWN] = { "UNKNOWN", 0 },
    [SMTP_VERB_HELO] = { "HELO", SMTP_VERB_ENDS_GROUP | SMTP_VERB_IS_JUNK },
    [SMTP_VERB_EHLO] = { "EHLO", SMTP_VERB_ENDS_GROUP | SMTP_VERB_IS_JUNK },
    [SMTP_VERB_STARTTLS] = { "STARTTLS", SMTP_VERB_ENDS_GROUP },
    [SMTP_VERB_XCLIENT] = { "XCLIENT", SMTP_VERB_ENDS_GROUP },
    [SMTP_VERB_MAIL] = { "MAIL", 0 },
    [SMTP_VERB_RCPT] = { "RCPT", 0 },
    [SMTP_VERB_DATA] = { "DATA", SMTP_VERB_ENDS_GROUP },
    [SMTP_VERB_BDAT] = { "BDAT", 0 },
    [SMTP_VERB_RSET] = { "RSET", SMTP_VERB_IS_JUNK },
    [SMTP_VERB_NOOP] = { "NOOP", SMTP_VERB_ENDS_GROUP | SMTP_VERB_IS_JUNK },
    [SMTP_VERB_VRFY] = { "VRFY", SMTP_VERB_ENDS_GROUP | SMTP_VERB_IS_JUNK },
    [SMTP_VERB_EXPN] = { "EXPN", SMTP_VERB_ENDS_GROUP | SMTP_VERB_IS_JUNK },
    [SMTP_VERB_HELP] = { "HELP", SMTP_VERB_IS_JUNK },
    [SMTP_VERB_ETRN] = { "ETRN", SMTP_VERB_IS_JUNK },
    [SMTP_VERB_AUTH] = { "AUTH", 0 },
    [SMTP_VERB_SEND] = { "SEND", 0 },
    [SMTP_VERB_SOML] = { "SOML", 0 },
    [SMTP_VERB_SAML] = { "SAML", 0 },
    [SMTP_VERB_QUIT] = { "QUIT", 0 },
};

enum smtp_verb smtp_verb_parse(struct span *line, struct span *word)
{
    *word = span_next_word(line);
    *line = span_trim(*line);
    for (int v = SMTP_VERB_UNKNOWN + 1; v < SMTP_VERB_COUNT; v++)
        if (span_iequals(*word, span_of(smtp_verbs[v].name)))
            return (enum smtp_verb)v;
    return SMTP_VERB_UNKNOWN;
}
