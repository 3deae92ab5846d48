/* smtp_path - the address argument of MAIL, RCPT and VRFY (RFC 5321 4.1.2, 4.1.3).
 * In:     the bytes after "FROM:" or "TO:"; a path in <> or, unless strict, a bare address.
 * Out:    the internal form: quotes and backslashes removed, a source route dropped, the case
 *         kept. The domain is what follows the last '@' outside quotes. Strings live in the
 *         arena.
 * Errors: false for anything that is not exactly one address: no or several addresses, an empty
 *         domain, a domain that is neither a host name nor a good literal, control octets,
 *         malformed UTF-8.
 * Thread: any. */
#ifndef POSTERN_SMTP_PATH_H
#define POSTERN_SMTP_PATH_H

#include "protocol/arena.h"
#include "protocol/buf.h"

struct smtp_path {
    struct span address; /* local@domain, local, or empty for <> ; NUL terminated */
    struct span local, domain; /* parts of address; domain is empty when has_domain is false */
    bool has_domain, is_ascii;
};

/* Cuts the path off *args: up to the first blank outside <> and quotes. */
struct span smtp_path_cut(struct span *args);

bool smtp_path_parse(struct span text, bool is_strict, struct arena *memory,
                     struct smtp_path *path);

/* Takes an address in internal form apart at its last '@'. */
struct smtp_path smtp_path_of(struct span address);

/* Copies what the path points to into other memory. */
void smtp_path_keep(struct smtp_path *path, struct arena *memory);

/* Appends the local part as it must stand in a header or a table key: quoted when needed. */
void smtp_path_quote_local(struct buf *out, struct span local);
bool smtp_path_needs_quotes(struct span local);

/* The whole address, local part quoted when needed. */
void smtp_path_quote(struct buf *out, struct span address);

#endif
