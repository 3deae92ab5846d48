/* config - one whole configuration: parameters, tables, policy, certificates; immutable, shared.
 * Life:   config_load() reads main.cf and opens all tables (blocks: start-up or a work thread);
 *         config_hold() and config_release() count references, from any thread. A session keeps
 *         the one it began with across a reload.
 * Errors: everything wrong is in problems, with file and line; with an error in it the
 *         configuration must not be used.
 * Load:   two sets of values: normal, and under stress (${stress?{..}:{..}}). */
#ifndef POSTERN_CONFIG_H
#define POSTERN_CONFIG_H

#include "policy/policy.h"
#include "server/main_cf.h"

#include <stdatomic.h>

struct tls_config;
struct listener_spec;

struct config {
    atomic_int references;
    char *file, *base_dir; /* owns: absolute; relative names are relative to base_dir */
    char **settings;       /* owns: "name=value" of the command line, for the next reload too */
    size_t setting_count;
    struct main_cf cf;     /* owns */
    struct arena memory;   /* owns: expanded values and what is compiled from them */
    struct params params;          /* values now */
    struct params stressed_params; /* values under load */
    struct maps *maps;             /* owns */
    struct policy *policy;         /* owns */
    struct tls_config *tls;        /* owns: NULL without certificate */
    struct listener_spec *listeners;
    size_t listener_count;
    struct match_list xclient_hosts, bare_newline_exclusions, event_limit_exceptions,
        forbidden_commands;
    struct map_list discard_ehlo_maps;
    unsigned discard_ehlo;
    bool smtputf8_ok; /* every configured backend can take it */
};

/* text NULL: read the file. Never NULL; see problems->error_count. */
struct config *config_load(const char *file, const char *text, struct problems *problems);
struct config *config_hold(struct config *config);
void config_release(struct config *config);

/* Values may be set by hand before anything is compiled ("--set"). */
struct config *config_load_with(const char *file, const char *text, const char *const *settings,
                                size_t setting_count, struct problems *problems);

/* Adds what is risky on this machine alone; all else about a configuration is in its text. */
void config_lint_host(const struct config *config, struct problems *problems);

/* Only the values and the endpoints, nothing is opened but the file: policy and tls stay NULL. */
struct config *config_load_values(const char *file, const char *const *settings,
                                  size_t setting_count, struct problems *problems);

static inline const struct params *config_params(const struct config *config, bool is_stressed)
{
    return is_stressed ? &config->stressed_params : &config->params;
}

/* The expanded value of any parameter, in *room; "" if there is none. */
const char *config_expanded(struct config *config, const char *name, struct buf *room);

/* Keyword bits of a list such as smtpd_discard_ehlo_keywords. */
unsigned config_ehlo_mask(const char *list);

/* Writes the problems to a stream, "file:line: error: parameter: text"; resolves where the
 * parameters stand. */
void config_print_problems(const struct config *config, const struct problems *problems,
                           void *stream);

#endif
