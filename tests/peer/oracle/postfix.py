"""A real Postfix beside the system's: configuration, queue and log in a directory of its own.

    with Postfix(base) as postfix:
        port = postfix.add({"smtpd_client_restrictions": "reject"})    before it is started
        postfix.start()

Every setting is an smtpd of its own on a port of its own, so that one instance serves hundreds.
Parameters that another daemon reads (see OF_REWRITE, OF_CLEANUP) get a daemon of their own too.
"""
import grp
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

from harness import wait_for

DAEMONS = "/usr/lib/postfix/sbin"

# Read by trivial-rewrite: classes of addresses, and how addresses become others.
OF_REWRITE = {
    "allow_percent_hack", "append_at_myorigin", "append_dot_mydomain", "empty_address_recipient",
    "inet_interfaces", "mydestination", "myorigin", "parent_domain_matches_subdomains",
    "proxy_interfaces", "recipient_delimiter", "show_user_unknown_table_name", "relay_domains", "resolve_dequoted_address",
    "swap_bangpath", "transport_maps", "virtual_alias_domains", "virtual_alias_maps",
    "virtual_mailbox_domains", "virtual_mailbox_maps", "virtual_transport", "local_transport",
    "relay_transport",
}
OF_CLEANUP = {"hopcount_limit", "header_size_limit"}

SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def _options(settings):
    for name, value in settings.items():
        if "\n" in value:
            raise ValueError("%s: one line only" % name)
    return "".join("\n  -o { %s = %s }" % item for item in settings.items())


class Postfix:
    def __init__(self, base, first_port=20000):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-postfix-"))
        self.dir.chmod(0o755)
        self.base = base
        self.next_port = first_port
        self.services = SERVICES
        self.master = None

    def path(self, name):
        return str(self.dir / name)

    def add(self, settings):
        """One more smtpd: its port, on every address of inet_interfaces."""
        port = self.next_port
        self.next_port += 1
        extra = {}
        for daemon, program, private, own in (("rewrite", "trivial-rewrite", "y", OF_REWRITE),
                                              ("cleanup", "cleanup", "n", OF_CLEANUP)):
            mine = {k: v for k, v in settings.items() if k in own}
            if mine:
                name = "%s-%d" % (daemon, port)
                self.services += "%s unix %s - n - 0 %s%s\n" % (name, private, program,
                                                                 _options(mine))
                extra["%s_service_name" % daemon] = name
        self.services += "%d inet n - n - - smtpd%s\n" % (port, _options({**settings, **extra}))
        return port

    def _write(self):
        for name in ("config", "queue", "data"):
            (self.dir / name).mkdir()
        owner = pwd.getpwnam("postfix")
        os.chown(self.dir / "data", owner.pw_uid, owner.pw_gid)
        self._queue(owner)
        main = {
            "queue_directory": self.path("queue"), "data_directory": self.path("data"),
            "command_directory": "/usr/sbin", "daemon_directory": DAEMONS,
            "maillog_file": self.path("log"), "maillog_file_prefixes": str(self.dir.parent),
            "meta_directory": "/etc/postfix", "shlib_directory": "/usr/lib/postfix",
            "import_environment": "MAIL_CONFIG", "alias_maps": "", "alias_database": "",
            "process_id_directory": "pid", "max_idle": "20s", **self.base,
        }
        (self.dir / "config/main.cf").write_text(
            "".join("%s = %s\n" % item for item in main.items()))
        (self.dir / "config/master.cf").write_text(self.services)

    def _queue(self, owner):
        """What "postfix check" would make, without the look at everything else."""
        drop = grp.getgrnam("postdrop").gr_gid
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
                     "incoming", "maildrop", "pid", "private", "public", "saved", "trace"):
            path = self.dir / "queue" / name
            path.mkdir()
            if name == "pid":
                continue
            os.chown(path, owner.pw_uid, drop if name in ("maildrop", "public") else -1)
            path.chmod({"maildrop": 0o730, "public": 0o710}.get(name, 0o700))

    def start(self):
        self._write()
        self.master = subprocess.Popen(
            [DAEMONS + "/master", "-d", "-c", self.path("config")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=dict(os.environ, MAIL_CONFIG=self.path("config")))
        wait_for(lambda: "daemon started" in self.log() or self.master.poll() is not None,
                 "Postfix does not start")
        assert self.master.poll() is None, "Postfix does not start:\n" + self.log()

    def log(self):
        path = self.dir / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.master is not None:
            try:
                os.killpg(self.master.pid, signal.SIGTERM)  # its daemons are of its group
            except ProcessLookupError:
                pass
            self.master.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
