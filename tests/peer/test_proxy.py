"""The PROXY protocol (v1, v2): whose address counts, TLS behind it, and headers that are none."""
import shutil
import socket
import ssl
import struct
import subprocess
import time
import unittest

from harness import Postern, Smtp, make_certificate, scratch, wait_for

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v1(client="192.0.2.7", server="192.0.2.1", family="TCP4", ports="40000 25"):
    return ("PROXY %s %s %s %s\r\n" % (family, client, server, ports)).encode()


def v2(client="192.0.2.7", server="192.0.2.1", command=0x21, family=None, tlvs=b""):
    """A header of version 2; command 0x20 is LOCAL."""
    kind = socket.AF_INET6 if ":" in client else socket.AF_INET
    family = family or (0x21 if kind == socket.AF_INET6 else 0x11)
    body = socket.inet_pton(kind, client) + socket.inet_pton(kind, server)
    body += struct.pack(">HH", 40000, 25) + tlvs
    return V2 + struct.pack(">BBH", command, family, len(body)) + body


class ProxyTest(unittest.TestCase):
    def start(self, options="{proxy}", **settings):
        server = Postern(settings)
        server.write_config(listen="127.0.0.1:%d%s" % (server.port, options))
        return self.enterContext(server)

    def through(self, server, header, size=0):
        """A connection that begins with header, sent in pieces of size bytes (0: at once)."""
        smtp = self.enterContext(server.connect(greet=False))
        smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(header), size or len(header) or 1):
            smtp.send(header[at:at + (size or len(header))])
        return smtp

    def greeted(self, server, header, size=0):
        smtp = self.through(server, header, size)
        self.assertEqual(smtp.reply().code, 220, header)
        return smtp


class Addresses(ProxyTest):
    GOOD = ((v1(), "192.0.2.7"),
            (v1("0.0.0.0", "255.255.255.255", ports="0 65535"), "0.0.0.0"),
            (v1("2001:db8::7", "2001:db8::1", "TCP6"), "2001:db8::7"),
            (v1("2001:0DB8:0:0:0:0:0:7", "::1", "TCP6"), "2001:db8::7"),
            (v2(), "192.0.2.7"),
            (v2("2001:db8::7", "2001:db8::1"), "2001:db8::7"),
            (v2("::ffff:192.0.2.7", "::ffff:192.0.2.1"), "192.0.2.7"),
            (v2(tlvs=b"\x03\x00\x04abcd" + b"\xea\x00\x05stuff"), "192.0.2.7"),
            (v2(command=0x20), "127.0.0.1"),
            (V2 + b"\x20\x00\x00\x00", "127.0.0.1"),
            (V2 + b"\x20\x00\x00\x05hello", "127.0.0.1"))

    def test_the_announced_address_is_logged_checked_and_traced(self):
        for setting in ({}, {"smtpd_upstream_proxy_protocol": "haproxy"}):
            server = self.start("" if setting else "{proxy}", **setting)
            for header, address in self.GOOD:
                with self.subTest(header=header):
                    smtp = self.greeted(server, header)
                    smtp.command("EHLO client.test")
                    self.assertEqual(smtp.message(b"Subject: x\r\n\r\n").code, 250)
                    smtp.command("QUIT")
                    server.wait_log(r"disconnect from \S*\[%s\] ehlo=1" % address)
                    label = "IPv6:" + address if ":" in address else address
                    self.assertIn(("[%s])" % label).encode(), server.mails("you")[-1])

    def test_headers_in_pieces_of_one_byte(self):
        server = self.start()
        for header, address in self.GOOD:
            smtp = self.greeted(server, header, size=1)
            self.assertEqual(smtp.command("EHLO x").code, 250)
            server.wait_log(r"connect from \S*\[%s\]" % address)

    def test_restrictions_see_the_announced_client(self):
        server = self.start(smtpd_client_restrictions="permit_mynetworks, reject",
                            mynetworks="192.0.2.9 [2001:db8::]/32")
        for address, code in (("192.0.2.7", 554), ("192.0.2.9", 250)):
            smtp = self.greeted(server, v1(address))
            smtp.command("EHLO x")
            smtp.command("MAIL FROM:<a@client.test>")
            self.assertEqual(smtp.command("RCPT TO:<you@example.org>").code, code, address)

    def test_limits_are_for_the_announced_client(self):
        server = self.start(smtpd_client_connection_count_limit="2",
                            smtpd_client_message_rate_limit="1")
        first = [self.greeted(server, v1()) for _ in range(2)]
        third = self.through(server, v1())
        self.assertEqual(third.reply().lines, ["421 4.7.0 mx.example.org Error: "
                                               "too many connections from 192.0.2.7"])
        self.assertTrue(third.is_closed())
        other = self.greeted(server, v1("192.0.2.8"))
        first.pop().close()
        wait_for(lambda: "disconnect from unknown[192.0.2.7]" in server.log(), "one left")
        self.greeted(server, v1())
        for smtp, codes in ((first[0], (250, 450)), (other, (250, 450))):
            smtp.command("EHLO x")
            for code in codes:
                self.assertEqual(smtp.command("MAIL FROM:<a@client.test>").code, code)
                smtp.command("RSET")

    def test_a_client_that_talks_behind_the_header_talks_too_early(self):
        server = self.start()
        for header in (v1(), v2()):
            smtp = self.through(server, header + b"EHLO early.test\r\n")
            self.assertEqual(smtp.reply().lines, ["554 5.5.0 Error: SMTP protocol "
                                                  "synchronization"])
            self.assertTrue(smtp.is_closed())

    def test_swaks_speaks_it_too(self):
        if not shutil.which("swaks"):
            self.skipTest("swaks is not installed")
        server = self.start()
        for version in "12":
            family = {"1": "TCP4", "2": "AF_INET"}[version]
            subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(server.port),
                            "--from", "a@client.test", "--to", "you@example.org",
                            "--proxy-version", version, "--proxy-family", family,
                            "--proxy-source", "198.51.100.9", "--proxy-source-port", "4321",
                            "--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25"],
                           check=True, capture_output=True, timeout=30)
        self.assertEqual(sum(b"[198.51.100.9]" in m for m in server.mails("you")), 2)


class Tls(ProxyTest):
    def setUp(self):
        self.certs = self.enterContext(scratch())
        make_certificate(self.certs)
        self.tls = {"smtpd_tls_cert_file": str(self.certs / "cert.pem"),
                    "smtpd_tls_key_file": str(self.certs / "cert.key")}

    def test_starttls_behind_the_header(self):
        server = self.start(**self.tls)
        smtp = self.greeted(server, v2("2001:db8::7", "::1"))
        smtp.command("EHLO x")
        smtp.starttls()
        smtp.command("EHLO x")
        self.assertEqual(smtp.message(b"Subject: x\r\n\r\n").code, 250)
        server.wait_log(r"TLS connection established from unknown\[2001:db8::7\]")
        self.assertRegex(server.mails("you")[0], rb"\[IPv6:2001:db8::7\]\)\r\n\t\(using TLS")

    def test_tls_right_behind_the_header(self):
        """Also when header and the TLS hello come in one write, or a byte at a time."""
        server = self.start("{tls, proxy}", **self.tls)
        for header in (v1(), v2()):
            smtp = self.through(server, header)
            smtp.wrap()
            self.assertEqual(smtp.reply().code, 220)
            self.assertEqual(smtp.command("EHLO x").code, 250)
        for size in (100000, 1):
            smtp = self.enterContext(server.connect(greet=False))
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="mx.example.org")
            wire, text = v2(), b""
            while not text:
                try:
                    text = tls.read(1000)
                except ssl.SSLWantReadError:
                    wire += outgoing.read()
                    for at in range(0, len(wire), size):
                        smtp.send(wire[at:at + size])
                    wire = b""
                    incoming.write(smtp.sock.recv(65536))
            self.assertTrue(text.startswith(b"220 "), text)
        server.wait_log(r"(?s)(TLS connection established from unknown\[192\.0\.2\.7\].*){4}")

    def test_a_wrong_header_before_tls_gets_no_tls(self):
        server = self.start("{tls} {proxy}", **self.tls)
        smtp = self.through(server, b"\x16\x03\x01\x02\x00\x01\x00")
        self.assertTrue(smtp.file.read(3) in (b"421", b""))


class Bad(ProxyTest):
    WORDS = ["421 4.3.0 mx.example.org Server local error"]
    HEADERS = (
        b"EHLO client.test\r\n", b"PROXY\r\n", b"PROXY UNKNOWN\r\n", b"QUIT\r\n", b"\r\n",
        b"PROXY UNKNOWN 192.0.2.7 192.0.2.1 1 2\r\n", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
        v1("192.0.2.256"), v1("192.0.2"), v1("2001:db8::7"), v1("host.test"), v1("192.0.2.07"),
        v1("192.0.2.7", "2001:db8::1"), v1(family="TCP6"), v1(family="UDP4"), v1(family=""),
        v1(ports="65536 25"), v1(ports="-1 25"), v1(ports="1x 25"), v1(ports="1 2 3"),
        v1("2001:db8::7", "192.0.2.1", "TCP6"), v1("1:2:3:4:5:6:7:8:9", "::1", "TCP6"),
        v1("192.0.2.7" + " " * 100), b"PROXY " + b"x" * 200, b"PROXY TCP4 \0\0\0\0\r\n",
        v2(command=0x11), v2(command=0x22), v2(command=0x01), v2(family=0x12), v2(family=0x31),
        V2 + b"\x21\x11\x00\x0b" + b"x" * 11, V2 + b"\x21\x21\x00\x23" + b"x" * 35,
        V2 + b"\x21\x11\xff\xff", V2[:-1] + b"\r" + b"x" * 20,
    )

    def test_everything_else_gets_421_and_is_closed(self):
        server = self.start()
        for header in self.HEADERS:
            with self.subTest(header=header):
                smtp = self.through(server, header)
                self.assertEqual(smtp.reply().lines, self.WORDS, header)
                self.assertTrue(smtp.is_closed())
        self.greeted(server, v1())
        server.wait_log(r" connect from unknown\[192\.0\.2\.7\]")
        self.assertEqual(server.log().count(" connect from unknown[192.0.2.7]"), 1)

    def test_a_header_that_does_not_come_times_out(self):
        server = self.start(smtpd_upstream_proxy_timeout="1s")
        for begun in (b"", b"PROXY TCP4 192.0.2.7 192", v2()[:20]):
            began = time.monotonic()
            smtp = self.through(server, begun)
            self.assertEqual(smtp.reply().lines, self.WORDS, begun)
            self.assertTrue(smtp.is_closed())
            self.assertLess(time.monotonic() - began, 5)

    def test_slow_bytes_do_not_extend_the_time(self):
        server = self.start(smtpd_upstream_proxy_timeout="1s")
        smtp = self.through(server, b"")
        began = time.monotonic()
        try:
            for byte in v1() * 2:
                smtp.send(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            pass
        self.assertLess(time.monotonic() - began, 6)

    def test_a_client_that_leaves_before_its_header_is_no_event(self):
        server = self.start()
        for begun in (b"", b"PROXY TCP4", v2()[:15]):
            self.through(server, begun).close()
        self.greeted(server, v1())

    def test_without_the_option_a_header_is_no_header(self):
        server = self.start("")
        smtp = self.enterContext(server.connect())
        smtp.send(v1())
        self.assertIn(smtp.reply().code, (500, 221))

    def test_plain_and_proxied_listeners_side_by_side(self):
        server = Postern()
        port = server.port + 1
        server.write_config(listen="127.0.0.1:%d {proxy}, 127.0.0.1:%d" % (port, server.port))
        self.enterContext(server)
        with Smtp(port, greet=False) as smtp:
            smtp.send(v1())
            self.assertEqual(smtp.reply().code, 220)
        with server.connect() as smtp:
            self.assertEqual(smtp.banner.code, 220)


if __name__ == "__main__":
    unittest.main(verbosity=2)
