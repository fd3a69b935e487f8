"""Resource limits, and what is left of Swarm's `deploy`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.compose import messages
from builder.compose.node import attempt
from builder.compose.table import Row, ignored, refused, takes, walk
from builder.compose.values import decimal, duration, integer, plain, size
from builder.stack.model import Limits

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node

_NO_SWARM: Final = "left out: it is for Swarm, this host runs one container of each service"


def deploy(node: Node, draft: Draft) -> None:
    """The `deploy` mapping."""
    walk(node, _DEPLOY, draft)


def memory(node: Node, draft: Draft) -> None:
    """The most memory; 0 is no limit to Compose, and the default here."""
    value = size(node)
    if 0 < value < facts.MIN_MEMORY:
        node.put(messages.MEMORY_LOW, least=facts.MIN_MEMORY // 2**20)
    _set(draft, node, memory=max(value, facts.MIN_MEMORY) if value else None)


def cpus(node: Node, draft: Draft) -> None:
    """The most cores, as a fraction."""
    _set(draft, node, cpus=decimal(node) or None)


def pids(node: Node, draft: Draft) -> None:
    """The most processes and threads."""
    value = integer(node)
    if 0 < value < facts.MIN_PIDS:
        node.put(messages.PIDS_LOW, least=facts.MIN_PIDS)
    _set(draft, node, pids=max(value, facts.MIN_PIDS) if value > 0 else None)


def scale(node: Node, draft: Draft) -> None:
    """The number of containers: one."""
    if integer(node) != 1:
        raise node.wrong(messages.REPLICAS, name=draft.name)


def _set(draft: Draft, node: Node, **values: Any) -> None:
    draft.set("limits", replace(draft.fields.get("limits", Limits()), **values), node)


def _resources(node: Node, draft: Draft) -> None:
    walk(node, _RESOURCES, draft)


def _limits(node: Node, draft: Draft) -> None:
    walk(node, _LIMITS, draft)


def _mode(node: Node, draft: Draft) -> None:
    if plain(node) not in ("replicated", "global"):
        raise node.wrong(messages.DEPLOY_MODE, name=draft.name)


def _restart_policy(node: Node, draft: Draft) -> None:
    """Swarm's way to say `restart`; it wins over it, as in Compose."""
    if not node.is_map:
        raise node.wrong(messages.WANTS_MAPPING)
    walk(node, _RESTART, draft)
    draft.fields.setdefault("restart", "always")


def _condition(node: Node, draft: Draft) -> None:
    policies = {"none": "no", "on-failure": "on-failure", "any": "always"}
    name = plain(node)
    if name not in policies:
        raise node.wrong(messages.RESTART_CONDITION, name=name)
    draft.set("restart", policies[name], node)


def _attempts(node: Node, draft: Draft) -> None:
    draft.set("restart_attempts", integer(node), node)


def _pause(node: Node, draft: Draft) -> None:
    if attempt(duration, node, None) is not None:
        node.put(messages.RESTART_PAUSE, name=draft.name)


_LIMITS: Final[dict[str, Row[Draft]]] = {
    "memory": takes(memory),
    "cpus": takes(cpus),
    "pids": takes(pids),
}
_RESOURCES: Final[dict[str, Row[Draft]]] = {
    "limits": takes(_limits),
    "reservations": ignored("nothing is set aside for a service: only its limits count"),
}
_RESTART: Final[dict[str, Row[Draft]]] = {
    "condition": takes(_condition),
    "max_attempts": takes(_attempts),
    "delay": takes(_pause),
    "window": takes(_pause),
}
_DEPLOY: Final[dict[str, Row[Draft]]] = {
    "resources": takes(_resources),
    "restart_policy": takes(_restart_policy),
    "replicas": takes(scale),
    "mode": takes(_mode),
    "labels": ignored(
        "left out: these are labels of a Swarm service",
        "labels of the container go under `labels` of the service",
    ),
    "update_config": ignored(_NO_SWARM),
    "rollback_config": ignored(_NO_SWARM),
    "placement": ignored(_NO_SWARM),
    "endpoint_mode": refused("there is no Swarm network here", "remove it", unless=("vip", "dnsrr")),
}
