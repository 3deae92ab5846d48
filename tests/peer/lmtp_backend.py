"""A next hop that does what the test says: LMTP (or SMTP) on loopback or a unix socket, slow, rude,
or gone.

    with Backend(rcpt={"full@example.org": "452 4.2.2 full"}) as backend:
        Postern({"virtual_transport": backend.transport, ...})
        backend.messages       # (sender, [recipients], bytes) of what it took

rcpt, data: replies by address, "" for the default; a function gets the address. Values may be
changed at any time. A reply of None closes the connection instead.
"""
import pathlib
import socket
import tempfile
import threading
import time


class Backend:
    def __init__(self, port=None, lmtp=True, path=None, keywords=("PIPELINING", "8BITMIME",
                                                                  "ENHANCEDSTATUSCODES")):
        self.lmtp = lmtp
        self.keywords = list(keywords)
        self.rcpt, self.data = {}, {}
        self.greeting = "220 backend ready"
        self.mail_reply = "250 2.1.0 ok"
        self.delay_greeting = self.delay_rcpt = self.delay_data = self.delay_dot = 0
        self.drop_after_dot = False  # takes the message, says nothing, hangs up
        self.drop_in_data = 0        # hangs up after that many bytes of the message
        self.messages, self.connections, self.commands = [], 0, []
        self.path, self.port, self.listener = path, port, None
        self.clients = set()
        self.lock = threading.Lock()
        self.start()

    @property
    def transport(self):
        kind = "lmtp" if self.lmtp else "smtp"
        if self.path:
            return "lmtp:unix:%s" % self.path
        return "%s:[127.0.0.1]:%d" % (kind, self.port) if not self.lmtp else (
            "lmtp:inet:127.0.0.1:%d" % self.port)

    def start(self):
        assert self.listener is None
        if self.path:
            pathlib.Path(self.path).unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.path))
        else:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", self.port or 0))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(128)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """Nobody listens any more, and whoever is connected is cut off."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.lock:
            clients, self.clients = self.clients, set()
        for sock in clients:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if not self.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            with self.lock:
                self.clients.add(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            self.talk(sock, sock.makefile("rb"))
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.clients.discard(sock)
            sock.close()

    def say(self, sock, text):
        if text is None:
            raise ValueError("hang up")
        sock.sendall(text if isinstance(text, bytes) else text.encode() + b"\r\n")

    @staticmethod
    def choose(replies, address, default):
        reply = replies(address) if callable(replies) else replies.get(address,
                                                                       replies.get("", default))
        return reply

    def talk(self, sock, stream):
        time.sleep(self.delay_greeting)
        self.say(sock, self.greeting)
        sender, rcpts = None, []
        while True:
            line = stream.readline()
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            verb = text[:4].upper()
            self.commands.append(text)
            if verb in ("LHLO", "EHLO"):
                lines = ["backend"] + self.keywords
                for keyword in lines[:-1]:
                    self.say(sock, "250-" + keyword)
                self.say(sock, "250 " + lines[-1])
            elif verb == "MAIL":
                sender, rcpts = text[text.index("<") + 1:text.index(">")], []
                self.say(sock, self.mail_reply)
            elif verb == "RCPT":
                address = text[text.index("<") + 1:text.index(">")]
                time.sleep(self.delay_rcpt)
                reply = self.choose(self.rcpt, address, "250 2.1.5 ok")
                self.say(sock, reply)
                if reply.startswith("2"):
                    rcpts.append(address)
            elif verb == "DATA":
                if not rcpts:
                    self.say(sock, "503 5.5.1 no valid recipients")
                    continue
                time.sleep(self.delay_data)
                self.say(sock, "354 go on")
                self.take(sock, stream, sender, rcpts)
                sender, rcpts = None, []
            elif verb == "RSET":
                sender, rcpts = None, []
                self.say(sock, "250 2.0.0 ok")
            elif verb == "QUIT":
                self.say(sock, "221 2.0.0 bye")
                return
            else:
                self.say(sock, "250 2.0.0 ok")

    def take(self, sock, stream, sender, rcpts):
        body = b""
        while True:
            line = stream.readline()
            if not line:
                raise ValueError("cut off")
            if line == b".\r\n":
                break
            body += line[1:] if line.startswith(b".") else line
            if self.drop_in_data and len(body) > self.drop_in_data:
                raise ValueError("hang up")
        time.sleep(self.delay_dot)
        if self.drop_after_dot:
            self.messages.append((sender, rcpts, body))
            raise ValueError("hang up")
        replies = [self.choose(self.data, r, "250 2.0.0 <%s> saved" % r) for r in rcpts]
        taken = [r for r, reply in zip(rcpts, replies) if reply and reply[0:1] in ("2", b"2")]
        if taken:
            self.messages.append((sender, taken, body))
        for reply in replies if self.lmtp else replies[:1]:
            self.say(sock, reply)

    def bodies(self):
        return [body for _, _, body in self.messages]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
