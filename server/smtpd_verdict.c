/* The questions of the protocol machine, decided: limits, then policy, then the route of a
 * recipient. Every refusal is logged here, once. */
#include "policy/client_name.h"
#include "policy/probe.h"
#include "policy/verify.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/clients.h"
#include "server/crowd.h"
#include "server/smtpd.h"
#include "server/tls.h"

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static const struct smtp_reply yes = { 0 };

static const char *command_name(const struct smtpd *d)
{
    return d->smtp.ask == SMTP_ASK_CONNECT ? "CONNECT" : smtp_verbs[d->smtp.verb].name;
}

static void refuse(struct smtpd *d, const struct smtp_reply *reply)
{
    smtpd_log_reply(d, command_name(d), reply);
    smtpd_answer(d, reply);
}

/* ------------------------------------------------------------ features */

static unsigned discard_mask(struct smtpd *d)
{
    struct buf found = { 0 };
    unsigned mask = d->config->discard_ehlo;
    if (d->config->discard_ehlo_maps.count > 0
        && map_list_find(&d->config->discard_ehlo_maps, &map_reader_direct,
                         span_of(d->smtp.peer.address), true, &found) == MAP_FOUND)
        mask = config_ehlo_mask(buf_text(&found));
    buf_fini(&found);
    return mask;
}

static bool is_listed(struct smtpd *d, const struct match_list *list)
{
    const struct smtp_peer *peer = &d->smtp.peer;
    return list->count > 0
           && match_list_host(list, &map_reader_direct, span_of(peer->name), &peer->ip)
                  == MATCH_YES;
}

static void set_features(struct smtpd *d)
{
    const struct params *p = d->smtp.params;
    bool has_tls = d->config->tls != NULL;
    d->smtp.features = (struct smtp_features){
        .discard_ehlo = discard_mask(d),
        .starttls_ok = has_tls,
        .tls_required = has_tls && p->smtpd_tls_security_level == TLS_LEVEL_ENCRYPT,
        .smtputf8_ok = d->config->smtputf8_ok,
        .xclient_ok = is_listed(d, &d->config->xclient_hosts),
        .bare_newline_reject = p->smtpd_forbid_bare_newline == BARE_NEWLINE_REJECT
                               && !is_listed(d, &d->config->bare_newline_exclusions),
    };
}

/* ------------------------------------------------------------ policy */

/* What does not depend on the client is worth a line an hour, not one for each message. */
static bool is_news(struct smtpd_services *services, const char *text)
{
    uint64_t hash = span_hash(span_of(text));
    struct smtpd_warning *w = &services->warnings[hash % SMTPD_WARNINGS];
    if (w->hash == hash && services->now_ms - w->at_ms < SMTPD_WARN_EVERY_MS)
        return false;
    *w = (struct smtpd_warning){ hash, services->now_ms };
    return true;
}

/* May hold what a table, a name server or a policy server said. */
static void log_note(struct smtpd *d, const char *prefix, const char *text)
{
    struct buf line = { 0 };
    text_escape(&line, span_of(text), LOG_LINE_MAX);
    smtpd_log(d, "smtpd", "%s%s", prefix, buf_text(&line));
    buf_fini(&line);
}

static void log_notes(struct smtpd *d)
{
    for (const struct note *note = d->run.out.notes; note != NULL; note = note->next) {
        bool is_general = strcmp(note->tag, "general") == 0;
        if (is_general && !is_news(d->services, note->text))
            continue;
        if (strcmp(note->tag, "event") == 0)
            log_note(d, "", note->text);
        else if (is_general || strcmp(note->tag, "warning") == 0)
            log_note(d, "warning: ", note->text);
        else
            smtpd_log_reject(d, note->tag, command_name(d), note->text);
    }
}

static void set_raised(struct raised *to, const struct smtp_reply *reply)
{
    arena_fini(&to->memory);
    to->reply = (struct smtp_reply){ 0 };
    if (reply->code == 0)
        return;
    to->reply = (struct smtp_reply){ reply->code,
                                     arena_text(&to->memory, span_of(reply->enhanced)),
                                     arena_text(&to->memory, span_of(reply->text)) };
}

/* With delay_reject = no a flag raised early stays up for the recipients to come; another HELO or
 * MAIL begins with what was raised before it, so that the outer stages' texts are never copied
 * over themselves. */
static void keep_raised(struct smtpd *d)
{
    for (enum stage stage = d->run.in->stage; stage <= STAGE_MAIL; stage++)
        set_raised(&d->raised[stage], &d->run.out.raised);
}

static struct smtp_reply raised_before(const struct smtpd *d, enum stage stage)
{
    static const struct smtp_reply none = { 0 };
    enum stage before = stage <= STAGE_RCPT ? stage - 1 : STAGE_MAIL;
    return stage == STAGE_CONNECT ? none : d->raised[before].reply;
}

/* Texts of an accepted decision move into the transaction; the same text again is dropped
 * (spec 1.5). */
static void keep_texts(struct smtpd *d, const struct text_item *from, struct text_item **list)
{
    struct arena *memory = &d->smtp.mail.memory;
    for (; from != NULL; from = from->next) {
        struct text_item **at = list;
        while (*at != NULL && strcmp((*at)->text, from->text) != 0)
            at = &(*at)->next;
        if (*at != NULL)
            continue;
        *at = arena_alloc(memory, sizeof **at);
        (*at)->text = arena_text(memory, span_of(from->text));
    }
}

static void keep_effects(struct smtpd *d)
{
    const struct outcome *out = &d->run.out;
    if (!d->smtp.mail.is_open && d->run.in->stage != STAGE_MAIL) /* an accepted MAIL opens it */
        return;
    keep_texts(d, out->prepends, &d->prepends);
    keep_texts(d, out->bccs, &d->bccs);
    if (out->redirect != NULL) /* the last one counts */
        d->redirect = arena_text(&d->smtp.mail.memory, span_of(out->redirect));
    d->is_discard |= out->is_discard;
    d->is_hold |= out->is_hold;
}

static void on_accepted(struct smtpd *d)
{
    if (d->run.in->stage >= STAGE_MAIL)
        keep_effects(d);
    if (d->run.in->stage == STAGE_RCPT)
        smtpd_add_targets(d, &d->smtp.rcpt.params);
    if (d->run.in->stage == STAGE_END_OF_DATA)
        smtpd_deliver(d);
    else
        smtpd_answer(d, &yes);
}

static void on_verdict(struct policy_run *run, enum verdict verdict)
{
    struct smtpd *d = (struct smtpd *)(void *)((char *)run - offsetof(struct smtpd, run));
    if (d->services->decided != NULL)
        d->services->decided(d, verdict);
    log_notes(d);
    keep_raised(d);
    d->is_waiting = false;
    if (verdict != VERDICT_REJECT) {
        on_accepted(d);
        return;
    }
    if (run->in->stage == STAGE_RCPT && d->smtp.mail.is_open)
        d->is_discard |= run->out.is_discard; /* of the message, whoever of its recipients is put off */
    const char *command = run->in->stage == STAGE_END_OF_DATA ? "END-OF-MESSAGE"
                                                              : command_name(d);
    smtpd_log_reply(d, command, &run->out.reply);
    smtpd_answer(d, &run->out.reply);
}

static void on_ask(struct policy_run *run, const struct fact_key *key)
{
    struct smtpd *d = (struct smtpd *)(void *)((char *)run - offsetof(struct smtpd, run));
    d->services->ask(d, key);
}

static enum verdict refuse_route(struct smtpd *d, int code, const char *enhanced,
                                 const char *format)
{
    struct outcome *out = &d->run.out;
    struct span rcpt = d->in.recipient;
    char *address = arena_text(&out->memory, rcpt);
    out->reply = (struct smtp_reply){ code, enhanced,
                                      arena_printf(&out->memory, "<%s>: %s", address, format) };
    return VERDICT_REJECT;
}

/* "5.1.1 text" behind error: */
static enum verdict refuse_error_transport(struct smtpd *d, const char *text)
{
    size_t n = smtp_enhanced_length(span_of(text));
    const char *enhanced = "5.0.0";
    int code = 550;
    if (n > 0) {
        enhanced = arena_text(&d->run.out.memory, span_make(text, n));
        code = text[0] == '4' ? 450 : 550;
        text += n;
        text += *text == ' ';
    }
    return refuse_route(d, code, enhanced,
                        text[0] != '\0' ? text : "Recipient address rejected");
}

static enum verdict verdict_of_route(struct smtpd *d, enum route_status status,
                                     const char *text)
{
    const struct params *p = d->smtp.params;
    switch (status) {
    case ROUTE_OK: return VERDICT_PERMIT;
    case ROUTE_PENDING: return VERDICT_PENDING;
    case ROUTE_RETRY: return refuse_route(d, 451, "4.3.0", "Temporary lookup failure");
    case ROUTE_BROKEN:
        return refuse_route(d, 451, "4.3.5", "Recipient address rejected: "
                                             "Server configuration error");
    case ROUTE_TOO_LONG:
        return refuse_route(d, 451, "4.3.5", "Recipient address rejected: "
                                             "alias expands to too many addresses");
    case ROUTE_OUTSIDE:
        return refuse_route(d, 451, "4.3.5", "Recipient address rejected: "
                                             "alias leads to an address without transport");
    case ROUTE_NOT_OURS: return refuse_route(d, 554, "5.7.1", "Relay access denied");
    case ROUTE_UNKNOWN:
        return refuse_route(d, p->unknown_virtual_mailbox_reject_code, "5.1.1",
                            p->show_user_unknown_table_name
                                ? "Recipient address rejected: "
                                  "User unknown in virtual mailbox table"
                                : "Recipient address rejected: User unknown");
    case ROUTE_REFUSED: return refuse_error_transport(d, text);
    }
    return VERDICT_REJECT;
}

/* Codes that end a connection, or say that the next hop and we do not understand each other, are
 * no verdict about a recipient. */
static bool is_about_us(int code)
{
    static const int codes[] = { 421, 521, 500, 502, 503, 504, 530, 538 };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* In the words of the next hop, unless they tell where an alias leads. */
static enum verdict refuse_as_told(struct smtpd *d, const struct target *target,
                                   const struct smtp_reply *said)
{
    struct outcome *out = &d->run.out;
    if (is_about_us(said->code) || said->code < 400)
        return VERDICT_PERMIT;
    if (!span_iequals(target->address, d->in.recipient))
        return refuse_route(d, said->code, said->enhanced,
                            "Recipient address rejected by the mailbox server");
    out->reply = *said;
    return VERDICT_REJECT;
}

/* The mailbox server is asked while the sender is there to hear its answer. If it does not answer
 * the mail is taken all the same: the spool waits for it. With several targets there is no one
 * answer. */
static enum verdict ask_next_hop(struct smtpd *d, struct eval *eval)
{
    const struct target *target = d->targets;
    struct buf hop = { 0 }, key = { 0 };
    struct smtp_reply said;
    if (!d->smtp.params->lmtp_rcpt_verify || target == NULL || target->next != NULL
        || d->redirect != NULL || !probe_target(&hop, &target->transport))
        return VERDICT_PERMIT;
    probe_key(&key, buf_span(&hop), d->in.sender, target->address);
    const struct fact *answer = eval_need(eval, FACT_PROBE, SCOPE_RCPT, NULL, buf_span(&key));
    buf_fini(&hop);
    buf_fini(&key);
    if (answer == NULL)
        return VERDICT_PENDING;
    if (answer->status != FACT_FOUND
        || !probe_answer_parse(answer->value, &d->run.out.memory, &said))
        return VERDICT_PERMIT;
    return refuse_as_told(d, target, &said);
}

/* The address that our probes come from: others may probe it, and whatever they send there is
 * thrown away (spec 1.4). */
static bool is_probe_sender(const struct smtpd *d)
{
    int64_t now_s = d->services->wall_us(d->services) / 1000000;
    return d->config->policy->verifies
           && verify_is_sender(&d->config->params, d->in.recipient, now_s);
}

static void throw_away(struct smtpd *d)
{
    struct target *target = arena_alloc(&d->run.out.memory, sizeof *target);
    target->address = target->original = d->in.recipient;
    target->transport = (struct transport){ .kind = TRANSPORT_DISCARD, .name = "discard" };
    d->targets = target;
}

/* The policy's verdict, and where the recipient's mail would go. */
static enum verdict evaluate_rcpt(struct policy_run *run)
{
    struct smtpd *d = (struct smtpd *)(void *)((char *)run - offsetof(struct smtpd, run));
    struct eval eval;
    const char *text;
    d->targets = NULL;
    if (d->greet.action == GREET_ENFORCE) {
        run->out.reply = d->greet.reply;
        return VERDICT_REJECT;
    }
    if (is_probe_sender(d)) {
        throw_away(d);
        return VERDICT_PERMIT;
    }
    enum verdict verdict = policy_evaluate(run->policy, run->in, run->facts, &run->out);
    if (verdict == VERDICT_REJECT || verdict == VERDICT_PENDING || run->out.is_discard
        || d->is_discard)
        return verdict;
    eval_begin(&eval, run->policy, run->in, run->facts, &run->out);
    eval_begin_step(&eval, "route");
    enum route_status status = route_recipient(run->policy, &eval.reader, run->in->recipient,
                                               &run->out.memory, &d->targets, &text);
    verdict = verdict_of_route(d, status, text);
    if (verdict != VERDICT_PERMIT || run->out.redirect != NULL)
        return verdict;
    eval_begin_step(&eval, "next hop");
    return ask_next_hop(d, &eval);
}

static void name_client(struct smtpd *d, const struct client_name *found)
{
    struct smtp_peer *peer = &d->smtp.peer;
    if (peer->name_status != SMTP_NAME_UNASKED)
        return;
    smtp_peer_set_name(peer, found->name, found->name_status);
    smtp_peer_set_reverse(peer, found->reverse_name, found->reverse_status);
}

/* Who is it, and does it wait for its turn? All of that is found out at the same time. */
static enum verdict meet_client(struct smtpd *d)
{
    struct policy_run *run = &d->run;
    struct client_name found = { 0 };
    struct eval eval;
    enum verdict name = VERDICT_DUNNO, greet = VERDICT_DUNNO;
    eval_begin(&eval, run->policy, run->in, run->facts, &run->out);
    if (d->smtp.peer.name_status == SMTP_NAME_UNASKED) {
        eval_begin_step(&eval, "client name");
        name = client_name_find(&eval, &found);
    }
    struct fact_key missing = run->out.missing;
    if (!d->is_greeted) {
        eval_begin_step(&eval, "greeting");
        greet = greet_evaluate(&eval, &d->greet);
    }
    bool is_beside = name == VERDICT_PENDING && greet == VERDICT_PENDING
                     && outcome_add_also(&run->out, &missing);
    if (name == VERDICT_PENDING && !is_beside)
        run->out.missing = missing;
    if (name == VERDICT_PENDING || greet == VERDICT_PENDING)
        return VERDICT_PENDING;
    name_client(d, &found);
    return VERDICT_DUNNO;
}

static const char *keep_greet(struct smtpd *d, const char *text)
{
    return arena_text(&d->smtp.peer.memory, span_of(text));
}

static void greet_client(struct smtpd *d)
{
    if (d->is_greeted)
        return;
    d->is_greeted = true;
    smtpd_log(d, "smtpd", "connect from %s", smtpd_client(d));
    d->smtp.is_out_of_turn |= d->greet.has_talked;
    d->smtp.may_talk_early = d->greet.has_talked; /* pregreet_action has judged that */
    if (d->greet.reply.code != 0) {
        d->greet.reply.text = keep_greet(d, d->greet.reply.text);
        d->greet.reply.enhanced = keep_greet(d, d->greet.reply.enhanced);
    }
    if (d->greet.is_to_be_remembered && d->services->remember != NULL) {
        const char *text = arena_printf(&d->run.out.memory, "greet %s", d->smtp.peer.address);
        d->services->remember(d, text, d->smtp.params->greet_ttl);
    }
}

/* Then the client list, if it does not wait for RCPT. */
static enum verdict evaluate_connect(struct policy_run *run)
{
    struct smtpd *d = (struct smtpd *)(void *)((char *)run - offsetof(struct smtpd, run));
    if (meet_client(d) == VERDICT_PENDING)
        return VERDICT_PENDING;
    greet_client(d);
    set_features(d); /* some lists know clients by name */
    if (d->greet.action != GREET_DROP)
        return policy_evaluate(run->policy, run->in, run->facts, &run->out);
    run->out.reply = d->greet.reply;
    return VERDICT_REJECT;
}

/* REDIRECT and BCC: where do they lead? Only to addresses of our own. */
static enum verdict route_extra(struct smtpd *d, struct eval *eval, const char *address)
{
    struct target *targets;
    const char *text;
    enum route_status status = route_recipient(d->config->policy, &eval->reader,
                                               span_of(address), &eval->out->memory, &targets,
                                               &text);
    if (status == ROUTE_PENDING)
        return VERDICT_PENDING;
    if (status != ROUTE_OK)
        eval_note(eval, "warning", "REDIRECT or BCC to %s leads nowhere here: ignored", address);
    struct target **end = &d->targets;
    while (*end != NULL)
        end = &(*end)->next;
    if (status == ROUTE_OK)
        *end = targets;
    return VERDICT_PERMIT;
}

static enum verdict evaluate_end_of_data(struct policy_run *run)
{
    struct smtpd *d = (struct smtpd *)(void *)((char *)run - offsetof(struct smtpd, run));
    struct eval eval;
    enum verdict verdict = policy_evaluate(run->policy, run->in, run->facts, &run->out);
    keep_effects(d);
    d->targets = NULL;
    if (verdict == VERDICT_REJECT || verdict == VERDICT_PENDING || d->is_discard)
        return verdict;
    eval_begin(&eval, run->policy, run->in, run->facts, &run->out);
    for (const struct text_item *bcc = d->bccs; bcc != NULL; bcc = bcc->next)
        if (route_extra(d, &eval, bcc->text) == VERDICT_PENDING)
            return VERDICT_PENDING;
    if (d->redirect != NULL && route_extra(d, &eval, d->redirect) == VERDICT_PENDING)
        return VERDICT_PENDING;
    return verdict;
}

/* One X-Greylist: header is enough for a message. */
static bool is_delay_told(const struct smtpd *d)
{
    const char *template = d->config->params.greylist_header;
    size_t name_len = strcspn(template, ":");
    for (const struct text_item *p = d->prepends; p != NULL; p = p->next)
        if (name_len > 0 && strncmp(p->text, template, name_len) == 0)
            return true;
    return false;
}

static void fill_envelope(struct smtpd *d, enum stage stage)
{
    const struct smtp_session *s = &d->smtp;
    const struct smtp_mail *mail = &s->mail;
    bool has_sender = mail->is_open || stage == STAGE_MAIL;
    bool is_rcpt = stage == STAGE_RCPT || stage == STAGE_VRFY;
    d->in = (struct envelope_in){
        .stage = stage, .peer = &s->peer, .helo = s->helo, .is_ehlo = s->verb == SMTP_VERB_EHLO,
        .protocol = smtp_session_protocol(s), .queue_id = d->queue_id,
        .has_sender = has_sender, .recipient_count = mail->rcpt_count,
        .size_bytes = stage == STAGE_END_OF_DATA ? s->data.size_bytes : mail->params.size_bytes,
        .is_tls = s->is_tls, .is_out_of_turn = s->is_out_of_turn, .raised = raised_before(d, stage),
        .is_stressed = d->services->is_stressed,
        .is_crowd = crowd_is(d->services->crowd, &s->peer.ip), .is_discarding = d->is_discard, .instance = d->instance,
        .tls_protocol = d->tls_protocol, .tls_cipher = d->tls_cipher, .tls_sni = d->tls_sni,
        .tls_bits = d->tls_bits, .date = d->services->date(d->services),
        .is_delay_told = is_delay_told(d),
        .verify_poll_count = s->params->address_verify_poll_count,
        .now_ms = d->services->now_ms,
        .wall_s = d->services->wall_us(d->services) / 1000000,
    };
    if (has_sender)
        d->in.sender = mail->sender.address;
    if (is_rcpt)
        d->in.recipient = s->rcpt.path.address;
    else if (stage >= STAGE_DATA && mail->rcpt_count == 1)
        d->in.recipient = mail->rcpts->path.address;
    d->in.has_recipient = d->in.recipient.at != NULL;
}

static void run_policy(struct smtpd *d, enum stage stage)
{
    fill_envelope(d, stage);
    policy_run_fini(&d->run);
    d->run = (struct policy_run){
        .policy = d->config->policy, .in = &d->in, .facts = &d->facts,
        .ask = on_ask, .done = on_verdict, .is_traced = d->is_traced,
        .evaluate = stage == STAGE_RCPT        ? evaluate_rcpt
                    : stage == STAGE_CONNECT     ? evaluate_connect
                    : stage == STAGE_END_OF_DATA ? evaluate_end_of_data
                                                 : NULL,
    };
    d->is_waiting = true;
    policy_begin(&d->run);
}

void smtpd_run_end_of_data(struct smtpd *d)
{
    facts_forget(&d->facts, SCOPE_RCPT);
    run_policy(d, STAGE_END_OF_DATA);
}

/* ------------------------------------------------------------ before the policy */

static bool is_exempt(struct smtpd *d)
{
    const struct smtp_peer *peer = &d->smtp.peer;
    return d->smtp.features.xclient_ok
           || match_list_host(&d->config->event_limit_exceptions, &map_reader_direct,
                              span_of(peer->name), &peer->ip) == MATCH_YES;
}

/* True: the client has done this too often; it was told so (spec 9.2). */
static bool is_over_rate(struct smtpd *d, enum client_event event, int limit, int code,
                         const char *enhanced, const char *what)
{
    if (limit == 0 || is_exempt(d))
        return false;
    int count = clients_count(d->services->clients, &d->smtp.peer.ip, d->smtp.params, event,
                              d->services->now_ms);
    if (count <= limit)
        return false;
    const char *text = arena_printf(&d->smtp.scratch, "Error: too %s from %s", what,
                                    d->smtp.peer.address);
    smtpd_log(d, "smtpd", "warning: %s rate limit exceeded: %d from %s", what, count,
              smtpd_client(d));
    refuse(d, &(struct smtp_reply){ code, enhanced, text });
    return true;
}

static void decide_connect(struct smtpd *d)
{
    facts_forget(&d->facts, SCOPE_CLIENT);
    run_policy(d, STAGE_CONNECT);
}

static void look_for_crowd(struct smtpd *d)
{
    const struct smtp_session *s = &d->smtp;
    if (s->helo == NULL || !crowd_note(d->services->crowd, &s->peer.ip, s->helo))
        return;
    smtpd_log(d, "smtpd", "warning: all clients come from %s, under many names: a proxy or a "
              "container's bridge hides them, and permit_mynetworks does not hold for that "
              "address; use the PROXY protocol", s->peer.address);
}

static void decide_helo(struct smtpd *d)
{
    look_for_crowd(d);
    facts_forget(&d->facts, SCOPE_HELO);
    run_policy(d, STAGE_HELO);
}

static void decide_mail(struct smtpd *d)
{
    const struct params *p = d->smtp.params;
    facts_forget(&d->facts, SCOPE_SENDER);
    d->mail_began_ms = d->services->now_ms;
    snprintf(d->instance, sizeof d->instance, "%llx.%llx.%x", (unsigned long long)getpid(),
             (unsigned long long)d->number, ++d->transactions);
    if (d->services->is_space_low)
        refuse(d, &(struct smtp_reply){ 452, "4.3.1", "Insufficient system storage" });
    else if (!is_over_rate(d, CLIENT_MESSAGE, p->smtpd_client_message_rate_limit, 450, "4.7.1",
                           "much mail"))
        run_policy(d, STAGE_MAIL);
}

static void decide_rcpt(struct smtpd *d, enum stage stage)
{
    facts_forget(&d->facts, SCOPE_RCPT);
    if (!is_over_rate(d, CLIENT_RECIPIENT, d->smtp.params->smtpd_client_recipient_rate_limit,
                      450, "4.7.1", "many recipients"))
        run_policy(d, stage);
}

static void decide_starttls(struct smtpd *d)
{
    if (!is_over_rate(d, CLIENT_TLS_SESSION,
                      d->smtp.params->smtpd_client_new_tls_session_rate_limit, 454, "4.7.0",
                      "many new TLS sessions"))
        smtpd_answer(d, &yes);
}

/* A word with a colon behind it: somebody sends us a message as if it were commands. */
static bool looks_like_header(struct span word)
{
    return word.len > 1 && word.at[word.len - 1] == ':';
}

static void decide_command(struct smtpd *d)
{
    struct span word = d->smtp.command;
    bool is_forbidden = looks_like_header(word)
                        || match_list_word(&d->config->forbidden_commands, &map_reader_direct,
                                           word) == MATCH_YES;
    if (!is_forbidden) {
        smtpd_answer(d, &yes);
        return;
    }
    smtpd_log(d, "smtpd", "warning: non-SMTP command from %s: %s %s", smtpd_client(d),
              text_escaped(&d->smtp.scratch, word, 100),
              text_escaped(&d->smtp.scratch, d->smtp.argument, 100));
    smtpd_answer(d, &(struct smtp_reply){ 221, "2.7.0",
                                          "Error: I can break rules, too. Goodbye." });
}

void smtpd_decide(struct smtpd *d)
{
    switch (d->smtp.ask) {
    case SMTP_ASK_CONNECT: decide_connect(d); break;
    case SMTP_ASK_HELO: decide_helo(d); break;
    case SMTP_ASK_MAIL: decide_mail(d); break;
    case SMTP_ASK_RCPT: decide_rcpt(d, STAGE_RCPT); break;
    case SMTP_ASK_VRFY: decide_rcpt(d, STAGE_VRFY); break;
    case SMTP_ASK_DATA:
        facts_forget(&d->facts, SCOPE_RCPT);
        run_policy(d, STAGE_DATA);
        break;
    case SMTP_ASK_STARTTLS: decide_starttls(d); break;
    case SMTP_ASK_COMMAND: decide_command(d); break;
    }
}
