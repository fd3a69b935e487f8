"""Secrets and configs: the first by reference only, the second as files that come along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.node import attempt
from builder.compose.table import Row, takes, walk
from builder.compose.values import content, integer, plain, text
from builder.stack.model import Mount, Secret, StackFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.compose.draft import Draft
    from builder.compose.node import Node

_CONFIGS: Final = ".configs"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def secrets(node: Node, draft: Draft) -> None:
    """Secrets a service may read under /run/secrets."""
    _all(node, draft, _secret)


def configs(node: Node, draft: Draft) -> None:
    """Files put into a service, read-only."""
    _all(node, draft, _config)


def _all(node: Node, draft: Draft, parse: Callable[[Node, Draft, dict[str, Any]], None]) -> None:
    if not node.is_list:
        raise node.wrong(messages.WANTS_LIST)
    for item in node.value:
        attempt(lambda child: parse(child, draft, _reference(child)), item, None)


def _reference(node: Node) -> dict[str, Any]:
    """The short form is a name, the long one says where and how."""
    if not node.is_map:
        return {"source": plain(node)}
    values: dict[str, Any] = {}
    walk(node, _LONG, values)
    if "source" not in values:
        raise node.wrong(messages.KEY_MISSING, name="source")
    return values


def _secret(node: Node, draft: Draft, values: dict[str, Any]) -> None:
    source = values["source"]
    declared = draft.project.secrets.get(source)
    if declared is None:
        raise node.wrong(messages.SOURCE_UNDECLARED, name=source, kind="secrets")
    named = declared.get("name")
    name = plain(named) if named is not None else source
    if not _NAME.fullmatch(name):
        raise (named or node).wrong(messages.SOURCE_NAME, name=name)
    target = values.get("target", source if name != source else None)
    secret = Secret(name, target, values.get("uid"), values.get("gid"), values.get("mode"))
    draft.set("secrets", (*draft.fields.get("secrets", ()), secret), node)


def _config(node: Node, draft: Draft, values: dict[str, Any]) -> None:
    source = values["source"]
    declared = draft.project.configs.get(source)
    if declared is None:
        raise node.wrong(messages.SOURCE_UNDECLARED, name=source, kind="configs")
    path = _config_file(declared, source, draft)
    if path is None:
        return
    target = values.get("target", f"/{source}")
    if re.search(r"[\x00-\x1f\x7f:\"\\,]", target) or target != target.strip() or not target.startswith("/"):
        raise node.wrong(messages.PATH_ABSOLUTE, path=target)
    if any(name in values for name in ("uid", "gid", "mode")):
        node.put(messages.CONFIG_OWNER)
    draft.mounts.append((Mount("bind", path, target, read_only=True), node))


def _config_file(declared: Node, name: str, draft: Draft) -> str | None:
    """The path of a config's file, which is brought along; None when its declaration has been refused."""
    inline, file = declared.get("content"), declared.get("file")
    if inline is not None:
        if not _NAME.fullmatch(name):
            raise declared.wrong(messages.SOURCE_NAME, name=name)
        path = f"{_CONFIGS}/{name}"
        draft.project.files[path] = StackFile(path, content(inline).encode())
        return path
    if file is None:
        return None
    path = draft.project.relative(file, text(file))
    if not (draft.project.root / path).is_file():
        raise file.wrong(messages.BIND_MISSING, path=text(file))
    draft.project.add_files(file, path)
    return path


def _puts(name: str, parse: Callable[[Node], Any]) -> Row[dict[str, Any]]:
    def put(node: Node, values: dict[str, Any]) -> None:
        values[name] = parse(node)

    return takes(put)


def _mode(node: Node) -> str:
    """A number as YAML reads it: 0o440 and 288 are the same; text is octal."""
    mode = node.value if isinstance(node.value, str) else f"{integer(node):o}"
    if not re.fullmatch(r"[0-7]{3,4}", mode):
        raise node.wrong(messages.MODE)
    return f"0{mode.lstrip('0')}"


def _target(node: Node) -> str:
    path = text(node)
    if re.search(r"[,\"\\]", path):
        raise node.wrong(messages.WANTS_PLAIN, value=path)
    return path


_LONG: Final[dict[str, Row[dict[str, Any]]]] = {
    "source": _puts("source", plain),
    "target": _puts("target", _target),
    "uid": _puts("uid", integer),
    "gid": _puts("gid", integer),
    "mode": _puts("mode", _mode),
}
