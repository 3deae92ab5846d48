/* Lookup tables in text: a line with a key, then the table. The same key has the same answer. */
#include "fuzz/fuzz.h"
#include "policy/map_type.h"

#include <sys/mman.h>
#include <unistd.h>

static const struct map_type *const types[] = {
    &map_type_texthash, &map_type_cidr, &map_type_pcre, &map_type_regexp, &map_type_inline,
};

static int file = -1;

void fuzz_begin(void)
{
    file = memfd_create("table", MFD_CLOEXEC);
    ENSURE(file >= 0);
}

static void look(const struct map_type *type, void *data, struct span key)
{
    struct buf once = { 0 }, again = { 0 };
    enum map_result result = type->find(data, key, &once);
    ENSURE(result <= MAP_BROKEN);
    ENSURE(type->find(data, key, &again) == result);
    ENSURE(span_equals(buf_span(&once), buf_span(&again)));
    buf_fini(&once);
    buf_fini(&again);
}

void fuzz_one(struct fuzz *f)
{
    const struct map_type *type = types[f->seed % ARRAY_LEN(types)];
    struct problems problems = { 0 };
    struct span key = fuzz_line(f);
    char *path = xprintf("/proc/self/fd/%d", file);
    const char *error = NULL;
    struct map_source source = { .full_name = "table", .name = f->text, .problems = &problems,
                                 .path = type->suffix != NULL ? path : NULL };
    ENSURE(ftruncate(file, 0) == 0);
    ENSURE(pwrite(file, f->text.at, f->text.len, 0) == (ssize_t)f->text.len);
    void *data = type->open(&source, &error);
    ENSURE(data != NULL || error != NULL || source.is_busy);
    if (data != NULL) {
        if (key.len > 0)
            look(type, data, key);
        type->close(data);
    }
    free(path);
    problems_fini(&problems);
}
