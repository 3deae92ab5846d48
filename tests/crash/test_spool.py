"""The spool: a kill before each system call of the way through it, and each of them failing. What was
acknowledged arrives, whole and once; what was refused leaves nothing."""
import re
import shutil
import unittest

from crash import (BOXES, SMALL, SPILLED, SPOOL_FIRST, Disk, Postern, Tracer, in_memory, number,
                   send, spooled, stored, traced)
from harness import free_port, postern, wait_for

MESSAGES = (
    ("small-%d" % SMALL, ["a"], False),
    ("large-%d" % SPILLED, ["b"], True),
    ("many-%d" % SMALL, ["a", "b", "c"], True),
)
CALLS = ("open", "write", "sync", "rename", "mkdir", "unlink", "send")


def converse(server, suffix):
    """All messages in one connection: {name: (code, boxes)}."""
    results = {}
    try:
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            for name, boxes, by_bdat in MESSAGES:
                name = name.replace("-", suffix + "-")
                results[name] = (send(smtp, name, boxes, by_bdat), boxes)
    except (OSError, AssertionError, IndexError):
        pass
    return results


class Order(unittest.TestCase):
    def test_a_power_cut_at_any_time_loses_nothing(self):
        """At the 250 message and envelope would survive; when the envelope goes away, each file in a
        Maildir would."""
        server = self.enterContext(Postern(SPOOL_FIRST))
        with traced(server, "log") as tracer:
            results = converse(server, ".x")
            wait_for(lambda: spooled(server) == [], "an empty spool")
        self.assertEqual({code for code, _ in results.values()}, {250})
        disk, named, acknowledged, delivered = Disk(), set(), 0, 0
        for line in tracer.lines:
            match = re.match(r"send 250 .*queued as (\w+)$", line)
            if match:
                acknowledged += 1
                for part in ("msg", "active"):
                    path = server.dir / "spool" / part / match[1]
                    self.assertIn(path, named)
                    self.assertIsNone(disk.lost(path), line)
            match = re.match(r"unlinkat \S+/active/(\w+) = 0$", line)
            if match:
                files = [p for p in named - {None} if "/new/" in str(p) and match[1] in p.name]
                self.assertNotEqual(files, [])
                self.assertEqual([disk.lost(p) for p in files if disk.lost(p)], [])
                delivered += len(files)
            if not line.startswith("send "):
                named.add(disk.see(line))
        self.assertEqual(acknowledged, len(MESSAGES))
        self.assertEqual(delivered, sum(len(boxes) for _, boxes, _ in MESSAGES),
                         "\n".join(tracer.lines))

    def test_an_envelope_that_moves_is_somewhere_at_any_time(self):
        """The new name is synced before the old one is given up: a message without envelope goes."""
        server = self.enterContext(Postern(dict(
            SPOOL_FIRST, virtual_transport="lmtp:inet:127.0.0.1:%d" % free_port(),
            destination_probe_time="100s", minimal_backoff_time="100s")))
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            self.assertEqual(send(smtp, "small-%d" % SMALL, ["a"], False), 250)
        server.wait_log("status=deferred")
        for verb, first in (("hold", "hold"), ("release", "active")):
            with traced(server, "log") as tracer:
                postern("queue", "-c", str(server.dir / "main.cf"), verb, "all")
            text = "\n".join(tracer.lines)
            moved = re.search(r"rename.* \S+/%s/\w+ = 0\n" % first, text)
            synced = re.search(r"fsync \S+/(active|hold) = 0", text[moved.end():])
            self.assertEqual(synced[1], first, text)


class EachCall(unittest.TestCase):
    def start(self, settings=None):
        server = self.enterContext(Postern(dict(SPOOL_FIRST, **(settings or {}))))
        return server

    def check_arrived(self, server, results):
        """Everything is out of the spool, and where it belongs."""
        wait_for(lambda: spooled(server) == [], "an empty spool", 60)
        found = stored(server)
        for name, (code, boxes) in results.items():
            times = [found[box].get(name, 0) for box in boxes]
            self.assertLessEqual(max(times), 1, name)
            if code == 250:
                self.assertEqual(times, [1] * len(boxes), name)
            elif code >= 400:
                self.assertEqual(times, [0] * len(boxes), name)
        self.assertEqual([f for f in server.all_files() if "/corrupt/" in f], [])

    def test_a_kill_before_each_system_call(self):
        server = self.start()
        kills, names = 0, []
        while True:
            for box in BOXES:
                shutil.rmtree(server.dir / "mail" / box, ignore_errors=True)
            tracer = Tracer(server, "kill", kills + 1, *CALLS)
            results = converse(server, ".%d" % kills)
            try:
                wait_for(lambda: spooled(server) == [] or server.process.poll() is not None,
                         "an empty spool", 30)
            finally:
                said = tracer.stop()
            if not said:
                break
            server.process.wait(10)
            names += [line.split(" ")[0] for line in said]
            kills += 1
            stored(server)  # whatever is visible is whole
            server.start()
            self.check_arrived(server, results)
        self.check_arrived(server, results)
        calls = {name: names.count(name) for name in sorted(set(names))}
        print("killed before each of %d system calls: %s" % (kills, calls))
        self.assertGreater(kills, 50)

    FAULTS = (("write", "ENOSPC"), ("sync", "EIO"), ("rename", "EIO"), ("open", "EMFILE"),
              ("unlink", "EIO"), ("mkdir", "EROFS"))

    def test_each_system_call_fails(self):
        server = self.start()
        total = 0
        for calls, error in self.FAULTS:
            results, n, said = {}, 1, [""]
            while said:
                with traced(server, "fail", n, number(error), calls) as tracer:
                    now = converse(server, ".%s%d" % (calls, n))
                said = tracer.lines
                self.assertEqual(len(now), len(MESSAGES), "%d. %s" % (n, calls))
                self.assertLessEqual({code for code, _ in now.values()}, {250, 451, 452})
                results.update(now)
                n += 1
            total += n - 2
            if calls == "unlink":  # a message whose envelope is gone lies there till the next start
                wait_for(lambda: not any("/active/" in f for f in spooled(server)), "envelopes", 60)
                server.stop()
                server.start()
            self.check_arrived(server, results)
        print("%d system calls failed" % total)


if __name__ == "__main__":
    in_memory()
    unittest.main(verbosity=2)
