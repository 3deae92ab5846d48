/* route - from an accepted recipient to the mailboxes it stands for: virtual aliases are expanded,
 * and each address that comes out gets its transport and destination (spec 3, DESIGN 2).
 * Known at RCPT, so that what has nowhere to go is refused while the sender is there to hear it.
 * Owns:   nothing; targets live in the arena given.
 * Bounds: virtual_alias_expansion_limit addresses, virtual_alias_recursion_limit levels.
 * Thread: any. */
#ifndef POSTERN_ROUTE_H
#define POSTERN_ROUTE_H

#include "policy/policy.h"

struct target {
    struct target *next;
    struct span address;  /* final, internal form, lower case */
    struct span original; /* as the client gave it */
    struct transport transport;
    const char *mailbox;  /* TRANSPORT_VIRTUAL: directory relative to virtual_mailbox_base */
};

enum route_status {
    ROUTE_OK,
    ROUTE_PENDING,  /* a table's answer is being fetched */
    ROUTE_RETRY,    /* a table cannot answer now */
    ROUTE_BROKEN,   /* a table is unusable */
    ROUTE_TOO_LONG, /* the alias expands to too many addresses */
    ROUTE_NOT_OURS, /* the recipient is not ours, and no transport takes it elsewhere */
    ROUTE_OUTSIDE,  /* the same, for an address that one of our aliases leads to */
    ROUTE_UNKNOWN,  /* an address without mailbox */
    ROUTE_REFUSED,  /* error: transport; *text has its words */
};

enum route_status route_recipient(const struct policy *policy, const struct map_reader *reader,
                                  struct span recipient, struct arena *memory,
                                  struct target **targets, const char **text);

/* The transport of a resolved address, from transport_maps or of its class. */
enum route_status route_transport(const struct policy *policy, const struct map_reader *reader,
                                  const struct resolved *address, struct arena *memory,
                                  struct transport *out);

/* A path from a table may be used below the base: not absolute, no "..", no empty parts but a
 * trailing slash. */
bool mailbox_path_is_safe(struct span path);

#endif
