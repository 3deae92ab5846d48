#include "policy/restriction.h"
#include "protocol/mem.h"

#define NO_SASL "there is no SASL here: it never matches"
#define NO_CERT "client certificates are not looked at"
#define HOSTS(name, about, kind, words, marks) \
    { name, ARG_MAP, check_host_access, words, .subject = about, .detail = kind, .flags = marks }
#define LIST(name, about, words) \
    { name, ARG_DNSBL, check_rbl, words, .subject = about, .wants = wants_rbl }

const struct restriction restrictions[] = {
    /* name, argument, check, text */
    { "permit", ARG_NONE, check_permit, "permit", .flags = RESTRICTION_PERMITS },
    { "reject", ARG_NONE, check_reject, "refuse with reject_code" },
    { "defer", ARG_NONE, check_defer, "refuse for now with defer_code" },
    { "defer_if_permit", ARG_NONE, check_defer_if_permit, "450 if nothing else refuses" },
    { "defer_if_reject", ARG_NONE, check_defer_if_reject, "450 instead of a later 5xx" },
    { "sleep", ARG_NUMBER, check_sleep, "wait so many seconds" },
    { "reject_unauth_pipelining", ARG_NONE, check_unauth_pipelining,
      "refuse clients that talked out of turn" },
    { "reject_plaintext_session", ARG_NONE, check_plaintext_session, "refuse without TLS" },
    { "check_policy_service", ARG_SERVER, check_policy_service, "ask a policy server",
      .flags = RESTRICTION_PERMITS },

    { "check_greylist", ARG_NONE, check_greylist,
      "ask strangers to come again; see the greylist_ parameters" },

    { "check_spf", ARG_NONE, check_spf,
      "add Authentication-Results: and Received-SPF:; see the spf_ parameters" },
    { "reject_spf_fail", ARG_NONE, check_spf_fail,
      "refuse clients that the SPF record of sender or HELO name forbids" },
    { "reject_spf_softfail", ARG_NONE, check_spf_softfail,
      "refuse clients that such a record rather does not want" },
    { "reject_spf_permerror", ARG_NONE, check_spf_permerror,
      "refuse senders and HELO names whose SPF record is wrong" },
    { "defer_spf_temperror", ARG_NONE, check_spf_temperror,
      "451 if an SPF record cannot be looked up now" },

    { "permit_mynetworks", ARG_NONE, check_mynetworks, "permit clients in mynetworks",
      .flags = RESTRICTION_PERMITS },
    { "permit_inet_interfaces", ARG_NONE, check_inet_interfaces, "permit this host",
      .flags = RESTRICTION_PERMITS },
    { "reject_unknown_client_hostname", ARG_NONE, check_unknown_client,
      "refuse clients without a confirmed name" },
    { "reject_unknown_reverse_client_hostname", ARG_NONE, check_unknown_reverse_client,
      "refuse clients without a PTR name" },
    { "reject_unknown_forward_client_hostname", ARG_NONE, check_unknown_forward_client,
      "refuse clients whose PTR name has no address at all" },
    { "check_client_access", ARG_MAP, check_access, "table by client name and address",
      .subject = SUBJECT_CLIENT, .flags = RESTRICTION_PERMITS },
    { "check_reverse_client_hostname_access", ARG_MAP, check_access,
      "table by PTR name and address", .subject = SUBJECT_REVERSE_CLIENT,
      .flags = RESTRICTION_NO_PERMIT },
    HOSTS("check_client_mx_access", SUBJECT_CLIENT, FACT_MX,
          "table by the mail hosts of the client's name", RESTRICTION_NO_PERMIT),
    HOSTS("check_client_ns_access", SUBJECT_CLIENT, FACT_NS,
          "table by the name servers of the client's name", RESTRICTION_NO_PERMIT),
    HOSTS("check_client_a_access", SUBJECT_CLIENT, FACT_A,
          "table by the addresses of the client's name", RESTRICTION_NO_PERMIT),
    HOSTS("check_reverse_client_hostname_mx_access", SUBJECT_REVERSE_CLIENT, FACT_MX,
          "table by the mail hosts of the PTR name", RESTRICTION_NO_PERMIT),
    HOSTS("check_reverse_client_hostname_ns_access", SUBJECT_REVERSE_CLIENT, FACT_NS,
          "table by the name servers of the PTR name", RESTRICTION_NO_PERMIT),
    HOSTS("check_reverse_client_hostname_a_access", SUBJECT_REVERSE_CLIENT, FACT_A,
          "table by the addresses of the PTR name", RESTRICTION_NO_PERMIT),

    { "reject_invalid_helo_hostname", ARG_NONE, check_invalid_helo, "refuse malformed HELO names" },
    { "reject_non_fqdn_helo_hostname", ARG_NONE, check_non_fqdn_helo,
      "refuse HELO names without a dot" },
    { "reject_unknown_helo_hostname", ARG_NONE, check_unknown_helo,
      "refuse HELO names without A, AAAA or MX" },
    { "check_helo_access", ARG_MAP, check_access, "table by HELO name",
      .subject = SUBJECT_HELO, .flags = RESTRICTION_PERMITS },
    HOSTS("check_helo_mx_access", SUBJECT_HELO, FACT_MX,
          "table by the mail hosts of the HELO name", RESTRICTION_NO_PERMIT),
    HOSTS("check_helo_ns_access", SUBJECT_HELO, FACT_NS,
          "table by the name servers of the HELO name", RESTRICTION_NO_PERMIT),
    HOSTS("check_helo_a_access", SUBJECT_HELO, FACT_A,
          "table by the addresses of the HELO name", RESTRICTION_NO_PERMIT),

    { "reject_non_fqdn_sender", ARG_NONE, check_non_fqdn_address,
      "refuse senders without a full domain", .subject = SUBJECT_SENDER },
    { "reject_unknown_sender_domain", ARG_NONE, check_unknown_domain,
      "refuse senders whose domain has no MX, A or AAAA", .subject = SUBJECT_SENDER },
    { "reject_unlisted_sender", ARG_NONE, check_unlisted_sender,
      "refuse senders in our domains that do not exist" },
    { "reject_unverified_sender", ARG_NONE, check_unverified,
      "refuse senders that their own mail hosts refuse; see the address_verify_ parameters",
      .subject = SUBJECT_SENDER },
    { "check_sender_access", ARG_MAP, check_access, "table by sender",
      .subject = SUBJECT_SENDER, .flags = RESTRICTION_PERMITS },
    HOSTS("check_sender_mx_access", SUBJECT_SENDER, FACT_MX,
          "table by the mail hosts of the sender's domain", RESTRICTION_NO_PERMIT),
    HOSTS("check_sender_ns_access", SUBJECT_SENDER, FACT_NS,
          "table by the name servers of the sender's domain", RESTRICTION_NO_PERMIT),
    HOSTS("check_sender_a_access", SUBJECT_SENDER, FACT_A,
          "table by the addresses of the sender's domain", RESTRICTION_NO_PERMIT),

    { "reject_unauth_destination", ARG_NONE, check_unauth_destination,
      "refuse recipients that are not ours" },
    { "defer_unauth_destination", ARG_NONE, check_defer_unauth_destination,
      "the same with a 4xx code" },
    { "permit_auth_destination", ARG_NONE, check_auth_destination, "permit recipients of ours",
      .flags = RESTRICTION_PERMITS },
    { "reject_unlisted_recipient", ARG_NONE, check_unlisted_recipient, "refuse unknown users" },
    { "reject_non_fqdn_recipient", ARG_NONE, check_non_fqdn_address,
      "refuse recipients without a full domain", .subject = SUBJECT_RECIPIENT },
    { "reject_unknown_recipient_domain", ARG_NONE, check_unknown_domain,
      "refuse recipients whose domain has no MX, A or AAAA", .subject = SUBJECT_RECIPIENT },
    { "reject_unverified_recipient", ARG_NONE, check_unverified,
      "refuse recipients that the next hop refuses; see the address_verify_ parameters",
      .subject = SUBJECT_RECIPIENT },
    { "reject_multi_recipient_bounce", ARG_NONE, check_multi_recipient_bounce,
      "refuse bounces to several recipients" },
    { "check_recipient_access", ARG_MAP, check_access, "table by recipient",
      .subject = SUBJECT_RECIPIENT, .flags = RESTRICTION_PERMITS },
    HOSTS("check_recipient_mx_access", SUBJECT_RECIPIENT, FACT_MX,
          "table by the mail hosts of the recipient's domain", RESTRICTION_NO_PERMIT),
    HOSTS("check_recipient_ns_access", SUBJECT_RECIPIENT, FACT_NS,
          "table by the name servers of the recipient's domain", RESTRICTION_NO_PERMIT),
    HOSTS("check_recipient_a_access", SUBJECT_RECIPIENT, FACT_A,
          "table by the addresses of the recipient's domain", RESTRICTION_NO_PERMIT),

    LIST("reject_rbl_client", SUBJECT_CLIENT, "refuse client addresses in a DNS list"),
    LIST("reject_rhsbl_client", SUBJECT_CLIENT, "refuse client names in a DNS list"),
    LIST("reject_rhsbl_reverse_client", SUBJECT_REVERSE_CLIENT, "refuse PTR names in a DNS list"),
    LIST("reject_rhsbl_helo", SUBJECT_HELO, "refuse HELO names in a DNS list"),
    LIST("reject_rhsbl_sender", SUBJECT_SENDER, "refuse sender domains in a DNS list"),
    LIST("reject_rhsbl_recipient", SUBJECT_RECIPIENT, "refuse recipient domains in a DNS list"),
    { "permit_dnswl_client", ARG_DNSBL, check_dnswl, "permit client addresses in a DNS list",
      .subject = SUBJECT_CLIENT, .flags = RESTRICTION_PERMITS | RESTRICTION_IS_ALLOWLIST },
    { "permit_rhswl_client", ARG_DNSBL, check_dnswl, "permit client names in a DNS list",
      .subject = SUBJECT_CLIENT, .flags = RESTRICTION_PERMITS | RESTRICTION_IS_ALLOWLIST },

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

/* Names of old that Postfix still takes. */
static const struct {
    const char *old, *new;
} aliases[] = {
    { "check_recipient_maps", "reject_unlisted_recipient" },
    { "reject_unknown_client", "reject_unknown_client_hostname" },
    { "reject_invalid_hostname", "reject_invalid_helo_hostname" },
    { "reject_non_fqdn_hostname", "reject_non_fqdn_helo_hostname" },
    { "reject_unknown_hostname", "reject_unknown_helo_hostname" },
    { "reject_unknown_address", "reject_unknown_sender_domain" },
    { "reject_rbl", "reject_rbl_client" },
};

const struct restriction restriction_class_row = { "class", ARG_NONE, check_class, "a list" };

/* A bare "type:name": the list's own look-up. */
const struct restriction restriction_table_row = { "table", ARG_MAP, check_access,
                                                   "the list's own table look-up",
                                                   .subject = SUBJECT_LIST,
                                                   .flags = RESTRICTION_PERMITS };

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

void restriction_try_nearest(struct nearest *nearest)
{
    for (size_t i = 0; i < restriction_count; i++)
        nearest_try(nearest, restrictions[i].name);
}
