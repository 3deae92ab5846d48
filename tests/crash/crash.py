"""What the crash tests share: messages that are known by their names, a look at what is in the
Maildirs, and the tracer (tracer.c), which stands between the server and the kernel.

A message's bytes follow from its name, so that whatever lies in a Maildir tells by itself whether
it is whole."""
import contextlib
import errno
import os
import pathlib
import re
import select
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))
from harness import Postern, strip_trace  # noqa: E402

TRACER = os.environ.get("TRACER", "tracer")
BOXES = ("a", "b", "c")
SETTINGS = {
    "virtual_mailbox_maps": "inline:{ %s }" % " ".join(
        "{%s@example.org=%s/}" % (box, box) for box in BOXES),
    "message_size_limit": "0",
    "smtpd_error_sleep_time": "0",
    "smtpd_hard_error_limit": "1000",
    "decision_records": "0",  # written at any time: a fault must hit the message's own calls
}
SPOOL_FIRST = dict(SETTINGS, delivery_verdict="no", minimal_backoff_time="1s",
                   maximal_backoff_time="1s", queue_run_delay="1s")
SMALL, SPILLED = 300, 200000  # over 64 KiB a message lies in the spool


def body(name):
    """NAME is PREFIX-SIZE, and the body is of about that size."""
    size = int(name.rsplit("-", 1)[1])
    line = ("%s " % name * 70)[:70].encode() + b"\r\n"
    return b"Subject: %s\r\n\r\n" % name.encode() + line * max(1, size // len(line))


def in_memory():
    """From here on servers have their files in memory, if they can: for tests that look at the
    order of calls and at files, for which a disk that really syncs is only slow."""
    if os.access("/dev/shm", os.W_OK | os.X_OK):
        tempfile.tempdir = "/dev/shm"


class Damage(Exception):
    """Something half done lies where a reader can see it."""


def stored(server, boxes=BOXES):
    """{box: {name: count}} of what is in new/; Damage if any of it is not whole."""
    found = {}
    for box in boxes:
        found[box] = {}
        for path in server.files(box):
            try:
                text = path.read_bytes()
            except FileNotFoundError:  # taken back: its message was refused
                continue
            content = strip_trace(text)
            match = re.match(rb"Subject: ([\w.]+-\d+)\r\n", content)
            if not match or content != body(match[1].decode()):
                raise Damage("%s: %d bytes: %r" % (path, len(text), text[:300]))
            if b"Delivered-To: %s@example.org\r\n" % box.encode() not in text:
                raise Damage("%s belongs to somebody else: %r" % (path, text[:300]))
            name = match[1].decode()
            found[box][name] = found[box].get(name, 0) + 1
    return found


def spooled(server):
    """The files in the spool: what is still owed or half done."""
    return [f for f in server.all_files()
            if f.startswith(("spool/msg/", "spool/active/", "spool/tmp/"))]


def send(smtp, name, boxes, by_bdat):
    """One transaction; the code of the reply at its end, 0 if the server went away."""
    envelope = {"sender": name + "@client.test",  # finds it in the log
                "rcpts": ["%s@example.org" % box for box in boxes]}
    try:
        reply = (smtp.bdat(body(name), 30000, **envelope) if by_bdat
                 else smtp.message(body(name), **envelope))
        return reply.code
    except (OSError, AssertionError, IndexError, ValueError):
        return 0


class Disk:
    """What survives a power cut, told by the calls in their order: bytes that were synced since
    they were written, and names whose directory was synced since they were made."""

    def __init__(self):
        self.dirty = set()    # files with bytes that are not synced
        self.unnamed = set()  # files and directories whose entry is not synced

    def see(self, line):
        """One line of the tracer's log; the path that got its name by it, or None."""
        text, result = line.rsplit(" = ", 1)
        call, *paths = text.split(" ")
        paths = [os.path.normpath(path) for path in paths]
        if int(result) < 0:
            return None
        path = paths[0]
        if call in ("write", "writev", "pwrite64", "sendfile"):
            self.dirty.add(path)
        elif call in ("fsync", "fdatasync"):
            self.dirty.discard(path)
            if call == "fsync":
                self.unnamed = {p for p in self.unnamed if os.path.dirname(p) != path}
        elif call == "mkdirat":
            self.unnamed.add(path)
        elif call.startswith(("rename", "linkat")):
            source, target = paths
            self.unnamed.add(target)
            if source in self.dirty:
                self.dirty.discard(source)
                self.dirty.add(target)
            return pathlib.Path(target)
        elif call == "unlinkat":
            self.dirty.discard(path)
            self.unnamed.discard(path)
        return None

    def lost(self, path):
        """Why a power cut now would lose this file; None: it would not."""
        if str(path) in self.dirty:
            return "its bytes are not synced"
        for part in (path, *path.parents):
            if str(part) in self.unnamed:
                return "%s has no synced entry in its directory" % part
        return None


class Tracer:
    """Watches a server that runs. lines: what it said, without "ready"."""

    def __init__(self, server, *task):
        command = [TRACER, str(server.process.pid), str(server.dir), *map(str, task)]
        self.lines = []
        for _ in range(10):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True)
            if self.is_ready():
                return
            self.process.kill()  # a thread came or went in the wrong moment: once more
            _, words = self.process.communicate()
            if self.process.returncode == 77:
                raise unittest.SkipTest(words.strip())
        raise AssertionError("the tracer cannot begin: " + words)

    def is_ready(self):
        readable, _, _ = select.select([self.process.stdout], [], [], 2)
        return bool(readable) and self.process.stdout.readline() == "ready\n"

    def stop(self):
        """Lets the server go; what was said."""
        if self.process.poll() is None:
            self.process.terminate()
        self.lines, _ = self.process.communicate()
        self.lines = self.lines.splitlines()
        return self.lines


@contextlib.contextmanager
def traced(server, *task):
    tracer = Tracer(server, *task)
    try:
        yield tracer
    finally:
        tracer.stop()


def number(name):
    return getattr(errno, name)


def count(default, variable):
    """How often: by the environment, for runs longer than a test's."""
    return int(os.environ.get(variable, default))
