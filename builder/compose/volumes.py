"""What is mounted into a service: `volumes`, `tmpfs`, `secrets` and `configs`, in short and in long form.

Named volumes are noted in the project, files of bind mounts and configs are added to what comes along with the stack.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from builder.compose import depends_on, host_paths, merge, messages
from builder.compose.node import Row, attempt, no_effect, refused, stores, takes, walk
from builder.compose.values import boolean, content, integer, plain, size, text
from builder.stack.model import TMPFS_OPTION, Mount, StackFile, Tmpfs
from builder.stack.secret_references import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.compose.draft import Draft
    from builder.compose.node import Node

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# What a path in Volume= cannot have.
_NOT_IN_PATH: Final = re.compile(r"[\x00-\x1f\x7f:\"\\,]")


def volumes(node: Node, draft: Draft) -> None:
    """The list of volumes; every wrong item is reported."""
    if not node.is_list:
        raise node.error(messages.WANTS_LIST)
    # As Compose does it: of two on one path the later one is mounted.
    last = {merge.mount_target(item, "volumes"): item for item in node.value}
    for item in node.value:
        if last[merge.mount_target(item, "volumes")] is not item:
            item.report(messages.VOLUME_REPLACED)
        else:
            attempt(lambda child: _volume(child, draft), item, None)


def volumes_from(node: Node, draft: Draft) -> None:
    """Services whose mounts this one has as well, each perhaps with `:ro`; it starts after them."""
    for item in node.value if node.is_list else [node]:
        found = re.fullmatch(r"([^:]+)(?::(ro|rw))?", text(item))
        if found is None:
            item.report(messages.VOLUMES_FROM)
        else:
            draft.volumes_from.append((found[1], found[2] == "ro", item))
            depends_on.add(draft, item, service=found[1])


def _volume(node: Node, draft: Draft) -> None:
    if node.is_map:
        _long_form(node, draft)
        return
    written = text(node)
    if re.match(r"[A-Za-z]:(\\|/[^:]*:/)", written):
        raise node.error(messages.BIND_WINDOWS)
    parts = written.split(":")
    if len(parts) > 3 or not all(parts):
        raise node.error(messages.VOLUME_FORM)
    options = parts[2].split(",") if len(parts) == 3 else []
    read_only, copy = _options(node, options)
    if len(parts) == 1:
        _anonymous(node, parts[0], draft)
    elif parts[0].startswith((".", "/", "~")):
        _bind(node, parts[0], _mount_target(node, parts[1]), draft, read_only=read_only)
    else:
        _named(node, parts[0], parts[1], draft, read_only=read_only, copy=copy)


# Options of the short form that ask for nothing: SELinux labels and caching of Docker Desktop mean nothing here, and
# the last are how a bind mount is made anyway.
_WITHOUT_EFFECT: Final = (
    *("rw", "z", "Z", "cached", "delegated", "consistent"),
    # And nobody mounts anything below a stack's directory.
    *("bind", "rbind", "private", "rprivate", "slave", "rslave"),
)


def _options(node: Node, options: list[str]) -> tuple[bool, bool]:
    """(read-only, copy): what the third part of the short form says."""
    for option in options:
        if option not in (*_WITHOUT_EFFECT, "ro", "nocopy"):
            raise node.error(messages.VOLUME_OPTION, option=option)
    return "ro" in options, "nocopy" not in options


def _mount_target(node: Node, path: str) -> str:
    """A path inside the container that a unit's Volume= can carry."""
    if not path.startswith("/") or posixpath.normpath(path) == "/":
        raise node.error(messages.VOLUME_TARGET, path=path)
    if _NOT_IN_PATH.search(path) or path != path.strip():
        raise node.error(messages.WANTS_PLAIN, value=path)
    return path


def _add(draft: Draft, node: Node, mount: Mount) -> None:
    """Add a mount; two on one path are an error."""
    _check_free(draft, node, mount.target)
    draft.mounts.append((mount, node))


def _check_free(draft: Draft, node: Node, target: str) -> None:
    """Podman starts no container with two mounts on one path, of whatever kind they are."""
    taken = [*(mount.target for mount, _ in draft.mounts), *(tmpfs.target for tmpfs in draft.fields.get("tmpfs", ()))]
    if posixpath.normpath(target) in map(posixpath.normpath, taken):
        raise node.error(messages.VOLUME_TWICE, path=target)


def _named(node: Node, name: str, target: str, draft: Draft, *, read_only: bool, copy: bool) -> None:
    if not _NAME.fullmatch(name):
        raise node.error(messages.VOLUME_NAME, name=name)
    if name not in draft.project.volumes:
        draft.project.undeclared_volumes.setdefault(name, node)
        return
    draft.project.used_volumes.add(name)
    _add(draft, node, Mount("volume", name, _mount_target(node, target), read_only, copy))


def _anonymous(node: Node, target: str, draft: Draft) -> None:
    """A volume without a name keeps its data here: it gets a name from the service and the target."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", _mount_target(node, target)).strip("-").lower()
    name = f"{draft.name}-{slug}"
    draft.project.anonymous_volumes.add(name)
    _add(draft, node, Mount("volume", name, target))


def _bind(node: Node, source: str, target: str, draft: Draft, *, read_only: bool) -> None:
    if not host_paths.is_inside(node, source, draft.project):
        empty = host_paths.directory(node, source, draft.project)
        if empty is not None:
            _add(draft, node, Mount("bind", empty, target, read_only))
        return
    path = draft.project.relative(node, source)
    if path == "." and not host_paths.holds_nothing(draft.project.root):
        raise node.error(messages.BIND_EVERYTHING)
    if path == ".":
        path = host_paths.in_place_of_root(node, source, draft.project)
    if draft.project.has_content(path):
        draft.project.add_files(node, path)
        if not read_only:
            node.report(messages.BIND_READ_ONLY, path=source)
        _add(draft, node, Mount("bind", path, target, read_only=True))
        return
    if read_only and PurePosixPath(path).suffix:
        raise node.error(messages.BIND_MISSING, path=source)
    if read_only:
        draft.project.only_read.setdefault(path, (source, node))
    elif PurePosixPath(path).suffix and not (draft.project.root / path).is_dir():
        node.report(messages.BIND_DIRECTORY, path=source)
    _add(draft, node, Mount("bind", path, target, read_only))


def _long_form(node: Node, draft: Draft) -> None:
    values: dict[str, Any] = {}
    walk(node, _MOUNT, values)
    if node.get("type") is not None and "type" not in values:
        return
    mount_type = values.get("type", "volume")
    if "target" not in values:
        raise node.error(messages.KEY_MISSING, name="target")
    target, read_only = values["target"], values.get("read_only", False)
    if mount_type == "tmpfs":
        _add_tmpfs(node, _mount_target(node, target), values.get("tmpfs", ()), draft)
    elif mount_type == "bind":
        if "source" not in values:
            raise node.error(messages.KEY_MISSING, name="source")
        source = values["source"]
        source = source if source.startswith((".", "/", "~")) else f"./{source}"
        _bind(node, source, _mount_target(node, target), draft, read_only=read_only)
    elif "source" not in values:
        _anonymous(node, target, draft)
    else:
        copy = values.get("copy", True)
        _named(node, values["source"], target, draft, read_only=read_only, copy=copy)


def _type(node: Node) -> str:
    name = plain(node)
    if name not in ("volume", "bind", "tmpfs"):
        raise node.error(messages.VOLUME_TYPE, name=name)
    return name


def _size_option(node: Node, values: dict[str, Any]) -> None:
    values["tmpfs"] = (*values.get("tmpfs", ()), f"size={size(node)}")


def _mode_option(node: Node, values: dict[str, Any]) -> None:
    values["tmpfs"] = (*values.get("tmpfs", ()), f"mode={_octal(node)}")


def _octal(node: Node) -> str:
    """A number as YAML reads it: 0o440 and 288 are the same; text is octal."""
    mode = node.value if isinstance(node.value, str) else f"{integer(node):o}"
    if not re.fullmatch(r"[0-7]{3,4}", mode):
        raise node.error(messages.MODE)
    return mode


def _nocopy(node: Node, values: dict[str, Any]) -> None:
    values["copy"] = not boolean(node)


# The options of each type of mount.
_BIND: Final[dict[str, Row[dict[str, Any]]]] = {
    "create_host_path": no_effect(),
    "selinux": no_effect(),
    "recursive": no_effect(),
    "propagation": refused(
        "mounts are not passed on between host and container",
        "remove it",
        unless=("rprivate", "private", "rslave", "slave"),
    ),
}
_VOLUME: Final[dict[str, Row[dict[str, Any]]]] = {
    "nocopy": takes(_nocopy),
    "labels": no_effect(),
    "subpath": refused("a part of a volume cannot be mounted", "give the service a volume of its own"),
}
_TMPFS: Final[dict[str, Row[dict[str, Any]]]] = {"size": takes(_size_option), "mode": takes(_mode_option)}
_MOUNT: Final[dict[str, Row[dict[str, Any]]]] = {
    "type": stores("type", _type),
    "source": stores("source", text),
    "target": stores("target", text),
    "read_only": stores("read_only", boolean),
    "bind": takes(lambda node, values: walk(node, _BIND, values)),
    "volume": takes(lambda node, values: walk(node, _VOLUME, values)),
    "tmpfs": takes(lambda node, values: walk(node, _TMPFS, values)),
    "consistency": no_effect(),
    "image": no_effect(),  # goes with a type that is refused
}


def tmpfs(node: Node, draft: Draft) -> None:
    """`tmpfs:` of a service: paths, with options after a colon."""
    for item in node.value if node.is_list else [node]:
        attempt(lambda child: _tmpfs(child, draft), item, None)


_TMPFS_OWNER: Final = re.compile(r"[ug]id=[0-9]+")


def _tmpfs(node: Node, draft: Draft) -> None:
    target, _, rest = text(node).partition(":")
    options = tuple(option.strip() for option in rest.split(",") if option.strip())
    for option in options:
        if not re.fullmatch(f"{TMPFS_OPTION}|{_TMPFS_OWNER.pattern}", option):
            raise node.error(messages.TMPFS_OPTION, option=option)
    _add_tmpfs(node, _mount_target(node, target), _without_owner(node, options), draft)


def _without_owner(node: Node, options: tuple[str, ...]) -> tuple[str, ...]:
    """Podman makes a tmpfs root's, whatever is asked for; what was to be another user's is open to all of them."""
    owners = [option for option in options if _TMPFS_OWNER.fullmatch(option)]
    kept = tuple(option for option in options if option not in owners)
    if all(option.endswith("=0") for option in owners):
        return kept
    node.report(messages.TMPFS_OWNER, options=", ".join(owners))
    return (*(option for option in kept if not option.startswith("mode=")), "mode=1777")


def _add_tmpfs(node: Node, target: str, options: tuple[str, ...], draft: Draft) -> None:
    _check_free(draft, node, target)
    known = draft.fields.get("tmpfs", ())
    draft.set("tmpfs", (*known, Tmpfs(target, options)), node)


def secrets(node: Node, draft: Draft) -> None:
    """Secrets that a service may read under /run/secrets: Podman's, by reference."""
    _each_reference(node, draft, _secret)


def configs(node: Node, draft: Draft) -> None:
    """Files mounted into a service, read-only."""
    _each_reference(node, draft, _config)


def _each_reference(node: Node, draft: Draft, parse: Callable[[Node, Draft, dict[str, Any]], None]) -> None:
    if not node.is_list:
        raise node.error(messages.WANTS_LIST)
    for item in node.value:
        attempt(lambda child: parse(child, draft, _reference(child)), item, None)


def _reference(node: Node) -> dict[str, Any]:
    """The short form is a name, the long one says where and how."""
    if not node.is_map:
        return {"source": plain(node)}
    values: dict[str, Any] = {}
    walk(node, _REFERENCE, values)
    if "source" not in values:
        raise node.error(messages.KEY_MISSING, name="source")
    return values


def _secret_target(node: Node) -> str:
    path = text(node)
    if re.search(r"[,\"\\]", path):
        raise node.error(messages.WANTS_PLAIN, value=path)
    return path


def _mode(node: Node) -> str:
    return f"0{_octal(node).lstrip('0')}"


_REFERENCE: Final[dict[str, Row[dict[str, Any]]]] = {
    "source": stores("source", plain),
    "target": stores("target", _secret_target),
    "uid": stores("uid", integer),
    "gid": stores("gid", integer),
    "mode": stores("mode", _mode),
}


def _secret(node: Node, draft: Draft, values: dict[str, Any]) -> None:
    source = values["source"]
    declared = draft.project.secrets.get(source)
    if declared is None:
        raise node.error(messages.SOURCE_UNDECLARED, name=source, kind="secrets")
    named = declared.get("name")
    name = plain(named) if named is not None else source
    if not _NAME.fullmatch(name):
        raise (named or node).error(messages.SOURCE_NAME, name=name)
    target = values.get("target", source if name != source else None)
    secret = Secret(name, target, values.get("uid"), values.get("gid"), values.get("mode"))
    draft.set("secrets", (*draft.fields.get("secrets", ()), secret), node)


def _config(node: Node, draft: Draft, values: dict[str, Any]) -> None:
    source = values["source"]
    declared = draft.project.configs.get(source)
    if declared is None:
        raise node.error(messages.SOURCE_UNDECLARED, name=source, kind="configs")
    path = _config_file(declared, source, draft)
    if path is None:
        return
    target = values.get("target", f"/{source}")
    if _NOT_IN_PATH.search(target) or target != target.strip() or not target.startswith("/"):
        raise node.error(messages.PATH_ABSOLUTE, path=target)
    if any(name in values for name in ("uid", "gid", "mode")):
        node.report(messages.CONFIG_OWNER)
    _add(draft, node, Mount("bind", path, target, read_only=True))


_CONFIGS: Final = ".configs"


def _config_file(declared: Node, name: str, draft: Draft) -> str | None:
    """The path of a config's file, which comes along; None when its declaration has been refused."""
    inline, file = _inline(declared, name, draft), declared.get("file")
    if inline is not None:
        if not _NAME.fullmatch(name):
            raise declared.error(messages.SOURCE_NAME, name=name)
        path = f"{_CONFIGS}/{name}"
        draft.project.files[path] = StackFile(path, inline.encode())
        return path
    if file is None:
        return None
    path = draft.project.relative(file, text(file))
    if not (draft.project.root / path).is_file():
        raise file.error(messages.BIND_MISSING, path=text(file))
    draft.project.add_files(file, path)
    return path


def _inline(declared: Node, name: str, draft: Draft) -> str | None:
    """What a config holds by its declaration, or by the variable that this names; None where it is a file."""
    inline, variable = declared.get("content"), declared.get("environment")
    if inline is not None or variable is None:
        return None if inline is None else content(inline)
    value = draft.project.lookup(None, text(variable))
    if value is None:
        way = variable.document.way
        raise variable.error(messages.CONFIG_VARIABLE, name=text(variable), config=name, way=way)
    return value
