"""The log of the audit system, and AIDE's report: what was changed, and what was run, in plain values.

Text in, values out. Names in it may be anybody's choice: such as are no plain words come in hexadecimal.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server.remote.common import Value

# `type=SYSCALL msg=audit(1700000000.123:456): …`; in an enriched log a group separator follows, and words.
_RECORD: Final = re.compile(r"type=(\w+) msg=audit\((\d+)\.\d+:(\d+)\): ?([^\x1d\n]*)")
_FIELD: Final = re.compile(r'(\w+)=("[^"]*"|\S+)')
_HEX: Final = re.compile(r"(?:[0-9A-F]{2})+")
# Fields that are quoted where they are plain, else hexadecimal.
_ENCODED: Final = frozenset({"name", "cwd", "comm", "exe", "key"})
# The keys of the rules for watched files: images/rootfs/etc/audit/rules.d.
_WATCHES: Final = frozenset({"identity", "sudo", "ssh", "easyrunner", "units", "audit"})
_RAN, _REFUSED = "er-exec-data", "er-exec"
_REGULAR, _EXECUTABLE = 0o100000, 0o111


def events(text: str) -> Iterator[Value]:
    """Each event: `at`, `key`, `uid`, `auid`, `exe`, `success`, `cwd`, and its `paths` with `name`, `mode`, `kind`."""
    found: dict[str, Value] = {}
    for kind, at, serial, rest in _RECORD.findall(text):
        fields = {name: _decoded(name, value) for name, value in _FIELD.findall(rest)}
        event = found.setdefault(serial, {"at": int(at), "paths": [], "cwd": "/"})
        if kind == "SYSCALL":
            event |= {name: fields.get(name, "") for name in ("key", "exe", "comm", "success")}
            event |= {name: int(fields.get(name, "-1")) for name in ("uid", "auid")}
        elif kind == "CWD":
            event["cwd"] = fields.get("cwd", "/")
        elif kind == "PATH":
            event["paths"].append(
                {
                    "name": fields.get("name", ""),
                    "mode": int(fields.get("mode", "0"), 8),
                    "kind": fields.get("nametype", ""),
                }
            )
    yield from (event for event in found.values() if "key" in event)


def _decoded(name: str, value: str) -> str:
    if value.startswith('"'):
        return value[1:-1]
    if name in _ENCODED and _HEX.fullmatch(value):
        return bytes.fromhex(value).decode(errors="replace")
    return "" if value == "(null)" else value


def changes(found: Iterable[Value]) -> Iterator[Value]:
    """The watched files that were changed: `at`, `path`, `program`, `uid`, and `auid`, as whom that had logged in."""
    for event in found:
        if event["key"] in _WATCHES and event["success"] == "yes":
            paths = [
                _absolute(event, one["name"]) for one in event["paths"] if one["kind"] not in {"PARENT", "UNKNOWN"}
            ]
            who = {name: event[name] for name in ("at", "uid", "auid")}
            yield from ({"path": path, "program": event["exe"], **who} for path in dict.fromkeys(paths[-2:]))


def programs(found: Iterable[Value]) -> Iterator[Value]:
    """What was run out of data, or from where nothing may be run: `at`, `uid`, `path`, and whether it `ran`.

    A file that nobody may execute is refused anywhere: that is no sign of anything.
    """
    for event in found:
        paths = [one for one in event["paths"] if one["kind"] == "NORMAL"]
        if event["key"] == _RAN and paths:
            yield _program(event, paths[0], ran=True)
        elif event["key"] == _REFUSED and paths and _is_program(paths[0]["mode"]):
            yield _program(event, paths[0], ran=False)


def _program(event: Value, path: Value, *, ran: bool) -> Value:
    return {"at": event["at"], "uid": event["uid"], "path": _absolute(event, path["name"]), "ran": ran}


def _is_program(mode: int) -> bool:
    return mode & 0o170000 == _REGULAR and bool(mode & _EXECUTABLE)


def _absolute(event: Value, name: str) -> str:
    return posixpath.normpath(posixpath.join(event["cwd"], name))


# AIDE's lines: `f++++++++++++++++: /path`, `f = ...    . : /path`, `f----------------: /path`.
_LINE: Final = re.compile(r"^[fdlcbpsD?]([ =><.+\-:A-Za-z]{3,30}): (/.*)$")


def compared(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each path in AIDE's report, and what became of it: added, removed or changed."""
    for line in lines:
        if match := _LINE.match(line):
            attributes = match[1].strip()
            how = {"+": "added", "-": "removed"}.get(attributes[:1], "changed")
            yield match[2], how
