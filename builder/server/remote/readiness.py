"""Whether a stack's services are ready: their units run, the public ones answer, and it stays so for a while."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, sleepers
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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


class Part(NamedTuple):
    """A unit of a user that is waited for, `where` as it is said, and the socket where it answers if it is public.

    Of a `container` that is named the health check is asked too. One that sleeps is asked in its own network.
    """

    where: str
    user: str
    unit: str
    kind: str
    socket: str
    container: str = ""


def parts(stack: str, services: Collection[str]) -> list[Part]:
    """These services of a stack."""
    user = common.user_of(stack)
    return [
        Part(f"{stack}/{service}", user, unit, kind, f"{facts.PROXY_SOCKETS}/{stack}/{service}.sock")
        for kind, service, unit in common.services(stack)
        if service in services
    ]


def unit_states(stacks: set[str]) -> list[tuple[str, int, str]]:
    """Of the proxy and every service of these stacks: `stack/service`, NRestarts and SubState."""
    every = {stack: {unit: f"{stack}/{service}" for _, service, unit in common.services(stack)} for stack in stacks}
    every["proxy"] = {"er-proxy.service": "proxy"}
    return [
        (units[unit], restarts, state)
        for stack, units in sorted(every.items())
        for unit, restarts, state in _states(common.user_of(stack), units)
    ]


def _states(user: str, units: Collection[str]) -> list[tuple[str, int, str]]:
    """Of each of these units of a user: its name, NRestarts and SubState."""
    if common.rests(user.removeprefix(facts.STACK_USER_PREFIX)):
        return [(unit, 0, common.RESTING["SubState"]) for unit in units]
    argv = ["systemctl", "--user", "show", "-p", "Id", "-p", "NRestarts", "-p", "SubState", *units]
    found = []
    for block in common.as_user(user, argv, check=False, timeout=MANAGER).split("\n\n"):
        values = common.assignments(block)
        if values.get("Id") in units:
            found.append((values["Id"], int(values.get("NRestarts") or 0), values.get("SubState", "")))
    return found


def answers(stack: str, service: str, kind: str) -> bool:
    """Whether a public service answers at all, with whatever status, as first boot asks."""
    return _answers(f"{facts.PROXY_SOCKETS}/{stack}/{service}.sock", service, kind)


def _answers(socket: str, service: str, kind: str) -> bool:
    curl = ["curl", "-so", "/dev/null", "-m", _ANSWER, "-w", "%{http_code} %{exitcode}"]
    curl += ["--http2-prior-knowledge"] if kind == "h2c" else []
    return _is_answer(common.run([*curl, "--unix-socket", socket, f"http://{service}/"], check=False))


def _is_answer(said: str) -> bool:
    status, _, code = said.partition(" ")
    return status not in {"", "000"} or code == "92"


# A service that has fallen over so often since its restart does not come up any more: it took seven seconds for that,
# and visitors wait.
_FALLS: Final = 3


def wait_for(stack: str, services: Collection[str], seconds: float) -> None:
    """Until these services run, the public ones answer, and none of them has restarted for a while since.

    Those that sleep are started for that, and are let fall asleep again. Raises RemoteError when the time is up, or
    when one does not stay up.
    """
    wait(parts(stack, services), seconds)


def wait(wanted: Collection[Part], seconds: float) -> None:
    """The same of units, which may be of several stacks."""
    if not wanted:
        return
    with ExitStack() as awake:
        for stack, services in _sleepers(wanted).items():
            awake.enter_context(sleepers.awake(stack, services))
        _wait(wanted, seconds)


def _sleepers(wanted: Collection[Part]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stack, _, service in (part.where.partition("/") for part in wanted if part.kind == common.SLEEPS):
        found.setdefault(stack, []).append(service)
    return found


def _wait(wanted: Collection[Part], seconds: float) -> None:
    began = time.monotonic()
    while missing := _not_ready(wanted):
        if (waited := time.monotonic() - began) > seconds:
            raise RemoteError(f"not ready: {', '.join(missing)}")
        time.sleep(pause(waited))
    before = {part: restarts for part, (restarts, _) in _states_of(wanted).items()}
    steady = time.monotonic() + STEADY
    while time.monotonic() < steady:
        time.sleep(LOOK)
        _check_steady(wanted, before)


def pause(waited: float) -> float:
    """Seconds to the next look after so many: fewer and fewer, as each takes a processor from what is waited for."""
    return min(max(0.2, waited / 20), 1.0)


def _states_of(wanted: Collection[Part]) -> dict[Part, tuple[int, str]]:
    """NRestarts and SubState of each."""
    found = {}
    for user in {part.user for part in wanted}:
        units = {part.unit: part for part in wanted if part.user == user}
        found.update({units[unit]: (restarts, state) for unit, restarts, state in _states(user, units)})
    return found


def _not_ready(wanted: Collection[Part]) -> list[str]:
    jobs = {}
    for user in {part.user for part in wanted}:
        units = [part.unit for part in wanted if part.user == user]
        jobs[user] = common.as_user(user, ["systemctl", "--user", "list-jobs", "--no-legend", *units], check=False)
    states = _states_of(wanted)
    missing = []
    for part in wanted:
        restarts, state = states.get(part, (0, ""))
        if restarts >= _FALLS or state == "failed":
            raise RemoteError(f"{part.where} does not come up")
        if part.unit in jobs[part.user] or state not in _running(part) or _is_silent(part):
            missing.append(part.where)
    return missing


def _running(part: Part) -> frozenset[str]:
    """One that sleeps is held awake: so it runs, or is a job that others wait for, and has."""
    return RUNNING - {"dead"} if part.kind == common.SLEEPS else RUNNING


def _is_silent(part: Part) -> bool:
    service = part.where.partition("/")[2]
    if part.kind in common.PUBLIC and not _answers(part.socket, service, part.kind):
        return True
    if part.kind == common.SLEEPS and not _answers_inside(part):
        return True
    return bool(part.container) and not _is_healthy(part.user, part.container)


def _is_healthy(user: str, container: str) -> bool:
    """Whether a container's health check passes now, where it has one."""
    look = ["podman", "container", "inspect", "--format", "{{json .Config.Healthcheck}}", container]
    check = common.as_user(user, look, check=False, timeout=common.PODMAN_TIMEOUT).strip()
    if not check:
        return False
    if check == "null" or '"NONE"' in check:
        return True
    try:
        common.as_user(user, ["podman", "healthcheck", "run", container])
    except RemoteError:
        return _says_nothing(user, container, json.loads(check).get("Test") or [])
    return True


# Exit codes of a program that is not there, or cannot be run.
_CANNOT_RUN: Final = frozenset({"126", "127"})
_EXIT_CODE: Final = 'podman exec "$@" >/dev/null 2>&1; echo $?'


def _says_nothing(user: str, container: str, test: list[str]) -> bool:
    """Whether a health check names a program that its image does not have: it fails for every container of it."""
    kind, *words = test or [""]
    argv = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
    code = common.as_user(user, ["sh", "-c", _EXIT_CODE, "sh", container, *argv], timeout=common.PODMAN_TIMEOUT)
    return code.strip() in _CANNOT_RUN


def _check_steady(wanted: Collection[Part], before: Mapping[Part, int]) -> None:
    failed = sorted(
        part.where
        for part, (restarts, state) in _states_of(wanted).items()
        if state in FAILED
        or restarts > before.get(part, 0)
        or (part.kind == common.SLEEPS and state not in _running(part))
    )
    if failed:
        raise RemoteError(f"{', '.join(failed)}: started and fell over")


# ---- a service that sleeps, asked past its socket


def _answers_inside(part: Part) -> bool:
    """Whether an app answers behind its ingress, which counts that as no visit; True of one without an ingress.

    It may listen on one address alone, and speak HTTP/2 alone.
    """
    stack, _, service = part.where.partition("/")
    target = ingress_target(stack, service)
    if not target:
        return True
    if not target.isdigit():
        return _says_something(part.user, ["--unix-socket", target, f"http://{service}/"], [])
    try:
        pid = Path(f"/run/user/{common.uid(part.user)}/{stack}-{service}.pid").read_text().strip()
    except OSError:
        return False
    inside = [*in_network(pid), "ss", "-Hltn", f"sport = :{target}"]
    listening = common.as_user(part.user, inside, check=False, timeout=MANAGER).split("\n")[0].split()
    if len(listening) < _LOCAL_ADDRESS + 1:
        return False
    return _says_something(part.user, [f"http://{reached(listening[_LOCAL_ADDRESS])}/"], in_network(pid))


def _says_something(user: str, where: Collection[str], inside: Collection[str]) -> bool:
    curl = ["curl", "-so", "/dev/null", "-m", _ANSWER, "-w", "%{http_code} %{exitcode}", "--noproxy", "*", *where]
    every = ([*inside, *curl], [*inside, *curl, "--http2-prior-knowledge"])
    return any(_is_answer(common.as_user(user, argv, check=False)) for argv in every)


# Of a line of ss's: State, Recv-Q, Send-Q, and then this.
_LOCAL_ADDRESS: Final = 3


def reached(local: str) -> str:
    """Address and port at which one is reached that listens there, as ss shows it."""
    address, _, port = local.rpartition(":")
    address = address.partition("%")[0]
    if address in {"0.0.0.0", "*", ""}:  # noqa: S104 - what an app listens on
        address = "127.0.0.1"
    return f"{'[::1]' if address == '[::]' else address}:{port}"


def in_network(pid: str) -> list[str]:
    """The words before a command that run it in the network of a container's process, as its stack's user."""
    return ["nsenter", "--user", "--net", "--preserve-credentials", f"--target={pid}"]


def ingress_target(stack: str, service: str) -> str:
    """The port that a service's ingress leads to, or the path of a socket that is passed on; empty without one."""
    uid = common.uid(common.user_of(stack))
    unit = Path(facts.ETC, "units", str(uid), f"er-ingress-{service}.service")
    try:
        found = re.search(r"^ExecStart=\S+ \S+ (\d+|%t/\S+)", unit.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1].replace("%t", f"/run/user/{uid}") if found else ""


def last_words(stack: str, services: Collection[str]) -> list[str]:
    """What these services' containers, and Podman about them, said last."""
    argv = ["journalctl", f"--namespace=+{facts.JOURNAL}", "-b", "-q", "-o", "cat", "--no-pager", "-n", "5"]
    argv.append("--since=-10min")
    who = f"_UID={common.uid(common.user_of(stack))}"
    found = []
    for service in (name for _, name, _ in common.services(stack) if name in services):
        units = [f"_SYSTEMD_USER_UNIT={unit}" for unit in units_of(stack, service)]
        text = common.run([*argv, who, *units], check=False, timeout=20)
        found += [f"{service}: {line}"[:300] for line in dict.fromkeys(text.strip().splitlines())]
    return ["".join(one for one in line if one.isprintable()) for line in found]


def units_of(stack: str, service: str) -> tuple[str, str]:
    """The unit of a service, and that of its next container while it has one."""
    return f"{stack}-{service}.service", f"{facts.NEXT}{stack}:{service}.service"
