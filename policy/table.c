#include "policy/table.h"
#include "protocol/buf.h"
#include "protocol/mem.h"

#include <stdlib.h>

/* An entry in bytes: two 32-bit lengths, key, value. slots[] is open addressing by hash; a slot
 * holds the entry's offset + 1. A value that was replaced stays in bytes, unreachable. */
struct table {
    struct buf bytes; /* owns */
    uint32_t *slots;  /* owns */
    size_t slot_count, count;
};

enum { ENTRY_HEAD = 8, FIRST_SLOTS = 16 };

struct table *table_new(void)
{
    return xcalloc(1, sizeof(struct table));
}

void table_free(struct table *t)
{
    if (t == NULL)
        return;
    buf_fini(&t->bytes);
    free(t->slots);
    free(t);
}

size_t table_count(const struct table *t)
{
    return t->count;
}

/* Keys come from the admin, not from a stranger. */
static uint64_t hash_of(struct span key)
{
    uint64_t h = span_hash(key);
    return h ^ (h >> 29);
}

static void entry_at(const struct table *t, size_t offset, struct span *key, struct span *value)
{
    uint32_t lengths[2];
    const char *at = t->bytes.at + offset;
    memcpy(lengths, at, ENTRY_HEAD);
    *key = span_make(at + ENTRY_HEAD, lengths[0]);
    *value = span_make(key->at + lengths[0], lengths[1]);
}

/* The slot of key, or the empty one where it belongs. */
static size_t slot_of(const struct table *t, struct span key)
{
    size_t i = hash_of(key) & (t->slot_count - 1);
    for (; t->slots[i] != 0; i = (i + 1) & (t->slot_count - 1)) {
        struct span have, value;
        entry_at(t, t->slots[i] - 1, &have, &value);
        if (span_equals(have, key))
            break;
    }
    return i;
}

static void grow(struct table *t)
{
    uint32_t *old = t->slots;
    size_t old_count = t->slot_count;
    t->slot_count = old_count > 0 ? old_count * 2 : FIRST_SLOTS;
    t->slots = xcalloc(t->slot_count, sizeof *t->slots);
    for (size_t i = 0; i < old_count; i++) {
        struct span key, value;
        if (old[i] == 0)
            continue;
        entry_at(t, old[i] - 1, &key, &value);
        t->slots[slot_of(t, key)] = old[i];
    }
    free(old);
}

static bool set(struct table *t, struct span key, struct span value, bool replaces)
{
    uint32_t lengths[2] = { (uint32_t)key.len, (uint32_t)value.len };
    ENSURE(t->bytes.len + key.len + value.len < UINT32_MAX - ENTRY_HEAD - 1);
    if ((t->count + 1) * 2 > t->slot_count)
        grow(t);
    size_t slot = slot_of(t, key);
    bool is_new = t->slots[slot] == 0;
    if (!is_new && !replaces)
        return false;
    t->slots[slot] = (uint32_t)t->bytes.len + 1;
    t->count += is_new;
    buf_append(&t->bytes, lengths, ENTRY_HEAD);
    buf_add(&t->bytes, key);
    buf_add(&t->bytes, value);
    return is_new;
}

bool table_add(struct table *t, struct span key, struct span value)
{
    return set(t, key, value, false);
}

bool table_put(struct table *t, struct span key, struct span value)
{
    return set(t, key, value, true);
}

bool table_find(const struct table *t, struct span key, struct span *value)
{
    struct span have;
    if (t->count == 0)
        return false;
    size_t slot = slot_of(t, key);
    if (t->slots[slot] == 0)
        return false;
    entry_at(t, t->slots[slot] - 1, &have, value);
    return true;
}

void table_trim(struct table *t)
{
    if (t->bytes.len > 0) {
        t->bytes.at = xrealloc(t->bytes.at, t->bytes.len + 1);
        t->bytes.cap = t->bytes.len + 1;
    }
}

/* Skips values that table_put() replaced. */
bool table_next(const struct table *t, size_t *cursor, struct span *key, struct span *value)
{
    while (*cursor < t->bytes.len) {
        size_t offset = *cursor;
        entry_at(t, offset, key, value);
        *cursor += ENTRY_HEAD + key->len + value->len;
        if (t->slots[slot_of(t, *key)] == offset + 1)
            return true;
    }
    return false;
}
