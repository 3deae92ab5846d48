/* A whole conversation with policy, message and log, by the driver of the script tests: questions
 * are answered by chance, disks fill up, clients leave in mid-sentence and others come. */
#include "fuzz/fuzz.h"
#include "script/drive.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char main_cf[] =
    "myhostname = mx.example.org\n"
    "virtual_mailbox_domains = example.org\n"
    "virtual_mailbox_maps = inline:{ {a@example.org=a/}, {b@example.org=b/}, {@example.org=c/} }\n"
    "virtual_alias_maps = inline:{ {all@example.org=a@example.org, b@example.org} }\n"
    "recipient_delimiter = +\n"
    "queue_directory = .\n"
    "mynetworks = 127.0.0.0/8\n"
    "smtpd_authorized_xclient_hosts = 127.0.0.0/8\n"
    "message_size_limit = 300000\n"
    "smtpd_helo_required = no\n"
    "smtpd_forbid_unauth_pipelining = no\n"
    "smtpd_soft_error_limit = 5\n"
    "smtpd_delay_reject = yes\n"
    "strict = reject_non_fqdn_sender, reject_unlisted_sender\n"
    "smtpd_restriction_classes = strict\n"
    "smtpd_client_restrictions = check_client_access\n"
    "  inline:{ {client.test=PREPEND X-Client: yes}, {192.0.2=WARN odd} },\n"
    "  reject_unknown_client_hostname, reject_rbl_client bl.test=127.0.0.[2..9],\n"
    "  check_reverse_client_hostname_access pcre:{{/dyn/ strict}}\n"
    "smtpd_helo_restrictions = permit_mynetworks, reject_unknown_helo_hostname, sleep 2,\n"
    "  reject_rhsbl_helo dbl.test\n"
    "smtpd_sender_restrictions = reject_unknown_sender_domain, check_sender_mx_access\n"
    "  cidr:{{192.0.2.0/24 REJECT mx}}, check_sender_access inline:{ {discard.test=DISCARD},\n"
    "  {hold.test=HOLD}, {bad.test=\x1b[2J}, {redirect.test=REDIRECT b@example.org}, {bcc.test=BCC b@example.org} }\n"
    "smtpd_relay_restrictions = reject_unauth_destination\n"
    "smtpd_recipient_restrictions = check_policy_service unix:policy, check_greylist,\n"
    "  check_recipient_access inline:{ {slow@example.org=DEFER_IF_PERMIT later} },\n"
    "  reject_unknown_recipient_domain, reject_unauth_pipelining\n"
    "smtpd_data_restrictions = reject_multi_recipient_bounce\n"
    "smtpd_end_of_data_restrictions = check_policy_service unix:policy\n";

static char dir[] = "/tmp/postern-fuzz-XXXXXX";
static struct config *config;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static void clean(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fuzz_begin(void)
{
    struct problems problems = { 0 };
    ENSURE(mkdtemp(dir) != NULL);
    atexit(clean);
    char *file = xprintf("%s/main.cf", dir), *tmp = xprintf("%s/tmp", dir);
    mkdir(tmp, 0700);
    config = config_load(file, main_cf, &problems);
    config_print_problems(config, &problems, stderr);
    ENSURE(problems.error_count == 0);
    problems_fini(&problems);
    free(file);
    free(tmp);
}

struct player {
    struct fuzz *f;
    struct drive d;
    struct span text;     /* what the client still has to say */
    struct buf filler;    /* owns: many lines */
    size_t stored, acknowledged;
    bool may_discard;     /* then a 250 proves nothing */
};

static bool chance(struct player *p, size_t one_in)
{
    return seeded_below(&p->f->random, one_in) == 0;
}

/* Whatever was said and logged is well-formed, and every 250 for a message had its delivery. */
static void check(struct player *p)
{
    struct buf line = { 0 };
    while (drive_line(&p->d, &line)) {
        p->acknowledged += memmem(line.at, line.len, "queued as", 9) != NULL;
        buf_clear(&line);
    }
    while (drive_log_line(&p->d, &line))
        buf_clear(&line);
    buf_fini(&line);
    if (drive_complaint(&p->d) != NULL)
        fprintf(stderr, "%s\n", drive_complaint(&p->d));
    ENSURE(drive_complaint(&p->d) == NULL);
    ENSURE(p->acknowledged <= p->stored || p->may_discard);
}

/* ------------------------------------------------------------ what can happen in each state */

static void come(struct player *p)
{
    struct ip client = { 4, { 192, 0, 2, (uint8_t)seeded_below(&p->f->random, 3) } };
    if (chance(p, 2))
        client = (struct ip){ 4, { 127, 0, 0, 1 } };
    bool is_named = chance(p, 2);
    p->d.uses_room = chance(p, 2);
    drive_connect(&p->d, &client, is_named ? "client.test" : NULL, is_named ? "dyn.test" : NULL,
                  chance(p, 2));
    drive_feed(&p->d, span_make(NULL, 0));
}

static void fill(struct player *p)
{
    if (p->filler.len == 0)
        for (size_t i = 0; i < 900; i++)
            buf_puts(&p->filler, "The quick brown fox jumps over the lazy dog, again and again; "
                                 "it never ends.\r\n");
    drive_feed(&p->d, buf_span(&p->filler));
}

static void speak(struct player *p)
{
    struct span piece;
    if (p->d.state == DRIVE_READING && smtpd_is_receiving(p->d.smtpd) && chance(p, 12))
        fill(p);
    else if (fuzz_piece(p->f, &p->text, &piece))
        drive_feed(&p->d, piece);
}

static void learn(struct player *p)
{
    static const char *const values[FACT_KIND_COUNT][4] = {
        [FACT_A] = { "192.0.2.1", "127.0.0.2", "127.0.0.1", "127.255.255.254, 127.0.0.3" },
        [FACT_AAAA] = { "2001:db8::1", "::1", "2001:db8::1, ::2", "2001:db8::7" },
        [FACT_MX] = { "10 mx.client.test", "0 .", "10 a.test, 20 b.test", "5 localhost" },
        [FACT_NS] = { "ns.test", "ns1.test, ns2.test", "a.b", "ns.client.test" },
        [FACT_PTR] = { "client.test", "dyn.test", "a_b.test, c.test", "1.2.3" },
        [FACT_TXT] = { "\"listed, see http://x\"", "\"v=spf1 -all\"", "x", "\"\"" },
        [FACT_MAP] = { "OK", "REJECT", "x", "550 5.1.1 no" },
        [FACT_POLICY] = { "dunno", "reject go away", "defer_if_permit 4.2.2 later",
                          "prepend X-Policy: yes" },
        [FACT_SLEEP] = { "", "", "", "" },
        [FACT_GREYLIST] = { "wait 120", "first 310", "pass", "known" },
        [FACT_GREET] = { "quiet", "talked 5 10 EHLO", "quiet", "quiet" },
        [FACT_REMEMBERED] = { "", "", "", "" },
    };
    static const enum fact_status statuses[] = { FACT_NOT_FOUND, FACT_TEMPFAIL, FACT_BROKEN };
    struct buf value = { 0 };
    enum fact_status status = FACT_FOUND;
    enum fact_kind kind = p->d.question.kind;
    const char *text = values[kind][seeded_below(&p->f->random, 4)];
    if (chance(p, 3) || !fact_parse(kind, span_of(text), &status, &value)) {
        buf_clear(&value);
        status = statuses[seeded_below(&p->f->random, 3)];
    }
    drive_learn(&p->d, status, buf_span(&value));
    buf_fini(&value);
}

/* A work thread is done; with the client's message, or with that of one who has left. */
static void finish_delivery(struct player *p)
{
    static const int errors[] = { -ENOSPC, -EIO, -EDQUOT, -EMFILE };
    int result = chance(p, 4) ? errors[seeded_below(&p->f->random, 4)] : 0;
    p->stored += result == 0;
    drive_delivered(&p->d, result);
}

static void finish_spill(struct player *p)
{
    drive_spilled(&p->d, chance(p, 6) ? -ENOSPC : 0);
}

static void act(struct player *p)
{
    struct drive *d = &p->d;
    if (d->state != DRIVE_NONE && d->state != DRIVE_CLOSED && chance(p, 60)) {
        drive_leave(d, chance(p, 2) ? "connection reset by peer" : NULL);
        return;
    }
    switch (d->state) {
    case DRIVE_CLOSED:
    case DRIVE_NONE:
        if (d->delivering.count > 0 && chance(p, 2))
            finish_delivery(p);
        else if (d->spilling.count > 0 && chance(p, 2))
            finish_spill(p);
        else
            come(p);
        break;
    case DRIVE_READING:
        if (chance(p, 100))
            drive_timeout(d);
        else
            speak(p);
        break;
    case DRIVE_ASKING: learn(p); break;
    case DRIVE_DELIVERING: finish_delivery(p); break;
    case DRIVE_SPILLING: finish_spill(p); break;
    case DRIVE_SLEEPING: drive_wake(d); break;
    case DRIVE_TLS: drive_secured(d, "TLSv1.3 with cipher X (256/256 bits)"); break;
    }
}

void fuzz_one(struct fuzz *f)
{
    struct player p = { .f = f, .text = f->text };
    p.may_discard = memmem(f->text.at, f->text.len, "iscard", 6) != NULL
                    || memmem(f->text.at, f->text.len, "ISCARD", 6) != NULL;
    drive_init(&p.d, config);
    for (int i = 0; i < 3000 && p.text.len > 0 && p.d.id_count < DRIVE_IDS_MAX; i++) {
        drive_wait(&p.d, 10);
        act(&p);
        check(&p);
    }
    if (p.d.smtpd != NULL && p.d.state != DRIVE_CLOSED)
        drive_leave(&p.d, NULL);
    check(&p);
    drive_fini(&p.d);
    buf_fini(&p.filler);
}
