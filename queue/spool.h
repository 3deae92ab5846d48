/* spool - messages that are ours until somebody else has them: files that survive a power cut.
 *
 * Folders of queue_directory:
 *   tmp/ID          a message on its way in (intake.h); tmp/ID.msg, tmp/ID.env: being written
 *   msg/ID          the message: our trace headers, then the sender's bytes; never changed
 *   active/ID       its envelope (envelope.h): something is still owed
 *   hold/ID         the same on hold: nothing is done until it is released
 *   corrupt/        what cannot be understood, under its name: ID.env, ID.msg. Never deleted by us
 * Whoever holds a lock on queue_directory itself may change things: one server, or one command.
 *
 * States, told apart by which files exist:
 *   msg   active  hold
 *   no    no      no     not ours: never acknowledged, or dealt with
 *   yes   no      no     half made or half removed: a crash left it; recovery removes it
 *   yes   yes     no     owed
 *   yes   no      yes    on hold
 *   no    yes or hold    damage: set aside
 *   what lies in tmp/    was never acknowledged: recovery removes it
 *
 * Order, and so what a crash at any point leaves (each arrow ends one state and begins the next):
 *   create  1 write tmp/ID.msg (or take the intake's file) and tmp/ID.env; fdatasync both
 *           2 rename to msg/ID; rename to active/ID or hold/ID       <- from here on it is whole
 *           3 fsync msg/, then active/ or hold/                      <- from here on it is durable
 *   update  1 write tmp/ID.env, fdatasync  2 rename over active/ID  3 fsync active/
 *   remove  1 unlink active/ID             2 fsync active/          3 unlink msg/ID
 *   hold    rename active/ID to hold/ID; fsync hold/, then active/; release is the way back
 * The changes of one batch go through each step together (as in commit.h), so that the journal
 * commits and the fsyncs of directories are shared. A change that is `after` another one (the
 * message that a bounce is made of) is made when that is durable, and only if it succeeded
 * (-ECANCELED); removals come last of all.
 *
 * Errors: change->result is -errno; a create that failed has left nothing behind, an update that
 *         failed the old envelope or the new one, a removal that failed the message, a move that
 *         failed the envelope where it was.
 * Thread: any, and several at a time for different messages; blocks. */
#ifndef POSTERN_SPOOL_H
#define POSTERN_SPOOL_H

#include "queue/envelope.h"
#include "queue/maildir.h"

struct spool;

enum spool_folder { SPOOL_ACTIVE, SPOOL_HOLD };
enum spool_how { SPOOL_LOCKED, SPOOL_READ_ONLY };

enum spool_act { SPOOL_CREATE, SPOOL_UPDATE, SPOOL_MOVE, SPOOL_REMOVE };

struct spool_change {
    struct spool_change *next; /* in the batch */
    /* given */
    enum spool_act act;
    char id[QUEUE_ID_MAX];
    enum spool_folder folder;   /* where the envelope is; of a move: where it goes to */
    struct span envelope;       /* create, update: its text; lent */
    struct span head;           /* create: in front of the body; lent */
    const struct body *body;    /* create: lent; a file that begins with the head is moved here */
    uint64_t skip_bytes;        /* create: of such a file: what does not belong here; it is copied */
    const struct spool_change *after; /* NULL, or: only if that one succeeded */
    /* made */
    int result;
    int msg_fd, env_fd;         /* owns: between the steps */
    bool is_msg_made, is_env_made;   /* lie in tmp/ */
    bool is_msg_there, is_env_there; /* published */
};

void spool_run(struct spool *spool, struct spool_change *batch);

/* Opens it, makes what is missing, and locks it; -EWOULDBLOCK: somebody else has the lock.
 * Read only: nothing is made or locked. */
int spool_open(const char *directory, enum spool_how how, struct spool **out);
void spool_close(struct spool *spool);

/* Ends or removes what a crash left, sets aside what nobody understands; before anything else
 * works here. Appends a line to *notes for each thing that was set aside. */
int spool_recover(struct spool *spool, struct buf *notes);

/* The ids in a folder, sorted; free(*ids). */
int spool_list(const struct spool *spool, enum spool_folder folder, uint64_t **ids,
               size_t *count);

/* The envelope; *e is to be freed in both cases. -ENOENT, -EBADMSG: see spool_set_aside(). */
int spool_read(const struct spool *spool, enum spool_folder folder, const char *id,
               struct envelope *e);

/* The message for reading: a descriptor, and its size; -errno. */
int spool_open_message(const struct spool *spool, const char *id, uint64_t *size_bytes);

/* Moves envelope and message to corrupt/. 0 or -errno. */
int spool_set_aside(struct spool *spool, enum spool_folder folder, const char *id);

#endif
