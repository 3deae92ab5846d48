/* recipient - what an address means here: its class, whether it exists, its keys in tables
 * (spec 3).
 * Owns:   struct domains owns nothing but pointers into the configuration's arena.
 * Shape:  addresses come in internal form (smtp_path.h); a resolved address is lower case, with
 *         one trailing dot removed, and site!user, user%domain and user@$myorigin rewritten.
 * Errors: MAP_RETRY, MAP_BROKEN and MAP_PENDING of the tables pass through.
 * Thread: any; results live in the arena given. */
#ifndef POSTERN_RECIPIENT_H
#define POSTERN_RECIPIENT_H

#include "policy/match_list.h"
#include "protocol/params.h"

enum address_class {
    ADDRESS_LOCAL,
    ADDRESS_VIRTUAL_ALIAS,
    ADDRESS_VIRTUAL_MAILBOX,
    ADDRESS_RELAY,
    ADDRESS_DEFAULT, /* not our mail */
};

struct domains {
    const struct params *params; /* shares */
    struct match_list mydestination, virtual_alias_domains, virtual_mailbox_domains,
        relay_domains;
    struct map_list local_recipient_maps, virtual_alias_maps, virtual_mailbox_maps,
        relay_recipient_maps;
    const struct ip *own_ips; /* shares: inet_interfaces and proxy_interfaces */
    size_t own_ip_count;
};

struct resolved {
    struct span address, local, domain; /* lower case; local with its extension */
    struct span user;                   /* local without extension */
    struct span extension;              /* with its delimiter; empty: none */
    enum address_class class;
    bool is_routed; /* an @, ! or % is left in the local part */
};

/* How an address was found, or not, in the tables of its class. */
struct listing {
    bool is_known;
    bool is_alias;     /* known, for it stands in virtual_alias_maps */
    int code;          /* not known: reply code and text of spec 3.6 */
    const char *text;
};

enum map_result recipient_resolve(const struct domains *d, const struct map_reader *reader,
                                  struct span address, struct arena *memory,
                                  struct resolved *out);

/* Looks the address r up under its keys of spec 3.7; *value gets what was found, *matched tells
 * whether the key held the extension. */
enum map_result recipient_find(const struct domains *d, const struct map_list *list,
                               const struct map_reader *reader, const struct resolved *r,
                               struct buf *value, bool *with_extension);

/* Is there such a user? MAP_FOUND: *out says. */
enum map_result recipient_listing(const struct domains *d, const struct map_reader *reader,
                                  const struct resolved *address, struct listing *out);

/* Local, alias or mailbox domain: nobody else is the destination. */
static inline bool address_class_is_final(enum address_class class)
{
    return class <= ADDRESS_VIRTUAL_MAILBOX;
}

/* postmaster in a domain of a final class, or of this host: it always exists (RFC 5321 4.5.1). */
bool recipient_is_postmaster(const struct domains *d, const struct resolved *address);

#endif
