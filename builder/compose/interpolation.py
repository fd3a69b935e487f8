"""Interpolation: `$NAME`, `${NAME}`, `${NAME:-default}` and the other operators, nested; `$$` is a dollar."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":?[-?+]")


class FormatError(ValueError):
    """A `${` that is not closed, or holds something that is not a variable."""


class RequiredError(ValueError):
    """`${NAME:?message}` without a value."""

    def __init__(self, name: str, message: str) -> None:
        self.name, self.message = name, message
        super().__init__(message)


@dataclass
class Expansion:
    """Fills variables into texts; `unset` collects the names that had neither value nor default."""

    lookup: Callable[[str], str | None]
    unset: list[str] = field(default_factory=list)

    def expand(self, text: str) -> str:
        """The text with its variables filled in. Raises FormatError and RequiredError."""
        out, position = [], 0
        while (dollar := text.find("$", position)) >= 0:
            out.append(text[position:dollar])
            value, position = self._at(text, dollar + 1)
            out.append(value)
        return "".join((*out, text[position:]))

    def _at(self, text: str, start: int) -> tuple[str, int]:
        """The value of what stands after a dollar, and where the text goes on."""
        if text.startswith("$", start):
            return "$", start + 1
        if text.startswith("{", start):
            end = _closing(text, start)
            return self._braced(text[start + 1 : end]), end + 1
        name = _NAME.match(text, start)
        return (self._plain(name[0]), name.end()) if name else ("$", start)

    def _plain(self, name: str) -> str:
        value = self.lookup(name)
        if value is None:
            self.unset.append(name)
        return value or ""

    def _braced(self, expression: str) -> str:
        name = _NAME.match(expression)
        if name is None:
            raise FormatError(expression)
        rest = expression[name.end() :]
        if not rest:
            return self._plain(name[0])
        operator = _OPERATOR.match(rest)
        if operator is None:
            raise FormatError(expression)
        return self._operated(name[0], operator[0], rest[operator.end() :])

    def _operated(self, name: str, operator: str, word: str) -> str:
        value = self.lookup(name)
        missing = not value if operator.startswith(":") else value is None
        match operator[-1]:
            case "-":
                return self.expand(word) if missing else value or ""
            case "+":
                return "" if missing else self.expand(word)
            case _ if missing:
                raise RequiredError(name, self.expand(word))
            case _:
                return value or ""


def _closing(text: str, start: int) -> int:
    """The brace that closes the one at `start`; variables in defaults have braces of their own."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "{" and (position == start or text[position - 1] == "$"):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise FormatError(text[start + 1 :])
