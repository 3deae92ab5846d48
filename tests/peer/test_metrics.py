"""GET /metrics: the figures are those of what was done, and nobody can lean on it."""
import http.client
import os
import pathlib
import re
import socket
import time
import unittest

import test_greylist
from harness import Postern, free_port, make_certificate, scratch, wait_for
from oracle.dns_double import DnsDouble, error, question
from test_dns_faults import address, packet, record

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
LINE = re.compile(r'^([a-z0-9_]+)(\{([a-z_]+="[^"]*",?)*\})? (-?\d+(\.\d+)?(e-?\d+)?)$')


class Metrics(unittest.TestCase):
    def start(self, **settings):
        self.port = free_port()
        return self.enterContext(Postern(dict(
            {"metrics_listen": "127.0.0.1:%d" % self.port, "event_loops": "3",
             "smtpd_peername_lookup": "no",
             "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname"}, **settings)))

    def get(self, path="/metrics", method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def values(self):
        status, body = self.get()
        self.assertEqual(status, 200)
        values, described = {}, set()
        for line in body.splitlines():
            if line.startswith("# TYPE "):
                described.add(line.split()[2])
            if line.startswith("#"):
                continue
            match = LINE.match(line)
            self.assertIsNotNone(match, line)
            name = match.group(1)
            self.assertTrue(name.startswith("postern_"), line)
            self.assertTrue({name, re.sub("_(bucket|sum|count)$", "", name)} & described, line)
            values[name + (match.group(2) or "")] = float(match.group(4))
        return values

    def test_what_was_done_is_counted_over_all_loops(self):
        server = self.start(smtpd_recipient_restrictions="warn_if_reject reject_non_fqdn_sender")
        for _ in range(20):
            with server.connect() as smtp:
                smtp.command("EHLO mx.client.test")
                self.assertEqual(smtp.message(MESSAGE).code, 250)
                smtp.command("QUIT")
        for helo, rcpt in (("short", "you"), ("mx.client.test", "nobody")) * 3:
            with server.connect() as smtp:
                smtp.commands("EHLO " + helo, "MAIL FROM:<plain>", "RCPT TO:<%s@example.org>" % rcpt,
                              "QUIT")
        held = self.enterContext(server.connect())
        held.command("EHLO mx.client.test")
        values = wait_for(lambda: (v := self.values())[
            "postern_connections_active"] == 1 and v, "one that is left")
        for name, value in (
                ('connections_total{outcome="accepted"}', 27),
                ("messages_accepted_total", 20),
                ('commands_total{verb="QUIT",code="2xx"}', 26),
                ('commands_total{verb="DATA",code="2xx"}', 20),
                ('commands_total{verb="RCPT",code="2xx"}', 20),
                ('commands_total{verb="RCPT",code="5xx"}', 6),
                ('rcpt_total{verdict="permit",reason="none"}', 20),
                ('rcpt_total{verdict="reject",reason="reject_non_fqdn_helo_hostname"}', 3),
                ('delivery_total{transport="virtual",status="sent"}', 20),
                ("message_size_bytes_count", 20),
                ("message_size_bytes_sum", 20 * len(MESSAGE)),
                ('warn_only_total{reason="reject_non_fqdn_sender"}', 3),
                ("delivery_seconds_count", 20),
                ('delivery_seconds_bucket{le="10"}', 20),
                ('greylist_total{result="wait"}', 0),
                ('spf_total{result="fail"}', 0),
                ("config_last_reload_successful", 1),
                ('queue_messages{state="waiting"}', 0)):
            self.assertEqual(values.get("postern_" + name), value, name)
        self.assertTrue(0 < values["postern_delivery_seconds_sum"] < 200)

    def test_what_the_dns_said(self):
        """One client for each sender; all loops; a list is summed over them."""
        def answer(query, is_tcp):
            name, kind = question(query)
            if name.endswith(".bl.test"):
                return address(query, "127.0.0.2", ttl=0) if kind == "A" else packet(query)
            if name.endswith(".odd.test"):
                return address(query, "127.255.255.254", ttl=0) if kind == "A" else packet(query)
            if name.endswith((".dead.test", "servfail.test")):
                return error(query, 2)
            if name == "silence.test":
                return None
            if name == "pass.test" and kind == "TXT":
                text = b"v=spf1 ip4:192.0.2.10 -all"
                return packet(query, record("TXT", bytes([len(text)]) + text, 0), 1)
            return packet(query, rcode=3)

        double = DnsDouble(("127.0.0.1", free_port()), answer)
        self.addCleanup(double.close)
        server = self.start(
            dns_servers="127.0.0.1:%d" % double.address[1], dns_list_guard="no",
            dns_timeout="1s", dns_retry_time="1s", smtpd_authorized_xclient_hosts="127.0.0.1",
            smtpd_recipient_restrictions="warn_if_reject reject_rbl_client bl.test, "
            "warn_if_reject reject_rbl_client odd.test, reject_rbl_client dead.test, "
            "reject_rbl_client clean.test=127.0.0.9, check_spf")
        for sender in ("pass", "pass", "pass", "pass", "none", "servfail", "silence"):
            with server.connect() as smtp:
                smtp.command("XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.10")
                smtp.command("EHLO mx.client.test")
                smtp.command("MAIL FROM:<a@%s.test>" % sender)
                self.assertEqual(smtp.command("RCPT TO:<you@example.org>").code, 250)
        wait_for(lambda: self.values().get('postern_dns_queries_total{type="TXT",rcode="none"}'),
                 "the resolver's silence")
        values = self.values()
        for name, value in (
                ('dnslist_answers_total{list="bl.test",result="listed"}', 7),
                ('dnslist_answers_total{list="bl.test",result="not_listed"}', 0),
                ('dnslist_answers_total{list="odd.test",result="error"}', 7),
                ('dnslist_answers_total{list="dead.test",result="failed"}', 7),
                ('dnslist_answers_total{list="clean.test",result="not_listed"}', 7),
                ('warn_only_total{reason="reject_rbl_client"}', 14),
                ('spf_total{result="pass"}', 4),
                ('spf_total{result="none"}', 1),
                ('spf_total{result="temperror"}', 2)):
            self.assertEqual(values.get("postern_" + name), value, name)
        for kind, rcode in (("A", "NOERROR"), ("A", "NXDOMAIN"), ("A", "SERVFAIL"),
                            ("TXT", "NOERROR"), ("TXT", "NXDOMAIN"), ("TXT", "SERVFAIL")):
            name = 'postern_dns_queries_total{type="%s",rcode="%s"}' % (kind, rcode)
            self.assertGreater(values.get(name, 0), 0, name)
        queries = sum(v for k, v in values.items() if k.startswith("postern_dns_queries_total"))
        self.assertEqual(values["postern_dns_seconds_count"], queries)
        self.assertGreater(values["postern_dns_seconds_sum"], 0.5)
        self.assertLess(values['postern_dns_seconds_bucket{le="0.5"}'], queries)

    @unittest.skipUnless(test_greylist.FAKETIME, "libfaketime is not installed")
    def test_how_long_the_greylist_made_them_wait(self):
        clock = test_greylist.Clock(self.enterContext(scratch()))
        self.port = free_port()
        server = self.enterContext(Postern(dict(
            test_greylist.SETTINGS, metrics_listen="127.0.0.1:%d" % self.port), env=clock.env))

        def rcpt():
            with server.connect() as smtp:
                smtp.command("XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7")
                smtp.commands("EHLO client.test", "MAIL FROM:<a@client.test>")
                return smtp.command("RCPT TO:<you@example.org>").code

        wait_for(lambda: rcpt() == 450, "the store")
        wait_for(lambda: self.values().get('postern_commands_total{verb="RCPT",code="4xx"}') == 1,
                 "the end of the session that has to wait")
        clock.pass_time(400)
        self.assertEqual([rcpt(), rcpt()], [250, 250])
        values = self.values()
        for name, value in (('greylist_total{result="wait"}', 1),
                            ('greylist_total{result="first"}', 1),
                            ('greylist_total{result="pass"}', 1),
                            ("greylist_delay_seconds_count", 1),
                            ('greylist_delay_seconds_bucket{le="300"}', 0),
                            ('greylist_delay_seconds_bucket{le="600"}', 1)):
            self.assertEqual(values.get("postern_" + name), value, name)
        self.assertTrue(400 <= values["postern_greylist_delay_seconds_sum"] <= 401)

    def test_tls_and_the_certificate(self):
        certs = self.enterContext(scratch())
        make_certificate(certs)
        server = self.start(smtpd_tls_cert_file=certs / "cert.pem",
                            smtpd_tls_key_file=certs / "cert.key")
        with server.connect() as smtp:
            smtp.command("EHLO mx.client.test")
            smtp.starttls()
        values = wait_for(lambda: (v := self.values()).get(
            'postern_tls_connections_total{version="TLSv1.3"}') == 1 and v, "a TLS session")
        days = (values["postern_tls_certificate_expiry_timestamp_seconds"] - time.time()) / 86400
        self.assertTrue(3640 < days < 3660, days)

    def test_a_bad_reload_shows(self):
        server = self.start()
        server.write_config(smtpd_recipient_limit="many")
        server.reload()
        self.assertEqual(self.values()["postern_config_last_reload_successful"], 0)
        server.write_config(smtpd_recipient_limit="10")
        server.reload()
        self.assertEqual(self.values()["postern_config_last_reload_successful"], 1)

    def test_only_that_page_only_to_be_read(self):
        self.start()
        self.assertEqual(self.get("/")[0], 404)
        self.assertEqual(self.get("/metrics/../etc/passwd")[0], 404)
        self.assertEqual(self.get(method="HEAD")[0], 200)
        self.assertIn(self.get(method="POST")[0], (404, 405, 501))

    def test_nobody_leans_on_it(self):
        server = self.start()
        silent = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(50)]
        loud = self.enterContext(socket.create_connection(("127.0.0.1", self.port)))
        loud.settimeout(15)
        try:
            for _ in range(100):
                loud.sendall(b"GET /" + b"x" * 8000)
        except OSError:
            pass
        self.assertGreater(len(self.values()), 10)
        self.assertEqual(server.banner().code, 220)
        for one in silent:
            one.settimeout(15)
            self.assertIn(one.recv(100)[:12], (b"", b"HTTP/1.1 400", b"HTTP/1.1 408"))
            one.close()

    def test_without_the_parameter_there_is_none(self):
        server = self.enterContext(Postern())
        text = pathlib.Path("/proc/%d/net/tcp" % server.process.pid).read_text()
        self.assertIn(":%04X " % server.port, text)
        self.assertEqual(server.log().count("metrics"), 0)

    def test_a_port_that_is_taken_stops_the_start(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = Postern({"metrics_listen": "127.0.0.1:%d" % taken.getsockname()[1]})
            server.start(wait=False)
            self.assertEqual(server.process.wait(10), 69)
            self.assertIn("metrics_listen", server.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
