#include "server/decisions.h"
#include "protocol/mem.h"
#include "server/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------ references */

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* Crockford's */

static void print_reference(uint64_t number, char out[DECISION_REFERENCE_MAX])
{
    char reversed[DECISION_REFERENCE_MAX];
    size_t n = 0;
    do {
        reversed[n++] = digits[number % 32];
        number /= 32;
    } while (number > 0 && n < DECISION_REFERENCE_MAX - 2);
    *out++ = 'D'; /* so that it is no word and no number */
    while (n > 0)
        *out++ = reversed[--n];
    *out = '\0';
}

static bool parse_reference(const char *text, uint64_t *number)
{
    *number = 0;
    if ((text[0] != 'D' && text[0] != 'd') || text[1] == '\0' || strlen(text) > 13)
        return false;
    for (text++; *text != '\0'; text++) {
        char upper = *text >= 'a' && *text <= 'z' ? (char)(*text - 32) : *text;
        const char *digit = strchr(digits, upper);
        if (digit == NULL)
            return false;
        *number = *number * 32 + (uint64_t)(digit - digits);
    }
    return true;
}

bool decisions_is_reference(const char *text)
{
    uint64_t number;
    return parse_reference(text, &number);
}

/* ------------------------------------------------------------ the file */

struct header {
    char magic[16];
    uint64_t next, count;
};

static const char magic[16] = "postern-decide1";
enum { FIRST_NUMBER = 32768, LOST_MAX = 4096 }; /* references have four digits at least */

struct decisions {
    int fd;
    uint64_t count;
    pthread_mutex_t mutex; /* guards the rest */
    uint64_t next;
    struct buf pending;    /* whole slots, each with its number in front */
    bool is_writing;
};

struct slot {
    uint64_t number;
    char text[DECISION_SLOT_BYTES - sizeof(uint64_t)];
};

static char *file_name(const struct params *params)
{
    return xprintf("%s/decisions", params->data_directory);
}

static bool read_header(int fd, struct header *header)
{
    return pread(fd, header, sizeof *header, 0) == sizeof *header
           && memcmp(header->magic, magic, sizeof magic) == 0 && header->count > 0;
}

static void write_header(const struct decisions *all, uint64_t next)
{
    struct header header = { .count = all->count, .next = next };
    memcpy(header.magic, magic, sizeof magic);
    (void)!pwrite(all->fd, &header, sizeof header, 0);
}

/* A ring of another size is begun anew. */
static void take_up(struct decisions *all)
{
    struct header header;
    bool is_old = read_header(all->fd, &header);
    all->next = is_old ? header.next + LOST_MAX : FIRST_NUMBER; /* what was not written any more */
    if (!is_old || header.count != all->count)
        (void)!ftruncate(all->fd, 0);
    write_header(all, all->next); /* a life that is killed soon has used them up all the same */
}

struct decisions *decisions_open(const struct params *params, const char **error)
{
    char *name = file_name(params);
    *error = NULL;
    if (params->decision_records == 0) {
        free(name);
        return NULL;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(name);
    if (fd < 0) {
        *error = strerror(errno);
        return NULL;
    }
    struct decisions *all = xcalloc(1, sizeof *all);
    all->fd = fd;
    all->count = (uint64_t)params->decision_records;
    all->pending.max = DECISIONS_PENDING_MAX;
    pthread_mutex_init(&all->mutex, NULL);
    take_up(all);
    return all;
}

static off_t place_of(uint64_t number, uint64_t count)
{
    return (off_t)(1 + number % count) * DECISION_SLOT_BYTES;
}

static void write_slots(const struct decisions *all, struct span slots)
{
    uint64_t next = 0;
    for (; slots.len >= sizeof(struct slot); slots = span_skip(slots, sizeof(struct slot))) {
        uint64_t number;
        memcpy(&number, slots.at, sizeof number);
        (void)!pwrite(all->fd, slots.at, sizeof(struct slot), place_of(number, all->count));
        next = number >= next ? number + 1 : next; /* two loops' may have changed places */
    }
    write_header(all, next);
}

void decisions_free(struct decisions *all)
{
    if (all == NULL)
        return;
    if (all->pending.len > 0)
        write_slots(all, buf_span(&all->pending));
    buf_fini(&all->pending);
    pthread_mutex_destroy(&all->mutex);
    close(all->fd);
    free(all);
}

struct write {
    uv_work_t request;
    struct decisions *all;
    struct loop *loop;
    struct buf slots;
};

static void run_write(uv_work_t *request)
{
    struct write *w = (struct write *)(void *)request;
    write_slots(w->all, buf_span(&w->slots));
}

static void after_write(uv_work_t *request, int status)
{
    struct write *w = (struct write *)(void *)request;
    struct loop *loop = w->loop;
    (void)status;
    pthread_mutex_lock(&w->all->mutex);
    w->all->is_writing = false;
    pthread_mutex_unlock(&w->all->mutex);
    buf_fini(&w->slots);
    free(w);
    loop_work_done(loop);
}

void decisions_flush(struct decisions *all, struct loop *loop)
{
    struct write *w = NULL;
    if (all == NULL)
        return;
    pthread_mutex_lock(&all->mutex);
    if (!all->is_writing && all->pending.len > 0) {
        w = xcalloc(1, sizeof *w);
        w->all = all;
        w->loop = loop;
        w->slots = all->pending;
        all->pending = (struct buf){ .max = DECISIONS_PENDING_MAX };
        all->is_writing = true;
    }
    pthread_mutex_unlock(&all->mutex);
    if (w == NULL)
        return;
    loop->work_count++;
    ENSURE(uv_queue_work(&loop->uv, &w->request, run_write, after_write) == 0);
}

/* ------------------------------------------------------------ one record */

static bool needs_escape(unsigned char c)
{
    return c <= ' ' || c == '%' || c >= 0x7f;
}

void decisions_escape(struct buf *out, struct span text)
{
    while (text.len > 0) {
        size_t n = 0;
        while (n < text.len && !needs_escape((unsigned char)text.at[n]))
            n++;
        buf_append(out, text.at, n);
        if (n < text.len)
            buf_printf(out, "%%%02X", (unsigned char)text.at[n++]);
        text = span_skip(text, n);
    }
}

size_t decisions_unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0'; at++) {
        bool is_code = at[0] == '%' && ascii_hex_value(at[1]) >= 0 && ascii_hex_value(at[2]) >= 0;
        *to++ = is_code ? (char)(ascii_hex_value(at[1]) * 16 + ascii_hex_value(at[2])) : *at;
        at += is_code ? 2 : 0;
    }
    *to = '\0';
    return (size_t)(to - text);
}

static void put_field(struct buf *out, const char *name, struct span value)
{
    buf_puts(out, name);
    buf_putc(out, '\t');
    decisions_escape(out, value);
    buf_putc(out, '\n');
}

/* A fact whole, or not at all. Tables are looked up anew: they are here. */
static bool put_fact(struct buf *out, const struct fact *fact, size_t limit)
{
    struct buf answer = { 0 };
    size_t before = out->len;
    if (fact->key.kind == FACT_MAP || fact->key.kind == FACT_SLEEP)
        return false;
    fact_print(&answer, fact);
    buf_printf(out, "fact\t%s\t", fact_kind_names[fact->key.kind]);
    if (fact->key.kind != FACT_POLICY) /* the request is long, and another each time */
        decisions_escape(out, fact->key.text);
    buf_putc(out, '\t');
    decisions_escape(out, buf_span(&answer));
    buf_putc(out, '\n');
    buf_fini(&answer);
    if (out->len >= limit)
        out->len = before;
    return fact->key.kind == FACT_PTR;
}

/* True: the client's name is among them. */
static bool put_facts(struct buf *out, const struct facts *facts)
{
    bool has_ptr = false;
    for (size_t scope = 0; scope < SCOPE_COUNT; scope++)
        for (const struct fact *f = facts->first[scope]; f != NULL; f = f->next)
            has_ptr |= put_fact(out, f, sizeof((struct slot *)0)->text - 600);
    return has_ptr;
}

static const char *verdict_text(enum verdict verdict, const struct outcome *out)
{
    return verdict != VERDICT_REJECT ? "permit" : out->reply.code < 500 ? "defer" : "reject";
}

static void put_record(struct buf *out, struct smtpd *d, enum verdict verdict)
{
    const struct smtp_session *s = &d->smtp;
    const struct outcome *o = &d->run.out;
    char reply[600] = "";
    int64_t wall_us = d->services->wall_us(d->services);
    if (verdict == VERDICT_REJECT)
        snprintf(reply, sizeof reply, "%d %s %.500s", o->reply.code, o->reply.enhanced,
                 o->reply.text);
    buf_printf(out, "time\t%" PRId64 "\nverdict\t%s\n", wall_us / 1000000,
               verdict_text(verdict, o));
    put_field(out, "client", span_of(s->peer.address));
    put_field(out, "from", d->in.sender);
    put_field(out, "to", d->in.recipient);
    if (s->helo != NULL)
        put_field(out, "helo", span_of(s->helo));
    put_field(out, "protocol", span_of(d->in.protocol));
    buf_printf(out, "tls\t%d\nsize\t%" PRIu64 "\n", s->is_tls, d->in.size_bytes);
    if (o->rule != NULL)
        put_field(out, "rule", span_of(o->rule));
    if (reply[0] != '\0')
        put_field(out, "reply", span_of(reply));
    if (!put_facts(out, &d->facts))
        put_field(out, "client_name", span_of(s->peer.name));
}

/* The record's number; *has_room: it would not be dropped at once. */
static uint64_t take_number(struct decisions *all, bool *has_room)
{
    pthread_mutex_lock(&all->mutex);
    uint64_t number = all->next++;
    *has_room = all->pending.len + sizeof(struct slot) <= all->pending.max;
    pthread_mutex_unlock(&all->mutex);
    return number;
}

static void keep_record(struct decisions *all, uint64_t number, struct span text)
{
    struct slot slot = { .number = number };
    size_t len = text.len < sizeof slot.text - 1 ? text.len : sizeof slot.text - 1;
    memcpy(slot.text, text.at, len);
    pthread_mutex_lock(&all->mutex);
    buf_append(&all->pending, &slot, sizeof slot); /* whole, or dropped at the bound */
    pthread_mutex_unlock(&all->mutex);
}

void decisions_put(struct decisions *all, struct smtpd *d, enum verdict verdict,
                   char reference[DECISION_REFERENCE_MAX])
{
    struct buf text = { 0 };
    bool has_room;
    reference[0] = '\0';
    if (all == NULL)
        return;
    uint64_t number = take_number(all, &has_room);
    if (has_room) {
        buf_reserve(&text, 1024);
        put_record(&text, d, verdict);
        keep_record(all, number, buf_span(&text));
        buf_fini(&text);
    }
    print_reference(number, reference);
}

/* ------------------------------------------------------------ reading */

const char *decisions_read(const struct params *params, const char *reference, struct buf *out)
{
    struct header header;
    struct slot slot;
    uint64_t number;
    char *name = file_name(params);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    const char *error = fd < 0 ? strerror(errno) : NULL;
    free(name);
    if (error == NULL && (!parse_reference(reference, &number) || !read_header(fd, &header)
                          || pread(fd, &slot, sizeof slot, place_of(number, header.count))
                                 != sizeof slot || slot.number != number))
        error = "there is no record of that decision (any more, or in the next second)";
    if (error == NULL)
        buf_add(out, span_make(slot.text, strnlen(slot.text, sizeof slot.text)));
    if (fd >= 0)
        close(fd);
    return error;
}
