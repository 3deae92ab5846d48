/* dnsbl_guard - the self-test of the configured DNS lists (RFC 5782 5, 6): at start, after a
 * reload, and once an hour.
 * A list of addresses that lists 127.0.0.1, or answers and does not list 127.0.0.2, and a list of
 * names that lists INVALID, is suspended: its rules say nothing until a later test passes. (Few
 * lists of names keep the TEST entry, so its absence means nothing.) A list that cannot be asked
 * stays as it was.
 * Thread: the main loop's. */
#ifndef POSTERN_DNSBL_GUARD_H
#define POSTERN_DNSBL_GUARD_H

#include "server/config.h"
#include "server/dns.h"
#include "server/log.h"

/* Asks for every list of the configuration; the log tells what changes. */
void dnsbl_guard_run(struct dns *dns, struct config *config, struct log *log);

#endif
