#include "server/hosts.h"
#include "policy/dns_name.h"
#include "protocol/ip.h"
#include "protocol/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* One name of one line. */
struct host {
    struct host *next;
    struct ip ip;
    const char *name;              /* lower case */
    const char *reverse;           /* the address as a PTR question */
    bool is_first;                 /* the line's own name, not an alias */
};

struct hosts {
    struct arena memory; /* owns */
    struct host *first, **end;
};

static const char *lower(struct arena *memory, struct span name)
{
    char *copy = arena_text(memory, name);
    for (char *c = copy; *c != '\0'; c++)
        *c = ascii_lower(*c);
    return copy;
}

static void read_line(struct hosts *hosts, struct span line)
{
    char reverse[DNS_NAME_MAX];
    struct ip ip;
    line = span_make(line.at, span_find(line, '#'));
    struct span word = span_next_word(&line);
    if (!ip_parse(word, &ip))
        return;
    dns_name_reverse(reverse, &ip);
    const char *kept = arena_text(&hosts->memory, span_of(reverse));
    for (bool is_first = true; (word = span_next_word(&line)).len > 0; is_first = false) {
        struct host *host = arena_alloc(&hosts->memory, sizeof *host);
        *host = (struct host){ .ip = ip, .name = lower(&hosts->memory, word), .reverse = kept,
                               .is_first = is_first };
        *hosts->end = host;
        hosts->end = &host->next;
    }
}

struct hosts *hosts_read(const char *file)
{
    struct hosts *hosts = xcalloc(1, sizeof *hosts);
    FILE *f = fopen(file, "re");
    char line[1024];
    hosts->end = &hosts->first;
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        read_line(hosts, span_of(line));
    if (f != NULL)
        fclose(f);
    return hosts;
}

void hosts_free(struct hosts *hosts)
{
    if (hosts == NULL)
        return;
    arena_fini(&hosts->memory);
    free(hosts);
}

static void add_match(const struct host *host, enum fact_kind kind, const char *name,
                      struct buf *value)
{
    uint8_t family = kind == FACT_A ? 4 : 6;
    if (kind == FACT_PTR && host->is_first && strcmp(host->reverse, name) == 0)
        record_add(value, span_of(host->name));
    if (kind != FACT_PTR && host->ip.family == family && strcmp(host->name, name) == 0)
        record_add(value, span_make((const char *)host->ip.bytes, ip_bits(&host->ip) / 8));
}

bool hosts_find(const struct hosts *hosts, enum fact_kind kind, const char *name,
                struct buf *value)
{
    if (kind != FACT_A && kind != FACT_AAAA && kind != FACT_PTR)
        return false;
    for (const struct host *host = hosts->first; host != NULL; host = host->next)
        add_match(host, kind, name, value);
    return value->len > 0;
}
