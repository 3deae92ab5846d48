#include "server/stats.h"
#include "policy/restriction.h"
#include "protocol/mem.h"

#include <inttypes.h>

/* ------------------------------------------------------------ counting */

/* Only the loop writes here: no locked instruction is needed. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void stats_add(struct stats *stats, enum stats_counter stat, uint64_t n)
{
    if (stats != NULL)
        add(&stats->simple[stat], n);
}

/* Upper ends; the last has none. */
static const uint64_t size_ends[STATS_SIZES - 1] = { 1 << 10, 1 << 12, 1 << 14, 1 << 16,
                                                     1 << 18, 1 << 20, 1 << 23 };

void stats_message(struct stats *stats, uint64_t bytes)
{
    size_t i = 0;
    if (stats == NULL)
        return;
    while (i < ARRAY_LEN(size_ends) && bytes > size_ends[i])
        i++;
    add(&stats->sizes[i], 1);
    add(&stats->simple[STAT_MESSAGES], 1);
    add(&stats->simple[STAT_MESSAGE_BYTES], bytes);
}

void stats_session(struct stats *stats, const struct smtp_session *s)
{
    for (size_t i = 0; stats != NULL && i < SMTP_VERB_COUNT; i++) {
        if (s->counts[i].all == 0)
            continue;
        add(&stats->commands[i][1], s->counts[i].ok);
        add(&stats->commands[i][0], (uint64_t)(s->counts[i].all - s->counts[i].ok));
    }
}

void stats_fact(struct stats *stats, const struct fact *fact)
{
    static const struct {
        const char *word;
        enum stats_counter stat;
    } results[] = { { "wait", STAT_GREYLIST_WAIT }, { "first", STAT_GREYLIST_FIRST },
                    { "pass", STAT_GREYLIST_PASS } };
    if (stats != NULL && fact->status >= FACT_TEMPFAIL)
        add(&stats->missing[fact->key.kind], 1);
    if (fact->key.kind != FACT_GREYLIST || fact->status != FACT_FOUND)
        return;
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        if (span_istarts(fact->value, span_of(results[i].word)))
            stats_add(stats, results[i].stat, 1);
}

static size_t reason_of(const char *rule)
{
    size_t i = 0;
    while (i < restriction_count && restrictions[i].name != rule)
        i++;
    return rule != NULL && i < restriction_count && i < STATS_REASONS_MAX - 1
               ? i
               : STATS_REASONS_MAX - 1;
}

static const char *const verdict_names[STATS_VERDICTS] = { "permit", "defer", "reject" };

void stats_rcpt(struct stats *stats, enum verdict verdict, const struct outcome *out)
{
    if (stats == NULL)
        return;
    int column = verdict != VERDICT_REJECT ? 0 : out->reply.code < 500 ? 1 : 2;
    add(&stats->rcpt[reason_of(column > 0 ? out->rule : NULL)][column], 1);
    for (const struct note *n = out->notes; n != NULL; n = n->next)
        if (strcmp(n->tag, "reject_warning") == 0)
            add(&stats->simple[STAT_WARN_ONLY], 1);
}

void stats_tls(struct stats *stats, struct span protocol)
{
    stats_add(stats, span_equals(protocol, SPAN_LITERAL("TLSv1.3")) ? STAT_TLS_1_3 : STAT_TLS_1_2,
              1);
}

static const char *const transport_names[STATS_TRANSPORTS] = { "virtual", "lmtp", "smtp",
                                                               "discard", "error", "other" };
static const char *const status_names[STATS_STATUSES] = { "sent", "deferred", "bounced" };

static size_t find_name(const char *const *names, size_t count, const char *name)
{
    size_t i = 0;
    while (i + 1 < count && strcmp(names[i], name) != 0)
        i++;
    return i;
}

void stats_delivery(struct stats *stats, const char *transport, const char *status)
{
    if (stats != NULL)
        add(&stats->delivery[find_name(transport_names, STATS_TRANSPORTS, transport)]
                            [find_name(status_names, STATS_STATUSES, status)], 1);
}

/* ------------------------------------------------------------ printing */

struct printer {
    const struct stats *const *sets;
    size_t count;
    struct buf *out;
};

static uint64_t sum(const struct printer *p, size_t offset)
{
    uint64_t total = 0;
    for (size_t i = 0; i < p->count; i++) {
        const char *base = (const char *)p->sets[i];
        total += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(base + offset),
                                      memory_order_relaxed);
    }
    return total;
}

static void put_head(const struct printer *p, const char *name, const char *type,
                     const char *help)
{
    buf_printf(p->out, "# HELP postern_%s %s\n# TYPE postern_%s %s\n", name, help, name, type);
}

static const struct {
    enum stats_counter stat;
    const char *name, *labels, *help; /* help only with the first of a name */
} simple_rows[] = {
    { STAT_CONNECTIONS, "connections_total", "{outcome=\"accepted\"}", "Connections of clients." },
    { STAT_CONNECTIONS_BUSY, "connections_total", "{outcome=\"busy\"}", NULL },
    { STAT_MESSAGES, "messages_accepted_total", "", "Messages that were answered with 250." },
    { STAT_WARN_ONLY, "warn_only_total", "", "Refusals that warn_if_reject kept from being any." },
    { STAT_GREYLIST_WAIT, "greylist_total", "{result=\"wait\"}", "Decisions of the greylist." },
    { STAT_GREYLIST_FIRST, "greylist_total", "{result=\"first\"}", NULL },
    { STAT_GREYLIST_PASS, "greylist_total", "{result=\"pass\"}", NULL },
    { STAT_TLS_1_2, "tls_connections_total", "{version=\"TLSv1.2\"}", "TLS sessions." },
    { STAT_TLS_1_3, "tls_connections_total", "{version=\"TLSv1.3\"}", NULL },
};

static void put_simple(const struct printer *p)
{
    for (size_t i = 0; i < ARRAY_LEN(simple_rows); i++) {
        if (simple_rows[i].help != NULL)
            put_head(p, simple_rows[i].name, "counter", simple_rows[i].help);
        size_t offset = offsetof(struct stats, simple)
                        + (size_t)simple_rows[i].stat * sizeof(uint64_t);
        buf_printf(p->out, "postern_%s%s %" PRIu64 "\n", simple_rows[i].name,
                   simple_rows[i].labels, sum(p, offset));
    }
}

/* A line, unless it is zero: most pairs of labels never happen. */
static void put_pair(const struct printer *p, const char *name, const char *label_a,
                     const char *a, const char *label_b, const char *b, size_t offset)
{
    uint64_t value = sum(p, offset);
    if (value > 0)
        buf_printf(p->out, "postern_%s{%s=\"%s\",%s=\"%s\"} %" PRIu64 "\n", name, label_a, a,
                   label_b, b, value);
}

static void put_commands(const struct printer *p)
{
    put_head(p, "commands_total", "counter", "SMTP commands, counted when the session ends.");
    for (size_t i = 0; i < SMTP_VERB_COUNT; i++)
        for (size_t ok = 0; ok < 2; ok++)
            put_pair(p, "commands_total", "verb", smtp_verbs[i].name, "result",
                     ok ? "ok" : "failed",
                     offsetof(struct stats, commands) + (i * 2 + ok) * sizeof(uint64_t));
}

static void put_rcpt(const struct printer *p)
{
    put_head(p, "rcpt_total", "counter", "Decisions about recipients, by the deciding restriction.");
    for (size_t i = 0; i < STATS_REASONS_MAX; i++)
        for (size_t v = 0; v < STATS_VERDICTS; v++)
            put_pair(p, "rcpt_total", "verdict", verdict_names[v], "reason",
                     i < restriction_count ? restrictions[i].name : v == 0 ? "none" : "other",
                     offsetof(struct stats, rcpt) + (i * STATS_VERDICTS + v) * sizeof(uint64_t));
}

static void put_deliveries(const struct printer *p)
{
    put_head(p, "delivery_total", "counter", "Recipients of accepted messages, by what became of them.");
    for (size_t i = 0; i < STATS_TRANSPORTS; i++)
        for (size_t s = 0; s < STATS_STATUSES; s++)
            put_pair(p, "delivery_total", "transport", transport_names[i], "status",
                     status_names[s],
                     offsetof(struct stats, delivery)
                         + (i * STATS_STATUSES + s) * sizeof(uint64_t));
}

static void put_missing(const struct printer *p)
{
    put_head(p, "facts_missing_total", "counter",
             "Questions without an answer: decisions were made without it.");
    for (size_t i = 0; i < FACT_KIND_COUNT; i++) {
        uint64_t value = sum(p, offsetof(struct stats, missing) + i * sizeof(uint64_t));
        if (value > 0)
            buf_printf(p->out, "postern_facts_missing_total{fact=\"%s\"} %" PRIu64 "\n",
                       fact_kind_names[i], value);
    }
}

static void put_sizes(const struct printer *p)
{
    uint64_t total = 0;
    put_head(p, "message_size_bytes", "histogram", "Bytes of accepted messages.");
    for (size_t i = 0; i < STATS_SIZES; i++) {
        total += sum(p, offsetof(struct stats, sizes) + i * sizeof(uint64_t));
        if (i < ARRAY_LEN(size_ends))
            buf_printf(p->out, "postern_message_size_bytes_bucket{le=\"%" PRIu64 "\"} %" PRIu64
                       "\n", size_ends[i], total);
    }
    buf_printf(p->out, "postern_message_size_bytes_bucket{le=\"+Inf\"} %" PRIu64 "\n", total);
    buf_printf(p->out, "postern_message_size_bytes_sum %" PRIu64 "\n",
               sum(p, offsetof(struct stats, simple) + STAT_MESSAGE_BYTES * sizeof(uint64_t)));
    buf_printf(p->out, "postern_message_size_bytes_count %" PRIu64 "\n", total);
}

void stats_print(const struct stats *const *sets, size_t count, struct buf *out)
{
    const struct printer p = { sets, count, out };
    put_simple(&p);
    put_commands(&p);
    put_rcpt(&p);
    put_deliveries(&p);
    put_missing(&p);
    put_sizes(&p);
}
