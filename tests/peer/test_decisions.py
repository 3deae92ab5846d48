"""Decisions are kept, and told again: by the reference in the refusal."""
import os
import re
import shutil
import subprocess
import time
import unittest

from harness import BINARY, Postern, wait_for
from test_doctor import NameServer

ZONE = """
7.2.0.192.in-addr.arpa PTR host.client.test.
host.client.test A 192.0.2.7
7.2.0.192.bl.test A 127.0.0.2
7.2.0.192.bl.test TXT "spam from here"
2.0.0.127.bl.test A 127.0.0.2
"""
SETTINGS = {
    "smtpd_authorized_xclient_hosts": "127.0.0.1", "reject_reference": "yes",
    "smtpd_recipient_restrictions": "check_sender_access regexp:{{/^odd=1@/ REJECT}} "
                                    "reject_rbl_client bl.test=127.0.0.2",
}


class Decisions(unittest.TestCase):
    def start(self, **settings):
        self.names = self.enterContext(NameServer(ZONE))
        return self.enterContext(Postern(dict(
            SETTINGS, dns_servers="127.0.0.1:%d" % self.names.port, **settings)))

    def rcpt(self, server, rcpt="you", sender="a@client.test", address="192.0.2.7"):
        with server.connect() as smtp:
            smtp.commands("EHLO helo.client.test", "XCLIENT ADDR=" + address,
                          "EHLO helo.client.test", "MAIL FROM:<%s>" % sender)
            return smtp.command("RCPT TO:<%s@example.org>" % rcpt)

    def reference(self, reply):
        return re.search(r"\(reference (D[0-9A-Z]+)\)$", reply.text).group(1)

    def explain(self, server, reference):
        def ask():
            result = subprocess.run([BINARY, "explain", "-c", str(server.dir / "main.cf"),
                                     reference], capture_output=True, text=True, timeout=60,
                                    env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
            return result.returncode != 66 and result
        return wait_for(ask, "the record")

    def test_a_refusal_is_told_again_without_the_dns(self):
        server = self.start()
        reply = self.rcpt(server)
        reference = self.reference(reply)
        server.wait_log(r"\(reference %s\); from=" % reference)
        self.names.records.clear()  # whatever is true by now does not matter
        result = self.explain(server, reference)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn("recorded rule: reject_rbl_client", result.stdout)
        self.assertIn("A 7.2.0.192.bl.test = 127.0.0.2   (recorded)", result.stdout)
        again = re.search("reply: (.*)", result.stdout).group(1)
        self.assertEqual(again, reply.lines[-1].rsplit(" (reference", 1)[0])

    def test_the_clients_name_is_what_it_was(self):
        server = self.start()
        with server.connect() as smtp:
            smtp.commands("EHLO helo.client.test", "MAIL FROM:<a@client.test>")
            reply = smtp.command("RCPT TO:<nobody@example.org>")
        result = self.explain(server, self.reference(reply))
        self.assertIn("unlisted recipient", result.stdout)
        self.assertIn(b"client_name\tlocalhost\n", (server.dir / "data/decisions").read_bytes())

    def test_each_has_its_own(self):
        server = self.start()
        replies = [self.rcpt(server, rcpt="u%d" % i, address="192.0.2.9") for i in range(20)]
        references = [self.reference(reply) for reply in replies]
        self.assertEqual(len(set(references)), 20)
        result = self.explain(server, references[7])
        self.assertIn("<u7@example.org>", result.stdout)

    def test_odd_addresses_survive(self):
        server = self.start()
        reply = self.rcpt(server, sender="odd=1@x.test", address="192.0.2.9")
        result = self.explain(server, self.reference(reply))
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("Sender address rejected", result.stdout)

    def test_accepted_ones_are_kept_too_but_not_told(self):
        server = self.start()
        reply = self.rcpt(server, address="192.0.2.9")
        self.assertEqual((reply.code, "reference" in reply.text), (250, False))
        file = server.dir / "data" / "decisions"
        wait_for(lambda: b"verdict\tpermit" in file.read_bytes(), "its record")
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_the_ring_is_bounded_and_forgets_the_oldest(self):
        server = self.start(decision_records="10", smtpd_peername_lookup="no")
        first = self.reference(self.rcpt(server, rcpt="nobody", address="192.0.2.9"))
        self.explain(server, first)
        for i in range(25):
            last = self.reference(self.rcpt(server, rcpt="n%d" % i, address="192.0.2.9"))
        self.explain(server, last)
        time.sleep(1.2)
        file = server.dir / "data" / "decisions"
        self.assertLessEqual(file.stat().st_size, 11 * 4096)
        result = subprocess.run([BINARY, "explain", "-c", str(server.dir / "main.cf"), first],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 66)

    def test_references_go_on_after_a_restart_and_a_kill(self):
        server = self.start()
        first = self.reference(self.rcpt(server))
        server.stop()
        server.start()
        self.assertIn("reject_rbl_client", self.explain(server, first).stdout)
        second = self.reference(self.rcpt(server))
        server.kill()
        server.start()
        third = self.reference(self.rcpt(server))
        self.assertEqual(len({first, second, third}), 3)

    def test_none(self):
        server = self.start(decision_records="0")
        self.assertNotIn("reference", self.rcpt(server).text)
        self.assertFalse((server.dir / "data" / "decisions").exists())

    def test_a_file_that_is_none_is_begun_anew(self):
        server = Postern(dict(SETTINGS, smtpd_peername_lookup="no"),
                         files={"data/decisions": b"rubbish" * 1000})
        self.enterContext(server)
        reference = self.reference(self.rcpt(server, rcpt="nobody", address="192.0.2.9"))
        self.assertIn("nobody@example.org", self.explain(server, reference).stdout)

    def test_words(self):
        for words in (["D12", "D13"], ["D12", "--client", "192.0.2.1"], ["d-1"]):
            result = subprocess.run([BINARY, "explain", *words], capture_output=True, timeout=60)
            self.assertEqual(result.returncode, 64, words)


if __name__ == "__main__":
    unittest.main(verbosity=2)
