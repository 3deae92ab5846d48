"""A real Dovecot for a test: its own configuration, users, directories and LMTP sockets.

    with Dovecot({"you": "", "full": "quota_rule=*:bytes=2000"}) as dovecot:
        Postern({"virtual_transport": dovecot.transport, ...})
        dovecot.mails("you")       # bytes of each message in the Maildir, oldest first
"""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

from harness import free_port, wait_for

CONFIG = """
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 0
mail_uid = {mail_user}
mail_gid = {mail_group}
mail_location = maildir:{dir}/mail/%n
auth_username_format = %Ln
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {dir}/users
}}
mail_plugins = quota
plugin {{
  quota = maildir:User quota
  quota_rule = *:bytes=100M
  quota_grace = 0
}}
protocol lmtp {{
  postmaster_address = postmaster@example.org
  mail_plugins = quota
}}
service anvil {{
  chroot =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {dir}/lmtp {{
    mode = 0666
  }}
}}
{extra}
"""


class Dovecot:
    def __init__(self, users, extra=""):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-dovecot-"))
        self.dir.chmod(0o755)
        self.port = free_port()
        me = pwd.getpwuid(os.getuid())
        is_root = me.pw_uid == 0
        mail_user = "nobody" if is_root else me.pw_name
        (self.dir / "mail").mkdir()
        if is_root:
            shutil.chown(self.dir / "mail", "nobody")
        lines = ["%s:{plain}x::::::%s\n" % (name, "userdb_" + options if options else "")
                 for name, options in users.items()]
        (self.dir / "users").write_text("".join(lines))
        (self.dir / "users").chmod(0o644)
        config = CONFIG.format(
            dir=self.dir, port=self.port, extra=extra,
            user="dovecot" if is_root else me.pw_name, group="dovecot" if is_root else
            me.pw_name, mail_user=mail_user, mail_group="nogroup" if is_root else me.pw_gid)
        (self.dir / "dovecot.conf").write_text(config)
        self.process = None

    @property
    def transport(self):
        return "lmtp:inet:127.0.0.1:%d" % self.port

    @property
    def unix_transport(self):
        return "lmtp:unix:%s/lmtp" % self.dir

    def start(self):
        with open(self.dir / "stderr", "ab") as stderr:
            self.process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.dir / "dovecot.conf")], stderr=stderr,
                stdin=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: (self.dir / "lmtp").exists() or self.process.poll() is not None,
                 "dovecot does not start")
        time.sleep(0.2)
        assert self.process.poll() is None, self.log()
        return self

    def log(self):
        return "".join(p.read_text() for p in (self.dir / "stderr", self.dir / "log")
                       if p.exists())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        (self.dir / "lmtp").unlink(missing_ok=True)

    def kill(self):
        """The master and all its children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        (self.dir / "lmtp").unlink(missing_ok=True)

    def mails(self, user):
        folder = self.dir / "mail" / user / "new"
        if not folder.is_dir():
            return []
        return [p.read_bytes() for p in sorted(folder.iterdir())]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
