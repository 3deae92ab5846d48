/* match_list - mydestination, mynetworks, *_domains and exclusion lists (spec 3.2, 3.5).
 * Items:  a domain or name, a network, "type:table", "/file", each with "!" in front to negate;
 *         from left to right the first match decides.
 * Parents: with is_parent_matching "example.com" means its subdomains too, without it
 *         ".example.com" means them; decided by parent_domain_matches_subdomains.
 * Owns:   its items, in the arena given to match_list_compile().
 * Errors: MATCH_ERROR when a table fails; a network with host bits or a file that cannot be
 *         read is an error when compiled.
 * Thread: reading any. */
#ifndef POSTERN_MATCH_LIST_H
#define POSTERN_MATCH_LIST_H

#include "policy/map.h"
#include "protocol/ip.h"

enum match { MATCH_NO, MATCH_YES, MATCH_ERROR, MATCH_PENDING };

struct match_item;

struct match_list {
    struct match_item *items;
    size_t count;
    bool is_parent_matching;
    bool is_exact; /* no subdomains at all, not even by a dot in front */
    const char *parameter;
    const char *text; /* lent: what it was compiled from */
};

struct match_source {
    struct maps *maps;
    const char *base_dir; /* of relative file names */
    const char *parent_domains; /* parent_domain_matches_subdomains */
    struct arena *memory;
    struct problems *problems;
    /* Many lists are "$mynetworks" by default: a text equal to this list's is not compiled
     * again, so that one mistake gives one message. NULL: none. */
    const struct match_list *model;
};

void match_list_compile(struct match_list *list, const char *text, const char *parameter,
                        const struct match_source *source);

/* Is this parameter one of parent_domain_matches_subdomains? */
bool match_list_has_parents(const char *list, const char *parameter);

/* A domain or any other word. */
enum match match_list_word(const struct match_list *list, const struct map_reader *reader,
                           struct span word);

/* A client: by name (may be "unknown") and by address. */
enum match match_list_host(const struct match_list *list, const struct map_reader *reader,
                           struct span name, const struct ip *ip);

/* The networks in the list, for checks that ask what it covers. */
bool match_list_covers(const struct match_list *list, const struct ip *ip);

/* A warning for each word that stands in both. */
void match_list_report_common(const struct match_list *a, const struct match_list *b,
                              struct problems *problems);

#endif
