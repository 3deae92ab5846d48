#include "policy/recipient.h"
#include "protocol/hostname.h"
#include "protocol/smtp_path.h"

enum { REWRITE_MAX = 100 };

/* ------------------------------------------------------------ classes */

static bool is_own_literal(const struct domains *d, struct span domain)
{
    struct ip ip;
    if (!address_literal_parse(domain, &ip))
        return false;
    for (size_t i = 0; i < d->own_ip_count; i++)
        if (ip_equals(&ip, &d->own_ips[i]))
            return true;
    return false;
}

static enum map_result of_match(enum match match)
{
    return match == MATCH_ERROR ? MAP_RETRY : match == MATCH_PENDING ? MAP_PENDING : MAP_FOUND;
}

static enum map_result classify(const struct domains *d, const struct map_reader *reader,
                                struct span domain, enum address_class *class)
{
    const struct match_list *const lists[] = { &d->mydestination, &d->virtual_alias_domains,
                                               &d->virtual_mailbox_domains, &d->relay_domains };
    *class = ADDRESS_LOCAL;
    if (is_own_literal(d, domain))
        return MAP_FOUND;
    for (; *class < ADDRESS_DEFAULT; (*class)++) {
        enum match match = match_list_word(lists[*class], reader, domain);
        if (match != MATCH_NO)
            return of_match(match);
    }
    return MAP_FOUND;
}

/* ------------------------------------------------------------ resolving */

static struct span print(struct arena *memory, struct span a, char between, struct span b)
{
    char *text = arena_alloc(memory, a.len + b.len + 2);
    if (a.len > 0)
        memcpy(text, a.at, a.len);
    text[a.len] = between;
    if (b.len > 0)
        memcpy(text + a.len + 1, b.at, b.len);
    return span_make(text, a.len + 1 + b.len);
}

/* An address without domain: site!user, then user%domain, then user@$myorigin (spec 3.3.2). */
static struct span add_domain(const struct domains *d, struct span address,
                              struct arena *memory)
{
    size_t bang = span_find(address, '!'), percent = span_find_last(address, '%');
    if (bang < address.len)
        return print(memory, span_skip(address, bang + 1), '@', span_make(address.at, bang));
    if (percent < address.len)
        return print(memory, span_make(address.at, percent), '@',
                     span_skip(address, percent + 1));
    return print(memory, address, '@', span_of(d->params->myorigin));
}

static bool has_routing(struct span local)
{
    return span_find(local, '@') < local.len || span_find(local, '!') < local.len
           || span_find(local, '%') < local.len;
}

static struct span lower_copy(struct arena *memory, struct span text)
{
    char *copy = arena_text(memory, text);
    for (size_t i = 0; i < text.len; i++)
        copy[i] = ascii_lower(copy[i]);
    return span_make(copy, text.len);
}

static bool has_no_extension(const struct params *params, struct span local)
{
    static const char *const whole[] = { "postmaster", "mailer-daemon", "double-bounce" };
    for (size_t i = 0; i < 3; i++)
        if (span_equals(local, span_of(whole[i])))
            return true;
    bool is_special = span_istarts(local, SPAN_LITERAL("owner-"))
                      || span_iends(local, SPAN_LITERAL("-request"));
    return is_special && params->owner_request_special
           && strchr(params->recipient_delimiter, '-') != NULL;
}

static void split_extension(const struct params *params, struct resolved *r)
{
    size_t n = 0;
    r->user = r->local;
    r->extension = span_make("", 0);
    if (params->recipient_delimiter[0] == '\0' || has_no_extension(params, r->local))
        return;
    while (n < r->local.len && strchr(params->recipient_delimiter, r->local.at[n]) == NULL)
        n++;
    if (n == 0 || n == r->local.len)
        return;
    r->user = span_make(r->local.at, n);
    r->extension = span_skip(r->local, n);
}

static void set_parts(struct resolved *r, struct span address)
{
    struct smtp_path path = smtp_path_of(address);
    r->address = address;
    r->local = path.local;
    r->domain = path.domain;
}

/* One trailing dot of the domain does not count; an empty local part gets a name. */
static struct span tidy(const struct domains *d, struct span address, struct arena *memory)
{
    address = hostname_without_dot(address);
    if (address.len > 0 && address.at[0] == '@')
        return print(memory, span_of(d->params->empty_address_recipient), '@',
                     span_skip(address, 1));
    return address;
}

enum map_result recipient_resolve(const struct domains *d, const struct map_reader *reader,
                                  struct span address, struct arena *memory,
                                  struct resolved *out)
{
    *out = (struct resolved){ .class = ADDRESS_DEFAULT };
    address = lower_copy(memory, address);
    for (int i = 0; i < REWRITE_MAX; i++) {
        if (span_find(address, '@') == address.len)
            address = add_domain(d, address, memory);
        set_parts(out, lower_copy(memory, tidy(d, address, memory)));
        enum map_result result = classify(d, reader, out->domain, &out->class);
        if (result != MAP_FOUND)
            return result;
        if (out->class != ADDRESS_LOCAL || !has_routing(out->local))
            break;
        address = out->local; /* we are that domain: what is left says where it goes */
    }
    out->is_routed = has_routing(out->local);
    split_extension(d->params, out);
    return MAP_FOUND;
}

/* ------------------------------------------------------------ keys */

static enum map_result find_one(const struct map_list *list, const struct map_reader *reader,
                                struct span local, struct span domain, bool is_whole,
                                bool is_quoted, struct buf *value)
{
    struct buf key = { 0 };
    if (is_quoted)
        smtp_path_quote_local(&key, local);
    else
        buf_add(&key, local);
    if (domain.at != NULL) {
        buf_putc(&key, '@');
        buf_add(&key, domain);
    }
    enum map_result result = map_list_find(list, reader, buf_span(&key), is_whole, value);
    buf_fini(&key);
    return result;
}

static const struct span no_domain = { NULL, 0 };

/* One key, first quoted if it needs quotes, then bare. */
static enum map_result find_both(const struct map_list *list, const struct map_reader *reader,
                                 struct span local, struct span domain, bool is_whole,
                                 struct buf *value)
{
    enum map_result result = MAP_NOT_FOUND;
    if (local.len > 0 && smtp_path_needs_quotes(local))
        result = find_one(list, reader, local, domain, is_whole, true, value);
    if (result == MAP_NOT_FOUND)
        result = find_one(list, reader, local, domain, is_whole, false, value);
    return result;
}

enum map_result recipient_find(const struct domains *d, const struct map_list *list,
                               const struct map_reader *reader, const struct resolved *r,
                               struct buf *value, bool *with_extension)
{
    bool is_ours = r->class == ADDRESS_LOCAL
                   || span_iequals(r->domain, span_of(d->params->myorigin));
    bool has_extension = r->extension.len > 0;
    const struct {
        bool is_asked;
        struct span local, domain;
    } keys[] = {
        { true, r->local, r->domain },   { has_extension, r->user, r->domain },
        { is_ours, r->local, no_domain }, { is_ours && has_extension, r->user, no_domain },
        { true, span_make("", 0), r->domain },
    };
    for (size_t i = 0; i < 5 && list->count > 0; i++) {
        if (!keys[i].is_asked)
            continue;
        enum map_result result = find_both(list, reader, keys[i].local, keys[i].domain, i == 0,
                                           value);
        *with_extension = i == 0 || i == 2;
        if (result != MAP_NOT_FOUND)
            return result;
    }
    return MAP_NOT_FOUND;
}

/* ------------------------------------------------------------ is there such a user? */

bool recipient_is_postmaster(const struct domains *d, const struct resolved *address)
{
    return span_equals(address->local, SPAN_LITERAL("postmaster"))
           && (address_class_is_final(address->class)
               || span_iequals(address->domain, span_of(d->params->myorigin)));
}

/* Names that exist in every local domain (spec 3.6). */
static bool always_exists(const struct domains *d, const struct resolved *address)
{
    if (recipient_is_postmaster(d, address))
        return true;
    return address->class == ADDRESS_LOCAL
           && (span_equals(address->local, SPAN_LITERAL("mailer-daemon"))
               || span_equals(address->local, SPAN_LITERAL("double-bounce")));
}

struct class_tables {
    const struct map_list *list;
    bool empty_means_nobody;
    int code;
    const char *text, *short_text;
};

static struct class_tables tables_of(const struct domains *d, enum address_class class)
{
    const struct params *p = d->params;
    switch (class) {
    case ADDRESS_LOCAL:
        return (struct class_tables){ &d->local_recipient_maps, false,
                                      p->unknown_local_recipient_reject_code,
                                      "User unknown in local recipient table", "User unknown" };
    case ADDRESS_VIRTUAL_ALIAS:
        return (struct class_tables){ &d->virtual_alias_maps, true,
                                      p->unknown_virtual_alias_reject_code,
                                      "User unknown in virtual alias table", "User unknown" };
    case ADDRESS_VIRTUAL_MAILBOX:
        return (struct class_tables){ &d->virtual_mailbox_maps, false,
                                      p->unknown_virtual_mailbox_reject_code,
                                      "User unknown in virtual mailbox table", "User unknown" };
    case ADDRESS_RELAY:
        return (struct class_tables){ &d->relay_recipient_maps, false,
                                      p->unknown_relay_recipient_reject_code,
                                      "User unknown in relay recipient table", "User unknown" };
    case ADDRESS_DEFAULT: break;
    }
    return (struct class_tables){ .list = NULL };
}

/* Found in the table, or so empty a parameter that nobody asks it. */
static enum map_result is_listed(const struct domains *d, const struct map_reader *reader,
                                 const struct map_list *list, const struct resolved *address)
{
    struct buf value = { 0 };
    bool with_extension;
    enum map_result result = recipient_find(d, list, reader, address, &value, &with_extension);
    buf_fini(&value);
    return result;
}

enum map_result recipient_listing(const struct domains *d, const struct map_reader *reader,
                                  const struct resolved *address, struct listing *out)
{
    struct class_tables t = tables_of(d, address->class);
    *out = (struct listing){ .is_known = true };
    enum map_result result = is_listed(d, reader, &d->virtual_alias_maps, address);
    out->is_alias = result == MAP_FOUND;
    if (result != MAP_NOT_FOUND || t.list == NULL || always_exists(d, address))
        return result == MAP_NOT_FOUND ? MAP_FOUND : result;
    if (t.list->count == 0 && !t.empty_means_nobody)
        return MAP_FOUND;
    if (t.list != &d->virtual_alias_maps)
        result = is_listed(d, reader, t.list, address);
    if (result != MAP_NOT_FOUND)
        return result;
    out->is_known = false;
    out->code = t.code;
    out->text = d->params->show_user_unknown_table_name ? t.text : t.short_text;
    return MAP_FOUND;
}
