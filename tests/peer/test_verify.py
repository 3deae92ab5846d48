"""reject_unverified_sender and reject_unverified_recipient: who is asked, what about, how often,
and what becomes of it when the one who is asked stalls, lies, drops or never ends."""
import socket
import struct
import threading
import time
import unittest

import rude
from harness import Postern, Smtp, free_port, wait_for
from oracle.postfix import Postfix


class Zone:
    """The DNS, as far as these tests need it: {name: {"MX": [(preference, host)], "A": [...]}}."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def wire(name):
        labels = [x.encode() for x in name.rstrip(".").split(".") if x]
        return b"".join(bytes([len(x)]) + x for x in labels) + b"\0"

    def records(self, name, kind):
        for value in self.names[name].get({1: "A", 15: "MX"}.get(kind), []):
            yield socket.inet_aton(value) if kind == 1 else (
                struct.pack(">H", value[0]) + self.wire(value[1]))

    def answer(self, packet):
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        kind, name = struct.unpack_from(">H", packet, at + 1)[0], ".".join(labels).lower()
        self.asked.append((name, kind))
        known = name in self.names
        data = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r
                for r in (self.records(name, kind) if known else [])]
        return (packet[:2] + struct.pack(">HHHHH", 0x8180 | (0 if known else 3), 1, len(data), 0, 0)
                + packet[12:at + 5] + b"".join(data))

    def serve(self):
        while True:
            try:
                packet, peer = self.sock.recvfrom(4096)
                self.sock.sendto(self.answer(packet), peer)
            except OSError:
                return

    def close(self):
        self.sock.close()


class Verify(unittest.TestCase):
    """client.test has two mail hosts on 127.0.0.2 and 127.0.0.3, at a port of this test."""

    def setUp(self):
        self.port = free_port()
        self.zone = Zone({
            "client.test": {"MX": [(20, "mx2.client.test"), (10, "mx1.client.test")]},
            "mx1.client.test": {"A": ["127.0.0.2"]}, "mx2.client.test": {"A": ["127.0.0.3"]},
            "bare.test": {"A": ["127.0.0.3"]}, "null.test": {"MX": [(0, "")]},
            "nomail.test": {"MX": [(10, "nowhere.test")]},
            "loop.test": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": ["127.0.0.2"]},
        })
        self.addCleanup(self.zone.close)

    def postern(self, **settings):
        return Postern({
            "dns_servers": "127.0.0.1:%d" % self.zone.port, "smtp_tcp_port": str(self.port),
            "smtpd_recipient_restrictions": "reject_unverified_sender",
            "unverified_sender_reject_code": "550", "address_verify_networks": "127.0.0.0/8",
            "address_verify_poll_delay": "1s", **settings})

    def mail_host(self, script, host="127.0.0.2"):
        return rude.Rude(script, host, self.port)

    def rcpt(self, postern, sender, rcpt="you@example.org"):
        with postern.connect() as smtp:
            smtp.commands("EHLO client.test", "MAIL FROM:<%s>" % sender)
            began = time.monotonic()
            return str(smtp.command("RCPT TO:<%s>" % rcpt)), time.monotonic() - began

    def started(self, postern):
        """Once the store is open."""
        wait_for(lambda: "problem" not in self.rcpt(postern, "first@null.test")[0],
                 "the store does not open")

    # ---------------------------------------------------------------- the probe

    def test_what_is_asked_and_what_is_remembered(self):
        script = lambda t: t.serve({"RCPT": lambda t, line: t.say(
            "250 2.1.5 ok" if "good@" in line else "550 5.1.1 no such user")})
        with self.mail_host(script) as host, self.postern(event_loops="1") as postern:
            self.started(postern)
            reply, seconds = self.rcpt(postern, "good@client.test")
            self.assertEqual(reply, "250 2.1.5 Ok")
            self.assertLess(seconds, 0.9, "a probe that has ended is not waited for")
            wait_for(lambda: len(host.commands) >= 4, "the probe ends with RSET")
            self.assertEqual(host.commands[:4], [
                "EHLO mx.example.org", "MAIL FROM:<double-bounce@example.org>",
                "RCPT TO:<good@client.test>", "RSET"])
            reply, _ = self.rcpt(postern, "bad@client.test")
            self.assertRegex(reply, r"^550 5\.1\.7 <bad@client\.test>: Sender address rejected: "
                             r"undeliverable address: host mx1\.client\.test\[127\.0\.0\.2\] "
                             r"said: 550 5\.1\.1 no such user \(in reply to RCPT TO command\)$")
            postern.wait_log(r"smtp\S*: probe: to=<bad@client\.test>, relay=mx1\.client\.test"
                             r"\[127\.0\.0\.2\]:\d+, delay=\d\.\d\d, dsn=5\.1\.1, "
                             r"status=undeliverable \(host mx1")
            asked = len(host.rcpts())
            for sender in ("good@client.test", "bad@client.test", "Good@Client.Test") * 2:
                self.rcpt(postern, sender)
            self.assertEqual(len(host.rcpts()), asked)

    def test_it_is_remembered_over_a_restart(self):
        with self.mail_host(lambda t: t.serve({"RCPT": "550 5.1.1 no"})) as host, \
                self.postern() as postern:
            self.started(postern)
            self.rcpt(postern, "bad@client.test")
            wait_for(lambda: len(host.rcpts()) == 1, "the probe")
            time.sleep(0.2)
            postern.kill()
            postern.start()
            self.started(postern)
            self.assertTrue(self.rcpt(postern, "bad@client.test")[0].startswith("550 5.1.7"))
            self.assertEqual(len(host.rcpts()), 1)

    def test_an_access_table_may_ask_for_it(self):
        """Then no list shows that the store is needed: it is opened when somebody asks."""
        with self.mail_host(lambda t: t.serve({"RCPT": "550 5.1.1 no"})), self.postern(
                smtpd_recipient_restrictions="check_sender_access "
                "inline:{client.test=reject_unverified_sender}") as postern:
            self.assertEqual(self.rcpt(postern, "a@other.test")[0], "250 2.1.5 Ok")
            wait_for(lambda: self.rcpt(postern, "a@client.test")[0].startswith("550 5.1.7"),
                     "the store does not open")

    def test_hosts_in_order(self):
        script = lambda name: lambda t: t.serve({"RCPT": "550 5.1.1 " + name})
        with self.mail_host(script("second"), "127.0.0.3"), self.postern() as postern:
            self.started(postern)
            self.assertIn("second", self.rcpt(postern, "a@client.test")[0])
            with self.mail_host(script("first"), "127.0.0.2"):
                self.assertIn("first", self.rcpt(postern, "b@client.test")[0])
            self.assertIn("second", self.rcpt(postern, "a@bare.test")[0])

    def test_the_next_host_when_one_is_refused_at_the_door(self):
        with self.mail_host(lambda t: t.say("554 go away"), "127.0.0.2"), \
                self.mail_host(lambda t: t.serve({"RCPT": "550 5.1.1 second"}), "127.0.0.3"), \
                self.postern() as postern:
            self.started(postern)
            self.assertIn("second", self.rcpt(postern, "a@client.test")[0])

    def test_senders_of_its_own(self):
        for parameter, sender in (("<>", "<>"), ("", "<>"), ("probe@a.test", "<probe@a.test>")):
            with self.subTest(parameter), self.mail_host(lambda t: t.serve()) as host, \
                    self.postern(address_verify_sender=parameter) as postern:
                self.started(postern)
                self.assertEqual(self.rcpt(postern, "a@client.test")[0], "250 2.1.5 Ok")
                self.assertIn("MAIL FROM:" + sender, host.commands)

    # ---------------------------------------------------------------- who cannot be asked

    def test_domains_without_mail(self):
        with self.postern() as postern:
            self.started(postern)
            for sender, words in (
                    ("a@null.test", "550 5.1.7 .*does not accept mail"),
                    ("a@nosuch.test", "550 5.1.7 .*domain name not found: nosuch.test"),
                    ("a@nomail.test", "550 5.1.7 .*domain name not found"),
                    ("a@loop.test", "450 4.1.7 .*unverified address: .*loops back to myself"),
                    ("a@client.test", "450 4.1.7 .*unverified address: connect to mx2.*: Connection refused")):
                self.assertRegex(self.rcpt(postern, sender)[0], "^" + words)

    def test_nobody_makes_us_talk_to_private_hosts(self):
        with self.mail_host(lambda t: t.serve()) as host, \
                self.postern(address_verify_networks="") as postern:
            self.started(postern)
            for sender in ("a@client.test", "a@[127.0.0.2]", "a@bare.test"):
                reply, _ = self.rcpt(postern, sender)
                self.assertRegex(reply, "^450 4.1.7 .*no address that may be connected to")
            self.assertEqual(host.connections, 0)

    def test_we_recognize_ourselves(self):
        hello = ("250-mx.example.org", "250 PIPELINING")
        with self.mail_host(lambda t: t.serve({}, hello)) as host, self.postern() as postern:
            self.started(postern)
            self.assertRegex(self.rcpt(postern, "a@client.test")[0], "^450 4.1.7 ")
            self.assertEqual(host.rcpts(), [])

    # ---------------------------------------------------------------- stalls, drops, floods

    def test_stalls_and_then_answers(self):
        def rcpt(talk, line):
            time.sleep(2)
            talk.say("250 2.1.5 ok")
        with self.mail_host(lambda t: t.serve({"RCPT": rcpt})) as host, \
                self.postern(address_verify_poll_count="2") as postern:
            self.started(postern)
            reply, seconds = self.rcpt(postern, "slow@client.test")
            self.assertRegex(reply, "^450 4.1.7 .*unverified address: Address verification in "
                                    "progress$")
            self.assertTrue(0.9 < seconds < 1.9, seconds)
            self.rcpt(postern, "slow@client.test")
            time.sleep(0.3)
            self.assertEqual(self.rcpt(postern, "slow@client.test")[0], "250 2.1.5 Ok")
            self.assertEqual(len(host.rcpts()), 1, "one probe at a time")

    def test_rude_ones(self):
        for name, replies, words in (
                ("hangs up", {"RCPT": rude.hang_up}, "lost connection with .* RCPT TO"),
                ("hangs up at the door", {"": ""}, ""),
                ("endless line", {"RCPT": rude.endless_line}, "endless"),
                ("endless reply", {"RCPT": rude.endless_reply}, "endless"),
                ("garbage", {"RCPT": b"\xff\xfe\n"}, "malformed"),
                ("trickle", {"RCPT": rude.trickle}, "in progress"),
                ("4xx", {"RCPT": "450 4.2.0 greylisted"}, "said: 450 4.2.0 greylisted"),
                ("421", {"RCPT": "421 4.3.2 down"}, "said: 421 4.3.2 down")):
            script = rude.hang_up if replies.get("", "x") == "" else lambda t: t.serve(replies)
            with self.subTest(name), self.mail_host(script), \
                    self.postern(address_verify_poll_count="2") as postern:
                self.started(postern)
                reply, seconds = self.rcpt(postern, "a@client.test")
                self.assertRegex(reply, "^450 4.1.7 .*unverified address: .*" + words)
                self.assertLess(len(reply), 512)
                self.assertLess(seconds, 2)

    def test_a_domain_is_not_flooded(self):
        with self.mail_host(rude.silence) as host, self.postern(
                event_loops="1", address_verify_domain_limit="3",
                address_verify_poll_count="1") as postern:
            self.started(postern)
            for i in range(20):
                self.rcpt(postern, "u%d@client.test" % i)
            time.sleep(0.3)
            self.assertEqual(host.connections, 3)

    def test_the_client_leaves(self):
        with self.mail_host(lambda t: t.serve({"RCPT": rude.silence})), \
                self.postern() as postern:
            self.started(postern)
            for i in range(5):
                smtp = postern.connect()
                smtp.commands("EHLO c", "MAIL FROM:<a%d@client.test>" % i)
                smtp.send("RCPT TO:<you@example.org>\r\n")
                time.sleep(0.05)
                smtp.close()
            # and the server ends in an orderly way while probes are under way

    # ---------------------------------------------------------------- recipients, and our own name

    def test_recipients_at_a_relay(self):
        script = lambda t: t.serve({"RCPT": lambda t, line: t.say(
            "250 2.1.5 ok" if "good@" in line else "550 5.1.1 no such user")})
        with rude.Rude(script) as hop, self.postern(
                relay_domains="relay.test", relay_transport="smtp:[127.0.0.1]:%d" % hop.port,
                lmtp_rcpt_verify="no", smtpd_recipient_restrictions="reject_unverified_recipient",
                unverified_recipient_reject_code="550") as postern:
            wait_for(lambda: "problem" not in self.rcpt(postern, "a@b.test", "x@relay.test")[0],
                     "the store")
            self.assertEqual(self.rcpt(postern, "a@b.test", "good@relay.test")[0], "250 2.1.5 Ok")
            self.assertRegex(self.rcpt(postern, "a@b.test", "bad@relay.test")[0],
                             "^550 5.1.1 .*Recipient address rejected: undeliverable address: ")

    def test_others_may_probe_our_probes(self):
        with self.postern() as postern:
            for rcpt in ("double-bounce@example.org", "double-bounce"):
                self.assertEqual(self.rcpt(postern, "x@nosuch.test", rcpt)[0], "250 2.1.5 Ok")
            with postern.connect() as smtp:
                smtp.command("EHLO c")
                self.assertEqual(smtp.message(b"x\r\n", rcpts=["double-bounce@example.org"]).code,
                                 250)
            self.assertEqual(postern.all_files(), [], "thrown away")


class BesidePostfix(unittest.TestCase):
    """A real Postfix is asked, and another one asks it as we do."""

    SETTINGS = {"smtpd_recipient_restrictions": "reject_unverified_sender",
                "unverified_sender_reject_code": "550", "address_verify_poll_delay": "1s",
                "address_verify_poll_count": "2"}

    @classmethod
    def setUpClass(cls):
        cls.postfix = Postfix({
            "myhostname": "mx.example.org", "myorigin": "example.org", "mynetworks": "127.0.0.9/32",
            "mydestination": "", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "virtual_mailbox_domains": "example.org", "virtual_mailbox_maps":
            "inline:{you@example.org=you/}", "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "default_transport": "error", "smtp_host_lookup": "native",
            "disable_dns_lookups": "yes",
        }, free_port())
        cls.addClassCleanup(cls.postfix.__exit__)
        cls.host = cls.postfix.add({
            "myhostname": "mx.client.test", "mydestination": "client.test", "virtual_mailbox_domains": "",
            "local_recipient_maps": "inline:{known=x}", "alias_maps": "",
            "smtpd_recipient_restrictions":
            "check_recipient_access inline:{ {full@client.test=452 4.2.2 Mailbox full}, "
            "{known@client.test=OK} }"})
        cls.askers = [(settings, cls.postfix.add({**cls.SETTINGS, **settings})) for settings in (
            {}, {"unverified_sender_reject_reason": "Address lookup failed"},
            {"unverified_sender_reject_code": "450", "unverified_sender_defer_code": "451",
             "unverified_sender_tempfail_action": "defer"})]
        silent = rude.Rude(rude.silence)
        cls.addClassCleanup(silent.__exit__)
        cls.maps = "inline:{ %s }" % ", ".join(
            "{%s=smtp:[127.0.0.1]:%d}" % item for item in (
                ("client.test", cls.host), ("gone.test", free_port()),
                ("silent.test", silent.port)))
        cls.postfix.base["transport_maps"] = cls.maps
        cls.postfix.start()

    def rcpt(self, port, sender):
        with Smtp(port) as smtp:
            smtp.commands("EHLO c.test", "MAIL FROM:<%s>" % sender)
            return str(smtp.command("RCPT TO:<you@example.org>"))

    def settled(self, port, sender):
        """Once the probe has ended."""
        for _ in range(5):
            reply = self.rcpt(port, sender)
            if "in progress" not in reply:
                return reply
        return reply

    def test_the_same_answers(self):
        for settings, port in self.askers:
            with Postern({**self.SETTINGS, "transport_maps": self.maps, "lmtp_rcpt_verify": "no",
                          **settings}) as postern:
                wait_for(lambda: "problem" not in self.rcpt(postern.port, "known@client.test"),
                         "the store")
                for sender in ("known@client.test", "unknown@client.test", "full@client.test",
                               "a@gone.test", "a@silent.test", ""):
                    ask = self.rcpt if "silent" in sender else self.settled
                    theirs, ours = ask(port, sender), ask(postern.port, sender)
                    with self.subTest(settings, sender=sender):
                        self.assertEqual(ours, theirs)
        asked = self.postfix.log().count("RCPT from unknown[127.0.0.1]: 550 5.1.1 <unknown@")
        self.assertEqual(asked, 1 + len(self.askers), "Postfix remembers it once, we each time")


if __name__ == "__main__":
    unittest.main(verbosity=2)
