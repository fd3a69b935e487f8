"""A compose file, with all it includes and extends, as the values of a stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.compose import environment, finish, labels, messages
from builder.compose.draft import Draft, Project
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.keys import SERVICE, TOP_LEVEL
from builder.compose.labels import injected_variables
from builder.compose.node import Document, Node, NodeError, Row, attempt, refused, takes, walk
from builder.compose.values import pairs, plain, text
from builder.problems import Mark, Report
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.compose.draft import StackContents
    from builder.yamlfile.places import Loc
    from builder.yamlfile.source import Source


def load(path: Path, *, stack: str, report: Report, server: str | None = None) -> StackContents | None:
    """Read a compose file. None when it cannot be used; problems, with marks in its files, are in the report."""
    own = Report()
    read = source.read(path, own, dialect="compose")
    parts = None if read is None else _load(read, stack, own, server)
    report.extend(own)
    return None if own.failed else parts


def _load(read: Source, stack: str, report: Report, server: str | None) -> StackContents | None:
    project = Project(stack, read.path.parent, report, lambda _service, _name: None)
    environment = _dotenv(read, project)
    injected = injected_variables(read.data, stack, server, environment)

    def lookup(service: str | None, name: str) -> str | None:
        if name in environment:
            return environment[name]
        return injected.get(service, {}).get(name, injected[None].get(name))

    project.lookup = lookup
    try:
        root = Interpolation(Document(read, report), lookup).build(read.data)
        _top(root, project, (read.path.resolve(),))
    except NodeError as wrong:
        wrong.put()
        return None
    return finish.finish(project, [_draft(name, node, project) for name, node in _chosen(project)])


def _dotenv(read: Source, project: Project) -> dict[str, str]:
    """The variables of `.env`, the only ones there are: those of this machine would make results differ."""
    path, report = project.root / ".env", project.report
    if not path.is_file():
        return {}
    if not project.within(path):
        messages.BIND_OUTSIDE.put(report, "", read.mark(()), path=".env")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        messages.FILE_ENCODING.put(report, "", Mark(path, 1, 1))
        return {}
    variables = environment.read_variables(text, path, report, lambda _name: None)
    return {variable.name: variable.value for variable in variables if variable.value is not None}


def _top(root: Node, project: Project, trail: tuple[Path, ...]) -> None:
    """Walk the top level of a file, after those it includes."""
    if not root.is_map:
        raise root.wrong(messages.NO_SERVICES)
    for node, file in included(root, project, trail):
        _top(node, project, (*trail, file))
    mine = Project(project.stack, project.root, project.report, project.lookup)
    if root.get("services") is None and root.get("include") is None:
        root.put(messages.NO_SERVICES)
    walk(root, TOP_LEVEL, mine)
    for kind in ("services", "volumes", "networks", "secrets", "configs"):
        known: dict[str, Node] = getattr(project, kind)
        for name, node in getattr(mine, kind).items():
            if name in known and known[name].document.source.path != node.document.source.path:
                path = known[name].document.source.path.name
                node.put(messages.INCLUDE_TWICE, key=True, name=name, path=path)
            known[name] = node


def _chosen(project: Project) -> list[tuple[str, Node]]:
    """The services that run: extended ones put together, those of profiles left out."""
    chosen = []
    for name, node in project.services.items():
        whole = attempt(partial(_resolved, name, project), node, None)
        if whole is None:
            continue
        profiles = whole.get("profiles")
        if profiles is not None and profiles.value:
            profiles.put(messages.SERVICE_PROFILE, key=True, name=name)
        else:
            chosen.append((name, whole))
    return chosen


def _resolved(name: str, project: Project, node: Node) -> Node:
    return resolve(name, node, project)


def _draft(name: str, node: Node, project: Project) -> Draft:
    """One service, read key by key: labels first, which others look at, and `deploy` last, which wins."""
    draft = Draft(name, node, project)
    if not node.is_map:
        node.put(messages.WANTS_MAPPING)
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


def resolve(name: str, node: Node, project: Project, trail: tuple[str, ...] = ()) -> Node:
    """The service with all it extends put under it. Leaves with an error where that cannot be found."""
    extends = node.get("extends")
    if extends is None:
        return node
    here = f"{node.document.source.path}#{name}"
    if here in trail:
        raise extends.wrong(messages.EXTENDS_CYCLE, name=name)
    wanted, services, path = _wanted(extends, node, project)
    base = services.get(wanted)
    if base is None:
        raise extends.wrong(messages.EXTENDS_UNKNOWN, name=wanted, path=path)
    base = resolve(wanted, base, project, (*trail, here))
    rest = {key: child for key, child in node.items() if key != "extends"}
    # What a service waits for and its profiles are its own; everything else is taken over.
    kept = {key: child for key, child in base.items() if key not in ("extends", "profiles")}
    return merge(base.with_value(kept), node.with_value(rest))


def _wanted(extends: Node, node: Node, project: Project) -> tuple[str, dict[str, Node], str]:
    """(the service's name, the services to look in, the file they are in)."""
    values: dict[str, Node] = {}
    if extends.is_map:
        walk(extends, _EXTENDS, values)
    else:
        values["service"] = extends
    if "service" not in values:
        raise extends.wrong(messages.KEY_MISSING, name="service")
    name = plain(values["service"])
    if "file" not in values:
        return name, _siblings(node, project), node.document.source.path.name
    relative = project.relative(values["file"], text(values["file"]))
    return name, _other_file(values["file"], relative, project), relative


def _siblings(node: Node, project: Project) -> dict[str, Node]:
    path = node.document.source.path
    here = {name: other for name, other in project.services.items() if other.document.source.path == path}
    return here or project.extended.get(path, {})


def _other_file(node: Node, relative: str, project: Project) -> dict[str, Node]:
    path = project.root / relative
    if path not in project.extended:
        if not path.is_file():
            raise node.wrong(messages.FILE_NOT_THERE, path=relative)
        read = source.read(path, project.report, dialect="compose")
        if read is None:
            raise node.wrong(messages.EXTENDS_FILE, path=relative)
        root = Interpolation(Document(read, project.report), project.lookup).build(read.data)
        services = root.get("services")
        project.extended[path] = dict(services.items()) if services is not None else {}
    return project.extended[path]


def _keep(name: str) -> Row[dict[str, Node]]:
    def put(node: Node, values: dict[str, Node]) -> None:
        values[name] = node

    return takes(put)


_EXTENDS: Final[dict[str, Row[dict[str, Node]]]] = {"service": _keep("service"), "file": _keep("file")}


# Keys that are pairs, whichever way they are written; lists of names that are mappings in long form; and lists
# that are not added to each other.
_PAIRS: Final = ("environment", "labels", "annotations", "sysctls", "extra_hosts")
_NAMES: Final = ("depends_on", "networks")
_WHOLE: Final = ("command", "entrypoint", "test")


def merge(base: Node, over: Node, key: str = "") -> Node:
    """`over` on top of `base`; what stays of `base` keeps its own place."""
    if key in _PAIRS and _both(base, over):
        return over.with_value({**dict(_pairs(base)), **dict(_pairs(over))})
    if key in _NAMES and _both(base, over):
        return over.with_value({**dict(_names(base)), **dict(_names(over))})
    if base.is_map and over.is_map:
        return over.with_value(_mapping(base.value, over.value))
    if base.is_list and over.is_list and key not in _WHOLE:
        return over.with_value(_targets(base, over) if key == "volumes" else [*base.value, *over.value])
    return over


def _both(base: Node, over: Node) -> bool:
    return all(node.is_map or node.is_list for node in (base, over))


def _mapping(base: dict[str, Node], over: dict[str, Node]) -> dict[str, Node]:
    merged = {name: merge(child, over[name], name) if name in over else child for name, child in base.items()}
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


def _targets(base: Node, over: Node) -> list[Any]:
    """Volumes: of two for one place the nearer stays."""
    taken = {_target(item) for item in over.value}
    return [*(item for item in base.value if _target(item) not in taken), *over.value]


def _target(item: Node) -> str:
    if item.is_map:
        target = item.get("target")
        return "" if target is None else str(target.value)
    parts = str(item.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def included(root: Node, project: Project, trail: tuple[Path, ...]) -> Iterator[tuple[Node, Path]]:
    """The files a file includes, in order, as (tree, path)."""
    node = root.get("include")
    if node is None:
        return
    if not node.is_list:
        raise node.wrong(messages.WANTS_LIST)
    for item in node.value:
        for place in _paths(item):
            path = project.root / project.relative(place, text(place))
            if path.resolve() in trail:
                raise place.wrong(messages.INCLUDE_CYCLE, path=text(place))
            if not path.is_file():
                raise place.wrong(messages.FILE_NOT_THERE, path=text(place))
            read = source.read(path, project.report, dialect="compose")
            if read is None:
                raise place.wrong(messages.EXTENDS_FILE, path=text(place))
            tree = Interpolation(Document(read, project.report), project.lookup).build(read.data)
            yield tree, path.resolve()


def _paths(item: Node) -> list[Node]:
    if not item.is_map:
        return [item]
    values: dict[str, Any] = {}
    walk(item, _INCLUDE, values)
    path: Node | None = values.get("path")
    if path is None:
        raise item.wrong(messages.KEY_MISSING, name="path")
    if path.is_list and len(path.value) > 1:
        raise path.wrong(messages.INCLUDE_OVERRIDES)
    return path.value if path.is_list else [path]


def _path(node: Node, values: dict[str, Any]) -> None:
    values["path"] = node


_INCLUDE: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": takes(_path),
    "project_directory": refused("paths are relative to the file they stand in", "remove it"),
    "env_file": refused("variables come from the .env beside the stack's compose file", "write them there"),
}


NOT_KNOWN_YET = "EASYRUNNER_SERVER_IP"


@dataclass
class Interpolation:
    """Builds the nodes of one file. `lookup` gets the name of the service a value belongs to, if any."""

    document: Document
    lookup: Callable[[str | None, str], str | None]
    _warned: set[str] = field(default_factory=set)

    def build(self, value: Any, loc: Loc = ()) -> Node:
        """The node of a value at a place. Keys are never filled in."""
        if isinstance(value, dict):
            value = {key: self.build(child, (*loc, key)) for key, child in value.items()}
        elif isinstance(value, list):
            value = [self.build(child, (*loc, index)) for index, child in enumerate(value)]
        elif isinstance(value, str) and "$" in value:
            value = self._fill(value, Node(value, self.document, loc))
        return Node(value, self.document, loc)

    def _fill(self, text: str, node: Node) -> str:
        service = str(node.loc[1]) if node.loc[:1] == ("services",) and len(node.loc) > 1 else None
        expansion = Expansion(lambda name: self.lookup(service, name))
        try:
            filled = expansion.expand(text)
        except FormatError as error:
            node.put(messages.VARIABLE_FORMAT, inside=error)
            return ""
        except RequiredError as error:
            node.put(messages.VARIABLE_REQUIRED, name=error.name, reason=error.message or "not set")
            return ""
        for name in expansion.unset:
            self._warn(name, node)
        return filled

    def _warn(self, name: str, node: Node) -> None:
        if name in self._warned or str(node.loc[0]).startswith("x-"):
            return
        self._warned.add(name)
        node.put(messages.VARIABLE_SERVER_IP if name == NOT_KNOWN_YET else messages.VARIABLE_UNSET, name=name)
