/* Lists, logical lines, $name: what main.cf values and text tables are made of. */
#include "fuzz/fuzz.h"
#include "protocol/expand.h"
#include "protocol/lines.h"
#include "protocol/list.h"

static void lists(struct span text)
{
    struct span rest = text, item, inside;
    size_t count = 0;
    while ((item = list_next(&rest)).len > 0) {
        ENSURE(++count <= text.len && item.at >= text.at && item.len <= text.len);
        if (list_unbrace(item, &inside))
            ENSURE(inside.len + 2 <= item.len);
    }
    rest = text;
    count = 0;
    while ((item = list_next_comma(&rest)).len > 0)
        ENSURE(++count <= text.len);
    list_is_balanced(text);
}

static void logical_lines(struct span text)
{
    struct lines l;
    struct span line;
    int last = 0;
    lines_begin(&l, text);
    while (lines_next(&l, &line)) {
        ENSURE(l.line > last && line.len > 0);
        ENSURE(span_find(line, '\n') == line.len);
        last = l.line;
    }
    lines_fini(&l);
}

/* Names mean other parts of the text: "a" the first quarter, and so on. */
static const char *lookup(void *context, struct span name)
{
    struct fuzz *f = context;
    size_t quarter = f->text.len / 4, i = name.len == 1 ? (size_t)(name.at[0] - 'a') : 9;
    if (i > 3)
        return NULL;
    return arena_text(&f->memory, span_make(f->text.at + i * quarter, quarter));
}

static void found(void *context, struct span name)
{
    struct fuzz *f = context;
    ENSURE(name.at >= f->text.at && name.at + name.len <= f->text.at + f->text.len);
}

static void expansions(struct fuzz *f)
{
    struct buf out = { .max = 2000 };
    struct expand x = { .lookup = lookup, .context = f, .is_recursive = f->seed % 2 == 1 };
    bool is_good = expand_text(&x, f->text, &out);
    ENSURE(is_good || x.error != NULL);
    ENSURE(out.len <= out.max);
    expand_names(f->text, found, f);
    buf_fini(&out);
}

void fuzz_one(struct fuzz *f)
{
    lists(f->text);
    logical_lines(f->text);
    expansions(f);
}
