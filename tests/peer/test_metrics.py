"""GET /metrics: the figures are those of what was done, and nobody can lean on it."""
import http.client
import os
import pathlib
import re
import socket
import time
import unittest

from harness import Postern, Smtp, free_port, make_certificate, scratch, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
LINE = re.compile(r'^([a-z0-9_]+)(\{([a-z_]+="[^"]*",?)*\})? (-?\d+)$')


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
            values[name + (match.group(2) or "")] = int(match.group(4))
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
                ('commands_total{verb="QUIT",result="ok"}', 26),
                ('commands_total{verb="RCPT",result="failed"}', 6),
                ('rcpt_total{verdict="permit",reason="none"}', 20),
                ('rcpt_total{verdict="reject",reason="reject_non_fqdn_helo_hostname"}', 3),
                ('delivery_total{transport="virtual",status="sent"}', 20),
                ("message_size_bytes_count", 20),
                ("message_size_bytes_sum", 20 * len(MESSAGE)),
                ("warn_only_total", 3),
                ("config_last_reload_successful", 1),
                ('queue_messages{state="waiting"}', 0)):
            self.assertEqual(values.get("postern_" + name), value, name)

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
