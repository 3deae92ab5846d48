"""Runs the real server for a test: its own directory, its own port, its own log.

    with Postern({"virtual_mailbox_domains": "example.org", ...}) as server:
        with server.connect() as smtp:
            assert smtp.command("EHLO me").code == 250
        server.mails("you")            # bytes of each message in that Maildir

The server must end with exit code 0 and without a word from a sanitizer; otherwise the test
fails when the block ends. Everything runs on loopback, in a temporary directory.
"""
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

BINARY = os.environ.get("POSTERN", "postern")
SOURCE = pathlib.Path(os.environ.get("SOURCE_DIR", "."))
SANITIZER = re.compile(rb"ERROR: (Leak|Address|Thread)Sanitizer|runtime error:|postern: fatal")

def is_sanitized():
    """Is the server built with AddressSanitizer? Then memory counts about threefold."""
    path = shutil.which(BINARY)
    return path is not None and b"__asan_init" in pathlib.Path(path).read_bytes()


# For tests that measure memory: freed blocks do not wait in AddressSanitizer's quarantine.
LEAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0:"
                        "thread_local_quarantine_size_kb=0:malloc_context_size=1"}

BASE = {
    "myhostname": "mx.example.org",
    "myorigin": "example.org",
    "virtual_mailbox_domains": "example.org",
    "virtual_mailbox_maps": "inline:{ {you@example.org=you/}, {other@example.org=other/} }",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "mynetworks": "127.0.0.9/32",
    "smtpd_client_connection_count_limit": "0",
    "mail_owner": "",
    "data_directory": "data",
    "smtpd_peername_lookup": "no",  # no test asks the machine's own resolver
    "queue_directory": "spool",
    "virtual_mailbox_base": "mail",
    "event_loops": "2",
}


def free_port():
    """A port that nothing listens on, below the range that outgoing connections take theirs
    from: a test that opens thousands of them must not take it away before it is used."""
    while True:
        port = random.randrange(10240, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_for(condition, what, seconds=10):
    """Polls until condition() is true; its value. Fails with `what` otherwise."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timed out: " + what)
        time.sleep(0.02)


class Reply:
    """One SMTP reply: code, text of all lines joined by newlines, the raw lines."""

    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[0][:3]) if lines and lines[0][:3].isdigit() else 0
        self.text = "\n".join(line[4:] for line in lines)

    def __repr__(self):
        return " | ".join(self.lines)


class Smtp:
    """A client that says exactly what it is told, byte for byte."""

    def __init__(self, port, host="127.0.0.1", source=None, greet=True, timeout=15):
        """port: of host, or the path of a unix socket."""
        if isinstance(port, int):
            self.sock = socket.create_connection((host, port), timeout,
                                                 source_address=(source, 0) if source else None)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(str(port))
        self.file = self.sock.makefile("rb")
        self.banner = self.reply() if greet else None

    def reply(self):
        """The next reply; one with code 0 and no lines at end of file."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return Reply(lines)
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return Reply(lines)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def command(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def commands(self, *lines):
        return [self.command(line) for line in lines]

    def envelope(self, sender="a@client.test", rcpts=("you@example.org",)):
        """MAIL and RCPT, which must succeed."""
        reply = self.command("MAIL FROM:<%s>" % sender)
        assert reply.code == 250, reply
        for rcpt in rcpts:
            reply = self.command("RCPT TO:<%s>" % rcpt)
            assert reply.code == 250, reply

    def begin_data(self, **kwargs):
        """An envelope and DATA: the message is to come."""
        self.envelope(**kwargs)
        reply = self.command("DATA")
        assert reply.code == 354, reply

    def bdat(self, data, chunk=0, **kwargs):
        """A whole transaction by BDAT in chunks of that many bytes (0: one chunk). The reply to
        the last of them."""
        self.envelope(**kwargs)
        chunk = chunk or len(data) or 1
        pieces = [data[i:i + chunk] for i in range(0, len(data), chunk)] or [b""]
        for first in range(0, len(pieces), 100):  # a group at a time: replies must not pile up
            group = pieces[first:first + 100]
            for i, piece in enumerate(group):
                last = b" LAST" if first + i + 1 == len(pieces) else b""
                group[i] = b"BDAT %d%s\r\n%s" % (len(piece), last, piece)
            self.send(b"".join(group))
            for _ in group:
                reply = self.reply()
        return reply

    def message(self, data, **kwargs):
        """A whole transaction by DATA; data is stuffed here. The reply to the final dot."""
        self.begin_data(**kwargs)
        if data.startswith(b"."):
            data = b"." + data
        self.send(data.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def starttls(self, **kwargs):
        """STARTTLS and the handshake, without checking the certificate."""
        reply = self.command("STARTTLS")
        if reply.code == 220:
            self.wrap(**kwargs)
        return reply

    def wrap(self, name="mx.example.org", context=None):
        if context is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        self.file = self.sock.makefile("rb")

    def is_closed(self):
        """The server has closed the connection, and nothing is left to read."""
        try:
            return self.file.read(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Postern:
    """A running server. settings override BASE; a value of None removes a parameter; text is
    appended to main.cf as it is. Listens on 127.0.0.1:port unless settings say otherwise."""

    def __init__(self, settings=None, text="", files=None, env=None, limits=(), wait=True):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-test-"))
        self.port = free_port()
        self.settings = dict(BASE, listen="127.0.0.1:%d" % self.port)
        self.settings.update(settings or {})
        self.text = text
        self.env = dict(os.environ, **(env or {}))
        self.limits = list(limits)  # in front of the command: ["prlimit", "--nofile=64"]
        self.wait = wait  # for the word in the log that it runs
        self.process = None
        self.closed_log = b""
        for name, content in (files or {}).items():
            self.write(name, content)
        self.write_config()

    def write(self, name, content):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def write_config(self, **changes):
        self.settings.update(changes)
        lines = ["%s = %s\n" % item for item in self.settings.items() if item[1] is not None]
        path = self.write("main.cf.new", "".join(lines) + self.text)
        path.rename(self.dir / "main.cf")  # half a file is a good configuration too

    def start(self, wait=True):
        log = open(self.dir / "log", "ab")
        before = log.tell()
        self.process = subprocess.Popen(
            self.limits + [BINARY, "serve", "-c", str(self.dir / "main.cf")],
            stdout=log, stderr=subprocess.STDOUT, env=self.env, stdin=subprocess.DEVNULL)
        log.close()
        if wait:
            wait_for(lambda: b"listening on" in self.log_bytes()[before:]
                     or self.process.poll() is not None, "the server does not start")
            assert self.process.poll() is None, "the server ended: " + self.log()
        return self

    def log_bytes(self):
        return (self.dir / "log").read_bytes()

    def log(self):
        return self.log_bytes().decode("utf-8", "replace")

    def wait_log(self, pattern, seconds=10):
        """Waits until a line of the log matches; the match."""
        return wait_for(lambda: re.search(pattern, self.log()), "no log line " + pattern, seconds)

    def connect(self, **kwargs):
        return Smtp(self.port, **kwargs)

    def banner(self):
        """What a new client is told."""
        with self.connect() as smtp:
            return smtp.banner

    def reload(self):
        before = self.log_bytes()
        self.process.send_signal(signal.SIGHUP)
        return wait_for(lambda: re.search(rb"reloaded --|old configuration stays",
                                          self.log_bytes()[len(before):]), "no reload")

    def files(self, mailbox, folder="new"):
        path = self.dir / "mail" / mailbox / folder
        return sorted(path.iterdir()) if path.is_dir() else []

    def mails(self, mailbox, folder="new"):
        return [path.read_bytes() for path in self.files(mailbox, folder)]

    def all_files(self):
        """Every regular file below mail/ and spool/, relative."""
        return sorted(str(p.relative_to(self.dir)) for top in ("mail", "spool")
                      for p in (self.dir / top).rglob("*") if p.is_file())

    def rss_kb(self, field="VmRSS"):
        text = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
        return int(re.search(field + r":\s+(\d+)", text).group(1))

    def cpu_seconds(self):
        fields = pathlib.Path("/proc/%d/stat" % self.process.pid).read_text().rsplit(")", 1)[1]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Orderly end; fails on a bad exit code or a sanitizer's word."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("the server does not end:\n" + self.log()[-3000:])
        bad = SANITIZER.search(self.log_bytes())
        assert not bad, self.log()[-6000:]
        assert self.process.returncode in (0, -9), "exit %s:\n%s" % (
            self.process.returncode, self.log()[-3000:])

    def __enter__(self):
        return self.start(self.wait)

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
            else:
                if self.process and self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()
                print("--- end of the server's log:\n" + self.log()[-4000:])
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


def postern(*args, **kwargs):
    """Runs a verb to its end: the CompletedProcess, with text output."""
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=60, **kwargs)


def strip_trace(mail):
    """The message below the headers that the server put on top (up to its Received:)."""
    return re.sub(rb"\A.*?^Received:[^\n]*\n(?:[ \t][^\n]*\n)*", b"", mail, count=1,
                  flags=re.S | re.M)


def make_certificate(directory, name="mx.example.org", kind="rsa:2048", stem="cert"):
    """A self-signed pair stem.pem, stem.key in directory."""
    key = ["-newkey", kind] if kind.startswith("rsa") else [
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *key, "-days", "3650",
                    "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:" + name,
                    "-keyout", str(directory / (stem + ".key")),
                    "-out", str(directory / (stem + ".pem"))],
                   check=True, capture_output=True)


@contextlib.contextmanager
def scratch():
    path = pathlib.Path(tempfile.mkdtemp(prefix="postern-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
