/* check_policy_service: the request of Postfix's policy delegation protocol, and what comes back
 * (spec 11.2). The exchange itself is a fact: it happens once for each time the list asks. */
#include "policy/access.h"
#include "policy/policy_server.h"
#include "policy/restriction.h"
#include "protocol/text.h"

static const char *state_name(enum stage stage)
{
    static const char *const names[] = {
        [STAGE_CONNECT] = "CONNECT", [STAGE_HELO] = "HELO", [STAGE_MAIL] = "MAIL",
        [STAGE_RCPT] = "RCPT",       [STAGE_VRFY] = "VRFY", [STAGE_DATA] = "DATA",
        [STAGE_END_OF_DATA] = "END-OF-MESSAGE",
    };
    return names[stage];
}

/* Values must not hold line ends: that is all the protocol's framing is. */
static void put(struct buf *out, const char *name, struct span value)
{
    buf_printf(out, "%s=", name);
    text_escape(out, value, 2000);
    buf_putc(out, '\n');
}

static void put_text(struct buf *out, const char *name, const char *value)
{
    put(out, name, span_of(value));
}

static void put_number(struct buf *out, const char *name, unsigned long long value)
{
    buf_printf(out, "%s=%llu\n", name, value);
}

static void put_client(struct buf *out, const struct envelope_in *in)
{
    const struct smtp_peer *peer = in->peer;
    char server[IP_TEXT_MAX];
    put_text(out, "client_address", peer->address);
    put_text(out, "client_name", peer->name);
    put_number(out, "client_port", peer->port);
    put_text(out, "reverse_client_name", peer->reverse_name);
    put_text(out, "server_address", ip_text(&peer->server_ip, server));
    put_number(out, "server_port", peer->server_port);
}

static void put_message(struct buf *out, const struct envelope_in *in)
{
    put_text(out, "helo_name", in->helo);
    put(out, "sender", in->sender);
    put(out, "recipient", in->recipient);
    put_number(out, "recipient_count",
               in->stage >= STAGE_DATA ? (unsigned)in->recipient_count : 0);
    put_text(out, "queue_id", in->queue_id);
    put_text(out, "instance", in->has_sender ? in->instance : "");
    put_number(out, "size", in->size_bytes);
    put_text(out, "etrn_domain", "");
    put_text(out, "stress", in->is_stressed ? "yes" : "");
}

/* There is no SASL and no client certificate; the attributes are sent empty, as servers expect
 * all of them. */
static void put_security(struct buf *out, const struct envelope_in *in,
                         const struct policy_server *server)
{
    static const char *const empty[] = { "sasl_method", "sasl_username", "sasl_sender",
                                         "ccert_subject", "ccert_issuer", "ccert_fingerprint",
                                         "ccert_pubkey_fingerprint" };
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++)
        put_text(out, empty[i], "");
    put_text(out, "encryption_protocol", in->tls_protocol);
    put_text(out, "encryption_cipher", in->tls_cipher);
    put_number(out, "encryption_keysize", (unsigned)in->tls_bits);
    put_text(out, "tls_sni", in->tls_sni);
    put_text(out, "policy_context", server->policy_context);
    put_text(out, "compatibility_level", "3.6");
    put_text(out, "mail_version", "3.12");
}

static void write_request(const struct eval *e, const struct policy_server *server,
                          struct buf *out)
{
    const struct envelope_in *in = e->in;
    const char *state = in->stage == STAGE_HELO && in->is_ehlo ? "EHLO" : state_name(in->stage);
    put_text(out, "request", "smtpd_access_policy");
    put_text(out, "protocol_state", state);
    put_text(out, "protocol_name", in->protocol);
    put_client(out, in);
    put_message(out, in);
    put_security(out, in, server);
    buf_putc(out, '\n');
}

/* The server could not be asked, or said nothing that can be used. */
static enum verdict default_action(struct eval *e, const struct policy_server *server)
{
    eval_note(e, "warning", "problem talking to server %s", server->argument);
    return access_apply(e, span_of(server->default_action), SUBJECT_LIST, server->argument);
}

enum verdict check_policy_service(struct eval *e, const struct rule *r)
{
    struct buf request = { 0 };
    write_request(e, r->server, &request);
    const struct fact *answer = eval_need(e, FACT_POLICY, SCOPE_RCPT, r->server,
                                          buf_span(&request));
    buf_fini(&request);
    if (answer == NULL)
        return VERDICT_PENDING;
    if (answer->status != FACT_FOUND || span_trim(answer->value).len == 0)
        return default_action(e, r->server);
    return access_apply(e, answer->value, SUBJECT_LIST, r->server->argument);
}
