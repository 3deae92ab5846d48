"""Greylisting as a sender and an administrator meet it, and next to the real postgrey.

Days pass in seconds: server and postgrey run under libfaketime, which reads the time of day from
a file. Clients take their identity by XCLIENT."""
import datetime
import os
import pathlib
import random
import shutil
import socket
import subprocess
import time
import unittest

from harness import Postern, Smtp, free_port, postern, scratch, wait_for
from oracle.postfix import Postfix

FAKETIME = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
POSTGREY = shutil.which("postgrey", path=os.environ["PATH"] + ":/usr/sbin")
MESSAGE = b"Subject: x\r\n\r\ntext\r\n"

SETTINGS = {
    "sandbox": "no",  # libfaketime reads its clock from a file elsewhere
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_peername_lookup": "no",
    "smtpd_recipient_restrictions": "check_greylist",
    "smtpd_hard_error_limit": "10000", "smtpd_soft_error_limit": "10000",
    "virtual_mailbox_maps": "inline:{ " + " ".join(
        "{%s@example.org=%s/}" % (user, user)
        for user in ("you", "other", "postmaster", "u0", "u1", "u2")) + " }",
}
CLASSIC = {"greylist_key": "network", "greylist_auto_allow_senders": "0",
           "greylist_exempt_null_sender": "no", "greylist_text": "Greylisted"}


class Clock:
    """The time of day, in a file that libfaketime reads at every look at the clock."""

    def __init__(self, directory, start=1_800_000_000):
        self.path = pathlib.Path(directory) / "now"
        self.now = start
        self.write()
        self.env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.path),
                    "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "TZ": "UTC",
                    # else its allocator looks at the clock while libfaketime is not ready
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
                                    + ":allocator_release_to_os_interval_ms=-1"}

    def write(self):
        text = datetime.datetime.fromtimestamp(self.now, datetime.timezone.utc)
        new = self.path.with_suffix(".new")
        new.write_text(text.strftime("%Y-%m-%d %H:%M:%S\n"))
        new.rename(self.path)

    def pass_time(self, seconds):
        self.now += seconds
        self.write()


class Client:
    """One connection; it says who it is before each mail."""

    def __init__(self, server):
        self.smtp = server.connect()

    def rcpt(self, address, sender, recipient, name="[UNAVAILABLE]", code=None):
        if ":" in address:
            address = "IPV6:" + address
        lines = ["XCLIENT NAME=%s ADDR=%s" % (name, address)] if address else []
        for line in lines + ["EHLO client.test", "MAIL FROM:<%s>" % sender]:
            reply = self.smtp.command(line)
            assert reply.code in (220, 250), reply
        reply = self.smtp.command("RCPT TO:<%s>" % recipient)
        if code is not None:
            assert reply.code == code, reply
        return reply


class GreylistTest(unittest.TestCase):
    def setUp(self):
        self.dir = self.enterContext(scratch())
        self.clock = Clock(self.dir)

    def start(self, **settings):
        server = Postern(dict(SETTINGS, **settings), env=self.clock.env)
        self.enterContext(server)
        self.await_store(server)
        return server

    def await_store(self, server):
        """Until the store is open every mail passes."""
        wait_for(lambda: self.try_one(server, "203.0.113.99", "warm@up.test").code == 450,
                 "the store does not open")

    def try_one(self, server, address, sender, recipient="you@example.org", name="[UNAVAILABLE]"):
        client = Client(server)
        try:
            return client.rcpt(address, sender, recipient, name)
        finally:
            client.smtp.close()

    def send(self, server, address, sender, recipients=("you@example.org",)):
        """A whole message; the mail as it arrived at the first recipient."""
        with server.connect() as smtp:
            smtp.command("XCLIENT NAME=[UNAVAILABLE] ADDR=" + address)
            smtp.command("EHLO client.test")
            reply = smtp.message(MESSAGE, sender=sender, rcpts=recipients)
            self.assertEqual(reply.code, 250, reply)
        return server.mails(recipients[0].split("@")[0])[-1]

    def greylist(self, server, *words):
        done = postern("greylist", "-c", str(server.dir / "main.cf"), *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


@unittest.skipUnless(FAKETIME, "libfaketime is not installed")
class Waiting(GreylistTest):
    def test_waits_and_passes(self):
        server = self.start()
        reply = self.try_one(server, "192.0.2.7", "a@client.test")
        self.assertEqual(reply.lines, [
            "450 4.2.0 <you@example.org>: Recipient address rejected: "
            "Greylisted, try again in 300 seconds"])
        self.clock.pass_time(100)
        self.assertIn("in 200 seconds", self.try_one(server, "192.0.2.7", "a@client.test").text)
        self.clock.pass_time(200)
        mail = self.send(server, "192.0.2.99", "a@client.test", ("you@example.org",))
        head = mail[:mail.index(b"Received:")]
        self.assertRegex(head, rb"X-Greylist: delayed 300 seconds by Postern at mx.example.org; ")
        mail = self.send(server, "192.0.2.99", "a@client.test")
        self.assertNotIn(b"X-Greylist", mail)

    def test_one_header_for_many_recipients(self):
        server = self.start()
        for user in ("you", "other"):
            self.try_one(server, "192.0.2.7", "a@client.test", user + "@example.org")
        self.clock.pass_time(400)
        mail = self.send(server, "192.0.2.7", "a@client.test",
                         ("you@example.org", "other@example.org"))
        self.assertEqual(mail.count(b"X-Greylist:"), 1)

    def test_unknown_users_are_refused_before_they_wait(self):
        server = self.start()
        reply = self.try_one(server, "192.0.2.7", "a@client.test", "nobody@example.org")
        self.assertEqual(reply.code, 550, reply)
        self.assertNotIn("nobody", self.greylist(server, "list"))

    def test_exempt_by_default(self):
        server = self.start(greylist_exempt_clients="192.0.2.128/25")
        for address, sender, recipient in (("192.0.2.7", "", "you"),
                                           ("192.0.2.7", "a@client.test", "postmaster"),
                                           ("192.0.2.200", "a@client.test", "you")):
            reply = self.try_one(server, address, sender, recipient + "@example.org")
            self.assertEqual(reply.code, 250, (address, sender, recipient, reply))

    def test_a_pool_of_addresses_is_one_sender(self):
        """With a confirmed name the key is its domain: another address passes at the second try."""
        server = self.start()
        first = self.try_one(server, "192.0.2.7", "a@big.test", name="out1.big.test")
        self.assertEqual(first.code, 450)
        self.clock.pass_time(300)
        again = self.try_one(server, "198.51.100.8", "a@big.test", name="out2.big.test")
        self.assertEqual(again.code, 250, again)
        dynamic = self.try_one(server, "203.0.113.9", "a@big.test", name="203-0-113-9.big.test")
        self.assertEqual(dynamic.code, 450, dynamic)


@unittest.skipUnless(FAKETIME, "libfaketime is not installed")
class Commands(GreylistTest):
    def test_verbs_while_serving(self):
        server = self.start()
        self.try_one(server, "192.0.2.7", "a@client.test")
        self.assertRegex(self.greylist(server, "list"), r"triplet waits .* a@client.test/you@")
        self.greylist(server, "expect", "other@example.org")
        self.assertEqual(
            self.try_one(server, "192.0.2.7", "b@client.test", "other@example.org").code, 250)
        self.clock.pass_time(31 * 60)
        self.assertEqual(
            self.try_one(server, "192.0.2.7", "c@client.test", "other@example.org").code, 450)
        self.greylist(server, "allow", "friend.test")
        self.assertEqual(self.try_one(server, "192.0.2.7", "x@friend.test").code, 250)
        self.greylist(server, "forget", "friend.test")
        self.assertEqual(self.try_one(server, "192.0.2.7", "x@friend.test").code, 450)
        self.assertRegex(self.greylist(server, "stats"), r"triplets waiting +[1-9]")

    def test_verbs_without_a_server(self):
        server = self.start()
        self.try_one(server, "192.0.2.7", "a@client.test")
        server.stop()
        self.assertIn("a@client.test/you@", self.greylist(server, "list"))


@unittest.skipUnless(FAKETIME, "libfaketime is not installed")
class Harm(GreylistTest):
    def test_a_kill_forgets_nothing_that_was_answered(self):
        """SIGKILL under load, again and again: whoever was told to wait a second ago or earlier is
        known afterwards. POSTERN_KILLS says how often."""
        server = self.start()
        told = []
        for round_ in range(int(os.environ.get("POSTERN_KILLS", "6"))):
            with server.connect() as smtp:
                smtp.command("XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7")
                smtp.command("EHLO client.test")
                for i in range(60):
                    sender = "s%dx%d@kill.test" % (round_, i)
                    smtp.command("MAIL FROM:<%s>" % sender.replace("x", "-n"))
                    reply = smtp.command("RCPT TO:<you@example.org>")
                    self.assertEqual(reply.code, 450, reply)
                    smtp.command("RSET")
                told.append("s%d-n%d@kill.test" % (round_, 0))
            server.kill()
            begun = time.monotonic()
            server.start()
            server.banner()
            self.assertLess(time.monotonic() - begun, 5)
            self.await_store(server)
        self.clock.pass_time(301)
        for sender in told:
            self.assertEqual(self.try_one(server, "192.0.2.7", sender).code, 250, sender)

    def test_a_destroyed_database_loses_no_mail(self):
        server = self.start()
        self.try_one(server, "192.0.2.7", "a@client.test")
        server.stop()
        for path in (server.dir / "data" / "store").iterdir():
            if path.name != "secret":
                path.write_bytes(b"\0" * 64)
        server.start()
        server.wait_log("warning: the store is damaged .* set aside")
        self.await_store(server)
        self.assertEqual(self.try_one(server, "192.0.2.7", "a@client.test").code, 450)
        self.clock.pass_time(300)
        self.send(server, "192.0.2.7", "a@client.test")

    def test_without_a_database_mail_passes(self):
        blocker = {"data/store.lock/no": "a folder where the lock should be"}
        server = Postern(SETTINGS, env=self.clock.env, files=blocker)
        self.enterContext(server)
        server.wait_log("store cannot be opened: .*greylisting .* off")
        reply = self.try_one(server, "192.0.2.7", "a@client.test")
        self.assertEqual(reply.code, 250, reply)
        server.wait_log("the greylist cannot answer: the rule is passed over")


class Postgrey:
    """The real one, behind a real Postfix."""

    def __init__(self, directory, clock, *options):
        self.port = free_port()
        database = directory / "postgrey"
        database.mkdir()
        empty = directory / "empty"
        empty.write_text("")
        self.process = subprocess.Popen(
            [POSTGREY, "--inet=127.0.0.1:%d" % self.port, "--dbdir=%s" % database,
             "--user=root", "--group=root", "--hostname=mx.example.org",
             "--whitelist-clients=%s" % empty, "--whitelist-recipients=%s" % empty, *options],
            env=dict(os.environ, **clock.env), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        wait_for(self.is_listening, "postgrey does not start")

    def is_listening(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def settings(self):
        return {"smtpd_recipient_restrictions":
                "check_policy_service inet:127.0.0.1:%d" % self.port}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


POSTFIX = {
    "myhostname": "mx.example.org", "mydestination": "", "mynetworks": "127.0.0.9/32",
    "inet_interfaces": "127.0.0.1", "inet_protocols": "all",
    "virtual_mailbox_domains": "example.org",
    "virtual_mailbox_maps": "static:x", "smtpd_peername_lookup": "no",
    "smtpd_authorized_xclient_hosts": "127.0.0.1", "smtpd_client_event_limit_exceptions": "static:all",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "smtpd_policy_service_request_limit": "1",  # postgrey closes what is idle when time leaps
    "in_flow_delay": "0s",
    "smtpd_hard_error_limit": "10000", "smtpd_soft_error_limit": "10000",
}


@unittest.skipUnless(FAKETIME and POSTGREY and os.geteuid() == 0,
                     "needs postgrey, libfaketime, and root for Postfix")
class NextToPostgrey(GreylistTest):
    ADDRESSES = ["192.0.2.7", "192.0.2.99", "198.51.100.8", "2001:db8:1:2::5",
                 "2001:db8:1:2:ffff::9", "2001:db8:1:3::5"]
    SENDERS = ["a@one.test", "A@One.TEST", "a+ext@one.test", "bounce-1-x@list.test",
               "bounce-2-x@list.test", "prvs=1234=b@two.test", "b@two.test", "", "12@n.test"]
    RECIPIENTS = ["u0@example.org", "u1@example.org", "U1@Example.Org", "u2@example.org"]
    # together under the 35 days after which postgrey forgets, at night only
    LEAPS = [0, 1, 60, 240, 299, 300, 301, 900, 3600] * 8 + [86400, 2 * 86400, 172801]

    @staticmethod
    def is_up(postfix):
        try:
            with postfix.connect() as smtp:
                return smtp.banner.code == 220
        except OSError:
            return False

    def compare(self, seed, auto, events):
        chance = random.Random(seed)
        postgrey = self.enterContext(Postgrey(
            self.dir, self.clock, "--auto-whitelist-clients=%d" % auto))
        postfix = self.enterContext(Postfix(POSTFIX, free_port()))
        postfix.port = postfix.add(postgrey.settings())
        postfix.connect = lambda: Smtp(postfix.port)
        postfix.start()
        wait_for(lambda: self.is_up(postfix), "Postfix does not answer")
        server = self.start(greylist_auto_allow_clients=str(auto), **CLASSIC)
        counts = {True: 0, False: 0}
        for number in range(events):
            self.clock.pass_time(chance.choice(self.LEAPS))
            triplet = (chance.choice(self.ADDRESSES), chance.choice(self.SENDERS),
                       chance.choice(self.RECIPIENTS))
            expected = self.try_one(postfix, *triplet)
            reply = self.try_one(server, *triplet)
            self.assertEqual(reply.code, expected.code, "seed %d event %d: %r: %r, postgrey %r"
                             % (seed, number, triplet, reply, expected))
            counts[expected.code == 450] += 1
        self.assertGreater(min(counts.values()), events / 20, "nothing was put to the test")

    def test_the_same_history_gives_the_same_decisions(self):
        self.compare(int(os.environ.get("POSTERN_SEED", "11")), 0, 400)

    def test_and_so_with_proven_clients(self):
        self.compare(int(os.environ.get("POSTERN_SEED", "12")), 3, 400)


if __name__ == "__main__":
    unittest.main(verbosity=2)
