#include "policy/greylist_store.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------ records as bytes */

/* Times as 32-bit seconds: enough until 2106. */
struct stored {
    uint32_t first_s, last_s, count;
    char label[GREYLIST_LABEL_MAX];
};

enum { STORED_HEAD = 12 };

static int read_record(struct greylist_store *g, const struct store_key *key,
                       struct greylist_record *out)
{
    struct stored stored = { 0 };
    size_t size;
    int rc = store_get(g->store, key, &stored, sizeof stored, &size);
    *out = (struct greylist_record){ 0 };
    if (rc == 0 && size >= STORED_HEAD)
        *out = (struct greylist_record){ stored.first_s, stored.last_s, stored.count };
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int write_record(struct greylist_store *g, const struct store_key *key,
                        const struct greylist_record *r, struct span label)
{
    struct stored stored = { (uint32_t)r->first_s, (uint32_t)r->last_s, r->count, { 0 } };
    size_t len = label.len < sizeof stored.label ? label.len : sizeof stored.label;
    memcpy(stored.label, label.len > 0 ? label.at : "", len);
    return store_put(g->store, key, &stored, STORED_HEAD + len);
}

/* ------------------------------------------------------------ allowed by hand */

static bool remember(void *context, const struct store_key *key, const void *value, size_t size)
{
    struct greylist_store *g = context;
    int64_t until_s = 0;
    struct buf name = { 0 };
    if ((key->bytes[0] != 'A' && key->bytes[0] != 'E') || size < sizeof until_s)
        return false; /* or a damaged record */
    memcpy(&until_s, value, sizeof until_s);
    buf_printf(&name, "%c ", key->bytes[0]);
    buf_append(&name, (const char *)value + sizeof until_s, size - sizeof until_s);
    table_put(g->by_hand, buf_span(&name), span_make((const char *)&until_s, sizeof until_s));
    buf_fini(&name);
    return false;
}

/* Tags sort, so these few records are found without a look at the others. */
static int load_by_hand(struct greylist_store *g)
{
    static const char tags[] = { 'A', 'E' };
    int rc = 0;
    table_free(g->by_hand);
    g->by_hand = table_new();
    for (size_t i = 0; i < sizeof tags && rc == 0; i++) {
        struct store_key at = { { (unsigned char)tags[i] } };
        bool is_done = false;
        while (rc == 0 && !is_done && at.bytes[0] == (unsigned char)tags[i])
            rc = store_walk(g->store, &at, GREYLIST_SWEEP_STEP, remember, g, &is_done);
    }
    return rc;
}

int greylist_store_begin(struct greylist_store *g, struct store *store)
{
    *g = (struct greylist_store){ .store = store };
    return load_by_hand(g);
}

void greylist_store_end(struct greylist_store *g)
{
    table_free(g->by_hand);
    *g = (struct greylist_store){ 0 };
}

/* Is this text allowed, or expected until later than now? */
static bool is_by_hand(const struct greylist_store *g, char tag, struct span text, int64_t now_s)
{
    struct buf name = { 0 };
    struct span value;
    int64_t until_s = 0;
    if (table_count(g->by_hand) == 0)
        return false;
    buf_printf(&name, "%c ", tag);
    buf_add(&name, text);
    bool is_found = table_find(g->by_hand, buf_span(&name), &value);
    buf_fini(&name);
    if (is_found && value.len == sizeof until_s)
        memcpy(&until_s, value.at, sizeof until_s);
    return is_found && (until_s == 0 || until_s > now_s);
}

/* ------------------------------------------------------------ deciding */

/* "WHO/SENDER/RECIPIENT<TAB>CLIENT"; the network in WHO has a slash of its own. */
struct parts {
    struct span triplet, who, sender, recipient, client;
};

static bool split_key(struct span key, struct parts *p)
{
    size_t tab = span_find(key, '\t');
    p->triplet = span_make(key.at, tab);
    p->client = span_skip(key, tab + 1);
    size_t last = span_find_last(p->triplet, '/');
    p->recipient = span_skip(p->triplet, last + 1);
    struct span rest = span_make(key.at, last);
    size_t middle = span_find_last(rest, '/');
    p->sender = span_skip(rest, middle + 1);
    p->who = span_make(key.at, middle);
    return tab < key.len && last < p->triplet.len && middle < rest.len;
}

static bool is_allowed(const struct greylist_store *g, const struct parts *p, int64_t now_s)
{
    struct span domain = smtp_path_of(p->sender).domain;
    return is_by_hand(g, 'E', p->recipient, now_s) || is_by_hand(g, 'A', p->client, now_s)
           || is_by_hand(g, 'A', p->who, now_s) || is_by_hand(g, 'A', p->sender, now_s)
           || is_by_hand(g, 'A', domain, now_s) || is_by_hand(g, 'A', p->recipient, now_s);
}

/* Client and sender domain together. */
static void pair_key(const struct greylist_store *g, const struct parts *p,
                     struct store_key *key)
{
    struct buf text = { 0 };
    buf_add(&text, p->client);
    buf_putc(&text, '/');
    buf_add(&text, smtp_path_of(p->sender).domain);
    store_key(g->store, 'P', buf_span(&text), key);
    buf_fini(&text);
}

static int decide_by_records(struct greylist_store *g, struct greylist_request *r,
                             const struct parts *p)
{
    struct greylist_record triplet, client, pair;
    struct store_key triplet_key, client_key, pair_at;
    struct span label = span_skip(p->triplet, p->who.len + 1);
    store_key(g->store, 'T', p->triplet, &triplet_key);
    store_key(g->store, 'C', p->client, &client_key);
    pair_key(g, p, &pair_at);
    int rc = read_record(g, &triplet_key, &triplet);
    if (rc == 0)
        rc = read_record(g, &client_key, &client);
    if (rc == 0)
        rc = read_record(g, &pair_at, &pair);
    if (rc != 0)
        return rc;
    r->decision = greylist_decide(&r->params, &triplet, &client, &pair, r->now_s);
    if (r->decision.triplet_changed)
        rc = write_record(g, &triplet_key, &triplet, label);
    if (rc == 0 && r->decision.client_changed)
        rc = write_record(g, &client_key, &client, p->client);
    if (rc == 0 && r->decision.pair_changed)
        rc = write_record(g, &pair_at, &pair, p->client);
    return rc;
}

static int decide_one(struct greylist_store *g, struct greylist_request *r)
{
    struct parts parts;
    r->decision = (struct greylist_decision){ .result = GREYLIST_ALLOWED };
    if (!split_key(r->key, &parts) || is_allowed(g, &parts, r->now_s))
        return 0;
    return decide_by_records(g, r, &parts);
}

int greylist_store_decide(struct greylist_store *g, struct greylist_request *requests)
{
    int rc = store_begin(g->store);
    if (rc != 0)
        return rc;
    for (struct greylist_request *r = requests; r != NULL && rc == 0; r = r->next)
        rc = decide_one(g, r);
    if (rc == 0)
        return store_commit(g->store);
    store_abort(g->store);
    return rc;
}

/* ------------------------------------------------------------ expiry */

struct sweeper {
    const struct greylist_params *p;
    int64_t now_s;
    int removed;
};

static bool is_expired(void *context, const struct store_key *key, const void *value,
                       size_t size)
{
    struct sweeper *s = context;
    struct stored stored = { 0 };
    int64_t until_s = 0;
    char tag = (char)key->bytes[0];
    bool is_stale = false;
    if ((tag == 'E' || tag == 'G') && size >= sizeof until_s) {
        memcpy(&until_s, value, sizeof until_s);
        is_stale = until_s != 0 && until_s < s->now_s;
    } else if ((tag == 'T' || tag == 'C' || tag == 'P') && size >= STORED_HEAD) {
        memcpy(&stored, value, size < sizeof stored ? size : sizeof stored);
        const struct greylist_record r = { stored.first_s, stored.last_s, stored.count };
        is_stale = greylist_is_stale(s->p, &r, tag == 'T', s->now_s);
    }
    s->removed += is_stale;
    return is_stale;
}

int greylist_store_sweep(struct greylist_store *g, const struct greylist_params *p,
                         int64_t now_s, struct store_key *at, int *removed, bool *is_done)
{
    struct sweeper sweeper = { p, now_s, 0 };
    int rc = store_walk(g->store, at, GREYLIST_SWEEP_STEP, is_expired, &sweeper, is_done);
    *removed += rc == 0 ? sweeper.removed : 0;
    return rc;
}

/* ------------------------------------------------------------ commands */

struct lister {
    struct greylist_command *c;
    const struct greylist_params *p;
    int64_t now_s;
    struct buf *out;
};

static const char *state_of(const struct greylist_params *p, const struct stored *s,
                            int64_t now_s)
{
    if (s->last_s - s->first_s >= (uint64_t)p->delay_s)
        return "passed";
    return now_s - s->first_s >= p->delay_s ? "may come" : "waits";
}

static void print_times(struct buf *out, const struct stored *s, int64_t now_s)
{
    buf_printf(out, "first %llds ago, last %llds ago", (long long)(now_s - s->first_s),
               (long long)(now_s - s->last_s));
}

static void list_one(struct lister *l, const struct store_key *key, const struct stored *s,
                     struct span label)
{
    static const char *const kinds[] = { ['T'] = "triplet", ['C'] = "client", ['P'] = "pair" };
    struct buf shown = { 0 };
    text_escape(&shown, label, GREYLIST_LABEL_MAX + 3);
    bool is_wanted = l->c->words[0] == '\0' || strstr(buf_text(&shown), l->c->words) != NULL;
    if (is_wanted) {
        for (size_t i = 1; i < 7; i++)
            buf_printf(l->out, "%02x", key->bytes[i]);
        buf_printf(l->out, " %-7s %-8s ", kinds[key->bytes[0]],
                   key->bytes[0] == 'T' ? state_of(l->p, s, l->now_s) : "proven");
        print_times(l->out, s, l->now_s);
        if (key->bytes[0] != 'T')
            buf_printf(l->out, ", %u successes", s->count);
        buf_printf(l->out, "  %s\n", buf_text(&shown));
    }
    buf_fini(&shown);
}

static bool visit_list(void *context, const struct store_key *key, const void *value,
                       size_t size)
{
    struct lister *l = context;
    struct stored stored = { 0 };
    char tag = (char)key->bytes[0];
    if (tag == 'A' || tag == 'E') {
        struct span text = span_make((const char *)value + 8, size > 8 ? size - 8 : 0);
        buf_printf(l->out, "%-12s %.*s\n", tag == 'A' ? "allowed" : "expected", (int)text.len,
                   text.at);
    } else if ((tag == 'T' || tag == 'C' || tag == 'P') && size >= STORED_HEAD) {
        size_t len = size < sizeof stored ? size : sizeof stored;
        memcpy(&stored, value, len);
        list_one(l, key, &stored, span_make(stored.label, len - STORED_HEAD));
    }
    return false;
}

enum { COUNT_WAITING, COUNT_PASSED, COUNT_CLIENTS, COUNT_PAIRS, COUNT_ALLOWED, COUNT_EXPECTED };

static bool visit_stats(void *context, const struct store_key *key, const void *value,
                        size_t size)
{
    struct lister *l = context;
    struct stored stored = { 0 };
    memcpy(&stored, value, size < STORED_HEAD ? size : STORED_HEAD);
    switch (key->bytes[0]) {
    case 'T': {
        bool has_passed = stored.last_s - stored.first_s >= (uint64_t)l->p->delay_s;
        l->c->counts[has_passed ? COUNT_PASSED : COUNT_WAITING]++;
        break;
    }
    case 'C': l->c->counts[COUNT_CLIENTS]++; break;
    case 'P': l->c->counts[COUNT_PAIRS]++; break;
    case 'A': l->c->counts[COUNT_ALLOWED]++; break;
    case 'E': l->c->counts[COUNT_EXPECTED]++; break;
    default: break;
    }
    return false;
}

static void print_stats(struct greylist_store *g, const struct greylist_command *c,
                        struct buf *out)
{
    const int64_t *n = c->counts;
    buf_printf(out, "triplets waiting   %lld\ntriplets passed    %lld\n",
               (long long)n[COUNT_WAITING], (long long)n[COUNT_PASSED]);
    buf_printf(out, "clients with success %lld\nclients and senders  %lld\n",
               (long long)n[COUNT_CLIENTS], (long long)n[COUNT_PAIRS]);
    buf_printf(out, "allowed by hand    %lld\nexpected           %lld\n",
               (long long)n[COUNT_ALLOWED], (long long)n[COUNT_EXPECTED]);
    buf_printf(out, "bytes on disk      %llu\n", (unsigned long long)store_file_bytes(g->store));
}

static int walk(struct greylist_store *g, struct lister *l,
                bool (*visit)(void *, const struct store_key *, const void *, size_t))
{
    return store_walk(g->store, &l->c->at, GREYLIST_SWEEP_STEP, visit, l, &l->c->is_done);
}

static int run_list(struct greylist_store *g, struct lister *l)
{
    return walk(g, l, visit_list);
}

static int run_stats(struct greylist_store *g, struct lister *l)
{
    int rc = walk(g, l, visit_stats);
    if (rc == 0 && l->c->is_done)
        print_stats(g, l->c, l->out);
    return rc;
}

static int put_by_hand(struct greylist_store *g, char tag, struct span text, int64_t until_s)
{
    struct store_key key;
    struct buf value = { 0 }, lower = { 0 };
    for (size_t i = 0; i < text.len; i++)
        buf_putc(&lower, ascii_lower(text.at[i]));
    store_key(g->store, tag, buf_span(&lower), &key);
    buf_append(&value, &until_s, sizeof until_s);
    buf_add(&value, buf_span(&lower));
    int rc = value.len > STORE_VALUE_MAX ? EINVAL : store_begin(g->store);
    if (rc == 0 && (rc = store_put(g->store, &key, value.at, value.len)) == 0)
        rc = store_commit(g->store);
    else
        store_abort(g->store);
    buf_fini(&value);
    buf_fini(&lower);
    return rc == 0 ? load_by_hand(g) : rc;
}

static int run_allow(struct greylist_store *g, struct lister *l)
{
    struct span text = span_trim(span_of(l->c->words));
    l->c->is_done = true;
    if (text.len == 0) {
        buf_puts(l->out, "allow what? An address, network, domain or mail address.\n");
        return 0;
    }
    int rc = put_by_hand(g, 'A', text, 0);
    if (rc == 0)
        buf_printf(l->out, "allowed: %.*s\n", (int)text.len, text.at);
    return rc;
}

/* "RECIPIENT [MINUTES]" */
static int run_expect(struct greylist_store *g, struct lister *l)
{
    struct span rest = span_of(l->c->words), recipient = span_next_word(&rest);
    uint64_t minutes = 30;
    struct span number = span_trim(rest);
    l->c->is_done = true;
    if (recipient.len == 0
        || (number.len > 0 && (!span_to_u64(number, 60 * 24 * 7, &minutes) || minutes == 0))) {
        buf_puts(l->out, "expect what? RECIPIENT [MINUTES]\n");
        return 0;
    }
    int rc = put_by_hand(g, 'E', recipient, l->now_s + (int64_t)minutes * 60);
    if (rc == 0)
        buf_printf(l->out, "mail for %.*s is taken at once for %llu minutes\n",
                   (int)recipient.len, recipient.at, (unsigned long long)minutes);
    return rc;
}

/* Records whose label or id matches go; so does what was allowed or expected under that name. */
static bool visit_forget(void *context, const struct store_key *key, const void *value,
                         size_t size)
{
    struct lister *l = context;
    char tag = (char)key->bytes[0], id[16], text[STORE_VALUE_MAX + 1];
    bool is_by_name = tag == 'A' || tag == 'E';
    size_t head = is_by_name ? 8 : STORED_HEAD;
    if (!is_by_name && tag != 'T' && tag != 'C' && tag != 'P')
        return false;
    size_t len = size > head ? size - head : 0;
    memcpy(text, (const char *)value + head, len);
    text[len] = '\0';
    for (size_t i = 0; i < 6; i++)
        snprintf(id + 2 * i, 3, "%02x", key->bytes[i + 1]);
    bool is_match = strcmp(id, l->c->words) == 0 || strstr(text, l->c->words) != NULL;
    l->c->counts[0] += is_match;
    return is_match;
}

static int run_forget(struct greylist_store *g, struct lister *l)
{
    if (l->c->words[0] == '\0') {
        l->c->is_done = true;
        buf_puts(l->out, "forget what? An id from \"list\", or a part of what it shows.\n");
        return 0;
    }
    int rc = walk(g, l, visit_forget);
    if (rc == 0 && l->c->is_done) {
        buf_printf(l->out, "%lld forgotten\n", (long long)l->c->counts[0]);
        rc = load_by_hand(g);
    }
    return rc;
}

static const struct {
    const char *verb;
    int (*run)(struct greylist_store *g, struct lister *l);
} commands[] = {
    { "list", run_list },     { "stats", run_stats },   { "allow", run_allow },
    { "forget", run_forget }, { "expect", run_expect },
};

int greylist_store_command(struct greylist_store *g, struct greylist_command *c,
                           const struct greylist_params *p, int64_t now_s, struct buf *out)
{
    struct lister lister = { c, p, now_s, out };
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(c->verb, commands[i].verb) == 0)
            return commands[i].run(g, &lister);
    buf_printf(out, "what is \"%s\"? There are: list, stats, allow, forget, expect.\n", c->verb);
    c->is_done = true;
    return 0;
}
