"""A compose file, with all it includes and extends, as the values of a stack."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from builder.compose import envfile, files, finish, labels, messages, mount_messages
from builder.compose.build import Builder
from builder.compose.draft import Draft, Project
from builder.compose.extends import resolve
from builder.compose.include import included
from builder.compose.keys import KEYS
from builder.compose.node import Document, WrongError, attempt
from builder.compose.table import walk
from builder.compose.top import TOP
from builder.compose.variables import injected_for
from builder.problems import Mark, Report
from builder.yamlfile import source

if TYPE_CHECKING:
    from pathlib import Path

    from builder.compose.draft import Parts
    from builder.compose.node import Node
    from builder.yamlfile.source import Source


def load(path: Path, *, stack: str, report: Report, server: str | None = None) -> Parts | None:
    """Read a compose file. None when it cannot be used; problems, with marks in its files, are in the report."""
    own = Report()
    read = source.read(path, own, dialect="compose")
    parts = None if read is None else _load(read, stack, own, server)
    report.extend(own)
    return None if own.failed else parts


def _load(read: Source, stack: str, report: Report, server: str | None) -> Parts | None:
    project = Project(stack, read.path.parent, report, lambda _service, _name: None)
    environment = _dotenv(read, project)
    injected = injected_for(read.data, stack, server, environment)

    def lookup(service: str | None, name: str) -> str | None:
        if name in environment:
            return environment[name]
        return injected.get(service, {}).get(name, injected[None].get(name))

    project.lookup = lookup
    try:
        root = Builder(Document(read, report), lookup).build(read.data)
        _top(root, project, (read.path.resolve(),))
    except WrongError as wrong:
        wrong.put()
        return None
    return finish.parts(project, [_draft(name, node, project) for name, node in _chosen(project)])


def _dotenv(read: Source, project: Project) -> dict[str, str]:
    """The variables of `.env`, the only ones there are: those of this machine would make results differ."""
    path, report = project.root / ".env", project.report
    if not path.is_file():
        return {}
    if not files.within(path, project):
        mount_messages.BIND_OUTSIDE.put(report, "", read.mark(()), path=".env")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        messages.FILE_ENCODING.put(report, "", Mark(path, 1, 1))
        return {}
    variables = envfile.parse(text, path, report, lambda _name: None)
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
    walk(root, TOP, mine)
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
        attempt(lambda child: labels.parse(child, draft), first, None)
    keys = {key: child for key, child in node.items() if key not in ("labels", "deploy")}
    if "deploy" in node.value:
        keys["deploy"] = node.value["deploy"]
    walk(node.with_value(keys), KEYS, draft)
    labels.understand(draft)
    return draft
