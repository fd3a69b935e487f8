"""The environment of a service: what the file says wins over what its env files say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.compose import envfile, files, messages
from builder.compose.node import attempt
from builder.compose.table import Row, takes, walk
from builder.compose.values import boolean, content, pairs, text
from builder.quadlet import UNFIT

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node

_NAME: Final = re.compile(r"[^\s=\x00-\x1f\x7f]+")
_SECRET: Final = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASS|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|SECRET_KEY)($|_(BASE|KEY|HASH))"
)


def parse(node: Node, draft: Draft) -> None:
    """A mapping, or a list of NAME=VALUE. A name without a value is taken from `.env`, as Compose does."""
    found: dict[str, str] = {}
    for name, value, place in pairs(node):
        if not _is_name(name):
            place.put(messages.ENV_NAME, name=name)
            continue
        known = _passed(name, place, draft) if value is None else attempt(content, value, None)
        if known is not None:
            found[name] = known
    draft.set("environment", found, node)
    _warn_secrets(found, node)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not UNFIT.search(text)


def _passed(name: str, place: Node, draft: Draft) -> str | None:
    value = draft.project.lookup(draft.name, name)
    if value is None:
        place.put(messages.ENV_PASSED, name=name)
    return value


def _warn_secrets(found: dict[str, str], node: Node) -> None:
    """User-data can be read by whoever reaches the provider's metadata: say so once for each service."""
    names = [name for name, value in found.items() if _is_secret(name, value)]
    if names:
        node.put(messages.ENV_SECRET, key=True, names=", ".join(names))


def _is_secret(name: str, value: str) -> bool:
    return (
        _SECRET.search(name) is not None
        and not name.endswith("_FILE")
        and value.lower() not in ("", "0", "1", "no", "yes", "false", "true")
    )


def parse_files(node: Node, draft: Draft) -> None:
    """Files in their order; a later one wins."""
    for item in node.value if node.is_list else [node]:
        attempt(lambda child: _file(child, draft), item, None)


def _file(node: Node, draft: Draft) -> None:
    options: dict[str, Any] = {"required": True, "raw": False, "path": node}
    if node.is_map:
        walk(node, _KEYS, options)
        if options["path"] is node:
            raise node.wrong(messages.KEY_MISSING, name="path")
    place: Node = options["path"]
    path = place.document.source.path.parent / text(place)
    files.inside(place, text(place), draft.project)
    if not path.is_file():
        if options["required"]:
            raise place.wrong(messages.ENV_FILE_MISSING, path=text(place))
        return
    report, lookup = draft.project.report, draft.project.lookup
    try:
        lines = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise place.wrong(messages.FILE_ENCODING) from None
    except OSError as error:
        raise place.wrong(messages.FILE_UNREADABLE, path=text(place), reason=error.strerror) from error
    found: dict[str, str] = {}
    for variable in envfile.parse(lines, path, report, lambda name: lookup(draft.name, name), raw=options["raw"]):
        value = lookup(draft.name, variable.name) if variable.value is None else variable.value
        if value is None:
            messages.ENV_PASSED.put(report, "", variable.mark, name=variable.name)
        elif not _is_name(variable.name) or UNFIT.search(value):
            messages.ENV_NAME.put(report, "", variable.mark, name=variable.name)
        else:
            found[variable.name] = value
    _warn_secrets(found, place)
    draft.env_files.update(found)


def _path(node: Node, options: dict[str, Any]) -> None:
    options["path"] = node


def _required(node: Node, options: dict[str, Any]) -> None:
    options["required"] = boolean(node)


def _format(node: Node, options: dict[str, Any]) -> None:
    if node.value != "raw":
        raise node.wrong(messages.ENV_FORMAT)
    options["raw"] = True


_KEYS: Final[dict[str, Row[dict[str, Any]]]] = {
    "path": takes(_path),
    "required": takes(_required),
    "format": takes(_format),
}


def merged(draft: Draft) -> tuple[tuple[str, str], ...]:
    """The environment of the service, from both, in the order it was written."""
    return tuple({**draft.env_files, **draft.fields.pop("environment", {})}.items())
