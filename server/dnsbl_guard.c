#include "server/dnsbl_guard.h"
#include "policy/dns_name.h"
#include "policy/dnsbl.h"
#include "protocol/mem.h"

#include <stdlib.h>

/* One list under test: two questions, then a judgement. */
struct test {
    struct dnsbl *list;
    struct config *config; /* one reference: the list lives in it */
    struct log *log;
    bool lists_bad, lists_good, is_unknown;
    int pending;
};

static bool is_listed(const struct test *t, enum fact_status status, struct span value)
{
    const struct fact answer = { .status = status, .value = value };
    struct dnsbl any = { .domain = t->list->domain }; /* the test entry need not pass the filter */
    struct ip odd;
    return status == FACT_FOUND && dnsbl_judge(&any, &answer, true, &odd) == DNSBL_YES;
}

static const char *verdict(const struct test *t)
{
    if (t->lists_bad)
        return t->list->is_by_name ? "it lists the name INVALID" : "it lists 127.0.0.1";
    if (!t->lists_good && !t->list->is_by_name)
        return "it does not list 127.0.0.2";
    return NULL;
}

static void judge(struct test *t)
{
    const char *why = t->is_unknown ? NULL : verdict(t);
    bool was_suspended = atomic_load(&t->list->is_suspended);
    if (!t->is_unknown)
        atomic_store(&t->list->is_suspended, why != NULL);
    if (why != NULL && !was_suspended)
        log_line(t->log, "master", 0, "warning: DNS list %s is suspended: %s (RFC 5782)",
                 t->list->domain, why);
    else if (was_suspended && !t->is_unknown && why == NULL)
        log_line(t->log, "master", 0, "DNS list %s is well again", t->list->domain);
}

static void answered(struct test *t)
{
    if (--t->pending > 0)
        return;
    judge(t);
    config_release(t->config);
    free(t);
}

static void on_good(void *arg, enum fact_status status, struct span value, const char *source)
{
    struct test *t = arg;
    (void)source;
    t->lists_good = is_listed(t, status, value);
    t->is_unknown |= status >= FACT_TEMPFAIL;
    answered(t);
}

static void on_bad(void *arg, enum fact_status status, struct span value, const char *source)
{
    struct test *t = arg;
    (void)source;
    t->lists_bad = is_listed(t, status, value);
    t->is_unknown |= status >= FACT_TEMPFAIL;
    answered(t);
}

static void test_list(struct dns *dns, struct dnsbl *list, struct config *config,
                      struct log *log)
{
    struct test *t = xcalloc(1, sizeof *t);
    struct buf good = { 0 }, bad = { 0 };
    *t = (struct test){ .list = list, .config = config_hold(config), .log = log, .pending = 2 };
    buf_printf(&good, "%s.%s", list->is_by_name ? "test" : "2.0.0.127", list->domain);
    buf_printf(&bad, "%s.%s", list->is_by_name ? "invalid" : "1.0.0.127", list->domain);
    dns_ask(dns, FACT_A, buf_span(&good), on_good, t);
    dns_ask(dns, FACT_A, buf_span(&bad), on_bad, t);
    buf_fini(&good);
    buf_fini(&bad);
}

void dnsbl_guard_run(struct dns *dns, struct config *config, struct log *log)
{
    if (!config->params.dns_list_guard)
        return;
    for (struct dnsbl *list = config->policy->dnsbls; list != NULL; list = list->next)
        test_list(dns, list, config, log);
}
