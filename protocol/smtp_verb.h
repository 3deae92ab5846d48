/* smtp_verb - the verbs of SMTP: how a command line names one, and what is true of each
 * (RFC 5321 4.1, 4.5.1; RFC 2920 for pipelining groups).
 * Thread: any. */
#ifndef POSTERN_SMTP_VERB_H
#define POSTERN_SMTP_VERB_H

#include "protocol/span.h"

enum smtp_verb {
    SMTP_VERB_UNKNOWN,
    SMTP_VERB_HELO,
    SMTP_VERB_EHLO,
    SMTP_VERB_STARTTLS,
    SMTP_VERB_XCLIENT,
    SMTP_VERB_MAIL,
    SMTP_VERB_RCPT,
    SMTP_VERB_DATA,
    SMTP_VERB_BDAT,
    SMTP_VERB_RSET,
    SMTP_VERB_NOOP,
    SMTP_VERB_VRFY,
    SMTP_VERB_EXPN,
    SMTP_VERB_HELP,
    SMTP_VERB_ETRN,
    SMTP_VERB_AUTH,
    SMTP_VERB_SEND,
    SMTP_VERB_SOML,
    SMTP_VERB_SAML,
    SMTP_VERB_QUIT,
    SMTP_VERB_COUNT
};

enum smtp_verb_flags {
    SMTP_VERB_ENDS_GROUP = 1, /* the client must wait for the reply (RFC 2920 3.1) */
    SMTP_VERB_IS_JUNK = 2,    /* does no work: counted by smtpd_junk_command_limit */
};

struct smtp_verb_row {
    const char *name; /* upper case */
    unsigned flags;
};

extern const struct smtp_verb_row smtp_verbs[SMTP_VERB_COUNT];

/* Cuts the verb off *line; what stays is its argument without the blanks around it. */
enum smtp_verb smtp_verb_parse(struct span *line, struct span *word);

#endif
