/* log - every line the program writes (DESIGN: one event, one line, Postfix's words).
 * Shape:  "Mon DD HH:MM:SS host postern/smtpd[ID]: text"; to syslog and under a journal without
 *         the time. ID is the connection's number where lines belong to one, else the pid.
 *         With log_format = json an object a line (log_json.h).
 * Order:  a struct log belongs to one loop and gathers its lines; log_flush() writes them with
 *         one system call, before the loop sleeps. The sink behind it is shared.
 * Bounds: a line is at most LOG_LINE_MAX bytes; lines that a stuck pipe cannot take are kept up
 *         to LOG_BACKLOG_MAX bytes, then dropped and counted. A loop never waits for a reader.
 * Text from a peer must have been escaped (protocol/text.h) before it comes here.
 * Thread: a struct log one at a time; the sink any. */
#ifndef POSTERN_LOG_H
#define POSTERN_LOG_H

#include "protocol/buf.h"
#include "protocol/params.h"

#include <stdarg.h>
#include <stdint.h>

enum { LOG_LINE_MAX = 2000, LOG_BACKLOG_MAX = 1 << 20 };

struct log_sink;

struct log {
    struct log_sink *sink; /* lent */
    struct buf lines;      /* owns */
    struct buf members;    /* owns: of the line to come, with log_format = json */
    uint64_t dropped;
    int64_t stamp_second;
    char stamp[32];
};

/* NULL and *error when the file or socket cannot be opened. */
struct log_sink *log_sink_open(const struct params *params, const char **error);
void log_sink_close(struct log_sink *sink);

/* Opens the file again (after rotation) under new parameters; the old one stays on error. */
const char *log_sink_reopen(struct log_sink *sink, const struct params *params);

void log_init(struct log *log, struct log_sink *sink);
void log_fini(struct log *log);

/* A member of the JSON object that the next line becomes; nothing in the other format. The value
 * need not be escaped. */
void log_member(struct log *log, const char *name, struct span value);

/* component: "smtpd", "cleanup", "qmgr", "virtual", "master". number 0: the pid. */
void log_line(struct log *log, const char *component, uint64_t number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void log_line_v(struct log *log, const char *component, uint64_t number, const char *format,
                va_list ap) __attribute__((format(printf, 4, 0)));
void log_flush(struct log *log);

#endif
