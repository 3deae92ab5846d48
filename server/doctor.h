/* doctor - what "postern doctor" finds, and how it asks (command_doctor.c).
 * Thread: main. */
#ifndef POSTERN_DOCTOR_H
#define POSTERN_DOCTOR_H

#include "policy/fact.h"
#include "server/dns.h"

#include <uv.h>

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD, DOCTOR_LEVELS };

struct doctor {
    struct config *config;
    uv_loop_t uv;
    struct dns *dns;
    int counts[DOCTOR_LEVELS];
};

struct doctor_answer {
    enum fact_status status;
    struct buf value; /* owns: records */
    bool is_there;
};

void doctor_title(struct doctor *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One finding; why it matters and what to do are shown unless all is well. */
void doctor_say(struct doctor *d, enum doctor_level level, const char *why, const char *todo,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Waits for the answer; out->value is filled anew. */
void doctor_ask(struct doctor *d, enum fact_kind kind, const char *name,
                struct doctor_answer *out);

#endif
