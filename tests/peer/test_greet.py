"""What a client meets before the banner: the pause, and what happens to who talks first."""
import time
import unittest

from harness import Postern, Smtp

PAUSE = {"greet_pause": "1s", "greet_exempt_clients": ""}


class GreetTest(unittest.TestCase):
    def start(self, **settings):
        return self.enterContext(Postern(dict(PAUSE, **settings)))

    def connect(self, server, source=None, say=b""):
        """The client and how long it waited for the banner."""
        begun = time.monotonic()
        smtp = self.enterContext(Smtp(server.port, source=source, greet=False))
        if say:
            smtp.send(say)
        smtp.banner = smtp.reply()
        return smtp, time.monotonic() - begun

    def envelope(self, smtp):
        return [smtp.command(line) for line in
                ("EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<you@example.org>")][-1]


class Pause(GreetTest):
    def test_who_waits_is_served_and_remembered(self):
        server = self.start()
        smtp, waited = self.connect(server)
        self.assertEqual(smtp.banner.code, 220)
        self.assertGreaterEqual(waited, 0.9)
        self.assertEqual(self.envelope(smtp).code, 250)
        smtp, waited = self.connect(server)
        self.assertLess(waited, 0.5, "it has shown its patience before")
        smtp, waited = self.connect(server, source="127.0.0.2")
        self.assertGreaterEqual(waited, 0.9, "somebody else has not")

    def test_is_remembered_across_a_restart(self):
        server = self.start()
        self.connect(server)
        server.stop()
        server.start()
        server.wait_log("listening on")
        for _ in range(40):  # the store opens beside the first connections
            if self.connect(server)[1] < 0.5:
                return
        self.fail("it is made to wait again and again")

    def test_the_exempt_do_not_wait(self):
        server = self.start(greet_exempt_clients="127.0.0.0/8")
        smtp, waited = self.connect(server)
        self.assertLess(waited, 0.5)
        self.assertEqual(smtp.banner.code, 220)

    def test_one_pause_delays_nobody_else(self):
        server = self.start(greet_pause="3s", greet_exempt_clients="127.0.0.2")
        with Smtp(server.port, greet=False):
            _, waited = self.connect(server, source="127.0.0.2")
            self.assertLess(waited, 1)


class Pregreet(GreetTest):
    EARLY = b"EHLO client.test\r\n"

    def test_enforce_refuses_each_recipient(self):
        server = self.start()
        smtp, _ = self.connect(server, say=self.EARLY)
        self.assertEqual(smtp.banner.code, 220)
        self.assertEqual(smtp.reply().code, 250, "its EHLO")
        reply = self.envelope(smtp)
        self.assertEqual(reply.lines, ["550 5.5.1 Protocol error"])
        server.wait_log(r"PREGREET 18 after 0\.\d\d from \[127\.0\.0\.1\]:\d+: EHLO client.test")
        smtp, waited = self.connect(server)
        self.assertGreaterEqual(waited, 0.9, "who failed is not remembered as patient")

    def test_drop_closes(self):
        server = self.start(pregreet_action="drop")
        smtp, _ = self.connect(server, say=self.EARLY)
        self.assertEqual(smtp.banner.lines, ["521 5.5.1 Protocol error"])
        self.assertTrue(smtp.is_closed())

    def test_ignore_only_logs(self):
        server = self.start(pregreet_action="ignore")
        smtp, _ = self.connect(server, say=self.EARLY)
        self.assertEqual((smtp.banner.code, smtp.reply().code), (220, 250))
        self.assertEqual(self.envelope(smtp).code, 250)
        server.wait_log("PREGREET")

    def test_what_it_said_is_escaped_in_the_log(self):
        server = self.start(pregreet_action="drop")
        self.connect(server, say=b"\x1b[31m\x00\xff\r\nforged line\r\n")
        server.wait_log("PREGREET")
        log = server.log_bytes()
        self.assertNotIn(b"\x1b", log)
        self.assertNotIn(b"\x00", log)
        self.assertNotIn(b"\nforged", log)

    def test_leaving_during_the_pause_costs_nothing(self):
        server = self.start(greet_pause="30s")
        for _ in range(100):
            Smtp(server.port, greet=False).close()
        for _ in range(20):
            smtp = Smtp(server.port, greet=False)
            smtp.send(self.EARLY)
            smtp.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
