"""systemd: the unit files by its own tools, and what the server tells it."""
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import time
import unittest

from harness import BINARY, Postern, SOURCE, scratch, wait_for

UNITS = SOURCE / "contrib" / "systemd"
MAX_EXPOSURE = 15  # tenths


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=60)


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
class Units(unittest.TestCase):
    def setUp(self):
        self.dir = self.enterContext(scratch())
        for unit in UNITS.glob("postern*.*"):
            text = unit.read_text().replace("/usr/sbin/postern", shutil.which(BINARY))
            (self.dir / unit.name).write_text(text)

    def test_they_are_well_formed(self):
        units = [path for path in self.dir.iterdir() if path.suffix in (".service", ".socket")]
        self.assertEqual(len(units), 2)
        result = run("systemd-analyze", "verify", "--man=no", *units)
        ours = [line for line in result.stderr.splitlines() if "postern" in line]
        self.assertEqual(ours, [])
        (self.dir / "postern.service").write_text("[Service]\nNoNewPrivilege=yes\nType=odd\n")
        result = run("systemd-analyze", "verify", "--man=no", self.dir / "postern.service")
        self.assertIn("NoNewPrivilege", result.stderr)  # the check can fail

    def test_exposure(self):
        result = run("systemd-analyze", "security", "--offline=yes", "--no-pager",
                     "--threshold=%d" % MAX_EXPOSURE, self.dir / "postern.service")
        self.assertEqual(result.returncode, 0, result.stdout[-3000:])
        level = float(re.search(r"exposure level for postern.service: ([\d.]+)",
                                result.stdout).group(1))
        self.assertLessEqual(level, MAX_EXPOSURE / 10)

    def test_every_allowed_call_of_the_sandbox_is_known(self):
        result = run("systemd-analyze", "security", "--offline=yes", self.dir / "postern.service")
        self.assertNotIn("ignoring", result.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_user_and_directories_are_made(self):
        root = self.dir / "root"
        (root / "etc").mkdir(parents=True)
        result = run("systemd-sysusers", "--root", root, UNITS / "postern.sysusers")
        self.assertEqual(result.returncode, 0, result.stderr)
        passwd = (root / "etc" / "passwd").read_text()
        uid = int(re.search(r"^postern:x:(\d+):", passwd, re.M).group(1))
        result = run("systemd-tmpfiles", "--root", root, "--create", UNITS / "postern.tmpfiles")
        self.assertEqual(result.returncode, 0, result.stderr)
        for name, mode in (("var/lib/postern", 0o750), ("var/spool/postern", 0o700)):
            found = (root / name).stat()
            self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid), (mode, uid), name)


class Notify(unittest.TestCase):
    def start(self, **env):
        path = self.enterContext(scratch()) / "notify"
        self.notify = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.notify.bind(str(path))
        self.notify.settimeout(10)
        server = self.enterContext(Postern(env=dict(env, NOTIFY_SOCKET=str(path))))
        self.assertEqual(self.wait_for("READY=1"), "READY=1")
        return server

    def wait_for(self, word):
        while True:
            text = self.notify.recv(1000).decode()
            if text.startswith(word):
                return text

    def test_a_reload_has_a_begin_and_an_end(self):
        server = self.start()
        before = time.monotonic()
        server.reload()
        usec = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", self.wait_for("RELOADING"))
        self.assertLess(abs(int(usec.group(1)) / 1e6 - before), 10)
        self.wait_for("READY=1")

    def test_the_end_is_told(self):
        server = self.start()
        server.stop()
        self.wait_for("STOPPING=1")

    def test_the_watchdog_gets_its_sign_while_all_loops_turn(self):
        self.start(WATCHDOG_USEC="600000")
        began = time.monotonic()
        for _ in range(5):
            self.wait_for("WATCHDOG=1")
        self.assertLess(time.monotonic() - began, 4)

    def test_somebody_elses_watchdog_is_not_ours(self):
        self.start(WATCHDOG_USEC="300000", WATCHDOG_PID="1")
        self.notify.settimeout(1)
        with self.assertRaises(TimeoutError):
            self.wait_for("WATCHDOG=1")


class Journal(unittest.TestCase):
    """No time of our own in front of what the journal stamps; but only if it is the journal."""

    def log(self, stream):
        server = Postern()
        path = server.dir / "log"
        path.touch()
        if stream is None:
            found = path.stat()
            stream = "%d:%d" % (found.st_dev, found.st_ino)
        server.env["JOURNAL_STREAM"] = stream
        self.enterContext(server)
        return wait_for(lambda: "listening on" in server.log() and server.log(), "a log")

    def test_in_the_journal(self):
        for line in self.log(None).splitlines():
            self.assertRegex(line, r"^postern/master\[\d+\]: ")

    def test_elsewhere(self):
        for line in self.log("1:2").splitlines():
            self.assertRegex(line, r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ postern/master\[\d+\]: ")


if __name__ == "__main__":
    unittest.main(verbosity=2)
