"""Those who read our log: fail2ban, pflogsumm, logrotate, and programs that want JSON."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import Postern, SOURCE, scratch, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
SETTINGS = {
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_peername_lookup": "no",
    "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname",
    "smtpd_client_restrictions": "check_client_access inline:{192.0.2.66=REJECT}",
    "smtpd_recipient_restrictions": "check_recipient_access inline:{ {later@example.org = "
                                    "DEFER try later} }, warn_if_reject reject_non_fqdn_sender",
    "virtual_mailbox_maps": "inline:{ you@example.org=you/, later@example.org=later/ }",
    "smtpd_hard_error_limit": "3",
}


def talk(server):
    """What a day brings: one message, and refusals for every reason."""
    for address, helo, sender, rcpt in (
            ("192.0.2.1", "mx.client.test", "a@client.test", "you@example.org"),
            ("192.0.2.2", "mx.client.test", "a@client.test", "nobody@example.org"),
            ("192.0.2.3", "mx.client.test", "a@client.test", "x@elsewhere.test"),
            ("192.0.2.4", "short", "a@client.test", "you@example.org"),
            ("192.0.2.66", "mx.client.test", "a@client.test", "you@example.org"),
            ("192.0.2.5", "mx.client.test", "a@client.test", "later@example.org"),
            ("192.0.2.6", "mx.client.test", "nodomain", "you@example.org")):
        with server.connect() as smtp:
            smtp.command("EHLO " + helo)
            smtp.command("XCLIENT ADDR=%s NAME=host.client.test" % address)
            smtp.command("EHLO " + helo)
            smtp.command("MAIL FROM:<%s>" % sender)
            if smtp.command("RCPT TO:<%s>" % rcpt).code == 250:
                smtp.command("DATA")
                smtp.send(MESSAGE + b".\r\n")
                smtp.reply()
            smtp.command("QUIT")
    with server.connect() as smtp:
        smtp.command("EHLO mx.client.test")
        smtp.command("XCLIENT ADDR=192.0.2.7 NAME=host.client.test")
        for _ in range(4):
            smtp.command("NONSENSE")
    return wait_for(lambda: re.search("too many errors after .* from .*192.0.2.7",
                                      server.log()) and server.log(), "all lines")


class Readers(unittest.TestCase):
    def log(self, **settings):
        server = self.enterContext(Postern(dict(SETTINGS, **settings)))
        self.dir = server.dir
        return talk(server)

    @unittest.skipUnless(shutil.which("fail2ban-regex"), "fail2ban is not installed")
    def banned(self, name, filter_name):
        """The addresses that fail2ban would count, in the log of that syslog_name."""
        self.log(syslog_name=name)
        config = self.enterContext(scratch()) / "fail2ban"
        shutil.copytree("/etc/fail2ban", config)
        shutil.copy(SOURCE / "contrib/fail2ban/postern.conf", config / "filter.d")
        result = subprocess.run(
            ["fail2ban-regex", "-c", str(config), "-o", "ip", str(self.dir / "log"), filter_name],
            capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        return sorted(set(result.stdout.split()))

    # not those who were put off (192.0.2.5), nor who was only warned about (192.0.2.6)
    BAD = ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.66", "192.0.2.7"]

    def test_fail2ban(self):
        self.assertEqual(self.banned("postern", "postern[mode=more]"), self.BAD)

    def test_fail2bans_stock_filter(self):
        self.assertEqual(self.banned("postfix", "postfix[mode=more]"), self.BAD)

    @unittest.skipUnless(shutil.which("pflogsumm"), "pflogsumm is not installed")
    def test_pflogsumm(self):
        for name, options in (("postern", ["--syslog-name=postern"]), ("postfix", [])):
            log = self.log(syslog_name=name)
            result = subprocess.run(["pflogsumm", *options, "-"], input=log, text=True,
                                    capture_output=True, timeout=60)
            self.assertEqual(result.returncode, 0, result.stderr)
            for number, what in ((2, "received"), (2, "delivered"), (5, r"rejected \(\d+%\)"),
                                 (1, "reject warnings")):
                self.assertRegex(result.stdout, r"(?m)^ +%d +%s" % (number, what))
            self.assertRegex(result.stdout, r"(?m)^ +2 .*you@example\.org")

    @unittest.skipUnless(shutil.which("logrotate", path="/usr/sbin"), "logrotate is not installed")
    def test_logrotate(self):
        path = self.enterContext(scratch())
        text = (SOURCE / "contrib/logrotate/postern").read_text()
        text = text.replace("/var/log/postern", str(path)).replace("create 0640 postern adm", "create")
        (path / "conf").write_text(text)
        (path / "mail.log").write_text("a line\n")
        result = subprocess.run(["/usr/sbin/logrotate", "-f", "-s", path / "state", path / "conf"],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual((path / "mail.log.1").read_text(), "a line\n")


class Json(unittest.TestCase):
    def lines(self, **settings):
        server = self.enterContext(Postern(dict(SETTINGS, log_format="json", **settings)))
        return server, [json.loads(line) for line in talk(server).splitlines()]

    def test_the_same_events_in_the_same_words(self):
        plain = talk(self.enterContext(Postern(SETTINGS)))
        _, lines = self.lines()

        def common(texts):  # ids, ports, paths and times differ
            return sorted(re.sub(  # and loops write when they have a moment
                r"[0-9A-Z]{10,}|\d\.\d\d|/tmp/\S+|127\.0\.0\.1:\d+|@\S+>$", "#", text)
                for text in texts)
        texts = [re.sub(r"^.*?postern/(\w+)\[\d+\]: ", r"\1 ", line) for line in plain.splitlines()]
        self.assertEqual(common(texts),
                         common(line["component"] + " " + line["text"] for line in lines))

    def test_members(self):
        _, lines = self.lines()
        rejects = {line["client_address"]: line for line in lines if line.get("event") == "reject"}
        self.assertEqual({key: rejects["192.0.2.2"][key] for key in (
            "queue_id", "command", "client_name", "code", "dsn", "from", "to", "proto", "helo")}, {
            "queue_id": "NOQUEUE", "command": "RCPT", "client_name": "host.client.test",
            "code": "550", "dsn": "5.1.1", "from": "a@client.test", "to": "nobody@example.org",
            "proto": "ESMTP", "helo": "mx.client.test"})
        self.assertEqual(sorted(rejects), ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5",
                                           "192.0.2.66"])
        (warned,) = [line for line in lines if line.get("event") == "reject_warning"]
        self.assertEqual(warned["from"], "nodomain")
        sent, _ = [line for line in lines if line.get("event") == "delivery"]
        self.assertEqual((sent["to"], sent["status"], sent["dsn"]),
                         ("you@example.org", "sent", "2.0.0"))
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertEqual(line["name"], "postern")

    def test_nobody_forges_a_member(self):
        server, _ = self.lines()
        evil = '\\", \\"code\\": 250; to=<you@example.org>\xe9\x01"'
        with server.connect() as smtp:
            smtp.command(b"EHLO " + evil.encode("latin-1"))
            smtp.command('MAIL FROM:<"a; to=<b> \\"x"@client.test>')
            smtp.command("RCPT TO:<nobody@example.org>")
            smtp.command("QUIT")
        wait_for(lambda: server.log().count("nobody@example.org") >= 2, "its line")
        lines = [json.loads(line) for line in server.log().splitlines()]
        line = [line for line in lines if line.get("event") == "reject"][-1]
        self.assertEqual((line["to"], line["code"][0]), ("nobody@example.org", "5"))

    def test_the_format_changes_with_a_reload(self):
        server = self.enterContext(Postern())
        server.write_config(log_format="json")
        server.reload()
        server.banner()
        wait_for(lambda: "connect from" in server.log(), "a line")
        last = server.log().splitlines()[-1]
        self.assertIn("client_address", json.loads(last))


if __name__ == "__main__":
    unittest.main(verbosity=2)
