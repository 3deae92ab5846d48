#include "policy/match_list.h"
#include "protocol/hostname.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct match_item {
    bool is_negated;
    enum { ITEM_WORD, ITEM_NETWORK, ITEM_MAP } kind;
    struct span word; /* lower case */
    struct ip network;
    unsigned prefix_bits;
    struct map *map;
};

struct compiler {
    struct match_list *list;
    const struct match_source *source;
    size_t cap;
    int depth;
};

enum { FILE_DEPTH_MAX = 8, FILE_BYTES_MAX = 16 << 20 };

bool match_list_has_parents(const char *list, const char *parameter)
{
    struct span rest = span_of(list), item;
    while ((item = list_next(&rest)).len > 0)
        if (span_equals(item, span_of(parameter)))
            return true;
    return false;
}

static struct match_item *add_item(struct compiler *c)
{
    struct match_list *list = c->list;
    if (list->count == c->cap) {
        size_t cap = c->cap > 0 ? c->cap * 2 : 8;
        struct match_item *more = arena_alloc(c->source->memory, cap * sizeof *more);
        if (list->count > 0)
            memcpy(more, list->items, list->count * sizeof *more);
        list->items = more;
        c->cap = cap;
    }
    return &list->items[list->count++];
}

static void compile_text(struct compiler *c, struct span text, bool is_negated);

static void compile_file(struct compiler *c, struct span name, bool is_negated)
{
    struct buf text = { .max = FILE_BYTES_MAX };
    char *path = xprintf("%.*s", (int)name.len, name.at);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    maps_note_file(c->source->maps, path);
    while (fd >= 0) {
        char *room = buf_reserve(&text, 4096);
        n = room != NULL ? read(fd, room, 4096) : -1;
        if (n <= 0)
            break;
        text.len += (size_t)n;
    }
    if (n < 0 || c->depth >= FILE_DEPTH_MAX)
        problems_error(c->source->problems, c->list->parameter, "%s: %s", path,
                       n < 0 ? strerror(errno) : "files refer to each other");
    else
        compile_text(c, buf_span(&text), is_negated);
    if (fd >= 0)
        close(fd);
    buf_fini(&text);
    free(path);
}

static bool looks_like_network(struct span word)
{
    size_t slash = span_find(word, '/');
    struct ip ip;
    if (word.len > 0 && word.at[0] == '[')
        return true;
    return slash < word.len || ip_parse(word, &ip);
}

static void compile_network(struct compiler *c, struct span word, bool is_negated)
{
    struct match_item item = { .is_negated = is_negated, .kind = ITEM_NETWORK };
    bool has_host_bits;
    if (!ip_parse_network(word, &item.network, &item.prefix_bits, &has_host_bits))
        problems_error(c->source->problems, c->list->parameter,
                       "\"%.*s\" is not an address or network", (int)word.len, word.at);
    else if (has_host_bits)
        problems_error(c->source->problems, c->list->parameter,
                       "\"%.*s\" has bits set behind its prefix", (int)word.len, word.at);
    else
        *add_item(c) = item;
}

static void compile_word(struct compiler *c, struct span word, bool is_negated)
{
    char *lower = arena_text(c->source->memory, word);
    for (size_t i = 0; i < word.len; i++)
        lower[i] = ascii_lower(lower[i]);
    *add_item(c) = (struct match_item){ .is_negated = is_negated, .kind = ITEM_WORD,
                                        .word = span_make(lower, word.len) };
}

static void compile_item(struct compiler *c, struct span item, bool is_negated)
{
    for (; item.len > 0 && item.at[0] == '!'; item = span_skip(item, 1))
        is_negated = !is_negated;
    size_t colon = span_find(item, ':');
    bool has_type = colon < item.len && colon > 0 && item.at[0] != '[';
    struct ip ip;
    if (item.len > 0 && item.at[0] == '/') {
        compile_file(c, item, is_negated);
    } else if (has_type && !ip_parse(item, &ip)) {
        struct map *map = maps_get(c->source->maps, item, c->list->parameter,
                                   c->source->problems);
        *add_item(c) = (struct match_item){ .is_negated = is_negated, .kind = ITEM_MAP,
                                            .map = map };
    } else if (looks_like_network(item)) {
        compile_network(c, item, is_negated);
    } else if (item.len > 0) {
        compile_word(c, item, is_negated);
    } else {
        problems_error(c->source->problems, c->list->parameter, "no pattern behind \"!\"");
    }
}

/* A comment is no comment behind a value, but its words are hardly meant as items either. */
static void skip_comment(struct compiler *c, struct span item, struct span *text)
{
    size_t end = span_find(*text, '\n');
    problems_warning(c->source->problems, c->list->parameter,
                     "\"%.*s%.*s\" is ignored: a comment needs a line of its own", (int)item.len,
                     item.at, (int)end, text->at);
    *text = span_skip(*text, end);
}

static void compile_text(struct compiler *c, struct span text, bool is_negated)
{
    struct span item;
    c->depth++;
    while ((item = list_next(&text)).len > 0) {
        if (item.at[0] == '#')
            skip_comment(c, item, &text);
        else
            compile_item(c, item, is_negated);
    }
    c->depth--;
}

void match_list_compile(struct match_list *list, const char *text, const char *parameter,
                        const struct match_source *source)
{
    struct compiler c = { .list = list, .source = source };
    const struct match_list *model = source->model;
    bool is_copy = model != NULL && model->text != NULL && strcmp(model->text, text) == 0;
    *list = is_copy ? *model : (struct match_list){ .text = text };
    list->parameter = parameter;
    list->is_parent_matching = match_list_has_parents(source->parent_domains, parameter);
    if (!is_copy)
        compile_text(&c, span_of(text), false);
}

static enum match of_result(enum map_result result)
{
    switch (result) {
    case MAP_FOUND: return MATCH_YES;
    case MAP_NOT_FOUND: return MATCH_NO;
    case MAP_PENDING: return MATCH_PENDING;
    case MAP_RETRY:
    case MAP_BROKEN: break;
    }
    return MATCH_ERROR;
}

/* name, and with parent matching its parents in turn: sub.example.com, example.com, com. */
static enum match match_map(const struct match_list *list, const struct map_reader *reader,
                            struct map *map, struct span name)
{
    struct buf value = { 0 };
    struct ip ip;
    enum match match;
    bool has_parents = list->is_parent_matching && map_is_partial(map) && !ip_parse(name, &ip);
    for (;;) {
        buf_clear(&value);
        match = of_result(reader->find(reader->context, map, name, &value));
        size_t dot = span_find(name, '.');
        if (match != MATCH_NO || !has_parents || dot == name.len)
            break;
        name = span_skip(name, dot + 1);
    }
    buf_fini(&value);
    return match;
}

static bool is_subdomain(struct span name, struct span domain)
{
    return name.len > domain.len && span_iends(name, domain)
           && name.at[name.len - domain.len - 1] == '.';
}

static bool word_matches(const struct match_list *list, struct span pattern, struct span name)
{
    if (span_iequals(pattern, name))
        return true;
    if (list->is_exact)
        return false;
    if (list->is_parent_matching)
        return is_subdomain(name, pattern);
    return pattern.len > 1 && pattern.at[0] == '.' && is_subdomain(name, span_skip(pattern, 1));
}

static enum match match_name(const struct match_list *list, const struct map_reader *reader,
                             const struct match_item *item, struct span name)
{
    if (item->kind == ITEM_WORD)
        return word_matches(list, item->word, name) ? MATCH_YES : MATCH_NO;
    return item->kind == ITEM_MAP ? match_map(list, reader, item->map, name) : MATCH_NO;
}

static enum match match_ip(const struct map_reader *reader, const struct match_item *item,
                           const struct ip *ip)
{
    char text[IP_TEXT_MAX];
    struct buf value = { 0 };
    if (item->kind == ITEM_NETWORK)
        return ip_in_network(ip, &item->network, item->prefix_bits) ? MATCH_YES : MATCH_NO;
    if (item->kind != ITEM_MAP)
        return MATCH_NO;
    enum match match = of_result(
        reader->find(reader->context, item->map, span_of(ip_text(ip, text)), &value));
    buf_fini(&value);
    return match;
}

static enum match decide(const struct match_item *item, enum match match)
{
    return match == MATCH_YES && item->is_negated ? MATCH_NO : match;
}

enum match match_list_word(const struct match_list *list, const struct map_reader *reader,
                           struct span word)
{
    for (size_t i = 0; i < list->count; i++) {
        enum match match = match_name(list, reader, &list->items[i], word);
        if (match != MATCH_NO)
            return decide(&list->items[i], match);
    }
    return MATCH_NO;
}

enum match match_list_host(const struct match_list *list, const struct map_reader *reader,
                           struct span name, const struct ip *ip)
{
    for (size_t i = 0; i < list->count; i++) {
        enum match match = match_name(list, reader, &list->items[i], name);
        if (match == MATCH_NO)
            match = match_ip(reader, &list->items[i], ip);
        if (match != MATCH_NO)
            return decide(&list->items[i], match);
    }
    return MATCH_NO;
}

bool match_list_covers(const struct match_list *list, const struct ip *ip)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct match_item *item = &list->items[i];
        if (item->kind == ITEM_NETWORK && ip_in_network(ip, &item->network, item->prefix_bits))
            return !item->is_negated;
    }
    return false;
}

void match_list_report_common(const struct match_list *a, const struct match_list *b,
                              struct problems *problems)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++) {
            const struct match_item *x = &a->items[i], *y = &b->items[k];
            if (x->kind == ITEM_WORD && y->kind == ITEM_WORD && span_equals(x->word, y->word))
                problems_warning(problems, b->parameter, "\"%.*s\" is in %s already, which counts",
                                 (int)x->word.len, x->word.at, a->parameter);
        }
}
