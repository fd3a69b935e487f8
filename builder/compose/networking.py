"""How a service is reached: private networks and its names on them, resolvers, and why it opens no port."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.labels import TYPE
from builder.compose.node import Row, attempt, ignored, no_effect, refused, stores, walk
from builder.compose.values import each, pairs, plain, spelled
from builder.stack.model import Attachment

if TYPE_CHECKING:
    from builder.compose.draft import Draft, Project
    from builder.compose.node import Node

# EasyRunner's compose files put public services on this network. Here a socket does its work.
PROXY_NETWORK: Final = "easyrunner_proxy_network"


def networks(node: Node, draft: Draft) -> None:
    """The networks that a service joins: a list, or a mapping with options."""
    attachments = []
    for name, child in _joined(node):
        if is_proxy_network(name, draft.project):
            draft.on_proxy_network = True
        elif name not in draft.project.networks and name != "default":
            child.report(messages.NETWORK_UNDECLARED, name=name)
        else:
            values: dict[str, Any] = {"aliases": ()}
            if child.is_map:
                walk(child, _ATTACHMENT, values)
            attachments.append(Attachment(name, values["aliases"]))
    draft.set("networks", tuple(attachments), node)


def is_proxy_network(name: str, project: Project) -> bool:
    """True for EasyRunner's own network, by its key or by its name."""
    declared = project.networks.get(name)
    named = declared.get("name") if declared is not None else None
    return PROXY_NETWORK in (name, named.value if named is not None else None)


def _joined(node: Node) -> list[tuple[str, Node]]:
    if node.is_map:
        return list(node.items())
    if not node.is_list:
        raise node.error(messages.WANTS_LIST)
    names = ((attempt(plain, item, None), item) for item in node.value)
    return [(name, item) for name, item in names if name is not None]


_ALIAS: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def alias(node: Node) -> str:
    """A name on a network."""
    name = plain(node)
    if len(name) > 63 or not _ALIAS.fullmatch(name):
        raise node.error(messages.HOSTNAME, name=name)
    return name


_NO_ADDRESS: Final[Row[dict[str, Any]]] = refused(
    "addresses on a network are handed out, a container cannot choose its own",
    "remove it and call the service by its name",
)
_ATTACHMENT: Final[dict[str, Row[dict[str, Any]]]] = {
    "aliases": stores("aliases", partial(each, alias)),
    "ipv4_address": _NO_ADDRESS,
    "ipv6_address": _NO_ADDRESS,
    "link_local_ips": _NO_ADDRESS,
    "mac_address": _NO_ADDRESS,
    "driver_opts": ignored("left out: options of Docker's network driver"),
    "interface_name": ignored("left out: interfaces are called eth0, eth1, …"),
    "priority": no_effect(),
    "gw_priority": ignored("left out: the first network that is not internal leads out"),
}


def network_mode(node: Node, draft: Draft) -> None:
    """`none`, or the network of another service; `bridge` is what a service has anyway."""
    name = plain(node)
    if name == "host":
        raise node.error(messages.NETWORK_HOST, name=draft.name)
    if name == "none" or re.fullmatch(r"service:.+", name):
        draft.set("network_mode", name, node)
    elif name not in ("bridge", "default"):
        raise node.error(messages.NETWORK_MODE, name=name)


def ports(node: Node, draft: Draft) -> None:
    """Refused, with a hint that names the port for the label."""
    first = node.value[0] if node.is_list and node.value else node
    if node.value in ([], {}):
        return
    port = _container_port(first)
    public = TYPE in draft.labels
    text = messages.PORTS_PUBLIC if public else messages.PORTS
    node.report(text, key=True, name=draft.name, port=port)


def _container_port(node: Node) -> str:
    """The container's port of an entry of `ports`, or the default."""
    target = node.get("target")
    spelling = str(target.value if target is not None else node.value)
    found = re.fullmatch(r"(?:.*:)?([0-9]+)(?:-[0-9]+)?(?:/[a-z]+)?", spelling)
    return found[1] if found else "3000"


def container_name(node: Node, draft: Draft) -> None:
    """The container is called like its service; this is one more name to reach it by."""
    draft.aliases.append(alias(node))


def addresses(node: Node) -> tuple[str, ...]:
    """IP addresses of resolvers."""
    return each(_address, node)


def _address(node: Node) -> str:
    value = plain(node)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise node.error(messages.ADDRESS, value=value) from None


def extra_hosts(node: Node) -> tuple[tuple[str, str], ...]:
    """Names with fixed addresses: a mapping, or a list of NAME=ADDRESS or NAME:ADDRESS."""
    found = []
    for name, address, place in _hosts(node):
        if address == "host-gateway":
            place.report(messages.HOST_GATEWAY)
        elif not _ALIAS.fullmatch(name):
            place.report(messages.HOSTNAME, name=name)
        elif (good := attempt(_address, place.with_value(address), None)) is not None:
            found.append((name, good))
    return tuple(found)


def _hosts(node: Node) -> list[tuple[str, str, Node]]:
    if node.is_list:
        entries = [(re.split("[=:]", spelled(item), maxsplit=1), item) for item in node.value]
        return [(parts[0], parts[-1].strip("[]"), item) for parts, item in entries]
    return [
        (name, spelled(item).strip("[]"), item)
        for name, value, _ in pairs(node)
        if value is not None
        for item in (value.value if value.is_list else [value])
    ]
