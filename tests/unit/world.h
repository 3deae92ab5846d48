/* world - a whole configuration out of main.cf text, for tests of what is compiled from it.
 * Owns:   the configuration. Files of the text are relative to /.
 * Thread: the test's. */
#ifndef POSTERN_TEST_WORLD_H
#define POSTERN_TEST_WORLD_H

#include "policy/eval.h"
#include "policy/policy.h"
#include "server/config.h"

#include <criterion/criterion.h>
#include <stdarg.h>

struct world {
    struct problems problems;
    struct config *config;
    const struct policy *policy;
};

/* The domains and users of the spec's measurements (Appendix A), and a place for their mail. */
#define WORLD_BASE                                                                        \
    "myhostname = mx.example.org\n"                                                       \
    "myorigin = example.org\n"                                                            \
    "mydestination = example.org, localhost\n"                                            \
    "local_recipient_maps = inline:{ alice@example.org=x, bob@example.org=x }\n"          \
    "virtual_mailbox_domains = vmbox.test\n"                                              \
    "virtual_mailbox_maps = inline:{ carol@vmbox.test=carol/, alice@example.org=alice/,"  \
    " bob@example.org=bob/ }\n"                                                           \
    "virtual_alias_domains = valias.test\n"                                               \
    "virtual_alias_maps = inline:{ dave@valias.test=alice@example.org }\n"                \
    "relay_domains = relay.test\n"                                                        \
    "relay_recipient_maps = inline:{ erin@relay.test=x }\n"                               \
    "relay_transport = smtp:[127.0.0.1]:2525\n"                                           \
    "recipient_delimiter = +\n"                                                           \
    "mynetworks = 127.0.0.0/8\n"                                                          \
    "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n"

/* The configuration of text, whatever is wrong with it. */
static inline struct world world_try(const char *text)
{
    struct world w = { 0 };
    w.config = config_load("/main.cf", text, &w.problems);
    w.policy = w.config->policy;
    return w;
}

/* The same behind the base; lines of text win over it. It must have no error. */
static inline struct world world_of(const char *text)
{
    struct buf all = { 0 };
    buf_printf(&all, "%s%s", WORLD_BASE, text);
    struct world w = world_try(buf_text(&all));
    buf_fini(&all);
    for (const struct problem *p = w.problems.first; p != NULL; p = p->next)
        cr_assert_neq(p->level, PROBLEM_ERROR, "%s: %s", p->subject, p->text);
    return w;
}

static inline void world_fini(struct world *w)
{
    config_release(w->config);
    problems_fini(&w->problems);
}

/* How many problems of this level are about this parameter and contain these words. */
static inline int world_said(const struct world *w, enum problem_level level,
                             const char *subject, const char *words)
{
    int n = 0;
    for (const struct problem *p = w->problems.first; p != NULL; p = p->next)
        n += p->level == level && strcmp(p->subject, subject) == 0
             && strstr(p->text, words) != NULL;
    return n;
}

#endif
