#include "policy/psl.h"

#include <libpsl.h>

const char *psl_registrable(const char *name, struct arena *memory)
{
    struct span text = span_of(name);
    char *lower = arena_text(memory, text);
    for (char *c = lower; *c != '\0'; c++)
        *c = ascii_lower(*c);
    return psl_registrable_domain(psl_builtin(), lower);
}
