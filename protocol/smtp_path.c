#include "protocol/smtp_path.h"
#include "protocol/hostname.h"
#include "protocol/text.h"

struct span smtp_path_cut(struct span *args)
{
    bool is_quoted = false, is_escaped = false, is_angled = false;
    size_t n = 0;
    while (args->len > 0 && (args->at[0] == ' ' || args->at[0] == '\t'))
        *args = span_skip(*args, 1);
    for (; n < args->len; n++) {
        char c = args->at[n];
        if (is_escaped)
            is_escaped = false;
        else if (c == '\\')
            is_escaped = true;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (is_quoted)
            continue;
        else if (c == '<' || c == '>')
            is_angled = c == '<';
        else if ((c == ' ' || c == '\t') && !is_angled)
            break;
    }
    struct span token = span_make(args->at, n);
    *args = span_skip(*args, n);
    return token;
}

/* "@a,@b:" in front of the address is obsolete and ignored (RFC 5321 appendix C). */
static bool drop_source_route(struct span *text)
{
    if (text->len == 0 || text->at[0] != '@')
        return true;
    bool is_literal = false;
    for (size_t i = 0; i < text->len; i++) {
        char c = text->at[i];
        if (c == '[' || c == ']')
            is_literal = c == '[';
        if (c == ':' && !is_literal) {
            *text = span_skip(*text, i + 1);
            return true;
        }
    }
    return false;
}

static bool is_plain_character(char c)
{
    return ((unsigned char)c & 0x80) != 0
           || (ascii_is_print(c) && strchr(" \"(),;:<>[\\]", c) == NULL);
}

/* A quoted string stands alone or between dots; "a"b is none (RFC 5321 4.1.2). */
static bool is_word_border(struct span text, size_t i)
{
    return i >= text.len || text.at[i] == '.' || text.at[i] == '@';
}

/* Quoted-string without its quotes; *i stands on the opening one. */
static bool unquote(struct span text, size_t *i, char *out, size_t *len)
{
    if (*i > 0 && !is_word_border(text, *i - 1))
        return false;
    for ((*i)++; *i < text.len && text.at[*i] != '"'; (*i)++) {
        if (text.at[*i] == '\\' && ++*i == text.len)
            return false;
        if (!ascii_is_print(text.at[*i]) && ((unsigned char)text.at[*i] & 0x80) == 0)
            return false;
        out[(*len)++] = text.at[*i];
    }
    return *i < text.len && is_word_border(text, *i + 1);
}

/* Writes the internal form to out; *at is the index behind the last unquoted '@', 0 if none. */
static bool to_internal(struct span text, char *out, size_t *len, size_t *at)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '"') {
            if (!unquote(text, &i, out, len))
                return false;
            continue;
        }
        if (c == '\\') {
            if (++i == text.len || !ascii_is_print(text.at[i]))
                return false;
        } else if (c == '[' && *at > 0 && *at == *len) { /* a literal: the rest, unchecked here */
            memcpy(out + *len, text.at + i, text.len - i);
            *len += text.len - i;
            return true;
        } else if (!is_plain_character(c)) {
            return false;
        }
        out[(*len)++] = text.at[i];
        if (c == '@')
            *at = *len;
    }
    return true;
}

static bool domain_is_valid(struct span domain)
{
    struct ip ip;
    if (domain.len > 0 && domain.at[0] == '[')
        return address_literal_parse(domain, &ip);
    return hostname_is_valid(hostname_without_dot(domain), true);
}

static struct span strip_angles(struct span text, bool is_strict, bool *is_good)
{
    bool opens = text.len > 0 && text.at[0] == '<';
    bool closes = text.len > 1 && text.at[text.len - 1] == '>';
    *is_good = opens == closes && (opens || (!is_strict && text.len > 0));
    return opens && closes ? span_trim(span_make(text.at + 1, text.len - 2)) : text;
}

static struct smtp_path path_split(struct span address, size_t at)
{
    struct smtp_path path = { .address = address, .local = address,
                              .is_ascii = text_is_ascii(address) };
    if (at > 0) {
        path.has_domain = true;
        path.local = span_make(address.at, at - 1);
        path.domain = span_skip(address, at);
    }
    return path;
}

bool smtp_path_parse(struct span text, bool is_strict, struct arena *memory,
                     struct smtp_path *path)
{
    bool is_good;
    text = strip_angles(text, is_strict, &is_good);
    if (!is_good || !drop_source_route(&text) || !utf8_is_valid(text))
        return false;
    char *internal = arena_alloc(memory, text.len + 1);
    size_t len = 0, at = 0;
    if (!to_internal(text, internal, &len, &at))
        return false;
    *path = path_split(span_make(internal, len), at);
    return !path->has_domain || domain_is_valid(path->domain);
}

struct smtp_path smtp_path_of(struct span address)
{
    size_t at = span_find_last(address, '@');
    return path_split(address, at < address.len ? at + 1 : 0);
}

void smtp_path_keep(struct smtp_path *path, struct arena *memory)
{
    size_t at = path->has_domain ? path->local.len + 1 : 0;
    *path = path_split(arena_span(memory, path->address), at);
}

static bool is_dot_atom(struct span local)
{
    if (local.len == 0 || local.at[0] == '.' || local.at[local.len - 1] == '.')
        return false;
    for (size_t i = 0; i < local.len; i++) {
        char c = local.at[i];
        if (!is_plain_character(c) || c == '@')
            return false;
        if (c == '.' && local.at[i - 1] == '.')
            return false;
    }
    return true;
}

void smtp_path_quote_local(struct buf *out, struct span local)
{
    if (is_dot_atom(local)) {
        buf_add(out, local);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < local.len; i++) {
        if (local.at[i] == '"' || local.at[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, local.at[i]);
    }
    buf_putc(out, '"');
}

void smtp_path_quote(struct buf *out, struct span address)
{
    struct smtp_path path = smtp_path_of(address);
    if (address.len == 0)
        return;
    smtp_path_quote_local(out, path.local);
    if (path.has_domain) {
        buf_putc(out, '@');
        buf_add(out, path.domain);
    }
}

bool smtp_path_needs_quotes(struct span local)
{
    struct buf quoted = { 0 };
    smtp_path_quote_local(&quoted, local);
    bool is_quoted = quoted.len != local.len;
    buf_fini(&quoted);
    return is_quoted;
}
