/* Greylist records as they may lie in a damaged store: this file stands in for store_db.c, and any
 * record is any part of the input. */
#include "fuzz/fuzz.h"
#include "policy/greylist_store.h"

struct store {
    struct fuzz *f;
};

static struct span any_part(struct fuzz *f)
{
    size_t at = seeded_below(&f->random, f->text.len + 1);
    size_t len = seeded_below(&f->random, 60);
    struct span rest = span_skip(f->text, at);
    return span_make(rest.at, rest.len < len ? rest.len : len);
}

void store_key(const struct store *s, char tag, struct span text, struct store_key *key)
{
    (void)s;
    *key = (struct store_key){ { (unsigned char)tag } };
    for (size_t i = 0; i < text.len; i++)
        key->bytes[1 + i % 15] ^= (unsigned char)text.at[i];
}

int store_begin(struct store *s)
{
    return seeded_below(&s->f->random, 10) == 0 ? STORE_BROKEN : 0;
}

int store_get(struct store *s, const struct store_key *key, void *value, size_t room, size_t *size)
{
    struct span part = any_part(s->f);
    (void)key;
    if (seeded_below(&s->f->random, 4) == 0)
        return STORE_NOT_FOUND;
    *size = part.len < room ? part.len : room;
    memcpy(value, part.at, *size);
    return 0;
}

int store_put(struct store *s, const struct store_key *key, const void *value, size_t size)
{
    (void)s, (void)key, (void)value;
    ENSURE(size <= STORE_VALUE_MAX);
    return 0;
}

int store_delete(struct store *s, const struct store_key *key)
{
    (void)s, (void)key;
    return 0;
}

int store_commit(struct store *s)
{
    (void)s;
    return 0;
}

void store_abort(struct store *s)
{
    (void)s;
}

int store_walk(struct store *s, struct store_key *at, int limit,
               bool (*visit)(void *context, const struct store_key *key, const void *value,
                             size_t size),
               void *context, bool *is_done)
{
    static const char tags[] = "ACEGPT?";
    for (int i = 0; i < 8 && i < limit; i++) {
        struct span part = any_part(s->f);
        struct store_key key = { { (unsigned char)tags[seeded_below(&s->f->random, 7)] } };
        char *exact = xmalloc(part.len + 1);
        memcpy(exact, part.at, part.len);
        visit(context, &key, exact, part.len);
        free(exact);
    }
    *is_done = true;
    at->bytes[0] = 0xff;
    return 0;
}

uint64_t store_file_bytes(struct store *s)
{
    (void)s;
    return 0;
}

static void decide(struct fuzz *f, struct greylist_store *g, const struct greylist_params *p)
{
    struct greylist_request r = { .key = f->text, .params = *p, .now_s = 1700000000 };
    if (greylist_store_decide(g, &r) == 0)
        ENSURE(r.decision.result <= GREYLIST_ALLOWED);
}

static void command(struct fuzz *f, struct greylist_store *g, const struct greylist_params *p)
{
    static const char *const verbs[] = { "list", "stats", "allow", "forget", "expect", "?" };
    struct greylist_command c = { .verb = verbs[seeded_below(&f->random, ARRAY_LEN(verbs))] };
    struct buf out = { 0 };
    c.words = arena_text(&f->memory, fuzz_line(f));
    for (int i = 0; i < 3 && !c.is_done; i++)
        greylist_store_command(g, &c, p, 1700000000, &out);
    buf_fini(&out);
}

void fuzz_one(struct fuzz *f)
{
    const struct greylist_params p = { 300, 172800, 3024000, 5, 2 };
    struct store store = { f };
    struct greylist_store g;
    struct store_key at = { { 0 } };
    int removed = 0;
    bool is_done = false;
    if (greylist_store_begin(&g, &store) == 0) {
        decide(f, &g, &p);
        greylist_store_sweep(&g, &p, 1700000000, &at, &removed, &is_done);
        command(f, &g, &p);
    }
    greylist_store_end(&g);
}
