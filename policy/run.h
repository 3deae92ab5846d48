/* run - drives one evaluation to its verdict: evaluates, has the missing fact fetched, evaluates
 * again (STYLE: policy is a pure function of facts).
 * Owns:   its outcome; the caller owns facts and envelope, which stay put until done.
 * Calls:  ask() may call policy_learn() before it returns, or later; done() may free the run.
 * Asks:   each fact once; questions of neighbouring rules go out together.
 * Bounds: policy_fact_limit facts, then the rest count as "could not be found out".
 * Thread: the loop of the session. */
#ifndef POSTERN_RUN_H
#define POSTERN_RUN_H

#include "policy/eval.h"

struct policy_run {
    const struct policy *policy;
    const struct envelope_in *in;
    struct facts *facts;
    struct outcome out; /* owns */
    void (*ask)(struct policy_run *run, const struct fact_key *key);
    void (*done)(struct policy_run *run, enum verdict verdict);
    /* What is evaluated; policy_evaluate() unless the caller has more to decide. */
    enum verdict (*evaluate)(struct policy_run *run);
    bool is_traced;      /* the outcome tells which rules ran on what */
    struct arena memory; /* owns: what was asked */
    struct asked *asked;
    int asked_count;
    bool is_stepping;
};

void policy_begin(struct policy_run *run);

/* A fact arrived. Does nothing but remember it if nobody waits for it. */
void policy_learn(struct policy_run *run, const struct fact *fact);
void policy_run_fini(struct policy_run *run);

#endif
