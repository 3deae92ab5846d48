"""A system call fails: each one of the way to the Maildir in turn, with each error that may happen
there. The client is told to come again, nothing is left behind, and the next message is taken."""
import re
import shutil
import unittest

from crash import (BOXES, SETTINGS, SMALL, SPILLED, SPOOL_FIRST, Postern, body, in_memory, number,
                   send, spooled, stored, traced)
from harness import strip_trace, wait_for
from lmtp_backend import Backend

MESSAGES = (  # what it is like, size, boxes, by BDAT
    ("small", SMALL, ["a"], False),
    ("large", SPILLED, ["a"], True),
    ("many", SMALL, ["a", "b", "c"], True),
    ("manylarge", SPILLED, ["a", "b", "c"], False),
)
FAULTS = (  # calls, error, what the client is told
    ("write", "ENOSPC", "452 4.3.1 "),
    ("write", "EIO", "451 4.3.0 "),
    ("write", "EDQUOT", "452 4.3.1 "),
    ("sync", "ENOSPC", "452 4.3.1 "),
    ("sync", "EIO", "451 4.3.0 "),
    ("rename", "ENOSPC", "452 4.3.1 "),
    ("rename", "EDQUOT", "452 4.3.1 "),
    ("rename", "EIO", "451 4.3.0 "),
    ("open", "EMFILE", "451 4.3.1 "),
    ("open", "ENFILE", "451 4.3.1 "),
    ("open", "ENOSPC", "452 4.3.1 "),
    ("open", "EACCES", "451 4.3.0 "),
    ("mkdir", "ENOSPC", "452 4.3.1 "),
    ("mkdir", "EROFS", "451 4.3.0 "),
)


def deliver(server, name, boxes, by_bdat):
    with server.connect() as smtp:
        smtp.command("EHLO client.test")
        rcpts = ["%s@example.org" % box for box in boxes]
        return (smtp.bdat(body(name), 30000, rcpts=rcpts) if by_bdat
                else smtp.message(body(name), rcpts=rcpts))


class Fault(unittest.TestCase):
    def forget(self, server):
        for box in BOXES:
            shutil.rmtree(server.dir / "mail" / box, ignore_errors=True)

    def fail_nth(self, server, message, n, fault):
        """True: the call was there, and its failure came out as it should."""
        kind, size, boxes, by_bdat = message
        calls, error, expected = fault
        what = "%s: %d. %s %s" % (kind, n, calls, error)
        self.forget(server)
        with traced(server, "fail", n, number(error), calls) as tracer:
            reply = deliver(server, "faulty-%d" % size, boxes, by_bdat)
        if not tracer.lines:
            self.assertEqual(reply.code, 250, what)
            return False
        what += " at " + tracer.lines[0]
        self.assertTrue(reply.lines[0].startswith(expected), "%s: %s" % (what, reply))
        self.assertEqual(server.all_files(), [], what)
        self.assertEqual(deliver(server, "next-%d" % size, boxes, by_bdat).code, 250, what)
        self.assertEqual(stored(server, boxes), {box: {"next-%d" % size: 1} for box in boxes}, what)
        return True

    def test_each_call_of_the_way_to_the_maildir(self):
        server = self.enterContext(Postern(SETTINGS))
        total = 0
        for message in MESSAGES:
            for fault in FAULTS:
                n = 1
                while self.fail_nth(server, message, n, fault):
                    n += 1
                self.assertGreater(n, 1, "%s: no %s at all" % (message[0], fault[0]))
                total += n - 1
        print("%d system calls failed, each with its reply" % total)


SOCKET_FAULTS = (
    ("accept4", ("ECONNABORTED", "EMFILE", "ENFILE", "ENOMEM", "EPROTO")),
    ("setsockopt", ("EINVAL", "ENOMEM")),
    ("getsockname", ("ENOTCONN", "ENOBUFS")),
    ("getpeername", ("ENOTCONN", "ENOBUFS")),
    ("read", ("ECONNRESET", "EIO", "ETIMEDOUT", "EAGAIN")),
    ("send", ("EPIPE", "ECONNRESET", "ENOBUFS", "EAGAIN")),
)


class Sockets(unittest.TestCase):
    """The same around the client: it may be lost, nobody else is."""

    def fail_nth(self, server, n, call, error):
        name = "%s%d%s-%d" % (call, n, error, SPILLED if n % 2 else SMALL)
        with traced(server, "fail", n, number(error), call) as tracer:
            try:
                with server.connect(timeout=1) as smtp:
                    smtp.command("EHLO client.test")
                    code = send(smtp, name, ["a", "b"], False)
            except (OSError, IndexError, AssertionError):
                code = 0
        if code == 250:
            for box in ("a", "b"):
                self.assertEqual(stored(server)[box].get(name), 1)
        what = "%d. %s %s" % (n, call, error)
        self.assertIsNone(server.process.poll(), what)
        wait_for(lambda: [f for f in server.all_files() if "/tmp/" in f] == [], what + ": leavings")
        wait_for(lambda: self.is_served(server, "next.%s" % name), what + ": no service")
        return tracer.lines != []

    @staticmethod
    def is_served(server, name):
        """A connection may be dropped once more: libuv turns away all that wait when it has used
        up its spare descriptor."""
        try:
            return deliver(server, name, ["c"], True).code == 250
        except (OSError, IndexError, AssertionError):
            return False

    def test_each_call_around_the_client(self):
        server = self.enterContext(Postern(SETTINGS))
        used = 0
        for call, errors in SOCKET_FAULTS:
            for error in errors:
                n = 1
                while n < 12 and self.fail_nth(server, n, call, error):
                    n += 1
                used += n - 1
        self.assertGreater(used, 20)
        print("%d calls around the client failed" % used)


NEXT_HOP_FAULTS = (
    ("socket", ("EMFILE", "ENOBUFS")),
    ("connect", ("ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL")),
    ("getsockopt", ("ENOBUFS",)),
    ("read", ("ECONNRESET", "ETIMEDOUT")),
    ("send", ("EPIPE", "ECONNRESET", "ENOBUFS")),
)


class NextHop(unittest.TestCase):
    """The same around an LMTP server: what was acknowledged gets there all the same."""

    def fail_nth(self, server, n, call, error):
        """(name, code), and whether the call was there."""
        name = "%s%d%s-%d" % (call, n, error, SPILLED if n % 2 else SMALL)
        with traced(server, "fail", n, number(error), call) as tracer:
            try:
                with server.connect(timeout=5) as smtp:
                    smtp.command("EHLO client.test")
                    code = send(smtp, name, ["a", "b"], n % 3 == 0)
            except (OSError, IndexError, AssertionError):
                code = 0
        self.assertIsNone(server.process.poll(), "%d. %s %s" % (n, call, error))
        return name, code, tracer.lines != []

    def test_each_call_around_the_next_hop(self):
        backend = self.enterContext(Backend())
        server = self.enterContext(Postern(dict(SPOOL_FIRST, delivery_verdict="yes",
                                                virtual_transport=backend.transport)))
        codes, used = {}, 0
        for call, errors in NEXT_HOP_FAULTS:
            for error in errors:
                n, is_there = 1, True
                while is_there and n < 20:
                    name, code, is_there = self.fail_nth(server, n, call, error)
                    codes[name] = code
                    n += 1
                used += n - 2
        wait_for(lambda: spooled(server) == [], "an empty spool", 60)
        taken = {}
        for _, rcpts, message in backend.messages:
            name = re.match(rb"Subject: (\S+)", strip_trace(message))[1].decode()
            self.assertEqual(strip_trace(message), body(name))
            taken.setdefault(name, set()).update(rcpts)
        for name, code in codes.items():
            self.assertIn(code, (0, 250, 450, 451, 452), name)
            if code == 250:
                self.assertEqual(len(taken.get(name, ())), 2, name)
        print("%d calls around the next hop failed; %d of %d messages acknowledged"
              % (used, list(codes.values()).count(250), len(codes)))


if __name__ == "__main__":
    in_memory()
    unittest.main(verbosity=2)
