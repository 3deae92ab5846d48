#include "server/config.h"
#include "policy/dns_name.h"
#include "policy/lint.h"
#include "protocol/expand.h"
#include "protocol/list.h"
#include "protocol/mem.h"
#include "protocol/smtp_session.h"
#include "queue/lmtp.h"
#include "server/helper.h"
#include "server/listener_spec.h"
#include "server/param_table.h"
#include "server/tls.h"

#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------ this host */

enum { OWN_IPS_MAX = 256 };

struct host {
    char name[256];
    struct ip ips[OWN_IPS_MAX];
    size_t ip_count;
};

static void host_find_out(struct host *host)
{
    struct ifaddrs *list = NULL;
    uint16_t port;
    memset(host, 0, sizeof *host);
    if (gethostname(host->name, sizeof host->name - 1) != 0 || host->name[0] == '\0')
        snprintf(host->name, sizeof host->name, "localhost");
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i != NULL && host->ip_count < OWN_IPS_MAX; i = i->ifa_next)
        if (i->ifa_addr != NULL
            && ip_from_sockaddr(i->ifa_addr, &host->ips[host->ip_count], &port))
            host->ip_count++;
    freeifaddrs(list);
}

/* mynetworks_style = host: our own addresses and nothing else. */
static const char *own_networks(struct config *config, const struct host *host)
{
    struct buf text = { 0 };
    char address[IP_TEXT_MAX];
    for (size_t i = 0; i < host->ip_count; i++) {
        bool is_v6 = host->ips[i].family == 6;
        buf_printf(&text, "%s%s%s%s/%u", i > 0 ? " " : "", is_v6 ? "[" : "",
                   ip_text(&host->ips[i], address), is_v6 ? "]" : "", ip_bits(&host->ips[i]));
    }
    const char *copy = arena_text(&config->memory, buf_span(&text));
    buf_fini(&text);
    return copy;
}

/* ------------------------------------------------------------ values */

/* What a name means while the configuration is expanded. */
struct values {
    struct config *config;
    const struct host *host;
    bool is_stressed;
};

static bool expand_value(struct values *values, struct span text, struct buf *out,
                         const char **error);

static const char *computed_domain(struct values *values)
{
    struct buf host = { 0 };
    const char *error;
    const struct main_cf_entry *entry = main_cf_find(&values->config->cf,
                                                     SPAN_LITERAL("myhostname"));
    bool is_good = expand_value(values, span_of(entry != NULL ? entry->value
                                                              : values->host->name),
                                &host, &error);
    struct span name = buf_span(&host);
    size_t dot = span_find(name, '.');
    const char *domain = is_good && dot < name.len
                             ? arena_text(&values->config->memory, span_skip(name, dot + 1))
                             : "localdomain";
    buf_fini(&host);
    return domain;
}

static const char *default_value(struct values *values, const struct param_row *row)
{
    if (strcmp(row->name, "myhostname") == 0)
        return values->host->name;
    if (strcmp(row->name, "mydomain") == 0)
        return computed_domain(values);
    if (strcmp(row->name, "mynetworks") == 0)
        return own_networks(values->config, values->host);
    return row->value;
}

static const char *lookup_value(void *context, struct span name)
{
    struct values *values = context;
    struct main_cf_entry *entry = main_cf_find(&values->config->cf, name);
    if (span_equals(name, SPAN_LITERAL("stress")) && values->is_stressed)
        return "yes";
    if (entry != NULL)
        return entry->value;
    const struct param_row *row = param_find(name);
    return row != NULL ? default_value(values, row) : NULL;
}

static bool expand_value(struct values *values, struct span text, struct buf *out,
                         const char **error)
{
    struct expand expand = { .lookup = lookup_value, .context = values, .is_recursive = true };
    out->max = EXPAND_RESULT_MAX;
    bool is_good = expand_text(&expand, text, out);
    *error = expand.error;
    return is_good;
}

static void store_row(struct values *values, const struct param_row *row, struct params *params,
                      struct problems *problems)
{
    struct config *config = values->config;
    struct buf text = { 0 };
    const char *error = NULL;
    const struct main_cf_entry *entry = main_cf_find(&config->cf, span_of(row->name));
    const char *value = entry != NULL ? entry->value : default_value(values, row);
    bool is_good = row->kind == PARAM_KIND_RAW ? buf_puts(&text, value)
                                               : expand_value(values, span_of(value), &text, &error);
    if (is_good)
        error = param_store(row, buf_span(&text), config->base_dir, params, &config->memory);
    if (error != NULL && !values->is_stressed)
        problems_error(problems, row->name, "\"%.200s\": %s", value, error);
    else if (error != NULL) /* only the loaded value is bad */
        problems_error(problems, row->name, "\"%.200s\": under stress: %s", value, error);
    buf_fini(&text);
}

static void store_params(struct config *config, const struct host *host, bool is_stressed,
                         struct problems *problems)
{
    struct values values = { config, host, is_stressed };
    struct params *params = is_stressed ? &config->stressed_params : &config->params;
    for (size_t i = 0; i < param_row_count; i++)
        if (param_rows[i].kind != PARAM_KIND_SECTION)
            store_row(&values, &param_rows[i], params, problems);
}

/* ------------------------------------------------------------ names */

static void mark_used(void *context, struct span name)
{
    struct main_cf_entry *entry = main_cf_find(context, name);
    if (entry != NULL)
        entry->is_used = true;
}

/* A name is used if a row declares it, a value refers to it, or it is a restriction class. */
static void find_used_names(struct config *config)
{
    struct span classes = span_of(config->params.smtpd_restriction_classes), name;
    for (const struct main_cf_entry *e = config->cf.first; e != NULL; e = e->next) {
        if (param_find(span_of(e->name)) != NULL)
            mark_used(&config->cf, span_of(e->name));
        expand_names(span_of(e->value), mark_used, &config->cf);
    }
    while ((name = list_next(&classes)).len > 0)
        mark_used(&config->cf, name);
}

static void warn_unused(const struct config *config, struct problems *problems)
{
    for (const struct main_cf_entry *e = config->cf.first; e != NULL; e = e->next) {
        struct span name = span_of(e->name);
        if (e->is_used)
            continue;
        const char *nearest = param_nearest(name);
        if (param_is_postfix(name))
            problems_warning(problems, e->name, "a Postfix parameter without meaning here");
        else if (nearest != NULL)
            problems_warning(problems, e->name, "unknown parameter, did you mean \"%s\"?",
                             nearest);
        else
            problems_warning(problems, e->name, "unknown parameter");
    }
}

/* ------------------------------------------------------------ compiling */

static const char *lookup_expanded(void *context, struct span name)
{
    struct values *values = context;
    struct buf text = { 0 };
    const char *error, *raw = lookup_value(values, name), *value = NULL;
    if (raw != NULL && expand_value(values, span_of(raw), &text, &error))
        value = arena_text(&values->config->memory, buf_span(&text));
    buf_fini(&text);
    return value;
}

const char *config_expanded(struct config *config, const char *name, struct buf *room)
{
    struct host *host = xcalloc(1, sizeof *host);
    struct values values = { config, host, false };
    const char *error;
    host_find_out(host);
    const char *raw = lookup_value(&values, span_of(name));
    if (raw != NULL)
        expand_value(&values, span_of(raw), room, &error);
    free(host);
    return buf_text(room);
}

unsigned config_ehlo_mask(const char *list)
{
    struct span rest = span_of(list), item;
    unsigned mask = 0;
    while ((item = list_next(&rest)).len > 0)
        mask |= smtp_ehlo_bit(item);
    return mask;
}

static void check_ehlo_keywords(const struct config *config, struct problems *problems)
{
    /* keywords that Postfix knows and we never announce, and its "silent-discard" */
    static const char *const harmless[] = { "auth", "etrn", "verp", "xforward",
                                            "silent-discard" };
    struct span rest = span_of(config->params.smtpd_discard_ehlo_keywords), item;
    while ((item = list_next(&rest)).len > 0) {
        bool is_known = smtp_ehlo_bit(item) != 0;
        for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
            is_known |= span_iequals(item, span_of(harmless[i]));
        if (!is_known)
            problems_warning(problems, "smtpd_discard_ehlo_keywords",
                             "unknown keyword \"%.*s\"", (int)item.len, item.at);
    }
}

static void compile_lists(struct config *config, struct problems *problems)
{
    const struct params *p = &config->params;
    struct match_source source = { config->maps, config->base_dir,
                                   p->parent_domain_matches_subdomains, &config->memory,
                                   problems, &config->policy->mynetworks };
    const struct {
        struct match_list *list;
        const char *text, *parameter;
    } lists[] = {
        { &config->xclient_hosts, p->smtpd_authorized_xclient_hosts,
          "smtpd_authorized_xclient_hosts" },
        { &config->bare_newline_exclusions, p->smtpd_forbid_bare_newline_exclusions,
          "smtpd_forbid_bare_newline_exclusions" },
        { &config->event_limit_exceptions, p->smtpd_client_event_limit_exceptions,
          "smtpd_client_event_limit_exceptions" },
        { &config->forbidden_commands, p->smtpd_forbidden_commands,
          "smtpd_forbidden_commands" },
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        match_list_compile(lists[i].list, lists[i].text, lists[i].parameter, &source);
    map_list_compile(&config->discard_ehlo_maps, config->maps,
                     p->smtpd_discard_ehlo_keyword_address_maps,
                     "smtpd_discard_ehlo_keyword_address_maps", &config->memory, problems);
    config->discard_ehlo = config_ehlo_mask(p->smtpd_discard_ehlo_keywords);
    check_ehlo_keywords(config, problems);
}

static bool takes_utf8(const struct transport *transport)
{
    return transport->kind != TRANSPORT_LMTP && transport->kind != TRANSPORT_SMTP;
}

struct own_ips {
    struct ip ips[OWN_IPS_MAX];
    size_t count;
};

static void add_own(struct own_ips *own, const struct ip *ip)
{
    if (own->count < OWN_IPS_MAX)
        own->ips[own->count++] = *ip;
}

static void add_interfaces(struct own_ips *own, const struct host *host, bool all)
{
    for (size_t i = 0; i < host->ip_count; i++)
        if (all || ip_is_loopback(&host->ips[i]))
            add_own(own, &host->ips[i]);
}

/* "all", "loopback-only" or addresses; names would have to be looked up. */
static void read_interfaces(struct own_ips *own, const char *text, const char *parameter,
                            const struct host *host, struct problems *problems)
{
    struct span rest = span_of(text), item, inside;
    while ((item = list_next(&rest)).len > 0) {
        struct ip ip;
        bool is_bracketed = item.at[0] == '[' && item.at[item.len - 1] == ']';
        inside = is_bracketed ? span_make(item.at + 1, item.len - 2) : item;
        bool all = span_iequals(item, SPAN_LITERAL("all"));
        if (all || span_iequals(item, SPAN_LITERAL("loopback-only")))
            add_interfaces(own, host, all);
        else if (ip_parse(inside, &ip))
            add_own(own, &ip);
        else
            problems_warning(problems, parameter, "\"%.*s\" is ignored: addresses are wanted",
                             (int)item.len, item.at);
    }
}

static void find_own_ips(struct own_ips *own, const struct config *config,
                         const struct host *host, struct problems *problems)
{
    read_interfaces(own, config->params.inet_interfaces, "inet_interfaces", host, problems);
    read_interfaces(own, config->params.proxy_interfaces, "proxy_interfaces", host, problems);
}

static void compile(struct config *config, const struct host *host, struct problems *problems)
{
    struct own_ips own = { .count = 0 };
    struct values values = { config, host, false };
    find_own_ips(&own, config, host, problems);
    const struct policy_source source = {
        .params = &config->params, .maps = config->maps, .base_dir = config->base_dir,
        .own_ips = own.ips, .own_ip_count = own.count,
        .lookup = lookup_expanded, .context = &values, .problems = problems,
    };
    config->policy = policy_new(&source);
    compile_lists(config, problems);
    config->listener_count = listener_specs_parse(config->params.listen, &config->memory,
                                                  &config->listeners, problems);
    config->tls = tls_config_new(&config->params, config->maps, problems);
    config->smtputf8_ok = config->params.smtputf8_enable
                          && takes_utf8(&config->policy->virtual_transport)
                          && takes_utf8(&config->policy->local_transport)
                          && takes_utf8(&config->policy->relay_transport);
}

/* The default gateway, from the kernel's table: "Iface Destination Gateway ..." in hex. */
static struct ip find_gateway(void)
{
    struct ip ip = { 0 };
    char line[256], iface[64];
    unsigned destination, gateway;
    FILE *f = fopen("/proc/net/route", "re");
    while (f != NULL && ip.family == 0 && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "%63s %x %x", iface, &destination, &gateway) == 3 && destination == 0) {
            ip.family = 4; /* the kernel prints the bytes as they lie in memory */
            memcpy(ip.bytes, &gateway, sizeof gateway);
        }
    if (f != NULL)
        fclose(f);
    return ip;
}

void config_lint_host(const struct config *config, struct problems *problems)
{
    if (config->policy == NULL)
        return;
    const struct lint_host host = {
        .is_container = access("/.dockerenv", F_OK) == 0
                        || access("/run/.containerenv", F_OK) == 0 || getenv("container") != NULL,
        .gateway = find_gateway(),
    };
    lint_on_host(config->policy, &host, problems);
}

/* Transports name next hops that only the queue can read. */
static void check_next_hops(const struct config *config, struct problems *problems)
{
    const struct policy *policy = config->policy;
    const struct {
        const struct transport *transport;
        const char *parameter;
    } rows[] = {
        { &policy->virtual_transport, "virtual_transport" },
        { &policy->local_transport, "local_transport" },
        { &policy->relay_transport, "relay_transport" },
        { &policy->default_transport, "default_transport" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct transport *t = rows[i].transport;
        bool is_lmtp = t->kind == TRANSPORT_LMTP;
        const char *error = is_lmtp || t->kind == TRANSPORT_SMTP
                                ? lmtp_nexthop_check(is_lmtp ? LMTP_PROTOCOL_LMTP
                                                             : LMTP_PROTOCOL_SMTP, t->nexthop)
                                : NULL;
        if (error != NULL)
            problems_error(problems, rows[i].parameter, "\"%s\": %s", t->nexthop, error);
    }
}

/* Notifications leave by SMTP, to a host or to the sender's own; our own users need no way out. */
static void check_bounce_transport(const struct config *config, struct problems *problems)
{
    const char *text = config->params.bounce_transport;
    struct arena memory = { 0 };
    struct transport transport;
    const char *error = transport_parse(span_of(text), &memory, &transport);
    bool is_mx = strcmp(text, "smtp:") == 0;
    if (error == NULL && transport.kind == TRANSPORT_SMTP)
        error = lmtp_nexthop_check(LMTP_PROTOCOL_SMTP, transport.nexthop);
    else if (error == NULL && transport.kind != TRANSPORT_NONE)
        error = "must be smtp:[HOST]:PORT, or smtp: for the sender's own mail host";
    if (error != NULL && !is_mx)
        problems_error(problems, "bounce_transport", "\"%s\": %s", text, error);
    arena_fini(&memory);
}

/* What no single row can know. */
static void check_together(const struct config *config, struct problems *problems)
{
    const struct params *p = &config->params;
    struct span host = span_of(p->myhostname);
    check_next_hops(config, problems);
    check_bounce_transport(config, problems);
    if (!span_istarts(span_of(p->smtpd_banner), host))
        problems_warning(problems, "smtpd_banner", "must begin with myhostname (RFC 5321 4.2)");
    if (span_find(host, '.') == host.len)
        problems_warning(problems, "myhostname", "\"%s\" is no fully-qualified name",
                         p->myhostname);
    if (dns_servers_error(p->dns_servers) != NULL)
        problems_error(problems, "dns_servers", "%s", dns_servers_error(p->dns_servers));
    if (config->tls == NULL && (p->smtpd_tls_security_level >= TLS_LEVEL_MAY || p->smtpd_use_tls))
        problems_error(problems, "smtpd_tls_security_level",
                       "TLS is asked for, but there is no usable certificate");
    for (size_t i = 0; i < config->listener_count; i++)
        if (config->listeners[i].is_tls && config->tls == NULL)
            problems_error(problems, "listen", "\"%s\" asks for TLS, but there is no certificate",
                           config->listeners[i].text);
}

/* ------------------------------------------------------------ life */

static bool read_file(const char *file, struct buf *text, const char **error)
{
    int fd = helper_open(file);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    size_t n = f != NULL ? 1 : 0;
    text->max = 16 << 20;
    while (n > 0) {
        char *room = buf_reserve(text, 65536);
        n = room != NULL ? fread(room, 1, 65536, f) : 0;
        text->len += n;
    }
    bool is_good = f != NULL && !ferror(f) && !text->is_full;
    if (!is_good)
        *error = text->is_full ? "too large" : strerror(fd < 0 ? -fd : errno);
    if (f != NULL)
        fclose(f);
    return is_good;
}

/* An absolute name, so that later changes of directory do not matter. */
static void set_file(struct config *config, const char *file)
{
    char *real = realpath(file, NULL);
    char cwd[PATH_MAX];
    if (real == NULL && file[0] != '/' && getcwd(cwd, sizeof cwd) != NULL)
        real = xprintf("%s/%s", cwd, file);
    config->file = real != NULL ? real : xstrdup(file);
    config->base_dir = xstrdup(config->file);
    char *slash = strrchr(config->base_dir, '/');
    if (slash != NULL)
        *slash = '\0';
}

static void keep_settings(struct config *config, const char *const *settings, size_t count)
{
    config->settings = xcalloc(count + 1, sizeof *config->settings);
    config->setting_count = count;
    for (size_t i = 0; i < count; i++)
        config->settings[i] = xstrdup(settings[i]);
}

static void apply_settings(struct config *config, struct problems *problems)
{
    for (size_t i = 0; i < config->setting_count; i++) {
        struct span text = span_of(config->settings[i]);
        size_t equals = span_find(text, '=');
        if (equals == text.len)
            problems_error(problems, config->settings[i], "not name=value");
        else
            main_cf_set(&config->cf, span_trim(span_make(text.at, equals)),
                        span_skip(text, equals + 1), 0);
    }
}

static void read_values(struct config *config, const char *text, const struct host *host,
                        struct problems *problems)
{
    struct buf bytes = { 0 };
    const char *error;
    if (text != NULL)
        buf_puts(&bytes, text);
    else if (!read_file(config->file, &bytes, &error))
        problems_error(problems, config->file, "%s", error);
    main_cf_parse(&config->cf, config->file, buf_span(&bytes), problems);
    buf_fini(&bytes);
    apply_settings(config, problems);
    store_params(config, host, false, problems);
}

static struct config *config_new(const char *file, const char *const *settings, size_t count)
{
    struct config *config = xcalloc(1, sizeof *config);
    atomic_init(&config->references, 1);
    set_file(config, file);
    keep_settings(config, settings, count);
    return config;
}

struct config *config_load_values(const char *file, const char *const *settings,
                                  size_t setting_count, struct problems *problems)
{
    struct config *config = config_new(file, settings, setting_count);
    struct host *host = xcalloc(1, sizeof *host);
    host_find_out(host);
    read_values(config, NULL, host, problems);
    config->maps = maps_new(config->base_dir);
    if (problems->error_count == 0)
        config->listener_count = listener_specs_parse(config->params.listen, &config->memory,
                                                      &config->listeners, problems);
    free(host);
    return config;
}

struct config *config_load_with(const char *file, const char *text, const char *const *settings,
                                size_t setting_count, struct problems *problems)
{
    struct config *config = config_new(file, settings, setting_count);
    struct host *host = xcalloc(1, sizeof *host);
    host_find_out(host);
    read_values(config, text, host, problems);
    if (problems->error_count == 0) /* else each mistake would be told twice */
        store_params(config, host, true, problems);
    if (problems->error_count == 0) {
        config->maps = maps_new(config->base_dir);
        compile(config, host, problems);
        find_used_names(config);
        warn_unused(config, problems);
        check_together(config, problems);
        lint_policy(config->policy, problems);
    }
    free(host);
    return config;
}

struct config *config_load(const char *file, const char *text, struct problems *problems)
{
    return config_load_with(file, text, NULL, 0, problems);
}

struct config *config_hold(struct config *config)
{
    atomic_fetch_add(&config->references, 1);
    return config;
}

void config_release(struct config *config)
{
    if (config == NULL || atomic_fetch_sub(&config->references, 1) != 1)
        return;
    tls_config_free(config->tls);
    policy_free(config->policy);
    maps_free(config->maps);
    main_cf_fini(&config->cf);
    arena_fini(&config->memory);
    for (size_t i = 0; i < config->setting_count; i++)
        free(config->settings[i]);
    free(config->settings);
    free(config->base_dir);
    free(config->file);
    free(config);
}

static void print_problem(const struct config *config, const struct problem *p, FILE *out)
{
    const struct main_cf_entry *entry = main_cf_find(&config->cf, span_of(p->subject));
    const char *file = p->file, *what = p->level == PROBLEM_ERROR ? "error" : "warning";
    int line = p->line;
    if (file == NULL && entry != NULL) {
        file = config->file;
        line = entry->line;
    }
    if (file != NULL && line > 0)
        fprintf(out, "%s:%d: %s: ", file, line, what);
    else
        fprintf(out, "%s: %s: ", file != NULL ? file : config->file, what);
    if (strcmp(p->subject, file != NULL ? file : "") != 0)
        fprintf(out, "%s: ", p->subject);
    fprintf(out, "%s\n", p->text);
}

void config_print_problems(const struct config *config, const struct problems *problems,
                           void *stream)
{
    for (const struct problem *p = problems->first; p != NULL; p = p->next)
        print_problem(config, p, stream);
    if (problems->count > PROBLEMS_MAX)
        fprintf(stream, "%s: and %d more\n", config->file, problems->count - PROBLEMS_MAX);
}
