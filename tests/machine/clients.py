"""Clients that curl is not: an upgraded connection, a steady stream of requests. A program for the namespaces.

    python clients.py upgrade ADDRESS NAME CA [HEADER...]
    python clients.py unfinished ADDRESS NAME CA
    python clients.py steady ADDRESS NAME CA COUNT INTERVAL
    python clients.py load ADDRESS NAME CA INTERVAL
    python clients.py slow ADDRESS NAME CA VERSION CONNECTIONS REQUESTS BYTES

A HEADER is `Name: value`. Each prints JSON, `steady` and `load` after a line `started` that follows their first answer;
`load` and `slow` end by SIGTERM. `upgrade` goes on after its first echo when it reads a line. What needs a library for
HTTP/2 or HTTP/3 is in http_clients.py: loading one takes four times as long as a short `load`.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from builder.lab.network import Namespace
    from tests.machine.hosts import Host


@dataclass(frozen=True)
class Reply:
    """An answer: `headers` keeps what came twice."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None when it did not come."""
        found = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(found) if found else None

    @property
    def names(self) -> set[str]:
        """The headers that came, in lower case."""
        return {key for key, _ in self.headers}


def parse(text: str) -> Reply:
    """What `curl --include` printed; interim answers are passed over."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    status = int(head.split()[1])
    if 100 <= status < 200:
        return parse(body)
    pairs = (line.partition(":") for line in head.splitlines()[1:])
    return Reply(status, tuple((key.strip().lower(), value.strip()) for key, _, value in pairs), body)


def get(host: Host, url: str, *words: str, family: int = 4, source: Namespace | None = None) -> Reply:
    """One request by curl, from another namespace."""
    done = host.curl(url, *words, family=family, source=source, timeout=30)
    assert done.returncode == 0, (url, done.stderr)
    return parse(done.stdout)


def argv(command: str, host: Host, name: str, *words: object, family: int = 4) -> list[str]:
    """This file as a program, or the one beside it."""
    file = Path(__file__).with_name("http_clients.py") if command in {"h3", "talk"} else Path(__file__)
    return [sys.executable, str(file), command, host.address(family), name, str(host.ca), *map(str, words)]


def get_h3(host: Host, name: str, path: str, *headers: str, family: int = 4, source: Namespace | None = None) -> Reply:
    """One request over HTTP/3."""
    place = source or host.machine.attacker(0)
    found = json.loads(place.run(argv("h3", host, name, path, *headers, family=family), timeout=30).stdout)
    return Reply(found["status"], tuple((key, value) for key, value in found["headers"]), found["body"])


class Steady:
    """Clients that ask at a steady rate while something happens to the host."""

    def __init__(self, host: Host, name: str, *, clients: int = 2, count: int = 50, interval: float = 0.1) -> None:
        self._running = [
            host.machine.attacker(number % 2).start(
                argv("steady", host, name, count, interval, family=4 if number % 2 else 6), stdout=subprocess.PIPE
            )
            for number in range(clients)
        ]
        for client in self._running:
            assert client.stdout is not None
            assert client.stdout.readline() == b"started\n"

    def results(self) -> list[str]:
        """Of every request its status, or what went wrong."""
        found: list[str] = []
        for client in self._running:
            out, _ = client.communicate(timeout=90)
            found += json.loads(out)
        return found


class Load:
    """A client that asks at a steady rate until it is told to stop."""

    def __init__(self, host: Host, name: str, *, family: int = 4, interval: float = 0.1) -> None:
        self._client = host.machine.attacker(0).start(
            argv("load", host, name, interval, family=family), stdout=subprocess.PIPE
        )
        assert self._client.stdout is not None
        assert self._client.stdout.readline() == b"started\n"

    def end(self) -> list[tuple[str, float]]:
        """Of every request its status, or what went wrong, and the seconds it took."""
        self._client.terminate()
        out, _ = self._client.communicate(timeout=90)
        return [(status, seconds) for status, seconds in json.loads(out)]


# The programs.


def _tls(address: str, name: str, ca: str) -> ssl.SSLSocket:
    plain = socket.create_connection((address, 443), timeout=30)
    # Or the request would wait for the acknowledgement of the handshake's end.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname=name)


def _upgrade(address: str, name: str, ca: str, *headers: str) -> object:
    with _tls(address, name, ca) as connection:
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n".encode()
            + "".join(f"{header}\r\n" for header in (*headers, "")).encode()
        )
        stream = connection.makefile("rwb")
        head = [line.decode().strip() for line in iter(stream.readline, b"\r\n")]
        echoes: list[str] = []
        for message in (b"one\n", b"two\n", b"three\n"):
            if len(echoes) == 1:
                print("open", flush=True)
                sys.stdin.readline()
            stream.write(message)
            stream.flush()
            echoes.append(stream.readline().decode())
    return {"head": head, "echoes": echoes}


def _ask(address: str, name: str, ca: str) -> str:
    try:
        with _tls(address, name, ca) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
            return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def _steady(address: str, name: str, ca: str, count: str, interval: str) -> object:
    found = [_ask(address, name, ca)]
    print("started", flush=True)
    start = time.monotonic()
    for number in range(1, int(count)):
        # The rate is the client's: what is not answered in time makes the next ones follow at once.
        time.sleep(max(0.0, start + number * float(interval) - time.monotonic()))
        found.append(_ask(address, name, ca))
    return found


def _load(address: str, name: str, ca: str, interval: str) -> object:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    found: list[tuple[str, float]] = []
    over = None
    while not over:
        began = time.monotonic()
        status = _ask(address, name, ca)
        found.append((status, time.monotonic() - began))
        if len(found) == 1:
            print("started", flush=True)
        over = signal.sigtimedwait({signal.SIGTERM}, max(0.0, began + float(interval) - time.monotonic()))
    return found


def _unfinished(address: str, name: str, ca: str) -> str:
    """How a request whose body never comes to its end is ended, over HTTP/2: answered or reset."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection((address, 443), timeout=60)
    with context.wrap_socket(plain, server_hostname=name) as connection:
        _begin_h2(connection, name, 1, 100)
        stream = connection.makefile("rb")
        while (kind := _received(stream)[0]) not in _ENDS:
            pass
    return _ENDS[kind]


_ENDS = {1: "answered", 3: "reset"}


def _received(stream: BinaryIO) -> tuple[int, int, bytes]:
    """A frame: its kind, its stream, its payload."""
    length, kind, _, of = struct.unpack(">I", b"\0" + stream.read(3)) + struct.unpack(">BBI", stream.read(6))
    return kind, of, stream.read(length)


def _slow(address: str, name: str, ca: str, version: str, connections: int, requests: int, size: int) -> None:
    """POSTs to /echo that never come to their end: of each its head and `size` bytes. Prints how many connections."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols([version])
    kept: list[ssl.SSLSocket] = []
    try:
        while len(kept) < connections:
            plain = socket.create_connection((address, 443), timeout=60 if version == "h2" else 10)
            one = context.wrap_socket(plain, server_hostname=name)
            kept.append(one)
            _begin_h2(one, name, requests, size) if version == "h2" else _begin(one, name, size)
    except OSError as error:
        print(f"refused: {error!r}", file=sys.stderr)
    print(len(kept), flush=True)
    signal.sigwait({signal.SIGTERM})


def _begin(connection: ssl.SSLSocket, name: str, size: int) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {name}\r\nContent-Length: 1000000\r\n\r\n"
    connection.sendall(head.encode() + bytes(size))


def _begin_h2(connection: ssl.SSLSocket, name: str, requests: int, size: int) -> None:
    """As little of RFC 9113 as it takes: a head in HPACK's static table, and no more data than the server's window."""
    path = b"/echo"
    head = b"\x83\x87" + bytes([0x04, len(path)]) + path + bytes([0x01, len(name)]) + name.encode()
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0))
    stream, window = connection.makefile("rb"), 65_535
    for number in range(1, 2 * requests, 2):
        while window < size:
            kind, of, payload = _received(stream)
            window += struct.unpack(">I", payload)[0] if (kind, of) == (8, 0) else 0
        window -= size
        connection.sendall(_frame(1, 4, number, head) + _frame(0, 0, number, bytes(size)))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def main() -> None:
    command, *words = sys.argv[1:]
    if command == "upgrade":
        found: object = _upgrade(*words)
    elif command == "unfinished":
        found = _unfinished(words[0], words[1], words[2])
    elif command == "slow":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        _slow(words[0], words[1], words[2], words[3], int(words[4]), int(words[5]), int(words[6]))
        return
    elif command == "load":
        found = _load(words[0], words[1], words[2], words[3])
    else:
        found = _steady(words[0], words[1], words[2], words[3], words[4])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
