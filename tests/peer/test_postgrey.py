#!/usr/bin/env python3
"""check_policy_service: with the real postgrey, with a server that records what Postfix and
Postern ask, and with servers that die, close, stall or talk nonsense."""
import pathlib
import subprocess
import sys
import tempfile
import time

from oracle import lab

lab.need("postfix", "postgrey")
lab.enter()

from harness import Postern, wait_for  # noqa: E402
from oracle import cases  # noqa: E402
from oracle.policy_double import PolicyDouble  # noqa: E402
from oracle.postfix import Postfix  # noqa: E402

POSTERN = {**cases.DEFAULTS, **cases.BASE, **cases.ONLY_POSTERN}
CLIENT = "192.0.2.10"


class Postgrey:
    """A postgrey with a database of its own, started before Postfix and Postern ask it."""

    def __init__(self, port, delay):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-postgrey-"))
        self.server = "inet:127.0.0.1:%d" % port
        (self.dir / "none").write_text("")
        (self.dir / "recipients").write_text("postmaster@\n")
        self.process = subprocess.Popen(
            ["/usr/sbin/postgrey", "--inet=127.0.0.1:%d" % port, "--delay=%d" % delay,
             "--dbdir=%s" % self.dir, "--user=root", "--group=root", "--hostname=grey.test",
             "--whitelist-clients=%s/none" % self.dir,
             "--whitelist-recipients=%s/recipients" % self.dir],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def is_listening(port):
    with open("/proc/net/tcp") as f:
        return any(line.split()[1].endswith(":%04X" % port) and line.split()[3] == "0A"
                   for line in f.readlines()[1:])


def with_policy(server, **more):
    return {**POSTERN, "smtpd_recipient_restrictions": "reject_unlisted_recipient, "
            "check_policy_service %s, check_recipient_access inline:{r1@example.org=REJECT}"
            % server, **more}


# ------------------------------------------------------------------ the real postgrey

VISIT = cases.Dialogue("@%s R alice@example.org | R nobody@example.org | R r1@example.org | "
                       "R postmaster@example.org | RSET | M | R bob@example.org" % CLIENT)
DELAY = 2


def test_greylisted_and_passed():
    grey = [Postgrey(10023, DELAY), Postgrey(10024, DELAY)]
    wait_for(lambda: is_listening(10023) and is_listening(10024), "postgrey does not listen")
    settings = with_policy(grey[0].server, local_transport="virtual",
                           virtual_mailbox_maps="inline:{ @example.org=alice/ }")
    with Postfix(cases.BASE) as postfix, Postern(settings) as postern:
        port = postfix.add({"smtpd_recipient_restrictions":
                            with_policy(grey[1].server)["smtpd_recipient_restrictions"]})
        postfix.start()
        first = [cases.hear(p, VISIT) for p in (postern.port, port)]
        assert first[0] == first[1], first
        replies = dict(first[0])
        assert replies["R alice@example.org"].startswith(
            "450 4.2.0 <alice@example.org>: Recipient address rejected: Greylisted, see "), first
        assert replies["R nobody@example.org"].startswith("550 5.1.1 "), first
        assert replies["R r1@example.org"].startswith("554 5.7.1 "), "a refusal beats waiting"
        assert replies["R postmaster@example.org"].startswith("250 "), first
        cases.hear(postern.port, cases.Dialogue("@198.51.100.7 R alice@example.org"))
        time.sleep(DELAY + 0.5)
        second = [cases.hear(p, VISIT) for p in (postern.port, port)]
        assert second[0] == second[1], second
        assert dict(second[0])["R alice@example.org"] == "250 2.1.5 Ok", second
        with postern.connect(source="198.51.100.7") as smtp:
            smtp.command("HELO helo.test")
            reply = smtp.message(b"Subject: x\r\n\r\n", sender="s@ok.test",
                                 rcpts=["alice@example.org"])
            assert reply.code == 250, reply
        assert b"X-Greylist: delayed " in postern.mails("alice")[0], postern.mails("alice")
        third = cases.hear(postern.port, cases.Dialogue("@192.0.2.11 R alice@example.org"))
        assert third[-1][1] == "250 2.1.5 Ok", "the same /24"
    for server in grey:
        server.stop()


# ------------------------------------------------------------------ what is asked

PLACES = ["client", "helo", "sender", "relay", "recipient", "data", "end_of_data"]
TALKS = [
    "@192.0.2.10 raw HELO a<b | M x%y@ok.test | R alice%example.org@example.org | D",
    "@127.0.0.1 raw XCLIENT NAME=n.test PORT=77 HELO=h.test PROTO=ESMTP ADDR=192.0.2.77 | "
    "M s@ok.test | R alice@example.org",
    "@192.0.2.10 E client.example | MAIL FROM:<S+x@OK.test> SIZE=1234 | R Alice+y@Example.org | "
    "R bob@example.org | VRFY bob@example.org | D",
    "@192.0.2.13 H x | M | R alice@example.org | D",
    "@192.0.2.12 H [192.0.2.12] | M \"a b\"@ok.test | R nobody@example.org | R alice | RSET | "
    "VRFY alice@example.org",
    "@2001:db8::10 E six | M s@ok.test | R alice@example.org | 1=BDAT 5\\r\\na: b\\n | "
    "1=BDAT 3 LAST\\r\\nc\\r\\n",
    "raw VRFY alice@example.org | M s@ok.test | R alice@example.org",
]
# Other for every server or connection: only whether there is a value is compared.
VARIES = ("client_port", "server_port", "server_address", "queue_id", "instance")
# Attributes of later versions of Postfix, which Postern follows.
LATER = ("tls_sni", "compatibility_level", "mail_version")


# What Postfix leaves empty at MAIL, for the transaction begins with its success; here all that is
# asked for a message has the same instance.
AT_MAIL = ("instance",)


def normal(request):
    left_out = LATER + (AT_MAIL if ("protocol_state", "MAIL") in request else ())
    return [(name, "*" if name in VARIES and value else value) for name, value in request
            if name not in left_out]


def asked(port, double, talk):
    """All requests that a dialogue makes."""
    before = len(double.requests)
    cases.hear(port, cases.Dialogue(talk))
    time.sleep(0.05)
    return [request for _, request in double.requests[before:]]


def instances(requests):
    """Which of the requests belong to the same transaction."""
    values = [dict(request)["instance"] for request in requests
              if ("protocol_state", "MAIL") not in request]
    return [values.index(value) if value else -1 for value in values]


def test_requests():
    double = [PolicyDouble(), PolicyDouble()]
    for delay in ("yes", "no"):
        # Each list says who it is: equal questions of one decision Postern asks only once.
        lists = [{"smtpd_%s_restrictions" % place: "check_policy_service { inet:127.0.0.1:%d, "
                  "{policy_context=INFO %s} }%s" % (
                      d.port, place, ", reject_unauth_destination" if place == "relay" else "")
                  for place in PLACES} for d in double]
        more = {"smtpd_delay_reject": delay, "smtpd_authorized_xclient_hosts": "127.0.0.1"}
        with Postfix(cases.BASE) as postfix, Postern({**POSTERN, **lists[0], **more}) as postern:
            postern_port = postern.port
            port = postfix.add({**cases.ONLY_POSTFIX, **lists[1], **more})
            postfix.start()
            postern.write_config(listen="127.0.0.1:%d, [::1]:%d" % (postern_port, postern_port))
            postern.reload()
            # Without delay Postfix shows the HELO name raw, and "XCLIENT" as the state of CONNECT.
            for talk in TALKS if delay == "yes" else TALKS[2:]:
                ours = asked(postern_port, double[0], talk)
                theirs = asked(port, double[1], talk)
                assert len(ours) == len(theirs), (delay, talk, len(ours), len(theirs))
                for a, b in zip(ours, theirs):
                    assert normal(a) == normal(b), "delay %s, %s\n  %s\n  %s" % (
                        delay, talk, sorted(set(normal(a)) - set(normal(b))),
                        sorted(set(normal(b)) - set(normal(a))))
                assert instances(ours) == instances(theirs), (talk, instances(ours))


# ------------------------------------------------------------------ connections

def rcpt(server, timeout=15):
    """The reply to one recipient, and how long it took."""
    with server.connect(timeout=timeout) as smtp:
        smtp.commands("HELO x", "MAIL FROM:<s@ok.test>")
        began = time.monotonic()
        return smtp.command("RCPT TO:<alice@example.org>"), time.monotonic() - began


def test_connections_are_shared():
    double = PolicyDouble()
    with Postern(with_policy("inet:127.0.0.1:%d" % double.port)) as server:
        for _ in range(20):
            assert rcpt(server)[0].code == 250
        assert double.connections == 1, double.connections
        assert len(double.requests) == 20


def test_connections_end():
    for more, expected in (("request_limit=5", 4), ("policy_context=!once", 20),
                           ("max_ttl=1s", 2), ("max_idle=1s", 2)):
        double = PolicyDouble()
        with Postern(with_policy("{ inet:127.0.0.1:%d, %s }" % (double.port, more))) as server:
            for i in range(20):
                if i == 10 and "max" in more:
                    time.sleep(1.5)
                assert rcpt(server)[0].code == 250, more
            assert double.connections == expected, (more, double.connections)
            assert len(double.requests) == 20, more


DEFAULT = "451 4.3.5 <alice@example.org>: Recipient address rejected: Server configuration problem"


def test_servers_that_fail():
    double = PolicyDouble()
    server_at = "inet:127.0.0.1:%d" % double.port
    for server, least, most in (("inet:127.0.0.1:9", 1, 3), ("{ inet:127.0.0.1:9, try_limit=1 }", 0, 0.9),
                                ("unix:nowhere", 1, 3),
                                ("{ %s, policy_context=!close }" % server_at, 1, 3),
                                ("{ %s, policy_context=!garbage }" % server_at, 1, 3),
                                ("{ %s, policy_context=!noaction }" % server_at, 1, 3),
                                ("{ %s, policy_context=!silence, timeout=1s }" % server_at, 3, 5)):
        with Postern(with_policy(server)) as postern:
            reply, took = rcpt(postern)
            assert reply.lines == [DEFAULT], (server, reply)
            assert least <= took + 0.05 and took < most + 1, (server, took)


def test_one_that_stalls_delays_nobody_else():
    double = PolicyDouble()
    settings = with_policy("{ inet:127.0.0.1:%d, policy_context=!silence, timeout=3s, try_limit=1 }"
                           % double.port, event_loops="1")
    settings["smtpd_recipient_restrictions"] = (
        "check_recipient_access inline:{bob@example.org=OK}, "
        + settings["smtpd_recipient_restrictions"])
    with Postern(settings) as server, server.connect() as waiting, server.connect() as other:
        for smtp in (waiting, other):
            smtp.commands("HELO x", "MAIL FROM:<s@ok.test>")
        waiting.send("RCPT TO:<alice@example.org>\r\n")
        began = time.monotonic()
        for _ in range(100):
            assert other.command("RCPT TO:<bob@example.org>").code == 250
        assert time.monotonic() - began < 2, "others wait too"
        assert waiting.reply().lines == [DEFAULT]


with lab.Dns():
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            print(name, flush=True)
            test()
sys.exit(0)
