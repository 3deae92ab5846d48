/* What an SPF check leaves in the message: Received-SPF: and Authentication-Results:. */
#include "policy/spf.h"
#include "protocol/hostname.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

enum { VALUE_MAX = 320 };

/* RFC 5322 3.2.3: without quotes only this, between dots. */
static bool is_dot_atom(struct span text)
{
    bool has_atom = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '.' && !has_atom)
            return false;
        has_atom = c != '.';
        if (!ascii_is_alnum(c) && (c == '\0' || strchr(".-_+=~!#$%&'*/?^`{|}", c) == NULL))
            return false;
    }
    return has_atom;
}

/* A value as a dot-atom, or quoted; whatever it holds it stays one line. */
static void put_value(struct buf *out, struct span text)
{
    struct buf clean = { 0 };
    text_escape(&clean, text, VALUE_MAX);
    if (is_dot_atom(buf_span(&clean))) {
        buf_add(out, buf_span(&clean));
    } else {
        buf_putc(out, '"');
        for (size_t i = 0; i < clean.len; i++) {
            if (clean.at[i] == '"' || clean.at[i] == '\\')
                buf_putc(out, '\\');
            buf_putc(out, clean.at[i]);
        }
        buf_putc(out, '"');
    }
    buf_fini(&clean);
}

static void put_pair(struct buf *out, const char *before, const char *key, struct span value)
{
    buf_printf(out, "%s%s=", before, key);
    put_value(out, value);
}

/* ------------------------------------------------------------ Received-SPF */

/* Inside of a comment; the domain is a host name, so nothing in it needs to be escaped. */
static void put_comment(struct buf *out, const struct spf *spf, const char *client)
{
    const char *domain = spf->domain;
    switch (spf->result) {
    case SPF_PASS:
        buf_printf(out, "domain %s designates %s as permitted sender", domain, client);
        return;
    case SPF_FAIL:
        buf_printf(out, "domain %s does not designate %s as permitted sender", domain, client);
        return;
    case SPF_SOFTFAIL:
        buf_printf(out, "transitioning domain %s does not designate %s as permitted sender",
                   domain, client);
        return;
    case SPF_NEUTRAL:
        buf_printf(out, "%s is neither permitted nor denied by domain %s", client, domain);
        return;
    case SPF_NONE:
        if (domain[0] != '\0')
            buf_printf(out, "domain %s has no SPF record", domain);
        else
            buf_puts(out, "no domain to check");
        return;
    case SPF_TEMPERROR:
    case SPF_PERMERROR:
        buf_printf(out, "error while checking domain %s: %s", domain, spf->problem);
        return;
    }
}

void spf_received_header(struct buf *out, const struct eval *e, const struct spf *spf)
{
    static const char *const identities[] = { "mailfrom", "helo" };
    const char *host = e->policy->params->myhostname;
    buf_printf(out, "Received-SPF: %s (%s: ", spf_result_names[spf->result], host);
    put_comment(out, spf, e->in->peer->address);
    buf_putc(out, ')');
    put_pair(out, "\r\n\t", "receiver", span_of(host));
    put_pair(out, "; ", "identity", span_of(identities[spf->identity]));
    put_pair(out, "; ", "client-ip", span_of(e->in->peer->address));
    if (e->in->helo != NULL)
        put_pair(out, ";\r\n\t", "helo", span_of(e->in->helo));
    put_pair(out, ";\r\n\t", "envelope-from", e->in->sender);
    if (spf->problem[0] != '\0')
        put_pair(out, ";\r\n\t", "problem", span_of(spf->problem));
}

/* ------------------------------------------------------------ Authentication-Results */

/* A mailbox stands as it is if its domain is a name (RFC 8601 2.2, pvalue). */
static void put_mailbox(struct buf *out, struct span address)
{
    struct buf quoted = { 0 };
    if (!hostname_is_valid(smtp_path_of(address).domain, false) || !text_is_ascii(address)) {
        put_value(out, address);
        return;
    }
    smtp_path_quote(&quoted, address);
    text_escape(out, buf_span(&quoted), quoted.len);
    buf_fini(&quoted);
}

static void put_result(struct buf *out, const struct eval *e, const struct spf *spf)
{
    buf_printf(out, ";\r\n\tspf=%s", spf_result_names[spf->result]);
    if (spf->problem[0] != '\0')
        put_pair(out, " ", "reason", span_of(spf->problem));
    if (spf->identity == SPF_IDENTITY_HELO) {
        put_pair(out, " ", "smtp.helo", span_of(e->in->helo != NULL ? e->in->helo : ""));
    } else {
        buf_puts(out, " smtp.mailfrom=");
        put_mailbox(out, e->in->sender);
    }
}

/* RFC 8601 2.7.3: does the address have a name that leads back to it? */
static void put_iprev(struct buf *out, const struct smtp_peer *peer)
{
    static const char *const results[] = {
        [SMTP_NAME_UNASKED] = NULL,       [SMTP_NAME_OK] = "pass",
        [SMTP_NAME_PERMANENT] = "permerror", [SMTP_NAME_FORGED] = "fail",
        [SMTP_NAME_TEMPORARY] = "temperror",
    };
    const char *result = results[peer->name_status];
    if (result == NULL || peer->ip.family == 0)
        return;
    buf_printf(out, ";\r\n\tiprev=%s", result);
    put_pair(out, " ", "policy.iprev", span_of(peer->address));
    if (peer->name_status == SMTP_NAME_OK)
        buf_printf(out, " (%s)", peer->name);
}

void spf_results_header(struct buf *out, const struct eval *e, const struct spf *results,
                        size_t count)
{
    buf_puts(out, "Authentication-Results: ");
    put_value(out, span_of(e->policy->params->authserv_id));
    for (size_t i = 0; i < count; i++)
        put_result(out, e, &results[i]);
    put_iprev(out, e->in->peer);
}
