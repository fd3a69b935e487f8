"""Merging services, as `extends` does: the nearer one wins, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.compose.values import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.compose.node import Node

# Keys that are pairs, whichever way they are written; lists of names that are mappings in long form; and lists
# that are not added to each other.
_PAIRS: Final = ("environment", "labels", "annotations", "sysctls", "extra_hosts")
_NAMES: Final = ("depends_on", "networks")
_WHOLE: Final = ("command", "entrypoint", "test")


def merge(base: Node, over: Node, key: str = "") -> Node:
    """`over` on top of `base`; what stays of `base` keeps its own place."""
    if key in _PAIRS and _both(base, over):
        return over.with_value({**dict(_pairs(base)), **dict(_pairs(over))})
    if key in _NAMES and _both(base, over):
        return over.with_value({**dict(_names(base)), **dict(_names(over))})
    if base.is_map and over.is_map:
        return over.with_value(_mapping(base.value, over.value))
    if base.is_list and over.is_list and key not in _WHOLE:
        return over.with_value(_targets(base, over) if key == "volumes" else [*base.value, *over.value])
    return over


def _both(base: Node, over: Node) -> bool:
    return all(node.is_map or node.is_list for node in (base, over))


def _mapping(base: dict[str, Node], over: dict[str, Node]) -> dict[str, Node]:
    merged = {name: merge(child, over[name], name) if name in over else child for name, child in base.items()}
    return {**merged, **{name: child for name, child in over.items() if name not in base}}


def _pairs(node: Node) -> Iterator[tuple[str, Node]]:
    for name, value, place in pairs(node):
        yield name, place.with_value(None) if value is None else value


def _names(node: Node) -> Iterator[tuple[str, Node]]:
    if node.is_map:
        yield from node.items()
        return
    for item in node.value:
        yield str(item.value), item.with_value(None)


def _targets(base: Node, over: Node) -> list[Any]:
    """Volumes: of two for one place the nearer stays."""
    taken = {_target(item) for item in over.value}
    return [*(item for item in base.value if _target(item) not in taken), *over.value]


def _target(item: Node) -> str:
    if item.is_map:
        target = item.get("target")
        return "" if target is None else str(target.value)
    parts = str(item.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]
