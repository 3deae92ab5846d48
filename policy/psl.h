/* psl - the registrable domain of a host name, by the Public Suffix List (libpsl's own copy).
 * Thread: any. */
#ifndef POSTERN_PSL_H
#define POSTERN_PSL_H

#include "protocol/arena.h"

/* "example.co.uk" of "mx1.example.co.uk"; NULL for a public suffix itself. */
const char *psl_registrable(const char *name, struct arena *memory);

#endif
