/* ESMTP parameters of MAIL and RCPT. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_param.h"
#include "protocol/text.h"

static bool lies_in(struct span part, struct span whole)
{
    return part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

static void check_result(struct fuzz *f, enum smtp_param_result result, struct span bad)
{
    struct smtp_reply reply = smtp_param_reply(result);
    ENSURE(result <= SMTP_PARAM_DSN_DISABLED);
    ENSURE((result == SMTP_PARAM_OK) == (reply.code == 0));
    if (result == SMTP_PARAM_UNSUPPORTED)
        ENSURE(lies_in(bad, f->text));
}

static void mail(struct fuzz *f)
{
    struct smtp_mail_params p = { 0 };
    struct span bad = { 0 };
    bool dsn_ok = f->seed % 2 == 0, smtputf8_ok = f->seed % 4 < 2;
    enum smtp_param_result result = smtp_param_mail(f->text, dsn_ok, smtputf8_ok, &p, &bad);
    check_result(f, result, bad);
    if (result != SMTP_PARAM_OK)
        return;
    ENSURE(p.envid.len <= SMTP_ENVID_MAX && lies_in(p.envid, f->text));
    ENSURE(fuzz_is_printable(p.envid));
    ENSURE(dsn_ok || (p.envid.len == 0 && p.ret == SMTP_RET_DEFAULT));
    ENSURE(smtputf8_ok || !p.is_smtputf8);
    ENSURE(p.size_bytes <= INT64_MAX);
}

static void rcpt(struct fuzz *f)
{
    struct smtp_rcpt_params p = { 0 };
    struct span bad = { 0 };
    bool dsn_ok = f->seed % 2 == 0;
    enum smtp_param_result result = smtp_param_rcpt(f->text, dsn_ok, &p, &bad);
    check_result(f, result, bad);
    if (result != SMTP_PARAM_OK)
        return;
    ENSURE(p.orcpt.len <= SMTP_ORCPT_MAX && lies_in(p.orcpt, f->text));
    ENSURE((p.notify & SMTP_NOTIFY_NEVER) == 0 || p.notify == SMTP_NOTIFY_NEVER);
    ENSURE(dsn_ok || (p.notify == 0 && p.orcpt.len == 0));
}

void fuzz_one(struct fuzz *f)
{
    mail(f);
    rcpt(f);
}
