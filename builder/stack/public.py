"""How the world reaches a public service beside its domains: by which paths, with which headers, and who may ask.

Each `…_fault` gives the first thing wrong with a value, if any. `sites` is what the proxy serves for a stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from builder import messages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.stack.domains import Fault
    from builder.stack.model import Service, Stack

ROOT: Final = "/"
# Whole segments of characters that no encoding changes; none of them is `.` or `..`, which clients take out.
PATH: Final = r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?"
# A token of RFC 9110 in the letters that headers have; not a name with `_`, which servers drop.
HEADER: Final = r"[A-Za-z][A-Za-z0-9-]{0,63}"
USER: Final = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
# What holds for one hop, says how the bytes are to be read, or is the proxy's own to say.
_PROXYS_HEADERS: Final = frozenset(
    """
    connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade
    content-encoding content-length content-range date location alt-svc server via www-authenticate
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
# Below, a stolen hash is guessed too fast; above, each guess costs the proxy seconds.
_COSTS: Final = range(10, 15)


def path_fault(text: str) -> Fault | None:
    """Of the beginning of a path."""
    return None if re.fullmatch(PATH, text) else (messages.PATH_FORM, {"value": text})


def normal_paths(texts: Iterable[str]) -> tuple[str, ...]:
    """Paths as a service has them: each once and without a slash at its end, and none where one is the root."""
    found = dict.fromkeys(text.rstrip("/") for text in texts)
    return () if "" in found else tuple(found)


def header_fault(name: str) -> Fault | None:
    """Of the name of a header that answers get or lose."""
    if not re.fullmatch(HEADER, name):
        return messages.HEADER_NAME, {"value": name}
    return (messages.HEADER_PROXYS, {"name": name}) if name.lower() in _PROXYS_HEADERS else None


def header_value_fault(value: str) -> Fault | None:
    """Of the value of a header. Braces are what Caddy puts something else for, however they are written."""
    if "{" in value or "}" in value:
        return messages.HEADER_BRACES, {}
    if not _HEADER_VALUE.fullmatch(value) or {"`", "\\"} <= set(value):
        return messages.HEADER_VALUE, {}
    return None


def user_fault(name: str) -> Fault | None:
    """Of the name of one who may ask."""
    return None if re.fullmatch(USER, name) else (messages.AUTH_USER, {"value": name})


def hash_fault(value: str) -> Fault | None:
    """Of what is kept of a password. It may be the password itself: no problem quotes it."""
    found = _BCRYPT.fullmatch(value)
    if not found:
        return messages.AUTH_HASH, {}
    return None if int(found[1]) in _COSTS else (messages.AUTH_COST, {"cost": found[1]})


@dataclass(frozen=True, slots=True)
class Route:
    """The service that answers below a path."""

    path: str
    service: Service


_OWN: Final = attrgetter("max_body", "response_timeout", "protocol", "headers", "basic_auth", "sleep")


@dataclass(frozen=True, slots=True)
class Site:
    """Names that are served alike: by routes, the longest path first, or by a redirect to another name."""

    names: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    redirect: str | None = None

    @property
    def plain(self) -> bool:
        """Whether it is all of one service's, which says nothing else of how it is served."""
        services = [route.service for route in self.routes]
        return self.whole and len(services) == 1 and _OWN(services[0]) == (None, None, "http", (), (), None)

    @property
    def whole(self) -> bool:
        """Whether every path has a service."""
        return any(route.path == ROOT for route in self.routes)


def sites(stack: Stack) -> tuple[Site, ...]:
    """What the proxy serves for a stack, in the order of its services."""
    served: dict[str, list[Route]] = {}
    for service in stack.public:
        for domain in service.domains:
            served.setdefault(domain, []).extend(Route(path, service) for path in service.paths or (ROOT,))
    alike: dict[tuple[Route, ...], list[str]] = {}
    for domain, routes in served.items():
        alike.setdefault(_in_order(routes), []).append(domain)
    moved = (
        Site(service.redirect_from, redirect=service.domains[0]) for service in stack.public if service.redirect_from
    )
    return (*(Site(tuple(names), routes) for routes, names in alike.items()), *moved)


def _in_order(routes: Iterable[Route]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=lambda route: (-len(route.path), route.path)))


def rpc_names(stack: Stack) -> frozenset[str]:
    """The names whose front page is asked of an app by HTTP/2: a gRPC server may answer that with no status at all."""
    return frozenset(
        name
        for site in sites(stack)
        for name in site.names
        if any(route.path == ROOT and route.service.protocol == "h2c" for route in site.routes)
    )
