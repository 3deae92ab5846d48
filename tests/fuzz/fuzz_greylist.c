/* Greylisting: the key's parts, decisions over any records, and their text. */
#include "fuzz/fuzz.h"
#include "policy/greylist.h"

static int64_t number(struct fuzz *f)
{
    static const int64_t odd[] = { 0, 1, -1, INT32_MAX, UINT32_MAX, 1700000000, 1700000300 };
    size_t i = seeded_below(&f->random, ARRAY_LEN(odd) + 3);
    return i < ARRAY_LEN(odd) ? odd[i] : 1700000000 + (int64_t)seeded_below(&f->random, 5000000);
}

static struct greylist_record record(struct fuzz *f)
{
    return (struct greylist_record){ number(f), number(f), (uint32_t)seeded_next(&f->random) % 8 };
}

static void check_text(const struct greylist_decision *d)
{
    struct buf text = { 0 };
    struct greylist_decision again;
    greylist_print(&text, d);
    ENSURE(greylist_parse(buf_span(&text), &again));
    ENSURE(again.result == d->result);
    ENSURE(d->result != GREYLIST_WAIT || again.wait_s == d->wait_s);
    buf_fini(&text);
}

static void decide(struct fuzz *f)
{
    const struct greylist_params p = { 300, 172800, 3024000, (int)seeded_below(&f->random, 3),
                                       (int)seeded_below(&f->random, 3) };
    struct greylist_record triplet = record(f), client = record(f), pair = record(f);
    int64_t now_s = 1700000000 + (int64_t)seeded_below(&f->random, 400000);
    struct greylist_decision d = greylist_decide(&p, &triplet, &client, &pair, now_s);
    ENSURE(d.result <= GREYLIST_KNOWN);
    if (d.result == GREYLIST_WAIT)
        ENSURE(d.wait_s > 0 && d.wait_s <= p.delay_s);
    ENSURE(!d.triplet_changed || (triplet.first_s <= now_s && triplet.last_s <= now_s));
    check_text(&d);
    greylist_is_stale(&p, &triplet, true, now_s);
}

static void texts(struct fuzz *f)
{
    const struct ip ip = { 4, { 192, 0, 2, 77 } };
    struct greylist_decision d = { 0 };
    struct buf out = { 0 };
    if (greylist_parse(f->text, &d)) {
        ENSURE(d.result <= GREYLIST_ALLOWED);
        check_text(&d);
    }
    greylist_sender(&out, f->text);
    ENSURE(out.len <= f->text.len + 2);
    greylist_looks_dynamic(f->text, &ip);
    greylist_network(&out, &ip, (int)seeded_below(&f->random, 33), 64);
    buf_fini(&out);
}

void fuzz_one(struct fuzz *f)
{
    texts(f);
    for (int i = 0; i < 20; i++)
        decide(f);
}
