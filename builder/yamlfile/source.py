"""Reading a YAML file: plain values, and the place of each of them in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import yaml

from builder import messages
from builder.problems import Mark
from builder.yamlfile.parser import MAX_VALUES, Constructor, TooManyError, compose, explain
from builder.yamlfile.places import FileLines, Loc, Place, dotted, split_lines

if TYPE_CHECKING:
    from pathlib import Path

    from builder.problems import Report

__all__ = ["Dialect", "Loc", "Source", "dotted", "parse", "read"]

# In a spec a value that YAML readers disagree on is an error; Compose files are read as Compose reads them.
Dialect = Literal["spec", "compose"]


@dataclass(frozen=True)
class Source:
    """A YAML file that was read. `data` holds dicts with text keys, lists, scalars; aliases are unfolded.

    `tags` are Compose's, `!reset` and `!override`, by the place of their value.
    """

    path: Path
    data: Any
    lines: tuple[str, ...]
    places: dict[Loc, Place] = field(repr=False)
    tags: dict[Loc, str] = field(default_factory=dict, repr=False)

    def mark(self, loc: Loc, *, key: bool = False) -> Mark:
        """The place of a value, or of its key.

        Where `loc` is not in the file: its nearest ancestor, by its key if it has one.
        """
        place = self.places.get(loc)
        if place is not None and not key:
            return place.value
        while place is None:
            loc = loc[:-1]
            place = self.places.get(loc)
        return place.key or place.value

    def raw(self, loc: Loc) -> str | None:
        """A scalar as the file spells it (`1.10`), without quotes; None for anything else."""
        place = self.places.get(loc)
        return None if place is None else place.raw


def read(path: Path, report: Report, *, dialect: Dialect) -> Source | None:
    """Read a YAML file. None when it cannot be parsed; what is wrong is added to the report."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        messages.FILE_MISSING.add_to(report, "", None, path=path)
        return None
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        messages.FILE_UNREADABLE.add_to(report, "", None, path=path, reason=reason)
        return None
    text = _decode(content, path, report)
    return None if text is None else parse(text, path, report, dialect=dialect)


def _decode(content: bytes, path: Path, report: Report) -> str | None:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = split_lines(content[: error.start].decode("utf-8", "replace"))
        messages.FILE_ENCODING.add_to(report, "", Mark(path, len(before), len(before[-1]) + 1))
        return None


def parse(text: str, path: Path, report: Report, *, dialect: Dialect) -> Source | None:
    """The same for a text; `path` is only for the marks."""
    file = FileLines(path, split_lines(text))
    constructor = Constructor(file, report, strict=dialect == "spec")
    try:
        node = compose(text)
        if node is not None:
            return Source(path, constructor.construct(node, ()), file.lines, constructor.places, constructor.tags)
        messages.FILE_EMPTY.add_to(report, "", Mark(path, 1, 1))
    except yaml.YAMLError as error:
        reason, line, column, values = explain(error, text)
        reason.add_to(report, "", file.mark(line, column), **values)
    except TooManyError:
        messages.YAML_TOO_MANY.add_to(report, "", Mark(path, 1, 1), limit=MAX_VALUES)
    return None
