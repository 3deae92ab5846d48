/* verify - address verification (spec 8): what is remembered about an address, when it is asked
 * about again, and under whose name. Pure: the probe and the store are server/verify.c's.
 * Fact:    FACT_VERIFY, text "N TARGET<TAB>ADDRESS" (targets: probe.h). N counts the questions of
 *          one decision: 0 is answered at once, the others when the probe under way has ended, or
 *          after address_verify_poll_delay. Value: verify_answer_print()'s.
 * Status:  TODO: a probe is under way, or due; DEFER and BOUNCE have the next hop's words.
 * Rules:   a probe counts as lost after VERIFY_LOST_S; a failed probe never overwrites an OK that
 *          still counts; what is older than its refresh time answers, and is probed meanwhile;
 *          what is older than its expire time is unknown.
 * Thread:  any. */
#ifndef POSTERN_VERIFY_H
#define POSTERN_VERIFY_H

#include "protocol/buf.h"
#include "protocol/params.h"

enum verify_status { VERIFY_TODO, VERIFY_OK, VERIFY_DEFER, VERIFY_BOUNCE };

enum { VERIFY_TEXT_MAX = 250, VERIFY_LOST_S = 1000 };

/* All zero: nothing is known. */
struct verify_entry {
    enum verify_status status;
    int64_t probed_s;  /* a probe began then and has not ended; 0: none */
    int64_t updated_s; /* of the status */
    char text[VERIFY_TEXT_MAX + 1];
};

/* What is known now; forgets in *e what is too old. *is_due: begin a probe, which is then noted
 * in *e as under way. */
enum verify_status verify_look(struct verify_entry *e, const struct params *p, int64_t now_s,
                               bool *is_due);

/* A probe has ended. */
void verify_learn(struct verify_entry *e, const struct params *p, enum verify_status result,
                  const char *text, int64_t now_s);

/* Until when the entry is worth keeping; 0: it is not. */
int64_t verify_keep_until(const struct verify_entry *e, const struct params *p, int64_t now_s);

/* As it is stored; false: malformed. */
void verify_entry_print(struct buf *out, const struct verify_entry *e);
bool verify_entry_parse(struct span text, struct verify_entry *e);

/* "ok", "todo", "defer TEXT", "bounce TEXT" */
void verify_answer_print(struct buf *out, enum verify_status status, const char *text);
bool verify_answer_parse(struct span text, enum verify_status *status, struct span *why);

/* The key of a fact, and its parts. */
void verify_key(struct buf *out, int round, struct span target, struct span address);
bool verify_key_parse(struct span text, int *round, struct span *target, struct span *address);

/* The envelope sender of probes; empty: the null sender. */
void verify_sender(struct buf *out, const struct params *p, int64_t now_s);

/* Is it the address that probes come from, now or a period ago or ahead? Also without domain. */
bool verify_is_sender(const struct params *p, struct span address, int64_t now_s);

#endif
