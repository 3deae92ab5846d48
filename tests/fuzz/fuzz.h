/* fuzz - what the fuzz targets have in common.
 * A target defines fuzz_one(), which is called with one input after another, and says with ENSURE
 * what must be true of it. A broken promise, a sanitizer's word, a leak and more than 25
 * seconds for one input are failures.
 * Input:  the first byte seeds everything that is left to chance (the sizes of pieces, what a
 *         question is answered), so that an input always does the same; the rest is the text.
 *         The byte is '0' in most seeds: then the text comes whole.
 * Owns:   struct fuzz owns its memory, which is gone after the call.
 * Thread: one. */
#ifndef POSTERN_TESTS_FUZZ_H
#define POSTERN_TESTS_FUZZ_H

#include "protocol/arena.h"
#include "protocol/buf.h"
#include "protocol/mem.h"
#include "unit/seeded.h"

struct fuzz {
    struct span text;
    unsigned seed; /* the first byte */
    struct seeded random;
    struct arena memory;  /* owns */
    struct seeded pieces; /* of fuzz_piece() */
    bool is_whole;        /* fuzz_piece() hands out all there is */
    char *piece;          /* owns: the last one */
};

/* The target. */
void fuzz_one(struct fuzz *f);

/* Called once before the first input, if the target has it. */
__attribute__((weak)) void fuzz_begin(void);

/* From here on fuzz_piece() cuts anew: in one piece, or in pieces as the seed says (1: single
 * bytes). */
void fuzz_cut_whole(struct fuzz *f);
void fuzz_cut_pieces(struct fuzz *f);

/* The next piece off *text, in memory of exactly its size; valid until the next call. False: the
 * text is used up. */
bool fuzz_piece(struct fuzz *f, struct span *text, struct span *piece);

/* Cuts the first line off the text, without its LF. */
struct span fuzz_line(struct fuzz *f);

/* Does a main.cf value name files that may really exist? Those stay closed to the fuzzer. */
bool fuzz_names_files(struct span text);

/* Every line ends with CR LF, is a reply of at most 512 bytes, and holds no control octet. The
 * number of replies. */
size_t fuzz_replies(struct span wire);

/* No control octet, well-formed UTF-8. */
bool fuzz_is_printable(struct span text);

#endif
