"""A Compose file as a tree of nodes, and tables that say what is done with each key of a mapping.

A node knows where its value was written, also after files were merged. `walk` applies a table to a mapping: each key
gets its row, which parses the node, refuses it with a reason, or leaves it out with a warning.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from builder.compose import messages
from builder.messages import Text
from builder.yamlfile.places import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.problems import Mark, Problem, Report
    from builder.yamlfile.places import Loc
    from builder.yamlfile.source import Source


T = TypeVar("T")
Default = TypeVar("Default")
Target = TypeVar("Target")


class NodeError(Exception):
    """A value that cannot be used: the text to report, at which node."""

    def __init__(self, node: Node, text: Text, values: dict[str, object]) -> None:
        self.node, self.text, self.values = node, text, values
        super().__init__(text.message)

    def report(self) -> None:
        """Add it to the report of the node's file."""
        self.node.report(self.text, key=False, **self.values)


class Faulty(str):
    """What stands for a value with a problem that has been reported, as a rule empty: nothing more is said about it."""

    __slots__ = ()


class Required(Faulty):
    """An entry of `environment` whose `${NAME:?reason}` has no value. That is a problem once a service reads it."""

    name: str
    reason: str

    @classmethod
    def of(cls, text: str, name: str, reason: str) -> Required:
        """The entry, for the variable `name`."""
        made = cls(text)
        made.name, made.reason = name, reason
        return made


class Emptied(str):
    """A text in which variables without a value were filled in as empty: when it cannot be used, that is why."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str, names: Iterable[str]) -> Emptied:
        """The text, with the names of these variables."""
        made = cls(text)
        made.names = tuple(dict.fromkeys(names))
        return made


RESET: Final = "!reset"
OVERRIDE: Final = "!override"


@dataclass(frozen=True)
class Document:
    """The file that a node is from, and the report for its problems.

    `first` is the file that this one is laid over, else the file itself: paths are relative to its directory.
    `variables` are those whose missing value has been an error, `way` says how they get one.
    """

    source: Source
    report: Report
    first: Path
    variables: set[str] = field(default_factory=set)
    way: str = messages.SET_VARIABLE

    @property
    def directory(self) -> Path:
        """Where the paths of this file start from."""
        return self.first.parent


@dataclass(frozen=True)
class Node:
    """A value: a dict or list of nodes, or a scalar after interpolation.

    `tag` says how it is laid over another value: `!reset` takes that away, `!override` stands in its place.
    """

    value: Any
    document: Document
    loc: Loc
    tag: str = ""

    @property
    def where(self) -> str:
        """The place in words of the file."""
        return dotted(self.loc)

    @property
    def raw(self) -> str | None:
        """A scalar as the file spells it."""
        return self.document.source.raw(self.loc)

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines of its file."""
        return self.document.source.lines

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
        """A child of a mapping, None also where it is null or was taken away."""
        child = self.value.get(name) if self.is_map else None
        return child if child is not None and child.value is not None and child.tag != RESET else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """Names and children of a mapping, without what was taken away."""
        children = self.value.items() if self.is_map else ()
        return ((name, child) for name, child in children if child.tag != RESET)

    def report(self, text: Text, /, *, key: bool = False, **values: object) -> None:
        """Report a problem at this value, or at its key.

        One place is one problem, also where several services have it: `service` among the values is the service's
        name, and makes no other problem of it.
        """
        if isinstance(self.value, Faulty):
            return
        mark = self.mark(key=key)
        problem = text.at(self.where, mark, **values)
        owner = None if text.once else self._service if "service" not in values else str(values["service"])
        if isinstance(self.value, Emptied) and not key and problem.severity == "error":
            # Whatever else goes wrong for lack of the same variables follows from that.
            self.document.report.share(self.explained(problem), self.value.names, owner)
            return
        rest = tuple(sorted((name, str(value)) for name, value in values.items() if name != "service"))
        self.document.report.share(problem, (text, self.loc[-1:] if text.once else mark, rest), owner)

    def explained(self, problem: Problem) -> Problem:
        """An error in a text that lacks variables, with their names."""
        if not isinstance(self.value, Emptied) or problem.severity != "error":
            return problem
        self.document.variables.update(self.value.names)
        return messages.VARIABLE_BEHIND.at(
            problem.where,
            problem.mark,
            message=problem.message,
            value=self.value,
            names=", ".join(self.value.names),
            way=self.document.way,
        )

    @property
    def _service(self) -> str | None:
        return str(self.loc[1]) if self.loc[:1] == ("services",) and len(self.loc) > 1 else None

    def error(self, text: Text, /, **values: object) -> NodeError:
        """The same as an exception, for a parser to raise."""
        return NodeError(self, text, values)

    def with_value(self, value: Any) -> Node:
        """Another value at the same place."""
        return replace(self, value=value)


def attempt(parse: Callable[[Node], T], node: Node, default: Default) -> T | Default:
    """What a parser makes of a node; the default when it raises NodeError, which is reported."""
    try:
        return parse(node)
    except NodeError as error:
        error.report()
        return default


@dataclass(frozen=True)
class Row(Generic[Target]):
    """What is done with one key: `parse` puts its node into a target, or `text` refuses it or warns about it.

    With neither the key has no effect. `unless` names values that ask for nothing, as `privileged: false`: nothing is
    said about them. An empty text is no value, except where `empty` says that it means something.
    """

    parse: Callable[[Node, Target], None] | None = None
    text: Text | None = None
    unless: tuple[object, ...] = ()
    empty: bool = False


def takes(parse: Callable[[Node, Target], None], *, empty: bool = False) -> Row[Target]:
    """A supported key."""
    return Row(parse, empty=empty)


def stores(name: str, parse: Callable[[Node], Any]) -> Row[dict[str, Any]]:
    """A supported key of a table that fills a dict: the value goes there as `name`."""

    def store(node: Node, values: dict[str, Any]) -> None:
        values[name] = parse(node)

    return Row(store)


def refused(message: str, hint: str, *, unless: tuple[object, ...] = ()) -> Row[Target]:
    """A key that would change what the stack does, and cannot be had here."""
    return Row(text=Text(message, hint), unless=unless)


def ignored(message: str, hint: str | None = None, *, unless: tuple[object, ...] = ()) -> Row[Target]:
    """A key that is left out, and the stack still does what it should: said in a warning, once in a stack."""
    return Row(text=Text(message, hint, "warning", once=True), unless=unless)


def no_effect() -> Row[Target]:
    """A key that changes nothing about a running stack."""
    return Row()


def walk(node: Node, table: Mapping[str, Row[Target]], target: Target) -> None:
    """Apply a table to a mapping, key by key, and fill `target`; what is wrong with a key is reported."""
    if not node.is_map:
        node.report(messages.WANTS_MAPPING)
        return
    for key, child in node.items():
        if not key.startswith("x-"):
            _apply(key, child, table, target)


def _apply(key: str, node: Node, table: Mapping[str, Row[Target]], target: Target) -> None:
    row = table.get(key)
    if row is None:
        _unknown(key, node, table)
    elif node.value is None or (node.value == "" and not row.empty):
        return  # an empty key is an absent one, to Compose too
    elif row.text is not None:
        if not _asks_nothing(node, row.unless):
            node.report(row.text, key=True)
    elif row.parse is not None:
        try:
            row.parse(node, target)
        except NodeError as error:
            error.report()


def _asks_nothing(node: Node, unless: tuple[object, ...]) -> bool:
    value = node.value
    if isinstance(value, str) and value in ("true", "false"):
        value = value == "true"
    return value in ([], {}) or any(value == other and type(value) is type(other) for other in unless)


def _unknown(key: str, node: Node, known: Mapping[str, object]) -> None:
    """Report a key that Compose does not have, with the nearest one it has."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        node.report(messages.KEY_UNKNOWN_NEAR, key=True, name=key, near=near[0])
    else:
        node.report(messages.KEY_UNKNOWN, key=True, name=key)
