/* What is remembered about addresses, and questions to next hops, as text: read from a damaged
 * store or anywhere, it is refused or means what it says. */
#include "fuzz/fuzz.h"
#include "policy/probe.h"
#include "policy/verify.h"
#include "queue/next_hop.h"

static void entry(struct span text)
{
    struct verify_entry e, again;
    struct buf out = { 0 };
    if (!verify_entry_parse(text, &e))
        return;
    verify_entry_print(&out, &e);
    ENSURE(verify_entry_parse(buf_span(&out), &again));
    ENSURE(e.status == again.status && e.probed_s == again.probed_s
           && e.updated_s == again.updated_s && strcmp(e.text, again.text) == 0);
    buf_fini(&out);
}

static void aged(struct span text, struct seeded *random)
{
    const struct params params = { .address_verify_positive_expire_time = 31 * 86400000ll,
                                   .address_verify_negative_expire_time = 3 * 86400000ll };
    struct verify_entry e;
    bool is_due;
    if (!verify_entry_parse(text, &e))
        return;
    int64_t now_s = (int64_t)(seeded_next(random) >> 20);
    enum verify_status status = verify_look(&e, &params, now_s, &is_due);
    ENSURE(status == e.status && status <= VERIFY_BOUNCE);
    ENSURE(!is_due || e.probed_s == now_s);
    verify_learn(&e, &params, VERIFY_OK, "", now_s);
    ENSURE(verify_look(&e, &params, now_s, &is_due) == VERIFY_OK);
}

static void keys(struct span text, struct arena *memory)
{
    struct probe probe;
    struct smtp_reply reply;
    struct span target, address, why;
    enum verify_status status;
    int round;
    if (probe_key_parse(text, &probe))
        ENSURE(probe.nexthop.len > 0 && probe.recipient.len > 0);
    if (verify_key_parse(text, &round, &target, &address))
        ENSURE(round >= 0 && target.len > 0 && address.len > 0);
    if (verify_answer_parse(text, &status, &why))
        ENSURE(why.len <= text.len);
    if (probe_answer_parse(text, memory, &reply))
        ENSURE(reply.code >= 200 && reply.code <= 599 && reply.enhanced[0] != '\0');
}

static void hops(struct span text, struct arena *memory)
{
    struct next_hop hop;
    const char *copy = arena_text(memory, text);
    for (int protocol = 0; protocol < 2; protocol++) {
        const char *error = next_hop_parse((enum lmtp_protocol)protocol, copy, memory, &hop);
        ENSURE(error != NULL || (hop.path != NULL) != (hop.host != NULL));
        ENSURE(error != NULL || hop.host == NULL || strlen(hop.host) < NEXT_HOP_NAME_MAX);
    }
}

void fuzz_one(struct fuzz *f)
{
    while (f->text.len > 0) {
        struct span line = fuzz_line(f);
        entry(line);
        aged(line, &f->random);
        keys(line, &f->memory);
        hops(line, &f->memory);
    }
}
