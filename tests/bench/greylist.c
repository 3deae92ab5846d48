/* greylist - what the greylist's store costs: decisions in batches as the server's lane makes them.
 *
 *   greylist DIR [RECORDS [CACHE_MB]]      (1,000,000 records, 64 MB)
 *
 * DIR is made, filled, measured, closed and opened again; it is left for a look. Prints decisions
 * a second and CPU per decision for triplets that are new and that come again, at random; the
 * bytes on disk per record, and memory; how long a decision takes while a sweep of all records
 * runs between the decisions (step, then batch: what a client waits for); how long the store takes
 * to open after an orderly end. */
#include "policy/greylist_store.h"
#include "protocol/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 16, PROBES = 200000, NOW_S = 1000000000 };

static const struct greylist_params params = {
    .delay_s = 300, .retry_window_s = 2 * 86400, .max_age_s = 35 * 86400,
    .auto_allow_clients = 5, .auto_allow_senders = 2,
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, int rc)
{
    fprintf(stderr, "greylist: %s: %s\n", what, store_error_text(rc));
    exit(1);
}

static long rss_kb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%*d %ld", &pages) != 1)
        pages = 0;
    if (f != NULL)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A batch of decisions about these triplets. */
static void decide(struct greylist_store *g, const uint64_t *ids, int64_t now_s)
{
    struct greylist_request requests[BATCH];
    char keys[BATCH][128];
    for (int i = 0; i < BATCH; i++) {
        unsigned long long id = ids[i];
        snprintf(keys[i], sizeof keys[i],
                 "10.%llu.%llu.0/24/sender%llu@d%llu.test/user%llu@example.org\t10.%llu.%llu.7",
                 id % 250, id / 250 % 250, id, id % 9973, id % 997, id % 250, id / 250 % 250);
        requests[i] = (struct greylist_request){
            .next = i + 1 < BATCH ? &requests[i + 1] : NULL, .key = span_of(keys[i]),
            .params = params, .now_s = now_s };
    }
    int rc = greylist_store_decide(g, requests);
    if (rc != 0)
        die("decide", rc);
}

static void report(const char *what, double wall_s, double cpu_s, size_t count)
{
    printf("  %-22s %8.0f/s  %6.2f us of CPU each\n", what, (double)count / wall_s,
           cpu_s * 1e6 / (double)count);
    fflush(stdout);
}

static void fill(struct greylist_store *g, struct store *store, size_t count)
{
    double wall_s = seconds(CLOCK_MONOTONIC), cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    double checked_s = wall_s;
    uint64_t ids[BATCH];
    for (size_t n = 0; n < count; n += BATCH) {
        for (size_t i = 0; i < BATCH; i++)
            ids[i] = n + i;
        decide(g, ids, NOW_S);
        if (seconds(CLOCK_MONOTONIC) - checked_s > 5) {
            store_checkpoint(store);
            checked_s = seconds(CLOCK_MONOTONIC);
        }
    }
    report("new triplets", seconds(CLOCK_MONOTONIC) - wall_s,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s, count);
}

static void come_again(struct greylist_store *g, size_t count, const char *what, int64_t now_s)
{
    double wall_s = seconds(CLOCK_MONOTONIC), cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t ids[BATCH], random = 1;
    for (size_t n = 0; n < PROBES; n += BATCH) {
        for (size_t i = 0; i < BATCH; i++)
            ids[i] = mix(random += 0x9e3779b97f4a7c15u) % count;
        decide(g, ids, now_s);
    }
    report(what, seconds(CLOCK_MONOTONIC) - wall_s,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s, PROBES);
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Between two steps of the sweep there is a batch of decisions, as on the server's lane. */
static void sweep(struct greylist_store *g, size_t count)
{
    struct store_key at = { 0 };
    size_t steps = 0, room = count / 100 + 1000;
    double *took = xcalloc(room, sizeof *took), began_s = seconds(CLOCK_MONOTONIC);
    uint64_t ids[BATCH], random = 7;
    int removed = 0;
    bool is_done = false;
    while (!is_done && steps < room) {
        double step_s = seconds(CLOCK_MONOTONIC);
        int rc = greylist_store_sweep(g, &params, NOW_S + 600, &at, &removed, &is_done);
        if (rc != 0)
            die("sweep", rc);
        for (size_t i = 0; i < BATCH; i++)
            ids[i] = mix(random += 0x9e3779b97f4a7c15u) % count;
        decide(g, ids, NOW_S + 600);
        took[steps++] = (seconds(CLOCK_MONOTONIC) - step_s) * 1000;
    }
    double all_s = seconds(CLOCK_MONOTONIC) - began_s;
    qsort(took, steps, sizeof *took, by_size);
    printf("  sweep of all: %.1f s in %zu steps; a decision meanwhile: median %.2f ms, p99 %.2f "
           "ms, longest %.2f ms\n", all_s, steps, took[steps / 2], took[steps * 99 / 100],
           took[steps - 1]);
    free(took);
}

/* Triplets, and the clients and pairs that have succeeded. */
static size_t count_records(struct greylist_store *g)
{
    struct greylist_command c = { .verb = "stats", .words = "" };
    struct buf out = { 0 };
    size_t sum = 0;
    while (!c.is_done)
        if (greylist_store_command(g, &c, &params, NOW_S, &out) != 0)
            die("stats", STORE_BROKEN);
    for (size_t i = 0; i < ARRAY_LEN(c.counts); i++)
        sum += (size_t)c.counts[i];
    buf_fini(&out);
    return sum;
}

static struct store *open_store(const char *dir, int cache_mb, struct greylist_store *g)
{
    struct store *store = NULL;
    struct buf notes = { 0 };
    double began_s = seconds(CLOCK_MONOTONIC);
    int rc = store_open(dir, cache_mb, &store, &notes);
    if (rc == 0)
        rc = greylist_store_begin(g, store);
    if (rc != 0)
        die(dir, rc);
    printf("  opened in %.2f s%s%s\n", seconds(CLOCK_MONOTONIC) - began_s,
           notes.len > 0 ? ": " : "", buf_text(&notes));
    buf_fini(&notes);
    return store;
}

int main(int argc, char **argv)
{
    size_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    int cache_mb = argc > 3 ? atoi(argv[3]) : 64;
    struct greylist_store g;
    if (argc < 2 || count < BATCH || cache_mb < 1) {
        fprintf(stderr, "usage: greylist DIR [RECORDS [CACHE_MB]]\n");
        return 64;
    }
    printf("%zu triplets, cache of %d MB\n", count, cache_mb);
    long before_kb = rss_kb();
    struct store *store = open_store(argv[1], cache_mb, &g);
    fill(&g, store, count);
    store_checkpoint(store);
    come_again(&g, count, "too early again", NOW_S + 100);
    come_again(&g, count, "in time", NOW_S + 400);
    come_again(&g, count, "seen before", NOW_S + 500);
    store_checkpoint(store);
    size_t records = count_records(&g);
    printf("  %zu records: disk %.0f bytes each, memory %.0f MB\n", records,
           (double)store_file_bytes(store) / (double)records,
           (double)(rss_kb() - before_kb) / 1024);
    sweep(&g, count);
    greylist_store_end(&g);
    store_close(store);
    store = open_store(argv[1], cache_mb, &g);
    greylist_store_end(&g);
    store_close(store);
    return 0;
}
