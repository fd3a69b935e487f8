"""`extends`: a service that starts from another one, of this file or of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.compose import files, messages
from builder.compose.build import Builder
from builder.compose.merge import merge
from builder.compose.node import Document
from builder.compose.table import Row, takes, walk
from builder.compose.values import plain, text
from builder.yamlfile import source

if TYPE_CHECKING:
    from builder.compose.draft import Project
    from builder.compose.node import Node


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
        walk(extends, _KEYS, values)
    else:
        values["service"] = extends
    if "service" not in values:
        raise extends.wrong(messages.KEY_MISSING, name="service")
    name = plain(values["service"])
    if "file" not in values:
        return name, _siblings(node, project), node.document.source.path.name
    relative = files.inside(values["file"], text(values["file"]), project)
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
        root = Builder(Document(read, project.report), project.lookup).build(read.data)
        services = root.get("services")
        project.extended[path] = dict(services.items()) if services is not None else {}
    return project.extended[path]


def _keep(name: str) -> Row[dict[str, Node]]:
    def put(node: Node, values: dict[str, Node]) -> None:
        values[name] = node

    return takes(put)


_KEYS: Final[dict[str, Row[dict[str, Node]]]] = {"service": _keep("service"), "file": _keep("file")}
