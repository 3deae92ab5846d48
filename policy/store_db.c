#include "policy/store_db.h"
#include "protocol/mem.h"

#include <db.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, LOG_BUFFER_BYTES = 256 << 10, LOG_FILE_BYTES = 10 << 20 };
enum { CHECKPOINT_KB = 1024, CHECKPOINT_MIN = 1, ASIDE_MAX = 2, SECRET_BYTES = 16 };

struct store {
    char *dir;      /* owns */
    DB_ENV *env;    /* owns */
    DB *db;         /* owns */
    DB_TXN *txn;    /* owns: the open one */
    int lock_fd;    /* owns */
    bool is_panicked;
    struct buf *notes; /* lent, while opening */
    int complaints;
    uint64_t secret[SECRET_BYTES / 8];
};

/* ------------------------------------------------------------ Berkeley DB's own words */

static void on_event(DB_ENV *env, u_int32_t event, void *info)
{
    struct store *s = env->app_private;
    (void)info;
    if (event == DB_EVENT_PANIC) /* a full disk is no panic */
        s->is_panicked = true;
}

/* A ruined file makes hundreds of these: the first is enough. */
static void on_complaint(const DB_ENV *env, const char *prefix, const char *message)
{
    struct store *s = env->app_private;
    (void)prefix;
    if (s->complaints++ == 0 && s->notes != NULL)
        buf_printf(s->notes, "Berkeley DB: %s\n", message);
}

const char *store_error_text(int error)
{
    switch (error) {
    case STORE_NOT_FOUND: return "not found";
    case STORE_BROKEN: return "the store is damaged";
    case STORE_BUSY: return "another process has it open";
    default: return db_strerror(error);
    }
}

static int result(struct store *s, int rc)
{
    if (s->is_panicked || rc == DB_RUNRECOVERY)
        return STORE_BROKEN;
    return rc == DB_NOTFOUND ? STORE_NOT_FOUND : rc;
}

/* ------------------------------------------------------------ opening */

static void shut(struct store *s)
{
    if (s->txn != NULL)
        s->txn->abort(s->txn);
    if (s->db != NULL)
        s->db->close(s->db, 0);
    if (s->env != NULL)
        s->env->close(s->env, 0);
    s->txn = NULL;
    s->db = NULL;
    s->env = NULL;
}

static int open_env(struct store *s, int cache_mb)
{
    u_int32_t flags = DB_CREATE | DB_PRIVATE | DB_RECOVER | DB_THREAD | DB_INIT_MPOOL
                      | DB_INIT_TXN | DB_INIT_LOG;
    int rc = db_env_create(&s->env, 0);
    if (rc != 0)
        return rc;
    s->env->app_private = s;
    s->env->set_event_notify(s->env, on_event);
    s->env->set_errcall(s->env, on_complaint);
    s->env->set_cachesize(s->env, (u_int32_t)cache_mb >> 10,
                          ((u_int32_t)cache_mb & 1023) << 20, 1);
    s->env->set_lg_bsize(s->env, LOG_BUFFER_BYTES);
    s->env->set_lg_max(s->env, LOG_FILE_BYTES);
    s->env->log_set_config(s->env, DB_LOG_AUTO_REMOVE, 1);
    s->env->set_flags(s->env, DB_TXN_WRITE_NOSYNC, 1);
    return s->env->open(s->env, s->dir, flags, 0600);
}

static int open_db(struct store *s)
{
    int rc = db_create(&s->db, s->env, 0);
    if (rc != 0)
        return rc;
    s->db->set_flags(s->db, DB_CHKSUM);
    s->db->set_pagesize(s->db, PAGE_BYTES);
    return s->db->open(s->db, NULL, "store.db", NULL, DB_BTREE,
                       DB_CREATE | DB_THREAD | DB_AUTO_COMMIT, 0600);
}

static int try_open(struct store *s, int cache_mb)
{
    s->is_panicked = false;
    s->complaints = 0;
    int rc = open_env(s, cache_mb);
    if (rc == 0)
        rc = open_db(s);
    if (rc == 0) /* the log of the recovery is not needed any more */
        rc = s->env->txn_checkpoint(s->env, 0, 0, DB_FORCE);
    if (rc == 0 && s->is_panicked)
        rc = DB_RUNRECOVERY;
    if (rc != 0)
        shut(s);
    return rc;
}

static int take_lock(struct store *s)
{
    char *path = xprintf("%s.lock", s->dir);
    s->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = s->lock_fd < 0 ? errno : 0;
    free(path);
    if (rc == 0 && flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        rc = errno == EWOULDBLOCK ? STORE_BUSY : errno;
    return rc;
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    rmdir(path);
}

/* Of DIR.bad-* only the newest are kept: their names sort by time. */
static void drop_old_aside(const struct store *s)
{
    char *parent = xstrdup(s->dir), *slash = strrchr(parent, '/');
    const char *stem = strrchr(s->dir, '/');
    char *prefix = xprintf("%s.bad-", stem != NULL ? stem + 1 : s->dir);
    struct dirent **names = NULL;
    if (slash != NULL)
        *slash = '\0';
    int count = scandir(slash != NULL ? parent : ".", &names, NULL, alphasort), kept = 0;
    for (int i = count - 1; i >= 0; i--) {
        bool is_aside = strncmp(names[i]->d_name, prefix, strlen(prefix)) == 0;
        if (is_aside && ++kept > ASIDE_MAX) {
            char *path = xprintf("%s/%s", slash != NULL ? parent : ".", names[i]->d_name);
            remove_tree(path);
            free(path);
        }
        free(names[i]);
    }
    free(names);
    free(prefix);
    free(parent);
}

/* The ruined store goes aside, for a look at it; mail does not wait for that. */
static int set_aside(struct store *s, int cause)
{
    char *aside = xprintf("%s.bad-%010lld", s->dir, (long long)time(NULL));
    int rc = rename(s->dir, aside) == 0 && mkdir(s->dir, 0700) == 0 ? 0 : errno;
    if (rc == 0)
        buf_printf(s->notes, "the store is damaged (%s): it was set aside as %s, an empty one "
                   "takes its place\n", db_strerror(cause), aside);
    free(aside);
    drop_old_aside(s);
    return rc;
}

/* Nothing is wrong with the store itself: later it will open. */
static bool is_circumstance(int rc)
{
    return rc == ENOSPC || rc == EACCES || rc == ENOMEM || rc == EROFS || rc == EMFILE
           || rc == EPERM;
}

/* Made once, kept beside the data: keys of another store's secret would never be found. */
static int read_secret(struct store *s)
{
    char *path = xprintf("%s/secret", s->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool has_it = fd >= 0 && read(fd, s->secret, sizeof s->secret) == sizeof s->secret;
    int rc = 0;
    if (fd >= 0)
        close(fd);
    if (!has_it) {
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || getrandom(s->secret, sizeof s->secret, 0) != sizeof s->secret
            || write(fd, s->secret, sizeof s->secret) != sizeof s->secret || fsync(fd) != 0)
            rc = errno != 0 ? errno : EIO;
        if (fd >= 0)
            close(fd);
    }
    free(path);
    return rc;
}

int store_open(const char *dir, int cache_mb, struct store **out, struct buf *notes)
{
    struct store *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(dir);
    s->notes = notes;
    int rc = mkdir(dir, 0700) != 0 && errno != EEXIST ? errno : take_lock(s);
    if (rc == 0) {
        rc = try_open(s, cache_mb);
        if (rc != 0 && !is_circumstance(rc) && (rc = set_aside(s, rc)) == 0)
            rc = try_open(s, cache_mb);
    }
    if (rc == 0)
        rc = read_secret(s);
    s->notes = NULL;
    *out = rc == 0 ? s : NULL;
    if (rc != 0)
        store_close(s);
    return rc;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    shut(s);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->dir);
    free(s);
}

/* ------------------------------------------------------------ keys: SipHash-2-4, 128 bits */

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32);
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

static uint64_t load64(const char *at, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, at, len);
    return word;
}

static void siphash128(const uint64_t secret[2], struct span text, uint64_t out[2])
{
    uint64_t v[4] = { secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du ^ 0xee,
                      secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u };
    size_t i = 0;
    for (; i + 8 <= text.len; i += 8)
        sip_absorb(v, load64(text.at + i, 8));
    sip_absorb(v, (uint64_t)text.len << 56 | load64(text.at + i, text.len - i));
    v[2] ^= 0xee;
    for (int k = 0; k < 4; k++)
        sip_round(v);
    out[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    for (int k = 0; k < 4; k++)
        sip_round(v);
    out[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

void store_key(const struct store *s, char tag, struct span text, struct store_key *key)
{
    uint64_t hash[2];
    siphash128(s->secret, text.len > 0 ? text : SPAN_LITERAL(""), hash);
    key->bytes[0] = (unsigned char)tag;
    memcpy(key->bytes + 1, hash, STORE_KEY_BYTES - 1);
}

/* ------------------------------------------------------------ records */

int store_begin(struct store *s)
{
    ENSURE(s->txn == NULL);
    return result(s, s->env->txn_begin(s->env, NULL, &s->txn, 0));
}

static DBT dbt_of(const void *at, size_t size)
{
    DBT dbt;
    memset(&dbt, 0, sizeof dbt);
    dbt.data = (void *)(uintptr_t)at; /* only read by the library */
    dbt.size = (u_int32_t)size;
    return dbt;
}

int store_get(struct store *s, const struct store_key *key, void *value, size_t room,
              size_t *size)
{
    DBT k = dbt_of(key->bytes, STORE_KEY_BYTES), v = dbt_of(value, 0);
    v.ulen = (u_int32_t)room;
    v.flags = DB_DBT_USERMEM;
    int rc = s->db->get(s->db, s->txn, &k, &v, 0);
    *size = rc == 0 ? v.size : 0;
    return result(s, rc);
}

int store_put(struct store *s, const struct store_key *key, const void *value, size_t size)
{
    DBT k = dbt_of(key->bytes, STORE_KEY_BYTES), v = dbt_of(value, size);
    return result(s, s->db->put(s->db, s->txn, &k, &v, 0));
}

int store_delete(struct store *s, const struct store_key *key)
{
    DBT k = dbt_of(key->bytes, STORE_KEY_BYTES);
    return result(s, s->db->del(s->db, s->txn, &k, 0));
}

int store_commit(struct store *s)
{
    DB_TXN *txn = s->txn;
    s->txn = NULL;
    return result(s, txn->commit(txn, 0));
}

void store_abort(struct store *s)
{
    DB_TXN *txn = s->txn;
    s->txn = NULL;
    if (txn != NULL)
        txn->abort(txn);
}

int store_checkpoint(struct store *s)
{
    return result(s, s->env->txn_checkpoint(s->env, CHECKPOINT_KB, CHECKPOINT_MIN, 0));
}

struct walker {
    bool (*visit)(void *context, const struct store_key *key, const void *value, size_t size);
    void *context;
    struct store_key *at;
    int limit;
    bool *is_done;
};

static int walk_cursor(DBC *cursor, const struct walker *w)
{
    unsigned char value[STORE_VALUE_MAX];
    struct store_key found = *w->at;
    DBT k = dbt_of(found.bytes, STORE_KEY_BYTES), v = dbt_of(value, 0);
    k.ulen = STORE_KEY_BYTES;
    v.ulen = sizeof value;
    k.flags = v.flags = DB_DBT_USERMEM;
    int rc = cursor->get(cursor, &k, &v, DB_SET_RANGE);
    for (int i = 0; rc == 0 && i < w->limit; i++) {
        if (k.size == STORE_KEY_BYTES && w->visit(w->context, &found, value, v.size))
            rc = cursor->del(cursor, 0);
        if (rc == 0)
            rc = cursor->get(cursor, &k, &v, DB_NEXT);
    }
    *w->is_done = rc == DB_NOTFOUND;
    *w->at = found;
    return rc == DB_NOTFOUND ? 0 : rc;
}

int store_walk(struct store *s, struct store_key *at, int limit,
               bool (*visit)(void *context, const struct store_key *key, const void *value,
                             size_t size),
               void *context, bool *is_done)
{
    const struct walker w = { visit, context, at, limit, is_done };
    DBC *cursor = NULL;
    *is_done = true;
    int rc = store_begin(s);
    if (rc != 0)
        return rc;
    rc = s->db->cursor(s->db, s->txn, &cursor, 0);
    if (rc == 0)
        rc = walk_cursor(cursor, &w);
    if (cursor != NULL)
        cursor->close(cursor);
    if (rc == 0)
        return store_commit(s);
    store_abort(s);
    return result(s, rc);
}

uint64_t store_file_bytes(struct store *s)
{
    struct stat st;
    char *path = xprintf("%s/store.db", s->dir);
    bool is_there = stat(path, &st) == 0;
    free(path);
    return is_there ? (uint64_t)st.st_size : 0;
}
