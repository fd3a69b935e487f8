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
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import background, changed_files, common, locks, readiness, releases, services
from builder.server.remote.backup import dumps, restored_databases, snapshot_files
from builder.server.remote.backup.restored_data import ALL, Beside, Ids, checked, set_owners
from builder.server.remote.backup.restored_databases import Place
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError
from builder.server.remote.images import kept_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.server.remote.common import Value


class Request(NamedTuple):
    """What is asked for: `action` is restore or back; `at` is a snapshot or `@SECONDS`; no paths are all of them."""

    action: str = "restore"
    at: str = ""
    paths: tuple[str, ...] = ()
    timeout: float = 300
    by: str = ""


def restore_look(stack: str) -> Value:
    """The snapshot that stdin asks for, and what it comes to; nothing is changed. See `snapshot_files.plan`."""
    common.stack_user(stack)
    asked = _asked()
    return snapshot_files.plan(stack, asked.at, asked.paths)


def restore_start(stack: str) -> Value:
    """Begin what stdin asks for: JSON with `at`, `paths` and `timeout`."""
    return _start(stack, _asked())


def restore_back(stack: str) -> Value:
    """Begin the way back to what the stack had before its restore."""
    asked = _asked()._replace(action="back")
    if not Beside.of_stack(stack).directory.exists():
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
    found = snapshot_files.plan(stack, request.at, request.paths)
    snapshot_files.check_room(found["bytes"], found["free"])
    beside.begin()
    try:
        paths = prepare(stack, beside, found, lambda phase: change.set_state(phase, snapshot=found["snapshot"]))
    except BaseException:
        beside.remove()
        raise
    with locks.stack(stack, f"a restore (by {request.by})", _TURN):
        _switch(stack, change, _Switch(beside, paths, found, request))


def prepare(stack: str, beside: Beside, found: Value, tell: Callable[[str], None]) -> list[str]:
    """Restore what is asked for beside the stack's data, databases loaded and owners set; the paths to switch."""
    tell("restoring")
    snapshot_files.fetch(found["snapshot"], f"{facts.STACK_DATA}/{stack}", beside.tree, found["paths"])
    snapshot_files.fetch(found["snapshot"], f"{facts.BACKUPS}/{stack}", beside.dumps)
    described = snapshot_files.described_in(beside.dumps)
    own = Ids.of_uid(common.uid(common.user_of(stack)))
    _give(stack, beside, own, Ids.of_uid(described["uid"]))
    for service, dump in described["dumps"].items():
        restored_databases.fill(Place(stack, beside, found["paths"]), service, dump, tell)
    return list(dict.fromkeys(beside.place_of(path) for path in found["paths"])) or [ALL]


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


class _Switch(NamedTuple):
    """The paths to switch, of which snapshot, and who wants that."""

    beside: Beside
    paths: list[str]
    found: Value
    request: Request

    def forward(self) -> None:
        """With the stack stopped."""
        told = {"snapshot": self.found["snapshot"], "at": self.found["at"], "by": self.request.by}
        self.beside.note(self.paths, **told)
        self.beside.switch(forward=True)

    def back(self) -> None:
        """The same."""
        self.beside.switch(forward=False)


def _switch(stack: str, change: Change, switch: _Switch) -> None:
    """With the stack's lock held: stop it, let the data change places, and start it again; or take it back.

    What did not run before does not have to run with the data of then.
    """
    well = services.running(stack)
    try:
        change.set_state("switching")
        _stopped(stack, switch.forward)
        change.set_state("waiting for the stack")
        if not releases.lacking(stack):
            readiness.wait_for(stack, well, switch.request.timeout)
    except Exception as error:
        why, said = str(error) or type(error).__name__, readiness.last_words(stack, well)
        change.set_state("taking it back", why=why)
        _stopped(stack, switch.back)
        switch.beside.remove()
        change.set_state("rolled back", why=why, said=said)
        return
    kept_images.keep(stack)
    told = {"snapshot": switch.found["snapshot"], "at": switch.found["at"], "left": _left(switch.beside)}
    change.set_state("done", **told, lacking=releases.lacking(stack), ill=_ill(stack))


def _ill(stack: str) -> list[str]:
    """Services that fail, as they did before."""
    states = readiness.unit_states({stack})
    return [name for name, _, state in states if name != "proxy" and state in readiness.FAILED]


def _left(beside: Beside) -> list[str]:
    """Dumps that only the spec's own command knows how to load, by service: their files, kept until confirmed."""
    every = snapshot_files.described_in(beside.dumps)["dumps"].values()
    return [str(beside.dumps / one["file"]) for one in every if dumps.of_kind(one["kind"]) is None]


def _stopped(stack: str, switch: Callable[[], None]) -> None:
    """Do this while nothing of the stack runs."""
    unit = f"user@{common.uid(common.user_of(stack))}.service"
    common.begin(stack)  # else a visitor could, meanwhile
    try:
        common.run(["systemctl", "stop", unit])
        switch()
    finally:
        common.run(["systemctl", "restart", "--no-block", unit])


def _go_back(stack: str, change: Change, request: Request) -> None:
    """What the stack had before; what was restored goes. What runs now has to run, and to answer, with that as well."""
    beside, well = Beside.of_stack(stack), services.running(stack)
    with locks.stack(stack, f"the way back from a restore (by {request.by})", _TURN):
        record = beside.record() or {}
        begun = beside.is_begun()
        if begun:
            change.set_state("taking it back")
            _stopped(stack, lambda: beside.switch(forward=False))
        change.set_state("removing what was restored")
        beside.remove()
        if begun and not releases.lacking(stack):
            change.set_state("waiting for the stack")
            _wait(stack, well, request.timeout)
        kept_images.keep(stack)
    told = {"snapshot": record.get("snapshot", ""), "at": record.get("at"), "left": []}
    change.set_state("done", **told, lacking=releases.lacking(stack), ill=_ill(stack))


def _wait(stack: str, well: list[str], seconds: float) -> None:
    """Raises RemoteError where the stack does not come up with the data that it has again."""
    try:
        readiness.wait_for(stack, well, seconds)
    except RemoteError as error:
        why = f"{stack} has again what it had before, and does not come up: {error}"
        raise RemoteError(why, f"er server logs HOST {stack} says why") from None
