/* A whole main.cf: parsed, expanded, all its lists compiled. No file is opened and nobody asked. */
#include "fuzz/fuzz.h"
#include "server/config.h"

#include <netdb.h>
#include <stdio.h>

/* In place of the C library's. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)node, (void)service, (void)hints, (void)result;
    return EAI_NONAME;
}

static void check(struct config *config, const struct problems *problems)
{
    struct buf value = { 0 };
    int errors = 0;
    for (const struct problem *p = problems->first; p != NULL; p = p->next) {
        errors += p->level == PROBLEM_ERROR;
        ENSURE(p->subject != NULL && p->text != NULL);
    }
    ENSURE(errors <= problems->error_count);
    for (const struct main_cf_entry *e = config->cf.first; e != NULL; e = e->next) {
        buf_clear(&value);
        config_expanded(config, e->name, &value);
    }
    buf_fini(&value);
}

void fuzz_one(struct fuzz *f)
{
    struct problems problems = { 0 };
    char *told = NULL;
    size_t size;
    if (fuzz_names_files(f->text))
        return;
    const char *text = arena_text(&f->memory, f->text);
    struct config *config = config_load("/nonexistent/main.cf", text, &problems);
    FILE *stream = open_memstream(&told, &size);
    check(config, &problems);
    config_print_problems(config, &problems, stream);
    fclose(stream);
    free(told);
    config_release(config);
    problems_fini(&problems);
}
