"""A Compose file, with all that is laid over it, included and extended, read into the contents of a stack.

The order: the files and the `.env` beside the first are read; variables are filled in, and the files laid over each
other by the rules of merge; the top levels of included files, then the file's own, are walked by keys.TOP_LEVEL into a
Project; each service is put on top of what it extends and walked by keys.SERVICE into a Draft; finish makes the stack's
values of all drafts together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Final

from builder.compose import known_variables, labels, messages
from builder.compose.draft import Draft, Project
from builder.compose.environment import example_of, read_variables
from builder.compose.finish import finish
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.keys import SERVICE, TOP_LEVEL
from builder.compose.merge import merged
from builder.compose.node import (
    Document,
    Emptied,
    Faulty,
    Node,
    NodeError,
    Required,
    Row,
    attempt,
    refused,
    stores,
    walk,
)
from builder.compose.values import plain, text
from builder.problems import Mark, Report
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
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
    over: Iterable[Path] = (),
    public: tuple[Source, Loc] | None = None,
    secret_env: Mapping[str, Collection[str]] | None = None,
) -> StackContents | None:
    """Read a Compose file for the stack of this name, and those to lay `over` it. None when they cannot be used.

    Problems, with marks in the files, are added to the report. `server` is the host's name, for the variable of it.
    `public` is where a spec says anything of public services: a mapping of their names, checked there. `secret_env` are
    by service the variables that the spec takes from secrets: what the files say of them is left out.
    """
    own = Report()
    found = [source.read(one, own, dialect="compose") for one in (path, *over)]
    files = [file for file in found if file is not None]
    contents = None
    if len(files) == len(found):
        project = Project(stack, path.parent, own, lambda _service, _name: None, secret_env=secret_env or {})
        project.says_public = public is not None
        project.public = {} if public is None else labels.public_of_spec(*public, own)
        contents = _load(files, project, server)
    report.extend(own)
    return None if own.failed else contents


# The names that docker compose looks for, in its order.
NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES: Final = tuple(
    f"{name}.override.{kind}" for name in ("compose", "docker-compose") for kind in ("yml", "yaml")
)


def override(path: Path) -> Path | None:
    """The file that docker compose lays over this one by itself, when it has a usual name and nothing else is named."""
    beside = (path.parent / name for name in _OVERRIDES if path.name in NAMES)
    return next((other for other in beside if other.is_file()), None)


def _load(files: list[Source], project: Project, server: str | None) -> StackContents | None:
    drafts = read_drafts(files, project, server)
    contents = None if drafts is None else finish(project, drafts)
    _tell_empty(project)
    return contents


def read_drafts(files: list[Source], project: Project, server: str | None) -> list[Draft] | None:
    """The services that run, each read by itself; None where a file has no services, with the reason in the report."""
    environment = _read_dotenv(files[0], project)
    injected = known_variables.injected_variables([file.data for file in files], project, server, environment)

    def lookup(service: str | None, name: str) -> str | None:
        if name in environment:
            return environment[name]
        return injected.get(service, {}).get(name, injected[None].get(name))

    project.lookup = lookup
    try:
        _read_top_level(_tree(files, project), project, tuple(file.path.resolve() for file in files))
    except NodeError as error:
        error.report()
        return None
    drafts = [_read_service(name, node, project) for name, node in _services_to_run(project)]
    labels.check_names(project)
    return drafts


def _tell_empty(project: Project) -> None:
    """Say of each variable once that it is empty, unless that was an error somewhere."""
    for name, node in project.empty_variables.items():
        if name not in project.faulty_variables:
            text = messages.VARIABLE_SERVER_IP if name == _SERVER_IP else messages.VARIABLE_UNSET
            node.report(text, name=name, way=node.document.way)


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


def _tree(files: list[Source], project: Project) -> Node:
    """The nodes of files that are laid over each other, with variables filled in."""
    example = example_of(project.root / ".env")
    way = messages.SET_VARIABLE if example is None else messages.COPY_EXAMPLE.format(example=example)
    documents = [Document(file, project.report, files[0].path, project.faulty_variables, way) for file in files]
    trees = [_TreeBuilder(document, project).build(document.source.data) for document in documents]
    for tree in trees:
        if not tree.is_map:
            raise tree.error(messages.NO_SERVICES)
    return reduce(merged, trees)


_SERVER_IP: Final = "EASYRUNNER_SERVER_IP"


@dataclass
class _TreeBuilder:
    """Builds the nodes of one file."""

    document: Document
    project: Project

    def build(self, value: Any, loc: Loc = ()) -> Node:
        """The node of a value at a place. Variables in keys are never filled in."""
        if isinstance(value, dict):
            value = {key: self.build(child, (*loc, key)) for key, child in value.items()}
        elif isinstance(value, list):
            value = [self.build(child, (*loc, index)) for index, child in enumerate(value)]
        elif isinstance(value, str) and "$" in value:
            emptied = self._emptied(value, loc)
            value = self._expand(value, Node(value, self.document, loc)) if emptied is None else emptied
        return Node(value, self.document, loc, self.document.source.tags.get(loc, ""))

    def _emptied(self, value: str, loc: Loc) -> str | None:
        """An entry of `environment` without its value, where that is a secret: what it is filled from need not be set.

        None for every other value.
        """
        if not _entry_of_environment(loc):
            return None
        name, equals = (value.partition("=")[0], "=") if isinstance(loc[3], int) else (loc[3], "")
        if name not in self.project.secret_env.get(str(loc[1]), ()):
            return None
        return f"{name}{equals}" if equals else ""

    def _expand(self, value: str, node: Node) -> str:
        service = str(node.loc[1]) if node.loc[:1] == ("services",) and len(node.loc) > 1 else None
        expansion = Expansion(lambda name: self.project.lookup(service, name))
        try:
            expanded = expansion.expand(value)
        except FormatError as error:
            node.report(messages.VARIABLE_FORMAT, inside=error)
            return Faulty(_name_alone(value, node.loc))
        except RequiredError as error:
            return self._required(value, error.name, error.message or "not set", node)
        if not expansion.unset:
            return expanded
        if not _is_extension(node):
            for name in expansion.unset:
                self.project.empty_variables.setdefault(name, node)
        return Emptied.of(expanded, expansion.unset)

    def _required(self, value: str, name: str, reason: str, node: Node) -> str:
        """What stands for a text with a variable that has to be set, and is not."""
        if _entry_of_environment(node.loc):
            # A service may extend this one under a name of its own, and take the variable from a secret.
            entry = value.partition("=")[0] if isinstance(node.loc[3], int) else str(node.loc[3])
            if any(entry in names for names in self.project.secret_env.values()):
                return Required.of(f"{entry}=" if isinstance(node.loc[3], int) else "", name, reason)
        # Nothing reads these places themselves, and where an alias leads to one, the variable may be a secret.
        if not _is_extension(node):
            node.report(messages.VARIABLE_REQUIRED, name=name, reason=reason, way=node.document.way)
        return Faulty(_name_alone(value, node.loc))


def _entry_of_environment(loc: Loc) -> bool:
    return len(loc) == 4 and (loc[0], loc[2]) == ("services", "environment")


def _name_alone(value: str, loc: Loc) -> str:
    """What is left of a text that cannot be filled in: the name where it is an entry of a list under `environment`."""
    name = value.partition("=")[0] if _entry_of_environment(loc) and isinstance(loc[3], int) else ""
    return f"{name}=" if name and "$" not in name else ""


def _is_extension(node: Node) -> bool:
    return node.where.startswith("x-")


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
            if name in known and known[name].document.first != node.document.first:
                path = known[name].document.source.path.name
                node.report(messages.INCLUDE_TWICE, key=True, name=name, path=path)
            known[name] = node


def _included(root: Node, project: Project, trail: tuple[Path, ...]) -> Iterator[tuple[Node, Path]]:
    """The files that a file includes, in order, as (tree, path of the first of the files that it is made of)."""
    include = root.get("include")
    if include is None:
        return
    if not include.is_list:
        raise include.error(messages.WANTS_LIST)
    for item in include.value:
        nodes = _include_paths(item)
        for node in nodes:
            if (project.root / project.relative(node, text(node))).resolve() in trail:
                raise node.error(messages.INCLUDE_CYCLE, path=text(node))
        if nodes:
            files = [_other_file(node, project) for node in nodes]
            yield _tree(files, project), files[0].path.resolve()


def _include_paths(item: Node) -> list[Node]:
    """The path of one include, short or long form, or several that are laid over each other; there may be none."""
    if not item.is_map:
        return [item]
    values: dict[str, Any] = {}
    walk(item, _INCLUDE, values)
    path: Node | None = values.get("path")
    if path is None:
        raise item.error(messages.KEY_MISSING, name="path")
    return path.value if path.is_list else [path]


def _itself(node: Node) -> Node:
    return node


_INCLUDE: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": stores("path", _itself),
    "project_directory": refused("paths are relative to the file they stand in", "remove it"),
    "env_file": refused("variables come from the .env beside the stack's compose file", "write them there"),
}


def _other_file(node: Node, project: Project) -> Source:
    """The file that `node` names; raises NodeError where it is missing or no YAML."""
    path = project.root / project.relative(node, text(node))
    if not path.is_file():
        raise node.error(messages.FILE_NOT_THERE, path=text(node))
    found = source.read(path, project.report, dialect="compose")
    if found is None:
        raise node.error(messages.EXTENDS_FILE, path=text(node))
    return found


def _services_to_run(project: Project) -> list[tuple[str, Node]]:
    """The services with all they extend, without those of profiles that nobody starts."""
    found = []
    for name, node in project.services.items():
        service = attempt(partial(_extended, name, project), node, None)
        if service is None:
            continue
        profiles, zero = service.get("profiles"), _no_containers(service)
        if profiles is not None and profiles.value and not project.starts(profiles):
            first = (profiles.value if profiles.is_list else [profiles])[0].value
            profiles.report(messages.SERVICE_PROFILE, key=True, service=name, profile=first)
            project.behind_profiles.add(name)
        elif zero is not None:
            zero.report(messages.SERVICE_ZERO, service=name)
        else:
            found.append((name, service))
            continue
        project.left_out.add(name)
    return found


def _no_containers(service: Node) -> Node | None:
    """Where a service says that it has none: `scale: 0` or `replicas: 0`. The word of `deploy` counts."""
    deploy = service.get("deploy")
    replicas = (deploy.get("replicas") if deploy is not None else None) or service.get("scale")
    return replicas if replicas is not None and str(replicas.value) == "0" else None


def _extended(name: str, project: Project, node: Node, trail: tuple[str, ...] = ()) -> Node:
    """The service on top of all it extends. Raises NodeError where that cannot be found, or extends it in turn."""
    extends = node.get("extends")
    if extends is None:
        return node
    here = f"{node.document.first}#{name}"
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
    return merged(base.with_value(kept), node.with_value(rest), ("services", name))


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
    path = node.document.first
    here = {name: other for name, other in project.services.items() if other.document.first == path}
    return here or project.extended.get(path, {})


def _services_of(node: Node, relative: str, project: Project) -> dict[str, Node]:
    path = project.root / relative
    if path not in project.extended:
        services = _tree([_other_file(node, project)], project).get("services")
        project.extended[path] = dict(services.items()) if services is not None else {}
    return project.extended[path]


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
    keys |= {key: child for key, child in node.items() if key == "deploy"}
    walk(node.with_value(keys), SERVICE, draft)
    labels.apply_labels(draft)
    return draft
