#include "server/command.h"
#include "protocol/mem.h"
#include "server/config.h"
#include "server/param_table.h"
#include "server/server.h"
#include "server/version.h"

#include "policy/map_db.h"
#include "protocol/expand.h"

#include <db.h>
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

int command_options(int argc, char **argv, struct command_options *out)
{
    int kept = 0;
    *out = (struct command_options){ .file = POSTERN_CONFIG_FILE };
    for (int i = 1; i < argc; i++) {
        bool is_file = strcmp(argv[i], "-c") == 0, is_set = strcmp(argv[i], "--set") == 0;
        if (!is_file && !is_set) {
            argv[kept++] = argv[i];
            continue;
        }
        if (++i == argc || (is_set && out->setting_count == (int)ARRAY_LEN(out->settings))) {
            fprintf(stderr, "postern: %s needs a value\n", argv[i - 1]);
            return -1;
        }
        if (is_file)
            out->file = argv[i];
        else
            out->settings[out->setting_count++] = argv[i];
    }
    return kept;
}

/* The configuration in use; NULL after its problems were printed. A warning never stops us. */
static struct config *load(const struct command_options *options, bool is_quiet)
{
    struct problems problems = { 0 };
    struct config *config = config_load_with(options->file, NULL, options->settings,
                                             (size_t)options->setting_count, &problems);
    config_lint_host(config, &problems);
    bool is_good = problems.error_count == 0;
    if (!is_quiet || !is_good)
        config_print_problems(config, &problems, stderr);
    problems_fini(&problems);
    if (is_good)
        return config;
    config_release(config);
    return NULL;
}

struct config *command_load(const struct command_options *options)
{
    return load(options, true);
}

static int refuse_words(int rest, char **argv)
{
    fprintf(stderr, "postern: what is \"%s\"? (postern --help)\n", rest > 0 ? argv[0] : "");
    return EX_USAGE;
}

int command_serve(int argc, char **argv)
{
    struct command_options options;
    int rest = command_options(argc, argv, &options);
    if (rest != 0)
        return rest < 0 ? EX_USAGE : refuse_words(rest, argv);
    struct config *config = load(&options, false);
    if (config == NULL)
        return EX_CONFIG;
    int code = server_run(config);
    config_release(config);
    return code;
}

int command_check(int argc, char **argv)
{
    struct command_options options;
    struct problems problems = { 0 };
    int rest = command_options(argc, argv, &options);
    if (rest != 0)
        return rest < 0 ? EX_USAGE : refuse_words(rest, argv);
    struct config *config = config_load_with(options.file, NULL, options.settings,
                                             (size_t)options.setting_count, &problems);
    config_lint_host(config, &problems);
    config_print_problems(config, &problems, stdout);
    printf("%s: %d errors, %d warnings\n", config->file, problems.error_count,
           problems.count - problems.error_count);
    int code = problems.error_count > 0 ? EX_CONFIG : EX_OK;
    problems_fini(&problems);
    config_release(config);
    return code;
}

/* ------------------------------------------------------------ config */

struct listing_options {
    bool changed_only, defaults, json, values_only, expanded;
};

static bool read_flags(int *rest, char **argv, struct listing_options *out)
{
    int kept = 0;
    for (int i = 0; i < *rest; i++) {
        if (argv[i][0] != '-') {
            argv[kept++] = argv[i];
            continue;
        }
        for (const char *flag = argv[i] + 1; *flag != '\0'; flag++) {
            switch (*flag) {
            case 'n': out->changed_only = true; break;
            case 'd': out->defaults = true; break;
            case 'j': out->json = true; break;
            case 'h': out->values_only = true; break;
            case 'x': out->expanded = true; break;
            default: return false;
            }
        }
    }
    *rest = kept;
    return true;
}

static void print_json(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < ' ')
            printf("\\u%04x", (unsigned)(unsigned char)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

struct printer {
    struct listing_options options;
    int count;
};

static void print_value(struct printer *p, const char *name, const char *value)
{
    if (p->options.json) {
        printf("%s\n  ", p->count > 0 ? "," : "{");
        print_json(name);
        printf(": ");
        print_json(value);
    } else if (p->options.values_only) {
        printf("%s\n", value);
    } else {
        printf("%s = %s\n", name, value);
    }
    p->count++;
}

static void print_name(struct printer *p, struct config *config, const char *name)
{
    struct buf text = { 0 };
    const struct main_cf_entry *entry = main_cf_find(&config->cf, span_of(name));
    const struct param_row *row = param_find(span_of(name));
    const char *value = row != NULL ? row->value : "";
    if (p->options.changed_only && entry == NULL)
        return;
    if (p->options.expanded)
        value = config_expanded(config, name, &text);
    else if (entry != NULL && !p->options.defaults)
        value = entry->value;
    else if (row != NULL && value[0] == '\0' && !p->options.defaults)
        value = config_expanded(config, name, &text); /* computed: myhostname, mynetworks */
    print_value(p, name, value);
    buf_fini(&text);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All names there are: declared ones and those that only the file has. */
static size_t collect_names(const struct config *config, const char ***names)
{
    size_t count = 0, cap = param_row_count;
    for (const struct main_cf_entry *e = config->cf.first; e != NULL; e = e->next)
        cap++;
    *names = xcalloc(cap, sizeof **names);
    for (size_t i = 0; i < param_row_count; i++)
        if (param_rows[i].kind != PARAM_KIND_SECTION)
            (*names)[count++] = param_rows[i].name;
    for (const struct main_cf_entry *e = config->cf.first; e != NULL; e = e->next)
        if (param_find(span_of(e->name)) == NULL)
            (*names)[count++] = e->name;
    qsort(*names, count, sizeof **names, compare_names);
    return count;
}

static int print_config(struct config *config, struct printer *printer, int count, char **argv)
{
    const char **names;
    int code = EX_OK;
    size_t all = collect_names(config, &names);
    for (size_t i = 0; i < all && count == 0; i++)
        print_name(printer, config, names[i]);
    for (int i = 0; i < count; i++) {
        if (param_find(span_of(argv[i])) == NULL
            && main_cf_find(&config->cf, span_of(argv[i])) == NULL) {
            fprintf(stderr, "postern: %s: unknown parameter\n", argv[i]);
            code = EX_DATAERR;
        } else {
            print_name(printer, config, argv[i]);
        }
    }
    if (printer->options.json)
        printf("%s\n}\n", printer->count > 0 ? "" : "{");
    free(names);
    return code;
}

int command_config(int argc, char **argv)
{
    struct command_options options;
    struct printer printer = { 0 };
    struct problems problems = { 0 };
    int rest = command_options(argc, argv, &options);
    if (rest < 0 || !read_flags(&rest, argv, &printer.options))
        return refuse_words(rest, argv);
    bool needs_file = !printer.options.defaults;
    struct config *config = config_load_with(options.file, needs_file ? NULL : "",
                                             options.settings, (size_t)options.setting_count,
                                             &problems);
    config_print_problems(config, &problems, stderr);
    int code = print_config(config, &printer, rest, argv);
    problems_fini(&problems);
    config_release(config);
    return code;
}

/* ------------------------------------------------------------ map */

static void print_problems(const struct problems *problems)
{
    for (const struct problem *p = problems->first; p != NULL; p = p->next) {
        if (p->file != NULL)
            fprintf(stderr, "%s:%d: %s\n", p->file, p->line, p->text);
        else
            fprintf(stderr, "postern: %s: %s\n", p->subject, p->text);
    }
}

static int map_query(const char *name, const char *key)
{
    struct problems problems = { 0 };
    struct buf value = { 0 };
    char cwd[PATH_MAX] = "/";
    struct maps *maps = maps_new(getcwd(cwd, sizeof cwd));
    struct map *map = maps_get(maps, span_of(name), name, &problems);
    print_problems(&problems);
    enum map_result result = map_find(map, span_of(key), &value);
    if (result == MAP_FOUND)
        printf("%s\n", buf_text(&value));
    buf_fini(&value);
    maps_free(maps);
    problems_fini(&problems);
    return result == MAP_FOUND ? EX_OK : result == MAP_NOT_FOUND ? 1 : EX_UNAVAILABLE;
}

static int read_source(const char *path, struct buf *text)
{
    FILE *f = fopen(path, "re");
    size_t n = f != NULL ? 1 : 0;
    while (n > 0) {
        char *room = buf_reserve(text, 65536);
        n = fread(room, 1, 65536, f);
        text->len += n;
    }
    int rc = f == NULL || ferror(f) ? errno : 0;
    if (f != NULL)
        fclose(f);
    return rc;
}

static int map_make(const char *name)
{
    struct problems problems = { 0 };
    struct buf text = { 0 };
    bool is_hash = strncmp(name, "hash:", 5) == 0, is_btree = strncmp(name, "btree:", 6) == 0;
    if (!is_hash && !is_btree) {
        fprintf(stderr, "postern: %s: only hash: and btree: tables have to be made\n", name);
        return EX_USAGE;
    }
    const char *path = strchr(name, ':') + 1;
    int rc = read_source(path, &text);
    if (rc != 0)
        fprintf(stderr, "postern: %s: %s\n", path, strerror(rc));
    else
        rc = map_db_make(path, is_btree, buf_span(&text), &problems);
    print_problems(&problems);
    problems_fini(&problems);
    buf_fini(&text);
    return rc == 0 ? EX_OK : EX_CANTCREAT;
}

int command_map(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "query") == 0)
        return map_query(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "make") == 0)
        return map_make(argv[2]);
    fprintf(stderr, "usage: postern map query TYPE:NAME KEY\n       postern map make TYPE:FILE\n");
    return EX_USAGE;
}

int command_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("postern %s\n", POSTERN_VERSION);
    printf("libuv %s\n", uv_version_string());
    printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
    printf("%s\n", db_version(NULL, NULL, NULL));
    printf("built with %s\n", POSTERN_BUILD);
    return EX_OK;
}
