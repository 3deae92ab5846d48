#include "queue/intake.h"
#include "protocol/mem.h"
#include "queue/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void intake_begin(struct intake *in, const char *dir, const char *name,
                  size_t header_limit_bytes)
{
    *in = (struct intake){ .dir = dir, .dir_fd = -1, .fd = -1 };
    snprintf(in->name, sizeof in->name, "%s", name);
    header_scan_init(&in->headers, header_limit_bytes);
}

static size_t piece_limit(const struct intake *in)
{
    return in->fd >= 0 ? INTAKE_PIECE_MAX : INTAKE_MEMORY_MAX;
}

/* Bytes that were read into our own free end only have to be counted. */
static void take_body(struct intake *in, struct span bytes)
{
    char *room = buf_reserve(&in->piece, bytes.len);
    if (bytes.len > 0 && bytes.at != room)
        memmove(room, bytes.at, bytes.len);
    in->piece.len += bytes.len;
}

void intake_take(struct intake *in, struct span bytes)
{
    if (in->error != 0)
        return;
    size_t before = in->piece.len;
    if (!in->headers.is_done) {
        size_t used = header_scan_feed(&in->headers, bytes, &in->piece);
        bytes = span_skip(bytes, used);
    }
    take_body(in, bytes);
    in->body_bytes += in->piece.len - before;
}

char *intake_room(struct intake *in, size_t *size)
{
    if (!in->headers.is_done || in->error != 0 || intake_is_full(in))
        return NULL;
    size_t want = in->piece.cap < INTAKE_FIRST ? INTAKE_FIRST : INTAKE_MEMORY_MAX;
    size_t left = piece_limit(in) + INTAKE_FIRST - in->piece.len;
    char *room = buf_reserve(&in->piece, want < left ? want : left);
    *size = in->piece.cap - in->piece.len - 1;
    return room;
}

bool intake_holds(const struct intake *in, struct span bytes)
{
    uintptr_t at = (uintptr_t)bytes.at, start = (uintptr_t)in->piece.at;
    return in->piece.at != NULL && at >= start && at < start + in->piece.cap;
}

bool intake_is_full(const struct intake *in)
{
    return in->error == 0 && in->piece.len >= piece_limit(in);
}

void intake_set_head(struct intake *in, struct buf *head)
{
    ENSURE(in->fd < 0);
    in->head = *head;
    *head = (struct buf){ 0 };
    in->has_head = true;
}

static int open_file(struct intake *in)
{
    in->dir_fd = open(in->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (in->dir_fd < 0)
        return -errno;
    in->fd = openat(in->dir_fd, in->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    0600);
    if (in->fd < 0)
        return -errno;
    in->file_bytes = in->head.len;
    return fd_write_all(in->fd, in->head.at, in->head.len);
}

void intake_spill(struct intake *in)
{
    if (in->error == 0 && in->fd < 0)
        in->error = open_file(in);
    if (in->error == 0)
        in->error = fd_write_all(in->fd, in->piece.at, in->piece.len);
    if (in->error == -EDQUOT) /* of the file system: nobody's mailbox is full */
        in->error = -ENOSPC;
    in->file_bytes += in->piece.len;
    buf_clear(&in->piece);
}

void intake_finish(struct intake *in)
{
    size_t before = in->piece.len;
    header_scan_finish(&in->headers, &in->piece);
    in->body_bytes += in->piece.len - before;
}

bool intake_needs_spill(const struct intake *in)
{
    return in->fd >= 0 && in->error == 0 && in->piece.len > 0;
}

struct body intake_body(const struct intake *in)
{
    return (struct body){ .memory = buf_span(&in->piece), .fd = in->fd, .dir_fd = in->dir_fd,
                          .file_name = in->name, .has_head = in->has_head && in->fd >= 0,
                          .size_bytes = in->file_bytes };
}

void intake_drop(struct intake *in)
{
    header_scan_fini(&in->headers);
    buf_fini(&in->piece);
    buf_fini(&in->head);
    if (in->fd >= 0) {
        unlinkat(in->dir_fd, in->name, 0); /* ENOENT: the commit moved it */
        close(in->fd);
    }
    if (in->dir_fd >= 0)
        close(in->dir_fd);
    in->fd = in->dir_fd = -1;
}
