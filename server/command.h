/* command - the verbs of the command line (DESIGN 2). Each gets its own words, and returns an
 * exit code of sysexits(3).
 * Thread: main. */
#ifndef POSTERN_COMMAND_H
#define POSTERN_COMMAND_H

struct config;

int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_config(int argc, char **argv);
int command_map(int argc, char **argv);
int command_greylist(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_queue(int argc, char **argv);
int command_version(int argc, char **argv);

/* "-c FILE" and "--set name=value" in front of other words. */
struct command_options {
    const char *file;
    const char *settings[64];
    int setting_count;
};

/* Takes the options off argv, moves the rest to the front and returns its count; -1: usage. */
int command_options(int argc, char **argv, struct command_options *out);

/* The configuration; NULL after its errors were printed. Warnings are not. */
struct config *command_load(const struct command_options *options);

#endif
