"""What Compose files say of their services, also where they cannot be used as they are.

`er init --compose` proposes a spec from it: which service is the web's, and which variables are secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.compose.draft import Draft, Port, Project, StackContents
from builder.compose.finish import finish
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.load import read_drafts
from builder.problems import Report
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.compose.node import Node
    from builder.yamlfile.source import Source

    Lookup = Callable[[str], str | None]


@dataclass(frozen=True)
class Setting:
    """A variable of a service: as the file writes it, before variables are filled in, and after.

    `template` of a variable without a value is `${NAME}`, which means the same. `value` is None for one that is unset.
    """

    template: str
    value: str | None


@dataclass(frozen=True)
class ServiceFacts:
    """One service that runs. `image` is None where it is built, `waits_for` has services and conditions.

    `words` are those of its command, entrypoint and health check, `health` those of the last alone.
    """

    name: str
    image: str | None
    ports: tuple[Port, ...]
    exposed: tuple[Port, ...]
    labels: Mapping[str, str]
    settings: Mapping[str, Setting]
    waits_for: Mapping[str, str]
    words: tuple[str, ...]
    health: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What files say together. `name` is the project's own, `contents` what could be read of the stack.

    `unset` are variables without value and default, True for those that are required. `outside` are the places by
    variable that are no variable of a container.
    """

    name: str | None
    services: tuple[ServiceFacts, ...]
    contents: StackContents
    lookup: Lookup
    unset: Mapping[str, bool]
    outside: Mapping[str, tuple[str, ...]]


def survey(files: Iterable[Path], report: Report, stack: str = "app") -> Survey | None:
    """What Compose files say that are laid over each other; None when they cannot be read, with reasons in the report.

    What else is wrong with them is not reported here. `stack` is the name of the stack, which a file may fill in.
    """
    found = [source.read(path, report, dialect="compose") for path in files]
    read = [file for file in found if file is not None]
    if len(read) < len(found):
        return None
    own = Report()
    project = Project(stack, read[0].path.parent, own, lambda _service, _name: None)
    drafts = read_drafts(read, project, None)
    if drafts is None or (not drafts and own.failed):
        report.extend(own)
        return None
    templates = [(node, text) for draft in drafts for node, text in _templates(draft.node)]
    templates += [(node, text) for config in project.configs.values() for node, text in _templates(config)]

    def lookup(name: str) -> str | None:
        return project.lookup(None, name)

    return Survey(
        _name(read, lookup),
        tuple(_facts(draft) for draft in drafts),
        finish(project, drafts),
        lookup,
        _unset((text for _, text in templates), lookup),
        _outside(templates),
    )


def _name(files: list[Source], lookup: Lookup) -> str | None:
    """The last `name:` of the files."""
    names = [file.data.get("name") for file in files if isinstance(file.data, dict)]
    written = next((name for name in reversed(names) if isinstance(name, str)), None)
    return None if written is None else expanded(written, lookup) or None


def expanded(template: str, lookup: Lookup) -> str:
    """A text with its variables filled in; empty where that cannot be."""
    try:
        return Expansion(lookup).expand(template)
    except (FormatError, RequiredError):
        return ""


def _facts(draft: Draft) -> ServiceFacts:
    fields = draft.fields
    check = fields.get("healthcheck")
    health = tuple(check.test) if check is not None else ()
    waits = {dependency.service: dependency.condition for dependency, _ in fields.get("depends_on", [])}
    words = (*(fields.get("command") or ()), *(fields.get("entrypoint") or ()), *health)
    return ServiceFacts(
        draft.name,
        fields.get("image"),
        tuple(draft.ports),
        tuple(draft.exposed),
        {name: text for name, (text, _) in draft.labels.items()},
        _settings(draft),
        waits,
        words,
        health,
        tuple(dict.fromkeys((draft.name, *draft.aliases))),
    )


def _settings(draft: Draft) -> dict[str, Setting]:
    """The variables of a service that have a name of the usual form, in the order they were written."""
    found = {name: Setting(value.replace("$", "$$"), value) for name, value in draft.env_files.items()}
    node = draft.node.get("environment") if draft.node.is_map else None
    values = draft.fields.get("environment", {})
    for name, template in _entries(node) if node is not None else ():
        value = values.get(name, "")
        plain = f"${{{name}}}" if value is None else value.replace("$", "$$")
        found[name] = Setting(plain if template is None else template, value)
    return {name: setting for name, setting in found.items() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)}


def _entries(node: Node) -> Iterator[tuple[str, str | None]]:
    """Names and texts of `environment` as the file writes them; None for one without a value, or that is no text."""
    for key, child in node.items() if node.is_map else (("", item) for item in node.value if node.is_list):
        text = _at(child)
        if not isinstance(child.loc[-1], int):
            yield key, text if isinstance(text, str) else None
        elif isinstance(text, str):
            name, equals, value = text.partition("=")
            yield name, value if equals else None


def _at(node: Node) -> object:
    """What the file has at the place of a node."""
    value = node.document.source.data
    for step in node.loc:
        value = value[step]
    return value


def _templates(node: Node) -> Iterator[tuple[Node, str]]:
    """Every text with a variable in it, as the file writes it."""
    children = [child for _, child in node.items()] if node.is_map else node.value if node.is_list else ()
    for child in children:
        yield from _templates(child)
    if not children:
        text = _at(node)
        if isinstance(text, str) and "$" in text:
            yield node, text


_VARIABLE: Final = re.compile(r"\$\$|\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def variables(template: str) -> tuple[str, ...]:
    """The variables that a text names, those in defaults too, each once."""
    return tuple(dict.fromkeys(found[1] for found in _VARIABLE.finditer(template) if found[1]))


def _unset(templates: Iterable[str], lookup: Lookup) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for template in templates:
        required: dict[str, str] = {}
        while True:
            expansion = Expansion(lambda name, known=required: known.get(name) or lookup(name))  # type: ignore[misc]
            try:
                expansion.expand(template)
            except FormatError:
                break
            except RequiredError as error:
                required[error.name] = "x"
                continue
            break
        found.update(dict.fromkeys(required, True))
        for name in expansion.unset:
            found.setdefault(name, False)
    return found


def _outside(templates: Iterable[tuple[Node, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node, text in templates:
        if node.loc[:1] != ("services",) or node.loc[2:3] != ("environment",):
            for name in variables(text):
                found.setdefault(name, []).append(node.where)
    return {name: tuple(dict.fromkeys(places)) for name, places in found.items()}
