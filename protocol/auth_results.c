#include "protocol/auth_results.h"
#include "protocol/hostname.h"

enum { ID_MAX = 1000 };

/* A comment may hold others. Empty when it does not end here. */
static struct span skip_comment(struct span text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\\')
            i++;
        else if (text.at[i] == '(')
            depth++;
        else if (text.at[i] == ')' && --depth == 0)
            return span_skip(text, i + 1);
    }
    return span_make(text.at, 0);
}

/* White space and comments (RFC 5322 3.2.2). */
static struct span skip_cfws(struct span text)
{
    while (text.len > 0 && (ascii_is_space(text.at[0]) || text.at[0] == '('))
        text = text.at[0] == '(' ? skip_comment(text) : span_skip(text, 1);
    return text;
}

/* The name with its quotes and backslashes undone; how long it is. */
static size_t read_id(struct span text, char id[ID_MAX])
{
    bool is_quoted = text.at[0] == '"';
    size_t len = 0;
    for (size_t i = is_quoted; i < text.len && len < ID_MAX; i++) {
        char c = text.at[i];
        if (is_quoted ? c == '"' : ascii_is_space(c) || c == ';' || c == '(')
            break;
        if (c == '\\' && i + 1 < text.len)
            c = text.at[++i];
        id[len++] = c;
    }
    return len;
}

enum auth_results_owner auth_results_owner(struct span value, struct span own_id)
{
    char id[ID_MAX];
    value = skip_cfws(value);
    if (value.len == 0)
        return AUTH_RESULTS_UNKNOWN;
    struct span name = hostname_without_dot(span_make(id, read_id(value, id)));
    return span_iequals(name, hostname_without_dot(own_id)) ? AUTH_RESULTS_OURS
                                                            : AUTH_RESULTS_OTHER;
}
