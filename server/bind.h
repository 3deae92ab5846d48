/* bind - TCP sockets bound to an address, ready to listen (SO_REUSEPORT, TCP_NODELAY).
 * Thread: any. */
#ifndef POSTERN_BIND_H
#define POSTERN_BIND_H

#include "protocol/ip.h"

/* A descriptor or -errno. */
int bind_tcp(const struct ip *ip, int port);

#endif
