#include "protocol/mem.h"
#include "protocol/smtp_param.h"

#include <criterion/criterion.h>

enum { NO_DSN = 1, NO_UTF8 = 2 };

#define X100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
    const char *args;
    unsigned without;
    enum smtp_param_result result;
    const char *bad; /* the word at fault */
} mails[] = {
    { "", 0, SMTP_PARAM_OK, "" },
    { "   ", 0, SMTP_PARAM_OK, "" },
    { "SIZE=0", 0, SMTP_PARAM_OK, "" },
    { "size=5 body=8bitmime", 0, SMTP_PARAM_OK, "" },
    { "SIZE=9223372036854775807", 0, SMTP_PARAM_OK, "" },
    { "SIZE=9223372036854775808", 0, SMTP_PARAM_SIZE_OVERFLOW, "SIZE=9223372036854775808" },
    { "SIZE=99999999999999999999999", 0, SMTP_PARAM_SIZE_OVERFLOW, "SIZE=99999999999999999999999" },
    { "SIZE=", 0, SMTP_PARAM_BAD_SIZE, "SIZE=" },
    { "SIZE=-1", 0, SMTP_PARAM_BAD_SIZE, "SIZE=-1" },
    { "SIZE=1k", 0, SMTP_PARAM_BAD_SIZE, "SIZE=1k" },
    { "SIZE", 0, SMTP_PARAM_UNSUPPORTED, "SIZE" },
    { "BODY=7BIT", 0, SMTP_PARAM_OK, "" },
    { "BODY=BINARYMIME", 0, SMTP_PARAM_UNSUPPORTED, "BODY=BINARYMIME" },
    { "BODY=", 0, SMTP_PARAM_UNSUPPORTED, "BODY=" },
    { "BODY=8BITMIMEX", 0, SMTP_PARAM_UNSUPPORTED, "BODY=8BITMIMEX" },
    { "SMTPUTF8", 0, SMTP_PARAM_OK, "" },
    { "SMTPUTF8=1", 0, SMTP_PARAM_UNSUPPORTED, "SMTPUTF8=1" },
    { "SMTPUTF8", NO_UTF8, SMTP_PARAM_UNSUPPORTED, "SMTPUTF8" },
    { "AUTH=<>", 0, SMTP_PARAM_OK, "" },
    { "AUTH", 0, SMTP_PARAM_UNSUPPORTED, "AUTH" },
    { "RET=FULL ENVID=a+2Bb", 0, SMTP_PARAM_OK, "" },
    { "RET=hdrs", 0, SMTP_PARAM_OK, "" },
    { "RET=X", 0, SMTP_PARAM_BAD_RET, "RET=X" },
    { "RET=", 0, SMTP_PARAM_BAD_RET, "RET=" },
    { "RET=FULL RET=FULL", 0, SMTP_PARAM_BAD_RET, "RET=FULL" },
    { "RET=FULL", NO_DSN, SMTP_PARAM_DSN_DISABLED, "RET=FULL" },
    { "ENVID=a", NO_DSN, SMTP_PARAM_DSN_DISABLED, "ENVID=a" },
    { "ENVID=", 0, SMTP_PARAM_BAD_ENVID, "ENVID=" },
    { "ENVID=a+4", 0, SMTP_PARAM_BAD_ENVID, "ENVID=a+4" },
    { "ENVID=a+00", 0, SMTP_PARAM_BAD_ENVID, "ENVID=a+00" },
    { "ENVID=a ENVID=b", 0, SMTP_PARAM_BAD_ENVID, "ENVID=b" },
    { "ENVID=" X100, 0, SMTP_PARAM_OK, "" },
    { "ENVID=" X100 "x", 0, SMTP_PARAM_BAD_ENVID, "ENVID=" X100 "x" },
    { "NOTIFY=NEVER", 0, SMTP_PARAM_UNSUPPORTED, "NOTIFY=NEVER" },
    { "<d@e.f>", 0, SMTP_PARAM_UNSUPPORTED, "<d@e.f>" },
    { "SIZE=1 X-FOO=2 SIZE=x", 0, SMTP_PARAM_UNSUPPORTED, "X-FOO=2" }, /* the first bad one */
};

Test(smtp_param, mail_parameters_are_known_and_well_formed)
{
    for (size_t i = 0; i < ARRAY_LEN(mails); i++) {
        struct smtp_mail_params out;
        struct span bad;
        enum smtp_param_result result =
            smtp_param_mail(span_of(mails[i].args), (mails[i].without & NO_DSN) == 0,
                            (mails[i].without & NO_UTF8) == 0, &out, &bad);
        cr_expect_eq(result, mails[i].result, "%s", mails[i].args);
        cr_expect(span_equals(bad, span_of(mails[i].bad)), "%s", mails[i].args);
    }
}

Test(smtp_param, mail_parameters_give_their_values)
{
    struct smtp_mail_params p;
    struct span bad;
    smtp_param_mail(SPAN_LITERAL("SIZE=123 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q+2B1 AUTH=x"),
                    true, true, &p, &bad);
    cr_expect(p.size_bytes == 123 && p.is_8bitmime && p.is_smtputf8 && p.ret == SMTP_RET_HDRS);
    cr_expect(span_equals(p.envid, SPAN_LITERAL("q+2B1")), "as the client wrote it");
    smtp_param_mail(SPAN_LITERAL("BODY=8BITMIME BODY=7BIT RET=FULL"), true, true, &p, &bad);
    cr_expect(!p.is_8bitmime && p.ret == SMTP_RET_FULL && p.size_bytes == 0);
    smtp_param_mail(SPAN_LITERAL(""), true, true, &p, &bad);
    cr_expect(!p.is_8bitmime && !p.is_smtputf8 && p.ret == SMTP_RET_DEFAULT && p.envid.len == 0,
              "nothing is left of the command before");
}

static const struct {
    const char *args;
    enum smtp_param_result result;
    unsigned notify;
    const char *orcpt;
} rcpts[] = {
    { "", SMTP_PARAM_OK, 0, "" },
    { "NOTIFY=NEVER", SMTP_PARAM_OK, SMTP_NOTIFY_NEVER, "" },
    { "notify=success,Delay,FAILURE", SMTP_PARAM_OK,
      SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY | SMTP_NOTIFY_FAILURE, "" },
    { "NOTIFY=DELAY,DELAY", SMTP_PARAM_OK, SMTP_NOTIFY_DELAY, "" },
    { "NOTIFY=", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=NEVER,SUCCESS", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=SUCCESS,NEVER", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=SUCCESS,", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=,SUCCESS", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=X", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY=DELAY NOTIFY=DELAY", SMTP_PARAM_BAD_NOTIFY, 0, "" },
    { "NOTIFY", SMTP_PARAM_UNSUPPORTED, 0, "" },
    { "ORCPT=rfc822;a+2Bb@c.d", SMTP_PARAM_OK, 0, "rfc822;a+2Bb@c.d" },
    { "ORCPT=x-400;a NOTIFY=NEVER", SMTP_PARAM_OK, SMTP_NOTIFY_NEVER, "x-400;a" },
    { "ORCPT=rfc822;a;b", SMTP_PARAM_OK, 0, "rfc822;a;b" },
    { "ORCPT=a@b.c", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=;a", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc822;", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc_822;a", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc822;a+4", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc822;a+0D", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc822;a ORCPT=rfc822;b", SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=rfc822;" X100 X100 X100 X100 X100, SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "ORCPT=r;" X100 X100 X100 X100 X100, SMTP_PARAM_BAD_ORCPT, 0, "" },
    { "SIZE=1", SMTP_PARAM_UNSUPPORTED, 0, "" },
    { "x", SMTP_PARAM_UNSUPPORTED, 0, "" },
};

Test(smtp_param, rcpt_parameters_are_known_and_well_formed)
{
    for (size_t i = 0; i < ARRAY_LEN(rcpts); i++) {
        struct smtp_rcpt_params out;
        struct span bad;
        enum smtp_param_result result =
            smtp_param_rcpt(span_of(rcpts[i].args), true, &out, &bad);
        cr_expect_eq(result, rcpts[i].result, "%s", rcpts[i].args);
        if (rcpts[i].result != SMTP_PARAM_OK)
            continue;
        cr_expect_eq(out.notify, rcpts[i].notify, "%s", rcpts[i].args);
        cr_expect(span_equals(out.orcpt, span_of(rcpts[i].orcpt)), "%s", rcpts[i].args);
    }
}

Test(smtp_param, orcpt_has_at_most_500_bytes)
{
    struct smtp_rcpt_params out;
    struct span bad;
    static const char longest[] = "ORCPT=rfc822;" X100 X100 X100 X100 X100;
    struct span args = span_make(longest, strlen("ORCPT=") + SMTP_ORCPT_MAX);
    cr_expect_eq(smtp_param_rcpt(args, true, &out, &bad), SMTP_PARAM_OK);
    args.len++;
    cr_expect_eq(smtp_param_rcpt(args, true, &out, &bad), SMTP_PARAM_BAD_ORCPT);
}

Test(smtp_param, without_dsn_its_parameters_are_refused)
{
    struct smtp_rcpt_params out;
    struct span bad;
    cr_expect_eq(smtp_param_rcpt(SPAN_LITERAL("NOTIFY=NEVER"), false, &out, &bad),
                 SMTP_PARAM_DSN_DISABLED);
    cr_expect_eq(smtp_param_rcpt(SPAN_LITERAL("ORCPT=rfc822;a"), false, &out, &bad),
                 SMTP_PARAM_DSN_DISABLED);
    cr_expect_eq(smtp_param_rcpt(SPAN_LITERAL(""), false, &out, &bad), SMTP_PARAM_OK);
}

/* Postfix's words, measured */
static const struct smtp_reply replies[] = {
    [SMTP_PARAM_OK] = { 0, NULL, NULL },
    [SMTP_PARAM_UNSUPPORTED] = { 555, "5.5.4", "Unsupported option: " },
    [SMTP_PARAM_BAD_SIZE] = { 501, "5.5.4", "Bad message size syntax" },
    [SMTP_PARAM_SIZE_OVERFLOW] = { 552, "5.3.4",
                                   "Message size exceeds file system imposed limit" },
    [SMTP_PARAM_BAD_ENVID] = { 501, "5.5.4", "Bad ENVID parameter syntax" },
    [SMTP_PARAM_BAD_RET] = { 501, "5.5.4", "Bad RET parameter syntax" },
    [SMTP_PARAM_BAD_NOTIFY] = { 501, "5.5.4", "Error: Bad NOTIFY parameter syntax" },
    [SMTP_PARAM_BAD_ORCPT] = { 501, "5.5.4", "Error: Bad ORCPT parameter syntax" },
    [SMTP_PARAM_DSN_DISABLED] = { 501, "5.7.1", "DSN support is disabled" },
};

Test(smtp_param, every_error_has_postfixs_reply)
{
    for (size_t i = 1; i < ARRAY_LEN(replies); i++) {
        struct smtp_reply reply = smtp_param_reply((enum smtp_param_result)i);
        cr_expect_eq(reply.code, replies[i].code);
        cr_expect_str_eq(reply.enhanced, replies[i].enhanced);
        cr_expect_str_eq(reply.text, replies[i].text);
    }
    cr_expect_eq(smtp_param_reply(SMTP_PARAM_OK).code, 0);
}
