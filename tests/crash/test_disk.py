"""A disk that is full while many deliver: 452 for as long as it lasts, nothing lost, nothing half
done, back by itself. (One message at a time, and all other ways in which a Maildir cannot be
written: peer/test_delivery.py. Too few descriptors: peer/test_limits.py.)"""
import os
import subprocess
import threading
import time
import unittest

from crash import SETTINGS, SMALL, SPILLED, Postern, body, stored
from harness import wait_for

CLIENTS = 6
REPLY_SECONDS = 2


class Client(threading.Thread):
    """Delivers until it is told to stop; every reply is kept."""

    def __init__(self, server, number):
        super().__init__()
        self.server, self.number = server, number
        self.acknowledged, self.codes, self.slowest = {}, set(), 0
        self.refused = 0
        self.is_over = False

    def transaction(self, smtp, name, boxes):
        """The reply that decided it: already to MAIL when there is too little room."""
        reply = smtp.command("MAIL FROM:<a@client.test>")
        if reply.code != 250:
            return reply
        for box in boxes:
            smtp.command("RCPT TO:<%s@example.org>" % box)
        smtp.command("DATA")
        smtp.send(body(name))
        began = time.monotonic()
        smtp.send(b".\r\n")
        reply = smtp.reply()
        self.slowest = max(self.slowest, time.monotonic() - began)
        return reply

    def run(self):
        with self.server.connect() as smtp:
            smtp.command("EHLO client.test")
            count = 0
            while not self.is_over:
                size = SPILLED if count % 3 == 0 else SMALL
                name, boxes = "c%d.%d-%d" % (self.number, count, size), "abc"[:1 + count % 3]
                count += 1
                reply = self.transaction(smtp, name, boxes)
                self.codes.add(reply.lines[0][:9] if reply.lines else "")
                if reply.code == 250:
                    self.acknowledged[name] = boxes
                else:
                    self.refused += 1
                    time.sleep(0.02)


class Full(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0, "needs root: mounts a small disk")
    def test_many_clients_and_a_full_disk(self):
        server = Postern(dict(SETTINGS, queue_directory="mail/spool"))
        mail = server.dir / "mail"
        mail.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "postern-test",
                               str(mail)], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("cannot mount a small disk: " + done.stderr.decode())
        self.addCleanup(subprocess.run, ["umount", "-l", str(mail)], check=True)
        self.enterContext(server)
        clients = [Client(server, n) for n in range(CLIENTS)]
        acknowledged = self.fill_and_empty(server, clients)
        self.assertEqual(set.union(*(c.codes for c in clients)), {"250 2.0.0", "452 4.3.1"})
        self.assertLess(max(c.slowest for c in clients), REPLY_SECONDS)
        self.assertEqual([f for f in server.all_files() if "/tmp/" in f], [])
        print("%d messages acknowledged, slowest reply %.2f s"
              % (acknowledged, max(c.slowest for c in clients)))

    def fill_and_empty(self, server, clients):
        """Each time the disk is full, what is there is compared and taken away."""
        seen, acknowledged = {}, 0
        for client in clients:
            self.addCleanup(setattr, client, "is_over", True)
            client.start()
        for _ in range(5):
            refused = sum(c.refused for c in clients)
            wait_for(lambda r=refused: sum(c.refused for c in clients) > r + 20, "a full disk", 30)
            self.take_away(server, seen)
        for client in clients:
            client.is_over = True
            client.join()
        self.take_away(server, seen)
        for client in clients:
            for name, boxes in client.acknowledged.items():
                acknowledged += 1
                self.assertEqual([seen.get((box, name)) for box in boxes], [1] * len(boxes), name)
        return acknowledged

    def take_away(self, server, seen):
        """A file that is visible for a moment may yet be taken back: its 452 is on its way."""
        paths = {box: server.files(box) for box in "abc"}
        time.sleep(0.3)
        for box, names in stored(server, tuple("abc")).items():
            for name in names:
                seen.setdefault((box, name), 1)
        for box in "abc":
            for path in paths[box]:
                path.unlink(missing_ok=True)

    def test_a_file_that_may_not_grow(self):
        """A limit on the size of files is no reason to die."""
        server = self.enterContext(Postern(SETTINGS, limits=["prlimit", "--fsize=150000"]))
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            for size, code in ((SMALL, 250), (SPILLED, 451), (SMALL, 250)):
                reply = smtp.message(body("x-%d" % size), rcpts=["a@example.org"])
                self.assertEqual(reply.code, code, reply)
        self.assertEqual(stored(server)["a"], {"x-%d" % SMALL: 2})
        self.assertEqual([f for f in server.all_files() if "/tmp/" in f], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
