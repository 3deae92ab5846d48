/* Addresses, networks and host names, and what is asked of the DNS about them. */
#include "fuzz/fuzz.h"
#include "policy/dns_name.h"
#include "policy/greylist.h"
#include "policy/psl.h"
#include "protocol/hostname.h"

static void check_ip(const struct ip *ip)
{
    char text[IP_TEXT_MAX], name[DNS_NAME_MAX];
    struct ip again;
    ENSURE(ip_parse(span_of(ip_text(ip, text)), &again) && ip_equals(ip, &again));
    dns_name_reverse(name, ip);
    ENSURE(hostname_is_valid(span_of(name), false));
    struct ip masked = ip_masked(ip, ip_bits(ip) / 2);
    ENSURE(ip_in_network(ip, &masked, ip_bits(ip) / 2));
}

static void networks(struct span text)
{
    struct ip ip, network;
    unsigned bits = 0;
    bool has_host_bits = false;
    if (ip_parse(text, &ip))
        check_ip(&ip);
    if (address_literal_parse(text, &ip))
        check_ip(&ip);
    if (!ip_parse_network(text, &network, &bits, &has_host_bits))
        return;
    struct ip masked = ip_masked(&network, bits);
    ENSURE(bits <= ip_bits(&network));
    ENSURE(has_host_bits != ip_equals(&masked, &network));
}

static void host_names(struct fuzz *f)
{
    const struct ip ip = { 4, { 192, 0, 2, 1 } };
    char asked[DNS_NAME_MAX], listed[DNS_NAME_MAX], joined[DNS_NAME_MAX];
    struct buf network = { 0 };
    bool is_valid = hostname_is_valid(f->text, true);
    ENSURE(is_valid || !hostname_is_valid(f->text, false));
    if (dns_name_ask(asked, f->text)) {
        ENSURE(strlen(asked) < DNS_NAME_MAX && hostname_is_valid(span_of(asked), false));
        psl_registrable(asked, &f->memory);
        greylist_looks_dynamic(span_of(asked), &ip);
    }
    if (dns_name_listed(listed, &ip, f->text))
        ENSURE(strlen(listed) < DNS_NAME_MAX);
    struct span head = fuzz_line(f);
    if (dns_name_join(joined, head, f->text))
        ENSURE(strlen(joined) < DNS_NAME_MAX);
    buf_fini(&network);
}

void fuzz_one(struct fuzz *f)
{
    networks(f->text);
    dns_servers_error(arena_text(&f->memory, f->text));
    host_names(f);
}
