/* Bounces of any message, with any words of a next hop: lines end as they should, none is too long,
 * and nothing of the message or the words can close the report's parts early. */
#include "fuzz/fuzz.h"
#include "queue/bounce.h"

#include <sys/mman.h>
#include <unistd.h>

static int file = -1;

void fuzz_begin(void)
{
    file = memfd_create("message", MFD_CLOEXEC);
    ENSURE(file >= 0);
}

static struct span clean(struct fuzz *f)
{
    struct span line = fuzz_line(f);
    char *copy = arena_text(&f->memory, line);
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)copy[i] < ' ' || copy[i] == 0x7f)
            copy[i] = '?';
    return span_make(copy, line.len);
}

static void fill(struct fuzz *f, struct envelope *e)
{
    static const int codes[] = { 550, 450, 250 };
    envelope_init(e, "1983AB");
    e->sender = SPAN_LITERAL("s@a.test");
    e->envid = SPAN_LITERAL("id+2B");
    e->ret = f->seed % 3 == 0 ? SMTP_RET_HDRS : SMTP_RET_FULL;
    e->client = "";
    e->arrived_s = 1700000000;
    for (int i = 0; i < 2; i++) {
        const struct envelope_rcpt rcpt = {
            .address = clean(f), .original = SPAN_LITERAL("b@c.test"), .transport = "lmtp",
            .nexthop = "inet:x:24", .notify = SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_SUCCESS,
            .state = (f->seed + (unsigned)i) % 2 == 0 ? RCPT_FAILED : RCPT_SENT,
            .enhanced = "", .text = "", .relay = "",
        };
        struct envelope_rcpt *kept = envelope_add(e, &rcpt);
        envelope_note(e, kept, codes[f->seed % 3], "5.1.1",
                      arena_text(&f->memory, fuzz_line(f)), "x[192.0.2.1]:24");
    }
}

/* The report's own lines; behind them follows the message as it is. Parts are counted by the
 * boundary of the first Content-Type. */
static void check(struct span text, struct span message)
{
    static const char mark[] = "boundary=\"";
    const char *at = memmem(text.at, text.len, mark, sizeof mark - 1);
    ENSURE(at != NULL);
    struct span boundary = span_skip(text, (size_t)(at - text.at) + sizeof mark - 1);
    boundary.len = span_find(boundary, '"');
    size_t parts = 0;
    if (memmem(message.at, message.len, boundary.at, boundary.len) != NULL)
        return; /* by chance, or because the fuzzer has seen it */
    while (text.len > 0) {
        size_t end = span_find(text, '\n');
        struct span line = span_make(text.at, end);
        parts += line.len > boundary.len + 2 && memcmp(line.at, "--", 2) == 0
                 && memcmp(line.at + 2, boundary.at, boundary.len) == 0;
        text = span_skip(text, end + 1);
    }
    ENSURE(parts == 4);
}

void fuzz_one(struct fuzz *f)
{
    const struct schedule_limits limits = { .lifetime_s = 100, .bounce_lifetime_s = 100 };
    struct envelope e;
    struct buf out = { 0 };
    bool is_8bit, is_utf8;
    fill(f, &e);
    ENSURE(ftruncate(file, 0) == 0);
    ENSURE(pwrite(file, f->text.at, f->text.len, 0) == (ssize_t)f->text.len);
    const struct bounce b = {
        .id = "1983AC", .myhostname = "mx.example.org", .mail_name = "Postern",
        .date = "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)", .size_limit = 50000,
        .arrival_date = "Mon, 23 Nov 2026 03:41:15 +0000 (UTC)", .retry_until = "", .message_fd = file,
        .message_bytes = f->text.len,
    };
    if (bounce_plan(&e, &limits, 1700000200)
        && bounce_write(&b, &e, &out, &is_8bit, &is_utf8) == 0)
        check(buf_span(&out), f->text);
    envelope_fini(&e);
    buf_fini(&out);
}
