#include "protocol/expand.h"

#include <stdlib.h>

static bool fail(struct expand *x, const char *why)
{
    x->error = why;
    return false;
}

static size_t name_length(struct span text)
{
    size_t n = 0;
    while (n < text.len && (ascii_is_alnum(text.at[n]) || text.at[n] == '_'))
        n++;
    return n;
}

/* Index of the bracket that closes the one at text.at[0]; text.len if there is none. */
static size_t closing_index(struct span text)
{
    char open = text.at[0], shut = open == '{' ? '}' : ')';
    size_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == open)
            depth++;
        else if (text.at[i] == shut && --depth == 0)
            return i;
    }
    return text.len;
}

static bool expand_value(struct expand *x, const char *value, struct buf *out)
{
    if (value == NULL)
        return true;
    return x->is_recursive ? expand_text(x, span_of(value), out) : buf_puts(out, value);
}

/* "{text}" -> text; a bare text stays. */
static struct span without_braces(struct span text)
{
    struct span t = span_trim(text);
    if (t.len >= 2 && t.at[0] == '{' && closing_index(t) == t.len - 1)
        return span_trim(span_make(t.at + 1, t.len - 2));
    return text;
}

/* Takes "?a" or ":b" or "?{a}:{b}" apart. False: neither. */
static bool split_branches(struct span text, struct span *then, struct span *otherwise)
{
    *then = *otherwise = span_make("", 0);
    text = span_trim(text);
    if (text.len > 0 && text.at[0] == ':') {
        *otherwise = without_braces(span_skip(text, 1));
        return true;
    }
    if (text.len == 0 || text.at[0] != '?')
        return false;
    struct span rest = span_trim(span_skip(text, 1));
    size_t end = rest.len > 0 && rest.at[0] == '{' ? closing_index(rest) : rest.len;
    if (end == rest.len) { /* ?text: the rest, colons and all */
        *then = span_skip(text, 1);
        return true;
    }
    *then = span_trim(span_make(rest.at + 1, end - 1));
    rest = span_trim(span_skip(rest, end + 1));
    if (rest.len == 0)
        return true;
    if (rest.at[0] != ':')
        return false;
    *otherwise = without_braces(span_trim(span_skip(rest, 1)));
    return true;
}

static bool expand_conditional(struct expand *x, struct span name, struct span rest,
                               struct buf *out)
{
    struct span then, otherwise;
    struct buf value = { .max = EXPAND_RESULT_MAX };
    if (!split_branches(rest, &then, &otherwise))
        return fail(x, "malformed ${name?...} form");
    bool is_good = expand_value(x, x->lookup(x->context, name), &value);
    if (is_good)
        is_good = expand_text(x, value.len > 0 ? then : otherwise, out);
    buf_fini(&value);
    return is_good;
}

static bool all_digits(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.at[i]))
            return false;
    return text.len > 0;
}

static int compare_numbers(struct span a, struct span b)
{
    while (a.len > 1 && a.at[0] == '0')
        a = span_skip(a, 1);
    while (b.len > 1 && b.at[0] == '0')
        b = span_skip(b, 1);
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return memcmp(a.at, b.at, a.len);
}

static int compare_texts(struct span a, struct span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n > 0 ? memcmp(a.at, b.at, n) : 0;
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static int compare_levels(struct span a, struct span b)
{
    while (a.len > 0 || b.len > 0) {
        size_t na = span_find(a, '.'), nb = span_find(b, '.');
        int c = compare_numbers(na > 0 ? span_make(a.at, na) : SPAN_LITERAL("0"),
                                nb > 0 ? span_make(b.at, nb) : SPAN_LITERAL("0"));
        if (c != 0)
            return c;
        a = span_skip(a, na + 1);
        b = span_skip(b, nb + 1);
    }
    return 0;
}

static bool holds(struct span op, int order, bool *result)
{
    bool is_bare = op.len == 1;
    if (op.len == 0 || op.len > 2 || (!is_bare && op.at[1] != '='))
        return false;
    switch (op.at[0]) {
    case '=': *result = order == 0; return !is_bare;
    case '!': *result = order != 0; return !is_bare;
    case '<': *result = is_bare ? order < 0 : order <= 0; return true;
    case '>': *result = is_bare ? order > 0 : order >= 0; return true;
    default: return false;
    }
}

static bool compare(struct span a, struct span op, struct span b, bool *result)
{
    if (span_iends(op, SPAN_LITERAL("level"))) {
        op = span_trim(span_make(op.at, op.len - 5));
        return holds(op, compare_levels(a, b), result);
    }
    bool is_numeric = all_digits(a) && all_digits(b);
    return holds(op, is_numeric ? compare_numbers(a, b) : compare_texts(a, b), result);
}

/* Cuts "{...}" off the front of *text. */
static bool cut_braced(struct span *text, struct span *inside)
{
    *text = span_trim(*text);
    if (text->len == 0 || text->at[0] != '{')
        return false;
    size_t end = closing_index(*text);
    if (end == text->len)
        return false;
    *inside = span_trim(span_make(text->at + 1, end - 1));
    *text = span_trim(span_skip(*text, end + 1));
    return true;
}

static bool expand_comparison(struct expand *x, struct span text, struct buf *out)
{
    struct span left, right, then, otherwise;
    struct buf a = { .max = EXPAND_RESULT_MAX }, b = { .max = EXPAND_RESULT_MAX };
    bool result = false, is_good = cut_braced(&text, &left);
    size_t op_len = span_find(text, '{');
    struct span op = span_trim(span_make(text.at, op_len));
    text = span_skip(text, op_len);
    is_good = is_good && cut_braced(&text, &right) && split_branches(text, &then, &otherwise);
    if (!is_good)
        return fail(x, "malformed ${{x} operator {y} ? ...} form");
    is_good = expand_text(x, left, &a) && expand_text(x, right, &b);
    if (is_good && !compare(buf_span(&a), op, buf_span(&b), &result))
        is_good = fail(x, "unknown operator");
    buf_fini(&a);
    buf_fini(&b);
    return is_good && expand_text(x, result ? then : otherwise, out);
}

static bool expand_inside(struct expand *x, struct span inside, struct buf *out)
{
    struct span trimmed = span_trim(inside);
    if (trimmed.len > 0 && trimmed.at[0] == '{')
        return expand_comparison(x, trimmed, out);
    size_t n = name_length(trimmed);
    if (n == 0)
        return fail(x, "a name was expected after $");
    if (n == trimmed.len)
        return expand_value(x, x->lookup(x->context, trimmed), out);
    return expand_conditional(x, span_make(trimmed.at, n), span_skip(trimmed, n), out);
}

/* One "$..." at the front of *text. */
static bool expand_dollar(struct expand *x, struct span *text, struct buf *out)
{
    struct span rest = span_skip(*text, 1);
    if (rest.len > 0 && rest.at[0] == '$') {
        *text = span_skip(rest, 1);
        return buf_putc(out, '$');
    }
    if (rest.len > 0 && (rest.at[0] == '{' || rest.at[0] == '(')) {
        size_t end = closing_index(rest);
        if (end == rest.len)
            return fail(x, "unterminated ${");
        *text = span_skip(rest, end + 1);
        return expand_inside(x, span_make(rest.at + 1, end - 1), out);
    }
    size_t n = name_length(rest);
    *text = span_skip(rest, n);
    if (n == 0)
        return buf_putc(out, '$'); /* a lonely dollar is itself */
    return expand_value(x, x->lookup(x->context, span_make(rest.at, n)), out);
}

bool expand_text(struct expand *x, struct span text, struct buf *out)
{
    if (x->depth >= EXPAND_DEPTH_MAX || ++x->steps > EXPAND_STEPS_MAX)
        return fail(x, "parameters refer to each other in a circle");
    x->depth++;
    bool is_good = true;
    while (is_good && text.len > 0) {
        size_t dollar = span_find(text, '$');
        is_good = buf_append(out, text.at, dollar);
        text = span_skip(text, dollar);
        if (is_good && text.len > 0)
            is_good = expand_dollar(x, &text, out);
    }
    x->depth--;
    if (!is_good && x->error == NULL)
        x->error = "the expanded value is too long";
    return is_good;
}

void expand_names(struct span text, void (*found)(void *context, struct span name),
                  void *context)
{
    for (;;) {
        text = span_skip(text, span_find(text, '$'));
        if (text.len < 2)
            return;
        text = span_skip(text, 1);
        if (text.at[0] == '{' || text.at[0] == '(')
            text = span_skip(text, 1);
        size_t n = name_length(text);
        if (n > 0)
            found(context, span_make(text.at, n));
        text = span_skip(text, n > 0 ? n : 1);
    }
}
