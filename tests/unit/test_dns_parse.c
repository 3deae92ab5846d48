/* DNS answers as values of facts: records, aliases, times to live, rubbish (spec 2.8). */
#include "seeded.h"

#include "protocol/ip.h"
#include "protocol/mem.h"
#include "server/dns_parse.h"

#include <arpa/nameser.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------ messages */

static void put16(struct buf *out, unsigned n)
{
    buf_putc(out, (char)(n >> 8));
    buf_putc(out, (char)(n & 0xff));
}

static void put32(struct buf *out, uint32_t n)
{
    put16(out, n >> 16);
    put16(out, n & 0xffff);
}

/* "a.test" as labels; "." is the root. */
static void put_name(struct buf *out, struct span name)
{
    while (name.len > 0 && !span_equals(name, SPAN_LITERAL("."))) {
        size_t dot = span_find(name, '.');
        buf_putc(out, (char)dot);
        buf_append(out, name.at, dot);
        name = span_skip(name, dot + 1);
    }
    buf_putc(out, '\0');
}

static void put_address(struct buf *out, struct span text)
{
    struct ip ip;
    cr_assert(ip_parse(text, &ip), "%.*s", (int)text.len, text.at);
    buf_append(out, ip.bytes, ip_bits(&ip) / 8);
}

/* "one|two" as two strings. */
static void put_strings(struct buf *out, struct span text)
{
    while (text.len > 0) {
        size_t end = span_find(text, '|');
        buf_putc(out, (char)end);
        buf_append(out, text.at, end);
        text = span_skip(text, end + 1);
    }
}

static void put_hex(struct buf *out, struct span text)
{
    for (; text.len >= 2; text = span_skip(text, 2)) {
        char pair[3] = { text.at[0], text.at[1], '\0' };
        buf_putc(out, (char)strtoul(pair, NULL, 16));
    }
}

static unsigned put_data(struct buf *out, struct span type, struct span data)
{
    uint64_t number = 0;
    if (span_equals(type, SPAN_LITERAL("A")) || span_equals(type, SPAN_LITERAL("AAAA"))) {
        put_address(out, data);
        return type.len == 1 ? ns_t_a : ns_t_aaaa;
    }
    if (span_equals(type, SPAN_LITERAL("TXT"))) {
        put_strings(out, data);
        return ns_t_txt;
    }
    if (span_equals(type, SPAN_LITERAL("MX"))) {
        span_to_u64(span_next_word(&data), 65535, &number);
        put16(out, (unsigned)number);
        put_name(out, span_trim(data));
        return ns_t_mx;
    }
    if (span_equals(type, SPAN_LITERAL("SOA"))) { /* its minimum */
        span_to_u64(data, UINT32_MAX, &number);
        put_name(out, SPAN_LITERAL("ns.test"));
        put_name(out, SPAN_LITERAL("root.test"));
        for (int i = 0; i < 4; i++)
            put32(out, 1);
        put32(out, (uint32_t)number);
        return ns_t_soa;
    }
    if (span_istarts(type, SPAN_LITERAL("HEX"))) { /* HEX15: data of a type as it is */
        put_hex(out, data);
        span_to_u64(span_skip(type, 3), 65535, &number);
        return (unsigned)number;
    }
    put_name(out, data);
    return span_equals(type, SPAN_LITERAL("CNAME")) ? ns_t_cname
           : span_equals(type, SPAN_LITERAL("NS"))  ? ns_t_ns
                                                    : ns_t_ptr;
}

/* "TYPE TTL DATA" */
static void put_record(struct buf *out, struct span line)
{
    struct buf data = { 0 };
    struct span type = span_next_word(&line), ttl = span_next_word(&line);
    uint64_t seconds = 0;
    cr_assert(span_to_u64(ttl, UINT32_MAX, &seconds));
    unsigned number = put_data(&data, type, span_trim(line));
    put16(out, 0xc00c); /* the name asked for */
    put16(out, number);
    put16(out, ns_c_in);
    put32(out, (uint32_t)seconds);
    put16(out, (unsigned)data.len);
    buf_add(out, buf_span(&data));
    buf_fini(&data);
}

/* Lines of records; a SOA goes into the authority section, which comes last. */
static void write_message(struct buf *out, int rcode, enum fact_kind kind, const char *records)
{
    struct span rest = span_of(records);
    unsigned counts[2] = { 0, 0 };
    for (struct span r = rest; r.len > 0; r = span_skip(r, span_find(r, '\n') + 1))
        counts[span_istarts(r, SPAN_LITERAL("SOA "))]++;
    put16(out, 0x1234);
    put16(out, 0x8180u | (unsigned)rcode);
    put16(out, 1);
    put16(out, counts[0]);
    put16(out, counts[1]);
    put16(out, 0);
    put_name(out, SPAN_LITERAL("q.test"));
    put16(out, (unsigned)dns_type(kind));
    put16(out, ns_c_in);
    for (; rest.len > 0; rest = span_skip(rest, span_find(rest, '\n') + 1))
        put_record(out, span_make(rest.at, span_find(rest, '\n')));
}

/* ------------------------------------------------------------ cases */

static const struct {
    const char *what;
    enum fact_kind kind;
    int rcode;
    const char *records, *result; /* "VALUE ttl=N cname=X" */
} rows[] = {
    { "an address", FACT_A, 0, "A 60 192.0.2.1", "192.0.2.1 ttl=60" },
    { "several, the least time", FACT_A, 0, "A 60 192.0.2.1\nA 30 192.0.2.2", "192.0.2.1, 192.0.2.2 ttl=30" },
    { "an hour at most", FACT_A, 0, "A 86400 192.0.2.1", "192.0.2.1 ttl=3600" },
    { "no time at all", FACT_A, 0, "A 0 192.0.2.1", "192.0.2.1 ttl=0" },
    { "IPv6", FACT_AAAA, 0, "AAAA 60 2001:db8::1", "2001:db8::1 ttl=60" },
    { "other types are passed over", FACT_A, 0, "AAAA 60 2001:db8::1\nA 60 192.0.2.1", "192.0.2.1 ttl=60" },
    { "an address of the wrong size", FACT_A, 0, "HEX1 60 c00002", "? ttl=0" },
    { "beside a good one", FACT_A, 0, "HEX1 60 c00002\nA 60 192.0.2.1", "192.0.2.1 ttl=60" },
    { "a name", FACT_PTR, 0, "PTR 60 Host.Test", "host.test ttl=60" },
    { "one that is none", FACT_PTR, 0, "PTR 60 -bad-.test", "! ttl=0" },
    { "a number", FACT_PTR, 0, "PTR 60 192.0.2.1", "192.0.2.1 ttl=60" },
    { "an underscore", FACT_PTR, 0, "PTR 60 my_host.test", "my_host.test ttl=60" },
    { "name servers", FACT_NS, 0, "NS 60 ns1.test\nNS 60 ns2.test", "ns1.test, ns2.test ttl=60" },
    { "mail hosts", FACT_MX, 0, "MX 60 10 m.test\nMX 60 20 n.test", "10 m.test, 20 n.test ttl=60" },
    { "the null MX", FACT_MX, 0, "MX 60 0 .", "0 . ttl=60" },
    { "a numeric mail host", FACT_MX, 0, "MX 60 10 1.2.3.4", "10 1.2.3.4 ttl=60" },
    { "a bad mail host", FACT_MX, 0, "MX 60 10 -bad-.test", "! ttl=0" },
    { "a bad one beside a good one", FACT_MX, 0, "MX 60 10 -bad-.test\nMX 60 20 n.test", "20 n.test ttl=60" },
    { "too short for one", FACT_MX, 0, "HEX15 60 000a", "? ttl=0" },
    { "text", FACT_TXT, 0, "TXT 60 one", "\"one\" ttl=60" },
    { "its strings are joined", FACT_TXT, 0, "TXT 60 v=spf1 |-all", "\"v=spf1 -all\" ttl=60" },
    { "its records are not", FACT_TXT, 0, "TXT 60 one\nTXT 60 two", "\"one\", \"two\" ttl=60" },
    { "empty", FACT_TXT, 0, "HEX16 60 00", "\"\" ttl=60" },
    { "longer than it is", FACT_TXT, 0, "HEX16 60 05616263", "? ttl=0" },

    { "nothing", FACT_A, 0, "", "- ttl=0" },
    { "for so long", FACT_A, 0, "SOA 600 300", "- ttl=300" },
    { "or so long", FACT_A, 0, "SOA 200 300", "- ttl=200" },
    { "a quarter of an hour at most", FACT_A, 0, "SOA 86400 86400", "- ttl=900" },
    { "no such name", FACT_A, ns_r_nxdomain, "SOA 600 300", "- ttl=300" },
    { "a broken SOA", FACT_A, 0, "HEX6 60 00", "- ttl=0" },
    { "a server that fails", FACT_A, ns_r_servfail, "", "? ttl=0" },
    { "that refuses", FACT_A, ns_r_refused, "", "? ttl=0" },
    { "that does not understand", FACT_A, ns_r_formerr, "", "? ttl=0" },
    { "nor can", FACT_A, ns_r_notimpl, "", "? ttl=0" },
    { "whatever it says beside that", FACT_A, ns_r_servfail, "A 60 192.0.2.1", "? ttl=0" },

    { "an alias with its address", FACT_A, 0, "CNAME 30 b.test\nA 60 192.0.2.1", "192.0.2.1 ttl=30" },
    { "one that leads out", FACT_A, 0, "CNAME 30 B.Test", "- ttl=0 cname=b.test" },
    { "the last of several", FACT_A, 0, "CNAME 30 b.test\nCNAME 30 c.test", "- ttl=0 cname=c.test" },
    { "to a name that does not exist", FACT_A, ns_r_nxdomain, "CNAME 30 b.test", "- ttl=0" },
    { "with a broken record", FACT_A, 0, "CNAME 30 b.test\nHEX1 60 00", "? ttl=0" },
};

static void print_result(struct buf *out, enum fact_kind kind, const struct dns_result *result, struct span value)
{
    struct fact fact = { .key = { .kind = kind }, .status = result->status, .value = value };
    fact_print(out, &fact);
    buf_printf(out, " ttl=%u", result->ttl_s);
    if (result->cname[0] != '\0')
        buf_printf(out, " cname=%s", result->cname);
}

Test(dns_parse, answers)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf message = { 0 }, value = { 0 }, got = { 0 };
        write_message(&message, rows[i].rcode, rows[i].kind, rows[i].records);
        struct dns_result result = dns_parse(rows[i].kind, (const unsigned char *)message.at, (int)message.len, &value);
        print_result(&got, rows[i].kind, &result, buf_span(&value));
        cr_expect_str_eq(buf_text(&got), rows[i].result, "%s: %s", rows[i].what, buf_text(&got));
        buf_fini(&message);
        buf_fini(&value);
        buf_fini(&got);
    }
}

/* ------------------------------------------------------------ bounds */

Test(dns_parse, records_without_number_are_cut)
{
    struct buf message = { 0 }, records = { 0 }, value = { 0 };
    for (int i = 0; i < 300; i++)
        buf_printf(&records, "%sA 60 192.0.2.%d", i > 0 ? "\n" : "", i % 256);
    write_message(&message, 0, FACT_A, buf_text(&records));
    struct dns_result result = dns_parse(FACT_A, (const unsigned char *)message.at, (int)message.len, &value);
    cr_expect_eq(result.status, FACT_FOUND);
    cr_expect_eq(value.len, DNS_RECORDS_MAX * 6);
    buf_fini(&message);
    buf_fini(&records);
    buf_fini(&value);
}

/* Whatever stands in them, messages are read within their bytes, and only good ones are believed
 * (each copy has its own memory, so that a sanitizer sees a step beside it). */
static enum fact_status parse_copy(enum fact_kind kind, const char *at, size_t len)
{
    struct buf value = { 0 };
    unsigned char *copy = xmalloc(len > 0 ? len : 1);
    memcpy(copy, at, len);
    struct dns_result result = dns_parse(kind, copy, (int)len, &value);
    cr_expect(result.ttl_s <= DNS_TTL_MAX_S);
    cr_expect(result.status != FACT_FOUND || value.len > 0);
    free(copy);
    buf_fini(&value);
    return result.status;
}

Test(dns_parse, cut_messages_are_rubbish)
{
    struct buf message = { 0 };
    write_message(&message, 0, FACT_MX, "CNAME 60 b.test\nMX 60 10 m.test");
    for (size_t len = 0; len < message.len; len++)
        cr_expect_neq(parse_copy(FACT_MX, message.at, len), FACT_FOUND, "%zu bytes", len);
    cr_expect_eq(parse_copy(FACT_MX, message.at, message.len), FACT_FOUND);
    buf_fini(&message);
}

Test(dns_parse, compression_loops_end)
{
    struct buf message = { 0 };
    write_message(&message, 0, FACT_PTR, "HEX12 60 c01e"); /* a pointer to itself, behind the header */
    for (unsigned to = 0; to < message.len; to++) {
        message.at[message.len - 2] = (char)(0xc0 | to >> 8);
        message.at[message.len - 1] = (char)(to & 0xff);
        parse_copy(FACT_PTR, message.at, message.len);
    }
    buf_fini(&message);
}

Test(dns_parse, random_damage)
{
    struct seeded r = seeded_begin(5);
    for (int i = 0; i < 20000; i++) {
        size_t row = seeded_below(&r, ARRAY_LEN(rows));
        struct buf message = { 0 };
        write_message(&message, rows[row].rcode, rows[row].kind, rows[row].records);
        for (size_t n = seeded_below(&r, 4); n > 0; n--)
            message.at[seeded_below(&r, message.len)] = (char)seeded_next(&r);
        parse_copy(rows[row].kind, message.at, message.len - seeded_below(&r, 3));
        buf_fini(&message);
    }
}
