"""What a service waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.node import Row, attempt, takes, walk
from builder.compose.values import boolean, plain
from builder.stack.model import Dependency

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node

_CONDITIONS: Final = ("service_started", "service_healthy", "service_completed_successfully")


def depends_on(node: Node, draft: Draft) -> None:
    """A list of services, or a mapping with a condition for each."""
    if node.is_map:
        for name, child in node.items():
            _add(draft, child, service=name, **_long(child))
    elif node.is_list:
        for item in node.value:
            listed = attempt(plain, item, None)
            if listed is not None:
                _add(draft, item, service=listed)
    else:
        raise node.wrong(messages.WANTS_LIST)


def links(node: Node, draft: Draft) -> None:
    """The old way to say depends_on; `service:alias` also gives a name to call it by."""
    for item in node.value if node.is_list else [node]:
        name, _, alias = (attempt(plain, item, None) or "").partition(":")
        if name:
            _add(draft, item, service=name)
        if alias:
            draft.fields.setdefault("links", []).append((name, alias))


def _add(draft: Draft, node: Node, **values: Any) -> None:
    """One dependency; a second word on the same service, from `links`, adds nothing."""
    known: list[tuple[Dependency, Node]] = draft.fields.setdefault("depends_on", [])
    if all(other.service != values["service"] for other, _ in known):
        known.append((Dependency(**values), node))


def _long(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if node.value is not None:
        walk(node, _DEPENDENCY, values)
    return values


def _condition(node: Node, values: dict[str, Any]) -> None:
    if node.value not in _CONDITIONS:
        raise node.wrong(messages.DEPENDS_CONDITION, conditions=", ".join(_CONDITIONS))
    values["condition"] = node.value


def _boolean(name: str) -> Row[dict[str, Any]]:
    def put(node: Node, values: dict[str, Any]) -> None:
        values[name] = boolean(node)

    return takes(put)


_DEPENDENCY: Final[dict[str, Row[dict[str, Any]]]] = {
    "condition": takes(_condition),
    "required": _boolean("required"),
    "restart": _boolean("restart"),
}
