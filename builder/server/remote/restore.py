"""A stack's data from a snapshot: restored beside what it has, then switched; the old is kept until it is confirmed.

`restore-start` begins in a unit of its own, whose work is `restore-run`; the client follows it with `restore-wait`.
`restore-look` says what would come. A stack that does not come up goes back by itself; `restore-back` does so later,
and `restore-confirm` removes what was before. Databases come from their dumps, loaded by the service's own image
before anything is switched: see `dump_load`.

Whatever ends it, the old or the new data stands whole: see `restored_data`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import (
    background,
    backup,
    changed_files,
    common,
    dump_load,
    dumps,
    image_storage,
    locks,
    readiness,
    releases,
    restic,
    restored_data,
    restored_databases,
    services,
)
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError
from builder.server.remote.restic_errors import ResticError
from builder.server.remote.restored_data import ALL, Beside, Ids, checked, set_owners
from builder.server.remote.restored_databases import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from builder.server.remote.common import Value


class Request(NamedTuple):
    """What is asked for: `action` is restore or back; `at` is a snapshot or `@SECONDS`; no paths are all of them."""

    action: str = "restore"
    at: str = ""
    paths: tuple[str, ...] = ()
    timeout: float = 300
    by: str = ""


def restore_look(stack: str) -> Value:
    """The snapshot that stdin asks for, and what it comes to; nothing is changed. See `plan`."""
    common.stack_user(stack)
    return plan(stack, _asked())


def restore_start(stack: str) -> Value:
    """Begin what stdin asks for: JSON with `at`, `paths` and `timeout`."""
    return _start(stack, _asked())


def restore_back(stack: str) -> Value:
    """Begin the way back to what the stack had before its restore."""
    asked = _asked()._replace(action="back")
    if Beside.of_stack(stack).record() is None:
        raise RemoteError(f"nothing of before is kept of {stack}", "er server backup HOST list shows its snapshots")
    return _start(stack, asked)


def restore_wait(stack: str, phase: str, seconds: str) -> Value:
    """The state once its phase is another one, or when the time is up."""
    common.stack_user(stack)
    return background.wait(_unit(stack), _change(stack), phase, float(seconds))


def restore_confirm(stack: str) -> Value:
    """The stack keeps what was restored: what was before is removed. Of a restore that was cut, what it has left."""
    common.stack_user(stack)
    beside = Beside.of_stack(stack)
    with locks.backup("er server restore --confirm"), locks.stack(stack, "er server restore --confirm"):
        record = beside.record()
        if not beside.directory.exists():
            raise RemoteError(f"nothing of before is kept of {stack}")
        if record and not beside.is_switched():
            raise RemoteError(
                f"the restore of {stack} was cut before it was switched: there is nothing to confirm",
                f"er server restore HOST {stack} again, or --back to remove what it has left",
            )
        beside.remove()
    return {"snapshot": (record or {}).get("snapshot", "")}


def kept(stack: str) -> Value | None:
    """What is kept of before a stack's last restore, or what a cut one has left: `snapshot`, `at`, and its `state`."""
    beside = Beside.of_stack(stack)
    if not beside.directory.exists() or background.is_running(_unit(stack)):
        return None
    record = beside.record()
    state = "cut" if record is None or not beside.is_begun() else "kept" if beside.is_switched() else "half"
    found = record or {}
    return {"state": state, "snapshot": found.get("snapshot", ""), "at": found.get("at"), "by": found.get("by", "")}


def _asked() -> Request:
    try:
        found = json.loads(sys.stdin.buffer.read() or b"{}")
        return Request(
            at=str(found.get("at") or ""),
            paths=tuple(dict.fromkeys(checked(str(path)) for path in found.get("paths") or ())),
            timeout=min(max(float(found.get("timeout") or 300), 1), 3600),
            by=str(os.environ.get("SUDO_USER") or "root"),
        )
    except (ValueError, TypeError, AttributeError):
        raise RemoteError("what came through was cut short, nothing was changed", "try again") from None


def _unit(stack: str) -> str:
    return f"easyrunner-restore-{stack}"


def _change(stack: str) -> Change:
    """Keeps the state. Not one that a boot takes back: a restore leaves nothing half-way."""
    return Change(Path(facts.STATE, "restore", stack))


def _start(stack: str, request: Request) -> Value:
    common.stack_user(stack)
    unit, change, what = _unit(stack), _change(stack), f"a restore (by {request.by})"
    try:
        with locks.backup(what, 0):
            if background.is_running(unit):
                raise locks.BusyError(stack, "a restore that has just begun")
            change.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            changed_files.write(change.plan, json.dumps(request._asdict()).encode())
            change.set_state("started")
            background.start(unit, f"a restore of {stack}", change, "restore-run", stack)
    except locks.BusyError as busy:
        return {"phase": locks.WAITING, "holder": busy.holder}
    return change.state()


# How long the unit waits for a lock, in seconds: who holds it now has taken it after the start.
_TURN: Final = 900.0


def restore_run(stack: str) -> Value:
    """The work of the unit."""
    change = _change(stack)
    request = Request(**json.loads(change.plan.read_bytes()))
    try:
        with locks.backup(f"a restore of {stack} (by {request.by})", _TURN):
            (_go_back if request.action == "back" else _restore)(stack, change, request)
    except Exception as error:
        hint = error.hint if isinstance(error, RemoteError) else None
        change.set_state("failed", why=str(error) or type(error).__name__, hint=hint)
    return {}


# ---- which snapshot, and whether there is room


def plan(stack: str, request: Request) -> Value:
    """What is to be restored: `snapshot`, `at` in seconds, `paths`, `bytes`, `free` bytes, and the `dumps` to load."""
    found = choose(restic.snapshots(stack), stack, request.at)
    paths = [f"{facts.STACK_DATA}/{stack}/{path}" for path in request.paths]
    nodes = _nodes(found["id"], [*paths, f"{facts.BACKUPS}/{stack}"]) if paths else []
    for name, path in zip(request.paths, paths, strict=True):
        if not any(one["path"] == path or one["path"].startswith(f"{path}/") for one in nodes):
            raise RemoteError(
                f"the snapshot {found['id'][:8]} has no {name}", "er server backup HOST list shows others"
            )
    size = sum(one.get("size", 0) for one in nodes) if paths else size_of(found["id"])
    return {
        "snapshot": found["id"],
        "at": found["at"],
        "paths": list(request.paths),
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


def size_of(snapshot: str) -> int:
    """The bytes of all files of a snapshot."""
    argv = ["stats", "--json", "--no-lock", "--mode=restore-size", snapshot]
    return int(json.loads(restic.run(argv, timeout=restic.FOREGROUND).out)["total_size"])


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


# ---- the restore


def _restore(stack: str, change: Change, request: Request) -> None:
    change.set_state("looking for the snapshot")
    beside = Beside.of_stack(stack)
    if beside.record() and beside.is_begun():
        raise RemoteError(
            f"what {stack} had before its last restore is still kept",
            f"er server restore HOST {stack} --confirm removes it, --back takes it back",
        )
    beside.remove()
    found = plan(stack, request)
    check_room(found["bytes"], found["free"])
    beside.begin()
    try:
        paths = prepare(stack, beside, found, lambda phase: change.set_state(phase, snapshot=found["snapshot"]))
    except BaseException:
        beside.remove()
        raise
    with locks.stack(stack, f"a restore (by {request.by})", _TURN):
        beside.note(paths, snapshot=found["snapshot"], at=found["at"], by=request.by)
        _switch(stack, change, beside, found, request.timeout)


def prepare(stack: str, beside: Beside, found: Value, tell: Callable[[str], None]) -> list[str]:
    """Restore what is asked for beside the stack's data, databases loaded and owners set; the paths to switch."""
    tell("restoring")
    fetch(found["snapshot"], f"{facts.STACK_DATA}/{stack}", beside.tree, found["paths"])
    fetch(found["snapshot"], f"{facts.BACKUPS}/{stack}", beside.dumps)
    described = described_in(beside.dumps)
    own = Ids.of_uid(common.uid(common.user_of(stack)))
    _give(stack, beside, own, Ids.of_uid(described["uid"]))
    for service, dump in described["dumps"].items():
        restored_databases.fill(Place(stack, beside, found["paths"]), service, dump, tell)
    return list(dict.fromkeys(beside.place_of(path) for path in found["paths"])) or [ALL]


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


def _give(stack: str, beside: Beside, own: Ids, old: Ids) -> None:
    """The owners, once all is there; the first two levels are as the script `users` makes them."""
    gid = common.gid(common.user_of(stack))
    set_owners(beside.tree, own, old)
    os.chown(beside.tree, 0, gid)
    beside.tree.chmod(0o750)
    for name in ("volumes", "files", "secrets"):
        path = beside.tree / name
        path.mkdir(exist_ok=True)
        os.chown(path, own.uid, gid)
        path.chmod(0o700)
    beside.open_to(gid)


# ---- the switch


def _switch(stack: str, change: Change, beside: Beside, found: Value, timeout: float) -> None:
    """With the stack's lock held: stop it, let the data change places, and start it again; or take it back.

    What did not run before does not have to run with the data of then.
    """
    well = services.running(stack)
    try:
        _exchange(stack, change, beside, forward=True)
        change.set_state("waiting for the stack")
        if not releases.lacking(stack):
            readiness.wait_for(stack, well, timeout)
    except Exception as error:
        why, said = str(error) or type(error).__name__, readiness.last_words(stack, well)
        _exchange(stack, change, beside, forward=False)
        beside.remove()
        change.set_state("rolled back", why=why, said=said)
        return
    told = {"snapshot": found["snapshot"], "at": found["at"], "left": _left(beside)}
    change.set_state("done", **told, lacking=releases.lacking(stack), ill=_ill(stack))


def _ill(stack: str) -> list[str]:
    """Services that fail, as they did before."""
    states = readiness.unit_states({stack})
    return [name for name, _, state in states if name != "proxy" and state in readiness.FAILED]


def _left(beside: Beside) -> list[str]:
    """Dumps that only the spec's own command knows how to load, by service: their files, kept until confirmed."""
    every = described_in(beside.dumps)["dumps"].values()
    return [str(beside.dumps / one["file"]) for one in every if dumps.of_kind(one["kind"]) is None]


def _exchange(stack: str, change: Change, beside: Beside, *, forward: bool) -> None:
    unit = f"user@{common.uid(common.user_of(stack))}.service"
    change.set_state("switching" if forward else "taking it back")
    try:
        common.run(["systemctl", "stop", unit])
        beside.switch(forward=forward)
    finally:
        common.run(["systemctl", "start", "--no-block", unit])


def _go_back(stack: str, change: Change, request: Request) -> None:
    """What the stack had before; what was restored goes. It had run with that, so nothing is waited for."""
    beside = Beside.of_stack(stack)
    with locks.stack(stack, f"the way back from a restore (by {request.by})", _TURN):
        record = beside.record() or {}
        if beside.is_begun():
            _exchange(stack, change, beside, forward=False)
        change.set_state("removing what was restored")
        beside.remove()
    told = {"snapshot": record.get("snapshot", ""), "at": record.get("at"), "left": []}
    change.set_state("done", **told, lacking=releases.lacking(stack), ill=[])
