#include "server/crowd.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct ip ip_of(const char *text)
{
    struct ip ip;
    cr_assert(ip_parse(span_of(text), &ip));
    return ip;
}

/* So many greetings under so many names; how often it was told. */
static int greet(struct crowd *crowd, const char *address, int clients, int names)
{
    struct ip ip = ip_of(address);
    char helo[32];
    int told = 0;
    for (int i = 0; i < clients; i++) {
        snprintf(helo, sizeof helo, "mx%d.test", i % names);
        told += crowd_note(crowd, &ip, helo);
    }
    return told;
}

static bool is_crowd(struct crowd *crowd, const char *address)
{
    struct ip ip = ip_of(address);
    return crowd_is(crowd, &ip);
}

Test(crowd, many_names_behind_one_private_address)
{
    struct crowd *crowd = crowd_new();
    cr_expect_eq(greet(crowd, "172.17.0.1", CROWD_CLIENTS - 1, 100), 0);
    cr_expect_not(is_crowd(crowd, "172.17.0.1"));
    cr_expect_eq(greet(crowd, "172.17.0.1", 50, 100), 1);
    cr_expect(is_crowd(crowd, "172.17.0.1"));
    cr_expect_not(is_crowd(crowd, "172.17.0.2"));
    crowd_free(crowd);
}

Test(crowd, a_relay_of_our_own_has_few_names)
{
    struct crowd *crowd = crowd_new();
    cr_expect_eq(greet(crowd, "10.0.0.1", 1000, CROWD_NAMES - 1), 0);
    cr_expect_not(is_crowd(crowd, "10.0.0.1"));
    crowd_free(crowd);
}

Test(crowd, the_internet_and_loopback_are_none)
{
    struct crowd *crowd = crowd_new();
    cr_expect_eq(greet(crowd, "8.8.8.8", 1000, 100), 0);
    cr_expect_eq(greet(crowd, "127.0.0.1", 1000, 100), 0);
    cr_expect_not(is_crowd(crowd, "8.8.8.8"));
    cr_expect_not(is_crowd(crowd, "127.0.0.1"));
    cr_expect_not(is_crowd(NULL, "10.0.0.1"));
    crowd_free(crowd);
}

Test(crowd, another_client_ends_it_and_loopback_does_not)
{
    struct crowd *crowd = crowd_new();
    cr_expect_eq(greet(crowd, "fd00::1", 100, 100), 1);
    greet(crowd, "127.0.0.1", 5, 5);
    cr_expect(is_crowd(crowd, "fd00::1"));
    greet(crowd, "8.8.8.8", 1, 1);
    cr_expect_not(is_crowd(crowd, "fd00::1"));
    cr_expect_eq(greet(crowd, "fd00::1", 100, 100), 1);
    crowd_free(crowd);
}

Test(crowd, the_case_of_a_name_makes_no_other)
{
    struct crowd *crowd = crowd_new();
    struct ip ip = ip_of("10.0.0.1");
    for (int i = 0; i < 100; i++)
        cr_expect_not(crowd_note(crowd, &ip, i % 2 == 0 ? "mx.test" : "MX.Test"));
    crowd_free(crowd);
}
