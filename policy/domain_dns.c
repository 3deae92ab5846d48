#include "policy/domain_dns.h"

/* The null MX of RFC 7505: one record, preference 0, host ".". */
static bool is_null_mx(const struct fact *mx)
{
    struct span value = mx->value, record;
    return mx->status == FACT_FOUND && record_next(&value, &record) && value.len == 0
           && record.len == 2;
}

static enum domain_state state_of(const struct fact *fact)
{
    switch (fact->status) {
    case FACT_FOUND: return DOMAIN_FOUND;
    case FACT_NOT_FOUND: return DOMAIN_NOT_FOUND;
    case FACT_TEMPFAIL: return DOMAIN_TEMPFAIL;
    case FACT_BROKEN: break;
    }
    return DOMAIN_MALFORMED;
}

/* What is known less surely wins when nothing was found: temporary before not found. */
static enum domain_state worse(enum domain_state a, enum domain_state b)
{
    return a > b ? a : b;
}

static enum domain_state ask_in_turn(struct eval *e, enum scope scope, struct span name,
                                     const enum fact_kind kinds[3], bool is_for_mail)
{
    enum domain_state state = DOMAIN_NOT_FOUND;
    for (size_t i = 0; i < 3; i++) {
        const struct fact *fact = eval_dns(e, kinds[i], scope, name);
        if (fact == NULL)
            return DOMAIN_PENDING;
        enum domain_state one = state_of(fact);
        if (is_for_mail && kinds[i] == FACT_MX && is_null_mx(fact))
            return DOMAIN_NULL_MX;
        if (one == DOMAIN_FOUND || (is_for_mail && one == DOMAIN_MALFORMED))
            return one;
        state = worse(state, one);
    }
    return state;
}

enum domain_state domain_for_mail(struct eval *e, enum scope scope, struct span domain)
{
    static const enum fact_kind kinds[3] = { FACT_MX, FACT_A, FACT_AAAA };
    return ask_in_turn(e, scope, domain, kinds, true);
}

enum domain_state domain_for_host(struct eval *e, enum scope scope, struct span name)
{
    static const enum fact_kind kinds[3] = { FACT_A, FACT_AAAA, FACT_MX };
    return ask_in_turn(e, scope, name, kinds, false);
}
