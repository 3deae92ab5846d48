#include "server/stats.h"
#include "policy/dnsbl.h"
#include "policy/restriction.h"
#include "protocol/mem.h"

#include <assert.h>
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

/* Upper ends of all buckets but the last. */
static const struct {
    const char *name, *help;
    uint64_t ends[STATS_BUCKETS - 1];
    double scale; /* of ends and sum, to the base unit */
} histogram_rows[STAT_HISTOGRAM_COUNT] = {
    [STAT_MESSAGE_BYTES] = { "message_size_bytes", "Bytes of accepted messages.",
                             { 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 23,
                               1 << 26 }, 1 },
    [STAT_GREYLIST_DELAY] = { "greylist_delay_seconds",
                              "From a triplet's first attempt to its first success.",
                              { 60, 300, 600, 1800, 3600, 14400, 43200, 86400 }, 1 },
    [STAT_DNS_TIME] = { "dns_seconds", "From a question to the DNS to its answer.",
                        { 1000, 5000, 20000, 100000, 500000, 2000000, 5000000, 10000000 }, 1e6 },
    [STAT_DELIVERY_TIME] = { "delivery_seconds",
                             "From a message's arrival to its delivery to a recipient.",
                             { 10, 50, 200, 1000, 10000, 60000, 600000, 14400000 }, 1e3 },
};

static void observe(struct stats *stats, enum stats_histogram which, uint64_t value)
{
    struct histogram *h = &stats->histograms[which];
    const uint64_t *ends = histogram_rows[which].ends;
    size_t i = 0;
    while (i < STATS_BUCKETS - 1 && value > ends[i])
        i++;
    add(&h->counts[i], 1);
    add(&h->sum, value);
}

void stats_message(struct stats *stats, uint64_t bytes)
{
    if (stats == NULL)
        return;
    observe(stats, STAT_MESSAGE_BYTES, bytes);
    add(&stats->simple[STAT_MESSAGES], 1);
}

void stats_session(struct stats *stats, const struct smtp_session *s)
{
    for (size_t i = 0; stats != NULL && i < SMTP_VERB_COUNT; i++) {
        const struct smtp_count *c = &s->counts[i];
        if (c->all == 0)
            continue;
        add(&stats->commands[i][0], (uint64_t)(c->all - c->temporary - c->permanent));
        add(&stats->commands[i][1], c->temporary);
        add(&stats->commands[i][2], c->permanent);
    }
}

static void count_greylist(struct stats *stats, struct span value)
{
    struct greylist_decision d;
    if (!greylist_parse(value, &d))
        return;
    add(&stats->greylist[d.result], 1);
    if (d.result == GREYLIST_FIRST_PASS)
        observe(stats, STAT_GREYLIST_DELAY, (uint64_t)d.waited_s);
}

void stats_fact(struct stats *stats, const struct fact *fact)
{
    if (stats == NULL)
        return;
    if (fact->status >= FACT_TEMPFAIL)
        add(&stats->missing[fact->key.kind], 1);
    if (fact->key.kind == FACT_GREYLIST && fact->status == FACT_FOUND)
        count_greylist(stats, fact->value);
}

/* RFC 1035 4.1.1; the last two: any other, and no answer at all. */
static const char *const rcode_names[STATS_RCODES] = { "NOERROR", "FORMERR", "SERVFAIL",
                                                       "NXDOMAIN", "NOTIMP", "REFUSED",
                                                       "other", "none" };

void stats_dns(struct stats *stats, enum fact_kind kind, int rcode, uint64_t took_us)
{
    size_t column = rcode < 0 ? STATS_RCODES - 1 : rcode < STATS_RCODES - 2 ? (size_t)rcode
                                                                            : STATS_RCODES - 2;
    if (stats == NULL)
        return;
    add(&stats->dns[kind][column], 1);
    observe(stats, STAT_DNS_TIME, took_us);
}

/* ------------------------------------------------------------ DNS lists */

static const char *const list_results[STATS_LIST_RESULTS] = { "not_listed", "listed", "error",
                                                              "failed" };

static bool is_of_list(struct span name, const char *domain)
{
    size_t len = strlen(domain);
    return name.len > len + 1 && name.at[name.len - len - 1] == '.'
           && memcmp(name.at + name.len - len, domain, len) == 0;
}

static const char *find_list(const struct policy *policy, struct span name)
{
    const struct dnsbl *const chains[] = { policy->dnsbls, policy->sites, policy->greylist_dnswl };
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        for (const struct dnsbl *list = chains[i]; list != NULL; list = list->next)
            if (is_of_list(name, list->domain))
                return list->domain;
    return NULL;
}

/* A label's value: what would end or escape it is not in the name of a list. */
static void copy_name(char out[STATS_LIST_NAME_MAX], const char *domain)
{
    size_t i = 0;
    /* cppcheck-suppress arrayIndexOutOfBoundsCond ; "other" ends before that */
    for (; i < STATS_LIST_NAME_MAX - 1 && domain[i] != '\0'; i++)
        out[i] = domain[i] == '"' || domain[i] == '\\' || (unsigned char)domain[i] < ' '
                     ? '_'
                     : domain[i];
    out[i] = '\0';
}

static size_t index_of(const struct stats *stats, const char *name, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(stats->lists[i].name, name) != 0)
        i++;
    return i;
}

/* The last place is for all that come too late. */
static struct stats_list *list_of(struct stats *stats, const char *domain)
{
    char name[STATS_LIST_NAME_MAX];
    size_t count = atomic_load_explicit(&stats->list_count, memory_order_relaxed);
    copy_name(name, domain);
    size_t i = index_of(stats, name, count);
    if (i < count)
        return &stats->lists[i];
    if (count >= STATS_LISTS_MAX - 1) {
        copy_name(name, "other");
        i = STATS_LISTS_MAX - 1;
    }
    if (i == count) {
        memcpy(stats->lists[i].name, name, sizeof name);
        atomic_store_explicit(&stats->list_count, count + 1, memory_order_release);
    }
    return &stats->lists[i];
}

/* The rules' own filters do not matter here: what does the list say? */
void stats_dnslist(struct stats *stats, const struct policy *policy, const struct fact *fact)
{
    static const struct dnsbl any = { 0 };
    struct ip odd;
    const char *domain = stats != NULL && fact->key.kind == FACT_A
                             ? find_list(policy, fact->key.text)
                             : NULL;
    if (domain == NULL)
        return;
    size_t result = 3;
    if (fact->status < FACT_TEMPFAIL)
        result = (size_t)dnsbl_judge(&any, fact, true, &odd);
    add(&list_of(stats, domain)->results[result], 1);
}

/* ------------------------------------------------------------ decisions, deliveries */

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
            add(&stats->warned[reason_of(n->rule)], 1);
    if (out->spf > 0)
        add(&stats->spf[out->spf - 1], 1);
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

void stats_delivery(struct stats *stats, const char *transport, const char *status,
                    int64_t delay_ms)
{
    size_t column = find_name(status_names, STATS_STATUSES, status);
    if (stats == NULL)
        return;
    add(&stats->delivery[find_name(transport_names, STATS_TRANSPORTS, transport)][column], 1);
    if (column == 0) /* clocks can be set back */
        observe(stats, STAT_DELIVERY_TIME, delay_ms > 0 ? (uint64_t)delay_ms : 0);
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
    { STAT_DNS_CACHED, "dns_cached_total", "", "Questions that the cache answered." },
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

/* The pairs of a matrix of counters with that many columns. */
static void put_matrix(const struct printer *p, const char *name, const char *label_a,
                       const char *a, const char *label_b, const char *const *b, size_t columns,
                       size_t offset)
{
    for (size_t i = 0; i < columns; i++)
        put_pair(p, name, label_a, a, label_b, b[i], offset + i * sizeof(uint64_t));
}

static void put_commands(const struct printer *p)
{
    static const char *const classes[STATS_CODES] = { "2xx", "4xx", "5xx" };
    put_head(p, "commands_total", "counter",
             "SMTP commands by the class of the last reply, counted when the session ends.");
    for (size_t i = 0; i < SMTP_VERB_COUNT; i++)
        put_matrix(p, "commands_total", "verb", smtp_verbs[i].name, "code", classes, STATS_CODES,
                   offsetof(struct stats, commands) + i * STATS_CODES * sizeof(uint64_t));
}

static void put_dns(const struct printer *p)
{
    put_head(p, "dns_queries_total", "counter", "Questions to the DNS, by answer.");
    for (size_t i = 0; i < STATS_DNS_TYPES; i++)
        put_matrix(p, "dns_queries_total", "type", fact_kind_names[i], "rcode", rcode_names,
                   STATS_RCODES,
                   offsetof(struct stats, dns) + i * STATS_RCODES * sizeof(uint64_t));
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

/* A counter with one label; zero too where all values are few and known. */
static void put_labels(const struct printer *p, const char *name, const char *label,
                       const char *const *values, size_t count, bool wants_zero, size_t offset)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = sum(p, offset + i * sizeof(uint64_t));
        if (value > 0 || wants_zero)
            buf_printf(p->out, "postern_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, values[i],
                       value);
    }
}

static void put_warned(const struct printer *p)
{
    put_head(p, "warn_only_total", "counter", "Refusals that warn_if_reject kept from being any.");
    for (size_t i = 0; i < STATS_REASONS_MAX; i++)
        put_labels(p, "warn_only_total", "reason",
                   i < restriction_count ? &restrictions[i].name : &(const char *){ "other" }, 1,
                   false, offsetof(struct stats, warned) + i * sizeof(uint64_t));
}

static void put_results(const struct printer *p)
{
    static const char *const greylist[] = { "wait", "first", "pass", "known", "allowed" };
    static_assert(ARRAY_LEN(greylist) == GREYLIST_RESULT_COUNT, "a name for each result");
    put_head(p, "greylist_total", "counter", "Decisions of the greylist.");
    put_labels(p, "greylist_total", "result", greylist, GREYLIST_RESULT_COUNT, true,
               offsetof(struct stats, greylist));
    put_head(p, "spf_total", "counter",
             "Decisions about recipients that looked at the sender's SPF, by its result.");
    put_labels(p, "spf_total", "result", spf_result_names, SPF_RESULT_COUNT, true,
               offsetof(struct stats, spf));
    put_head(p, "facts_missing_total", "counter",
             "Questions without an answer: decisions were made without it.");
    put_labels(p, "facts_missing_total", "fact", fact_kind_names, FACT_KIND_COUNT, false,
               offsetof(struct stats, missing));
}

static const struct stats_list *find_in_set(const struct stats *set, const char *name)
{
    size_t count = atomic_load_explicit(&set->list_count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        if (strcmp(set->lists[i].name, name) == 0)
            return &set->lists[i];
    return NULL;
}

/* The sum over this set and those behind it, unless a set in front has told already. */
static void put_list(const struct printer *p, size_t set, const char *name)
{
    uint64_t totals[STATS_LIST_RESULTS] = { 0 };
    for (size_t i = 0; i < set; i++)
        if (find_in_set(p->sets[i], name) != NULL)
            return;
    for (size_t i = set; i < p->count; i++) {
        const struct stats_list *list = find_in_set(p->sets[i], name);
        for (size_t r = 0; list != NULL && r < STATS_LIST_RESULTS; r++)
            totals[r] += atomic_load_explicit(&list->results[r], memory_order_relaxed);
    }
    for (size_t r = 0; r < STATS_LIST_RESULTS; r++)
        buf_printf(p->out, "postern_dnslist_answers_total{list=\"%s\",result=\"%s\"} %" PRIu64
                   "\n", name, list_results[r], totals[r]);
}

static void put_lists(const struct printer *p)
{
    put_head(p, "dnslist_answers_total", "counter", "Answers of DNS lists; error: not believed.");
    for (size_t i = 0; i < p->count; i++) {
        size_t count = atomic_load_explicit(&p->sets[i]->list_count, memory_order_acquire);
        for (size_t k = 0; k < count; k++)
            put_list(p, i, p->sets[i]->lists[k].name);
    }
}

static void put_histogram(const struct printer *p, size_t which)
{
    const char *name = histogram_rows[which].name;
    double scale = histogram_rows[which].scale;
    size_t base = offsetof(struct stats, histograms) + which * sizeof(struct histogram);
    uint64_t total = 0;
    put_head(p, name, "histogram", histogram_rows[which].help);
    for (size_t i = 0; i < STATS_BUCKETS; i++) {
        total += sum(p, base + offsetof(struct histogram, counts) + i * sizeof(uint64_t));
        if (i < STATS_BUCKETS - 1)
            buf_printf(p->out, "postern_%s_bucket{le=\"%.15g\"} %" PRIu64 "\n", name,
                       (double)histogram_rows[which].ends[i] / scale, total);
    }
    buf_printf(p->out, "postern_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
    buf_printf(p->out, "postern_%s_sum %.15g\n", name,
               (double)sum(p, base + offsetof(struct histogram, sum)) / scale);
    buf_printf(p->out, "postern_%s_count %" PRIu64 "\n", name, total);
}

void stats_print(const struct stats *const *sets, size_t count, struct buf *out)
{
    const struct printer p = { sets, count, out };
    put_simple(&p);
    put_commands(&p);
    put_rcpt(&p);
    put_deliveries(&p);
    put_warned(&p);
    put_results(&p);
    put_dns(&p);
    put_lists(&p);
    for (size_t i = 0; i < STAT_HISTOGRAM_COUNT; i++)
        put_histogram(&p, i);
}
