/* smtp_param - the parameters after the path: SIZE, BODY, SMTPUTF8, AUTH, RET, ENVID of MAIL;
 * NOTIFY, ORCPT of RCPT (RFC 1870, 6152, 6531, 4954, 3461).
 * In:     the rest of the command line behind the path.
 * Out:    typed values; ENVID and ORCPT stay as the client wrote them (xtext), checked.
 * Errors: an enum; smtp_param_reply() gives Postfix's reply for it. *bad is the word at fault.
 * Spans point into the line. Thread: any. */
#ifndef POSTERN_SMTP_PARAM_H
#define POSTERN_SMTP_PARAM_H

#include "protocol/smtp_reply.h"

enum smtp_param_result {
    SMTP_PARAM_OK,
    SMTP_PARAM_UNSUPPORTED,
    SMTP_PARAM_BAD_SIZE,
    SMTP_PARAM_SIZE_OVERFLOW,
    SMTP_PARAM_BAD_ENVID,
    SMTP_PARAM_BAD_RET,
    SMTP_PARAM_BAD_NOTIFY,
    SMTP_PARAM_BAD_ORCPT,
    SMTP_PARAM_DSN_DISABLED,
};

enum smtp_ret { SMTP_RET_DEFAULT, SMTP_RET_FULL, SMTP_RET_HDRS };

enum smtp_notify { /* bits; 0 = not given */
    SMTP_NOTIFY_NEVER = 1,
    SMTP_NOTIFY_SUCCESS = 2,
    SMTP_NOTIFY_FAILURE = 4,
    SMTP_NOTIFY_DELAY = 8,
};

enum { SMTP_ENVID_MAX = 100, SMTP_ORCPT_MAX = 500 };

struct smtp_mail_params {
    uint64_t size_bytes; /* 0: not given */
    bool is_8bitmime, is_smtputf8;
    enum smtp_ret ret;
    struct span envid;
};

struct smtp_rcpt_params {
    unsigned notify; /* enum smtp_notify bits */
    struct span orcpt; /* "rfc822;xtext" */
};

enum smtp_param_result smtp_param_mail(struct span args, bool dsn_ok, bool smtputf8_ok,
                                       struct smtp_mail_params *out, struct span *bad);
enum smtp_param_result smtp_param_rcpt(struct span args, bool dsn_ok,
                                       struct smtp_rcpt_params *out, struct span *bad);

/* Code, enhanced code and text; for SMTP_PARAM_UNSUPPORTED the word still has to follow. */
struct smtp_reply smtp_param_reply(enum smtp_param_result result);

#endif
