"""The life of the process: how it starts, whom it becomes, how it ends, what a crash leaves."""
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from harness import BINARY, Postern, Smtp, free_port, make_certificate, postern, scratch, \
    strip_trace, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 30000


class ProcessTest(unittest.TestCase):
    def start(self, settings=None, **kwargs):
        return self.enterContext(Postern(settings, **kwargs))

    def connect(self, server):
        smtp = self.enterContext(server.connect())
        self.assertEqual(smtp.command("EHLO client.test").code, 250)
        return smtp

    def status(self, server, field):
        text = pathlib.Path("/proc/%d/status" % server.process.pid).read_text()
        return re.search(r"^%s:\t(.*)$" % field, text, re.M).group(1).split()


class Ending(ProcessTest):
    GOODBYE = "421 4.3.2 mx.example.org Service shutting down"

    def test_sigterm_drains(self):
        """Who is idle gets 421; who is in a transaction may finish it; nobody new comes in."""
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.start()
            idle, greeted = self.connect(server), self.enterContext(server.connect())
            inside, spooled, late = (self.connect(server) for _ in range(3))
            inside.begin_data()
            inside.send("Subject: half")
            spooled.begin_data()
            spooled.send(LARGE[:200000])
            late.envelope()
            server.process.send_signal(number)
            for smtp in (idle, greeted):
                self.assertEqual(smtp.reply().lines, [self.GOODBYE])
                self.assertTrue(smtp.is_closed())
            wait_for(lambda s=server: self.is_refused(s), "nobody new is let in")
            late.send("BDAT %d LAST\r\n" % len(MESSAGE))
            late.send(MESSAGE)
            inside.send("\r\n\r\nwhole\r\n.\r\n")
            spooled.send(LARGE[200000:] + b".\r\n")
            for smtp in (inside, spooled, late):
                self.assertEqual(smtp.reply().code, 250)
                self.assertEqual(smtp.reply().lines, [self.GOODBYE])
                self.assertTrue(smtp.is_closed())
            self.assertEqual(server.process.wait(10), 0)
            bodies = sorted((strip_trace(mail) for mail in server.mails("you")), key=len)
            self.assertEqual(bodies, [MESSAGE, b"Subject: half\r\n\r\nwhole\r\n", LARGE])
            self.assertIn("terminated", server.log().splitlines()[-1])

    @staticmethod
    def is_refused(server):
        try:
            Smtp(server.port).close()
        except OSError:
            return True
        return False

    def test_a_second_sigterm_ends_at_once(self):
        server = self.start()
        inside = self.connect(server)
        inside.begin_data()
        inside.send("Subject: half\r\n")
        server.process.send_signal(signal.SIGTERM)
        server.wait_log("terminating")
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(5), 0)
        self.assertTrue(inside.is_closed())
        self.assertEqual(server.all_files(), [])

    def test_an_idle_server_ends_at_once_and_uses_no_time(self):
        server = self.start()
        time.sleep(0.3)
        before = server.cpu_seconds()
        time.sleep(1)
        self.assertLess(server.cpu_seconds() - before, 0.03)
        began = time.monotonic()
        server.stop()
        self.assertLess(time.monotonic() - began, 2)

    def test_clients_in_odd_states_do_not_hold_it_up(self):
        """Silent in the TLS handshake, in the PROXY header, or not reading: the drain ends
        when their own timeouts do."""
        certs = self.enterContext(scratch())
        make_certificate(certs)
        server = Postern({"smtpd_tls_cert_file": certs / "cert.pem", "smtpd_timeout": "2s",
                          "smtpd_tls_key_file": certs / "cert.key",
                          "smtpd_starttls_timeout": "2s", "smtpd_upstream_proxy_timeout": "2s"})
        proxied, tls = free_port(), free_port()
        server.write_config(listen="127.0.0.1:%d, 127.0.0.1:%d{proxy}, 127.0.0.1:%d{tls}" % (
            server.port, proxied, tls))
        self.enterContext(server)
        held = [self.enterContext(Smtp(port, greet=False)) for port in (proxied, tls)]
        starttls, half = self.connect(server), self.connect(server)
        starttls.command("STARTTLS")
        half.send("MAIL FR")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(12), 0)
        self.assertTrue(all(smtp.is_closed() for smtp in held))

    def test_work_under_way_is_finished_before_the_end(self):
        """Clients that leave behind their final dot: what is accepted is delivered and logged."""
        server = self.start()
        for _ in range(20):
            smtp = self.connect(server)
            smtp.begin_data()
            smtp.send(LARGE + b".\r\n")
            smtp.close()
        server.stop()
        log = server.log()
        self.assertEqual(log.count("status=sent"), len(server.files("you")))
        self.assertEqual([f for f in server.all_files() if "/tmp/" in f], [])


class Starting(ProcessTest):
    def exit_of(self, settings=None, text="", arguments=(), **kwargs):
        """Exit code and output of a start that must fail."""
        server = Postern(settings, text=text, **kwargs)
        try:
            server.start(wait=False)
            return server.process.wait(20), server.log()
        finally:
            if server.process.poll() is None:
                server.kill()
            shutil.rmtree(server.dir)

    def test_exit_codes(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            cases = (({"listen": "127.0.0.1:%d" % port}, 69, "cannot listen on 127.0.0.1"),
                     ({"smtpd_recipient_limit": "x"}, 78, "main.cf:"),
                     ({"listen": "systemd:none"}, 69, "cannot listen on systemd:none"),
                     ({"listen": "unix:/nonexistent/x"}, 69, "cannot listen on unix:"),
                     ({"data_directory": "/proc/nothing"}, 73, "/proc/nothing"),
                     ({"maillog_file": "/nonexistent/log", "log_target": "file"}, 73,
                      "cannot open the log"))
            for settings, code, words in cases:
                with self.subTest(settings=settings):
                    got, log = self.exit_of(settings)
                    self.assertEqual(got, code, log)
                    self.assertIn(words, log)
        self.assertEqual(postern().returncode, 64)
        self.assertEqual(postern("nonsense").returncode, 64)
        self.assertEqual(postern("serve", "extra").returncode, 64)
        self.assertEqual(postern("serve", "-c").returncode, 64)
        self.assertEqual(postern("serve", "-c", "/nonexistent.cf").returncode, 78)
        self.assertEqual(postern("version").returncode, 0)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_root_becomes_mail_owner_for_good(self):
        nobody = pwd.getpwnam("nobody")
        server = Postern({"mail_owner": "nobody"})
        server.dir.chmod(0o755)
        self.enterContext(server)
        self.assertEqual(self.status(server, "Uid"), [str(nobody.pw_uid)] * 4)
        self.assertEqual(self.status(server, "Gid"), [str(nobody.pw_gid)] * 4)
        self.assertNotIn("0", self.status(server, "Groups"))
        for kind in ("CapPrm", "CapEff", "CapInh"):
            self.assertEqual(int(self.status(server, kind)[0], 16), 0, kind)
        for task in pathlib.Path("/proc/%d/task" % server.process.pid).iterdir():
            self.assertRegex((task / "status").read_text(), r"Uid:\t%d\t%d\t%d\t%d\n" % (
                (nobody.pw_uid,) * 4))
        self.assertEqual(self.connect(server).message(LARGE).code, 250)
        (mail,) = server.files("you")
        self.assertEqual((mail.owner(), mail.stat().st_mode & 0o777), ("nobody", 0o600))
        for name in ("mail", "spool", "spool/tmp"):
            self.assertEqual((server.dir / name).owner(), "nobody", name)
        self.assertIn(b"reloaded --", server.reload().group(0))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_mail_owner_who_does_not_exist_stops_the_start(self):
        code, log = self.exit_of({"mail_owner": "no-such-user"})
        self.assertEqual(code, 78)
        self.assertIn("mail_owner: there is no such user", log)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_low_ports_are_bound_before_root_is_given_up(self):
        port = next(p for p in range(1000, 600, -1) if self.is_free(p))
        server = Postern({"mail_owner": "nobody", "listen": "127.0.0.1:%d" % port})
        server.dir.chmod(0o755)
        server.port = port
        self.enterContext(server)
        self.assertEqual(self.connect(server).message(MESSAGE).code, 250)

    @staticmethod
    def is_free(port):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def test_the_umask_and_signals_of_the_parent_do_not_matter(self):
        script = "umask 0; trap '' PIPE HUP; exec \"$@\""
        server = self.start(limits=["sh", "-c", script, "sh"])
        self.assertEqual(self.connect(server).message(MESSAGE).code, 250)
        self.assertEqual(server.files("you")[0].stat().st_mode & 0o777, 0o600)
        self.assertEqual((server.dir / "mail").stat().st_mode & 0o777, 0o700)
        self.assertIn(b"reloaded --", server.reload().group(0))

    def test_relative_paths_belong_to_the_file(self):
        """Wherever it is started, everything lies beside main.cf."""
        server = Postern()
        with scratch() as elsewhere:
            log = open(server.dir / "log", "ab")
            server.process = subprocess.Popen([BINARY, "serve", "-c", os.path.relpath(
                server.dir / "main.cf", elsewhere)], cwd=elsewhere, stdout=log, stderr=log,
                env=server.env)
            log.close()
            server.wait_log("daemon started")
            with server.connect() as smtp:
                smtp.command("EHLO x")
                self.assertEqual(smtp.message(LARGE).code, 250)
            server.stop()
            self.assertEqual(os.listdir(elsewhere), [])
        self.assertEqual(len(server.mails("you")), 1)
        shutil.rmtree(server.dir)

    def test_a_closed_standard_output_is_survived(self):
        """The reader of the log goes away; mail goes on."""
        server = Postern()
        process = subprocess.Popen([BINARY, "serve", "-c", str(server.dir / "main.cf")],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env=server.env)
        server.process = process
        while b"listening" not in process.stdout.readline():
            pass
        process.stdout.close()
        for _ in range(5):
            with server.connect() as smtp:
                smtp.command("EHLO x")
                self.assertEqual(smtp.message(MESSAGE).code, 250)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(10), 0)
        shutil.rmtree(server.dir)

    def test_a_log_reader_that_stops_reading_stops_nobody(self):
        server = Postern()
        process = subprocess.Popen([BINARY, "serve", "-c", str(server.dir / "main.cf")],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env=server.env)
        server.process = process
        while b"listening" not in process.stdout.readline():
            pass
        smtp = self.connect(server)  # the pipe holds 64 kB, a message logs some 700 bytes
        for _ in range(200):
            self.assertEqual(smtp.message(MESSAGE).code, 250)
        smtp.close()
        self.assertEqual(len(server.files("you")), 200)
        text = []
        reader = threading.Thread(target=lambda: text.append(process.stdout.read()))
        reader.start()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(10), 0)
        reader.join()
        self.assertGreater(text[0].count(b"status=sent"), 50)
        process.stdout.close()
        shutil.rmtree(server.dir)


class Systemd(ProcessTest):
    def test_readiness_is_told(self):
        for prefix in ("", "\0"):
            with scratch() as path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                name = prefix + str(path / "notify")
                notify.bind(name)
                notify.settimeout(10)
                server = Postern(env={"NOTIFY_SOCKET": name.replace("\0", "@")})
                with server:
                    self.assertEqual(notify.recv(1000), b"READY=1")
                    self.assertEqual(server.banner().code, 220)

    ACTIVATE = """if 1:
        import os, socket, sys
        names, kinds = sys.argv[1], sys.argv[2].split(",")
        sockets = []
        for kind in kinds:
            s = socket.socket(socket.AF_UNIX if "/" in kind else socket.AF_INET)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(kind if "/" in kind else ("127.0.0.1", int(kind)))
            s.listen(100)
            sockets.append(s)
        for i, s in enumerate(sockets):
            os.dup2(s.fileno(), 50 + i)
        for i, s in enumerate(sockets):
            os.dup2(50 + i, 3 + i)
        os.environ.update(LISTEN_FDS=str(len(kinds)), LISTEN_FDNAMES=names,
                          LISTEN_PID=str(os.getpid()))
        os.execv(sys.argv[3], sys.argv[3:])
        """

    def activated(self, names, kinds, listen, **settings):
        return self.start(dict(settings, listen=listen), limits=[
            sys.executable, "-c", self.ACTIVATE, names, kinds])

    def test_sockets_by_name(self):
        port, path = free_port(), self.enterContext(scratch()) / "socket"
        server = self.activated("smtp:local", "%d,%s" % (port, path),
                                "systemd:smtp, systemd:local")
        for where in (port, path):
            for _ in range(6):  # whichever loop takes it
                with Smtp(where) as smtp:
                    self.assertEqual(smtp.banner.code, 220)
                    smtp.command("EHLO x")
                    self.assertEqual(smtp.message(MESSAGE).code, 250)
        self.assertEqual(len(server.mails("you")), 12)
        self.assertIn(b"reloaded --", server.reload().group(0))
        with Smtp(port) as smtp:
            self.assertEqual(smtp.banner.code, 220)

    def test_options_behind_the_name(self):
        port = free_port()
        self.activated("smtp", str(port), "systemd:smtp{proxy}")
        with Smtp(port, greet=False) as smtp:
            smtp.send("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
            self.assertEqual(smtp.reply().code, 220)

    def test_a_socket_that_nobody_passed_stops_the_start(self):
        server = Postern({"listen": "systemd:other"}, limits=[
            sys.executable, "-c", self.ACTIVATE, "smtp", str(free_port())])
        server.start(wait=False)
        self.assertEqual(server.process.wait(10), 69)
        shutil.rmtree(server.dir)

    def test_systemd_socket_activate(self):
        if not shutil.which("systemd-socket-activate"):
            self.skipTest("systemd-socket-activate is not installed")
        port = free_port()
        server = Postern({"listen": "systemd:smtp"}, limits=[
            "systemd-socket-activate", "-l", "127.0.0.1:%d" % port, "--fdname=smtp",
            *("--setenv=" + name for name in ("ASAN_OPTIONS",) if name in os.environ)])
        server.start(wait=False)
        with wait_for(lambda: self.try_connect(port), "an activated server") as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.message(MESSAGE).code, 250)
        server.stop()
        self.assertEqual(len(server.mails("you")), 1)
        shutil.rmtree(server.dir)

    @staticmethod
    def try_connect(port):
        try:
            return Smtp(port)
        except OSError:
            return None


class UnixSocket(ProcessTest):
    def test_mail_by_a_local_socket(self):
        server = Postern()
        path = server.dir / "run.sock"
        server.write_config(listen="unix:%s" % path)
        self.enterContext(server)
        for _ in range(4):
            with Smtp(path) as smtp:
                smtp.command("EHLO client.test")
                self.assertEqual(smtp.message(MESSAGE).code, 250)
                smtp.command("QUIT")
        (mail, *_) = server.mails("you")
        self.assertRegex(mail, rb"Received: from client\.test \(localhost \[127\.0\.0\.1\]\)")
        server.kill()  # leaves the socket's file: the next start takes its place
        self.assertTrue(path.exists())
        server.start()
        with Smtp(path) as smtp:
            self.assertEqual(smtp.banner.code, 220)

    def test_starttls_and_pipelining_over_it(self):
        certs = self.enterContext(scratch())
        make_certificate(certs)
        server = Postern({"smtpd_tls_cert_file": certs / "cert.pem",
                          "smtpd_tls_key_file": certs / "cert.key"})
        path = server.dir / "run.sock"
        server.write_config(listen="unix:%s" % path)
        self.enterContext(server)
        with Smtp(path) as smtp:
            smtp.command("EHLO client.test")
            smtp.starttls()
            smtp.command("EHLO client.test")
            smtp.send(b"MAIL FROM:<>\r\nRCPT TO:<you@example.org>\r\nBDAT %d LAST\r\n%sQUIT\r\n"
                      % (len(LARGE), LARGE))
            self.assertEqual([smtp.reply().code for _ in range(4)], [250, 250, 250, 221])
        self.assertEqual([strip_trace(m) for m in server.mails("you")], [LARGE])


class Leavings(ProcessTest):
    """What a crash or a client leaves. Kills themselves: crash/test_kill.py."""

    def test_the_spool_is_swept_at_the_start(self):
        server = Postern()
        tmp = server.dir / "spool" / "tmp"
        tmp.mkdir(parents=True)
        victim = server.dir / "victim"
        victim.write_text("precious")
        (tmp / "1983AB9B0").write_bytes(b"half a message")
        (tmp / "link").symlink_to(victim)
        (tmp / "directory").mkdir()
        self.enterContext(server)
        self.assertEqual([p.name for p in tmp.iterdir() if not p.is_dir()], [])
        self.assertEqual(victim.read_text(), "precious")
        self.assertEqual(self.connect(server).message(LARGE).code, 250)

    def test_a_client_that_dies_in_its_message_leaves_nothing(self):
        server = self.start()
        for is_reset in (False, True):
            for begin in (MESSAGE[:10], LARGE[:300000]):
                smtp = self.connect(server)
                smtp.begin_data()
                smtp.send(begin)
                if is_reset:
                    smtp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         b"\1\0\0\0\0\0\0\0")
                smtp.file.close()
                smtp.sock.close()
        wait_for(lambda: server.log().count("lost connection after DATA") == 4, "four lines")
        wait_for(lambda: server.all_files() == [], "nothing left")


if __name__ == "__main__":
    unittest.main(verbosity=2)
