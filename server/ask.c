/* ask - who can find out a missing fact. Look-ups in slow tables go to a work thread. */
#include "protocol/mem.h"
#include "server/conn.h"

#include <stdlib.h>

/* One question under way; conn is NULL once nobody waits for it. */
struct lookup {
    uv_work_t request;
    struct conn *conn;
    struct loop *loop;
    struct lookup *prev, *next; /* in conn->lookups */
    struct config *config;      /* one reference: the table must live */
    struct fact_key key;        /* text: ours */
    enum map_result result;
    struct buf value;           /* owns */
};

static void link_lookup(struct lookup *q, struct conn *c)
{
    q->next = c->lookups;
    if (c->lookups != NULL)
        c->lookups->prev = q;
    c->lookups = q;
}

static void unlink_lookup(struct lookup *q)
{
    if (q->conn == NULL)
        return;
    if (q->prev != NULL)
        q->prev->next = q->next;
    else
        q->conn->lookups = q->next;
    if (q->next != NULL)
        q->next->prev = q->prev;
}

void conn_disown_lookups(struct conn *c)
{
    for (struct lookup *q = c->lookups; q != NULL; q = q->next)
        q->conn = NULL;
    c->lookups = NULL;
}

static void look_up(uv_work_t *request)
{
    struct lookup *q = (struct lookup *)(void *)request;
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

static void lookup_free(struct lookup *q)
{
    unlink_lookup(q);
    free((void *)(uintptr_t)q->key.text.at);
    buf_fini(&q->value);
    config_release(q->config);
    free(q);
}

static void on_looked_up(uv_work_t *request, int status)
{
    struct lookup *q = (struct lookup *)(void *)request;
    struct conn *c = q->conn;
    struct loop *loop = q->loop;
    (void)status;
    if (c != NULL) {
        struct fact fact = { .key = q->key, .status = status_of(q->result),
                             .value = buf_span(&q->value) };
        loop_now_ms(loop);
        smtpd_learn(&c->smtpd, &fact); /* copies what it keeps */
    }
    lookup_free(q);
    loop_work_done(loop);
    if (c != NULL)
        conn_resume(c);
}

void conn_ask(struct smtpd *d, const struct fact_key *key)
{
    struct conn *c = d->conn;
    struct lookup *q = xcalloc(1, sizeof *q);
    q->conn = c;
    q->loop = c->loop;
    q->config = config_hold(d->config);
    q->key = *key;
    q->key.text.at = xprintf("%.*s", (int)key->text.len, key->text.at);
    link_lookup(q, c);
    c->loop->work_count++;
    ENSURE(uv_queue_work(&c->loop->uv, &q->request, look_up, on_looked_up) == 0);
}
