/* eval - one evaluation of the restriction lists over known facts (spec 1.3): pure, restartable.
 * A check that misses a fact names it in out->missing and returns VERDICT_PENDING; the caller
 * fetches it and evaluates again from the start. Effects of an unfinished run vanish.
 * Owns:   struct outcome owns its texts, in one arena.
 * Thread: any, one at a time. */
#ifndef POSTERN_EVAL_H
#define POSTERN_EVAL_H

#include "policy/envelope_in.h"
#include "policy/fact.h"
#include "policy/policy.h"
#include "policy/recipient.h"

/* What a rejection is about (spec 1.9). */
enum subject {
    SUBJECT_LIST, /* the one of the list the rule stands in */
    SUBJECT_CLIENT,
    SUBJECT_REVERSE_CLIENT,
    SUBJECT_HELO,
    SUBJECT_SENDER,
    SUBJECT_RECIPIENT,
    SUBJECT_DATA,
    SUBJECT_END_OF_DATA,
};

enum verdict { VERDICT_DUNNO, VERDICT_PERMIT, VERDICT_REJECT, VERDICT_PENDING };

/* A line for the log that the evaluation wants written if it stands. */
struct note {
    struct note *next;
    const char *tag; /* "reject_warning", "warn", "info", "hold", "discard": about this client;
                        "warning"; "general": a warning that is the same for all clients;
                        "event": a line as it stands */
    const char *text;
    const char *rule; /* static: the restriction at work; NULL: none */
};

struct text_item {
    struct text_item *next;
    const char *text;
};

/* What a rule did, for whoever wants to know why (outcome.is_traced). */
struct step {
    struct step *next;
    enum list_name list;
    int depth;
    const char *rule, *argument;
    enum verdict verdict;
    bool is_warned;
    struct step_fact {
        struct step_fact *next;
        const char *question, *answer, *source;
        int64_t took_ms;
    } *facts, **facts_end;
};

enum { OUTCOME_ALSO_MAX = 16 };

struct outcome {
    struct arena memory; /* owns: all texts here */
    struct smtp_reply reply;        /* VERDICT_REJECT */
    struct smtp_reply raised;       /* defer_if_permit: code 0 = not raised */
    const char *rule;               /* name of the restriction that decided; NULL: none */
    struct note *notes, **notes_end;
    struct text_item *prepends, **prepends_end; /* whole header lines without line end */
    struct text_item *bccs, **bccs_end;         /* BCC: further recipients */
    const char *redirect;                       /* REDIRECT: instead of all recipients */
    bool is_discard, is_hold;
    int spf; /* the sender's enum spf_result, plus one; 0: nobody wanted to know */
    struct fact_key missing; /* VERDICT_PENDING */
    struct fact_key *also;   /* what neighbours of the rule will ask next; in memory: a waiting
                                client must not pay for it */
    size_t also_count;
    bool is_traced;
    struct step *steps, **steps_end;
};

struct eval {
    const struct policy *policy;
    const struct envelope_in *in;
    const struct facts *facts;
    struct outcome *out;
    struct map_reader reader; /* tables, through the facts where they are slow */
    enum list_name list;      /* whose default reply class and table count */
    const struct rule *rule;  /* the one at work */
    struct smtp_reply defer_if_reject;
    int depth, warn_depth; /* spec 1.3: recursion, warn_level */
    int sleeps;            /* pauses so far */
    bool rcpt_is_checked, sender_is_checked;
    bool is_sender_resolved, is_recipient_resolved;
    struct resolved sender, recipient; /* see eval_sender(), eval_recipient() */
    struct step *step; /* of the rule at work, if the outcome is traced */
};

/* The lists that in->stage asks for. Frees nothing of an earlier outcome: outcome_fini() first. */
enum verdict policy_evaluate(const struct policy *policy, const struct envelope_in *in,
                             const struct facts *facts, struct outcome *out);
void outcome_fini(struct outcome *out);

/* One more in also, whose text is in the outcome's memory. False: there are enough. */
bool outcome_add_also(struct outcome *out, const struct fact_key *key);

/* ------------------------------------------------------------ for the checks */

/* Sets up an evaluation; its reader then looks tables up through the facts. */
void eval_begin(struct eval *e, const struct policy *policy, const struct envelope_in *in,
                const struct facts *facts, struct outcome *out);

/* The list of compiled rules, also of a class or an access table's result. */
enum verdict eval_rules(struct eval *e, const struct rules_list *rules);

/* The fact, or NULL: return VERDICT_PENDING then. */
const struct fact *eval_need(struct eval *e, enum fact_kind kind, enum scope scope, void *object,
                             struct span text);

/* What will be needed later: asked together with what is missing, if there is room. */
void eval_want(struct eval *e, enum fact_kind kind, enum scope scope, struct span text);
void eval_want_key(struct eval *e, const struct fact_key *key);

/* A DNS question about a host name; a name that cannot be asked is "not found" without one
 * (spec 2.8). NULL: return VERDICT_PENDING. */
const struct fact *eval_dns(struct eval *e, enum fact_kind kind, enum scope scope,
                            struct span name);

/* The scope of facts about a subject. */
enum scope eval_scope(const struct eval *e, enum subject subject);

/* Resolves once per run; anything but MAP_FOUND ends the check: eval_table_error(). */
enum map_result eval_sender(struct eval *e);
enum map_result eval_recipient(struct eval *e);

/* A final reply; under warn_if_reject a note and VERDICT_DUNNO (spec 1.5). The text may begin
 * with eval_prefix(). */
enum verdict eval_reject(struct eval *e, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
enum verdict eval_defer_if_permit(struct eval *e, int code, const char *enhanced,
                                  const char *format, ...)
    __attribute__((format(printf, 4, 5)));
enum verdict eval_defer_if_reject(struct eval *e, int code, const char *enhanced,
                                  const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "Client host", "Sender address": the CLASS of spec 1.9. */
const char *eval_class(enum subject subject);

/* The domain or name that look-ups about the subject use: client name, HELO, domain of the
 * address. False: there is none (no HELO, null sender, "unknown"). */
bool eval_domain(struct eval *e, enum subject subject, struct span *domain);

/* "<NAME>: CLASS rejected: ", in the outcome's memory. */
const char *eval_prefix(struct eval *e, enum subject subject);
enum subject eval_subject(const struct eval *e, enum subject subject);

/* The reply for a table that cannot answer, or VERDICT_PENDING. address: of what was looked up. */
enum verdict eval_table_error(struct eval *e, enum map_result result, struct span address);
/* From here on facts are noted under this name, if the outcome is traced; for what is decided
 * outside of rules. */
void eval_begin_step(struct eval *e, const char *name);

/* Something found out on the way, for whoever reads the trace. */
void eval_tell(struct eval *e, const char *question, const char *answer);

struct text_item **eval_add_text(struct eval *e, struct text_item **end, const char *text);
enum verdict eval_configuration_error(struct eval *e, const char *why);
void eval_note(struct eval *e, const char *tag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
