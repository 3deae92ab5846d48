#include "protocol/lines.h"

void lines_begin(struct lines *l, struct span text)
{
    *l = (struct lines){ .rest = text, .next_line = 1 };
}

void lines_fini(struct lines *l)
{
    buf_fini(&l->logical);
}

static struct span physical_line(struct lines *l)
{
    size_t end = span_find(l->rest, '\n');
    struct span line = span_make(l->rest.at, end);
    l->rest = span_skip(l->rest, end + 1);
    l->next_line++;
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    return line;
}

static bool is_ignored(struct span line)
{
    struct span text = span_trim(line);
    return text.len == 0 || text.at[0] == '#';
}

/* The next physical line continues the logical one; ignored lines between are stepped over. */
static bool has_continuation(struct lines *l)
{
    while (l->rest.len > 0) {
        struct span line = span_make(l->rest.at, span_find(l->rest, '\n'));
        if (!is_ignored(line))
            return ascii_is_space(line.at[0]);
        physical_line(l);
    }
    return false;
}

bool lines_next(struct lines *l, struct span *line)
{
    struct span first = { 0 };
    do {
        if (l->rest.len == 0)
            return false;
        l->line = l->next_line;
        first = physical_line(l);
    } while (is_ignored(first));
    l->is_orphan = ascii_is_space(first.at[0]);
    buf_clear(&l->logical);
    buf_add(&l->logical, first);
    while (has_continuation(l))
        buf_add(&l->logical, physical_line(l));
    *line = buf_span(&l->logical);
    return true;
}
