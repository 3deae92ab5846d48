#include "policy/spf_macro.h"

#include <inttypes.h>

/* One piece of a macro-string: literal text, an escape, or a macro. */
struct token {
    struct span literal; /* letter 0 */
    char letter;         /* lower case; '%', '_' and '-' are the escapes */
    bool is_upper;       /* the value is to be URL-escaped */
    bool is_reversed;
    size_t keep;         /* so many parts from the right; 0: all */
    struct span delimiters;
};

/* ------------------------------------------------------------ reading */

/* "{d2r.-}" behind the percent sign. */
static bool cut_macro(struct span *rest, struct token *t)
{
    size_t close = span_find(*rest, '}'), i = 2;
    bool has_digits = false;
    if (close == rest->len || close < 2 || !ascii_is_alpha(rest->at[1]))
        return false;
    t->letter = ascii_lower(rest->at[1]);
    t->is_upper = t->letter != rest->at[1];
    for (; ascii_is_digit(rest->at[i]); i++, has_digits = true)
        if (t->keep < SPF_VALUE_MAX)
            t->keep = t->keep * 10 + (size_t)(rest->at[i] - '0');
    if (has_digits && t->keep == 0)
        return false;
    t->is_reversed = ascii_lower(rest->at[i]) == 'r';
    i += t->is_reversed;
    t->delimiters = span_make(rest->at + i, close - i);
    *rest = span_skip(*rest, close + 1);
    return true;
}

static struct span cut_literal(struct span *rest)
{
    struct span literal = span_make(rest->at, span_find(*rest, '%'));
    *rest = span_skip(*rest, literal.len);
    return literal;
}

/* False: malformed. */
static bool next_token(struct span *rest, struct token *t)
{
    *t = (struct token){ 0 };
    if (rest->at[0] != '%') {
        t->literal = cut_literal(rest);
        return true;
    }
    *rest = span_skip(*rest, 1);
    if (rest->len == 0)
        return false;
    if (rest->at[0] == '{')
        return cut_macro(rest, t);
    t->letter = rest->at[0];
    *rest = span_skip(*rest, 1);
    return t->letter == '%' || t->letter == '_' || t->letter == '-';
}

/* ------------------------------------------------------------ checking */

static bool is_escape(const struct token *t)
{
    return t->letter != '\0' && !ascii_is_alpha(t->letter);
}

static bool check_token(const struct token *t, enum spf_macro_use use)
{
    const char *letters = use == SPF_MACRO_TEXT ? "slodiphvcrt" : "slodiphv";
    for (size_t i = 0; i < t->literal.len; i++) {
        char c = t->literal.at[i];
        if (!ascii_is_print(c) || (c == ' ' && use != SPF_MACRO_TEXT))
            return false;
    }
    for (size_t i = 0; i < t->delimiters.len; i++)
        if (strchr(".-+,/_=", t->delimiters.at[i]) == NULL)
            return false;
    return t->letter == '\0' || is_escape(t) || strchr(letters, t->letter) != NULL;
}

/* "com", "xn--p1ai", "123a": not digits alone, no hyphen at an end. */
static bool is_toplabel(struct span label)
{
    bool has_more = false;
    for (size_t i = 0; i < label.len; i++) {
        has_more |= !ascii_is_digit(label.at[i]);
        if (!ascii_is_alnum(label.at[i]) && label.at[i] != '-')
            return false;
    }
    return has_more && label.at[0] != '-' && label.at[label.len - 1] != '-';
}

/* domain-end of RFC 7208 12: "." toplabel ["."], where the text does not end with a macro. The
 * label stands in this last piece, for no macro may be in it. */
static bool ends_as_domain(struct span literal)
{
    if (literal.len > 0 && literal.at[literal.len - 1] == '.')
        literal.len--;
    size_t dot = span_find_last(literal, '.');
    return dot < literal.len && is_toplabel(span_skip(literal, dot + 1));
}

bool spf_macro_check(struct span text, enum spf_macro_use use)
{
    struct token t = { 0 };
    while (text.len > 0)
        if (!next_token(&text, &t) || !check_token(&t, use))
            return false;
    return use != SPF_MACRO_DOMAIN || t.letter != '\0' || ends_as_domain(t.literal);
}

bool spf_macro_uses(struct span text, const char *letters)
{
    struct token t;
    while (text.len > 0 && next_token(&text, &t))
        if (ascii_is_alpha(t.letter) && strchr(letters, t.letter) != NULL)
            return true;
    return false;
}

/* ------------------------------------------------------------ expanding */

/* "192.0.2.1", or the 32 nibbles of an IPv6 address with dots between. */
static void put_dotted(struct buf *out, const struct ip *ip)
{
    char text[IP_TEXT_MAX];
    if (ip->family == 4)
        buf_puts(out, ip_text(ip, text));
    else
        for (int i = 0; i < 16; i++)
            buf_printf(out, "%s%X.%X", i > 0 ? "." : "", ip->bytes[i] >> 4, ip->bytes[i] & 15);
}

static void put_value(struct buf *out, char letter, const struct spf_macros *m)
{
    char text[IP_TEXT_MAX];
    switch (letter) {
    case 's': buf_add(out, m->local); buf_putc(out, '@'); buf_add(out, m->domain); break;
    case 'l': buf_add(out, m->local); break;
    case 'o': buf_add(out, m->domain); break;
    case 'd': buf_add(out, m->current); break;
    case 'h': buf_add(out, m->helo); break;
    case 'i': put_dotted(out, m->ip); break;
    case 'c': buf_puts(out, ip_text(m->ip, text)); break;
    case 'v': buf_puts(out, m->ip->family == 4 ? "in-addr" : "ip6"); break;
    case 'p': buf_puts(out, m->client_name); break;
    case 'r': buf_puts(out, m->receiver); break;
    case 't': buf_printf(out, "%" PRId64, m->now_s); break;
    case '%': buf_putc(out, '%'); break;
    case '_': buf_putc(out, ' '); break;
    case '-': buf_puts(out, "%20"); break;
    }
}

static size_t split(struct span value, struct span delimiters, struct span *parts)
{
    size_t count = 0, start = 0;
    for (size_t i = 0; i <= value.len; i++) {
        if (i < value.len && span_find(delimiters, value.at[i]) == delimiters.len)
            continue;
        parts[count++] = span_make(value.at + start, i - start);
        start = i + 1;
    }
    return count;
}

/* RFC 3986 2.3: all but these is escaped. */
static void put_escaped(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (ascii_is_alnum(c) || (c != '\0' && strchr("-._~", c) != NULL))
            buf_putc(out, c);
        else
            buf_printf(out, "%%%02X", (unsigned char)c);
    }
}

/* Parts in order or reversed, then so many from the right, joined by dots (RFC 7208 7.3). */
static void put_transformed(struct buf *out, struct span value, const struct token *t)
{
    struct span parts[SPF_VALUE_MAX + 1];
    struct span delimiters = t->delimiters.len > 0 ? t->delimiters : SPAN_LITERAL(".");
    size_t count = split(value, delimiters, parts);
    size_t keep = t->keep > 0 && t->keep < count ? t->keep : count;
    for (size_t i = count - keep; i < count; i++) {
        struct span part = parts[t->is_reversed ? count - 1 - i : i];
        if (i > count - keep)
            buf_putc(out, '.');
        if (t->is_upper)
            put_escaped(out, part);
        else
            buf_add(out, part);
    }
}

static void put_macro(struct buf *out, const struct token *t, const struct spf_macros *macros)
{
    struct buf value = { 0 };
    bool is_plain = t->keep == 0 && !t->is_reversed && t->delimiters.len == 0 && !t->is_upper;
    put_value(&value, t->letter, macros);
    struct span cut = span_make(buf_text(&value),
                                value.len < SPF_VALUE_MAX ? value.len : SPF_VALUE_MAX);
    if (is_plain)
        buf_add(out, cut);
    else
        put_transformed(out, cut, t);
    buf_fini(&value);
}

void spf_macro_expand(struct buf *out, struct span text, const struct spf_macros *macros)
{
    struct token t;
    while (text.len > 0 && !out->is_full && next_token(&text, &t)) {
        if (t.letter == '\0')
            buf_add(out, t.literal);
        else if (is_escape(&t))
            put_value(out, t.letter, macros);
        else
            put_macro(out, &t, macros);
    }
}
