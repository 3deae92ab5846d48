"""A network of its own for tests that need root: loopback with test addresses, and DNS.

    lab.enter()                 first thing in a program: it goes on in namespaces of its own
    with lab.Dns() as dns:      nsd with the zones in zones/, behind a double that spoils some answers

Inside, /etc/resolv.conf, /etc/hosts and /etc/nsswitch.conf are the laboratory's, every address in
CLIENTS can be a client's, and port 53 is free. The namespaces are private (mounts, network,
processes): nothing outside changes, and all that was started ends with the program.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
RESOLVER = "127.0.0.53"
NSD = "127.0.0.54"
CLIENTS4 = ["192.0.2.1/24", "198.51.100.1/24", "203.0.113.1/24", "10.0.0.1/8"]
CLIENTS6 = ["2001:db8::1", "2001:db8::10", "2001:db8::20", "2001:db8:5::1"]
SKIPPED = 77  # CMake's word for it is SKIP_RETURN_CODE

FILES = {
    "/etc/resolv.conf": "nameserver %s\noptions timeout:1 attempts:1\n" % RESOLVER,
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def skip(why):
    print("skipped: " + why)
    sys.exit(SKIPPED)


def need(*programs):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in programs:
        if shutil.which(program, path=path) is None:
            skip(program + " is not installed")


def _run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _furnish():
    """Inside: addresses, and the files that a resolver reads."""
    _run("ip", "link", "set", "lo", "up")
    for address in CLIENTS4:
        _run("ip", "addr", "add", address, "dev", "lo")
    for address in CLIENTS6:
        _run("ip", "-6", "addr", "add", address + "/128", "dev", "lo", "nodad")
    place = pathlib.Path(tempfile.mkdtemp(prefix="postern-lab-"))
    place.chmod(0o755)  # Postfix reads them as another user
    for name, text in FILES.items():
        path = place / os.path.basename(name)
        path.write_text(text)
        _run("mount", "--bind", str(path), os.path.realpath(name))
    shutil.rmtree(place)  # the mounts keep the files


def enter():
    """Runs this program again inside; returns only there."""
    if os.environ.get("POSTERN_LAB") == str(os.getppid()) or os.environ.get("POSTERN_LAB") == "1":
        _furnish()
        return
    if os.geteuid() != 0:
        skip("namespaces of its own need root")
    need("unshare", "ip", "nsd", "mount")
    probe = subprocess.run(["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "true"],
                           capture_output=True, text=True)
    if probe.returncode != 0:
        skip("no namespaces here: " + probe.stderr.strip())
    os.environ["POSTERN_LAB"] = "1"
    os.execvp("unshare", ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc",
                          sys.executable, "-B", *sys.argv])


class Dns:
    """nsd and the double, for as long as the block runs."""

    def __init__(self, zones=HERE / "zones", faults=HERE / "zones" / "faults"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-dns-"))
        self.zones = zones
        self.faults = faults
        self.processes = []

    def _config(self):
        lines = ["server:", "  ip-address: " + NSD, "  username: \"\"", "  chroot: \"\"",
                 "  zonesdir: \"%s\"" % self.zones, "  database: \"\"", "  server-count: 1",
                 "  pidfile: \"%s/pid\"" % self.dir, "  xfrdfile: \"\"",
                 "  zonelistfile: \"%s/zones\"" % self.dir, "  logfile: \"%s/log\"" % self.dir,
                 "  rrl-ratelimit: 0", "  rrl-whitelist-ratelimit: 0",
                 "remote-control:", "  control-enable: no"]
        for path in sorted(self.zones.glob("*.zone")):
            name = path.name[:-len(".zone")]
            lines += ["zone:", "  name: \"%s\"" % ("." if name == "root" else name),
                      "  zonefile: \"%s\"" % path.name]
        (self.dir / "nsd.conf").write_text("\n".join(lines) + "\n")

    def _wait_nsd(self):
        for _ in range(200):
            answer = subprocess.run(["dig", "+short", "+time=1", "+tries=1", "@" + NSD,
                                     "mx.ok.test", "A"], capture_output=True, text=True)
            if answer.stdout.strip() == "192.0.2.25":
                return
            time.sleep(0.05)
        raise AssertionError("nsd does not answer:\n" + (self.dir / "log").read_text())

    def __enter__(self):
        self._config()
        self.processes.append(subprocess.Popen(
            ["nsd", "-d", "-c", str(self.dir / "nsd.conf")], stdin=subprocess.DEVNULL,
            env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")))
        double = subprocess.Popen([sys.executable, "-B", str(HERE / "dns_double.py"), RESOLVER,
                                   NSD, str(self.faults)], stdout=subprocess.PIPE, text=True)
        self.processes.append(double)
        assert double.stdout.readline() == "ready\n"
        self._wait_nsd()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
