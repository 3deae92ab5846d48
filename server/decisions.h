/* decisions - one record for each decision about a recipient, in a bounded ring on disk
 * (data_directory/decisions), so that "postern explain REFERENCE" can replay it.
 * File:   a header page, then decision_records slots of DECISION_SLOT_BYTES; the newest record
 *         takes the place of the oldest. A record is text: lines "name<TAB>value", and
 *         "fact<TAB>KIND<TAB>question<TAB>answer" for what was known; what does not fit is left out.
 * Reference: the record's number in base 32 without letters that look alike.
 * Order:  records gather in memory and are written together on a work thread, at most a second
 *         later and without fsync: a crash loses the last ones, and no mail waits for them.
 * Bounds: DECISIONS_PENDING_MAX bytes wait; more are dropped, their references lead nowhere.
 * Thread: decisions_put() and decisions_flush() any loop; decisions_read() the command line. */
#ifndef POSTERN_DECISIONS_H
#define POSTERN_DECISIONS_H

#include "server/smtpd.h"

enum { DECISION_SLOT_BYTES = 4096, DECISION_REFERENCE_MAX = 16, DECISIONS_PENDING_MAX = 4 << 20 };

struct decisions;
struct loop;

/* NULL and *error == NULL: none are kept (decision_records = 0). */
struct decisions *decisions_open(const struct params *params, const char **error);
void decisions_free(struct decisions *all); /* after the loops have ended */

/* Keeps the decision in d->run.out; its reference goes to reference. */
void decisions_put(struct decisions *all, struct smtpd *d, enum verdict verdict,
                   char reference[DECISION_REFERENCE_MAX]);

/* Once a second. */
void decisions_flush(struct decisions *all, struct loop *loop);

/* The record of that reference as text. NULL, or why there is none. */
const char *decisions_read(const struct params *params, const char *reference, struct buf *out);
bool decisions_is_reference(const char *text);

/* "%XX" for what would end a field; and back, in place. */
void decisions_escape(struct buf *out, struct span text);
size_t decisions_unescape(char *text);

#endif
