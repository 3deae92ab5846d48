/* DNS lists: arguments, filters, which answers count (spec 5.1; RFC 5782). */
#include "policy/dnsbl.h"
#include "protocol/mem.h"

#include <criterion/criterion.h>

static const struct {
    const char *argument, *error; /* words of it; NULL: good */
    const char *domain;
} arguments[] = {
    { "bl.test", NULL, "bl.test" },
    { "BL.Test.", NULL, "bl.test" },
    { "bl.test=127.0.0.2", NULL, "bl.test" },
    { "bl.test=127.0.0.[1;3;5..9]", NULL, "bl.test" },
    { "bl.test=[127].[0..255].[0..1].[2;4;10..11]", NULL, "bl.test" },
    { "key_1.bl.test=127.0.0.2", NULL, "key_1.bl.test" },
    { "", "not a domain name", NULL },
    { "-x.test", "not a domain name", NULL },
    { "192.0.2.1", "not a domain name", NULL },
    { "bl.test=", "bad filter", NULL },
    { "bl.test=127", "bad filter", NULL },
    { "bl.test=127.0.0", "bad filter", NULL },
    { "bl.test=127.0.0.2.3", "bad filter", NULL },
    { "bl.test=127.0.0.256", "bad filter", NULL },
    { "bl.test=127.0.0.3[4]", "bad filter", NULL },
    { "bl.test=127.0.0.[4", "bad filter", NULL },
    { "bl.test=127.0.0.4]", "bad filter", NULL },
    { "bl.test=127.0.0.[]", "bad filter", NULL },
    { "bl.test=127.0.0.[5..3]", "bad filter", NULL },
    { "bl.test=127.0.0.[1;]", "bad filter", NULL },
    { "bl.test=127.0.[0.1]", "bad filter", NULL },
    { "bl.test=127.0.0.2 ", "bad filter", NULL },
    { "bl.test=a.b.c.d", "bad filter", NULL },
};

Test(dnsbl, arguments)
{
    for (size_t i = 0; i < ARRAY_LEN(arguments); i++) {
        struct arena memory = { 0 };
        struct dnsbl list;
        const char *error = dnsbl_parse(span_of(arguments[i].argument), &memory, &list);
        if (arguments[i].error != NULL)
            cr_expect(error != NULL && strstr(error, arguments[i].error) != NULL, "%s: %s",
                      arguments[i].argument, error != NULL ? error : "good");
        else if (error == NULL)
            cr_expect_str_eq(list.domain, arguments[i].domain);
        else
            cr_expect(false, "%s: %s", arguments[i].argument, error);
        arena_fini(&memory);
    }
}

Test(dnsbl, a_field_has_at_most_sixteen_ranges)
{
    struct arena memory = { 0 };
    struct dnsbl list;
    cr_expect_null(dnsbl_parse(SPAN_LITERAL("b.test=1.1.1.[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16]"),
                               &memory, &list));
    cr_expect_not_null(dnsbl_parse(
        SPAN_LITERAL("b.test=1.1.1.[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17]"), &memory, &list));
    arena_fini(&memory);
}

static const struct {
    const char *argument, *answer;
    bool is_guarded;
    enum dnsbl_answer result;
    const char *odd;
} answers[] = {
    { "b.test", "127.0.0.2", true, DNSBL_YES, NULL },
    { "b.test", "127.0.0.1", true, DNSBL_YES, NULL },
    { "b.test", "-", true, DNSBL_NO, NULL },
    { "b.test", "?", true, DNSBL_NO, NULL },
    { "b.test", "!", true, DNSBL_NO, NULL },
    { "b.test=127.0.0.2", "127.0.0.2", true, DNSBL_YES, NULL },
    { "b.test=127.0.0.2", "127.0.0.3", true, DNSBL_NO, NULL },
    { "b.test=127.0.0.2", "127.0.1.2", true, DNSBL_NO, NULL },
    /* spec, appendix A 26 */
    { "b.test=127.0.0.[4..9;11]", "127.0.0.2, 127.0.0.4", true, DNSBL_YES, NULL },
    { "b.test=127.0.0.[4..9;11]", "127.0.0.10", true, DNSBL_NO, NULL },
    { "b.test=127.0.0.[4..9;11]", "127.0.0.11", true, DNSBL_YES, NULL },
    { "b.test=127.0.[0..1].[2;4;10..11]", "127.0.1.10", true, DNSBL_YES, NULL },
    { "b.test=127.0.[0..1].[2;4;10..11]", "127.0.2.10", true, DNSBL_NO, NULL },
    { "b.test=127.0.[0..1].[2;4;10..11]", "127.0.0.3", true, DNSBL_NO, NULL },
    /* what lists and resolvers say instead of an answer */
    { "b.test", "127.255.255.252", true, DNSBL_ERROR_ANSWER, "127.255.255.252" },
    { "b.test", "127.255.255.253", true, DNSBL_YES, NULL },
    { "b.test", "127.255.255.254", true, DNSBL_ERROR_ANSWER, "127.255.255.254" },
    { "b.test", "127.255.255.255", true, DNSBL_ERROR_ANSWER, "127.255.255.255" },
    { "b.test", "127.0.0.255", true, DNSBL_ERROR_ANSWER, "127.0.0.255" },
    { "b.test", "198.51.100.1", true, DNSBL_ERROR_ANSWER, "198.51.100.1" },
    { "b.test", "198.51.100.1, 127.0.0.2", true, DNSBL_YES, NULL },
    { "b.test=127.255.255.254", "127.255.255.254", true, DNSBL_ERROR_ANSWER, "127.255.255.254" },
    { "b.test", "127.255.255.254", false, DNSBL_YES, NULL },
    { "b.test", "198.51.100.1", false, DNSBL_YES, NULL },
    { "b.test=127.0.0.2", "198.51.100.1", false, DNSBL_NO, NULL },
};

Test(dnsbl, answers)
{
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct arena memory = { 0 };
        struct dnsbl list;
        struct buf value = { 0 };
        struct fact fact = { .key = { .kind = FACT_A } };
        struct ip odd = { 0 };
        char text[IP_TEXT_MAX];
        cr_assert_null(dnsbl_parse(span_of(answers[i].argument), &memory, &list));
        cr_assert(fact_parse(FACT_A, span_of(answers[i].answer), &fact.status, &value));
        fact.value = buf_span(&value);
        enum dnsbl_answer result = dnsbl_judge(&list, &fact, answers[i].is_guarded, &odd);
        cr_expect_eq(result, answers[i].result, "%s of %s: %d", answers[i].answer,
                     answers[i].argument, (int)result);
        if (answers[i].odd != NULL)
            cr_expect_str_eq(ip_text(&odd, text), answers[i].odd);
        buf_fini(&value);
        arena_fini(&memory);
    }
}
