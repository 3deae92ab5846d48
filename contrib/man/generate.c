/* generate - a manual page from its hand-written source and the rows of the program.
 * Usage:  generate SOURCE PAGE VERSION DATE
 * A line @PARAMETERS@ of the source becomes all rows of protocol/params.def, @RESTRICTIONS@ and
 * @UNSERVED@ those of policy/restriction.c; @VERSION@ and @DATE@ are filled in.
 * A row without text is an error: the build stops. */
#include "policy/restriction.h"
#include "server/param_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "generate: %s: %s\n", name, what);
    exit(1);
}

/* What roff would read as something else. */
static const struct {
    char c;
    const char *roff;
} escapes[] = {
    { '\\', "\\e" },   { '-', "\\-" },    { '"', "\\(dq" },  { '\'', "\\(aq" },
    { '^', "\\(ha" },  { '~', "\\(ti" },  { '`', "\\(ga" },
};

static void put_char(FILE *out, char c)
{
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
        if (escapes[i].c == c) {
            fputs(escapes[i].roff, out);
            return;
        }
    putc(c, out);
}

static void put_text(FILE *out, const char *text)
{
    if (text[0] == '.')
        fputs("\\&", out);
    for (; *text != '\0'; text++)
        put_char(out, *text);
}

/* A word that is a value, as in "may: offer STARTTLS", keeps its letter. */
static bool begins_sentence(const char *text)
{
    size_t word = strspn(text, "abcdefghijklmnopqrstuvwxyz");
    return word > 0 && (text[word] == ' ' || text[word] == ',' || text[word] == ';'
                        || text[word] == '\'' || text[word] == '\0');
}

static void put_sentence(FILE *out, const char *name, const char *text)
{
    if (text == NULL || text[0] == '\0')
        fail("this row has no text", name);
    if (begins_sentence(text)) {
        put_char(out, (char)(text[0] - 'a' + 'A'));
        text++;
    }
    put_text(out, text);
    fputs(text[strlen(text) - 1] == '.' ? "\n" : ".\n", out);
}

/* ------------------------------------------------------------ parameters */

static const char *unit_name(char unit)
{
    switch (unit) {
    case 's': return "seconds";
    case 'm': return "minutes";
    case 'h': return "hours";
    case 'd': return "days";
    case 'w': return "weeks";
    default: fail("unknown unit", "a row"); return "";
    }
}

static void put_choices(FILE *out, const char *choices)
{
    fputs(".br\nOne of: ", out);
    for (const char *c = choices; *c != '\0'; c++) {
        if (*c != '|')
            put_char(out, *c);
        else if (c > choices)
            fputs(", ", out);
    }
    fputs(choices[0] == '|' ? ", or nothing.\n" : ".\n", out);
}

static void put_values(FILE *out, const struct param_row *row)
{
    switch (row->kind) {
    case PARAM_KIND_INT:
        fprintf(out, ".br\nA number from %lld to %lld.\n", row->min, row->max);
        break;
    case PARAM_KIND_SIZE: fputs(".br\nA number of bytes.\n", out); break;
    case PARAM_KIND_TIME:
        fprintf(out, ".br\nA time; in %s if it has no unit.\n", unit_name(row->unit));
        break;
    case PARAM_KIND_BOOL: fputs(".br\nyes or no.\n", out); break;
    case PARAM_KIND_CHOICE: put_choices(out, row->choices); break;
    case PARAM_KIND_PATH: fputs(".br\nA path.\n", out); break;
    case PARAM_KIND_RAW: fputs(".br\nA template: its $names are filled in when it is used.\n", out); break;
    case PARAM_KIND_TEXT:
    case PARAM_KIND_SECTION: break;
    }
}

static void put_parameter(FILE *out, const struct param_row *row)
{
    if (row->kind == PARAM_KIND_SECTION) {
        fputs(".SS ", out);
        put_text(out, row->name);
        putc('\n', out);
        return;
    }
    fprintf(out, ".TP\n.BR %s \" (default: ", row->name);
    put_text(out, row->value[0] != '\0' ? row->value : "empty");
    fputs(")\"\n", out);
    put_sentence(out, row->name, row->text);
    put_values(out, row);
}

static void put_parameters(FILE *out)
{
    for (size_t i = 0; i < param_row_count; i++)
        put_parameter(out, &param_rows[i]);
}

/* ------------------------------------------------------------ restrictions */

static const char *argument_text(enum argument_kind kind)
{
    switch (kind) {
    case ARG_NONE: return "";
    case ARG_MAP: return " type:name";
    case ARG_NUMBER: return " number";
    case ARG_DNSBL: return " domain[=filter]";
    case ARG_SERVER: return " server";
    }
    return "";
}

static void put_rows(FILE *out, bool is_served)
{
    for (size_t i = 0; i < restriction_count; i++) {
        const struct restriction *row = &restrictions[i];
        if ((row->check != NULL) != is_served)
            continue;
        fprintf(out, ".TP\n.BI %s \"", row->name);
        put_text(out, argument_text(row->argument));
        fputs("\"\n", out);
        put_sentence(out, row->name, row->text);
    }
}

static void put_restrictions(FILE *out)
{
    put_rows(out, true);
}

static void put_unserved(FILE *out)
{
    put_rows(out, false);
}

/* ------------------------------------------------------------ pages */

static const struct {
    const char *mark;
    void (*put)(FILE *out);
} tables[] = {
    { "@PARAMETERS@\n", put_parameters },
    { "@RESTRICTIONS@\n", put_restrictions },
    { "@UNSERVED@\n", put_unserved },
};

static const char *value_of(const char *at, char **argv, size_t *skip)
{
    if (strncmp(at, "@VERSION@", 9) == 0 || strncmp(at, "@DATE@", 6) == 0) {
        bool is_version = at[1] == 'V';
        *skip = is_version ? 9 : 6;
        return argv[is_version ? 3 : 4];
    }
    return NULL;
}

static void put_line(FILE *out, const char *line, char **argv)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strcmp(line, tables[i].mark) == 0) {
            tables[i].put(out);
            return;
        }
    while (*line != '\0') {
        size_t skip;
        const char *value = value_of(line, argv, &skip);
        if (value == NULL) {
            putc(*line++, out);
            continue;
        }
        fputs(value, out);
        line += skip;
    }
}

int main(int argc, char **argv)
{
    char line[4096];
    FILE *in = argc == 5 ? fopen(argv[1], "r") : NULL;
    FILE *out = in != NULL ? fopen(argv[2], "w") : NULL;
    if (out == NULL) {
        fprintf(stderr, "usage: generate SOURCE PAGE VERSION DATE\n");
        return 64;
    }
    while (fgets(line, sizeof line, in) != NULL)
        put_line(out, line, argv);
    fclose(in);
    return ferror(out) != 0 || fclose(out) != 0;
}
