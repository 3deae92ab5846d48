#include "script.h"
#include "protocol/mem.h"

#include <stdio.h>
#include <stdlib.h>

static char *copy_span(struct span text)
{
    return xprintf("%.*s", (int)text.len, text.at);
}

static void add_line(struct script *s, const char *file, int number, struct span word,
                     struct span text)
{
    if (s->count == s->cap) {
        s->cap = s->cap > 0 ? s->cap * 2 : 64;
        s->lines = xrealloc(s->lines, s->cap * sizeof *s->lines);
    }
    s->lines[s->count++] = (struct script_line){ xstrdup(file), number, copy_span(word),
                                                 copy_span(text) };
}

/* "include NAME", beside the file that names it. */
static const char *include_file(struct script *s, const char *file, struct span name)
{
    const char *slash = strrchr(file, '/');
    int dir_len = slash != NULL ? (int)(slash - file + 1) : 0;
    char *path = xprintf("%.*s%.*s", dir_len, file, (int)name.len, name.at);
    const char *error = script_read(s, path);
    free(path);
    return error;
}

static const struct span many = { "|*", 2 };

static const char *read_line(struct script *s, const char *file, int number, struct span line)
{
    struct span rest = line;
    if (line.at[0] == '|' || ascii_is_space(line.at[0])) {
        bool is_block = line.at[0] == '|', is_repeated = is_block && span_istarts(line, many);
        struct span text = span_skip(line, is_repeated ? 2 : 1);
        bool has_blank = is_block && text.len > 0 && text.at[0] == ' ';
        add_line(s, file, number, is_repeated ? many : span_make(line.at, 1),
                 span_skip(text, has_blank));
        return NULL;
    }
    struct span word = span_next_word(&rest);
    rest = span_skip(rest, 1); /* the one blank; more of them belong to the text */
    if (span_equals(word, SPAN_LITERAL("include")))
        return include_file(s, file, span_trim(rest));
    add_line(s, file, number, word, rest);
    return NULL;
}

const char *script_read(struct script *s, const char *file)
{
    FILE *f = fopen(file, "re");
    char *line = NULL;
    const char *error = NULL;
    size_t cap = 0;
    ssize_t n;
    if (f == NULL)
        return "cannot be read";
    for (int number = 1; error == NULL && (n = getline(&line, &cap, f)) >= 0; number++) {
        size_t len = n > 0 && line[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n;
        struct span text = span_make(line, len);
        if (span_trim(text).len > 0 && text.at[0] != '#')
            error = read_line(s, file, number, text);
    }
    free(line);
    fclose(f);
    return error;
}

void script_fini(struct script *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->lines[i].file);
        free(s->lines[i].word);
        free(s->lines[i].text);
    }
    free(s->lines);
}

/* One escape behind the backslash; the number of bytes it took, 0 for rubbish. */
static size_t unescape_one(struct span text, char *c)
{
    static const char names[] = "rnt0\\", values[] = "\r\n\t\0\\";
    const char *at = text.len > 0 ? strchr(names, text.at[0]) : NULL;
    if (at != NULL && *at != '\0') {
        *c = values[at - names];
        return 1;
    }
    int high = text.len > 2 ? ascii_hex_value(text.at[1]) : -1;
    int low = text.len > 2 ? ascii_hex_value(text.at[2]) : -1;
    if (text.len < 3 || text.at[0] != 'x' || high < 0 || low < 0)
        return 0;
    *c = (char)(high << 4 | low);
    return 3;
}

bool script_unescape(struct span text, struct buf *out, bool *has_line_end)
{
    *has_line_end = !span_iends(text, SPAN_LITERAL("\\c"));
    if (!*has_line_end)
        text.len -= 2;
    for (;;) {
        size_t n = span_find(text, '\\');
        char c;
        buf_append(out, text.at, n);
        if (n == text.len)
            return true;
        text = span_skip(text, n + 1);
        size_t used = unescape_one(text, &c);
        if (used == 0)
            return false;
        buf_putc(out, c);
        text = span_skip(text, used);
    }
}

bool script_matches(const char *pattern, const char *text)
{
    const char *dots = strstr(pattern, "...");
    if (dots == NULL)
        return strcmp(pattern, text) == 0;
    size_t n = (size_t)(dots - pattern);
    if (strncmp(pattern, text, n) != 0)
        return false;
    for (text += n; ; text++) {
        if (script_matches(dots + 3, text))
            return true;
        if (*text == '\0')
            return false;
    }
}
