#include "policy/dnsbl.h"
#include "protocol/hostname.h"

/* A number of 0..255 at the front of *text. */
static bool cut_number(struct span *text, uint8_t *number)
{
    size_t n = 0;
    uint64_t value;
    while (n < text->len && n < 4 && ascii_is_digit(text->at[n]))
        n++;
    if (!span_to_u64(span_make(text->at, n), 255, &value))
        return false;
    *number = (uint8_t)value;
    *text = span_skip(*text, n);
    return true;
}

static bool cut_character(struct span *text, char c)
{
    if (text->len == 0 || text->at[0] != c)
        return false;
    *text = span_skip(*text, 1);
    return true;
}

static bool cut_range(struct span *text, struct dnsbl_field *field)
{
    uint8_t low, high;
    if (field->count == DNSBL_RANGES_MAX || !cut_number(text, &low))
        return false;
    high = low;
    if (span_istarts(*text, SPAN_LITERAL(".."))) {
        *text = span_skip(*text, 2);
        if (!cut_number(text, &high) || high < low)
            return false;
    }
    field->ranges[field->count].low = low;
    field->ranges[field->count++].high = high;
    return true;
}

/* A number, or "[" numbers and ranges separated by ";" "]". */
static bool cut_field(struct span *text, struct dnsbl_field *field)
{
    if (!cut_character(text, '[')) {
        uint8_t number;
        if (!cut_number(text, &number))
            return false;
        field->ranges[0].low = field->ranges[0].high = number;
        field->count = 1;
        return true;
    }
    do {
        if (!cut_range(text, field))
            return false;
    } while (cut_character(text, ';'));
    return cut_character(text, ']');
}

static bool parse_filter(struct span text, struct dnsbl_field fields[4])
{
    for (int i = 0; i < 4; i++)
        if (!cut_field(&text, &fields[i]) || (i < 3 && !cut_character(&text, '.')))
            return false;
    return text.len == 0;
}

const char *dnsbl_parse(struct span argument, struct arena *memory, struct dnsbl *out)
{
    size_t equals = span_find(argument, '=');
    struct span domain = hostname_without_dot(span_make(argument.at, equals));
    *out = (struct dnsbl){ .has_filter = equals < argument.len };
    if (!hostname_is_valid(domain, false))
        return "not a domain name";
    if (out->has_filter && !parse_filter(span_skip(argument, equals + 1), out->fields))
        return "bad filter behind \"=\": four fields of numbers or [sets], separated by dots";
    out->argument = arena_text(memory, argument);
    char *lower = arena_text(memory, domain);
    for (size_t i = 0; i < domain.len; i++)
        lower[i] = ascii_lower(lower[i]);
    out->domain = lower;
    return NULL;
}

static bool field_takes(const struct dnsbl_field *field, uint8_t octet)
{
    for (int i = 0; i < field->count; i++)
        if (octet >= field->ranges[i].low && octet <= field->ranges[i].high)
            return true;
    return false;
}

static bool filter_takes(const struct dnsbl *list, const uint8_t octets[4])
{
    for (int i = 0; i < 4 && list->has_filter; i++)
        if (!field_takes(&list->fields[i], octets[i]))
            return false;
    return true;
}

/* Spamhaus' "blocked", "excessive queries", "typing error"; DNSWL's "blocked"; and whatever a
 * resolver invents for names that do not exist. */
static bool is_error_answer(const uint8_t o[4])
{
    if (o[0] != 127)
        return true;
    bool is_spamhaus = o[1] == 255 && o[2] == 255 && (o[3] == 252 || o[3] >= 254);
    return is_spamhaus || (o[1] == 0 && o[2] == 0 && o[3] == 255);
}

enum dnsbl_answer dnsbl_judge(const struct dnsbl *list, const struct fact *answer,
                              bool is_guarded, struct ip *odd)
{
    enum dnsbl_answer result = DNSBL_NO;
    struct span value = answer->value, record;
    while (record_next(&value, &record)) {
        uint8_t octets[4];
        if (record.len != sizeof octets)
            continue;
        memcpy(octets, record.at, sizeof octets);
        if (is_guarded && is_error_answer(octets)) {
            *odd = (struct ip){ .family = 4 };
            memcpy(odd->bytes, octets, sizeof octets);
            result = DNSBL_ERROR_ANSWER;
        } else if (filter_takes(list, octets)) {
            return DNSBL_YES;
        }
    }
    return result;
}
