#include "policy/fact.h"

void facts_fini(struct facts *facts)
{
    facts_forget(facts, SCOPE_CLIENT);
}

void facts_forget(struct facts *facts, enum scope scope)
{
    for (int s = (int)scope; s < SCOPE_COUNT; s++) {
        arena_fini(&facts->memory[s]);
        facts->first[s] = NULL;
    }
}

static bool key_equals(const struct fact_key *a, const struct fact_key *b)
{
    return a->kind == b->kind && a->object == b->object && span_equals(a->text, b->text);
}

const struct fact *facts_find(const struct facts *facts, const struct fact_key *key)
{
    for (const struct fact *f = facts->first[key->scope]; f != NULL; f = f->next)
        if (key_equals(&f->key, key))
            return f;
    return NULL;
}

void facts_put(struct facts *facts, const struct fact *fact)
{
    enum scope scope = fact->key.scope;
    struct arena *memory = &facts->memory[scope];
    struct fact *copy = arena_alloc(memory, sizeof *copy);
    *copy = *fact;
    copy->key.text = arena_span(memory, fact->key.text);
    copy->value = arena_span(memory, fact->value);
    copy->next = facts->first[scope];
    facts->first[scope] = copy;
}
