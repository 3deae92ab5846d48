"""Messages arrive byte for byte: real ones from Debian's packages and generated nasty ones, by
DATA and by BDAT in several chunk sizes, in plain text and over TLS.

Real mail is looked for in test data that Debian ships (libpython3-testsuite,
golang-github-jhillyerd-enmime-dev) and in the directories of $POSTERN_CORPUS.
"""
import glob
import os
import pathlib
import random
import re
import unittest

from harness import Postern, make_certificate, scratch, strip_trace, wait_for

HEADER_LIMIT = 102400  # header_size_limit
HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
RETURN_PATH = re.compile(rb"return-path[ \t]*:", re.I)
REAL = ("/usr/lib/python3*/test/test_email/data/*", "/usr/lib/python3*/test/*.mbox",
        "/usr/share/gocode/src/github.com/jhillyerd/enmime/testdata/**/*.raw")


def crlf(text):
    """Every LF with its CR: what the server stores of a bare one."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", text)


def stored(message):
    """What must lie below Received: the message, without Return-Path: fields of its own, with
    an empty line in front if it has no header (RFC 5321 4.4, 4.5.3.1.6 for the limit)."""
    message = crlf(message)
    out, at, is_dropping, size, has_lines = [], 0, False, 0, False
    while at < len(message):
        end = message.find(b"\n", at)
        line = message[at:end + 1 if end >= 0 else len(message)]
        is_folded = has_lines and line[:1] in (b" ", b"\t")
        is_header = HEADER.match(line) is not None
        if not is_folded and not is_header and (has_lines or not line.startswith(b"From ")):
            break
        if is_header and not is_folded:
            is_dropping, size = RETURN_PATH.match(line) is not None, 0
        room = max(0, HEADER_LIMIT - size)
        size += len(line)
        has_lines = True
        at += len(line)
        if not is_dropping:
            out.append(line if len(line) <= room else line[:room] + b"\r\n" if room else b"")
    if not has_lines and message and not message.startswith(b"\r\n"):
        out.append(b"\r\n")
    return b"".join(out) + message[at:]


def real_messages():
    patterns = list(REAL)
    for directory in os.environ.get("POSTERN_CORPUS", "").split(":"):
        if directory:
            patterns += [directory + pattern for pattern in REAL] + [directory + "/*"]
    paths = {path for pattern in patterns for path in glob.glob(pattern, recursive=True)}
    messages = [pathlib.Path(path).read_bytes() for path in sorted(paths) if os.path.isfile(path)]
    return [crlf(message) for message in messages if len(message) < 2000000]


def of_size(size, line=b"0123456789" * 7):
    """A message of exactly that many bytes that ends with CR LF, with dots at line starts."""
    text = b"Subject: %d\r\n\r\n" % size
    text += (b"." + line + b"\r\n") * ((size - len(text)) // (len(line) + 3))
    text += b"x" * (size - len(text) - 2) + b"\r\n"
    return text if len(text) == size else b"a:b\r\n" + b"y" * (size - 7) + b"\r\n"


def nasty_messages():
    """Messages with CR LF line ends, except where the bare one is the point."""
    rng = random.Random(7)
    messages = {
        "headers only": b"Subject: x\r\nTo: y\r\n",
        "headers and an empty line": b"Subject: x\r\n\r\n",
        "no headers": b"just text\r\nmore\r\n",
        "no headers, empty line": b"\r\njust text\r\n",
        "nearly a header": b"Subject x: y\r\n\r\ntext\r\n",
        "blanks before the colon": b"Subject \t : y\r\nX: z\r\n\r\ntext\r\n",
        "folded first line": b" folded\r\nSubject: x\r\n\r\ntext\r\n",
        "only blanks": b"   \r\nSubject: x\r\n",
        "mbox line": b"From a@b Mon Jan  1\r\nSubject: x\r\n\r\ntext\r\n",
        "mbox line later": b"Subject: x\r\nFrom a@b Mon Jan  1\r\nTo: y\r\n\r\ntext\r\n",
        "forged return-path": b"Return-Path: <evil@x>\r\nSubject: a\r\nreturn-path : <evil@y>\r\n"
                              b"\tfolded\r\nTo: z\r\n\r\nReturn-Path: <body@x>\r\n",
        "dots": b"Subject: .\r\n\r\n" + b".\r\n..\r\n...\r\n.a\r\n.\r.\r\n" * 3,
        "dots in the header": b".: dot\r\n..: two\r\nX: y\r\n\r\n.\r\n",
        "nul": b"Subject: a\0b\r\n\0: x\r\n\r\n" + b"\0" * 5000 + b"\r\n",
        "every byte": b"Subject: x\r\n\r\n" + crlf(bytes(range(256))) + b"\r\n",
        "8 bit in the header": b"Subject: \xff\xfe\x80\r\nTo: \xc3\xa4\r\n\r\n\xe4\r\n",
        "bare cr": b"Subject: a\rb\r\n\r\n" + b"\r\r\ra\r.\r\rb\r\n\r\r\n",
        "bare lf": b"Subject: a\nTo: b\n\nx\ny\r\n\nz\r\n",
        "bare lf, much": b"Subject: a\n\n" + b"line\n" * 70000 + b"\r\n",
        "empty lines": b"Subject: x\r\n\r\n" + b"\r\n" * 40000,
        "one long line": b"Subject: x\r\n\r\n" + b"a" * 1000000 + b"\r\n",
        "one long line of dots": b"Subject: x\r\n\r\n" + b"." * 300000 + b"\r\n",
        "one long header": b"X: " + b"h" * 300000 + b"\r\nY: z\r\n\r\ntext\r\n",
        "long folded header": b"X: a\r\n" + b"\tfold\r\n" * 20000 + b"Y: z\r\n\r\ntext\r\n",
        "long line without header": b"a" * 300000 + b"\r\nText: x\r\n",
        "many headers": b"X-Header: value\r\n" * 10000 + b"\r\ntext\r\n",
        "dot lines": b"Subject: x\r\n\r\n" + b".\r\n" * 60000,
        "short lines": b"Subject: x\r\n\r\n" + b".a\r\nbc\r\n" * 40000,
        "random bytes": b"Subject: x\r\n\r\n" + crlf(rng.randbytes(700000)) + b"\r\n",
        "random newlines": b"Subject: x\r\n\r\n" + bytes(rng.choices(b"\r\n.a", k=200000)) + b"\r\n",
        "5 MB": of_size(5000000),
    }
    for size in (4096, 8192, 16384, 65536, 262144):
        for delta in (-1, 0, 1):
            messages["%d bytes" % (size + delta)] = of_size(size + delta)
            messages["a line of %d bytes" % (size + delta)] = (
                b"S: x\r\n\r\n" + b"a" * (size + delta - 8) + b"\r\n.\r\n")
    return messages


def dot_end_is_safe(message):
    """No CR LF "." CR LF and no bare-LF relative of it once it is dot-stuffed line by line."""
    return not re.search(rb"(?<!\r)\n\.", message)


class Sender:
    """Sends messages one after the other over one connection."""

    def __init__(self, server, is_tls):
        self.smtp = server.connect(timeout=60)
        self.smtp.command("EHLO client.test")
        if is_tls:
            self.smtp.starttls()
            self.smtp.command("EHLO client.test")

    def begin(self, mailbox):
        self.smtp.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<%s@example.org>\r\n" % mailbox)
        assert [self.smtp.reply().code, self.smtp.reply().code] == [250, 250]

    def data(self, message, mailbox, piece):
        """piece: the bytes of one write, 0 for all at once."""
        self.begin(mailbox)
        assert self.smtp.command("DATA").code == 354
        wire = re.sub(rb"(\A|\n)\.", rb"\1..", message) + b".\r\n"
        for at in range(0, len(wire), piece or len(wire)):
            self.smtp.send(wire[at:at + (piece or len(wire))])
        return self.smtp.reply()

    def bdat(self, message, mailbox, chunk):
        return self.smtp.bdat(message, chunk=chunk, rcpts=["%s@example.org" % mailbox])


# way, size of a write or chunk (0: whole), largest message for it
VARIANTS = (("data", 0, 10 ** 7), ("data", 1459, 10 ** 6), ("bdat", 0, 10 ** 7),
            ("bdat", 1, 1500), ("bdat", 777, 200000), ("bdat", 8192, 10 ** 6),
            ("bdat", 65536, 10 ** 7))


class Corpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.certs = cls.enterClassContext(scratch())
        make_certificate(cls.certs)
        boxes = " ".join("{b%d@example.org=b%d/}" % (i, i) for i in range(2 * len(VARIANTS)))
        cls.settings = {"virtual_mailbox_maps": "inline:{ %s }" % boxes,
                        "smtpd_tls_cert_file": cls.certs / "cert.pem",
                        "smtpd_tls_key_file": cls.certs / "cert.key"}

    def send_all(self, server, messages, names):
        """All messages in every way, the connections side by side would only be confusing."""
        for number, (way, size, largest) in enumerate(VARIANTS * 2):
            sender = Sender(server, is_tls=number >= len(VARIANTS))
            sent = [(name, m) for name, m in zip(names, messages) if len(m) <= largest]
            if way == "data":  # a message that has no final newline cannot go this way
                sent = [(name, m) for name, m in sent if m.endswith(b"\r\n") and
                        dot_end_is_safe(m)]
            for name, message in sent:
                reply = getattr(sender, way)(message, "b%d" % number, size)
                self.assertEqual(reply.code, 250, "%s %s %d: %s" % (name, way, size, reply))
            sender.smtp.close()
            self.compare(server, "b%d" % number, sent, "%s %d" % (way, size))

    def compare(self, server, mailbox, sent, way):
        mails = server.mails(mailbox)  # file names sort as they arrived
        self.assertEqual(len(mails), len(sent), way)
        for (name, message), mail in zip(sent, mails):
            got, expected = strip_trace(mail), stored(message)
            if got != expected:
                at = next((i for i, (x, y) in enumerate(zip(got, expected)) if x != y),
                          min(len(got), len(expected)))
                self.fail("%s by %s: differs at %d of %d/%d: %r instead of %r" % (
                    name, way, at, len(got), len(expected), got[at - 9:at + 30],
                    expected[at - 9:at + 30]))

    def test_real_messages_arrive_unchanged(self):
        messages = real_messages()
        if len(messages) < 20:
            self.skipTest("no corpus: install libpython3-testsuite or set POSTERN_CORPUS")
        with Postern(self.settings) as server:
            self.send_all(server, messages, ["real %d" % i for i in range(len(messages))])
        print("%d messages" % len(messages), end=" ", flush=True)

    def test_nasty_messages_arrive_unchanged(self):
        messages = nasty_messages()
        with Postern(self.settings) as server:
            self.send_all(server, list(messages.values()), list(messages))
            self.assertEqual(server.files("b0", "tmp"), [])
            wait_for(lambda: not any((server.dir / "spool" / "tmp").iterdir()), "spool is empty")

    def test_messages_that_only_bdat_can_carry(self):
        """No final newline, nothing at all, a body that ends in half a line end."""
        messages = {"nothing": b"", "one byte": b"x", "no newline": b"Subject: x\r\n\r\nend",
                    "half a newline": b"Subject: x\r\n\r\nend\r", "a dot": b".",
                    "dot line": b"S: x\r\n\r\n.\r\n", "end of data": b"S: x\r\n\r\n\r\n.\r\nQUIT\r\n",
                    "header without newline": b"Subject: x", "bare lf and dot": b"S: x\n\n.\n",
                    "binary": bytes(range(256)) * 300}
        with Postern(self.settings) as server:
            self.send_all(server, list(messages.values()), list(messages))

    def test_stored_as_lf_when_asked(self):
        messages = {name: m for name, m in nasty_messages().items() if len(m) < 400000}
        settings = dict(self.settings, maildir_newline="lf")
        with Postern(settings) as server:
            sender = Sender(server, is_tls=False)
            for message in messages.values():
                self.assertEqual(sender.bdat(message, "b0", 0).code, 250)
            sender.smtp.close()
            for (name, message), mail in zip(messages.items(), server.mails("b0")):
                self.assertEqual(strip_trace(mail) == stored(message).replace(b"\r\n", b"\n"),
                                 True, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
