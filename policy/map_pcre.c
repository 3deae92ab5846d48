/* pcre: and regexp: patterns -> results with $1 (spec 6.5).
 * Both share delimiters, flags and substitution; they differ in the engine: PCRE2 with limits
 * that no key can make slow, and POSIX extended expressions of the C library.
 * A key that breaks an engine's limit does not match. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "policy/rule_text.h"
#include "protocol/mem.h"

#include <pcre2.h>
#include <regex.h>
#include <stdlib.h>

enum { MATCH_LIMIT = 100000, DEPTH_LIMIT = 1000, HEAP_LIMIT_KIB = 1024, CAPTURES_MAX = 32 };
enum { JIT_STACK_FIRST = 64 << 10, JIT_STACK_MAX = 2 << 20, POSIX_KEY_MAX = 2048 };

struct captures {
    size_t count;
    struct span text[CAPTURES_MAX]; /* [0] the whole match; len 0 when unset */
};

struct pattern {
    pcre2_code *pcre; /* owns: one of these two */
    regex_t *posix;
    size_t capture_count;
};

static void pattern_free(void *data)
{
    struct pattern *p = data;
    if (p->pcre != NULL)
        pcre2_code_free(p->pcre);
    if (p->posix != NULL) {
        regfree(p->posix);
        free(p->posix);
    }
    free(p);
}

/* "/re/flags rest" -> re and flags; any delimiter that is not a letter or digit. */
static bool cut_expression(struct span *line, struct span *re, struct span *flags)
{
    if (line->len < 2 || ascii_is_alnum(line->at[0]))
        return false;
    char delimiter = line->at[0];
    size_t i = 1;
    for (; i < line->len && line->at[i] != delimiter; i++)
        if (line->at[i] == '\\' && i + 1 < line->len)
            i++;
    if (i >= line->len)
        return false;
    *re = span_make(line->at + 1, i - 1);
    struct span rest = span_skip(*line, i + 1);
    *flags = rest.len > 0 && !ascii_is_space(rest.at[0]) ? span_next_word(&rest)
                                                         : span_make("", 0);
    *line = rest;
    return true;
}

static const struct {
    char letter;
    uint32_t option; /* toggled */
} pcre_flags[] = {
    { 'i', PCRE2_CASELESS },    { 'm', PCRE2_MULTILINE },      { 's', PCRE2_DOTALL },
    { 'x', PCRE2_EXTENDED },    { 'A', PCRE2_ANCHORED },       { 'E', PCRE2_DOLLAR_ENDONLY },
    { 'U', PCRE2_UNGREEDY },
};

static bool pcre_options(struct span flags, uint32_t *options)
{
    *options = PCRE2_CASELESS | PCRE2_DOTALL;
    for (size_t i = 0; i < flags.len; i++) {
        size_t k = 0;
        while (k < ARRAY_LEN(pcre_flags) && pcre_flags[k].letter != flags.at[i])
            k++;
        if (k == ARRAY_LEN(pcre_flags))
            return false;
        *options ^= pcre_flags[k].option;
    }
    return true;
}

static bool posix_options(struct span flags, int *options)
{
    *options = REG_EXTENDED | REG_ICASE;
    for (size_t i = 0; i < flags.len; i++) {
        switch (flags.at[i]) {
        case 'i': *options ^= REG_ICASE; break;
        case 'm': *options ^= REG_NEWLINE; break;
        case 'x': *options ^= REG_EXTENDED; break;
        default: return false;
        }
    }
    return true;
}

static struct pattern *pcre_compile_re(struct span re, uint32_t options, const char **error,
                                       struct arena *scratch)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR words[128];
    uint32_t count = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)re.at, re.len, options, &code, &at, NULL);
    if (compiled == NULL) {
        pcre2_get_error_message(code, words, sizeof words);
        *error = arena_printf(scratch, "%s at offset %zu", (const char *)words, (size_t)at);
        return NULL;
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* without JIT it is only slower */
    pcre2_pattern_info(compiled, PCRE2_INFO_CAPTURECOUNT, &count);
    struct pattern *p = xcalloc(1, sizeof *p);
    p->pcre = compiled;
    p->capture_count = count;
    return p;
}

static void *pcre_compile(struct span *line, bool is_negated, const char **error,
                          struct arena *scratch)
{
    struct span re, flags;
    uint32_t options;
    (void)is_negated;
    if (!cut_expression(line, &re, &flags))
        *error = "no /expression/";
    else if (!pcre_options(flags, &options))
        *error = "unknown flag behind the expression";
    else
        return pcre_compile_re(re, options, error, scratch);
    return NULL;
}

static struct pattern *posix_compile_re(struct span re, int options, const char **error,
                                        struct arena *scratch)
{
    struct pattern *p = xcalloc(1, sizeof *p);
    char words[128];
    p->posix = xcalloc(1, sizeof *p->posix);
    int rc = regcomp(p->posix, arena_text(scratch, re), options);
    if (rc == 0) {
        p->capture_count = p->posix->re_nsub;
        return p;
    }
    regerror(rc, p->posix, words, sizeof words);
    *error = arena_text(scratch, span_of(words));
    free(p->posix);
    free(p);
    return NULL;
}

static void *posix_compile(struct span *line, bool is_negated, const char **error,
                           struct arena *scratch)
{
    struct span re, flags;
    int options;
    (void)is_negated;
    if (!cut_expression(line, &re, &flags))
        *error = "no /expression/";
    else if (!posix_options(flags, &options))
        *error = "unknown flag behind the expression";
    else
        return posix_compile_re(re, options, error, scratch);
    return NULL;
}

/* The next "$n", "${n}" or "$(n)" in text: its number, -1 for "$$", -2 for rubbish. */
static int cut_reference(struct span *text)
{
    struct span t = span_skip(*text, 1);
    if (t.len > 0 && t.at[0] == '$') {
        *text = span_skip(t, 1);
        return -1;
    }
    char shut = t.len > 0 && t.at[0] == '{' ? '}' : t.len > 0 && t.at[0] == '(' ? ')' : '\0';
    if (shut != '\0')
        t = span_skip(t, 1);
    size_t n = 0;
    while (n < t.len && n < 3 && ascii_is_digit(t.at[n]))
        n++;
    uint64_t number = 0;
    if (n == 0 || !span_to_u64(span_make(t.at, n), 999, &number)
        || (shut != '\0' && (n == t.len || t.at[n] != shut)))
        return -2;
    *text = span_skip(t, n + (shut != '\0'));
    return (int)number;
}

static const char *check_result(void *data, bool is_negated, struct span result)
{
    const struct pattern *p = data;
    for (;;) {
        result = span_skip(result, span_find(result, '$'));
        if (result.len == 0)
            return NULL;
        int n = cut_reference(&result);
        if (n == -1)
            continue;
        if (n == -2)
            return "a number was expected behind $ in the result";
        if (n == 0 || (size_t)n > p->capture_count || n >= CAPTURES_MAX)
            return "the result refers to a group that the expression does not have";
        if (is_negated)
            return "a negated expression has nothing for $ to refer to";
    }
}

static int pcre_run_on_stack(const pcre2_code *code, struct span key, pcre2_match_data *match,
                             pcre2_match_context *context)
{
    pcre2_jit_stack *stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MAX, NULL);
    ENSURE(stack != NULL);
    pcre2_jit_stack_assign(context, NULL, stack);
    int rc = pcre2_match(code, (PCRE2_SPTR)key.at, key.len, 0, 0, match, context);
    pcre2_jit_stack_free(stack);
    return rc;
}

/* The 32 KiB that compiled code runs on do for nearly every key; with a longer one nobody may
 * slip past a rule. */
static int pcre_run(const pcre2_code *code, struct span key, pcre2_match_data *match)
{
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    ENSURE(context != NULL);
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_depth_limit(context, DEPTH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
    int rc = pcre2_match(code, (PCRE2_SPTR)key.at, key.len, 0, 0, match, context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre_run_on_stack(code, key, match, context);
    pcre2_match_context_free(context);
    return rc;
}

static bool pcre_matches_key(const struct pattern *p, struct span key, struct captures *c)
{
    pcre2_match_data *match = pcre2_match_data_create(CAPTURES_MAX, NULL);
    ENSURE(match != NULL);
    int rc = pcre_run(p->pcre, key, match);
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(match);
    if (rc == 0)
        rc = CAPTURES_MAX; /* there are more groups, but these are set */
    c->count = rc > 0 ? (size_t)rc : 0;
    for (size_t i = 0; i < c->count; i++)
        c->text[i] = offsets[2 * i] == PCRE2_UNSET
                         ? span_make("", 0)
                         : span_make(key.at + offsets[2 * i], offsets[2 * i + 1] - offsets[2 * i]);
    pcre2_match_data_free(match);
    return rc > 0;
}

static bool posix_matches_key(const struct pattern *p, struct span key, struct captures *c)
{
    char copy[POSIX_KEY_MAX + 1];
    regmatch_t groups[CAPTURES_MAX];
    if (key.len > POSIX_KEY_MAX || memchr(key.at, '\0', key.len) != NULL)
        return false;
    memcpy(copy, key.at, key.len);
    copy[key.len] = '\0';
    if (regexec(p->posix, copy, CAPTURES_MAX, groups, 0) != 0)
        return false;
    c->count = p->capture_count + 1 < CAPTURES_MAX ? p->capture_count + 1 : CAPTURES_MAX;
    for (size_t i = 0; i < c->count; i++)
        c->text[i] = groups[i].rm_so < 0
                         ? span_make("", 0)
                         : span_make(key.at + groups[i].rm_so,
                                     (size_t)(groups[i].rm_eo - groups[i].rm_so));
    return true;
}

static bool pattern_matches(void *data, struct span key, void *captures)
{
    const struct pattern *p = data;
    return p->pcre != NULL ? pcre_matches_key(p, key, captures)
                           : posix_matches_key(p, key, captures);
}

static void substitute(struct buf *out, struct span result, const struct captures *c)
{
    while (result.len > 0) {
        size_t dollar = span_find(result, '$');
        buf_append(out, result.at, dollar);
        result = span_skip(result, dollar);
        if (result.len == 0)
            return;
        int n = cut_reference(&result); /* checked when the table was read */
        if (n == -1)
            buf_putc(out, '$');
        else if (n > 0 && (size_t)n < c->count)
            buf_add(out, c->text[n]);
    }
}

static enum map_result pattern_find(void *data, struct span key, struct buf *value)
{
    struct captures captures = { 0 };
    const struct rule_row *row = rules_find(data, key, &captures);
    if (row == NULL)
        return MAP_NOT_FOUND;
    substitute(value, row->result, &captures);
    return MAP_FOUND;
}

static const struct rule_kind pcre_kind = {
    .compile = pcre_compile, .free = pattern_free,
    .check = check_result, .matches = pattern_matches,
};

static const struct rule_kind posix_kind = {
    .compile = posix_compile, .free = pattern_free,
    .check = check_result, .matches = pattern_matches,
};

static void *pcre_open(struct map_source *source, const char **error)
{
    return rules_read(&pcre_kind, source, error);
}

static void *regexp_open(struct map_source *source, const char **error)
{
    return rules_read(&posix_kind, source, error);
}

static void pattern_close(void *data)
{
    rules_free(data);
}

const struct map_type map_type_pcre = {
    .has_inline_form = true,
    .name = "pcre", .suffix = "", .open = pcre_open, .find = pattern_find,
    .close = pattern_close,
};

const struct map_type map_type_regexp = {
    .has_inline_form = true,
    .name = "regexp", .suffix = "", .open = regexp_open, .find = pattern_find,
    .close = pattern_close,
};
