/* crowd - do all clients come from one private address? Then it is no client: a container's bridge,
 * a translating router or a proxy hides strangers behind it, and to trust it by mynetworks would
 * make an open relay. (A relay of our own has one HELO name; strangers have many.)
 * Found:   CROWD_CLIENTS greetings from one private address under CROWD_NAMES names, and none from
 *          any other but loopback. A greeting from another address ends it.
 * Effect:  permit_mynetworks has no opinion about that address (envelope_in.is_crowd).
 * Thread:  any. */
#ifndef POSTERN_CROWD_H
#define POSTERN_CROWD_H

#include "protocol/ip.h"

enum { CROWD_CLIENTS = 20, CROWD_NAMES = 8 };

struct crowd;

struct crowd *crowd_new(void);
void crowd_free(struct crowd *crowd);

/* A client has greeted. True: this made it a crowd; somebody should be told. */
bool crowd_note(struct crowd *crowd, const struct ip *ip, const char *helo);

/* Is this the address of a crowd? crowd may be NULL. */
bool crowd_is(struct crowd *crowd, const struct ip *ip);

#endif
