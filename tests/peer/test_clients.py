"""The clients people use, each in the ways that differ: every message arrives once, whole."""
import collections
import concurrent.futures
import email.message
import email.policy
import re
import shutil
import smtplib
import ssl
import subprocess
import unittest

from harness import Postern, make_certificate, scratch, strip_trace, wait_for

CATCH_ALL = {"virtual_mailbox_maps": "inline:{ {@example.org=all/}, {you@example.org=you/} }"}
MESSAGE_ID = re.compile(rb"^Message-Id: <([^>]+)>", re.I | re.M)


def run(*args, code=0, text=None, seconds=60):
    """Runs a client to its end; its output. Fails on another exit code."""
    result = subprocess.run(args, input=text, capture_output=True, text=True, timeout=seconds,
                            check=False)
    output = result.stdout + result.stderr
    assert code in (result.returncode, None), "%s: exit %d\n%s" % (args, result.returncode,
                                                                   output[-3000:])
    return output


class SmtpSource(unittest.TestCase):
    """smtp-source: messages differ in their Message-Id only, so a lost, torn or doubled one
    shows."""

    def send(self, server, *args, mailbox="all"):
        run("smtp-source", "-f", "a@client.test", "-t", "x@example.org", *args,
            "127.0.0.1:%d" % server.port)
        bodies = [strip_trace(mail) for mail in server.mails(mailbox)]
        ids = collections.Counter(MESSAGE_ID.search(body).group(1) for body in bodies)
        sizes = {len(MESSAGE_ID.sub(b"", body)) for body in bodies}
        self.assertEqual(len(sizes), 1, "messages of one run differ in size")
        self.assertTrue(all(body.endswith(b"\r\n") for body in bodies))
        return ids

    def test_many_sessions_and_messages(self):
        with Postern(CATCH_ALL) as server:
            ids = self.send(server, "-s", "20", "-m", "400", "-l", "3000")
            self.assertEqual((len(ids), set(ids.values())), (400, {1}))
            self.assertEqual(len(re.findall("disconnect from", server.log())), 400)

    def test_many_messages_in_one_connection(self):
        with Postern(CATCH_ALL) as server:
            ids = self.send(server, "-d", "-s", "4", "-m", "200")
            self.assertEqual((len(ids), set(ids.values())), (200, {1}))
            self.assertEqual(len(re.findall(": connect from", server.log())), 4)

    def test_large_messages_side_by_side(self):
        with Postern(CATCH_ALL) as server:
            ids = self.send(server, "-s", "8", "-m", "16", "-l", "3000000")
            self.assertEqual((len(ids), set(ids.values())), (16, {1}))
            self.assertGreater(min(len(mail) for mail in server.mails("all")), 3000000)

    def test_many_recipients_get_a_copy_each(self):
        with Postern(CATCH_ALL) as server:
            ids = self.send(server, "-r", "300", "-m", "3", "-s", "3")
            self.assertEqual((len(ids), set(ids.values())), (3, {300}))
            to = collections.Counter(
                re.search(rb"^Delivered-To: (.*)\r$", mail, re.M).group(1)
                for mail in server.mails("all"))
            self.assertEqual((len(to), set(to.values())), (300, {3}))

    def test_clients_that_hang_up_on_each_other_lose_nothing(self):
        """Half of the clients are killed in mid-flight; every acknowledged mail is there."""
        with Postern(CATCH_ALL) as server:
            victims = [subprocess.Popen(
                ["smtp-source", "-s", "5", "-m", "100000", "-l", "20000", "-t", "x@example.org",
                 "127.0.0.1:%d" % server.port], stderr=subprocess.DEVNULL) for _ in range(2)]
            wait_for(lambda: server.log().count("status=sent") > 50, "fifty mails", 30)
            for victim in victims:
                victim.kill()
                victim.wait()
            with server.connect() as smtp:
                smtp.command("EHLO client.test")
                self.assertEqual(smtp.message(b"Subject: last\r\n\r\n").code, 250)
            server.stop()
            sent = len(re.findall(r"to=<x@example\.org>.* status=sent", server.log()))
            self.assertEqual(len(server.files("all")), sent)
            self.assertEqual(len(server.files("you")), 1)
            self.assertEqual(server.files("all", "tmp"), [])


class Swaks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("swaks"):
            raise unittest.SkipTest("swaks is not installed")

    def swaks(self, server, *args, code=0):
        return run("swaks", "--server", "127.0.0.1", "--port", str(server.port),
                   "--from", "a@client.test", "--to", "you@example.org", "--ehlo", "client.test",
                   *args, code=code)

    def test_plain(self):
        with Postern() as server:
            self.swaks(server, "--body", "hello", "--header", "Subject: plain")
            (mail,) = server.mails("you")
            self.assertIn(b"\r\nSubject: plain\r\n", mail)
            self.assertTrue(strip_trace(mail).endswith(b"\r\n\r\nhello\r\n\r\n\r\n"), mail)

    def test_pipelining(self):
        with Postern() as server:
            rcpts = "you@example.org,nobody@example.org,other@example.org"
            output = self.swaks(server, "--pipeline", "--to", rcpts, "--body", "hello", code=None)
            self.assertRegex(output, r"550 5\.1\.1 <nobody@example\.org>")
            self.assertEqual((len(server.mails("you")), len(server.mails("other"))), (1, 1))
            server.wait_log(r"rcpt=2/3 data=1 quit=1 commands=6/7")

    def test_pipelining_when_every_recipient_is_refused(self):
        """DATA comes before the refusals are seen: it gets 554, and nothing is read as mail."""
        with Postern() as server:
            output = self.swaks(server, "--pipeline", "--to", "nobody@example.org", code=None)
            self.assertRegex(output, r"554 5\.5\.1 Error: no valid recipients")
            server.wait_log(r"mail=1 rcpt=0/1 data=0/1 .*quit=1")

    def test_starttls_with_pipelining(self):
        with scratch() as certs:
            make_certificate(certs)
            with Postern({"smtpd_tls_cert_file": certs / "cert.pem",
                          "smtpd_tls_key_file": certs / "cert.key"}) as server:
                output = self.swaks(server, "--tls", "--pipeline", "--body", "secret")
                self.assertRegex(output, r"TLS started with cipher TLSv1\.[23]")
                (mail,) = server.mails("you")
                self.assertRegex(mail, rb"with ESMTPS id")

    def test_newlines_that_are_no_crlf(self):
        """Bare LF becomes CR LF; a dot between two of them is neither the end nor kept."""
        with Postern() as server, scratch() as path:
            (path / "data").write_bytes(b"Subject: lf\n\none\n.\ntwo\n..\nthree\r\n.four\r\n.\r\n")
            self.swaks(server, "--data", "@%s" % (path / "data"), "--no-data-fixup")
            server.wait_log(r"disconnect from .* notes=bare_lf")
            (mail,) = server.mails("you")
            self.assertEqual(strip_trace(mail), b"Subject: lf\r\n\r\none\r\ntwo\r\n"
                             b".\r\nthree\r\nfour\r\n")


class Python(unittest.TestCase):
    def test_sendmail_reports_each_recipient(self):
        with Postern() as server:
            with smtplib.SMTP("127.0.0.1", server.port) as smtp:
                refused = smtp.sendmail("a@client.test",
                                        ["you@example.org", "no@example.org", "u@else.test"],
                                        "Subject: x\n\n.dot\n..\nend")
            self.assertEqual({k: v[0] for k, v in refused.items()},
                             {"no@example.org": 550, "u@else.test": 554})
            (mail,) = server.mails("you")
            self.assertEqual(strip_trace(mail), b"Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n")

    def test_send_message_with_attachments(self):
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@client.test", "you@example.org", "ü"
        message.set_content("grüße\n" * 100)
        message.add_attachment(bytes(range(256)) * 400, maintype="application",
                               subtype="octet-stream", filename="all")
        with Postern() as server:
            with smtplib.SMTP("127.0.0.1", server.port) as smtp:
                for _ in range(20):
                    smtp.send_message(message)
            mails = server.mails("you")
            self.assertEqual(len(mails), 20)
            for mail in mails:
                got = email.message_from_bytes(strip_trace(mail), policy=email.policy.default)
                (part,) = got.iter_attachments()
                self.assertEqual(part.get_content(), bytes(range(256)) * 400)

    def test_utf8_addresses(self):
        maps = "inline:{ {jörg@example.org=joerg/}, {you@example.org=you/} }"
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = "ä@client.test", "jörg@example.org", "x"
        message.set_content("hi")
        with Postern({"virtual_mailbox_maps": maps}) as server:
            with smtplib.SMTP("127.0.0.1", server.port) as smtp:
                smtp.send_message(message)
            (mail,) = server.mails("joerg")
            self.assertTrue(mail.startswith("Return-Path: <ä@client.test>\r\n".encode()), mail)
            self.assertIn("\r\nDelivered-To: jörg@example.org\r\n".encode(), mail)
            self.assertIn(b" with UTF8SMTP id ", mail)
            server.wait_log("from=<ä@client.test>")

    def test_threads(self):
        """Eight clients with connections of their own, through STARTTLS, plain and TLS."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        def client(server, number):
            with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as smtp:
                if number % 2:
                    smtp.starttls(context=context)
                for i in range(20):
                    text = "Subject: %d.%d\r\n\r\n%s\r\n" % (number, i, "x" * 70 * i)
                    smtp.sendmail("a@client.test", "you@example.org", text)

        with scratch() as certs:
            make_certificate(certs)
            with Postern({"smtpd_tls_cert_file": certs / "cert.pem",
                          "smtpd_tls_key_file": certs / "cert.key"}) as server:
                with concurrent.futures.ThreadPoolExecutor(8) as pool:
                    list(pool.map(lambda n: client(server, n), range(8)))
                got = sorted(strip_trace(mail) for mail in server.mails("you"))
                sent = sorted(b"Subject: %d.%d\r\n\r\n%s\r\n" % (n, i, b"x" * 70 * i)
                              for n in range(8) for i in range(20))
                self.assertEqual(got, sent)


class OpenSsl(unittest.TestCase):
    """openssl s_client as a terminal: a line typed after each reply."""

    def talk(self, args, lines):
        client = subprocess.Popen(["openssl", "s_client", "-quiet", "-crlf", *args],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        replies = []

        def reply():
            while True:
                line = client.stdout.readline()
                if line[3:4] != b"-":
                    return replies.append(line.decode().strip())
        if "-starttls" not in args:
            reply()  # otherwise s_client has read the banner itself
        for line in lines:
            client.stdin.write(line + b"\n")
            client.stdin.flush()
            if not line.startswith((b"Subject", b"text")) and line:
                reply()
        client.stdin.close()
        client.stdout.close()
        self.assertEqual(client.wait(20), 0)
        return replies

    LINES = [b"EHLO client.test", b"MAIL FROM:<a@client.test>", b"RCPT TO:<you@example.org>",
             b"DATA", b"Subject: typed", b"", b"text", b".", b"QUIT"]

    def test_starttls_and_implicit_tls(self):
        with scratch() as certs:
            make_certificate(certs)
            settings = {"smtpd_tls_cert_file": certs / "cert.pem",
                        "smtpd_tls_key_file": certs / "cert.key"}
            server = Postern(settings)
            tls_port = server.port + 1
            server.write_config(listen="127.0.0.1:%d, 127.0.0.1:%d{tls}" % (server.port, tls_port))
            with server:
                starttls = ["-starttls", "smtp", "-connect", "127.0.0.1:%d" % server.port]
                for args in (starttls, ["-connect", "127.0.0.1:%d" % tls_port]):
                    replies = self.talk(args, self.LINES)
                    self.assertEqual([r[:3] for r in replies][-6:],
                                     ["250", "250", "250", "354", "250", "221"])
                mails = server.mails("you")
                self.assertEqual([strip_trace(m) for m in mails],
                                 [b"Subject: typed\r\n\r\ntext\r\n"] * 2)
                self.assertTrue(all(b" with ESMTPS id " in mail for mail in mails))


class Curl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("curl"):
            raise unittest.SkipTest("curl is not installed")

    def test_plain_and_starttls(self):
        body = b"Subject: curl\r\n\r\n" + b"line\r\n.\r\n..x\r\n" * 5000
        with scratch() as path:
            make_certificate(path)
            (path / "mail").write_bytes(body)
            with Postern({"smtpd_tls_cert_file": path / "cert.pem",
                          "smtpd_tls_key_file": path / "cert.key"}) as server:
                for extra in ([], ["--ssl-reqd", "--insecure"]):
                    run("curl", "--silent", "--show-error",
                        "smtp://127.0.0.1:%d/client.test" % server.port,
                        "--mail-from", "a@client.test", "--mail-rcpt", "you@example.org",
                        "--mail-rcpt", "other@example.org", "--upload-file", str(path / "mail"),
                        *extra)
                mails = server.mails("you") + server.mails("other")
                self.assertEqual([strip_trace(mail) for mail in mails], [body] * 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
