"""Everything that a stranger can make us spend has a bound: each abuse gets its reply or a
disconnect, memory stays where it was, and the next client is served."""
import os
import re
import resource
import socket
import threading
import time
import unittest

from harness import LEAN, Postern, is_sanitized, strip_trace, wait_for

MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
RELAXED = {"smtpd_hard_error_limit": "1000000", "smtpd_soft_error_limit": "1000000",
           "smtpd_junk_command_limit": "1000000"}
SCALE = 3 if is_sanitized() else 1  # memory of a sanitized build


class LimitsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))

    def start(self, settings=None, **kwargs):
        return self.enterContext(Postern(settings, env=LEAN, **kwargs))

    def connect(self, server, **kwargs):
        smtp = self.enterContext(server.connect(**kwargs))
        self.assertEqual(smtp.command("EHLO client.test").code, 250)
        return smtp

    def assert_served(self, server, seconds=5):
        """An honest client gets its mail through, soon."""
        began = time.monotonic()
        with server.connect() as smtp:
            smtp.command("EHLO honest.test")
            self.assertEqual(smtp.message(MESSAGE).code, 250)
            smtp.command("QUIT")
        self.assertLess(time.monotonic() - began, seconds)

    def assert_log_is_clean(self, server):
        log = server.log_bytes()
        self.assertNotRegex(log, rb"[^\n\x20-\x7e]")
        self.assertLess(max(map(len, log.split(b"\n"))), 2048)


def flood(smtp, data, repeat=1):
    """Sends data over and over while all replies are read: Counter of their codes, by code."""
    codes = {}

    def read():
        while True:
            try:
                reply = smtp.reply()
            except OSError:
                return
            if not reply.lines:
                return
            codes[reply.code] = codes.get(reply.code, 0) + 1
            if reply.code == 221:
                return
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(repeat):
            smtp.send(data)
        smtp.send("QUIT\r\n")
    except OSError:
        pass
    reader.join(60)
    assert not reader.is_alive(), "replies stay out: %s" % codes
    return codes


class Connections(LimitsTest):
    def test_in_all(self):
        server = self.start({"smtpd_connection_limit": "20", "smtpd_connection_reserve": "0"})
        held = [self.enterContext(server.connect()) for _ in range(20)]
        for _ in range(5):
            with server.connect() as smtp:
                self.assertEqual(smtp.banner.lines, ["421 4.3.2 mx.example.org All server ports "
                                                     "are busy"])
                self.assertTrue(smtp.is_closed())
        self.assertEqual(held[3].command("EHLO x").code, 250)
        for smtp in held[:3]:
            smtp.command("QUIT")
            smtp.close()
        wait_for(lambda: server.banner().code == 220, "room")
        self.assert_served(server)

    def test_under_load_errors_are_answered_once(self):
        """Stress is found out by the server itself: three quarters of the limit."""
        server = self.start({"smtpd_connection_limit": "20", "smtpd_connection_reserve": "0"})
        held = [self.enterContext(server.connect()) for _ in range(16)]
        time.sleep(1.2)
        replies = held[0].commands("EHLO x", "BOGUS")
        self.assertEqual(replies[1].code, 500)
        self.assertEqual(held[0].reply().code, 421)
        for smtp in held[1:12]:
            smtp.close()
        time.sleep(1.2)
        self.assertEqual([r.code for r in held[13].commands("EHLO x", "BOGUS", "NOOP")],
                         [250, 500, 250])

    def test_of_one_client_at_a_time(self):
        server = self.start({"smtpd_client_connection_count_limit": "3"})
        held = [self.enterContext(server.connect(source="127.0.0.2")) for _ in range(3)]
        with server.connect(source="127.0.0.2") as smtp:
            self.assertEqual(smtp.banner.lines, ["421 4.7.0 mx.example.org Error: too many "
                                                 "connections from 127.0.0.2"])
            self.assertTrue(smtp.is_closed())
        with server.connect(source="127.0.0.3") as smtp:
            self.assertEqual(smtp.banner.code, 220)
        for _ in range(10):  # mynetworks is exempt
            self.assertEqual(self.enterContext(server.connect(source="127.0.0.9")).banner.code, 220)
        held.pop().close()

        def fits():
            with server.connect(source="127.0.0.2") as smtp:
                return smtp.banner.code == 220
        wait_for(fits, "room for one more")

    def test_a_client_may_be_a_network(self):
        server = self.start({"smtpd_client_connection_count_limit": "2",
                             "smtpd_client_ipv4_prefix_length": "24"})
        for source, code in (("127.0.5.1", 220), ("127.0.5.2", 220), ("127.0.5.3", 421),
                             ("127.0.6.1", 220)):
            smtp = self.enterContext(server.connect(source=source))
            self.assertEqual(smtp.banner.code, code, source)

    def test_rates(self):
        server = self.start({"smtpd_client_connection_rate_limit": "3",
                             "smtpd_client_message_rate_limit": "2",
                             "smtpd_client_recipient_rate_limit": "4",
                             "anvil_rate_time_unit": "4s"})
        began = time.monotonic()
        smtp = self.connect(server, source="127.0.0.2")
        for line, expected in (
                ("MAIL FROM:<a@client.test>", "250 2.1.0 Ok"), ("RSET", "250 2.0.0 Ok"),
                ("MAIL FROM:<a@client.test>", "250 2.1.0 Ok"),
                ("RCPT TO:<you@example.org>", "250 2.1.5 Ok"),
                ("RCPT TO:<no@example.org>", None), ("VRFY you", None),
                ("RCPT TO:<you@example.org>", "250 2.1.5 Ok"),
                ("RCPT TO:<you@example.org>",
                 "450 4.7.1 Error: too many recipients from 127.0.0.2"), ("RSET", None),
                ("MAIL FROM:<a@client.test>", "450 4.7.1 Error: too much mail from 127.0.0.2")):
            reply = smtp.command(line)
            if expected:
                self.assertEqual(reply.lines[0], expected, line)
        codes = []
        for _ in range(3):
            with server.connect(source="127.0.0.2") as more:
                codes.append(more.banner.code)
        self.assertEqual(codes, [220, 220, 421])
        self.assertLess(time.monotonic() - began, 4, "too slow a machine for this test")
        wait_for(lambda: smtp.command("MAIL FROM:<a@client.test>").code == 250, "a new window")
        with server.connect(source="127.0.0.2") as more:
            self.assertEqual(more.banner.code, 220)

    def test_a_crowd_that_only_connects(self):
        """Thousands of clients that say nothing: all greeted, an honest one served at once, and
        everything given back when they leave."""
        server = self.start()
        before = server.rss_kb()
        crowd = [self.enterContext(socket.create_connection(("127.0.0.1", server.port)))
                 for _ in range(3000)]
        for sock in crowd:
            self.assertTrue(sock.recv(1000).startswith(b"220 "))
        self.assert_served(server, 2)
        each = (server.rss_kb() - before) * 1024 / len(crowd)
        self.assertLess(each, 4096 * SCALE)
        cpu = server.cpu_seconds()
        time.sleep(1)
        self.assertLess(server.cpu_seconds() - cpu, 0.3)
        for sock in crowd:
            sock.close()
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % server.process.pid)) < 60, "descriptors")
        self.assert_served(server)

    def test_idle_connections_past_ehlo_cost_little(self):
        server = self.start()
        warm = [self.connect(server) for _ in range(200)]
        before = server.rss_kb()
        crowd = []
        for _ in range(2200):
            sock = self.enterContext(socket.create_connection(("127.0.0.1", server.port)))
            crowd.append(sock)
        for sock in crowd:
            sock.recv(1000)
            sock.sendall(b"EHLO client.test\r\n")
        for sock in crowd:
            self.assertTrue(sock.recv(2000).startswith(b"250-"))
        each = (server.rss_kb() - before) * 1024 / len(crowd)
        print("[%d bytes of RSS for an idle connection%s]" % (
            each, ", sanitized" if SCALE > 1 else ""), end=" ", flush=True)
        self.assertLess(each, 4096 * SCALE)
        self.assert_served(server, 2)
        self.assertEqual(warm[0].command("NOOP").code, 250)

    def test_few_descriptors(self):
        """Everybody gets a banner or a 421, nobody a silent close; and waiting costs no time."""
        for files in (48, 64):
            server = self.start(limits=["prlimit", "--nofile=%d" % files])
            held, refused = [], 0
            for _ in range(150):
                smtp = server.connect()
                if smtp.banner.code == 220:
                    held.append(self.enterContext(smtp))
                else:
                    self.assertEqual(smtp.banner.code, 421, smtp.banner)
                    refused += 1
                    smtp.close()
            self.assertGreater(len(held), 4)
            self.assertGreater(refused, 50)
            cpu = server.cpu_seconds()
            time.sleep(1)
            self.assertLess(server.cpu_seconds() - cpu, 0.2)
            held[0].command("EHLO x")
            self.assertEqual(held[0].message(b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n").code, 250)
            self.assertEqual(held[0].message(MESSAGE + b"z\r\n" * 100000).code, 250)
            for smtp in held:
                smtp.close()
            wait_for(lambda s=server: s.banner().code == 220, "room")
            self.assert_served(server)

    def test_a_storm_beyond_the_descriptors(self):
        """Hundreds at the same moment, more than the limit lets in."""
        server = self.start(limits=["prlimit", "--nofile=64"])
        crowd = []
        for _ in range(400):
            sock = self.enterContext(socket.socket())
            sock.setblocking(False)
            try:
                sock.connect(("127.0.0.1", server.port))
            except BlockingIOError:
                pass
            crowd.append(sock)
        codes = {}
        for sock in crowd:
            sock.settimeout(15)
            code = sock.recv(1000)[:3]
            codes[code] = codes.get(code, 0) + 1
        self.assertEqual(set(codes), {b"220", b"421"})
        self.assertEqual(sum(codes.values()), 400)


class Scarce(LimitsTest):
    """What happens when nearly all connections are taken."""
    BUSY = "421 4.3.2 mx.example.org All server ports are busy"
    LIMITS = {"smtpd_connection_limit": "40", "smtpd_connection_reserve": "10", "event_loops": "1",
              "smtpd_soft_error_limit": "1000", "smtpd_hard_error_limit": "1000",
              "smtpd_timeout": "300s", "smtpd_delay_reject": "yes"}

    def fill(self, server, count=30):
        """Strangers from many addresses who say nothing."""
        return [self.enterContext(server.connect(source="127.0.1.%d" % (i + 1)))
                for i in range(count)]

    def test_the_reserve_is_for_who_has_brought_mail(self):
        server = self.start(dict(self.LIMITS, smtpd_idle_time="300s"))
        with server.connect(source="127.0.0.5") as friend:
            friend.command("EHLO friend.test")
            self.assertEqual(friend.message(b"Subject: x\r\n\r\nx\r\n").code, 250)
        self.fill(server)
        with server.connect(source="127.0.2.1") as stranger:
            self.assertEqual(stranger.banner.lines, [self.BUSY])
            self.assertTrue(stranger.is_closed())
        with server.connect(source="127.0.0.5") as friend:
            self.assertEqual(friend.banner.code, 220)
            friend.command("EHLO friend.test")
            self.assertEqual(friend.message(b"Subject: x\r\n\r\nx\r\n").code, 250)
        with server.connect(source="127.0.0.9") as exempt:  # mynetworks
            self.assertEqual(exempt.banner.code, 220)

    def test_the_oldest_idle_makes_room(self):
        server = self.start(dict(self.LIMITS, smtpd_idle_time="1s"))
        held = self.fill(server)
        busy = held[0]
        time.sleep(1.2)
        self.assertEqual(busy.command("NOOP").code, 250)
        with server.connect(source="127.0.2.1") as stranger:
            self.assertEqual(stranger.banner.code, 220)
            self.assertEqual(held[1].reply().lines, [self.BUSY])
            self.assertTrue(held[1].is_closed())
            self.assertEqual(busy.command("NOOP").code, 250, "it was not idle")
            stranger.command("EHLO stranger.test")
            self.assertEqual(stranger.message(b"Subject: x\r\n\r\nx\r\n").code, 250)
        server.wait_log(r"makes room for others: .*\[127\.0\.1\.2\]")

    def test_a_byte_at_a_time_is_idle(self):
        server = self.start(dict(self.LIMITS, smtpd_idle_time="1s"))
        held = self.fill(server)
        for _ in range(6):
            held[0].send("N")
            time.sleep(0.2)
        with server.connect(source="127.0.2.1") as stranger:
            self.assertEqual(stranger.banner.code, 220)
            self.assertEqual(held[0].reply().lines, [self.BUSY])

    def test_a_flood_of_half_open_sessions_leaves_room_for_others(self):
        """5,000 who only connect, from many addresses, against 2,000 places."""
        server = self.start({"smtpd_connection_limit": "2000", "smtpd_connection_reserve": "100",
                             "smtpd_idle_time": "1s", "event_loops": "2"})
        with server.connect(source="127.0.0.5") as friend:
            friend.command("EHLO friend.test")
            self.assertEqual(friend.message(b"Subject: x\r\n\r\nx\r\n").code, 250)
        flood, worst = [], 0.0
        try:
            for i in range(5000):
                sock = socket.socket()
                sock.bind(("127.0.%d.%d" % (10 + i // 250, 1 + i % 250), 0))
                sock.connect(("127.0.0.1", server.port))
                flood.append(sock)
                if i % 250 == 249:
                    begun = time.monotonic()
                    with server.connect(source="127.0.0.5") as friend:
                        friend.command("EHLO friend.test")
                        self.assertEqual(friend.message(b"Subject: x\r\n\r\nx\r\n").code, 250)
                    worst = max(worst, time.monotonic() - begun)
        finally:
            for sock in flood:
                sock.close()
        self.assertLess(worst, 3 if is_sanitized() else 1)
        self.assert_served(server)


class Time(LimitsTest):
    TIMEOUT = "421 4.4.2 mx.example.org Error: timeout exceeded"

    def test_every_state_has_its_timeout(self):
        server = self.start({"smtpd_timeout": "1s"})
        states = (("CONNECT", [], b""), ("EHLO", ["EHLO x"], b""), ("EHLO", ["EHLO x"], b"MAIL FR"),
                  ("MAIL", ["EHLO x", "MAIL FROM:<>"], b""),
                  ("RCPT", ["EHLO x", "MAIL FROM:<>", "RCPT TO:<you@example.org>"], b""),
                  ("DATA", ["EHLO x", "MAIL FROM:<>", "RCPT TO:<you@example.org>", "DATA"], b""),
                  ("DATA", ["EHLO x", "MAIL FROM:<>", "RCPT TO:<you@example.org>", "DATA"],
                   MESSAGE + b"."),
                  ("DATA", ["EHLO x", "MAIL FROM:<>", "RCPT TO:<you@example.org>"],
                   b"BDAT 100 LAST\r\nhalf"))
        sessions = []
        for _, commands, rest in states:
            smtp = self.enterContext(server.connect())
            smtp.commands(*commands)
            smtp.send(rest)
            sessions.append(smtp)
        began = time.monotonic()
        for smtp, state in zip(sessions, states):
            self.assertEqual(smtp.reply().lines, [self.TIMEOUT], state)
            self.assertTrue(smtp.is_closed())
        self.assertLess(time.monotonic() - began, 6)
        for word, _, _ in states:
            server.wait_log(r"timeout after %s from localhost" % word)
        self.assertEqual(server.all_files(), [])

    def test_a_client_that_says_something_in_time_stays(self):
        server = self.start({"smtpd_timeout": "2s"})
        smtp = self.connect(server)
        for _ in range(6):
            time.sleep(0.6)
            self.assertEqual(smtp.command("NOOP").code, 250)

    def test_single_bytes_do_not_hold_a_connection_with_a_request_deadline(self):
        server = self.start({"smtpd_timeout": "2s", "smtpd_per_request_deadline": "yes"})
        command, data = self.connect(server), self.connect(server)
        data.begin_data()
        began = time.monotonic()
        ended = {}
        while len(ended) < 2 and time.monotonic() - began < 12:
            for smtp in (command, data):
                try:
                    smtp.send(b"x")
                except OSError:
                    pass
                smtp.sock.setblocking(False)
                try:
                    if smtp not in ended and smtp.sock.recv(3) == b"421":
                        ended[smtp] = time.monotonic() - began
                except BlockingIOError:
                    pass
                smtp.sock.settimeout(15)
            time.sleep(0.1)
        self.assertEqual(len(ended), 2)
        self.assertLess(max(ended.values()), 6)

    def test_a_fast_sender_outlives_the_request_deadline(self):
        """Message bytes buy time: many seconds in all, at a good rate."""
        server = self.start({"smtpd_timeout": "1s", "smtpd_per_request_deadline": "yes",
                             "smtpd_min_data_rate": "500"})
        smtp = self.connect(server)
        smtp.begin_data()
        for _ in range(25):
            smtp.send(b"x" * 998 + b"\r\n")
            time.sleep(0.12)
        smtp.send(".\r\n")
        self.assertEqual(smtp.reply().code, 250)

    def test_a_client_that_never_reads_its_replies(self):
        """It is not read from any more, times out, and its replies take no memory of ours."""
        server = self.start(dict(RELAXED, smtpd_timeout="2s"))
        smtp = self.enterContext(server.connect())
        smtp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        smtp.command("EHLO x")
        before, sent = server.rss_kb(), 0
        smtp.sock.settimeout(1)
        with self.assertRaises(OSError):
            while sent < 10 ** 8:
                smtp.sock.sendall(b"RSET\r\n" * 1000)
                sent += 6000
        self.assertLess(server.rss_kb() - before, 4000)
        self.assert_served(server)
        server.wait_log("timeout after RSET from")
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % server.process.pid)) < 40, "closed")

    def test_slow_clients_in_great_number(self):
        """Each drips its bytes; everybody is answered at last, and an honest one at once."""
        server = self.start()
        crowd = [self.enterContext(socket.create_connection(("127.0.0.1", server.port)))
                 for _ in range(500)]
        for sock in crowd:
            self.assertTrue(sock.recv(1000).startswith(b"220 "))
        for byte in b"EHLO slow.test\r\n":
            for sock in crowd:
                sock.send(bytes([byte]))
            if byte == ord("s"):
                self.assert_served(server, 2)
        for sock in crowd:
            sock.settimeout(10)
            text = b""
            while b"\r\n250 " not in text:
                piece = sock.recv(4096)
                self.assertNotEqual(piece, b"", text)
                text += piece

    def test_half_closed_connections_still_get_their_replies(self):
        server = self.start()
        for _ in range(10):
            with server.connect() as smtp:
                smtp.command("EHLO x")
                smtp.send(b"MAIL FROM:<>\r\nRCPT TO:<you@example.org>\r\nRCPT TO:<no@example.org>"
                          b"\r\nBDAT %d LAST\r\n%sRSET\r\nQUIT\r\n" % (len(MESSAGE), MESSAGE))
                smtp.sock.shutdown(socket.SHUT_WR)
                self.assertEqual([smtp.reply().code for _ in range(6)],
                                 [250, 250, 550, 250, 250, 221])
                self.assertTrue(smtp.is_closed())
        with server.connect() as smtp:  # without QUIT
            smtp.send("EHLO x\r\n")
            smtp.sock.shutdown(socket.SHUT_WR)
            self.assertEqual(smtp.reply().code, 250)
            self.assertTrue(smtp.is_closed())
        self.assertEqual(len(server.files("you")), 10)


class Commands(LimitsTest):
    def test_errors_slow_down_and_end(self):
        """Three at once, three after a pause each, then 421 unasked (spec, vector 39)."""
        server = self.start({"smtpd_soft_error_limit": "3", "smtpd_hard_error_limit": "6"})
        smtp = self.connect(server)
        began, times = time.monotonic(), []
        for _ in range(6):
            self.assertEqual(smtp.command("BOGUS").code, 500)
            times.append(time.monotonic() - began)
        self.assertEqual(smtp.reply().lines, ["421 4.7.0 mx.example.org Error: too many errors"])
        self.assertTrue(smtp.is_closed())
        self.assertLess(times[2], 0.7)
        self.assertGreater(times[3], 0.9)
        self.assertGreater(times[5], 2.7)
        server.wait_log(r"too many errors after UNKNOWN from localhost")

    def test_waiting_for_the_pause_is_no_timeout_and_others_are_served(self):
        server = self.start({"smtpd_soft_error_limit": "1", "smtpd_error_sleep_time": "3s",
                             "smtpd_timeout": "1s"})
        smtp = self.connect(server)
        smtp.command("BOGUS")
        self.assert_served(server, 1)
        self.assertEqual(smtp.command("NOOP").code, 250)

    def test_junk_commands_become_errors(self):
        server = self.start({"smtpd_junk_command_limit": "4", "smtpd_hard_error_limit": "3",
                             "smtpd_soft_error_limit": "100"})
        smtp = self.enterContext(server.connect())
        codes = [smtp.command(line).code for line in ["EHLO x"] + ["NOOP"] * 7]
        self.assertEqual(codes, [250] * 8)
        self.assertEqual(smtp.reply().code, 421)

    def test_a_hundred_thousand_recipients(self):
        server = self.start(dict(RELAXED, smtpd_recipient_overshoot_limit="1000000"))
        smtp = self.connect(server, timeout=60)
        before = server.rss_kb()
        smtp.command("MAIL FROM:<>")
        codes = flood(smtp, b"RCPT TO:<you@example.org>\r\n" * 1000, 100)
        self.assertEqual(codes, {250: 1000, 452: 99000, 221: 1})
        self.assertLess(server.rss_kb() - before, 5000 * SCALE)
        self.assert_served(server)

    def test_a_hundred_thousand_refused_recipients(self):
        server = self.start(RELAXED)
        smtp = self.connect(server, timeout=60)
        smtp.command("MAIL FROM:<>")
        flood(smtp, b"RCPT TO:<nobody@example.org>\r\n" * 100, 10)
        smtp = self.connect(server, timeout=60)
        smtp.command("MAIL FROM:<>")
        before = server.rss_kb()
        codes = flood(smtp, b"RCPT TO:<nobody@example.org>\r\n" * 1000, 20)
        self.assertEqual(codes, {550: 20000, 221: 1})
        self.assertLess(server.rss_kb() - before, 5000 * SCALE)

    def test_lines_that_are_too_long(self):
        server = self.start(RELAXED)
        smtp = self.connect(server)
        for length, code in ((2047, 250), (2048, 250), (2049, 500), (5000, 500), (70000, 500)):
            reply = smtp.command(b"NOOP " + b"x" * (length - 5))
            self.assertEqual(reply.code, code, length)
        self.assertEqual(reply.lines, ["500 5.5.2 mx.example.org Error: command too long"])
        before = server.rss_kb()
        for _ in range(400):
            smtp.send(b"y" * 100000)  # 40 MB of one line
        self.assertEqual(smtp.command(b"").code, 500)
        self.assertEqual(smtp.command("NOOP").code, 250)
        self.assertLess(server.rss_kb() - before, 2000)
        self.assert_log_is_clean(server)

    def test_absurd_sizes(self):
        server = self.start(RELAXED)
        smtp = self.connect(server)
        for size, expected in (("10240001", "552 5.3.4 Message size exceeds fixed limit"),
                               ("9223372036854775807", "552 5.3.4 Message size exceeds fixed limit"),
                               ("9223372036854775808", "552 5.3.4 Message size exceeds file system "
                                                       "imposed limit"),
                               ("9" * 400, "552 5.3.4 Message size exceeds file system "
                                           "imposed limit"),
                               ("-1", "501 5.5.4 Bad message size syntax"),
                               ("1e3", "501 5.5.4 Bad message size syntax"),
                               ("", "501 5.5.4 Bad message size syntax"),
                               ("0x10", "501 5.5.4 Bad message size syntax"),
                               ("10240000", "250 2.1.0 Ok")):
            self.assertEqual(smtp.command("MAIL FROM:<> SIZE=" + size).lines, [expected], size)
        for count in ("-1", "1e3", "0x10", "99999999999999999999", "9223372036854775808", "1 FIRST",
                      "", "LAST", "5 LAST x", "\0"):
            with server.connect() as smtp:
                smtp.command("EHLO x")
                smtp.envelope()
                self.assertEqual(smtp.command("BDAT " + count).code, 521, count)
                self.assertTrue(smtp.is_closed())

    def test_a_refused_chunk_is_skipped_not_executed(self):
        server = self.start(dict(RELAXED, message_size_limit="1000"))
        smtp = self.connect(server)
        body = b"QUIT\r\nRSET\r\n" * 100
        smtp.send(b"BDAT %d\r\n%sNOOP\r\n" % (len(body), body))
        self.assertEqual([smtp.reply().code, smtp.reply().code], [503, 250])
        smtp.command("RSET")
        smtp.envelope()
        smtp.send(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(body), body))
        self.assertEqual([smtp.reply().code, smtp.reply().code], [552, 250])
        smtp.envelope()
        for size in (4294967300, 9223372036854775807):  # 4 in 32 bits; the largest there is
            with server.connect() as other:
                other.command("EHLO x")
                other.envelope()
                other.send(b"BDAT %d LAST\r\n" % size + body * 50)
                other.sock.settimeout(0.4)
                with self.assertRaises(TimeoutError):
                    other.reply()
        self.assertEqual(server.all_files(), [])

    def test_garbage(self):
        """NULs, 8 bit, control octets, other protocols: a reply or a disconnect, a clean log."""
        server = self.start(RELAXED)
        rng = __import__("random").Random(3)
        noise = [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300))) for _ in range(60)]
        for garbage in (b"\0" * 3000, b"\xff" * 1000, bytes(range(256)), b"GET / HTTP/1.1\r\n",
                        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"EHLO \x1b[2J\x07\r\n",
                        b"MAIL FROM:<\0@x>\r\n", b"RCPT TO:<a\nb@x>\r\n", b"HELO \xc3\x28\r\n",
                        b"\r\n\r\n\r\n", b"\n" * 500, b"Subject: x\r\n", b"MAIL\0 FROM:<>\r\n",
                        b"EHLO " + "ü".encode() * 900, b"VRFY \xe2\x80\xae\r\n", *noise):
            with server.connect() as smtp:
                try:
                    smtp.send(garbage + b"\r\nQUIT\r\n")
                    while smtp.reply().lines:
                        pass
                except OSError:
                    pass
        self.assert_served(server)
        self.assert_log_is_clean(server)


class Messages(LimitsTest):
    def test_an_endless_header(self):
        """One line of 40 MB, then many lines; both end in 552 and leave no memory taken."""
        server = self.start({"message_size_limit": "2000000"})
        smtp = self.connect(server, timeout=60)
        before = server.rss_kb()
        for piece in (b"x" * 100000, b"X-Header: value\r\n" * 6000, b"\tfolded\r\n" * 10000,
                      b".\r" * 50000):
            smtp.begin_data()
            smtp.send(b"Long: ")
            for _ in range(400 if piece[:1] == b"x" else 25):
                smtp.send(piece)
            smtp.send(b"\r\n\r\n.\r\n")
            self.assertEqual(smtp.reply().lines, ["552 5.3.4 Error: message file too big"])
        self.assertLess(server.rss_kb() - before, 4000 * SCALE)
        self.assertEqual(smtp.message(MESSAGE).code, 250)
        self.assertEqual(len(server.all_files()), 1)

    def test_the_size_limit_to_the_byte(self):
        server = self.start({"message_size_limit": "100000"})
        smtp = self.connect(server)
        head = b"Subject: x\r\n\r\n"
        for size, code in ((100000, 250), (100001, 552), (99999, 250), (3000000, 552)):
            data = head + b"y" * (size - len(head) - 2) + b"\r\n"
            self.assertEqual(smtp.message(data).code, code, size)
            if size < 3000000:
                self.assertEqual(smtp.bdat(data, chunk=30000).code, code, size)
            smtp.command("RSET")
            dots = (b".." + b"z" * 95 + b"\r\n") * 1100  # stuffing does not count
            self.assertEqual(smtp.message(dots[:99990 // 99 * 99]).code, 250)
        self.assertEqual(len(server.files("you")), 8)
        self.assertEqual([f for f in server.all_files() if "tmp/" in f], [])

    def test_many_large_messages_at_once_do_not_lie_in_memory(self):
        server = self.start()
        body = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 110000  # 2 MB
        sessions = [self.connect(server, timeout=60) for _ in range(40)]
        before = server.rss_kb()
        for smtp in sessions:
            smtp.begin_data()
        for at in range(0, len(body), 400000):
            for smtp in sessions:
                smtp.send(body[at:at + 400000])
        self.assertLess(server.rss_kb() - before, 40 * 600 * SCALE)
        for smtp in sessions:
            smtp.send(b".\r\n")
        for smtp in sessions:
            self.assertEqual(smtp.reply().code, 250)
        self.assertEqual({strip_trace(mail) == body for mail in server.mails("you")}, {True})
        self.assertEqual(len(server.files("you")), 40)

    def test_memory_after_a_day_of_everything(self):
        """The same work again and again: the process does not grow."""
        server = self.start(RELAXED)

        def day():
            for number in range(12):
                with server.connect() as smtp:
                    smtp.command("EHLO x" + "y" * number * 50)
                    smtp.message(MESSAGE)
                    smtp.message(MESSAGE * 10000)
                    smtp.bdat(MESSAGE * 100, chunk=100)
                    smtp.envelope()
                    smtp.commands("RCPT TO:<no@example.org>", "BOGUS", "VRFY you", "RSET", "HELP")
                    smtp.begin_data()
                    smtp.send(MESSAGE * 20000)
            for path in (server.dir / "mail").rglob("*.mx.example.org*"):
                path.unlink()
            return server.rss_kb()
        for _ in range(3):
            day()
        before = day()
        for _ in range(4):
            after = day()
        self.assertLess(after - before, 4096)
        fds = os.listdir("/proc/%d/fd" % server.process.pid)
        self.assertLess(len(fds), 40)


if __name__ == "__main__":
    unittest.main(verbosity=2)
