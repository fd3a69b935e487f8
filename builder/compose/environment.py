"""The environment of a service: `environment` wins over `env_file`. And how env files, `.env` too, are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.node import Row, attempt, stores, walk
from builder.compose.values import boolean, content, pairs, text
from builder.problems import Mark
from builder.stack.model import UNENCODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from builder.compose.draft import Draft, Project
    from builder.compose.node import Node
    from builder.messages import Text
    from builder.problems import Report


_NAME: Final = re.compile(r"[^\s=\x00-\x1f\x7f]+")


def environment(node: Node, draft: Draft) -> None:
    """A mapping, or a list of NAME=VALUE. A name without a value is taken from `.env`, as Compose does."""
    found: dict[str, str | None] = {}
    for name, value, place in pairs(node):
        if not _is_name(name):
            place.report(messages.ENV_NAME, name=name)
        elif value is None:
            found[name] = draft.project.lookup(draft.name, name)
            if found[name] is None:
                draft.project.unset.setdefault(name, place)
        elif (known := attempt(content, value, None)) is not None:
            found[name] = known
    draft.set("environment", found, node)
    _warn_secrets(found, node)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not UNENCODABLE.search(text)


_SECRET: Final = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASS|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|SECRET_KEY)($|_(BASE|KEY|HASH))"
)


def _warn_secrets(found: Mapping[str, str | None], node: Node) -> None:
    """User-data can be read by whoever reaches the provider's metadata: say so once for each service."""
    names = [name for name, value in found.items() if value is not None and _is_secret(name, value)]
    if names:
        node.report(messages.ENV_SECRET, key=True, names=", ".join(names))


def _is_secret(name: str, value: str) -> bool:
    return (
        _SECRET.search(name) is not None
        and not name.endswith("_FILE")
        and value.lower() not in ("", "0", "1", "no", "yes", "false", "true")
    )


def env_file(node: Node, draft: Draft) -> None:
    """The variables of files, in their order; a later one wins."""
    for item in node.value if node.is_list else [node]:
        attempt(lambda child: _read_env_file(child, draft), item, None)


def _read_env_file(node: Node, draft: Draft) -> None:
    options: dict[str, Any] = {"required": True, "raw": False}
    if node.is_map:
        walk(node, _ENV_FILE, options)
        if "path" not in options:
            raise node.error(messages.KEY_MISSING, name="path")
    place: Node = options.get("path", node)
    path = place.document.directory / text(place)
    draft.project.relative(place, text(place))
    if not path.is_file():
        if options["required"]:
            raise place.error(messages.ENV_FILE_MISSING, path=text(place))
        return
    try:
        lines = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise place.error(messages.FILE_ENCODING) from None
    except OSError as error:
        raise place.error(messages.FILE_UNREADABLE, path=text(place), reason=error.strerror) from error
    found = _usable_variables(lines, path, draft, raw=options["raw"])
    if path not in draft.project.env_files:
        draft.project.env_files.add(path)
        _warn_secrets(found, place)
    draft.env_files.update(found)


def _usable_variables(lines: str, path: Path, draft: Draft, *, raw: bool) -> dict[str, str]:
    """The variables of an env file; what is wrong with one is reported at its line."""
    report = draft.project.report
    lookup = partial(draft.project.lookup, draft.name)
    found: dict[str, str] = {}
    for variable in read_variables(lines, path, report, lookup, raw=raw):
        value = lookup(variable.name) if variable.value is None else variable.value
        if value is None:
            draft.project.unset.setdefault(variable.name, variable.mark)
        elif not _is_name(variable.name) or UNENCODABLE.search(value):
            messages.ENV_NAME.add_to(report, "", variable.mark, name=variable.name)
        else:
            found[variable.name] = value
    return found


def _is_raw(node: Node) -> bool:
    if node.value != "raw":
        raise node.error(messages.ENV_FORMAT)
    return True


_ENV_FILE: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": stores("path", lambda node: node),
    "required": stores("required", boolean),
    "format": stores("raw", _is_raw),
}


def merged(draft: Draft) -> tuple[tuple[str, str], ...]:
    """The environment of a finished service, from env files and `environment`, in the order they were written.

    A name without a value takes away what an env file says of it.
    """
    found: dict[str, str | None] = {**draft.env_files, **draft.fields.get("environment", {})}
    return tuple((name, value) for name, value in found.items() if value is not None)


def unset(draft: Draft) -> tuple[str, ...]:
    """The names without a value: the container has no such variable, also where its image sets one."""
    return tuple(name for name, value in draft.fields.get("environment", {}).items() if value is None)


def tell_unset(project: Project) -> None:
    """Say once for the whole file which variables have no value."""
    if not project.unset:
        return
    place, names = next(iter(project.unset.values())), ", ".join(project.unset)
    if isinstance(place, Mark):
        messages.ENV_PASSED.add_to(project.report, "", place, names=names)
    else:
        place.report(messages.ENV_PASSED, names=names)


_ASSIGNMENT: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(?:([=:])[ \t]*|(?=\n|$|#))")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")
_QUOTED: Final = {
    "'": re.compile(r"'([^']*)'"),
    '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL),
}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


@dataclass(frozen=True, slots=True)
class Variable:
    """One line of an env file; without a value the variable is passed through from where Compose runs."""

    name: str
    value: str | None
    mark: Mark


@dataclass
class _Reader:
    """The text of an env file and the position in it that is read next."""

    path: Path
    text: str
    report: Report
    lookup: Callable[[str], str | None]
    position: int = 0

    def mark(self, length: int = 1) -> Mark:
        before = self.text[: self.position]
        return Mark(self.path, before.count("\n") + 1, self.position - before.rfind("\n"), max(length, 1))

    def fail(self, text: Text, **values: object) -> None:
        text.add_to(self.report, "", self.mark(), **values)

    def skip_line(self) -> str:
        end = self.text.find("\n", self.position)
        end = len(self.text) if end < 0 else end
        line, self.position = self.text[self.position : end], end + 1
        return line


def read_variables(
    text: str, path: Path, report: Report, lookup: Callable[[str], str | None], *, raw: bool = False
) -> list[Variable]:
    """The variables of an env file, in its order; later lines may use earlier ones, and what `lookup` knows.

    `raw`: values as they stand. What is no variable is added to the report, with its place in `path`.
    """
    found: dict[str, str] = {}
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    reader = _Reader(path, text, report, lambda name: found.get(name, lookup(name)))
    variables = []
    while reader.position < len(reader.text):
        variable = _read_raw(reader) if raw else _read_variable(reader)
        if variable is not None:
            variables.append(variable)
            if variable.value is not None:
                found[variable.name] = variable.value
    return variables


def _read_raw(reader: _Reader) -> Variable | None:
    mark = reader.mark()
    line = reader.skip_line()
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    name, equals, value = line.partition("=")
    return Variable(name.strip(), value if equals else None, mark)


def _read_variable(reader: _Reader) -> Variable | None:
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
    return Variable(found[1], _read_value(reader), mark)


def _read_value(reader: _Reader) -> str:
    quote = reader.text[reader.position : reader.position + 1]
    if quote in _QUOTED and quote:
        found = _QUOTED[quote].match(reader.text, reader.position)
        if found is None:
            reader.fail(messages.ENV_QUOTE)
            reader.skip_line()
            return ""
        return _read_quoted(reader, quote, found)
    start = reader.position
    value = _COMMENT.sub("", reader.skip_line()).strip()
    return _expand(reader, value, start)


def _read_quoted(reader: _Reader, quote: str, found: re.Match[str]) -> str:
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
