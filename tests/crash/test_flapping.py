"""SIGKILL at random while clients send and the next hop comes and goes: it hangs up behind the dot,
refuses for a while, is not there at all. What was acknowledged arrives, whole, at least once.

POSTERN_SPOOL_KILLS: how many kills (10; the target crash_spool_100 takes 100)."""
import collections
import os
import random
import re
import threading
import time
import unittest

from crash import SMALL, SPILLED, Postern, body, count, in_memory, send
from harness import wait_for
from lmtp_backend import Backend

CLIENTS = 6
SETTINGS = {
    "virtual_mailbox_maps": "", "message_size_limit": "0", "smtpd_error_sleep_time": "0",
    "smtpd_hard_error_limit": "1000", "lmtp_rcpt_verify": "no", "destination_probe_time": "1s",
    "queue_run_delay": "1s", "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
}


def start(test, backend, **settings):
    return test.enterContext(Postern(dict(SETTINGS, virtual_transport=backend.transport,
                                          **settings)))


def arrived(test, backend):
    """{name: count} of what the backend took; each whole."""
    found = collections.Counter()
    for _, _, data in list(backend.messages):
        content = re.sub(rb"\A(?:Received:[^\n]*\n(?:[ \t][^\n]*\n)*)", b"", data)
        match = re.match(rb"Subject: ([\w.]+-\d+)\r\n", content)
        test.assertTrue(match and content == body(match[1].decode()), data[:300])
        found[match[1].decode()] += 1
    return found


def spooled(server):
    return [f for f in server.all_files() if f.startswith("spool/")]


def drain(server):
    """Looks seldom: the backend lives in this process too."""
    end = time.monotonic() + 90
    while os.listdir(server.dir / "spool/active") and time.monotonic() < end:
        time.sleep(0.1)
    wait_for(lambda: spooled(server) == [], "the spool does not become empty", 5)


class Client(threading.Thread):
    """Sends one message after the other until it is told to stop, or the server is gone."""

    def __init__(self, server, prefix, stop):
        super().__init__()
        self.server, self.prefix, self.stop = server, prefix, stop
        self.random = random.Random(prefix)
        self.acknowledged = []

    def run(self):
        attempted = 0
        try:
            smtp = self.server.connect(timeout=30)
            smtp.command("EHLO client.test")
        except (OSError, AssertionError, IndexError):
            return
        with smtp:
            code = 250
            while code and not self.stop.is_set():
                name = "%s.%d-%d" % (self.prefix, attempted,
                                     self.random.choice((SMALL, SMALL, SMALL, SPILLED)))
                attempted += 1
                code = send(smtp, name, ["a"], self.random.random() < 0.5)
                if code == 250:
                    self.acknowledged.append(name)
                time.sleep(0.02)


class Kill(unittest.TestCase):
    def flap(self, backend, stop):
        """There, gone, hanging up behind the dot, refusing for a while."""
        chance = random.Random(1)
        while not stop.is_set():
            time.sleep(chance.uniform(0.05, 0.3))
            backend.drop_after_dot = chance.random() < 0.2
            backend.data = {"": "451 4.3.0 later"} if chance.random() < 0.2 else {}
            if backend.listener and chance.random() < 0.5:
                backend.stop()
            elif not backend.listener:
                backend.start()

    def test_kills_at_random(self):
        backend = self.enterContext(Backend())
        server = start(self, backend)
        acknowledged, stop_flapping = [], threading.Event()
        flapping = threading.Thread(target=self.flap, args=(backend, stop_flapping))
        flapping.start()
        kills = count(10, "POSTERN_SPOOL_KILLS")
        for number in range(kills):
            stop = threading.Event()
            clients = [Client(server, "%d.%d" % (number, i), stop) for i in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(0.3 + random.random())
            server.kill()
            stop.set()
            for client in clients:
                client.join()
                acknowledged += client.acknowledged
            server.start()
        stop_flapping.set()
        flapping.join()
        backend.drop_after_dot, backend.data = False, {}
        if not backend.listener:
            backend.start()
        drain(server)
        found = arrived(self, backend)
        self.assertEqual([name for name in acknowledged if not found[name]], [])
        self.assertEqual(list((server.dir / "spool/corrupt").iterdir()), [])
        twice = sum(found.values()) - len(found)
        print("%d kills, %d messages acknowledged, all arrived; %d more copies"
              % (kills, len(acknowledged), twice))
        self.assertGreater(len(acknowledged), kills)


if __name__ == "__main__":
    in_memory()
    unittest.main(verbosity=2)
