/* SPF records and macros: what passes the gate is within bounds. */
#include "fuzz/fuzz.h"
#include "policy/spf_gate.h"
#include "policy/spf_macro.h"
#include "protocol/text.h"

static void expand(struct fuzz *f, struct span text, const struct ip *ip)
{
    struct buf out = { .max = 65536 };
    const struct spf_macros macros = {
        .local = SPAN_LITERAL("strong-bad+x"), .domain = SPAN_LITERAL("email.example.test"),
        .current = SPAN_LITERAL("email.example.test"), .helo = f->text, .ip = ip,
        .client_name = "mx.client.test", .receiver = "mx.example.org", .now_s = 1700000000,
    };
    spf_macro_uses(text, "p");
    spf_macro_expand(&out, text, &macros);
    ENSURE(out.len <= out.max);
    buf_fini(&out);
}

static void macros(struct fuzz *f, struct span text)
{
    const struct ip v4 = { 4, { 192, 0, 2, 3 } }, v6 = { 6, { 0x20, 1, 0xd, 0xb8 } };
    if (!spf_macro_check(text, SPF_MACRO_TEXT))
        return;
    expand(f, text, &v4);
    expand(f, text, &v6);
}

static bool lies_in(struct span part, struct span whole)
{
    return part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

static void check_spec(struct fuzz *f, struct span spec)
{
    ENSURE(spec.len <= SPF_SPEC_MAX && lies_in(spec, f->text));
    if (spec.len > 0) {
        ENSURE(spf_macro_check(spec, SPF_MACRO_DOMAIN));
        macros(f, spec);
    }
}

static void check_term(struct fuzz *f, const struct spf_term *t)
{
    ENSURE(strchr("+-~?", t->qualifier) != NULL && t->mechanism <= SPF_EXISTS);
    ENSURE(t->v4_bits <= 32 && t->v6_bits <= 128);
    ENSURE(t->mechanism != SPF_IP4 || t->network.family == 4);
    ENSURE(t->mechanism != SPF_IP6 || t->network.family != 0);
    check_spec(f, t->spec);
}

void fuzz_one(struct fuzz *f)
{
    struct spf_record record = { 0 };
    struct span selected;
    const struct fact txt = { .status = FACT_FOUND, .value = f->text };
    spf_select(&txt, &selected);
    macros(f, f->text);
    const char *problem = spf_parse(&f->memory, f->text, &record);
    if (problem != NULL) {
        ENSURE(fuzz_is_printable(span_of(problem)));
        return;
    }
    ENSURE(text_is_ascii(f->text));
    for (const struct spf_term *t = record.first; t != NULL; t = t->next)
        check_term(f, t);
    check_spec(f, record.redirect);
    check_spec(f, record.exp);
}
