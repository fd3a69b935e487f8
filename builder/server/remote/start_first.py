"""Services read their changed units: a public one without a volume by a second container, and no visitor waits.

The next container starts beside the one that serves, from the same new unit, with an ingress and a socket of its own
(`next_units`). Once it has answered and stayed up, its socket is renamed to the place where the proxy looks. The
requests that the old one has are brought to their end, then the service's own unit restarts behind the next
container; when that has answered too, its own socket comes back to its place by another rename, and the next
container ends. So what serves after that is the ordinary unit again, as after any boot.

What is not fit for that restarts, and its visitors wait at the socket meanwhile. So do those of a service that sleeps;
where it is asleep, nothing is to be done but to start it once, which `readiness` does.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common, next_units, readiness, secrets, sleepers
from builder.server.remote.common import RemoteError
from builder.server.remote.next_units import Next

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from builder.server.remote.sleepers import Sleeper

    Say = Callable[..., None]


class Result(NamedTuple):
    """What became of changed services: those that are `ready`, and why others of the public ones just restarted."""

    ready: frozenset[tuple[str, str]]
    reasons: dict[str, str]


def replace(changed: Mapping[str, Collection[str]], seconds: float, say: Say) -> Result:
    """Let services of stacks read their units; each step may take so many seconds. `say` is told the phases.

    Those that just restart are not waited for. Raises RemoteError when a next container does not come up: then nothing
    has restarted; or when an own one does not: then its next container goes on serving, until this is called again.
    """
    for stack in changed:
        common.as_user(common.user_of(stack), ["systemctl", "--user", "daemon-reload"])
    chosen, reasons = _choose(changed)
    fresh = [one for one in chosen if not one.kept_socket.exists()]
    if fresh:
        say("waiting for the new one", services=[one.where for one in fresh])
        _start_next(fresh, seconds)
    ready = frozenset((one.stack, one.service) for one in chosen)
    for stack, services in changed.items():
        restart(stack, [service for service in services if (stack, service) not in ready])
    if chosen:
        for one in fresh:
            _take_over(one)
        say("restarting behind it", services=[one.where for one in chosen])
        _renew(chosen, seconds)
    return Result(ready, reasons)


def restart(stack: str, services: Collection[str]) -> None:
    """Restart services with their sockets; they are not waited for. The manager has read their units.

    Who sleeps and does not run has nothing to restart: it reads its unit when it wakes.
    """
    user = common.user_of(stack)
    found = [(kind, service, unit) for kind, service, unit in common.services(stack) if service in services]
    if not found:
        return
    sleeping = {name: one for name, one in sleepers.of_stack(stack).items() if name in services}
    resting = [name for name, one in sleeping.items() if one.state in {"inactive", "failed"}]
    sleepers.forget_failures(stack, resting)
    if units := [unit for _, service, unit in found if service not in resting]:
        common.as_user(user, ["systemctl", "--user", "reset-failed", *units], check=False)
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])
    public = [service for kind, service, _ in found if _has_socket(kind, sleeping.get(service))]
    if sockets := common.ingress_sockets(user, public):
        common.as_user(user, ["systemctl", "--user", "--no-block", "start", *sockets])


def _has_socket(kind: str, found: Sleeper | None) -> bool:
    return found.unit.is_public if found else kind in common.PUBLIC


def settle(stack: str, seconds: float) -> None:
    """End what is left of next containers, once their services answer by themselves, or the time is up."""
    left = [one for one in _public(stack) if _is_left(one)]
    kept = [one for one in left if one.kept_socket.exists()]
    with suppress(RemoteError):
        readiness.wait([_own(one) for one in kept], seconds)
    for one in kept:
        _hand_back(one)
    _end(left)


def invocations(stack: str) -> dict[str, str]:
    """By service, what systemd calls this run of its unit: it is another one after a restart."""
    user = common.user_of(stack)
    argv = ["systemctl", "--user", "show", "-p", "Id", "-p", "InvocationID"]
    units = {unit: service for _, service, unit in common.services(stack)}
    found = {}
    for block in common.as_user(user, [*argv, *units], check=False, timeout=readiness.MANAGER).split("\n\n"):
        values = common.assignments(block)
        if values.get("Id") in units:
            found[units[values["Id"]]] = values.get("InvocationID", "")
    return found


def restarted(stack: str, services: Iterable[str], before: Mapping[str, str]) -> list[str]:
    """Of these services those that do not run any more as they did; `before` is what `invocations` said."""
    now = invocations(stack)
    return [service for service in services if service not in before or now.get(service) != before[service]]


# ---- which ones


def _public(stack: str) -> Iterator[Next]:
    for kind, service, _ in common.services(stack):
        if kind in (*common.PUBLIC, common.SLEEPS):
            yield Next(stack, service, kind)


def _is_left(one: Next) -> bool:
    return one.kept_socket.exists() or (next_units.DIRECTORY / one.unit).exists()


def _choose(changed: Mapping[str, Collection[str]]) -> tuple[list[Next], dict[str, str]]:
    chosen: list[Next] = []
    reasons: dict[str, str] = {}
    free = _available()
    for stack, services in changed.items():
        found = [one for one in _public(stack) if one.service in services]
        whole = _reason_of_stack(stack, services)
        for one in found:
            if one.kept_socket.exists():
                chosen.append(one)
                continue
            if one.kind == common.SLEEPS:
                reasons |= {one.where: _WAITS} if _has_visitors(one) else {}
                continue
            need = _memory(one)
            reason = whole or _reason(one) or _reason_of_memory(stack, need, free)
            if reason:
                reasons[one.where] = reason
            else:
                chosen.append(one)
                free -= need
    return chosen, reasons


# Of one that sleeps: it has no next container, as its visitors wait for it anyway when it wakes.
_WAITS: Final = "it sleeps when nobody asks, and is started anew for its visitors"


def _has_visitors(one: Next) -> bool:
    found = sleepers.of_stack(one.stack)[one.service]
    return found.unit.is_public and found.state == "active"


def _reason_of_stack(stack: str, services: Collection[str]) -> str:
    """Why no service of this change may run twice: each might need the new one of another that changes with it."""
    if len(services) > 1:
        joined = [network for service in services for network in next_units.networks(_text(stack, service))]
        if len(joined) != len(set(joined)):
            return "others of its network change with it"
    return "it lacks a secret" if secrets.missing(stack) else ""


def _text(stack: str, service: str) -> str:
    """A service's unit as Podman has made it of what the spec and a release say now."""
    user = f"/run/user/{common.uid(common.user_of(stack))}"
    try:
        return Path(user, "systemd/generator", f"{stack}-{service}.service").read_text()
    except FileNotFoundError:
        return ""


def _reason(one: Next) -> str:
    others = [service for _, service, _ in common.services(one.stack) if service != one.service]
    if one.container in others:
        return f"there is a service {one.container}"
    if any(f"--network container:{one.service} " in _text(one.stack, other) for other in others):
        return "another service shares its network"
    state = common.show(one.own, "SubState", user=common.user_of(one.stack)).get("SubState")
    if state != "running" or not one.socket.exists():
        return "it does not run"
    socket = common.show(f"{one.own_ingress}.socket", "ActiveState", user=common.user_of(one.stack))
    if socket.get("ActiveState") != "active":
        return "its socket was the app's own"
    return next_units.reason_against(_text(one.stack, one.service))


# ---- memory


_CGROUPS: Final = Path("/sys/fs/cgroup/stacks.slice")


def _memory(one: Next) -> int:
    """Bytes that the service's container has now, without what the kernel can take back."""
    found = _CGROUPS.glob(f"user@{common.uid(common.user_of(one.stack))}.service/**/{one.own}")
    return sum(_held(path) for path in found)


def _held(group: Path) -> int:
    current = common.read_number(str(group / "memory.current")) or 0
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        stat = {}
    return max(current - int(stat.get("file", 0)), 0)


def _available() -> float:
    found = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else float("inf")


def _reason_of_memory(stack: str, need: int, free: float) -> str:
    """Two containers at a time must fit below the ceilings, and into the machine."""
    group = _CGROUPS / f"user@{common.uid(common.user_of(stack))}.service"
    for one in (group, _CGROUPS):
        ceiling = common.read_number(str(one / "memory.max"))
        if ceiling is not None and _held(one) + need > ceiling:
            return f"its stack's memory has no room for two of it: {_held(one) >> 20} of {ceiling >> 20} MiB are used"
    return "" if need <= free else f"the server's memory has no room for two of it: {int(free) >> 20} MiB are free"


# ---- the next container


def _start_next(fresh: list[Next], seconds: float) -> None:
    try:
        for one in fresh:
            _lay(one)
        for stack in {one.stack for one in fresh}:
            user = common.user_of(stack)
            names = [name for one in fresh if one.stack == stack for name in (f"{one.ingress}.socket", one.unit)]
            common.as_user(user, ["systemctl", "--user", "daemon-reload"])
            common.as_user(user, ["systemctl", "--user", "--no-block", "start", *names])
        readiness.wait([_next(one) for one in fresh], seconds)
    except BaseException:
        _end(fresh)
        raise


def _lay(one: Next) -> None:
    """Root's, and readable for the stack's group alone, as the service's own unit is."""
    next_units.DIRECTORY.mkdir(parents=True, exist_ok=True)
    uid, group = common.uid(common.user_of(one.stack)), common.gid(common.user_of(one.stack))
    ingress = Path(facts.ETC, "units", str(uid), f"{one.own_ingress}.service").read_text()
    for name, text in next_units.units(one, _text(one.stack, one.service), ingress).items():
        files.replace(next_units.DIRECTORY / name, text.encode(), 0o640, owner=(0, group), name=f".{name}.part")


def _next(one: Next) -> readiness.Part:
    socket = one.next_socket if one.next_socket.exists() or not one.kept_socket.exists() else one.socket
    return readiness.Part(one.where, common.user_of(one.stack), one.unit, one.kind, str(socket), one.container)


def _own(one: Next) -> readiness.Part:
    socket = one.kept_socket if one.kept_socket.exists() else one.socket
    return readiness.Part(one.where, common.user_of(one.stack), one.own, one.kind, str(socket), one.service)


def _take_over(one: Next) -> None:
    """New connections come to the next container.

    The proxy has connections to the old one that it uses again. It keeps those apart by whether there is the file `up`:
    without it, it makes new ones.
    """
    os.link(one.socket, one.kept_socket)
    one.next_socket.replace(one.socket)
    one.up.unlink(missing_ok=True)


def _renew(ones: Collection[Next], seconds: float) -> None:
    """Restart the own units while the next containers serve; then the own ones serve, and those end."""
    _drain([(common.user_of(one.stack), one, f"{one.stack}-{one.service}.pid") for one in ones])
    for stack in {one.stack for one in ones}:
        restart(stack, [one.service for one in ones if one.stack == stack])
    readiness.wait([_own(one) for one in ones], seconds)
    for one in ones:
        _hand_back(one)
    _end(ones)


def _hand_back(one: Next) -> None:
    """New connections come to the service's own container, by its own socket."""
    user = common.user_of(one.stack)
    ingress = common.show(f"{one.own_ingress}.service", "ActiveState", user=user).get("ActiveState")
    one.kept_socket.replace(one.socket)
    if ingress == "active" or next_units.listens(_text(one.stack, one.service)):
        with suppress(FileExistsError):
            os.close(os.open(one.up, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640))


def _end(ones: Collection[Next]) -> None:
    """End next containers that serve no more, and take their units away."""
    _drain([(common.user_of(one.stack), one, f"{one.unit.removesuffix('.service')}.pid") for one in ones])
    for stack in {one.stack for one in ones}:
        user = common.user_of(stack)
        mine = [one for one in ones if one.stack == stack]
        names = [name for one in mine for name in (f"{one.ingress}.socket", f"{one.ingress}.service", one.unit)]
        common.as_user(user, ["systemctl", "--user", "stop", *names], check=False, timeout=_STOP)
        for one in mine:
            common.as_user(user, ["podman", "rm", "-fiv", one.container], check=False)
            one.next_socket.unlink(missing_ok=True)
        for name in names:
            (next_units.DIRECTORY / name).unlink(missing_ok=True)
        common.as_user(user, ["systemctl", "--user", "daemon-reload"], check=False)
        common.as_user(user, ["systemctl", "--user", "reset-failed", *names], check=False)


# An app has the grace period of its Compose file to end.
_STOP: Final = 300.0


# ---- the end of what is being answered


# How long requests that are being answered are waited for, in seconds; what is upgraded may never end.
_DRAIN: Final = 30.0
# Seconds without a byte after which an answer counts as whole.
_QUIET: Final = 0.3


def _drain(places: Collection[tuple[str, Next, str]]) -> None:
    """Until none of these containers is answering a request; each by its user, and the file of its process's number."""
    deadline = time.monotonic() + _DRAIN
    while time.monotonic() < deadline:
        # First of all, what is on its way from the proxy arrives.
        time.sleep(_QUIET)
        if not any(_is_answering(*place) for place in places):
            return


def _is_answering(user: str, one: Next, pidfile: str) -> bool:
    port = readiness.ingress_target(one.stack, one.service) or "0"
    try:
        pid = Path(f"/run/user/{common.uid(user)}", pidfile).read_text().strip()
    except OSError:
        return False
    look = ["ss", "-HtniO", "state", "established", f"sport = :{port}"]
    shown = common.as_user(user, [*readiness.in_network(pid), *look], check=False)
    return any(map(is_answer_due, shown.splitlines()))


def is_answer_due(line: str) -> bool:
    """Of an app's connection, as `ss -i` shows it: it was asked last, or has just said something.

    One that the proxy keeps to use again was answered last, or never asked anything. A WebSocket on which nothing
    moves looks the same.
    """
    asked, said = (_milliseconds(line, name) for name in ("lastrcv", "lastsnd"))
    return " bytes_received:" in line and (asked < said or min(asked, said) < _QUIET * 1000)


def _milliseconds(line: str, name: str) -> int:
    found = re.search(rf"\b{name}:(\d+)", line)
    return int(found[1]) if found else 0
