"""The health check of a service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.table import Row, takes, walk
from builder.compose.values import boolean, content, duration, each, integer
from builder.stack.model import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.compose.node import Node


@dataclass
class _Check:
    values: dict[str, Any] = field(default_factory=dict)


def parse(node: Node) -> Healthcheck:
    """The health check; what it leaves out is the image's."""
    check = _Check()
    walk(node, _KEYS, check)
    return Healthcheck(**{"test": (), **check.values})


def _sets(name: str, parse: Callable[[Node], Any]) -> Row[_Check]:
    def put(node: Node, check: _Check) -> None:
        check.values[name] = parse(node)

    return takes(put)


def _test(node: Node, check: _Check) -> None:
    """A line for the shell, or a list that begins with how to run it."""
    if not node.is_list:
        check.values |= _shell(content(node))
        return
    words = each(content, node)
    match words:
        case ("NONE",):
            check.values["disable"] = True
        case ("CMD", *rest) if rest and all(rest[:1]):
            check.values["test"] = tuple(rest)
        case ("CMD-SHELL", line):
            check.values |= _shell(line)
        case _:
            raise node.wrong(messages.HEALTH_TEST)


def _shell(line: str) -> dict[str, Any]:
    return {"test": (line,), "shell": True}


def _retries(node: Node) -> int:
    number = integer(node)
    if number < 1:
        raise node.wrong(messages.HEALTH_RETRIES)
    return number


_KEYS: Final[dict[str, Row[_Check]]] = {
    "test": takes(_test),
    "disable": _sets("disable", boolean),
    "interval": _sets("interval", duration),
    "timeout": _sets("timeout", duration),
    "retries": _sets("retries", _retries),
    "start_period": _sets("start_period", duration),
    "start_interval": _sets("start_interval", duration),
}
