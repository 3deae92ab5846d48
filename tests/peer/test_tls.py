"""STARTTLS and TLS from the first byte: what is offered, refused, resumed, replaced; and what
clients do wrong."""
import re
import shutil
import socket
import ssl
import subprocess
import time
import unittest
import warnings

from harness import LEAN, Postern, make_certificate, scratch, strip_trace, wait_for

MESSAGE = b"Subject: tls\r\n\r\ntext\r\n"


def context(**attributes):
    """A client that checks nothing."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def name_of(smtp):
    """The name in the certificate that this connection got."""
    der = smtp.sock.getpeercert(binary_form=True)
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der,
                          capture_output=True, check=True).stdout.decode()
    return re.search(r"CN ?= ?(\S+)", text).group(1)


class TlsTest(unittest.TestCase):
    def setUp(self):
        self.certs = self.enterContext(scratch())

    def settings(self, **more):
        if not (self.certs / "cert.pem").exists():
            make_certificate(self.certs)
        return dict({"smtpd_tls_cert_file": str(self.certs / "cert.pem"),
                     "smtpd_tls_key_file": str(self.certs / "cert.key")}, **more)

    def server(self, env=None, **more):
        return self.enterContext(Postern(self.settings(**more), env=env))

    def connect(self, server, name="mx.example.org", tls=None):
        smtp = self.enterContext(server.connect())
        self.assertEqual(smtp.command("EHLO client.test").code, 250)
        self.assertEqual(smtp.starttls(name=name, context=tls).code, 220)
        return smtp


class Offer(TlsTest):
    def test_starttls_is_offered_once_and_noted_everywhere(self):
        server = self.server()
        smtp = self.enterContext(server.connect())
        self.assertIn("STARTTLS", smtp.command("EHLO plain.test").text.split("\n"))
        self.assertEqual(smtp.command("STARTTLS now").lines[0], "501 5.5.4 Syntax: STARTTLS")
        self.assertEqual(smtp.starttls().lines[0], "220 2.0.0 Ready to start TLS")
        self.assertNotIn("STARTTLS", smtp.command("EHLO client.test").text.split("\n"))
        self.assertEqual(smtp.command("STARTTLS").lines[0], "554 5.5.1 Error: TLS already active")
        self.assertEqual(smtp.message(MESSAGE).code, 250)
        self.assertEqual(smtp.command("QUIT").code, 221)
        self.assertTrue(smtp.is_closed())
        (mail,) = server.mails("you")
        self.assertEqual(strip_trace(mail), MESSAGE)
        self.assertRegex(mail, rb"Received: from client\.test \(localhost \[127\.0\.0\.1\]\)\r\n"
                               rb"\t\(using TLSv1\.3 with cipher TLS_\w+ \(\d+/\d+ bits\)\)\r\n"
                               rb"\tby mx\.example\.org \(Postern\) with ESMTPS id ")
        server.wait_log(r"Anonymous TLS connection established from localhost\[127\.0\.0\.1\]: "
                        r"TLSv1\.3 with cipher TLS_\w+ \(\d+/\d+ bits\)")
        server.wait_log(r"disconnect from .* ehlo=2 starttls=1/3 mail=1 rcpt=1 data=1 quit=1 "
                        r"commands=7/9")

    def test_without_a_certificate_there_is_no_starttls(self):
        with Postern() as server, server.connect() as smtp:
            self.assertNotIn("STARTTLS", smtp.command("EHLO client.test").text)
            self.assertEqual(smtp.command("STARTTLS").code, 502)
            self.assertEqual(smtp.command("NOOP").code, 250)

    def test_encrypt_level_demands_it(self):
        server = self.server(smtpd_tls_security_level="encrypt")
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<you@example.org>", "DATA",
                         "VRFY you", "RSET"):
                self.assertEqual(smtp.command(line).lines,
                                 ["530 5.7.0 Must issue a STARTTLS command first"], line)
            self.assertEqual(smtp.command("NOOP").code, 250)
            smtp.send("BDAT 5 LAST\r\nQUIT\r")  # its octets are no command
            self.assertIn(smtp.reply().code, (503, 530))
            smtp.starttls()
            smtp.command("EHLO client.test")
            self.assertEqual(smtp.message(MESSAGE).code, 250)

    def test_settings_that_hide_the_notes(self):
        server = self.server(smtpd_tls_received_header="no", smtpd_tls_loglevel="0")
        smtp = self.connect(server)
        smtp.command("EHLO client.test")
        smtp.message(MESSAGE)
        (mail,) = server.mails("you")
        self.assertNotIn(b"using TLS", mail)
        self.assertNotIn("TLS connection established", server.log())

    def test_the_helo_name_is_forgotten_with_tls(self):
        server = self.server(smtpd_helo_required="yes")
        smtp = self.connect(server)
        self.assertEqual(smtp.command("MAIL FROM:<a@client.test>").lines,
                         ["503 5.5.1 Error: send HELO/EHLO first"])

    def test_implicit_tls(self):
        server = Postern(self.settings())
        server.write_config(listen="127.0.0.1:%d{tls}" % server.port)
        self.enterContext(server)
        smtp = self.enterContext(server.connect(greet=False))
        smtp.wrap()
        self.assertEqual(smtp.reply().code, 220)
        self.assertNotIn("STARTTLS", smtp.command("EHLO client.test").text)
        self.assertEqual(smtp.message(MESSAGE).code, 250)
        self.assertEqual(smtp.command("QUIT").code, 221)
        self.assertIn(b"with ESMTPS id", server.mails("you")[0])
        with server.connect(greet=False) as plain:  # a plain client finds out soon
            plain.send("EHLO client.test\r\n")
            self.assertNotIn(b"220", plain.file.read(100))
            self.assertTrue(plain.is_closed())
        server.wait_log(r"SSL_accept error from localhost\[127\.0\.0\.1\]: ")

    def test_tls_sessions_are_limited_per_client(self):
        server = self.server(smtpd_client_new_tls_session_rate_limit="2")
        for expected in (220, 220, 454):
            with server.connect() as smtp:
                smtp.command("EHLO client.test")
                self.assertEqual(smtp.starttls().code, expected)
                self.assertEqual(smtp.command("NOOP").code, 250)


class Versions(TlsTest):
    def test_old_versions_are_refused(self):
        server = self.server()
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                tls = context(minimum_version=version, maximum_version=version)
            tls.set_ciphers("ALL:@SECLEVEL=0")
            with server.connect() as smtp:
                smtp.command("EHLO client.test")
                with self.assertRaises(ssl.SSLError) as caught:
                    smtp.starttls(context=tls)
                self.assertIn("PROTOCOL_VERSION", str(caught.exception))
        server.wait_log(r"SSL_accept error from localhost\[127\.0\.0\.1\]: .*(version|protocol)")

    def test_1_2_and_1_3_are_served(self):
        server = self.server()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            smtp = self.connect(server, tls=context(minimum_version=version,
                                                    maximum_version=version))
            self.assertEqual(smtp.sock.version(), version.name.replace("_", "."))
            self.assertEqual(smtp.command("EHLO client.test").code, 250)

    def test_the_range_can_be_narrowed(self):
        server = self.server(smtpd_tls_protocols=">=TLSv1.3")
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            with self.assertRaises(ssl.SSLError):
                smtp.starttls(context=context(maximum_version=ssl.TLSVersion.TLSv1_2))

    def test_cleartext_never_comes_back_after_a_failed_handshake(self):
        server = self.server()
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            self.assertEqual(smtp.command("STARTTLS").code, 220)
            smtp.send("EHLO client.test\r\nMAIL FROM:<a@client.test>\r\n")
            self.assertNotRegex(smtp.file.read(1000), rb"250")
            self.assertTrue(smtp.is_closed())
        server.wait_log(r"disconnect from .* ehlo=1 starttls=1 commands=2")


class Certificates(TlsTest):
    def test_rsa_and_ecdsa_side_by_side(self):
        make_certificate(self.certs, kind="ec", stem="ec")
        server = self.server(smtpd_tls_eccert_file=str(self.certs / "ec.pem"),
                             smtpd_tls_eckey_file=str(self.certs / "ec.key"))
        for ciphers, kind in (("ECDHE+aRSA", "RSA"), ("ECDHE+aECDSA", "EC")):
            tls = context(maximum_version=ssl.TLSVersion.TLSv1_2)
            tls.set_ciphers(ciphers)
            smtp = self.connect(server, tls=tls)
            der = smtp.sock.getpeercert(binary_form=True)
            text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-text"],
                                  input=der, capture_output=True, check=True).stdout.decode()
            self.assertIn("Public Key Algorithm: " + ("rsa" if kind == "RSA" else "id-ec"), text)

    def test_server_names_choose_the_certificate(self):
        for stem, name in (("a", "a.example.net"), ("b", "mx.b.example.net"), ("cert", "default")):
            make_certificate(self.certs, name=name, kind="ec", stem=stem)
        for stem in "ab":
            both = (self.certs / (stem + ".key")).read_bytes()
            both += (self.certs / (stem + ".pem")).read_bytes()
            (self.certs / stem).write_bytes(both)
        maps = "inline:{ {a.example.net=%s/a}, {.b.example.net=%s/b} }" % (self.certs, self.certs)
        server = self.server(tls_server_sni_maps=maps)
        for asked, given in (("a.example.net", "a.example.net"), ("A.Example.NET", "a.example.net"),
                             ("mx.b.example.net", "mx.b.example.net"),
                             ("b.example.net", "default"), ("unknown.test", "default"),
                             (None, "default")):
            smtp = self.connect(server, name=asked, tls=context())
            self.assertEqual(name_of(smtp), given, asked)
        server.reload()
        self.assertEqual(name_of(self.connect(server, name="a.example.net", tls=context())),
                         "a.example.net")

    def test_replaced_files_are_picked_up_without_a_restart(self):
        server = self.server()
        old = self.connect(server)
        make_certificate(self.certs, name="new.example.org")
        server.wait_log("certificates read again")
        self.assertEqual(name_of(self.connect(server)), "new.example.org")
        old.command("EHLO client.test")  # what was begun goes on
        self.assertEqual(old.message(MESSAGE).code, 250)

    def test_a_replaced_server_name_certificate_is_picked_up(self):
        def make(name):
            make_certificate(self.certs, name=name, kind="ec", stem="sni")
            text = (self.certs / "sni.key").read_bytes() + (self.certs / "sni.pem").read_bytes()
            (self.certs / "chain.tmp").write_bytes(text)
            (self.certs / "chain.tmp").rename(self.certs / "chain")
        make("first")
        server = self.server(tls_server_sni_maps="inline:{ {x.test=%s/chain} }" % self.certs)
        self.assertEqual(name_of(self.connect(server, name="x.test")), "first")
        make("second")
        server.wait_log("certificates read again")
        self.assertEqual(name_of(self.connect(server, name="x.test")), "second")

    def test_a_mismatched_pair_keeps_the_old_one_and_says_so(self):
        server = self.server()
        (self.certs / "new").mkdir()
        make_certificate(self.certs / "new", name="new.example.org")
        shutil.copy(self.certs / "new" / "cert.pem", self.certs / "cert.pem")
        server.wait_log(r"cert\.key.*(does not belong|mismatch).* stays in use")
        self.assertEqual(name_of(self.connect(server)), "mx.example.org")
        time.sleep(1.2)  # one more look at the files: it is said once
        self.assertEqual(server.log().count("stays in use"), 1)
        shutil.copy(self.certs / "new" / "cert.key", self.certs / "cert.key")
        server.wait_log("certificates read again")
        self.assertEqual(name_of(self.connect(server)), "new.example.org")

    def test_a_vanished_or_broken_file_keeps_the_old_one(self):
        server = self.server()
        content = (self.certs / "cert.pem").read_bytes()
        (self.certs / "cert.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nxx\n")
        server.wait_log("stays in use")
        self.assertEqual(name_of(self.connect(server)), "mx.example.org")
        (self.certs / "cert.pem").unlink()
        wait_for(lambda: server.log().count("stays in use") == 2, "a word about the lost file")
        self.assertEqual(name_of(self.connect(server)), "mx.example.org")
        (self.certs / "cert.pem").write_bytes(content)
        server.wait_log("certificates read again")

    def test_a_reload_with_a_bad_certificate_is_refused(self):
        server = self.server()
        (self.certs / "cert.key").write_text("garbage")
        self.assertIn(b"old configuration stays", server.reload().group(0))
        self.assertEqual(name_of(self.connect(server)), "mx.example.org")


class Tickets(TlsTest):
    def resume(self, server, version, name, between):
        """A session, between(), and a second connection with it: was it resumed?"""
        tls = context(minimum_version=version, maximum_version=version)
        first = self.connect(server, name=name, tls=tls)
        first.command("EHLO client.test")  # TLS 1.3: the ticket comes with the first data
        session = first.sock.session
        first.close()
        between()
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            smtp.command("STARTTLS")
            smtp.sock = tls.wrap_socket(smtp.sock, server_hostname=name, session=session)
            smtp.file = smtp.sock.makefile("rb")
            self.assertEqual(smtp.command("EHLO client.test").code, 250)
            return smtp.sock.session_reused

    def test_sessions_resume_also_across_reloads_and_new_certificates(self):
        make_certificate(self.certs, name="x.test", kind="ec", stem="x")
        (self.certs / "x").write_bytes((self.certs / "x.key").read_bytes()
                                       + (self.certs / "x.pem").read_bytes())
        server = self.server(tls_server_sni_maps="inline:{ {x.test=%s/x} }" % self.certs)

        def replace():
            count = server.log().count("certificates read again")
            make_certificate(self.certs)
            wait_for(lambda: server.log().count("certificates read again") > count, "new pair")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name in ("mx.example.org", "x.test"):
                self.assertTrue(self.resume(server, version, name, lambda: None), name)
                self.assertTrue(self.resume(server, version, name, server.reload), name)
        self.assertTrue(self.resume(server, ssl.TLSVersion.TLSv1_3, "mx.example.org", replace))
        server.wait_log(r"Anonymous TLS connection reused from localhost\[127\.0\.0\.1\]")

    def test_a_ticket_of_another_server_is_ignored(self):
        tls = context()
        first_server = self.server()
        first = self.connect(first_server, tls=tls)
        first.command("EHLO client.test")
        second = self.server()
        with second.connect() as smtp:
            smtp.command("EHLO client.test")
            smtp.command("STARTTLS")
            smtp.sock = tls.wrap_socket(smtp.sock, server_hostname="mx.example.org",
                                        session=first.sock.session)
            self.assertFalse(smtp.sock.session_reused)


class Memory:
    """A TLS client whose encrypted bytes pass through our hands."""

    def __init__(self, smtp, tls=None):
        self.raw = smtp.sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (tls or context()).wrap_bio(self.incoming, self.outgoing,
                                               server_hostname="mx.example.org")

    def pump(self, step, size):
        """step() until it needs nothing more; what it sends goes in writes of size bytes."""
        while True:
            try:
                result, is_done = step(), True
            except ssl.SSLWantReadError:
                is_done = False
            data = self.outgoing.read()
            for at in range(0, len(data), size):
                self.raw.sendall(data[at:at + size])
            if is_done:
                return result
            received = self.raw.recv(65536)
            if not received:
                raise EOFError
            self.incoming.write(received)

    def command(self, line, size=1):
        self.pump(lambda: self.tls.write(line.encode() + b"\r\n"), size)
        return self.reply()

    def reply(self):
        text = b""
        while not re.search(rb"(?m)^\d{3} .*\r\n\Z", text):
            text += self.pump(lambda: self.tls.read(4096), 1)
        return text.decode()


class Abuse(TlsTest):
    def test_plaintext_behind_starttls_is_thrown_away(self):
        server = self.server()
        with server.connect() as smtp:
            smtp.command("EHLO client.test")
            smtp.send("STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@evil.test>\r\n")
            self.assertEqual(smtp.reply().code, 220)
            smtp.wrap()
            self.assertEqual(smtp.command("RSET").lines, ["250 2.0.0 Ok"])
            self.assertEqual(smtp.command("RCPT TO:<you@example.org>").code, 503)
            smtp.command("EHLO client.test")
            self.assertEqual(smtp.message(MESSAGE).code, 250)
            smtp.command("QUIT")
        server.wait_log(r"ehlo=2 starttls=1 mail=1 rcpt=1/2 data=1 rset=1 quit=1 commands=8/9")
        self.assertNotIn("evil", server.log())

    def test_tls_in_pieces_of_one_byte(self):
        """The handshake and each record arrive a byte at a time; each character has a record
        of its own."""
        server = self.server()
        with server.connect() as smtp:
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            smtp.command("EHLO client.test")
            smtp.command("STARTTLS")
            client = Memory(smtp)
            client.pump(client.tls.do_handshake, 1)
            client.command("EHLO client.test")
            for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<you@example.org>", "DATA"):
                self.assertRegex(client.command(line), "^(250|354) ")
            for byte in MESSAGE + b".\r\n":
                client.pump(lambda data=bytes([byte]): client.tls.write(data), 1)
            self.assertRegex(client.reply(), "^250 2.0.0 Ok: queued as ")
        self.assertEqual([strip_trace(mail) for mail in server.mails("you")], [MESSAGE])

    def test_a_client_that_stalls_in_the_handshake_is_dropped(self):
        server = self.server(smtpd_starttls_timeout="1s")
        with server.connect() as silent, server.connect() as half:
            for smtp in (silent, half):
                smtp.command("EHLO client.test")
                smtp.command("STARTTLS")
            client = Memory(half)
            try:
                client.tls.do_handshake()
            except ssl.SSLWantReadError:
                half.sock.sendall(client.outgoing.read()[:50])
            self.assertTrue(silent.is_closed())
            self.assertTrue(half.is_closed())
        wait_for(lambda: len(re.findall(r"SSL_accept error from localhost\[127\.0\.0\.1\]: "
                                        "Connection timed out", server.log())) == 2, "two lines")

    def test_close_notify_ends_the_session(self):
        server = self.server()
        with server.connect() as smtp:
            raw = smtp.sock
            smtp.command("EHLO client.test")
            smtp.command("STARTTLS")
            client = Memory(smtp)
            client.pump(client.tls.do_handshake, 1000)
            client.command("EHLO client.test", 1000)
            client.command("MAIL FROM:<a@client.test>", 1000)
            try:
                client.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
            raw.sendall(client.outgoing.read() + b"RCPT TO:<you@example.org>\r\nDATA\r\n")
            data = b""
            while True:
                try:
                    piece = raw.recv(4096)
                except ConnectionResetError:
                    break
                if not piece:
                    break
                data += piece
            self.assertNotRegex(data, rb"(?m)^\d{3}[ -]")
        server.wait_log(r"disconnect from .* mail=1 commands=4")

    def test_the_end_of_the_connection_inside_data_delivers_nothing(self):
        """A cut TLS stream is no end of message; neither is close_notify."""
        server = self.server()
        for is_polite in (False, True):
            smtp = self.connect(server)
            smtp.command("EHLO client.test")
            smtp.begin_data()
            smtp.send("Subject: cut\r\n\r\nhalf\r\n.")
            if is_polite:
                try:
                    smtp.sock.settimeout(2)
                    smtp.sock.unwrap()
                except (OSError, ssl.SSLError):
                    pass
            smtp.close()
        wait_for(lambda: server.log().count("lost connection after DATA") == 2, "two lines")
        self.assertEqual(server.all_files(), [])

    def test_garbage_records_end_the_connection(self):
        server = self.server()
        for garbage in (b"\0" * 5000, b"\x17\x03\x03\xff\xff" + b"x" * 70000,
                        b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28"):
            smtp = self.connect(server)
            raw = socket.socket(fileno=smtp.sock.detach())
            raw.settimeout(10)
            try:
                raw.sendall(garbage)
                while raw.recv(4096):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
            raw.close()
        smtp = self.connect(server)
        self.assertEqual(smtp.command("EHLO client.test").code, 250)

    def test_finished_connections_cost_no_memory(self):
        server = self.server(env=LEAN)

        def round_of(count):
            for _ in range(count):
                with server.connect() as smtp:
                    smtp.command("EHLO client.test")
                    smtp.starttls(context=tls)
                    smtp.command("EHLO client.test")
            return server.rss_kb()
        tls = context()
        before = round_of(100)
        after = round_of(200)
        self.assertLess(after - before, 4000)  # 20 kB a connection would show

    def test_many_stalled_handshakes_leave_room_for_others(self):
        server = self.server()
        stalled = [self.enterContext(server.connect()) for _ in range(50)]
        for smtp in stalled:
            smtp.command("EHLO client.test")
            smtp.command("STARTTLS")
        smtp = self.connect(server)
        smtp.command("EHLO client.test")
        self.assertEqual(smtp.message(MESSAGE).code, 250)

    def test_a_client_that_sends_and_never_reads_is_held_back(self):
        server = self.server(env=LEAN, smtpd_timeout="3s", smtpd_junk_command_limit="1000000")
        smtp = self.connect(server)
        smtp.command("EHLO client.test")
        smtp.sock.settimeout(1)
        before = server.rss_kb()
        sent = 0
        try:
            while sent < 30000000:
                smtp.sock.sendall(b"RSET\r\n" * 1000)
                sent += 6000
        except (TimeoutError, OSError):
            pass
        self.assertLess(server.rss_kb() - before, 4000)
        self.assertLess(sent, 30000000)
        server.wait_log(r"timeout after RSET from")
        with server.connect() as other:
            self.assertEqual(other.command("EHLO client.test").code, 250)


if __name__ == "__main__":
    unittest.main(verbosity=2)
