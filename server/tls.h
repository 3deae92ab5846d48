/* tls - certificates, and one TLS connection as bytes in, bytes out (OpenSSL 3; RFC 3207, 8446).
 * struct tls_config  the certificates of a configuration: default chains (RSA and ECDSA side by
 *                    side) and chains by server name. tls_config_refresh() reads changed files
 *                    again; a pair that does not match keeps the old one. Thread: any.
 * struct tls_stream  one connection; no sockets: ciphertext is lent to it, what it wants to send
 *                    is appended to a buffer. Thread: the connection's loop.
 * Versions: TLS 1.2 and up. Renegotiation and compression are off, tickets resume sessions, also
 *           across a reload. Buffers are released while a connection is idle. */
#ifndef POSTERN_TLS_H
#define POSTERN_TLS_H

#include "policy/map.h"
#include "protocol/params.h"

struct tls_config;
struct tls_stream;

/* NULL when no certificate is configured, or none is usable (see problems). */
struct tls_config *tls_config_new(const struct params *params, struct maps *maps,
                                  struct problems *problems);
void tls_config_free(struct tls_config *tls);

/* Every certificate and key file that the parameters name, read or not. */
void tls_each_file(const struct params *params, struct maps *maps, struct problems *problems,
                   void (*each)(void *context, const char *file), void *context);

/* Reads again what has changed on disk. True: something was swapped. */
bool tls_config_refresh(struct tls_config *tls, struct problems *problems);

/* Takes over the ticket keys, so that sessions of the old configuration resume. */
void tls_config_inherit(struct tls_config *tls, struct tls_config *old);

/* Seconds since the epoch at which the default certificate ends; 0: unknown. */
int64_t tls_config_expiry(struct tls_config *tls);

/* Is the default certificate for this host? */
bool tls_config_names(struct tls_config *tls, const char *host);

struct tls_stream *tls_stream_new(struct tls_config *tls);

/* The other side, towards next hops: TLS 1.2 and up, any certificate (RFC 7435). host: the name
 * that is asked for; an address or "" asks for none. */
struct tls_client;

struct tls_client *tls_client_new(void);
void tls_client_free(struct tls_client *client);
struct tls_stream *tls_stream_new_client(struct tls_client *client, const char *host);

void tls_stream_free(struct tls_stream *t);

enum tls_result {
    TLS_DATA,   /* *size bytes of plaintext */
    TLS_WANT,   /* all ciphertext is used up */
    TLS_CLOSED, /* close_notify */
    TLS_FAILED, /* tls_stream_error() says why */
};

/* Decrypts from *cipher into room; during the handshake there is no plaintext. Whatever is to be
 * sent (handshake, alerts) goes to out, after an error too. */
enum tls_result tls_stream_read(struct tls_stream *t, struct span *cipher, char *room,
                                size_t room_size, size_t *size, struct buf *out);

/* Encrypts plain to out. */
bool tls_stream_write(struct tls_stream *t, struct span plain, struct buf *out);

/* Appends close_notify. */
void tls_stream_shutdown(struct tls_stream *t, struct buf *out);
bool tls_stream_is_ready(const struct tls_stream *t);
bool tls_stream_is_resumed(const struct tls_stream *t);
/* The name the client asked for; NULL: none. */
const char *tls_stream_sni(const struct tls_stream *t);
const char *tls_stream_error(const struct tls_stream *t);

/* "TLSv1.3 with cipher X (256/256 bits)"; is_full: key exchange and signature too. */
void tls_stream_describe(const struct tls_stream *t, bool is_full, struct buf *out);

#endif
