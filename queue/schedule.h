/* schedule - which message of the spool is tried when, and which destinations are worth it.
 * Entry:  a message in a few dozen bytes; what it says lies on disk. It waits for its time, then
 *         it is ready and stands in the line of its destination, then it is active, until
 *         schedule_retry(), schedule_wait() or schedule_remove().
 * Back-off: the next try is as far away as the message is old, within minimal_backoff and
 *         maximal_backoff: each pause is about twice the one before, as Postfix has it.
 * Destination: "lmtp:unix:PATH", "smtp:[HOST]:PORT", "virtual"; "" is for messages that go to
 *         several. At most `concurrency` of its messages are active. One that cannot be reached is
 *         down: its messages stay in line without being tried, whatever their number, and one of
 *         them at a time is the probe: after probe_s, then at twice the pause, up to probe_max_s.
 *         The first that gets through opens the line for all. While it is down its messages still
 *         expire and are still warned about.
 * Time:   seconds of one clock that never runs back; stored wall times are converted by the
 *         caller, and what lies too far ahead is cut (schedule_add).
 * Bounds: 64 bytes a message and its places in two tables; active_limit messages active in all;
 *         some thousand destinations without messages are remembered.
 * Thread: one at a time. Pure. */
#ifndef POSTERN_SCHEDULE_H
#define POSTERN_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schedule_limits {
    int64_t minimal_backoff_s, maximal_backoff_s;
    int64_t lifetime_s, bounce_lifetime_s; /* of messages with a sender, and without */
    int64_t delay_warning_s;               /* 0: never */
    int64_t probe_s, probe_max_s;
    unsigned concurrency, active_limit;
};

struct destination {
    struct destination *next;              /* in its hash chain */
    struct destination *prev_ready, *next_ready; /* those with a line */
    struct queue_entry *first, *last;      /* the line */
    size_t entries;                        /* that name it */
    unsigned active;
    unsigned failures;                     /* in a row */
    int64_t down_until_s;                  /* the next probe; failures 0: it is not down */
    bool has_line;
    char name[];
};

enum entry_state { ENTRY_WAITING, ENTRY_READY, ENTRY_ACTIVE, ENTRY_HELD };

struct queue_entry {
    uint64_t id;
    int64_t at_s; /* the heap's key: next try, or what comes first while it is ready */
    int64_t arrived_s;
    struct destination *destination;
    struct queue_entry *prev, *next; /* in its destination's line */
    uint32_t heap_index;             /* UINT32_MAX: not in the heap */
    uint8_t state;                   /* enum entry_state */
    bool is_bounce;                  /* null sender */
    bool is_delay_told;
    bool is_hold_due, is_delete_due; /* asked for while it was active: the caller's */
};

struct schedule;

struct schedule *schedule_new(const struct schedule_limits *limits);
void schedule_free(struct schedule *s);
void schedule_set_limits(struct schedule *s, const struct schedule_limits *limits);

/* A message of the spool; NULL: its id is there already. next_s further away than
 * maximal_backoff is cut to that. is_held: it is known, and not tried. */
struct queue_entry *schedule_add(struct schedule *s, uint64_t id, const char *destination,
                                 int64_t arrived_s, int64_t next_s, int64_t now_s, bool is_held);
struct queue_entry *schedule_find(const struct schedule *s, uint64_t id);
void schedule_remove(struct schedule *s, struct queue_entry *e);

/* Calls each(); it must not change the schedule. */
void schedule_each(const struct schedule *s, void *context,
                   void (*each)(void *context, struct queue_entry *e));

enum schedule_task {
    SCHEDULE_NOTHING,
    SCHEDULE_TRY,
    SCHEDULE_SETTLE, /* its destination is down, and it is too old or to be warned about */
};

/* What is to be done now; the entry is active then. */
enum schedule_task schedule_next(struct schedule *s, int64_t now_s, struct queue_entry **e);

/* When schedule_next() may have something again, if nothing else happens; INT64_MAX: never. */
int64_t schedule_wake_s(const struct schedule *s);

/* Ends of being active. Retry: back off. Wait: its destination is down, it goes back in line. */
void schedule_retry(struct schedule *s, struct queue_entry *e, int64_t now_s);
void schedule_wait(struct schedule *s, struct queue_entry *e, int64_t now_s);
void schedule_hold(struct schedule *s, struct queue_entry *e);

/* As if it were active already: a try of somebody else's is under way. */
void schedule_activate(struct schedule *s, struct queue_entry *e);

/* Another destination, now that others have their mail. Of an active entry. */
void schedule_redirect(struct schedule *s, struct queue_entry *e, const char *destination);

/* It is tried as soon as may be (also a held one: then it is held no longer); its destination
 * counts as up. */
void schedule_flush(struct schedule *s, struct queue_entry *e, int64_t now_s);

/* The pause before the next try of a message that arrived then. */
int64_t schedule_backoff_s(const struct schedule_limits *l, int64_t arrived_s, int64_t now_s);
bool schedule_is_expired(const struct schedule_limits *l, int64_t arrived_s, bool is_bounce,
                         int64_t now_s);
bool schedule_is_warning_due(const struct schedule_limits *l, int64_t arrived_s,
                             bool is_delay_told, int64_t now_s);

/* ------------------------------------------------------------ destinations */

/* May be tried now? False: it is down and its probe is not due. Also for tries that do not come
 * from the schedule. A destination nobody has heard of is up. */
bool schedule_may_try(const struct schedule *s, const char *destination, int64_t now_s);

/* The same for a message that goes to others too: of those one at a time is the probe. */
bool schedule_take_turn(struct schedule *s, const char *destination, int64_t now_s);

/* It was reached, or was not. */
void schedule_reached(struct schedule *s, const char *destination, bool is_reached,
                      int64_t now_s);
size_t schedule_destination_count(const struct schedule *s);

struct schedule_counts {
    size_t entries, waiting, ready, active, held;
};
struct schedule_counts schedule_count(const struct schedule *s);
int64_t schedule_oldest_s(const struct schedule *s); /* arrival; INT64_MAX: none */

#endif
