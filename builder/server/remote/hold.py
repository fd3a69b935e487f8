"""New connections from outside wait for a moment, while the proxy takes over a configuration.

Go's HTTP server, and so Caddy, closes a connection whose first request it reads after its shutdown has begun: whoever
is between handshake and request when the configuration changes would get no answer. So nobody is let in just before. A
client asks again after a second (RFC 6298: the first retransmission of a SYN), and knows nothing of it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long who was let in has for handshake and request, in seconds: some round trips from anywhere on earth.
_SETTLE: Final = 0.5
# The rule ends by itself, whatever becomes of who made it.
_AT_MOST: Final = 10.0
_TOOLS: Final = ("iptables", "ip6tables")


def rule(until: float) -> list[str]:
    """What waits: the beginnings of connections to the proxy, until a moment in seconds since 1970."""
    ports = f"{facts.PROXY_HTTP},{facts.PROXY_HTTPS}"
    stop = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until))
    match = ["-p", "tcp", "--syn", "-m", "multiport", "--dports", ports, "-m", "time", "--datestop", stop]
    return ["INPUT", *match, "-j", "DROP"]


@contextmanager
def new_connections() -> Iterator[None]:
    """Hold them back; where the kernel has no such rule, nobody waits."""
    words = rule(time.time() + _AT_MOST)
    try:
        for tool in _TOOLS:
            common.run([tool, "--wait", "--insert", *words], check=False)
        time.sleep(_SETTLE)
        yield
    finally:
        for tool in _TOOLS:
            common.run([tool, "--wait", "--delete", *words], check=False)
