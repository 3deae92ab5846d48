#include "policy/spf_gate.h"
#include "policy/spf_macro.h"
#include "protocol/mem.h"

static const struct span version = { "v=spf1", 6 };

/* ------------------------------------------------------------ selection (RFC 7208 4.5) */

static bool is_spf(struct span text)
{
    return span_istarts(text, version) && (text.len == version.len || text.at[version.len] == ' ');
}

enum spf_selection spf_select(const struct fact *txt, struct span *record)
{
    struct span rest = txt->value, text;
    enum spf_selection found = SPF_NO_RECORD;
    while (txt->status == FACT_FOUND && record_next(&rest, &text)) {
        if (!is_spf(text))
            continue;
        if (found == SPF_ONE_RECORD)
            return SPF_MANY_RECORDS;
        found = SPF_ONE_RECORD;
        *record = text;
    }
    return found;
}

/* ------------------------------------------------------------ prefix lengths */

static bool are_digits(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.at[i]))
            return false;
    return text.len > 0;
}

/* Cuts "/N" or "//N" off the end of *text; a slash with something else behind it may belong to a
 * domain name. False: too big, or leading zeros (RFC 7208 5.6). */
static bool cut_bits(struct span *text, const char *mark, unsigned max, unsigned *bits)
{
    size_t mark_len = strlen(mark), slash = span_find_last(*text, '/');
    struct span digits = span_skip(*text, slash + 1);
    uint64_t value;
    *bits = max;
    if (!are_digits(digits) || slash + 1 < mark_len
        || strncmp(text->at + slash + 1 - mark_len, mark, mark_len) != 0)
        return true;
    if (!span_to_u64(digits, max, &value) || (digits.at[0] == '0' && digits.len > 1))
        return false;
    *bits = (unsigned)value;
    text->len = slash + 1 - mark_len;
    return true;
}

/* ------------------------------------------------------------ mechanisms */

static const char *check_spec(struct span spec)
{
    if (spec.len > SPF_SPEC_MAX)
        return "a domain name too long";
    return spf_macro_check(spec, SPF_MACRO_DOMAIN) ? NULL : "a bad domain name";
}

/* Behind the name: "", or ":" domain-spec. */
static const char *parse_spec(struct span value, bool is_optional, struct spf_term *t)
{
    if (value.len == 0)
        return is_optional ? NULL : "a mechanism without its domain name";
    if (value.at[0] != ':')
        return "an unknown mechanism";
    t->spec = span_skip(value, 1);
    return check_spec(t->spec);
}

static const char *parse_all(struct span value, struct spf_term *t)
{
    (void)t;
    return value.len == 0 ? NULL : "all with something behind it";
}

static const char *parse_name(struct span value, struct spf_term *t)
{
    return parse_spec(value, t->mechanism == SPF_PTR, t);
}

static const char *parse_hosts(struct span value, struct spf_term *t)
{
    if (!cut_bits(&value, "//", 128, &t->v6_bits) || !cut_bits(&value, "/", 32, &t->v4_bits))
        return "a bad prefix length";
    return parse_spec(value, true, t);
}

static const char *parse_network(struct span value, struct spf_term *t)
{
    bool is_v4 = t->mechanism == SPF_IP4;
    unsigned *bits = is_v4 ? &t->v4_bits : &t->v6_bits;
    if (!cut_bits(&value, "/", is_v4 ? 32 : 128, bits))
        return "a bad prefix length";
    if (value.len < 2 || value.at[0] != ':' || !ip_parse(span_skip(value, 1), &t->network))
        return "a bad address";
    bool is_colon = span_find(span_skip(value, 1), ':') < value.len - 1;
    if (is_colon == is_v4)
        return "an address of the other family";
    if (is_colon && t->network.family == 4) /* mapped: no client comes from there (ip.h) */
        t->network.family = 0;
    t->network = ip_masked(&t->network, *bits);
    return NULL;
}

static const struct {
    const char *name;
    const char *(*parse)(struct span value, struct spf_term *t);
} mechanisms[] = {
    [SPF_ALL] = { "all", parse_all },     [SPF_INCLUDE] = { "include", parse_name },
    [SPF_A] = { "a", parse_hosts },       [SPF_MX] = { "mx", parse_hosts },
    [SPF_PTR] = { "ptr", parse_name },    [SPF_IP4] = { "ip4", parse_network },
    [SPF_IP6] = { "ip6", parse_network }, [SPF_EXISTS] = { "exists", parse_name },
};

static const char *parse_mechanism(struct span text, size_t name_len, struct spf_term *t)
{
    struct span name = span_make(text.at, name_len), value = span_skip(text, name_len);
    size_t i = 0;
    while (i < ARRAY_LEN(mechanisms) && !span_iequals(name, span_of(mechanisms[i].name)))
        i++;
    if (i == ARRAY_LEN(mechanisms))
        return "an unknown mechanism";
    t->mechanism = (enum spf_mechanism)i;
    return mechanisms[i].parse(value, t);
}

/* ------------------------------------------------------------ terms */

static bool is_name_char(char c)
{
    return ascii_is_alnum(c) || c == '-' || c == '_' || c == '.';
}

static size_t name_length(struct span text)
{
    size_t n = 0;
    while (n < text.len && is_name_char(text.at[n]))
        n++;
    return n > 0 && ascii_is_alpha(text.at[0]) ? n : 0;
}

/* redirect and exp, once each; what is unknown is ignored if it is well formed (RFC 7208 6). */
static const char *parse_modifier(struct span name, struct span value, struct spf_record *r)
{
    struct span *known = span_iequals(name, SPAN_LITERAL("redirect")) ? &r->redirect
                         : span_iequals(name, SPAN_LITERAL("exp"))    ? &r->exp
                                                                      : NULL;
    if (known == NULL)
        return spf_macro_check(value, SPF_MACRO_STRING) ? NULL : "a bad modifier";
    if (known->at != NULL)
        return "a modifier twice";
    *known = value;
    return check_spec(value);
}

struct parser {
    struct arena *memory;
    struct spf_record *record;
    struct spf_term **end;
};

/* Terms behind "all" are read, for they may be wrong, but never looked at (RFC 7208 5.1). */
static void add_term(struct parser *p, const struct spf_term *t)
{
    if (p->record->has_all)
        return;
    *p->end = arena_alloc(p->memory, sizeof *t);
    **p->end = *t;
    p->end = &(*p->end)->next;
    p->record->has_all = t->mechanism == SPF_ALL;
}

static const char *parse_term(struct parser *p, struct span text)
{
    struct spf_term t = { .qualifier = '+', .v4_bits = 32, .v6_bits = 128 };
    size_t name_len = name_length(text);
    if (name_len > 0 && name_len < text.len && text.at[name_len] == '=')
        return parse_modifier(span_make(text.at, name_len), span_skip(text, name_len + 1),
                              p->record);
    if (strchr("+-~?", text.at[0]) != NULL) {
        t.qualifier = text.at[0];
        text = span_skip(text, 1);
    }
    const char *problem = parse_mechanism(text, name_length(text), &t);
    if (problem == NULL)
        add_term(p, &t);
    return problem;
}

static bool is_printable(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_print(text.at[i]))
            return false;
    return true;
}

const char *spf_parse(struct arena *memory, struct span text, struct spf_record *out)
{
    struct parser p = { memory, out, &out->first };
    const char *problem = NULL;
    *out = (struct spf_record){ 0 };
    if (!is_printable(text))
        return "a character that is not ASCII";
    text = span_skip(text, version.len);
    while (text.len > 0 && problem == NULL) {
        struct span term = span_make(text.at, span_find(text, ' '));
        text = span_skip(text, term.len + 1);
        if (term.len > 0)
            problem = parse_term(&p, term);
    }
    return problem;
}
