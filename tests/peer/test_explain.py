"""postern explain: the decision of the server, rule by rule, for a client that does not exist. The
last test has a server refuse somebody, and explains the line of its log."""
import os
import pathlib
import tempfile
import unittest

from harness import Postern, postern, wait_for

CONF = {
    "myhostname": "mx.example.org",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "virtual_mailbox_domains": "example.org",
    "virtual_mailbox_maps": "inline:{you@example.org=you/}",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "smtpd_client_restrictions": "reject_rbl_client bl.test=127.0.0.2",
    "smtpd_sender_restrictions": "reject_unknown_sender_domain",
    "smtpd_recipient_restrictions": "check_recipient_access inline:{you@example.org=DUNNO}",
}
ENV = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")  # it leaves that to the kernel
CLIENT = ("--client", "192.0.2.7", "--client-name", "c.test", "--helo", "h.test", "--from",
          "a@ok.test", "--to", "you@example.org")
UNLISTED = "A 7.2.0.192.bl.test = -"
LISTED = "A 7.2.0.192.bl.test = 127.0.0.2"
MX = "MX ok.test = 10 mx.ok.test"


class Explain(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.write()

    def write(self, **changes):
        lines = ["%s = %s\n" % item for item in dict(CONF, **changes).items()]
        (self.dir / "main.cf").write_text("".join(lines))

    def explain(self, *args, facts=(), offline=True, stdin=None):
        words = [w for fact in facts for w in ("--fact", fact)]
        return postern("explain", "-c", str(self.dir / "main.cf"), *args, *words,
                       *(("--offline",) if offline else ()), env=ENV, input=stdin)

    def decide(self, code, reply, *args, **kwargs):
        """The output, when exit code and last line are these."""
        done = self.explain(*(args or CLIENT), **kwargs)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "reply: " + reply)
        return done.stdout


class Decisions(Explain):
    def test_accepted(self):
        out = self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, MX))
        self.assertIn("goes to: you@example.org by virtual, you/", out)
        self.assertNotIn("decided by", out)

    def test_every_rule_in_order_with_its_facts(self):
        out = self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, MX))
        words = ["RCPT", "smtpd_client_restrictions", "reject_rbl_client bl.test=127.0.0.2",
                 "A 7.2.0.192.bl.test = -   (given)", "smtpd_sender_restrictions",
                 "reject_unknown_sender_domain", "MX ok.test = 10 mx.ok.test   (given)",
                 "smtpd_relay_restrictions", "reject_unauth_destination",
                 "smtpd_recipient_restrictions", "check_recipient_access inline:",
                 "you@example.org = DUNNO   (table)", "unlisted recipient", "reply:"]
        at = 0
        for word in words:
            found = out.find(word, at)
            self.assertGreaterEqual(found, at, word + " in\n" + out)
            at = found + 1

    def test_refused(self):
        out = self.decide(1, "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked "
                             "using bl.test; why", facts=(LISTED, 'TXT 7.2.0.192.bl.test = "why"'))
        self.assertIn("decided by: reject_rbl_client", out)
        self.assertNotIn("smtpd_sender_restrictions", out, "nothing runs behind a refusal")

    def test_deferred(self):
        out = self.decide(75, "450 4.1.8 <a@ok.test>: Sender address rejected: Domain not found",
                          facts=(UNLISTED, "MX ok.test = ?"))
        self.assertIn("raised: defer_if_permit: 450 4.1.8", out)
        self.assertIn("A ok.test = ?   (not given)", out)

    def test_unknown_users_and_other_peoples_domains(self):
        for address, reply in (
                ("no@example.org", "550 5.1.1 <no@example.org>: Recipient address rejected: "
                                   "User unknown in virtual mailbox table"),
                ("u@foreign.test", "554 5.7.1 <u@foreign.test>: Relay access denied")):
            self.decide(1, reply, *CLIENT[:-1], address, facts=(UNLISTED, MX))

    def test_effects_are_told(self):
        self.write(smtpd_recipient_restrictions="check_sender_access inline:{"
                   "{ok.test=PREPEND X-A: b}}, check_helo_access inline:{h.test=HOLD}, "
                   "check_client_access inline:{{c.test=WARN look}}, warn_if_reject reject")
        out = self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, MX))
        for words in ("effect: PREPEND X-A: b", "effect: HOLD", "note: warn: ",
                      "note: reject_warning: 554 5.7.1", "warn_if_reject reject"):
            self.assertIn(words, out)

    def test_classes_show_what_is_inside(self):
        self.write(smtpd_restriction_classes="strict", strict="reject_plaintext_session, reject",
                   smtpd_recipient_restrictions="strict")
        out = self.decide(75, "450 4.7.1 Session encryption is required", facts=(UNLISTED, MX))
        self.assertRegex(out, r"\n    class .*\n        reject_plaintext_session +reject\n")

    def test_tls(self):
        self.write(smtpd_recipient_restrictions="reject_plaintext_session")
        self.decide(75, "450 4.7.1 Session encryption is required", facts=(UNLISTED, MX))
        self.decide(0, "250 2.1.5 Ok", *CLIENT, "--tls", facts=(UNLISTED, MX))

    def test_the_first_refusal_is_the_answer(self):
        """Not the 503 to the commands behind it."""
        self.decide(1, "552 5.3.4 Message size exceeds fixed limit", *CLIENT, "--size", "99999999999")
        out = self.decide(1, "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using "
                             "bl.test", *CLIENT, "--set", "smtpd_delay_reject=no", facts=(LISTED,))
        self.assertIn("CONNECT\n  smtpd_client_restrictions", out)
        self.decide(1, "501 5.1.7 Bad sender address syntax", "--client", "192.0.2.7",
                    "--client-name", "c.test", "--from", "a b", "--to", "you@example.org")

    def test_the_name_is_looked_up_unless_given(self):
        self.write(smtpd_client_restrictions="reject_unknown_client_hostname")
        args = ("--client", "192.0.2.7", *CLIENT[4:])
        ptr = "PTR 7.2.0.192.in-addr.arpa = n.test"
        out = self.decide(0, "250 2.1.5 Ok", *args, facts=(MX, ptr, "A n.test = 192.0.2.7"))
        self.assertIn("client name", out)
        for facts in ((ptr, "A n.test = 192.0.2.8"), (ptr, "A n.test = -"),
                      ("PTR 7.2.0.192.in-addr.arpa = -",)):
            self.decide(75, "450 4.7.25 Client host rejected: cannot find your hostname, "
                            "[192.0.2.7]", *args, facts=facts)
        self.decide(75, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.7]",
                    "--client", "192.0.2.7", "--client-name", "unknown", *CLIENT[4:])
        self.decide(0, "250 2.1.5 Ok", "--client", "2001:db8::7", "--client-name", "six.test",
                    *CLIENT[4:], facts=(MX,))

    def test_policy_servers_are_not_asked_but_may_be_given(self):
        self.write(smtpd_recipient_restrictions="check_policy_service inet:127.0.0.1:1")
        out = self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, MX))
        self.assertIn("(not asked)", out)
        self.decide(1, "554 5.7.1 <you@example.org>: Recipient address rejected: go",
                    facts=(UNLISTED, MX, "POLICY = REJECT go"))


class Options(Explain):
    def test_what_if(self):
        """--set wins over the file."""
        self.decide(0, "250 2.1.5 Ok", *CLIENT, "--set", "smtpd_client_restrictions=",
                    facts=(MX,))
        self.decide(1, "550 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using "
                       "bl.test", *CLIENT, "--set", "maps_rbl_reject_code = 550", facts=(LISTED,))

    def test_facts_nobody_wants_are_told(self):
        out = self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, MX, "A typo.test = 192.0.2.1"))
        self.assertEqual(out.count("nobody asked for"), 1)
        self.assertIn("nobody asked for --fact 'A typo.test = 192.0.2.1'", out)

    def test_names_are_folded(self):
        self.decide(0, "250 2.1.5 Ok", facts=(UNLISTED, "mx OK.Test = 10 mx.ok.test"))

    def test_usage(self):
        for words in ((), ("--client",), ("--client", "nobody"), ("--helo", "x"), ("--nonsense",),
                      (*CLIENT, "--fact", "A x"), (*CLIENT, "--fact", "ZZ x = y"),
                      (*CLIENT, "--log", "no such line")):
            self.assertEqual(self.explain(*words).returncode, 64, words)
        done = self.explain(*CLIENT, facts=("A 7.2.0.192.bl.test = many",))
        self.assertEqual(done.returncode, 64)
        self.assertIn("malformed value", done.stderr)

    def test_a_bad_configuration(self):
        done = self.explain(*CLIENT, "--set", "smtpd_client_restrictions=reject_everyone")
        self.assertEqual(done.returncode, 78)
        self.assertIn("unknown restriction", done.stderr)


class LogLine(Explain):
    LINE = ("Nov 14 22:13:20 mx postern/smtpd[1]: NOQUEUE: reject: RCPT from c.test[192.0.2.7]: 554 "
            "5.7.1 Service unavailable; Client host [192.0.2.7] blocked using bl.test; "
            "from=<a@ok.test> to=<you@example.org> proto=ESMTP helo=<h.test>")
    REPLY = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using bl.test"

    def test_an_argument_or_standard_input(self):
        self.decide(1, self.REPLY, "--log", self.LINE, facts=(LISTED,))
        self.decide(1, self.REPLY, "--log", "-", facts=(LISTED,), stdin=self.LINE + "\n")

    def test_options_win(self):
        self.decide(0, "250 2.1.5 Ok", "--log", self.LINE, "--client", "192.0.2.8",
                    facts=("A 8.2.0.192.bl.test = -", MX))

    def test_odd_clients(self):
        line = self.LINE.replace("c.test[192.0.2.7]:", "unknown[2001:db8::7]:")
        out = self.decide(0, "250 2.1.5 Ok", "--log", line.replace("<a@ok.test>", "<>"),
                          facts=("A " + "7." + "0." * 23 + "8.b.d.0.1.0.0.2.bl.test = -",))
        self.assertNotIn("reject_unknown_sender_domain                                 reject", out)

    def test_what_a_server_has_logged(self):
        settings = {"smtpd_sender_restrictions": "check_sender_access inline:{bad.test=REJECT}",
                    "smtpd_helo_restrictions": "reject_invalid_helo_hostname"}
        with Postern(settings) as server:
            with server.connect() as smtp:
                smtp.command("EHLO client.test")
                smtp.command("MAIL FROM:<a@bad.test>")
                reply = smtp.command("RCPT TO:<you@example.org>").lines[0]
            wait_for(lambda: "reject: RCPT" in server.log(), "no log line")
            (line,) = [li for li in server.log().splitlines() if "reject: RCPT" in li]
            done = postern("explain", "-c", str(server.dir / "main.cf"), "--offline", "--log", line,
                           env=ENV)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "reply: " + reply)
        self.assertIn("decided by: check_sender_access", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
