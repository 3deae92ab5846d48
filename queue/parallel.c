#include "queue/parallel.h"
#include "protocol/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

enum { THREADS_MAX = 64, STACK_BYTES = 256 * 1024 };

/* On the caller's stack. */
struct job {
    struct job *next;
    void (*step)(void *thing);
    void *const *things;
    size_t count, taken, done;
    pthread_cond_t is_done;
};

struct parallel {
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    struct job *first, **end; /* guarded, as all below: jobs with things that nobody has taken */
    pthread_t threads[THREADS_MAX];
    unsigned limit, running, idle;
    bool is_ending;
};

struct parallel *parallel_new(unsigned threads)
{
    struct parallel *p = xcalloc(1, sizeof *p);
    p->limit = threads < THREADS_MAX ? threads : THREADS_MAX;
    p->end = &p->first;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->has_work, NULL);
    return p;
}

void parallel_free(struct parallel *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->mutex);
    p->is_ending = true;
    pthread_cond_broadcast(&p->has_work);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 0; i < p->running; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->has_work);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static void remove_job(struct parallel *p, struct job *job)
{
    struct job **at = &p->first;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    if (*at == NULL)
        p->end = at;
}

/* Takes the job's next thing and does it, with the mutex open meanwhile. */
static void do_one(struct parallel *p, struct job *job)
{
    void *thing = job->things[job->taken++];
    if (job->taken == job->count)
        remove_job(p, job);
    pthread_mutex_unlock(&p->mutex);
    job->step(thing);
    pthread_mutex_lock(&p->mutex);
    if (++job->done == job->count) /* the job is gone as soon as its caller hears */
        pthread_cond_signal(&job->is_done);
}

static void *work(void *arg)
{
    struct parallel *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->is_ending) {
        if (p->first != NULL) {
            do_one(p, p->first);
            continue;
        }
        p->idle++;
        pthread_cond_wait(&p->has_work, &p->mutex);
        p->idle--;
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* The thread takes no signals: those are for the event loop. */
static bool start_thread(struct parallel *p)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool is_started = pthread_create(&p->threads[p->running], &attributes, work, p) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->running += is_started;
    return is_started;
}

static void wake_threads(struct parallel *p, size_t wanted)
{
    for (size_t i = 0; i < wanted && i < p->idle; i++)
        pthread_cond_signal(&p->has_work);
    for (size_t have = p->idle; have < wanted && p->running < p->limit; have++)
        if (!start_thread(p))
            break;
}

static void run_job(struct parallel *p, struct job *job)
{
    pthread_cond_init(&job->is_done, NULL);
    pthread_mutex_lock(&p->mutex);
    *p->end = job;
    p->end = &job->next;
    wake_threads(p, job->count - 1);
    while (job->taken < job->count)
        do_one(p, job);
    while (job->done < job->count)
        pthread_cond_wait(&job->is_done, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    pthread_cond_destroy(&job->is_done);
}

void parallel_run(struct parallel *p, void (*step)(void *thing), void *const *things,
                  size_t count)
{
    struct job job = { .step = step, .things = things, .count = count };
    if (p != NULL && p->limit > 0 && count > 1) {
        run_job(p, &job);
        return;
    }
    for (size_t i = 0; i < count; i++)
        step(things[i]);
}
