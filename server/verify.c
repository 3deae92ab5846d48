#include "server/verify.h"
#include "policy/dns_name.h"
#include "policy/probe.h"
#include "policy/verify.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"
#include "queue/lmtp.h"

#include <stdlib.h>
#include <time.h>

/* A question that waits for a probe, or for the next look. */
struct waiter {
    struct waiter *next;
    struct verifier *verifier;
    struct question *question;
    struct pending *pending; /* NULL: it only waits */
    uv_timer_t *timer;       /* owns */
};

/* A probe under way. */
struct pending {
    struct pending *next;
    struct verifier *verifier;
    struct config *config;   /* one reference */
    char *address, *nexthop; /* own */
    struct buf sender;       /* owns */
    struct verify_entry entry; /* before the probe */
    uint64_t began_ms;
    struct lmtp_job job;
    struct lmtp_rcpt rcpt;
};

struct verifier {
    struct fetcher *fetcher;
    struct pending *pending;
    struct waiter *waiters;
    int pending_count;
};

static int64_t now_s(void)
{
    return (int64_t)time(NULL);
}

static struct verifier *verifier_of(struct fetcher *fetcher)
{
    if (fetcher->verifier == NULL) {
        fetcher->verifier = xcalloc(1, sizeof *fetcher->verifier);
        fetcher->verifier->fetcher = fetcher;
    }
    return fetcher->verifier;
}

static void answer(struct question *q, enum verify_status status, const char *text)
{
    struct buf value = { 0 };
    verify_answer_print(&value, status, text);
    question_answer(q, FACT_FOUND, buf_span(&value), "store");
    buf_fini(&value);
}

static char *store_text(struct span address)
{
    return xprintf("verify %.*s", (int)address.len, address.at);
}

static void keep(struct fetcher *fetcher, const struct params *p, struct span address,
                 const struct verify_entry *entry)
{
    int64_t until_s = verify_keep_until(entry, p, now_s());
    if (until_s == 0 || fetcher->is_closing)
        return;
    struct buf text = { 0 };
    char *key = store_text(address);
    verify_entry_print(&text, entry);
    fetcher->remember(fetcher, key, until_s, buf_span(&text));
    free(key);
    buf_fini(&text);
}

/* ------------------------------------------------------------ waiting */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

/* The waiter's question, without the waiter. */
static struct question *free_waiter(struct waiter *w)
{
    struct question *q = w->question;
    uv_close((uv_handle_t *)w->timer, free_handle);
    free(w);
    return q;
}

static struct question *end_waiter(struct verifier *v, struct waiter *w)
{
    struct waiter **at = &v->waiters;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    return free_waiter(w);
}

static void look_up(struct question *q);

static void on_delay(uv_timer_t *timer)
{
    struct waiter *w = timer->data;
    bool is_pending = w->pending != NULL;
    struct question *q = end_waiter(w->verifier, w);
    if (is_pending)
        answer(q, VERIFY_TODO, "");
    else
        look_up(q); /* somebody else's probe may have ended */
}

static void wait(struct verifier *v, struct question *q, struct pending *pending)
{
    struct waiter *w = xcalloc(1, sizeof *w);
    *w = (struct waiter){ .next = v->waiters, .verifier = v, .question = q, .pending = pending };
    v->waiters = w;
    w->timer = xcalloc(1, sizeof *w->timer);
    uv_timer_init(v->fetcher->uv, w->timer);
    w->timer->data = w;
    uv_timer_start(w->timer, on_delay,
                   (uint64_t)q->config->params.address_verify_poll_delay, 0);
}

static struct waiter *waiter_of(const struct verifier *v, const struct pending *pending)
{
    struct waiter *w = v->waiters;
    while (w != NULL && w->pending != pending)
        w = w->next;
    return w;
}

/* ------------------------------------------------------------ probes */

static struct pending *find_pending(const struct verifier *v, struct span address)
{
    struct pending *p = v->pending;
    while (p != NULL && !span_equals(span_of(p->address), address))
        p = p->next;
    return p;
}

static int count_domain(const struct verifier *v, struct span domain)
{
    int count = 0;
    for (const struct pending *p = v->pending; p != NULL; p = p->next)
        count += span_equals(smtp_path_of(span_of(p->address)).domain, domain);
    return count;
}

static int share(const struct fetcher *fetcher, int limit)
{
    int loops = fetcher->loops > 0 ? (int)fetcher->loops : 1;
    return (limit + loops - 1) / loops;
}

static bool may_begin(const struct verifier *v, const struct params *p, struct span address)
{
    struct span domain = smtp_path_of(address).domain;
    return v->fetcher->lmtp != NULL /* else the loop was told to stop */
           && v->pending_count < share(v->fetcher, p->address_verify_pending_request_limit)
           && count_domain(v, domain) < share(v->fetcher, p->address_verify_domain_limit);
}

static void free_pending(struct pending *p)
{
    struct pending **at = &p->verifier->pending;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->verifier->pending_count--;
    lmtp_job_fini(&p->job);
    config_release(p->config);
    buf_fini(&p->sender);
    free(p->address);
    free(p->nexthop);
    free(p);
}

static enum verify_status status_of(const struct lmtp_result *r)
{
    if (r->code / 100 == 2)
        return VERIFY_OK;
    bool is_final = r->source == LMTP_SAID || r->source == LMTP_UNABLE;
    return is_final && r->code / 100 == 5 ? VERIFY_BOUNCE : VERIFY_DEFER;
}

/* As Postfix tells of its probes. */
static void log_probe(struct pending *p, const char *text)
{
    struct fetcher *fetcher = p->verifier->fetcher;
    const struct lmtp_result *r = &p->rcpt.result;
    struct buf line = { 0 };
    if (fetcher->tell == NULL || fetcher->is_closing)
        return;
    buf_puts(&line, "probe: to=<");
    text_escape(&line, span_of(p->address), 320);
    buf_printf(&line, ">, relay=%s, delay=%.2f, dsn=%s, status=%s (%s)", p->job.host,
               (double)(uv_now(fetcher->uv) - p->began_ms) / 1000.0,
               r->enhanced[0] != '\0' ? r->enhanced : "-",
               status_of(r) == VERIFY_OK ? "deliverable" : "undeliverable", text);
    fetcher->tell(fetcher, p->job.protocol == LMTP_PROTOCOL_LMTP ? "lmtp" : "smtp",
                  buf_text(&line));
    buf_fini(&line);
}

static void count(struct pending *p)
{
    struct next_hop_counts *counts = &p->verifier->fetcher->counts;
    enum verify_status status = status_of(&p->rcpt.result);
    atomic_fetch_add(status == VERIFY_OK       ? &counts->probe_yes
                     : status == VERIFY_BOUNCE ? &counts->probe_no
                                               : &counts->probe_unknown, 1);
}

static void on_probed(struct lmtp_job *job)
{
    struct pending *p = job->owner;
    struct verifier *v = p->verifier;
    struct waiter *w;
    struct buf text = { 0 };
    lmtp_result_print(&text, job, &p->rcpt.result);
    log_probe(p, buf_text(&text));
    count(p);
    verify_learn(&p->entry, &p->config->params, status_of(&p->rcpt.result), buf_text(&text),
                 now_s());
    buf_fini(&text);
    keep(v->fetcher, &p->config->params, span_of(p->address), &p->entry);
    while ((w = waiter_of(v, p)) != NULL)
        answer(end_waiter(v, w), p->entry.status, p->entry.text);
    free_pending(p);
}

/* "mx:DOMAIN" is asked for in the DNS: as it can be. */
static char *nexthop_of(const struct probe *probe)
{
    char name[DNS_NAME_MAX];
    if (probe->is_public_only && dns_name_ask(name, probe->nexthop))
        return xstrdup(name);
    return xprintf("%.*s", (int)probe->nexthop.len, probe->nexthop.at);
}

static void begin_probe(struct verifier *v, const struct question *q, const struct probe *probe,
                        struct span address, const struct verify_entry *entry)
{
    const struct params *params = &q->config->params;
    struct pending *p = xcalloc(1, sizeof *p);
    *p = (struct pending){ .next = v->pending, .verifier = v, .entry = *entry,
                           .config = config_hold(q->config), .nexthop = nexthop_of(probe),
                           .address = xprintf("%.*s", (int)address.len, address.at) };
    p->began_ms = uv_now(v->fetcher->uv);
    v->pending = p;
    v->pending_count++;
    verify_sender(&p->sender, params, now_s());
    p->rcpt.address = span_of(p->address);
    p->job = (struct lmtp_job){
        .protocol = probe->is_lmtp ? LMTP_PROTOCOL_LMTP : LMTP_PROTOCOL_SMTP,
        .nexthop = p->nexthop, .is_public_only = probe->is_public_only,
        .sender = buf_span(&p->sender), .mail = { .is_smtputf8 = !text_is_ascii(address) },
        .rcpts = &p->rcpt, .count = 1, .timeout_ms = params->address_verify_timeout,
        .done = on_probed, .owner = p,
    };
    lmtp_start(v->fetcher->lmtp, &p->job);
}

/* ------------------------------------------------------------ looking */

static void begin_if_due(struct question *q, struct verify_entry *entry)
{
    struct verifier *v = verifier_of(q->fetcher);
    struct span target, address;
    struct probe probe;
    int round;
    if (!verify_key_parse(q->key.text, &round, &target, &address)
        || !probe_target_parse(target, &probe) || find_pending(v, address) != NULL
        || !may_begin(v, &q->config->params, address))
        return;
    begin_probe(v, q, &probe, address, entry);
    keep(q->fetcher, &q->config->params, address, entry);
}

static void on_found(void *arg, bool is_good, struct span payload)
{
    struct question *q = arg;
    struct verify_entry entry = { 0 };
    bool is_due;
    if (!is_good) {
        question_answer(q, FACT_TEMPFAIL, span_make("", 0), "store");
        return;
    }
    if (!verify_entry_parse(payload, &entry))
        entry = (struct verify_entry){ 0 };
    enum verify_status status = verify_look(&entry, &q->config->params, now_s(), &is_due);
    if (is_due)
        begin_if_due(q, &entry);
    answer(q, status, entry.text);
}

static void look_up(struct question *q)
{
    struct span target, address;
    int round;
    verify_key_parse(q->key.text, &round, &target, &address);
    char *key = store_text(address);
    q->fetcher->recall(q->fetcher, key, on_found, q);
    free(key);
}

void verify_ask(struct fetcher *fetcher, struct question *q)
{
    struct verifier *v = verifier_of(fetcher);
    struct span target, address;
    struct probe probe;
    int round;
    if (!verify_key_parse(q->key.text, &round, &target, &address)
        || !probe_target_parse(target, &probe))
        question_answer(q, FACT_BROKEN, span_make("", 0), "store");
    else if (fetcher->recall == NULL)
        question_answer(q, FACT_TEMPFAIL, span_make("", 0), "no store");
    else if (round == 0)
        look_up(q);
    else
        wait(v, q, find_pending(v, address));
}

void verifier_free(struct verifier *verifier)
{
    if (verifier == NULL)
        return;
    ENSURE(verifier->pending == NULL);
    for (struct waiter *w = verifier->waiters, *next; w != NULL; w = next) {
        next = w->next;
        question_answer(free_waiter(w), FACT_TEMPFAIL, span_make("", 0), "");
    }
    free(verifier);
}
