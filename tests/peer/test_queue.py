"""Verdict mode, the spool and its queue, against a next hop that does what the test says."""
import email
import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

from harness import BASE, BINARY, Postern, free_port, postern, wait_for
from lmtp_backend import Backend

MESSAGE = b"Subject: x\r\n\r\ntext\r\n..dots\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20000

FAST = {"destination_probe_time": "1s", "minimal_backoff_time": "1s",
        "maximal_backoff_time": "2s", "queue_run_delay": "2s"}


def body_of(message):
    """What the sender wrote: below our own trace headers."""
    return re.sub(rb"\AReceived:[^\n]*\n(?:[ \t][^\n]*\n)*", b"", message)


class QueueTest(unittest.TestCase):
    def backend(self, **kwargs):
        return self.enterContext(Backend(**kwargs))

    def start(self, backend, settings=None, **kwargs):
        base = dict(FAST, virtual_transport=backend.transport, virtual_mailbox_maps="")
        return self.enterContext(Postern(dict(base, **(settings or {})), **kwargs))

    def send(self, server, data=MESSAGE, rcpts=("you@example.org",), sender="a@client.test"):
        with server.connect(timeout=30) as smtp:
            smtp.command("EHLO client.test")
            return smtp.message(data, sender=sender, rcpts=rcpts)

    def spooled(self, server, folder="active"):
        return sorted(p.name for p in (server.dir / "spool" / folder).iterdir())

    def wait_empty(self, server, seconds=20):
        wait_for(lambda: not self.spooled(server) and not self.spooled(server, "msg"),
                 "the spool does not become empty", seconds)

    def envelope(self, server, folder="active"):
        (name,) = self.spooled(server, folder)
        return (server.dir / "spool" / folder / name).read_text()


class Verdict(QueueTest):
    def test_delivered_means_250_and_nothing_in_the_spool(self):
        backend = self.backend()
        server = self.start(backend)
        for data in (MESSAGE, LARGE):
            reply = self.send(server, data)
            self.assertRegex(reply.lines[0], r"^250 2\.0\.0 Ok: queued as [0-9A-F]+$")
        self.assertEqual([body_of(b) for b in backend.bodies()], [MESSAGE, LARGE])
        self.assertEqual(backend.messages[0][:2], ("a@client.test", ["you@example.org"]))
        self.assertEqual(server.all_files(), [])
        server.wait_log(r"postern/lmtp\[\d+\]: [0-9A-F]+: to=<you@example\.org>, relay=127\.0\.0\.1"
                        r"\[127\.0\.0\.1\]:\d+, delay=0\.\d\d, dsn=2\.0\.0, status=sent "
                        r"\(250 2\.0\.0 <you@example\.org> saved\)")
        server.wait_log(r"qmgr\[\d+\]: [0-9A-F]+: removed")

    def test_the_backend_s_refusal_is_the_answer(self):
        backend = self.backend()
        server = self.start(backend)
        for reply in ("552 5.2.2 <you@example.org> Quota exceeded", "451 4.3.0 try later",
                      "554 5.6.0 no such thing"):
            backend.data = {"": reply}
            self.assertEqual(self.send(server).lines, [reply])
        self.assertEqual(self.spooled(server) + self.spooled(server, "msg"), [])
        server.wait_log(r"status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 552 5\.2\.2 "
                        r"<you@example\.org> Quota exceeded \(in reply to end of DATA command\)\)")

    def test_all_refused_alike(self):
        backend = self.backend()
        server = self.start(backend)
        backend.data = {"": "552 5.2.2 full"}
        reply = self.send(server, rcpts=["you@example.org", "other@example.org"])
        self.assertEqual(reply.lines, ["552 5.2.2 full"])
        self.assertEqual(self.spooled(server), [])

    def test_a_backend_that_goes_down_is_no_verdict(self):
        """421 would tell the client that we close the connection, and the spool can wait."""
        backend = self.backend()
        server = self.start(backend)
        for replies in (backend.data, backend.rcpt):
            replies[""] = "421 4.3.2 going down"
            self.assertEqual(self.send(server).code, 250)
            self.assertEqual(len(self.spooled(server)), 1)
            replies.clear()
            self.wait_empty(server)
        self.assertEqual(len(backend.messages), 2)

    def test_split_250_and_each_gets_his_own(self):
        """One delivered, one later, one never: 250, retried, bounced to the sender."""
        backend = self.backend()
        server = self.start(backend)
        backend.data = {"later@example.org": "452 4.2.2 full",
                        "never@example.org": "550 5.2.1 closed"}
        reply = self.send(server, sender="sender@example.org", rcpts=[
            "you@example.org", "later@example.org", "never@example.org"])
        self.assertEqual(reply.code, 250)
        wait_for(lambda: any(s == "" for s, _, _ in backend.messages), "no bounce")
        backend.data = {}
        self.wait_empty(server)
        taken = [(s, r) for s, rs, _ in backend.messages for r in rs]
        self.assertEqual(sorted(taken), [("", "sender@example.org"),
                                         ("sender@example.org", "later@example.org"),
                                         ("sender@example.org", "you@example.org")])
        (bounce,) = [b for s, _, b in backend.messages if s == ""]
        parts = email.message_from_bytes(bounce).get_payload()
        self.assertEqual(parts[1].get_payload()[1]["Final-Recipient"],
                         "rfc822; never@example.org")
        self.assertEqual(parts[1].get_payload()[1]["Status"], "5.2.1")
        self.assertEqual(parts[2].get_payload()[0]["Subject"], "x")  # never was in a file

    def test_backend_down_is_spooled_and_delivered_when_it_is_back(self):
        backend = self.backend()
        server = self.start(backend)
        backend.stop()
        for data in (MESSAGE, LARGE):
            self.assertEqual(self.send(server, data).code, 250)
        self.assertEqual(len(self.spooled(server)), 2)
        envelope = (server.dir / "spool/active" / self.spooled(server)[0]).read_text()
        self.assertIn("\nto you@example.org\n", envelope)
        self.assertIn("\nfrom a@client.test\n", envelope)
        server.wait_log(r"status=deferred \(")
        backend.start()
        self.wait_empty(server)
        self.assertEqual(sorted(body_of(b) for b in backend.bodies()), sorted([MESSAGE, LARGE]))

    def test_while_it_is_down_it_is_not_hammered(self):
        backend = self.backend()
        server = self.start(backend, {"destination_probe_time": "2s", "queue_run_delay": "4s"})
        backend.greeting = None  # hangs up on everybody
        for _ in range(20):
            self.assertEqual(self.send(server).code, 250)
        before = backend.connections
        self.assertLess(before, 8)
        time.sleep(3)
        self.assertLess(backend.connections - before, 6)
        backend.greeting = "220 here again"
        self.wait_empty(server)
        self.assertEqual(len(backend.messages), 20)

    def test_nor_by_messages_that_go_to_others_too(self):
        one, two = self.backend(), self.backend()
        server = self.start(one, {"destination_probe_time": "3s", "queue_run_delay": "3s",
                                  "transport_maps":
                                  "inline:{ {other@example.org=%s} }" % two.transport})
        one.greeting = two.greeting = None
        for _ in range(15):
            self.assertEqual(self.send(server, rcpts=["you@example.org", "other@example.org",
                                                      "third@example.org"]).code, 250)
        time.sleep(2)
        before = one.connections
        time.sleep(2.5)  # in which each of the messages has had its turn at least once
        self.assertLess(one.connections - before, 6)
        self.assertEqual(len(self.spooled(server)), 15)
        one.greeting = two.greeting = "220 here again"
        self.wait_empty(server)
        self.assertEqual(sorted(r for _, rs, _ in one.messages + two.messages for r in rs),
                         ["other@example.org"] * 15 + ["third@example.org"] * 15 +
                         ["you@example.org"] * 15)

    def test_slow_is_spooled_in_time_and_delivered_once(self):
        backend = self.backend()
        backend.delay_dot = 2
        server = self.start(backend, {"delivery_verdict_time_limit": "1s"})
        for data in (MESSAGE, LARGE):
            began = time.monotonic()
            self.assertEqual(self.send(server, data).code, 250)
            self.assertLess(time.monotonic() - began, 1.8)
            self.assertEqual(len(self.spooled(server)), 1)
            self.wait_empty(server)
        self.assertEqual([body_of(b) for b in backend.bodies()], [MESSAGE, LARGE])

    def test_so_many_slow_tries_go_on_from_memory(self):
        backend = self.backend()
        backend.delay_rcpt = 2
        server = self.start(backend, {"delivery_verdict_time_limit": "1s", "event_loops": "1",
                                      "qmgr_message_active_limit": "1", "lmtp_rcpt_verify": "no"})
        with server.connect(timeout=30) as one, server.connect(timeout=30) as two:
            for smtp in (one, two):
                smtp.command("EHLO x")
                smtp.begin_data()
                smtp.send(MESSAGE + b".\r\n")
            self.assertEqual([one.reply().code, two.reply().code], [250, 250])
        server.wait_log(r"status=deferred \(cancelled\)")
        backend.delay_rcpt = 0
        self.wait_empty(server)
        self.assertEqual(len(backend.messages), 2)

    def test_slow_and_then_refused_bounces(self):
        backend = self.backend()
        backend.delay_dot = 2
        backend.data = {"you@example.org": "552 5.2.2 full"}
        server = self.start(backend, {"delivery_verdict_time_limit": "1s"})
        self.assertEqual(self.send(server, sender="sender@example.org").code, 250)
        self.wait_empty(server)
        self.assertEqual([(s, r) for s, r, _ in backend.messages], [("", ["sender@example.org"])])

    def test_one_slow_backend_delays_nobody_else(self):
        slow, quick = self.backend(), self.backend()
        slow.delay_rcpt = 3
        server = self.start(quick, {"transport_maps":
                                    "inline:{ {slow@example.org=%s} }" % slow.transport})
        with server.connect(timeout=30) as smtp:
            smtp.command("EHLO x")
            smtp.begin_data(rcpts=["slow@example.org"])
            smtp.send(MESSAGE + b".\r\n")
            began = time.monotonic()
            for _ in range(5):
                self.assertEqual(self.send(server).code, 250)
            self.assertLess(time.monotonic() - began, 2)
            self.assertEqual(smtp.reply().code, 250)

    def test_no_answer_to_the_dot_is_tried_again(self):
        """It may arrive twice, but it must arrive."""
        backend = self.backend()
        backend.drop_after_dot = True
        server = self.start(backend)
        self.assertEqual(self.send(server).code, 250)
        self.assertEqual(len(self.spooled(server)), 1)
        backend.drop_after_dot = False
        self.wait_empty(server)
        self.assertGreaterEqual(len(backend.messages), 2)

    def test_cut_off_in_the_middle(self):
        backend = self.backend()
        backend.drop_in_data = 1000
        server = self.start(backend)
        self.assertEqual(self.send(server, LARGE).code, 250)
        backend.drop_in_data = 0
        self.wait_empty(server)
        self.assertEqual([body_of(b) for b in backend.bodies()], [LARGE])

    def test_garbage_is_not_believed(self):
        backend = self.backend()
        server = self.start(backend)
        for garbage in (b"\x00\xff\x01 hello\r\n", b"250" + b"x" * 100000 + b"\r\n",
                        b"9999 what\r\n", b"250-more\r\n" * 2000):
            backend.greeting = garbage
            backend.stop()  # also what is kept idle
            backend.start()
            self.assertEqual(self.send(server).code, 250)
            self.assertEqual(len(self.spooled(server)), 1, garbage[:20])
            backend.greeting = "220 sorry"
            self.wait_empty(server)
        self.assertEqual(len(backend.messages), 4)

    def test_a_client_that_leaves_leaves_nothing(self):
        backend = self.backend()
        backend.delay_dot = 1
        backend.data = {"": "451 4.3.0 later"}
        server = self.start(backend)
        smtp = server.connect()
        smtp.command("EHLO x")
        smtp.begin_data()
        smtp.send(MESSAGE + b".\r\n")
        wait_for(lambda: "DATA" in backend.commands, "no DATA")
        smtp.close()
        server.wait_log(r"removed")
        self.assertEqual(self.spooled(server), [])

    def test_maildir_and_lmtp_in_one_message(self):
        backend = self.backend()
        server = self.start(backend, {
            "virtual_transport": "virtual",
            "transport_maps": "inline:{ {far@example.org=%s} }" % backend.transport,
            "virtual_alias_maps": "inline:{ {team@example.org=you@example.org far@example.org} }",
            "virtual_mailbox_maps": "inline:{ {you@example.org=you/}, {far@example.org=x/} }"})
        for data in (MESSAGE, LARGE):
            self.assertEqual(self.send(server, data, ["team@example.org"]).code, 250)
        self.assertEqual([body_of(b) for b in backend.bodies()], [MESSAGE, LARGE])
        mails = server.mails("you")
        self.assertEqual(sorted(m[m.index(b"Subject:"):] for m in mails), sorted([MESSAGE, LARGE]))
        for mail in mails:
            self.assertEqual(mail.count(b"Delivered-To: you@example.org\r\n"), 1)
            self.assertTrue(mail.startswith(b"Return-Path: <a@client.test>\r\n"))
        backend.stop()
        self.assertEqual(self.send(server, rcpts=["team@example.org"]).code, 250)
        self.assertEqual(len(server.files("you")), 3)
        backend.start()
        self.wait_empty(server)
        self.assertEqual((len(server.files("you")), len(backend.messages)), (3, 3))

    def test_smtp_next_hop_of_a_relay_domain(self):
        backend = self.backend(lmtp=False)
        server = self.start(backend, {"virtual_transport": "virtual", "relay_domains": "relay.test",
                                      "relay_transport": backend.transport})
        reply = self.send(server, rcpts=["a@relay.test", "b@relay.test"])
        self.assertEqual(reply.code, 250)
        self.assertEqual(backend.messages[0][1], ["a@relay.test", "b@relay.test"])
        backend.data = {"": "554 5.7.1 spam"}
        self.assertEqual(self.send(server, rcpts=["a@relay.test"]).lines, ["554 5.7.1 spam"])


class SpoolFirst(QueueTest):
    def test_delivery_verdict_no(self):
        backend = self.backend()
        backend.data = {"full@example.org": "552 5.2.2 full"}
        server = self.start(backend, {"delivery_verdict": "no"})
        for data in (MESSAGE, LARGE):
            self.assertEqual(self.send(server, data).code, 250)
            self.wait_empty(server)
        self.assertEqual([body_of(b) for b in backend.bodies()], [MESSAGE, LARGE])
        self.assertEqual(self.send(server, rcpts=["full@example.org"],
                                   sender="s@example.org").code, 250)
        wait_for(lambda: len(backend.messages) == 3, "no bounce")
        self.assertEqual(backend.messages[2][:2], ("", ["s@example.org"]))
        server.wait_log(r"bounce\[\d+\]: [0-9A-F]+: sender non-delivery notification: [0-9A-F]+")

    def test_maildirs_through_the_spool(self):
        backend = self.backend()
        server = self.start(backend, {"delivery_verdict": "no", "virtual_transport": "virtual",
                                      "virtual_mailbox_maps": BASE["virtual_mailbox_maps"]})
        for data in (MESSAGE, LARGE):
            self.assertEqual(self.send(server, data, ["you@example.org", "other@example.org"]).code,
                             250)
            self.wait_empty(server)
        for box in ("you", "other"):
            mails = server.mails(box)
            self.assertEqual(len(mails), 2)
            for mail in mails:
                self.assertEqual(mail.count(b"Delivered-To: "), 1)
                self.assertIn(mail[mail.index(b"Subject:"):], (MESSAGE, LARGE))

    def test_hold_and_release(self):
        backend = self.backend()
        server = self.start(backend, {"smtpd_end_of_data_restrictions":
                                      "check_sender_access inline:{ {h@client.test=HOLD} }"})
        for data in (MESSAGE, LARGE):
            self.assertEqual(self.send(server, data, sender="h@client.test").code, 250)
        wait_for(lambda: len(self.spooled(server, "hold")) == 2, "not on hold")
        time.sleep(1.5)
        self.assertEqual(backend.messages, [])
        done = postern("queue", "-c", str(server.dir / "main.cf"), "release", "all")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.wait_empty(server)
        self.assertEqual(sorted(body_of(b) for b in backend.bodies()), sorted([MESSAGE, LARGE]))

    def test_hold_of_a_large_message_for_one_maildir(self):
        """Its file already has the mailbox's own headers, which the spool must not have."""
        backend = self.backend()
        server = self.start(backend, {"virtual_transport": "virtual", "virtual_mailbox_maps":
                                      "inline:{ {you@example.org=you/} }",
                                      "smtpd_end_of_data_restrictions":
                                      "check_sender_access inline:{ {h@client.test=HOLD} }"})
        self.assertEqual(self.send(server, LARGE, sender="h@client.test").code, 250)
        wait_for(lambda: self.spooled(server, "hold"), "not on hold")
        postern("queue", "-c", str(server.dir / "main.cf"), "release", "all")
        self.wait_empty(server)
        (mail,) = server.mails("you")
        self.assertEqual(mail.count(b"Delivered-To: "), 1)
        self.assertEqual(mail[mail.index(b"Subject:"):], LARGE)

    def test_redirect_bcc_and_discard(self):
        backend = self.backend()
        server = self.start(backend, {
            "smtpd_recipient_restrictions": "check_recipient_access inline:{ "
            "{r@example.org=REDIRECT you@example.org}, {b@example.org=BCC copy@example.org}, "
            "{d@example.org=DISCARD} }"})
        for user in "rbd":
            self.assertEqual(self.send(server, rcpts=[user + "@example.org"]).code, 250)
        self.assertEqual([sorted(r) for _, r, _ in backend.messages],
                         [["you@example.org"], ["b@example.org", "copy@example.org"]])

    def test_bcc_at_the_last_moment(self):
        """The large message's file was begun for the Maildirs alone."""
        backend = self.backend()
        server = self.start(backend, {
            "virtual_transport": "virtual", "virtual_mailbox_maps":
            "inline:{ {you@example.org=you/}, {other@example.org=other/}, {far@example.org=x/} }",
            "transport_maps": "inline:{ {far@example.org=%s} }" % backend.transport,
            "smtpd_end_of_data_restrictions":
            "check_sender_access inline:{ {b@client.test=BCC far@example.org} }"})
        for i, rcpts in enumerate((["you@example.org"], ["you@example.org", "other@example.org"])):
            for data in (MESSAGE, LARGE):
                self.assertEqual(self.send(server, data, rcpts, "b@client.test").code, 250)
                self.wait_empty(server)
                self.assertEqual(body_of(backend.bodies()[-1]), data)
        self.assertEqual((len(server.files("you")), len(server.files("other"))), (4, 2))
        for mail in server.mails("you") + server.mails("other"):
            self.assertEqual((mail.count(b"Delivered-To: "), mail.count(b"Return-Path: ")), (1, 1))
            self.assertIn(mail[mail.index(b"Subject:"):], (MESSAGE, LARGE))

    def test_a_maildir_gets_a_spooled_message_once(self):
        """Also when the machine died before that was recorded: the file's name tells."""
        backend = self.backend()
        server = self.start(backend, {"virtual_transport": "virtual", "virtual_mailbox_maps":
                                      "inline:{ {you@example.org=you/}, {o@example.org=o/} }",
                                      "smtpd_end_of_data_restrictions":
                                      "check_sender_access inline:{ {h@client.test=HOLD} }"})
        spool = server.dir / "spool"
        self.send(server, sender="h@client.test", rcpts=["you@example.org", "o@example.org"])
        (name,) = self.spooled(server, "hold")
        envelope, message = ((spool / d / name).read_bytes() for d in ("hold", "msg"))
        postern("queue", "-c", str(server.dir / "main.cf"), "release", name)
        self.wait_empty(server)
        server.stop()
        (spool / "msg" / name).write_bytes(message)
        (spool / "active" / name).write_bytes(envelope)
        server.start()
        self.wait_empty(server)
        self.assertEqual((len(server.files("you")), len(server.files("o"))), (1, 1))
        self.assertEqual([f for f in server.all_files() if "/tmp/" in f], [])

    def test_the_end_while_a_backend_hangs(self):
        """What is before the dot is called off; a client that waits is not kept for ever."""
        for verdict in ("yes", "no"):
            backend = self.backend()
            server = self.start(backend, {"delivery_verdict": verdict, "lmtp_rcpt_verify": "no"})
            backend.delay_rcpt = 60
            smtp = server.connect()
            smtp.command("EHLO x")
            smtp.begin_data()
            smtp.send(MESSAGE + b".\r\n")
            wait_for(lambda: any(c.startswith("RCPT") for c in backend.commands), "no RCPT")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            if verdict == "yes":
                time.sleep(0.3)
                server.process.send_signal(signal.SIGTERM)  # at once
            else:
                self.assertEqual(smtp.reply().code, 250)
                smtp.close()
            server.process.wait(10)
            self.assertLess(time.monotonic() - began, 6)
            self.assertEqual(len(self.spooled(server)), verdict == "no")
            smtp.close()

    def test_a_clock_that_jumps_expires_nothing(self):
        """How old a message is, is counted while we run: here its arrival moves instead."""
        backend = self.backend()
        backend.rcpt[""] = "451 4.3.0 later"
        server = self.start(backend, {"lmtp_rcpt_verify": "no", "delivery_verdict": "no"})
        self.send(server)
        wait_for(lambda: "\ntries 1\n" in self.envelope(server), "not tried")
        (name,) = self.spooled(server)
        text = re.sub(r"(?m)^arrived .*$", "arrived 1000000", self.envelope(server))
        (server.dir / "jump").write_text(text)
        (server.dir / "jump").rename(server.dir / "spool" / "active" / name)
        wait_for(lambda: "\ntries 2\n" in self.envelope(server), "not tried again")
        backend.rcpt.clear()
        self.wait_empty(server)
        self.assertEqual([s for s, _, _ in backend.messages], ["a@client.test"])

    def test_restart_finds_everything(self):
        backend = self.backend()
        backend.stop()
        server = self.start(backend)
        for i in range(5):
            self.assertEqual(self.send(server, MESSAGE + b"%d\r\n" % i).code, 250)
        server.kill()
        (server.dir / "spool/active/1A").write_text("damaged")
        (server.dir / "spool/msg/1A").write_text("x")
        (server.dir / "spool/active/2B").write_text("no message")
        (server.dir / "spool/msg/3C").write_text("never acknowledged")
        backend.start()
        server.start()
        self.wait_empty(server)
        self.assertEqual(sorted(body_of(b) for b in backend.bodies()),
                         [MESSAGE + b"%d\r\n" % i for i in range(5)])
        self.assertEqual(self.spooled(server, "corrupt"), ["1A.env", "1A.msg", "2B.env"])
        server.wait_log(r"warning: 1A: cannot be read: it is damaged; moved to corrupt/")

    def test_the_spool_stays_where_it_is(self):
        server = self.start(self.backend())
        server.write_config(queue_directory="elsewhere")
        self.assertIn(b"old configuration stays", server.reload()[0])
        self.assertIn("queue_directory: cannot change while the server runs", server.log())

    def test_a_second_server_is_refused(self):
        backend = self.backend()
        server = self.start(backend)
        other = postern("serve", "-c", str(server.dir / "main.cf"), "--set",
                        "listen=127.0.0.1:%d" % free_port(), "--set", "data_directory=other")
        self.assertEqual(other.returncode, 73, other)
        self.assertIn("another server", other.stderr)


class Tools(QueueTest):
    """postern queue, beside the server and without it."""

    def queue(self, server, *words):
        done = postern("queue", "-c", str(server.dir / "main.cf"), *words)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def filled(self):
        backend = self.backend()
        backend.stop()
        server = self.start(backend, {"destination_probe_time": "100s"})
        for sender, rcpt in (("a@x.test", "one@example.org"), ("b@x.test", "two@example.org"),
                             ("", "one@example.org")):
            self.assertEqual(self.send(server, sender=sender, rcpts=[rcpt]).code, 250)
        return backend, server

    def listed(self, server, *words):
        return [json.loads(line) for line in self.queue(server, "list", "-j", *words).splitlines()]

    def test_list_and_show(self):
        backend, server = self.filled()
        text = self.queue(server, "list")
        self.assertIn("MAILER-DAEMON", text)
        self.assertRegex(text, r"-- \d+ Kbytes in 3 messages\.")
        rows = self.listed(server)
        self.assertEqual([r["sender"] for r in rows], ["a@x.test", "b@x.test", ""])
        self.assertEqual(rows[0]["recipients"][0]["address"], "one@example.org")
        self.assertIn("onnect", rows[0]["recipients"][0]["delay_reason"])
        for words, count in ((["to=one@example.org"], 2), (["from=b@x.test"], 1), (["from=<>"], 1),
                             ([rows[1]["queue_id"]], 1), (["to=nobody@x"], 0),
                             (["from=a@x.test", "from=<>"], 2)):
            self.assertEqual(len(self.listed(server, *words)), count, words)
        shown = self.queue(server, "show", rows[0]["queue_id"])
        self.assertTrue(shown.startswith("postern-envelope 1\nid %s\n" % rows[0]["queue_id"]))
        self.assertIn("Subject: x\n", shown.replace("\r", ""))
        bad = postern("queue", "-c", str(server.dir / "main.cf"), "show", "../../etc/passwd")
        self.assertEqual(bad.returncode, 64)

    def test_a_terminal_does_not_obey_a_message(self):
        backend = self.backend()
        backend.stop()
        server = self.start(backend)
        self.send(server, b"Subject: x\r\n\r\na\x1b[2J \x9b31m \xc2\x9b31m \x7f gr\xc3\xbcn\tb\r\n")
        (name,) = self.spooled(server)
        master, slave = os.openpty()
        subprocess.run([BINARY, "queue", "-c", str(server.dir / "main.cf"), "show", name],
                       stdout=slave, timeout=60, check=True)
        os.close(slave)
        shown = os.read(master, 65536)
        self.assertIn("a?[2J ?31m ?31m ? gr\u00fcn".encode(), shown)
        self.assertNotRegex(shown, rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
        os.close(master)

    def orders(self, backend, server):
        """The same with a server and without."""
        rows = self.listed(server)
        self.assertEqual(self.queue(server, "hold", "to=one@example.org"), "2 messages\n")
        self.assertEqual([r["queue_name"] == "hold" for r in self.listed(server)],
                         [False, True, True])
        self.assertEqual(self.queue(server, "release", rows[0]["queue_id"]), "1 message\n")
        self.assertEqual(self.queue(server, "delete", "from=<>"), "1 message\n")
        self.assertEqual([r["sender"] for r in self.listed(server)], ["a@x.test", "b@x.test"])
        self.assertEqual(self.queue(server, "delete", "1234"), "0 messages\n")
        self.assertEqual(len(self.spooled(server, "msg")), 2)

    def test_orders_beside_the_server(self):
        backend, server = self.filled()
        self.orders(backend, server)
        backend.start()
        self.assertEqual(self.queue(server, "flush", "all"), "2 messages\n")
        self.wait_empty(server, 5)  # long before the probe
        self.assertEqual(len(backend.messages), 2)

    def test_orders_without_a_server(self):
        backend, server = self.filled()
        server.stop()
        self.orders(backend, server)
        self.assertEqual(self.queue(server, "flush", "all"), "2 messages\n")
        backend.start()
        server.start()
        self.wait_empty(server, 5)
        self.assertEqual(len(backend.messages), 2)

    def test_a_message_in_flight_is_not_damaged(self):
        """Orders for it are carried out when it is at rest."""
        backend = self.backend()
        backend.delay_dot = 1.5
        backend.data = {"later@example.org": "452 4.2.2 full"}
        server = self.start(backend, {"delivery_verdict": "no", "minimal_backoff_time": "100s"})
        for rcpts in (["you@example.org"], ["later@example.org", "you@example.org"],
                      ["later@example.org"]):
            self.send(server, rcpts=rcpts)
        wait_for(lambda: backend.commands.count("DATA") == 3, "not under way")
        ids = [r["queue_id"] for r in self.listed(server)]
        self.queue(server, "delete", *ids[:2])
        self.queue(server, "hold", ids[2])
        self.assertEqual(len(self.spooled(server)), 3)
        wait_for(lambda: self.spooled(server) == [] and self.spooled(server, "hold") == ids[2:],
                 "orders are not carried out")
        self.assertEqual([r for _, r, _ in backend.messages], [["you@example.org"]] * 2)
        self.assertEqual(self.spooled(server, "msg"), ids[2:])

    def test_an_order_while_another_is_carried_out(self):
        """Both count: the second one waits for the first."""
        backend, server = self.filled()
        ids = [r["queue_id"] for r in self.listed(server)]
        for first, second, folder in (("hold", "delete", None), ("release", "hold", "hold"),
                                      ("hold", "delete", None)):
            name = ids.pop()
            if first == "release":
                self.queue(server, "hold", name)
            socks = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for sock in socks:
                sock.connect(str(server.dir / "data" / "control"))
            for sock, verb in zip(socks, (first, second)):
                sock.sendall(("queue %s %s\n" % (verb, name)).encode())
            for sock in socks:
                while sock.recv(4096):
                    pass
                sock.close()
            wait_for(lambda: [f for f in ("active", "hold") if name in self.spooled(server, f)]
                     == ([folder] if folder else []), "%s, then %s" % (first, second), 3)
        wait_for(lambda: len(self.spooled(server, "msg")) == 1, "the messages themselves", 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
