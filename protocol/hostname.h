/* hostname - what counts as a host name, an address and an address literal (spec 2.11,
 * RFC 5321 4.1.3, RFC 1123 2.1). No look-ups.
 * Thread: any. */
#ifndef POSTERN_HOSTNAME_H
#define POSTERN_HOSTNAME_H

#include "protocol/ip.h"

enum { HOSTNAME_MAX = 255, HOSTNAME_LABEL_MAX = 63 };

/* Letters, digits, '_', '-' in labels of 1..63, no empty label, no '-' at a label's end, and
 * something besides digits and dots. UTF-8 is allowed where the caller says so (U-labels). */
bool hostname_is_valid(struct span name, bool utf8_ok);

/* Without one trailing dot. */
struct span hostname_without_dot(struct span name);

/* "d.d.d.d" or IPv6, as the name of a host: more is taken than by ip_parse(). */
bool hostaddr_parse(struct span text, struct ip *ip);

/* "[d.d.d.d]" or "[IPv6:...]"; false for anything else in brackets. */
bool address_literal_parse(struct span text, struct ip *ip);

#endif
