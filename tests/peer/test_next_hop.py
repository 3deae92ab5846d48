"""RCPT asked at the next hop while the client waits: what a mailbox server says is the reply, and
what one does that is down, slow or rude costs nobody his mail."""
import ssl
import time
import unittest
import urllib.request

import rude
from harness import Postern, Smtp, free_port, make_certificate, scratch

OTHER = {"virtual_mailbox_domains": "example.org", "virtual_mailbox_maps": None,
         "lmtp_rcpt_verify_timeout": "1s", "delivery_verdict_time_limit": "2s"}


def lmtp(server, **settings):
    return Postern({**OTHER, "virtual_transport": "lmtp:inet:127.0.0.1:%d" % server.port,
                    **settings})


class NextHop(unittest.TestCase):
    def rcpts(self, postern, *rcpts):
        """The replies, and how long they took."""
        with postern.connect() as smtp:
            smtp.commands("EHLO client.test", "MAIL FROM:<a@client.test>")
            began = time.monotonic()
            replies = [str(smtp.command("RCPT TO:<%s>" % r)) for r in rcpts]
            return replies, time.monotonic() - began

    def test_its_words_and_the_cache(self):
        def rcpt(talk, line):
            talk.say("550-5.1.1 <x> nobody\r\n550 5.1.1 of that name" if "no@" in line
                     else "452 4.2.2 full" if "full@" in line else "250 2.1.5 ok")
        metrics = free_port()
        with rude.Rude(lambda t: t.serve({"RCPT": rcpt})) as hop, \
                lmtp(hop, metrics_listen="127.0.0.1:%d" % metrics) as postern:
            for _ in range(3):
                replies, _ = self.rcpts(postern, "you@example.org", "no@example.org",
                                        "full@example.org")
                self.assertEqual(replies, ["250 2.1.5 Ok", "550 5.1.1 <x> nobody of that name",
                                           "452 4.2.2 full"])
            asked = [r for r in hop.rcpts() if "full@" not in r]
            self.assertLessEqual(len(asked), 4, "once for each loop at most")
            self.assertEqual(len(hop.rcpts()) - len(asked), 3, "a 4xx is not remembered")
            self.assertNotIn("DATA", hop.commands)
            with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % metrics) as page:
                values = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines())
            yes, no, cached = (int(values["postern_next_hop_rcpt_" + name]) for name in (
                'total{answer="yes"}', 'total{answer="no"}', "cached_total"))
            self.assertEqual(yes + no, len(hop.rcpts()))
            self.assertEqual(yes + no + cached, 9)

    def test_it_knows_the_envelope_in_utf8_only_if_it_says_so(self):
        with rude.Rude(lambda t: t.serve()) as hop, lmtp(hop) as postern:
            with postern.connect() as smtp:
                self.assertNotIn("SMTPUTF8", smtp.command("EHLO client.test").text)

    def test_nobody_listens(self):
        with Postern({**OTHER, "virtual_transport": "lmtp:inet:127.0.0.1:%d" % free_port()}) as p:
            replies, seconds = self.rcpts(p, "you@example.org", "me@example.org")
            self.assertEqual(replies, ["250 2.1.5 Ok"] * 2)
            self.assertLess(seconds, 1)

    def test_slow_and_rude_ones(self):
        for name, replies in (
                ("silent at the door", {"": None}), ("silent", {"RCPT": rude.silence}),
                ("hangs up", {"RCPT": rude.hang_up}), ("endless line", {"RCPT": rude.endless_line}),
                ("endless reply", {"RCPT": rude.endless_reply}), ("trickle", {"RCPT": rude.trickle}),
                ("closing", {"RCPT": "421 4.3.2 down"}), ("garbage", {"RCPT": b"\x00\xff\n"}),
                ("refused at the door", {"": "554 5.3.2 no"}), ("confused", {"RCPT": "503 what"})):
            script = rude.silence if replies.get("", "") is None else lambda t: t.serve(replies)
            with self.subTest(name), rude.Rude(script) as hop, lmtp(hop) as postern:
                first, seconds = self.rcpts(postern, "you@example.org")
                self.assertEqual(first, ["250 2.1.5 Ok"])
                self.assertLess(seconds, 3)
                _, seconds = self.rcpts(postern, *["x%d@example.org" % i for i in range(5)])
                self.assertLess(seconds, 3, "remembered for a while")

    def test_one_never_delays_clients_of_another(self):
        with rude.Rude(rude.silence) as slow, rude.Rude(lambda t: t.serve()) as good:
            maps = ("inline:{ {slow.test=lmtp:inet:127.0.0.1:%d}, "
                    "{good.test=lmtp:inet:127.0.0.1:%d} }" % (slow.port, good.port))
            with Postern({**OTHER, "virtual_mailbox_domains": "slow.test good.test",
                          "transport_maps": maps, "lmtp_rcpt_verify_timeout": "5s",
                          "event_loops": "1"}) as postern:
                waiting = []
                for i in range(40):
                    smtp = postern.connect()
                    smtp.commands("EHLO c", "MAIL FROM:<a@client.test>")
                    smtp.send("RCPT TO:<x%d@slow.test>\r\n" % i)
                    waiting.append(smtp)
                _, seconds = self.rcpts(postern, *["y%d@good.test" % i for i in range(10)])
                self.assertLess(seconds, 1)
                self.assertLessEqual(slow.most_open, 21)
                for smtp in waiting:
                    self.assertEqual(smtp.reply().code, 250)
                    smtp.close()

    def test_the_client_leaves_while_it_is_asked(self):
        with rude.Rude(lambda t: t.serve({"RCPT": rude.silence})) as hop, lmtp(hop) as postern:
            for _ in range(5):
                smtp = postern.connect()
                smtp.commands("EHLO c", "MAIL FROM:<a@client.test>")
                smtp.send("RCPT TO:<you@example.org>\r\n")
                time.sleep(0.05)
                smtp.close()
            replies, _ = self.rcpts(postern, "me@example.org")
            self.assertEqual(replies, ["250 2.1.5 Ok"])

    def test_switched_off(self):
        with rude.Rude(lambda t: t.serve({"RCPT": "550 no"})) as hop, \
                lmtp(hop, lmtp_rcpt_verify="no") as postern:
            self.assertEqual(self.rcpts(postern, "you@example.org")[0], ["250 2.1.5 Ok"])
            self.assertEqual(hop.connections, 0)


class Tls(unittest.TestCase):
    """STARTTLS towards an SMTP next hop: when it is offered; whatever its certificate."""

    def ask(self, script, **settings):
        with rude.Rude(script) as hop, Postern({
                **OTHER, "relay_domains": "relay.test", "virtual_mailbox_domains": None,
                "relay_transport": "smtp:[127.0.0.1]:%d" % hop.port, **settings}) as postern:
            with postern.connect() as smtp:
                smtp.commands("EHLO client.test", "MAIL FROM:<a@client.test>")
                return str(smtp.command("RCPT TO:<you@relay.test>")), hop

    def script(self, context, seen):
        def starttls(talk, line):
            talk.say(b"220 go\r\n250 injected\r\n")
            talk.secure(context)

        def rcpt(talk, line):
            seen.append(talk.is_tls)
            talk.say("550 5.1.1 no")
        hello = ("250-rude", "250-PIPELINING", "250 STARTTLS")
        return lambda talk: talk.serve({"STAR": starttls, "RCPT": rcpt}, hello)

    def test_offered(self):
        with scratch() as directory:
            make_certificate(directory)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(directory / "cert.pem", directory / "cert.key")
            for level, expected in (("may", True), ("encrypt", True), ("none", False)):
                seen = []
                reply, _ = self.ask(self.script(context, seen), smtp_tls_security_level=level)
                self.assertEqual((reply, seen), ("550 5.1.1 no", [expected]), level)

    def test_a_handshake_that_fails_is_no_reason_to_lose_mail(self):
        def starttls(talk, line):
            talk.say("220 go")
            talk.sock.sendall(b"what is that\r\n" * 10)
            talk.silence()
        hello = ("250-rude", "250 STARTTLS")
        script = lambda t: t.serve({"STAR": starttls, "RCPT": "550 5.1.1 no"}, hello)
        reply, hop = self.ask(script)
        self.assertEqual((reply, hop.connections), ("550 5.1.1 no", 2))
        reply, hop = self.ask(script, smtp_tls_security_level="encrypt")
        self.assertEqual((reply, hop.connections), ("250 2.1.5 Ok", 1), "the spool waits")

    def test_not_offered_but_demanded(self):
        reply, hop = self.ask(lambda t: t.serve({"RCPT": "550 5.1.1 no"}),
                              smtp_tls_security_level="encrypt")
        self.assertEqual(reply, "250 2.1.5 Ok")
        self.assertEqual(hop.rcpts(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
