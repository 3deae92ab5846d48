"""The commit point: what a power cut would leave of a message at the moment of its 250, by the order
of system calls; and a kill before each of them."""
import shutil
import unittest

from crash import (BOXES, SETTINGS, SMALL, SPILLED, Disk, Postern, Tracer, in_memory, send,
                   stored, traced)

# What one conversation delivers: name, boxes, by BDAT. Box "a" gets its Maildir with the first.
MESSAGES = (
    ("small-%d" % SMALL, ["a"], False),
    ("chunks-%d" % SMALL, ["a"], True),
    ("large-%d" % SPILLED, ["a"], False),
    ("many-%d" % SMALL, ["a", "b", "c"], False),
    ("manylarge-%d" % SPILLED, ["a", "b", "c"], True),
)


def converse(server, suffix="", messages=MESSAGES):
    """Sends them all in one connection: {name: (code, boxes)} of those that were tried."""
    results = {}
    try:
        smtp = server.connect()
        smtp.command("EHLO client.test")
    except (OSError, AssertionError, IndexError):
        return results
    with smtp:
        for name, boxes, by_bdat in messages:
            name = name.replace("-", suffix + "-")
            results[name] = (send(smtp, name, boxes, by_bdat), boxes)
            if results[name][0] == 0:
                break
    return results


class Order(unittest.TestCase):
    def check(self, settings):
        """At each 250 for a message, everything that is visible then would survive; and nothing
        becomes visible whose bytes would not."""
        server = self.enterContext(Postern(dict(SETTINGS, **settings)))
        disk, visible, acknowledged = Disk(), set(), 0
        with traced(server, "log") as tracer:
            results = converse(server)
            self.assertEqual({code for code, _ in results.values()}, {250})
        for line in tracer.lines:
            if line.startswith("send 250") and "queued as" in line:
                acknowledged += 1
                self.assertEqual([(p, disk.lost(p)) for p in visible if disk.lost(p)], [])
                self.assertGreater(len(visible), 0)
            elif not line.startswith("send "):
                path = disk.see(line)
                if path is not None and path.parent.name == "new":
                    visible.add(path)
                    self.assertNotIn(str(path), disk.dirty, "torn: " + line)
        self.assertEqual(acknowledged, len(MESSAGES))
        self.assertEqual(len(visible), sum(len(m[1]) for m in MESSAGES))

    def test_what_is_acknowledged_would_survive_a_power_cut(self):
        self.check({})

    def test_the_same_when_the_file_is_written_anew(self):
        self.check({"maildir_newline": "lf"})


class EachCall(unittest.TestCase):
    def check(self, server, results):
        found = stored(server)  # whatever is visible is whole
        for name, (code, boxes) in results.items():
            times = [found[box].get(name, 0) for box in boxes]
            self.assertLessEqual(max(times), 1, name)
            if code == 250:
                self.assertEqual(times, [1] * len(boxes), name)
        left = [f for f in server.all_files() if "/tmp/" not in f and "/new/" not in f]
        self.assertEqual(left, [])

    def test_a_kill_before_each_system_call(self):
        server = self.enterContext(Postern(SETTINGS))
        kills, names = 0, []
        while True:
            for box in BOXES:  # each time the Maildirs are made anew
                shutil.rmtree(server.dir / "mail" / box, ignore_errors=True)
            tracer = Tracer(server, "kill", kills + 1, "open", "write", "sync", "rename", "mkdir",
                            "unlink", "send")
            results = converse(server, ".%d" % kills)
            if all(code == 250 for code, _ in results.values()):
                self.assertEqual(tracer.stop(), [])
                break
            server.process.wait(10)
            names += [line.split(" ")[0] for line in tracer.stop()]
            kills += 1
            self.assertEqual(len(names), kills)
            self.check(server, results)
            server.start()
            self.assertEqual(list((server.dir / "spool" / "tmp").iterdir()), [])
            self.check(server, results)
        self.check(server, results)
        calls = {name: names.count(name) for name in sorted(set(names))}
        print("killed before each of %d system calls: %s" % (kills, calls))
        for expected in ("fdatasync", "fsync", "renameat2", "send", "mkdirat"):
            self.assertIn(expected, calls)


if __name__ == "__main__":
    in_memory()
    unittest.main(verbosity=2)
