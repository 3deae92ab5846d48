/* postern greylist - through the running server's control socket; with no server, on the store
 * itself. */
#include "protocol/mem.h"
#include "server/command.h"
#include "server/control.h"
#include "server/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

static char *join(int count, char **words)
{
    struct buf line = { 0 };
    for (int i = 0; i < count; i++)
        buf_printf(&line, "%s%s", i > 0 ? " " : "", words[i]);
    char *copy = xstrdup(buf_text(&line));
    buf_fini(&line);
    return copy;
}

static int run_all_steps(struct greylist_store *g, struct greylist_command *c,
                         const struct params *params)
{
    const struct greylist_params p = store_greylist_params(params);
    struct buf out = { 0 };
    int rc = 0;
    while (rc == 0 && !c->is_done) {
        buf_clear(&out);
        rc = greylist_store_command(g, c, &p, (int64_t)time(NULL), &out);
        fwrite(out.at, 1, out.len, stdout);
    }
    buf_fini(&out);
    return rc;
}

/* Nobody serves: the store is ours as long as we hold its lock. */
static int run_offline(const struct config *config, int count, char **words)
{
    struct store *store = NULL;
    struct greylist_store greylist;
    struct buf notes = { 0 };
    char *dir = xprintf("%s/store", config->params.data_directory);
    char *rest = join(count - 1, words + 1);
    struct greylist_command c = { .verb = words[0], .words = rest };
    int rc = store_open(dir, config->params.store_cache_mb, &store, &notes);
    fprintf(stderr, "%s", buf_text(&notes));
    if (rc == 0 && (rc = greylist_store_begin(&greylist, store)) == 0) {
        rc = run_all_steps(&greylist, &c, &config->params);
        greylist_store_end(&greylist);
    }
    if (rc != 0)
        fprintf(stderr, "postern: %s: %s\n", dir, store_error_text(rc));
    store_close(store);
    buf_fini(&notes);
    free(rest);
    free(dir);
    return rc == 0 ? EX_OK : EX_UNAVAILABLE;
}

int command_greylist(int argc, char **argv)
{
    struct command_options options;
    int rest = command_options(argc, argv, &options);
    if (rest < 1) {
        fprintf(stderr, "usage: postern greylist [-c FILE] list [TEXT] | stats | allow WHO |\n"
                        "         forget ID-OR-TEXT | expect RECIPIENT [MINUTES]\n");
        return EX_USAGE;
    }
    struct config *config = command_load(&options);
    if (config == NULL)
        return EX_CONFIG;
    char *words = join(rest, argv), *line = xprintf("greylist %s", words);
    int code = control_ask(config->params.control_socket, line);
    if (code < 0)
        code = run_offline(config, rest, argv);
    free(line);
    free(words);
    config_release(config);
    return code;
}
