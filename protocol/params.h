/* params - every parameter's value, typed: one field per row of params.def, Postfix's spelling.
 * Units:  times are milliseconds, sizes bytes, texts expanded ($name is gone).
 * Owns:   nothing; texts belong to whoever filled the struct (server/config.c) and live as
 *         long as it does.
 * The rows stand here, at the bottom, because protocol, policy and queue all read them; only
 * server/ parses main.cf. Thread: any, read only. */
#ifndef POSTERN_PARAMS_H
#define POSTERN_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

struct params {
#define PARAM_SECTION(title)
#define PARAM_BOOL(name, value, text)            bool name;
#define PARAM_INT(name, value, min, max, text)   int name;
#define PARAM_SIZE(name, value, text)            int64_t name;
#define PARAM_TIME(name, value, unit, text)      int64_t name;
#define PARAM_TEXT(name, value, text)            const char *name;
#define PARAM_RAW(name, value, text)             const char *name;
#define PARAM_PATH(name, value, text)            const char *name;
#define PARAM_CHOICE(name, value, choices, text) int name;
#include "protocol/params.def"
};

/* The values of PARAM_CHOICE rows, in the order of their choices. */
enum bare_newline { BARE_NEWLINE_NORMALIZE, BARE_NEWLINE_YES, BARE_NEWLINE_REJECT };
enum tls_level { TLS_LEVEL_DEFAULT, TLS_LEVEL_NONE, TLS_LEVEL_MAY, TLS_LEVEL_ENCRYPT };
enum tempfail_action { TEMPFAIL_DEFER_IF_PERMIT, TEMPFAIL_DEFER };
enum proxy_protocol { PROXY_PROTOCOL_NONE, PROXY_PROTOCOL_HAPROXY };
enum log_target { LOG_TARGET_AUTO, LOG_TARGET_STDOUT, LOG_TARGET_FILE, LOG_TARGET_SYSLOG };
enum log_format { LOG_FORMAT_POSTFIX, LOG_FORMAT_JSON };
enum greylist_key { GREYLIST_KEY_IDENTITY, GREYLIST_KEY_NETWORK, GREYLIST_KEY_ADDRESS };
enum sandbox_mode { SANDBOX_AUTO, SANDBOX_YES, SANDBOX_NO };
enum newline_form { NEWLINE_AS_RECEIVED, NEWLINE_LF };

#endif
