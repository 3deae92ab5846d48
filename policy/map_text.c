/* texthash: a text file, inline: the pairs in main.cf itself (spec 6.1, 6.3). */
#include "policy/map_type.h"
#include "policy/table.h"
#include "policy/text_table.h"
#include "protocol/list.h"

static enum map_result table_map_find(void *data, struct span key, struct buf *value)
{
    struct span found;
    if (!table_find(data, key, &found))
        return MAP_NOT_FOUND;
    buf_add(value, found);
    return MAP_FOUND;
}

static void table_map_close(void *data)
{
    table_free(data);
}

static const struct table *table_map_table(const void *data)
{
    return data;
}

static bool add_pair(void *context, struct span key, struct span value)
{
    return table_add(context, key, value);
}

static void *texthash_open(struct map_source *source, const char **error)
{
    struct buf text = { 0 };
    struct table *table = NULL;
    if (map_read_file(source, &text, error)) {
        table = table_new();
        text_table_read(buf_span(&text), source->path, source->problems, add_pair, table);
        table_trim(table);
    }
    buf_fini(&text);
    return table;
}

/* "key=value" or "{key = value with blanks}". */
static bool add_inline(struct table *table, struct span item)
{
    struct span pair = item;
    char key[1024];
    list_unbrace(item, &pair);
    size_t equals = span_find(pair, '=');
    struct span name = span_trim(span_make(pair.at, equals));
    struct span value = span_trim(span_skip(pair, equals + 1));
    if (name.len == 0 || name.len > sizeof key || value.len == 0)
        return false;
    for (size_t i = 0; i < name.len; i++)
        key[i] = ascii_lower(name.at[i]);
    table_put(table, span_make(key, name.len), value); /* the last one wins */
    return true;
}

static void *inline_open(struct map_source *source, const char **error)
{
    struct span list, item;
    if (!list_unbrace(source->name, &list)) {
        *error = "inline: needs {key=value, ...}";
        return NULL;
    }
    struct table *table = table_new();
    while ((item = list_next(&list)).len > 0) {
        if (!add_inline(table, item)) {
            *error = arena_printf(&source->problems->memory,
                                  "\"%.*s\" is not key=value with both of them", (int)item.len,
                                  item.at);
            table_free(table);
            return NULL;
        }
    }
    if (table_count(table) > 0)
        return table;
    *error = "inline: needs at least one key=value";
    table_free(table);
    return NULL;
}

const struct map_type map_type_texthash = {
    .name = "texthash", .suffix = "", .is_partial = true, .is_folding = true,
    .open = texthash_open, .find = table_map_find, .close = table_map_close,
    .table = table_map_table,
};

const struct map_type map_type_inline = {
    .name = "inline", .is_partial = true, .is_folding = true,
    .open = inline_open, .find = table_map_find, .close = table_map_close,
    .table = table_map_table,
};
