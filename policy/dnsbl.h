/* dnsbl - DNS block and allow lists: argument, answers, the guard, the words of a refusal
 * (spec 5; RFC 5782).
 * Argument: "domain" or "domain=d.d.d.d", where a field is a number or "[set]".
 * Guard:  with dns_list_guard, known error answers (127.255.255.252, .254, .255; 127.0.0.255) and
 *         answers outside 127/8 are no answer; a list that fails its self-test is suspended.
 * Thread: any; is_suspended is written by the server's self-test only. */
#ifndef POSTERN_DNSBL_H
#define POSTERN_DNSBL_H

#include "policy/fact.h"
#include "protocol/ip.h"

#include <stdatomic.h>

enum { DNSBL_RANGES_MAX = 16 };

/* The numbers that one field of a filter takes. */
struct dnsbl_field {
    struct {
        uint8_t low, high;
    } ranges[DNSBL_RANGES_MAX];
    int count;
};

struct dnsbl {
    struct dnsbl *next;   /* in policy->dnsbls */
    const char *argument; /* as written */
    const char *domain;   /* lower case */
    bool has_filter;
    struct dnsbl_field fields[4];
    int weight;           /* in dns_list_sites */
    bool is_by_name;      /* asked with names, not addresses: another self-test */
    atomic_bool is_suspended;
};

/* NULL, or what is wrong. Texts live in the arena. */
const char *dnsbl_parse(struct span argument, struct arena *memory, struct dnsbl *out);

enum dnsbl_answer { DNSBL_NO, DNSBL_YES, DNSBL_ERROR_ANSWER };

/* What the A records say; with the guard, *odd is the answer that was not believed. */
enum dnsbl_answer dnsbl_judge(const struct dnsbl *list, const struct fact *answer,
                              bool is_guarded, struct ip *odd);

#endif
