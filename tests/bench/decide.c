/* decide - what one decision costs: a RCPT with ten rules, judged over and over, without network.
 *
 *   decide [ROUNDS]
 *
 * "known":  every fact is in the session already (the next RCPT of the same client).
 * "cached": the session knows nothing, and each fact is answered at once when it is asked for, as
 *           from the cache of a loop; one look-up after the other, evaluated again each time.
 * Prints CPU microseconds per decision, min / median / max of the rounds. */
#include "policy/run.h"
#include "server/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DECISIONS = 5000, ROUNDS_MAX = 100 };

static const char main_cf[] =
    "myhostname = mx.example.org\n"
    "virtual_mailbox_domains = example.org\n"
    "virtual_mailbox_maps = inline:{ you@example.org=you/ }\n"
    "mynetworks = 127.0.0.0/8\n"
    "smtpd_relay_restrictions =\n"
    "smtpd_recipient_restrictions = reject_unauth_destination, reject_unlisted_recipient,\n"
    "  reject_unknown_reverse_client_hostname, reject_invalid_helo_hostname,\n"
    "  reject_non_fqdn_helo_hostname, reject_non_fqdn_sender, reject_unknown_sender_domain,\n"
    "  check_client_access cidr:{{192.0.2.0/25 REJECT}}, reject_rbl_client bl.test,\n"
    "  reject_rhsbl_sender dbl.test\n";

static struct {
    struct policy_run run;
    struct facts facts;
    enum verdict verdict;
} state;

/* The sender's domain has a mail exchanger; the lists know nobody. */
static void answer(struct policy_run *run, const struct fact_key *key)
{
    struct buf value = { 0 };
    struct fact fact = { .key = *key, .status = FACT_NOT_FOUND };
    if (key->kind == FACT_MX) {
        record_add(&value, SPAN_LITERAL("\0\12mx.client.test"));
        fact.status = FACT_FOUND;
    }
    fact.value = buf_span(&value);
    policy_learn(run, &fact);
    buf_fini(&value);
}

static void on_done(struct policy_run *run, enum verdict verdict)
{
    (void)run;
    state.verdict = verdict;
}

static void decide(const struct config *config, const struct envelope_in *in)
{
    state.run = (struct policy_run){ .policy = config->policy, .in = in, .facts = &state.facts,
                                     .ask = answer, .done = on_done };
    policy_begin(&state.run);
    policy_run_fini(&state.run);
}

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double measure(const struct config *config, const struct envelope_in *in, bool is_known)
{
    double began = cpu_us();
    for (int i = 0; i < DECISIONS; i++) {
        if (!is_known)
            facts_forget(&state.facts, SCOPE_CLIENT);
        decide(config, in);
    }
    return (cpu_us() - began) / DECISIONS;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(const char *what, double *values, int n, const char *goal)
{
    qsort(values, (size_t)n, sizeof *values, by_size);
    printf("  %-7s %.2f / %.2f / %.2f us of CPU per decision%s\n", what, values[0],
           values[n / 2], values[n - 1], goal);
}

int main(int argc, char **argv)
{
    struct problems problems = { 0 };
    struct config *config = config_load("/main.cf", main_cf, &problems);
    struct smtp_peer peer = { 0 };
    struct ip ip = { 0 };
    double known[ROUNDS_MAX], cached[ROUNDS_MAX];
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    if (problems.error_count > 0 || rounds < 1 || rounds > ROUNDS_MAX) {
        config_print_problems(config, &problems, stderr);
        return 64;
    }
    ip_parse(SPAN_LITERAL("192.0.2.200"), &ip);
    smtp_peer_init(&peer, &ip, 4711, &ip, 25);
    smtp_peer_set_name(&peer, "mail.client.test", SMTP_NAME_OK);
    smtp_peer_set_reverse(&peer, "mail.client.test", SMTP_NAME_OK);
    const struct envelope_in in = {
        .stage = STAGE_RCPT, .peer = &peer, .helo = "mail.client.test", .protocol = "ESMTP",
        .queue_id = "", .has_sender = true, .has_recipient = true, .instance = "1",
        .sender = SPAN_LITERAL("sender@client.test"), .tls_protocol = "", .tls_cipher = "",
        .tls_sni = "", .recipient = SPAN_LITERAL("you@example.org"), .date = "",
    };
    decide(config, &in);
    if (state.verdict == VERDICT_REJECT || state.verdict == VERDICT_PENDING) {
        fprintf(stderr, "decide: verdict %d: %s\n", (int)state.verdict,
                state.run.out.reply.text);
        return 1;
    }
    for (int i = 0; i < rounds; i++) {
        known[i] = measure(config, &in, true);
        cached[i] = measure(config, &in, false);
    }
    report("known", known, rounds, " (goal: under 10)");
    report("cached", cached, rounds, "");
    facts_fini(&state.facts);
    smtp_peer_fini(&peer);
    config_release(config);
    problems_fini(&problems);
    return 0;
}
