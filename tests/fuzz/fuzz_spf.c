/* SPF: a zone, a sender and a HELO name of a stranger. The first two lines are the names, each
 * further one is what some questions are answered, TXT by its text; other questions are answered
 * by chance. Whatever it says, the evaluation ends, has asked few questions of possible names,
 * and leaves words that can stand in a reply and in a header. */
#include "fuzz/fuzz.h"
#include "policy/run.h"
#include "policy/spf.h"
#include "server/config.h"

enum { LINES_MAX = 16, ROUNDS_MAX = 200, QUESTIONS_MAX = 250 };

static const char main_cf[] = "myhostname = mx.example.org\n"
                              "virtual_mailbox_domains = example.org\n"
                              "smtpd_relay_restrictions = reject_unauth_destination\n"
                              "mynetworks = 127.0.0.1\n";

static struct config *config;

void fuzz_begin(void)
{
    struct problems problems = { 0 };
    config = config_load("/nonexistent/main.cf", main_cf, &problems);
    ENSURE(problems.error_count == 0);
    problems_fini(&problems);
}

struct zone {
    struct span lines[LINES_MAX];
    size_t count;
    const struct ip *client;
    int questions;
};

/* ------------------------------------------------------------ the DNS */

static unsigned hash_of(const struct fact_key *key)
{
    unsigned h = 2166136261u + (unsigned)key->kind;
    for (size_t i = 0; i < key->text.len; i++)
        h = (h ^ (unsigned char)key->text.at[i]) * 16777619u;
    return h ^ (h >> 13);
}

static void add_hosts(struct buf *value, bool is_mx, unsigned h)
{
    for (unsigned i = 0; i < h % 14; i++) {
        struct buf host = { 0 };
        if (is_mx)
            buf_append(&host, "\0\1", 2);
        buf_printf(&host, "h%u.a.test", i);
        record_add(value, buf_span(&host));
        buf_fini(&host);
    }
}

static void add_answer(const struct zone *z, const struct fact_key *key, unsigned h,
                       struct buf *value)
{
    size_t size = key->kind == FACT_A ? 4 : 16;
    switch (key->kind) {
    case FACT_TXT:
        for (unsigned i = 0; i < 1 + h % 9 / 8 && z->count > 0; i++)
            record_add(value, z->lines[(h / 16 + i) % z->count]);
        break;
    case FACT_MX:
    case FACT_PTR: add_hosts(value, key->kind == FACT_MX, h / 16); break;
    default:
        record_add(value, h % 3 == 0 ? span_make((const char *)z->client->bytes, size)
                                     : span_make("0123456789abcdef", size));
    }
}

static void answer(struct zone *z, struct facts *facts, const struct fact_key *key)
{
    unsigned h = hash_of(key);
    struct buf value = { 0 };
    enum fact_status status = h % 16 < 10 ? FACT_FOUND
                              : h % 16 < 14 ? FACT_NOT_FOUND
                                            : FACT_TEMPFAIL;
    if (facts_find(facts, key) != NULL)
        return;
    ENSURE(key->text.len > 0 && key->text.len <= 253 && fuzz_is_printable(key->text));
    ENSURE(++z->questions < QUESTIONS_MAX);
    if (status == FACT_FOUND)
        add_answer(z, key, h, &value);
    if (value.len == 0 && status == FACT_FOUND)
        status = FACT_NOT_FOUND;
    facts_put(facts, &(struct fact){ .key = *key, .status = status, .value = buf_span(&value) });
    buf_fini(&value);
}

/* ------------------------------------------------------------ promises */

static void check_header(struct buf *header)
{
    struct span rest = buf_span(header);
    for (bool is_first = true; rest.len > 0; is_first = false) {
        size_t end = span_find(rest, '\r');
        ENSURE(end <= 900 && (end == rest.len || rest.at[end + 1] == '\n'));
        ENSURE(is_first || rest.at[0] == '\t');
        ENSURE(fuzz_is_printable(span_skip(span_make(rest.at, end), !is_first)));
        rest = span_skip(rest, end + 2);
    }
    buf_fini(header);
}

static void check(const struct eval *e, const struct spf *spf)
{
    struct buf header = { 0 };
    ENSURE(spf->result <= SPF_PERMERROR);
    ENSURE(strlen(spf->explanation) <= SPF_EXPLANATION_MAX);
    ENSURE(spf->explanation[0] == '\0' || spf->result == SPF_FAIL);
    ENSURE(fuzz_is_printable(span_of(spf->explanation)));
    ENSURE((spf->problem[0] != '\0') == (spf->result >= SPF_TEMPERROR));
    spf_received_header(&header, e, spf);
    check_header(&header);
    spf_results_header(&header, e, spf, 1);
    check_header(&header);
}

static void evaluate(struct zone *z, const struct envelope_in *in)
{
    struct facts facts = { 0 };
    struct outcome out = { 0 };
    struct eval e;
    struct spf spf;
    for (int rounds = 0;; rounds++) {
        ENSURE(rounds < ROUNDS_MAX);
        eval_begin(&e, config->policy, in, &facts, &out);
        if (spf_check_mailfrom(&e, true, &spf) != VERDICT_PENDING)
            break;
        answer(z, &facts, &out.missing);
        for (size_t i = 0; i < out.also_count; i++)
            answer(z, &facts, &out.also[i]);
        outcome_fini(&out);
    }
    check(&e, &spf);
    outcome_fini(&out);
    facts_fini(&facts);
}

void fuzz_one(struct fuzz *f)
{
    const struct ip v4 = { 4, { 192, 0, 2, 10 } }, v6 = { 6, { 0x20, 0x01, 0x0d, 0xb8 } };
    struct smtp_peer peer = { 0 };
    struct zone z = { .client = f->seed % 2 == 0 ? &v4 : &v6 };
    struct span sender = fuzz_line(f), helo = fuzz_line(f);
    while (f->text.len > 0 && z.count < LINES_MAX)
        z.lines[z.count++] = fuzz_line(f);
    smtp_peer_init(&peer, z.client, 0, z.client, 25);
    const struct envelope_in in = { .stage = STAGE_RCPT, .peer = &peer, .has_sender = true,
                                    .helo = arena_text(&f->memory, helo), .sender = sender };
    evaluate(&z, &in);
    smtp_peer_fini(&peer);
}
