#include "policy/dnsbl.h"
#include "protocol/mem.h"
#include "server/stats.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer(struct stats *stats, struct dnsbl *list, const char *name)
{
    const struct policy policy = { .dnsbls = list };
    const struct fact fact = { .key = { .kind = FACT_A, .text = span_of(name) },
                               .status = FACT_NOT_FOUND };
    stats_dnslist(stats, &policy, &fact);
}

static bool has_line(const struct stats *const *sets, size_t count, const char *line)
{
    struct buf page = { 0 };
    stats_print(sets, count, &page);
    bool has = strstr(buf_text(&page), line) != NULL;
    buf_fini(&page);
    return has;
}

Test(stats, dns_lists_are_bounded)
{
    struct stats *stats = xcalloc(1, sizeof *stats);
    const struct stats *const sets[] = { stats };
    char domain[32], name[64];
    struct dnsbl list = { .domain = domain };
    for (int i = 0; i < 200; i++) {
        snprintf(domain, sizeof domain, "l%d.test", i % 100);
        snprintf(name, sizeof name, "2.0.0.127.%s", domain);
        answer(stats, &list, name);
    }
    cr_expect(has_line(sets, 1, "{list=\"l0.test\",result=\"not_listed\"} 2\n"));
    cr_expect(has_line(sets, 1, "{list=\"l62.test\",result=\"not_listed\"} 2\n"));
    cr_expect_not(has_line(sets, 1, "l63.test"));
    cr_expect(has_line(sets, 1, "{list=\"other\",result=\"not_listed\"} 74\n"));
    free(stats);
}

Test(stats, a_list_of_two_loops_is_one_line)
{
    struct stats *a = xcalloc(1, sizeof *a), *b = xcalloc(1, sizeof *b);
    const struct stats *const sets[] = { a, b };
    struct dnsbl list = { .domain = "b\"l.test" }, second = { .domain = "other.test" };
    answer(a, &list, "2.0.0.127.b\"l.test");
    answer(b, &second, "x.other.test"); /* another order than in the first */
    answer(b, &list, "2.0.0.127.b\"l.test");
    answer(b, &list, "b\"l.test");       /* not below it */
    answer(b, &list, "x.not-b\"l.test");
    cr_expect(has_line(sets, 2, "{list=\"b_l.test\",result=\"not_listed\"} 2\n"));
    cr_expect(has_line(sets, 2, "{list=\"other.test\",result=\"not_listed\"} 1\n"));
    cr_expect_not(has_line(sets, 2, "result=\"not_listed\"} 3"));
    free(a);
    free(b);
}

Test(stats, answers_of_the_dns)
{
    struct stats *stats = xcalloc(1, sizeof *stats);
    const struct stats *const sets[] = { stats };
    static const struct {
        int rcode;
        const char *name;
    } rows[] = { { 0, "NOERROR" }, { 3, "NXDOMAIN" }, { 5, "REFUSED" },
                 { 6, "other" },   { 15, "other" },   { -1, "none" } };
    char line[80];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        stats_dns(stats, FACT_TXT, rows[i].rcode, i * 1000000);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(line, sizeof line, "{type=\"%s\",rcode=\"%s\"} %d\n", fact_kind_names[FACT_TXT],
                 rows[i].name, i == 3 || i == 4 ? 2 : 1);
        cr_expect(has_line(sets, 1, line), "%s", line);
    }
    cr_expect(has_line(sets, 1, "postern_dns_seconds_bucket{le=\"0.001\"} 1\n"));
    cr_expect(has_line(sets, 1, "postern_dns_seconds_bucket{le=\"2\"} 3\n"));
    cr_expect(has_line(sets, 1, "postern_dns_seconds_bucket{le=\"+Inf\"} 6\n"));
    cr_expect(has_line(sets, 1, "postern_dns_seconds_sum 15\n"));
    free(stats);
}
