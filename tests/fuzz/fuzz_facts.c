/* Facts as text (for explain and the control socket), DNS lists' arguments and their answers. */
#include "fuzz/fuzz.h"
#include "policy/dnsbl.h"

static void round_trip(struct fuzz *f, enum fact_kind kind)
{
    struct buf value = { 0 }, text = { 0 }, again = { 0 };
    enum fact_status status, status_again;
    if (fact_parse(kind, f->text, &status, &value)) {
        struct fact fact = { .key = { .kind = kind }, .status = status, .value = buf_span(&value) };
        ENSURE(status <= FACT_BROKEN);
        fact_print(&text, &fact);
        if (kind == FACT_A || kind == FACT_AAAA) {
            ENSURE(fact_parse(kind, buf_span(&text), &status_again, &again));
            ENSURE(status == status_again && span_equals(buf_span(&value), buf_span(&again)));
        }
    }
    buf_fini(&value);
    buf_fini(&text);
    buf_fini(&again);
}

static void lists(struct fuzz *f)
{
    struct dnsbl list;
    struct ip odd = { 0 };
    const char *error = dnsbl_parse(fuzz_line(f), &f->memory, &list);
    if (error != NULL)
        return;
    const struct fact answer = { .status = FACT_FOUND, .value = f->text };
    enum dnsbl_answer guarded = dnsbl_judge(&list, &answer, true, &odd);
    enum dnsbl_answer simple = dnsbl_judge(&list, &answer, false, &odd);
    ENSURE(guarded != DNSBL_YES || simple == DNSBL_YES);
    ENSURE(simple != DNSBL_ERROR_ANSWER);
    ENSURE(guarded != DNSBL_ERROR_ANSWER || odd.family == 4);
}

void fuzz_one(struct fuzz *f)
{
    for (enum fact_kind kind = 0; kind < FACT_KIND_COUNT; kind++)
        round_trip(f, kind);
    fact_kind_find(f->text);
    lists(f);
}
