"""Somebody who asks a site over HTTPS ten times a second, each time over a new connection."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_EVERY: Final = 0.1
# So long one waits for an answer.
_PATIENCE: Final = 3.0


@dataclass(frozen=True)
class Asked:
    """One request; times in seconds. `certificate` is the one that was shown, `problem` why there was no answer."""

    began: float
    ended: float
    certificate: str
    problem: str


@dataclass(frozen=True)
class Seen:
    """What came of all requests: `gap` is the longest time, in seconds, from one good answer to the next."""

    seconds: float
    sent: int
    lost: int
    gap: float
    certificates: set[str]


class Visitor:
    """A context manager; requests are counted between `begin` and `end`. Trusts one certificate authority alone."""

    def __init__(self, address: str, domain: str, authority: Path) -> None:
        self._address, self._domain = address, domain
        self._context = ssl.create_default_context(cafile=str(authority))
        self._asked: list[Asked] = []
        self._over = threading.Event()

    def __enter__(self) -> Visitor:
        self._pool = ThreadPoolExecutor(64)
        self._thread = threading.Thread(target=self._ask_on)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._pool.shutdown()

    def begin(self) -> None:
        """Count from now on; somebody answers by now."""
        self._since = time.monotonic()

    def end(self) -> Seen:
        """What was asked since `begin`, when each request is over."""
        until = time.monotonic()
        time_left = until + 2 * _PATIENCE
        while time.monotonic() < time_left and not self._over.wait(_EVERY):
            if any(one.began > until for one in self._asked):
                break
        self._pool.submit(lambda: None).result()
        asked = sorted((one for one in self._asked if self._since <= one.began <= until), key=lambda one: one.began)
        good = [self._since, *sorted(one.ended for one in asked if not one.problem)]
        gaps = [after - before for before, after in pairwise(good)]
        certificates = {one.certificate for one in asked if one.certificate}
        return Seen(until - self._since, len(asked), sum(bool(one.problem) for one in asked), max(gaps), certificates)

    def _ask_on(self) -> None:
        while not self._over.wait(_EVERY):
            self._pool.submit(self._ask)

    def _ask(self) -> None:
        began, certificate, problem = time.monotonic(), "", ""
        try:
            with (
                socket.create_connection((self._address, 443), timeout=_PATIENCE) as plain,
                self._context.wrap_socket(plain, server_hostname=self._domain) as secure,
            ):
                certificate = (secure.getpeercert(binary_form=True) or b"").hex()
                secure.sendall(f"GET / HTTP/1.1\r\nHost: {self._domain}\r\nConnection: close\r\n\r\n".encode())
                answer = http.client.HTTPResponse(secure, method="GET")
                answer.begin()
                problem = "" if answer.status == 200 and answer.read() else f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        self._asked.append(Asked(began, time.monotonic(), certificate, problem))
