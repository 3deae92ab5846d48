#include "policy/run.h"

static enum verdict evaluate(struct policy_run *run)
{
    outcome_fini(&run->out); /* effects of the unfinished run vanish */
    if (run->evaluate != NULL)
        return run->evaluate(run);
    return policy_evaluate(run->policy, run->in, run->facts, &run->out);
}

static void fetch(struct policy_run *run)
{
    struct fact_key *missing = &run->out.missing;
    if (++run->asked > POLICY_MAX_ASKS)
        facts_put(run->facts, &(struct fact){ .key = *missing, .status = FACT_TEMPFAIL });
    else
        run->ask(run, missing);
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
    run->asked = 0;
    policy_step(run);
}

void policy_learn(struct policy_run *run, const struct fact *fact)
{
    facts_put(run->facts, fact);
    if (!run->is_stepping)
        policy_step(run);
}

void policy_run_fini(struct policy_run *run)
{
    outcome_fini(&run->out);
}
