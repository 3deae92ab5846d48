#include "server/command.h"
#include "protocol/mem.h"
#include "server/version.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage, *text;
} verbs[] = {
    { "serve", command_serve, "[-c FILE] [--set NAME=VALUE]...", "run the server" },
    { "check", command_check, "[-c FILE]", "find every mistake in the configuration" },
    { "config", command_config, "[-c FILE] [-n|-d|-j] [-h] [-x] [NAME...]",
      "show parameters: all, changed, default, as JSON" },
    { "doctor", command_doctor, "[-c FILE] [DOMAIN]", "is this host fit to receive mail?" },
    { "explain", command_explain, "--client IP [--helo H] [--from S] [--to R] ...",
      "why it would be taken or refused" },
    { "greylist", command_greylist, "list [TEXT] | stats | allow | forget | expect ...",
      "the greylist, while the server runs or not" },
    { "map", command_map, "query TYPE:NAME KEY | make TYPE:FILE", "look up, or build, a table" },
    { "queue", command_queue, "list [-j] | show | flush | hold | release | delete ...",
      "the mail that waits, while the server runs or not" },
    { "version", command_version, "", "version and libraries" },
};

static int usage(FILE *out, int code)
{
    fprintf(out, "postern %s, a mail server for incoming mail\n\nusage:\n", POSTERN_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(out, "  postern %s %-46s %s\n", verbs[i].name, verbs[i].usage, verbs[i].text);
    fprintf(out, "\nThe configuration is %s unless -c names another.\n", POSTERN_CONFIG_FILE);
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0)
        name = "version";
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0)
        return usage(stdout, EX_OK);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(name, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    return usage(stderr, EX_USAGE);
}
