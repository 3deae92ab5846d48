#include "certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>

static bool fill(X509 *cert, EVP_PKEY *key)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, 2) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1)
           && X509_gmtime_adj(X509_getm_notBefore(cert), 0) != NULL
           && X509_gmtime_adj(X509_getm_notAfter(cert), 86400) != NULL
           && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                         (const unsigned char *)"mx.example.org", -1, -1, 0)
           && X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key)
           && X509_sign(cert, key, EVP_sha256()) > 0;
}

bool certificate_make(const char *file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *f = fopen(file, "we");
    bool is_good = key != NULL && cert != NULL && f != NULL && fill(cert, key)
                   && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL)
                   && PEM_write_X509(f, cert);
    if (f != NULL && fclose(f) != 0)
        is_good = false;
    X509_free(cert);
    EVP_PKEY_free(key);
    return is_good;
}
