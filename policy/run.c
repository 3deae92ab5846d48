#include "policy/run.h"

/* A question that was put; the answer may still be on its way. */
struct asked {
    struct asked *next;
    struct fact_key key;
};

static enum verdict evaluate(struct policy_run *run)
{
    outcome_fini(&run->out); /* effects of the unfinished run vanish */
    run->out.is_traced = run->is_traced;
    if (run->evaluate != NULL)
        return run->evaluate(run);
    return policy_evaluate(run->policy, run->in, run->facts, &run->out);
}

static bool was_asked(const struct policy_run *run, const struct fact_key *key)
{
    for (const struct asked *a = run->asked; a != NULL; a = a->next)
        if (fact_key_equals(&a->key, key))
            return true;
    return false;
}

static void ask(struct policy_run *run, const struct fact_key *key)
{
    struct asked *asked = arena_alloc(&run->memory, sizeof *asked);
    asked->key = *key;
    asked->key.text = arena_span(&run->memory, key->text);
    asked->next = run->asked;
    run->asked = asked;
    if (++run->asked_count > run->policy->params->policy_fact_limit)
        facts_put(run->facts, &(struct fact){ .key = asked->key, .status = FACT_TEMPFAIL,
                                              .source = "over the limit" });
    else
        run->ask(run, &asked->key);
}

static void fetch(struct policy_run *run)
{
    const struct outcome *out = &run->out;
    if (!was_asked(run, &out->missing))
        ask(run, &out->missing);
    for (size_t i = 0; i < out->also_count; i++)
        if (!was_asked(run, &out->also[i]))
            ask(run, &out->also[i]);
}

static void policy_step(struct policy_run *run)
{
    enum verdict verdict;
    run->is_stepping = true;
    while ((verdict = evaluate(run)) == VERDICT_PENDING) {
        fetch(run);
        if (facts_find(run->facts, &run->out.missing) == NULL)
            break; /* policy_learn() will go on */
    }
    run->is_stepping = false;
    if (verdict != VERDICT_PENDING)
        run->done(run, verdict); /* may free run: last line */
}

void policy_begin(struct policy_run *run)
{
    policy_step(run);
}

void policy_learn(struct policy_run *run, const struct fact *fact)
{
    if (facts_find(run->facts, &fact->key) == NULL)
        facts_put(run->facts, fact);
    if (!run->is_stepping && facts_find(run->facts, &run->out.missing) != NULL)
        policy_step(run);
}

void policy_run_fini(struct policy_run *run)
{
    outcome_fini(&run->out);
    arena_fini(&run->memory);
    run->asked = NULL;
}
