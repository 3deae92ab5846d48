#include "server/fetch.h"
#include "protocol/mem.h"
#include "queue/lmtp.h"
#include "server/dns.h"
#include "server/policy_client.h"
#include "server/probe.h"
#include "server/tls.h"
#include "server/verify.h"

#include <stdlib.h>

/* ------------------------------------------------------------ questions */

static struct question *question_new(struct fetcher *fetcher, struct asker *asker,
                                     const struct fact_key *key)
{
    struct question *q = xcalloc(1, sizeof *q);
    q->fetcher = fetcher;
    q->asker = asker;
    q->config = config_hold(asker->config);
    q->key = *key;
    q->key.text.at = xprintf("%.*s", (int)key->text.len, key->text.at);
    q->began_ns = uv_hrtime();
    q->next = asker->questions;
    if (q->next != NULL)
        q->next->prev = q;
    asker->questions = q;
    return q;
}

static void question_unlink(struct question *q)
{
    if (q->asker == NULL)
        return;
    *(q->prev != NULL ? &q->prev->next : &q->asker->questions) = q->next;
    if (q->next != NULL)
        q->next->prev = q->prev;
}

void question_answer(struct question *q, enum fact_status status, struct span value,
                     const char *source)
{
    struct asker *asker = q->asker;
    int64_t took_ms = (int64_t)((uv_hrtime() - q->began_ns) / 1000000);
    const struct fact fact = { .key = q->key, .status = status, .value = value,
                               .source = source, .took_ms = took_ms };
    question_unlink(q);
    if (asker != NULL && !q->fetcher->is_closing)
        asker->learn(asker, &fact);
    free((void *)(uintptr_t)q->key.text.at);
    buf_fini(&q->value);
    config_release(q->config);
    free(q);
}

/* ------------------------------------------------------------ the DNS */

static void on_dns(void *arg, enum fact_status status, struct span value, const char *source)
{
    question_answer(arg, status, value, source);
}

/* ------------------------------------------------------------ slow tables */

static void look_up(uv_work_t *work)
{
    struct question *q = work->data;
    q->result = map_find(q->key.object, q->key.text, &q->value);
}

static enum fact_status status_of(enum map_result result)
{
    switch (result) {
    case MAP_FOUND: return FACT_FOUND;
    case MAP_NOT_FOUND: return FACT_NOT_FOUND;
    case MAP_RETRY:
    case MAP_PENDING: return FACT_TEMPFAIL;
    case MAP_BROKEN: break;
    }
    return FACT_BROKEN;
}

static void on_looked_up(uv_work_t *work, int status)
{
    struct question *q = work->data;
    struct fetcher *fetcher = q->fetcher;
    (void)status;
    question_answer(q, status_of(q->result), buf_span(&q->value), "table");
    fetcher->work_done(fetcher);
}

static void ask_table(struct question *q)
{
    q->by.work.data = q;
    q->fetcher->work_begun(q->fetcher);
    ENSURE(uv_queue_work(q->fetcher->uv, &q->by.work, look_up, on_looked_up) == 0);
}

/* ------------------------------------------------------------ time */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void wake(struct question *q)
{
    uv_close((uv_handle_t *)q->by.timer, on_timer_closed);
    question_answer(q, FACT_FOUND, span_make("", 0), "clock");
}

static void on_slept(uv_timer_t *timer)
{
    wake(timer->data);
}

/* "SECONDS place" */
static void ask_clock(struct question *q)
{
    uint64_t seconds = 0;
    struct span text = q->key.text;
    span_to_u64(span_next_word(&text), 3600, &seconds);
    q->by.timer = xcalloc(1, sizeof *q->by.timer);
    uv_timer_init(q->fetcher->uv, q->by.timer);
    q->by.timer->data = q;
    uv_timer_start(q->by.timer, on_slept, seconds * 1000, 0);
}

/* ------------------------------------------------------------ next hops */

struct host_question {
    lmtp_resolved *answer;
    void *arg;
};

static void on_host(void *arg, enum fact_status status, struct span value, const char *source)
{
    static const enum lmtp_dns of[] = { [FACT_FOUND] = LMTP_DNS_FOUND,
                                        [FACT_NOT_FOUND] = LMTP_DNS_NONE,
                                        [FACT_TEMPFAIL] = LMTP_DNS_RETRY,
                                        [FACT_BROKEN] = LMTP_DNS_RETRY };
    struct host_question *h = arg;
    (void)source;
    h->answer(h->arg, of[status], value);
    free(h);
}

static void resolve_host(void *context, enum lmtp_question kind, struct span name,
                         lmtp_resolved *answer, void *arg)
{
    static const enum fact_kind of[] = { [LMTP_ASK_A] = FACT_A, [LMTP_ASK_AAAA] = FACT_AAAA,
                                         [LMTP_ASK_MX] = FACT_MX };
    struct fetcher *fetcher = context;
    struct host_question *h = xcalloc(1, sizeof *h);
    *h = (struct host_question){ answer, arg };
    dns_ask(fetcher->dns, of[kind], name, on_host, h);
}

/* queue/ knows TLS as bytes in, bytes out. */
static void *begin_tls(void *context, const char *host)
{
    struct fetcher *fetcher = context;
    if (fetcher->tls == NULL)
        fetcher->tls = tls_client_new();
    return tls_stream_new_client(fetcher->tls, host);
}

static enum lmtp_tls_result read_tls(void *stream, struct span *cipher, char *room,
                                     size_t room_size, size_t *size, struct buf *out)
{
    static const enum lmtp_tls_result of[] = { [TLS_DATA] = LMTP_TLS_DATA,
                                               [TLS_WANT] = LMTP_TLS_WANT,
                                               [TLS_CLOSED] = LMTP_TLS_CLOSED,
                                               [TLS_FAILED] = LMTP_TLS_FAILED };
    return of[tls_stream_read(stream, cipher, room, room_size, size, out)];
}

static bool write_tls(void *stream, struct span plain, struct buf *out)
{
    return tls_stream_write(stream, plain, out);
}

static bool is_tls_ready(const void *stream)
{
    return tls_stream_is_ready(stream);
}

static void free_tls(void *stream)
{
    tls_stream_free(stream);
}

static const struct lmtp_tls tls_of_next_hops = { begin_tls, read_tls, write_tls, is_tls_ready,
                                                  free_tls };

static bool allows(void *context, const struct ip *ip)
{
    struct fetcher *fetcher = context;
    return fetcher->allows != NULL && fetcher->allows(fetcher, ip);
}

static void file_begun(void *context)
{
    struct fetcher *fetcher = context;
    fetcher->work_begun(fetcher);
}

static void file_done(void *context)
{
    struct fetcher *fetcher = context;
    fetcher->work_done(fetcher);
}

/* ------------------------------------------------------------ life */

/* A pause that nobody waits for any more ends; other questions run on into nothing. */
void fetch_leave(struct asker *asker)
{
    for (struct question *q = asker->questions, *next; q != NULL; q = next) {
        next = q->next;
        q->asker = NULL;
        if (q->key.kind == FACT_SLEEP)
            wake(q);
    }
    asker->questions = NULL;
}

static bool is_stored(enum fact_kind kind)
{
    return kind == FACT_GREYLIST || kind == FACT_REMEMBERED;
}

void fetch_fact(struct fetcher *fetcher, struct asker *asker, const struct fact_key *key)
{
    struct question *q = question_new(fetcher, asker, key);
    if (fact_kind_is_dns(key->kind))
        dns_ask(fetcher->dns, key->kind, key->text, on_dns, q);
    else if (key->kind == FACT_MAP)
        ask_table(q);
    else if (key->kind == FACT_POLICY)
        policy_client_ask(fetcher, q);
    else if (key->kind == FACT_PROBE)
        probe_ask(fetcher, q);
    else if (key->kind == FACT_VERIFY)
        verify_ask(fetcher, q);
    else if (key->kind == FACT_SLEEP)
        ask_clock(q);
    else if (is_stored(key->kind) && fetcher->ask_store != NULL)
        fetcher->ask_store(fetcher, q);
    else
        question_answer(q, FACT_TEMPFAIL, span_make("", 0), "nobody");
}

const char *fetcher_init(struct fetcher *fetcher, uv_loop_t *uv, const struct params *params)
{
    const char *error = NULL;
    fetcher->uv = uv;
    fetcher->dns = dns_new(uv, params, fetcher->stats, &error);
    if (fetcher->dns == NULL)
        return error;
    fetcher->lmtp = lmtp_pool_new(&(struct lmtp_outside){
        .uv = uv, .params = params, .loops = fetcher->loops, .context = fetcher,
        .tls = &tls_of_next_hops, .allows = allows, .resolve = resolve_host,
        .work_begun = file_begun, .work_done = file_done });
    return NULL;
}

void fetcher_fini(struct fetcher *fetcher)
{
    fetcher->is_closing = true;
    policy_clients_free(fetcher);
    lmtp_pool_free(fetcher->lmtp); /* before the DNS: it waits for names */
    fetcher->lmtp = NULL;
    verifier_free(fetcher->verifier);
    probe_cache_free(fetcher->probe_cache);
    tls_client_free(fetcher->tls);
    if (fetcher->dns != NULL)
        dns_free(fetcher->dns);
    fetcher->dns = NULL;
}

void fetcher_set_params(struct fetcher *fetcher, const struct params *params)
{
    lmtp_pool_set_params(fetcher->lmtp, params);
}
