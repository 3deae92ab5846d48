/* The pause before the banner (greet_pause): a client that cannot wait is found out. */
#include "server/conn.h"
#include "protocol/mem.h"
#include "protocol/text.h"

#include <stdlib.h>

/* It is over: because the time is, or because the client could not wait. */
static void end_greet(struct conn *c, struct span value)
{
    struct fact fact = { .key = c->greet, .status = FACT_FOUND, .value = value,
                         .source = "client" };
    char *text = (char *)(uintptr_t)c->greet.text.at;
    c->greet = (struct fact_key){ .text = { NULL, 0 } };
    conn_end_sleep(c);
    conn_learn(&c->asker, &fact);
    free(text);
}

static void on_greet_over(uv_timer_t *timer)
{
    if (timer->data != NULL)
        end_greet(timer->data, SPAN_LITERAL("quiet"));
}

void conn_client_talked(struct conn *c)
{
    struct buf value = { 0 };
    int64_t waited_ms = c->loop->services.now_ms - c->greet_began_ms;
    buf_printf(&value, "talked %zu %lld ", c->held.len, (long long)waited_ms);
    text_escape(&value, buf_span(&c->held), 100);
    end_greet(c, buf_span(&value));
    buf_fini(&value);
}

void conn_begin_greet(struct conn *c, const struct fact_key *key)
{
    uint64_t pause_ms = 0;
    span_to_u64(key->text, 3600000, &pause_ms);
    c->greet = *key;
    c->greet.text.at = xprintf("%.*s", (int)key->text.len, key->text.at);
    c->greet_began_ms = c->loop->services.now_ms;
    c->sleep = xcalloc(1, sizeof *c->sleep);
    uv_timer_init(&c->loop->uv, c->sleep);
    c->sleep->data = c;
    uv_timer_start(c->sleep, on_greet_over, pause_ms, 0);
    c->is_waiting = true; /* what is read now is kept */
    conn_start_reading(c);
}
