"""`include`: other compose files whose services, volumes and networks belong to the stack as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.compose import files, messages
from builder.compose.build import Builder
from builder.compose.node import Document
from builder.compose.table import Row, refused, takes, walk
from builder.compose.values import text
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.compose.draft import Project
    from builder.compose.node import Node


def included(root: Node, project: Project, trail: tuple[Path, ...]) -> Iterator[tuple[Node, Path]]:
    """The files a file includes, in order, as (tree, path)."""
    node = root.get("include")
    if node is None:
        return
    if not node.is_list:
        raise node.wrong(messages.WANTS_LIST)
    for item in node.value:
        for place in _paths(item):
            path = project.root / files.inside(place, text(place), project)
            if path.resolve() in trail:
                raise place.wrong(messages.INCLUDE_CYCLE, path=text(place))
            if not path.is_file():
                raise place.wrong(messages.FILE_NOT_THERE, path=text(place))
            read = source.read(path, project.report, dialect="compose")
            if read is None:
                raise place.wrong(messages.EXTENDS_FILE, path=text(place))
            tree = Builder(Document(read, project.report), project.lookup).build(read.data)
            yield tree, path.resolve()


def _paths(item: Node) -> list[Node]:
    if not item.is_map:
        return [item]
    values: dict[str, Any] = {}
    walk(item, _KEYS, values)
    path: Node | None = values.get("path")
    if path is None:
        raise item.wrong(messages.KEY_MISSING, name="path")
    if path.is_list and len(path.value) > 1:
        raise path.wrong(messages.INCLUDE_OVERRIDES)
    return path.value if path.is_list else [path]


def _path(node: Node, values: dict[str, Any]) -> None:
    values["path"] = node


_KEYS: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": takes(_path),
    "project_directory": refused("paths are relative to the file they stand in", "remove it"),
    "env_file": refused("variables come from the .env beside the stack's compose file", "write them there"),
}
