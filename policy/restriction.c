#include "policy/restriction.h"
#include "protocol/mem.h"
#include "policy/nearest.h"

#define NO_SASL "there is no SASL here: it never matches"
#define NO_CERT "client certificates are not looked at"
#define SOON    "not served yet"

const struct restriction restrictions[] = {
    /* name                            argument    check                  text */
    { "permit", ARG_NONE, check_permit, "permit" },
    { "reject", ARG_NONE, check_reject, "refuse with reject_code" },
    { "defer", ARG_NONE, check_defer, "refuse for now with defer_code" },
    { "defer_if_permit", ARG_NONE, check_defer_if_permit, "450 if nothing else refuses" },
    { "defer_if_reject", ARG_NONE, check_defer_if_reject, "450 instead of a later 5xx" },
    { "permit_mynetworks", ARG_NONE, check_mynetworks, "permit clients in mynetworks" },
    { "permit_inet_interfaces", ARG_NONE, check_inet_interfaces, "permit this host" },
    { "reject_unauth_pipelining", ARG_NONE, check_unauth_pipelining,
      "refuse clients that talked out of turn" },
    { "reject_plaintext_session", ARG_NONE, check_plaintext_session, "refuse without TLS" },
    { "reject_unauth_destination", ARG_NONE, check_unauth_destination,
      "refuse recipients that are not ours" },
    { "defer_unauth_destination", ARG_NONE, check_defer_unauth_destination,
      "the same with a 4xx code" },
    { "permit_auth_destination", ARG_NONE, check_auth_destination, "permit recipients of ours" },
    { "reject_unlisted_recipient", ARG_NONE, check_unlisted_recipient, "refuse unknown users" },
    { "reject_unlisted_sender", ARG_NONE, check_unlisted_sender,
      "refuse senders in our domains that do not exist" },

    { "permit_sasl_authenticated", ARG_NONE, check_dunno, NO_SASL },
    { "reject_sender_login_mismatch", ARG_NONE, check_dunno, NO_SASL },
    { "reject_authenticated_sender_login_mismatch", ARG_NONE, check_dunno, NO_SASL },
    { "reject_unauthenticated_sender_login_mismatch", ARG_NONE, check_dunno, NO_SASL },
    { "reject_known_sender_login_mismatch", ARG_NONE, check_dunno, NO_SASL },

    { "check_ccert_access", ARG_MAP, NULL, NO_CERT },
    { "check_sasl_access", ARG_MAP, NULL, NO_SASL },
    { "permit_tls_clientcerts", ARG_NONE, NULL, NO_CERT },
    { "permit_tls_all_clientcerts", ARG_NONE, NULL, NO_CERT },
    { "permit_mx_backup", ARG_NONE, NULL, "deprecated: list the domains in relay_domains" },
    { "check_relay_domains", ARG_NONE, NULL, "removed: use reject_unauth_destination" },
    { "reject_maps_rbl", ARG_NONE, NULL, "removed: use reject_rbl_client" },
    { "permit_naked_ip_address", ARG_NONE, NULL, "removed: use permit_mynetworks" },
    { "check_etrn_access", ARG_MAP, NULL, "there is no ETRN here" },
};

const size_t restriction_count = ARRAY_LEN(restrictions);

static const struct {
    const char *old, *new;
} aliases[] = {
    { "check_recipient_maps", "reject_unlisted_recipient" },
};

const struct restriction restriction_class_row = { "class", ARG_NONE, check_class, "a list" };

const struct restriction *restriction_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        if (span_iequals(name, span_of(aliases[i].old)))
            name = span_of(aliases[i].new);
    for (size_t i = 0; i < restriction_count; i++)
        if (span_iequals(name, span_of(restrictions[i].name)))
            return &restrictions[i];
    return NULL;
}

const char *restriction_nearest(struct span name)
{
    struct nearest nearest = nearest_begin(name);
    for (size_t i = 0; i < restriction_count; i++)
        nearest_try(&nearest, restrictions[i].name);
    return nearest.best;
}

const struct restriction *restriction_for_table(enum list_name list)
{
    (void)list;
    return NULL;
}
