"""Volumes, bind mounts and tmpfs of a service."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from builder.compose import files, messages
from builder.compose.node import attempt
from builder.compose.table import Row, no_effect, refused, takes, walk
from builder.compose.values import boolean, integer, plain, size, text
from builder.stack.model import TMPFS_OPTION, Mount, Tmpfs

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node
    from builder.messages import Text

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# What mount options of the short form ask for. SELinux labels and caching of Docker Desktop mean nothing here.
_NOTHING: Final = ("rw", "z", "Z", "cached", "delegated", "consistent")
_TMPFS_OWNER: Final = re.compile(r"[ug]id=[0-9]+")
# Paths of the host that compose files like to mount, the first match speaks.
_HOST_PATHS: Final[tuple[tuple[str, Text], ...]] = (
    (r"(/var)?/run/(docker|podman/podman|containerd/containerd)\.sock", messages.BIND_ENGINE),
    (r"/etc/(localtime|timezone)", messages.BIND_TIMEZONE),
    (r"/(proc|sys|dev|run|boot|var/lib/docker)(/.*)?|/var/run(/.*)?|/", messages.BIND_SYSTEM),
    (r".*", messages.BIND_ABSOLUTE),
)


def volumes(node: Node, draft: Draft) -> None:
    """The list of volumes; every wrong item is reported."""
    if not node.is_list:
        raise node.wrong(messages.WANTS_LIST)
    for item in node.value:
        attempt(lambda child: _volume(child, draft), item, None)


def _volume(node: Node, draft: Draft) -> None:
    if node.is_map:
        _long(node, draft)
        return
    written = text(node)
    if re.match(r"[A-Za-z]:(\\|/[^:]*:/)", written):
        raise node.wrong(messages.BIND_WINDOWS)
    parts = written.split(":")
    if len(parts) > 3 or not all(parts):
        raise node.wrong(messages.VOLUME_FORM)
    options = parts[2].split(",") if len(parts) == 3 else []
    read_only, copy = _options(node, options)
    if len(parts) == 1:
        _anonymous(node, parts[0], draft)
    elif parts[0].startswith((".", "/", "~")):
        _bind(node, parts[0], _target(node, parts[1]), draft, read_only=read_only)
    else:
        _named(node, parts[0], parts[1], draft, read_only=read_only, copy=copy)


def _options(node: Node, options: list[str]) -> tuple[bool, bool]:
    """(read-only, copy): what the third part of the short form says."""
    for option in options:
        if option not in (*_NOTHING, "ro", "nocopy"):
            raise node.wrong(messages.VOLUME_OPTION, option=option)
    return "ro" in options, "nocopy" not in options


def _target(node: Node, path: str) -> str:
    """A path inside the container that a unit's Volume= can carry."""
    if not path.startswith("/") or posixpath.normpath(path) == "/":
        raise node.wrong(messages.VOLUME_TARGET, path=path)
    if re.search(r"[\x00-\x1f\x7f:\"\\,]", path) or path != path.strip():
        raise node.wrong(messages.WANTS_PLAIN, value=path)
    return path


def _add(draft: Draft, node: Node, mount: Mount) -> None:
    """One mount for each place; a later one of the same place wins, as when files are merged."""
    where = posixpath.normpath(mount.target)
    if any(posixpath.normpath(other.target) == where for other, _ in draft.mounts):
        raise node.wrong(messages.VOLUME_TWICE, path=mount.target)
    draft.mounts.append((mount, node))


def _named(node: Node, name: str, target: str, draft: Draft, *, read_only: bool, copy: bool) -> None:
    if not _NAME.fullmatch(name):
        raise node.wrong(messages.VOLUME_NAME, name=name)
    if name not in draft.project.volumes:
        raise node.wrong(messages.VOLUME_UNDECLARED, name=name)
    draft.project.used_volumes.add(name)
    _add(draft, node, Mount("volume", name, _target(node, target), read_only, copy))


def _anonymous(node: Node, target: str, draft: Draft) -> None:
    """A volume without a name keeps its data here: it gets a name from the service and the place."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", _target(node, target)).strip("-").lower()
    name = f"{draft.name}-{slug}"
    draft.project.own_volumes.add(name)
    _add(draft, node, Mount("volume", name, target))


def _bind(node: Node, source: str, target: str, draft: Draft, *, read_only: bool) -> None:
    if source.startswith("~"):
        raise node.wrong(messages.BIND_HOME)
    if source.startswith("/"):
        raise node.wrong(_host_path(source), path=source)
    path = files.inside(node, source, draft.project)
    if path == ".":
        raise node.wrong(messages.BIND_EVERYTHING)
    if files.has_content(draft.project, path):
        files.bring(node, path, draft.project)
        if not read_only:
            node.put(messages.BIND_READ_ONLY, path=source)
        _add(draft, node, Mount("bind", path, target, read_only=True))
        return
    if read_only:
        raise node.wrong(messages.BIND_MISSING, path=source)
    if PurePosixPath(path).suffix and not (draft.project.root / path).is_dir():
        node.put(messages.BIND_DIRECTORY, path=source)
    _add(draft, node, Mount("bind", path, target))


def _host_path(path: str) -> Text:
    clean = posixpath.normpath(re.sub("^/+", "/", path))
    return next(reason for pattern, reason in _HOST_PATHS if re.fullmatch(pattern, clean))


def _long(node: Node, draft: Draft) -> None:
    values: dict[str, Any] = {}
    walk(node, _LONG, values)
    if node.get("type") is not None and "type" not in values:
        return
    kind = values.get("type", "volume")
    if "target" not in values:
        raise node.wrong(messages.KEY_MISSING, name="target")
    target, read_only = values["target"], values.get("read_only", False)
    if kind == "tmpfs":
        _add_tmpfs(node, _target(node, target), values.get("tmpfs", ()), draft)
    elif kind == "bind":
        if "source" not in values:
            raise node.wrong(messages.KEY_MISSING, name="source")
        source = values["source"]
        source = source if source.startswith((".", "/", "~")) else f"./{source}"
        _bind(node, source, _target(node, target), draft, read_only=read_only)
    elif "source" not in values:
        _anonymous(node, target, draft)
    else:
        copy = values.get("copy", True)
        _named(node, values["source"], target, draft, read_only=read_only, copy=copy)


def _puts(name: str, parse: Any) -> Row[dict[str, Any]]:
    def put(node: Node, values: dict[str, Any]) -> None:
        values[name] = parse(node)

    return takes(put)


def _kind(node: Node) -> str:
    name = plain(node)
    if name not in ("volume", "bind", "tmpfs"):
        raise node.wrong(messages.VOLUME_TYPE, name=name)
    return name


def _inner(table: str) -> Row[dict[str, Any]]:
    return takes(lambda node, values: walk(node, _INNER[table], values))


def _size_option(node: Node, values: dict[str, Any]) -> None:
    values["tmpfs"] = (*values.get("tmpfs", ()), f"size={size(node)}")


def _mode_option(node: Node, values: dict[str, Any]) -> None:
    """A number as YAML reads it: 0o1777 and 1023 are the same; text is octal."""
    mode = node.value if isinstance(node.value, str) else f"{integer(node):o}"
    if not re.fullmatch(r"[0-7]{3,4}", mode):
        raise node.wrong(messages.MODE)
    values["tmpfs"] = (*values.get("tmpfs", ()), f"mode={mode}")


def _nocopy(node: Node, values: dict[str, Any]) -> None:
    values["copy"] = not boolean(node)


_LONG: Final[dict[str, Row[dict[str, Any]]]] = {
    "type": _puts("type", _kind),
    "source": _puts("source", text),
    "target": _puts("target", text),
    "read_only": _puts("read_only", boolean),
    "bind": _inner("bind"),
    "volume": _inner("volume"),
    "tmpfs": _inner("tmpfs"),
    "consistency": no_effect(),
    "image": refused("mounting an image is not supported", "copy what is needed into the service's own image"),
}
_INNER: Final[dict[str, dict[str, Row[dict[str, Any]]]]] = {
    "bind": {
        "create_host_path": no_effect(),
        "selinux": no_effect(),
        "recursive": no_effect(),
        "propagation": refused(
            "mounts are not passed on between host and container", "remove it", unless=("rprivate", "private")
        ),
    },
    "volume": {
        "nocopy": takes(_nocopy),
        "labels": no_effect(),
        "subpath": refused("a part of a volume cannot be mounted", "give the service a volume of its own"),
    },
    "tmpfs": {"size": takes(_size_option), "mode": takes(_mode_option)},
}


def tmpfs(node: Node, draft: Draft) -> None:
    """`tmpfs:` of a service: places, with options after a colon."""
    for item in node.value if node.is_list else [node]:
        attempt(lambda child: _tmpfs(child, draft), item, None)


def _tmpfs(node: Node, draft: Draft) -> None:
    target, _, rest = text(node).partition(":")
    options = tuple(option.strip() for option in rest.split(",") if option.strip())
    for option in options:
        if not re.fullmatch(f"{TMPFS_OPTION}|{_TMPFS_OWNER.pattern}", option):
            raise node.wrong(messages.TMPFS_OPTION, option=option)
    _add_tmpfs(node, _target(node, target), _without_owner(node, options), draft)


def _without_owner(node: Node, options: tuple[str, ...]) -> tuple[str, ...]:
    """Podman makes a tmpfs root's, whatever is asked for; what was to be another user's is open to all of them."""
    owners = [option for option in options if _TMPFS_OWNER.fullmatch(option)]
    kept = tuple(option for option in options if option not in owners)
    if all(option.endswith("=0") for option in owners):
        return kept
    node.put(messages.TMPFS_OWNER, options=", ".join(owners))
    return (*(option for option in kept if not option.startswith("mode=")), "mode=1777")


def _add_tmpfs(node: Node, target: str, options: tuple[str, ...], draft: Draft) -> None:
    known = draft.fields.get("tmpfs", ())
    draft.set("tmpfs", (*known, Tmpfs(target, options)), node)
