#include "policy/rule_text.h"
#include "protocol/lines.h"
#include "protocol/mem.h"

#include <stdlib.h>

enum { IF_DEPTH_MAX = 100 };

struct reader {
    struct rules *rules;
    const struct map_source *source;
    size_t open[IF_DEPTH_MAX]; /* indexes of the "if" rows that are not closed */
    size_t depth;
    int line;
};

static void warn(struct reader *r, const char *what)
{
    problems_add(r->source->problems, PROBLEM_WARNING, r->source->full_name, r->source->path,
                 r->line, "%s, line skipped", what);
}

static struct rule_row *add_row(struct rules *rules)
{
    if (rules->count == rules->cap) {
        rules->cap = rules->cap > 0 ? rules->cap * 2 : 16;
        rules->rows = xrealloc(rules->rows, rules->cap * sizeof *rules->rows);
    }
    struct rule_row *row = &rules->rows[rules->count++];
    *row = (struct rule_row){ 0 };
    return row;
}

/* "if" and "endif", any case; "if/x/" needs no blank, and no pattern begins with a letter. */
static bool cut_word(struct span *line, const char *word)
{
    struct span w = span_of(word);
    if (!span_istarts(*line, w) || (line->len > w.len && ascii_is_alnum(line->at[w.len])))
        return false;
    *line = span_trim(span_skip(*line, w.len));
    return true;
}

static void read_endif(struct reader *r, struct span rest)
{
    if (r->depth == 0)
        warn(r, "endif without if");
    else
        r->rules->rows[r->open[--r->depth]].end = r->rules->count;
    if (rest.len > 0)
        warn(r, "text behind endif");
}

static void read_rule(struct reader *r, struct span line, bool is_if)
{
    const char *error = "a pattern was expected";
    bool is_negated = line.len > 0 && line.at[0] == '!';
    if (is_negated)
        line = span_trim(span_skip(line, 1));
    void *pattern = r->rules->kind->compile(&line, is_negated, &error, &r->rules->memory);
    struct span result = span_trim(line);
    if (pattern != NULL && !is_if && r->rules->kind->check != NULL
        && (error = r->rules->kind->check(pattern, is_negated, result)) != NULL) {
        r->rules->kind->free(pattern);
        pattern = NULL;
    } else if (pattern != NULL && !is_if && result.len == 0) {
        r->rules->kind->free(pattern);
        pattern = NULL;
        error = "no result behind the pattern";
    }
    if (pattern == NULL) {
        warn(r, error);
        if (!is_if)
            return;
    }
    struct rule_row *row = add_row(r->rules); /* an "if" we cannot read never matches */
    *row = (struct rule_row){ .pattern = pattern, .is_negated = is_negated, .is_if = is_if,
                              .result = arena_span(&r->rules->memory, result) };
}

static void read_line(struct reader *r, struct span line)
{
    line = span_trim(line);
    if (cut_word(&line, "endif")) {
        read_endif(r, line);
    } else if (cut_word(&line, "if")) {
        if (r->depth == IF_DEPTH_MAX) {
            warn(r, "if nested too deeply");
            return;
        }
        r->open[r->depth++] = r->rules->count;
        read_rule(r, line, true);
    } else {
        read_rule(r, line, false);
    }
}

static void read_text(struct reader *r, struct span text)
{
    struct lines lines;
    struct span line;
    lines_begin(&lines, text);
    while (lines_next(&lines, &line)) {
        r->line = lines.line;
        read_line(r, line);
    }
    lines_fini(&lines);
    while (r->depth > 0) {
        warn(r, "if without endif");
        r->rules->rows[r->open[--r->depth]].end = r->rules->count;
    }
}

struct rules *rules_read(const struct rule_kind *kind, const struct map_source *source,
                         const char **error)
{
    struct buf text = { 0 };
    struct rules *rules = NULL;
    if (map_rule_text(source, &text, error)) {
        rules = xcalloc(1, sizeof *rules);
        rules->kind = kind;
        struct reader reader = { .rules = rules, .source = source };
        read_text(&reader, buf_span(&text));
    }
    buf_fini(&text);
    return rules;
}

void rules_free(struct rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        if (rules->rows[i].pattern != NULL)
            rules->kind->free(rules->rows[i].pattern);
    arena_fini(&rules->memory);
    free(rules->rows);
    free(rules);
}

static bool row_matches(const struct rules *rules, const struct rule_row *row, struct span key,
                        void *captures)
{
    const struct rule_kind *kind = rules->kind;
    if (row->pattern == NULL || (kind->applies != NULL && !kind->applies(row->pattern, key)))
        return false;
    return kind->matches(row->pattern, key, captures) != row->is_negated;
}

const struct rule_row *rules_find(const struct rules *rules, struct span key, void *captures)
{
    size_t i = 0;
    while (i < rules->count) {
        const struct rule_row *row = &rules->rows[i];
        bool is_match = row_matches(rules, row, key, captures);
        if (is_match && !row->is_if)
            return row;
        i = row->is_if && !is_match ? row->end : i + 1;
    }
    return NULL;
}
