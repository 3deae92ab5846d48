"""SIGKILL while clients deliver in parallel: what was acknowledged is there, whole and once, in the
Maildir at once or out of the spool after the next start; what is visible is whole; the server is
there again at once. (With a next hop behind that comes and goes: test_flapping.py.)

POSTERN_KILLS: how many kills (15); "cmake --build build/asan --target crash_300" takes 300."""
import random
import threading
import time
import unittest

from crash import (BOXES, SETTINGS, SMALL, SPILLED, SPOOL_FIRST, Postern, count, send, spooled,
                   stored)
from harness import is_sanitized, wait_for

CLIENTS = 8
START_SECONDS = 1 if is_sanitized() else 0.3


class Client(threading.Thread):
    """Sends one message after the other, of all kinds, until the server is gone."""

    def __init__(self, server, prefix):
        super().__init__()
        self.server, self.prefix = server, prefix
        self.random = random.Random(prefix)
        self.acknowledged = []  # (name, boxes)
        self.attempted = 0

    def run(self):
        try:
            smtp = self.server.connect()
            smtp.command("EHLO client.test")
        except (OSError, AssertionError, IndexError):
            return
        with smtp:
            code = 250
            while code != 0:
                name = "%s.%d-%d" % (self.prefix, self.attempted,
                                     self.random.choice((SMALL, SMALL, SPILLED)))
                boxes = self.random.choice((["a"], ["b"], ["a", "b", "c"]))
                self.attempted += 1
                code = send(smtp, name, boxes, self.random.random() < 0.5)
                if code == 250:
                    self.acknowledged.append((name, boxes))


class Kill(unittest.TestCase):
    def one_round(self, server, number):
        """Messages until a moment of chance, and the kill."""
        clients = [Client(server, "%s.%d" % (number, i)) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        wait_for(lambda: sum(len(c.acknowledged) for c in clients) > CLIENTS, "deliveries", 30)
        time.sleep(random.random() / 4)
        server.kill()
        for client in clients:
            client.join()
        return clients

    @staticmethod
    def has_banner(server):
        try:
            return server.banner().code == 220
        except OSError:
            return False

    def start_again(self, server, starts):
        began = time.monotonic()
        server.start(wait=False)
        wait_for(lambda: self.has_banner(server), "the banner")
        starts.append(time.monotonic() - began)
        wait_for(lambda: spooled(server) == [], "an empty spool", 60)

    def check(self, server, clients):
        found = stored(server)  # each file is whole
        for client in clients:
            for name, boxes in client.acknowledged:
                for box in boxes:
                    self.assertEqual(found[box].get(name), 1, "%s in %s" % (name, box))
        doubles = [(box, name) for box in BOXES for name, times in found[box].items() if times > 1]
        self.assertEqual(doubles, [])

    def kills(self, settings):
        server = self.enterContext(Postern(settings))
        acknowledged, starts = 0, []
        is_spooled = settings is SPOOL_FIRST
        for number in range(count(15, "POSTERN_KILLS")):
            clients = self.one_round(server, number)
            stored(server)  # whatever is visible is whole
            if not is_spooled:
                self.check(server, clients)
            acknowledged += sum(len(c.acknowledged) for c in clients)
            self.start_again(server, starts)
            self.check(server, clients)
            for box in BOXES:  # the next round is looked at by itself
                for path in server.files(box):
                    path.unlink()
        print("%d kills, %d messages acknowledged, all there; banner after %.0f ms, at most %.0f"
              % (number + 1, acknowledged, 1000 * sorted(starts)[len(starts) // 2],
                 1000 * max(starts)))
        self.assertLess(sorted(starts)[len(starts) // 2], START_SECONDS)

    def test_kills(self):
        self.kills(SETTINGS)

    def test_kills_where_the_spool_comes_first(self):
        self.kills(SPOOL_FIRST)


if __name__ == "__main__":
    unittest.main(verbosity=2)
