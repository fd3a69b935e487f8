"""A change of all of the host's files, which stays only when everything answers and the client can still log in.

`apply-start` begins it in a unit of its own, whose work is `apply-run`; the client follows it with `apply-wait` and
confirms it with `apply-confirm`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import (
    background,
    changed_files,
    common,
    egress,
    held,
    host_readiness,
    locks,
    packages,
    proxy_update,
    release_record,
    releases,
    reload,
    services,
    shared_certificates,
    start_first,
    tree_before,
)
from builder.server.remote.changed_files import APPLY, NewFile
from builder.server.remote.common import RemoteError
from builder.server.remote.images import first_images, image_builds, images, kept_images
from builder.server.remote.move import moved_data

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from builder.server.remote.common import Value

# Not er-*: those units share a sandbox in which sysctl may not write.
UNIT: Final = "easyrunner-apply"


def apply_start() -> Value:
    """Take the plan from stdin and start the work in a unit of its own, which a lost connection does not end."""
    plan = sys.stdin.buffer.read()
    _check_plan(plan)
    held.refuse()
    common.check_data()
    if common.waits_for_data():
        raise RemoteError(
            "the data of this new server has not come from the backup yet",
            "er server status HOST says what it waits for",
        )
    if background.is_running(UNIT):
        raise RemoteError("another change is being applied", "wait for its end, two minutes at most; then try again")
    APPLY.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    APPLY.restore_old()
    APPLY.confirmed.unlink(missing_ok=True)
    changed_files.write(APPLY.plan, plan)
    APPLY.set_state("started")
    background.start(UNIT, "apply a change", APPLY, "apply-run", recover="apply-recover")
    return APPLY.state()


def _check_plan(plan: bytes) -> None:
    try:
        json.loads(plan)
    except ValueError:
        raise RemoteError("the plan was cut off on its way, nothing was changed", "try again") from None


def _check_disk(new: Collection[str]) -> None:
    """Whether data has a disk of its own is decided when a host is made: nothing would carry it there, or back."""
    has, wants = common.data_disk() is not None, facts.DATA_MOUNT in new
    if has != wants:
        raise RemoteError(
            "this host was made with a disk for data" if has else "this host was made without a disk for data",
            "leave `data:` in the spec as it was; else make a new server and restore a backup there: docs/data.md",
        )


def apply_state() -> Value:
    """The state of a change that is under way; the phase is `none` where there is none, whatever an old one says."""
    return APPLY.state() if background.is_running(UNIT) else {"phase": "none"}


def apply_wait(phase: str, seconds: str) -> Value:
    """The state once its phase is another one, or when the time is up."""
    return background.wait(UNIT, APPLY, phase, float(seconds))


def apply_confirm(seconds: str) -> Value:
    """The client says, over a new connection, that the change has not locked it out; the state after that.

    Who comes too late, as the login took so long, confirms nothing: the change is being taken back.
    """
    if APPLY.state()["phase"] == "waiting for you":
        changed_files.write(APPLY.confirmed, b"")
    return apply_wait("waiting for you", seconds)


# How long the releases of stacks that are on their way may take, in seconds.
_TURN: Final = 900.0


def apply_run() -> Value:
    """The work of the unit, once no stack is being changed."""
    try:
        with locks.host("er server apply", _TURN, lambda holder: APPLY.set_state(locks.WAITING, holder=holder)):
            _apply(json.loads(APPLY.plan.read_bytes()))
    except locks.BusyError as busy:
        APPLY.set_state("failed", why=str(busy), then="nothing was changed")
    return {}


_BEFORE: Final = APPLY.directory / "before-change.json"


class _Before(NamedTuple):
    """How the host was: by stack what its services' runs were called, and which stacks were not healthy.

    What is taken back restarts nothing that runs as it did.
    """

    ran: dict[str, dict[str, str]]
    unhealthy: list[str]


def _look() -> _Before:
    """How the host is; it is written down for who comes after a process that was ended."""
    ran = {stack: start_first.invocations(stack) for stack in common.stacks()}
    found = _Before(ran, sorted(host_readiness.unhealthy_stacks()))
    changed_files.write(_BEFORE, json.dumps(found._asdict()).encode())
    return found


def apply_recover() -> Value:
    """After the work was ended in the middle: take back what it has left."""
    with locks.host("taking back a change that was cut off", _TURN):
        if not _BEFORE.exists():
            APPLY.restore_old()  # of a version of er that did not write down how the host was
        elif APPLY.pending.exists():
            before = _Before(**json.loads(_BEFORE.read_bytes()))
            _roll_back(json.loads(APPLY.plan.read_bytes()), before, "its process was ended")
    return {}


def _apply(plan: Value) -> None:
    """Change the files, wait until all is ready and confirmed; or restore the old files."""
    proxy_update.recover()
    for stack in common.uids(common.stacks()):
        releases.recover(stack)
    before = _look()
    try:
        outcome = _change(plan, before)
        _wait_for_confirmation(plan["confirm_within"])
    except Exception as error:
        _roll_back(plan, before, str(error) or type(error).__name__)
        return
    tree_before.keep([file["path"] for file in plan["files"]])
    APPLY.commit()
    moved_data.end()
    services.remove_users(set(before.ran) - set(plan["stacks"]))
    image_builds.remove_unused()
    installed = sorted(file["path"] for file in plan["files"])
    changed_files.write(changed_files.INSTALLED, json.dumps(installed).encode())
    for stack in outcome.affected:
        # It is only written down: whatever is wrong with that, the change stands.
        with contextlib.suppress(RemoteError, OSError, LookupError, ValueError):
            release_record.observe(stack, "er server apply")
            release_record.prune(stack)
            kept_images.keep(stack, decided=True)
    APPLY.set_state(
        "done",
        waiting=outcome.waiting,
        logins=host_readiness.missing_logins(),
        images=first_images.each(),
        ill=outcome.unhealthy,
        restarted=outcome.restarted,
        names=egress.names(),
    )


class _Outcome(NamedTuple):
    """`waiting`: stacks that wait for secrets, and which. `unhealthy`: those that were so before, and still are.

    `affected`: stacks of which something restarted. `restarted`: public services that visitors waited for, and why.
    """

    waiting: dict[str, list[str]]
    unhealthy: list[str]
    affected: list[str]
    restarted: dict[str, str]


def _change(plan: Value, before: _Before) -> _Outcome:
    """Write the new tree, reload and restart what reads it, and wait until it is ready."""
    new = {file.path: file for file in map(_new_file, plan["files"])}
    _check_disk(new)
    own = set(changed_files.own_files())
    units = {path: file.content for path, file in new.items()}
    shared_certificates.check_same(units)
    released = release_record.kept(own, units)
    removed = sorted(own - set(new) - released)
    refreshed = release_record.refreshed(released, units)
    changed = [file for file in new.values() if not file.is_installed()]
    touched = [*(file.path for file in changed), *removed, *refreshed, *changed_files.admin_key_files(plan)]
    _install_packages(new)
    _pull_proxy_image(new)
    tree_before.save(new, plan["admin"]["name"])
    APPLY.set_state("changing files")
    # The rules that the host generated from lists of names come and go with those.
    APPLY.save_old([*touched, *egress.generated_from(touched)])
    services.stop_stacks(set(common.stacks()) - set(plan["stacks"]))
    services.stop_units(path for path in removed if not release_record.unit_of(path))
    moved_data.begin()
    changed_files.install(changed, [*removed, *egress.generated_from(removed)])
    changed_files.set_owners()
    for path, content in refreshed.items():
        release_record.write_override(Path(path), content)
    changed_files.write_admin_keys(plan)
    return _reload(touched, plan, before)


def _new_file(file: Value) -> NewFile:
    return NewFile(file["path"], file["laid"], file["rights"], base64.b64decode(file["content"]))


def _install_packages(new: Mapping[str, NewFile]) -> None:
    """Before any file changes: what the new files call for is there when they are read."""
    names = packages.missing(new[path].content.decode() for path in packages.LISTS if path in new)
    if names:
        APPLY.set_state("installing packages", packages=names)
        packages.install(names)


def _pull_proxy_image(new: Mapping[str, NewFile]) -> None:
    """Pull the image of a changed unit of the proxy while the old one still serves."""
    unit = new.get(images.PROXY_UNIT)
    if unit and not unit.is_installed():
        APPLY.set_state("fetching the proxy's image")
        images.pull(images.image_of_unit(unit.content.decode()))


def _reload(touched: list[str], plan: Value, before: _Before, *, back: bool = False) -> _Outcome:
    """Reload what reads the files, and wait. A stack that was unhealthy, and does not change, fails nothing.

    On the way `back` only those restart that did so before, and the state is told by who goes it.
    """
    set_state = _silent if back else APPLY.set_state
    affected = reload.affected(touched, {uid: stack for stack, uid in plan["stacks"].items()})
    ignored = set(before.unhealthy) - affected.stacks.keys()
    set_state("telling services")
    reasons = reload.reload(affected, plan["timeout"], set_state, before.ran if back else {})
    set_state("waiting for the stacks")
    waiting = host_readiness.wait_until_ready(plan["timeout"], ignored)
    if not back:
        changed = {stack: services for stack, services in affected.stacks.items() if stack in plan["stacks"]}
        host_readiness.try_sleepers(changed, plan["timeout"], ignored)
    explained = waiting.keys() | host_readiness.waiting_for_logins() | first_images.each().keys()
    ill = sorted((ignored & host_readiness.unhealthy_stacks()) - explained) if ignored else []
    return _Outcome(waiting, ill, sorted(affected.stacks.keys() & plan["stacks"].keys()), reasons)


def _silent(_: str, **__: object) -> None:
    """No state."""


def _wait_for_confirmation(seconds: float) -> None:
    APPLY.set_state("waiting for you", seconds=seconds)
    deadline = time.monotonic() + seconds
    while not APPLY.confirmed.exists():
        if time.monotonic() > deadline:
            raise RemoteError(f"no new connection confirmed the change within {seconds:.0f} s")
        time.sleep(0.1)


# The old stacks have at least so many seconds to become ready again, however short the plan's timeout is.
_ROLLBACK_TIMEOUT: Final = 120.0


def _roll_back(plan: Value, before: _Before, why: str) -> None:
    """Restore the old files, and reload and restart what reads them."""
    stacks = before.ran.keys()
    errors, refused = services.container_errors(), host_readiness.refusals(tried=True)
    APPLY.set_state("taking it back", why=why)
    touched = APPLY.saved_paths()
    services.stop_stacks(set(common.stacks()) - stacks)
    APPLY.restore_old()
    moved_data.take_back()
    try:
        old = {**plan, "stacks": common.uids(stacks), "timeout": max(plan["timeout"], _ROLLBACK_TIMEOUT)}
        _reload(touched, old, before, back=True)
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        APPLY.set_state("failed", why=why, said=errors, refused=refused, then=str(error))
        return
    services.remove_users(set(plan["stacks"]) - stacks)
    APPLY.set_state("rolled back", why=why, said=errors, refused=refused)
