#include "policy/fact.h"
#include "protocol/ip.h"

const char *const fact_kind_names[FACT_KIND_COUNT] = {
    [FACT_A] = "A",     [FACT_AAAA] = "AAAA", [FACT_MX] = "MX",
    [FACT_NS] = "NS",   [FACT_PTR] = "PTR",   [FACT_TXT] = "TXT", [FACT_CNAME] = "CNAME",
    [FACT_MAP] = "MAP", [FACT_POLICY] = "POLICY", [FACT_SLEEP] = "SLEEP",
    [FACT_GREYLIST] = "GREYLIST", [FACT_GREET] = "GREET",
    [FACT_REMEMBERED] = "REMEMBERED", [FACT_PROBE] = "PROBE",
    [FACT_VERIFY] = "VERIFY",
};

enum fact_kind fact_kind_find(struct span name)
{
    int kind = 0;
    while (kind < FACT_KIND_COUNT && !span_iequals(name, span_of(fact_kind_names[kind])))
        kind++;
    return (enum fact_kind)kind;
}

/* ------------------------------------------------------------ the store */

void facts_fini(struct facts *facts)
{
    facts_forget(facts, SCOPE_CLIENT);
}

void facts_forget(struct facts *facts, enum scope scope)
{
    for (int s = (int)scope; s < SCOPE_COUNT; s++) {
        arena_fini(&facts->memory[s]);
        facts->first[s] = NULL;
    }
}

bool fact_key_equals(const struct fact_key *a, const struct fact_key *b)
{
    return a->kind == b->kind && a->scope == b->scope && a->object == b->object
           && span_equals(a->text, b->text);
}

const struct fact *facts_find(const struct facts *facts, const struct fact_key *key)
{
    for (const struct fact *f = facts->first[key->scope]; f != NULL; f = f->next)
        if (fact_key_equals(&f->key, key))
            return f;
    return NULL;
}

void facts_put(struct facts *facts, const struct fact *fact)
{
    enum scope scope = fact->key.scope;
    struct arena *memory = &facts->memory[scope];
    struct fact *copy = arena_alloc(memory, sizeof *copy);
    *copy = *fact;
    copy->key.text = arena_span(memory, fact->key.text);
    copy->value = arena_span(memory, fact->value);
    copy->next = facts->first[scope];
    facts->first[scope] = copy;
}

/* ------------------------------------------------------------ records */

void record_add(struct buf *value, struct span record)
{
    size_t len = record.len < UINT16_MAX ? record.len : UINT16_MAX;
    buf_putc(value, (char)(len >> 8));
    buf_putc(value, (char)(len & 0xff));
    buf_append(value, record.at, len);
}

static size_t get16(const char *at)
{
    return (size_t)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

bool record_next(struct span *value, struct span *record)
{
    if (value->len < 2)
        return false;
    size_t len = get16(value->at);
    if (value->len < 2 + len)
        return false;
    *record = span_make(value->at + 2, len);
    *value = span_skip(*value, 2 + len);
    return true;
}

/* ------------------------------------------------------------ text */

static void print_ip(struct buf *out, struct span record)
{
    char text[IP_TEXT_MAX];
    struct ip ip = { .family = record.len == 4 ? 4 : 6 };
    if (record.len != 4 && record.len != 16)
        return;
    memcpy(ip.bytes, record.at, record.len);
    buf_puts(out, ip_text(&ip, text));
}

static void print_record(struct buf *out, enum fact_kind kind, struct span record)
{
    if (kind == FACT_A || kind == FACT_AAAA) {
        print_ip(out, record);
    } else if (kind == FACT_MX && record.len >= 2) {
        struct span host = span_skip(record, 2);
        buf_printf(out, "%zu %.*s", get16(record.at), (int)host.len, host.at);
        if (host.len == 0)
            buf_putc(out, '.');
    } else if (kind == FACT_TXT) {
        buf_printf(out, "\"%.*s\"", (int)record.len, record.at);
    } else {
        buf_add(out, record);
    }
}

void fact_print(struct buf *out, const struct fact *fact)
{
    struct span value = fact->value, record;
    const char *separator = "";
    if (fact->status != FACT_FOUND) {
        buf_puts(out, fact->status == FACT_NOT_FOUND  ? "-"
                      : fact->status == FACT_TEMPFAIL ? "?"
                                                      : "!");
        return;
    }
    if (!fact_kind_is_dns(fact->key.kind)) {
        buf_add(out, value);
        return;
    }
    for (; record_next(&value, &record); separator = ", ") {
        buf_puts(out, separator);
        print_record(out, fact->key.kind, record);
    }
}

static bool parse_ip(struct buf *value, struct span item, uint8_t family)
{
    struct ip ip;
    if (!ip_parse(item, &ip) || ip.family != family)
        return false;
    record_add(value, span_make((const char *)ip.bytes, ip_bits(&ip) / 8));
    return true;
}

static bool parse_mx(struct buf *value, struct span item)
{
    struct buf record = { 0 };
    uint64_t preference;
    struct span number = span_next_word(&item), host = span_trim(item);
    if (!span_to_u64(number, UINT16_MAX, &preference) || host.len == 0)
        return false;
    buf_putc(&record, (char)(preference >> 8));
    buf_putc(&record, (char)(preference & 0xff));
    if (!span_equals(host, SPAN_LITERAL(".")))
        buf_add(&record, host);
    record_add(value, buf_span(&record));
    buf_fini(&record);
    return true;
}

static bool parse_record(enum fact_kind kind, struct span item, struct buf *value)
{
    switch (kind) {
    case FACT_A: return parse_ip(value, item, 4);
    case FACT_AAAA: return parse_ip(value, item, 6);
    case FACT_MX: return parse_mx(value, item);
    default: record_add(value, item); return true;
    }
}

/* TXT records stand in quotes, as commas are text in them. */
static struct span cut_item(enum fact_kind kind, struct span *text)
{
    *text = span_trim(*text);
    bool is_quoted = kind == FACT_TXT && text->len > 0 && text->at[0] == '"';
    if (is_quoted)
        *text = span_skip(*text, 1);
    size_t end = span_find(*text, is_quoted ? '"' : ',');
    struct span item = span_make(text->at, end);
    *text = span_skip(*text, end + 1);
    if (is_quoted && text->len > 0)
        *text = span_skip(*text, span_find(*text, ',') + 1);
    return is_quoted ? item : span_trim(item);
}

bool fact_parse(enum fact_kind kind, struct span text, enum fact_status *status,
                struct buf *value)
{
    text = span_trim(text);
    *status = FACT_FOUND;
    if (text.len == 1 && strchr("-?!", text.at[0]) != NULL) {
        *status = text.at[0] == '-'   ? FACT_NOT_FOUND
                  : text.at[0] == '?' ? FACT_TEMPFAIL
                                      : FACT_BROKEN;
        return true;
    }
    if (!fact_kind_is_dns(kind)) {
        buf_add(value, text);
        return true;
    }
    while (text.len > 0)
        if (!parse_record(kind, cut_item(kind, &text), value))
            return false;
    return value->len > 0;
}
