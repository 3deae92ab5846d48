/* rule_text - the shape cidr:, pcre: and regexp: tables share: "[!]pattern result" lines, with
 * "if [!]pattern" ... "endif" blocks (spec 6.4, 6.5).
 * Result: a flat array; an "if" row knows where its block ends, so matching is one loop.
 * Errors: a bad line is skipped with a warning, the rest is used.
 * Thread: any. */
#ifndef POSTERN_RULE_TEXT_H
#define POSTERN_RULE_TEXT_H

#include "policy/map_type.h"

struct rule_row {
    void *pattern;      /* owns: made and freed by the type */
    bool is_negated, is_if;
    struct span result; /* in rules.memory */
    size_t end;         /* is_if: index behind the block */
};

struct rule_kind {
    /* Cuts a pattern off *line and compiles it; NULL and *error on failure. */
    void *(*compile)(struct span *line, bool is_negated, const char **error,
                     struct arena *scratch);
    void (*free)(void *pattern);
    /* Checks "result" against the pattern; NULL or why it is bad. May be NULL. */
    const char *(*check)(void *pattern, bool is_negated, struct span result);
    /* Does key match? captures: room for the type's own use. */
    bool (*matches)(void *pattern, struct span key, void *captures);
    /* Is this pattern about keys of this kind at all? Negation counts only then. NULL: yes. */
    bool (*applies)(void *pattern, struct span key);
};

struct rules {
    const struct rule_kind *kind;
    struct arena memory; /* owns */
    struct rule_row *rows; /* owns */
    size_t count, cap;
};

struct rules *rules_read(const struct rule_kind *kind, const struct map_source *source,
                         const char **error);
void rules_free(struct rules *rules);

/* The first row that matches, or NULL. */
const struct rule_row *rules_find(const struct rules *rules, struct span key, void *captures);

#endif
