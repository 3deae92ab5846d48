#include "server/tls.h"
#include "protocol/ip.h"
#include "protocol/list.h"
#include "protocol/mem.h"
#include "server/helper.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ------------------------------------------------------------ certificates */

enum { FILES_MAX = 16 };

/* One context with all the chains that are for it, and the state of their files. */
struct chain_set {
    struct chain_set *next;
    char *server_name;      /* owns: lower case; NULL: the default */
    char *files[FILES_MAX]; /* owns: certificate and key files in pairs */
    size_t file_count;
    struct timespec mtimes[FILES_MAX];
    SSL_CTX *ctx;           /* owns; guarded by tls->lock */
};

struct tls_config {
    pthread_rwlock_t lock;
    struct chain_set *first; /* owns: the default first */
    int min_version, max_version;
    const char *ciphers; /* lent by params */
};

static const char *openssl_error(struct arena *memory)
{
    char text[256];
    unsigned long code = ERR_peek_last_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return code != 0 ? arena_text(memory, span_of(text)) : "unknown error";
}

static void take_mtimes(const struct chain_set *set, struct timespec mtimes[FILES_MAX])
{
    struct stat st;
    for (size_t i = 0; i < set->file_count; i++)
        mtimes[i] = helper_stat(set->files[i], &st) == 0 ? st.st_mtim : (struct timespec){ 0 };
}

static int on_servername(SSL *ssl, int *alert, void *arg);

static SSL_CTX *new_context(struct tls_config *tls)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    ENSURE(ctx != NULL);
    SSL_CTX_set_min_proto_version(ctx, tls->min_version);
    SSL_CTX_set_max_proto_version(ctx, tls->max_version);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION
                                 | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets carry the state */
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"postern", 7);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_tlsext_servername_arg(ctx, tls);
    return ctx;
}

/* A file as OpenSSL reads it; NULL and *error. */
static BIO *open_file(const char *path, struct arena *memory, const char **error)
{
    int fd = helper_open(path);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (f == NULL)
        *error = arena_printf(memory, "%s: %s", path, strerror(fd < 0 ? -fd : errno));
    return f != NULL ? BIO_new_fp(f, BIO_CLOSE) : NULL;
}

/* The certificate and those above it, until there is no more. */
static bool use_chain(SSL_CTX *ctx, BIO *in)
{
    X509 *cert = PEM_read_bio_X509_AUX(in, NULL, NULL, NULL);
    bool is_good = cert != NULL && SSL_CTX_use_certificate(ctx, cert) == 1;
    X509_free(cert);
    if (!is_good || SSL_CTX_clear_chain_certs(ctx) != 1)
        return false;
    while ((cert = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL)
        if (SSL_CTX_add0_chain_cert(ctx, cert) != 1) {
            X509_free(cert);
            return false;
        }
    is_good = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (is_good)
        ERR_clear_error();
    return is_good;
}

/* Nobody sits here to type a pass phrase. */
static int no_pass_phrase(char *room, int size, int is_writing, void *arg)
{
    (void)room, (void)size, (void)is_writing, (void)arg;
    return -1;
}

static bool use_key(SSL_CTX *ctx, BIO *in)
{
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_pass_phrase, NULL);
    bool is_good = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    return is_good;
}

static const char *load_file(SSL_CTX *ctx, const char *path, bool (*use)(SSL_CTX *ctx, BIO *in),
                             struct arena *memory)
{
    const char *error = NULL;
    ERR_clear_error();
    BIO *in = open_file(path, memory, &error);
    if (in != NULL && !use(ctx, in))
        error = arena_printf(memory, "%s: %s", path, openssl_error(memory));
    BIO_free(in);
    return error;
}

static const char *load_pair(SSL_CTX *ctx, const char *cert, const char *key,
                             struct arena *memory)
{
    const char *error = load_file(ctx, cert, use_chain, memory);
    if (error == NULL)
        error = load_file(ctx, key, use_key, memory);
    if (error == NULL && SSL_CTX_check_private_key(ctx) != 1)
        error = arena_printf(memory, "%s does not belong to %s", key, cert);
    return error;
}

/* A new context from the files as they are now; NULL and *error if one is unusable. */
static SSL_CTX *load_set(struct tls_config *tls, struct chain_set *set, struct arena *memory,
                         const char **error)
{
    SSL_CTX *ctx = new_context(tls);
    take_mtimes(set, set->mtimes);
    *error = NULL;
    if (tls->ciphers[0] != '\0' && SSL_CTX_set_cipher_list(ctx, tls->ciphers) != 1)
        *error = "smtpd_tls_ciphers_list: no usable cipher";
    for (size_t i = 0; i + 1 < set->file_count && *error == NULL; i += 2)
        *error = load_pair(ctx, set->files[i], set->files[i + 1], memory);
    if (*error == NULL)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static void set_free(struct chain_set *set)
{
    for (size_t i = 0; i < set->file_count; i++)
        free(set->files[i]);
    SSL_CTX_free(set->ctx);
    free(set->server_name);
    free(set);
}

static void add_pair(struct chain_set *set, const char *cert, const char *key)
{
    if (cert[0] == '\0' || set->file_count + 2 > FILES_MAX)
        return;
    set->files[set->file_count++] = xstrdup(cert);
    set->files[set->file_count++] = xstrdup(key);
}

/* Chain files hold key and certificates both. */
static void add_chain_files(struct chain_set *set, struct span list)
{
    struct span item;
    while ((item = list_next(&list)).len > 0) {
        char *file = xprintf("%.*s", (int)item.len, item.at);
        add_pair(set, file, file);
        free(file);
    }
}

static struct chain_set *default_set(const struct params *p)
{
    struct chain_set *set = xcalloc(1, sizeof *set);
    if (p->smtpd_tls_chain_files[0] != '\0') {
        add_chain_files(set, span_of(p->smtpd_tls_chain_files));
    } else {
        add_pair(set, p->smtpd_tls_cert_file, p->smtpd_tls_key_file);
        add_pair(set, p->smtpd_tls_eccert_file, p->smtpd_tls_eckey_file);
    }
    return set;
}

/* ------------------------------------------------------------ server names */

static bool name_matches(const char *pattern, struct span name)
{
    struct span p = span_of(pattern);
    if (p.len > 1 && p.at[0] == '.')
        return name.len > p.len && span_iends(name, p);
    return span_iequals(p, name);
}

static SSL_CTX *context_for(struct tls_config *tls, const char *name)
{
    struct span n = span_of(name);
    for (struct chain_set *set = tls->first; set != NULL; set = set->next)
        if (name != NULL && set->server_name != NULL && name_matches(set->server_name, n))
            return set->ctx;
    ENSURE(tls->first != NULL); /* there is no TLS without a default certificate */
    return tls->first->ctx;
}

/* An unknown name gets the default certificate: senders rarely care, and a refusal loses mail. */
static int on_servername(SSL *ssl, int *alert, void *arg)
{
    struct tls_config *tls = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    pthread_rwlock_rdlock(&tls->lock);
    SSL_CTX *ctx = context_for(tls, name);
    if (ctx != SSL_get_SSL_CTX(ssl))
        SSL_set_SSL_CTX(ssl, ctx);
    pthread_rwlock_unlock(&tls->lock);
    return SSL_TLSEXT_ERR_OK;
}

struct sni_loader {
    struct tls_config *tls;
    struct problems *problems;
};

static void add_server_name(void *context, struct span key, struct span value)
{
    struct sni_loader *loader = context;
    struct chain_set *set = xcalloc(1, sizeof *set);
    const char *error;
    set->server_name = xprintf("%.*s", (int)key.len, key.at);
    add_chain_files(set, value);
    set->ctx = load_set(loader->tls, set, &loader->problems->memory, &error);
    if (set->ctx == NULL) {
        problems_error(loader->problems, "tls_server_sni_maps", "%s: %s", set->server_name,
                       error);
        set_free(set);
        return;
    }
    set->next = loader->tls->first->next;
    loader->tls->first->next = set;
}

static void load_server_names(struct tls_config *tls, const char *list, struct maps *maps,
                              struct problems *problems)
{
    struct sni_loader loader = { tls, problems };
    struct span rest = span_of(list), item;
    while ((item = list_next(&rest)).len > 0) {
        struct map *map = maps_get(maps, item, "tls_server_sni_maps", problems);
        if (!map_each(map, add_server_name, &loader))
            problems_error(problems, "tls_server_sni_maps",
                           "%.*s: only tables that can be read whole serve here (inline, "
                           "texthash, hash)", (int)item.len, item.at);
    }
}

/* What tls_each_file() goes through, while it goes through a table. */
struct file_walk {
    void (*each)(void *context, const char *file);
    void *context;
};

static void walk_set(struct file_walk *walk, struct chain_set *set)
{
    for (size_t i = 0; i < set->file_count; i++)
        walk->each(walk->context, set->files[i]);
    set_free(set);
}

static void walk_server_name(void *context, struct span key, struct span value)
{
    struct chain_set *set = xcalloc(1, sizeof *set);
    (void)key;
    add_chain_files(set, value);
    walk_set(context, set);
}

void tls_each_file(const struct params *params, struct maps *maps, struct problems *problems,
                   void (*each)(void *context, const char *file), void *context)
{
    struct file_walk walk = { each, context };
    struct span rest = span_of(params->tls_server_sni_maps), item;
    if (params->smtpd_tls_security_level == TLS_LEVEL_NONE)
        return;
    walk_set(&walk, default_set(params));
    while ((item = list_next(&rest)).len > 0)
        map_each(maps_get(maps, item, "tls_server_sni_maps", problems), walk_server_name, &walk);
}

/* ------------------------------------------------------------ versions */

static const struct {
    const char *name;
    int version;
} versions[] = {
    { "TLSv1", TLS1_VERSION },     { "TLSv1.0", TLS1_VERSION }, { "TLSv1.1", TLS1_1_VERSION },
    { "TLSv1.2", TLS1_2_VERSION }, { "TLSv1.3", TLS1_3_VERSION }, { "SSLv2", 1 },
    { "SSLv3", SSL3_VERSION },
};

static int version_of(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (span_iequals(name, span_of(versions[i].name)))
            return versions[i].version;
    return 0;
}

/* ">=TLSv1.2", "<=TLSv1.2", and the old "!TLSv1, !TLSv1.1". Below 1.2 nothing is offered. */
static void set_versions(struct tls_config *tls, const char *list, struct problems *problems)
{
    struct span rest = span_of(list), item;
    tls->min_version = TLS1_2_VERSION;
    tls->max_version = TLS1_3_VERSION;
    while ((item = list_next(&rest)).len > 0) {
        bool is_min = span_istarts(item, SPAN_LITERAL(">="));
        bool is_max = span_istarts(item, SPAN_LITERAL("<="));
        bool is_not = item.at[0] == '!';
        int version = version_of(span_skip(item, is_min || is_max ? 2 : is_not ? 1 : 0));
        if (version == 0)
            problems_error(problems, "smtpd_tls_protocols", "unknown version \"%.*s\"",
                           (int)item.len, item.at);
        if ((is_min && version > tls->min_version)
            || (is_not && version == TLS1_2_VERSION))
            tls->min_version = is_min ? version : TLS1_3_VERSION;
        if (is_max || (is_not && version == TLS1_3_VERSION))
            tls->max_version = is_max ? version : TLS1_2_VERSION;
    }
    if (tls->max_version < tls->min_version)
        problems_error(problems, "smtpd_tls_protocols", "leaves no version of TLS 1.2 or later");
}

/* ------------------------------------------------------------ life */

struct tls_config *tls_config_new(const struct params *params, struct maps *maps,
                                  struct problems *problems)
{
    const char *error;
    struct chain_set *set = default_set(params);
    if (set->file_count == 0 || params->smtpd_tls_security_level == TLS_LEVEL_NONE) {
        set_free(set);
        return NULL;
    }
    struct tls_config *tls = xcalloc(1, sizeof *tls);
    pthread_rwlock_init(&tls->lock, NULL);
    tls->first = set;
    tls->ciphers = params->smtpd_tls_ciphers_list;
    set_versions(tls, params->smtpd_tls_protocols, problems);
    set->ctx = load_set(tls, set, &problems->memory, &error);
    if (set->ctx == NULL) {
        problems_error(problems, "smtpd_tls_cert_file", "%s", error);
        tls_config_free(tls);
        return NULL;
    }
    load_server_names(tls, params->tls_server_sni_maps, maps, problems);
    return tls;
}

void tls_config_free(struct tls_config *tls)
{
    if (tls == NULL)
        return;
    while (tls->first != NULL) {
        struct chain_set *next = tls->first->next;
        set_free(tls->first);
        tls->first = next;
    }
    pthread_rwlock_destroy(&tls->lock);
    free(tls);
}

enum { TICKET_KEYS_BYTES = 80 };

static void copy_ticket_keys(SSL_CTX *to, SSL_CTX *from)
{
    unsigned char keys[TICKET_KEYS_BYTES];
    if (SSL_CTX_get_tlsext_ticket_keys(from, keys, sizeof keys) == 1)
        SSL_CTX_set_tlsext_ticket_keys(to, keys, sizeof keys);
    OPENSSL_cleanse(keys, sizeof keys);
}

void tls_config_inherit(struct tls_config *tls, struct tls_config *old)
{
    if (tls == NULL || old == NULL)
        return;
    pthread_rwlock_rdlock(&old->lock);
    for (struct chain_set *set = tls->first; set != NULL; set = set->next)
        copy_ticket_keys(set->ctx, context_for(old, set->server_name));
    pthread_rwlock_unlock(&old->lock);
}

static bool has_changed(const struct chain_set *set)
{
    struct timespec now[FILES_MAX];
    take_mtimes(set, now);
    for (size_t i = 0; i < set->file_count; i++)
        if (now[i].tv_sec != set->mtimes[i].tv_sec || now[i].tv_nsec != set->mtimes[i].tv_nsec)
            return true;
    return false;
}

static bool refresh_set(struct tls_config *tls, struct chain_set *set, struct problems *problems)
{
    const char *error;
    if (!has_changed(set))
        return false;
    SSL_CTX *fresh = load_set(tls, set, &problems->memory, &error);
    if (fresh == NULL) {
        problems_warning(problems, "smtpd_tls_cert_file",
                         "%s; the certificate that was loaded before stays in use", error);
        return false;
    }
    copy_ticket_keys(fresh, set->ctx);
    pthread_rwlock_wrlock(&tls->lock);
    SSL_CTX *old = set->ctx;
    set->ctx = fresh;
    pthread_rwlock_unlock(&tls->lock);
    SSL_CTX_free(old); /* connections hold their own reference */
    return true;
}

bool tls_config_refresh(struct tls_config *tls, struct problems *problems)
{
    bool is_swapped = false;
    for (struct chain_set *set = tls->first; set != NULL; set = set->next)
        is_swapped |= refresh_set(tls, set, problems);
    return is_swapped;
}

int64_t tls_config_expiry(struct tls_config *tls)
{
    struct tm end;
    int64_t seconds = 0;
    pthread_rwlock_rdlock(&tls->lock);
    const X509 *cert = SSL_CTX_get0_certificate(tls->first->ctx);
    if (cert != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) == 1)
        seconds = (int64_t)timegm(&end);
    pthread_rwlock_unlock(&tls->lock);
    return seconds;
}

bool tls_config_names(struct tls_config *tls, const char *host)
{
    pthread_rwlock_rdlock(&tls->lock);
    X509 *cert = SSL_CTX_get0_certificate(tls->first->ctx);
    bool is_named = cert != NULL && X509_check_host(cert, host, 0, 0, NULL) == 1;
    pthread_rwlock_unlock(&tls->lock);
    return is_named;
}

/* ------------------------------------------------------------ one connection */

struct tls_stream {
    SSL *ssl;         /* owns */
    struct span *in;  /* lent for one call */
    struct buf *out;  /* lent for one call */
    char error[160];
};

static int bio_read(BIO *bio, char *room, int size)
{
    struct tls_stream *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in == NULL || t->in->len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = t->in->len < (size_t)size ? t->in->len : (size_t)size;
    memcpy(room, t->in->at, n);
    *t->in = span_skip(*t->in, n);
    return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
    struct tls_stream *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ENSURE(t->out != NULL);
    return buf_append(t->out, bytes, (size_t)size) ? size : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *stream_method;
static pthread_once_t stream_method_once = PTHREAD_ONCE_INIT;

static void make_stream_method(void)
{
    stream_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postern");
    ENSURE(stream_method != NULL);
    BIO_meth_set_read(stream_method, bio_read);
    BIO_meth_set_write(stream_method, bio_write);
    BIO_meth_set_ctrl(stream_method, bio_ctrl);
}

static struct tls_stream *stream_new(SSL *ssl)
{
    struct tls_stream *t = xcalloc(1, sizeof *t);
    pthread_once(&stream_method_once, make_stream_method);
    BIO *bio = BIO_new(stream_method);
    ENSURE(ssl != NULL && bio != NULL);
    t->ssl = ssl;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return t;
}

struct tls_stream *tls_stream_new(struct tls_config *tls)
{
    pthread_rwlock_rdlock(&tls->lock);
    SSL *ssl = SSL_new(tls->first->ctx);
    pthread_rwlock_unlock(&tls->lock);
    struct tls_stream *t = stream_new(ssl);
    SSL_set_accept_state(t->ssl);
    return t;
}

struct tls_client {
    SSL_CTX *ctx; /* owns */
};

/* Mail is better encrypted to anybody than not at all: certificates are not looked at. */
struct tls_client *tls_client_new(void)
{
    struct tls_client *client = xcalloc(1, sizeof *client);
    client->ctx = SSL_CTX_new(TLS_client_method());
    ENSURE(client->ctx != NULL);
    SSL_CTX_set_min_proto_version(client->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(client->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(client->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_verify(client->ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(client->ctx, SSL_SESS_CACHE_OFF);
    return client;
}

void tls_client_free(struct tls_client *client)
{
    if (client == NULL)
        return;
    SSL_CTX_free(client->ctx);
    free(client);
}

struct tls_stream *tls_stream_new_client(struct tls_client *client, const char *host)
{
    struct tls_stream *t = stream_new(SSL_new(client->ctx));
    struct ip ip;
    if (host[0] != '\0' && !ip_parse(span_of(host), &ip)) /* RFC 6066 3: no addresses */
        SSL_set_tlsext_host_name(t->ssl, host);
    SSL_set_connect_state(t->ssl);
    return t;
}

void tls_stream_free(struct tls_stream *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    free(t);
}

static enum tls_result failed(struct tls_stream *t)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    snprintf(t->error, sizeof t->error, "%s", reason != NULL ? reason : "connection closed");
    ERR_clear_error();
    return TLS_FAILED;
}

enum tls_result tls_stream_read(struct tls_stream *t, struct span *cipher, char *room,
                                size_t room_size, size_t *size, struct buf *out)
{
    t->in = cipher;
    t->out = out;
    ERR_clear_error(); /* the queue is per thread: another connection's error may be in it */
    int n = SSL_read(t->ssl, room, room_size < INT_MAX ? (int)room_size : INT_MAX);
    int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, n);
    t->in = NULL;
    t->out = NULL;
    *size = n > 0 ? (size_t)n : 0;
    if (n > 0)
        return TLS_DATA;
    if (error == SSL_ERROR_WANT_READ)
        return TLS_WANT;
    return error == SSL_ERROR_ZERO_RETURN ? TLS_CLOSED : failed(t);
}

bool tls_stream_write(struct tls_stream *t, struct span plain, struct buf *out)
{
    t->out = out;
    ERR_clear_error();
    bool is_good = true;
    while (plain.len > 0 && is_good) {
        int n = SSL_write(t->ssl, plain.at, plain.len < INT_MAX ? (int)plain.len : INT_MAX);
        is_good = n > 0;
        plain = span_skip(plain, n > 0 ? (size_t)n : 0);
    }
    if (!is_good)
        failed(t);
    t->out = NULL;
    return is_good;
}

void tls_stream_shutdown(struct tls_stream *t, struct buf *out)
{
    t->out = out;
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl))
        SSL_shutdown(t->ssl);
    ERR_clear_error();
    t->out = NULL;
}

bool tls_stream_is_ready(const struct tls_stream *t)
{
    return SSL_is_init_finished(t->ssl);
}

bool tls_stream_is_resumed(const struct tls_stream *t)
{
    return SSL_session_reused(t->ssl);
}

const char *tls_stream_sni(const struct tls_stream *t)
{
    return SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
}

const char *tls_stream_error(const struct tls_stream *t)
{
    return t->error;
}

static void describe_exchange(const struct tls_stream *t, struct buf *out)
{
    int group = (int)SSL_get_negotiated_group(t->ssl), type = 0, digest = 0;
    if (group > 0)
        buf_printf(out, " key-exchange %s", OBJ_nid2sn(group));
    if (SSL_get_signature_type_nid(t->ssl, &type) == 1)
        buf_printf(out, " server-signature %s", OBJ_nid2sn(type));
    if (SSL_get_signature_nid(t->ssl, &digest) == 1)
        buf_printf(out, " server-digest %s", OBJ_nid2sn(digest));
}

void tls_stream_describe(const struct tls_stream *t, bool is_full, struct buf *out)
{
    int secret_bits = 0;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
    int bits = SSL_CIPHER_get_bits(cipher, &secret_bits);
    buf_printf(out, "%s with cipher %s (%d/%d bits)", SSL_get_version(t->ssl),
               SSL_CIPHER_get_name(cipher), bits, secret_bits);
    if (is_full)
        describe_exchange(t, out);
}
