#include "policy/spf_library.h"
#include "protocol/mem.h"

#include <limits.h>
#include <netinet/in.h>
#include <spf2/spf.h>
#include <stdio.h>

/* What a made-up name stands for. */
enum use { USE_A, USE_MX, USE_MX_HOST, USE_EXISTS, USE_PTR, USE_RECORD, USE_COUNT };

struct spf_name {
    struct spf_name *next;
    unsigned number;
    enum use use;
    struct span spec;   /* domain-spec, or a host name; empty: the domain itself */
    const char *domain; /* in whose record it stands; NULL: spec is a name as it is */
    bool is_any;        /* prefix length 0: any address will do */
    bool is_main;       /* the record that decides, not one that is included */
    bool is_counted;
};

/* ------------------------------------------------------------ names */

static struct spf_name *name_new(struct spf_library *lib, enum use use, struct span spec,
                                 const char *domain)
{
    struct spf_name *name = arena_alloc(&lib->layer.e->out->memory, sizeof *name);
    *name = (struct spf_name){ .next = lib->names, .number = lib->name_count++, .use = use,
                               .spec = spec, .domain = domain };
    lib->names = name;
    return name;
}

/* "n7.spf"; NULL: not one of ours. */
static struct spf_name *name_find(struct spf_library *lib, const char *text)
{
    struct span digits = span_of(text);
    uint64_t number;
    size_t dot = span_find(digits, '.');
    digits = span_skip(span_make(text, dot), 1);
    if (!span_to_u64(digits, UINT32_MAX, &number))
        return NULL;
    struct spf_name *name = lib->names;
    while (name != NULL && name->number != number)
        name = name->next;
    return name;
}

static const char *real_name(struct spf_library *lib, const struct spf_name *name)
{
    if (name->domain == NULL)
        return arena_text(&lib->layer.e->out->memory, name->spec);
    return spf_layer_name(&lib->layer, name->spec, name->domain);
}

/* ------------------------------------------------------------ what it looks up */

static void add_record(SPF_dns_rr_t *rr, const void *bytes, size_t len)
{
    if (SPF_dns_rr_buf_realloc(rr, rr->num_rr, len + 1) != SPF_E_SUCCESS)
        return;
    char *to = (char *)rr->rr[rr->num_rr++];
    memcpy(to, bytes, len);
    to[len] = '\0';
    rr->herrno = NETDB_SUCCESS;
}

/* NULL: nothing to be had from it. */
static const struct fact *ask(struct spf_library *lib, const struct spf_name *name,
                              enum fact_kind kind)
{
    struct spf_layer *l = &lib->layer;
    const char *real = real_name(lib, name);
    const struct fact *f = real != NULL && real[0] != '\0' ? spf_layer_ask(l, kind, real) : NULL;
    if (f == NULL)
        return NULL;
    if (f->status == FACT_TEMPFAIL)
        spf_layer_fail(l, SPF_TEMPERROR, "a DNS look-up failed");
    else if (name->use != USE_MX_HOST) /* those are bounded by the ten names */
        spf_layer_count_void(l, f);
    return f->status == FACT_FOUND && !spf_layer_is_over(l) ? f : NULL;
}

static void answer_addresses(struct spf_library *lib, const struct spf_name *name,
                             SPF_dns_rr_t *rr)
{
    const struct ip *ip = lib->layer.macros.ip;
    const struct fact *f = ask(lib, name, spf_layer_address_kind(&lib->layer));
    if (f == NULL)
        return;
    struct span value = f->value, record;
    if (name->is_any)
        add_record(rr, ip->bytes, ip_bits(ip) / 8);
    else
        while (record_next(&value, &record))
            add_record(rr, record.at, record.len);
}

/* RFC 7208 4.6.4: more than ten hosts are an error. */
static void answer_mx(struct spf_library *lib, const struct spf_name *name, SPF_dns_rr_t *rr)
{
    const struct fact *f = ask(lib, name, FACT_MX);
    if (f == NULL)
        return;
    struct span value = f->value, record;
    spf_layer_prefetch(&lib->layer, value, 2);
    for (int i = 0; record_next(&value, &record); i++) {
        char text[32];
        if (i == SPF_NAMES_MAX)
            spf_layer_fail(&lib->layer, SPF_PERMERROR, "too many MX hosts");
        if (record.len <= 2 || i >= SPF_NAMES_MAX) /* the null MX */
            continue;
        struct spf_name *host = name_new(lib, USE_MX_HOST, span_skip(record, 2), NULL);
        host->is_any = name->is_any;
        host->is_counted = true; /* with its term */
        add_record(rr, text, (size_t)snprintf(text, sizeof text, "n%u.spf", host->number));
    }
}

static void answer_yes(SPF_dns_rr_t *rr)
{
    static const unsigned char yes[4] = { 127, 0, 0, 2 };
    add_record(rr, yes, sizeof yes);
}

/* Always A, whatever the client's family (RFC 7208 5.7). */
static void answer_exists(struct spf_library *lib, const struct spf_name *name, SPF_dns_rr_t *rr)
{
    if (ask(lib, name, FACT_A) != NULL)
        answer_yes(rr);
}

/* "ptr" goes to the library as "exists": its own has no limit and takes failures for errors. */
static void answer_ptr(struct spf_library *lib, const struct spf_name *name, SPF_dns_rr_t *rr)
{
    const char *real = real_name(lib, name);
    if (real != NULL && spf_layer_client_is(&lib->layer, real))
        answer_yes(rr);
}

static void (*const answers[USE_COUNT])(struct spf_library *lib, const struct spf_name *name,
                                        SPF_dns_rr_t *rr) = {
    [USE_A] = answer_addresses, [USE_MX] = answer_mx,   [USE_MX_HOST] = answer_addresses,
    [USE_EXISTS] = answer_exists, [USE_PTR] = answer_ptr,
};

static bool count_once(struct spf_library *lib, struct spf_name *name)
{
    bool is_counted = name->is_counted;
    name->is_counted = true;
    return is_counted || spf_layer_count_term(&lib->layer);
}

static SPF_dns_rr_t *look_up(SPF_dns_server_t *dns, const char *text, ns_type type, int cache)
{
    struct spf_library *lib = dns->hook;
    struct spf_name *name = name_find(lib, text);
    SPF_dns_rr_t *rr = SPF_dns_rr_new_init(dns, text, type, 0, NO_DATA);
    (void)cache;
    ENSURE(rr != NULL);
    if (name != NULL && answers[name->use] != NULL && count_once(lib, name))
        answers[name->use](lib, name, rr);
    if (spf_layer_is_over(&lib->layer))
        rr->herrno = TRY_AGAIN; /* ends its run */
    return rr;
}

/* ------------------------------------------------------------ the records it reads */

struct writer {
    struct spf_library *lib;
    struct buf out;
    const char *domain;
    int terms; /* with look-ups */
    int count; /* of all terms */
};

static void write_prefix(struct buf *out, const char *mark, unsigned bits, unsigned full)
{
    if (bits > 0 && bits < full)
        buf_printf(out, "%s%u", mark, bits);
}

/* A term with look-ups. At most 24 bytes in the library's form. */
static void write_named(struct writer *w, const struct spf_term *t, const char *word,
                        enum use use)
{
    bool is_v4 = w->lib->layer.macros.ip->family == 4, has_bits = use == USE_A || use == USE_MX;
    unsigned bits = is_v4 ? t->v4_bits : t->v6_bits;
    struct spf_name *name = name_new(w->lib, use, t->spec, w->domain);
    name->is_any = has_bits && bits == 0;
    buf_printf(&w->out, " %c%s:n%u.spf", t->qualifier, word, name->number);
    if (has_bits)
        write_prefix(&w->out, is_v4 ? "/" : "//", bits, is_v4 ? 32 : 128);
    w->terms++;
}

/* The library has room for 512 bytes of terms, and what is beyond it forgets without a word; so
 * those that cannot match stay away. */
static bool is_matching(const struct writer *w, const struct spf_term *t)
{
    const struct ip *ip = w->lib->layer.macros.ip;
    unsigned bits = t->mechanism == SPF_IP4 ? t->v4_bits : t->v6_bits;
    return t->network.family == ip->family && ip_in_network(ip, &t->network, bits);
}

/* The client's own network of one, for it is known to match. */
static void write_address(struct writer *w, const struct spf_term *t)
{
    const struct ip *ip = w->lib->layer.macros.ip;
    char text[IP_TEXT_MAX];
    buf_printf(&w->out, " %cip%u:%s", t->qualifier, ip->family, ip_text(ip, text));
}

/* False: nothing behind this term can be reached. */
static bool write_term(struct writer *w, const struct spf_term *t)
{
    if ((t->mechanism == SPF_IP4 || t->mechanism == SPF_IP6) && !is_matching(w, t))
        return true;
    w->count++;
    switch (t->mechanism) {
    case SPF_ALL: buf_printf(&w->out, " %call", t->qualifier); return false;
    case SPF_IP4:
    case SPF_IP6: write_address(w, t); return false;
    case SPF_INCLUDE: write_named(w, t, "include", USE_RECORD); break;
    case SPF_A: write_named(w, t, "a", USE_A); break;
    case SPF_MX: write_named(w, t, "mx", USE_MX); break;
    case SPF_PTR: write_named(w, t, "exists", USE_PTR); break;
    case SPF_EXISTS: write_named(w, t, "exists", USE_EXISTS); break;
    }
    return w->terms <= w->lib->layer.e->policy->params->spf_lookup_limit;
}

/* The records that the sender's own one includes are asked for together; what those include is
 * not, for each level would multiply the questions that a stranger can make us ask. */
static void prefetch_includes(struct writer *w, const struct spf_record *record)
{
    struct spf_layer *l = &w->lib->layer;
    int left = l->e->policy->params->spf_lookup_limit;
    for (const struct spf_term *t = record->first; t != NULL && left > 0; t = t->next) {
        if (t->mechanism != SPF_INCLUDE || spf_macro_uses(t->spec, "p"))
            continue;
        const char *name = spf_layer_name(l, t->spec, w->domain);
        if (name[0] != '\0')
            eval_want(l->e, FACT_TXT, l->scope, span_of(name));
        left--;
    }
}

/* "redirect" last, as the library wants it, and not with "all" (RFC 7208 6.1). */
static void write_record(struct writer *w, const struct spf_record *record, bool is_main)
{
    const struct spf_term *t = record->first;
    buf_puts(&w->out, "v=spf1");
    while (t != NULL && write_term(w, t))
        t = t->next;
    if (t != NULL || record->redirect.len == 0)
        return;
    struct spf_name *name = name_new(w->lib, USE_RECORD, record->redirect, w->domain);
    name->is_main = is_main;
    buf_printf(&w->out, " redirect=n%u.spf", name->number);
    w->count++;
}

/* An included or redirected domain without a record is an error (RFC 7208 5.2, 6.1). */
static void fail_selection(struct spf_library *lib, const struct spf_name *name,
                           const struct fact *txt, enum spf_selection selection)
{
    bool is_top = name->number == 0;
    if (txt->status == FACT_TEMPFAIL || txt->status == FACT_BROKEN)
        spf_layer_fail(&lib->layer, SPF_TEMPERROR, "the SPF record could not be looked up");
    else if (selection == SPF_MANY_RECORDS)
        spf_layer_fail(&lib->layer, SPF_PERMERROR, "more than one SPF record");
    else
        spf_layer_fail(&lib->layer, is_top ? SPF_NONE : SPF_PERMERROR,
                       is_top ? "" : "an included domain has no SPF record");
}

/* The record of that domain, read; false: over. */
static bool fetch_record(struct spf_library *lib, struct spf_name *name, const char *domain,
                         struct spf_record *record)
{
    static const struct fact nothing = { .status = FACT_NOT_FOUND };
    struct spf_layer *l = &lib->layer;
    struct span text;
    const struct fact *txt = domain[0] != '\0' ? spf_layer_ask(l, FACT_TXT, domain) : &nothing;
    if (txt == NULL)
        return false;
    enum spf_selection selection = spf_select(txt, &text);
    if (selection != SPF_ONE_RECORD) {
        fail_selection(lib, name, txt, selection);
        return false;
    }
    const char *problem = spf_parse(&l->e->out->memory, text, record);
    if (problem != NULL)
        spf_layer_fail(l, SPF_PERMERROR, problem);
    return problem == NULL;
}

/* The text that stands in for a record, and how many terms it has; false: over. */
static bool make_record(struct spf_library *lib, struct spf_name *name, struct buf *out,
                        int *count)
{
    struct spf_record record;
    if (name->number != 0 && !count_once(lib, name))
        return false;
    const char *domain = real_name(lib, name);
    if (domain == NULL || !fetch_record(lib, name, domain, &record))
        return false;
    if (name->is_main) {
        lib->exp = record.exp;
        lib->exp_domain = domain;
    }
    struct writer w = { .lib = lib, .domain = domain };
    if (name->number == 0)
        prefetch_includes(&w, &record);
    write_record(&w, &record, name->is_main);
    *out = w.out;
    *count = w.count;
    return true;
}

/* All of the record, or an error. */
static SPF_errcode_t compile(SPF_server_t *server, SPF_response_t *response, const char *text,
                             int count, SPF_record_t **record)
{
    SPF_errcode_t rc = SPF_record_compile(server, response, record, text);
    if (rc != SPF_E_SUCCESS || (*record)->num_mech == count)
        return rc;
    SPF_record_free(*record);
    *record = NULL;
    return SPF_E_BIG_MECH;
}

static SPF_errcode_t get_record(SPF_server_t *server, SPF_request_t *request,
                                SPF_response_t *response, SPF_record_t **record)
{
    struct spf_library *lib = server->resolver->hook;
    struct spf_name *name = name_find(lib, request->cur_dom);
    struct buf text = { 0 };
    int count;
    SPF_errcode_t rc = SPF_E_DNS_ERROR;
    if (name != NULL && make_record(lib, name, &text, &count)) {
        rc = compile(server, response, buf_text(&text), count, record);
        if (rc != SPF_E_SUCCESS)
            spf_layer_fail(&lib->layer, SPF_PERMERROR, "libspf2 does not take the record");
    }
    buf_fini(&text);
    return rc;
}

/* ------------------------------------------------------------ a run */

static void set_address(SPF_request_t *request, const struct ip *ip)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (ip->family == 4) {
        memcpy(&v4, ip->bytes, sizeof v4);
        SPF_request_set_ipv4(request, v4);
    } else {
        memcpy(&v6, ip->bytes, sizeof v6);
        SPF_request_set_ipv6(request, v6);
    }
}

static SPF_result_t query(SPF_server_t *server, const struct ip *ip)
{
    SPF_response_t *response = NULL;
    SPF_request_t *request = SPF_request_new(server);
    ENSURE(request != NULL);
    set_address(request, ip);
    SPF_request_set_helo_dom(request, "n0.spf");
    SPF_request_set_env_from(request, "x@n0.spf");
    SPF_request_query_mailfrom(request, &response);
    SPF_result_t result = response != NULL ? SPF_response_result(response) : SPF_RESULT_INVALID;
    if (response != NULL)
        SPF_response_free(response); /* before the request */
    SPF_request_free(request);
    return result;
}

static enum spf_result translate(SPF_result_t result)
{
    switch (result) {
    case SPF_RESULT_NEUTRAL: return SPF_NEUTRAL;
    case SPF_RESULT_PASS: return SPF_PASS;
    case SPF_RESULT_FAIL: return SPF_FAIL;
    case SPF_RESULT_SOFTFAIL: return SPF_SOFTFAIL;
    case SPF_RESULT_NONE: return SPF_NONE;
    case SPF_RESULT_TEMPERROR: return SPF_TEMPERROR;
    case SPF_RESULT_PERMERROR:
    case SPF_RESULT_INVALID: break;
    }
    return SPF_PERMERROR;
}

enum spf_result spf_library_run(struct spf_library *lib, const char *domain)
{
    SPF_dns_server_t dns = { .lookup = look_up, .get_spf = get_record, .name = "facts",
                             .hook = lib };
    SPF_server_t *server = SPF_server_new_dns(&dns, 0);
    ENSURE(server != NULL);
    SPF_server_set_max_dns_mech(server, INT_MAX); /* we count, over all records */
    name_new(lib, USE_RECORD, span_make("", 0), domain)->is_main = true;
    enum spf_result result = translate(query(server, lib->layer.macros.ip));
    SPF_server_free(server);
    return lib->layer.has_failed ? lib->layer.failure : result;
}
