#!/usr/bin/env python3
"""A resolver that is dead, slow or lies: the client that asked hears 450 and nobody else waits;
answers are kept for their TTL; lists that must not be believed are not."""
import socket
import struct
import threading
import time
import unittest

from harness import Postern, free_port, wait_for
from oracle.dns_double import DnsDouble, error, question, question_end

TYPES = {"A": 1, "MX": 15, "TXT": 16, "AAAA": 28}
SETTINGS = {
    "dns_timeout": "1s", "dns_retry_time": "1s", "event_loops": "1",
    "smtpd_sender_restrictions": "reject_unknown_sender_domain",
    "smtpd_hard_error_limit": "1000", "smtpd_soft_error_limit": "1000",
}


def packet(query, answers=b"", count=0, rcode=0, flags=0x8180, tail=b""):
    head = query[:2] + struct.pack(">HHHHH", flags | rcode, 1, count, 0, 0)
    return head + query[12:question_end(query)] + answers + tail


def record(kind, data, ttl=60, name=b"\xc0\x0c", length=None):
    return name + struct.pack(">HHIH", TYPES[kind], 1, ttl,
                              len(data) if length is None else length) + data


def address(query, ip="192.0.2.1", ttl=60):
    return packet(query, record("A", socket.inet_aton(ip), ttl), 1)


def mx(query, ttl=60, **more):
    return packet(query, record("MX", b"\0\x0a\x02mx\xc0\x0c", ttl), 1, **more)


def other_question(query):
    return query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + b"\x05other\x04test\0" + \
        struct.pack(">HH", 15, 1) + record("MX", b"\0\x0a\x02mx\xc0\x0c")


# What a resolver can do to an MX question; all of it means that the answer is not known.
LIES = {
    "silence": lambda q: None,
    "servfail": lambda q: error(q, 2),
    "refused": lambda q: error(q, 5),
    "notimp": lambda q: error(q, 4),
    "formerr": lambda q: error(q, 1),
    "wrong-id": lambda q: bytes([q[0] ^ 0xff, q[1]]) + mx(q)[2:],
    "wrong-question": other_question,
    "counts": lambda q: packet(q, count=5),
    "counts-rubbish": lambda q: packet(q, b"\x07rubbish" * 9, count=40),
    "pointer-to-itself": lambda q: packet(q, b"\xc0" + bytes([question_end(q)]) + b"\0" * 20, 1),
    "pointer-loop": lambda q: packet(q, record("MX", b"\0\x0a\x01a\xc0" + bytes(
        [question_end(q) + 14]), 60), 1),
    "pointer-outside": lambda q: packet(q, record("MX", b"\0\x0a\xff\xff"), 1),
    "cut-off": lambda q: mx(q)[:-4],
    "only-a-header": lambda q: q[:2] + struct.pack(">HHHHH", 0x8180, 0, 1, 0, 0),
    "three-bytes": lambda q: q[:3],
    "length-beyond": lambda q: packet(q, record("MX", b"\0\x0a\x02mx\xc0\x0c", length=4000), 1),
    "short-mx": lambda q: packet(q, record("MX", b"\0"), 1),
    "no-response": lambda q: q,
    "rubbish": lambda q: q[:2] + bytes(range(256)) * 2,
    "tc-no-tcp": lambda q: packet(q, flags=0x8380),
}


class Resolver:
    """A double whose answers are functions by the first label of the name; "good" otherwise."""

    def __init__(self, **answers):
        self.answers = answers
        self.double = DnsDouble(("127.0.0.1", free_port()), self.answer)
        self.address = "127.0.0.1:%d" % self.double.address[1]

    def answer(self, query, is_tcp):
        name, kind = question(query)
        if is_tcp and name.startswith("tc-no-tcp"):
            raise ConnectionError
        found = self.answers.get(name.split(".")[0])
        if found is not None:
            return found(query, kind, is_tcp)
        lie = LIES.get(name.split(".")[0])
        if lie is not None:
            return lie(query)
        return mx(query) if kind == "MX" else packet(query)

    def count(self, name, kind):
        return sum(1 for n, k, _ in self.double.log if (n, k) == (name, kind))


class FaultTest(unittest.TestCase):
    def resolver(self, **answers):
        resolver = Resolver(**answers)
        self.addCleanup(resolver.double.close)
        return resolver

    def server(self, resolver, **settings):
        return self.enterContext(Postern({**SETTINGS, "dns_servers": resolver.address
                                          if isinstance(resolver, Resolver) else resolver,
                                          **settings}))

    def rcpt(self, server, domain):
        """The reply to a recipient of mail from that domain, and how long it took."""
        with server.connect() as smtp:
            smtp.commands("HELO client.test", "MAIL FROM:<u@%s>" % domain)
            began = time.monotonic()
            return smtp.command("RCPT TO:<you@example.org>"), time.monotonic() - began

    def later(self, domain):
        return "450 4.1.8 <u@%s>: Sender address rejected: Domain not found" % domain


class Lies(FaultTest):
    def test_each_means_later_and_the_next_client_is_served(self):
        server = self.server(self.resolver())
        results = {}

        def ask(lie):
            results[lie] = self.rcpt(server, lie + ".test")

        threads = [threading.Thread(target=ask, args=(lie,)) for lie in LIES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for lie, (reply, took) in results.items():
            with self.subTest(lie):
                self.assertEqual(reply.lines, [self.later(lie + ".test")])
                self.assertLess(took, 4.5, "three questions of a second each")
        self.assertEqual(self.rcpt(server, "good.test")[0].code, 250)

    def test_truncated_is_asked_again_over_tcp(self):
        resolver = self.resolver(tc=lambda q, kind, is_tcp: mx(q) if is_tcp
                                 else packet(q, flags=0x8380))
        server = self.server(resolver)
        self.assertEqual(self.rcpt(server, "tc.test")[0].code, 250)
        self.assertIn(("tc.test", "MX", True), resolver.double.log)

    def test_much_too_much(self):
        resolver = self.resolver(
            big=lambda q, kind, is_tcp: mx(q, tail=b"\0" * 60000),
            many=lambda q, kind, is_tcp: packet(q, record("MX", b"\0\x0a\xc0\x0c") * 3000, 3000))
        server = self.server(resolver)
        for domain in ("big.test", "many.test"):
            self.assertIn(self.rcpt(server, domain)[0].code, (250, 450), domain)
        self.assertEqual(self.rcpt(server, "good.test")[0].code, 250)

    def test_an_answer_that_comes_twice_or_late(self):
        resolver = self.resolver(twice=lambda q, kind, is_tcp: [mx(q), mx(q), packet(q, rcode=3)])
        server = self.server(resolver)
        for _ in range(3):
            self.assertEqual(self.rcpt(server, "twice.test")[0].code, 250)


class Dead(FaultTest):
    def test_nobody_there(self):
        server = self.server("127.0.0.1:%d" % free_port())
        reply, took = self.rcpt(server, "good.test")
        self.assertEqual(reply.lines, [self.later("good.test")])
        self.assertLess(took, 4.5)

    def test_the_second_server_answers_for_the_first(self):
        resolver = self.resolver()
        server = self.server("127.0.0.1:%d %s" % (free_port(), resolver.address),
                             dns_timeout="5s")
        self.assertEqual(self.rcpt(server, "good.test")[0].code, 250)

    def test_it_comes_back(self):
        port = free_port()
        server = self.server("127.0.0.1:%d" % port)
        self.assertEqual(self.rcpt(server, "good.test")[0].code, 450)
        double = DnsDouble(("127.0.0.1", port), lambda q, is_tcp: mx(q))
        self.addCleanup(double.close)
        wait_for(lambda: self.rcpt(server, "good.test")[0].code == 250, "it is back")

    def test_one_that_waits_delays_nobody(self):
        server = self.server(self.resolver(), dns_timeout="3s")
        with server.connect() as waiting, server.connect() as other:
            waiting.commands("HELO client.test", "MAIL FROM:<u@silence.test>")
            waiting.send("RCPT TO:<you@example.org>\r\n")
            other.commands("HELO client.test", "MAIL FROM:<u@good.test>")
            began = time.monotonic()
            for _ in range(200):
                self.assertEqual(other.command("RCPT TO:<you@example.org>").code, 250)
            self.assertLess(time.monotonic() - began, 2.5)
            self.assertEqual(waiting.reply().lines, [self.later("silence.test")])

    def test_clients_that_leave_while_their_question_is_open(self):
        server = self.server(self.resolver())
        for _ in range(50):
            with server.connect() as smtp:
                smtp.commands("HELO client.test", "MAIL FROM:<u@silence.test>")
                smtp.send("RCPT TO:<you@example.org>\r\n")
        self.assertEqual(self.rcpt(server, "good.test")[0].code, 250)


class Cache(FaultTest):
    def asked(self, ttl, times=3, pause=0):
        resolver = self.resolver(ttl=lambda q, kind, is_tcp: mx(q, ttl))
        server = self.server(resolver)
        for _ in range(times):
            self.assertEqual(self.rcpt(server, "ttl.test")[0].code, 250)
            time.sleep(pause)
        return resolver.count("ttl.test", "MX")

    def test_an_answer_is_kept_for_its_ttl(self):
        self.assertEqual(self.asked(60), 1)
        self.assertEqual(self.asked(1, times=2, pause=1.3), 2)

    def test_ttl_zero_is_not_kept(self):
        self.assertEqual(self.asked(0), 3)

    def test_a_failure_is_kept_for_a_second(self):
        resolver = self.resolver()
        server = self.server(resolver)
        for _ in range(3):
            self.rcpt(server, "servfail.test")
        self.assertEqual(resolver.count("servfail.test", "MX"), 1)
        time.sleep(1.3)
        self.rcpt(server, "servfail.test")
        self.assertEqual(resolver.count("servfail.test", "MX"), 2)

    def test_equal_questions_under_way_are_one(self):
        def slow(query, kind, is_tcp):
            time.sleep(0.5)
            return mx(query)

        resolver = self.resolver(slow=slow)
        server = self.server(resolver)
        clients = [self.enterContext(server.connect()) for _ in range(20)]
        for smtp in clients:
            smtp.commands("HELO client.test", "MAIL FROM:<u@slow.test>")
            smtp.send("RCPT TO:<you@example.org>\r\n")
        for smtp in clients:
            self.assertEqual(smtp.reply().code, 250)
        self.assertEqual(resolver.count("slow.test", "MX"), 1)


class Lists(FaultTest):
    """The client is 127.0.0.1: the double answers for it as for any other."""

    def listed(self, client=None, good="127.0.0.2", bad=None, **settings):
        def answer(query, kind, is_tcp):
            name = question(query)[0]
            ip = {"2.0.0.127.bl.test": good, "1.0.0.127.bl.test": bad,
                  "8.0.0.127.bl.test": client}.get(name)
            return address(query, ip) if ip and kind == "A" else packet(query, rcode=3)

        resolver = self.resolver(**{"2": answer, "1": answer, "8": answer})
        server = self.server(resolver, smtpd_sender_restrictions="",
                             smtpd_client_restrictions="reject_rbl_client bl.test", **settings)
        wait_for(lambda: resolver.count("1.0.0.127.bl.test", "A") or "dns_list_guard" in settings,
                 "the list is not tested")
        time.sleep(0.2)
        with server.connect(source="127.0.0.8") as smtp:
            smtp.commands("HELO client.test", "MAIL FROM:<u@good.test>")
            return smtp.command("RCPT TO:<you@example.org>").code, server

    def test_a_good_list_is_believed(self):
        self.assertEqual(self.listed("127.0.0.2")[0], 554)
        self.assertEqual(self.listed(None)[0], 250)

    def test_error_answers_are_no_listing(self):
        for ip in ("127.255.255.252", "127.255.255.254", "127.255.255.255", "192.0.2.1",
                   "10.0.0.1"):
            code, server = self.listed(ip)
            self.assertEqual(code, 250, ip)
            server.wait_log("bl.test answers %s" % ip)

    def test_a_list_of_the_world_is_suspended(self):
        code, server = self.listed("127.0.0.2", bad="127.0.0.2")
        self.assertEqual(code, 250)
        self.assertIn("DNS list bl.test is suspended: it lists 127.0.0.1", server.log())

    def test_a_list_that_is_empty_is_suspended(self):
        code, server = self.listed("127.0.0.2", good=None)
        self.assertEqual(code, 250)
        self.assertIn("is suspended: it does not list 127.0.0.2", server.log())

    def test_without_guard_it_is_as_in_postfix(self):
        for more in ({"client": "127.255.255.254"}, {"client": "192.0.2.1"},
                     {"client": "127.0.0.2", "bad": "127.0.0.2"},
                     {"client": "127.0.0.2", "good": None}):
            self.assertEqual(self.listed(dns_list_guard="no", **more)[0], 554, more)


if __name__ == "__main__":
    unittest.main()
