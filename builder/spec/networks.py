"""Networks in the spec: written as CIDR, as one address, or for a stack's egress by name."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.spec import messages
from builder.spec.rules import Wrong
from builder.stack import domains

if TYPE_CHECKING:
    from collections.abc import Iterable

# What is meant as a name, whether or not it is a good one: an address has no letter but the digits a to f.
_NAME: Final = re.compile(r".*[g-zG-Z*_].*|[^/:]*[a-fA-F][^/:]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA: Final = tuple(map(ipaddress.ip_network, facts.METADATA))
_LOOPBACK: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
# No packet from outside has a source here.
_NO_SOURCE: Final = (
    *_LOOPBACK,
    *map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "::/128", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "169.254.0.0/16"),
    ),
)


def network(text: str) -> str:
    """A network in its usual spelling; raises Wrong."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise _wrong(text) from None


def _wrong(text: str) -> Wrong:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        named = re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", text)
        return Wrong(messages.NETWORK_NAME if named else messages.NETWORK, value=text)
    return Wrong(messages.NETWORK_BITS, value=text, network=interface.network, address=interface.ip)


def egress(text: str) -> str:
    """A network that a stack may be allowed to reach, or a name, which the host resolves; raises Wrong."""
    if _NAME.fullmatch(text):
        return _name(text)
    found = network(text)
    for refused, reason in ((_METADATA, messages.EGRESS_REFUSED), (_LOOPBACK, messages.EGRESS_LOOPBACK)):
        if within(found, refused):
            raise Wrong(reason, network=found)
    return found


def _name(text: str) -> str:
    if "*" in text:
        raise Wrong(messages.EGRESS_WILDCARD, value=text)
    if domains.find_fault(text.lower()):
        raise Wrong(messages.EGRESS_NAME, value=text)
    return text.lower()


def reachable(networks: Iterable[str]) -> bool:
    """True when a client could have an address in at least one of them."""
    return not all(within(text, _NO_SOURCE) for text in networks)


def everything(text: str) -> bool:
    """True for the network of all addresses of a family."""
    return ipaddress.ip_network(text).prefixlen == 0


def within(text: str, outer: Iterable[Network]) -> bool:
    """True when the whole network lies in one of `outer`."""
    inner = ipaddress.ip_network(text)
    # mypy cannot see that equal versions are equal types
    return any(inner.version == one.version and inner.subnet_of(one) for one in outer)  # type: ignore[arg-type]
