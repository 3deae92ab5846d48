/* mynetworks and the lists of domains: one line with a list, then words. */
#include "fuzz/fuzz.h"
#include "policy/match_list.h"

static void ask(const struct match_list *list, struct span word)
{
    struct ip ip = { 0 };
    enum match is_word = match_list_word(list, &map_reader_direct, word);
    ENSURE(is_word <= MATCH_ERROR);
    ENSURE(match_list_word(list, &map_reader_direct, word) == is_word);
    if (!ip_parse(word, &ip))
        return;
    match_list_covers(list, &ip);
    ENSURE(match_list_host(list, &map_reader_direct, SPAN_LITERAL("unknown"), &ip) <= MATCH_ERROR);
}

void fuzz_one(struct fuzz *f)
{
    struct problems problems = { 0 };
    struct match_list list = { 0 };
    struct span text = fuzz_line(f);
    if (fuzz_names_files(text))
        return;
    struct maps *maps = maps_new("/nonexistent");
    const struct match_source source = { .maps = maps, .base_dir = "/nonexistent",
                                         .parent_domains = f->seed % 2 == 0 ? "mydestination" : "",
                                         .memory = &f->memory, .problems = &problems };
    match_list_compile(&list, arena_text(&f->memory, text), "mydestination", &source);
    for (int i = 0; i < 20 && f->text.len > 0; i++)
        ask(&list, fuzz_line(f));
    match_list_report_common(&list, &list, &problems);
    maps_free(maps);
    problems_fini(&problems);
}
