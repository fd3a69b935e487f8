"""Places in a YAML file: how a value's place is named, and how lines and columns are counted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.problems import Mark

if TYPE_CHECKING:
    from pathlib import Path

Loc = tuple[str | int, ...]

_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def dotted(loc: Loc) -> str:
    """The name of a place: ("stacks", 0, "port") is `stacks[0].port`."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _BARE_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


def split_lines(text: str) -> tuple[str, ...]:
    """The lines of a YAML file, counted as YAML counts them."""
    return tuple(_LINE_BREAK.split(text))


def line_starts(text: str) -> tuple[int, ...]:
    """The offsets in the text at which these lines begin."""
    return (0, *(found.end() for found in _LINE_BREAK.finditer(text)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is: the mark of its key in a mapping, its own, and its spelling if it is a scalar."""

    key: Mark | None
    value: Mark
    raw: str | None


@dataclass(frozen=True)
class FileLines:
    """The lines of one file, to make marks that lie inside of it, whatever the parser says."""

    path: Path
    lines: tuple[str, ...]

    def mark(self, line: int, column: int, length: int = 1) -> Mark:
        """A span, moved into the file where it sticks out."""
        line = min(max(line, 1), len(self.lines))
        width = max(len(self.lines[line - 1]), 1)
        column = min(max(column, 1), width)
        return Mark(self.path, line, column, min(max(length, 1), width - column + 1))
