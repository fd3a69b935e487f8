"""Asks and answers on the network from wherever it is started; knows nothing of the project, needs only Python.

As `agent.py ask` it reads lists of questions, one JSON line each, and writes the outcomes: `open`, `refused`, `silent`,
or the name of an error. As `agent.py serve tcp:ADDRESS:PORT udp:…` it answers everyone with a word. A socket belongs to
the user who made it, so one agent of root's asks as any user.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import selectors
import socket
import struct
import subprocess
import sys
import time
from typing import Any

Question = dict[str, Any]
# A datagram that the firewall refuses on its way out is an EPERM to its sender.
_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPERM}
_WORD = b"er-agent\n"
# An Initial of a version that does not exist, as long as the smallest that is allowed: QUIC answers with its versions.
_QUIC = b"\xc0\x1a\x2a\x3a\x4a\x08er-agent\x08er-agent" + bytes(1200 - 23)
_IP_RECVERR, _IPV6_RECVERR, _IPV6_CHECKSUM, _IPV6_HOPOPTS = 11, 25, 7, 54


def _made(question: Question, kind: int, protocol: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in question["to"] else socket.AF_INET
    if "uid" in question:
        os.seteuid(question["uid"])
    try:
        made = socket.socket(family, kind, protocol)
    finally:
        if "uid" in question:
            os.seteuid(0)
    made.setblocking(False)
    if "sport" in question or "source" in question:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        source = question.get("source", "::" if family == socket.AF_INET6 else "0.0.0.0")
        made.bind(_target({"to": source, "port": question.get("sport", 0)}))
    return made


def _target(question: Question) -> Any:
    """With the interface behind a %, as link-local addresses need."""
    kind = socket.AF_INET6 if ":" in question["to"] else socket.AF_INET
    return socket.getaddrinfo(question["to"], question.get("port", 0), kind, socket.SOCK_DGRAM)[0][4]


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class _Tcp:
    """A connection."""

    events = selectors.EVENT_WRITE

    def __init__(self, question: Question) -> None:
        self.socket = _made(question, socket.SOCK_STREAM)
        code = self.socket.connect_ex(_target(question))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def ready(self) -> str | None:
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "open"


class _Burst:
    """Many connections at the same moment; `refused` when each of them was."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.socket = select.epoll()
        self.open = {}
        for _ in range(question["count"]):
            one = _made(question, socket.SOCK_STREAM)
            one.connect_ex(_target(question))
            self.open[one.fileno()] = one
            self.socket.register(one, select.EPOLLOUT)

    def ready(self) -> str | None:
        for number, _ in self.socket.poll(0):
            one = self.open.pop(number)
            self.socket.unregister(one)
            code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            one.close()
            if code not in _REFUSED:
                return errno.errorcode.get(code, "open")
        return None if self.open else "refused"


class _Udp:
    """A datagram and whether anything comes back; when `loose`, from whatever port."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.socket = _made(question, socket.SOCK_DGRAM)
        word = {"quic": _QUIC, "dns": _DNS}.get(question.get("say", ""), _WORD)
        if question.get("loose"):
            self.socket.sendto(word, _target(question))
            return
        self.socket.connect(_target(question))
        self.socket.send(word)

    def ready(self) -> str | None:
        self.socket.recv(2000)
        return "open"


_DNS = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01"


class _Ping:
    """An echo request."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.six = ":" in question["to"]
        self.mark = os.urandom(16)
        protocol = socket.IPPROTO_ICMPV6 if self.six else socket.IPPROTO_ICMP
        # Without rights of root's there is a kind of socket for echoes alone; the kernel sets its id and its sum.
        self.plain = bool(question.get("plain"))
        self.socket = _made(question, socket.SOCK_DGRAM if self.plain else socket.SOCK_RAW, protocol)
        # Another id each time: the firewall would know the last one as a connection.
        body = struct.pack("!BBH2sH", 128 if self.six else 8, 0, 0, self.mark[:2], 1) + self.mark
        if not self.six:
            body = body[:2] + struct.pack("!H", _sum(body)) + body[4:]
        self.socket.sendto(body, _target(question))

    def ready(self) -> str | None:
        data = self.socket.recv(2000)
        answer = data if self.six or self.plain else data[20:]
        return "open" if answer[0] == (129 if self.six else 0) and self.mark in answer else None


class _Stray:
    """A TCP segment with the given flags that belongs to no connection; `open` when something comes back."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.port, self.six = question["port"], ":" in question["to"]
        self.socket = _made(question, socket.SOCK_RAW, socket.IPPROTO_TCP)
        sport = 20000 + int.from_bytes(os.urandom(2), "big") % 10000
        segment = struct.pack("!HHIIBBHHH", sport, self.port, 7, 7, 5 << 4, question["flags"], 1024, 0, 0)
        if self.six:
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 16)
        self.socket.connect(_target({**question, "port": 0}))
        if not self.six:
            ends = socket.inet_aton(self.socket.getsockname()[0]) + socket.inet_aton(question["to"])
            check = _sum(ends + struct.pack("!BBH", 0, 6, len(segment)) + segment)
            segment = segment[:16] + struct.pack("!H", check) + segment[18:]
        self.socket.send(segment)
        self.sport = sport

    def ready(self) -> str | None:
        data = self.socket.recv(2000)
        segment = data if self.six else data[20:]
        return "open" if struct.unpack("!HH", segment[:4]) == (self.port, self.sport) else None


class _Listeners:
    """A multicast listener query, as a router sends it; `open` when the host reports its groups."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.host = question["host"]
        self.socket = _made(question, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        options = self.socket.setsockopt
        options(socket.IPPROTO_IPV6, _IPV6_HOPOPTS, bytes((0, 0, 5, 2, 0, 0, 1, 0)))
        options(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        index = socket.if_nametoindex("lan")
        # Reports go to all routers of version 2.
        group = socket.inet_pton(socket.AF_INET6, "ff02::16") + struct.pack("@I", index)
        options(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        query = struct.pack("!BBHHH16sBBH", 130, 0, 0, 1, 0, bytes(16), 2, 1, 0)
        self.socket.sendto(query, ("ff02::1", 0, 0, index))

    def ready(self) -> str | None:
        data, source = self.socket.recvfrom(2000)
        return "open" if data[0] == 143 and source[0].split("%")[0] == self.host else None


class _Router:
    """A router's announcement of a hop limit, and nothing more; the asker looks whether the host believed it."""

    events = selectors.EVENT_READ

    def __init__(self, question: Question) -> None:
        self.socket = _made(question, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, question.get("ttl", 255))
        announcement = struct.pack("!BBHBBHII", 134, 0, 0, question["hops"], 0, 0, 0, 0)
        self.socket.sendto(announcement, ("ff02::1", 0, 0, socket.if_nametoindex("lan")))

    def ready(self) -> str | None:
        self.socket.recv(2000)
        return None


_KINDS: dict[str, Any] = {
    "tcp": _Tcp,
    "burst": _Burst,
    "udp": _Udp,
    "ping": _Ping,
    "stray": _Stray,
    "listeners": _Listeners,
    "router": _Router,
}


def _name(error: OSError) -> str:
    return "refused" if error.errno in _REFUSED else errno.errorcode.get(error.errno or 0, str(error))


def ask(questions: list[Question], patience: float) -> list[list[Any]]:
    """The outcome of each and the seconds it took, all asked at once."""
    begun = time.monotonic()
    outcomes: list[list[Any]] = [["silent", patience] for _ in questions]
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for number, question in enumerate(questions):
            start = time.monotonic()
            try:
                kind = _KINDS[question["op"]](question)
            except OSError as error:
                outcomes[number] = [_name(error), time.monotonic() - start]
                continue
            stack.callback(kind.socket.close)
            selector.register(kind.socket, kind.events, (number, kind, start))
        while selector.get_map() and (left := begun + patience - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                number, kind, start = key.data
                try:
                    outcome = kind.ready()
                except OSError as error:
                    outcome = _name(error)
                if outcome:
                    outcomes[number] = [outcome, time.monotonic() - start]
                    selector.unregister(key.fileobj)
    return outcomes


class _Scan:
    """A datagram to every port, and what comes back: answers, and errors, which say that it was not dropped."""

    def __init__(self, address: str) -> None:
        six = ":" in address
        self.address = address
        self.found: set[int] = set()
        self.socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if six else (socket.IPPROTO_IP, _IP_RECVERR)
        self.socket.setsockopt(level, option, 1)
        self.socket.setblocking(False)

    def collect(self) -> None:
        """Note the ports of all answers and errors that are there."""
        for flags in (0, socket.MSG_ERRQUEUE):
            with contextlib.suppress(BlockingIOError):
                while True:
                    # An error is told once by whatever call comes next; the queue has it with its port.
                    with contextlib.suppress(ConnectionRefusedError):
                        self.found.add(self.socket.recvmsg(2000, 500, flags)[3][1])

    def send(self, port: int) -> None:
        """Send until it is sent."""
        while True:
            try:
                self.socket.sendto(_QUIC, (self.address, port))
            except (BlockingIOError, ConnectionRefusedError):
                self.collect()
            else:
                return

    def run(self, patience: float) -> list[int]:
        """Every port twice; then wait."""
        for number in range(2 * 65_535):
            self.send(number % 65_535 + 1)
            if number % 64 == 0:
                self.collect()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self.collect()
            time.sleep(0.02)
        self.socket.close()
        return sorted(self.found)


def _answer(kind: str, server: socket.socket) -> None:
    if kind == "udp":
        server.sendto(*server.recvfrom(2000))
        return
    if kind == "aside":
        # An answer from another port leaves the question unanswered in the firewall's eyes.
        with socket.socket(server.family, socket.SOCK_DGRAM) as other:
            other.sendto(*server.recvfrom(2000))
        return
    connection, _ = server.accept()
    with connection:
        connection.sendall(_WORD)


def serve(wanted: list[str]) -> None:
    """Answer on every KIND:ADDRESS:PORT until the input ends; says `ready` once they are all open."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    for word in wanted:
        kind, _, rest = word.partition(":")
        address, _, port = rest.rpartition(":")
        six = ":" in address
        server = socket.socket(
            socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        )
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind(_target({"to": address, "port": int(port)}))
        if kind == "tcp":
            server.listen(64)
        selector.register(server, selectors.EVENT_READ, kind)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return
            with contextlib.suppress(OSError):
                _answer(key.data, key.fileobj)  # type: ignore[arg-type]


def main() -> None:
    """Ask until the input ends, or serve until the end."""
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
        return
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "read" in order:
            with open(order["read"]) as file:  # noqa: PTH123 - as it is in this place's network
                print(json.dumps(file.read()), flush=True)
        elif "run" in order:
            done = subprocess.run(order["run"], capture_output=True, text=True, check=False)
            print(json.dumps(done.stdout), flush=True)
        elif "scan" in order:
            print(json.dumps(_Scan(order["scan"]).run(order["patience"])), flush=True)
        else:
            print(json.dumps(ask(order["ask"], order["patience"])), flush=True)


if __name__ == "__main__":
    main()
