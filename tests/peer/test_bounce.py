"""Delivery status notifications, read as a mail program reads them."""
import email
import email.policy
import time
import unittest

from harness import Postern, free_port, strip_trace, wait_for
from lmtp_backend import Backend
from test_verify import Zone

MESSAGE = b"Subject: mine\r\nMessage-ID: <m@client.test>\r\n\r\ntext\r\n"
FAST = {"destination_probe_time": "1s", "minimal_backoff_time": "1s",
        "maximal_backoff_time": "1s", "queue_run_delay": "1s", "lmtp_rcpt_verify": "no"}


class Report:
    def __init__(self, data):
        self.message = email.message_from_bytes(data, policy=email.policy.SMTP)
        assert self.message.get_content_type() == "multipart/report", data
        self.words, self.status, self.original = self.message.get_payload()
        self.fields, *self.rcpts = self.status.get_payload()


class BounceTest(unittest.TestCase):
    """Mail for x@example.org goes to `backend`; notifications to `relay`."""

    def start(self, **settings):
        self.backend = self.enterContext(Backend())
        self.relay = self.enterContext(Backend(lmtp=False, keywords=(
            "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN")))
        base = dict(FAST, virtual_transport=self.backend.transport, virtual_mailbox_maps="",
                    bounce_transport=self.relay.transport, delivery_verdict="no")
        base.update(settings)
        self.server = self.enterContext(Postern(base))

    def send(self, rcpts, mail="MAIL FROM:<a@client.test>", data=MESSAGE):
        """rcpts: what follows RCPT TO:."""
        with self.server.connect(timeout=30) as smtp:
            smtp.command("EHLO client.test")
            replies = smtp.commands(mail, *["RCPT TO:" + r for r in rcpts], "DATA")
            self.assertEqual([r.code for r in replies], [250] * (1 + len(rcpts)) + [354], replies)
            smtp.send(data + b".\r\n")
            self.assertEqual(smtp.reply().code, 250)

    def report(self, n=0):
        wait_for(lambda: len(self.relay.messages) > n, "no notification")
        sender, rcpts, data = self.relay.messages[n]
        self.assertEqual((sender, rcpts), ("", ["a@client.test"]))
        return Report(data)

    def wait_empty(self):
        wait_for(lambda: self.server.all_files() == [], "the spool does not become empty", 20)

    def expect_silence(self):
        self.wait_empty()
        time.sleep(0.3)
        self.assertEqual(self.relay.messages, [])


class Failure(BounceTest):
    def test_the_report(self):
        self.start()
        self.backend.data = {"x@example.org": "550 5.2.1 <x@example.org> mailbox is closed"}
        self.send(["<X@example.org> ORCPT=rfc822;old+2Bx@elsewhere.test", "<y@example.org>"],
                  "MAIL FROM:<a@client.test> ENVID=QQ+2B7 RET=FULL")
        report = self.report()
        head = report.message
        self.assertEqual(head["Subject"], "Undelivered Mail Returned to Sender")
        self.assertEqual(head["To"], "a@client.test")
        self.assertEqual(head["From"], "Mail Delivery System <MAILER-DAEMON@mx.example.org>")
        self.assertEqual(head["Auto-Submitted"], "auto-replied")
        self.assertTrue(head["Message-ID"] and head["Date"])
        self.assertIn("x@example.org", report.words.get_content())
        self.assertEqual(report.fields["Reporting-MTA"], "dns; mx.example.org")
        self.assertEqual(report.fields["Original-Envelope-Id"], "QQ+7")
        self.assertTrue(report.fields["Arrival-Date"])
        (rcpt,) = report.rcpts
        self.assertEqual(dict(rcpt.items()), {
            "Original-Recipient": "rfc822; old+x@elsewhere.test",
            "Final-Recipient": "rfc822; x@example.org", "Action": "failed", "Status": "5.2.1",
            "Remote-MTA": "dns; 127.0.0.1",
            "Diagnostic-Code": "smtp; 550 5.2.1 <x@example.org> mailbox is closed"})
        self.assertEqual(report.original.get_content_type(), "message/rfc822")
        inner = report.original.get_payload()[0].as_bytes()
        self.assertTrue(inner.endswith(MESSAGE), inner)
        self.wait_empty()
        self.assertEqual(len(self.relay.messages), 1)

    def test_headers_only(self):
        self.start(bounce_size_limit="3000")
        self.backend.data = {"": "550 no"}
        for mail, data in (("MAIL FROM:<a@client.test> RET=HDRS", MESSAGE),
                           ("MAIL FROM:<a@client.test> RET=FULL", MESSAGE + b"z" * 70 * 50 + b"\r\n")):
            self.send(["<x@example.org>"], mail, data)
            report = self.report(len(self.relay.messages))
            self.assertEqual(report.original.get_content_type(), "text/rfc822-headers")
            self.assertIn("Subject: mine", report.original.get_payload())
            self.assertNotIn("text\r\n", report.original.get_payload())
            self.assertEqual(report.rcpts[0]["Status"], "5.0.0")

    def test_nobody_is_told_who_does_not_want_it(self):
        self.start()
        self.backend.data = {"": "550 5.1.1 no"}
        self.send(["<x@example.org> NOTIFY=NEVER", "<y@example.org> NOTIFY=SUCCESS,DELAY"])
        self.expect_silence()

    def test_never_a_bounce_for_a_bounce(self):
        self.start()
        self.backend.data = {"": "550 5.1.1 no"}
        self.send(["<x@example.org>"], "MAIL FROM:<>")
        self.expect_silence()
        self.server.wait_log(r"status=bounced \(host")

    def test_a_notification_that_is_refused_ends_there(self):
        self.start()
        self.backend.data = {"": "550 5.1.1 no"}
        self.relay.rcpt = {"": "550 5.1.1 no such sender"}
        self.send(["<x@example.org>"])
        wait_for(lambda: any(c.startswith("RCPT") for c in self.relay.commands), "not tried")
        self.expect_silence()

    def test_it_is_tried_again_from_the_same_spool(self):
        self.start()
        self.backend.data = {"": "550 5.1.1 no"}
        self.relay.stop()
        self.send(["<x@example.org>"])
        self.server.wait_log(r"bounce\[\d+\]: [0-9A-F]+: sender non-delivery notification: ")
        time.sleep(1)
        self.relay.start()
        self.report()
        self.wait_empty()

    def test_an_expired_message(self):
        self.start(maximal_queue_lifetime="2s")
        self.backend.data = {"": "452 4.2.2 full"}
        self.send(["<x@example.org>"])
        (rcpt,) = self.report().rcpts
        self.assertEqual((rcpt["Action"], rcpt["Status"]), ("failed", "4.2.2"))
        self.wait_empty()

    def test_a_message_expires_while_its_destination_is_down(self):
        self.start(maximal_queue_lifetime="2s", destination_probe_time="100s",
                   queue_run_delay="100s")
        self.backend.stop()
        self.send(["<x@example.org>"])
        (rcpt,) = self.report().rcpts
        self.assertEqual((rcpt["Action"], rcpt["Status"][0]), ("failed", "4"))
        self.wait_empty()

    def test_own_users_get_it_where_they_get_everything(self):
        self.start()
        self.backend.data = {"x@example.org": "550 5.1.1 no"}
        self.send(["<x@example.org>"], "MAIL FROM:<y@example.org>")
        wait_for(lambda: self.backend.messages, "no notification")
        self.assertEqual(self.backend.messages[0][:2], ("", ["y@example.org"]))
        self.expect_silence()

    def test_the_sender_s_own_mail_host(self):
        zone = Zone({"client.test": {"MX": [(10, "gone.client.test"), (20, "mx.client.test")]},
                     "mx.client.test": {"A": ["127.0.0.1"]}, "null.test": {"MX": [(0, "")]}})
        self.addCleanup(zone.close)
        port = free_port()
        self.start(bounce_transport="smtp:", dns_servers="127.0.0.1:%d" % zone.port,
                   smtp_tcp_port=str(port), address_verify_networks="127.0.0.0/8")
        self.relay = self.enterContext(Backend(lmtp=False, port=port))
        self.backend.data = {"": "550 5.1.1 no"}
        self.send(["<x@example.org>"])
        self.report()
        self.wait_empty()
        self.send(["<x@example.org>"], "MAIL FROM:<a@null.test>")  # takes no mail: it ends there
        self.wait_empty()
        self.assertEqual(len(self.relay.messages), 1)

    def test_postmaster_gets_it_if_no_way_out_is_configured(self):
        self.start(bounce_transport="")
        self.backend.data = {"x@example.org": "550 5.1.1 no"}
        self.send(["<x@example.org>"])
        wait_for(lambda: self.backend.messages, "no notification")
        sender, rcpts, data = self.backend.messages[0]
        self.assertEqual((sender, rcpts), ("", ["postmaster@example.org"]))
        self.assertEqual(Report(data).message["To"], "a@client.test")
        self.expect_silence()

    OUTSIDE = "inline:{ {postmaster@example.org=x@outside.test} }"

    def test_with_nobody_to_tell_the_message_is_kept(self):
        self.start(bounce_transport="", virtual_alias_maps=self.OUTSIDE)
        self.backend.data = {"x@example.org": "550 5.1.1 no"}
        self.send(["<x@example.org>"])
        self.server.wait_log(r"warning: [0-9A-F]+: nobody takes the notification")
        (name,) = (p.name for p in (self.server.dir / "spool/msg").iterdir())
        self.assertIn(" state failed\n", (self.server.dir / "spool/active" / name).read_text())
        self.server.stop()
        self.server.start()
        self.server.write_config(bounce_transport=self.relay.transport)
        self.server.reload()
        self.assertEqual(self.report().original.get_payload()[0]["Subject"], "mine")
        self.wait_empty()
        self.assertEqual((len(self.relay.messages), len(self.backend.messages)), (1, 0))

    def test_with_nobody_to_tell_it_ends_with_its_lifetime(self):
        self.start(bounce_transport="", virtual_alias_maps=self.OUTSIDE,
                   maximal_queue_lifetime="2s")
        self.backend.data = {"x@example.org": "550 5.1.1 no"}
        self.send(["<x@example.org>"])
        self.wait_empty()
        self.server.wait_log(r"nobody takes the notification .*: given up")


class OtherNews(BounceTest):
    def test_success_when_asked(self):
        for verdict in ("yes", "no"):
            self.start(delivery_verdict=verdict)
            self.send(["<x@example.org> NOTIFY=SUCCESS", "<y@example.org>"])
            report = self.report()
            self.assertEqual(report.message["Subject"], "Successful Mail Delivery Report")
            (rcpt,) = report.rcpts
            self.assertEqual((rcpt["Final-Recipient"], rcpt["Action"], rcpt["Status"]),
                             ("rfc822; x@example.org", "delivered", "2.0.0"))
            self.assertEqual(report.original.get_content_type(), "text/rfc822-headers")
            self.wait_empty()
            self.assertEqual(len(self.backend.messages), 1)

    def test_success_of_a_maildir(self):
        self.start(delivery_verdict="yes", virtual_transport="virtual",
                   virtual_mailbox_maps="inline:{ {you@example.org=you/} }")
        self.send(["<you@example.org> NOTIFY=SUCCESS"])
        self.assertEqual(self.report().rcpts[0]["Action"], "delivered")
        (mail,) = self.server.mails("you")
        self.assertEqual(strip_trace(mail), MESSAGE)

    def test_the_next_hop_tells_if_it_can(self):
        self.start(virtual_transport="virtual", relay_domains="relay.test",
                   relay_transport="smtp:[127.0.0.1]:1")
        self.server.write_config(relay_transport=self.relay.transport)
        self.server.reload()
        self.send(["<x@relay.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@relay.test"],
                  "MAIL FROM:<a@client.test> RET=HDRS ENVID=e1")
        wait_for(lambda: self.relay.messages, "not delivered")
        self.wait_empty()
        self.assertEqual(len(self.relay.messages), 1)
        self.assertTrue(any("RET=HDRS" in c and "ENVID=e1" in c for c in self.relay.commands))
        self.assertTrue(any("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@relay.test" in c
                            for c in self.relay.commands), self.relay.commands)

    def test_a_delay_is_told_once(self):
        self.start(delay_warning_time="1s")
        self.backend.data = {"": "452 4.2.2 full"}
        self.send(["<x@example.org>", "<y@example.org> NOTIFY=FAILURE"])
        report = self.report()
        self.assertEqual(report.message["Subject"], "Delayed Mail (still being retried)")
        (rcpt,) = report.rcpts
        self.assertEqual((rcpt["Final-Recipient"], rcpt["Action"], rcpt["Status"]),
                         ("rfc822; x@example.org", "delayed", "4.2.2"))
        self.assertTrue(rcpt["Will-Retry-Until"])
        time.sleep(2.5)
        self.assertEqual(len(self.relay.messages), 1)
        self.backend.data = {}
        self.wait_empty()

    def test_utf8(self):
        """Through a quota that is full: the way to a Maildir needs no SMTPUTF8."""
        self.start(virtual_transport="virtual",
                   virtual_mailbox_maps="inline:{ {j\u00f6rg@example.org=j/} }")
        for part in ("new", "cur", "tmp"):
            (self.server.dir / "mail/j" / part).mkdir(parents=True)
        (self.server.dir / "mail/j/maildirsize").write_text("10S\n")
        self.send(["<j\u00f6rg@example.org>"], "MAIL FROM:<a@client.test> SMTPUTF8")
        wait_for(lambda: self.relay.messages, "no notification")
        self.assertTrue(any(c.startswith("MAIL FROM:<>") and "SMTPUTF8" in c
                            for c in self.relay.commands), self.relay.commands)
        data = self.relay.messages[0][2]
        self.assertIn("Final-Recipient: utf-8; j\u00f6rg@example.org\r\n".encode(), data)
        self.assertIn(b"Content-Type: message/global-delivery-status\r\n", data)


if __name__ == "__main__":
    unittest.main(verbosity=2)
