#include "server/clients.h"
#include "protocol/mem.h"

#include <pthread.h>
#include <stdlib.h>

struct client {
    struct client *next;
    struct ip ip;
    int connections;
    struct {
        int64_t began_ms;
        int count;
    } windows[CLIENT_EVENT_COUNT];
};

enum { SHARD_COUNT = 64, BUCKETS_FIRST = 64, KNOWN_SLOTS = 256 };

/* A client that has brought mail. */
struct known {
    uint64_t hash;
    int64_t until_ms;
};

struct shard {
    pthread_mutex_t mutex;
    struct known known[KNOWN_SLOTS];
    struct client **buckets; /* owns */
    size_t bucket_count, count;
};

struct clients {
    struct shard shards[SHARD_COUNT];
};

struct clients *clients_new(void)
{
    struct clients *clients = xcalloc(1, sizeof *clients);
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        struct shard *s = &clients->shards[i];
        pthread_mutex_init(&s->mutex, NULL);
        s->bucket_count = BUCKETS_FIRST;
        s->buckets = xcalloc(BUCKETS_FIRST, sizeof *s->buckets);
    }
    return clients;
}

void clients_free(struct clients *clients)
{
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        struct shard *s = &clients->shards[i];
        for (size_t b = 0; b < s->bucket_count; b++) {
            while (s->buckets[b] != NULL) {
                struct client *next = s->buckets[b]->next;
                free(s->buckets[b]);
                s->buckets[b] = next;
            }
        }
        free(s->buckets);
        pthread_mutex_destroy(&s->mutex);
    }
    free(clients);
}

static uint64_t hash_of(const struct ip *ip)
{
    uint64_t h = ip->family;
    for (size_t i = 0; i < ip_bits(ip) / 8; i++)
        h = (h ^ ip->bytes[i]) * 1099511628211u;
    return h ^ (h >> 32);
}

static struct ip client_of(const struct ip *ip, const struct params *params)
{
    int bits = ip->family == 4 ? params->smtpd_client_ipv4_prefix_length
                               : params->smtpd_client_ipv6_prefix_length;
    return ip_masked(ip, (unsigned)bits);
}

static bool is_idle(const struct client *c, const struct params *params, int64_t now_ms)
{
    if (c->connections > 0)
        return false;
    for (size_t i = 0; i < CLIENT_EVENT_COUNT; i++)
        if (c->windows[i].count > 0
            && now_ms - c->windows[i].began_ms < params->anvil_rate_time_unit)
            return false;
    return true;
}

/* Walks one chain; what is idle in it goes, so that the table needs no sweeper. */
static struct client **find(struct shard *s, const struct ip *ip, const struct params *params,
                            int64_t now_ms, uint64_t hash)
{
    struct client **at = &s->buckets[(hash / SHARD_COUNT) & (s->bucket_count - 1)];
    while (*at != NULL && !ip_equals(&(*at)->ip, ip)) {
        struct client *c = *at;
        if (is_idle(c, params, now_ms)) {
            *at = c->next;
            free(c);
            s->count--;
        } else {
            at = &c->next;
        }
    }
    return at;
}

static void grow(struct shard *s)
{
    size_t old_count = s->bucket_count;
    struct client **old = s->buckets;
    s->bucket_count *= 2;
    s->buckets = xcalloc(s->bucket_count, sizeof *s->buckets);
    for (size_t b = 0; b < old_count; b++) {
        while (old[b] != NULL) {
            struct client *c = old[b];
            old[b] = c->next;
            size_t to = (hash_of(&c->ip) / SHARD_COUNT) & (s->bucket_count - 1);
            c->next = s->buckets[to];
            s->buckets[to] = c;
        }
    }
    free(old);
}

/* The entry, made if need be; NULL when the table is full. The shard is locked. */
static struct client *get(struct shard *s, const struct ip *ip, const struct params *params,
                          int64_t now_ms, uint64_t hash)
{
    struct client **at = find(s, ip, params, now_ms, hash);
    if (*at != NULL || s->count >= CLIENTS_MAX / SHARD_COUNT)
        return *at;
    struct client *c = xcalloc(1, sizeof *c);
    c->ip = *ip;
    *at = c;
    if (++s->count > 2 * s->bucket_count)
        grow(s);
    return c;
}

static int count_event(struct client *c, enum client_event event, const struct params *params,
                       int64_t now_ms)
{
    int64_t *began_ms = &c->windows[event].began_ms;
    if (c->windows[event].count == 0 || now_ms - *began_ms >= params->anvil_rate_time_unit) {
        *began_ms = now_ms;
        c->windows[event].count = 0;
    }
    return ++c->windows[event].count;
}

static struct shard *lock_shard(struct clients *clients, uint64_t hash)
{
    struct shard *s = &clients->shards[hash % SHARD_COUNT];
    pthread_mutex_lock(&s->mutex);
    return s;
}

void clients_connect(struct clients *clients, const struct ip *ip, const struct params *params,
                     int64_t now_ms, int *connections, int *rate)
{
    struct ip key = client_of(ip, params);
    uint64_t hash = hash_of(&key);
    struct shard *s = lock_shard(clients, hash);
    struct client *c = get(s, &key, params, now_ms, hash);
    *connections = c != NULL ? ++c->connections : 0;
    *rate = 0; /* without a limit no window is kept, and the entry goes with its connections */
    if (c != NULL && params->smtpd_client_connection_rate_limit > 0)
        *rate = count_event(c, CLIENT_CONNECTION, params, now_ms);
    pthread_mutex_unlock(&s->mutex);
}

void clients_disconnect(struct clients *clients, const struct ip *ip,
                        const struct params *params, int64_t now_ms)
{
    struct ip key = client_of(ip, params);
    uint64_t hash = hash_of(&key);
    struct shard *s = lock_shard(clients, hash);
    struct client **at = find(s, &key, params, now_ms, hash), *c = *at;
    if (c != NULL && c->connections > 0)
        c->connections--;
    if (c != NULL && is_idle(c, params, now_ms)) {
        *at = c->next;
        free(c);
        s->count--;
    }
    pthread_mutex_unlock(&s->mutex);
}

int clients_count(struct clients *clients, const struct ip *ip, const struct params *params,
                  enum client_event event, int64_t now_ms)
{
    struct ip key = client_of(ip, params);
    uint64_t hash = hash_of(&key);
    struct shard *s = lock_shard(clients, hash);
    struct client *c = get(s, &key, params, now_ms, hash);
    int count = c != NULL ? count_event(c, event, params, now_ms) : 0;
    pthread_mutex_unlock(&s->mutex);
    return count;
}

/* ------------------------------------------------------------ who has brought mail */

static struct known *known_slot(struct shard *s, uint64_t hash)
{
    return &s->known[hash / SHARD_COUNT % KNOWN_SLOTS];
}

void clients_welcome(struct clients *clients, const struct ip *ip, const struct params *params,
                     int64_t now_ms)
{
    struct ip key = client_of(ip, params);
    uint64_t hash = hash_of(&key);
    struct shard *s = lock_shard(clients, hash);
    *known_slot(s, hash) = (struct known){ hash, now_ms + CLIENTS_KNOWN_MS };
    pthread_mutex_unlock(&s->mutex);
}

bool clients_is_welcome(struct clients *clients, const struct ip *ip,
                        const struct params *params, int64_t now_ms)
{
    struct ip key = client_of(ip, params);
    uint64_t hash = hash_of(&key);
    struct shard *s = lock_shard(clients, hash);
    const struct known *known = known_slot(s, hash);
    bool is_known = known->hash == hash && known->until_ms > now_ms;
    pthread_mutex_unlock(&s->mutex);
    return is_known;
}
