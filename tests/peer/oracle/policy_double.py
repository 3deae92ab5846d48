"""A policy server that answers with the policy_context of the request, and remembers it all.

    policy_context = REJECT go away     ->  action=REJECT go away
    policy_context = !close             the connection ends without an answer
    policy_context = !garbage           a line that is no attribute
    policy_context = !noaction          an answer without action
    policy_context = !empty             an empty action
    policy_context = !silence           no answer at all
    policy_context = !once              as DUNNO, and the connection is closed after it
    policy_context = !extra             attributes that nobody knows around the action
"""
import socketserver
import threading

ANSWERS = {
    "!garbage": b"what do you want?\n\n",
    "!noaction": b"colour=blue\n\n",
    "!empty": b"action=\n\n",
    "!once": b"action=DUNNO\n\n",
    "!extra": b"colour=blue\naction=REJECT found\nsize=3\n\n",
}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.connections += 1
        number = self.server.connections
        while True:
            request = self._read()
            if request is None:
                return
            self.server.requests.append((number, request))
            if not self._answer(dict(request).get("policy_context", "")):
                return

    def _read(self):
        request = []
        while True:
            try:
                line = self.rfile.readline()
            except OSError:
                return None
            if not line:
                return None
            if line == b"\n":
                return request
            name, _, value = line.rstrip(b"\n").decode("utf-8", "replace").partition("=")
            request.append((name, value))

    def _answer(self, wanted):
        if wanted == "!close":
            return False
        if wanted == "!silence":
            threading.Event().wait(30)
            return False
        self.wfile.write(ANSWERS.get(wanted) or b"action=%s\n\n" % (wanted or "DUNNO").encode())
        return wanted != "!once"


class PolicyDouble(socketserver.ThreadingTCPServer):
    """requests: (number of the connection, [(name, value), ...]) in the order they came."""
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.port = self.server_address[1]
        self.requests = []
        self.connections = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
