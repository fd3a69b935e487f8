"""Secrets of the host: root's files, which no stack can read. Values come by stdin, as those of a stack do."""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common
from builder.server.remote.common import RemoteError
from builder.server.remote.notify import notices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.server.remote.common import Value

_DIRECTORY: Final = Path(facts.HOST_SECRETS)
_NAME: Final = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_LARGEST: Final = 512_000  # bytes


def path(name: str) -> Path:
    """The file of a secret, for programs that read it themselves."""
    return _DIRECTORY / name


def read(name: str) -> bytes:
    """The value of a secret. Raises RemoteError where it is not set, with the command that sets it."""
    try:
        return path(name).read_bytes()
    except FileNotFoundError:
        raise RemoteError(f"the host's secret {name} is not set", f"er server secret set HOST --host {name}") from None


def is_set(name: str) -> bool:
    """Whether it has a value."""
    return path(name).exists()


def missing(used: str = "") -> list[str]:
    """The secrets that this host's spec needs, or needs for one thing, and that are not set."""
    return [
        name for name, one in _needed().items() if one["required"] and used in ("", one["used"]) and not is_set(name)
    ]


def _needed() -> dict[str, Value]:
    """What the spec needs, by name: whether it is `required`, and what it is `used` for."""
    backup, notify = _settings(facts.BACKUP), _settings(facts.NOTIFY)
    return {
        **{name: {"required": True, "used": "backup"} for name in backup.get("secrets", ())},
        **{name: {"required": False, "used": "backup"} for name in backup.get("optional_secrets", ())},
        **{name: {"required": True, "used": "notify"} for name in notify.get("secrets", ())},
    }


def _settings(path: str) -> Value:
    try:
        found: Value = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def host_secret_list() -> list[Value]:
    """Name, whether it is set, since when, whether the spec needs it, and what for. Never a value."""
    needed = _needed()
    there = {one.name for one in _DIRECTORY.glob("*") if _NAME.fullmatch(one.name)}
    return [
        {
            "name": name,
            "set": name in there,
            "since": int(path(name).stat().st_mtime) if name in there else None,
            **needed.get(name, {"required": False, "used": ""}),
        }
        for name in sorted({*there, *needed})
    ]


def host_secret_set() -> Value:
    """Set all of the secrets on stdin, or none: JSON, by name the value in base64. What needs them can run then."""
    values = _values()
    _check(values)
    replaced = {name: is_set(name) for name in values}
    # The directory above is everybody's to walk through, as it has those of the stacks.
    _DIRECTORY.parent.mkdir(mode=0o711, exist_ok=True)
    _DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    for name, value in values.items():
        files.replace(path(name), _whole(value), 0o600, owner=(0, 0))
    common.keep_code()
    if any(name in notices.secrets() for name in values):
        notices.try_again()
    if common.waits_for_data():
        common.look_again()
    return {"set": [{"name": name, "replaced": old} for name, old in replaced.items()], "missing": missing()}


def _values() -> dict[str, bytes]:
    try:
        return {name: base64.b64decode(value) for name, value in json.load(sys.stdin.buffer).items()}
    except (ValueError, AttributeError, binascii.Error):
        raise RemoteError("what came through was cut short, nothing was set", "try again") from None


def _check(values: Mapping[str, bytes]) -> None:
    """What can be known before the first of them is set."""
    if wrong := [name for name in values if not _NAME.fullmatch(name)]:
        hint = "lower case letters, digits and `-`, as in restic-password"
        raise RemoteError(f"not the name of a secret of the host: {', '.join(wrong)}; nothing was set", hint)
    if empty := [name for name, value in values.items() if not value.strip()]:
        raise RemoteError(f"without a value: {', '.join(empty)}; nothing was set", "give it by prompt, --file or stdin")
    if large := [name for name, value in values.items() if len(value) >= _LARGEST]:
        raise RemoteError(f"too large, 512 kB is the most: {', '.join(large)}; nothing was set")


def _whole(value: bytes) -> bytes:
    """ssh reads no private key whose last line has no end, which whoever sent it may have taken away."""
    return value.rstrip(b"\n") + b"\n" if value.startswith(b"-----BEGIN ") else value


def host_secret_rm(name: str) -> Value:
    """Remove a secret."""
    if not _NAME.fullmatch(name) or not is_set(name):
        known = ", ".join(one["name"] for one in host_secret_list() if one["set"])
        raise RemoteError(f"the host has no secret {name}", f"it has: {known or 'none'}")
    path(name).unlink()
    files.sync(_DIRECTORY)
    return {"name": name, **_needed().get(name, {"required": False, "used": ""})}
