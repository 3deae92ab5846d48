"""SIGHUP and files that change while mail flows: everything is swapped at once, nobody is
disconnected, and what is broken never replaces what works."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import Postern, Smtp, free_port, scratch, strip_trace, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"


class ReloadTest(unittest.TestCase):
    def start(self, settings=None, **kwargs):
        return self.enterContext(Postern(settings, **kwargs))

    def connect(self, server, **kwargs):
        smtp = self.enterContext(server.connect(**kwargs))
        smtp.command("EHLO client.test")
        return smtp

    def reload(self, server):
        self.assertIn(b"reloaded --", server.reload().group(0))

    def answers(self, server, user):
        """The code for a recipient in a connection of its own."""
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            smtp.command("MAIL FROM:<a@client.test>")
            return smtp.command("RCPT TO:<%s@example.org>" % user).code


class Hangup(ReloadTest):
    def test_new_connections_get_the_new_settings_and_old_ones_keep_theirs(self):
        server = self.start({"message_size_limit": "100000"})
        old = self.connect(server)
        server.write_config(message_size_limit="200000", myhostname="new.example.org",
                            virtual_mailbox_maps="inline:{ {fresh@example.org=fresh/} }")
        self.reload(server)
        new = self.enterContext(server.connect())
        self.assertEqual(new.banner.text, "new.example.org ESMTP Postern")
        self.assertIn("SIZE 200000", new.command("EHLO x").text)
        self.assertEqual(new.message(MESSAGE, rcpts=["fresh@example.org"]).code, 250)
        new.command("MAIL FROM:<a@client.test>")
        self.assertEqual(new.command("RCPT TO:<you@example.org>").code, 550)
        self.assertIn("SIZE 100000", old.command("EHLO x").text)
        self.assertEqual(old.message(MESSAGE).code, 250)
        self.assertEqual(len(server.mails("you")), 1)

    def test_a_session_in_the_middle_of_data_finishes(self):
        """Through several reloads, with a message large enough to lie in the spool already."""
        server = self.start()
        body = b"Subject: long\r\n\r\n" + b"0123456789abcdef\r\n" * 40000
        sessions = [self.connect(server) for _ in range(4)]
        for smtp in sessions:
            smtp.begin_data()
        for at in range(0, len(body), 100000):
            for smtp in sessions:
                smtp.send(body[at:at + 100000])
            server.write_config(smtpd_recipient_limit=str(1000 + at))
            self.reload(server)
        for smtp in sessions:
            smtp.send(".\r\n")
        for smtp in sessions:
            self.assertEqual(smtp.reply().code, 250)
            self.assertEqual(smtp.command("QUIT").code, 221)
        self.assertEqual([strip_trace(mail) for mail in server.mails("you")], [body] * 4)

    def test_reloads_under_load_lose_nothing(self):
        server = self.start()
        process = subprocess.Popen(["smtp-source", "-s", "6", "-m", "600", "-l", "5000",
                                    "-t", "you@example.org", "127.0.0.1:%d" % server.port])
        reloads = 0
        while process.poll() is None:
            server.write_config(smtpd_recipient_limit=str(1000 + reloads))
            self.reload(server)
            reloads += 1
        self.assertEqual(process.returncode, 0)
        self.assertGreater(reloads, 3)
        self.assertEqual(len(server.files("you")), 600)

    def test_signals_in_a_burst(self):
        server = self.start()
        for _ in range(200):
            server.process.send_signal(signal.SIGHUP)
        server.wait_log("reloaded --")
        self.assertEqual(self.answers(server, "you"), 250)

    def test_a_change_during_a_reload_is_seen_at_last(self):
        """A SIGHUP that comes while the last one is still worked on is not lost."""
        server = self.start()
        for number in range(30):
            server.write_config(mail_name="N%d" % number)
            server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.banner().text.endswith("ESMTP N29"), "the last name")

    def test_reloads_cost_no_memory_or_descriptors(self):
        server = self.start()

        def many():
            for _ in range(40):
                self.reload(server)
            return (server.rss_kb(), len(os.listdir("/proc/%d/fd" % server.process.pid)))
        many()
        before, after = many(), many()
        self.assertLess(after[0] - before[0], 30000)  # AddressSanitizer's quarantine included
        self.assertEqual(after[1], before[1])

    def test_limits_of_clients_survive(self):
        server = self.start({"smtpd_client_connection_count_limit": "2"})
        held = [self.connect(server), self.connect(server)]
        self.reload(server)
        with server.connect() as smtp:
            self.assertEqual(smtp.banner.code, 421)
        held.pop().close()
        wait_for(lambda: server.banner().code == 220, "room for one")


class Mistakes(ReloadTest):
    BAD = ({"smtpd_recipient_limit": "many"}, {"smtpd_relay_restrictions": "permit"},
           {"smtpd_client_restrictions": "no_such_restriction"}, {"listen": "nowhere"},
           {"mynetworks": "10.0.0.1/8"}, {"myhostname": "${unterminated"},
           {"smtpd_tls_security_level": "may"}, {"virtual_mailbox_maps": "nosuchtype:x"})

    def test_a_bad_configuration_is_refused_and_the_old_one_stays(self):
        server = self.start()
        for bad in self.BAD:
            good = {name: server.settings.get(name) for name in bad}
            server.write_config(mail_name="Never", **bad)
            with self.subTest(bad=bad):
                self.assertIn(b"old configuration stays", server.reload().group(0))
                self.assertRegex(server.log(), r"error: %s" % next(iter(bad)))
                with server.connect() as smtp:
                    self.assertEqual(smtp.banner.text, "mx.example.org ESMTP Postern")
                self.assertEqual(self.answers(server, "you"), 250)
            server.write_config(**good)
        server.write_config(mail_name="Now")
        self.reload(server)
        self.assertEqual(self.enterContext(server.connect()).banner.text, "mx.example.org ESMTP Now")

    def test_a_missing_main_cf_keeps_the_old_one(self):
        server = self.start()
        (server.dir / "main.cf").rename(server.dir / "elsewhere")
        self.assertIn(b"old configuration stays", server.reload().group(0))
        self.assertEqual(self.answers(server, "you"), 250)
        (server.dir / "elsewhere").rename(server.dir / "main.cf")
        self.reload(server)


class Listeners(ReloadTest):
    def test_endpoints_come_and_go_without_disturbing_others(self):
        server = self.start()
        first, second, path = server.port, free_port(), server.dir / "data" / "socket"
        old = self.connect(server)
        server.write_config(listen="127.0.0.1:%d, 127.0.0.1:%d, unix:%s" % (first, second, path))
        self.reload(server)
        for port in (first, second, path):
            with wait_for(lambda at=port: self.try_connect(at), "endpoint %s" % port) as smtp:
                self.assertEqual(smtp.banner.code, 220)
        server.write_config(listen="127.0.0.1:%d" % second)
        self.reload(server)
        wait_for(lambda: not self.try_connect(first), "first endpoint closed")
        self.assertIsNone(self.try_connect(path))
        self.assertEqual(old.message(MESSAGE).code, 250)
        server.port = second
        self.assertEqual(self.answers(server, "you"), 250)
        server.write_config(listen="127.0.0.1:%d" % first)
        self.reload(server)
        server.port = first
        wait_for(lambda: self.try_connect(first), "first endpoint back").close()

    @staticmethod
    def try_connect(port):
        try:
            return Smtp(port, timeout=5)
        except (ConnectionRefusedError, FileNotFoundError, ConnectionResetError):
            return None

    def test_a_port_that_is_taken_is_said_and_the_rest_is_served(self):
        server = self.start()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            port = taken.getsockname()[1]
            server.write_config(mail_name="New", listen="127.0.0.1:%d, 127.0.0.1:%d" % (
                server.port, port))
            server.reload()
            server.wait_log(r"cannot listen on 127\.0\.0\.1:%d" % port)
            wait_for(lambda: server.banner().text.endswith("New"), "the new name")
        server.reload()  # now it is free
        wait_for(lambda: self.try_connect(port), "the endpoint that was taken")

    def test_the_option_of_an_endpoint_changes(self):
        server = self.start()

        def is_proxied():
            with server.connect(greet=False) as smtp:
                smtp.send("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
                return smtp.reply().code == 220 and smtp.command("NOOP").code == 250
        for option, expected in (("{proxy}", True), ("", False), (" {proxy}", True), ("", False)):
            server.write_config(listen="127.0.0.1:%d%s" % (server.port, option))
            self.reload(server)
            wait_for(lambda e=expected: is_proxied() == e, "a proxied endpoint: %s" % expected)

    def test_connections_that_wait_in_the_backlog_are_served(self):
        """Clients that come while endpoints are swapped back and forth all get a banner."""
        server = self.start()
        other = free_port()
        is_over = threading.Event()
        failures = []

        def knock():
            while not is_over.is_set():
                try:
                    with Smtp(server.port) as smtp:
                        if smtp.banner.code != 220:
                            failures.append(smtp.banner)
                except OSError as error:
                    failures.append(error)
        thread = threading.Thread(target=knock)
        thread.start()
        for number in range(20):
            extra = ", 127.0.0.1:%d" % other if number % 2 == 0 else ""
            server.write_config(listen="127.0.0.1:%d%s" % (server.port, extra))
            self.reload(server)
        is_over.set()
        thread.join()
        self.assertEqual(failures, [])


class Tables(ReloadTest):
    def test_texthash_is_read_again_after_a_change(self):
        server = self.start({"virtual_mailbox_maps": "texthash:users"},
                            files={"users": "you@example.org you/\n"})
        self.assertEqual([self.answers(server, u) for u in ("you", "new")], [250, 550])
        server.write("users", "new@example.org new/\n")
        wait_for(lambda: self.answers(server, "new") == 250, "the new user")
        self.assertEqual(self.answers(server, "you"), 550)
        server.write("users.tmp", "third@example.org third/\n").rename(server.dir / "users")
        wait_for(lambda: self.answers(server, "third") == 250, "a renamed file")
        with server.connect() as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.message(MESSAGE, rcpts=["third@example.org"]).code, 250)
        self.assertEqual(len(server.mails("third")), 1)

    def test_an_open_session_sees_the_new_table(self):
        server = self.start({"virtual_mailbox_maps": "texthash:users"},
                            files={"users": "you@example.org you/\n"})
        smtp = self.connect(server)
        smtp.command("MAIL FROM:<a@client.test>")
        self.assertEqual(smtp.command("RCPT TO:<new@example.org>").code, 550)
        server.write("users", "new@example.org new/\nyou@example.org you/\n")
        wait_for(lambda: self.answers(server, "new") == 250, "the new user")
        self.assertEqual(smtp.command("RCPT TO:<new@example.org>").code, 250)

    def test_a_table_that_vanishes_or_breaks_keeps_its_last_content(self):
        server = self.start({"virtual_mailbox_maps": "hash:users"})
        self.make(server, ["you"])
        server.reload()
        wait_for(lambda: self.answers(server, "you") == 250, "a table made after the start")
        (server.dir / "users.db").rename(server.dir / "gone.db")
        time.sleep(1.5)
        self.assertIn(self.answers(server, "you"), (250, 451))
        (server.dir / "users.db").write_bytes(b"this is no database" * 100)
        time.sleep(1.5)
        self.assertIn(self.answers(server, "you"), (250, 451))
        self.assertNotEqual(self.answers(server, "you"), 550)
        (server.dir / "users.db").unlink()
        self.make(server, ["you", "back"])
        wait_for(lambda: self.answers(server, "back") == 250, "the table is back")

    @staticmethod
    def make(server, users):
        """postmap's own way: the file is rewritten in place under a lock."""
        (server.dir / "users").write_text("".join("%s@example.org %s/\n" % (u, u) for u in users))
        config = server.dir / "postfix"
        config.mkdir(exist_ok=True)
        (config / "main.cf").write_text("compatibility_level=3.6\n")
        subprocess.run(["postmap", "-c", str(config), "hash:%s" % (server.dir / "users")],
                       check=True, capture_output=True)

    def test_postmap_while_mail_flows(self):
        """No recipient that is in every version of the table is ever refused for good."""
        server = Postern({"virtual_mailbox_maps": "hash:users", "smtpd_hard_error_limit": "100000",
                          "smtpd_error_sleep_time": "0"})
        filler = ["u%d" % i for i in range(500)]
        self.make(server, ["you"] + filler)
        self.enterContext(server)
        is_over, codes = threading.Event(), []

        def ask():
            with server.connect(timeout=30) as smtp:
                smtp.command("EHLO x")
                smtp.command("MAIL FROM:<a@client.test>")
                while not is_over.is_set():
                    codes.append(smtp.command("RCPT TO:<you@example.org>").code)
                    if len(codes) % 500 == 0:
                        smtp.command("RSET")
                        smtp.command("MAIL FROM:<a@client.test>")
        thread = threading.Thread(target=ask)
        thread.start()
        for number in range(4):
            self.make(server, ["you", "new%d" % number] + filler)
            wait_for(lambda n=number: self.answers(server, "new%d" % n) == 250, "version")
        is_over.set()
        thread.join()
        self.assertGreater(len(codes), 100)
        self.assertEqual(set(codes) - {250, 451}, set())
        self.assertLess(codes.count(451), len(codes) / 100)

    def test_a_renamed_database_is_picked_up(self):
        server = Postern({"virtual_mailbox_maps": "hash:users"})
        self.make(server, ["you"])
        self.enterContext(server)
        self.assertEqual(self.answers(server, "you"), 250)
        with scratch() as path:
            (path / "users").write_text("other@example.org other/\n")
            subprocess.run([os.environ["POSTERN"], "map", "make", "hash:%s" % (path / "users")],
                           check=True)
            os.replace(path / "users.db", server.dir / "users.db")
        wait_for(lambda: self.answers(server, "other") == 250, "the new file")
        self.assertEqual(self.answers(server, "you"), 550)


class LogFile(ReloadTest):
    def test_a_rotated_log_is_opened_again(self):
        server = self.start({"maillog_file": "mail.log", "log_target": "file"}, wait=False)
        log = server.dir / "mail.log"
        wait_for(lambda: log.exists() and "daemon started" in log.read_text(), "a log")
        log.rename(server.dir / "mail.log.1")
        with server.connect() as smtp:
            smtp.command("EHLO before.test")
            smtp.message(MESSAGE)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.exists() and "reloaded --" in log.read_text(), "a new log")
        with server.connect() as smtp:
            smtp.command("EHLO after.test")
            smtp.message(MESSAGE)
            smtp.command("QUIT")
        wait_for(lambda: "disconnect from" in log.read_text(), "lines in the new log")
        self.assertNotIn("reloaded", (server.dir / "mail.log.1").read_text())
        self.assertEqual(log.stat().st_mode & 0o137, 0)  # nobody else reads or writes it
        whole = (server.dir / "mail.log.1").read_text() + log.read_text()
        self.assertEqual(len(re.findall("status=sent", whole)), 2)

    def test_a_log_that_cannot_be_opened_again_stays_as_it_is(self):
        server = self.start({"maillog_file": "logs/mail.log", "log_target": "file"}, wait=False,
                            files={"logs/x": ""})
        log = server.dir / "logs" / "mail.log"
        wait_for(lambda: log.exists() and "daemon started" in log.read_text(), "a log")
        moved = pathlib.Path(str(server.dir / "moved"))
        (server.dir / "logs").rename(moved)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "cannot be opened again" in (moved / "mail.log").read_text(), "a word")
        self.assertEqual(self.answers(server, "you"), 250)


if __name__ == "__main__":
    unittest.main(verbosity=2)
