#include "server/probe.h"
#include "policy/probe.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "queue/lmtp.h"

#include <stdlib.h>

/* ------------------------------------------------------------ the cache */

struct entry {
    char *key, *value; /* own */
    uint64_t until_ms;
};

struct probe_cache {
    struct entry entries[PROBE_CACHE_SIZE];
};

/* Next hop and recipient, whoever the sender is. */
static char *cache_key(const struct probe *p)
{
    return xprintf("%d %.*s\t%.*s", p->is_lmtp, (int)p->nexthop.len, p->nexthop.at,
                   (int)p->recipient.len, p->recipient.at);
}

static struct entry *entry_for(struct fetcher *fetcher, const char *key)
{
    uint64_t hash = span_hash(span_of(key));
    if (fetcher->probe_cache == NULL)
        fetcher->probe_cache = xcalloc(1, sizeof *fetcher->probe_cache);
    return &fetcher->probe_cache->entries[(hash ^ hash >> 32) % PROBE_CACHE_SIZE];
}

static const char *find_cached(struct fetcher *fetcher, const struct probe *p)
{
    char *key = cache_key(p);
    const struct entry *e = entry_for(fetcher, key);
    bool is_found = e->key != NULL && strcmp(e->key, key) == 0
                    && uv_now(fetcher->uv) < e->until_ms;
    free(key);
    return is_found ? e->value : NULL;
}

static void keep(struct fetcher *fetcher, const struct probe *p, const char *value,
                 int64_t time_ms)
{
    if (time_ms <= 0)
        return;
    char *key = cache_key(p);
    struct entry *e = entry_for(fetcher, key);
    free(e->key);
    free(e->value);
    *e = (struct entry){ key, xstrdup(value), uv_now(fetcher->uv) + (uint64_t)time_ms };
}

void probe_cache_free(struct probe_cache *cache)
{
    for (size_t i = 0; cache != NULL && i < PROBE_CACHE_SIZE; i++) {
        free(cache->entries[i].key);
        free(cache->entries[i].value);
    }
    free(cache);
}

/* ------------------------------------------------------------ the question */

struct asked {
    struct lmtp_job job;
    struct lmtp_rcpt rcpt;
    struct probe probe;     /* spans into the question */
    struct question *question;
    char *nexthop;          /* owns */
};

/* What was said to RCPT, yes or for good no, is worth keeping. */
static void keep_answer(struct asked *a, const char *value)
{
    const struct params *p = &a->question->config->params;
    const struct lmtp_result *r = &a->rcpt.result;
    bool is_about_rcpt = r->source == LMTP_SAID && strcmp(r->command, "RCPT TO") == 0;
    if (is_about_rcpt && r->code / 100 == 2)
        keep(a->question->fetcher, &a->probe, value, p->lmtp_rcpt_verify_positive_time);
    else if (is_about_rcpt && r->code / 100 == 5)
        keep(a->question->fetcher, &a->probe, value, p->lmtp_rcpt_verify_negative_time);
}

static void count(struct asked *a, bool is_answer)
{
    struct next_hop_counts *counts = &a->question->fetcher->counts;
    bool is_yes = a->rcpt.result.code / 100 == 2;
    atomic_fetch_add(is_answer && is_yes ? &counts->rcpt_yes
                     : is_answer         ? &counts->rcpt_no
                                         : &counts->rcpt_unknown, 1);
}

static void on_done(struct lmtp_job *job)
{
    struct asked *a = job->owner;
    const struct lmtp_result *r = &a->rcpt.result;
    bool is_answer = r->source == LMTP_SAID || r->source == LMTP_UNABLE;
    struct buf value = { 0 };
    if (is_answer)
        probe_answer(&value, r->code, r->enhanced, r->text);
    else
        buf_puts(&value, r->text);
    keep_answer(a, buf_text(&value));
    count(a, is_answer);
    question_answer(a->question, is_answer ? FACT_FOUND : FACT_TEMPFAIL, buf_span(&value),
                    "next hop");
    buf_fini(&value);
    lmtp_job_fini(job);
    free(a->nexthop);
    free(a);
}

static void start(struct question *q, const struct probe *p)
{
    struct asked *a = xcalloc(1, sizeof *a);
    a->probe = *p;
    a->question = q;
    a->nexthop = xprintf("%.*s", (int)p->nexthop.len, p->nexthop.at);
    a->rcpt.address = p->recipient;
    a->job = (struct lmtp_job){
        .protocol = p->is_lmtp ? LMTP_PROTOCOL_LMTP : LMTP_PROTOCOL_SMTP,
        .nexthop = a->nexthop, .is_public_only = p->is_public_only, .sender = p->sender,
        .mail = { .is_smtputf8 = !text_is_ascii(p->sender) || !text_is_ascii(p->recipient) },
        .rcpts = &a->rcpt, .count = 1, .done = on_done, .owner = a,
        .timeout_ms = q->config->params.lmtp_rcpt_verify_timeout,
    };
    lmtp_start(q->fetcher->lmtp, &a->job);
}

void probe_ask(struct fetcher *fetcher, struct question *q)
{
    struct probe p;
    if (!probe_key_parse(q->key.text, &p)) {
        question_answer(q, FACT_BROKEN, span_make("", 0), "next hop");
        return;
    }
    const char *cached = find_cached(fetcher, &p);
    atomic_fetch_add(&fetcher->counts.rcpt_cached, cached != NULL);
    if (cached != NULL)
        question_answer(q, FACT_FOUND, span_of(cached), "cache");
    else
        start(q, &p);
}
