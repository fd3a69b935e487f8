"""Whether the whole host is ready: what first boot waits for, and after a change that it stays so.

What is known to lack a secret, a login or its first image is not waited for, and is told.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, readiness, secrets, sleepers
from builder.server.remote.common import RemoteError
from builder.server.remote.images import first_images, registries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from builder.server.remote.common import Value


def refusals(*, tried: bool = False) -> dict[str, list[Value]]:
    """By stack, why a service has no image, or with `tried` the container that was to take its place.

    It only explains: whatever is wrong with that, the change goes on.
    """
    found = {}
    for stack in common.uids(common.stacks()):
        with contextlib.suppress(RemoteError, OSError, LookupError, ValueError):
            found[stack] = registries.refusals(stack, tried=tried)
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
        if {stack for stack, _ in missing} <= {*_waiting_for_secrets(), *waiting_for_logins(), *ignored}:
            break
        if time.monotonic() > deadline:
            raise RemoteError(f"not ready: {', '.join(f'{stack}/{service}' for stack, service in missing)}")
    waiting = _waiting_for_secrets()
    _check_steady(set(common.stacks()) - waiting.keys() - waiting_for_logins() - set(ignored))
    check_proxy()
    return waiting


def _jobs_running(ignored: Collection[str]) -> bool:
    """Whether the proxy or any stack has a unit left to start or stop."""
    argv = ["systemctl", "--user", "list-jobs", "--no-legend"]
    stacks = [stack for stack in common.uids(common.stacks()) if stack not in ignored and not common.rests(stack)]
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


def waiting_for_logins() -> set[str]:
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
    # When those start is their visitors' business; of what has changed each is started once, by `try_sleepers`.
    waiting |= {f"{stack}/{service}" for stack in stacks for service in sleepers.units_of(stack)}
    before = {name: restarts for name, restarts, _ in readiness.unit_states(stacks)}
    deadline = time.monotonic() + readiness.STEADY
    while time.monotonic() < deadline:
        time.sleep(readiness.LOOK)
        now = [one for one in readiness.unit_states(stacks) if one[0] not in waiting]
        failed = sorted(name for name, restarts, state in now if state in readiness.FAILED or restarts > before[name])
        if failed:
            raise RemoteError(f"{', '.join(failed)}: started and fell over")


def try_sleepers(changed: Mapping[str, Collection[str] | None], seconds: float, ignored: Collection[str]) -> None:
    """Start each service once that has changed and sleeps, and let it fall asleep again; None are all of a stack's.

    Left out are stacks that lack a secret or a login, the `ignored`, and services whose first image has still to come.
    Raises RemoteError for one that does not come up.
    """
    sleeping = {stack: set(sleepers.units_of(stack)) for stack in changed if stack in common.stacks()}
    if not any(sleeping.values()):
        return
    images = first_images.each()
    waiting = {*ignored, *_waiting_for_secrets(), *waiting_for_logins()}
    wanted: list[readiness.Part] = []
    for stack in sorted(sleeping.keys() - waiting):
        services = changed[stack]
        names = sleeping[stack] - set(images.get(stack, ()))
        wanted += readiness.parts(stack, names if services is None else names & set(services))
    for first in range(0, len(wanted), _AT_ONCE):
        readiness.wait(wanted[first : first + _AT_ONCE], seconds)


# So many sleepers are awake at once to be tried: a server may have more than fit into its memory.
_AT_ONCE: Final = 4


def check_proxy() -> None:
    """Its admin endpoint answers: Caddy has taken over the sockets that systemd holds for it. Raises RemoteError."""
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/config/"
    try:
        common.run(["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--max-time", "10", url])
    except RemoteError as error:
        raise RemoteError(f"the proxy does not answer: {error}") from None


def unhealthy_stacks() -> set[str]:
    """Stacks of which a unit does not run or a web service does not answer, or whose user manager does not answer.

    Who is asleep is well.
    """
    return {stack for stack in common.stacks() if not _is_healthy(stack)}


def _is_healthy(stack: str) -> bool:
    found = readiness.unit_states({stack})
    sleeping = sleepers.of_stack(stack)
    public = [(kind, service) for kind, service, _ in common.services(stack) if kind in common.PUBLIC]
    awake = [state for where, _, state in found if where.partition("/")[2] not in sleeping]
    running = bool(found) and all(state in readiness.RUNNING for state in awake)
    running = running and all(one.is_up for one in sleeping.values())
    return running and all(readiness.answers(stack, service, kind) for kind, service in public)
