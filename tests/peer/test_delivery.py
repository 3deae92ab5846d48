"""Where mail lands, and what happens when it cannot: 4xx, nothing left behind, nothing outside
the mail tree, and the server recovers by itself."""
import os
import re
import shutil
import subprocess
import unittest

from harness import Postern, scratch, strip_trace, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20000  # lies in the spool


def delivered_to(mail):
    return re.search(rb"^Delivered-To: (.*)\r$", mail, re.M).group(1).decode()


class DeliveryTest(unittest.TestCase):
    def start(self, settings=None, **kwargs):
        return self.enterContext(Postern(settings, **kwargs))

    def send(self, server, data=MESSAGE, rcpts=("you@example.org",)):
        """One message in a connection of its own: the reply to the final dot."""
        with server.connect(timeout=30) as smtp:
            smtp.command("EHLO client.test")
            return smtp.message(data, rcpts=rcpts)

    def assert_nothing_left(self, server, expected=0):
        """Nothing half done anywhere; that many messages in all."""
        files = server.all_files()
        self.assertEqual([f for f in files if "/tmp/" in f], [])
        self.assertEqual(len([f for f in files if "/new/" in f]), expected, files)

    def fails_and_recovers(self, server, break_it, mend_it, expected, data=(MESSAGE, LARGE),
                           rcpts=("you@example.org",)):
        kept = len([f for f in server.all_files() if "/new/" in f])
        break_it()
        for message in data:
            reply = self.send(server, message, rcpts)
            self.assertRegex(reply.lines[0], expected)
        mend_it()
        self.assert_nothing_left(server, kept)
        for message in data:
            self.assertEqual(self.send(server, message, rcpts).code, 250)
        self.assert_nothing_left(server, kept + len(data) * len(rcpts))


class Maildir(DeliveryTest):
    def test_made_on_the_first_delivery_for_its_owner_only(self):
        server = self.start({"virtual_mailbox_maps":
                             "inline:{ {you@example.org=deep/er/you/}, {x@example.org=x} }"})
        self.send(server)
        self.send(server, rcpts=["x@example.org"])
        for box in ("deep/er/you", "x"):
            path = server.dir / "mail" / box
            self.assertEqual(sorted(p.name for p in path.iterdir()), ["cur", "new", "tmp"])
            for directory in (path, path / "new", path / "cur", path / "tmp"):
                self.assertEqual(directory.stat().st_mode & 0o777, 0o700)
            (mail,) = server.files(box)
            self.assertEqual(mail.stat().st_mode & 0o777, 0o600)
            self.assertRegex(mail.name, r"^\d+\.P\d+Q[0-9A-F]+\.mx\.example\.org,S=%d$"
                             % mail.stat().st_size)

    def test_a_part_that_is_missing_is_made_again(self):
        server = self.start()
        self.send(server)
        for part in ("tmp", "new", "cur", ""):
            shutil.rmtree(server.dir / "mail" / "you" / part)
            self.assertEqual(self.send(server).code, 250, part)
            self.assertEqual(self.send(server, LARGE).code, 250, part)

    def test_every_recipient_gets_a_file_of_his_own(self):
        server = self.start({"recipient_delimiter": "+"})
        for data in (MESSAGE, LARGE):
            reply = self.send(server, data, ["you@example.org", "You+Tag@Example.ORG",
                                             "other@example.org", "you@example.org"])
            self.assertEqual(reply.code, 250)
        mails = server.mails("you")
        self.assertEqual(sorted(delivered_to(m) for m in mails),
                         ["you+tag@example.org", "you+tag@example.org",
                          "you@example.org", "you@example.org"])
        self.assertEqual({strip_trace(m) for m in mails}, {MESSAGE, LARGE})
        self.assertEqual(sum(b"X-Original-To: You+Tag@Example.ORG\r\n" in m for m in mails), 2)
        for mail in mails:
            self.assertNotIn(b"\tfor <", mail)  # would tell one recipient about another
        self.assertEqual(len(server.mails("other")), 2)

    def test_a_thousand_recipients(self):
        server = self.start({"virtual_mailbox_maps": "inline:{ %s }" % " ".join(
            "{u%d@example.org=u%d/}" % (i, i) for i in range(300)),
            "smtpd_recipient_limit": "300"}, limits=["prlimit", "--nofile=120"])
        rcpts = ["u%d@example.org" % i for i in range(300)]
        for data in (MESSAGE, LARGE):
            with server.connect(timeout=60) as smtp:
                smtp.command("EHLO x")
                smtp.send("MAIL FROM:<>\r\n" + "".join("RCPT TO:<%s>\r\n" % r for r in rcpts))
                self.assertEqual({smtp.reply().code for _ in range(301)}, {250})
                self.assertEqual(smtp.command("DATA").code, 354)
                smtp.send(data + b".\r\n")
                self.assertEqual(smtp.reply().code, 250)
        for i in range(300):
            self.assertEqual(sorted(strip_trace(m) for m in server.mails("u%d" % i)),
                             sorted([MESSAGE, LARGE]))

    def test_catch_all_and_postmaster(self):
        server = self.start({"virtual_mailbox_maps":
                             "inline:{ {@example.org=all/}, {you@example.org=you/} }"})
        self.send(server, rcpts=["anything@example.org", "YOU@example.org", "postmaster"])
        self.assertEqual([len(server.files(box)) for box in ("all", "you", "postmaster")],
                         [2, 1, 0])
        server = self.start()
        self.send(server, rcpts=["Postmaster"])
        self.assertEqual(len(server.files("postmaster")), 1)

    def test_the_spool_on_another_file_system(self):
        """What cannot be renamed is copied: whole, and the spool is empty afterwards."""
        if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev:
            self.skipTest("no second file system")
        path = self.enterContext(scratch())
        shm = "/dev/shm/" + path.name
        self.addCleanup(shutil.rmtree, shm, ignore_errors=True)
        server = self.start({"queue_directory": shm})
        self.assertEqual(self.send(server, LARGE).code, 250)
        self.assertEqual([strip_trace(m) for m in server.mails("you")], [LARGE])
        self.assertEqual(os.listdir(shm + "/tmp"), [])


class Aliases(DeliveryTest):
    MAPS = ("inline:{ {team@example.org=you@example.org, other@example.org, you@example.org}, "
            "{again@example.org=team@example.org}, {self@example.org=self@example.org, "
            "you@example.org}, {loop@example.org=pool@example.org}, "
            "{pool@example.org=loop@example.org}, {out@example.org=u@elsewhere.test}, "
            "{@alias.test=@example.org}, {abuse@alias.test=you@example.org}, {alias.test=x} }")

    def start_with_aliases(self, **more):
        return self.start(dict({"virtual_alias_maps": self.MAPS, "recipient_delimiter": "+",
                                "virtual_mailbox_maps": "inline:{ {you@example.org=you/}, "
                                "{other@example.org=other/}, {self@example.org=self/} }"}, **more))

    def test_results_are_delivered_once_each(self):
        server = self.start_with_aliases()
        self.assertEqual(self.send(server, rcpts=["team@example.org"]).code, 250)
        self.assertEqual([len(server.files(b)) for b in ("you", "other")], [1, 1])
        (mail,) = server.mails("other")
        self.assertIn(b"X-Original-To: team@example.org\r\nDelivered-To: other@example.org\r\n",
                      mail)
        self.assertEqual(self.send(server, rcpts=["again@example.org"]).code, 250)
        self.assertEqual([len(server.files(b)) for b in ("you", "other")], [2, 2])
        self.assertEqual(self.send(server, rcpts=["self@example.org"]).code, 250)
        self.assertEqual([len(server.files(b)) for b in ("you", "self")], [3, 1])
        server.wait_log(r"to=<other@example\.org>, orig_to=<team@example\.org>, relay=virtual")

    def test_domains_of_aliases(self):
        server = self.start_with_aliases()
        self.assertEqual(self.send(server, rcpts=["you@alias.test", "abuse@alias.test"]).code, 250)
        self.assertEqual(len(server.files("you")), 2)
        with server.connect() as smtp:
            smtp.command("EHLO x")
            smtp.command("MAIL FROM:<a@client.test>")
            self.assertEqual(smtp.command("RCPT TO:<nobody@alias.test>").code, 550)

    def test_loops_and_outsiders_are_a_temporary_mistake_of_ours(self):
        server = self.start_with_aliases()
        with server.connect() as smtp:
            smtp.command("EHLO x")
            smtp.command("MAIL FROM:<a@client.test>")
            for user in ("loop", "out"):
                self.assertEqual(smtp.command("RCPT TO:<%s@example.org>" % user).code, 451)
            self.assertEqual(smtp.command("RCPT TO:<you@example.org>").code, 250)

    def test_extensions_move_along(self):
        server = self.start_with_aliases()
        self.assertEqual(self.send(server, rcpts=["team+news@example.org"]).code, 250)
        self.assertEqual(delivered_to(server.mails("other")[0]), "other+news@example.org")


class Quota(DeliveryTest):
    def box(self, server, first_line, *lines):
        for part in ("new", "cur", "tmp", ".Trash/cur", ".Sent/cur"):
            (server.dir / "mail" / "you" / part).mkdir(parents=True, exist_ok=True)
        path = server.dir / "mail" / "you" / "maildirsize"
        path.write_text("\n".join((first_line,) + lines) + "\n")
        return path

    def test_a_full_mailbox_is_552_in_the_session(self):
        server = self.start()
        self.box(server, "5000S,3C")
        codes = [self.send(server).lines[0][:9] for _ in range(4)]
        self.assertEqual(codes, ["250 2.0.0"] * 3 + ["552 5.2.2"])
        server.wait_log(r"END-OF-MESSAGE|status=bounced \(")
        self.assert_nothing_left(server, 3)
        server.files("you")[0].unlink()  # the owner makes room: counted again
        self.assertEqual(self.send(server).code, 250)
        self.assertEqual(self.send(server).code, 552)
        self.assertEqual(self.send(server, rcpts=["other@example.org"]).code, 250)

    def test_bytes_count_and_large_messages_too(self):
        server = self.start()
        path = self.box(server, "400000S")
        self.assertEqual([self.send(server, LARGE).code for _ in range(2)], [250, 552])
        self.assertEqual(self.send(server).code, 250)
        sizes = [p.stat().st_size for p in server.files("you")]
        lines = path.read_text().split("\n")[1:-1]
        self.assertEqual(sum(int(line.split()[0]) for line in lines), sum(sizes))
        self.assertEqual(sum(int(line.split()[1]) for line in lines), 2)
        self.assert_nothing_left(server, 2)

    def test_one_full_mailbox_of_several_is_temporary_and_nobody_gets_a_copy(self):
        """A 552 for all would be wrong, a 250 a lie; one by one they get their own answers."""
        server = self.start()
        self.box(server, "100S")
        reply = self.send(server, rcpts=["other@example.org", "you@example.org"])
        self.assertEqual(reply.lines[0][:9], "452 4.2.2")
        self.assert_nothing_left(server)
        self.assertEqual(self.send(server, rcpts=["other@example.org"]).code, 250)

    def test_folders_count_and_trash_does_not(self):
        server = self.start()
        self.box(server, "10000S,2C", "9999 99")  # a sum that is wrong
        for name in (".Trash/cur/1,S=9000:2,S", ".Sent/cur/1,S=9:2,S"):
            (server.dir / "mail" / "you" / name).write_bytes(b"x")
        self.assertEqual([self.send(server).code for _ in range(2)], [250, 552])

    def test_files_that_are_no_quota(self):
        """Also a pipe that nobody writes to must not stop everybody's mail."""
        server = self.start()
        for content in ("", "\n", "garbage", "0S,0C", "S,C", "99999999999999999999S", "-5S",
                        "1000000S\n" + "1 1\n" * 5000):
            self.box(server, content)
            self.assertEqual(self.send(server).code, 250, content[:30])
        path = server.dir / "mail" / "you" / "maildirsize"
        path.unlink()
        os.mkfifo(path)
        self.assertEqual(self.send(server).code, 250)
        path.unlink()
        path.mkdir()
        self.assertIn(self.send(server).code, (250, 451))
        self.assertEqual(self.send(server, rcpts=["other@example.org"]).code, 250)


class Escape(DeliveryTest):
    """Nothing that a sender or a mailbox owner does leads out of the mail tree."""

    NAMES = ("../../x", "/etc/x", "..", ".", "a/../../b", "~root", "x%00y", "$(id)", "`id`",
             "x;y", "x|y", "-rf", "%s%s%n", "\\\\x", "new", "tmp/x", "a" * 64)

    def test_recipient_names_are_only_keys(self):
        server = self.start({"virtual_mailbox_maps": "inline:{ {@example.org=all/} }",
                             "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "1000"})
        outside = set(server.dir.iterdir())
        accepted = 0
        with server.connect() as smtp:
            smtp.command("EHLO x")
            for name in self.NAMES:
                for form in ("<%s@example.org>", "<\"%s\"@example.org>", "\"%s\"@example.org"):
                    smtp.command("MAIL FROM:<a@client.test>")
                    if smtp.command("RCPT TO:" + form % name).code == 250:
                        self.assertEqual(smtp.command("DATA").code, 354)
                        smtp.send(MESSAGE + b".\r\n")
                        self.assertEqual(smtp.reply().code, 250, name)
                        accepted += 1
                    smtp.command("RSET")
            for raw in (b"RCPT TO:<a\0b@example.org>", b"RCPT TO:<\0@example.org>",
                        b"RCPT TO:<a\r@example.org>", b"RCPT TO:<a\x1b[2J@example.org>"):
                smtp.command("MAIL FROM:<a@client.test>")
                self.assertEqual(smtp.command(raw).code, 501, raw)
                smtp.command("RSET")
        self.assertGreater(accepted, 20)
        self.assertEqual(len(server.files("all")), accepted)
        self.assertEqual(set(server.dir.iterdir()), outside)
        self.assertEqual([p.name for p in (server.dir / "mail").iterdir()], ["all"])
        self.assertNotRegex(server.log_bytes(), rb"[^\n\x20-\x7e]")

    def test_unsafe_paths_in_the_table_are_refused(self):
        paths = ("../you/", "/tmp/you/", "a/../../b/", "./", "..", "a//b/", "/")
        maps = " ".join("{u%d@example.org=%s}" % pair for pair in enumerate(paths))
        server = self.start({"virtual_mailbox_maps": "inline:{ %s }" % maps})
        with server.connect() as smtp:
            smtp.command("EHLO x")
            smtp.command("MAIL FROM:<a@client.test>")
            for i, path in enumerate(paths):
                self.assertEqual(smtp.command("RCPT TO:<u%d@example.org>" % i).code, 451, path)

    def plant(self, server, where, target):
        """A symbolic link in the mail tree, in the place of what was there."""
        path = server.dir / "mail" / where
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(path.name + ".old"))
        elif path.exists() or path.is_symlink():
            path.unlink()
        path.symlink_to(target)
        return path

    def test_symbolic_links_are_not_followed(self):
        server = self.start()
        self.send(server)
        outside = self.enterContext(scratch())
        for part in ("new", "cur", "tmp"):
            (outside / part).mkdir()
        for where, target in (("you/new", outside / "new"), ("you/tmp", outside / "tmp"),
                              ("you", outside), ("you", "../elsewhere"),
                              ("you", server.dir / "mail" / "other")):
            path = self.plant(server, where, target)
            for data in (MESSAGE, LARGE):
                with self.subTest(where=where, target=target):
                    reply = self.send(server, data)
                    is_renamed = where == "you/tmp" and data is LARGE  # never touches tmp/
                    self.assertEqual(reply.code, 250 if is_renamed else 451)
            path.unlink()
            path.with_name(path.name + ".old").rename(path)
            self.assertEqual(self.send(server).code, 250)
        self.assertEqual([p for p in outside.rglob("*") if p.is_file()], [])
        self.assertFalse((server.dir / "mail" / "other").exists())
        self.assertEqual(server.files("you", "tmp"), [])
        quota = self.enterContext(scratch()) / "victim"
        quota.write_text("1S\n")
        (server.dir / "mail" / "you" / "maildirsize").symlink_to(quota)
        self.assertIn(self.send(server).code, (250, 451))
        self.assertEqual(quota.read_text(), "1S\n")

    def test_a_link_in_the_spool_is_not_followed(self):
        """The spool's tmp/ is ours alone; a name that exists is never opened."""
        server = self.start()
        victim = server.dir / "victim"
        victim.write_text("precious")
        for name in ("1983AB", "tmp"):
            (server.dir / "spool" / "tmp" / name).symlink_to(victim)
        self.assertEqual(self.send(server, LARGE).code, 250)
        self.assertEqual(victim.read_text(), "precious")


class Failure(DeliveryTest):
    """Each of these is 4xx for the sender, and over when its cause is over."""

    def test_missing_base(self):
        server = self.start()
        mail, away = server.dir / "mail", server.dir / "away"
        self.fails_and_recovers(server, lambda: mail.rename(away), lambda: away.rename(mail),
                                r"^451 4\.3\.0 ")

    def test_base_that_is_a_file(self):
        """Beside main.cf the sandbox lets no other directory take its place."""
        server = self.start({"sandbox": "no"})
        mail = server.dir / "mail"

        def break_it():
            mail.rmdir()
            mail.write_text("")

        def mend_it():
            mail.unlink()
            mail.mkdir()
        self.fails_and_recovers(server, break_it, mend_it, r"^451 4\.3\.0 ")

    def test_wrong_spool_directory(self):
        """Small messages do not need it."""
        server = self.start()
        tmp, away = server.dir / "spool" / "tmp", server.dir / "away"
        tmp.rename(away)
        self.assertEqual(self.send(server, MESSAGE).code, 250)
        away.rename(tmp)
        self.fails_and_recovers(server, lambda: tmp.rename(away), lambda: away.rename(tmp),
                                r"^451 4\.3\.0 ", data=[LARGE])

        def break_it():
            tmp.rmdir()
            tmp.write_text("")

        def mend_it():
            tmp.unlink()
            tmp.mkdir()
        self.fails_and_recovers(server, break_it, mend_it, r"^451 4\.3\.0 ", data=[LARGE])

    def test_a_file_where_the_maildir_should_be(self):
        server = self.start()
        box = server.dir / "mail" / "you"
        self.fails_and_recovers(server, lambda: box.write_text(""), box.unlink, r"^451 4\.3\.0 ")

    def test_one_of_many_mailboxes_fails_so_none_gets_a_copy(self):
        boxes = ["u%d" % i for i in range(40)]
        server = self.start({"virtual_mailbox_maps": "inline:{ %s }" % " ".join(
            "{%s@example.org=%s/}" % (b, b) for b in boxes)})
        rcpts = ["%s@example.org" % b for b in boxes]
        for broken in ("u0", "u20", "u39"):
            (server.dir / "mail" / broken).mkdir()
            (server.dir / "mail" / broken / "new").write_text("in the way")
            for data in (MESSAGE, LARGE):
                self.assertEqual(self.send(server, data, rcpts).code, 451)
            self.assertEqual([f for f in server.all_files() if not f.endswith("/new")], [])
            shutil.rmtree(server.dir / "mail" / broken)
        self.assertEqual(self.send(server, LARGE, rcpts).code, 250)
        self.assert_nothing_left(server, 40)

    def test_too_many_open_files(self):
        """A message to many mailboxes needs more descriptors than there are."""
        boxes = ["you"] + ["u%d" % i for i in range(20)]
        server = self.start({"virtual_mailbox_maps": "inline:{ %s }" % " ".join(
            "{%s@example.org=%s/}" % (b, b) for b in boxes)})
        rcpts = ["%s@example.org" % b for b in boxes]

        def limit(count):
            subprocess.run(["prlimit", "--pid", str(server.process.pid), "--nofile=%d:" % count],
                           check=True)
        used = len(os.listdir("/proc/%d/fd" % server.process.pid))
        self.fails_and_recovers(server, lambda: limit(used + 20), lambda: limit(1000),
                                r"^451 4\.3\.1 Error: too many open files$", rcpts=rcpts)
        limit(used + 20)
        self.assertEqual(self.send(server, MESSAGE).code, 250)
        self.assertEqual(self.send(server, LARGE).code, 250)

    def test_hop_limit(self):
        server = self.start({"hopcount_limit": "4"})
        for count, code in ((0, 250), (2, 250), (3, 554), (60, 554)):
            data = b"Received: from x by y\r\n\tfolded\r\n" * count + MESSAGE
            reply = self.send(server, data)
            self.assertEqual(reply.code, code, count)
        self.assertEqual(reply.lines, ["554 5.4.0 Error: too many hops"])
        self.assertEqual(self.send(server, MESSAGE + b"Received: in the body\r\n" * 9).code, 250)
        self.assert_nothing_left(server, 3)

    def test_queue_minfree(self):
        server = self.start({"queue_minfree": str(2 ** 60)})
        server.wait_log("not enough free space")
        with server.connect() as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.command("MAIL FROM:<a@client.test>").lines,
                             ["452 4.3.1 Insufficient system storage"])
            server.write_config(queue_minfree="1000")
            server.reload()
            wait_for(lambda: smtp.command("MAIL FROM:<a@client.test>").code == 250, "space")
        server.wait_log("there is enough free space again")


@unittest.skipUnless(os.geteuid() == 0, "needs root: mounts, and another user's identity")
class Root(DeliveryTest):
    """The same with means that only root has."""

    def mount(self, where, size):
        where.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=0700" % size,
                               "postern-test", str(where)], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("cannot mount a tmpfs: " + done.stderr.decode())
        self.addCleanup(subprocess.run, ["umount", "-l", str(where)], check=True)

    @staticmethod
    def fill(where, keep_bytes=0):
        """Makes a file that takes the space, but keep_bytes."""
        free = os.statvfs(where).f_bavail * os.statvfs(where).f_bsize
        path = where / "filler"
        path.write_bytes(b"x" * max(0, free - keep_bytes))
        return path

    def full(self, folder, keep_bytes, data):
        server = Postern({"message_size_limit": "0"})
        self.mount(server.dir / folder, "4m")
        self.enterContext(server)
        self.assertEqual(self.send(server, data[0]).code, 250)
        filler = []
        self.fails_and_recovers(
            server, lambda: filler.append(self.fill(server.dir / folder, keep_bytes)),
            lambda: filler[0].unlink(), r"^452 4\.3\.1 Insufficient system storage$", data)

    def test_full_mail_directory(self):
        self.full("mail", 0, [MESSAGE * 300, LARGE])

    def test_mail_directory_that_fills_up_within_a_message(self):
        self.full("mail", 40960, [MESSAGE * 3000, LARGE])

    def test_full_spool(self):
        self.full("spool", 0, [LARGE])

    def test_spool_that_fills_up_within_a_message(self):
        self.full("spool", 200000, [LARGE])

    def test_space_for_less_than_a_message_is_refused_at_mail(self):
        server = Postern({"message_size_limit": "2000000"})
        self.mount(server.dir / "mail", "4m")
        self.enterContext(server)
        self.assertEqual(self.send(server).code, 250)
        filler = self.fill(server.dir / "mail", 2500000)
        server.wait_log("not enough free space")
        with server.connect() as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.command("MAIL FROM:<a@client.test>").code, 452)
        filler.unlink()
        server.wait_log("enough free space again")
        self.assertEqual(self.send(server).code, 250)

    def test_no_inodes_left(self):
        server = Postern({"message_size_limit": "0"})
        self.mount(server.dir / "mail", "4m,nr_inodes=30")
        self.enterContext(server)
        replies = [self.send(server) for _ in range(40)]
        self.assertEqual({r.lines[0][:9] for r in replies}, {"250 2.0.0", "452 4.3.1"})
        accepted = sum(r.code == 250 for r in replies)
        self.assert_nothing_left(server, accepted)
        server.files("you")[0].unlink()
        self.assertEqual(self.send(server).code, 250)

    def test_read_only_base(self):
        server = Postern()
        self.mount(server.dir / "mail", "20m")
        self.enterContext(server)
        self.assertEqual(self.send(server).code, 250)

        def remount(how):
            subprocess.run(["mount", "-o", "remount," + how, str(server.dir / "mail")], check=True)
        self.fails_and_recovers(server, lambda: remount("ro"), lambda: remount("rw"),
                                r"^451 4\.3\.0 ")

    def test_wrong_permissions(self):
        """As another user, whom permissions mean something to."""
        server = Postern({"mail_owner": "nobody"})
        server.dir.chmod(0o755)
        self.enterContext(server)
        self.assertEqual(self.send(server).code, 250)
        mail = server.dir / "mail"
        for where in (mail, mail / "you", mail / "you" / "new"):
            self.fails_and_recovers(server, lambda w=where: w.chmod(0), lambda w=where:
                                    w.chmod(0o700), r"^451 4\.3\.0 ")
        self.assertEqual(server.files("you")[0].owner(), "nobody")
        shutil.rmtree(mail / "you")
        mail.chmod(0o555)  # the Maildir cannot be made
        self.assertEqual(self.send(server).code, 451)
        mail.chmod(0o700)
        self.assertEqual(self.send(server).code, 250)

    def test_spool_without_permission(self):
        server = Postern({"mail_owner": "nobody"})
        server.dir.chmod(0o755)
        self.enterContext(server)
        tmp = server.dir / "spool" / "tmp"
        self.fails_and_recovers(server, lambda: tmp.chmod(0), lambda: tmp.chmod(0o700),
                                r"^451 4\.3\.0 ", data=[LARGE])


if __name__ == "__main__":
    unittest.main(verbosity=2)
