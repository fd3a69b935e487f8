"""What PyYAML says when it cannot go on, in the project's own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from yaml.reader import ReaderError

from builder import messages
from builder.yamlfile.places import split_lines

if TYPE_CHECKING:
    from builder.messages import Text


class Explained(NamedTuple):
    """A text, the place (both counted from 1) and the values of the text's fields."""

    text: Text
    line: int
    column: int
    values: dict[str, Any]


class TooDeep(yaml.MarkedYAMLError):
    """Nesting beyond the limit."""

    def __init__(self, limit: int, mark: Any) -> None:
        super().__init__(problem=f"nested too deep {limit}", problem_mark=mark)


class _Row(NamedTuple):
    """One known failure, by patterns; `begin` shows where it began instead of where it was noticed."""

    context: str
    problem: str
    text: Text
    begin: bool = False


_ROWS: Final = (
    _Row("", r"nested too deep (?P<limit>\d+)", messages.YAML_DEPTH),
    _Row("", r"found character '\\t'", messages.YAML_TAB),
    _Row("", r"found character [\"'](?P<character>.)[\"'] that cannot start", messages.YAML_START),
    _Row("", r"found undefined alias '(?P<name>.*)'", messages.YAML_ANCHOR_UNKNOWN),
    _Row("expected a single document", "", messages.YAML_DOCUMENTS),
    _Row("", r"found '(?P<character>[\]}])'", messages.YAML_START),
    _Row("", "second colon", messages.YAML_COLON),
    _Row("", "mapping values are not allowed", messages.YAML_INDENT),
    _Row("scanning a simple key", "", messages.YAML_NO_COLON, begin=True),
    _Row("scanning a double-quoted", "escape", messages.YAML_ESCAPE),
    _Row("scanning a double-quoted", "expected escape sequence", messages.YAML_ESCAPE),
    _Row("scanning a quoted", "", messages.YAML_UNCLOSED_QUOTE, begin=True),
    _Row("flow (sequence|mapping|node)", "", messages.YAML_UNCLOSED_BRACKET, begin=True),
    _Row("block (mapping|collection|node)", "", messages.YAML_INDENT),
    _Row("", "sequence entries are not allowed", messages.YAML_INDENT),
    _Row("", "expected '<document start>'", messages.YAML_INDENT),
)


def explain(error: yaml.YAMLError, text: str) -> Explained:
    """The text and place for a failure to parse."""
    if isinstance(error, ReaderError):
        return _forbidden(error, text)
    if not isinstance(error, yaml.MarkedYAMLError):
        return Explained(messages.YAML_SYNTAX, 1, 1, {"reason": error})
    if private := _private_key(error, text):
        return private
    context, problem = error.context or "", _problem(error, text)
    for row in _ROWS:
        found = re.search(row.problem, problem)
        if found and re.search(row.context, context):
            mark = error.context_mark if row.begin and error.context_mark else error.problem_mark
            return _placed(row.text, mark, found.groupdict())
    reason = {"reason": problem or context}
    return _placed(messages.YAML_SYNTAX, error.problem_mark or error.context_mark, reason)


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """What PyYAML says, except that it has one sentence for two mistakes around a colon."""
    problem, mark = error.problem or "", error.problem_mark
    if mark and "mapping values are not allowed" in problem:
        before = split_lines(text)[mark.line][: mark.column]
        return "second colon" if ": " in before else problem
    return problem


def _private_key(error: yaml.MarkedYAMLError, text: str) -> Explained | None:
    """A private key pasted without care breaks the YAML around it: that it is one matters more."""
    for mark in (error.context_mark, error.problem_mark):
        line = split_lines(text)[mark.line] if mark else ""
        if mark and re.search(r"-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY-----", line):
            return _placed(messages.YAML_PRIVATE_KEY, mark, {})
    return None


def _placed(text: Text, mark: Any, values: dict[str, Any]) -> Explained:
    if mark is None:
        return Explained(text, 1, 1, values)
    return Explained(text, mark.line + 1, mark.column + 1, values)


def _forbidden(error: ReaderError, text: str) -> Explained:
    lines = split_lines(text[: error.position])
    code = f"U+{ord(text[error.position]):04X}"
    return Explained(messages.YAML_CHARACTER, len(lines), len(lines[-1]) + 1, {"code": code})
