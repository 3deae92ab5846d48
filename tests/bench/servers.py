"""The servers of a comparison, each in a temporary directory on a free port, with the same table
of mailboxes and the same Maildirs: Postern, a Postfix of its own, and smtp-sink, which reads and
forgets. Each tells what CPU time it has used so far: user and system, of all its processes,
those that have ended included, in nanoseconds as the scheduler counts them."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))
import harness  # noqa: E402
from oracle.postfix import SERVICES  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
DOMAIN = "example.org"
LIMITS = {  # what would end a conversation that does nothing but be refused
    "smtpd_hard_error_limit": "1000000", "smtpd_soft_error_limit": "1000000",
    "smtpd_client_connection_count_limit": "0", "mynetworks": "127.0.0.9/32",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "virtual_mailbox_domains": DOMAIN, "myhostname": "mx.example.org",
}


def thread_ns(pid):
    """What the living threads of a process have used."""
    total = 0
    for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def ended_children_ns(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) * 1000000000 // TICK


def children(pid):
    text = pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
    return [int(word) for word in text.split()]


def tree_ns(pid):
    """A process with all its living children, and what its ended ones have left."""
    try:
        total = thread_ns(pid) + ended_children_ns(pid)
        return total + sum(tree_ns(child) for child in children(pid))
    except FileNotFoundError:
        return 0


class Mailboxes:
    """A hash: table of `count` users userN@example.org -> example.org/userN/."""

    def __init__(self, directory, count):
        self.directory = directory
        self.path = self.table("mailboxes", (
            "user%d@%s\t%s/user%d/\n" % (n, DOMAIN, DOMAIN, n) for n in range(1, count + 1)))

    def table(self, name, lines):
        path = self.directory / name
        with open(path, "w") as out:
            out.writelines(lines)
        subprocess.run(["postmap", "hash:%s" % path], check=True)
        os.chmod(str(path) + ".db", 0o644)
        return path


@contextlib.contextmanager
def scratch():
    """A directory for everything; each server below it gets a part of the disk of its own, so that
    ext4's search for a free inode does not pass over what another one has deleted just now."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="postern-bench-"))
    path.chmod(0o755)
    subprocess.run(["chattr", "+T", str(path)], stderr=subprocess.DEVNULL)
    tempfile.tempdir = str(path)
    try:
        yield path
    finally:
        tempfile.tempdir = None
        shutil.rmtree(path, ignore_errors=True)


def count_mails(base):
    """Messages in new/ below. They stay: a mail server's files are not deleted at once either, and
    what has been deleted makes ext4 search long for the next free inode."""
    return sum(sum(1 for _ in os.scandir(new)) for new in pathlib.Path(base).glob("*/*/new"))


class Server:
    delivers = True

    helpers = ()  # processes that work for it

    def cpu_ns(self):
        return tree_ns(self.pid()) + sum(tree_ns(helper.pid) for helper in self.helpers)

    def mails(self):
        return count_mails(self.mail)

    def last_delivery(self):
        """When the last message came into a new/."""
        return max(os.stat(new).st_mtime for new in self.mail.glob("*/*/new"))


class Postern(Server):
    name = "postern"

    def __init__(self, mailboxes, certificate=None, **settings):
        values = dict(LIMITS, virtual_mailbox_maps="hash:%s" % mailboxes.path,
                      maillog_file="maillog", event_loops=None, virtual_mailbox_base="mail")
        if certificate:
            values.update(smtpd_tls_cert_file=certificate + ".pem",
                          smtpd_tls_key_file=certificate + ".key")
        values.update(settings)
        self.server = harness.Postern(values, limits=["prlimit", "--nofile=20000"], wait=False)
        self.port = self.server.port
        self.mail = self.server.dir / "mail"

    def start(self):
        self.server.start(wait=False)
        harness.wait_for(lambda: is_listening(self.port) or self.server.process.poll() is not None,
                         "postern does not start")
        assert self.server.process.poll() is None, self.server.log()

    def pid(self):
        return self.server.process.pid

    def status_kb(self, field):
        return self.server.rss_kb(field)

    def kill(self):
        self.server.kill()
        shutil.rmtree(self.server.dir, ignore_errors=True)

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.server.dir, ignore_errors=True)


def is_listening(port):
    wanted = "0100007F:%04X 00000000:0000 0A" % port
    return wanted in pathlib.Path("/proc/net/tcp").read_text()


MASTER = "127.0.0.1:%(port)d inet n - n - - smtpd\n" + SERVICES + "lmtp unix - - n - - lmtp\n"


class Postfix(Server):
    """Needs root: Postfix's daemons change their user."""

    name = "postfix"

    def __init__(self, mailboxes, certificate=None, **settings):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postfix-"))
        os.chmod(self.dir, 0o755)
        self.port = harness.free_port()
        self.mail = self.dir / "mail"
        for name in ("conf", "data", "queue", "mail"):
            (self.dir / name).mkdir()
        shutil.chown(self.dir / "data", "postfix")
        shutil.chown(self.mail, "nobody")
        values = dict(
            LIMITS, compatibility_level="3.6", queue_directory=self.dir / "queue",
            data_directory=self.dir / "data", mail_owner="postfix", setgid_group="postdrop",
            command_directory="/usr/sbin", daemon_directory="/usr/lib/postfix/sbin",
            mydestination="", inet_interfaces="127.0.0.1", inet_protocols="ipv4",
            virtual_mailbox_maps="hash:%s" % mailboxes.path, virtual_mailbox_base=self.mail,
            virtual_uid_maps="static:65534", virtual_gid_maps="static:65534",
            alias_maps="", alias_database="", virtual_mailbox_limit="0",
            maillog_file=self.dir / "maillog", maillog_file_prefixes=self.dir)
        if certificate:
            values.update(smtpd_tls_security_level="may",
                          smtpd_tls_cert_file=certificate + ".pem",
                          smtpd_tls_key_file=certificate + ".key", smtpd_tls_loglevel="1")
        values.update(settings)
        (self.dir / "conf" / "main.cf").write_text(
            "".join("%s = %s\n" % item for item in values.items()))
        (self.dir / "conf" / "master.cf").write_text(MASTER % {"port": self.port})

    def command(self, verb):
        return subprocess.run(["postfix", "-c", str(self.dir / "conf"), verb],
                              capture_output=True, text=True, timeout=60)

    def start(self):
        result = self.command("start")
        if not (self.dir / "queue/pid/master.pid").exists():
            raise AssertionError("postfix does not start: " + result.stderr + result.stdout)
        harness.wait_for(lambda: is_listening(self.port), "postfix does not listen")

    def pid(self):
        return int((self.dir / "queue/pid/master.pid").read_text())

    def stop(self):
        self.command("stop")
        shutil.rmtree(self.dir, ignore_errors=True)


def postgrey(directory):
    """(process, port)"""
    port = harness.free_port()
    directory.mkdir()
    shutil.chown(directory, "postgrey")
    process = subprocess.Popen(
        ["postgrey", "--inet=127.0.0.1:%d" % port, "--dbdir=%s" % directory, "--delay=300",
         "--pidfile=%s" % (directory / "pid"), "--whitelist-clients=/dev/null",
         "--whitelist-recipients=/dev/null"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness.wait_for(lambda: is_listening(port), "postgrey does not start")
    return process, port


class Sink(Server):
    name = "smtp-sink"
    delivers = False

    def __init__(self, *_unused, **settings):
        self.port = harness.free_port()
        self.options = settings.get("options", [])
        self.process = None

    def start(self):
        identity = ["-u", "nobody"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            ["smtp-sink", *identity, *self.options, "127.0.0.1:%d" % self.port, "4096"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_for(lambda: is_listening(self.port), "smtp-sink does not start")

    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
