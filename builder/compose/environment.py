"""The environment of a service: `environment` wins over `env_file`. And how env files, `.env` too, are read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.compose import messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.node import Required, Row, attempt, stores, walk
from builder.compose.values import boolean, content, pairs, text
from builder.problems import Mark
from builder.stack.model import UNENCODABLE
from builder.stack.variables import PASSWORD_INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping
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
        elif draft.is_secret(name):
            _warn_replaced(name, value, draft)
        elif isinstance(place.value, Required):
            missing, way = place.value, place.document.way
            place.with_value("").report(messages.VARIABLE_REQUIRED, name=missing.name, reason=missing.reason, way=way)
        elif value is None:
            found[name] = _passed_through(name, place, draft)
        elif (known := attempt(content, value, None)) is not None:
            found[name] = known
    draft.set("environment", found, node)
    _note_secrets(found, node, node.mark(key=True), draft)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not UNENCODABLE.search(text)


def _passed_through(name: str, place: Node, draft: Draft) -> str | None:
    value = draft.project.lookup(draft.name, name)
    if value is None:
        draft.project.unset.setdefault(name, (place.where, place.mark()))
    return value


def _warn_replaced(name: str, value: Node | None, draft: Draft) -> None:
    """A value in the file is somebody's choice, also where a secret takes its place."""
    if value is not None and value.value not in ("", None):
        value.report(messages.ENV_REPLACED, name=name, service=draft.name)


_SECRET: Final = re.compile(
    r"(^|_)((PG)?PASSWORD|PASSWD|PASS|PASSPHRASE|SECRET|TOKEN|CREDENTIALS|SALT|API_?KEY"
    r"|(PRIVATE|SECRET|SECRET_ACCESS|APP|AUTH|JWT|MASTER|ENCRYPTION|SIGNING)_KEY|(MYSQL|DB)_PWD)($|_(BASE|KEY|HASH))",
    re.IGNORECASE,
)
# Switches, whatever they are about.
_SWITCH: Final = re.compile(r"(^|_)(ALLOW|DISABLE|ENABLE|REQUIRE|RANDOM|USE|NO)_", re.IGNORECASE)
_TRIVIAL: Final = ("", "0", "1", "no", "yes", "false", "true")


def _note_secrets(found: Mapping[str, str | None], node: Node, place: Hashable, draft: Draft) -> None:
    """Keep what looks like a secret, by its place: an env file, or a key that several services have from one line."""
    secret = {name: value for name, value in found.items() if value is not None and is_secret(name, value)}
    if secret:
        _, services = draft.project.in_clear.setdefault(place, (node, {}))
        services.setdefault(draft.name, {}).update(secret)


def tell_secrets(project: Project) -> None:
    """User-data can be read by whoever reaches the provider's metadata: say so once for each place."""
    for node, services in project.in_clear.values():
        names = ", ".join(dict.fromkeys(name for secret in services.values() for name in secret))
        # Services that have one value share one secret, without the name of a service.
        prefixes = {service: f"{service}-" if len(services) == 1 else "" for service in services}
        ways = ", ".join(f"{service}: {_proposal(prefixes[service], secret)}" for service, secret in services.items())
        node.report(messages.ENV_SECRET, key=True, names=names, way=f"secret_env: {{{ways}}}")


def _proposal(prefix: str, secret: dict[str, str]) -> str:
    """What to write for these variables: their names, or each with its secret where a name alone does not say it."""
    if prefix and not any(map(_password_inside, secret.values())):
        return f"[{', '.join(secret)}]"
    return f"{{{', '.join(f'{name}: {_source(prefix, name, value)}' for name, value in secret.items())}}}"


def _source(prefix: str, name: str, value: str) -> str:
    if not _password_inside(value):
        return f"{prefix}{name}" if prefix else name.lstrip("_")
    shown, position = "", 0
    for password in passwords_inside(value):
        secret = secret_of_host(password.host) or f"{prefix}password"
        shown, position = f"{shown}{doubled(value[position : password.start])}{{{secret}}}", password.end
    # What is asked for may hold another secret, by any name.
    path, question, _ = doubled(value[position:]).partition("?")
    return json.dumps(f"{shown}{path}{question}{'…' * len(question)}", ensure_ascii=False)


class PasswordInside(NamedTuple):
    """Where a password stands in a text, and the host that it is for; empty where the text does not say it."""

    start: int
    end: int
    host: str


def passwords_inside(value: str) -> Iterator[PasswordInside]:
    """The passwords in URLs, and in lists of settings."""
    for found in PASSWORD_INSIDE.finditer(value):
        start, end = found.span(found.lastgroup or 0)
        host = re.match(r"@([A-Za-z0-9][A-Za-z0-9_-]*)", value[end:])
        yield PasswordInside(start, end, host[1] if host else "")


def secret_of_host(host: str) -> str:
    """The name of the secret that a password for this host is; empty without a host."""
    return f"{host}_password" if host else ""


def doubled(text: str) -> str:
    """A text as a value made of secrets has it: a brace as such is written twice."""
    return text.replace("{", "{{").replace("}", "}}")


def _password_inside(value: str) -> bool:
    """Whether a URL or a list of settings has a password."""
    return PASSWORD_INSIDE.search(value) is not None


def names_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret."""
    return _SECRET.search(name) is not None and not name.upper().endswith("_FILE") and not _SWITCH.search(name)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable with this value looks like a secret."""
    return _password_inside(value) or (
        names_secret(name) and value.lower() not in _TRIVIAL and not value.startswith("/")
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
    draft.env_paths.append(path)
    if not path.is_file():
        if options["required"]:
            example = example_of(path)
            missing = messages.ENV_FILE_MISSING if example is None else messages.ENV_FILE_EXAMPLE
            raise place.error(missing, path=text(place), example=example)
        return
    try:
        lines = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise place.error(messages.FILE_ENCODING) from None
    except OSError as error:
        raise place.error(messages.FILE_UNREADABLE, path=text(place), reason=error.strerror) from error
    found = _usable_variables(lines, path, draft, raw=options["raw"])
    _note_secrets(found, place, path, draft)
    draft.env_files.update(found)


_EXAMPLE: Final = re.compile(r"example|sample|template|dist|default", re.IGNORECASE)


def example_of(path: Path) -> str | None:
    """The file beside a missing env file that projects ship to be copied to its name, as `.env.example`."""
    if path.exists() or not path.parent.is_dir():
        return None
    named = path.name.strip(".")
    found = [child.name for child in path.parent.iterdir() if named in child.name and _EXAMPLE.search(child.name)]
    return min(found, key=lambda name: (not name.startswith(path.name), len(name), name), default=None)


def _usable_variables(lines: str, path: Path, draft: Draft, *, raw: bool) -> dict[str, str]:
    """The variables of an env file; what is wrong with one is reported at its line."""
    report = draft.project.report
    lookup = partial(draft.project.lookup, draft.name)
    found: dict[str, str] = {}
    for variable in read_variables(lines, path, report, lookup, raw=raw):
        value = lookup(variable.name) if variable.value is None else variable.value
        if draft.is_secret(variable.name):
            if variable.value:
                told = messages.ENV_REPLACED.at("", variable.mark, name=variable.name, service=draft.name)
                report.share(told, (messages.ENV_REPLACED, variable.mark), draft.name)
        elif value is None:
            draft.project.unset.setdefault(variable.name, ("", variable.mark))
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
    """Say once for all files which variables have no value from anywhere: Compose leaves them out without a word."""
    if project.unset:
        where, mark = next(iter(project.unset.values()))
        messages.ENV_PASSED.add_to(project.report, where, mark, names=", ".join(project.unset))


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
        reason = error.message or "not set"
        _fail_at(reader, at, messages.VARIABLE_REQUIRED, name=error.name, reason=reason, way=messages.SET_VARIABLE)
    return ""


def _fail_at(reader: _Reader, at: int, text: Text, **values: object) -> None:
    position, reader.position = reader.position, at
    reader.fail(text, **values)
    reader.position = position
