#include "queue/schedule.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>
#include <malloc.h>

static const struct schedule_limits limits = {
    .minimal_backoff_s = 300, .maximal_backoff_s = 4000, .lifetime_s = 432000,
    .bounce_lifetime_s = 86400, .delay_warning_s = 0, .probe_s = 5, .probe_max_s = 300,
    .concurrency = 2, .active_limit = 10,
};

static struct queue_entry *add(struct schedule *s, uint64_t id, const char *to, int64_t now_s)
{
    return schedule_add(s, id, to, now_s, now_s, now_s, false);
}

/* The ids that may start now, in order; "-" if none. They are active then. */
static const char *start_all(struct schedule *s, int64_t now_s)
{
    static char text[256];
    struct queue_entry *e;
    enum schedule_task task;
    size_t n = 0;
    text[0] = '\0';
    while ((task = schedule_next(s, now_s, &e)) != SCHEDULE_NOTHING)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%llu ",
                              task == SCHEDULE_SETTLE ? "settle" : "", (unsigned long long)e->id);
    return n > 0 ? text : "-";
}

Test(schedule, back_off_doubles_within_its_limits)
{
    static const struct { int64_t age_s, pause_s; } cases[] = {
        { 0, 300 }, { 299, 300 }, { 301, 301 }, { 1000, 1000 }, { 4000, 4000 }, { 90000, 4000 },
        { -50, 300 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_expect_eq(schedule_backoff_s(&limits, 1000, 1000 + cases[i].age_s), cases[i].pause_s);
}

Test(schedule, a_message_waits_for_its_time)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = schedule_add(s, 7, "lmtp:a", 0, 100, 0, false);
    cr_expect_str_eq(start_all(s, 99), "-");
    cr_expect_eq(schedule_wake_s(s), 100);
    cr_expect_str_eq(start_all(s, 100), "7 ");
    cr_expect_str_eq(start_all(s, 100), "-"); /* it is active */
    schedule_retry(s, e, 100);
    cr_expect_eq(schedule_wake_s(s), 400);
    cr_expect_str_eq(start_all(s, 399), "-");
    cr_expect_str_eq(start_all(s, 400), "7 ");
    schedule_retry(s, e, 400); /* 400 old: 400 more */
    cr_expect_eq(schedule_wake_s(s), 800);
    cr_expect_eq(schedule_find(s, 7), e);
    cr_expect_null(add(s, 7, "lmtp:a", 0));
    schedule_remove(s, e);
    cr_expect_null(schedule_find(s, 7));
    cr_expect_eq(schedule_wake_s(s), INT64_MAX);
    schedule_free(s);
}

Test(schedule, a_time_too_far_away_is_cut) /* the clock was set back */
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = schedule_add(s, 1, "lmtp:a", 500000, 500000, 1000, false);
    cr_expect_eq(schedule_wake_s(s), 5000);
    cr_expect_eq(e->arrived_s, 1000);
    schedule_free(s);
}

Test(schedule, so_many_at_a_time_for_each_destination)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *first = add(s, 1, "lmtp:a", 0);
    for (uint64_t id = 2; id <= 4; id++)
        add(s, id, "lmtp:a", 0);
    add(s, 11, "lmtp:b", 0);
    cr_expect_str_eq(start_all(s, 0), "1 11 2 ");
    schedule_remove(s, first);
    cr_expect_str_eq(start_all(s, 0), "3 ");
    cr_expect_eq(schedule_count(s).active, 3);
    cr_expect_eq(schedule_count(s).ready, 1);
    schedule_free(s);
}

Test(schedule, so_many_in_all)
{
    struct schedule *s = schedule_new(&limits);
    char name[32];
    for (uint64_t id = 0; id < 20; id++) {
        snprintf(name, sizeof name, "smtp:%llu", (unsigned long long)id);
        add(s, id, name, 0);
    }
    start_all(s, 0);
    cr_expect_eq(schedule_count(s).active, 10);
    schedule_free(s);
}

Test(schedule, a_dead_destination_is_probed_and_not_hammered)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e[6];
    int tries = 0;
    for (uint64_t id = 0; id < 6; id++)
        e[id] = add(s, id + 1, "lmtp:a", 0);
    cr_expect_str_eq(start_all(s, 0), "1 2 ");
    for (int i = 0; i < 2; i++) {
        schedule_reached(s, "lmtp:a", false, 0);
        schedule_wait(s, e[i], 0);
    }
    cr_expect_not(schedule_may_try(s, "lmtp:a", 4));
    cr_expect(schedule_may_try(s, "lmtp:b", 4));
    cr_expect_eq(schedule_wake_s(s), 5);
    cr_expect_str_eq(start_all(s, 4), "-");
    for (int64_t now_s = 5; now_s < 3600; now_s++) {
        struct queue_entry *probe;
        if (schedule_next(s, now_s, &probe) == SCHEDULE_NOTHING)
            continue;
        tries++;
        cr_expect_str_eq(start_all(s, now_s), "-"); /* one at a time */
        schedule_reached(s, "lmtp:a", false, now_s);
        schedule_wait(s, probe, now_s);
    }
    /* after 5, 10, 20, 40, 80, 160 s, then every 300: six, and eleven more in the hour */
    cr_expect_leq(tries, 17);
    cr_expect_geq(tries, 15);
    schedule_free(s);
}

/* Messages for several destinations stand in no line; a dead one is probed by one of them. */
Test(schedule, turns_at_a_dead_destination_are_taken_one_by_one)
{
    struct schedule *s = schedule_new(&limits);
    add(s, 1, "lmtp:a", 0);
    cr_expect(schedule_take_turn(s, "lmtp:a", 0));
    cr_expect(schedule_take_turn(s, "lmtp:a", 0)); /* it is up */
    schedule_reached(s, "lmtp:a", false, 0);
    cr_expect_not(schedule_take_turn(s, "lmtp:a", 4));
    cr_expect(schedule_take_turn(s, "lmtp:a", 5));
    cr_expect_not(schedule_take_turn(s, "lmtp:a", 5));
    schedule_reached(s, "lmtp:a", false, 6);
    cr_expect_not(schedule_take_turn(s, "lmtp:a", 14)); /* doubled */
    cr_expect(schedule_take_turn(s, "lmtp:a", 15));
    schedule_reached(s, "lmtp:a", true, 16);
    cr_expect(schedule_take_turn(s, "lmtp:a", 16));
    cr_expect(schedule_take_turn(s, "lmtp:a", 16));
    schedule_free(s);
}

Test(schedule, the_probe_that_gets_through_opens_the_line)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e[4], *probe;
    for (uint64_t id = 0; id < 4; id++)
        e[id] = add(s, id + 1, "lmtp:a", 0);
    start_all(s, 0);
    schedule_reached(s, "lmtp:a", false, 0);
    schedule_wait(s, e[0], 0);
    schedule_wait(s, e[1], 0);
    cr_assert_eq(schedule_next(s, 5, &probe), SCHEDULE_TRY);
    schedule_reached(s, "lmtp:a", true, 6);
    schedule_remove(s, probe);
    start_all(s, 6);
    cr_expect_eq(schedule_count(s).active, 2);
    cr_expect_eq(schedule_count(s).ready, 1);
    schedule_free(s);
}

Test(schedule, before_a_closed_door_messages_grow_old)
{
    struct schedule_limits l = limits;
    struct queue_entry *e, *other;
    l.delay_warning_s = 3600;
    struct schedule *s = schedule_new(&l);
    add(s, 1, "lmtp:a", 0);
    cr_assert_eq(schedule_next(s, 0, &e), SCHEDULE_TRY);
    e->destination->down_until_s = 1000000;
    e->destination->failures = 1;
    schedule_wait(s, e, 0);
    cr_expect_eq(schedule_wake_s(s), 3600);
    cr_assert_eq(schedule_next(s, 3600, &other), SCHEDULE_SETTLE);
    other->is_delay_told = true;
    schedule_wait(s, other, 3600);
    cr_expect_eq(schedule_wake_s(s), 432000);
    cr_expect_eq(schedule_next(s, 431999, &other), SCHEDULE_NOTHING);
    cr_expect_eq(schedule_next(s, 432000, &other), SCHEDULE_SETTLE);
    schedule_free(s);
}

Test(schedule, bounces_live_shorter)
{
    cr_expect_not(schedule_is_expired(&limits, 0, false, 86400));
    cr_expect(schedule_is_expired(&limits, 0, true, 86400));
    cr_expect(schedule_is_expired(&limits, 0, false, 432000));
    cr_expect_not(schedule_is_warning_due(&limits, 0, false, 432000)); /* off */
}

Test(schedule, the_last_try_comes_before_the_end)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = add(s, 1, "lmtp:a", 0);
    start_all(s, 0);
    schedule_retry(s, e, 431000); /* 4000 more would be past the end */
    cr_expect_eq(schedule_wake_s(s), 432000);
    cr_expect_eq(schedule_next(s, 432000, &e), SCHEDULE_TRY);
    schedule_free(s);
}

Test(schedule, held_and_flushed)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = schedule_add(s, 1, "lmtp:a", 0, 0, 0, true), *f;
    cr_expect_str_eq(start_all(s, 100000), "-");
    schedule_flush(s, e, 100);
    cr_expect_str_eq(start_all(s, 100), "1 ");
    schedule_reached(s, "lmtp:a", false, 100);
    schedule_wait(s, e, 100);
    cr_expect_str_eq(start_all(s, 101), "-");
    schedule_flush(s, e, 101); /* the admin knows that it is up again */
    cr_expect_str_eq(start_all(s, 101), "1 ");
    schedule_hold(s, e);
    cr_expect_eq(schedule_count(s).held, 1);
    f = schedule_find(s, 1);
    cr_expect_eq(e, f);
    schedule_free(s);
}

Test(schedule, what_is_left_may_go_elsewhere)
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = add(s, 1, "", 0);
    start_all(s, 0);
    schedule_redirect(s, e, "lmtp:b");
    schedule_retry(s, e, 0);
    cr_expect_str_eq(e->destination->name, "lmtp:b");
    cr_expect_eq(schedule_count(s).active, 0);
    start_all(s, 300);
    cr_expect_eq(e->destination->active, 1);
    schedule_remove(s, e);
    schedule_free(s);
}

/* Against a plain list: which ids are known, and in which order times come. */
Test(schedule, many_come_and_go)
{
    enum { MANY = 5000 };
    struct schedule *s = schedule_new(&(struct schedule_limits){
        .minimal_backoff_s = 1, .maximal_backoff_s = 1 << 30, .lifetime_s = 1 << 30,
        .bounce_lifetime_s = 1 << 30, .probe_s = 1, .probe_max_s = 1, .concurrency = MANY,
        .active_limit = MANY });
    uint64_t state = 9;
    for (uint64_t id = 1; id <= MANY; id++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        schedule_add(s, id << 6, "virtual", 0, (int64_t)(state >> 44), 0, false);
    }
    for (uint64_t id = 1; id <= MANY; id += 3)
        schedule_remove(s, schedule_find(s, id << 6));
    for (uint64_t id = 1; id <= MANY; id++)
        cr_expect_eq(schedule_find(s, id << 6) == NULL, id % 3 == 1, "%llu",
                     (unsigned long long)id);
    int64_t last_s = 0;
    while (schedule_wake_s(s) != INT64_MAX) {
        struct queue_entry *e;
        int64_t wake_s = schedule_wake_s(s);
        cr_assert_geq(wake_s, last_s);
        last_s = wake_s;
        if (schedule_next(s, wake_s, &e) == SCHEDULE_TRY)
            schedule_remove(s, e);
    }
    cr_expect_eq(schedule_count(s).entries, 0);
    schedule_free(s);
}

/* Bounces to domains that somebody has made up. */
Test(schedule, destinations_without_messages_are_forgotten)
{
    struct schedule *s = schedule_new(&limits);
    char name[64];
    add(s, 1, "lmtp:stays", 0);
    schedule_reached(s, "lmtp:stays", false, 0);
    for (uint64_t id = 2; id < 50000; id++) {
        snprintf(name, sizeof name, "smtp:%llu.test", (unsigned long long)id);
        struct queue_entry *e = add(s, id, name, 0);
        schedule_reached(s, name, false, 0);
        schedule_remove(s, e);
    }
    cr_expect_lt(schedule_destination_count(s), 4000);
    cr_expect_not(schedule_may_try(s, "lmtp:stays", 1));
    schedule_free(s);
}

Test(schedule, who_was_settled_in_vain_is_not_settled_at_once_again) /* the wall clock disagrees */
{
    struct schedule *s = schedule_new(&limits);
    struct queue_entry *e = add(s, 1, "lmtp:a", 0);
    start_all(s, 0);
    schedule_reached(s, "lmtp:a", false, 0);
    schedule_wait(s, e, 0);
    e->destination->down_until_s = limits.lifetime_s + 1000;
    cr_expect_str_eq(start_all(s, limits.lifetime_s), "settle1 ");
    schedule_wait(s, e, limits.lifetime_s);
    cr_expect_str_eq(start_all(s, limits.lifetime_s), "-");
    cr_expect_str_eq(start_all(s, limits.lifetime_s + 60), "settle1 ");
    schedule_free(s);
}

Test(schedule, with_all_places_taken_nobody_wakes_up_for_nothing)
{
    struct schedule *s = schedule_new(&limits);
    char name[32];
    for (uint64_t id = 0; id < 20; id++) {
        snprintf(name, sizeof name, "smtp:%llu", (unsigned long long)id);
        add(s, id, name, 0);
    }
    start_all(s, 0);
    cr_expect_eq(schedule_wake_s(s), INT64_MAX);
    schedule_free(s);
}

Test(schedule, a_hundred_thousand_messages_are_small)
{
    struct mallinfo2 before = mallinfo2();
    struct schedule *s = schedule_new(&limits);
    for (uint64_t id = 1; id <= 100000; id++)
        schedule_add(s, id << 12, "lmtp:unix:/run/dovecot/lmtp", 0, 0, 0, false);
    struct mallinfo2 after = mallinfo2();
    cr_expect_lt(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd, 16u << 20);
    schedule_free(s);
}
