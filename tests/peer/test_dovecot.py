"""The real Dovecot behind us, over LMTP: what it takes lies in its Maildirs byte by byte, what it
refuses the sender hears, and while it is away nothing is lost."""
import re
import threading
import time
import unittest

from dovecot import Dovecot
from harness import Postern, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
AWKWARD = (b"Subject: =?utf-8?q?awkward?=\r\nX: " + b"y" * 900 + b"\r\n\r\n.\r\n..\r\n.x\r\n \r\n"
           b"\xc3\xa4\xff\x80\r\n" + b"z" * 990 + b"\r\n\r\n\r\n")
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 30000
FAST = {"destination_probe_time": "1s", "minimal_backoff_time": "1s",
        "maximal_backoff_time": "2s", "queue_run_delay": "2s"}


def below_trace(mail):
    """The sender's bytes: below the headers of Dovecot and ours; line ends as they were."""
    head, _, rest = mail.partition(b"\nSubject:")
    assert b"\n\n" not in head, mail[:500]
    return (b"Subject:" + rest).replace(b"\n", b"\r\n")


class DovecotTest(unittest.TestCase):
    USERS = {"you": "", "other": "", "full": "quota_rule=*:bytes=2000"}

    def setUp(self):
        self.dovecot = self.enterContext(Dovecot(self.USERS))

    def start(self, settings=None):
        base = dict(FAST, virtual_transport=self.dovecot.transport, virtual_mailbox_maps="",
                    recipient_delimiter="+")
        return self.enterContext(Postern(dict(base, **(settings or {}))))

    def send(self, server, data=MESSAGE, rcpts=("you@example.org",), sender="a@client.test"):
        with server.connect(timeout=30) as smtp:
            smtp.command("EHLO client.test")
            return smtp.message(data, sender=sender, rcpts=rcpts)

    def rcpt(self, server, *rcpts):
        with server.connect(timeout=30) as smtp:
            smtp.commands("EHLO client.test", "MAIL FROM:<a@client.test>")
            return [smtp.command("RCPT TO:<%s>" % r).lines[0] for r in rcpts]

    def spooled(self, server):
        return [p for p in server.all_files() if p.startswith("spool/")]

    def taken(self, user):
        return [below_trace(m) for m in self.dovecot.mails(user)]

    def test_delivered_byte_by_byte(self):
        sent = []
        for transport in (self.dovecot.transport, self.dovecot.unix_transport):
            server = self.start({"virtual_transport": transport})
            for data in (MESSAGE, AWKWARD, LARGE):
                self.assertEqual(self.send(server, data).code, 250)
                sent.append(data)
            wait_for(lambda: len(self.taken("you")) == len(sent), "not delivered")
            self.assertTrue(sorted(self.taken("you")) == sorted(sent))
            self.assertEqual(self.spooled(server), [])
        mail = self.dovecot.mails("you")[0]
        self.assertTrue(mail.startswith(b"Return-Path: <a@client.test>\n"))
        self.assertIn(b"by mx.example.org (Postern) with ESMTP id ", mail)

    def test_unknown_user_in_dovecot_s_words(self):
        server = self.start()
        good, bad = self.rcpt(server, "you+detail@example.org", "nobody@example.org")
        self.assertTrue(good.startswith("250 "), good)
        self.assertRegex(bad, r"^550 5\.1\.1 <nobody@example\.org>.* User doesn't exist")

    def test_over_quota_is_552_to_the_sender(self):
        server = self.start()
        reply = self.send(server, LARGE, ["full@example.org"])
        self.assertRegex(reply.lines[0], r"^552 5\.2\.2 <full@example\.org> Quota exceeded")
        self.assertEqual(self.spooled(server), [])
        self.assertEqual(self.dovecot.mails("full"), [])

    def test_mixed_recipients_are_split(self):
        server = self.start()
        reply = self.send(server, LARGE, ["you@example.org", "full@example.org",
                                          "other@example.org"], sender="you@example.org")
        self.assertEqual(reply.code, 250)
        wait_for(lambda: len(self.dovecot.mails("you")) == 2, "no bounce")
        self.assertEqual(self.taken("other"), [LARGE])
        (bounce,) = [m for m in self.dovecot.mails("you") if b"multipart/report" in m]
        self.assertRegex(bounce, rb"Final-Recipient: rfc822; full@example\.org\n"
                                 rb"Action: failed\nStatus: 5\.2\.2\n")
        self.assertTrue(bounce.startswith(b"Return-Path: <>\n"))
        wait_for(lambda: self.spooled(server) == [], "the spool is not empty")

    def test_stopped_and_started_again(self):
        server = self.start({"lmtp_rcpt_verify": "no"})
        self.dovecot.stop()
        sent = [MESSAGE + b"%d\r\n" % i for i in range(10)] + [LARGE]
        for data in sent:
            self.assertEqual(self.send(server, data).code, 250)
        self.assertEqual(len([f for f in self.spooled(server) if "/msg/" in f]), len(sent))
        self.dovecot.start()
        wait_for(lambda: self.spooled(server) == [], "the spool is not empty", 20)
        self.assertEqual(sorted(self.taken("you")), sorted(sent))

    def test_killed_in_the_middle_of_transactions(self):
        """Every acknowledged message arrives, and whole; some perhaps twice."""
        server = self.start({"lmtp_rcpt_verify": "no"})
        acknowledged, stop = [], threading.Event()

        def client(number):
            count = 0
            while not stop.is_set():
                data = MESSAGE + b"%d.%d\r\n" % (number, count) + b"filler\r\n" * 3000
                if self.send(server, data).code == 250:
                    acknowledged.append(data)
                count += 1
        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in clients:
            thread.start()
        for _ in range(2):
            time.sleep(1)
            self.dovecot.kill()
            time.sleep(0.7)
            self.dovecot.start()
        time.sleep(1)
        stop.set()
        for thread in clients:
            thread.join()
        wait_for(lambda: self.spooled(server) == [], "the spool is not empty", 30)
        taken = self.taken("you")
        self.assertGreater(len(acknowledged), 20)
        self.assertEqual(set(acknowledged) - set(taken), set())
        self.assertLess(len(taken) - len(set(taken)), 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
