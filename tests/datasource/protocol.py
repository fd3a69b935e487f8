"""A metadata service as a value: routes, and the rules that a request must keep or is refused by."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived; names of headers are in lower case. `host` and `port` are where, `source` the client's port."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host: str = ""
    port: int = 80
    source: int = 40000


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back. `rule` is why a request was refused."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a request must keep, in words, and the status of those that do not."""

    says: str
    status: int
    kept: Callable[[Request], bool]


@dataclass(frozen=True, slots=True)
class Route:
    """One resource. A body that depends on the request is made by a function."""

    path: str
    body: bytes | Callable[[Request], bytes] = b""
    needs: tuple[Rule, ...] = ()
    method: str = "GET"
    query: str | None = None
    port: int = 80
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def matches(self, request: Request) -> bool:
        """Whether the request is for this resource."""
        return ((self.method, self.path, self.port) == (request.method, request.path, request.port)) and self.query in {
            None,
            request.query,
        }

    def answer(self, request: Request) -> Response:
        """The resource, or the refusal by the first rule that is broken."""
        broken = next((rule for rule in self.needs if not rule.kept(request)), None)
        if broken:
            return Response(broken.status, rule=broken.says)
        body = self.body(request) if callable(self.body) else self.body
        return Response(self.status, body, self.headers)


Routes = tuple[Route, ...]


def json_bytes(value: object) -> bytes:
    """A JSON document."""
    return json.dumps(value).encode()


def answer(routes: Routes, request: Request) -> Response:
    """The answer of a service with these routes; what it does not have is not found."""
    route = next((route for route in routes if route.matches(request)), None)
    return route.answer(request) if route else Response(404)


def header(name: str, value: str, status: int) -> Rule:
    """A header with exactly this value."""
    return Rule(f"{name}: {value}", status, lambda request: request.headers.get(name.lower()) == value)


def number(name: str, low: int, high: int, status: int) -> Rule:
    """A header that is a whole number between two others."""

    def kept(request: Request) -> bool:
        value = request.headers.get(name.lower(), "")
        return value.isascii() and value.isdigit() and low <= int(value) <= high

    return Rule(f"{name}: {low} to {high}", status, kept)


def direct(status: int) -> Rule:
    """Not through a proxy: that would be somebody else's request."""
    return Rule("no X-Forwarded-For", status, lambda request: "x-forwarded-for" not in request.headers)


def low_port(status: int) -> Rule:
    """From a port that only root can bind."""
    return Rule("a source port below 1024", status, lambda request: request.source < 1024)


class Tokens:
    """Tokens that were handed out, and the rule that one is shown."""

    def __init__(self, name: str, status: int = 401) -> None:
        self._made: set[str] = set()
        self.rule = Rule(name, status, lambda request: request.headers.get(name.lower()) in self._made)

    def make(self, request: Request) -> bytes:
        """A new token."""
        token = f"token-{len(self._made)}-{request.source}=="
        self._made.add(token)
        return token.encode()


Tree = dict[str, "Tree | str"]


def tree(top: str, content: Tree, needs: tuple[Rule, ...] = ()) -> Iterator[Route]:
    """EC2's style: a directory, with and without a slash at its end, lists what is in it."""
    listing = "\n".join(name if isinstance(value, str) else f"{name}/" for name, value in content.items()).encode()
    yield Route(f"{top}/", listing, needs)
    yield Route(top, listing, needs)
    for name, value in content.items():
        if isinstance(value, str):
            yield Route(f"{top}/{name}", value.encode(), needs)
        else:
            yield from tree(f"{top}/{name}", value, needs)
