"""The first mail: one message into a Maildir, and what the log says of it."""
import unittest

from harness import Postern, strip_trace

MESSAGE = b"Subject: hi\r\nMessage-ID: <1@client.test>\r\n\r\n.dot\r\nend\r\n"


class Basic(unittest.TestCase):
    def test_a_message_arrives(self):
        with Postern() as server:
            with server.connect() as smtp:
                self.assertEqual(smtp.banner.lines, ["220 mx.example.org ESMTP Postern"])
                self.assertEqual(smtp.command("EHLO client.test").code, 250)
                reply = smtp.message(MESSAGE)
                self.assertRegex(reply.lines[0], r"^250 2\.0\.0 Ok: queued as [0-9A-F]{10,}$")
                self.assertEqual(smtp.command("QUIT").lines, ["221 2.0.0 Bye"])
            (mail,) = server.mails("you")
            self.assertTrue(mail.startswith(b"Return-Path: <a@client.test>\r\n"))
            self.assertEqual(strip_trace(mail), MESSAGE)
            queue_id = reply.lines[0].split()[-1]
            for line in (r"connect from localhost\[127\.0\.0\.1\]",
                         queue_id + r": client=localhost\[127\.0\.0\.1\]",
                         queue_id + r": message-id=<1@client\.test>",
                         queue_id + r": from=<a@client\.test>, size=\d+, nrcpt=1 \(queue active\)",
                         queue_id + r": to=<you@example\.org>, relay=virtual, delay=[0-9.]+, "
                                    r"dsn=2\.0\.0, status=sent \(delivered to maildir\)",
                         queue_id + ": removed",
                         r"disconnect from localhost\[127\.0\.0\.1\] ehlo=1 mail=1 rcpt=1 data=1 "
                         r"quit=1 commands=5"):
                server.wait_log(line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
