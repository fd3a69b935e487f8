"""A compose file as a tree whose every value knows where it was written, also after files were merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from builder.yamlfile.places import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.messages import Text
    from builder.problems import Mark, Report
    from builder.yamlfile.places import Loc
    from builder.yamlfile.source import Source

T = TypeVar("T")
D = TypeVar("D")


class WrongError(Exception):
    """A value that cannot be used: the text to show at a node."""

    def __init__(self, node: Node, text: Text, values: dict[str, object]) -> None:
        self.node, self.text, self.values = node, text, values
        super().__init__(text.message)

    def put(self) -> None:
        """Report it where it belongs."""
        document = self.node.document
        self.text.put(document.report, self.node.where, self.node.mark(), **self.values)


@dataclass(frozen=True)
class Document:
    """The file a node is from, and where its problems go."""

    source: Source
    report: Report


@dataclass(frozen=True)
class Node:
    """A value: a dict or list of nodes, or a scalar after interpolation."""

    value: Any
    document: Document
    loc: Loc

    @property
    def where(self) -> str:
        """The place in words of the file."""
        return dotted(self.loc)

    @property
    def raw(self) -> str | None:
        """A scalar as the file spells it."""
        return self.document.source.raw(self.loc)

    @property
    def is_map(self) -> bool:
        """True for a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """True for a list."""
        return isinstance(self.value, list)

    def mark(self, *, key: bool = False) -> Mark:
        """The span of the value, or of its key."""
        return self.document.source.mark(self.loc, key=key)

    def get(self, name: str) -> Node | None:
        """A child of a mapping, None also where it is null."""
        child = self.value.get(name) if self.is_map else None
        return child if child is not None and child.value is not None else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """Names and children of a mapping."""
        return iter(self.value.items() if self.is_map else ())

    def put(self, text: Text, /, *, key: bool = False, **values: object) -> None:
        """Report a text at this place."""
        text.put(self.document.report, self.where, self.mark(key=key), **values)

    def wrong(self, text: Text, /, **values: object) -> WrongError:
        """The same as an exception, to leave a parser with."""
        return WrongError(self, text, values)

    def with_value(self, value: Any) -> Node:
        """Another value at the same place."""
        return replace(self, value=value)


def attempt(parse: Callable[[Node], T], node: Node, default: D) -> T | D:
    """What a parser makes of a node; the default when it leaves with an error, which is reported."""
    try:
        return parse(node)
    except WrongError as wrong:
        wrong.put()
        return default
