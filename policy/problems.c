#include "policy/problems.h"

#include <stdarg.h>
#include <stdio.h>

void problems_fini(struct problems *p)
{
    arena_fini(&p->memory);
    *p = (struct problems){ 0 };
}

void problems_add(struct problems *p, enum problem_level level, const char *subject,
                  const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list ap;
    p->count++;
    p->error_count += level == PROBLEM_ERROR;
    if (p->count > PROBLEMS_MAX)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    struct problem *one = arena_alloc(&p->memory, sizeof *one);
    one->level = level;
    one->subject = arena_text(&p->memory, span_of(subject));
    one->file = file != NULL ? arena_text(&p->memory, span_of(file)) : NULL;
    one->line = line;
    one->text = arena_text(&p->memory, span_of(text));
    *(p->last != NULL ? &p->last->next : &p->first) = one;
    p->last = one;
}
