"""What the stand-ins for providers share: an API on loopback, things with ids, and failures that can be switched on.

A stand-in answers what its public reference says, as far as a build and a clean-up ask. The server that it "makes" is a
machine that stands already: its key goes to `authorize`.
"""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = tuple[int, Any]
Json = dict[str, Any]


@dataclass
class Cloud:
    """An account: what is in it, by kind and id. `faults` are answers by method and a part of the path."""

    address: str
    token: str
    authorize: Callable[[str], None]
    faults: dict[tuple[str, str], Answer] = field(default_factory=dict)
    things: dict[str, dict[int, Json]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Set, a snapshot or a server is being made until it is not.
    slow: threading.Event = field(default_factory=threading.Event)
    starting: threading.Event = field(default_factory=threading.Event)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(101))

    def add(self, kind: str, **values: Any) -> Json:
        """A new thing of this kind."""
        number = next(self._ids)
        made = {"id": number, **values}
        self.things.setdefault(kind, {})[number] = made
        return made

    def all(self, kind: str) -> list[Json]:
        return list(self.things.get(kind, {}).values())

    def left(self) -> dict[str, list[str]]:
        """What costs or opens something, by kind: the names."""
        return {kind: [thing["name"] for thing in things.values()] for kind, things in self.things.items() if things}

    def handle(self, method: str, path: str, query: dict[str, list[str]], body: Json, token: str) -> Answer:
        """The answer of the API."""
        self.asked.append(f"{method} {path}")
        for (wanted, part), answer in self.faults.items():
            if method == wanted and part in path:
                return answer
        if token != f"Bearer {self.token}":
            return self.refusal()
        return self.answer(method, path.strip("/").split("/"), query, body)

    def refusal(self) -> Answer:
        raise NotImplementedError

    def answer(self, method: str, parts: list[str], query: dict[str, list[str]], body: Json) -> Answer:
        raise NotImplementedError


@contextmanager
def served(cloud: Cloud) -> Iterator[str]:
    """Its URL on loopback, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "")
            status, value = cloud.handle(
                self.command, split.path, parse_qs(split.query), json.loads(body or b"{}"), token
            )
            content = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            if content:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PUT = _do  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
