#include "queue/parallel.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { THINGS = 500 };

static atomic_int counts[THINGS];
static atomic_int inside, most_inside;

static void count(void *thing)
{
    atomic_fetch_add((atomic_int *)thing, 1);
}

static void fill(void **things, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        atomic_store(&counts[i], 0);
        things[i] = &counts[i];
    }
}

static void expect_each_once(size_t n)
{
    for (size_t i = 0; i < THINGS; i++)
        cr_expect_eq(atomic_load(&counts[i]), i < n, "%zu of %zu: %d times", i, n,
                     atomic_load(&counts[i]));
}

Test(parallel, each_thing_is_done_once_before_the_call_returns)
{
    void *things[THINGS];
    for (unsigned threads = 0; threads < 20; threads += 5) {
        struct parallel *p = parallel_new(threads);
        for (size_t n = 0; n < THINGS; n = n * 2 + 1) {
            fill(things, THINGS);
            parallel_run(p, count, things, n);
            expect_each_once(n);
        }
        parallel_free(p);
    }
}

Test(parallel, nobody_s_threads_do_it_in_order)
{
    void *things[3];
    fill(things, 3);
    parallel_run(NULL, count, things, 3);
    expect_each_once(3);
    parallel_free(NULL);
}

static void stay(void *thing)
{
    int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);
    while (most < now && !atomic_compare_exchange_weak(&most_inside, &most, now))
        ;
    for (int i = 0; i < 2000 && atomic_load(&most_inside) < 4; i++)
        usleep(1000); /* until the others are there as well */
    atomic_fetch_sub(&inside, 1);
    count(thing);
}

Test(parallel, things_are_done_at_the_same_time, .timeout = 20)
{
    void *things[4];
    struct parallel *p = parallel_new(3);
    fill(things, 4);
    parallel_run(p, stay, things, 4);
    expect_each_once(4);
    cr_expect_eq(atomic_load(&most_inside), 4);
    parallel_free(p);
}

struct caller {
    pthread_t thread;
    struct parallel *p;
    atomic_int sums[50];
};

static void *call(void *arg)
{
    struct caller *c = arg;
    void *things[50];
    for (size_t i = 0; i < 50; i++)
        things[i] = &c->sums[i];
    for (int round = 0; round < 200; round++)
        parallel_run(c->p, count, things, (size_t)round % 50);
    return NULL;
}

Test(parallel, several_callers_share_the_threads, .timeout = 60)
{
    static struct caller callers[6];
    struct parallel *p = parallel_new(4);
    for (int i = 0; i < 6; i++) {
        callers[i].p = p;
        cr_assert_eq(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(callers[i].thread, NULL);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 50; k++) /* four times each length 0 ... 49 */
            cr_expect_eq(atomic_load(&callers[i].sums[k]), 4 * (49 - k));
    parallel_free(p);
}

Test(parallel, without_threads_the_caller_does_it)
{
    void *things[THINGS];
    struct rlimit before, none;
    uid_t uid = getuid();
    struct parallel *p = parallel_new(8);
    getrlimit(RLIMIT_NPROC, &before);
    none = (struct rlimit){ 0, before.rlim_max };
    setrlimit(RLIMIT_NPROC, &none);
    if (uid == 0) /* who has no such limit */
        cr_assert_eq(setresuid(65534, 65534, 0), 0);
    fill(things, THINGS);
    parallel_run(p, count, things, THINGS);
    expect_each_once(THINGS);
    if (uid == 0)
        cr_assert_eq(setresuid(0, 0, 0), 0);
    setrlimit(RLIMIT_NPROC, &before);
    parallel_free(p);
}
