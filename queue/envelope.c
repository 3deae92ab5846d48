#include "queue/envelope.h"
#include "protocol/mem.h"
#include "protocol/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char first_line[] = "postern-envelope 1";

/* ------------------------------------------------------------ ids */

bool queue_id_parse(struct span text, uint64_t *id)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 16 || (text.at[0] == '0' && text.len > 1))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = ascii_hex_value(text.at[i]);
        if (digit < 0 || (text.at[i] >= 'a' && text.at[i] <= 'f'))
            return false;
        value = value << 4 | (uint64_t)digit;
    }
    *id = value;
    return true;
}

void queue_id_print(uint64_t id, char text[QUEUE_ID_MAX])
{
    snprintf(text, QUEUE_ID_MAX, "%" PRIX64, id);
}

/* ------------------------------------------------------------ as a value */

void envelope_init(struct envelope *e, const char *id)
{
    *e = (struct envelope){ .client = "", .rcpts_end = &e->rcpts };
    snprintf(e->id, sizeof e->id, "%s", id);
}

void envelope_fini(struct envelope *e)
{
    arena_fini(&e->memory);
    *e = (struct envelope){ .client = "", .rcpts_end = &e->rcpts };
}

static const char *copy_text(struct envelope *e, const char *text)
{
    return text != NULL && *text != '\0' ? arena_text(&e->memory, span_of(text)) : "";
}

struct envelope_rcpt *envelope_add(struct envelope *e, const struct envelope_rcpt *rcpt)
{
    struct envelope_rcpt *copy = arena_alloc(&e->memory, sizeof *copy);
    *copy = *rcpt;
    copy->next = NULL;
    copy->address = arena_span(&e->memory, rcpt->address);
    copy->original = arena_span(&e->memory, rcpt->original);
    copy->orcpt = arena_span(&e->memory, rcpt->orcpt);
    copy->transport = copy_text(e, rcpt->transport);
    copy->nexthop = copy_text(e, rcpt->nexthop);
    copy->enhanced = copy_text(e, rcpt->enhanced);
    copy->text = copy_text(e, rcpt->text);
    copy->relay = copy_text(e, rcpt->relay);
    *e->rcpts_end = copy;
    e->rcpts_end = &copy->next;
    e->count++;
    return copy;
}

void envelope_note(struct envelope *e, struct envelope_rcpt *rcpt, int code,
                   const char *enhanced, const char *text, const char *relay)
{
    rcpt->code = code;
    rcpt->enhanced = copy_text(e, enhanced);
    rcpt->text = copy_text(e, text);
    rcpt->relay = copy_text(e, relay);
}

size_t envelope_count(const struct envelope *e, enum rcpt_state state)
{
    size_t count = 0;
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        count += r->state == state;
    return count;
}

void envelope_destination(const struct envelope_rcpt *rcpt, struct buf *out)
{
    buf_puts(out, rcpt->transport);
    if (strcmp(rcpt->transport, "virtual") != 0)
        buf_printf(out, ":%s", rcpt->nexthop);
}

bool envelope_single_destination(const struct envelope *e, struct buf *out)
{
    struct buf other = { 0 };
    bool is_single = true;
    buf_clear(out);
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL && is_single; r = r->next) {
        if (r->state != RCPT_OWED)
            continue;
        buf_clear(&other);
        envelope_destination(r, &other);
        if (out->len == 0)
            buf_add(out, buf_span(&other));
        else
            is_single = span_equals(buf_span(out), buf_span(&other));
    }
    buf_fini(&other);
    return is_single && out->len > 0;
}

/* ------------------------------------------------------------ words */

struct word {
    const char *name;
    unsigned value;
};

static const struct word states[] = {
    { "owed", RCPT_OWED }, { "sent", RCPT_SENT }, { "failed", RCPT_FAILED },
};
static const struct word rets[] = { { "FULL", SMTP_RET_FULL }, { "HDRS", SMTP_RET_HDRS } };
static const struct word bodies[] = { { "8BITMIME", 1 } };
static const struct word yes[] = { { "yes", 1 } };
static const struct word notifies[] = {
    { "NEVER", SMTP_NOTIFY_NEVER }, { "SUCCESS", SMTP_NOTIFY_SUCCESS },
    { "FAILURE", SMTP_NOTIFY_FAILURE }, { "DELAY", SMTP_NOTIFY_DELAY },
};

static bool find_word(const struct word *words, size_t count, struct span name, unsigned *value)
{
    for (size_t i = 0; i < count; i++)
        if (span_equals(name, span_of(words[i].name))) {
            *value = words[i].value;
            return true;
        }
    return false;
}

static const char *word_of(const struct word *words, size_t count, unsigned value)
{
    for (size_t i = 0; i < count; i++)
        if (words[i].value == value)
            return words[i].name;
    return "?";
}

/* ------------------------------------------------------------ printing */

static bool stays(struct span rest, size_t *len)
{
    *len = 1;
    if (ascii_is_print(rest.at[0]))
        return rest.at[0] != '\\';
    size_t n = utf8_sequence(rest);
    if (n < 2 || !utf8_is_printable(span_make(rest.at, n)))
        return false;
    *len = n;
    return true;
}

static void print_span(struct buf *out, const char *name, struct span text)
{
    if (text.len == 0)
        return;
    buf_printf(out, "%s ", name);
    for (size_t len; text.len > 0; text = span_skip(text, len)) {
        if (stays(text, &len))
            buf_append(out, text.at, len);
        else
            buf_printf(out, "\\x%02X", (unsigned)(unsigned char)text.at[0]);
    }
    buf_putc(out, '\n');
}

static void print_text(struct buf *out, const char *name, const char *text)
{
    print_span(out, name, span_of(text));
}

static void print_notify(struct buf *out, unsigned notify)
{
    const char *between = " notify ";
    if (notify == 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(notifies); i++)
        if ((notify & notifies[i].value) != 0) {
            buf_printf(out, "%s%s", between, notifies[i].name);
            between = ",";
        }
    buf_putc(out, '\n');
}

static void print_rcpt(struct buf *out, const struct envelope_rcpt *r)
{
    print_span(out, "to", r->address);
    print_span(out, " original", r->original);
    print_span(out, " orcpt", r->orcpt);
    print_notify(out, r->notify);
    print_text(out, " transport", r->transport);
    print_text(out, " nexthop", r->nexthop);
    buf_printf(out, " state %s\n", word_of(states, ARRAY_LEN(states), r->state));
    if (r->code != 0)
        buf_printf(out, " code %d\n", r->code);
    print_text(out, " dsn", r->enhanced);
    print_text(out, " said", r->text);
    print_text(out, " relay", r->relay);
}

void envelope_print(const struct envelope *e, struct buf *out)
{
    buf_printf(out, "%s\n", first_line);
    print_text(out, "id", e->id);
    buf_printf(out, "arrived %" PRId64 "\n", e->arrived_s);
    buf_printf(out, "next %" PRId64 "\n", e->next_s);
    buf_printf(out, "tries %u\n", e->tries);
    buf_printf(out, "size %" PRIu64 "\n", e->size_bytes);
    print_text(out, "client", e->client);
    print_span(out, "from", e->sender);
    print_span(out, "envid", e->envid);
    if (e->ret != SMTP_RET_DEFAULT)
        buf_printf(out, "ret %s\n", word_of(rets, ARRAY_LEN(rets), e->ret));
    if (e->is_8bitmime)
        buf_puts(out, "body 8BITMIME\n");
    if (e->is_smtputf8)
        buf_puts(out, "smtputf8 yes\n");
    if (e->is_delay_told)
        buf_puts(out, "delay-told yes\n");
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        if (r->state != RCPT_DONE)
            print_rcpt(out, r);
    buf_puts(out, "end\n");
}

/* ------------------------------------------------------------ parsing */

struct reader {
    struct envelope *e;
    struct envelope_rcpt *rcpt; /* the one at hand; NULL: still above the recipients */
    struct span value;
    bool has_end;
};

/* Back from \xHH. False: a bad escape, or an octet that would have been escaped. */
static bool read_span(struct reader *r, struct span *out)
{
    struct span in = r->value;
    char *copy = arena_alloc(&r->e->memory, in.len + 1);
    size_t n = 0;
    for (size_t len; in.len > 0; in = span_skip(in, len)) {
        if (stays(in, &len)) {
            memcpy(copy + n, in.at, len);
            n += len;
            continue;
        }
        int high = in.len >= 4 ? ascii_hex_value(in.at[2]) : -1;
        int low = in.len >= 4 ? ascii_hex_value(in.at[3]) : -1;
        if (high < 0 || low < 0 || in.at[0] != '\\' || in.at[1] != 'x')
            return false;
        copy[n++] = (char)(high << 4 | low);
        len = 4;
    }
    *out = span_make(copy, n);
    return n > 0;
}

/* A text of ours: no NUL in it. */
static bool read_text(struct reader *r, const char **out)
{
    struct span text;
    if (!read_span(r, &text) || memchr(text.at, '\0', text.len) != NULL)
        return false;
    *out = text.at;
    return true;
}

/* What will be spoken in SMTP again: no line end and no NUL, whoever wrote it. */
static bool read_wire(struct reader *r, struct span *out)
{
    if (!read_span(r, out))
        return false;
    for (size_t i = 0; i < out->len; i++)
        if (out->at[i] == '\r' || out->at[i] == '\n' || out->at[i] == '\0')
            return false;
    return true;
}

static bool read_number(struct reader *r, uint64_t max, uint64_t *out)
{
    return span_to_u64(r->value, max, out);
}

static bool read_seconds(struct reader *r, int64_t *out)
{
    struct span digits = r->value;
    uint64_t n;
    bool is_negative = digits.len > 0 && digits.at[0] == '-';
    if (!span_to_u64(span_skip(digits, is_negative), INT64_MAX / 4, &n))
        return false;
    *out = is_negative ? -(int64_t)n : (int64_t)n;
    return true;
}

static bool read_word(struct reader *r, const struct word *words, size_t count, unsigned *out)
{
    return find_word(words, count, r->value, out);
}

static bool on_id(struct reader *r)
{
    uint64_t id;
    if (!queue_id_parse(r->value, &id))
        return false;
    queue_id_print(id, r->e->id);
    return true;
}

static bool on_arrived(struct reader *r) { return read_seconds(r, &r->e->arrived_s); }
static bool on_next(struct reader *r) { return read_seconds(r, &r->e->next_s); }
static bool on_size(struct reader *r) { return read_number(r, UINT64_MAX / 2, &r->e->size_bytes); }
static bool on_client(struct reader *r) { return read_text(r, &r->e->client); }
static bool on_from(struct reader *r) { return read_wire(r, &r->e->sender); }
static bool on_envid(struct reader *r) { return read_wire(r, &r->e->envid); }

static bool on_tries(struct reader *r)
{
    uint64_t n;
    if (!read_number(r, 1000000000, &n))
        return false;
    r->e->tries = (unsigned)n;
    return true;
}

static bool on_ret(struct reader *r)
{
    unsigned value;
    if (!read_word(r, rets, ARRAY_LEN(rets), &value))
        return false;
    r->e->ret = (enum smtp_ret)value;
    return true;
}

static bool read_flag(struct reader *r, const struct word *word, bool *flag)
{
    unsigned value;
    *flag = read_word(r, word, 1, &value);
    return *flag;
}

static bool on_body(struct reader *r) { return read_flag(r, bodies, &r->e->is_8bitmime); }
static bool on_smtputf8(struct reader *r) { return read_flag(r, yes, &r->e->is_smtputf8); }
static bool on_delay_told(struct reader *r) { return read_flag(r, yes, &r->e->is_delay_told); }

static bool on_to(struct reader *r)
{
    struct span address;
    if (!read_wire(r, &address))
        return false;
    r->rcpt = envelope_add(r->e, &(struct envelope_rcpt){ .address = address });
    return true;
}

static bool on_end(struct reader *r)
{
    r->has_end = r->value.len == 0;
    return r->has_end;
}

static bool on_original(struct reader *r) { return read_wire(r, &r->rcpt->original); }
static bool on_orcpt(struct reader *r) { return read_wire(r, &r->rcpt->orcpt); }
static bool on_nexthop(struct reader *r) { return read_text(r, &r->rcpt->nexthop); }
static bool on_dsn(struct reader *r) { return read_text(r, &r->rcpt->enhanced); }
static bool on_said(struct reader *r) { return read_text(r, &r->rcpt->text); }
static bool on_relay(struct reader *r) { return read_text(r, &r->rcpt->relay); }

static bool on_transport(struct reader *r)
{
    static const struct word known[] = { { "virtual", 0 }, { "lmtp", 1 }, { "smtp", 2 },
                                         { "discard", 3 } };
    unsigned value;
    if (!read_word(r, known, ARRAY_LEN(known), &value))
        return false;
    r->rcpt->transport = known[value].name;
    return true;
}

static bool on_notify(struct reader *r)
{
    struct span rest = r->value;
    while (rest.len > 0) {
        size_t comma = span_find(rest, ',');
        unsigned bit;
        if (!find_word(notifies, ARRAY_LEN(notifies), span_make(rest.at, comma), &bit))
            return false;
        r->rcpt->notify |= bit;
        rest = span_skip(rest, comma + 1);
    }
    return r->rcpt->notify != 0;
}

static bool on_state(struct reader *r)
{
    unsigned value;
    if (!read_word(r, states, ARRAY_LEN(states), &value))
        return false;
    r->rcpt->state = (enum rcpt_state)value;
    return true;
}

static bool on_code(struct reader *r)
{
    uint64_t n;
    if (!read_number(r, 599, &n) || n < 200)
        return false;
    r->rcpt->code = (int)n;
    return true;
}

static const struct {
    const char *name;
    bool (*read)(struct reader *r);
    bool is_of_rcpt;
} items[] = {
    { "id", on_id, false },          { "arrived", on_arrived, false },
    { "next", on_next, false },      { "tries", on_tries, false },
    { "size", on_size, false },      { "client", on_client, false },
    { "from", on_from, false },      { "envid", on_envid, false },
    { "ret", on_ret, false },        { "body", on_body, false },
    { "smtputf8", on_smtputf8, false }, { "delay-told", on_delay_told, false },
    { "to", on_to, false },          { "end", on_end, false },
    { "original", on_original, true }, { "orcpt", on_orcpt, true },
    { "notify", on_notify, true },   { "transport", on_transport, true },
    { "nexthop", on_nexthop, true }, { "state", on_state, true },
    { "code", on_code, true },       { "dsn", on_dsn, true },
    { "said", on_said, true },       { "relay", on_relay, true },
};

static bool read_line(struct reader *r, struct span line)
{
    bool is_of_rcpt = line.len > 0 && line.at[0] == ' ';
    line = span_skip(line, is_of_rcpt);
    struct span name = span_make(line.at, span_find(line, ' '));
    r->value = span_skip(line, name.len + 1);
    if (is_of_rcpt && r->rcpt == NULL)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        if (items[i].is_of_rcpt == is_of_rcpt && span_equals(name, span_of(items[i].name)))
            return items[i].read(r);
    return false;
}

static struct span next_line(struct span *text)
{
    size_t n = span_find(*text, '\n');
    struct span line = span_make(text->at, n);
    *text = span_skip(*text, n + 1);
    return line;
}

/* What every recipient must have. */
static bool is_whole(const struct envelope *e)
{
    for (const struct envelope_rcpt *r = e->rcpts; r != NULL; r = r->next)
        if (r->transport[0] == '\0')
            return false;
    return e->id[0] != '\0';
}

int envelope_parse(struct envelope *e, struct span text)
{
    static const struct span version = { first_line, sizeof first_line - 3 };
    envelope_init(e, "");
    struct reader r = { .e = e };
    if (text.len > ENVELOPE_TEXT_MAX || text.len == 0 || text.at[text.len - 1] != '\n')
        return -EBADMSG;
    struct span first = next_line(&text);
    if (!span_equals(first, span_of(first_line)))
        return span_istarts(first, version) ? -EPROTONOSUPPORT : -EBADMSG;
    while (text.len > 0 && !r.has_end)
        if (!read_line(&r, next_line(&text)))
            return -EBADMSG;
    return r.has_end && text.len == 0 && is_whole(e) ? 0 : -EBADMSG;
}
