/* static:, fail: and unix:passwd.byname (spec 6.1). */
#include "policy/map_type.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <pwd.h>
#include <stdlib.h>

static void *static_open(struct map_source *source, const char **error)
{
    struct span text = source->name;
    (void)error;
    list_unbrace(text, &text);
    return xprintf("%.*s", (int)text.len, text.at);
}

static enum map_result static_find(void *data, struct span key, struct buf *value)
{
    (void)key;
    buf_puts(value, data);
    return MAP_FOUND;
}

static void *fail_open(struct map_source *source, const char **error)
{
    (void)source, (void)error;
    return xstrdup("");
}

static enum map_result fail_find(void *data, struct span key, struct buf *value)
{
    (void)data, (void)key, (void)value;
    return MAP_BROKEN;
}

static void *unix_open(struct map_source *source, const char **error)
{
    if (span_equals(source->name, SPAN_LITERAL("passwd.byname")))
        return xstrdup("");
    *error = "unix: knows only passwd.byname";
    return NULL;
}

static enum map_result unix_find(void *data, struct span key, struct buf *value)
{
    char room[4096], name[256];
    struct passwd user, *found = NULL;
    (void)data;
    if (key.len >= sizeof name)
        return MAP_NOT_FOUND;
    memcpy(name, key.at, key.len);
    name[key.len] = '\0';
    if (getpwnam_r(name, &user, room, sizeof room, &found) != 0)
        return MAP_RETRY;
    if (found == NULL)
        return MAP_NOT_FOUND;
    buf_puts(value, user.pw_name);
    return MAP_FOUND;
}

const struct map_type map_type_static = {
    .name = "static", .is_partial = true,
    .open = static_open, .find = static_find, .close = free,
};

const struct map_type map_type_fail = {
    .name = "fail", .open = fail_open, .find = fail_find, .close = free,
};

const struct map_type map_type_unix = {
    .name = "unix", .is_partial = true, .is_slow = true,
    .open = unix_open, .find = unix_find, .close = free,
};
