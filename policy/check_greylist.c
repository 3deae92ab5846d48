/* check_greylist: who is exempt, under what name a client is known, and what a wait looks like
 * (spec 11.1, RFC 6647). The records are behind a fact; so the triplet is touched once for each
 * RCPT that gets here, and only for recipients that exist. */
#include "policy/dns_name.h"
#include "policy/dnsbl.h"
#include "policy/greylist.h"
#include "policy/psl.h"
#include "policy/restriction.h"
#include "policy/spf.h"
#include "protocol/smtp_path.h"

/* ------------------------------------------------------------ exemptions */

static enum verdict of_match(enum match match)
{
    return match == MATCH_PENDING ? VERDICT_PENDING
           : match == MATCH_YES   ? VERDICT_PERMIT
                                  : VERDICT_DUNNO; /* a broken table exempts nobody */
}

static enum verdict exempt_client(struct eval *e)
{
    const struct smtp_peer *peer = e->in->peer;
    return of_match(match_list_host(&e->policy->greylist_exempt_clients, &e->reader,
                                    span_of(peer->name), &peer->ip));
}

/* "user@", "user@domain", "domain": as postgrey's list of recipients. */
static enum verdict exempt_recipient(struct eval *e)
{
    const struct match_list *list = &e->policy->greylist_exempt_recipients;
    const struct resolved *r = &e->recipient;
    struct arena *memory = &e->out->memory;
    const char *user = arena_printf(memory, "%.*s@", (int)r->user.len, r->user.at);
    const char *address = arena_printf(memory, "%s%.*s", user, (int)r->domain.len, r->domain.at);
    const struct span keys[] = { span_of(user), span_of(address), r->domain };
    for (size_t i = 0; i < 3; i++) {
        enum verdict verdict = of_match(match_list_word(list, &e->reader, keys[i]));
        if (verdict != VERDICT_DUNNO)
            return verdict;
    }
    return VERDICT_DUNNO;
}

static enum verdict exempt_by_dnswl(struct eval *e)
{
    const struct params *p = e->policy->params;
    struct ip odd;
    for (struct dnsbl *list = e->policy->greylist_dnswl; list != NULL; list = list->next) {
        char name[DNS_NAME_MAX];
        if (!dns_name_listed(name, &e->in->peer->ip, span_of(list->domain)))
            continue;
        const struct fact *answer = eval_need(e, FACT_A, SCOPE_CLIENT, NULL, span_of(name));
        if (answer == NULL)
            return VERDICT_PENDING;
        if (dnsbl_judge(list, answer, p->dns_list_guard, &odd) == DNSBL_YES)
            return VERDICT_PERMIT;
    }
    return VERDICT_DUNNO;
}

/* Mail that will be refused anyway must not fill the greylist, nor get a 450 for its 550. */
static enum verdict will_be_refused(struct eval *e)
{
    struct listing listing;
    if (e->recipient.class == ADDRESS_DEFAULT || e->recipient.is_routed)
        return VERDICT_PERMIT;
    enum map_result result = recipient_listing(&e->policy->domains, &e->reader, &e->recipient,
                                               &listing);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->recipient);
    return listing.is_known ? VERDICT_DUNNO : VERDICT_PERMIT;
}

/* VERDICT_PERMIT: not greylisted. */
static enum verdict is_exempt(struct eval *e)
{
    static enum verdict (*const tests[])(struct eval *e) = {
        exempt_client, exempt_recipient, will_be_refused, exempt_by_dnswl,
    };
    if (e->in->sender.len == 0 && e->policy->params->greylist_exempt_null_sender)
        return VERDICT_PERMIT;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        enum verdict verdict = tests[i](e);
        if (verdict != VERDICT_DUNNO)
            return verdict;
    }
    return VERDICT_DUNNO;
}

/* ------------------------------------------------------------ who is it? */

/* Whoever the sender's domain, or the HELO name's, names as its own: senders with a pool of
 * addresses are one client. */
static enum verdict spf_identity(struct eval *e, struct buf *who)
{
    struct spf spf;
    enum verdict verdict = spf_check_mailfrom(e, false, &spf);
    if (verdict == VERDICT_DUNNO && spf.result == SPF_PASS)
        buf_printf(who, "spf:%s", spf.domain);
    return verdict;
}

/* A confirmed PTR name of a host that somebody chose: its registrable domain. */
static bool ptr_identity(struct eval *e, struct buf *who)
{
    const struct smtp_peer *peer = e->in->peer;
    if (peer->name_status != SMTP_NAME_OK
        || greylist_looks_dynamic(span_of(peer->name), &peer->ip))
        return false;
    const char *domain = psl_registrable(peer->name, &e->out->memory);
    if (domain == NULL)
        return false;
    buf_printf(who, "ptr:%s", domain);
    return true;
}

static void network_identity(struct eval *e, struct buf *who)
{
    const struct params *p = e->policy->params;
    const struct ip *ip = &e->in->peer->ip;
    if (p->greylist_key == GREYLIST_KEY_ADDRESS)
        greylist_network(who, ip, 32, 128);
    else
        greylist_network(who, ip, p->greylist_ipv4_prefix_length,
                         p->greylist_ipv6_prefix_length);
}

/* The name under which the client is known; client: under which its successes are counted. */
static enum verdict identify(struct eval *e, struct buf *who, struct buf *client)
{
    if (e->policy->params->greylist_key == GREYLIST_KEY_IDENTITY) {
        enum verdict verdict = spf_identity(e, who);
        if (verdict != VERDICT_DUNNO)
            return verdict;
        if (who->len > 0 || ptr_identity(e, who)) {
            buf_add(client, buf_span(who));
            return VERDICT_DUNNO;
        }
    }
    network_identity(e, who);
    buf_puts(client, e->in->peer->address);
    return VERDICT_DUNNO;
}

/* "WHO/SENDER/RECIPIENT<TAB>CLIENT" */
static enum verdict make_key(struct eval *e, struct buf *key)
{
    struct buf client = { 0 };
    enum verdict verdict = identify(e, key, &client);
    buf_putc(key, '/');
    greylist_sender(key, e->in->sender);
    buf_putc(key, '/');
    buf_add(key, e->recipient.address);
    buf_putc(key, '\t');
    buf_add(key, buf_span(&client));
    buf_fini(&client);
    return verdict;
}

/* ------------------------------------------------------------ words */

struct words {
    char letter;
    const char *value;
};

/* %x in templates; each stands for what the table says. */
static const char *fill(struct eval *e, const char *template, const struct words *words,
                        size_t count)
{
    struct buf text = { 0 };
    for (const char *c = template; *c != '\0'; c++) {
        size_t i = 0;
        while (i < count && (c[0] != '%' || c[1] != words[i].letter))
            i++;
        if (i == count) {
            buf_putc(&text, *c);
        } else {
            buf_puts(&text, words[i].value);
            c++;
        }
    }
    const char *copy = arena_text(&e->out->memory, buf_span(&text));
    buf_fini(&text);
    return copy;
}

static enum verdict ask_to_wait(struct eval *e, const struct greylist_decision *d)
{
    const struct params *p = e->policy->params;
    struct arena *memory = &e->out->memory;
    const struct words words[] = {
        { 's', arena_printf(memory, "%lld", (long long)d->wait_s) },
        { 'r', arena_text(memory, e->recipient.domain) },
    };
    const char *text = fill(e, p->greylist_text, words, 2);
    const char *prefix = eval_prefix(e, SUBJECT_RECIPIENT);
    if (p->greylist_action == TEMPFAIL_DEFER)
        return eval_reject(e, 450, "4.2.0", "%s%s", prefix, text);
    return eval_defer_if_permit(e, 450, "4.2.0", "%s%s", prefix, text);
}

/* Once for a message, whoever of its recipients came first. */
static void tell_delay(struct eval *e, const struct greylist_decision *d)
{
    struct outcome *out = e->out;
    const char *template = e->policy->params->greylist_header;
    const struct words words[] = {
        { 't', arena_printf(&out->memory, "%lld", (long long)d->waited_s) },
        { 'h', e->policy->params->myhostname },
        { 'd', e->in->date },
    };
    if (template[0] == '\0' || e->in->is_delay_told)
        return;
    if (out->prepends_end == NULL)
        out->prepends_end = &out->prepends;
    out->prepends_end = eval_add_text(e, out->prepends_end, fill(e, template, words, 3));
}

static enum verdict act(struct eval *e, const struct fact *answer)
{
    struct greylist_decision d;
    if (answer->status != FACT_FOUND || !greylist_parse(answer->value, &d)) {
        eval_note(e, "general", "the greylist cannot answer: the rule is passed over");
        return VERDICT_DUNNO;
    }
    if (d.result == GREYLIST_WAIT)
        return ask_to_wait(e, &d);
    if (d.result == GREYLIST_FIRST_PASS)
        tell_delay(e, &d);
    return VERDICT_DUNNO;
}

enum verdict check_greylist(struct eval *e, const struct rule *r)
{
    struct buf key = { 0 };
    (void)r;
    if (!e->in->has_sender || !e->in->has_recipient)
        return VERDICT_DUNNO;
    enum map_result result = eval_recipient(e);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->recipient);
    enum verdict verdict = is_exempt(e);
    if (verdict != VERDICT_DUNNO)
        return verdict == VERDICT_PERMIT ? VERDICT_DUNNO : verdict;
    const struct fact *answer = NULL;
    verdict = make_key(e, &key);
    if (verdict == VERDICT_DUNNO)
        answer = eval_need(e, FACT_GREYLIST, SCOPE_RCPT, NULL, buf_span(&key));
    buf_fini(&key);
    return answer != NULL ? act(e, answer) : VERDICT_PENDING;
}
