"""A release: services of one stack run other images than the spec names, or those again.

`release-start` begins the switch in a unit of its own, whose work is `release-run`; the client follows it with
`release-wait`. It needs nobody's confirmation, as it cannot lock anybody out. What does not come up is taken back.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.server.remote import (
    background,
    changed_files,
    common,
    held,
    locks,
    proxy_update,
    readiness,
    release_images,
    release_record,
    secrets,
    sleepers,
    start_first,
)
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images, kept_images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.server.remote.common import Value
    from builder.server.remote.release_images import Wanted

_SOURCES: Final = ("push", "build", "registry", "rollback", "update")


def release_list(stack: str) -> list[Value]:
    """The releases of a stack, the newest first; `current` is the one that runs."""
    common.stack_user(stack)
    try:
        with locks.stack(stack, "looking at its releases", 0):
            release_record.observe(stack)
    except RemoteError:
        pass  # it is being changed, or its Podman does not answer: what was recorded is shown
    found = release_record.releases(stack)
    return [{**one, "current": one is found[-1]} for one in reversed(found)]


def release_state() -> list[Value]:
    """Every service that runs by a release, and not what its spec names; the proxy too."""
    found = (one for stack in common.stacks() for one in release_record.current(stack))
    return [*proxy_update.current(), *found]


class Request(NamedTuple):
    """What is to run, by service; an empty name is the spec's own image. `again` is a release that runs once more."""

    images: dict[str, str]
    source: str
    by: str
    timeout: float
    again: Value | None = None
    commit: str = ""


def release_start(stack: str) -> Value:
    """Begin what stdin asks for: JSON with `images` (service: name), `source`, `by`, and `timeout` in seconds."""
    asked = _asked(sys.stdin.buffer.read())
    names = {str(service): str(name) for service, name in asked.get("images", {}).items()}
    source = str(asked.get("source", ""))
    common.stack_user(stack)
    held.refuse()
    if source not in _SOURCES or not names:
        raise RemoteError("what is to be released is not said; nothing was changed", "try again")
    return begin(stack, Request(names, source, _by(asked), _timeout(asked)))


def begin(stack: str, request: Request) -> Value:
    """Begin to switch to images that the stack may run; returns the state. Raises RemoteError for any other."""
    found = {service: _allowed(stack, service, name) for service, name in request.images.items()}
    return _start(stack, request._replace(images=found))


def _asked(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("images", {}), dict):
        raise RemoteError("what came through was cut short, nothing was changed", "try again")
    return found


def _by(asked: Mapping[str, Any]) -> str:
    text = str(asked.get("by") or os.environ.get("SUDO_USER") or "root")
    return "".join(one for one in text if one.isprintable())[:100]


def _timeout(asked: Mapping[str, Any]) -> float:
    try:
        return min(max(float(asked.get("timeout", 300)), 1), 3600)
    except (TypeError, ValueError):
        return 300


_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _allowed(stack: str, service: str, name: str) -> str:
    """The full name of an image that this service may run. Raises RemoteError."""
    if service not in (known := release_record.services(stack)):
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {', '.join(known)}")
    own, named = release_record.repository(stack, service), release_record.of_spec(stack, service)
    spec = images.split_reference(named)
    if name == named and name.startswith("localhost/"):
        return ""
    if name.startswith(f"{own}:") and _TAG.fullmatch(name.removeprefix(f"{own}:")):
        return name
    if _DIGEST.fullmatch(name):
        name = f"{spec.name}@{name}"
    elif _TAG.fullmatch(name):
        name = f"{spec.name}:{name}"
    found = images.split_reference(name)
    sound = (not found.tag or _TAG.fullmatch(found.tag)) and (not found.digest or _DIGEST.fullmatch(found.digest))
    if found.name != spec.name or spec.name.startswith("localhost/") or not sound or not (found.tag or found.digest):
        raise RemoteError(
            f"{stack}/{service} cannot run {''.join(one for one in name if one.isprintable())[:300]}",
            f"a tag or a digest of {spec.name}, which the spec names, or an image that was sent; another one is a "
            "change of the spec",
        )
    return name


def release_rollback(stack: str, number: str = "") -> Value:
    """Begin the way back to a release by its number, to the one before, or with `spec` to the spec's images.

    stdin may say `by` and `timeout` as for release-start.
    """
    asked = _asked(sys.stdin.buffer.read())
    common.stack_user(stack)
    release_list(stack)
    if number == "spec":
        names = dict.fromkeys(release_record.deployed(stack), "")
        if not names:
            raise RemoteError(f"{stack} runs what the spec names already")
        return _start(stack, Request(names, "rollback", _by(asked), _timeout(asked)))
    target = _target(stack, number)
    services = release_record.services(stack)
    names = {service: image["name"] for service, image in target["images"].items() if service in services}
    return _start(stack, Request(names, "rollback", _by(asked), _timeout(asked), target))


def _target(stack: str, number: str) -> Value:
    found = release_record.releases(stack)
    if number:
        target = next((one for one in found if str(one["number"]) == number), None)
        known = ", ".join(str(one["number"]) for one in reversed(found)) or "none"
        if target is None:
            raise RemoteError(f"{stack} has no release {number[:20]}", f"it has: {known}")
        return target
    if len(found) < 2:
        raise RemoteError(
            f"{stack} has no release before the one that runs", "er server releases HOST STACK lists them"
        )
    return found[-2]


def _unit(stack: str) -> str:
    return f"easyrunner-release-{stack}"


def _change(stack: str) -> Change:
    """The place where a stack's release is on its way; the script `rollback` knows it by its name."""
    return Change(Path(f"{changed_files.APPLY.directory}-{stack}"))


def _what(request: Value) -> str:
    return f"a release ({request['source']}, by {request['by']})"


def _start(stack: str, request: Request) -> Value:
    unit, change = _unit(stack), _change(stack)
    try:
        with locks.stack(stack, _what(request._asdict()), 0):
            if background.is_running(unit):
                # It has just begun, and does not hold the lock itself yet.
                raise locks.BusyError(stack, _what(json.loads(change.plan.read_bytes())))
            change.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            changed_files.write(change.plan, json.dumps(request._asdict()).encode())
            change.set_state("started")
            background.start(unit, f"a release of {stack}", change, "release-run", stack, recover="release-recover")
    except locks.BusyError as busy:
        return {"phase": locks.WAITING, "holder": busy.holder}
    return change.state()


def release_wait(stack: str, phase: str, seconds: str) -> Value:
    """The state once its phase is another one, or when the time is up."""
    common.stack_user(stack)
    return background.wait(_unit(stack), _change(stack), phase, float(seconds))


def release_recover(stack: str) -> Value:
    """After the work was ended in the middle: take back what it has left."""
    change, why = _change(stack), "its process was ended"
    with locks.stack(stack, "taking back a release that was cut off", _TURN):
        if change.pending.exists():
            change.set_state("taking it back", why=why)
            _undo(stack, change)
            change.set_state("rolled back", why=why, said=[])
    return {}


def release_run(stack: str) -> Value:
    """The work of the unit."""
    change = _change(stack)
    request = Request(**json.loads(change.plan.read_bytes()))
    try:
        with locks.stack(stack, _what(request._asdict()), _TURN):
            _release(stack, change, request)
    except Exception as error:
        change.set_state("failed", why=str(error) or type(error).__name__)
    return {}


# How long the unit waits for a lock, in seconds: who holds it now has taken it after the start.
_TURN: Final = 900.0


def _release(stack: str, change: Change, request: Request) -> None:
    """With the stack's lock held: fetch, switch, wait; or take back."""
    if change.pending.exists():
        _undo(stack, change)
    release_record.observe(stack)
    before = release_record.running(stack)
    asleep = sleepers.asleep(stack)
    wanted = release_images.fetch(stack, change, request.images, request.again)
    changed = _differing(stack, wanted, before)
    try:
        reasons = _switch(stack, change, wanted, changed, request.timeout)
        release = _record(stack, request, wanted)
    except Exception as error:
        ran = [service for service in changed if service in before and service not in asleep]
        _take_back(stack, change, changed, ran, str(error) or type(error).__name__)
        return
    change.commit()
    removed = release_record.prune(stack)
    if kept_images.missing(stack):
        change.set_state("keeping the image with the data")
    kept_images.keep(stack, decided=True)
    common.look_again()
    change.set_state(
        "done", release=release, changed=changed, removed=removed, lacking=lacking(stack), restarted=reasons
    )


def lacking(stack: str) -> list[str]:
    """What keeps a stack from running whatever its images are: secrets that are not set, services without an image."""
    absent = [service for service in release_record.services(stack) if release_record.waits(stack, service)]
    try:
        names = list(secrets.missing(stack))
    except RemoteError:
        names = []
    return [*(f"the secret {name}" for name in names), *(f"an image for {service}" for service in absent)]


def _differing(stack: str, wanted: Mapping[str, Wanted], before: Mapping[str, str]) -> list[str]:
    """The services that have to restart."""
    return [
        service
        for service in release_record.services(stack)
        if service in wanted and wanted[service].id != before.get(service)
    ]


def _switch(
    stack: str, change: Change, wanted: Mapping[str, Wanted], changed: list[str], timeout: float
) -> dict[str, str]:
    """Why visitors had to wait for a restart, by `stack/service`."""
    change.set_state("switching", services=changed)
    paths = [
        *(str(release_record.override_path(stack, service)) for service in wanted),
        str(release_record.path(stack)),
    ]
    _keep_images(stack)
    changed_files.write(_ran(change), json.dumps(start_first.invocations(stack)).encode())
    change.save_old(paths)
    release_record.install(stack, {service: one.name for service, one in wanted.items()})
    result = start_first.replace({stack: changed}, timeout, change.set_state)
    waited_for = [service for service in changed if (stack, service) not in result.ready]
    if waited_for:
        change.set_state("waiting for the stack", services=waited_for)
    if not lacking(stack):
        readiness.wait_for(stack, waited_for, timeout)
        _check_images(stack, wanted)
    return result.reasons


def _ran(change: Change) -> Path:
    """What the services' runs were called before a change: what is taken back restarts nothing that runs as before."""
    return change.directory / "ran.json"


def _check_images(stack: str, wanted: Mapping[str, Wanted]) -> None:
    """What is up is what was asked for: a unit that does not read its release runs on with the old image."""
    now = release_record.running(stack)
    other = [service for service, one in wanted.items() if now.get(service, one.id) != one.id]
    if other:
        raise RemoteError(f"{stack}/{other[0]} still runs another image")


# Podman does not wait until an image is on the disk. What came without a registry has no other copy either: see
# user@.service.d/00-easyrunner.conf.
_ON_DISK: Final = "cd ~/.local/share/containers && : >precious && sync -f ."


def _keep_images(stack: str) -> None:
    common.as_user(common.user_of(stack), ["sh", "-c", _ON_DISK], timeout=600)


def _record(stack: str, request: Request, wanted: Mapping[str, Wanted]) -> Value:
    """What runs now, as a release: of services that it does not change, what the last one says."""
    last = next(iter(release_record.releases(stack)[-1:]), None)
    entries = {**(last["images"] if last else {}), **{service: one.entry for service, one in wanted.items()}}
    services = release_record.services(stack)
    kept = {service: entry for service, entry in entries.items() if service in services}
    return release_record.append(stack, kept, request.source, request.by, request.again, commit=request.commit)


# What was taken back has at least so many seconds to become ready again.
_BACK: Final = 120.0


def _take_back(stack: str, change: Change, changed: list[str], ran: list[str], why: str) -> None:
    if not change.pending.exists():
        change.set_state("failed", why=f"{why}; nothing was changed")
        return
    said = readiness.last_words(stack, changed)
    change.set_state("taking it back", why=why)
    try:
        _back(stack, change, changed, ran)
    except Exception as error:
        change.set_state("failed", why=why, said=said, then=str(error) or type(error).__name__)
        return
    release_record.prune(stack)
    change.set_state("rolled back", why=why, said=said)


def _back(stack: str, change: Change, changed: list[str], wanted: list[str]) -> None:
    """Restore the old files, and let of these services read them what has restarted since.

    Raises RemoteError when the `wanted` ones, which ran before, do not come up again.
    """
    ran = json.loads(_ran(change).read_bytes()) if _ran(change).exists() else {}
    change.restore_old()
    services = start_first.restarted(stack, changed, ran)
    try:
        ready = {service for _, service in start_first.replace({stack: services}, _BACK, _silent).ready}
    except RemoteError:
        # Whatever it was, what is to run is the old one.
        start_first.restart(stack, services)
        ready = set()
    start_first.settle(stack, _BACK)
    readiness.wait_for(stack, [service for service in services if service in wanted and service not in ready], _BACK)


def _silent(_: str, **__: object) -> None:
    """Who takes a change back says so once."""


def recover(stack: str) -> None:
    """Take back what a release has left half-way whose process was ended. For who holds the lock."""
    if is_left(stack):
        _undo(stack, _change(stack))


def _undo(stack: str, change: Change) -> None:
    paths = change.saved_paths()
    changed = [one for one in release_record.services(stack) if str(release_record.override_path(stack, one)) in paths]
    _back(stack, change, changed, [])


def is_left(stack: str) -> bool:
    """Whether a release is half-way, and nobody is at it."""
    return _change(stack).pending.exists() and not background.is_running(_unit(stack))
