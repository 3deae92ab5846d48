/* spf_library - one run of libspf2 over the facts: the only file that knows it (spf_library.c).
 * The library decides; but it never sees a byte of a stranger's. Debian's version can be overrun
 * by what stands in a record or an explanation, takes bad syntax for good, and counts look-ups
 * by include. So it is given records that are written here, out of checked terms (spf_gate.h):
 * fixed words, prefix lengths, and made-up names "n7.spf". Whatever it looks up under such a
 * name is answered here with what the term really says.
 * Pure:   see spf_layer.h.
 * Cost:   a server object of the library for each run; it has no state that could be kept.
 * Thread: any. */
#ifndef POSTERN_SPF_LIBRARY_H
#define POSTERN_SPF_LIBRARY_H

#include "policy/spf_gate.h"
#include "policy/spf_layer.h"

struct spf_name;

struct spf_library {
    struct spf_layer layer; /* e, scope and macros are the caller's to fill in */
    struct span exp;        /* domain-spec of the explanation that belongs to the result */
    const char *exp_domain; /* in whose record it stands */
    struct spf_name *names; /* in the outcome's memory */
    unsigned name_count;
};

/* check_host() of RFC 7208 for the record of that domain. Worthless if layer.is_pending. */
enum spf_result spf_library_run(struct spf_library *lib, const char *domain);

#endif
