"""Tables of keys: what is done with each key of the Compose specification, and what an unknown one earns."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from builder.compose import messages
from builder.compose.node import WrongError
from builder.messages import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.compose.node import Node

D = TypeVar("D")


@dataclass(frozen=True)
class Row(Generic[D]):
    """What is done with one key. Without `text` it is parsed; with one, it is refused or warned about.

    `unless` names values that ask for nothing, as `privileged: false`: nothing is said about them. An empty text is no
    value, except where `empty` says that it means something.
    """

    parse: Callable[[Node, D], None] | None = None
    text: Text | None = None
    unless: tuple[object, ...] = ()
    empty: bool = False


def takes(parse: Callable[[Node, D], None], *, empty: bool = False) -> Row[D]:
    """A supported key."""
    return Row(parse, empty=empty)


def refused(message: str, hint: str, *, unless: tuple[object, ...] = ()) -> Row[D]:
    """A key that would change what the stack does, and cannot be had here."""
    return Row(text=Text(message, hint), unless=unless)


def ignored(message: str, hint: str | None = None, *, unless: tuple[object, ...] = ()) -> Row[D]:
    """A key that is left out, and the stack still does what it should: said in a warning."""
    return Row(text=Text(message, hint, "warning"), unless=unless)


def no_effect() -> Row[D]:
    """A key that changes nothing about a running stack."""
    return Row()


def walk(node: Node, table: Mapping[str, Row[D]], draft: D) -> None:
    """Apply a table to a mapping; every key gets its row, every wrong one is reported."""
    if not node.is_map:
        node.put(messages.WANTS_MAPPING)
        return
    for key, child in node.items():
        if not key.startswith("x-"):
            _apply(key, child, table, draft)


def _apply(key: str, node: Node, table: Mapping[str, Row[D]], draft: D) -> None:
    row = table.get(key)
    if row is None:
        unknown(key, node, table)
    elif node.value is None or (node.value == "" and not row.empty):
        return  # an empty key is an absent one, to Compose too
    elif row.text is not None:
        if not _asks_nothing(node, row.unless):
            node.put(row.text, key=True)
    elif row.parse is not None:
        try:
            row.parse(node, draft)
        except WrongError as wrong:
            wrong.put()


def _asks_nothing(node: Node, unless: tuple[object, ...]) -> bool:
    value = node.value
    if isinstance(value, str) and value in ("true", "false"):
        value = value == "true"
    return value in ([], {}) or any(value == other and type(value) is type(other) for other in unless)


def unknown(key: str, node: Node, known: Mapping[str, object]) -> None:
    """Report a key that Compose does not have, with the nearest one it has."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        node.put(messages.KEY_UNKNOWN_NEAR, key=True, name=key, near=near[0])
    else:
        node.put(messages.KEY_UNKNOWN, key=True, name=key)
