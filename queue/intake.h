/* intake - a message on its way in: memory while it is small, a file in the spool's tmp/ when it
 * grows (DESIGN 3). Headers pass trace.h's scan on the way.
 * Owns:   the piece at hand, and the file with its name until it is dropped or moved away.
 * Copies: intake_room() lends the piece's free end, so that the network can read right into it;
 *         intake_take() of bytes that already lie there copies nothing.
 * Bounds: the piece is at most INTAKE_PIECE_MAX; then intake_is_full(), and nothing more may be
 *         taken until intake_spill() has run on a work thread.
 * Errors: intake->error is -errno of the first failure; later bytes are thrown away.
 * Thread: one at a time; intake_spill() and intake_drop() of a file block. */
#ifndef POSTERN_INTAKE_H
#define POSTERN_INTAKE_H

#include "protocol/trace.h"
#include "queue/maildir.h"

enum { INTAKE_FIRST = 8192, INTAKE_PIECE_MAX = 262144, INTAKE_MEMORY_MAX = 65536 };

struct intake {
    struct header_scan headers; /* owns */
    struct buf piece;           /* owns: what is not in the file yet */
    struct buf head;            /* owns: trace headers that go in front in the file, once */
    const char *dir;            /* lent: the spool's tmp/ */
    int dir_fd, fd;             /* owns: -1 until it spills */
    char name[64];
    uint64_t file_bytes, body_bytes;
    bool has_head;
    int error;
};

/* name: of the file, unique (the queue id). */
void intake_begin(struct intake *in, const char *dir, const char *name,
                  size_t header_limit_bytes);
void intake_take(struct intake *in, struct span bytes);

/* Free room for reading, NULL while the headers are not through. */
char *intake_room(struct intake *in, size_t *size);
bool intake_is_full(const struct intake *in);

/* Do these bytes lie in the room that was lent? Then they must be moved away before anything
 * else is taken. */
bool intake_holds(const struct intake *in, struct span bytes);

/* If the message has one recipient only: what goes in front of it in the file. Before the first
 * spill; moved out of *head. */
void intake_set_head(struct intake *in, struct buf *head);
void intake_spill(struct intake *in);

/* The message is complete; fills *body for the commit. With a file, intake_spill() must have
 * emptied the piece: intake_is_spilled() and a piece that is not empty asks for one more. */
void intake_finish(struct intake *in);
bool intake_needs_spill(const struct intake *in);
struct body intake_body(const struct intake *in);

/* Frees all; the file is unlinked unless it was moved away. */
void intake_drop(struct intake *in);

#endif
