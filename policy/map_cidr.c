/* cidr: networks -> results (spec 6.4). */
#include "policy/rule_text.h"
#include "protocol/ip.h"
#include "protocol/mem.h"

#include <stdlib.h>

struct network {
    struct ip ip;
    unsigned prefix_bits;
};

static void *network_compile(struct span *line, bool is_negated, const char **error,
                             struct arena *scratch)
{
    struct network network;
    bool has_host_bits;
    struct span word = span_next_word(line);
    (void)is_negated, (void)scratch;
    if (!ip_parse_network(word, &network.ip, &network.prefix_bits, &has_host_bits)) {
        *error = "not an address or network";
        return NULL;
    }
    if (has_host_bits) {
        *error = "the network has bits set behind its prefix";
        return NULL;
    }
    struct network *pattern = xmalloc(sizeof *pattern);
    *pattern = network;
    return pattern;
}

static bool network_applies(void *pattern, struct span key)
{
    const struct network *network = pattern;
    struct ip ip;
    return ip_parse(key, &ip) && ip.family == network->ip.family;
}

static bool network_matches(void *pattern, struct span key, void *captures)
{
    const struct network *network = pattern;
    struct ip ip;
    (void)captures;
    return ip_parse(key, &ip) && ip_in_network(&ip, &network->ip, network->prefix_bits);
}

static const struct rule_kind cidr_kind = {
    .compile = network_compile, .free = free,
    .matches = network_matches, .applies = network_applies,
};

static void *cidr_open(struct map_source *source, const char **error)
{
    return rules_read(&cidr_kind, source, error);
}

static void cidr_close(void *data)
{
    rules_free(data);
}

static enum map_result cidr_find(void *data, struct span key, struct buf *value)
{
    struct ip ip;
    const struct rule_row *row = ip_parse(key, &ip) ? rules_find(data, key, NULL) : NULL;
    if (row == NULL)
        return MAP_NOT_FOUND;
    buf_add(value, row->result);
    return MAP_FOUND;
}

const struct map_type map_type_cidr = {
    .has_inline_form = true,
    .name = "cidr", .suffix = "", .open = cidr_open, .find = cidr_find, .close = cidr_close,
};
