#include "queue/schedule.h"
#include "protocol/mem.h"
#include "protocol/span.h"

#include <stdlib.h>
#include <string.h>

enum { DESTINATION_BUCKETS = 256, FIRST_SLOTS = 64, IDLE_DESTINATIONS = 1000 };

struct schedule {
    struct schedule_limits limits;
    struct queue_entry **heap; /* by at_s: waiting and ready ones */
    size_t heap_count, heap_cap;
    struct queue_entry **slots; /* all, by id; open addressing, NULL: free */
    size_t slot_count;          /* a power of two */
    struct destination *buckets[DESTINATION_BUCKETS];
    size_t destination_count, sweep_count; /* sweep_count: when to look for idle ones */
    struct destination *first_ready, *last_ready; /* those with a line */
    struct schedule_counts counts;
};

/* ------------------------------------------------------------ rules */

int64_t schedule_backoff_s(const struct schedule_limits *l, int64_t arrived_s, int64_t now_s)
{
    int64_t age_s = now_s - arrived_s;
    if (age_s < l->minimal_backoff_s)
        return l->minimal_backoff_s;
    return age_s > l->maximal_backoff_s ? l->maximal_backoff_s : age_s;
}

static int64_t lifetime(const struct schedule_limits *l, bool is_bounce)
{
    return is_bounce ? l->bounce_lifetime_s : l->lifetime_s;
}

bool schedule_is_expired(const struct schedule_limits *l, int64_t arrived_s, bool is_bounce,
                         int64_t now_s)
{
    return now_s - arrived_s >= lifetime(l, is_bounce);
}

bool schedule_is_warning_due(const struct schedule_limits *l, int64_t arrived_s,
                             bool is_delay_told, int64_t now_s)
{
    return l->delay_warning_s > 0 && !is_delay_told && now_s - arrived_s >= l->delay_warning_s;
}

/* When something becomes due for a message that only stands in line. */
static int64_t settle_s(const struct schedule *s, const struct queue_entry *e)
{
    int64_t at_s = e->arrived_s + lifetime(&s->limits, e->is_bounce);
    int64_t warn_s = e->arrived_s + s->limits.delay_warning_s;
    bool warns = s->limits.delay_warning_s > 0 && !e->is_delay_told;
    return warns && warn_s < at_s ? warn_s : at_s;
}

/* ------------------------------------------------------------ the heap */

static void heap_put(struct schedule *s, size_t i, struct queue_entry *e)
{
    s->heap[i] = e;
    e->heap_index = (uint32_t)i;
}

/* Ids grow with time: of those that are due together the oldest goes first. */
static bool comes_before(const struct queue_entry *a, const struct queue_entry *b)
{
    return a->at_s < b->at_s || (a->at_s == b->at_s && a->id < b->id);
}

static void heap_up(struct schedule *s, size_t i)
{
    struct queue_entry *e = s->heap[i];
    for (; i > 0 && comes_before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap_put(s, i, s->heap[(i - 1) / 2]);
    heap_put(s, i, e);
}

static void heap_down(struct schedule *s, size_t i)
{
    struct queue_entry *e = s->heap[i];
    for (size_t child; (child = 2 * i + 1) < s->heap_count; i = child) {
        if (child + 1 < s->heap_count && comes_before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!comes_before(s->heap[child], e))
            break;
        heap_put(s, i, s->heap[child]);
    }
    heap_put(s, i, e);
}

static void heap_add(struct schedule *s, struct queue_entry *e, int64_t at_s)
{
    if (s->heap_count == s->heap_cap) {
        s->heap_cap = s->heap_cap > 0 ? s->heap_cap * 2 : FIRST_SLOTS;
        s->heap = xrealloc(s->heap, s->heap_cap * sizeof *s->heap);
    }
    e->at_s = at_s;
    heap_put(s, s->heap_count++, e);
    heap_up(s, e->heap_index);
}

static void heap_cut(struct schedule *s, struct queue_entry *e)
{
    size_t i = e->heap_index;
    if (e->heap_index == UINT32_MAX)
        return;
    e->heap_index = UINT32_MAX;
    struct queue_entry *last = s->heap[--s->heap_count];
    if (last == e)
        return;
    heap_put(s, i, last);
    heap_up(s, i);
    heap_down(s, last->heap_index);
}

/* ------------------------------------------------------------ ids */

static size_t slot_of(uint64_t id, size_t count)
{
    return (size_t)((id * 0x9E3779B97F4A7C15u) >> 20) & (count - 1);
}

static size_t find_slot(const struct schedule *s, uint64_t id)
{
    size_t i = slot_of(id, s->slot_count);
    while (s->slots[i] != NULL && s->slots[i]->id != id)
        i = (i + 1) & (s->slot_count - 1);
    return i;
}

static void grow_slots(struct schedule *s)
{
    struct queue_entry **old = s->slots;
    size_t old_count = s->slot_count;
    if ((s->counts.entries + 1) * 4 <= old_count * 3)
        return;
    s->slot_count = old_count > 0 ? old_count * 2 : FIRST_SLOTS;
    s->slots = xcalloc(s->slot_count, sizeof *s->slots);
    for (size_t i = 0; i < old_count; i++)
        if (old[i] != NULL)
            s->slots[find_slot(s, old[i]->id)] = old[i];
    free(old);
}

/* Those behind the hole that it kept from their own place move up. */
static void cut_slot(struct schedule *s, uint64_t id)
{
    size_t mask = s->slot_count - 1, hole = find_slot(s, id);
    for (size_t i = (hole + 1) & mask; s->slots[i] != NULL; i = (i + 1) & mask) {
        size_t home = slot_of(s->slots[i]->id, s->slot_count);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        s->slots[hole] = s->slots[i];
        hole = i;
    }
    s->slots[hole] = NULL;
}

struct queue_entry *schedule_find(const struct schedule *s, uint64_t id)
{
    return s->slot_count > 0 ? s->slots[find_slot(s, id)] : NULL;
}

void schedule_each(const struct schedule *s, void *context,
                   void (*each)(void *context, struct queue_entry *e))
{
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i] != NULL)
            each(context, s->slots[i]);
}

/* ------------------------------------------------------------ destinations */

static struct destination **find_destination(const struct schedule *s, const char *name)
{
    uint64_t hash = span_hash(span_of(name));
    struct destination *const *at = &s->buckets[(hash >> 32) % DESTINATION_BUCKETS];
    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return (struct destination **)(uintptr_t)at;
}

/* Nobody's mail goes there any more: that they are down is worth remembering of a few only, for
 * whoever forges senders can name as many as he likes. */
static void sweep_destinations(struct schedule *s)
{
    for (size_t i = 0; i < DESTINATION_BUCKETS; i++)
        for (struct destination **at = &s->buckets[i], *d; (d = *at) != NULL;) {
            if (d->entries > 0) {
                at = &d->next;
                continue;
            }
            *at = d->next;
            free(d);
            s->destination_count--;
        }
    s->sweep_count = 2 * s->destination_count + IDLE_DESTINATIONS;
}

static struct destination *make_destination(struct schedule *s, const char *name)
{
    if (s->destination_count >= s->sweep_count)
        sweep_destinations(s);
    struct destination **at = find_destination(s, name);
    if (*at == NULL) {
        s->destination_count++;
        *at = xcalloc(1, sizeof **at + strlen(name) + 1);
        memcpy((*at)->name, name, strlen(name) + 1);
    }
    return *at;
}

/* Nobody goes there, and there is nothing to remember about it. */
static void forget_if_idle(struct schedule *s, struct destination *d)
{
    if (d->entries > 0 || d->failures > 0)
        return;
    struct destination **at = find_destination(s, d->name);
    *at = d->next;
    free(d);
    s->destination_count--;
}

/* The one that has waited longest for its turn comes first. */
static void link_ready(struct schedule *s, struct destination *d)
{
    d->has_line = true;
    d->prev_ready = s->last_ready;
    d->next_ready = NULL;
    *(d->prev_ready != NULL ? &d->prev_ready->next_ready : &s->first_ready) = d;
    s->last_ready = d;
}

static void unlink_ready(struct schedule *s, struct destination *d)
{
    d->has_line = false;
    *(d->prev_ready != NULL ? &d->prev_ready->next_ready : &s->first_ready) = d->next_ready;
    *(d->next_ready != NULL ? &d->next_ready->prev_ready : &s->last_ready) = d->prev_ready;
}

static void line_add(struct schedule *s, struct queue_entry *e, bool is_first)
{
    struct destination *d = e->destination;
    e->prev = is_first ? NULL : d->last;
    e->next = is_first ? d->first : NULL;
    *(e->prev != NULL ? &e->prev->next : &d->first) = e;
    *(e->next != NULL ? &e->next->prev : &d->last) = e;
    if (!d->has_line)
        link_ready(s, d);
}

static void line_cut(struct schedule *s, struct queue_entry *e)
{
    struct destination *d = e->destination;
    *(e->prev != NULL ? &e->prev->next : &d->first) = e->next;
    *(e->next != NULL ? &e->next->prev : &d->last) = e->prev;
    e->prev = e->next = NULL;
    if (d->first == NULL)
        unlink_ready(s, d);
}

static bool is_down(const struct destination *d, int64_t now_s)
{
    return d->failures > 0 && now_s < d->down_until_s;
}

bool schedule_may_try(const struct schedule *s, const char *destination, int64_t now_s)
{
    const struct destination *d = *find_destination(s, destination);
    return d == NULL || !is_down(d, now_s);
}

/* One failure more, and the pause doubles. */
static void set_down(const struct schedule *s, struct destination *d, int64_t now_s)
{
    int64_t pause_s = s->limits.probe_s;
    for (unsigned i = 0; i < d->failures && pause_s < s->limits.probe_max_s; i++)
        pause_s *= 2;
    if (pause_s > s->limits.probe_max_s)
        pause_s = s->limits.probe_max_s;
    d->failures++;
    d->down_until_s = now_s + pause_s;
}

bool schedule_take_turn(struct schedule *s, const char *destination, int64_t now_s)
{
    struct destination *d = *find_destination(s, destination);
    if (d == NULL || d->failures == 0)
        return true;
    if (is_down(d, now_s))
        return false;
    set_down(s, d, now_s); /* for the others, until this one knows better */
    return true;
}

void schedule_reached(struct schedule *s, const char *destination, bool is_reached,
                      int64_t now_s)
{
    if (destination[0] == '\0') /* several: nobody's failure */
        return;
    struct destination *d = is_reached ? *find_destination(s, destination)
                                       : make_destination(s, destination);
    if (d == NULL || (!is_reached && is_down(d, now_s))) /* others failed at the same time */
        return;
    if (!is_reached) {
        set_down(s, d, now_s);
        return;
    }
    d->failures = 0;
    forget_if_idle(s, d);
}

size_t schedule_destination_count(const struct schedule *s)
{
    return s->destination_count;
}

/* ------------------------------------------------------------ states */

static size_t *count_of(struct schedule *s, enum entry_state state)
{
    switch (state) {
    case ENTRY_WAITING: return &s->counts.waiting;
    case ENTRY_READY: return &s->counts.ready;
    case ENTRY_ACTIVE: return &s->counts.active;
    case ENTRY_HELD: break;
    }
    return &s->counts.held;
}

/* Takes it out of all it stands in. */
static void leave_state(struct schedule *s, struct queue_entry *e)
{
    heap_cut(s, e);
    if (e->state == ENTRY_READY)
        line_cut(s, e);
    if (e->state == ENTRY_ACTIVE)
        e->destination->active--;
    --*count_of(s, (enum entry_state)e->state);
}

static void enter_state(struct schedule *s, struct queue_entry *e, enum entry_state state)
{
    e->state = (uint8_t)state;
    ++*count_of(s, state);
}

static void set_waiting(struct schedule *s, struct queue_entry *e, int64_t at_s)
{
    leave_state(s, e);
    enter_state(s, e, ENTRY_WAITING);
    heap_add(s, e, at_s);
}

static void set_ready(struct schedule *s, struct queue_entry *e, bool is_first)
{
    leave_state(s, e);
    enter_state(s, e, ENTRY_READY);
    heap_add(s, e, settle_s(s, e));
    line_add(s, e, is_first);
}

enum { LOOK_AGAIN_S = 60 };

static void look_again(struct schedule *s, struct queue_entry *e, int64_t now_s)
{
    heap_cut(s, e);
    heap_add(s, e, now_s + LOOK_AGAIN_S);
}

void schedule_activate(struct schedule *s, struct queue_entry *e)
{
    leave_state(s, e);
    enter_state(s, e, ENTRY_ACTIVE);
    e->destination->active++;
}

void schedule_hold(struct schedule *s, struct queue_entry *e)
{
    leave_state(s, e);
    enter_state(s, e, ENTRY_HELD);
}

void schedule_retry(struct schedule *s, struct queue_entry *e, int64_t now_s)
{
    int64_t next_s = now_s + schedule_backoff_s(&s->limits, e->arrived_s, now_s);
    int64_t due_s = settle_s(s, e);
    set_waiting(s, e, due_s > now_s && due_s < next_s ? due_s : next_s);
}

void schedule_wait(struct schedule *s, struct queue_entry *e, int64_t now_s)
{
    if (!is_down(e->destination, now_s)) {
        schedule_retry(s, e, now_s);
        return;
    }
    set_ready(s, e, true);
    if (e->at_s <= now_s) /* it was settled, and there was nothing to settle */
        look_again(s, e, now_s);
}

void schedule_flush(struct schedule *s, struct queue_entry *e, int64_t now_s)
{
    if (e->state == ENTRY_ACTIVE)
        return;
    e->destination->down_until_s = now_s;
    set_ready(s, e, true);
}

/* ------------------------------------------------------------ entries */

struct queue_entry *schedule_add(struct schedule *s, uint64_t id, const char *destination,
                                 int64_t arrived_s, int64_t next_s, int64_t now_s, bool is_held)
{
    if (schedule_find(s, id) != NULL)
        return NULL;
    grow_slots(s);
    struct queue_entry *e = xcalloc(1, sizeof *e);
    e->id = id;
    e->arrived_s = arrived_s < now_s ? arrived_s : now_s;
    e->heap_index = UINT32_MAX;
    e->destination = make_destination(s, destination);
    e->destination->entries++;
    s->slots[find_slot(s, id)] = e;
    s->counts.entries++;
    enter_state(s, e, ENTRY_HELD);
    int64_t latest_s = now_s + s->limits.maximal_backoff_s;
    if (!is_held)
        set_waiting(s, e, next_s < latest_s ? next_s : latest_s);
    return e;
}

void schedule_remove(struct schedule *s, struct queue_entry *e)
{
    struct destination *d = e->destination;
    leave_state(s, e);
    cut_slot(s, e->id);
    s->counts.entries--;
    d->entries--;
    forget_if_idle(s, d);
    free(e);
}

void schedule_redirect(struct schedule *s, struct queue_entry *e, const char *destination)
{
    struct destination *old = e->destination, *new = make_destination(s, destination);
    ENSURE(e->state == ENTRY_ACTIVE || e->state == ENTRY_HELD);
    if (old == new)
        return;
    new->entries++;
    e->destination = new;
    old->entries--;
    if (e->state == ENTRY_ACTIVE) {
        new->active++;
        old->active--;
    }
    forget_if_idle(s, old);
}

/* ------------------------------------------------------------ what now? */

static bool may_start(const struct schedule *s, const struct destination *d, int64_t now_s)
{
    if (is_down(d, now_s))
        return false;
    return d->active < (d->failures > 0 ? 1 : s->limits.concurrency);
}

/* Whose time has come goes into the line, and has its try before anything is given up; only who
 * stands before a closed door is settled without one. */
static struct queue_entry *take_due(struct schedule *s, int64_t now_s)
{
    while (s->heap_count > 0 && s->heap[0]->at_s <= now_s) {
        struct queue_entry *e = s->heap[0];
        if (e->state == ENTRY_WAITING) {
            set_ready(s, e, false);
        } else if (is_down(e->destination, now_s)) {
            return e;
        } else {
            look_again(s, e, now_s);
        }
    }
    return NULL;
}

/* Destinations take turns: who was served goes to the end. */
static struct queue_entry *take_ready(struct schedule *s, int64_t now_s)
{
    for (struct destination *d = s->first_ready; d != NULL; d = d->next_ready)
        if (may_start(s, d, now_s)) {
            unlink_ready(s, d);
            link_ready(s, d);
            return d->first;
        }
    return NULL;
}

enum schedule_task schedule_next(struct schedule *s, int64_t now_s, struct queue_entry **e)
{
    enum schedule_task task = SCHEDULE_SETTLE;
    *e = NULL;
    if (s->counts.active >= s->limits.active_limit)
        return SCHEDULE_NOTHING;
    *e = take_due(s, now_s);
    if (*e == NULL) {
        task = SCHEDULE_TRY;
        *e = take_ready(s, now_s);
    }
    if (*e == NULL)
        return SCHEDULE_NOTHING;
    schedule_activate(s, *e);
    return task;
}

int64_t schedule_wake_s(const struct schedule *s)
{
    int64_t at_s = s->heap_count > 0 ? s->heap[0]->at_s : INT64_MAX;
    if (s->counts.active >= s->limits.active_limit)
        return INT64_MAX;
    for (const struct destination *d = s->first_ready; d != NULL; d = d->next_ready)
        if (d->failures > 0 && d->active == 0 && d->down_until_s < at_s)
            at_s = d->down_until_s;
    return at_s;
}

/* ------------------------------------------------------------ life */

struct schedule *schedule_new(const struct schedule_limits *limits)
{
    struct schedule *s = xcalloc(1, sizeof *s);
    s->limits = *limits;
    return s;
}

void schedule_set_limits(struct schedule *s, const struct schedule_limits *limits)
{
    s->limits = *limits;
}

void schedule_free(struct schedule *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->slot_count; i++)
        free(s->slots[i]);
    for (size_t i = 0; i < DESTINATION_BUCKETS; i++)
        for (struct destination *d = s->buckets[i], *next; d != NULL; d = next) {
            next = d->next;
            free(d);
        }
    free(s->slots);
    free(s->heap);
    free(s);
}

struct schedule_counts schedule_count(const struct schedule *s)
{
    return s->counts;
}

int64_t schedule_oldest_s(const struct schedule *s)
{
    int64_t oldest_s = INT64_MAX;
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i] != NULL && s->slots[i]->arrived_s < oldest_s)
            oldest_s = s->slots[i]->arrived_s;
    return oldest_s;
}
