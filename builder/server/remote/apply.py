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
    locks,
    packages,
    readiness,
    release_record,
    releases,
    secrets,
    services,
    shared_certificates,
)
from builder.server.remote.changed_files import APPLY, NewFile
from builder.server.remote.common import RemoteError
from builder.server.remote.images import first_images, image_builds, images, kept_images, registries
from builder.server.remote.move import moved_data

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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
    background.start(UNIT, "apply a change", APPLY, "apply-run")
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
    """The client says, over a new connection, that the change has not locked it out; the state after that."""
    if APPLY.state()["phase"] != "waiting for you":
        raise RemoteError(f"nothing waits to be confirmed: {APPLY.state()['phase']}")
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


def _apply(plan: Value) -> None:
    """Change the files, wait until all is ready and confirmed; or restore the old files."""
    for stack in common.uids(common.stacks()):
        releases.recover(stack)
    stacks, unhealthy = frozenset(common.stacks()), unhealthy_stacks()
    try:
        outcome = _change(plan, unhealthy)
        _wait_for_confirmation(plan["confirm_within"])
    except Exception as error:
        _roll_back(plan, stacks, unhealthy, str(error) or type(error).__name__)
        return
    APPLY.commit()
    moved_data.end()
    services.remove_users(stacks - set(plan["stacks"]))
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
        logins=missing_logins(),
        images=first_images.each(),
        ill=outcome.unhealthy,
        names=egress.names(),
    )


class _Outcome(NamedTuple):
    """`waiting`: stacks that wait for secrets, and which. `unhealthy`: those that were so before, and still are.

    `affected`: stacks of which something restarted.
    """

    waiting: dict[str, list[str]]
    unhealthy: list[str]
    affected: list[str]


def _change(plan: Value, unhealthy: set[str]) -> _Outcome:
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
    return _reload(touched, plan, unhealthy, APPLY.set_state)


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


def _reload(touched: list[str], plan: Value, unhealthy: set[str], set_state: Callable[..., None]) -> _Outcome:
    """Reload what reads the files, and wait. A stack that was unhealthy, and does not change, fails nothing."""
    affected = services.affected(touched, {uid: stack for stack, uid in plan["stacks"].items()})
    ignored = unhealthy - affected.stacks.keys()
    set_state("telling services")
    services.reload(affected)
    set_state("waiting for the stacks")
    waiting = wait_until_ready(plan["timeout"], ignored)
    explained = waiting.keys() | _waiting_for_logins() | first_images.each().keys()
    ill = sorted((ignored & unhealthy_stacks()) - explained) if ignored else []
    return _Outcome(waiting, ill, sorted(affected.stacks.keys() & plan["stacks"].keys()))


def _wait_for_confirmation(seconds: float) -> None:
    APPLY.set_state("waiting for you", seconds=seconds)
    deadline = time.monotonic() + seconds
    while not APPLY.confirmed.exists():
        if time.monotonic() > deadline:
            raise RemoteError(f"no new connection confirmed the change within {seconds:.0f} s")
        time.sleep(0.1)


# The old stacks have at least so many seconds to become ready again, however short the plan's timeout is.
_ROLLBACK_TIMEOUT: Final = 120.0


def _roll_back(plan: Value, stacks: frozenset[str], unhealthy: set[str], why: str) -> None:
    """Restore the old files, and reload and restart what reads them. `stacks` are those of before the change."""
    errors, refused = services.container_errors(), refusals()
    APPLY.set_state("taking it back", why=why)
    touched = APPLY.saved_paths()
    services.stop_stacks(set(common.stacks()) - stacks)
    APPLY.restore_old()
    moved_data.take_back()
    try:
        old = {**plan, "stacks": common.uids(stacks), "timeout": max(plan["timeout"], _ROLLBACK_TIMEOUT)}
        _reload(touched, old, unhealthy, lambda *_: None)
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        APPLY.set_state("failed", why=why, said=errors, refused=refused, then=str(error))
        return
    services.remove_users(set(plan["stacks"]) - stacks)
    APPLY.set_state("rolled back", why=why, said=errors, refused=refused)


def refusals() -> dict[str, list[Value]]:
    """By stack, why a service has no image. It only explains: whatever is wrong with that, the change goes on."""
    found = {}
    for stack in common.uids(common.stacks()):
        with contextlib.suppress(RemoteError, OSError, LookupError, ValueError):
            found[stack] = registries.refusals(stack)
    return {stack: refusals for stack, refusals in found.items() if refusals}


# Timeout in seconds of one run of first-boot where a stack is known not to become ready.
_LOOK: Final = 25.0
# What such a run may take besides, in seconds: services that hang, and the report on the console.
_FIRST_BOOT: Final = 600.0


def wait_until_ready(seconds: float, ignored: Collection[str]) -> dict[str, list[str]]:
    """Until no unit is restarting, the proxy and every stack answer, and nothing has failed for a while since.

    A stack without one of its secrets cannot run, and is not waited for: returns such stacks with the secrets' names.
    Nor is one that lacks a login, once a registry has refused it an image, nor the `ignored`, nor a service whose first
    image has still to come. Raises RemoteError when
    the time is up.
    """
    began = time.monotonic()
    deadline = began + seconds
    while _jobs_running(ignored) and (now := time.monotonic()) < deadline:
        time.sleep(readiness.pause(now - began))
    look = _LOOK if ignored or _waiting_for_secrets() or missing_logins() else seconds
    while missing := _not_ready(min(deadline - time.monotonic(), look)):
        if {stack for stack, _ in missing} <= {*_waiting_for_secrets(), *_waiting_for_logins(), *ignored}:
            break
        if time.monotonic() > deadline:
            raise RemoteError(f"not ready: {', '.join(f'{stack}/{service}' for stack, service in missing)}")
    waiting = _waiting_for_secrets()
    _check_steady(set(common.stacks()) - waiting.keys() - _waiting_for_logins() - set(ignored))
    _check_proxy()
    return waiting


def _jobs_running(ignored: Collection[str]) -> bool:
    """Whether the proxy or any stack has a unit left to start or stop."""
    argv = ["systemctl", "--user", "list-jobs", "--no-legend"]
    stacks = [stack for stack in common.uids(common.stacks()) if stack not in ignored]
    users = [facts.PROXY_USER, *map(common.user_of, stacks)]
    jobs = (common.as_user(user, argv, check=False, timeout=readiness.MANAGER) for user in users)
    return any(" running" in text or " waiting" in text for text in jobs)


def _waiting_for_secrets() -> dict[str, list[str]]:
    return {stack: names for stack in common.stacks() if (names := _missing_secrets(stack))}


def _missing_secrets(stack: str) -> list[str]:
    """Their names. An empty list where the stack's user does not answer: setting a secret would not help then."""
    try:
        return list(secrets.missing(stack))
    except RemoteError:
        return []


def missing_logins() -> dict[str, list[Value]]:
    """Stacks without a login that the spec names, and those; they may run all the same."""
    return {stack: found for stack in common.stacks() if (found := registries.missing(stack))}


def _waiting_for_logins() -> set[str]:
    """Of those, who was refused an image: it starts once somebody has logged in."""
    return {
        stack
        for stack, refused in (refusals() if missing_logins() else {}).items()
        if any(one["waits"] and one["kind"] in {"login", "limit"} for one in refused)
    }


_NOT_READY: Final = "easyrunner: not ready:"


def _not_ready(seconds: float) -> list[tuple[str, str]]:
    """The services that are not ready after so long, as the script of first boot sees it: stack and service."""
    argv = [f"{facts.LIB}/first-boot", str(max(int(seconds), 1))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + _FIRST_BOOT, check=False)
    if done.returncode == 0:
        return []
    line = next((line for line in done.stdout.splitlines() if line.startswith(_NOT_READY)), None)
    if line is None:
        raise RemoteError(done.stderr.strip() or "first boot failed")
    return [_stack_and_service(word) for word in line.partition(" missing:")[2].split()]


def _stack_and_service(word: str) -> tuple[str, str]:
    """`shop/api`, or the user and unit of a service without a socket: `er-shop/shop-worker.service`."""
    stack, _, service = word.partition("/")
    if not service.endswith(".service"):
        return stack, service
    stack = stack.removeprefix(facts.STACK_USER_PREFIX)
    return stack, service.removesuffix(".service").removeprefix(f"{stack}-")


def _check_steady(stacks: set[str]) -> None:
    """A service that starts and fails looks well for a moment: none restarts, or is about to, for a while."""
    waiting = {f"{stack}/{service}" for stack, found in first_images.each().items() for service in found}
    before = {name: restarts for name, restarts, _ in readiness.unit_states(stacks)}
    deadline = time.monotonic() + readiness.STEADY
    while time.monotonic() < deadline:
        time.sleep(readiness.LOOK)
        now = [one for one in readiness.unit_states(stacks) if one[0] not in waiting]
        failed = sorted(name for name, restarts, state in now if state in readiness.FAILED or restarts > before[name])
        if failed:
            raise RemoteError(f"{', '.join(failed)}: started and fell over")


def _check_proxy() -> None:
    """Its admin endpoint answers: Caddy has taken over the sockets that systemd holds for it."""
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/config/"
    try:
        common.run(["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--max-time", "10", url])
    except RemoteError as error:
        raise RemoteError(f"the proxy does not answer: {error}") from None


def unhealthy_stacks() -> set[str]:
    """Stacks of which a unit does not run or a web service does not answer, or whose user manager does not answer."""
    return {stack for stack in common.stacks() if not _is_healthy(stack)}


def _is_healthy(stack: str) -> bool:
    found = readiness.unit_states({stack})
    public = [(kind, service) for kind, service, _ in common.services(stack) if kind in common.PUBLIC]
    running = bool(found) and all(state in readiness.RUNNING for _, _, state in found)
    return running and all(readiness.answers(stack, service, kind) for kind, service in public)
