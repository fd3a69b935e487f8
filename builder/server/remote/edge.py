"""What stands before this host, where anything does: whom never to ban, and whether its networks are still the ones."""

from __future__ import annotations

import datetime
import ipaddress
import json
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.remote.common import Value

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Seconds for each of the lists that an edge publishes, and bytes that one may have.
_TIMEOUT: Final = 5
_LONGEST: Final = 100_000
# Days after which networks that nobody could compare want attention.
_OLD: Final = 365


def settings() -> Value | None:
    """What the spec says of the edge; None without one."""
    file = Path(facts.EDGE)
    return json.loads(file.read_bytes()) if file.exists() else None


def refuse_to_ban(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Raises RemoteError for an address of the edge: all visitors come from there."""
    edge = settings()
    if edge and any(address in network for network in _networks(edge["networks"])):
        raise RemoteError(
            f"{address} is an address of the edge before this host: nobody would come through",
            "ban the visitor's own address: it is in the access log as client_ip",
        )


def _networks(lines: Iterable[str]) -> set[Network]:
    return {ipaddress.ip_network(line.strip()) for line in lines if line.strip()}


def differences() -> str:
    """How the networks that the edge publishes differ from those of this host; or that they are old."""
    return _compared()[0]


def described() -> str:
    """How it was looked at, where nothing is wrong."""
    return _compared()[1]


@cache
def _compared() -> tuple[str, str]:
    """What is wrong, and what is good to know."""
    edge = settings()
    if edge is None:
        return "", ""
    if not edge["sources"]:
        return "", "its networks are the spec's own, and published nowhere"
    try:
        return _difference(edge, _published(edge["sources"])), "its networks are those that it publishes today"
    except (OSError, ValueError) as error:
        since = (
            f"those of this host are of {edge['as_of']}" if edge["as_of"] else "those of this host are the spec's own"
        )
        said = f"its list cannot be had from here ({error}); {since}"
        return (said, "") if edge["as_of"] and _age(edge["as_of"]) > _OLD else ("", said)


def _difference(edge: Value, published: set[Network]) -> str:
    known = _networks(edge["networks"])
    new, gone = (", ".join(sorted(map(str, some))) for some in (published - known, known - published))
    found = [f"{edge['name']} calls from {new} too"] * bool(new) + [f"{gone} is no longer its own"] * bool(gone)
    return "; ".join(found)


def _published(sources: Iterable[str]) -> set[Network]:
    """The networks of all lists, a line each. Raises OSError, and ValueError for one that is none."""
    found: set[Network] = set()
    for source in sources:
        with urllib.request.urlopen(source, timeout=_TIMEOUT) as answer:  # noqa: S310 - from root's own file
            found |= _networks(answer.read(_LONGEST).decode().splitlines())
    if not found:
        raise ValueError("no networks in the lists")
    return found


def _age(day: str) -> int:
    return (datetime.datetime.now(datetime.UTC).date() - datetime.date.fromisoformat(day)).days
