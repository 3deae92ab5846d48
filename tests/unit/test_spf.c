/* The rules of RFC 7208, by spf_cases.txt; what a hostile zone can cost; the headers. */
#include "protocol/mem.h"
#include "tests/unit/seeded.h"
#include "tests/unit/spf_world.h"

static struct spf_world w;

static void begin_with(const char *conf)
{
    w = (struct spf_world){ .world = world_of(conf), .scenario = strdup("") };
}

static void begin(void)
{
    begin_with("");
}

static void end(void)
{
    spf_world_fini(&w);
}

static void restart(const char *conf)
{
    end();
    begin_with(conf);
}

TestSuite(spf, .init = begin, .fini = end);

/* Another file of cases can be named: tests/peer/test_spf_suite.py has one made. */
Test(spf, cases)
{
    const char *other = getenv("SPF_CASES");
    int good = 0;
    int count = spf_world_run(&w, other != NULL ? other : SPF_CASES, &good);
    cr_expect_eq(good, count);
    printf("spf: %d of %d cases\n", good, count);
}

static struct spf_outcome ask(const char *sender)
{
    return spf_world_check(&w, "192.0.2.10", "mx.client.test", sender);
}

static void expect(const char *sender, enum spf_result wanted)
{
    struct spf_outcome got = ask(sender);
    cr_expect_eq(got.result, wanted, "%s: %s (%s), not %s", sender,
                 spf_result_names[got.result], got.problem, spf_result_names[wanted]);
}

static void add_record(const char *name, struct buf *text)
{
    struct buf quoted = { 0 };
    buf_printf(&quoted, "\"%s\"", buf_text(text));
    spf_world_add(&w, name, "TXT", buf_text(&quoted));
    buf_fini(&quoted);
    buf_fini(text);
}

/* ------------------------------------------------------------ hostile zones */

static void put_killer(struct buf *out, int macros, int letters)
{
    for (int i = 0; i < macros; i++)
        buf_puts(out, "%{i}");
    buf_printf(out, "%.*s", letters, "ABCDEFGHIJKLMNOP");
}

/* CVE-2023-42118: an explanation of 127 macros and 8 letters overruns libspf2's stack. */
Test(spf, the_explanation_that_kills_libspf2_is_words_like_others)
{
    struct buf killer = { 0 };
    spf_world_add(&w, "a.test", "TXT", "\"v=spf1 -all exp=x.a.test\"");
    put_killer(&killer, 127, 8);
    add_record("x.a.test", &killer);
    struct spf_outcome got = ask("u@a.test");
    cr_expect_eq(got.result, SPF_FAIL);
    cr_expect_eq(strncmp(got.explanation, "192.0.2.10192.0.2.10", 20), 0, "%s", got.explanation);
    cr_expect_eq(strlen(got.explanation), SPF_EXPLANATION_MAX);
}

Test(spf, texts_around_that_size_are_harmless_wherever_they_stand)
{
    static const char *const heads[] = { "x", "v=spf1 a:", "v=spf1 exists:", "v=spf1 redirect=",
                                         "v=spf1 include:", "v=spf1 m=", "v=spf1 -all exp=" };
    for (size_t h = 0; h < ARRAY_LEN(heads); h++)
        for (int macros = 118; macros <= 130; macros += 3)
            for (int letters = 0; letters <= 12; letters += 4) {
                struct buf text = { 0 };
                spf_world_clear(&w);
                buf_puts(&text, heads[h]);
                put_killer(&text, macros, letters);
                spf_world_add(&w, "a.test", "TXT", "\"v=spf1 -all exp=x.test\"");
                add_record(h == 0 ? "x.test" : "b.test", &text);
                expect("u@a.test", SPF_FAIL);
                ask("u@b.test"); /* whatever it is */
            }
}

/* By include libspf2 alone would ask 7381 questions about this. */
Test(spf, look_ups_are_limited_over_all_includes)
{
    struct buf text = { 0 };
    for (int level = 0; level < 4; level++) {
        char name[32];
        buf_puts(&text, "v=spf1");
        for (int i = 0; i < 9; i++)
            buf_printf(&text, level < 3 ? " include:%d.%%{d}" : " a:h%d.test", i);
        buf_puts(&text, " -all");
        snprintf(name, sizeof name, "%.*sa.test", level * 2, "0.0.0.");
        add_record(name, &text);
    }
    for (int i = 0; i < 9; i++) {
        char name[32];
        snprintf(name, sizeof name, "h%d.test", i);
        spf_world_add(&w, name, "A", "203.0.113.1");
    }
    struct spf_outcome got = ask("u@a.test");
    cr_expect_eq(got.result, SPF_PERMERROR);
    cr_expect_str_eq(got.problem, "too many terms with DNS look-ups");
    cr_expect_leq(w.asked, 25, "%d questions", w.asked);
}

Test(spf, limits_are_parameters)
{
    restart("spf_lookup_limit = 2\nspf_void_lookup_limit = 0\n");
    spf_world_add(&w, "h.test", "A", "203.0.113.1");
    spf_world_add(&w, "two.test", "TXT", "\"v=spf1 a:h.test a:h.test -all\"");
    spf_world_add(&w, "three.test", "TXT", "\"v=spf1 a:h.test a:h.test a:h.test -all\"");
    spf_world_add(&w, "void.test", "TXT", "\"v=spf1 a:no.test -all\"");
    expect("u@two.test", SPF_FAIL);
    expect("u@three.test", SPF_PERMERROR);
    expect("u@void.test", SPF_PERMERROR);
}

/* Neither its limit of ten, nor the 512 bytes of terms beyond which it forgets the rest. */
Test(spf, the_limits_of_libspf2_are_not_ours)
{
    static const char *const terms[] = { "a:h.test/9", "mx:m.test/9", "exists:no.test", "a//100",
                                         "include:i.test", "ptr:h.test" };
    restart("spf_lookup_limit = 20\nspf_void_lookup_limit = 100\n");
    spf_world_add(&w, "m.test", "MX", "10 h.test");
    spf_world_add(&w, "i.test", "TXT", "\"v=spf1 ?all\"");
    spf_world_add(&w, "last.test", "TXT", "\"v=spf1 +all\"");
    for (size_t t = 0; t < ARRAY_LEN(terms); t++)
        for (int count = 19; count <= 21; count++) {
            struct buf text = { 0 };
            char name[32], sender[40];
            buf_puts(&text, "v=spf1");
            for (int i = 0; i < count; i++)
                buf_printf(&text, " -%s", terms[t]);
            buf_puts(&text, count == 19 ? " redirect=last.test" : " +all");
            snprintf(name, sizeof name, "t%zu-%d.test", t, count);
            snprintf(sender, sizeof sender, "u@%s", name);
            add_record(name, &text);
            expect(sender, count <= 20 ? SPF_PASS : SPF_PERMERROR);
        }
}

/* Those that cannot match do not go to libspf2. */
Test(spf, a_record_may_have_more_terms_than_a_byte_can_count)
{
    struct buf text = { 0 };
    buf_puts(&text, "v=spf1");
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, " ip4:203.0.%d.%d", i / 250, i % 250);
    buf_puts(&text, " ip4:192.0.2.10 ~all");
    add_record("a.test", &text);
    expect("u@a.test", SPF_PASS);
    cr_expect_eq(spf_world_check(&w, "192.0.2.11", "x", "u@a.test").result, SPF_SOFTFAIL);
}

Test(spf, addresses_of_ten_hosts_are_asked_for_at_once)
{
    spf_world_add(&w, "a.test", "TXT", "\"v=spf1 mx -all\"");
    for (int i = 0; i < 10; i++) {
        char mx[32];
        snprintf(mx, sizeof mx, "10 h%d.test", i);
        spf_world_add(&w, "a.test", "MX", mx);
    }
    expect("u@a.test", SPF_FAIL);
    cr_expect_eq(w.asked, 12);
    cr_expect_leq(w.rounds, 3, "%d rounds", w.rounds);
}

Test(spf, included_records_are_asked_for_at_once)
{
    spf_world_add(&w, "a.test", "TXT",
                  "\"v=spf1 include:b.test include:c.test include:d.test -all\"");
    spf_world_add(&w, "b.test", "TXT", "\"v=spf1 ip4:203.0.113.1\"");
    spf_world_add(&w, "c.test", "TXT", "\"v=spf1 ip4:203.0.113.1\"");
    spf_world_add(&w, "d.test", "TXT", "\"v=spf1 ip4:192.0.2.10\"");
    expect("u@a.test", SPF_PASS);
    cr_expect_eq(w.asked, 4);
    cr_expect_eq(w.rounds, 2);
}

Test(spf, a_slow_zone_ends_in_a_temperror)
{
    spf_world_add(&w, "a.test", "TXT", "\"v=spf1 a:b.test a:c.test a:d.test +all\"");
    spf_world_add(&w, "b.test", "A", "203.0.113.1");
    spf_world_add(&w, "c.test", "A", "203.0.113.1");
    w.took_ms = 5000;
    expect("u@a.test", SPF_PASS);
    w.took_ms = 5001;
    expect("u@a.test", SPF_TEMPERROR);
}

/* Bytes at random in a good record: whatever comes of it, it ends. */
Test(spf, mutations_of_a_record_are_harmless)
{
    static const char good[] = "v=spf1 a:%{d2r.-}.x.test/24//64 mx ip4:192.0.2.0/24 "
                               "ip6:2001:db8::/32 include:%{l}.test ?exists:%{ir}.%{v}.a.test "
                               "ptr redirect=a.test exp=%{o}";
    static const char bytes[] = " %{}:/=.-+?~0rRdp\\\"";
    struct seeded r = seeded_begin(7208);
    for (int i = 0; i < 20000; i++) {
        char text[sizeof good];
        struct buf copy = { 0 };
        memcpy(text, good, sizeof good);
        for (int n = 0; n < 3; n++)
            text[6 + seeded_below(&r, sizeof good - 7)] =
                bytes[seeded_below(&r, sizeof bytes - 1)];
        spf_world_clear(&w);
        buf_puts(&copy, text);
        add_record("a.test", &copy);
        ask("u@a.test");
    }
}

/* ------------------------------------------------------------ who is not checked */

Test(spf, nobody_publishes_records_about_loopback)
{
    spf_world_add(&w, "a.test", "TXT", "\"v=spf1 +all\"");
    cr_expect_eq(spf_world_check(&w, "127.0.0.1", "x", "u@a.test").result, SPF_NONE);
    cr_expect_eq(spf_world_check(&w, "::1", "x", "u@a.test").result, SPF_NONE);
    cr_expect_eq(w.asked, 0);
}

Test(spf, exempt_clients_are_not_checked)
{
    restart("spf_exempt_clients = 192.0.2.0/24\n");
    spf_world_add(&w, "a.test", "TXT", "\"v=spf1 -all\"");
    expect("u@a.test", SPF_NONE);
    cr_expect_eq(spf_world_check(&w, "198.51.100.1", "x", "u@a.test").result, SPF_FAIL);
}

/* ------------------------------------------------------------ headers */

static const struct {
    struct spf spf;
    const char *helo, *sender, *client;
    const char *received, *results;
} headers[] = {
    { { SPF_PASS, SPF_IDENTITY_MAILFROM, "example.com", "", "" }, "mx.client.test",
      "u@example.com", "192.0.2.10",
      "Received-SPF: pass (mx.example.org: domain example.com designates 192.0.2.10 as permitted"
      " sender)\r\n\treceiver=mx.example.org; identity=mailfrom; client-ip=192.0.2.10;\r\n"
      "\thelo=mx.client.test;\r\n\tenvelope-from=\"u@example.com\"",
      "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=u@example.com;\r\n"
      "\tiprev=permerror policy.iprev=192.0.2.10" },
    { { SPF_FAIL, SPF_IDENTITY_MAILFROM, "example.com", "", "" }, NULL,
      "odd \"name\"\r\nX: y@example.com", "2001:db8::1",
      "Received-SPF: fail (mx.example.org: domain example.com does not designate 2001:db8::1 as"
      " permitted sender)\r\n\treceiver=mx.example.org; identity=mailfrom;"
      " client-ip=\"2001:db8::1\";\r\n"
      "\tenvelope-from=\"odd \\\"name\\\"?\?X: y@example.com\"",
      "Authentication-Results: mx.example.org;\r\n"
      "\tspf=fail smtp.mailfrom=\"odd \\\"name\\\"?\?X: y\"@example.com;\r\n"
      "\tiprev=permerror policy.iprev=\"2001:db8::1\"" },
    { { SPF_PERMERROR, SPF_IDENTITY_HELO, "h.test", "", "a bad address" }, "h.test", "",
      "192.0.2.10",
      "Received-SPF: permerror (mx.example.org: error while checking domain h.test: a bad"
      " address)\r\n\treceiver=mx.example.org; identity=helo; client-ip=192.0.2.10;\r\n"
      "\thelo=h.test;\r\n\tenvelope-from=\"\";\r\n\tproblem=\"a bad address\"",
      "Authentication-Results: mx.example.org;\r\n"
      "\tspf=permerror reason=\"a bad address\" smtp.helo=h.test;\r\n"
      "\tiprev=permerror policy.iprev=192.0.2.10" },
    { { SPF_NONE, SPF_IDENTITY_HELO, "", "", "" }, "(evil) x=\"", "", "192.0.2.10",
      "Received-SPF: none (mx.example.org: no domain to check)\r\n"
      "\treceiver=mx.example.org; identity=helo; client-ip=192.0.2.10;\r\n"
      "\thelo=\"(evil) x=\\\"\";\r\n\tenvelope-from=\"\"",
      "Authentication-Results: mx.example.org;\r\n\tspf=none smtp.helo=\"(evil) x=\\\"\";\r\n"
      "\tiprev=permerror policy.iprev=192.0.2.10" },
};

static void check_headers(size_t i)
{
    struct smtp_peer peer = { 0 };
    struct ip ip;
    struct eval e = { .policy = w.world.policy };
    struct envelope_in in = { .peer = &peer, .helo = headers[i].helo, .has_sender = true,
                              .sender = span_of(headers[i].sender) };
    struct buf text = { 0 };
    e.in = &in;
    ip_parse(span_of(headers[i].client), &ip);
    smtp_peer_init(&peer, &ip, 0, &ip, 25);
    smtp_peer_set_name(&peer, NULL, SMTP_NAME_PERMANENT);
    spf_received_header(&text, &e, &headers[i].spf);
    cr_expect_str_eq(buf_text(&text), headers[i].received);
    buf_clear(&text);
    spf_results_header(&text, &e, &headers[i].spf, 1);
    cr_expect_str_eq(buf_text(&text), headers[i].results);
    buf_fini(&text);
    smtp_peer_fini(&peer);
}

Test(spf, headers_hold_whatever_the_client_said_without_breaking)
{
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        check_headers(i);
}
