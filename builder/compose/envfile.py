"""Files of variables: `.env` and `env_file:`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.problems import Mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.messages import Text
    from builder.problems import Report

_ASSIGNMENT: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(?:([=:])[ \t]*|(?=\n|$|#))")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")
_QUOTED: Final = {
    "'": re.compile(r"'([^']*)'"),
    '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL),
}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


@dataclass(frozen=True, slots=True)
class Variable:
    """One line; without a value the variable is passed through from where Compose runs."""

    name: str
    value: str | None
    mark: Mark


@dataclass
class _Reader:
    path: Path
    text: str
    report: Report
    lookup: Callable[[str], str | None]
    position: int = 0

    def mark(self, length: int = 1) -> Mark:
        before = self.text[: self.position]
        return Mark(self.path, before.count("\n") + 1, self.position - before.rfind("\n"), max(length, 1))

    def fail(self, text: Text, **values: object) -> None:
        text.put(self.report, "", self.mark(), **values)

    def skip_line(self) -> str:
        end = self.text.find("\n", self.position)
        end = len(self.text) if end < 0 else end
        line, self.position = self.text[self.position : end], end + 1
        return line


def parse(
    text: str, path: Path, report: Report, lookup: Callable[[str], str | None], *, raw: bool = False
) -> list[Variable]:
    """The variables of a file, in its order; later lines may use earlier ones. `raw`: values as they stand."""
    found: dict[str, str] = {}
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    reader = _Reader(path, text, report, lambda name: found.get(name, lookup(name)))
    variables = []
    while reader.position < len(reader.text):
        variable = _raw(reader) if raw else _next(reader)
        if variable is not None:
            variables.append(variable)
            if variable.value is not None:
                found[variable.name] = variable.value
    return variables


def _raw(reader: _Reader) -> Variable | None:
    mark = reader.mark()
    line = reader.skip_line()
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    name, equals, value = line.partition("=")
    return Variable(name.strip(), value if equals else None, mark)


def _next(reader: _Reader) -> Variable | None:
    """The variable at the position, which moves behind it; None for a blank, a comment or an error."""
    blank = re.compile(r"[ \t]*(#.*)?(\n|$)").match(reader.text, reader.position)
    if blank is not None:
        reader.position = max(blank.end(), reader.position + 1)
        return None
    reader.position += len(reader.text[reader.position :]) - len(reader.text[reader.position :].lstrip(" \t"))
    found = _ASSIGNMENT.match(reader.text, reader.position)
    if found is None:
        reader.fail(messages.ENV_LINE)
        reader.skip_line()
        return None
    mark = reader.mark(len(found[1]))
    reader.position = found.end()
    if not found[2]:
        reader.skip_line()
        return Variable(found[1], None, mark)
    return Variable(found[1], _value(reader), mark)


def _value(reader: _Reader) -> str:
    quote = reader.text[reader.position : reader.position + 1]
    if quote in _QUOTED and quote:
        found = _QUOTED[quote].match(reader.text, reader.position)
        if found is None:
            reader.fail(messages.ENV_QUOTE)
            reader.skip_line()
            return ""
        return _quoted(reader, quote, found)
    mark_at = reader.position
    value = _COMMENT.sub("", reader.skip_line()).strip()
    return _expand(reader, value, mark_at)


def _quoted(reader: _Reader, quote: str, found: re.Match[str]) -> str:
    start = reader.position
    reader.position = found.end()
    rest = reader.skip_line().strip()
    if rest and not rest.startswith("#"):
        after, reader.position = reader.position, found.end()
        reader.fail(messages.ENV_AFTER_QUOTE)
        reader.position = after
    if quote == "'":
        return found[1]
    unescaped = re.sub(r"\\(.)", lambda e: _ESCAPES.get(e[1], e[0]), found[1], flags=re.DOTALL)
    return _expand(reader, unescaped, start)


def _expand(reader: _Reader, value: str, at: int) -> str:
    expansion = Expansion(reader.lookup)
    try:
        return expansion.expand(value)
    except FormatError as error:
        _fail_at(reader, at, messages.VARIABLE_FORMAT, inside=error)
    except RequiredError as error:
        _fail_at(reader, at, messages.VARIABLE_REQUIRED, name=error.name, reason=error.message or "not set")
    return ""


def _fail_at(reader: _Reader, at: int, text: Text, **values: object) -> None:
    position, reader.position = reader.position, at
    reader.fail(text, **values)
    reader.position = position
