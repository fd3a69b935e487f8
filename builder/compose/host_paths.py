"""Paths of bind mounts that lie outside of the stack's directory: the host's own, and those where a user keeps data.

A fresh server has nothing of the user's, so Docker would make an empty directory of a path that is not there. That is
made here as well, below the stack's own; what a stack may not see, or what is surely a file, is refused.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.compose.node import Emptied
from builder.stack import names

if TYPE_CHECKING:
    from builder.compose.draft import Project
    from builder.compose.node import Node
    from builder.messages import Text

# Paths of the host that Compose files like to mount; the first match says what becomes of it.
_HOST_PATHS: Final[tuple[tuple[str, Text], ...]] = (
    (r"(/var)?/run/(docker|podman/podman|containerd/containerd)\.sock", messages.BIND_ENGINE),
    (r"/etc/(localtime|timezone)|/usr/share/zoneinfo(/.*)?", messages.BIND_TIMEZONE),
    (r"/dev/(u?random|null|zero)", messages.BIND_DEVICE),
    (r"/etc/(letsencrypt|ssl|pki)(/.*)?", messages.BIND_CERTIFICATES),
    (r"/(proc|sys|dev|run|boot|etc|lib|lib64|usr|bin|sbin|root|var/lib/docker|var/log)(/.*)?", messages.BIND_SYSTEM),
    (r"/var/run(/.*)?|/var|/home|/", messages.BIND_SYSTEM),
    (r".*[^/]\.[A-Za-z0-9]+", messages.BIND_ABSOLUTE),  # has a suffix; a name that begins with a dot has none
    (r".*", messages.BIND_ELSEWHERE),
)


# What is there has been written by a person, so that an empty directory is not meant.
_OF_A_PERSON: Final = re.compile(r"~/\.(ssh|gnupg|aws|azure|kube|docker|config)(/|$)")


def is_inside(node: Node, source: str, project: Project) -> bool:
    """Whether a source is in the stack's directory, or is something outside of it that is on this machine."""
    if source.startswith("~"):
        return False
    path = node.document.directory / source
    if project.within(path) is not None:
        return True
    # What is there was meant, and does not come along: the caller says so.
    return not source.startswith("/") and (path.exists() or PurePosixPath(source).suffix != "")


def directory(node: Node, source: str, project: Project) -> str | None:
    """The directory, relative to the stack's own, for a source that is not inside; None where it is left out.

    Raises NodeError for what no stack sees, and for files.
    """
    if source.startswith("~"):
        if not source.startswith("~/") or PurePosixPath(source).suffix or _OF_A_PERSON.match(source):
            raise node.error(messages.BIND_HOME)
        path = f".home{posixpath.normpath(source[1:])}".rstrip("/")
    elif source.startswith("/"):
        text = reason(source)
        if text.severity == "error":
            raise node.error(text, path=source)
        if text is not messages.BIND_ELSEWHERE:
            node.report(text, path=source)
            return None
        path = f".host{posixpath.normpath(re.sub('^/+', '/', source))}"
    else:
        # Above the stack's directory, as `../data`.
        steps = Path(os.path.relpath((node.document.directory / source).resolve(), project.root.resolve())).parts
        path = "/".join(".above" if step == ".." else step for step in steps)
    project.check_path(node, path, source)
    # A path that lacks a variable is none that somebody meant: that it lacks one is said.
    if not isinstance(node.value, Emptied):
        node.report(messages.BIND_ELSEWHERE, path=source, directory=names.data_path(project.stack, path))
    return path


_OF_COMPOSE: Final = re.compile(r".*compose.*\.ya?ml|.*\benv\b.*|readme.*|licen[cs]e.*|\.git.*", re.IGNORECASE)


def holds_nothing(root: Path) -> bool:
    """Whether a directory has nothing for an app, beside what Compose itself reads."""
    return all(_OF_COMPOSE.fullmatch(child.name) for child in root.iterdir())


def in_place_of_root(node: Node, source: str, project: Project) -> str:
    """The directory in place of the stack's own, when that holds nothing."""
    path = ".here"
    node.report(messages.BIND_ELSEWHERE, path=source, directory=names.data_path(project.stack, path))
    return path


def reason(path: str) -> Text:
    """What becomes of an absolute path of the host."""
    clean = posixpath.normpath(re.sub("^/+", "/", path))
    return next(text for pattern, text in _HOST_PATHS if re.fullmatch(pattern, clean))
