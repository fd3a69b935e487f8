"""Whether a stack's services are ready: their units run, the public ones answer, and it stays so for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping

# How long everything has to stay up, in seconds.
STEADY: Final = 3.0
# Seconds between two looks at that: a restart is counted, so that none is missed.
LOOK: Final = 0.5
# Timeout in seconds of a question to a user manager.
MANAGER: Final = 20
# Timeout in seconds of the request that tells whether a service answers.
_ANSWER: Final = "3"
# SubState of a unit.
RUNNING: Final = frozenset({"running", "exited", "dead"})
FAILED: Final = frozenset({"auto-restart", "auto-restart-queued", "failed"})


def unit_states(stacks: set[str]) -> list[tuple[str, int, str]]:
    """Of the proxy and every service of these stacks: `stack/service`, NRestarts and SubState."""
    found = []
    every = {stack: {unit: f"{stack}/{service}" for _, service, unit in common.services(stack)} for stack in stacks}
    every["proxy"] = {"er-proxy.service": "proxy"}
    for stack, units in sorted(every.items()):
        argv = ["systemctl", "--user", "show", "-p", "Id", "-p", "NRestarts", "-p", "SubState", *units]
        shown = common.as_user(common.user_of(stack), argv, check=False, timeout=MANAGER)
        for block in shown.split("\n\n"):
            values = common.assignments(block)
            if values.get("Id") in units:
                found.append((units[values["Id"]], int(values.get("NRestarts") or 0), values.get("SubState", "")))
    return found


def answers(stack: str, service: str, kind: str) -> bool:
    """Whether a public service answers at all, with whatever status, as first boot asks."""
    socket = f"{facts.PROXY_SOCKETS}/{stack}/{service}.sock"
    curl = ["curl", "-so", "/dev/null", "-m", _ANSWER, "-w", "%{http_code} %{exitcode}"]
    curl += ["--http2-prior-knowledge"] if kind == "h2c" else []
    said = common.run([*curl, "--unix-socket", socket, f"http://{service}/"], check=False)
    status, _, code = said.partition(" ")
    return status not in {"", "000"} or code == "92"


# A service that has fallen over so often since its restart does not come up any more: it took seven seconds for that,
# and visitors wait.
_FALLS: Final = 3


def wait_for(stack: str, services: list[str], seconds: float) -> None:
    """Until these services run, the public ones answer, and none of them has restarted for a while since.

    Raises RemoteError when the time is up, or when one does not stay up.
    """
    if not services:
        return
    began = time.monotonic()
    while missing := _not_ready(stack, services):
        if (waited := time.monotonic() - began) > seconds:
            raise RemoteError(f"not ready: {', '.join(missing)}")
        time.sleep(pause(waited))
    before = _restarts(stack, services)
    steady = time.monotonic() + STEADY
    while time.monotonic() < steady:
        time.sleep(LOOK)
        _check_steady(stack, services, before)


def pause(waited: float) -> float:
    """Seconds to the next look after so many: fewer and fewer, as each takes a processor from what is waited for."""
    return min(max(0.2, waited / 20), 1.0)


def _not_ready(stack: str, services: list[str]) -> list[str]:
    user = common.user_of(stack)
    units = {unit: (kind, service) for kind, service, unit in common.services(stack) if service in services}
    jobs = common.as_user(user, ["systemctl", "--user", "list-jobs", "--no-legend", *units], check=False)
    states = {name: (restarts, state) for name, restarts, state in unit_states({stack})}
    missing = []
    for unit, (kind, service) in units.items():
        restarts, state = states.get(f"{stack}/{service}", (0, ""))
        if restarts >= _FALLS or state == "failed":
            raise RemoteError(f"{stack}/{service} does not come up")
        silent = kind in common.PUBLIC and not answers(stack, service, kind)
        if unit in jobs or state not in RUNNING or silent:
            missing.append(f"{stack}/{service}")
    return missing


def _restarts(stack: str, services: list[str]) -> dict[str, int]:
    wanted = {f"{stack}/{service}" for service in services}
    return {name: restarts for name, restarts, _ in unit_states({stack}) if name in wanted}


def _check_steady(stack: str, services: list[str], before: Mapping[str, int]) -> None:
    wanted = {f"{stack}/{service}" for service in services}
    failed = sorted(
        name
        for name, restarts, state in unit_states({stack})
        if name in wanted and (state in FAILED or restarts > before.get(name, 0))
    )
    if failed:
        raise RemoteError(f"{', '.join(failed)}: started and fell over")


def last_words(stack: str, services: list[str]) -> list[str]:
    """What these services' containers, and Podman about them, said last."""
    argv = ["journalctl", f"--namespace=+{facts.JOURNAL}", "-b", "-q", "-o", "cat", "--no-pager", "-n", "5"]
    argv.append("--since=-10min")
    who = f"_UID={common.uid(common.user_of(stack))}"
    found = []
    for _, service, unit in common.services(stack):
        if service in services:
            text = common.run([*argv, who, f"_SYSTEMD_USER_UNIT={unit}"], check=False, timeout=20)
            found += [f"{service}: {line}"[:300] for line in dict.fromkeys(text.strip().splitlines())]
    return ["".join(one for one in line if one.isprintable()) for line in found]
