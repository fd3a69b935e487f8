"""A snapshot of this host's: which one is meant, what it has, and its files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote.backup import backup, dump_load, restic, restored_data
from builder.server.remote.backup.restic_errors import ResticError
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.server.remote.common import Value


def plan(stack: str, at: str = "", wanted: Sequence[str] = ()) -> Value:
    """What is to be restored: `snapshot`, `at` in seconds, `paths`, `bytes`, and the bytes that are `free`."""
    found = choose(restic.snapshots(stack), stack, at)
    paths = [f"{facts.STACK_DATA}/{stack}/{path}" for path in wanted]
    nodes = _nodes(found["id"], [*paths, f"{facts.BACKUPS}/{stack}"]) if paths else []
    for name, path in zip(wanted, paths, strict=True):
        if not any(one["path"] == path or one["path"].startswith(f"{path}/") for one in nodes):
            raise RemoteError(
                f"the snapshot {found['id'][:8]} has no {name}", "er server backup HOST list shows others"
            )
    size = sum(one.get("size", 0) for one in nodes) if paths else size_of(found["id"])
    return {
        "snapshot": found["id"],
        "at": found["at"],
        "paths": list(wanted),
        "bytes": size,
        "free": image_storage.free(facts.DATA),
    }


_OTHERS: Final = "er server backup HOST list shows all"


def choose(snapshots: Sequence[Value], stack: str, at: str) -> Value:
    """The newest snapshot, the one whose id begins so, or the newest not after `@SECONDS`. Raises RemoteError."""
    if not snapshots:
        raise RemoteError(f"there is no snapshot of {stack}", "er server backup HOST now makes one")
    if not at:
        return snapshots[-1]
    if at.startswith("@"):
        before = [one for one in snapshots if one["at"] <= float(at[1:])]
        if not before:
            raise RemoteError(f"there is no snapshot of {stack} that is as old", _OTHERS)
        return before[-1]
    found = [one for one in snapshots if one["id"].startswith(at)]
    if len(found) != 1:
        raise RemoteError(f"{'several snapshots' if found else 'no snapshot'} of {stack} begin with {at[:64]}", _OTHERS)
    return found[0]


def size_of(snapshot: str, timeout: float = restic.FOREGROUND) -> int:
    """The bytes of all files of a snapshot."""
    argv = ["stats", "--json", "--no-lock", "--mode=restore-size", snapshot]
    return int(json.loads(restic.run(argv, timeout=timeout).out)["total_size"])


def _nodes(snapshot: str, paths: Sequence[str]) -> list[Value]:
    """What of a snapshot is at or below these paths."""
    argv = ["ls", "--json", "--no-lock", "--recursive", snapshot, *paths]
    lines = restic.run(argv, timeout=restic.FOREGROUND).out.splitlines()
    return [one for one in map(json.loads, lines) if "path" in one and "type" in one]


def check_room(size: int, free: int) -> None:
    """Room for all of it beside what is there. Raises RemoteError."""
    if size > free:
        raise RemoteError(
            f"the snapshot has {size >> 20:,} MiB, and {max(free, 0) >> 20:,} are free beside what runs",
            "er server doctor HOST --fix removes what nobody needs; or restore less: --path",
        )


def fetch(snapshot: str, source: str, target: Path, paths: Iterable[str] = ()) -> None:
    """A directory of a snapshot, or some paths below it, into an empty one; what was written is read again.

    Raises RemoteError where something cannot be read, or when it would fill the disk.
    """
    wrong: list[str] = []
    argv = ["restore", f"{snapshot}:{source}", f"--target={target}", "--json", "--no-lock", "--verify", "--sparse"]
    argv += [f"--include=/{_literal(path)}" for path in paths]
    try:
        restic.run(argv, each=lambda message: _watch(message, target, wrong))
    except ResticError:
        if not wrong:
            raise
    if wrong:
        raise RemoteError(f"{len(wrong)} files of the snapshot cannot be restored: {wrong[0]}", _DAMAGED)


_DAMAGED: Final = "the repository is damaged: er server backup HOST check; an older snapshot may be whole: --at"


def _literal(path: str) -> str:
    """A path that restic takes for no pattern."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def _watch(message: Value, target: Path, wrong: list[str]) -> None:
    if message.get("message_type") == "error":
        wrong.append(error_text(message))
    if image_storage.free(target) < 0:
        raise RemoteError("the server's disk has become full meanwhile: nothing was changed", "make room, try again")


def error_text(message: Value) -> str:
    """Of restic's message of an error: the file, and why."""
    error = message.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return dump_load.printable(f"{Path(str(message.get('item') or '')).name}: {said}")


def described_in(directory: Path) -> Value:
    """The stack.json of a snapshot: `uid` of the stack's user, and its `dumps` by service: `file`, `kind`, `bytes`."""
    try:
        found: Value = restored_data.read_json(directory, "stack.json")
        if found["format"] == backup.FORMAT:
            return found
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    raise RemoteError("the snapshot is of another version of er", "er server apply HOST SPEC brings this one there")
