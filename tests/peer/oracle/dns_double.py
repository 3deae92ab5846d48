"""A DNS server between the resolver and nsd: hands questions on, except those it spoils.

As a program, `dns_double.py LISTEN NSD FAULTS`: port 53 of the address LISTEN, UDP and TCP; every
question goes to port 53 of NSD unless a line of the file FAULTS says otherwise:

    NAME TYPE FAULT        TYPE: A, MX ... or *; FAULT: servfail, refused, notimp, formerr, silence

As a class, for tests that decide by themselves: DnsDouble(address, answer), see there.
"""
import socket
import struct
import sys
import threading

TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA"}
RCODES = {"formerr": 1, "servfail": 2, "notimp": 4, "refused": 5}


def question(packet):
    """The first question of a packet: (name without the last dot, type)."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]])
        at += 1 + packet[at]
    kind = struct.unpack_from(">H", packet, at + 1)[0]
    return b".".join(labels).decode("latin-1").lower(), TYPES.get(kind, str(kind))


def question_end(packet):
    """Where the first question ends."""
    at = 12
    while packet[at]:
        at += 1 + packet[at]
    return at + 5


def error(packet, rcode):
    """The same question with an error code and nothing else."""
    head = packet[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, 0, 0, 0)
    return head + packet[12:question_end(packet)]


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


class DnsDouble:
    """answer(packet, is_tcp) gives the reply, a list of replies, or None for silence. It is
    called in threads of the double's own. log holds every question: (name, type, is_tcp)."""

    def __init__(self, address, answer):
        self.answer = answer
        self.log = []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.udp.bind(address)
        self.address = self.udp.getsockname()
        self.tcp = socket.create_server(self.address, reuse_port=False)
        for work in (self._serve_udp, self._accept):
            threading.Thread(target=work, daemon=True).start()

    def _replies(self, packet, is_tcp):
        self.log.append((*question(packet), is_tcp))
        replies = self.answer(packet, is_tcp)
        return replies if isinstance(replies, list) else [] if replies is None else [replies]

    def _serve_udp(self):
        while True:
            try:
                packet, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            if not packet:  # closed
                return
            for reply in self._replies(packet, False):
                self.udp.sendto(reply, peer)

    def _accept(self):
        while True:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_tcp, args=(sock,), daemon=True).start()

    def _serve_tcp(self, sock):
        with sock:
            try:
                while True:
                    size = struct.unpack(">H", read_exactly(sock, 2))[0]
                    for reply in self._replies(read_exactly(sock, size), True):
                        sock.sendall(struct.pack(">H", len(reply)) + reply)
            except OSError:
                pass

    def close(self):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


class Forwarder:
    """The answer function of the program: faults first, then nsd."""

    def __init__(self, server, faults):
        self.server = server
        self.faults = faults
        self.local = threading.local()

    def _udp(self):
        if not hasattr(self.local, "sock"):
            self.local.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.local.sock.settimeout(2)
            self.local.sock.connect(self.server)
        return self.local.sock

    def _ask(self, packet, is_tcp):
        if is_tcp:
            with socket.create_connection(self.server, 2) as sock:
                sock.sendall(struct.pack(">H", len(packet)) + packet)
                return read_exactly(sock, struct.unpack(">H", read_exactly(sock, 2))[0])
        sock = self._udp()
        sock.send(packet)
        while True:
            reply = sock.recv(65535)
            if reply[:2] == packet[:2]:
                return reply

    def __call__(self, packet, is_tcp):
        name, kind = question(packet)
        fault = self.faults.get((name, kind)) or self.faults.get((name, "*"))
        if fault == "silence":
            return None
        if fault:
            return error(packet, RCODES[fault])
        try:
            return self._ask(packet, is_tcp)
        except OSError:
            return error(packet, RCODES["servfail"])


def read_faults(path):
    faults = {}
    for line in open(path):
        if line.strip() and not line.startswith("#"):
            name, kind, fault = line.split()
            faults[name.lower(), kind] = fault
    return faults


if __name__ == "__main__":
    listen, server, path = sys.argv[1:]
    DnsDouble((listen, 53), Forwarder((server, 53), read_faults(path)))
    print("ready", flush=True)
    threading.Event().wait()
