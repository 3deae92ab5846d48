#include "policy/probe.h"
#include "protocol/mem.h"

static const struct {
    const char *word;
    bool is_lmtp, is_public_only;
} kinds[] = {
    { "lmtp:", true, false },
    { "smtp:", false, false },
    { "mx:", false, true },
};

bool probe_target(struct buf *out, const struct transport *transport)
{
    bool is_lmtp = transport->kind == TRANSPORT_LMTP;
    if (!is_lmtp && transport->kind != TRANSPORT_SMTP)
        return false;
    return buf_printf(out, "%s:%s", is_lmtp ? "lmtp" : "smtp", transport->nexthop);
}

bool probe_target_parse(struct span text, struct probe *out)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct span word = span_of(kinds[i].word);
        if (!span_istarts(text, word))
            continue;
        *out = (struct probe){ .is_lmtp = kinds[i].is_lmtp,
                               .is_public_only = kinds[i].is_public_only,
                               .nexthop = span_skip(text, word.len) };
        return out->nexthop.len > 0;
    }
    return false;
}

/* Addresses hold no tabulators: smtp_path.h refuses control octets. */
void probe_key(struct buf *out, struct span target, struct span sender, struct span recipient)
{
    buf_add(out, target);
    buf_putc(out, '\t');
    buf_add(out, sender);
    buf_putc(out, '\t');
    buf_add(out, recipient);
}

bool probe_key_parse(struct span text, struct probe *out)
{
    size_t first = span_find(text, '\t');
    struct span rest = span_skip(text, first + 1);
    size_t second = span_find(rest, '\t');
    if (second == rest.len || !probe_target_parse(span_make(text.at, first), out))
        return false;
    out->sender = span_make(rest.at, second);
    out->recipient = span_skip(rest, second + 1);
    return out->recipient.len > 0;
}

void probe_answer(struct buf *out, int code, const char *enhanced, const char *text)
{
    if (enhanced[0] != '\0')
        buf_printf(out, "%d %s %s", code, enhanced, text);
    else
        buf_printf(out, "%d %d.0.0 %s", code, code / 100, text);
}

bool probe_answer_parse(struct span text, struct arena *memory, struct smtp_reply *out)
{
    uint64_t code;
    struct span number = span_next_word(&text);
    text = span_trim(text);
    size_t n = smtp_enhanced_length(text);
    if (!span_to_u64(number, 599, &code) || code < 200 || n == 0)
        return false;
    out->code = (int)code;
    out->enhanced = arena_text(memory, span_make(text.at, n));
    out->text = arena_text(memory, span_trim(span_skip(text, n)));
    return true;
}
