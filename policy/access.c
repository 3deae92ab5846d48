#include "policy/access.h"
#include "policy/plan.h"
#include "policy/restriction.h"
#include "protocol/mem.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

#include <stdio.h>

/* ------------------------------------------------------------ keys */

static enum map_result find(struct eval *e, struct map *map, struct span key, bool is_whole,
                            struct buf *value)
{
    if (!is_whole && !map_is_partial(map))
        return MAP_NOT_FOUND;
    return e->reader.find(e->reader.context, map, key, value);
}

/* The domain, then what is left behind each dot; with a dot in front if the parents are matched
 * that way. */
static enum map_result find_domain(struct eval *e, struct map *map, struct span name,
                                   bool is_whole, struct buf *value)
{
    struct ip ip;
    enum map_result result = find(e, map, name, is_whole, value);
    if (ip_parse(name, &ip))
        return result;
    while (result == MAP_NOT_FOUND) {
        size_t dot = span_find(name, '.');
        if (dot == name.len)
            break;
        struct span parent = span_skip(name, dot + 1);
        if (parent.len == 0)
            break;
        result = find(e, map, e->policy->parents_without_dot ? parent : span_skip(name, dot),
                      false, value);
        name = parent;
    }
    return result;
}

/* 192.0.2.10, 192.0.2, 192.0, 192; 2001:db8::1, 2001:db8:, 2001:db8, 2001. */
static enum map_result find_address(struct eval *e, struct map *map, const struct ip *ip,
                                    struct buf *value)
{
    char text[IP_TEXT_MAX];
    struct span key = span_of(ip_text(ip, text));
    char separator = ip->family == 6 ? ':' : '.';
    enum map_result result = find(e, map, key, true, value);
    while (result == MAP_NOT_FOUND) {
        size_t cut = span_find_last(key, separator);
        if (cut == key.len || cut == 0)
            break;
        key = span_make(key.at, cut);
        result = find(e, map, key, false, value);
    }
    return result;
}

enum map_result access_find_host(struct eval *e, struct map *map, struct span name,
                                 const struct ip *ip, struct buf *value)
{
    enum map_result result = find_domain(e, map, name, true, value);
    if (result != MAP_NOT_FOUND || ip == NULL || ip->family == 0)
        return result;
    return find_address(e, map, ip, value);
}

static enum map_result find_local(struct eval *e, struct map *map, struct span local,
                                  struct span domain, bool is_whole, bool is_quoted,
                                  struct buf *value)
{
    struct buf key = { 0 };
    if (is_quoted)
        smtp_path_quote_local(&key, local);
    else
        buf_add(&key, local);
    buf_putc(&key, '@');
    buf_add(&key, domain);
    enum map_result result = find(e, map, buf_span(&key), is_whole, value);
    buf_fini(&key);
    return result;
}

/* Each form first quoted, if it needs quotes, then bare. */
static enum map_result find_both(struct eval *e, struct map *map, struct span local,
                                 struct span domain, bool is_whole, struct buf *value)
{
    enum map_result result = MAP_NOT_FOUND;
    if (smtp_path_needs_quotes(local))
        result = find_local(e, map, local, domain, is_whole, true, value);
    if (result == MAP_NOT_FOUND)
        result = find_local(e, map, local, domain, is_whole, false, value);
    return result;
}

enum map_result access_find_mail(struct eval *e, struct map *map,
                                 const struct resolved *address, struct buf *value)
{
    static const struct span none = { "", 0 };
    bool has_extension = address->extension.len > 0;
    enum map_result r = find_both(e, map, address->local, address->domain, true, value);
    if (r == MAP_NOT_FOUND && has_extension)
        r = find_both(e, map, address->user, address->domain, false, value);
    if (r == MAP_NOT_FOUND && map_is_partial(map))
        r = find_domain(e, map, address->domain, false, value);
    if (r == MAP_NOT_FOUND)
        r = find_both(e, map, address->local, none, false, value);
    if (r == MAP_NOT_FOUND && has_extension)
        r = find_both(e, map, address->user, none, false, value);
    return r;
}

/* ------------------------------------------------------------ status codes */

/* By the last digit of X.1.n; of a longer number, such as X.1.10, nothing is known. */
static const char *status_of_sender(struct span n)
{
    static const char *const of[] = { "1.0", "1.7", "1.8", "1.7", "1.7",
                                      "1.0", "1.7", "1.7", "1.8", "1.0" };
    return n.len == 1 ? of[n.at[0] - '0'] : "1.0";
}

static const char *status_of_recipient(struct span n)
{
    static const char *const of[] = { "1.0", "1.1", "1.2", "1.3", "1.4",
                                      "1.5", "1.6", "1.3", "1.2", "1.0" };
    return n.len == 1 ? of[n.at[0] - '0'] : "1.0";
}

const char *access_repair_status(struct eval *e, struct span status, int code,
                                 enum subject subject)
{
    struct arena *memory = &e->out->memory;
    char class = (char)('0' + code / 100);
    const char *rest = NULL;
    bool is_address = status.len >= 5 && status.at[2] == '1' && status.at[3] == '.';
    struct span n = span_skip(status, 4);
    if (is_address && subject == SUBJECT_SENDER)
        rest = status_of_sender(n);
    else if (is_address && subject == SUBJECT_RECIPIENT)
        rest = status_of_recipient(n);
    else if (is_address)
        rest = "0.0";
    if (rest != NULL)
        return arena_printf(memory, "%c.%s", class, rest);
    char *copy = arena_text(memory, status);
    copy[0] = class;
    return copy;
}

/* ------------------------------------------------------------ actions */

struct action {
    struct eval *e;
    struct span text; /* behind the first word */
    enum subject subject;
    const char *source;
};

/* Cuts an enhanced status off the text; default_status if there is none. */
static const char *cut_status(struct action *a, int code, const char *default_status)
{
    size_t n = smtp_enhanced_length(a->text);
    struct span status = n > 0 ? span_make(a->text.at, n) : span_of(default_status);
    a->text = span_trim(span_skip(a->text, n));
    return access_repair_status(a->e, status, code, n > 0 ? a->subject : SUBJECT_LIST);
}

static enum verdict refuse(struct action *a, int code, const char *default_status,
                           const char *default_text)
{
    const char *status = cut_status(a, code, default_status);
    struct span text = a->text.len > 0 ? a->text : span_of(default_text);
    return eval_reject(a->e, code, status, "%s%.*s", eval_prefix(a->e, a->subject),
                       (int)text.len, text.at);
}

static enum verdict do_permit(struct action *a)
{
    (void)a;
    return VERDICT_PERMIT;
}

static enum verdict do_dunno(struct action *a)
{
    (void)a;
    return VERDICT_DUNNO;
}

static enum verdict do_reject(struct action *a)
{
    return refuse(a, a->e->policy->params->access_map_reject_code, "5.7.1", "Access denied");
}

static enum verdict do_defer(struct action *a)
{
    return refuse(a, a->e->policy->params->access_map_defer_code, "4.7.1", "Access denied");
}

static enum verdict do_defer_if_permit(struct action *a)
{
    int code = a->e->policy->params->access_map_defer_code;
    const char *status = cut_status(a, code, "4.7.1");
    struct span text = a->text.len > 0 ? a->text : SPAN_LITERAL("Service unavailable");
    return eval_defer_if_permit(a->e, code, status, "%s%.*s", eval_prefix(a->e, a->subject),
                                (int)text.len, text.at);
}

static enum verdict do_defer_if_reject(struct action *a)
{
    int code = a->e->policy->params->access_map_defer_code;
    const char *status = cut_status(a, code, "4.7.1");
    struct span text = a->text.len > 0 ? a->text : SPAN_LITERAL("Service unavailable");
    return eval_defer_if_reject(a->e, code, status, "%s%.*s", eval_prefix(a->e, a->subject),
                                (int)text.len, text.at);
}

static enum verdict note(struct action *a, const char *tag)
{
    eval_note(a->e, tag, "%s%.*s", eval_prefix(a->e, a->subject), (int)a->text.len, a->text.at);
    return VERDICT_DUNNO;
}

static enum verdict do_warn(struct action *a)
{
    return note(a, "warn");
}

static enum verdict do_info(struct action *a)
{
    return note(a, "info");
}

static enum verdict complain(struct action *a, const char *what)
{
    eval_note(a->e, "warning", "%s: %s: \"%.*s\"", a->source, what, (int)a->text.len, a->text.at);
    return VERDICT_DUNNO;
}

/* "<name>: CLASS triggers HOLD action" */
static void note_trigger(struct action *a, const char *tag, const char *action)
{
    const char *prefix = eval_prefix(a->e, a->subject);
    size_t len = strlen(prefix) - strlen(" rejected: ");
    eval_note(a->e, tag, "%.*s triggers %s action", (int)len, prefix, action);
}

/* Effects on a message need one to be there (spec 1.2). */
static bool has_transaction(struct action *a, const char *action)
{
    if (a->e->in->stage >= STAGE_MAIL)
        return true;
    eval_note(a->e, "warning", "%s: %s is ignored before MAIL", a->source, action);
    return false;
}

static enum verdict do_hold(struct action *a)
{
    if (has_transaction(a, "HOLD") && !a->e->out->is_hold) {
        a->e->out->is_hold = true;
        note_trigger(a, "hold", "HOLD");
    }
    return VERDICT_DUNNO;
}

static enum verdict do_discard(struct action *a)
{
    if (!has_transaction(a, "DISCARD"))
        return VERDICT_DUNNO;
    a->e->out->is_discard = true;
    note_trigger(a, "discard", "DISCARD");
    return VERDICT_PERMIT;
}

static bool is_header_line(struct span text)
{
    size_t n = 0;
    while (n < text.len && text.at[n] > ' ' && text.at[n] < 0x7f && text.at[n] != ':')
        n++;
    return n > 0 && n < text.len && text.at[n] == ':';
}

static enum verdict do_prepend(struct action *a)
{
    struct outcome *out = a->e->out;
    if (!is_header_line(a->text))
        return complain(a, "PREPEND needs \"name: value\"");
    if (a->e->in->stage == STAGE_END_OF_DATA)
        return complain(a, "PREPEND comes too late at the end of data");
    if (!has_transaction(a, "PREPEND"))
        return VERDICT_DUNNO;
    if (out->prepends_end == NULL)
        out->prepends_end = &out->prepends;
    const char *line = text_escaped(&out->memory, a->text, 900);
    out->prepends_end = eval_add_text(a->e, out->prepends_end, line);
    return VERDICT_DUNNO;
}

static enum verdict do_redirect(struct action *a)
{
    if (span_find(a->text, '@') == a->text.len)
        return complain(a, "REDIRECT needs user@domain");
    if (has_transaction(a, "REDIRECT")) {
        a->e->out->redirect = arena_text(&a->e->out->memory, a->text);
        note_trigger(a, "redirect", "REDIRECT");
    }
    return VERDICT_DUNNO;
}

static enum verdict do_bcc(struct action *a)
{
    struct outcome *out = a->e->out;
    if (span_find(a->text, '@') == a->text.len)
        return complain(a, "BCC needs user@domain");
    if (!has_transaction(a, "BCC"))
        return VERDICT_DUNNO;
    if (out->bccs_end == NULL)
        out->bccs_end = &out->bccs;
    out->bccs_end = eval_add_text(a->e, out->bccs_end, arena_text(&out->memory, a->text));
    return VERDICT_DUNNO;
}

static enum verdict do_filter(struct action *a)
{
    return complain(a, "FILTER is not served");
}

static const struct {
    const char *word;
    enum verdict (*run)(struct action *a);
} actions[] = {
    { "OK", do_permit },
    { "RELAY", do_permit },
    { "DUNNO", do_dunno },
    { "REJECT", do_reject },
    { "DEFER", do_defer },
    { "DEFER_IF_PERMIT", do_defer_if_permit },
    { "DEFER_IF_REJECT", do_defer_if_reject },
    { "WARN", do_warn },
    { "INFO", do_info },
    { "HOLD", do_hold },
    { "DISCARD", do_discard },
    { "PREPEND", do_prepend },
    { "REDIRECT", do_redirect },
    { "BCC", do_bcc },
    { "FILTER", do_filter },
};

static bool all_digits(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.at[i]))
            return false;
    return text.len > 0;
}

static bool is_reply_code(struct span word)
{
    return word.len == 3 && all_digits(word) && (word.at[0] == '4' || word.at[0] == '5');
}

/* Three digits and nothing else: Postfix takes that for "all digits", which permits; hardly
 * anybody means it (spec Appendix B 2). */
static enum verdict do_number(struct action *a, struct span word)
{
    bool permits = a->e->policy->params->access_map_bare_code_permits || !is_reply_code(word);
    eval_note(a->e, "warning", "%s: the value is just \"%.*s\", which %s", a->source,
              (int)word.len, word.at, permits ? "permits" : "is taken as a refusal");
    if (permits)
        return VERDICT_PERMIT;
    return refuse(a, (word.at[0] - '0') * 100 + (word.at[1] - '0') * 10 + (word.at[2] - '0'),
                  "5.7.1", "Access denied");
}

/* Anything else is a restriction list, evaluated in place. */
static enum verdict do_list(struct action *a, struct span action)
{
    struct eval *e = a->e;
    struct problems problems = { 0 };
    struct rules_list rules;
    const struct plan_context context = {
        .policy = e->policy, .memory = &e->out->memory, .problems = &problems,
        .parameter = a->source, .list = e->list,
    };
    plan_compile(&rules, action, &context);
    enum verdict verdict = VERDICT_DUNNO;
    if (problems.error_count > 0)
        verdict = eval_configuration_error(
            e, arena_printf(&e->out->memory, "%s: %s", a->source, problems.first->text));
    else
        verdict = eval_rules(e, &rules);
    problems_fini(&problems);
    return verdict;
}

enum verdict access_apply(struct eval *e, struct span action, enum subject subject,
                          const char *source)
{
    struct span rest = span_trim(action), all = rest;
    struct span word = span_next_word(&rest);
    struct action a = { .e = e, .text = span_trim(rest), .source = source,
                        .subject = eval_subject(e, subject) };
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (span_iequals(word, span_of(actions[i].word)))
            return actions[i].run(&a);
    if (all_digits(all))
        return do_number(&a, word);
    if (is_reply_code(word)) {
        int code = (word.at[0] - '0') * 100 + (word.at[1] - '0') * 10 + (word.at[2] - '0');
        return refuse(&a, code, "5.7.1", "Access denied");
    }
    return do_list(&a, all);
}
