#include "policy/spf_layer.h"
#include "policy/dns_name.h"
#include "protocol/hostname.h"

enum { LABEL_MAX = 63, NAME_MAX_ASKED = 253, EXPANDED_MAX = 65536 };

/* ------------------------------------------------------------ counting */

void spf_layer_fail(struct spf_layer *l, enum spf_result result, const char *problem)
{
    if (spf_layer_is_over(l))
        return;
    l->has_failed = true;
    l->failure = result;
    l->problem = problem;
}

bool spf_layer_count_term(struct spf_layer *l)
{
    if (!spf_layer_is_over(l) && ++l->terms > l->e->policy->params->spf_lookup_limit)
        spf_layer_fail(l, SPF_PERMERROR, "too many terms with DNS look-ups");
    return !spf_layer_is_over(l);
}

bool spf_layer_count_void(struct spf_layer *l, const struct fact *answer)
{
    bool is_void = answer->status == FACT_NOT_FOUND || answer->status == FACT_BROKEN;
    if (is_void && ++l->voids > l->e->policy->params->spf_void_lookup_limit)
        spf_layer_fail(l, SPF_PERMERROR, "too many void DNS look-ups");
    return !spf_layer_is_over(l);
}

/* ------------------------------------------------------------ asking */

const struct fact *spf_layer_ask(struct spf_layer *l, enum fact_kind kind, const char *name)
{
    if (spf_layer_is_over(l))
        return NULL;
    const struct fact *f = eval_need(l->e, kind, l->scope, NULL, span_of(name));
    if (f == NULL) {
        l->is_pending = true;
        return NULL;
    }
    l->waited_ms += f->took_ms;
    if (l->waited_ms > l->e->policy->params->spf_time_limit)
        spf_layer_fail(l, SPF_TEMPERROR, "the DNS is too slow");
    return spf_layer_is_over(l) ? NULL : f;
}

enum fact_kind spf_layer_address_kind(const struct spf_layer *l)
{
    return l->macros.ip->family == 4 ? FACT_A : FACT_AAAA;
}

void spf_layer_prefetch(struct spf_layer *l, struct span hosts, size_t skip)
{
    struct span host;
    for (int i = 0; i < SPF_NAMES_MAX && record_next(&hosts, &host); i++)
        if (host.len > skip)
            eval_want(l->e, spf_layer_address_kind(l), l->scope, span_skip(host, skip));
}

/* ------------------------------------------------------------ names */

/* A label of printable ASCII; a backslash would mean something to the resolver. */
static bool is_label(struct span label)
{
    for (size_t i = 0; i < label.len; i++)
        if (!ascii_is_print(label.at[i]) || label.at[i] == '\\')
            return false;
    return label.len > 0 && label.len <= LABEL_MAX;
}

static bool can_be_asked(struct span name)
{
    if (name.len > NAME_MAX_ASKED)
        return false;
    for (bool is_more = true; is_more;) {
        size_t dot = span_find(name, '.');
        is_more = dot < name.len;
        if (!is_label(span_make(name.at, dot)))
            return false;
        name = span_skip(name, dot + 1);
    }
    return true;
}

/* RFC 7208 7.3: whole labels go from the left until it fits. */
static struct span cut_to_fit(struct span name)
{
    while (name.len > NAME_MAX_ASKED) {
        size_t dot = span_find(name, '.');
        name = span_skip(name, dot + 1);
    }
    return name;
}

static const char *lowered(struct spf_layer *l, struct span name)
{
    char *copy = arena_text(&l->e->out->memory, name);
    for (char *c = copy; *c != '\0'; c++)
        *c = ascii_lower(*c);
    return copy;
}

/* A local part that is not ASCII matches nothing (RFC 8616 4): its bytes are no label. */
const char *spf_layer_name(struct spf_layer *l, struct span spec, const char *domain)
{
    struct buf expanded = { .max = EXPANDED_MAX };
    if (spec.len == 0)
        return domain;
    if (!spf_layer_set_macros(l, spec, domain))
        return NULL;
    spf_macro_expand(&expanded, spec, &l->macros);
    struct span name = cut_to_fit(hostname_without_dot(buf_span(&expanded)));
    bool is_good = !expanded.is_full && can_be_asked(name);
    const char *copy = is_good ? lowered(l, name) : "";
    buf_fini(&expanded);
    return copy;
}

/* ------------------------------------------------------------ the client's names */

static bool holds(const struct fact *addresses, const struct ip *ip)
{
    struct span value = addresses->value, record;
    while (record_next(&value, &record))
        if (record.len == ip_bits(ip) / 8 && memcmp(record.at, ip->bytes, record.len) == 0)
            return true;
    return false;
}

static bool is_below(struct span name, struct span domain)
{
    size_t more = name.len - domain.len;
    return span_iends(name, domain)
           && (more == 0 || (more < name.len && name.at[more - 1] == '.'));
}

/* The PTR names; empty if there are none or they cannot be found out. */
static struct span client_names(struct spf_layer *l)
{
    char reverse[DNS_NAME_MAX];
    dns_name_reverse(reverse, l->macros.ip);
    const struct fact *ptr = spf_layer_ask(l, FACT_PTR, reverse);
    if (ptr == NULL || ptr->status != FACT_FOUND)
        return span_make(NULL, 0);
    spf_layer_prefetch(l, ptr->value, 0);
    return ptr->value;
}

/* The first validated name at or below the domain ("" is any); empty: none. */
static struct span find_name(struct spf_layer *l, struct span domain)
{
    struct span names = client_names(l), name;
    for (int i = 0; i < SPF_NAMES_MAX && record_next(&names, &name); i++) {
        if (domain.len > 0 && !is_below(name, domain))
            continue;
        const char *host = arena_text(&l->e->out->memory, name);
        const struct fact *addresses = spf_layer_ask(l, spf_layer_address_kind(l), host);
        if (addresses == NULL)
            break;
        if (addresses->status == FACT_FOUND && holds(addresses, l->macros.ip))
            return name;
    }
    return span_make(NULL, 0);
}

bool spf_layer_client_is(struct spf_layer *l, const char *name)
{
    return name[0] != '\0' && find_name(l, span_of(name)).len > 0;
}

/* %{p}: a validated name at or below the domain if there is one, else any (RFC 7208 7.3). */
static const char *client_name(struct spf_layer *l, const char *domain)
{
    struct span name = find_name(l, span_of(domain));
    if (name.len == 0 && !spf_layer_is_over(l))
        name = find_name(l, span_make("", 0));
    return name.len > 0 ? arena_text(&l->e->out->memory, name) : "unknown";
}

bool spf_layer_set_macros(struct spf_layer *l, struct span text, const char *domain)
{
    l->macros.current = span_of(domain);
    if (spf_macro_uses(text, "p"))
        l->macros.client_name = client_name(l, domain);
    return !l->is_pending;
}
