/* hash: and btree: files as postmap makes them (spec 6.2).
 * A small file is copied into memory whole and closed again: look-ups cost no system call and
 * may run on an event loop. A large one stays a Berkeley DB handle with a bounded cache; it is
 * "slow", so only work threads ask it.
 * postmap rewrites a file in place under an exclusive flock; so every reading happens under a
 * shared one, and a handle is opened anew when the file has changed under it. */
#include "policy/map_db.h"
#include "policy/map_type.h"
#include "policy/table.h"
#include "protocol/mem.h"

#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY_MAX_BYTES = 16 << 20, CACHE_BYTES = 8 << 20, BULK_BYTES = 1 << 20 };
enum { LOCK_TRIES = 100, LOCK_PAUSE_NS = 10 * 1000 * 1000 };

struct map_db {
    struct table *table; /* owns: the whole contents, or NULL */
    char *path;          /* owns */
    pthread_mutex_t mutex; /* guards what follows */
    DB *db;              /* owns */
    int fd;              /* owns: for flock and fstat */
    struct stat opened;
    bool is_nul_unknown, has_nul; /* do keys end with NUL? */
};

static DB *db_open(const char *path, const char **error)
{
    DB *db = NULL;
    DBTYPE type = DB_UNKNOWN;
    int rc = db_create(&db, NULL, 0);
    if (rc == 0) {
        db->set_errfile(db, NULL);
        db->set_errcall(db, NULL);
        db->set_cachesize(db, 0, CACHE_BYTES, 1);
        rc = db->open(db, NULL, path, NULL, DB_UNKNOWN, DB_RDONLY, 0);
    }
    if (rc == 0)
        rc = db->get_type(db, &type);
    if (rc == 0 && (type == DB_HASH || type == DB_BTREE))
        return db;
    *error = rc != 0 ? db_strerror(rc) : "neither a hash nor a btree table";
    if (db != NULL)
        db->close(db, 0);
    return NULL;
}

static DBT dbt_of(struct span bytes)
{
    DBT dbt;
    memset(&dbt, 0, sizeof dbt);
    dbt.data = (void *)(uintptr_t)bytes.at; /* only read by the library */
    dbt.size = (u_int32_t)bytes.len;
    return dbt;
}

/* postmap stores the NUL behind keys and values; other tools may not. */
static struct span without_nul(const void *at, size_t len)
{
    const char *nul = len > 0 ? memchr(at, '\0', len) : NULL;
    return span_make(at, nul != NULL ? (size_t)(nul - (const char *)at) : len);
}

static void copy_bulk(struct table *table, DBT *bulk)
{
    void *cursor, *key, *value;
    size_t key_len, value_len;
    DB_MULTIPLE_INIT(cursor, bulk);
    for (;;) {
        DB_MULTIPLE_KEY_NEXT(cursor, bulk, key, key_len, value, value_len);
        if (cursor == NULL)
            return;
        table_add(table, without_nul(key, key_len), without_nul(value, value_len));
    }
}

static struct table *copy_all(DB *db, const char **error)
{
    struct table *table = table_new();
    DBC *cursor = NULL;
    DBT key = { 0 }, bulk = { 0 };
    bulk.data = xmalloc(BULK_BYTES);
    bulk.ulen = BULK_BYTES;
    bulk.flags = DB_DBT_USERMEM;
    int rc = db->cursor(db, NULL, &cursor, 0);
    while (rc == 0) {
        rc = cursor->get(cursor, &key, &bulk, DB_MULTIPLE_KEY | DB_NEXT);
        if (rc == 0)
            copy_bulk(table, &bulk);
    }
    if (cursor != NULL)
        cursor->close(cursor);
    free(bulk.data);
    if (rc == DB_NOTFOUND) {
        table_trim(table);
        return table;
    }
    *error = db_strerror(rc);
    table_free(table);
    return NULL;
}

static void db_shut(struct map_db *m)
{
    if (m->db != NULL)
        m->db->close(m->db, 0);
    if (m->fd >= 0)
        close(m->fd);
    m->db = NULL;
    m->fd = -1;
}

/* Opens handle and descriptor under a shared lock, which is held on return; on failure the caller
 * calls db_shut(). */
static bool db_start(struct map_db *m, int lock_flags, bool *is_busy, const char **error)
{
    m->is_nul_unknown = true;
    m->fd = open(m->path, O_RDONLY | O_CLOEXEC);
    if (m->fd < 0) {
        *error = strerror(errno);
        return false;
    }
    if (flock(m->fd, LOCK_SH | lock_flags) != 0) {
        *is_busy = errno == EWOULDBLOCK;
        *error = "another process is writing it";
        return false;
    }
    if (fstat(m->fd, &m->opened) != 0) {
        *error = strerror(errno);
        return false;
    }
    m->db = db_open(m->path, error);
    return m->db != NULL;
}

static void map_db_close(void *data)
{
    struct map_db *m = data;
    db_shut(m);
    table_free(m->table);
    pthread_mutex_destroy(&m->mutex);
    free(m->path);
    free(m);
}

static void warn_if_stale(const struct map_source *source, const struct map_db *m)
{
    struct stat text;
    char *name = xprintf("%.*s", (int)(strlen(m->path) - 3), m->path);
    if (stat(name, &text) == 0 && text.st_mtim.tv_sec > m->opened.st_mtim.tv_sec)
        problems_warning(source->problems, source->full_name,
                         "the text file is newer than its .db: run \"postern map make %s\"",
                         source->full_name);
    free(name);
}

static void *map_db_open(struct map_source *source, const char **error)
{
    struct map_db *m = xcalloc(1, sizeof *m);
    m->fd = -1;
    m->path = xstrdup(source->path);
    pthread_mutex_init(&m->mutex, NULL);
    bool is_good = db_start(m, LOCK_NB, &source->is_busy, error);
    if (is_good && m->opened.st_size <= MEMORY_MAX_BYTES) {
        m->table = copy_all(m->db, error);
        is_good = m->table != NULL;
        db_shut(m);
    } else if (is_good) {
        flock(m->fd, LOCK_UN);
    }
    if (is_good) {
        warn_if_stale(source, m);
        return m;
    }
    *error = arena_printf(&source->problems->memory, "%s: %s", m->path, *error);
    map_db_close(m);
    return NULL;
}

static bool map_db_is_slow(const void *data)
{
    const struct map_db *m = data;
    return m->table == NULL;
}

static const struct table *map_db_table(const void *data)
{
    const struct map_db *m = data;
    return m->table;
}

static bool lock_shared(int fd)
{
    const struct timespec pause = { 0, LOCK_PAUSE_NS };
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_SH | LOCK_NB) == 0)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static bool is_unchanged(const struct stat *now, const struct stat *opened)
{
    return now->st_dev == opened->st_dev && now->st_ino == opened->st_ino
           && now->st_size == opened->st_size
           && memcmp(&now->st_mtim, &opened->st_mtim, sizeof now->st_mtim) == 0;
}

/* Opens what has the name now, in the place of the old handle. */
static bool db_restart(struct map_db *m)
{
    struct map_db fresh = { .path = m->path, .fd = -1 };
    const char *error;
    bool is_busy;
    bool is_good = db_start(&fresh, LOCK_NB, &is_busy, &error);
    if (!is_good) {
        db_shut(&fresh);
        return false;
    }
    db_shut(m);
    m->db = fresh.db;
    m->fd = fresh.fd;
    m->opened = fresh.opened;
    m->is_nul_unknown = true;
    return true;
}

/* Takes the lock, and makes sure that the handle is of the file that has the name now; while that
 * one cannot be opened the old one serves on, unless it was itself written to. */
static bool db_lock(struct map_db *m)
{
    struct stat now;
    if (m->fd >= 0 && !lock_shared(m->fd))
        return false;
    if (m->fd >= 0 && stat(m->path, &now) == 0 && is_unchanged(&now, &m->opened))
        return true;
    if (db_restart(m))
        return true;
    if (m->fd >= 0 && fstat(m->fd, &now) == 0 && is_unchanged(&now, &m->opened))
        return true;
    db_shut(m);
    return false;
}

static int db_get(struct map_db *m, struct span key, struct buf *value)
{
    DBT k = dbt_of(key), v;
    memset(&v, 0, sizeof v);
    int rc = m->db->get(m->db, NULL, &k, &v, 0);
    if (rc == 0)
        buf_add(value, without_nul(v.data, v.size));
    return rc;
}

/* With the NUL, then without; which one hit first is remembered for the table. */
static int db_get_either(struct map_db *m, struct span key, struct buf *value)
{
    char room[4097];
    memcpy(room, key.at, key.len);
    room[key.len] = '\0';
    int rc = DB_NOTFOUND;
    if (m->is_nul_unknown || m->has_nul)
        rc = db_get(m, span_make(room, key.len + 1), value);
    if (rc == 0)
        m->has_nul = true;
    else if (rc == DB_NOTFOUND && (m->is_nul_unknown || !m->has_nul))
        rc = db_get(m, key, value);
    if (rc == 0)
        m->is_nul_unknown = false;
    return rc;
}

static enum map_result db_find(struct map_db *m, struct span key, struct buf *value)
{
    enum map_result result = MAP_RETRY;
    pthread_mutex_lock(&m->mutex);
    if (db_lock(m)) {
        int rc = db_get_either(m, key, value);
        result = rc == 0 ? MAP_FOUND : rc == DB_NOTFOUND ? MAP_NOT_FOUND : MAP_RETRY;
        flock(m->fd, LOCK_UN);
    }
    pthread_mutex_unlock(&m->mutex);
    return result;
}

static enum map_result map_db_find(void *data, struct span key, struct buf *value)
{
    struct map_db *m = data;
    struct span found;
    if (m->table == NULL)
        return db_find(m, key, value);
    if (!table_find(m->table, key, &found))
        return MAP_NOT_FOUND;
    buf_add(value, found);
    return MAP_FOUND;
}

/* ------------------------------------------------------------ making a .db */

struct maker {
    DB *db;
    int rc;
};

static bool put_pair(void *context, struct span key, struct span value)
{
    struct maker *maker = context;
    char *k = xprintf("%.*s", (int)key.len, key.at), *v = xprintf("%.*s", (int)value.len, value.at);
    DBT kt = dbt_of(span_make(k, key.len + 1)), vt = dbt_of(span_make(v, value.len + 1));
    int rc = maker->rc == 0 ? maker->db->put(maker->db, NULL, &kt, &vt, DB_NOOVERWRITE) : 0;
    free(k);
    free(v);
    if (rc != 0 && rc != DB_KEYEXIST)
        maker->rc = rc;
    return rc != DB_KEYEXIST;
}

static int make_file(const char *path, bool is_btree, struct span text, const char *source,
                     struct problems *problems)
{
    struct maker maker = { 0 };
    maker.rc = db_create(&maker.db, NULL, 0);
    if (maker.rc != 0)
        return maker.rc;
    maker.db->set_cachesize(maker.db, 0, CACHE_BYTES, 1);
    maker.db->set_errfile(maker.db, NULL);
    maker.rc = maker.db->open(maker.db, NULL, path, NULL, is_btree ? DB_BTREE : DB_HASH,
                              DB_CREATE | DB_TRUNCATE, 0600);
    if (maker.rc == 0)
        text_table_read(text, source, problems, put_pair, &maker);
    int rc = maker.db->close(maker.db, 0); /* writes and syncs */
    return maker.rc != 0 ? maker.rc : rc;
}

/* Who may read the text may read the table, as with postmap; a password file stays secret. */
static int publish(const char *temp, const char *path, const char *source)
{
    struct stat st;
    mode_t mode = stat(source, &st) == 0 ? st.st_mode & 0644 : 0644;
    return chmod(temp, mode | 0600) == 0 && rename(temp, path) == 0 ? 0 : errno;
}

int map_db_make(const char *source, bool is_btree, struct span text, struct problems *problems)
{
    char *path = xprintf("%s.db", source), *temp = xprintf("%s.db.%d", source, (int)getpid());
    int rc = make_file(temp, is_btree, text, source, problems);
    if (rc == 0)
        rc = publish(temp, path, source);
    if (rc != 0) {
        problems_error(problems, source, "%s: %s", path, db_strerror(rc));
        unlink(temp);
    }
    free(temp);
    free(path);
    return rc;
}

const struct map_type map_type_hash = {
    .name = "hash", .suffix = ".db", .is_partial = true, .is_folding = true,
    .open = map_db_open, .find = map_db_find, .close = map_db_close,
    .data_is_slow = map_db_is_slow, .table = map_db_table,
};

const struct map_type map_type_btree = {
    .name = "btree", .suffix = ".db", .is_partial = true, .is_folding = true,
    .open = map_db_open, .find = map_db_find, .close = map_db_close,
    .data_is_slow = map_db_is_slow, .table = map_db_table,
};
