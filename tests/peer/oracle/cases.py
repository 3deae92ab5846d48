"""Dialogues that Postfix and Postern both hear, under the same main.cf lines.

A case file (cases/*.txt) holds settings, and for each of them dialogues:

    == name of the setting
    smtpd_client_restrictions = check_client_access hash:@DIR@/access     lines of main.cf
    file access                     a table; its lines follow, indented. @DIR@ is where it is
        192.0.2.10   REJECT
    -- @192.0.2.10 R alice@example.org | D        a dialogue from that client address

Steps of a dialogue, separated by " | ":

    H name, E name      HELO, EHLO              M addr, R addr     MAIL FROM:<addr>, RCPT TO:<addr>
    D [text]            DATA and, after 354, a message of that text (\\n is CR LF)
    D2                  DATA, and nothing else
    close               expect that the server has closed the connection
    wait                a reply that nobody asked for
    anything else       a command as it stands; \\r \\n \\xNN \\| are escapes, "2=" in front: two replies

HELO helo.test and MAIL FROM:<s@ok.test> are put in front of the first R if they are missing;
"raw" before the first step prevents it. "name*N" repeats a step N times. A greeting is a step as well.

What differs must be one of the lines of the file `differences`; see read_differences().
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import time

from harness import Postern, Smtp

HERE = pathlib.Path(__file__).resolve().parent

# What both servers are told if a setting says nothing else (Appendix A of the specification).
BASE = {
    "compatibility_level": "3.6",
    "myhostname": "mx.example.org",
    "mydomain": "example.org",
    "myorigin": "example.org",
    "smtpd_banner": "$myhostname ESMTP oracle",
    "inet_interfaces": "127.0.0.1, ::1",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "example.org, localhost",
    "local_recipient_maps": "inline:{ alice=x, bob=x, r1=x, s=x }",
    "virtual_mailbox_domains": "vmbox.test",
    "virtual_mailbox_maps": "inline:{ carol@vmbox.test=carol/ }",
    "virtual_alias_domains": "valias.test",
    "virtual_alias_maps": "inline:{ dave@valias.test=alice@example.org }",
    "relay_domains": "relay.test",
    "relay_recipient_maps": "inline:{ erin@relay.test=x }",
    "recipient_delimiter": "+",
    "local_transport": "discard:",
    "virtual_transport": "discard:",
    "relay_transport": "discard:",
    "default_transport": "discard:",
    "smtpd_error_sleep_time": "0",
    "smtpd_hard_error_limit": "100",
    "smtpd_discard_ehlo_keywords": "silent-discard, dsn, etrn, limits",
    # Postfix 3.7 has other defaults than the version that Postern follows.
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_unauth_pipelining": "yes",
}

ONLY_POSTFIX = {"smtpd_client_connection_count_limit": "0", "smtpd_tls_security_level": "none"}
ONLY_POSTERN = {
    "smtpd_client_connection_count_limit": "0",
    "data_directory": ".", "queue_directory": "spool", "mail_owner": "", "event_loops": "1",
    "work_threads": "1", "dns_servers": "127.0.0.53", "dns_timeout": "1s", "dns_retry_time": "1s",
    "smtpd_peername_lookup": "yes", "greet_pause": "0", "virtual_mailbox_base": "mail",
}


# Of the harness, which are not ours.
DEFAULTS = {"smtpd_relay_restrictions": None}


class Setting:
    def __init__(self, name):
        self.name = name
        self.params = {}
        self.files = {}
        self.dialogues = []


class Dialogue:
    def __init__(self, text, client="127.0.0.1"):
        steps = [step.strip() for step in re.split(r"(?<!\\)\|", text)]
        first = re.match(r"@(\S+)\s*", steps[0])
        self.client = first.group(1) if first else client
        if first:
            steps[0] = steps[0][first.end():]
        self.text = text
        self.steps = list(_complete([step for step in steps if step]))

    def __repr__(self):
        return self.text


def _complete(steps):
    """Repetitions spelled out; HELO and MAIL where they are missing."""
    has_helo = has_mail = is_raw = steps[0].startswith("raw ")
    if is_raw:
        steps = [steps[0][4:]] + steps[1:]
    for step in steps:
        times = re.search(r"\*(\d+)$", step)
        if times:
            step = step[:times.start()]
        word = step.split(" ")[0].upper()
        if word in ("M", "R", "MAIL", "RCPT", "D") and not has_helo:
            yield "H helo.test"
            has_helo = True
        if word in ("R", "D") and not has_mail:
            yield "M s@ok.test"
            has_mail = True
        has_helo = has_helo or word in ("H", "E", "HELO", "EHLO", "XCLIENT")
        has_mail = has_mail or word in ("M", "MAIL")
        for _ in range(int(times.group(1)) if times else 1):
            yield step


def read_cases(path):
    """The settings in a case file."""
    settings, table, last = [], None, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("== "):
                settings.append(Setting(line[3:].strip()))
            elif line.startswith("-- "):
                settings[-1].dialogues.append(Dialogue(line[3:].strip()))
            elif line.startswith("file "):
                table = line[5:].strip()
                settings[-1].files[table] = ""
            elif line[0] in " \t" and table is not None:
                settings[-1].files[table] += line[4:] + "\n"
            elif line[0] in " \t":
                settings[-1].params[last] += " " + line.strip()
            else:
                table = None
                last, value = [part.strip() for part in line.split("=", 1)]
                settings[-1].params[last] = value
        except (IndexError, ValueError) as e:
            raise SystemExit("%s:%d: %s: %s" % (path, number, e, line))
    return settings


# ------------------------------------------------------------------ what is said and heard

SHORT = {"H": "HELO %s", "E": "EHLO %s", "M": "MAIL FROM:<%s>", "R": "RCPT TO:<%s>"}


def _unescape(text):
    raw = text.encode()
    return re.sub(rb"\\(r|n|t|\||\\|x[0-9a-fA-F]{2})",
                  lambda m: {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"|": b"|", b"\\": b"\\"}
                  .get(m.group(1)) or bytes([int(m.group(1)[1:], 16)]), raw)


def _clean(reply):
    """A reply as text, without what is different each time. EHLO keywords in any order."""
    lines = reply.lines or ["<closed>"]
    lines = [re.sub(r"queued as \S+", "queued as ID", line) for line in lines]
    if len(lines) > 1 and lines[0].startswith("250-mx."):
        lines = [lines[0]] + sorted("250 " + line[4:] for line in lines[1:])
    return "\n".join(lines)


class Speaker:
    """One client on one server."""

    def __init__(self, port, client):
        host = "::1" if ":" in client else "127.0.0.1"
        self.smtp = Smtp(port, host=host, source=client, greet=False, timeout=20)

    def say(self, step):
        """Does a step; what the server answered."""
        try:
            return self._say(step)
        except (ConnectionError, BrokenPipeError):
            return "<closed>"
        except OSError:  # a time-out; no more can be read after it
            return "<silence>"

    def _say(self, step):
        word, _, rest = step.partition(" ")
        if word == "greeting" or step == "wait":
            return _clean(self.smtp.reply())
        if step == "close":
            return "<closed>" if self.smtp.is_closed() else "<more>"
        if word == "D":
            return self._message(rest or "Subject: x\\n\\nbody")
        if word in SHORT:
            return _clean(self.smtp.command(_unescape(SHORT[word] % rest)))
        replies = re.match(r"(\d)=", step)
        text = _unescape(step[2:] if replies else "DATA" if step == "D2" else step)
        self.smtp.send(text + (b"" if replies else b"\r\n"))
        return "\n".join(_clean(self.smtp.reply())
                         for _ in range(int(replies.group(1)) if replies else 1))

    def _message(self, text):
        reply = self.smtp.command("DATA")
        if reply.code != 354:
            return _clean(reply)
        self.smtp.send(_unescape(text.replace("\\n", "\\r\\n")) + b"\r\n.\r\n")
        return _clean(self.smtp.reply())

    def close(self):
        self.smtp.close()


def hear(port, dialogue):
    """What a server answers to the steps of a dialogue: (step, answer) pairs."""
    speaker = Speaker(port, dialogue.client)
    try:
        heard = []
        for step in ["greeting"] + dialogue.steps:
            heard.append((step, speaker.say(step)))
            if heard[-1][1] == "<silence>":
                break
        return heard
    finally:
        speaker.close()


# ------------------------------------------------------------------ the two servers

def _fill(text, directory, policy_port):
    return text.replace("@DIR@", str(directory)).replace("@POLICY@", str(policy_port))


def write_tables(setting, directory):
    """The setting's tables, with their .db where its lines name one."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    for name, text in setting.files.items():
        (directory / name).write_text(text)
        for kind in ("hash", "btree"):
            if any("%s:@DIR@/%s" % (kind, name) in value for value in setting.params.values()):
                subprocess.run(["postmap", "%s:%s" % (kind, directory / name)], check=True,
                               stdin=subprocess.DEVNULL, capture_output=True)


class Prepared:
    """A setting on both servers."""

    def __init__(self, setting, number, postfix, policy_port):
        self.setting = setting
        self.directory = postfix.dir / "tables" / str(number)
        write_tables(setting, self.directory)
        self.params = {k: _fill(v, self.directory, policy_port)
                       for k, v in setting.params.items()}
        self.port = postfix.add({**ONLY_POSTFIX, **self.params})


class Outcome:
    """Of one step: what both said, and in which setting and dialogue."""

    def __init__(self, setting, dialogue, step, postfix, postern):
        self.setting, self.dialogue, self.step = setting, dialogue, step
        self.postfix, self.postern = postfix, postern

    @property
    def is_equal(self):
        return self.postfix == self.postern

    def __str__(self):
        return "%s\n    %s\n    %s\n      Postfix: %s\n      Postern: %s" % (
            self.setting.name, self.dialogue, self.step, self.postfix.replace("\n", " / "),
            self.postern.replace("\n", " / "))


def _start_postern(prepared):
    """A running server, or the words with which it refused to start."""
    settings = {**DEFAULTS, **BASE, **ONLY_POSTERN, **prepared.params}
    server = Postern(settings)
    server.write_config(listen="127.0.0.1:%d, [::1]:%d" % (server.port, server.port))
    try:
        server.start()
        if any("bl_client" in value for value in prepared.params.values()):
            time.sleep(0.3)  # lists are tested at the start; until then they count
        return server, None
    except AssertionError:
        words = [line for line in server.log().splitlines() if " error: " in line
                 or "fatal" in line]
        return server, "refuses to start: " + re.sub(r"^.*?error: ", "", (words or ["?"])[0])


def compare(prepared):
    """All dialogues of a setting, on both servers."""
    server, refusal = _start_postern(prepared)
    outcomes = []
    kind = AssertionError
    try:
        for dialogue in prepared.setting.dialogues:
            postfix = hear(prepared.port, dialogue)
            postern = ([(step, refusal) for step, _ in postfix] if refusal
                       else hear(server.port, dialogue))
            outcomes += [Outcome(prepared.setting, dialogue, step, a, b)
                         for (step, a), (_, b) in zip(postfix, postern)]
        kind = None
    finally:
        if refusal:
            shutil.rmtree(server.dir, ignore_errors=True)
        else:
            server.__exit__(kind)
    return outcomes


def compare_all(prepared, threads=12):
    """The outcomes of every setting, in their order. Many at a time: most of it is waiting."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for outcomes in pool.map(compare, prepared):
            yield from outcomes


# ------------------------------------------------------------------ wanted differences

class Difference:
    def __init__(self, number, fields):
        self.number = number
        self.fields = fields
        self.why = fields[-1]
        self.patterns = [re.compile(".*".join(re.escape(part) for part in field.split("*")), re.S)
                         for field in fields[:4]]
        self.used = 0

    def covers(self, outcome):
        values = (outcome.setting.name, outcome.step, outcome.postfix, outcome.postern)
        if all(pattern.fullmatch(value.replace("\n", " / "))
               for pattern, value in zip(self.patterns, values)):
            self.used += 1
            return True
        return False


def read_differences(path=HERE / "differences"):
    """Lines of five fields with " ;; " between: setting, step, what Postfix says, what Postern
    says, why. "*" stands for any text; lines of a reply are joined by " / "."""
    differences = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(";;")]
        if len(fields) != 5 or not fields[4]:
            raise SystemExit("%s:%d: five fields are wanted" % (path, number))
        differences.append(Difference(number, fields))
    return differences


def judge(outcomes, differences, show=print):
    """Counts; shows what no line allows, once a dialogue (what follows it follows from it)."""
    count = equal = allowed = 0
    bad, spoiled = [], set()
    for outcome in outcomes:
        count += 1
        key = (id(outcome.setting), id(outcome.dialogue))
        if outcome.is_equal:
            equal += 1
        elif any([d.covers(outcome) for d in differences]):
            allowed += 1
        elif key not in spoiled:
            spoiled.add(key)
            bad.append(outcome)
            show("different: %s" % outcome)
    return count, equal, allowed, bad


def env_number(name, default):
    return int(os.environ.get(name, default))
