"""How a service is reached inside its stack: private networks and its names on them, and resolvers."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.node import Row, attempt, ignored, no_effect, stores, takes, walk
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


def _fixed_address(node: Node, values: dict[str, Any]) -> None:  # noqa: ARG001 - the parsers of a table share a signature
    """Left out, unless the file names the address again: then something would call it there."""
    items = node.value if node.is_list else [node]
    # As it is written, too: a variable may be part of it.
    written = {text for item in items for text in (str(item.value), (item.raw or "").strip("\"'")) if text}
    address = "|".join(map(re.escape, sorted(written)))
    uses = sum(len(re.findall(rf"(?<![0-9a-fA-F.:])(?:{address})(?![0-9a-fA-F.])", line)) for line in node.lines)
    node.report(messages.ADDRESS_FIXED if uses > 1 else messages.ADDRESS_LEFT, key=True)


_ADDRESS: Final[Row[dict[str, Any]]] = takes(_fixed_address)
_ATTACHMENT: Final[dict[str, Row[dict[str, Any]]]] = {
    "aliases": stores("aliases", partial(each, alias)),
    "ipv4_address": _ADDRESS,
    "ipv6_address": _ADDRESS,
    "link_local_ips": _ADDRESS,
    "mac_address": ignored("left out: a container cannot choose its hardware address here"),
    "driver_opts": ignored("left out: options of Docker's network driver"),
    "interface_name": ignored("left out: interfaces are called eth0, eth1, …"),
    "priority": no_effect(),
    "gw_priority": ignored("left out: the first network that is not internal leads out"),
}


def network_mode(node: Node, draft: Draft) -> None:
    """`none`, or the network of another service; `bridge` is what a service has anyway."""
    name = plain(node)
    if name == "host":
        raise node.error(messages.NETWORK_HOST, service=draft.name)
    if name == "none" or re.fullmatch(r"service:.+", name):
        draft.set("network_mode", name, node)
    elif name not in ("bridge", "default"):
        raise node.error(messages.NETWORK_MODE, name=name)


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
            place.report(messages.HOST_GATEWAY, name=name)
        elif not _ALIAS.fullmatch(name):
            place.report(messages.HOSTNAME, name=name)
        elif (good := attempt(_address, place.with_value(address), None)) is not None:
            found.append((name, good))
    return tuple(found)


def _hosts(node: Node) -> list[tuple[str, str, Node]]:
    if node.is_list:
        entries = [(re.split("[=:]", spelled(item), maxsplit=1), item) for item in node.value]
        return [(parts[0].strip(), parts[-1].strip().strip("[]"), item) for parts, item in entries]
    return [
        (name, spelled(item).strip("[]"), item)
        for name, value, _ in pairs(node)
        if value is not None
        for item in (value.value if value.is_list else [value])
    ]
