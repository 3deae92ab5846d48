/* check_spf, reject_spf_fail, reject_spf_softfail, reject_spf_permerror, defer_spf_temperror: what
 * follows from an SPF result (RFC 7208 8, RFC 7372 3.2). The HELO name's own record counts too
 * (spf_check_helo); the null sender has only that. */
#include "policy/restriction.h"
#include "policy/spf.h"

/* The identities that were checked: the sender's, then the HELO name's if that is another. */
struct results {
    struct spf spf[2];
    size_t count;
};

/* Both identities' questions go out together; verdicts keep their order. */
static enum verdict find_results(struct eval *e, bool wants_explanation, struct results *found)
{
    *found = (struct results){ .count = 1 };
    enum verdict sender = spf_check_mailfrom(e, wants_explanation, &found->spf[0]);
    struct fact_key missing = e->out->missing;
    if (!e->policy->params->spf_check_helo || found->spf[0].identity == SPF_IDENTITY_HELO)
        return sender;
    enum verdict helo = spf_check_helo(e, wants_explanation, &found->spf[1]);
    if (sender == VERDICT_PENDING && helo == VERDICT_PENDING)
        eval_want_key(e, &missing);
    else if (sender == VERDICT_PENDING)
        e->out->missing = missing;
    found->count += found->spf[1].result != SPF_NONE;
    return sender == VERDICT_PENDING ? sender : helo;
}

/* ------------------------------------------------------------ annotation */

static void prepend(struct eval *e, struct buf *header)
{
    struct outcome *out = e->out;
    if (out->prepends_end == NULL)
        out->prepends_end = &out->prepends;
    out->prepends_end = eval_add_text(e, out->prepends_end, buf_text(header));
    buf_fini(header);
}

/* The same for all recipients of a message, so it stands there once (smtpd keeps no doubles). */
enum verdict check_spf(struct eval *e, const struct rule *r)
{
    struct results found;
    struct buf header = { 0 };
    (void)r;
    if (!e->in->has_sender)
        return VERDICT_DUNNO;
    enum verdict verdict = find_results(e, false, &found);
    if (verdict != VERDICT_DUNNO)
        return verdict;
    spf_results_header(&header, e, found.spf, found.count);
    prepend(e, &header);
    for (size_t i = 0; i < found.count; i++) {
        spf_received_header(&header, e, &found.spf[i]);
        prepend(e, &header);
    }
    return VERDICT_DUNNO;
}

/* ------------------------------------------------------------ refusal */

/* "<a@b>: Sender address rejected: ", or the HELO name's. */
static const char *prefix(struct eval *e, const struct spf *spf)
{
    return eval_prefix(e, spf->identity == SPF_IDENTITY_HELO ? SUBJECT_HELO : SUBJECT_SENDER);
}

static enum verdict refuse_fail(struct eval *e, const struct spf *spf)
{
    int code = e->policy->params->spf_reject_code;
    bool is_explained = spf->explanation[0] != '\0';
    /* whose words they are must be clear (RFC 7208 6.2, 11.6) */
    return eval_reject(e, code, "5.7.23", "%sSPF fail: %s may not send for %s%s%s",
                       prefix(e, spf), e->in->peer->address, spf->domain,
                       is_explained ? "; that domain explains: " : "", spf->explanation);
}

static enum verdict refuse_softfail(struct eval *e, const struct spf *spf)
{
    return eval_reject(e, e->policy->params->spf_reject_code, "5.7.1",
                       "%sSPF softfail: %s should not send for %s", prefix(e, spf),
                       e->in->peer->address, spf->domain);
}

static enum verdict refuse_permerror(struct eval *e, const struct spf *spf)
{
    return eval_reject(e, e->policy->params->spf_reject_code, "5.7.24",
                       "%sSPF record of %s cannot be used: %s", prefix(e, spf), spf->domain,
                       spf->problem);
}

static enum verdict defer_temperror(struct eval *e, const struct spf *spf)
{
    static const char format[] = "%sSPF record of %s: %s";
    if (e->policy->params->spf_tempfail_action == TEMPFAIL_DEFER)
        return eval_reject(e, 451, "4.7.24", format, prefix(e, spf), spf->domain, spf->problem);
    return eval_defer_if_permit(e, 451, "4.7.24", format, prefix(e, spf), spf->domain,
                                spf->problem);
}

static enum verdict refuse(struct eval *e, enum spf_result result,
                           enum verdict (*say)(struct eval *e, const struct spf *spf))
{
    struct results found;
    if (!e->in->has_sender)
        return VERDICT_DUNNO;
    enum verdict verdict = find_results(e, result == SPF_FAIL, &found);
    for (size_t i = 0; i < found.count && verdict == VERDICT_DUNNO; i++)
        if (found.spf[i].result == result)
            return say(e, &found.spf[i]);
    return verdict;
}

enum verdict check_spf_fail(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse(e, SPF_FAIL, refuse_fail);
}

enum verdict check_spf_softfail(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse(e, SPF_SOFTFAIL, refuse_softfail);
}

enum verdict check_spf_permerror(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse(e, SPF_PERMERROR, refuse_permerror);
}

enum verdict check_spf_temperror(struct eval *e, const struct rule *r)
{
    (void)r;
    return refuse(e, SPF_TEMPERROR, defer_temperror);
}
