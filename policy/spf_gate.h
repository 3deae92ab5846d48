/* spf_gate - an SPF record, read strictly (RFC 7208 4.5, 4.6, 12), into terms.
 * Nothing of a stranger's text goes further than this as text to parse: libspf2 gets a record
 * that spf_library.c writes from these terms, for it takes much that is no SPF record, and its
 * compiler can be overrun.
 * Owns:   nothing; terms stand in the caller's arena, spans point into the text.
 * Thread: any. */
#ifndef POSTERN_SPF_GATE_H
#define POSTERN_SPF_GATE_H

#include "policy/fact.h"
#include "protocol/ip.h"

enum { SPF_SPEC_MAX = 1000 }; /* bytes of a domain-spec */

enum spf_mechanism { SPF_ALL, SPF_INCLUDE, SPF_A, SPF_MX, SPF_PTR, SPF_IP4, SPF_IP6, SPF_EXISTS };

struct spf_term {
    struct spf_term *next;
    enum spf_mechanism mechanism;
    char qualifier;            /* '+', '-', '~' or '?' */
    struct span spec;          /* domain-spec; empty: the domain at hand */
    struct ip network;         /* ip4, ip6 */
    unsigned v4_bits, v6_bits; /* prefix lengths of a, mx, ip4, ip6 */
};

struct spf_record {
    struct spf_term *first;
    bool has_all;
    struct span redirect, exp; /* domain-specs; empty: none */
};

enum spf_selection { SPF_NO_RECORD, SPF_ONE_RECORD, SPF_MANY_RECORDS };

/* The SPF record among the TXT records. */
enum spf_selection spf_select(const struct fact *txt, struct span *record);

/* NULL, or what is wrong with it, in a few words. */
const char *spf_parse(struct arena *memory, struct span text, struct spf_record *out);

#endif
