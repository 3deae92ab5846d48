/* log_json - the form of a log line as one JSON object (RFC 8259).
 *   {"time":"2026-11-26T12:00:00.123456Z","host":"mx","name":"postern","component":"smtpd",
 *    "id":7,"queue_id":"NOQUEUE","event":"reject","command":"RCPT","client_name":"unknown",
 *    "client_address":"192.0.2.7","code":"554","dsn":"5.7.1","from":"a@b","to":"c@d",
 *    "proto":"ESMTP","helo":"x","text":"NOQUEUE: reject: RCPT from ..."}
 * "text" is the line as it is in the other format; the members come from whoever writes the line
 * (log_member() in log.h), never out of the text, so that nobody's address can forge one.
 * Bytes that are no UTF-8, and control characters, become \u00XX.
 * Thread: any. */
#ifndef POSTERN_LOG_JSON_H
#define POSTERN_LOG_JSON_H

#include "protocol/buf.h"

#include <time.h>

void json_string(struct buf *out, struct span text);

/* "name":"value" with a comma in front. */
void json_member(struct buf *out, const char *name, struct span value);

/* RFC 3339, UTC, with microseconds, in quotes. */
void json_time(struct buf *out, const struct timespec *time);

#endif
