"""A change of the whole tree, which stands only when everything answers and the client can still log in."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import changed_files, common, egress, images, readiness, services
from builder.server.remote.common import RemoteError, Value
from builder.server.remote.services import effects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Not er-*: those units share a sandbox in which sysctl may not write.
UNIT: Final = "easyrunner-apply"
_CODE: Final = changed_files.HERE / "code.zip"
# What stood before is waited for this long at least, in seconds, however impatient the plan is.
_BACK: Final = 120.0
_RUN: Final = "import sys;sys.path.insert(0,sys.argv.pop(1));from builder.server.remote.main import main;main()"


def apply_start() -> Value:
    """Take the plan on stdin and start the work in a unit of its own, which a cut connection does not end."""
    plan = sys.stdin.buffer.read()
    _whole(plan)
    if UNIT in common.run(["systemctl", "list-units", "--no-legend", "--plain", f"{UNIT}.service"], check=False):
        raise RemoteError("another change is being applied", "wait for its end, two minutes at most; then try again")
    changed_files.HERE.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed_files.put_back()
    changed_files.CONFIRMED.unlink(missing_ok=True)
    changed_files.write(changed_files.PLAN, plan)
    changed_files.write(_CODE, Path(sys.path[0]).read_bytes())
    changed_files.set_state("started")
    words = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", "--description=EasyRunner: apply a change"]
    common.run([*words, "python3", "-I", "-c", _RUN, str(_CODE), "apply-run"])
    return changed_files.state()


def _whole(plan: bytes) -> None:
    try:
        json.loads(plan)
    except ValueError:
        raise RemoteError("the plan was cut off on its way, nothing was changed", "try again") from None


def apply_state() -> Value:
    """The state of a change that is under way; the phase is `none` where there is none, whatever an old one says."""
    return changed_files.state() if _working() else {"phase": "none"}


def apply_wait(known: str, seconds: str) -> Value:
    """The state once it is no longer `known`, or when the time is up."""
    deadline = time.monotonic() + float(seconds)
    while (state := changed_files.state())["phase"] == known and time.monotonic() < deadline:
        if known not in facts.APPLY_ENDS and not _working():
            # It may have ended between the two looks.
            return (
                changed_files.state()
                if changed_files.state()["phase"] != known
                else {"phase": "failed", "why": "its unit is gone"}
            )
        time.sleep(0.1)
    return state


def _working() -> bool:
    return common.show(f"{UNIT}.service", "ActiveState").get("ActiveState") in ("active", "activating")


def apply_confirm() -> Value:
    """The client's word, over a new connection, that the change has not locked it out."""
    if changed_files.state()["phase"] != "waiting for you":
        raise RemoteError(f"nothing waits to be confirmed: {changed_files.state()['phase']}")
    changed_files.write(changed_files.CONFIRMED, b"")
    return {}


def apply_run() -> Value:
    """The unit's own work: change, check, ask, or take back."""
    plan = json.loads(changed_files.PLAN.read_bytes())
    before, ill = frozenset(common.stacks()), readiness.ill()
    try:
        outcome = _change(plan, ill)
        _until_confirmed(plan["confirm_within"])
    except Exception as error:
        _take_back(plan, before, ill, str(error) or type(error).__name__)
        return {}
    changed_files.finish()
    services.forget(before - set(plan["stacks"]))
    changed_files.write(changed_files.LAID, json.dumps(sorted(file["path"] for file in plan["files"])).encode())
    changed_files.set_state("done", waiting=outcome.waiting, ill=outcome.ill, names=egress.every())
    return {}


class Outcome(NamedTuple):
    """`waiting`: stacks that wait for secrets, and which. `ill`: those that were ill before, and still are."""

    waiting: dict[str, list[str]]
    ill: list[str]


def _change(plan: Value, ill: set[str]) -> Outcome:
    """The new tree, everyone told, until it is up."""
    new = {
        file["path"]: changed_files.New(file["path"], file["laid"], file["rights"], base64.b64decode(file["content"]))
        for file in plan["files"]
    }
    gone = sorted(set(changed_files.ours()) - set(new))
    changed = [file for file in new.values() if not _same(file)]
    touched = [*(file.path for file in changed), *gone, *services.key_files(plan)]
    _fetch_proxy(new)
    changed_files.set_state("changing files")
    # The rules that the host made from lists of names come and go with those.
    changed_files.keep_old([*touched, *egress.made_from(touched)])
    services.stop_stacks(set(common.stacks()) - set(plan["stacks"]))
    services.stop_units(gone)
    changed_files.lay(changed, [*gone, *egress.made_from(gone)])
    changed_files.give()
    services.keys(plan)
    return _tell(touched, plan, ill, changed_files.set_state)


def _fetch_proxy(new: Mapping[str, changed_files.New]) -> None:
    """The image of a new unit of the proxy, while the old one still serves."""
    unit = new.get(images.UNIT)
    if unit and not _same(unit):
        changed_files.set_state("fetching the proxy's image")
        images.fetch(images.of_unit(unit.content.decode()))


def _tell(touched: list[str], plan: Value, ill: set[str], say: Callable[..., None]) -> Outcome:
    """Everyone whose files have changed. A stack that was ill before and has no part in the change does not stop it."""
    found = effects(touched, {uid: stack for stack, uid in plan["stacks"].items()})
    spared = ill - found.stacks.keys()
    say("telling services")
    services.tell(found)
    say("waiting for the stacks")
    waiting = readiness.until_ready(plan["timeout"], spared)
    return Outcome(waiting, sorted((spared & readiness.ill()) - waiting.keys()) if spared else [])


def _same(file: changed_files.New) -> bool:
    try:
        there = os.lstat(file.path)
        return changed_files.rights_of(there) == file.rights and Path(file.path).read_bytes() == file.content
    except OSError:
        return False


def _until_confirmed(seconds: float) -> None:
    changed_files.set_state("waiting for you", seconds=seconds)
    deadline = time.monotonic() + seconds
    while not changed_files.CONFIRMED.exists():
        if time.monotonic() > deadline:
            raise RemoteError(f"no new connection confirmed the change within {seconds:.0f} s")
        time.sleep(0.1)


def _take_back(plan: Value, before: frozenset[str], ill: set[str], why: str) -> None:
    """The old tree, and everyone told again."""
    said = services.complaints()
    changed_files.set_state("taking it back", why=why)
    touched = [*changed_files.ADDED.read_text().split("\0"), *_saved()] if changed_files.PENDING.exists() else []
    services.stop_stacks(set(common.stacks()) - before)
    changed_files.put_back()
    try:
        back = {**plan, "stacks": services.uids(before), "timeout": max(plan["timeout"], _BACK)}
        _tell([path for path in touched if path], back, ill, lambda *_: None)
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        changed_files.set_state("failed", why=why, said=said, then=str(error))
        return
    services.forget(set(plan["stacks"]) - before)
    changed_files.set_state("rolled back", why=why, said=said)


def _saved() -> list[str]:
    with tarfile.open(changed_files.OLD) as tar:
        return [f"/{name}" for name in tar.getnames()]
