#include "policy/greylist.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"

#include <stdio.h>

enum { COUNT_EVERY_S = 3600 };

/* ------------------------------------------------------------ the decision */

static void not_from_the_future(struct greylist_record *r, int64_t now_s)
{
    if (r->first_s > now_s)
        r->first_s = now_s;
    if (r->last_s > now_s)
        r->last_s = now_s;
}

static bool has_passed(const struct greylist_params *p, const struct greylist_record *r)
{
    return r->first_s != 0 && r->last_s - r->first_s >= p->delay_s;
}

bool greylist_is_stale(const struct greylist_params *p, const struct greylist_record *r,
                       bool is_triplet, int64_t now_s)
{
    int64_t unseen_s = now_s - r->last_s;
    return unseen_s > p->max_age_s
           || (is_triplet && !has_passed(p, r) && unseen_s > p->retry_window_s);
}

/* What the sweep has not got to yet does not count any more either. */
static void bring_up_to_date(const struct greylist_params *p, struct greylist_record *r,
                             bool is_triplet, int64_t now_s)
{
    not_from_the_future(r, now_s);
    if (greylist_is_stale(p, r, is_triplet, now_s))
        *r = (struct greylist_record){ 0 };
}

/* A proven client's last sight is noted once an hour, so that it does not grow stale. */
static bool touch(struct greylist_record *r, int64_t now_s)
{
    if (now_s - r->last_s < COUNT_EVERY_S)
        return false;
    r->last_s = now_s;
    return true;
}

/* A success counts once an hour: a burst of mail proves nothing more than one. */
static bool count_success(struct greylist_record *r, int64_t now_s)
{
    if (r->count > 0 && now_s - r->last_s < COUNT_EVERY_S)
        return false;
    if (r->first_s == 0)
        r->first_s = now_s;
    r->last_s = now_s;
    r->count++;
    return true;
}

static bool is_proven(const struct greylist_record *r, int needed)
{
    return needed > 0 && r->count >= (uint32_t)needed;
}

static struct greylist_decision decide_triplet(const struct greylist_params *p,
                                               struct greylist_record *t, int64_t now_s)
{
    struct greylist_decision d = { .result = GREYLIST_PASS, .triplet_changed = true };
    bool had_passed = has_passed(p, t);
    bool is_too_late = !had_passed && now_s - t->first_s > p->retry_window_s;
    if (t->first_s == 0 || is_too_late)
        t->first_s = now_s;
    t->last_s = now_s;
    d.waited_s = now_s - t->first_s;
    d.wait_s = p->delay_s - d.waited_s;
    if (d.wait_s > 0)
        d.result = GREYLIST_WAIT;
    else if (!had_passed)
        d.result = GREYLIST_FIRST_PASS;
    return d;
}

struct greylist_decision greylist_decide(const struct greylist_params *p,
                                         struct greylist_record *triplet,
                                         struct greylist_record *client,
                                         struct greylist_record *pair, int64_t now_s)
{
    bring_up_to_date(p, triplet, true, now_s);
    bring_up_to_date(p, client, false, now_s);
    bring_up_to_date(p, pair, false, now_s);
    if (is_proven(client, p->auto_allow_clients))
        return (struct greylist_decision){ .result = GREYLIST_KNOWN,
                                           .client_changed = touch(client, now_s) };
    if (is_proven(pair, p->auto_allow_senders))
        return (struct greylist_decision){ .result = GREYLIST_KNOWN,
                                           .pair_changed = touch(pair, now_s) };
    struct greylist_decision d = decide_triplet(p, triplet, now_s);
    if (d.result == GREYLIST_FIRST_PASS) {
        d.client_changed = p->auto_allow_clients > 0 && count_success(client, now_s);
        d.pair_changed = p->auto_allow_senders > 0 && count_success(pair, now_s);
    }
    return d;
}

/* ------------------------------------------------------------ who and what */

/* BATV: "prvs=tag=user" (RFC draft) and "prvs=user=tag": the part that is not the tag, which
 * begins with a digit. */
static struct span without_batv(struct span local)
{
    if (!span_istarts(local, SPAN_LITERAL("prvs=")))
        return local;
    struct span rest = span_skip(local, 5);
    size_t equals = span_find(rest, '=');
    if (equals == rest.len || equals == 0)
        return local;
    struct span first = span_make(rest.at, equals), second = span_skip(rest, equals + 1);
    return ascii_is_digit(first.at[0]) ? second : first;
}

static bool is_word(char c)
{
    return ascii_is_alnum(c) || c == '_';
}

static bool is_number(struct span word)
{
    for (size_t i = 0; i < word.len; i++)
        if (!ascii_is_digit(word.at[i]))
            return false;
    return word.len > 0;
}

/* Numbers that stand as words change from mail to mail with list servers. */
static void put_without_numbers(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len;) {
        size_t n = 0;
        while (i + n < text.len && is_word(text.at[i + n]))
            n++;
        struct span word = span_make(text.at + i, n);
        if (is_number(word))
            buf_putc(out, '#');
        for (size_t k = 0; k < n && !is_number(word); k++)
            buf_putc(out, ascii_lower(word.at[k]));
        i += n;
        if (i < text.len)
            buf_putc(out, text.at[i++]);
    }
}

void greylist_sender(struct buf *out, struct span sender)
{
    struct smtp_path path = smtp_path_of(sender);
    if (sender.len == 0) {
        buf_puts(out, "<>");
        return;
    }
    struct span local = without_batv(path.local);
    put_without_numbers(out, span_make(local.at, span_find(local, '+')));
    buf_putc(out, '@');
    for (size_t i = 0; i < path.domain.len; i++)
        buf_putc(out, ascii_lower(path.domain.at[i]));
}

void greylist_network(struct buf *out, const struct ip *ip, int v4_bits, int v6_bits)
{
    char text[IP_TEXT_MAX];
    unsigned bits = (unsigned)(ip->family == 4 ? v4_bits : v6_bits);
    struct ip network = ip_masked(ip, bits);
    buf_printf(out, "%s/%u", ip_text(&network, text), bits);
}

/* How many octets of the address stand in the name as numbers of their own. */
static int octets_in(struct span name, const struct ip *ip)
{
    int found = 0;
    for (int octet = 0; octet < 4; octet++) {
        char text[8];
        int len = snprintf(text, sizeof text, "%u", ip->bytes[octet]);
        for (size_t i = 0; i + (size_t)len <= name.len; i++) {
            bool starts = i == 0 || !ascii_is_digit(name.at[i - 1]);
            bool ends = i + (size_t)len == name.len || !ascii_is_digit(name.at[i + (size_t)len]);
            if (starts && ends && memcmp(name.at + i, text, (size_t)len) == 0) {
                found++;
                break;
            }
        }
    }
    return found;
}

/* The address as hexadecimal digits in one run: "c0000207.isp.example". */
static bool has_hex_address(struct span name, const struct ip *ip)
{
    char hex[33];
    size_t bytes = ip->family == 4 ? 4 : 6; /* of IPv6 the network part is telling */
    for (size_t i = 0; i < bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", ip->bytes[i]);
    for (size_t i = 0; i + 2 * bytes <= name.len; i++)
        if (span_iequals(span_make(name.at + i, 2 * bytes), span_make(hex, 2 * bytes)))
            return true;
    return false;
}

static const char *const dynamic_words[] = {
    "dyn",    "dynamic", "dhcp", "dsl",  "adsl",   "vdsl",  "ppp",    "pppoe", "pool",
    "pools",  "dial",    "dialup", "dialin", "cable", "catv", "client", "clients", "customer",
    "cust",   "user",    "users", "broadband", "mobile", "wireless", "fiber", "ftth", "docsis",
};

static bool is_dynamic_word(struct span word)
{
    for (size_t i = 0; i < ARRAY_LEN(dynamic_words); i++)
        if (span_iequals(word, span_of(dynamic_words[i])))
            return true;
    return false;
}

bool greylist_looks_dynamic(struct span name, const struct ip *ip)
{
    if (ip->family == 4 && octets_in(name, ip) >= 2)
        return true;
    if (has_hex_address(name, ip))
        return true;
    for (size_t i = 0; i < name.len;) {
        size_t n = 0;
        while (i + n < name.len && ascii_is_alpha(name.at[i + n]))
            n++;
        if (is_dynamic_word(span_make(name.at + i, n)))
            return true;
        i += n + 1;
    }
    return false;
}

/* ------------------------------------------------------------ text */

static const char *const words[] = {
    [GREYLIST_WAIT] = "wait",   [GREYLIST_FIRST_PASS] = "first", [GREYLIST_PASS] = "pass",
    [GREYLIST_KNOWN] = "known", [GREYLIST_ALLOWED] = "allowed",
};

void greylist_print(struct buf *out, const struct greylist_decision *d)
{
    buf_puts(out, words[d->result]);
    if (d->result == GREYLIST_WAIT)
        buf_printf(out, " %lld", (long long)d->wait_s);
    if (d->result == GREYLIST_FIRST_PASS)
        buf_printf(out, " %lld", (long long)d->waited_s);
}

bool greylist_parse(struct span text, struct greylist_decision *d)
{
    struct span word = span_next_word(&text);
    uint64_t number = 0;
    bool has_number = span_to_u64(span_trim(text), INT64_MAX, &number);
    *d = (struct greylist_decision){ .wait_s = (int64_t)number, .waited_s = (int64_t)number };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!span_equals(word, span_of(words[i])))
            continue;
        d->result = (enum greylist_result)i;
        return has_number || d->result >= GREYLIST_PASS;
    }
    return false;
}
