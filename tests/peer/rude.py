"""A mail server that does to each connection what the test says, byte for byte.

    with Rude(script) as server:     # script(talk): runs in a thread for each connection
        server.port, server.connections, server.commands

    def script(talk):
        talk.say("220 hi")
        line = talk.hear()           # "" at the end
"""
import socket
import ssl
import threading
import time


class Talk:
    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.file = sock.makefile("rb")
        self.is_tls = False

    def say(self, text):
        self.sock.sendall(text if isinstance(text, bytes) else text.encode() + b"\r\n")

    def hear(self):
        line = self.file.readline().decode("utf-8", "replace").rstrip("\r\n")
        if line:
            self.server.commands.append(line)
        return line

    def secure(self, context):
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.file = self.sock.makefile("rb")
        self.is_tls = True

    def silence(self):
        """Until the client hangs up."""
        while self.file.read(1):
            pass

    def serve(self, replies=None, hello=("250 rude",)):
        """A whole conversation: replies by the first letters of the command; a function says it
        itself. What is not listed is answered with 250."""
        replies = {"DATA": "354 go", **(replies or {})}
        self.say(replies.get("", "220 rude"))
        while line := self.hear():
            verb = line[:4].upper()
            reply = replies.get(verb, "250 2.0.0 ok")
            if verb in ("EHLO", "LHLO") and verb not in replies:
                for text in hello:
                    self.say(text)
            elif callable(reply):
                reply(self, line)
            else:
                self.say(reply)
            if verb == "QUIT":
                return


class Rude:
    def __init__(self, script, host="127.0.0.1", port=0):
        self.script = script
        self.connections, self.open, self.most_open = 0, 0, 0
        self.commands, self.socks = [], []
        self.lock = threading.Lock()
        self.listener = socket.create_server((host, port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                self.socks.append(sock)
            threading.Thread(target=self.run, args=(sock,), daemon=True).start()

    def run(self, sock):
        talk = Talk(self, sock)
        try:
            self.script(talk)
        except (OSError, ssl.SSLError):
            pass
        with self.lock:
            self.open -= 1
        try:
            talk.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        talk.file.close()
        talk.sock.close()

    def rcpts(self):
        return [c for c in self.commands if c.startswith("RCPT")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def endless_line(talk, line=None):
    while True:
        talk.sock.sendall(b"x" * 10000)


def endless_reply(talk, line=None):
    while True:
        talk.say("250-more and more")


def silence(talk, line=None):
    talk.silence()


def hang_up(talk, line=None):
    raise OSError("hung up")


def trickle(talk, line=None):
    while True:
        talk.sock.sendall(b"2")
        time.sleep(0.1)
