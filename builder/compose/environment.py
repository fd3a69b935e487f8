"""The environment of a service: what the file says wins over what its env files say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.compose import files, messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.node import attempt
from builder.compose.table import Row, takes, walk
from builder.compose.values import boolean, content, pairs, text
from builder.problems import Mark
from builder.stack.model import UNFIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.compose.draft import Draft
    from builder.compose.node import Node
    from builder.messages import Text
    from builder.problems import Report


_NAME: Final = re.compile(r"[^\s=\x00-\x1f\x7f]+")
_SECRET: Final = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASS|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|SECRET_KEY)($|_(BASE|KEY|HASH))"
)


def parse(node: Node, draft: Draft) -> None:
    """A mapping, or a list of NAME=VALUE. A name without a value is taken from `.env`, as Compose does."""
    found: dict[str, str] = {}
    for name, value, place in pairs(node):
        if not _is_name(name):
            place.put(messages.ENV_NAME, name=name)
            continue
        known = _passed(name, place, draft) if value is None else attempt(content, value, None)
        if known is not None:
            found[name] = known
    draft.set("environment", found, node)
    _warn_secrets(found, node)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not UNFIT.search(text)


def _passed(name: str, place: Node, draft: Draft) -> str | None:
    value = draft.project.lookup(draft.name, name)
    if value is None:
        place.put(messages.ENV_PASSED, name=name)
    return value


def _warn_secrets(found: dict[str, str], node: Node) -> None:
    """User-data can be read by whoever reaches the provider's metadata: say so once for each service."""
    names = [name for name, value in found.items() if _is_secret(name, value)]
    if names:
        node.put(messages.ENV_SECRET, key=True, names=", ".join(names))


def _is_secret(name: str, value: str) -> bool:
    return (
        _SECRET.search(name) is not None
        and not name.endswith("_FILE")
        and value.lower() not in ("", "0", "1", "no", "yes", "false", "true")
    )


def parse_files(node: Node, draft: Draft) -> None:
    """Files in their order; a later one wins."""
    for item in node.value if node.is_list else [node]:
        attempt(lambda child: _file(child, draft), item, None)


def _file(node: Node, draft: Draft) -> None:
    options: dict[str, Any] = {"required": True, "raw": False, "path": node}
    if node.is_map:
        walk(node, _KEYS, options)
        if options["path"] is node:
            raise node.wrong(messages.KEY_MISSING, name="path")
    place: Node = options["path"]
    path = place.document.source.path.parent / text(place)
    files.inside(place, text(place), draft.project)
    if not path.is_file():
        if options["required"]:
            raise place.wrong(messages.ENV_FILE_MISSING, path=text(place))
        return
    report, lookup = draft.project.report, draft.project.lookup
    try:
        lines = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise place.wrong(messages.FILE_ENCODING) from None
    except OSError as error:
        raise place.wrong(messages.FILE_UNREADABLE, path=text(place), reason=error.strerror) from error
    found: dict[str, str] = {}
    for variable in read_variables(lines, path, report, lambda name: lookup(draft.name, name), raw=options["raw"]):
        value = lookup(draft.name, variable.name) if variable.value is None else variable.value
        if value is None:
            messages.ENV_PASSED.put(report, "", variable.mark, name=variable.name)
        elif not _is_name(variable.name) or UNFIT.search(value):
            messages.ENV_NAME.put(report, "", variable.mark, name=variable.name)
        else:
            found[variable.name] = value
    _warn_secrets(found, place)
    draft.env_files.update(found)


def _path(node: Node, options: dict[str, Any]) -> None:
    options["path"] = node


def _required(node: Node, options: dict[str, Any]) -> None:
    options["required"] = boolean(node)


def _format(node: Node, options: dict[str, Any]) -> None:
    if node.value != "raw":
        raise node.wrong(messages.ENV_FORMAT)
    options["raw"] = True


_KEYS: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": takes(_path),
    "required": takes(_required),
    "format": takes(_format),
}


def merged(draft: Draft) -> tuple[tuple[str, str], ...]:
    """The environment of the service, from both, in the order it was written."""
    return tuple({**draft.env_files, **draft.fields.pop("environment", {})}.items())


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


def read_variables(
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
