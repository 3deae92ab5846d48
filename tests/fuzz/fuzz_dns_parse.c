/* A DNS answer, as each kind of question: the fact's records are whole and of their kind's shape. */
#include "fuzz/fuzz.h"
#include "server/dns_parse.h"

static void check_record(enum fact_kind kind, struct span record)
{
    struct span name = kind == FACT_MX ? span_skip(record, 2) : record;
    if (kind == FACT_A)
        ENSURE(record.len == 4);
    else if (kind == FACT_AAAA)
        ENSURE(record.len == 16);
    else if (kind == FACT_MX)
        ENSURE(record.len >= 2 && name.len < DNS_NAME_MAX);
    else if (kind != FACT_TXT)
        ENSURE(record.len > 0 && record.len < DNS_NAME_MAX);
    for (size_t i = 0; kind > FACT_AAAA && kind != FACT_TXT && i < name.len; i++)
        ENSURE(name.at[i] == ascii_lower(name.at[i]) && name.at[i] != '\0');
}

static void check(enum fact_kind kind, const struct dns_result *r, struct span value)
{
    struct span record;
    int count = 0;
    ENSURE(r->ttl_s <= DNS_TTL_MAX_S && strlen(r->cname) < DNS_NAME_MAX);
    ENSURE(r->status <= FACT_BROKEN);
    for (; value.len > 0; count++) {
        ENSURE(record_next(&value, &record));
        check_record(kind, record);
    }
    ENSURE(count <= DNS_RECORDS_MAX);
    ENSURE((count > 0) == (r->status == FACT_FOUND));
}

static void print(enum fact_kind kind, const struct dns_result *r, struct span value)
{
    const struct fact fact = { .key = { .kind = kind }, .status = r->status, .value = value };
    struct buf text = { 0 };
    fact_print(&text, &fact);
    buf_fini(&text);
}

void fuzz_one(struct fuzz *f)
{
    for (enum fact_kind kind = FACT_A; kind <= FACT_TXT; kind++) {
        struct buf value = { 0 };
        struct dns_result r = dns_parse(kind, (const unsigned char *)f->text.at,
                                        (int)f->text.len, &value);
        check(kind, &r, buf_span(&value));
        print(kind, &r, buf_span(&value));
        buf_fini(&value);
    }
}
