/* store_db - what the policy remembers between messages: greylist records, probe results, clients
 * that waited politely. A private Berkeley DB environment, recovered at every open.
 * Life:   store_open() takes the lock file beside the folder (one process), recovers, and sets a
 *         ruined store aside as DIR.bad-TIME (at most two are kept) to begin an empty one.
 * Keys:   a tag and 15 bytes of hash; store_key() makes one from text with the store's own secret,
 *         so that nobody outside can choose keys that meet. Values: at most STORE_VALUE_MAX bytes.
 * Durable: a commit survives the death of the process, not always that of the machine
 *         (DB_TXN_WRITE_NOSYNC): losing seconds costs some senders one more try.
 * Errors: 0, STORE_NOT_FOUND, or a Berkeley DB or errno code; after STORE_BROKEN everything fails
 *         until it is closed and opened again. After any error abort, never commit.
 * Thread: one at a time (the store lane); blocks. */
#ifndef POSTERN_STORE_DB_H
#define POSTERN_STORE_DB_H

#include "protocol/buf.h"

enum { STORE_KEY_BYTES = 16, STORE_VALUE_MAX = 1024 };
enum { STORE_NOT_FOUND = -1, STORE_BROKEN = -2, STORE_BUSY = -3 };

struct store;

struct store_key {
    unsigned char bytes[STORE_KEY_BYTES]; /* [0] is the tag */
};

/* notes: what the admin should hear (recovered, set aside), a line each. STORE_BUSY: another
 * process has it. */
int store_open(const char *dir, int cache_mb, struct store **out, struct buf *notes);
void store_close(struct store *s);
const char *store_error_text(int error);

void store_key(const struct store *s, char tag, struct span text, struct store_key *key);

/* One transaction at a time. */
int store_begin(struct store *s);
int store_get(struct store *s, const struct store_key *key, void *value, size_t room,
              size_t *size);
int store_put(struct store *s, const struct store_key *key, const void *value, size_t size);
int store_delete(struct store *s, const struct store_key *key);
int store_commit(struct store *s);
void store_abort(struct store *s);

/* Writes back and drops old logs; cheap when little was written. */
int store_checkpoint(struct store *s);

/* Walks records from *at on (all zero: the first), at most `limit` of them, in a transaction of
 * its own. visit() returns true to delete. *at is then where to go on; *is_done at the end. */
int store_walk(struct store *s, struct store_key *at, int limit,
               bool (*visit)(void *context, const struct store_key *key, const void *value,
                             size_t size),
               void *context, bool *is_done);

/* Bytes of the data file, 0 if unknown. */
uint64_t store_file_bytes(struct store *s);

#endif
