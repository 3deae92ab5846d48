#include "server/crowd.h"
#include "protocol/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct crowd {
    pthread_mutex_t mutex;
    struct ip ip; /* of all greetings so far */
    unsigned clients, names;
    uint64_t seen[CROWD_NAMES]; /* hashes of HELO names */
    atomic_bool is_found;       /* read first, so that most pay no lock */
};

struct crowd *crowd_new(void)
{
    struct crowd *crowd = xcalloc(1, sizeof *crowd);
    pthread_mutex_init(&crowd->mutex, NULL);
    return crowd;
}

void crowd_free(struct crowd *crowd)
{
    if (crowd == NULL)
        return;
    pthread_mutex_destroy(&crowd->mutex);
    free(crowd);
}

/* FNV-1a. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)ascii_lower(*text)) * 0x100000001b3;
    return hash;
}

static void count_name(struct crowd *crowd, uint64_t hash)
{
    for (unsigned i = 0; i < crowd->names; i++)
        if (crowd->seen[i] == hash)
            return;
    if (crowd->names < CROWD_NAMES)
        crowd->seen[crowd->names++] = hash;
}

static bool note(struct crowd *crowd, const struct ip *ip, const char *helo)
{
    if (!ip_equals(&crowd->ip, ip)) {
        crowd->ip = *ip;
        crowd->clients = crowd->names = 0;
        atomic_store(&crowd->is_found, false);
    }
    if (atomic_load(&crowd->is_found) || ip_is_public(ip))
        return false;
    crowd->clients++;
    count_name(crowd, hash_of(helo));
    bool is_one = crowd->clients >= CROWD_CLIENTS && crowd->names >= CROWD_NAMES;
    atomic_store(&crowd->is_found, is_one);
    return is_one;
}

bool crowd_note(struct crowd *crowd, const struct ip *ip, const char *helo)
{
    if (crowd == NULL || ip_is_loopback(ip) || ip->family == 0)
        return false;
    pthread_mutex_lock(&crowd->mutex);
    bool is_new = note(crowd, ip, helo);
    pthread_mutex_unlock(&crowd->mutex);
    return is_new;
}

bool crowd_is(struct crowd *crowd, const struct ip *ip)
{
    if (crowd == NULL || !atomic_load(&crowd->is_found))
        return false;
    pthread_mutex_lock(&crowd->mutex);
    bool is_it = atomic_load(&crowd->is_found) && ip_equals(&crowd->ip, ip);
    pthread_mutex_unlock(&crowd->mutex);
    return is_it;
}
