#include "server/smtpd.h"
#include "server/stats.h"
#include "protocol/mem.h"
#include "server/clients.h"

#include <stdlib.h>

void smtpd_init(struct smtpd *d, struct config *config, struct smtpd_services *services,
                const struct ip *client, uint16_t client_port, const struct ip *server,
                uint16_t server_port, uint64_t number)
{
    *d = (struct smtpd){ .config = config_hold(config), .services = services,
                         .number = number, .client_ip = *client };
    smtp_session_init(&d->smtp, config_params(config, services->is_stressed));
    smtp_peer_init(&d->smtp.peer, client, client_port, server, server_port);
    stats_add(services->stats, STAT_CONNECTIONS, 1);
}

static void forget_tls(struct smtpd *d)
{
    free(d->tls_text);
    free(d->tls_protocol);
    free(d->tls_cipher);
    free(d->tls_sni);
}

void smtpd_fini(struct smtpd *d)
{
    smtpd_drop_message(d);
    smtp_session_fini(&d->smtp);
    policy_run_fini(&d->run);
    facts_fini(&d->facts);
    for (enum stage stage = STAGE_CONNECT; stage <= STAGE_MAIL; stage++)
        arena_fini(&d->raised[stage].memory);
    arena_fini(&d->answer_memory);
    buf_fini(&d->rescue);
    forget_tls(d);
    config_release(d->config);
}

void smtpd_answer(struct smtpd *d, const struct smtp_reply *reply)
{
    arena_fini(&d->answer_memory);
    d->answer = (struct smtp_reply){ .code = reply->code };
    if (reply->code != 0) {
        d->answer.enhanced = arena_text(&d->answer_memory, span_of(reply->enhanced));
        d->answer.text = arena_text(&d->answer_memory, span_of(reply->text));
    }
    d->has_answer = true;
    d->is_waiting = false;
}

static void on_reset(struct smtpd *d)
{
    smtpd_drop_message(d);
    facts_forget(&d->facts, SCOPE_SENDER);
}

static void log_refusal(struct smtpd *d)
{
    bool is_message = d->smtp.verb == SMTP_VERB_DATA || d->smtp.verb == SMTP_VERB_BDAT;
    smtpd_log_reply(d, is_message ? "END-OF-MESSAGE" : smtp_verbs[d->smtp.verb].name,
                    &d->smtp.refusal);
}

/* The machine's answer to its own question; then the transaction may be over. */
static void give_answer(struct smtpd *d, struct buf *out)
{
    bool was_commit = d->smtp.state == SMTP_STATE_COMMIT;
    d->has_answer = false;
    smtp_session_answer(&d->smtp, &d->answer, out);
    if (was_commit)
        on_reset(d);
}

/* Between commands a connection costs nothing but its struct. */
static void release_scratch(struct smtpd *d)
{
    arena_fini(&d->answer_memory);
    policy_run_fini(&d->run);
    if (d->rescue.at != NULL)
        buf_fini(&d->rescue);
}

enum smtpd_need smtpd_next(struct smtpd *d, struct span *in, struct buf *out)
{
    d->smtp.params = config_params(d->config, d->services->is_stressed);
    if (d->smtp.params->smtpd_reject_footer[0] != '\0')
        d->smtp.localtime = d->services->date(d->services);
    for (;;) {
        if (d->has_answer)
            give_answer(d, out);
        if (d->is_waiting)
            return SMTPD_WAIT;
        switch (smtp_session_next(&d->smtp, in, out)) {
        case SMTP_NEED_INPUT: release_scratch(d); return SMTPD_INPUT;
        case SMTP_NEED_VERDICT: smtpd_decide(d); break;
        case SMTP_BODY: smtpd_take_body(d, d->smtp.body, in); break;
        case SMTP_NEED_COMMIT: smtpd_commit(d); break;
        case SMTP_RESET: on_reset(d); break;
        case SMTP_REJECTED: log_refusal(d); break;
        case SMTP_SLEEP: return SMTPD_SLEEP;
        case SMTP_NEED_TLS: return SMTPD_TLS;
        case SMTP_CLOSE: return SMTPD_CLOSE;
        }
    }
}

void smtpd_learn(struct smtpd *d, const struct fact *fact)
{
    stats_fact(d->services->stats, fact);
    stats_dnslist(d->services->stats, d->config->policy, fact);
    if (d->run.facts != NULL) /* else: an answer that comes after XCLIENT, or too early */
        policy_learn(&d->run, fact);
}

void smtpd_secured(struct smtpd *d, const char *text, const char *sni)
{
    struct span rest = span_of(text), protocol = span_next_word(&rest), cipher, bits;
    uint64_t number = 0;
    forget_tls(d);
    span_next_word(&rest); /* "with" */
    span_next_word(&rest); /* "cipher" */
    cipher = span_next_word(&rest);
    bits = span_trim(rest);
    bits = span_skip(span_make(bits.at, span_find(bits, '/')), 1);
    span_to_u64(bits, 100000, &number);
    d->tls_text = xstrdup(text);
    stats_tls(d->services->stats, protocol);
    d->tls_protocol = xprintf("%.*s", (int)protocol.len, protocol.at);
    d->tls_cipher = xprintf("%.*s", (int)cipher.len, cipher.at);
    d->tls_sni = xstrdup(sni != NULL ? sni : "");
    d->tls_bits = (int)number;
    smtp_session_secured(&d->smtp);
    facts_forget(&d->facts, SCOPE_HELO);
}

bool smtpd_is_receiving(const struct smtpd *d)
{
    return d->smtp.state == SMTP_STATE_DATA || d->smtp.state == SMTP_STATE_BDAT;
}

void smtpd_closed(struct smtpd *d, const char *error)
{
    stats_session(d->services->stats, &d->smtp);
    smtpd_log_disconnect(d, error);
}
