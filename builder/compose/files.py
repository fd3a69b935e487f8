"""Files of the user's that come along with a stack: only from the stack's own directory, small, and no secrets."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.stack.model import UNFIT, StackFile

if TYPE_CHECKING:
    from builder.compose.draft import Project
    from builder.compose.node import Node

_MOST_BYTES: Final = 1024 * 1024
_MOST_FILES: Final = 300
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEPT_EMPTY: Final = (".gitkeep", ".gitignore", ".keep")


def inside(node: Node, path: str, project: Project) -> str:
    """A path as written, relative to the stack's directory. Leaves with an error when it points out of it."""
    relative = within(node.document.source.path.parent / path, project)
    if relative is None:
        raise node.wrong(messages.BIND_OUTSIDE, path=path)
    if re.search(r"[\x00-\x1f\x7f:\"\\,]", str(relative)) or UNFIT.search(str(relative)):
        raise node.wrong(messages.WANTS_PLAIN, value=path)
    return PurePosixPath(relative).as_posix()


def within(path: Path, project: Project) -> Path | None:
    """The path that it is, all links followed, below the stack's directory; None for one outside of it."""
    try:
        return path.resolve().relative_to(project.root.resolve())
    except (ValueError, OSError, RuntimeError):
        return None


def has_content(project: Project, path: str) -> bool:
    """True when there is something to bring along: a file, or a directory that is not empty."""
    full = project.root / path
    if full.is_dir():
        return any(child.name not in _KEPT_EMPTY for child in full.iterdir())
    return full.exists()


def bring(node: Node, path: str, project: Project) -> None:
    """Add a file, or all files of a directory, to what the stack brings along."""
    full = project.root / path
    found = sorted(child for child in full.rglob("*") if not child.is_dir()) if full.is_dir() else [full]
    if len(found) > _MOST_FILES or sum(child.stat().st_size for child in found if child.is_file()) > _MOST_BYTES:
        raise node.wrong(messages.BIND_LARGE, path=path, files=len(found))
    for child in found:
        _add(node, child, project)


def _add(node: Node, file: Path, project: Project) -> None:
    name = file.relative_to(project.root).as_posix()
    inside(node, str(file.resolve()), project)
    if not file.is_file():
        raise node.wrong(messages.BIND_SPECIAL, path=name)
    try:
        content, executable = file.read_bytes(), file.stat().st_mode & 0o100
    except OSError as error:
        raise node.wrong(messages.FILE_UNREADABLE, path=name, reason=error.strerror) from error
    if _PRIVATE_KEY.search(content):
        raise node.wrong(messages.BIND_SECRET, path=name)
    project.files[name] = StackFile(name, content, "0755" if executable else "0644")
