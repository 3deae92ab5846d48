#include "server/param_table.h"
#include "policy/nearest.h"
#include "protocol/mem.h"

#include <limits.h>
#include <stddef.h>

const struct param_row param_rows[] = {
#define ROW(name, ...) { #name, __VA_ARGS__, .offset = offsetof(struct params, name) },
#define PARAM_SECTION(title) { .name = title, .kind = PARAM_KIND_SECTION },
#define PARAM_BOOL(name, def, words) ROW(name, PARAM_KIND_BOOL, .value = def, .text = words)
#define PARAM_INT(name, def, low, high, words) \
    ROW(name, PARAM_KIND_INT, .value = def, .min = low, .max = high, .text = words)
#define PARAM_SIZE(name, def, words) \
    ROW(name, PARAM_KIND_SIZE, .value = def, .min = 0, .max = LLONG_MAX, .text = words)
#define PARAM_TIME(name, def, letter, words) \
    ROW(name, PARAM_KIND_TIME, .value = def, .unit = letter, .text = words)
#define PARAM_TEXT(name, def, words) ROW(name, PARAM_KIND_TEXT, .value = def, .text = words)
#define PARAM_RAW(name, def, words) ROW(name, PARAM_KIND_RAW, .value = def, .text = words)
#define PARAM_PATH(name, def, words) ROW(name, PARAM_KIND_PATH, .value = def, .text = words)
#define PARAM_CHOICE(name, def, words, explained) \
    ROW(name, PARAM_KIND_CHOICE, .value = def, .choices = words, .text = explained)
#include "protocol/params.def"
#undef ROW
};

const size_t param_row_count = ARRAY_LEN(param_rows);

static const char *const postfix_names[] = {
#define POSTFIX_NAME(name) #name,
#include "server/postfix_names.def"
};

const struct param_row *param_find(struct span name)
{
    for (size_t i = 0; i < param_row_count; i++)
        if (param_rows[i].kind != PARAM_KIND_SECTION
            && span_equals(name, span_of(param_rows[i].name)))
            return &param_rows[i];
    return NULL;
}

bool param_is_postfix(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(postfix_names); i++)
        if (span_equals(name, span_of(postfix_names[i])))
            return true;
    return false;
}

const char *param_nearest(struct span name)
{
    struct nearest nearest = nearest_begin(name);
    for (size_t i = 0; i < param_row_count; i++)
        if (param_rows[i].kind != PARAM_KIND_SECTION)
            nearest_try(&nearest, param_rows[i].name);
    return nearest.best;
}

/* ------------------------------------------------------------ kinds of values */

static const char *store_bool(struct span value, bool *out)
{
    if (!span_iequals(value, SPAN_LITERAL("yes")) && !span_iequals(value, SPAN_LITERAL("no")))
        return "must be yes or no";
    *out = ascii_lower(value.at[0]) == 'y';
    return NULL;
}

static const char *store_number(const struct param_row *row, struct span value,
                                long long *out, struct arena *memory)
{
    bool is_negative = row->min < 0 && value.len > 0 && value.at[0] == '-';
    uint64_t n;
    if (!span_to_u64(span_skip(value, is_negative), INT64_MAX, &n))
        return "must be a decimal number";
    *out = is_negative ? -(long long)n : (long long)n;
    if (*out < row->min || *out > row->max)
        return arena_printf(memory, "must be between %lld and %lld", row->min, row->max);
    return NULL;
}

static int64_t unit_ms(char unit)
{
    switch (unit) {
    case 's': return 1000;
    case 'm': return 60 * 1000;
    case 'h': return 3600 * 1000;
    case 'd': return 24 * 3600 * (int64_t)1000;
    case 'w': return 7 * 24 * 3600 * (int64_t)1000;
    default: return 0;
    }
}

enum { TIME_MAX_UNITS = 1000000 };

static const char *store_time(const struct param_row *row, struct span value, int64_t *out)
{
    char unit = row->unit;
    uint64_t n;
    if (value.len > 0 && !ascii_is_digit(value.at[value.len - 1]))
        unit = ascii_lower(value.at[--value.len]);
    if (unit_ms(unit) == 0 || !span_to_u64(value, TIME_MAX_UNITS, &n))
        return "must be a number and one of s m h d w";
    *out = (int64_t)n * unit_ms(unit);
    return NULL;
}

static const char *store_choice(const struct param_row *row, struct span value, int *out,
                                struct arena *memory)
{
    struct span choices = span_of(row->choices);
    for (int index = 0;; index++) {
        size_t end = span_find(choices, '|');
        if (span_iequals(value, span_make(choices.at, end))) {
            *out = index;
            return NULL;
        }
        if (end == choices.len)
            return arena_printf(memory, "must be one of %s", row->choices);
        choices = span_skip(choices, end + 1);
    }
}

static const char *absolute(struct span value, const char *base_dir, struct arena *memory)
{
    if (value.len == 0 || value.at[0] == '/')
        return arena_text(memory, value);
    while (span_istarts(value, SPAN_LITERAL("./")))
        value = span_skip(value, 2);
    return arena_printf(memory, "%s/%.*s", base_dir, (int)value.len, value.at);
}

const char *param_store(const struct param_row *row, struct span value, const char *base_dir,
                        struct params *params, struct arena *memory)
{
    void *field = (char *)params + row->offset;
    const char *error = NULL;
    long long number = 0;
    value = span_trim(value);
    switch (row->kind) {
    case PARAM_KIND_SECTION: break;
    case PARAM_KIND_BOOL: return store_bool(value, field);
    case PARAM_KIND_INT:
        error = store_number(row, value, &number, memory);
        *(int *)field = (int)number;
        return error;
    case PARAM_KIND_SIZE:
        error = store_number(row, value, &number, memory);
        *(int64_t *)field = number;
        return error;
    case PARAM_KIND_TIME: return store_time(row, value, field);
    case PARAM_KIND_RAW:
    case PARAM_KIND_TEXT: *(const char **)field = arena_text(memory, value); return NULL;
    case PARAM_KIND_PATH: *(const char **)field = absolute(value, base_dir, memory); return NULL;
    case PARAM_KIND_CHOICE: return store_choice(row, value, field, memory);
    }
    return NULL;
}
