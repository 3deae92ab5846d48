#include "protocol/smtp_param.h"
#include "protocol/mem.h"
#include "protocol/text.h"

/* "NAME=value" -> true and the value; the name folds case. */
static bool cut_name(struct span word, const char *name, struct span *value)
{
    struct span n = span_of(name);
    if (!span_istarts(word, n) || word.len <= n.len || word.at[n.len] != '=')
        return false;
    *value = span_skip(word, n.len + 1);
    return true;
}

static bool is_xtext(struct span text, size_t max)
{
    struct buf decoded = { 0 };
    bool is_good = text.len > 0 && text.len <= max && xtext_decode(text, &decoded);
    buf_fini(&decoded);
    return is_good;
}

static enum smtp_param_result parse_size(struct span value, uint64_t *size_bytes)
{
    if (value.len == 0)
        return SMTP_PARAM_BAD_SIZE;
    for (size_t i = 0; i < value.len; i++)
        if (!ascii_is_digit(value.at[i]))
            return SMTP_PARAM_BAD_SIZE;
    return span_to_u64(value, INT64_MAX, size_bytes) ? SMTP_PARAM_OK : SMTP_PARAM_SIZE_OVERFLOW;
}

static enum smtp_param_result parse_ret(struct span value, enum smtp_ret *ret)
{
    if (*ret != SMTP_RET_DEFAULT)
        return SMTP_PARAM_BAD_RET;
    if (span_iequals(value, SPAN_LITERAL("FULL")))
        *ret = SMTP_RET_FULL;
    else if (span_iequals(value, SPAN_LITERAL("HDRS")))
        *ret = SMTP_RET_HDRS;
    else
        return SMTP_PARAM_BAD_RET;
    return SMTP_PARAM_OK;
}

static enum smtp_param_result parse_mail_word(struct span word, bool dsn_ok, bool smtputf8_ok,
                                              struct smtp_mail_params *out)
{
    struct span value;
    if (cut_name(word, "SIZE", &value))
        return parse_size(value, &out->size_bytes);
    if (span_iequals(word, SPAN_LITERAL("BODY=8BITMIME"))
        || span_iequals(word, SPAN_LITERAL("BODY=7BIT"))) {
        out->is_8bitmime = word.at[5] == '8';
        return SMTP_PARAM_OK;
    }
    if (smtputf8_ok && span_iequals(word, SPAN_LITERAL("SMTPUTF8"))) {
        out->is_smtputf8 = true;
        return SMTP_PARAM_OK;
    }
    if (cut_name(word, "AUTH", &value)) /* RFC 4954 5: accepted without AUTH, ignored */
        return SMTP_PARAM_OK;
    if (cut_name(word, "RET", &value))
        return dsn_ok ? parse_ret(value, &out->ret) : SMTP_PARAM_DSN_DISABLED;
    if (cut_name(word, "ENVID", &value)) {
        if (!dsn_ok)
            return SMTP_PARAM_DSN_DISABLED;
        if (out->envid.len > 0 || !is_xtext(value, SMTP_ENVID_MAX))
            return SMTP_PARAM_BAD_ENVID;
        out->envid = value;
        return SMTP_PARAM_OK;
    }
    return SMTP_PARAM_UNSUPPORTED;
}

enum smtp_param_result smtp_param_mail(struct span args, bool dsn_ok, bool smtputf8_ok,
                                       struct smtp_mail_params *out, struct span *bad)
{
    enum smtp_param_result result = SMTP_PARAM_OK;
    *out = (struct smtp_mail_params){ 0 };
    while (result == SMTP_PARAM_OK) {
        *bad = span_next_word(&args);
        if (bad->len == 0)
            break;
        result = parse_mail_word(*bad, dsn_ok, smtputf8_ok, out);
    }
    return result;
}

static const struct {
    const char *word;
    unsigned bit;
} notify_words[] = {
    { "NEVER", SMTP_NOTIFY_NEVER },
    { "SUCCESS", SMTP_NOTIFY_SUCCESS },
    { "FAILURE", SMTP_NOTIFY_FAILURE },
    { "DELAY", SMTP_NOTIFY_DELAY },
};

static unsigned notify_bit(struct span word)
{
    for (size_t i = 0; i < ARRAY_LEN(notify_words); i++)
        if (span_iequals(word, span_of(notify_words[i].word)))
            return notify_words[i].bit;
    return 0;
}

static enum smtp_param_result parse_notify(struct span list, unsigned *notify)
{
    unsigned bits = 0;
    if (*notify != 0)
        return SMTP_PARAM_BAD_NOTIFY;
    for (;;) {
        size_t comma = span_find(list, ',');
        unsigned bit = notify_bit(span_make(list.at, comma));
        if (bit == 0)
            return SMTP_PARAM_BAD_NOTIFY;
        bits |= bit;
        if (comma == list.len)
            break;
        list = span_skip(list, comma + 1);
    }
    if ((bits & SMTP_NOTIFY_NEVER) != 0 && bits != SMTP_NOTIFY_NEVER)
        return SMTP_PARAM_BAD_NOTIFY;
    *notify = bits;
    return SMTP_PARAM_OK;
}

static enum smtp_param_result parse_orcpt(struct span value, struct span *orcpt)
{
    size_t semicolon = span_find(value, ';');
    if (orcpt->len > 0 || value.len > SMTP_ORCPT_MAX || semicolon == 0)
        return SMTP_PARAM_BAD_ORCPT;
    if (!is_xtext(span_skip(value, semicolon + 1), SMTP_ORCPT_MAX))
        return SMTP_PARAM_BAD_ORCPT;
    for (size_t i = 0; i < semicolon; i++)
        if (!ascii_is_alnum(value.at[i]) && value.at[i] != '-')
            return SMTP_PARAM_BAD_ORCPT;
    *orcpt = value;
    return SMTP_PARAM_OK;
}

static enum smtp_param_result parse_rcpt_word(struct span word, bool dsn_ok,
                                              struct smtp_rcpt_params *out)
{
    struct span value;
    bool is_notify = cut_name(word, "NOTIFY", &value);
    if (!is_notify && !cut_name(word, "ORCPT", &value))
        return SMTP_PARAM_UNSUPPORTED;
    if (!dsn_ok)
        return SMTP_PARAM_DSN_DISABLED;
    return is_notify ? parse_notify(value, &out->notify) : parse_orcpt(value, &out->orcpt);
}

enum smtp_param_result smtp_param_rcpt(struct span args, bool dsn_ok,
                                       struct smtp_rcpt_params *out, struct span *bad)
{
    enum smtp_param_result result = SMTP_PARAM_OK;
    *out = (struct smtp_rcpt_params){ 0 };
    while (result == SMTP_PARAM_OK) {
        *bad = span_next_word(&args);
        if (bad->len == 0)
            break;
        result = parse_rcpt_word(*bad, dsn_ok, out);
    }
    return result;
}

struct smtp_reply smtp_param_reply(enum smtp_param_result result)
{
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
    return replies[result];
}
