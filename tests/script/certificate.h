/* certificate - a fresh key and a self-signed certificate in one PEM file, for STARTTLS.
 * False: OpenSSL or the file did not want to. */
#ifndef POSTERN_TESTS_CERTIFICATE_H
#define POSTERN_TESTS_CERTIFICATE_H

#include <stdbool.h>

bool certificate_make(const char *file);

#endif
