"""What is left to the server after its start: its user, its system calls, its files; and what the
helper does that still needs root."""
import os
import pathlib
import pwd
import re
import signal
import subprocess
import unittest

from harness import Postern, free_port, make_certificate, scratch, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"


def status(pid, field):
    text = pathlib.Path("/proc/%d/status" % pid).read_text()
    return re.search(r"^%s:\t(.*)$" % field, text, re.M).group(1).split()


def children(pid):
    text = pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
    return [int(child) for child in text.split()]


class Sandbox(unittest.TestCase):
    def test_it_is_in_force_in_every_thread_and_said(self):
        server = self.enterContext(Postern())
        with server.connect() as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.message(MESSAGE).code, 250)  # there are work threads now
        for task in pathlib.Path("/proc/%d/task" % server.process.pid).iterdir():
            text = (task / "status").read_text()
            self.assertIn("\nSeccomp:\t2\n", text)
            self.assertIn("\nNoNewPrivs:\t1\n", text)
        self.assertRegex(server.log(), r"sandbox: seccomp, Landlock \d+, no_new_privs")
        limits = pathlib.Path("/proc/%d/limits" % server.process.pid).read_text()
        self.assertRegex(limits, r"Max core file size +0 +0 ")

    def test_no_means_no(self):
        server = self.enterContext(Postern({"sandbox": "no"}))
        self.assertEqual(status(server.process.pid, "Seccomp"), ["0"])
        self.assertRegex(server.log(), r"sandbox: off")

    def test_yes_where_it_can_be_had(self):
        server = self.enterContext(Postern({"sandbox": "yes"}))
        self.assertEqual(status(server.process.pid, "Seccomp"), ["2"])

    def test_a_reload_that_needs_more_is_refused(self):
        with scratch() as elsewhere:
            server = self.enterContext(Postern())
            server.write_config(virtual_mailbox_base=str(elsewhere))
            self.assertIn(b"old configuration stays", server.reload().group(0))
            self.assertRegex(server.log(), r"virtual_mailbox_base: .* outside .* sandbox")
            with server.connect() as smtp:
                smtp.command("EHLO x")
                self.assertEqual(smtp.message(MESSAGE).code, 250)
            self.assertEqual(len(server.mails("you")), 1)

    def test_settings_of_the_command_line_survive_a_reload(self):
        server = Postern()
        log = open(server.dir / "log", "ab")
        server.process = subprocess.Popen(
            [os.environ["POSTERN"], "serve", "-c", str(server.dir / "main.cf"),
             "--set", "mail_name=Typed"], stdout=log, stderr=log)
        log.close()
        server.wait_log("listening on")
        server.reload()
        server.reload()
        self.assertTrue(server.banner().text.endswith("Typed"))
        server.stop()


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Helper(unittest.TestCase):
    def start(self, settings=None):
        """As nobody, with keys that only root may read."""
        self.certs = self.enterContext(scratch())
        make_certificate(self.certs)
        os.chmod(self.certs, 0o700)
        server = Postern(dict({"mail_owner": "nobody", "data_directory": "state",
                               "smtpd_tls_cert_file": self.certs / "cert.pem",
                               "smtpd_tls_key_file": self.certs / "cert.key"}, **settings or {}))
        server.dir.chmod(0o755)
        return self.enterContext(server)

    def subject(self, server):
        """The serial number of the certificate that is shown now."""
        with server.connect() as smtp:
            smtp.command("EHLO x")
            self.assertEqual(smtp.starttls().code, 220)
            return smtp.sock.getpeercert(binary_form=True)

    def test_who_is_who(self):
        server = self.start()
        nobody = str(pwd.getpwnam("nobody").pw_uid)
        self.assertEqual(status(server.process.pid, "Uid"), [nobody] * 4)
        self.assertEqual(int(status(server.process.pid, "CapPrm")[0], 16), 0)
        (helper,) = children(server.process.pid)
        wait_for(lambda: status(helper, "Seccomp") == ["2"], "the helper's own sandbox")
        self.assertEqual(status(helper, "Name"), ["postern-helper"])
        self.assertEqual(int(status(helper, "CapPrm")[0], 16), 1 << 2 | 1 << 10)
        self.assertEqual(status(helper, "Seccomp"), ["2"])
        self.assertEqual(status(helper, "NoNewPrivs"), ["1"])
        links = [os.readlink(fd) for fd in pathlib.Path("/proc/%d/fd" % helper).iterdir()]
        sockets = [link for link in links if link.startswith("socket:")]
        self.assertEqual(len(sockets), 1, links)  # no listener, no connection
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        wait_for(lambda: not os.path.exists("/proc/%d/cmdline" % helper), "the helper ends too")

    def test_it_survives_signals_and_ends_with_a_killed_server(self):
        server = self.start()
        (helper,) = children(server.process.pid)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(helper, number)
        self.assertIn(b"reloaded --", server.reload().group(0))
        server.kill()
        wait_for(lambda: not os.path.exists("/proc/%d/cmdline" % helper), "the helper ends too")

    def test_root_only_keys_are_read_again(self):
        server = self.start()
        first = self.subject(server)
        make_certificate(self.certs)
        server.wait_log("certificates read again")
        second = self.subject(server)
        self.assertNotEqual(first, second)
        make_certificate(self.certs)
        self.assertIn(b"reloaded --", server.reload().group(0))
        self.assertNotEqual(self.subject(server), second)

    def test_other_keys_of_a_new_configuration(self):
        server = self.start()
        first = self.subject(server)
        with scratch() as other:
            make_certificate(other)
            os.chmod(other, 0o700)
            server.write_config(smtpd_tls_cert_file=other / "cert.pem",
                                smtpd_tls_key_file=other / "cert.key")
            self.assertIn(b"reloaded --", server.reload().group(0))
            self.assertNotEqual(self.subject(server), first)

    def test_a_main_cf_that_only_root_may_read(self):
        server = self.start()
        server.write_config(mail_name="Other")
        (server.dir / "main.cf").chmod(0o600)
        self.assertIn(b"reloaded --", server.reload().group(0))
        self.assertTrue(server.banner().text.endswith("Other"))

    def test_a_low_port_by_reload(self):
        server = self.start()
        port = next(p for p in range(600, 1000) if self.is_free(p))
        server.write_config(listen="127.0.0.1:%d" % port)
        self.assertIn(b"reloaded --", server.reload().group(0))
        server.port = port
        wait_for(lambda: not self.is_free(port), "the low port")
        self.assertEqual(server.banner().code, 220)
        self.assertNotIn("cannot listen", server.log())

    def test_a_main_cf_that_others_may_write_is_not_believed(self):
        server = self.start()
        (server.dir / "main.cf").chmod(0o666)
        with scratch() as other:
            make_certificate(other)
            os.chmod(other, 0o700)
            server.write_config(smtpd_tls_cert_file=other / "cert.pem",
                                smtpd_tls_key_file=other / "cert.key")
            (server.dir / "main.cf").chmod(0o666)
            self.assertIn(b"old configuration stays", server.reload().group(0))
            self.assertRegex(server.log(), "Permission denied")

    @staticmethod
    def is_free(port):
        import socket
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return True
            except OSError:
                return False

    def test_the_log_file_is_the_owners(self):
        server = Postern({"mail_owner": "nobody", "data_directory": "state",
                          "maillog_file": "state/mail.log", "log_target": "file"}, wait=False)
        server.dir.chmod(0o755)
        (server.dir / "state").mkdir()
        os.chown(server.dir / "state", pwd.getpwnam("nobody").pw_uid, -1)
        self.enterContext(server)
        log = server.dir / "state" / "mail.log"
        wait_for(lambda: log.exists() and "daemon started" in log.read_text(), "a log")
        self.assertEqual(log.owner(), "nobody")
        log.rename(server.dir / "state" / "old")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.exists() and "reloaded --" in log.read_text(), "a new log")


if __name__ == "__main__":
    unittest.main(verbosity=2)
