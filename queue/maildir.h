/* maildir - one message into one Maildir (https://cr.yp.to/proto/maildir.html).
 * Order:  1 maildir_write()   tmp/NAME is made (O_EXCL) and filled, write-back is started;
 *         2 maildir_sync()    fdatasync(file), which is closed then;
 *         3 maildir_publish() renamed to new/NAME, never over an existing file;
 *         4 maildir_settle()  fsync(new).
 *         Behind step 4 of all items the message survives a power cut. A crash before step 3
 *         leaves a file in tmp/ at most, which maildir_sweep() or any reader removes after 36 h.
 *         The steps are apart so that many messages share them (commit.h).
 * Frugal: an item marked so keeps no descriptor open between the steps (it is synced in step 1),
 *         so that a message to a thousand Maildirs does not need a thousand of them.
 * Paths:  the mailbox is looked up below base_fd by dir.h; names in it are our own. A Maildir
 *         that is missing is made.
 * Body:   from memory, from a file (copied behind the head), or the file itself when it holds
 *         head and body already (moved, if it lies in the same file system).
 * Errors: item->result is -errno and nothing of the item is left; -EDQUOT: over the Maildir++
 *         quota of its maildirsize file.
 * Thread: any; blocks. */
#ifndef POSTERN_MAILDIR_H
#define POSTERN_MAILDIR_H

#include "protocol/span.h"

#include <sys/types.h>

enum { MAILDIR_NAME_MAX = 255 };

struct body {
    struct span memory;    /* the body, unless fd >= 0 */
    int fd;                /* lent: a file with the body, -1: none */
    int dir_fd;            /* lent: the directory of that file, and its name in it, for moving */
    const char *file_name;
    bool has_head;         /* the file begins with the head of its only recipient */
    uint64_t size_bytes;   /* of the file */
};

struct maildir_item {
    /* given */
    const char *mailbox;   /* relative to the base; lent */
    struct span head;      /* trace headers in front of the body; lent */
    const struct body *body;
    const char *unique;    /* unique part of the file name; lent */
    bool newline_is_lf;    /* CR LF is stored as LF */
    bool is_lasting;       /* unique is this message's for ever: a file of that name in new/ is it,
                              delivered before a crash; one in tmp/ is what the crash left */
    int base_fd;           /* lent */
    bool is_frugal;
    /* made */
    int result;            /* 0 or -errno */
    int new_fd, fd;        /* owns; -1: closed */
    bool is_moved_file;    /* fd is body->fd */
    bool is_created, is_published, is_settled;
    bool has_quota, is_over_quota;
    uint64_t size_bytes;
    char name[MAILDIR_NAME_MAX + 1];
};

void maildir_write(struct maildir_item *item);
void maildir_sync(struct maildir_item *item);
void maildir_publish(struct maildir_item *item);
void maildir_settle(struct maildir_item *item);

/* Takes back whatever the item did so far, a published file too. */
void maildir_abort(struct maildir_item *item);

/* Closes what is open; the last call for an item. */
void maildir_close(struct maildir_item *item);

/* Removes files older than 36 hours from the tmp/ of a Maildir. */
void maildir_sweep(int base_fd, const char *mailbox);

#endif
