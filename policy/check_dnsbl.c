/* DNS lists: reject_rbl_client, reject_rhsbl_*, permit_dnswl_client, permit_rhswl_client
 * (spec 5). The A record decides; the TXT record is only asked for its words. */
#include "policy/access.h"
#include "policy/dns_name.h"
#include "policy/dnsbl.h"
#include "policy/restriction.h"
#include "protocol/expand.h"
#include "protocol/hostname.h"
#include "protocol/smtp_path.h"

#include <stdio.h>

enum { REASON_MAX = 500 };

static bool is_by_address(const struct rule *r)
{
    return r->row->subject == SUBJECT_CLIENT && !r->dnsbl->is_by_name;
}

static bool last_label_is_numeric(struct span name)
{
    size_t dot = span_find_last(name, '.');
    struct span label = dot < name.len ? span_skip(name, dot + 1) : name;
    uint64_t number;
    return span_to_u64(label, UINT64_MAX / 16, &number);
}

/* The name to ask; false: the list has nothing to say about this subject (spec 5.2). */
static bool query_name(struct eval *e, const struct rule *r, char name[DNS_NAME_MAX])
{
    struct span domain, zone = span_of(r->dnsbl->domain);
    if (is_by_address(r))
        return dns_name_listed(name, &e->in->peer->ip, zone);
    if (!eval_domain(e, r->row->subject, &domain) || domain.at[0] == '[')
        return false;
    if (domain.at[domain.len - 1] == '.')
        return false;
    return !last_label_is_numeric(domain) && dns_name_join(name, domain, zone);
}

bool wants_rbl(struct eval *e, const struct rule *r, struct fact_key *key)
{
    char name[DNS_NAME_MAX];
    if (!query_name(e, r, name))
        return false;
    *key = (struct fact_key){ FACT_A, eval_scope(e, r->row->subject), NULL,
                              arena_span(&e->out->memory, span_of(name)) };
    return true;
}

struct hit {
    const struct rule *r;
    const struct fact *answer; /* NULL: not known yet, or not asked */
    bool is_hit, is_pending;
    char name[DNS_NAME_MAX];
};

static void note_odd(struct eval *e, const struct rule *r, const struct ip *odd)
{
    char text[IP_TEXT_MAX];
    eval_note(e, "general", "%s answers %s, which is no listing: the answer is ignored",
              r->dnsbl->domain, ip_text(odd, text));
}

/* Asks the list, unless it has lost our trust. */
static void look_up(struct eval *e, const struct rule *r, struct hit *hit)
{
    bool is_guarded = e->policy->params->dns_list_guard;
    struct ip odd;
    *hit = (struct hit){ .r = r };
    if ((is_guarded && atomic_load(&r->dnsbl->is_suspended)) || !query_name(e, r, hit->name))
        return;
    hit->answer = eval_need(e, FACT_A, eval_scope(e, r->row->subject), NULL,
                            span_of(hit->name));
    hit->is_pending = hit->answer == NULL;
    if (hit->is_pending)
        return;
    enum dnsbl_answer answer = dnsbl_judge(r->dnsbl, hit->answer, is_guarded, &odd);
    hit->is_hit = answer == DNSBL_YES;
    if (answer == DNSBL_ERROR_ANSWER)
        note_odd(e, r, &odd);
}

/* ------------------------------------------------------------ the refusal's words */

/* All strings of all records: "one / two" (spec 5.4). */
static const char *reason_text(struct eval *e, const struct fact *txt)
{
    struct buf text = { .max = REASON_MAX };
    struct span value = txt->value, record;
    while (txt->status == FACT_FOUND && record_next(&value, &record)) {
        if (text.len > 0)
            buf_puts(&text, " / ");
        if (!buf_add(&text, record))
            buf_append(&text, record.at, REASON_MAX - text.len);
    }
    const char *copy = arena_text(&e->out->memory, buf_span(&text));
    buf_fini(&text);
    return copy;
}

struct words {
    struct eval *e;
    const struct hit *hit;
    const char *reason;
};

static const char *print_span(struct eval *e, struct span text)
{
    return arena_text(&e->out->memory, text);
}

static const char *rbl_what(struct words *w)
{
    struct eval *e = w->e;
    struct span domain = span_make("", 0);
    if (is_by_address(w->hit->r))
        return e->in->peer->address;
    if (w->hit->r->row->subject == SUBJECT_SENDER)
        return print_span(e, e->in->sender);
    if (w->hit->r->row->subject == SUBJECT_RECIPIENT)
        return print_span(e, e->in->recipient);
    eval_domain(e, w->hit->r->row->subject, &domain);
    return print_span(e, domain);
}

static const char *print_number(struct eval *e, int number)
{
    return arena_printf(&e->out->memory, "%d", number);
}

/* The null sender shows as "<>" where it has a name at all. */
static const char *address_part(struct eval *e, bool has_address, struct span address,
                                bool wants_domain)
{
    struct smtp_path path = smtp_path_of(address);
    if (!has_address)
        return "";
    if (wants_domain)
        return print_span(e, path.domain);
    return address.len > 0 ? print_span(e, path.local) : "<>";
}

static const char *whole_address(struct eval *e, bool has_address, struct span address)
{
    return !has_address ? "" : address.len > 0 ? print_span(e, address) : "<>";
}

static const char *lookup_word(void *context, struct span name)
{
    struct words *w = context;
    struct eval *e = w->e;
    const struct envelope_in *in = e->in;
    const struct smtp_peer *peer = in->peer;
    const char *class = eval_class(w->hit->r->row->subject);
    const struct {
        const char *name, *value;
    } plain[] = {
        { "rbl_domain", w->hit->r->dnsbl->domain }, { "rbl_class", class },
        { "rbl_reason", w->reason },                { "rbl_txt", w->reason },
        { "client_address", peer->address },        { "client_name", peer->name },
        { "reverse_client_name", peer->reverse_name },
        { "helo_name", in->helo != NULL ? in->helo : "" },
        { "server_name", e->policy->params->myhostname },
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (span_equals(name, span_of(plain[i].name)))
            return plain[i].value;
    if (span_equals(name, SPAN_LITERAL("rbl_code")))
        return print_number(e, e->policy->params->maps_rbl_reject_code);
    if (span_equals(name, SPAN_LITERAL("rbl_what")))
        return rbl_what(w);
    if (span_equals(name, SPAN_LITERAL("client")))
        return arena_printf(&e->out->memory, "%s[%s]", peer->name, peer->address);
    if (span_equals(name, SPAN_LITERAL("client_port")))
        return print_number(e, peer->port);
    if (span_equals(name, SPAN_LITERAL("sender")))
        return whole_address(e, in->has_sender, in->sender);
    if (span_equals(name, SPAN_LITERAL("sender_name")))
        return address_part(e, in->has_sender, in->sender, false);
    if (span_equals(name, SPAN_LITERAL("sender_domain")))
        return address_part(e, in->has_sender, in->sender, true);
    if (span_equals(name, SPAN_LITERAL("recipient")))
        return whole_address(e, in->has_recipient, in->recipient);
    if (span_equals(name, SPAN_LITERAL("recipient_name")))
        return address_part(e, in->has_recipient, in->recipient, false);
    if (span_equals(name, SPAN_LITERAL("recipient_domain")))
        return address_part(e, in->has_recipient, in->recipient, true);
    return NULL;
}

/* What a stranger can put into a reply is limited to harmless characters. */
static const char *lookup_filtered(void *context, struct span name)
{
    struct words *w = context;
    const char *value = lookup_word(context, name);
    const char *good = w->e->policy->expansion_filter;
    if (value == NULL || value[strspn(value, good)] == '\0')
        return value;
    char *copy = arena_text(&w->e->out->memory, span_of(value));
    for (char *c = copy; *c != '\0'; c++)
        if (strchr(good, *c) == NULL)
            *c = '_';
    return copy;
}

/* rbl_reply_maps by the argument, then by the domain before "="; else default_rbl_reply. */
static enum map_result find_template(struct eval *e, const struct rule *r, struct buf *out)
{
    const struct map_list *maps = &e->policy->rbl_reply_maps;
    enum map_result result = map_list_find(maps, &e->reader, span_of(r->dnsbl->argument), true,
                                           out);
    if (result == MAP_NOT_FOUND && r->dnsbl->has_filter)
        result = map_list_find(maps, &e->reader, span_of(r->dnsbl->domain), true, out);
    return result;
}

static bool expand_template(struct words *w, struct span template, struct buf *out)
{
    struct expand x = { .lookup = lookup_filtered, .context = w };
    buf_clear(out);
    return expand_text(&x, template, out);
}

/* The list's own template, else default_rbl_reply, else its default, which is good. */
static void write_reply(struct words *w, struct span own, struct buf *out)
{
    static const char last[] = "$rbl_code Service unavailable; $rbl_class [$rbl_what] blocked "
                               "using $rbl_domain${rbl_reason?; $rbl_reason}";
    if (own.len > 0 && expand_template(w, own, out))
        return;
    if (!expand_template(w, span_of(w->e->policy->params->default_rbl_reply), out))
        expand_template(w, span_of(last), out);
}

/* "554 5.7.1 text": the template is the whole reply, without the prefix of other refusals. */
static enum verdict refuse_with(struct eval *e, struct span reply, enum subject subject)
{
    struct span rest = reply, word = span_next_word(&rest);
    uint64_t code;
    if (word.len != 3 || !span_to_u64(word, 599, &code) || code < 400)
        return eval_reject(e, 450, "4.7.1", "Service unavailable");
    rest = span_trim(rest);
    size_t n = smtp_enhanced_length(rest);
    const char *status = "5.7.1";
    if (n > 0)
        status = access_repair_status(e, span_make(rest.at, n), (int)code, subject);
    rest = span_trim(span_skip(rest, n));
    return eval_reject(e, (int)code, status, "%.*s", (int)rest.len, rest.at);
}

static enum verdict refuse_listed(struct eval *e, const struct hit *hit)
{
    struct buf template = { 0 }, reply = { .max = EXPAND_RESULT_MAX };
    enum scope scope = eval_scope(e, hit->r->row->subject);
    const struct fact *txt = eval_need(e, FACT_TXT, scope, NULL, span_of(hit->name));
    if (txt == NULL)
        return VERDICT_PENDING;
    struct words words = { e, hit, reason_text(e, txt) };
    enum map_result result = find_template(e, hit->r, &template);
    enum verdict verdict = VERDICT_PENDING;
    if (result == MAP_FOUND || result == MAP_NOT_FOUND) {
        write_reply(&words, result == MAP_FOUND ? buf_span(&template) : span_make("", 0), &reply);
        verdict = refuse_with(e, buf_span(&reply), hit->r->row->subject);
    } else if (result != MAP_PENDING) {
        verdict = eval_configuration_error(e, "rbl_reply_maps cannot be read");
    }
    buf_fini(&template);
    buf_fini(&reply);
    return verdict;
}

/* ------------------------------------------------------------ the restrictions */

enum verdict check_rbl(struct eval *e, const struct rule *r)
{
    struct hit hit;
    look_up(e, r, &hit);
    if (hit.is_pending)
        return VERDICT_PENDING;
    if (hit.answer != NULL && hit.answer->status >= FACT_TEMPFAIL)
        eval_note(e, "general", "%s could not be asked: the rule is passed over",
                  r->dnsbl->domain);
    return hit.is_hit ? refuse_listed(e, &hit) : VERDICT_DUNNO;
}

/* An allow list must not open the relay: at RCPT it counts for our own recipients only. */
static enum map_result is_for_us(struct eval *e, bool *is_ours)
{
    *is_ours = true;
    if (!e->in->has_recipient)
        return MAP_FOUND;
    enum map_result result = eval_recipient(e);
    *is_ours = result == MAP_FOUND && e->recipient.class != ADDRESS_DEFAULT
               && !e->recipient.is_routed;
    return result;
}

enum verdict check_dnswl(struct eval *e, const struct rule *r)
{
    struct hit hit;
    bool is_ours;
    enum map_result result = is_for_us(e, &is_ours);
    if (result != MAP_FOUND)
        return eval_table_error(e, result, e->in->recipient);
    if (!is_ours)
        return VERDICT_DUNNO;
    look_up(e, r, &hit);
    if (hit.is_pending)
        return VERDICT_PENDING;
    if (hit.is_hit)
        return VERDICT_PERMIT;
    if (hit.answer == NULL || hit.answer->status < FACT_TEMPFAIL)
        return VERDICT_DUNNO;
    return eval_defer_if_reject(e, 450, "4.7.1", "<%s>: %s rejected: Service unavailable",
                                is_by_address(r) ? e->in->peer->address : e->in->peer->name,
                                eval_class(r->row->subject));
}
