#include "queue/spool.h"

#include "tests/unit/fault.h"
#include "tests/unit/scratch_dir.h"

static const struct body no_body = { .fd = -1, .dir_fd = -1 };

/* A message in memory and its envelope, as a change that creates it. */
struct message {
    struct spool_change change;
    struct body body;
    struct buf text; /* owns: the envelope's */
};

static struct spool *begin(struct scratch *s)
{
    struct spool *spool;
    *s = scratch_begin();
    cr_assert_eq(spool_open(s->path, SPOOL_LOCKED, &spool), 0);
    return spool;
}

static void end(struct scratch *s, struct spool *spool)
{
    spool_close(spool);
    scratch_end(s);
}

static void print_envelope(struct buf *out, const char *id, const char *rcpt)
{
    struct envelope e;
    envelope_init(&e, id);
    envelope_add(&e, &(struct envelope_rcpt){ .address = span_of(rcpt), .transport = "virtual",
                                              .nexthop = "x/" });
    buf_clear(out);
    envelope_print(&e, out);
    envelope_fini(&e);
}

static void message_init(struct message *m, const char *id, enum spool_folder folder)
{
    *m = (struct message){ .body = no_body };
    m->body.memory = SPAN_LITERAL("Subject: x\r\n\r\nbody\r\n");
    print_envelope(&m->text, id, "a@b");
    m->change = (struct spool_change){ .act = SPOOL_CREATE, .folder = folder,
                                       .envelope = buf_span(&m->text), .body = &m->body,
                                       .head = SPAN_LITERAL("Received: by us\r\n") };
    snprintf(m->change.id, sizeof m->change.id, "%s", id);
}

static void create(struct spool *spool, const char *id, enum spool_folder folder)
{
    struct message m;
    message_init(&m, id, folder);
    spool_run(spool, &m.change);
    cr_assert_eq(m.change.result, 0, "%s", strerror(-m.change.result));
    buf_fini(&m.text);
}

static int run_one(struct spool *spool, enum spool_act act, const char *id,
                   enum spool_folder folder, struct span envelope)
{
    struct spool_change c = { .act = act, .folder = folder, .envelope = envelope };
    snprintf(c.id, sizeof c.id, "%s", id);
    spool_run(spool, &c);
    return c.result;
}

/* "active: A B | hold: | msg: A B | tmp: | corrupt:" */
static void expect_files(const struct scratch *s, const char *expected)
{
    static const char *const folders[] = { "active", "hold", "msg", "tmp", "corrupt" };
    struct buf all = { 0 }, names = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        buf_printf(&all, "%s: %s", folders[i], scratch_list(s, folders[i], &names));
    cr_expect_str_eq(buf_text(&all), expected);
    buf_fini(&all);
    buf_fini(&names);
}

Test(spool, a_message_is_created_updated_and_removed)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct envelope e;
    struct buf text = { 0 };
    size_t open_before = scratch_descriptors();
    create(spool, "1A", SPOOL_ACTIVE);
    expect_files(&s, "active: 1A hold: msg: 1A tmp: corrupt: ");
    cr_expect(scratch_holds(&s, "msg/1A",
                            SPAN_LITERAL("Received: by us\r\nSubject: x\r\n\r\nbody\r\n")));
    print_envelope(&text, "1A", "c@d");
    cr_expect_eq(run_one(spool, SPOOL_UPDATE, "1A", SPOOL_ACTIVE, buf_span(&text)), 0);
    cr_assert_eq(spool_read(spool, SPOOL_ACTIVE, "1A", &e), 0);
    cr_expect(span_equals(e.rcpts->address, SPAN_LITERAL("c@d")));
    envelope_fini(&e);
    cr_expect_eq(run_one(spool, SPOOL_REMOVE, "1A", SPOOL_ACTIVE, span_of(NULL)), 0);
    expect_files(&s, "active: hold: msg: tmp: corrupt: ");
    cr_expect_eq(scratch_descriptors(), open_before);
    buf_fini(&text);
    end(&s, spool);
}

Test(spool, the_file_of_the_intake_is_moved_not_copied)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct message m;
    struct stat before, after;
    message_init(&m, "1A", SPOOL_ACTIVE);
    scratch_write(&s, "tmp/1A", SPAN_LITERAL("Received: x\r\n\r\nlarge\r\n"));
    m.body = (struct body){ .dir_fd = openat(s.fd, "tmp", O_PATH), .file_name = "1A",
                            .has_head = true };
    m.body.fd = openat(m.body.dir_fd, "1A", O_RDWR);
    fstat(m.body.fd, &before);
    m.body.size_bytes = (uint64_t)before.st_size;
    spool_run(spool, &m.change);
    cr_expect_eq(m.change.result, 0);
    expect_files(&s, "active: 1A hold: msg: 1A tmp: corrupt: ");
    cr_expect_eq(fstatat(s.fd, "msg/1A", &after, 0), 0);
    cr_expect_eq(before.st_ino, after.st_ino);
    close(m.body.fd);
    close(m.body.dir_fd);
    buf_fini(&m.text);
    end(&s, spool);
}

Test(spool, a_file_without_its_head_is_copied_behind_it)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct message m;
    message_init(&m, "1A", SPOOL_HOLD);
    scratch_write(&s, "tmp/1A", SPAN_LITERAL("Subject: y\r\n\r\n"));
    m.body = (struct body){ .dir_fd = openat(s.fd, "tmp", O_PATH), .file_name = "1A",
                            .size_bytes = 14 };
    m.body.fd = openat(m.body.dir_fd, "1A", O_RDWR);
    spool_run(spool, &m.change);
    cr_expect_eq(m.change.result, 0);
    expect_files(&s, "active: hold: 1A msg: 1A tmp: 1A corrupt: "); /* the intake drops its own */
    cr_expect(scratch_holds(&s, "msg/1A", SPAN_LITERAL("Received: by us\r\nSubject: y\r\n\r\n")));
    close(m.body.fd);
    close(m.body.dir_fd);
    buf_fini(&m.text);
    end(&s, spool);
}

Test(spool, hold_and_release)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct envelope e;
    create(spool, "1A", SPOOL_ACTIVE);
    cr_expect_eq(run_one(spool, SPOOL_MOVE, "1A", SPOOL_HOLD, span_of(NULL)), 0);
    expect_files(&s, "active: hold: 1A msg: 1A tmp: corrupt: ");
    cr_expect_eq(spool_read(spool, SPOOL_ACTIVE, "1A", &e), -ENOENT);
    envelope_fini(&e);
    cr_expect_eq(run_one(spool, SPOOL_MOVE, "1A", SPOOL_ACTIVE, span_of(NULL)), 0);
    expect_files(&s, "active: 1A hold: msg: 1A tmp: corrupt: ");
    cr_expect_eq(run_one(spool, SPOOL_MOVE, "2B", SPOOL_HOLD, span_of(NULL)), -ENOENT);
    end(&s, spool);
}

Test(spool, a_move_that_fails_leaves_it_where_it_was)
{
    for (int n = 1; n < 10; n++) {
        struct scratch s;
        struct spool *spool = begin(&s);
        create(spool, "1A", SPOOL_ACTIVE);
        fault_arm(n, EIO);
        int rc = run_one(spool, SPOOL_MOVE, "1A", SPOOL_HOLD, span_of(NULL));
        fault_disarm();
        cr_expect_eq(rc, fault.has_fired ? -EIO : 0);
        expect_files(&s, fault.has_fired ? "active: 1A hold: msg: 1A tmp: corrupt: "
                                         : "active: hold: 1A msg: 1A tmp: corrupt: ");
        end(&s, spool);
        if (!fault.has_fired)
            break;
    }
}

/* The order of the header, as letters of fault.h. */
Test(spool, order_of_what_must_survive)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct message m;
    struct buf text = { 0 };
    message_init(&m, "1A", SPOOL_ACTIVE);
    fault_arm(0, 0);
    spool_run(spool, &m.change);
    cr_expect_str_eq(fault.calls, "wwwddrrDD"); /* head, body, envelope; both synced; renamed */
    print_envelope(&text, "1A", "c@d");
    fault_arm(0, 0);
    run_one(spool, SPOOL_UPDATE, "1A", SPOOL_ACTIVE, buf_span(&text));
    cr_expect_str_eq(fault.calls, "wdrD");
    fault_arm(0, 0);
    run_one(spool, SPOOL_REMOVE, "1A", SPOOL_ACTIVE, span_of(NULL));
    cr_expect_str_eq(fault.calls, "D");
    fault_disarm();
    buf_fini(&m.text);
    buf_fini(&text);
    end(&s, spool);
}

Test(spool, a_batch_shares_the_syncs_of_folders)
{
    enum { MANY = 100 };
    struct scratch s;
    struct spool *spool = begin(&s);
    struct message m[MANY];
    char id[QUEUE_ID_MAX];
    size_t syncs = 0;
    for (size_t i = 0; i < MANY; i++) {
        queue_id_print(i + 1, id);
        message_init(&m[i], id, i % 2 == 0 ? SPOOL_ACTIVE : SPOOL_HOLD);
        m[i].change.next = i + 1 < MANY ? &m[i + 1].change : NULL;
    }
    fault_arm(0, 0);
    spool_run(spool, &m[0].change);
    fault_disarm();
    for (const char *c = fault.calls; *c != '\0'; c++)
        syncs += *c == 'D';
    cr_expect_eq(syncs, 3);
    cr_expect_eq(scratch_count(&s, "msg"), MANY);
    cr_expect_eq(scratch_count(&s, "active"), MANY / 2);
    cr_expect_eq(scratch_count(&s, "tmp"), 0);
    for (size_t i = 0; i < MANY; i++) {
        cr_expect_eq(m[i].change.result, 0);
        buf_fini(&m[i].text);
    }
    end(&s, spool);
}

/* Every call fails once: then either all of it is there, or nothing at all; and nothing beside. */
Test(spool, any_call_may_fail)
{
    static const int errors[] = { ENOSPC, EIO, EROFS };
    for (size_t e = 0; e < ARRAY_LEN(errors); e++)
        for (int n = 1; n < 30; n++) {
            struct scratch s;
            struct spool *spool = begin(&s);
            struct message m[2];
            message_init(&m[0], "1A", SPOOL_ACTIVE);
            message_init(&m[1], "2B", SPOOL_HOLD);
            m[0].change.next = &m[1].change;
            fault_arm(n, errors[e]);
            spool_run(spool, &m[0].change);
            fault_disarm();
            bool is_there[2] = { m[0].change.result == 0, m[1].change.result == 0 };
            cr_expect(!fault.has_fired || !is_there[0] || !is_there[1]);
            cr_expect_eq(scratch_count(&s, "active"), is_there[0]);
            cr_expect_eq(scratch_count(&s, "hold"), is_there[1]);
            cr_expect_eq(scratch_count(&s, "msg"), (size_t)is_there[0] + is_there[1]);
            cr_expect_eq(scratch_count(&s, "tmp"), 0, "%d", n);
            buf_fini(&m[0].text);
            buf_fini(&m[1].text);
            end(&s, spool);
            if (!fault.has_fired)
                break;
        }
}

/* A bounce that cannot be written keeps the message that it is about. */
Test(spool, what_is_after_waits_for_success)
{
    for (int n = 0; n < 12; n++) {
        struct scratch s;
        struct spool *spool = begin(&s);
        struct message bounce;
        struct buf text = { 0 };
        create(spool, "1A", SPOOL_ACTIVE);
        create(spool, "2B", SPOOL_ACTIVE);
        message_init(&bounce, "3C", SPOOL_ACTIVE);
        print_envelope(&text, "2B", "new@b");
        struct spool_change update = { .act = SPOOL_UPDATE, .id = "2B", .after = &bounce.change,
                                       .envelope = buf_span(&text) };
        struct spool_change removal = { .act = SPOOL_REMOVE, .id = "1A", .next = &update,
                                        .after = &bounce.change };
        bounce.change.next = &removal;
        fault_arm(n, EIO);
        spool_run(spool, &bounce.change);
        fault_disarm();
        bool has_bounce = bounce.change.result == 0;
        if (!has_bounce) {
            cr_expect_eq(removal.result, -ECANCELED);
            cr_expect_eq(update.result, -ECANCELED);
        }
        cr_expect(has_bounce || scratch_count(&s, "active") == 2);
        struct envelope e;
        cr_assert_eq(spool_read(spool, SPOOL_ACTIVE, "2B", &e), 0);
        cr_expect(has_bounce || span_equals(e.rcpts->address, SPAN_LITERAL("a@b")));
        cr_expect_eq(scratch_count(&s, "tmp"), 0);
        envelope_fini(&e);
        buf_fini(&bounce.text);
        buf_fini(&text);
        end(&s, spool);
    }
}

Test(spool, recovery_finishes_or_removes_what_a_crash_left)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct buf notes = { 0 };
    create(spool, "1A", SPOOL_ACTIVE);
    create(spool, "2B", SPOOL_HOLD);
    scratch_write(&s, "tmp/3C", SPAN_LITERAL("half"));
    scratch_write(&s, "tmp/3C.env", SPAN_LITERAL("half"));
    scratch_write(&s, "msg/4D", SPAN_LITERAL("its envelope was to come, or is gone"));
    cr_expect_eq(spool_recover(spool, &notes), 0);
    expect_files(&s, "active: 1A hold: 2B msg: 1A 2B tmp: corrupt: ");
    cr_expect_eq(notes.len, 0);
    buf_fini(&notes);
    end(&s, spool);
}

Test(spool, recovery_deletes_nothing_it_does_not_understand)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct buf notes = { 0 };
    struct envelope e;
    create(spool, "1A", SPOOL_ACTIVE);
    scratch_write(&s, "active/2B", SPAN_LITERAL("the message is missing"));
    scratch_write(&s, "hold/1A", SPAN_LITERAL("twice"));
    scratch_write(&s, "active/core.123", SPAN_LITERAL("x"));
    scratch_write(&s, "msg/notes", SPAN_LITERAL("y"));
    scratch_write(&s, "corrupt/2B.env", SPAN_LITERAL("from another day"));
    cr_expect_eq(spool_recover(spool, &notes), 0);
    expect_files(&s, "active: hold: 1A msg: 1A tmp: "
                     "corrupt: 1A.env 2B.env 2B.env.2 core.123 notes ");
    cr_expect_not_null(strstr(buf_text(&notes), "2B: the message is missing"));
    cr_expect_eq(spool_read(spool, SPOOL_HOLD, "1A", &e), -EBADMSG);
    envelope_fini(&e);
    cr_expect_eq(spool_set_aside(spool, SPOOL_HOLD, "1A"), 0);
    expect_files(&s, "active: hold: msg: tmp: "
                     "corrupt: 1A.env 1A.env.2 1A.msg 2B.env 2B.env.2 core.123 notes ");
    buf_fini(&notes);
    end(&s, spool);
}

Test(spool, an_envelope_under_another_name_is_damage)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct envelope e;
    create(spool, "1A", SPOOL_ACTIVE);
    cr_expect_eq(renameat(s.fd, "active/1A", s.fd, "active/2B"), 0);
    cr_expect_eq(spool_read(spool, SPOOL_ACTIVE, "2B", &e), -EBADMSG);
    envelope_fini(&e);
    cr_assert_eq(symlinkat("/etc/passwd", s.fd, "active/3C"), 0);
    cr_expect_eq(spool_read(spool, SPOOL_ACTIVE, "3C", &e), -EBADMSG);
    envelope_fini(&e);
    scratch_mkdir(&s, "active/4D");
    cr_expect_eq(spool_read(spool, SPOOL_ACTIVE, "4D", &e), -EBADMSG);
    envelope_fini(&e);
    end(&s, spool);
}

Test(spool, the_same_id_never_overwrites)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    struct message m;
    create(spool, "1A", SPOOL_ACTIVE);
    message_init(&m, "1A", SPOOL_ACTIVE);
    m.change.head = SPAN_LITERAL("Other: message\r\n");
    spool_run(spool, &m.change);
    cr_expect_eq(m.change.result, -EEXIST);
    expect_files(&s, "active: 1A hold: msg: 1A tmp: corrupt: ");
    cr_expect(scratch_holds(&s, "msg/1A",
                            SPAN_LITERAL("Received: by us\r\nSubject: x\r\n\r\nbody\r\n")));
    buf_fini(&m.text);
    end(&s, spool);
}

Test(spool, one_at_a_time_may_change_it)
{
    struct scratch s;
    struct spool *spool = begin(&s), *other;
    cr_expect_eq(spool_open(s.path, SPOOL_LOCKED, &other), -EWOULDBLOCK);
    cr_expect_null(other);
    cr_expect_eq(spool_open(s.path, SPOOL_READ_ONLY, &other), 0);
    spool_close(other);
    spool_close(spool);
    cr_expect_eq(spool_open(s.path, SPOOL_LOCKED, &spool), 0);
    cr_expect_eq(spool_open("/nonexistent", SPOOL_LOCKED, &other), -ENOENT);
    end(&s, spool);
}

Test(spool, lists_are_sorted)
{
    struct scratch s;
    struct spool *spool = begin(&s);
    uint64_t *ids;
    size_t count;
    static const char *const names[] = { "FF", "1A", "3", "100" };
    for (size_t i = 0; i < 4; i++)
        create(spool, names[i], SPOOL_ACTIVE);
    cr_assert_eq(spool_list(spool, SPOOL_ACTIVE, &ids, &count), 0);
    cr_assert_eq(count, 4);
    cr_expect(ids[0] == 3 && ids[1] == 0x1A && ids[2] == 0xFF && ids[3] == 0x100);
    free(ids);
    cr_expect_eq(spool_list(spool, SPOOL_HOLD, &ids, &count), 0);
    cr_expect_eq(count, 0);
    free(ids);
    end(&s, spool);
}
