"""`ports` and `expose`: nothing of them is opened on the host, but they tell where an app listens.

Caddy reaches a public service inside its network, so its port is only told. What no browser speaks cannot be had here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.draft import Port
from builder.oci import known_images
from builder.stack import model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.compose.draft import Draft
    from builder.compose.node import Node

_PORT: Final = re.compile(
    # An address that is left empty, as by `${ADDRESS:-}:8080:80`, is none.
    r"(?:(?P<ip>[0-9]+(?:\.[0-9]+){3}|\[[0-9a-fA-F:.]+\])?:)?(?:(?P<published>[0-9-]*):)?"
    r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>tcp|udp|sctp))?"
)
_MOST_SHOWN: Final = 20


def ports(node: Node, draft: Draft) -> None:
    """The ports that would be published; `tell` says later what becomes of them."""
    draft.nodes["ports"] = node
    for item in node.value if node.is_list else [node]:
        found = parse(_plain(item))
        if found is None:
            item.report(messages.PORT_FORM)
        draft.ports.extend(found or ())


def expose(node: Node, draft: Draft) -> None:
    """The ports that a service says it listens on. They change nothing, so a wrong one is not worth a word."""
    draft.nodes["expose"] = node
    for item in node.value if node.is_list else [node]:
        draft.exposed.extend(parse(_plain(item)) or ())


def _plain(item: Node) -> Any:
    """An entry as plain values."""
    return {key: child.value for key, child in item.items()} if item.is_map else item.value


def parse(entry: Any) -> tuple[Port, ...] | None:
    """The container's ports of an entry of `ports` or `expose`, short or long form; None for what is none."""
    address, protocol, published = "", None, ""
    if isinstance(entry, dict):
        address, protocol = str(entry.get("host_ip", "")), entry.get("protocol")
        published, entry = str(entry.get("published", "")), entry.get("target")
    found = _PORT.fullmatch(str(entry))
    if found is None:
        return None
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if not 1 <= first <= last <= 65535:
        return None
    local = re.fullmatch(r"127\..*|\[?::1\]?", found["ip"] or address) is not None
    protocol = str(protocol or found["protocol"] or "tcp")
    host = re.fullmatch(r"[0-9]{1,5}", found["published"] or published)
    return tuple(Port(number, protocol, local, int(host[0]) if host else 0) for number in range(first, last + 1))


# Ports of what is no HTTP, and is often published for people or devices outside.
_OTHER_PROTOCOLS: Final = frozenset(
    {20, 21, 22, 25, 53, 88, 110, 139, 143, 389, 445, 465, 587, 636, 853, 990, 993, 995, 1025, 1194, 1883, 1935,
     2222, 3478, 4190, 5060, 5061, 5222, 5269, 5349, 6667, 6697, 8554, 8883, 25565, 64738}
)  # fmt: skip
# And of what the other services of a stack talk to: databases, queues, caches.
_INNER_PROTOCOLS: Final = frozenset(
    {1433, 1521, 2181, 3306, 4222, 5432, 5433, 5671, 5672, 6379, 6380, 6432, 6543, 9042, 9092, 11211, 26257, 26379,
     27017, 27018}
)  # fmt: skip
# HTTPS of the app's own, which nobody needs behind Caddy.
_TLS: Final = (443, 8443)


def web_port(published: Iterable[Port], exposed: Iterable[Port], image: str | None) -> tuple[int | None, str]:
    """Where a web service listens, and what says so: `ports`, `expose` or `image`; None where it is not clear.

    The second is empty where nothing says anything.
    """
    known = known_images.web_port(image)
    for listed, key in ((published, "ports"), (exposed, "expose")):
        candidates = web_candidates(listed)
        if known in candidates:
            return known, key
        if candidates:
            return (candidates[0] if len(candidates) == 1 else None), key
    return known, "image" if known is not None else ""


def web_candidates(listed: Iterable[Port]) -> list[int]:
    """The ports that could be the web's, those of TLS only when there is no other."""
    found = list(dict.fromkeys(port.number for port in listed if _may_be_web(port)))
    return [number for number in found if number not in _TLS] or found


def _may_be_web(port: Port) -> bool:
    return port.protocol == "tcp" and port.number not in _OTHER_PROTOCOLS | _INNER_PROTOCOLS


def take_port(draft: Draft) -> None:
    """The port of a public service for which neither label nor spec names one."""
    number, key = web_port(draft.ports, draft.exposed, draft.fields.get("image"))
    if number is not None:
        # Where an image listens is known; what `ports` and `expose` say may be meant otherwise.
        if key in messages.PORT_TAKEN:
            draft.nodes[key].report(messages.PORT_TAKEN[key], key=True, port=number, service=draft.name)
        draft.set("port", number, draft.nodes[key])
    elif key:
        listed = draft.ports if key == "ports" else draft.exposed
        shown = _shown(port for port in listed if _may_be_web(port))
        draft.nodes[key].report(messages.PORT_UNCLEAR, key=True, ports=shown, service=draft.name)
        draft.ports = []  # nothing more is said of them


def tell(draft: Draft, *, awaited: bool) -> None:
    """Say what becomes of the published ports of a service, once its kind and its port are known.

    `awaited`: another service depends on it, so that it has a use here also where nothing outside reaches it.
    """
    if not draft.ports:
        return
    node, public = draft.nodes["ports"], draft.fields.get("kind") == "web"
    own = draft.fields.get("port", model.PORT) if public and "listen" not in draft.fields else None
    rest = [port for port in draft.ports if not _is_served(port, own)]
    if own is not None and len(rest) < len(draft.ports) and draft.nodes.get("port") is not node:
        node.report(messages.PORTS_PUBLIC, key=True, service=draft.name, port=own)
    foreign = [port for port in rest if _is_foreign(port)]
    inside = [port for port in rest if port not in foreign]
    if foreign:
        alone = not public and not any(_may_be_web(port) and not port.local for port in rest)
        # What answers by UDP does so to people outside.
        useless = alone and not (awaited and all(port.protocol == "tcp" for port in foreign))
        text = messages.PORTS_FOREIGN if useless else messages.PORTS_FOREIGN_LEFT
        node.report(text, key=True, service=draft.name, ports=_shown(foreign), port=foreign[0].number)
    if inside:
        web = next((port.number for port in inside if _may_be_web(port)), None)
        text = messages.PORTS_INSIDE_PUBLIC if public or web is None else messages.PORTS_INSIDE
        node.report(text, key=True, service=draft.name, ports=_shown(inside), port=web or inside[0].number)


def _is_served(port: Port, own: int | None) -> bool:
    """Whether Caddy makes up for it: the web's own port, and the app's HTTPS beside it."""
    if port.protocol != "tcp":
        return own is not None and (port.number, port.protocol) == (443, "udp")  # HTTP/3 is Caddy's
    return own is not None and (port.number == own or port.number in _TLS)


def _is_foreign(port: Port) -> bool:
    """Whether it is published for others than this host, in another protocol than the web's."""
    return not port.local and (port.protocol != "tcp" or port.number in _OTHER_PROTOCOLS)


def _shown(listed: Iterable[Port]) -> str:
    names = [f"{port.number}{'' if port.protocol == 'tcp' else f'/{port.protocol}'}" for port in listed]
    names = list(dict.fromkeys(names))
    return ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")
