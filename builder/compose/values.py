"""Parsers of single values, as Compose reads them. Each takes a node and raises NodeError for a wrong value."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.compose.node import attempt
from builder.stack.model import UNENCODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.compose.node import Node

_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE)
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d|w)")
_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x80]")


def spelled(node: Node) -> str:
    """A scalar as text. Warns of a number that changes on the way: `1.10` is 1.1 to every reader of YAML."""
    value = node.value
    if isinstance(value, dict | list) or value is None:
        raise node.error(messages.WANTS_TEXT)
    if isinstance(value, str):
        return value
    text = str(value).lower() if isinstance(value, bool) else _number(value)
    if node.raw is not None and node.raw != text:
        node.report(messages.NUMBER_CHANGES, raw=node.raw, text=text)
    return text


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def text(node: Node) -> str:
    """A text on one line, not empty."""
    value = spelled(node)
    if not value:
        raise node.error(messages.WANTS_TEXT)
    if _CONTROL.search(value) or UNENCODABLE.search(value):
        raise node.error(messages.CONTROL_CHARACTER)
    return value


def plain(node: Node) -> str:
    """A text without blanks and quotes: names, paths, ids."""
    value = text(node)
    if re.search(r"[\s\"'\\]", value):
        raise node.error(messages.WANTS_PLAIN, value=value)
    return value


def content(node: Node) -> str:
    """Any text, line breaks included; what no argument of a program can carry is refused."""
    value = spelled(node)
    if UNENCODABLE.search(value):
        raise node.error(messages.CONTROL_CHARACTER)
    return value


def boolean(node: Node) -> bool:
    """A truth value, or the word for one."""
    if isinstance(node.value, bool):
        return node.value
    word = str(node.value).lower()
    if word not in _BOOLEANS:
        raise node.error(messages.WANTS_BOOLEAN)
    return _BOOLEANS[word]


def integer(node: Node) -> int:
    """A whole number, also as text."""
    value = node.value
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]+", str(value)):
        raise node.error(messages.WANTS_INTEGER)
    return int(value)


def decimal(node: Node) -> float:
    """A number of at least zero, also as text."""
    value = node.value
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", str(value)):
        raise node.error(messages.WANTS_NUMBER)
    return float(value)


def size(node: Node) -> int:
    """Bytes: a number, or with b, k, m, g."""
    found = _SIZE.fullmatch(str(node.value).strip()) if not isinstance(node.value, bool) else None
    if found is None:
        raise node.error(messages.WANTS_SIZE)
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " "))


def duration(node: Node) -> float:
    """Seconds, from `1m30s`."""
    value = str(node.value)
    rest = _DURATION.sub("", value)
    if rest or not value or isinstance(node.value, bool):
        raise node.error(messages.WANTS_DURATION)
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))


def each(parse: Callable[[Node], str], node: Node) -> tuple[str, ...]:
    """A list of values, or a single one; every wrong item is reported."""
    if node.is_map:
        raise node.error(messages.WANTS_LIST)
    items = node.value if node.is_list else [node]
    found = (attempt(parse, item, None) for item in items)
    return tuple(value for value in found if value is not None)


def argv(node: Node) -> tuple[str, ...]:
    """A command: a list of words, or one line that is split as a shell splits it."""
    if node.is_list:
        return each(content, node)
    try:
        return tuple(shlex.split(content(node)))
    except ValueError:
        raise node.error(messages.COMMAND_QUOTES) from None


def pairs(node: Node) -> Iterator[tuple[str, Node | None, Node]]:
    """Names and values of a mapping, or of a list of NAME=VALUE: (name, value or None, the place to show)."""
    if node.is_map:
        for name, child in node.items():
            yield name, child if child.value is not None else None, child
        return
    if not node.is_list:
        raise node.error(messages.WANTS_PAIRS)
    for item in node.value:
        entry = attempt(spelled, item, None)
        if entry is not None:
            name, equals, value = entry.partition("=")
            yield name, item.with_value(value) if equals else None, item


def mapping(node: Node, default: str = "") -> tuple[tuple[str, str], ...]:
    """Names and texts of a mapping or a list of pairs; the last of two wins, as in Compose."""
    found: dict[str, str] = {}
    for name, value, place in pairs(node):
        if not name or _CONTROL.search(name) or UNENCODABLE.search(name) or "=" in name:
            place.report(messages.PAIR_NAME)
        elif value is None:
            found[name] = default
        elif (spelling := attempt(content, value, None)) is not None:
            found[name] = spelling
    return tuple(found.items())
