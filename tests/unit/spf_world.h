/* spf_world - SPF cases out of a text: a zone, and questions about it that the evaluation puts
 * as facts; no network, no clock.
 *
 *   # comment; empty lines are skipped
 *   scenario TITLE      a new zone
 *   NAME TYPE VALUE     a record: A, AAAA, MX ("10 host"), PTR, TXT ("..." "..."), CNAME; \xNN in
 *                       names and texts
 *   NAME FAIL [TYPE]    questions of that type about it fail; without: those without an answer
 *   case TITLE | CLIENT | HELO | SENDER | RESULT [RESULT] | EXPLANATION
 *                       one of the results; "-": no explanation; left out: any
 *
 * Owns:   the zone of the scenario at hand.
 * Thread: the test's. */
#ifndef POSTERN_TEST_SPF_WORLD_H
#define POSTERN_TEST_SPF_WORLD_H

#include "policy/spf.h"
#include "protocol/smtp_peer.h"
#include "tests/unit/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { SPF_ZONE_MAX = 600, SPF_ROUNDS_MAX = 150 };

struct spf_rr {
    char *name, *type, *value; /* owns */
};

struct spf_world {
    struct world world;
    struct spf_rr zone[SPF_ZONE_MAX];
    size_t zone_count;
    int64_t took_ms;   /* that every answer takes */
    int rounds, asked; /* of the last case */
    char *scenario;
};

/* What a case came to. */
struct spf_outcome {
    enum spf_result result;
    char explanation[SPF_EXPLANATION_MAX + 1], problem[200];
};

static inline void spf_world_clear(struct spf_world *w)
{
    for (size_t i = 0; i < w->zone_count; i++) {
        free(w->zone[i].name);
        free(w->zone[i].type);
        free(w->zone[i].value);
    }
    w->zone_count = 0;
}

static inline void spf_world_add(struct spf_world *w, const char *name, const char *type,
                                 const char *value)
{
    cr_assert_lt(w->zone_count, SPF_ZONE_MAX);
    w->zone[w->zone_count++] = (struct spf_rr){ strdup(name), strdup(type), strdup(value) };
}

/* "..." "..." joined, escapes undone. */
static inline void spf_add_txt(struct buf *value, const char *text)
{
    struct buf record = { 0 };
    bool is_inside = false;
    unsigned byte;
    for (; *text != '\0'; text++) {
        if (*text == '"')
            is_inside = !is_inside;
        else if (is_inside && sscanf(text, "\\x%2x", &byte) == 1)
            buf_putc(&record, (char)byte), text += 3;
        else if (is_inside)
            buf_putc(&record, *text);
    }
    record_add(value, buf_span(&record));
    buf_fini(&record);
}

static inline void spf_add_value(struct buf *value, enum fact_kind kind, const char *text)
{
    enum fact_status status;
    if (kind == FACT_TXT)
        spf_add_txt(value, text);
    else
        cr_assert(fact_parse(kind, span_of(text), &status, value), "%s", text);
}

static inline enum fact_status spf_world_find(const struct spf_world *w, enum fact_kind kind,
                                              struct span name, int depth, struct buf *value)
{
    const char *type = fact_kind_names[kind], *alias = NULL;
    bool fails = false;
    for (size_t i = 0; i < w->zone_count; i++) {
        const struct spf_rr *rr = &w->zone[i];
        if (!span_iequals(span_of(rr->name), name))
            continue;
        if (strcmp(rr->type, "FAIL") == 0 && strcmp(rr->value, type) == 0)
            return FACT_TEMPFAIL;
        fails |= strcmp(rr->type, "FAIL") == 0 && rr->value[0] == '\0';
        if (strcmp(rr->type, "CNAME") == 0)
            alias = rr->value;
        if (strcmp(rr->type, type) == 0)
            spf_add_value(value, kind, rr->value);
    }
    if (value->len == 0 && alias != NULL) /* a loop is a failure of the resolver */
        return depth > 10 ? FACT_TEMPFAIL
                          : spf_world_find(w, kind, span_of(alias), depth + 1, value);
    return value->len > 0 ? FACT_FOUND : fails ? FACT_TEMPFAIL : FACT_NOT_FOUND;
}

static inline void spf_world_answer(struct spf_world *w, struct facts *facts,
                                    const struct fact_key *key)
{
    struct buf value = { 0 };
    if (facts_find(facts, key) != NULL)
        return;
    w->asked++;
    cr_expect_leq(key->text.len, 253, "no name: %.*s", (int)key->text.len, key->text.at);
    enum fact_status status = spf_world_find(w, key->kind, key->text, 0, &value);
    facts_put(facts, &(struct fact){ .key = *key, .status = status,
                                     .value = buf_span(&value), .took_ms = w->took_ms });
    buf_fini(&value);
}

static inline void spf_world_learn(struct spf_world *w, struct facts *facts,
                                   const struct outcome *out)
{
    spf_world_answer(w, facts, &out->missing);
    for (size_t i = 0; i < out->also_count; i++)
        spf_world_answer(w, facts, &out->also[i]);
}

/* Evaluates until nothing is missing. */
static inline struct spf_outcome spf_world_check(struct spf_world *w, const char *client,
                                                 const char *helo, const char *sender)
{
    struct smtp_peer peer = { 0 };
    struct envelope_in in = { .stage = STAGE_RCPT, .peer = &peer, .helo = helo,
                              .has_sender = true, .sender = span_of(sender),
                              .wall_s = 1700000000 };
    struct facts facts = { 0 };
    struct outcome out = { 0 };
    struct eval e;
    struct spf spf;
    struct ip ip;
    struct spf_outcome result;
    cr_assert(ip_parse(span_of(client), &ip), "%s", client);
    smtp_peer_init(&peer, &ip, 0, &ip, 25);
    w->rounds = w->asked = 0;
    for (;;) {
        eval_begin(&e, w->world.policy, &in, &facts, &out);
        if (spf_check_mailfrom(&e, true, &spf) != VERDICT_PENDING)
            break;
        cr_assert_lt(++w->rounds, SPF_ROUNDS_MAX, "it never ends");
        spf_world_learn(w, &facts, &out);
        outcome_fini(&out);
    }
    result.result = spf.result;
    snprintf(result.explanation, sizeof result.explanation, "%s", spf.explanation);
    snprintf(result.problem, sizeof result.problem, "%s", spf.problem);
    outcome_fini(&out);
    facts_fini(&facts);
    smtp_peer_fini(&peer);
    return result;
}

/* ------------------------------------------------------------ the text form */

static inline char *spf_field(char **rest)
{
    char *field = *rest, *end = strstr(field, " | ");
    *rest = end != NULL ? end + 3 : NULL;
    if (end != NULL)
        *end = '\0';
    while (*field == ' ')
        field++;
    for (char *last = field + strlen(field); last > field && last[-1] == ' ';)
        *--last = '\0';
    return field;
}

/* Is it one of the words? */
static inline bool spf_is_word(const char *words, const char *word)
{
    struct span rest = span_of(words), one;
    while ((one = span_next_word(&rest)).len > 0)
        if (span_equals(one, span_of(word)))
            return true;
    return false;
}

static inline bool spf_world_case(struct spf_world *w, char *text, const char *where)
{
    char *fields[6] = { NULL };
    for (size_t i = 0; i < 6 && text != NULL; i++)
        fields[i] = spf_field(&text);
    cr_assert_not_null(fields[4], "%s: malformed", where);
    struct spf_outcome got = spf_world_check(w, fields[1], fields[2], fields[3]);
    const char *name = spf_result_names[got.result];
    const char *wanted = fields[5] == NULL ? got.explanation
                         : strcmp(fields[5], "-") == 0 ? "" : fields[5];
    bool is_good = spf_is_word(fields[4], name) && strcmp(got.explanation, wanted) == 0;
    cr_expect(is_good, "%s: %s / %s: %s (%s) \"%s\", not %s \"%s\"", where, w->scenario,
              fields[0], name, got.problem, got.explanation, fields[4], wanted);
    return is_good;
}

/* \xNN in a name, in place. */
static inline void spf_unescape(char *text)
{
    unsigned byte;
    char *to = text;
    for (; *text != '\0'; text++) {
        bool is_escape = sscanf(text, "\\x%2x", &byte) == 1;
        *to++ = is_escape ? (char)byte : *text;
        text += is_escape ? 3 : 0;
    }
    *to = '\0';
}

static inline void spf_world_record(struct spf_world *w, char *text)
{
    char name[600], type[16];
    int used = 0;
    cr_assert_geq(sscanf(text, "%599s %15s %n", name, type, &used), 2, "%s", text);
    spf_unescape(name);
    spf_world_add(w, name, type, text + used);
}

/* Runs all cases of a file; how many there were. */
static inline int spf_world_run(struct spf_world *w, const char *path, int *good)
{
    FILE *file = fopen(path, "r");
    char *line = NULL, where[300];
    size_t size = 0;
    int cases = 0, number = 0;
    cr_assert_not_null(file, "%s", path);
    while (getline(&line, &size, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(where, sizeof where, "%s:%d", path, ++number);
        if (strncmp(line, "scenario ", 9) == 0) {
            spf_world_clear(w);
            free(w->scenario);
            w->scenario = strdup(line + 9);
        } else if (strncmp(line, "case ", 5) == 0) {
            cases++;
            *good += spf_world_case(w, line + 5, where);
        } else if (line[0] != '\0' && line[0] != '#') {
            spf_world_record(w, line);
        }
    }
    free(line);
    fclose(file);
    return cases;
}

static inline void spf_world_fini(struct spf_world *w)
{
    spf_world_clear(w);
    free(w->scenario);
    world_fini(&w->world);
}

#endif
