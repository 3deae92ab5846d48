/* probe - questions to a next hop as text: FACT_PROBE and FACT_VERIFY (fact.h).
 * Target:  "lmtp:NEXTHOP", "smtp:NEXTHOP", as in transport_maps; "mx:DOMAIN": the mail hosts of a
 *          domain that a stranger has named.
 * Answer:  "CODE ENHANCED TEXT"; where the next hop gave no enhanced code, "5.0.0" and the like.
 * Thread: any. */
#ifndef POSTERN_PROBE_H
#define POSTERN_PROBE_H

#include "policy/transport.h"
#include "protocol/buf.h"
#include "protocol/smtp_reply.h"

struct probe {
    bool is_lmtp, is_public_only;
    struct span nexthop, sender, recipient;
};

struct transport;

/* False: nobody can be asked there. */
bool probe_target(struct buf *out, const struct transport *transport);

/* Reads "KIND:NEXTHOP". */
bool probe_target_parse(struct span text, struct probe *out);

/* "TARGET<TAB>SENDER<TAB>RECIPIENT" */
void probe_key(struct buf *out, struct span target, struct span sender, struct span recipient);
bool probe_key_parse(struct span text, struct probe *out);

void probe_answer(struct buf *out, int code, const char *enhanced, const char *text);

/* The texts lie in the arena. */
bool probe_answer_parse(struct span text, struct arena *memory, struct smtp_reply *out);

#endif
