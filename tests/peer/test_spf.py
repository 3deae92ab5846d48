"""SPF through the real server, with zones in a real DNS server (nsd)."""
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import time
import unittest

import dns.exception
import dns.message
import dns.query

from harness import Postern, free_port, postern, scratch, wait_for

NSD = shutil.which("nsd", path="/usr/sbin:/usr/bin")
MESSAGE = b"Subject: x\r\n\r\ntext\r\n"

ZONES = {
    "test": r"""
pass      TXT "v=spf1 ip4:192.0.2.10 ip6:2001:db8::/32 -all"
fail      TXT "v=spf1 -all exp=why.fail.test"
why.fail  TXT "%{i} is not one of ours,%_says %{d}"
soft      TXT "v=spf1 ~all"
two       TXT "v=spf1 -all"
two       TXT "v=spf1 +all"
temp      TXT "v=spf1 include:elsewhere.example +all"
split     TXT "v=spf1 ip4:192." "0.2.10 -all"
alias     CNAME pass
joined    TXT "v=spf1 redirect=alias.test"
mx        TXT "v=spf1 mx -all"
mx        MX 10 a.mx
mx        MX 20 b.mx
mx        MX 30 gone.mx
a.mx      A 192.0.2.99
b.mx      A 192.0.2.10
b.mx      AAAA 2001:db8::10
ptr       TXT "v=spf1 ptr -all"
host.ptr  A 192.0.2.10
user      TXT "v=spf1 exists:%{ir}.%{l}._spf.%{d} -all"
10.2.0.192.anna._spf.user A 127.0.0.2
killer    TXT "v=spf1 -all exp=x.killer.test"
x.killer  TXT {killer}
long      TXT {long}
longer    TXT {longer}
tree      TXT "v=spf1 include:0.%{d} include:1.%{d} include:2.%{d} -all"
*.tree    TXT "v=spf1 include:0.%{d} include:1.%{d} include:2.%{d} -all"
pool      TXT "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 -all"
mx.client TXT "v=spf1 ip4:192.0.2.10 -all"
""",
    "2.0.192.in-addr.arpa": "10 PTR other.example.\n10 PTR host.ptr.test.\n",
}


def strings(text):
    return "( " + " ".join('"%s"' % text[i:i + 255] for i in range(0, len(text), 255)) + " )"


def nets(count):
    return "v=spf1 " + "".join("ip4:198.18.%d.0/24 " % i for i in range(count))


BIG = {"{killer}": strings("%{i}" * 127 + "ABCDEFGH"),
       "{long}": strings(nets(40) + "ip4:192.0.2.10 -all"),      # over 512 bytes
       "{longer}": strings(nets(250) + "ip4:192.0.2.10 -all")}   # over any UDP packet


class Nsd:
    """nsd for ZONES, on a port of its own."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.port = free_port()
        self.dir.chmod(0o755)
        config = ['server:', ' ip-address: 127.0.0.1@%d' % self.port, ' username: ""',
                  ' chroot: ""', ' zonesdir: "%s"' % self.dir, ' database: ""',
                  ' pidfile: "%s/pid"' % self.dir, ' xfrdfile: "%s/xfrd"' % self.dir,
                  ' zonelistfile: "%s/list"' % self.dir, ' cookie-secret-file: ""',
                  ' server-count: 1', 'remote-control:', ' control-enable: no']
        for number, (name, records) in enumerate(ZONES.items()):
            for word, text in BIG.items():
                records = records.replace(word, text)
            (self.dir / ("zone%d" % number)).write_text(
                "$ORIGIN %s.\n$TTL 300\n@ SOA ns root 1 3600 600 86400 300\n@ NS ns.test.\n%s"
                % (name, records))
            config += ['zone:', ' name: "%s"' % name, ' zonefile: "zone%d"' % number]
        (self.dir / "nsd.conf").write_text("\n".join(config) + "\n")
        self.log = open(self.dir / "nsd.log", "wb")
        self.process = subprocess.Popen([NSD, "-d", "-c", str(self.dir / "nsd.conf")],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(self.answers, "nsd does not answer")

    def answers(self):
        assert self.process.poll() is None, (self.dir / "nsd.log").read_text()
        query = dns.message.make_query("pass.test", "TXT")
        try:
            return dns.query.udp(query, "127.0.0.1", 0.5, self.port).answer
        except (dns.exception.DNSException, OSError):
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


@unittest.skipUnless(NSD, "nsd is not installed")
class SpfTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nsd = Nsd(cls.enterClassContext(scratch()))
        cls.addClassCleanup(cls.nsd.stop)

    def start(self, **settings):
        server = Postern({
            "dns_servers": "127.0.0.1:%d" % self.nsd.port,
            "smtpd_authorized_xclient_hosts": "127.0.0.1", "smtpd_peername_lookup": "no",
            "smtpd_recipient_restrictions": "check_spf",
            "smtpd_hard_error_limit": "1000", "smtpd_soft_error_limit": "1000", **settings})
        return self.enterContext(server)

    def client(self, server, address="192.0.2.10", helo="unknown.test"):
        smtp = self.enterContext(server.connect())
        if address:
            v6 = "IPV6:" if ":" in address else ""
            reply = smtp.command("XCLIENT NAME=[UNAVAILABLE] ADDR=" + v6 + address)
            self.assertEqual(reply.code, 220, reply)
        smtp.command("EHLO " + helo)
        return smtp

    def send(self, server, sender, message=MESSAGE, **client):
        """A whole message; what stands above its Received:."""
        before = set(server.files("you"))
        reply = self.client(server, **client).message(message, sender=sender)
        self.assertEqual(reply.code, 250, reply)
        (path,) = set(server.files("you")) - before
        mail = path.read_bytes()
        return mail[:mail.index(b"\r\nReceived: ")].decode(), mail

    def result(self, server, sender, **client):
        head, _ = self.send(server, sender, **client)
        return re.search(r"^\tspf=(\w+)", head, re.M).group(1)

    def rcpt(self, server, sender, **client):
        smtp = self.client(server, **client)
        smtp.command("MAIL FROM:<%s>" % sender)
        return smtp.command("RCPT TO:<you@example.org>")


class Annotation(SpfTest):
    def test_results(self):
        server = self.start()
        for sender, wanted in (("a@pass.test", "pass"), ("a@fail.test", "fail"),
                               ("a@soft.test", "softfail"), ("a@two.test", "permerror"),
                               ("a@temp.test", "temperror"), ("a@none.test", "none"),
                               ("a@elsewhere.example", "temperror"), ("a@split.test", "pass"),
                               ("a@alias.test", "pass"), ("a@joined.test", "pass"),
                               ("a@mx.test", "pass"), ("a@ptr.test", "pass"),
                               ("anna@user.test", "pass"), ("bert@user.test", "fail"),
                               ("a@tree.test", "permerror"), ("a@killer.test", "fail")):
            with self.subTest(sender):
                self.assertEqual(self.result(server, sender), wanted)

    def test_over_ipv6(self):
        server = self.start()
        for sender, wanted in (("a@pass.test", "pass"), ("a@mx.test", "pass"),
                               ("a@ptr.test", "fail")):
            with self.subTest(sender):
                self.assertEqual(self.result(server, sender, address="2001:db8::10"), wanted)

    def test_long_records_come_over_tcp(self):
        server = self.start()
        for name in ("long", "longer"):
            for address, wanted in (("192.0.2.10", "pass"), ("192.0.2.11", "fail")):
                self.assertEqual(self.result(server, "a@%s.test" % name, address=address), wanted)

    def test_headers_stand_above_the_forged_ones(self):
        server = self.start()
        head, mail = self.send(
            server, "a@pass.test", helo="mx.client.test", message=(
                b"Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=bank.test\r\n"
                b"Authentication-Results:\r\n (x) MX.example.org;\r\n dkim=pass\r\n"
                b"Authentication-Results: other.test; dkim=pass\r\n" + MESSAGE))
        self.assertIn("\r\nAuthentication-Results: mx.example.org;\r\n"
                      "\tspf=pass smtp.mailfrom=a@pass.test;\r\n"
                      "\tspf=pass smtp.helo=mx.client.test;\r\n"
                      "\tiprev=permerror policy.iprev=192.0.2.10\r\n"
                      "Received-SPF: pass (mx.example.org: domain pass.test designates "
                      "192.0.2.10 as permitted sender)\r\n", head)
        self.assertEqual(head.count("Received-SPF:"), 2)
        self.assertEqual(re.findall(rb"^Authentication-Results: (\S+);", mail, re.M),
                         [b"mx.example.org", b"other.test"])
        self.assertNotIn(b"bank.test", mail)

    def test_a_local_client_is_not_looked_up(self):
        server = self.start()
        self.assertEqual(self.result(server, "a@fail.test", address=None), "none")

    def test_many_at_once(self):
        server = self.start()
        senders = ["a@mx.test", "a@longer.test", "a@ptr.test", "anna@user.test"] * 10
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            def one(sender):
                smtp = self.client(server)
                return smtp.message(b"X: " + sender.encode() + b"\r\n\r\n", sender=sender)
            replies = list(pool.map(one, senders))
        self.assertEqual({reply.code for reply in replies}, {250})
        mails = server.mails("you")
        self.assertEqual(len(mails), len(senders))
        for mail in mails:
            self.assertIn(b"\tspf=pass ", mail)


class Refusal(SpfTest):
    def test_refusals(self):
        server = self.start(smtpd_recipient_restrictions="reject_spf_fail, reject_spf_softfail,"
                            " reject_spf_permerror, defer_spf_temperror")
        for sender, wanted in (
                ("a@pass.test", "250 2.1.5 Ok"),
                ("a@fail.test", "550 5.7.23 <a@fail.test>: Sender address rejected: SPF fail: "
                 "192.0.2.10 may not send for fail.test; that domain explains: "
                 "192.0.2.10 is not one of ours, says fail.test"),
                ("a@soft.test", "550 5.7.1 <a@soft.test>: Sender address rejected: SPF softfail: "
                 "192.0.2.10 should not send for soft.test"),
                ("a@two.test", "550 5.7.24 <a@two.test>: Sender address rejected: SPF record of "
                 "two.test cannot be used: more than one SPF record"),
                ("a@temp.test", "451 4.7.24 <a@temp.test>: Sender address rejected: SPF record "
                 "of temp.test: the SPF record could not be looked up"),
                ("a@none.test", "250 2.1.5 Ok")):
            with self.subTest(sender):
                self.assertEqual(self.rcpt(server, sender).lines, [wanted])

    def test_an_explanation_made_to_kill_is_only_long(self):
        server = self.start(smtpd_recipient_restrictions="reject_spf_fail")
        reply = self.rcpt(server, "a@killer.test")
        self.assertRegex(reply.lines[0], "^550 5.7.23 .*that domain explains: (192.0.2.10){20}")
        self.assertLessEqual(len(reply.lines[0]), 510)
        self.assertEqual(self.rcpt(server, "a@pass.test").code, 250)

    def test_the_helo_name_counts_too(self):
        server = self.start(smtpd_recipient_restrictions="reject_spf_fail")
        for sender in ("", "a@none.test"):
            self.assertEqual(self.rcpt(server, sender, helo="mx.client.test").code, 250)
            reply = self.rcpt(server, sender, helo="mx.client.test", address="192.0.2.11")
            self.assertEqual(reply.lines, [
                "550 5.7.23 <mx.client.test>: Helo command rejected: SPF fail: 192.0.2.11 "
                "may not send for mx.client.test"])

    def test_explain_tells_the_facts_and_the_result(self):
        server = self.start(smtpd_recipient_restrictions="reject_spf_fail")
        done = postern("explain", "-c", str(server.dir / "main.cf"), "--client", "192.0.2.11",
                       "--helo", "x", "--from", "a@mx.test", "--to", "you@example.org",
                       env=dict(server.env, ASAN_OPTIONS="detect_leaks=0"))
        self.assertEqual(done.returncode, 1, done.stderr)
        for words in ('TXT mx.test = "v=spf1 mx -all"', "A b.mx.test = 192.0.2.10",
                      "spf mailfrom mx.test = fail", "decided by: reject_spf_fail"):
            self.assertIn(words, done.stdout)


class Greylist(SpfTest):
    def test_a_pool_is_one_client(self):
        """The second try comes from another network of the domain."""
        server = self.start(smtpd_recipient_restrictions="check_greylist", greylist_delay="1s")
        wait_for(lambda: self.rcpt(server, "warm@soft.test").code == 450, "no greylist")
        self.assertEqual(self.rcpt(server, "a@pool.test", address="198.51.100.7").code, 450)
        self.assertEqual(self.rcpt(server, "a@soft.test", address="198.51.100.7").code, 450)
        time.sleep(1.2)
        self.assertEqual(self.rcpt(server, "a@pool.test", address="203.0.113.7").code, 250)
        self.assertEqual(self.rcpt(server, "a@soft.test", address="203.0.113.7").code, 450)
        self.assertEqual(self.rcpt(server, "a@pool.test", address="192.0.2.10").code, 450)


if __name__ == "__main__":
    unittest.main(verbosity=2)
