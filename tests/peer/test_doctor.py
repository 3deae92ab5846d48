"""postern doctor against a name server of our own: what is well is said to be, and each thing that
is not is found, with a reason and advice."""
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import unittest

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from harness import BINARY, Postern, free_port, make_certificate, scratch

GOOD = """
mx.example.org A 192.0.2.1
mx.example.org AAAA 2001:db8::1
1.2.0.192.in-addr.arpa PTR mx.example.org.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR mx.example.org.
example.org MX 10 mx.example.org.
example.org TXT "v=spf1 mx -all"
2.0.0.127.bl.test A 127.0.0.2
"""


class NameServer:
    """Answers from lines "NAME TYPE VALUE"; a name of SERVFAIL fails; all else does not exist."""

    def __init__(self, text):
        self.records, self.failing = {}, set()
        for line in text.strip().splitlines():
            name, kind, *value = line.split(None, 2)
            if kind == "SERVFAIL":
                self.failing.add(name)
            else:
                self.records.setdefault((name, kind), []).append(value[0])
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                sock.sendto(outer.answer(dns.message.from_wire(data)).to_wire(),
                            self.client_address)
        self.port = free_port()
        self.server = socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, query):
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        for type_ in {kind, "CNAME"}:
            values = self.records.get((name, type_))
            if values:
                reply.answer.append(dns.rrset.from_text(question.name, 300, "IN", type_, *values))
        if name in self.failing:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif not any(n == name for n, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Doctor(unittest.TestCase):
    def examine(self, zone=GOOD, *words, certificate="mx.example.org", more_servers="",
                **settings):
        """Exit code and output."""
        server = self.enterContext(NameServer(zone))
        self.config = Postern(dict({
            "dns_servers": "127.0.0.1:%d%s" % (server.port, more_servers), "dns_timeout": "2s",
            "proxy_interfaces": "192.0.2.1 2001:db8::1"}, **settings))
        self.addCleanup(shutil.rmtree, self.config.dir)
        if certificate:
            make_certificate(self.config.dir, certificate, kind="ec")
            self.config.write_config(smtpd_tls_cert_file="cert.pem", smtpd_tls_key_file="cert.key")
        for name in ("spool", "mail"):
            (self.config.dir / name).mkdir()
        result = subprocess.run([BINARY, "doctor", "-c", str(self.config.dir / "main.cf"), *words],
                                capture_output=True, text=True, timeout=100)
        return result.returncode, result.stdout + result.stderr

    def expect(self, pattern, zone=GOOD, *words, code=1, **settings):
        """The finding is there, with why and what to do behind it."""
        got, text = self.examine(zone, *words, **settings)
        word = "BAD " if code else "warn"
        self.assertRegex(text, r"(?m)^  %s  .*%s.*\n        why: .+\n        do:  .+" % (word, pattern))
        self.assertEqual(got, code, text)
        return text

    def without(self, start, more=""):
        lines = [line for line in GOOD.splitlines() if not line.startswith(start)]
        self.assertLess(len(lines), len(GOOD.splitlines()))
        return "\n".join(lines) + "\n" + more

    def test_all_is_well(self):
        code, text = self.examine(smtpd_client_restrictions="reject_rbl_client bl.test=127.0.0.2",
                                  smtpd_connection_limit="100")
        self.assertEqual(code, 0, text)
        self.assertNotRegex(text, r"(?m)^  (BAD|warn)  (?!(queue_directory|virtual_mailbox_base))")
        for word in ("192.0.2.1 is mx.example.org, there and back",
                     "2001:db8::1 is mx.example.org, there and back", "leads to this host",
                     "SPF record of example.org is valid: fail", "bl.test passes its self-test",
                     "postmaster@example.org goes to", "good for"):
            self.assertIn(word, text)
        self.assertRegex(text, r"0 bad, \d+ warnings, \d+ well")

    def test_mx(self):
        for pattern, zone in (
                ("MX mx.example.org is a CNAME",
                 self.without("mx.example.org", "mx.example.org CNAME host.example.org.\n"
                              "host.example.org A 192.0.2.1")),
                ("MX 192.0.2.1", self.without("example.org MX", "example.org MX 5 192.0.2.1.")),
                (r"MX \.", self.without("example.org MX", "example.org MX 0 .")),
                ("MX gone.example.org has no address",
                 GOOD + "example.org MX 20 gone.example.org."),
                ("MX of example.org could not be asked for",
                 self.without("example.org MX", "example.org SERVFAIL"))):
            with self.subTest(pattern=pattern):
                self.expect(pattern, zone)

    def test_no_mx_is_a_warning(self):
        self.expect("example.org has no MX", self.without("example.org MX",
                                                          "example.org A 192.0.2.1"), code=0)

    def test_an_mx_that_is_somebody_else(self):
        self.expect("no MX of example.org is this host", code=0, proxy_interfaces="")

    def test_ptr(self):
        self.expect("192.0.2.1 has no PTR", self.without("1.2.0.192"))
        self.expect("2001:db8::1 has no PTR", self.without("1.0.0.0"))
        self.expect("192.0.2.1 is named other.test, but", self.without(
            "1.2.0.192", "1.2.0.192.in-addr.arpa PTR other.test."))

    def test_host_name(self):
        self.expect("nowhere.example.org has no address", myhostname="nowhere.example.org",
                    smtpd_banner="nowhere.example.org ESMTP")
        self.expect("no full host name", myhostname="short", smtpd_banner="short ESMTP")

    def test_spf(self):
        self.expect("SPF record of example.org is invalid",
                    self.without("example.org TXT", 'example.org TXT "v=spf1 nonsense -all"'))
        self.expect("SPF record of example.org is invalid", GOOD
                    + 'example.org TXT "v=spf1 -all"')
        self.expect("lets everybody send",
                    self.without("example.org TXT", 'example.org TXT "v=spf1 +all"'), code=0)
        self.expect("has no SPF", self.without("example.org TXT"), code=0)

    def test_postmaster(self):
        self.expect("postmaster@example.org cannot be delivered",
                    virtual_alias_maps="inline:{postmaster@example.org=nobody@example.org}")
        self.expect("elsewhere.test is none of our domains", GOOD, "elsewhere.test")

    def test_certificate(self):
        self.expect("does not name mx.example.org", certificate="other.test", code=0)
        self.expect("there is none", certificate=None, code=0)

    def test_resolver(self):
        self.expect("finds addresses for names", GOOD + "postern-doctor.invalid A 192.0.2.9")
        self.expect("it does not answer", GOOD + "postern-doctor.invalid SERVFAIL")
        text = self.expect("8.8.8.8 is a public resolver", more_servers=" 8.8.8.8",
                           smtpd_client_restrictions="reject_rbl_client bl.test=127.0.0.2")
        self.assertIn("unbound", text)

    def test_lists(self):
        rule = {"smtpd_client_restrictions": "reject_rbl_client bl.test=127.0.0.2"}
        self.expect("bl.test does not have the test entry", self.without("2.0.0.127"), **rule)
        self.expect("bl.test lists what no list may", GOOD + "1.0.0.127.bl.test A 127.0.0.2",
                    **rule)
        self.expect("bl.test refuses the questions", self.without(
            "2.0.0.127", "2.0.0.127.bl.test A 127.255.255.254"), **rule)
        self.expect("bl.test does not answer", self.without(
            "2.0.0.127", "2.0.0.127.bl.test SERVFAIL"), code=0, **rule)

    def test_backend(self):
        with scratch() as path, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path / "lmtp"))
            self.expect("Connection refused", virtual_transport="lmtp:unix:%s/lmtp" % path)
            listener.listen()

            def greet():
                for text in (b"220 backend LMTP\r\n", b"500 go away\r\n"):
                    connection = listener.accept()[0]
                    connection.sendall(text)
                    connection.close()
            threading.Thread(target=greet, daemon=True).start()
            _, text = self.examine(virtual_transport="lmtp:unix:%s/lmtp" % path)
            self.assertRegex(text, "ok    lmtp:unix:.*/lmtp greets")
            self.expect("does not greet with 220", virtual_transport="lmtp:unix:%s/lmtp" % path)

    def test_the_servers_sandbox_is_shown(self):
        with Postern({"dns_servers": "127.0.0.1:1", "dns_timeout": "1s"}) as server:
            result = subprocess.run([BINARY, "doctor", "-c", str(server.dir / "main.cf")],
                                    capture_output=True, text=True, timeout=60)
            self.assertRegex(result.stdout, "sandbox: seccomp, Landlock")

    def test_words(self):
        for words in (["a b"], ["one.test", "two.test"], ["-x"]):
            code, text = self.examine(GOOD, *words)
            self.assertEqual(code, 64, text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
