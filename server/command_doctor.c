/* postern doctor - is this host fit to receive mail? Looks at the DNS of the host and its domains, the
 * certificate, the resolver, the configured lists, the backend, disk and limits. What is not well
 * is told with why it matters and what to do.
 * Order: questions one after the other, each with dns_timeout; nothing is changed anywhere. */
#include "policy/dns_name.h"
#include "policy/dnsbl.h"
#include "policy/plan.h"
#include "policy/route.h"
#include "policy/run.h"
#include "policy/spf.h"
#include "protocol/hostname.h"
#include "protocol/list.h"
#include "protocol/mem.h"
#include "protocol/text.h"
#include "server/command.h"
#include "server/config.h"
#include "server/control.h"
#include "server/dns.h"
#include "server/doctor.h"
#include "server/privilege.h"
#include "server/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { EXPIRY_WARN_DAYS = 14, BACKEND_WAIT_MS = 5000, SLOW_DNS_MS = 2000, LOW_DISK_PERCENT = 10 };

/* ------------------------------------------------------------ findings */

void doctor_title(struct doctor *d, const char *format, ...)
{
    va_list ap;
    (void)d;
    va_start(ap, format);
    putchar('\n');
    vprintf(format, ap);
    putchar('\n');
    va_end(ap);
}

void doctor_say(struct doctor *d, enum doctor_level level, const char *why, const char *todo,
                const char *format, ...)
{
    static const char *const words[] = { "ok  ", "warn", "BAD " };
    va_list ap;
    va_start(ap, format);
    printf("  %s  ", words[level]);
    vprintf(format, ap);
    putchar('\n');
    va_end(ap);
    d->counts[level]++;
    if (level != DOCTOR_OK)
        printf("        why: %s\n        do:  %s\n", why, todo);
}

/* ------------------------------------------------------------ questions */

static void on_answer(void *arg, enum fact_status status, struct span value, const char *source)
{
    struct doctor_answer *a = arg;
    (void)source;
    a->status = status;
    buf_add(&a->value, value);
    a->is_there = true;
}

void doctor_ask(struct doctor *d, enum fact_kind kind, const char *name, struct doctor_answer *out)
{
    buf_clear(&out->value);
    out->is_there = false;
    dns_ask(d->dns, kind, span_of(name), on_answer, out);
    while (!out->is_there)
        uv_run(&d->uv, UV_RUN_ONCE);
}

/* ------------------------------------------------------------ addresses and their names */

static bool is_own(const struct doctor *d, const struct ip *ip)
{
    const struct domains *domains = &d->config->policy->domains;
    for (size_t i = 0; i < domains->own_ip_count; i++)
        if (ip_equals(ip, &domains->own_ips[i]))
            return true;
    return false;
}

static struct ip ip_of(struct span record)
{
    struct ip ip = { .family = record.len == 4 ? 4 : 6 };
    memcpy(ip.bytes, record.at, record.len);
    return ip;
}

static bool leads_back(struct doctor *d, const char *name, const struct ip *ip)
{
    struct doctor_answer a = { 0 };
    bool is_back = false;
    doctor_ask(d, ip->family == 4 ? FACT_A : FACT_AAAA, name, &a);
    struct span rest = buf_span(&a.value), record;
    while (a.status == FACT_FOUND && record_next(&rest, &record)) {
        struct ip found = ip_of(record);
        is_back |= ip_equals(&found, ip);
    }
    buf_fini(&a.value);
    return is_back;
}

/* PTR and A or AAAA mirror each other. */
static void check_ptr(struct doctor *d, const struct ip *ip)
{
    static const char why[] = "many servers refuse or distrust a host whose address has no name "
                              "that leads back to it";
    char reverse[DNS_NAME_MAX], text[IP_TEXT_MAX], name[DNS_NAME_MAX] = "";
    struct doctor_answer a = { 0 };
    struct span record;
    dns_name_reverse(reverse, ip);
    doctor_ask(d, FACT_PTR, reverse, &a);
    struct span rest = buf_span(&a.value);
    if (a.status == FACT_FOUND && record_next(&rest, &record))
        snprintf(name, sizeof name, "%.*s", (int)record.len, record.at);
    ip_text(ip, text);
    if (a.status == FACT_TEMPFAIL)
        doctor_say(d, DOCTOR_WARN, why, "look at the name servers of the reverse zone",
                   "%s: its PTR record could not be asked for", text);
    else if (name[0] == '\0')
        doctor_say(d, DOCTOR_BAD, why, "have your provider set the PTR record to the host's name",
                   "%s has no PTR record", text);
    else if (!leads_back(d, name, ip))
        doctor_say(d, DOCTOR_BAD, why, "make the PTR record and the A or AAAA record mirror each "
                   "other", "%s is named %s, but %s does not have this address", text, name, name);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "%s is %s, there and back", text, name);
    buf_fini(&a.value);
}

/* The addresses of a name; each one's PTR if it is public or asked for. Returns how many. */
static int check_addresses(struct doctor *d, const char *host, bool *has_own)
{
    static const enum fact_kind kinds[] = { FACT_A, FACT_AAAA };
    struct doctor_answer a = { 0 };
    int count = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct span record;
        doctor_ask(d, kinds[i], host, &a);
        struct span rest = buf_span(&a.value);
        while (a.status == FACT_FOUND && record_next(&rest, &record)) {
            struct ip ip = ip_of(record);
            *has_own |= is_own(d, &ip);
            check_ptr(d, &ip);
            count++;
        }
    }
    buf_fini(&a.value);
    return count;
}

/* ------------------------------------------------------------ the host */

static void check_host(struct doctor *d)
{
    const char *name = d->config->params.myhostname;
    bool has_own = false;
    doctor_title(d, "This host: %s", name);
    if (strchr(name, '.') == NULL) {
        doctor_say(d, DOCTOR_BAD, "other servers see this name in the greeting and in headers, and "
                   "refuse short ones", "set myhostname to the full name of the host",
                   "myhostname is no full host name");
        return;
    }
    if (check_addresses(d, name, &has_own) == 0)
        doctor_say(d, DOCTOR_BAD, "the name in the greeting must lead to this host (RFC 5321 2.3.5)",
                   "publish A and AAAA records for it, or set myhostname", "%s has no address",
                   name);
    else if (!has_own)
        doctor_say(d, DOCTOR_WARN, "mail for the name goes elsewhere, unless an address is "
                   "translated on the way", "add the outer address to proxy_interfaces if it is",
                   "no address of %s is one of this host's", name);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "%s leads to this host", name);
}

/* ------------------------------------------------------------ a domain */

static void check_mx_host(struct doctor *d, const char *host, bool *has_own)
{
    struct doctor_answer a = { 0 };
    struct ip ip;
    if (host[0] == '\0' || hostaddr_parse(span_of(host), &ip)) {
        doctor_say(d, DOCTOR_BAD, host[0] == '\0' ? "a null MX says that the domain takes no mail "
                   "(RFC 7505)" : "an MX names a host, never an address (RFC 1035 3.3.9)",
                   "let the MX name a host with A and AAAA records", "MX %s",
                   host[0] == '\0' ? "." : host);
        return;
    }
    doctor_ask(d, FACT_CNAME, host, &a);
    if (a.status == FACT_FOUND)
        doctor_say(d, DOCTOR_BAD, "an MX must not name an alias (RFC 2181 10.3); some senders do not "
                   "follow it", "name the host itself in the MX record", "MX %s is a CNAME", host);
    if (check_addresses(d, host, has_own) == 0)
        doctor_say(d, DOCTOR_BAD, "senders cannot reach it", "publish its A and AAAA records, or "
                   "take the MX away", "MX %s has no address", host);
    if (d->config->tls != NULL && !tls_config_names(d->config->tls, host))
        doctor_say(d, DOCTOR_WARN, "senders that check certificates (MTA-STS, DANE) will not deliver",
                   "get a certificate with this name", "the certificate does not name %s", host);
    buf_fini(&a.value);
}

static void check_mx(struct doctor *d, const char *domain)
{
    struct doctor_answer a = { 0 };
    struct span record;
    bool has_own = false;
    doctor_ask(d, FACT_MX, domain, &a);
    struct span rest = buf_span(&a.value);
    if (a.status == FACT_NOT_FOUND)
        doctor_say(d, DOCTOR_WARN, "without MX, senders fall back to the domain's own address",
                   "publish an MX record that names this host", "%s has no MX record", domain);
    else if (a.status != FACT_FOUND)
        doctor_say(d, DOCTOR_BAD, "senders that cannot look it up keep the mail or send it back",
                   "look at the domain's name servers", "the MX of %s could not be asked for",
                   domain);
    while (a.status == FACT_FOUND && record_next(&rest, &record)) {
        char host[DNS_NAME_MAX];
        snprintf(host, sizeof host, "%.*s", (int)record.len - 2, record.at + 2);
        check_mx_host(d, host, &has_own);
    }
    if (a.status == FACT_FOUND && !has_own)
        doctor_say(d, DOCTOR_WARN, "mail for the domain goes to other hosts, unless an address is "
                   "translated on the way", "add this host to the MX records, or the outer address "
                   "to proxy_interfaces", "no MX of %s is this host", domain);
    buf_fini(&a.value);
}

/* ------------------------------------------------------------ SPF */

/* One evaluation, with the facts asked as they are missed. */
struct spf_run {
    struct policy_run run; /* first */
    struct doctor *doctor;
    struct spf spf;
};

static enum verdict evaluate_spf(struct policy_run *run)
{
    struct spf_run *r = (struct spf_run *)(void *)run;
    struct eval e;
    eval_begin(&e, run->policy, run->in, run->facts, &run->out);
    return spf_check_mailfrom(&e, false, &r->spf);
}

static void ask_for_spf(struct policy_run *run, const struct fact_key *key)
{
    struct spf_run *r = (struct spf_run *)(void *)run;
    struct doctor_answer a = { 0 };
    char name[DNS_NAME_MAX];
    a.status = FACT_TEMPFAIL;
    snprintf(name, sizeof name, "%.*s", (int)key->text.len, key->text.at);
    if (fact_kind_is_dns(key->kind))
        doctor_ask(r->doctor, key->kind, name, &a);
    policy_learn(run, &(struct fact){ .key = *key, .status = a.status,
                                      .value = buf_span(&a.value), .source = "dns" });
    buf_fini(&a.value);
}

static void spf_is_done(struct policy_run *run, enum verdict verdict)
{
    (void)run, (void)verdict;
}

static struct spf evaluate_domain(struct doctor *d, const char *domain, struct arena *memory)
{
    static const struct ip somebody = { .family = 4, .bytes = { 198, 51, 100, 254 } };
    struct smtp_peer peer = { 0 };
    struct facts facts = { 0 };
    char *sender = arena_printf(memory, "postmaster@%s", domain);
    struct envelope_in in = { .stage = STAGE_RCPT, .peer = &peer, .has_sender = true,
                              .sender = span_of(sender), .helo = domain, .protocol = "ESMTP",
                              .date = "" };
    struct spf_run r = { .doctor = d, .run = { .policy = d->config->policy, .in = &in,
                                               .facts = &facts, .ask = ask_for_spf,
                                               .done = spf_is_done, .evaluate = evaluate_spf } };
    smtp_peer_init(&peer, &somebody, 0, &somebody, 25);
    policy_begin(&r.run);
    r.spf.problem = arena_text(memory, span_of(r.spf.problem != NULL ? r.spf.problem : ""));
    policy_run_fini(&r.run);
    facts_fini(&facts);
    smtp_peer_fini(&peer);
    return r.spf;
}

static void check_spf(struct doctor *d, const char *domain)
{
    static const char why[] = "receivers of the domain's mail trust the record's answer";
    struct arena memory = { 0 };
    struct spf spf = evaluate_domain(d, domain, &memory);
    if (spf.result == SPF_NONE)
        doctor_say(d, DOCTOR_WARN, why, "publish a TXT record that begins with v=spf1 and ends with "
                   "~all or -all", "%s has no SPF record", domain);
    else if (spf.result == SPF_PERMERROR)
        doctor_say(d, DOCTOR_BAD, why, "correct the record; one record, at most 10 look-ups",
                   "the SPF record of %s is invalid: %s", domain, spf.problem);
    else if (spf.result == SPF_TEMPERROR)
        doctor_say(d, DOCTOR_WARN, why, "look at the name servers it refers to",
                   "the SPF record of %s could not be evaluated: %s", domain, spf.problem);
    else if (spf.result == SPF_PASS || spf.result == SPF_NEUTRAL)
        doctor_say(d, DOCTOR_WARN, why, "end it with ~all or -all", "the SPF record of %s lets "
                   "everybody send (%s for a stranger)", domain, spf_result_names[spf.result]);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "the SPF record of %s is valid: %s for a stranger",
                   domain, spf_result_names[spf.result]);
    arena_fini(&memory);
}

/* ------------------------------------------------------------ its mail here */

static void check_postmaster(struct doctor *d, const char *domain)
{
    static const char why[] = "postmaster must be reachable in every domain (RFC 5321 4.5.1)";
    struct arena memory = { 0 };
    struct target *targets = NULL;
    const char *text = NULL;
    char *address = arena_printf(&memory, "postmaster@%s", domain);
    enum route_status status = route_recipient(d->config->policy, &map_reader_direct,
                                               span_of(address), &memory, &targets, &text);
    if (status == ROUTE_NOT_OURS)
        doctor_say(d, DOCTOR_BAD, "mail for it is refused here", "add it to "
                   "virtual_mailbox_domains, virtual_alias_domains, mydestination or relay_domains",
                   "%s is none of our domains", domain);
    else if (status != ROUTE_OK || targets == NULL)
        doctor_say(d, DOCTOR_BAD, why, "add a mailbox or an alias for it (\"postern explain\" tells "
                   "what happens)", "%s cannot be delivered", address);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "%s goes to %.*s by %s", address,
                   (int)targets->address.len, targets->address.at, targets->transport.name);
    arena_fini(&memory);
}

static void check_domain(struct doctor *d, const char *domain)
{
    doctor_title(d, "Domain %s", domain);
    check_mx(d, domain);
    check_spf(d, domain);
    check_postmaster(d, domain);
}

/* The domains that the configuration spells out. */
static void check_domains(struct doctor *d)
{
    const struct params *p = &d->config->params;
    const char *const lists[] = { p->mydestination, p->virtual_mailbox_domains,
                                  p->virtual_alias_domains, p->relay_domains };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct span rest = span_of(lists[i]), item;
        while ((item = list_next(&rest)).len > 0) {
            char domain[DNS_NAME_MAX];
            snprintf(domain, sizeof domain, "%.*s", (int)item.len, item.at);
            if (hostname_is_valid(item, true) && span_find(item, '.') > 0
                && strchr(domain, '.') != NULL)
                check_domain(d, domain);
        }
    }
}

/* ------------------------------------------------------------ certificate */

static void check_certificate(struct doctor *d)
{
    struct tls_config *tls = d->config->tls;
    doctor_title(d, "Certificate");
    if (tls == NULL) {
        doctor_say(d, DOCTOR_WARN, "mail comes in the clear, and some senders refuse to send it so",
                   "set smtpd_tls_cert_file and smtpd_tls_key_file", "there is none");
        return;
    }
    long long days = ((long long)tls_config_expiry(tls) - (long long)time(NULL)) / 86400;
    bool is_over = tls_config_expiry(tls) <= (int64_t)time(NULL);
    if (is_over || days < EXPIRY_WARN_DAYS)
        doctor_say(d, is_over ? DOCTOR_BAD : DOCTOR_WARN, "senders that check it will not deliver",
                   "renew it; the files are read again by themselves",
                   is_over ? "it has expired" : "it ends in %lld days", days);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "it is good for %lld days", days);
    if (!tls_config_names(tls, d->config->params.myhostname))
        doctor_say(d, DOCTOR_WARN, "senders that check names will not deliver", "get a certificate "
                   "for myhostname", "it does not name %s", d->config->params.myhostname);
}

/* ------------------------------------------------------------ resolver and lists */

/* Resolvers for everybody: lists of blocked senders refuse their questions. */
static const char *const public_resolvers[] = {
    "1.0.0.1", "1.1.1.1", "149.112.112.112", "208.67.220.220", "208.67.222.222", "8.8.4.4",
    "8.8.8.8", "9.9.9.9", "2001:4860:4860::8844", "2001:4860:4860::8888", "2606:4700:4700::1001",
    "2606:4700:4700::1111", "2620:fe::9", "2620:fe::fe",
};

static bool is_public_resolver(struct span address)
{
    for (size_t i = 0; i < ARRAY_LEN(public_resolvers); i++)
        if (span_equals(address, span_of(public_resolvers[i])))
            return true;
    return false;
}

static void judge_server(struct doctor *d, struct span address)
{
    if (is_public_resolver(address))
        doctor_say(d, d->config->policy->dnsbls != NULL ? DOCTOR_BAD : DOCTOR_WARN,
                   "DNS lists answer public resolvers with errors, or not at all",
                   "run a resolver of your own (unbound) and name it in dns_servers",
                   "%.*s is a public resolver", (int)address.len, address.at);
}

static void check_servers(struct doctor *d)
{
    struct span rest = span_of(d->config->params.dns_servers), item;
    char line[512];
    FILE *f = rest.len == 0 ? fopen("/etc/resolv.conf", "re") : NULL;
    while ((item = list_next(&rest)).len > 0)
        judge_server(d, item);
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        struct span words = span_of(line);
        if (span_equals(span_next_word(&words), SPAN_LITERAL("nameserver")))
            judge_server(d, span_next_word(&words));
    }
    if (f != NULL)
        fclose(f);
}

static void check_resolver(struct doctor *d)
{
    static const char why[] = "without answers mail is deferred, and lists and SPF say nothing";
    struct doctor_answer a = { 0 };
    doctor_title(d, "Resolver");
    uv_update_time(&d->uv);
    uint64_t began_ms = uv_now(&d->uv);
    doctor_ask(d, FACT_A, "postern-doctor.invalid", &a); /* RFC 6761 6.4: there is none */
    unsigned long long took_ms = uv_now(&d->uv) - began_ms;
    if (a.status == FACT_FOUND)
        doctor_say(d, DOCTOR_BAD, "names that do not exist seem to: tests of senders and lists fail",
                   "use a resolver that does not rewrite answers", "it finds addresses for names "
                   "that cannot exist");
    else if (a.status != FACT_NOT_FOUND)
        doctor_say(d, DOCTOR_BAD, why, "look at dns_servers, or /etc/resolv.conf, and the firewall",
                   "it does not answer");
    else if (took_ms > SLOW_DNS_MS)
        doctor_say(d, DOCTOR_WARN, why, "run a resolver on this host", "it took %llu ms to answer",
                   took_ms);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "it answers, in %llu ms", took_ms);
    check_servers(d);
    buf_fini(&a.value);
}

static bool lists(struct doctor *d, const struct dnsbl *list, const char *entry, bool *is_unknown,
                  bool *is_refused)
{
    struct doctor_answer a = { 0 };
    struct dnsbl any = { .domain = list->domain };
    struct ip odd;
    char *name = xprintf("%s.%s", entry, list->domain);
    doctor_ask(d, FACT_A, name, &a);
    const struct fact fact = { .status = a.status, .value = buf_span(&a.value) };
    enum dnsbl_answer answer = dnsbl_judge(&any, &fact, true, &odd);
    *is_unknown |= a.status >= FACT_TEMPFAIL;
    *is_refused |= answer == DNSBL_ERROR_ANSWER;
    free(name);
    buf_fini(&a.value);
    return a.status == FACT_FOUND && answer == DNSBL_YES;
}

/* RFC 5782 5. */
static void check_list(struct doctor *d, const struct dnsbl *list)
{
    static const char todo[] = "ask another resolver, register with the list, or take it out";
    bool is_unknown = false, is_refused = false;
    bool good = lists(d, list, list->is_by_name ? "test" : "2.0.0.127", &is_unknown, &is_refused);
    bool bad = lists(d, list, list->is_by_name ? "invalid" : "1.0.0.127", &is_unknown, &is_refused);
    if (is_refused)
        doctor_say(d, DOCTOR_BAD, "it answers every question with an error, which lists nobody", todo,
                   "%s refuses the questions of this resolver", list->domain);
    else if (is_unknown)
        doctor_say(d, DOCTOR_WARN, "its rules say nothing meanwhile", todo, "%s does not answer",
                   list->domain);
    else if (bad)
        doctor_say(d, DOCTOR_BAD, "it would list everybody", "take it out: the list is dead",
                   "%s lists what no list may (RFC 5782)", list->domain);
    else if (!good && !list->is_by_name)
        doctor_say(d, DOCTOR_BAD, "it lists nobody", "take it out, or correct its name",
                   "%s does not have the test entry (RFC 5782)", list->domain);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "%s passes its self-test", list->domain);
}

static void check_lists(struct doctor *d)
{
    if (d->config->policy->dnsbls == NULL)
        return;
    doctor_title(d, "DNS lists");
    for (const struct dnsbl *list = d->config->policy->dnsbls; list != NULL; list = list->next)
        check_list(d, list);
}

/* ------------------------------------------------------------ backend */

static int connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0)
        return fd;
    int error = -errno;
    if (fd >= 0)
        close(fd);
    return error;
}

static int connect_inet(const char *where)
{
    const char *colon = strrchr(where, ':');
    char host[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    snprintf(host, sizeof host, "%.*s", colon != NULL ? (int)(colon - where) : 255, where);
    if (getaddrinfo(host, colon != NULL ? colon + 1 : "24", &hints, &list) != 0)
        return -ENOENT;
    struct timeval limit = { .tv_sec = BACKEND_WAIT_MS / 1000 };
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int error = fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) == 0 ? 0 : -errno;
    freeaddrinfo(list);
    if (error != 0 && fd >= 0)
        close(fd);
    return error != 0 ? error : fd;
}

/* NULL, or what is wrong with it. */
static const char *greet_backend(int fd)
{
    char text[512];
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (fd < 0)
        return strerror(-fd);
    ssize_t n = poll(&p, 1, BACKEND_WAIT_MS) == 1 ? read(fd, text, sizeof text) : -1;
    close(fd);
    return n < 3 ? "it says nothing" : memcmp(text, "220", 3) != 0 ? "it does not greet with 220"
                                                                   : NULL;
}

static void check_backend(struct doctor *d, const struct transport *t, const char *parameter)
{
    if (t->kind != TRANSPORT_LMTP)
        return;
    bool is_unix = strncmp(t->nexthop, "unix:", 5) == 0;
    const char *where = t->nexthop + (is_unix || strncmp(t->nexthop, "inet:", 5) == 0 ? 5 : 0);
    const char *error = greet_backend(is_unix ? connect_unix(where) : connect_inet(where));
    doctor_title(d, "Backend of %s", parameter);
    if (error != NULL)
        doctor_say(d, DOCTOR_BAD, "mail waits in the spool until it is back", "start it, or correct "
                   "the transport", "lmtp:%s: %s", t->nexthop, error);
    else
        doctor_say(d, DOCTOR_OK, NULL, NULL, "lmtp:%s greets", t->nexthop);
}

static void check_backends(struct doctor *d)
{
    const struct policy *policy = d->config->policy;
    check_backend(d, &policy->virtual_transport, "virtual_transport");
    check_backend(d, &policy->local_transport, "local_transport");
    check_backend(d, &policy->relay_transport, "relay_transport");
}

/* ------------------------------------------------------------ this machine */

static void check_disk(struct doctor *d, const char *path, const char *parameter)
{
    static const char why[] = "without room mail is refused with 452";
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) {
        doctor_say(d, DOCTOR_WARN, "the server makes it when it is started, if it may",
                   "start the server once, or make it", "%s %s: %s", parameter, path,
                   strerror(errno));
        return;
    }
    unsigned long long free_mb = (unsigned long long)fs.f_bavail * fs.f_frsize >> 20;
    unsigned long long percent = fs.f_blocks > 0 ? fs.f_bavail * 100ULL / fs.f_blocks : 100;
    unsigned long long inodes = fs.f_files > 0 ? fs.f_favail * 100ULL / fs.f_files : 100;
    bool is_low = percent < LOW_DISK_PERCENT || inodes < LOW_DISK_PERCENT;
    doctor_say(d, is_low ? DOCTOR_WARN : DOCTOR_OK, why, "make room, or move it",
               "%s: %llu MB free (%llu%%, %llu%% of the inodes)", parameter, free_mb, percent,
               inodes);
}

static void check_machine(struct doctor *d)
{
    const struct params *p = &d->config->params;
    doctor_title(d, "Disk and limits");
    check_disk(d, p->queue_directory, "queue_directory");
    check_disk(d, p->virtual_mailbox_base, "virtual_mailbox_base");
    long files = privilege_raise_files();
    bool is_low = files < p->smtpd_connection_limit;
    doctor_say(d, is_low ? DOCTOR_WARN : DOCTOR_OK, "the server takes fewer connections than "
               "smtpd_connection_limit says", "raise the limit (LimitNOFILE in the unit)",
               "%ld open files are allowed here, %d connections", files, p->smtpd_connection_limit);
}

static void check_server(struct doctor *d)
{
    doctor_title(d, "Server");
    fflush(stdout);
    printf("  ");
    int code = control_ask(d->config->params.control_socket, "sandbox");
    if (code < 0)
        printf("note  it does not run, or you may not ask it (%s)\n",
               d->config->params.control_socket);
}

/* ------------------------------------------------------------ the verb */

static int run(struct config *config, const char *domain)
{
    struct doctor *d = xcalloc(1, sizeof *d);
    const char *error = NULL;
    d->config = config;
    uv_loop_init(&d->uv);
    d->dns = dns_new(&d->uv, &config->params, NULL, &error);
    if (d->dns == NULL) {
        fprintf(stderr, "postern: no DNS: %s\n", error);
        return EX_UNAVAILABLE;
    }
    check_resolver(d);
    check_host(d);
    if (domain != NULL)
        check_domain(d, domain);
    else
        check_domains(d);
    check_certificate(d);
    check_lists(d);
    check_backends(d);
    check_machine(d);
    check_server(d);
    printf("\n%d bad, %d warnings, %d well\n", d->counts[DOCTOR_BAD], d->counts[DOCTOR_WARN],
           d->counts[DOCTOR_OK]);
    int code = d->counts[DOCTOR_BAD] > 0 ? 1 : EX_OK;
    dns_free(d->dns);
    uv_run(&d->uv, UV_RUN_DEFAULT); /* its handles close */
    uv_loop_close(&d->uv);
    free(d);
    return code;
}

int command_doctor(int argc, char **argv)
{
    struct command_options options;
    int rest = command_options(argc, argv, &options);
    if (rest < 0 || rest > 1 || (rest == 1 && !hostname_is_valid(span_of(argv[0]), true))) {
        fprintf(stderr, "usage: postern doctor [-c FILE] [DOMAIN]\n");
        return EX_USAGE;
    }
    struct config *config = command_load(&options);
    int code = config != NULL ? run(config, rest == 1 ? argv[0] : NULL) : EX_CONFIG;
    config_release(config);
    return code;
}
