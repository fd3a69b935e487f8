"""A Compose file, with all it includes and extends, read into the contents of a stack.

The order: the file and the `.env` beside it are read; variables are filled in; the top levels of included files, then
the file's own, are walked by keys.TOP_LEVEL into a Project; each service is put on top of what it extends and walked by
keys.SERVICE into a Draft; finish makes the stack's values of all drafts together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.compose import labels, messages
from builder.compose.draft import Draft, Project
from builder.compose.environment import read_variables
from builder.compose.finish import finish
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.keys import SERVICE, TOP_LEVEL
from builder.compose.node import Document, Node, NodeError, Row, attempt, refused, stores, walk
from builder.compose.values import pairs, plain, text
from builder.problems import Mark, Report
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from builder.compose.draft import StackContents
    from builder.yamlfile.places import Loc
    from builder.yamlfile.source import Source


def load(
    path: Path,
    *,
    stack: str,
    report: Report,
    server: str | None = None,
    secret_env: Mapping[str, Collection[str]] | None = None,
) -> StackContents | None:
    """Read a Compose file for the stack of this name. None when it cannot be used.

    Problems, with marks in the files, are added to the report. `server` is the host's name, for the variable of it.
    `secret_env` are by service the variables that the spec takes from secrets: what the file says of them is left out.
    """
    own = Report()
    found = source.read(path, own, dialect="compose")
    contents = None if found is None else _load(found, stack, own, server, secret_env or {})
    report.extend(own)
    return None if own.failed else contents


def _load(
    file: Source, stack: str, report: Report, server: str | None, secret_env: Mapping[str, Collection[str]]
) -> StackContents | None:
    project = Project(stack, file.path.parent, report, lambda _service, _name: None, secret_env=secret_env)
    environment = _read_dotenv(file, project)
    injected = labels.injected_variables(file.data, stack, server, environment)

    def lookup(service: str | None, name: str) -> str | None:
        if name in environment:
            return environment[name]
        return injected.get(service, {}).get(name, injected[None].get(name))

    project.lookup = lookup
    try:
        _read_top_level(_tree(file, project), project, (file.path.resolve(),))
    except NodeError as error:
        error.report()
        return None
    return finish(project, [_read_service(name, node, project) for name, node in _services_to_run(project)])


def _read_dotenv(file: Source, project: Project) -> dict[str, str]:
    """The variables of `.env`, the only ones there are: those of this machine would make results differ."""
    path, report = project.root / ".env", project.report
    if not path.is_file():
        return {}
    if not project.within(path):
        messages.BIND_OUTSIDE.add_to(report, "", file.mark(()), path=".env")
        return {}
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        messages.FILE_ENCODING.add_to(report, "", Mark(path, 1, 1))
        return {}
    variables = read_variables(content, path, report, lambda _name: None)
    return {variable.name: variable.value for variable in variables if variable.value is not None}


def _tree(file: Source, project: Project) -> Node:
    """The nodes of a file, with variables filled in."""
    return _TreeBuilder(Document(file, project.report), project.lookup, project.secret_env).build(file.data)


_SERVER_IP: Final = "EASYRUNNER_SERVER_IP"


@dataclass
class _TreeBuilder:
    """Builds the nodes of one file. `lookup` gets the service that a value belongs to, if any, and a name."""

    document: Document
    lookup: Callable[[str | None, str], str | None]
    secret_env: Mapping[str, Collection[str]]
    _warned: set[str] = field(default_factory=set)

    def build(self, value: Any, loc: Loc = ()) -> Node:
        """The node of a value at a place. Variables in keys are never filled in."""
        if isinstance(value, dict):
            value = {key: self.build(child, (*loc, key)) for key, child in value.items()}
        elif isinstance(value, list):
            value = [self.build(child, (*loc, index)) for index, child in enumerate(value)]
        elif isinstance(value, str) and "$" in value:
            emptied = self._emptied(value, loc)
            value = self._expand(value, Node(value, self.document, loc)) if emptied is None else emptied
        return Node(value, self.document, loc)

    def _emptied(self, value: str, loc: Loc) -> str | None:
        """An entry of `environment` without its value, where that is a secret: what it is filled from need not be set.

        None for every other value.
        """
        if len(loc) != 4 or (loc[0], loc[2]) != ("services", "environment"):
            return None
        name, equals = (value.partition("=")[0], "=") if isinstance(loc[3], int) else (loc[3], "")
        if name not in self.secret_env.get(str(loc[1]), ()):
            return None
        return f"{name}{equals}" if equals else ""

    def _expand(self, value: str, node: Node) -> str:
        service = str(node.loc[1]) if node.loc[:1] == ("services",) and len(node.loc) > 1 else None
        expansion = Expansion(lambda name: self.lookup(service, name))
        try:
            expanded = expansion.expand(value)
        except FormatError as error:
            node.report(messages.VARIABLE_FORMAT, inside=error)
            return ""
        except RequiredError as error:
            node.report(messages.VARIABLE_REQUIRED, name=error.name, reason=error.message or "not set")
            return ""
        for name in expansion.unset:
            self._warn(name, node)
        return expanded

    def _warn(self, name: str, node: Node) -> None:
        """Say once for each variable that it is empty."""
        if name in self._warned or str(node.loc[0]).startswith("x-"):
            return
        self._warned.add(name)
        node.report(messages.VARIABLE_SERVER_IP if name == _SERVER_IP else messages.VARIABLE_UNSET, name=name)


def _read_top_level(root: Node, project: Project, trail: tuple[Path, ...]) -> None:
    """Walk the top level of a file, after those it includes; `trail` are the files that include one another."""
    if not root.is_map:
        raise root.error(messages.NO_SERVICES)
    for node, file in _included(root, project, trail):
        _read_top_level(node, project, (*trail, file))
    own = Project(project.stack, project.root, project.report, project.lookup)
    if root.get("services") is None and root.get("include") is None:
        root.report(messages.NO_SERVICES)
    walk(root, TOP_LEVEL, own)
    for kind in ("services", "volumes", "networks", "secrets", "configs"):
        known: dict[str, Node] = getattr(project, kind)
        for name, node in getattr(own, kind).items():
            if name in known and known[name].document.source.path != node.document.source.path:
                path = known[name].document.source.path.name
                node.report(messages.INCLUDE_TWICE, key=True, name=name, path=path)
            known[name] = node


def _included(root: Node, project: Project, trail: tuple[Path, ...]) -> Iterator[tuple[Node, Path]]:
    """The files that a file includes, in order, as (tree, path)."""
    include = root.get("include")
    if include is None:
        return
    if not include.is_list:
        raise include.error(messages.WANTS_LIST)
    for item in include.value:
        for node in _include_paths(item):
            path = project.root / project.relative(node, text(node))
            if path.resolve() in trail:
                raise node.error(messages.INCLUDE_CYCLE, path=text(node))
            yield _other_tree(path, text(node), node, project), path.resolve()


def _include_paths(item: Node) -> list[Node]:
    """The path of one include, short or long form; a list, which may be empty."""
    if not item.is_map:
        return [item]
    values: dict[str, Any] = {}
    walk(item, _INCLUDE, values)
    path: Node | None = values.get("path")
    if path is None:
        raise item.error(messages.KEY_MISSING, name="path")
    if path.is_list and len(path.value) > 1:
        raise path.error(messages.INCLUDE_OVERRIDES)
    return path.value if path.is_list else [path]


def _itself(node: Node) -> Node:
    return node


_INCLUDE: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": stores("path", _itself),
    "project_directory": refused("paths are relative to the file they stand in", "remove it"),
    "env_file": refused("variables come from the .env beside the stack's compose file", "write them there"),
}


def _other_tree(path: Path, written: str, node: Node, project: Project) -> Node:
    """The nodes of a file that `node` names; raises NodeError where it is missing or no YAML."""
    if not path.is_file():
        raise node.error(messages.FILE_NOT_THERE, path=written)
    found = source.read(path, project.report, dialect="compose")
    if found is None:
        raise node.error(messages.EXTENDS_FILE, path=written)
    return _tree(found, project)


def _services_to_run(project: Project) -> list[tuple[str, Node]]:
    """The services with all they extend, without those of profiles."""
    found = []
    for name, node in project.services.items():
        service = attempt(partial(_extended, name, project), node, None)
        if service is None:
            continue
        profiles = service.get("profiles")
        if profiles is not None and profiles.value:
            profiles.report(messages.SERVICE_PROFILE, key=True, name=name)
        else:
            found.append((name, service))
    return found


def _extended(name: str, project: Project, node: Node, trail: tuple[str, ...] = ()) -> Node:
    """The service on top of all it extends. Raises NodeError where that cannot be found, or extends it in turn."""
    extends = node.get("extends")
    if extends is None:
        return node
    here = f"{node.document.source.path}#{name}"
    if here in trail:
        raise extends.error(messages.EXTENDS_CYCLE, name=name)
    base_name, services, path = _base_of(extends, node, project)
    base = services.get(base_name)
    if base is None:
        raise extends.error(messages.EXTENDS_UNKNOWN, name=base_name, path=path)
    base = _extended(base_name, project, base, (*trail, here))
    rest = {key: child for key, child in node.items() if key != "extends"}
    # Its profiles are the base's own; everything else is taken over.
    kept = {key: child for key, child in base.items() if key not in ("extends", "profiles")}
    return _merged(base.with_value(kept), node.with_value(rest))


def _base_of(extends: Node, node: Node, project: Project) -> tuple[str, dict[str, Node], str]:
    """What `extends` names: (the service's name, the services to look in, the file they are in)."""
    values: dict[str, Any] = {}
    if extends.is_map:
        walk(extends, _EXTENDS, values)
    else:
        values["service"] = extends
    if "service" not in values:
        raise extends.error(messages.KEY_MISSING, name="service")
    name = plain(values["service"])
    if "file" not in values:
        return name, _services_beside(node, project), node.document.source.path.name
    relative = project.relative(values["file"], text(values["file"]))
    return name, _services_of(values["file"], relative, project), relative


_EXTENDS: Final[dict[str, Row[dict[str, Any]]]] = {
    "service": stores("service", _itself),
    "file": stores("file", _itself),
}


def _services_beside(node: Node, project: Project) -> dict[str, Node]:
    path = node.document.source.path
    here = {name: other for name, other in project.services.items() if other.document.source.path == path}
    return here or project.extended.get(path, {})


def _services_of(node: Node, relative: str, project: Project) -> dict[str, Node]:
    path = project.root / relative
    if path not in project.extended:
        services = _other_tree(path, relative, node, project).get("services")
        project.extended[path] = dict(services.items()) if services is not None else {}
    return project.extended[path]


# How two values of one key are merged: pairs, whichever way they are written; lists of names that are mappings in long
# form; and lists that are not added to each other.
_PAIRS: Final = ("environment", "labels", "annotations", "sysctls", "extra_hosts")
_NAMES: Final = ("depends_on", "networks")
_WHOLE: Final = ("command", "entrypoint", "test")


def _merged(base: Node, over: Node, key: str = "") -> Node:
    """`over` on top of `base`; what stays of `base` keeps its own place."""
    if key in _PAIRS and _are_collections(base, over):
        return over.with_value({**dict(_pairs(base)), **dict(_pairs(over))})
    if key in _NAMES and _are_collections(base, over):
        return over.with_value({**dict(_names(base)), **dict(_names(over))})
    if base.is_map and over.is_map:
        return over.with_value(_merged_mapping(base.value, over.value))
    if base.is_list and over.is_list and key not in _WHOLE:
        return over.with_value(_merged_volumes(base, over) if key == "volumes" else [*base.value, *over.value])
    return over


def _are_collections(*nodes: Node) -> bool:
    return all(node.is_map or node.is_list for node in nodes)


def _merged_mapping(base: dict[str, Node], over: dict[str, Node]) -> dict[str, Node]:
    merged = {name: _merged(child, over[name], name) if name in over else child for name, child in base.items()}
    return {**merged, **{name: child for name, child in over.items() if name not in base}}


def _pairs(node: Node) -> Iterator[tuple[str, Node]]:
    for name, value, place in pairs(node):
        yield name, place.with_value(None) if value is None else value


def _names(node: Node) -> Iterator[tuple[str, Node]]:
    if node.is_map:
        yield from node.items()
        return
    for item in node.value:
        yield str(item.value), item.with_value(None)


def _merged_volumes(base: Node, over: Node) -> list[Any]:
    """Of two volumes with one target that of `over` stays."""
    taken = {_target(item) for item in over.value}
    return [*(item for item in base.value if _target(item) not in taken), *over.value]


def _target(item: Node) -> str:
    if item.is_map:
        target = item.get("target")
        return "" if target is None else str(target.value)
    parts = str(item.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _read_service(name: str, node: Node, project: Project) -> Draft:
    """One service, key by key: labels first, which others look at, and `deploy` last, which wins."""
    draft = Draft(name, node, project)
    if not node.is_map:
        node.report(messages.WANTS_MAPPING)
        return draft
    first = node.get("labels")
    if first is not None:
        attempt(lambda child: labels.labels(child, draft), first, None)
    keys = {key: child for key, child in node.items() if key not in ("labels", "deploy")}
    if "deploy" in node.value:
        keys["deploy"] = node.value["deploy"]
    walk(node.with_value(keys), SERVICE, draft)
    labels.apply_labels(draft)
    return draft
