#include "policy/text_table.h"
#include "protocol/lines.h"

static size_t key_length(struct span line)
{
    bool is_quoted = false;
    size_t n = 0;
    for (; n < line.len; n++) {
        char c = line.at[n];
        if (c == '\\' && n + 1 < line.len)
            n++;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && ascii_is_space(c))
            break;
    }
    return n;
}

static void warn(struct problems *problems, const char *file, int line, const char *what,
                 struct span key)
{
    problems_add(problems, PROBLEM_WARNING, file, file, line, "%s: \"%.*s\"", what,
                 (int)(key.len < 200 ? key.len : 200), key.at);
}

void text_table_read(struct span text, const char *file, struct problems *problems,
                     bool (*add)(void *context, struct span key, struct span value),
                     void *context)
{
    struct lines lines;
    struct span line;
    lines_begin(&lines, text);
    while (lines_next(&lines, &line)) {
        size_t n = key_length(line);
        struct span key = span_make(line.at, n), value = span_trim(span_skip(line, n));
        for (size_t i = 0; i < n; i++) /* lines owns a copy: folding in place is ours to do */
            lines.logical.at[i] = ascii_lower(lines.logical.at[i]);
        bool has_nul = memchr(line.at, '\0', line.len) != NULL; /* ends a key in a .db file */
        if (key.len == 0 || value.len == 0 || lines.is_orphan || has_nul)
            warn(problems, file, lines.line, "not \"key value\", line skipped", line);
        else if (!add(context, key, value))
            warn(problems, file, lines.line, "duplicate key, the first one counts", key);
    }
    lines_fini(&lines);
}
