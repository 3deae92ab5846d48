#include "server/main_cf.h"
#include "protocol/lines.h"

void main_cf_fini(struct main_cf *cf)
{
    arena_fini(&cf->memory);
    *cf = (struct main_cf){ 0 };
}

struct main_cf_entry *main_cf_find(const struct main_cf *cf, struct span name)
{
    for (struct main_cf_entry *e = cf->first; e != NULL; e = e->next)
        if (span_equals(span_of(e->name), name))
            return e;
    return NULL;
}

/* White space around what was a line end becomes one blank (spec 7.1); inside a line it stays,
 * as nobody but a reader of the value can know whether it counts. */
static const char *collapse(struct main_cf *cf, struct span value)
{
    char *text = arena_text(&cf->memory, span_trim(value));
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\t')
            *c = ' ';
    return text;
}

void main_cf_set(struct main_cf *cf, struct span name, struct span value, int line)
{
    struct main_cf_entry *entry = main_cf_find(cf, name);
    if (entry == NULL) {
        entry = arena_alloc(&cf->memory, sizeof *entry);
        entry->name = arena_text(&cf->memory, name);
        *cf->end = entry;
        cf->end = &entry->next;
    }
    entry->value = collapse(cf, value);
    entry->line = line;
}

static size_t name_length(struct span line)
{
    size_t n = 0;
    while (n < line.len && (ascii_is_alnum(line.at[n]) || line.at[n] == '_'))
        n++;
    return n;
}

static void parse_line(struct main_cf *cf, struct span line, int number,
                       struct problems *problems)
{
    size_t n = name_length(line);
    struct span name = span_make(line.at, n), rest = span_trim(span_skip(line, n));
    if (n == 0 || rest.len == 0 || rest.at[0] != '=') {
        struct span shown = span_make(line.at, line.len < 60 ? line.len : 60);
        problems_add(problems, PROBLEM_ERROR, cf->file, cf->file, number,
                     "not \"name = value\": \"%.*s\"", (int)shown.len, shown.at);
        return;
    }
    const struct main_cf_entry *old = main_cf_find(cf, name);
    if (old != NULL)
        problems_add(problems, PROBLEM_WARNING, old->name, cf->file, number,
                     "set before in line %d, this one counts", old->line);
    main_cf_set(cf, name, span_skip(rest, 1), number);
}

void main_cf_parse(struct main_cf *cf, const char *file, struct span text,
                   struct problems *problems)
{
    struct lines lines;
    struct span line;
    *cf = (struct main_cf){ 0 };
    cf->file = arena_text(&cf->memory, span_of(file));
    cf->end = &cf->first;
    lines_begin(&lines, text);
    while (lines_next(&lines, &line)) {
        if (lines.is_orphan)
            problems_add(problems, PROBLEM_ERROR, file, cf->file, lines.line,
                         "the line begins with white space, but continues nothing");
        else
            parse_line(cf, line, lines.line, problems);
    }
    lines_fini(&lines);
}
