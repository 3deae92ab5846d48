#include "policy/map.h"
#include "policy/map_type.h"
#include "protocol/list.h"
#include "protocol/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct map_type *const map_types[] = {
    &map_type_hash, &map_type_btree,  &map_type_texthash, &map_type_inline, &map_type_static,
    &map_type_cidr, &map_type_regexp, &map_type_pcre,     &map_type_fail,   &map_type_unix,
};

/* Types of Postfix that are not here, so that the message can say so. */
static const char *const foreign_types[] = {
    "cdb",   "environ",  "internal", "ldap",      "lmdb",   "memcache", "mysql",    "nis",
    "nisplus", "pgsql",  "pipemap",  "randmap",   "sdbm",   "socketmap", "sqlite",  "tcp",
    "unionmap",
};

/* What tells one state of a file from another. */
struct file_stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

/* One state of a table. Who looks something up holds it, so that a slow look-up keeps neither a
 * refresh nor other readers waiting; the last one closes it. */
struct contents {
    const struct map_type *type;
    void *data;
    bool is_slow;
    atomic_int references;
};

struct map {
    struct map *next;
    const struct map_type *type;
    char *name;          /* owns: "hash:/etc/x", as written */
    char *path;          /* owns: NULL without a file */
    pthread_mutex_t lock; /* guards contents; never held for long */
    struct contents *contents; /* holds: NULL: unusable */
    char *error;         /* owns: why contents is NULL */
    struct file_stamp stamp;
};

/* A file that is read but is no table. */
struct noted {
    struct noted *next;
    char path[];
};

struct maps {
    struct map *first;   /* owns */
    struct noted *noted; /* owns */
    char *base_dir;    /* owns */
};

struct maps *maps_new(const char *base_dir)
{
    struct maps *maps = xcalloc(1, sizeof *maps);
    maps->base_dir = xstrdup(base_dir);
    return maps;
}

static struct contents *contents_new(const struct map_type *type, void *data)
{
    struct contents *contents = xcalloc(1, sizeof *contents);
    contents->type = type;
    contents->data = data;
    contents->is_slow = type->data_is_slow != NULL ? type->data_is_slow(data) : type->is_slow;
    atomic_init(&contents->references, 1);
    return contents;
}

static struct contents *contents_hold(struct map *map)
{
    pthread_mutex_lock(&map->lock);
    struct contents *contents = map->contents;
    if (contents != NULL)
        atomic_fetch_add(&contents->references, 1);
    pthread_mutex_unlock(&map->lock);
    return contents;
}

static void contents_release(struct contents *contents)
{
    if (contents == NULL || atomic_fetch_sub(&contents->references, 1) != 1)
        return;
    contents->type->close(contents->data);
    free(contents);
}

/* fresh takes the place of what is there. */
static void contents_swap(struct map *map, struct contents *fresh)
{
    pthread_mutex_lock(&map->lock);
    struct contents *old = map->contents;
    map->contents = fresh;
    pthread_mutex_unlock(&map->lock);
    contents_release(old);
}

static void map_free(struct map *map)
{
    contents_release(map->contents);
    pthread_mutex_destroy(&map->lock);
    free(map->error);
    free(map->path);
    free(map->name);
    free(map);
}

void maps_free(struct maps *maps)
{
    if (maps == NULL)
        return;
    while (maps->first != NULL) {
        struct map *next = maps->first->next;
        map_free(maps->first);
        maps->first = next;
    }
    while (maps->noted != NULL) {
        struct noted *next = maps->noted->next;
        free(maps->noted);
        maps->noted = next;
    }
    free(maps->base_dir);
    free(maps);
}

void maps_note_file(struct maps *maps, const char *path)
{
    size_t size = strlen(path) + 1;
    struct noted *noted = xmalloc(sizeof *noted + size);
    memcpy(noted->path, path, size);
    noted->next = maps->noted;
    maps->noted = noted;
}

void maps_each_file(const struct maps *maps, void (*each)(void *context, const char *path),
                    void *context)
{
    for (const struct map *map = maps->first; map != NULL; map = map->next)
        if (map->path != NULL)
            each(context, map->path);
    for (const struct noted *noted = maps->noted; noted != NULL; noted = noted->next)
        each(context, noted->path);
}

/* Cuts "type:" off *name; NULL if the type is unknown. */
static const struct map_type *cut_type(struct span *name)
{
    if (span_istarts(*name, SPAN_LITERAL("proxy:")))
        *name = span_skip(*name, 6);
    size_t colon = span_find(*name, ':');
    for (size_t i = 0; i < ARRAY_LEN(map_types) && colon < name->len; i++) {
        if (!span_equals(span_make(name->at, colon), span_of(map_types[i]->name)))
            continue;
        *name = span_skip(*name, colon + 1);
        return map_types[i];
    }
    return NULL;
}

bool map_is_name(struct span text)
{
    return cut_type(&text) != NULL;
}

void map_type_names(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(map_types); i++)
        buf_printf(out, "%s%s", i > 0 ? ", " : "", map_types[i]->name);
}

static bool is_foreign_type(struct span type)
{
    for (size_t i = 0; i < ARRAY_LEN(foreign_types); i++)
        if (span_equals(type, span_of(foreign_types[i])))
            return true;
    return false;
}

static const char *why_unknown(struct span name, struct problems *problems)
{
    size_t colon = span_find(name, ':');
    struct buf known = { 0 };
    map_type_names(&known);
    const char *text = arena_printf(
        &problems->memory, "%s table type \"%.*s\" (there are: %s)",
        is_foreign_type(span_make(name.at, colon)) ? "unsupported" : "unknown", (int)colon,
        name.at, buf_text(&known));
    buf_fini(&known);
    return text;
}

static bool take_stamp(const struct map *map, struct file_stamp *stamp)
{
    struct stat st;
    memset(stamp, 0, sizeof *stamp);
    if (map->path == NULL || stat(map->path, &st) != 0)
        return false;
    stamp->dev = st.st_dev;
    stamp->ino = st.st_ino;
    stamp->size = st.st_size;
    stamp->mtime = st.st_mtim;
    return true;
}

/* Opens the table's present contents. The stamp is taken before reading: a change during the
 * reading shows at the next refresh. */
static struct contents *map_load(struct map *map, struct problems *problems,
                                 const char **error)
{
    struct span name = span_of(map->name);
    cut_type(&name);
    struct map_source source = { .full_name = map->name, .name = name, .path = map->path,
                                 .problems = problems };
    *error = NULL;
    take_stamp(map, &map->stamp);
    void *data = map->type->open(&source, error);
    if (source.is_busy)
        memset(&map->stamp, 0, sizeof map->stamp); /* the next refresh tries again */
    return data != NULL ? contents_new(map->type, data) : NULL;
}

static char *path_of(const struct maps *maps, const struct map_type *type, struct span name)
{
    bool is_inline = type->has_inline_form && name.len > 0 && name.at[0] == '{';
    if (type->suffix == NULL || is_inline)
        return NULL;
    const char *dir = name.len > 0 && name.at[0] == '/' ? "" : maps->base_dir;
    return xprintf("%s%s%.*s%s", dir, dir[0] != '\0' ? "/" : "", (int)name.len, name.at,
                   type->suffix);
}

static struct map *map_new(struct maps *maps, struct span full_name)
{
    struct map *map = xcalloc(1, sizeof *map);
    struct span name = full_name;
    map->type = cut_type(&name);
    map->name = xprintf("%.*s", (int)full_name.len, full_name.at);
    if (map->type == NULL)
        map->type = &map_type_fail;
    else
        map->path = path_of(maps, map->type, name);
    pthread_mutex_init(&map->lock, NULL);
    map->next = maps->first;
    maps->first = map;
    return map;
}

struct map *maps_get(struct maps *maps, struct span full_name, const char *parameter,
                     struct problems *problems)
{
    const char *error = NULL;
    for (struct map *map = maps->first; map != NULL; map = map->next)
        if (span_equals(span_of(map->name), full_name))
            return map;
    struct map *map = map_new(maps, full_name);
    if (!map_is_name(full_name)) {
        error = why_unknown(full_name, problems);
        problems_error(problems, parameter, "%s", error);
    } else if ((map->contents = map_load(map, problems, &error)) == NULL) {
        problems_warning(problems, parameter, "table %s: %s", map->name, error);
    }
    map->error = error != NULL ? xstrdup(error) : NULL;
    return map;
}

static bool has_changed(const struct map *map)
{
    struct file_stamp now;
    return take_stamp(map, &now) && memcmp(&now, &map->stamp, sizeof now) != 0;
}

static bool map_refresh(struct map *map, struct problems *problems)
{
    const char *error;
    if (!has_changed(map))
        return false;
    struct contents *fresh = map_load(map, problems, &error);
    if (fresh == NULL && map->stamp.ino != 0) {
        problems_warning(problems, map->name, "%s; %s", error,
                         map->contents != NULL ? "its old contents stay" : "still unusable");
    }
    if (fresh == NULL)
        return false;
    contents_swap(map, fresh);
    free(map->error);
    map->error = NULL;
    return true;
}

int maps_refresh(struct maps *maps, struct problems *problems)
{
    int swapped = 0;
    for (struct map *map = maps->first; map != NULL; map = map->next)
        swapped += map_refresh(map, problems);
    return swapped;
}

const char *map_name(const struct map *map)
{
    return map->name;
}

bool map_is_partial(const struct map *map)
{
    return map->type->is_partial;
}

bool map_is_slow(struct map *map)
{
    pthread_mutex_lock(&map->lock);
    bool is_slow = map->contents != NULL ? map->contents->is_slow : map->type->is_slow;
    pthread_mutex_unlock(&map->lock);
    return is_slow;
}

const char *map_error(const struct map *map)
{
    return map->error;
}

enum { MAP_KEY_MAX = 4096 };

static struct span fold(struct span key, char room[MAP_KEY_MAX])
{
    for (size_t i = 0; i < key.len; i++)
        room[i] = ascii_lower(key.at[i]);
    return span_make(room, key.len);
}

enum map_result map_find(struct map *map, struct span key, struct buf *value)
{
    char room[MAP_KEY_MAX];
    enum map_result result = MAP_BROKEN;
    if (key.len == 0 || key.len > sizeof room)
        return MAP_NOT_FOUND;
    if (map->type->is_folding)
        key = fold(key, room);
    struct contents *contents = contents_hold(map);
    if (contents != NULL)
        result = contents->type->find(contents->data, key, value);
    contents_release(contents);
    return result;
}

bool map_each(struct map *map, void (*each)(void *context, struct span key, struct span value),
              void *context)
{
    struct span key, value;
    size_t cursor = 0;
    struct contents *contents = contents_hold(map);
    const struct table *table = NULL;
    if (contents != NULL && contents->type->table != NULL)
        table = contents->type->table(contents->data);
    while (table != NULL && table_next(table, &cursor, &key, &value))
        each(context, key, value);
    contents_release(contents);
    return table != NULL;
}

static enum map_result find_direct(void *context, struct map *map, struct span key,
                                   struct buf *value)
{
    (void)context;
    return map_find(map, key, value);
}

const struct map_reader map_reader_direct = { .find = find_direct };

void map_list_compile(struct map_list *list, struct maps *maps, const char *text,
                      const char *parameter, struct arena *memory, struct problems *problems)
{
    struct span rest = span_of(text), item;
    *list = (struct map_list){ 0 };
    while ((item = list_next(&rest)).len > 0)
        list->count++;
    list->maps = arena_alloc(memory, list->count * sizeof *list->maps);
    rest = span_of(text);
    for (size_t i = 0; i < list->count; i++)
        list->maps[i] = maps_get(maps, list_next(&rest), parameter, problems);
}

enum map_result map_list_find(const struct map_list *list, const struct map_reader *reader,
                              struct span key, bool is_whole, struct buf *value)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!is_whole && !map_is_partial(list->maps[i]))
            continue;
        size_t before = value->len;
        enum map_result result = reader->find(reader->context, list->maps[i], key, value);
        if (result == MAP_FOUND && value->len == before)
            return MAP_BROKEN; /* as Postfix: an empty value is a mistake, not a hit */
        if (result != MAP_NOT_FOUND)
            return result;
    }
    return MAP_NOT_FOUND;
}

bool map_read_file(const struct map_source *source, struct buf *text, const char **error)
{
    int fd = open(source->path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char *room = buf_reserve(text, 65536);
        n = read(fd, room, 65536);
        if (n > 0)
            text->len += (size_t)n;
    }
    if (n < 0)
        *error = arena_printf(&source->problems->memory, "%s: %s", source->path,
                              strerror(errno));
    if (fd >= 0)
        close(fd);
    return n == 0;
}

bool map_rule_text(const struct map_source *source, struct buf *text, const char **error)
{
    struct span list, rule;
    if (source->path != NULL)
        return map_read_file(source, text, error);
    if (!list_unbrace(source->name, &list)) {
        *error = "the rules must stand in braces: {{rule}, {rule}}";
        return false;
    }
    for (;;) {
        struct span item = list_next_comma(&list);
        if (item.len == 0)
            return true;
        if (!list_unbrace(item, &rule)) {
            *error = "each rule must stand in braces of its own";
            return false;
        }
        buf_add(text, rule);
        buf_putc(text, '\n');
    }
}
