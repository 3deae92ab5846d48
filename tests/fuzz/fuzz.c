#include "fuzz/fuzz.h"
#include "protocol/text.h"

#include <stdlib.h>

enum { PIECE_MAX = 40 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (fuzz_begin != NULL)
        fuzz_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = { 0 };
    if (size == 0)
        return 0;
    f.seed = data[0];
    f.random = seeded_begin(f.seed);
    f.text = span_make((const char *)data + 1, size - 1);
    fuzz_cut_pieces(&f);
    fuzz_one(&f);
    free(f.piece);
    arena_fini(&f.memory);
    return 0;
}

void fuzz_cut_whole(struct fuzz *f)
{
    f->is_whole = true;
}

void fuzz_cut_pieces(struct fuzz *f)
{
    f->is_whole = f->seed == '0';
    f->pieces = seeded_begin(f->seed + 1000u);
}

bool fuzz_piece(struct fuzz *f, struct span *text, struct span *piece)
{
    size_t n = f->is_whole ? text->len : f->seed == '1' ? 1 : 1 + seeded_below(&f->pieces, PIECE_MAX);
    if (n > text->len)
        n = text->len;
    if (n == 0)
        return false;
    free(f->piece);
    f->piece = xmalloc(n);
    memcpy(f->piece, text->at, n);
    *piece = span_make(f->piece, n);
    *text = span_skip(*text, n);
    return true;
}

struct span fuzz_line(struct fuzz *f)
{
    size_t end = span_find(f->text, '\n');
    struct span line = span_make(f->text.at, end);
    f->text = span_skip(f->text, end + 1);
    return line;
}

bool fuzz_names_files(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == '/'
            && (i == 0 || (!ascii_is_digit(text.at[i - 1]) && text.at[i - 1] != ']')))
            return true;
    return false;
}

bool fuzz_is_printable(struct span text)
{
    while (text.len > 0) {
        size_t n = utf8_sequence(text);
        if (n == 0 || !utf8_is_printable(span_make(text.at, n)))
            return false;
        text = span_skip(text, n);
    }
    return true;
}

/* Is it the last line of its reply? */
static bool check_line(struct span line)
{
    ENSURE(line.len >= 4 && line.len <= 510);
    for (size_t i = 0; i < 3; i++)
        ENSURE(ascii_is_digit(line.at[i]));
    ENSURE(line.at[0] >= '2' && line.at[0] <= '5');
    ENSURE(line.at[3] == ' ' || line.at[3] == '-');
    ENSURE(fuzz_is_printable(line));
    return line.at[3] == ' ';
}

size_t fuzz_replies(struct span wire)
{
    size_t count = 0;
    bool is_last = true;
    while (wire.len > 0) {
        size_t end = span_find(wire, '\n');
        ENSURE(end < wire.len && end > 0 && wire.at[end - 1] == '\r');
        is_last = check_line(span_make(wire.at, end - 1));
        count += is_last;
        wire = span_skip(wire, end + 1);
    }
    ENSURE(is_last);
    return count;
}
