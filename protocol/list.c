#include "protocol/list.h"

static bool is_separator(char c, bool commas_only)
{
    return c == ',' || (!commas_only && ascii_is_space(c));
}

static struct span next_item(struct span *text, bool commas_only)
{
    while (text->len > 0 && (text->at[0] == ',' || ascii_is_space(text->at[0])))
        *text = span_skip(*text, 1);
    size_t n = 0, depth = 0;
    for (; n < text->len; n++) {
        char c = text->at[n];
        if (c == '{')
            depth++;
        else if (c == '}' && depth > 0)
            depth--;
        else if (depth == 0 && is_separator(c, commas_only))
            break;
    }
    struct span item = span_trim(span_make(text->at, n));
    *text = span_skip(*text, n);
    return item;
}

struct span list_next(struct span *text)
{
    return next_item(text, false);
}

struct span list_next_comma(struct span *text)
{
    return next_item(text, true);
}

bool list_unbrace(struct span item, struct span *inside)
{
    if (item.len < 2 || item.at[0] != '{' || item.at[item.len - 1] != '}')
        return false;
    *inside = span_trim(span_make(item.at + 1, item.len - 2));
    return true;
}

bool list_is_balanced(struct span text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '{')
            depth++;
        else if (text.at[i] == '}' && depth-- == 0)
            return false;
    }
    return depth == 0;
}
