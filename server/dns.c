#include "server/dns.h"
#include "protocol/ip.h"
#include "protocol/list.h"
#include "protocol/mem.h"
#include "server/dns_parse.h"
#include "server/hosts.h"
#include "server/stats.h"

#include <ares.h>
#include <pthread.h>
#include <stdlib.h>

enum { TICK_MS = 100, EDNS_BYTES = 1232, TRIES = 3, TEMPFAIL_TTL_MS = 1000 };
enum { BUCKETS = 4096, BYTES_PER_ENTRY = 512 };

struct waiter {
    struct waiter *next;
    dns_callback *callback;
    void *arg;
};

/* A question: under way, in line, or answered and kept. */
struct entry {
    struct entry *next;            /* in its bucket */
    struct entry *newer, *older;   /* in waiting, or in answered by use */
    struct entry *queue_next;      /* in line */
    struct dns *dns;
    enum fact_kind kind;
    enum { ENTRY_QUEUED, ENTRY_SENT, ENTRY_ANSWERED, ENTRY_ORPHANED } state;
    struct waiter *waiters, **waiters_end; /* owns */
    int64_t deadline_ms;           /* under way: answer by then; answered: good until then */
    enum fact_status status;
    struct buf value;              /* owns */
    int cnames;                    /* followed so far */
    char name[];
};

struct entry_list {
    struct entry *newest, *oldest;
};

struct channel;

struct sock {
    uv_poll_t poll;
    struct channel *channel;
    struct sock *next;
    ares_socket_t fd;
};

/* A c-ares channel; an old one lives until its last answer. */
struct channel {
    struct channel *next;
    struct dns *dns;
    ares_channel ares;
    struct sock *socks;
    int sent, under_way;
};

/* What c-ares gets as its argument. */
struct query {
    struct entry *entry; /* NULL: nobody wants to know any more */
    struct channel *channel;
    uint64_t began_ns;
};

struct dns {
    uv_loop_t *loop;
    uv_timer_t *tick;
    const struct params *params; /* lent: values are copied below */
    struct channel *channels;    /* owns: the newest first */
    struct entry *buckets[BUCKETS];
    struct entry_list answered, waiting;
    struct entry *queue, **queue_end;
    int under_way, queued, answered_count, query_limit, cache_size;
    size_t answered_bytes;
    int64_t timeout_ms, retry_ms;
    char *servers; /* owns: CSV; NULL: as the system says */
    int server_count;
    bool is_closing, is_ticking;
    struct hosts *hosts; /* owns */
    struct stats *stats; /* lent: the loop's */
};

/* ------------------------------------------------------------ entries */

static size_t bucket_of(enum fact_kind kind, const char *name)
{
    uint64_t h = span_hash(span_of(name)) + kind;
    return (h ^ (h >> 32)) % BUCKETS;
}

static struct entry *find(struct dns *dns, enum fact_kind kind, const char *name)
{
    struct entry *e = dns->buckets[bucket_of(kind, name)];
    while (e != NULL && (e->kind != kind || strcmp(e->name, name) != 0))
        e = e->next;
    return e;
}

static void list_remove(struct entry_list *list, struct entry *e)
{
    *(e->newer != NULL ? &e->newer->older : &list->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &list->oldest) = e->newer;
}

static void list_add(struct entry_list *list, struct entry *e)
{
    e->newer = NULL;
    e->older = list->newest;
    *(list->newest != NULL ? &list->newest->newer : &list->oldest) = e;
    list->newest = e;
}

static void unlink_entry(struct dns *dns, struct entry *e)
{
    bool is_answered = e->state == ENTRY_ANSWERED;
    list_remove(is_answered ? &dns->answered : &dns->waiting, e);
    if (!is_answered)
        return;
    dns->answered_count--;
    dns->answered_bytes -= e->value.cap + sizeof *e;
}

static void link_answered(struct dns *dns, struct entry *e)
{
    list_add(&dns->answered, e);
    dns->answered_count++;
    dns->answered_bytes += e->value.cap + sizeof *e;
}

static void unlink_bucket(struct dns *dns, struct entry *e)
{
    struct entry **at = &dns->buckets[bucket_of(e->kind, e->name)];
    while (*at != NULL && *at != e)
        at = &(*at)->next;
    if (*at != NULL)
        *at = e->next;
}

static void free_entry(struct dns *dns, struct entry *e)
{
    ENSURE(e->waiters == NULL);
    unlink_entry(dns, e);
    unlink_bucket(dns, e);
    buf_fini(&e->value);
    free(e);
}

static void trim_cache(struct dns *dns)
{
    size_t bytes_max = (size_t)dns->cache_size * BYTES_PER_ENTRY;
    while (dns->answered.oldest != NULL
           && (dns->answered_count > dns->cache_size || dns->answered_bytes > bytes_max))
        free_entry(dns, dns->answered.oldest);
}

static struct entry *new_entry(struct dns *dns, enum fact_kind kind, const char *name)
{
    size_t size = strlen(name) + 1, bucket = bucket_of(kind, name);
    struct entry *e = xcalloc(1, sizeof *e + size);
    memcpy(e->name, name, size);
    e->dns = dns;
    e->kind = kind;
    e->waiters_end = &e->waiters;
    e->next = dns->buckets[bucket];
    dns->buckets[bucket] = e;
    list_add(&dns->waiting, e);
    return e;
}

static void add_waiter(struct entry *e, dns_callback *callback, void *arg)
{
    struct waiter *w = xcalloc(1, sizeof *w);
    w->callback = callback;
    w->arg = arg;
    *e->waiters_end = w;
    e->waiters_end = &w->next;
}

/* Tells everybody who waits. The entry itself may be gone afterwards. */
static void tell(struct entry *e, enum fact_status status, struct span value)
{
    struct waiter *w = e->waiters;
    e->waiters = NULL;
    e->waiters_end = &e->waiters;
    while (w != NULL) {
        struct waiter *next = w->next;
        w->callback(w->arg, status, value, "dns");
        free(w);
        w = next;
    }
}

static int64_t now_ms(const struct dns *dns)
{
    return (int64_t)uv_now(dns->loop);
}

/* ------------------------------------------------------------ sockets and time */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sock *s = (struct sock *)(void *)poll;
    bool is_readable = status < 0 || (events & UV_READABLE) != 0;
    ares_process_fd(s->channel->ares, is_readable ? s->fd : ARES_SOCKET_BAD,
                    (events & UV_WRITABLE) != 0 ? s->fd : ARES_SOCKET_BAD);
}

static void on_sock_closed(uv_handle_t *handle)
{
    free(handle);
}

static void close_sock(struct channel *channel, ares_socket_t fd)
{
    struct sock **at = &channel->socks;
    while (*at != NULL && (*at)->fd != fd)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    struct sock *s = *at;
    *at = s->next;
    uv_close((uv_handle_t *)&s->poll, on_sock_closed);
}

static struct sock *open_sock(struct channel *channel, ares_socket_t fd)
{
    struct sock *s = channel->socks;
    while (s != NULL && s->fd != fd)
        s = s->next;
    if (s != NULL)
        return s;
    s = xcalloc(1, sizeof *s);
    s->fd = fd;
    s->channel = channel;
    s->next = channel->socks;
    channel->socks = s;
    uv_poll_init_socket(channel->dns->loop, &s->poll, fd);
    return s;
}

/* c-ares says what it wants to know of a descriptor; nothing: it is about to be closed. */
static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = arg;
    int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    if (events == 0)
        close_sock(channel, fd);
    else
        uv_poll_start(&open_sock(channel, fd)->poll, events, on_poll);
}

static void free_channel(struct channel *channel)
{
    ares_destroy(channel->ares); /* calls back for what is under way, before it returns */
    while (channel->socks != NULL)
        close_sock(channel, channel->socks->fd);
    free(channel);
}

/* Old channels end with their last answer; not from inside c-ares, so at the next tick. */
static void free_old_channels(struct dns *dns)
{
    struct channel **at = &dns->channels;
    if (*at != NULL)
        at = &(*at)->next;
    while (*at != NULL) {
        struct channel *channel = *at;
        if (channel->under_way > 0) {
            at = &channel->next;
            continue;
        }
        *at = channel->next;
        free_channel(channel);
    }
}

static int init_ares(struct channel *channel)
{
    struct dns *dns = channel->dns;
    int flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS;
    /* With one server, its SERVFAIL is the answer, told apart from silence. With several, such an
     * answer makes c-ares ask the next one. */
    if (dns->server_count == 1)
        flags |= ARES_FLAG_NOCHECKRESP;
    struct ares_options options = {
        .flags = flags, .timeout = (int)dns->retry_ms, .tries = TRIES, .lookups = (char *)"b",
        .sock_state_cb = on_sock_state, .sock_state_cb_data = channel, .ednspsz = EDNS_BYTES,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS
               | ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ;
    int rc = ares_init_options(&channel->ares, &options, mask);
    if (rc == ARES_SUCCESS && dns->servers != NULL)
        rc = ares_set_servers_ports_csv(channel->ares, dns->servers);
    return rc;
}

static int add_channel(struct dns *dns)
{
    struct channel *channel = xcalloc(1, sizeof *channel);
    channel->dns = dns;
    int rc = init_ares(channel);
    if (rc != ARES_SUCCESS) {
        free(channel);
        return rc;
    }
    channel->next = dns->channels;
    dns->channels = channel;
    return ARES_SUCCESS;
}

/* ------------------------------------------------------------ asking */

static void send_next(struct dns *dns);

static void keep_answer(struct dns *dns, struct entry *e, const struct dns_result *result,
                        struct buf *value)
{
    int64_t ttl_ms = (int64_t)result->ttl_s * 1000;
    if (result->status == FACT_TEMPFAIL)
        ttl_ms = TEMPFAIL_TTL_MS;
    unlink_entry(dns, e);
    e->state = ENTRY_ANSWERED;
    e->status = result->status;
    e->deadline_ms = now_ms(dns) + ttl_ms;
    e->value = *value;
    *value = (struct buf){ 0 };
    link_answered(dns, e);
    trim_cache(dns);
}

/* The answer lives on while the waiters hear it, whatever they do to the cache. */
static void answer(struct dns *dns, struct entry *e, const struct dns_result *result,
                   struct buf *value)
{
    struct buf copy = { 0 };
    struct entry heard = { .waiters = e->waiters };
    heard.waiters_end = &heard.waiters;
    e->waiters = NULL;
    e->waiters_end = &e->waiters;
    buf_add(&copy, buf_span(value));
    keep_answer(dns, e, result, value);
    tell(&heard, result->status, buf_span(&copy));
    buf_fini(&copy);
}

static void send_query(struct dns *dns, struct entry *e, const char *name);

static void count_answer(const struct query *q, const unsigned char *bytes, int len)
{
    int rcode = bytes != NULL && len > 3 ? bytes[3] & 15 : -1;
    stats_dns(q->channel->dns->stats, q->entry->kind, rcode, (uv_hrtime() - q->began_ns) / 1000);
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *bytes, int len)
{
    struct query *q = arg; /* exactly once, also for timeout and destruction */
    struct dns *dns = q->channel->dns;
    struct entry *e = q->entry;
    struct buf value = { 0 };
    struct dns_result result = { .status = FACT_TEMPFAIL };
    (void)timeouts;
    q->channel->under_way--;
    dns->under_way--;
    if (!dns->is_closing)
        count_answer(q, bytes, len);
    free(q);
    if (dns->is_closing) {
        if (e != NULL)
            free_entry(dns, e);
        return;
    }
    if (bytes != NULL)
        result = dns_parse(e->kind, bytes, len, &value);
    else if (status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME)
        result.status = FACT_NOT_FOUND;
    if (e->state == ENTRY_ORPHANED) /* too late for those who asked, not for the next */
        e->state = ENTRY_SENT;
    if (result.cname[0] != '\0' && e->cnames++ < DNS_CNAME_MAX)
        send_query(dns, e, result.cname);
    else
        answer(dns, e, &result, &value);
    buf_fini(&value);
    send_next(dns);
}

static void on_tick(uv_timer_t *tick);

static void start_ticking(struct dns *dns)
{
    if (dns->is_ticking)
        return;
    dns->is_ticking = true;
    uv_timer_start(dns->tick, on_tick, TICK_MS, TICK_MS);
}

static void send_query(struct dns *dns, struct entry *e, const char *name)
{
    if (dns->channels->sent >= DNS_RENEW_AFTER)
        add_channel(dns); /* on failure the old one serves on */
    struct channel *channel = dns->channels;
    struct query *q = xcalloc(1, sizeof *q);
    q->entry = e;
    q->channel = channel;
    e->state = ENTRY_SENT;
    channel->sent++;
    channel->under_way++; /* before: the callback may run inside */
    dns->under_way++;
    q->began_ns = uv_hrtime();
    start_ticking(dns);
    ares_query(channel->ares, name, 1 /* IN */, dns_type(e->kind), on_answer, q);
}

static void enqueue(struct dns *dns, struct entry *e)
{
    e->state = ENTRY_QUEUED;
    *dns->queue_end = e;
    dns->queue_end = &e->queue_next;
    dns->queued++;
}

static void send_next(struct dns *dns)
{
    while (dns->queue != NULL && dns->under_way < dns->query_limit) {
        struct entry *e = dns->queue;
        dns->queue = e->queue_next;
        e->queue_next = NULL;
        dns->queued--;
        if (dns->queue == NULL)
            dns->queue_end = &dns->queue;
        send_query(dns, e, e->name);
    }
}

/* Those who have waited too long hear that it could not be found out. Oldest first; telling them
 * frees no entry, and what they ask then comes in front of the newest. */
static void expire(struct dns *dns)
{
    for (struct entry *e = dns->waiting.oldest, *next; e != NULL; e = next) {
        next = e->newer;
        if (e->waiters == NULL || now_ms(dns) < e->deadline_ms)
            continue;
        if (e->state == ENTRY_SENT)
            e->state = ENTRY_ORPHANED;
        tell(e, FACT_TEMPFAIL, span_make("", 0));
    }
}

static void on_tick(uv_timer_t *tick)
{
    struct dns *dns = tick->data;
    for (struct channel *c = dns->channels; c != NULL; c = c->next)
        ares_process_fd(c->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    expire(dns);
    free_old_channels(dns);
    if (dns->under_way == 0 && dns->queued == 0) {
        uv_timer_stop(tick);
        dns->is_ticking = false;
    }
}

static bool is_fresh(struct dns *dns, struct entry *e)
{
    return e->state == ENTRY_ANSWERED && now_ms(dns) < e->deadline_ms;
}

void dns_ask(struct dns *dns, enum fact_kind kind, struct span text, dns_callback *callback,
             void *arg)
{
    char name[DNS_NAME_MAX];
    struct buf local = { 0 };
    size_t len = text.len < sizeof name ? text.len : sizeof name - 1;
    memcpy(name, text.at, len);
    name[len] = '\0';
    if (hosts_find(dns->hosts, kind, name, &local)) {
        callback(arg, FACT_FOUND, buf_span(&local), "hosts");
        buf_fini(&local);
        return;
    }
    struct entry *e = find(dns, kind, name);
    if (e != NULL && is_fresh(dns, e)) {
        stats_add(dns->stats, STAT_DNS_CACHED, 1);
        unlink_entry(dns, e);
        link_answered(dns, e);
        callback(arg, e->status, buf_span(&e->value), "cache");
        return;
    }
    if (e != NULL && e->state == ENTRY_ANSWERED) {
        free_entry(dns, e);
        e = NULL;
    }
    if (e == NULL && dns->queued >= DNS_QUEUE_MAX) {
        callback(arg, FACT_TEMPFAIL, span_make("", 0), "queue full");
        return;
    }
    bool is_new = e == NULL;
    if (is_new)
        e = new_entry(dns, kind, name);
    if (is_new || e->waiters == NULL)
        e->deadline_ms = now_ms(dns) + dns->timeout_ms;
    add_waiter(e, callback, arg);
    if (is_new) {
        enqueue(dns, e);
        start_ticking(dns);
        send_next(dns);
    }
}

/* ------------------------------------------------------------ life */

static pthread_once_t ares_once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
    ares_library_init(ARES_LIB_INIT_ALL);
}

/* "192.0.2.1 [2001:db8::1]:53" -> c-ares' CSV. */
static char *server_csv(const char *list, int *count)
{
    struct buf csv = { 0 };
    struct span rest = span_of(list), item;
    *count = 0;
    while ((item = list_next(&rest)).len > 0) {
        buf_puts(&csv, *count > 0 ? "," : "");
        buf_add(&csv, item);
        (*count)++;
    }
    char *text = *count > 0 ? xstrdup(buf_text(&csv)) : NULL;
    buf_fini(&csv);
    return text;
}

static int system_server_count(struct dns *dns)
{
    struct ares_addr_port_node *list = NULL;
    int count = 0;
    if (ares_get_servers_ports(dns->channels->ares, &list) != ARES_SUCCESS)
        return 1;
    for (const struct ares_addr_port_node *n = list; n != NULL; n = n->next)
        count++;
    ares_free_data(list);
    return count;
}

struct dns *dns_new(uv_loop_t *loop, const struct params *params, struct stats *stats,
                    const char **error)
{
    struct dns *dns = xcalloc(1, sizeof *dns);
    pthread_once(&ares_once, init_library);
    dns->loop = loop;
    dns->stats = stats;
    dns->queue_end = &dns->queue;
    dns->query_limit = params->dns_query_limit;
    dns->cache_size = params->dns_cache_size;
    dns->timeout_ms = params->dns_timeout;
    dns->retry_ms = params->dns_retry_time;
    dns->servers = server_csv(params->dns_servers, &dns->server_count);
    dns->hosts = hosts_read("/etc/hosts");
    dns->tick = xcalloc(1, sizeof *dns->tick);
    uv_timer_init(loop, dns->tick);
    dns->tick->data = dns;
    int rc = add_channel(dns);
    if (rc == ARES_SUCCESS && dns->servers == NULL) { /* now that it is known how many there are */
        dns->server_count = system_server_count(dns);
        rc = add_channel(dns);
    }
    if (rc == ARES_SUCCESS)
        return dns;
    *error = ares_strerror(rc);
    dns_free(dns);
    return NULL;
}

static void on_tick_closed(uv_handle_t *handle)
{
    free(handle);
}

void dns_free(struct dns *dns)
{
    dns->is_closing = true;
    for (struct entry *e = dns->waiting.oldest; e != NULL; e = e->newer)
        tell(e, FACT_TEMPFAIL, span_make("", 0)); /* whoever asked has something to free */
    while (dns->channels != NULL) {
        struct channel *next = dns->channels->next;
        free_channel(dns->channels);
        dns->channels = next;
    }
    for (size_t i = 0; i < BUCKETS; i++)
        while (dns->buckets[i] != NULL) /* which it takes itself out of: */
            free_entry(dns, dns->buckets[i]); /* NOLINT(clang-analyzer-unix.Malloc) */
    uv_timer_stop(dns->tick);
    uv_close((uv_handle_t *)dns->tick, on_tick_closed);
    hosts_free(dns->hosts);
    free(dns->servers);
    free(dns);
}
