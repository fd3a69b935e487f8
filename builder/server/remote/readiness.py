"""When a change has come up: first boot's own judgement of every stack, then a while in which nothing falls over."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, secrets, services
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Collection

# How long everything has to stay up, in seconds; and how long a look takes where something cannot come up.
_STEADY: Final = 3.0
_LOOK: Final = 25.0
# What first boot takes besides: one look at each service that hangs, and the end of the console.
_FIRST_BOOT: Final = 600.0
# How long a stack has to answer that should be well before the change, in seconds.
_SOON: Final = "3"
# How long a user's manager has to answer, in seconds.
_ANSWER: Final = 20
_RUNS: Final = frozenset({"running", "exited", "dead"})
_FELL: Final = frozenset({"auto-restart", "auto-restart-queued", "failed"})


def ill() -> set[str]:
    """Stacks of which something does not run or does not answer now, or whose user does not answer root."""
    return {stack for stack in common.stacks() if not _well(stack)}


def _well(stack: str) -> bool:
    found = _looks({stack})
    web = [service for kind, service, _ in common.services(stack) if kind == "web"]
    return bool(found) and all(state in _RUNS for _, _, state in found) and all(_answers(stack, one) for one in web)


def _answers(stack: str, service: str) -> bool:
    """Any answer counts, as for first boot."""
    socket = f"{facts.PROXY_SOCKETS}/{stack}/{service}.sock"
    argv = [
        "curl",
        "-so",
        "/dev/null",
        "-m",
        _SOON,
        "-w",
        "%{http_code}",
        "--unix-socket",
        socket,
        f"http://{service}/",
    ]
    return common.run(argv, check=False) not in {"", "000"}


def until_ready(seconds: float, spared: Collection[str] = ()) -> dict[str, list[str]]:
    """Until no restart is under way, the proxy and every stack answer, and nothing has fallen over since.

    A stack that lacks a secret cannot run, and is not waited for: returns such stacks with the secrets' names. The
    `spared` may be as they are.
    """
    deadline = time.monotonic() + seconds
    while _jobs(spared) and time.monotonic() < deadline:
        time.sleep(0.1)
    look = _LOOK if spared or _waiting() else seconds
    while late := _late(min(deadline - time.monotonic(), look)):
        if {stack for stack, _ in late} <= {*_waiting(), *spared}:
            break
        if time.monotonic() > deadline:
            raise RemoteError(f"not ready: {', '.join(f'{stack}/{service}' for stack, service in late)}")
    waiting = _waiting()
    _steady(set(common.stacks()) - waiting.keys() - set(spared))
    _proxy_answers()
    return waiting


def _proxy_answers() -> None:
    """By the socket for its administration: Caddy has taken over what systemd holds for it."""
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/config/"
    try:
        common.run(["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--max-time", "10", url])
    except RemoteError as error:
        raise RemoteError(f"the proxy does not answer: {error}") from None


def _waiting() -> dict[str, list[str]]:
    return {stack: names for stack in common.stacks() if (names := _lacking(stack))}


def _lacking(stack: str) -> list[str]:
    """One that does not even say what it has waits for nothing that the admin could give it."""
    try:
        return list(secrets.lacking(stack))
    except RemoteError:
        return []


def _jobs(spared: Collection[str]) -> bool:
    """Whether the proxy or any stack has something left to start or stop."""
    listed = ["systemctl", "--user", "list-jobs", "--no-legend"]
    stacks = [stack for stack in services.uids(common.stacks()) if stack not in spared]
    users = [facts.PROXY_USER, *(f"{facts.STACK_USER_PREFIX}{stack}" for stack in stacks)]
    return any(
        " running" in text or " waiting" in text
        for text in (common.as_user(u, listed, check=False, limit=_ANSWER) for u in users)
    )


def _late(seconds: float) -> list[tuple[str, str]]:
    """What is not ready after so long, as first boot sees it: stack and service."""
    argv = [f"{facts.LIB}/first-boot", str(max(int(seconds), 1))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + _FIRST_BOOT, check=False)
    if done.returncode == 0:
        return []
    said = next((line for line in done.stdout.splitlines() if " missing:" in line), None)
    if said is None:
        raise RemoteError(done.stderr.strip() or "first boot failed")
    return [_place(word) for word in said.partition(" missing:")[2].split()]


def _place(word: str) -> tuple[str, str]:
    """`shop/api`, or the user and unit of what has no socket: `er-shop/shop-worker.service`."""
    stack, _, service = word.partition("/")
    if not service.endswith(".service"):
        return stack, service
    stack = stack.removeprefix(facts.STACK_USER_PREFIX)
    return stack, service.removesuffix(".service").removeprefix(f"{stack}-")


def _steady(stacks: set[str]) -> None:
    """An app that starts and falls over looks well for a moment: no restart, and no wait for one, over a while."""
    before = {where: restarts for where, restarts, _ in _looks(stacks)}
    deadline = time.monotonic() + _STEADY
    while time.monotonic() < deadline:
        now = list(_looks(stacks))
        fell = sorted(where for where, restarts, state in now if state in _FELL or restarts > before[where])
        if fell:
            raise RemoteError(f"{', '.join(fell)}: started and fell over")
        time.sleep(0.1)


def _looks(stacks: set[str]) -> list[tuple[str, int, str]]:
    """Of the proxy and every service its place, how often it was restarted, and the state of its unit."""
    found = []
    every = {stack: {unit: f"{stack}/{service}" for _, service, unit in common.services(stack)} for stack in stacks}
    every["proxy"] = {"er-proxy.service": "proxy"}
    for stack, units in sorted(every.items()):
        argv = ["systemctl", "--user", "show", "-p", "Id", "-p", "NRestarts", "-p", "SubState", *units]
        said = common.as_user(f"{facts.STACK_USER_PREFIX}{stack}", argv, check=False, limit=_ANSWER)
        for block in said.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if values.get("Id") in units:
                found.append((units[values["Id"]], int(values.get("NRestarts") or 0), values.get("SubState", "")))
    return found
