#include "policy/spf.h"
#include "policy/dns_name.h"
#include "policy/spf_library.h"
#include "protocol/smtp_path.h"

const char *const spf_result_names[] = {
    [SPF_NONE] = "none",           [SPF_NEUTRAL] = "neutral",     [SPF_PASS] = "pass",
    [SPF_FAIL] = "fail",           [SPF_SOFTFAIL] = "softfail",   [SPF_TEMPERROR] = "temperror",
    [SPF_PERMERROR] = "permerror",
};

/* ------------------------------------------------------------ the explanation (RFC 7208 6.2) */

/* Exactly one record, well formed; anything else counts as none. */
static bool is_explanation(const struct fact *txt, struct span *text)
{
    struct span rest = txt->value;
    return txt->status == FACT_FOUND && record_next(&rest, text) && rest.len == 0
           && spf_macro_check(*text, SPF_MACRO_TEXT);
}

/* A stranger's words, whatever the macros put in: printable ASCII. */
static const char *clean(struct eval *e, struct span text)
{
    char *copy = arena_text(&e->out->memory, text);
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_print(copy[i]))
            copy[i] = '?';
    return copy;
}

/* Not by the library, which can be overrun by a text that is made for it. */
static const char *explain(struct spf_library *lib)
{
    struct spf_layer *l = &lib->layer;
    struct buf words = { .max = SPF_VALUE_MAX * 4 };
    struct span text;
    if (lib->exp.len == 0)
        return "";
    const char *name = spf_layer_name(l, lib->exp, lib->exp_domain);
    const struct fact *txt = name != NULL && name[0] != '\0' ? spf_layer_ask(l, FACT_TXT, name)
                                                             : NULL;
    if (txt == NULL || !is_explanation(txt, &text)
        || !spf_layer_set_macros(l, text, lib->exp_domain))
        return "";
    spf_macro_expand(&words, text, &l->macros);
    size_t len = words.len < SPF_EXPLANATION_MAX ? words.len : SPF_EXPLANATION_MAX;
    const char *copy = clean(l->e, span_make(words.at, len));
    buf_fini(&words);
    return copy;
}

/* ------------------------------------------------------------ identities */

/* The name as DNS asks for it; it must have more than one label (RFC 7208 4.3). */
static bool is_domain(struct span name, char ask[DNS_NAME_MAX])
{
    return dns_name_ask(ask, name) && strchr(ask, '.') != NULL;
}

static void tell(struct eval *e, const struct spf *spf)
{
    static const char *const identities[] = { "mailfrom", "helo" };
    struct arena *memory = &e->out->memory;
    eval_tell(e, arena_printf(memory, "spf %s %s", identities[spf->identity], spf->domain),
              arena_printf(memory, "%s%s%s", spf_result_names[spf->result],
                           spf->problem[0] != '\0' ? ": " : "", spf->problem));
}

static enum verdict run(struct spf_library *lib, struct spf *out, bool wants_explanation)
{
    out->result = spf_library_run(lib, out->domain);
    if (lib->layer.has_failed)
        out->problem = lib->layer.problem;
    if (out->result == SPF_FAIL && wants_explanation && !lib->layer.is_pending)
        out->explanation = explain(lib);
    if (lib->layer.is_pending)
        return VERDICT_PENDING;
    tell(lib->layer.e, out);
    return VERDICT_DUNNO;
}

/* Clients that no record can say anything about. A broken table exempts nobody. */
static enum match is_exempt(struct eval *e)
{
    const struct smtp_peer *peer = e->in->peer;
    if (peer->ip.family == 0 || ip_is_loopback(&peer->ip))
        return MATCH_YES;
    return match_list_host(&e->policy->spf_exempt_clients, &e->reader, span_of(peer->name),
                           &peer->ip);
}

/* An empty local part counts as postmaster (RFC 7208 4.3). */
static enum verdict check(struct eval *e, const struct smtp_path *sender, bool wants_explanation,
                          struct spf *out)
{
    const struct envelope_in *in = e->in;
    char domain[DNS_NAME_MAX];
    enum match exempt = is_exempt(e);
    if (exempt == MATCH_PENDING)
        return VERDICT_PENDING;
    if (exempt == MATCH_YES || !is_domain(sender->domain, domain))
        return VERDICT_DUNNO;
    out->domain = arena_text(&e->out->memory, span_of(domain));
    struct spf_library lib = { .layer = {
        .e = e,
        .scope = out->identity == SPF_IDENTITY_HELO ? SCOPE_HELO : SCOPE_SENDER,
        .macros = {
            .local = sender->local.len > 0 ? sender->local : SPAN_LITERAL("postmaster"),
            .domain = span_of(out->domain), .ip = &in->peer->ip,
            .helo = span_of(in->helo != NULL ? in->helo : "unknown"),
            .receiver = e->policy->params->myhostname, .now_s = in->wall_s,
        },
    } };
    return run(&lib, out, wants_explanation);
}

enum verdict spf_check_helo(struct eval *e, bool wants_explanation, struct spf *out)
{
    const struct smtp_path sender = { .domain = span_of(e->in->helo) };
    *out = (struct spf){ .identity = SPF_IDENTITY_HELO, .domain = "", .explanation = "",
                         .problem = "" };
    return check(e, &sender, wants_explanation, out);
}

/* The sender's own identity, or the HELO name's for the null sender (RFC 7208 2.4). */
static enum verdict check_sender(struct eval *e, bool wants_explanation, struct spf *out)
{
    const struct smtp_path sender = smtp_path_of(e->in->sender);
    if (e->in->sender.len == 0)
        return spf_check_helo(e, wants_explanation, out);
    *out = (struct spf){ .identity = SPF_IDENTITY_MAILFROM, .domain = "", .explanation = "",
                         .problem = "" };
    return check(e, &sender, wants_explanation, out);
}

enum verdict spf_check_mailfrom(struct eval *e, bool wants_explanation, struct spf *out)
{
    enum verdict verdict = check_sender(e, wants_explanation, out);
    if (verdict == VERDICT_DUNNO)
        e->out->spf = (int)out->result + 1;
    return verdict;
}
