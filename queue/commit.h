/* commit - the commit point: messages from "in flight" to "ours" (DESIGN 3, reliability 1).
 * Before commit_run() returns, every message with result 0 is durable in all its Maildirs: each
 * file fdatasynced, renamed into new/, each new/ fsynced. A message with an error has left
 * nothing behind in any of its Maildirs: all or none.
 * Sharing: the messages of one batch go through each step together. All files are synced at the
 * same time (parallel.h), so that they share the journal's commits and the disk's flushes; then
 * all directories, each once however many items name it. That is what makes a busy server cheap
 * and a slow disk bearable; a lone message takes the same steps.
 * Owns:   nothing: the commit belongs to whoever queued it, until it is done.
 * Thread: one batch per call, any thread; blocks. */
#ifndef POSTERN_COMMIT_H
#define POSTERN_COMMIT_H

#include "queue/maildir.h"
#include "queue/parallel.h"

struct commit {
    struct commit *next;         /* in the batch */
    const char *base;            /* lent: virtual_mailbox_base, opened for each batch */
    struct maildir_item *items;  /* lent */
    size_t count;
    int result;                  /* 0, or -errno of the item that failed first */
    size_t failed;               /* its index */
};

void commit_run(struct commit *batch);

/* The same, syncing on these threads. */
void commit_run_on(struct commit *batch, struct parallel *threads);

#endif
