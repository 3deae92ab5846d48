#include "server/log_json.h"

#include <criterion/criterion.h>

static void expect_string(struct span text, const char *json)
{
    struct buf out = { 0 };
    json_string(&out, text);
    cr_expect_str_eq(buf_text(&out), json);
    buf_fini(&out);
}

Test(log_json, strings)
{
    expect_string(SPAN_LITERAL(""), "\"\"");
    expect_string(SPAN_LITERAL("plain <a@b>"), "\"plain <a@b>\"");
    expect_string(SPAN_LITERAL("\"\\"), "\"\\\"\\\\\"");
    expect_string(SPAN_LITERAL("a\r\n\t\0b\x7f"), "\"a\\u000d\\u000a\\u0009\\u0000b\\u007f\"");
    expect_string(SPAN_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
                  "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

Test(log_json, what_is_no_utf8_is_no_utf8_either)
{
    expect_string(SPAN_LITERAL("\xff\xc3"), "\"\\u00ff\\u00c3\"");
    expect_string(SPAN_LITERAL("\xc0\xaf"), "\"\\u00c0\\u00af\"");          /* too long */
    expect_string(SPAN_LITERAL("\xed\xa0\x80"), "\"\\u00ed\\u00a0\\u0080\""); /* a surrogate */
}

Test(log_json, members_and_time)
{
    struct buf out = { 0 };
    const struct timespec time = { .tv_sec = 1795608000, .tv_nsec = 1234567 };
    json_time(&out, &time);
    json_member(&out, "a", SPAN_LITERAL("b"));
    cr_expect_str_eq(buf_text(&out), "\"2026-11-25T12:00:00.001234Z\",\"a\":\"b\"");
    buf_fini(&out);
}
