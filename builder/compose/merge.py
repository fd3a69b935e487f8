"""How one value is laid over another, as Compose does it: a file over the one before, a service over what it extends.

Mappings are merged key by key and lists are joined; the keys that go another way are named here. `!reset` takes a value
away, `!override` puts one in its place. What stays of a lower value keeps its own place in its file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.compose.node import OVERRIDE, RESET
from builder.compose.values import pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.compose.node import Node

Path = tuple[str, ...]


def merged(base: Node, over: Node, path: Path = ()) -> Node:
    """`over` on top of `base`; `path` is where both are, as in ("services", "web", "environment")."""
    if base.tag == RESET or over.tag in (RESET, OVERRIDE) or (path[:1] and path[0].startswith("x-")):
        return over
    if over.value is None and (base.is_map or base.is_list):
        return base
    rule = _rule(path)
    if rule is not None:
        return rule(base, over, path)
    if base.is_map and over.is_map:
        return over.with_value(_mapping(base.value, over.value, path))
    if base.is_list and over.is_list:
        return over.with_value(_joined(base, over))
    return over


def _rule(path: Path) -> Callable[[Node, Node, Path], Node] | None:
    """The rule for what stands at a path, where it has one of its own."""
    within = "/".join(("services" if path[:1] == ("services",) else "other", *path[2:]))
    return next((rule for pattern, rule in _RULES.items() if re.fullmatch(pattern, within)), None)


def _mapping(base: Mapping[str, Node], over: Mapping[str, Node], path: Path) -> dict[str, Node]:
    both = {name: merged(child, over[name], (*path, name)) for name, child in base.items() if name in over}
    return {**base, **over, **both}


def _joined(base: Node, over: Node) -> list[Node]:
    """Both lists, a scalar counts as one of a single item; a value that is there already does not come again."""
    first = _items(base)
    known = [item.value for item in first]
    return [*first, *(item for item in _items(over) if item.value not in known)]


def _items(node: Node) -> list[Node]:
    return node.value if node.is_list else [node]


def _whole(base: Node, over: Node, path: Path) -> Node:  # noqa: ARG001 - the rules of a table share a signature
    return over


def _list(base: Node, over: Node, path: Path) -> Node:  # noqa: ARG001 - the rules of a table share a signature
    return over.with_value(_joined(base, over))


def _pairs(base: Node, over: Node, path: Path) -> Node:  # noqa: ARG001 - the rules of a table share a signature
    """Names and values, whichever way they are written."""
    if not _are_collections(base, over):
        return over
    return over.with_value({**dict(_by_name(base)), **dict(_by_name(over))})


def _are_collections(*nodes: Node) -> bool:
    return all(node.is_map or node.is_list for node in nodes)


def _by_name(node: Node) -> Iterator[tuple[str, Node]]:
    if node.is_map:
        yield from node.value.items()
        return
    for name, value, place in pairs(node):
        yield name, place.with_value(None) if value is None else value


def _build(base: Node, over: Node, path: Path) -> Node:
    """`build`, of which a text is the context."""
    if base.value is None or over.value is None:
        return over if base.value is None else base
    both = (one if one.is_map else one.with_value({"context": one}) for one in (base, over))
    lower, upper = both
    return upper.with_value(_mapping(lower.value, upper.value, path))


def _names(base: Node, over: Node, path: Path) -> Node:
    """Lists of names, which are mappings in the long form."""
    if not _are_collections(base, over):
        return over
    return over.with_value(_mapping(dict(_named(base)), dict(_named(over)), path))


def _named(node: Node) -> Iterator[tuple[str, Node]]:
    if node.is_map:
        yield from node.value.items()
        return
    for item in node.value:
        yield str(item.value), item.with_value(None)


def _hosts(base: Node, over: Node, path: Path) -> Node:  # noqa: ARG001 - the rules of a table share a signature
    """`extra_hosts`, as a list of NAME=ADDRESS; a name may have several addresses."""
    if not _are_collections(base, over):
        return over
    return over.with_value(_joined(base.with_value(list(_addresses(base))), over.with_value(list(_addresses(over)))))


def _addresses(node: Node) -> Iterator[Node]:
    for name, child in node.items():
        for item in _items(child):
            yield item.with_value(f"{name}={item.value}")
    yield from node.value if node.is_list else ()


def _by_target(base: Node, over: Node, path: Path) -> Node:
    """What is mounted: of two with one target that of `over` stays."""
    taken = {mount_target(item, path[-1]) for item in _items(over)}
    kept = [item for item in _items(base) if mount_target(item, path[-1]) not in taken]
    return over.with_value([*kept, *_items(over)])


def mount_target(item: Node, key: str) -> str:
    """Where an entry of `volumes`, `tmpfs` and the like is mounted, roughly: the entry has not been checked."""
    if item.is_map:
        found = item.get("target") or item.get("source")
        return "" if found is None else str(found.value).rstrip("/")
    parts = str(item.value).split(":")
    target = parts[1] if key == "volumes" and len(parts) > 1 else parts[0]
    return target.rstrip("/")


# Rules by place: what follows the name of a service, or of a volume, a network and their like (`other`).
_RULES: Final[dict[str, Callable[[Any, Any, Path], Any]]] = {
    "services/(command|entrypoint|healthcheck/test)": _whole,
    "services/(environment|labels|annotations|sysctls|deploy/labels|build/(args|labels))": _pairs,
    "other/labels": _pairs,
    "services/(depends_on|networks)": _names,
    "services/(build/)?extra_hosts": _hosts,
    "services/build": _build,
    "services/(volumes|tmpfs|secrets|configs)": _by_target,
    "services/(dns|dns_opt|dns_search|env_file|label_file)": _list,
}
