#include "policy/verify.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include <inttypes.h>
#include <stdio.h>

static int64_t expire_s(const struct verify_entry *e, const struct params *p)
{
    return (e->status == VERIFY_OK ? p->address_verify_positive_expire_time
                                   : p->address_verify_negative_expire_time)
           / 1000;
}

static int64_t refresh_s(const struct verify_entry *e, const struct params *p)
{
    return (e->status == VERIFY_OK ? p->address_verify_positive_refresh_time
                                   : p->address_verify_negative_refresh_time)
           / 1000;
}

static bool is_expired(const struct verify_entry *e, const struct params *p, int64_t now_s)
{
    return e->status == VERIFY_TODO || e->updated_s + expire_s(e, p) < now_s;
}

static bool is_under_way(const struct verify_entry *e, int64_t now_s)
{
    return e->probed_s != 0 && now_s - e->probed_s < VERIFY_LOST_S;
}

enum verify_status verify_look(struct verify_entry *e, const struct params *p, int64_t now_s,
                               bool *is_due)
{
    if (is_expired(e, p, now_s))
        *e = (struct verify_entry){ .probed_s = e->probed_s };
    bool is_old = e->status == VERIFY_TODO || e->updated_s + refresh_s(e, p) < now_s;
    *is_due = is_old && !is_under_way(e, now_s);
    if (*is_due)
        e->probed_s = now_s;
    return e->status;
}

void verify_learn(struct verify_entry *e, const struct params *p, enum verify_status result,
                  const char *text, int64_t now_s)
{
    e->probed_s = 0;
    if (result != VERIFY_OK && e->status == VERIFY_OK && !is_expired(e, p, now_s))
        return;
    e->status = result;
    e->updated_s = now_s;
    snprintf(e->text, sizeof e->text, "%s", text);
}

int64_t verify_keep_until(const struct verify_entry *e, const struct params *p, int64_t now_s)
{
    if (e->status != VERIFY_OK && !p->address_verify_negative_cache)
        return 0;
    return e->status == VERIFY_TODO ? now_s + VERIFY_LOST_S : e->updated_s + expire_s(e, p);
}

/* ------------------------------------------------------------ text */

void verify_entry_print(struct buf *out, const struct verify_entry *e)
{
    buf_printf(out, "%d %" PRId64 " %" PRId64 " %s", (int)e->status, e->probed_s, e->updated_s,
               e->text);
}

bool verify_entry_parse(struct span text, struct verify_entry *e)
{
    uint64_t numbers[3];
    static const uint64_t most[3] = { VERIFY_BOUNCE, INT64_MAX / 2, INT64_MAX / 2 };
    for (size_t i = 0; i < 3; i++)
        if (!span_to_u64(span_next_word(&text), most[i], &numbers[i]))
            return false;
    text = span_skip(text, 1);
    if (text.len > VERIFY_TEXT_MAX || memchr(text.at, '\0', text.len) != NULL)
        return false;
    *e = (struct verify_entry){ .status = (enum verify_status)numbers[0],
                                .probed_s = (int64_t)numbers[1],
                                .updated_s = (int64_t)numbers[2] };
    memcpy(e->text, text.at, text.len);
    return true;
}

static const char *const words[] = { [VERIFY_TODO] = "todo", [VERIFY_OK] = "ok",
                                     [VERIFY_DEFER] = "defer", [VERIFY_BOUNCE] = "bounce" };

void verify_answer_print(struct buf *out, enum verify_status status, const char *text)
{
    buf_puts(out, words[status]);
    if (status >= VERIFY_DEFER)
        buf_printf(out, " %s", text);
}

bool verify_answer_parse(struct span text, enum verify_status *status, struct span *why)
{
    struct span word = span_next_word(&text);
    *why = span_trim(text);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        *status = (enum verify_status)i;
        if (span_equals(word, span_of(words[i])))
            return true;
    }
    return false;
}

void verify_key(struct buf *out, int round, struct span target, struct span address)
{
    buf_printf(out, "%d ", round);
    buf_add(out, target);
    buf_putc(out, '\t');
    buf_add(out, address);
}

bool verify_key_parse(struct span text, int *round, struct span *target, struct span *address)
{
    uint64_t number;
    struct span word = span_next_word(&text);
    text = span_skip(text, 1);
    size_t tab = span_find(text, '\t');
    *target = span_make(text.at, tab);
    *address = span_skip(text, tab + 1);
    if (!span_to_u64(word, 1000, &number))
        return false;
    *round = (int)number;
    return target->len > 0 && address->len > 0;
}

/* ------------------------------------------------------------ under whose name */

static bool is_null(struct span address)
{
    return address.len == 0 || span_equals(address, SPAN_LITERAL("<>"));
}

/* With a time in its name the address changes, so that nobody can collect it for long. */
static void print_sender(struct buf *out, const struct params *p, int64_t period)
{
    struct smtp_path path = smtp_path_of(span_of(p->address_verify_sender));
    buf_add(out, path.local);
    if (p->address_verify_sender_ttl > 0)
        buf_printf(out, "%" PRIx64, period);
    buf_putc(out, '@');
    buf_add(out, path.has_domain ? path.domain : span_of(p->myorigin));
}

static int64_t period_of(const struct params *p, int64_t now_s)
{
    int64_t ttl_s = p->address_verify_sender_ttl / 1000;
    return ttl_s > 0 ? now_s / ttl_s : 0;
}

void verify_sender(struct buf *out, const struct params *p, int64_t now_s)
{
    if (!is_null(span_of(p->address_verify_sender)))
        print_sender(out, p, period_of(p, now_s));
}

static bool matches(const struct params *p, struct span address, int64_t period)
{
    struct buf sender = { 0 };
    print_sender(&sender, p, period);
    struct span whole = buf_span(&sender);
    struct span local = span_make(whole.at, span_find_last(whole, '@'));
    bool is_equal = span_iequals(address, whole) || span_iequals(address, local);
    buf_fini(&sender);
    return is_equal;
}

bool verify_is_sender(const struct params *p, struct span address, int64_t now_s)
{
    int64_t period = period_of(p, now_s);
    if (is_null(span_of(p->address_verify_sender)) || address.len == 0)
        return false;
    return matches(p, address, period) || matches(p, address, period - 1)
           || matches(p, address, period + 1);
}
