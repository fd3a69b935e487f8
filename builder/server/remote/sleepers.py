"""Services that sleep: which of a stack's do, whether each is asleep, since when, and how often it was woken.

A sleeper's unit has StopWhenUnneeded: its ingress needs it while visitors come, and the socket of that one wakes it. So
nothing here connects. Systemd is asked, in one call a stack, and the files beside the sockets, which the stack's own
user writes. Who needs a sleeper for something else than a visitor holds it awake as long as that takes.
"""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from builder.server.remote.common import Value


class Sleeper(NamedTuple):
    """A service that sleeps. `since` when it has been asleep, in seconds since 1970; `woken` how often since the boot.

    `is_up`: it is awake, wakes, or is asleep and can be woken; `failed` says why its last wake failed.
    """

    service: str
    unit: Unit
    state: str
    is_asleep: bool
    is_waking: bool
    is_up: bool
    since: int | None
    woken: int | None
    failed: str

    def as_value(self) -> Value:
        """As `status` has it."""
        return {"asleep": self.is_asleep, "since": self.since, "woken": self.woken, "failed": self.failed}


def of_stack(stack: str) -> dict[str, Sleeper]:
    """The sleepers of a stack, by service."""
    units = units_of(stack)
    if not units:
        return {}
    return judge(units, shown(stack, asked(units), PROPERTIES), Marks.of_stack(stack, units))


def shown(stack: str, units: Collection[str], properties: Iterable[str]) -> dict[str, dict[str, str]]:
    """What the manager of a stack's user says of these units, by name; of a stack that rests it is known."""
    if common.rests(stack):
        return {unit: {**common.RESTING, "Id": unit} | (_LISTENS if unit.endswith(".socket") else {}) for unit in units}
    argv = ["systemctl", "--user", "show", *units, "-p", ",".join(properties)]
    return blocks(common.as_user(common.user_of(stack), argv, check=False))


# Those that stand in for the sockets of a stack that rests.
_LISTENS: Final = {"ActiveState": "active"}


def asleep(stack: str) -> set[str]:
    """The services of a stack that are asleep."""
    return {name for name, one in of_stack(stack).items() if one.is_asleep}


# ---- what is asked


class Unit(NamedTuple):
    """The unit of a sleeper. One that is not public sleeps along with those that it works for, and has no socket."""

    name: str
    is_public: bool


PROPERTIES: Final = ("Id", "ActiveState", "Result", "StopWhenUnneeded", "InactiveEnterTimestampMonotonic")


def units_of(stack: str) -> dict[str, Unit]:
    """The units of a stack's sleepers, by service; none before the stack's user is made."""
    found = {service: unit for kind, service, unit in common.services(stack) if kind == common.SLEEPS}
    if not found or not (uid := common.uids([stack]).get(stack)):
        return {}
    sockets = Path(facts.ETC, "units", str(uid))
    return {
        service: Unit(unit, is_public=(sockets / f"er-ingress-{service}.socket").exists())
        for service, unit in found.items()
    }


def asked(units: Mapping[str, Unit]) -> list[str]:
    """The units that tell how these sleepers are: their own, and the sockets and ingresses before them."""
    public = [service for service, unit in units.items() if unit.is_public]
    beside = [f"er-ingress-{service}.{kind}" for service in public for kind in ("socket", "service")]
    return [*(unit.name for unit in units.values()), *beside]


def blocks(text: str) -> dict[str, dict[str, str]]:
    """What `systemctl show` says of several units, by Id."""
    found = (common.assignments(one) for one in text.split("\n\n"))
    return {one["Id"]: one for one in found if "Id" in one}


class Marks(NamedTuple):
    """By service since when it is asleep and how often it was woken; and whose ingress has joined the app."""

    since: dict[str, int]
    woken: dict[str, int]
    joined: frozenset[str] = frozenset()

    @classmethod
    def of_stack(cls, stack: str, services: Iterable[str]) -> Marks:
        """From the files beside the sockets, which the stack could make anything else of."""
        place, services = Path(facts.PROXY_SOCKETS, stack), list(services)
        times = {one: at for one in services if (at := _written(place / f"{one}.asleep")) is not None}
        counts = {one: number for one in services if (number := _number(place / f"{one}.woken")) is not None}
        return cls(times, counts, frozenset(one for one in services if _written(place / f"{one}.up") is not None))


def _written(path: Path) -> int | None:
    try:
        return int(path.lstat().st_mtime)
    except OSError:
        return None


# The digits of a count, and the line's end; more is none of ours.
_LONGEST: Final = 20


def _number(path: Path) -> int | None:
    """No link is followed, nobody who opens a pipe is waited for."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, _LONGEST).strip() if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError:
        return None
    finally:
        os.close(file)
    return int(text) if text.isdigit() else None


# ---- what follows from it


def judge(units: Mapping[str, Unit], shown: Mapping[str, Mapping[str, str]], marks: Marks) -> dict[str, Sleeper]:
    """How these sleepers are. A unit that systemd does not stop by itself has not been read as a sleeper yet."""
    sockets = {service: shown.get(f"er-ingress-{service}.socket", {}) for service in units}
    is_open = {service: found.get("ActiveState") == "active" for service, found in sockets.items()}
    return {
        service: _judged(
            service,
            unit,
            shown.get(unit.name, {}),
            # Who sleeps along is woken by whoever in its stack is.
            can_wake=is_open[service] if unit.is_public else any(is_open.values()),
            ingress=shown.get(f"er-ingress-{service}.service", {}),
            marks=marks,
        )
        for service, unit in units.items()
    }


def _judged(
    service: str,
    unit: Unit,
    found: Mapping[str, str],
    *,
    can_wake: bool,
    ingress: Mapping[str, str],
    marks: Marks,
) -> Sleeper:
    failed = _failed(ingress)
    state, result = found.get("ActiveState", "unknown"), found.get("Result", "success")
    rests = state == "inactive" and result == "success" and found.get("StopWhenUnneeded") == "yes"
    is_asleep = rests and can_wake and not failed
    is_held = ingress.get("ActiveState") in _BEGUN and service not in marks.joined
    is_waking = (state == "activating" and result == "success") or (is_held and state == "active")
    is_up = is_asleep or is_waking or (state == "active" and not failed)
    # A command may have woken it, of which the file knows nothing.
    since = max(marks.since.get(service, 0), _stopped_at(found)) or None if is_asleep else None
    return Sleeper(service, unit, state, is_asleep, is_waking, is_up, since, marks.woken.get(service), failed)


_BEGUN: Final = frozenset({"active", "activating"})


def _failed(ingress: Mapping[str, str]) -> str:
    """Why an ingress could not bring its last visitors to the app; empty while it is at it, or did."""
    result = ingress.get("Result", "success")
    return result if ingress.get("ActiveState") in {"inactive", "failed"} and result not in {"", "success"} else ""


def _stopped_at(found: Mapping[str, str]) -> int:
    """When a unit stopped; 0 where it has not run since its manager began."""
    at = int(found.get("InactiveEnterTimestampMonotonic") or 0) / 1e6
    return int(time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - at)) if at else 0


def forget_failures(stack: str, services: Collection[str]) -> None:
    """What failed of these sleepers counts no more: they are asleep, and the next visitor tries again."""
    if units := asked({name: unit for name, unit in units_of(stack).items() if name in services}):
        common.as_user(common.user_of(stack), ["systemctl", "--user", "reset-failed", *units], check=False)


# ---- who needs one awake


# What keeps sleepers awake is a unit that wants them.
_NEEDS: Final = ("Wants", "After")
# Seconds within which a holder's own unit ends.
_END: Final = 20


def needs(units: Iterable[str]) -> list[str]:
    """The words for systemd-run that let a unit wake these and keep them awake as long as it runs."""
    return [f"--property={name}={unit}" for unit in units for name in _NEEDS]


@contextmanager
def awake(stack: str, services: Collection[str]) -> Iterator[list[str]]:
    """Wake those of these services that sleep, and keep them awake meanwhile; they are not waited for.

    Yields them. Afterwards systemd stops them again, unless visitors have come. Should this process be ended, so is its
    holder, whose stdin ends with it.
    """
    units = {service: unit for service, unit in units_of(stack).items() if service in services}
    if not units:
        yield []
        return
    user, name = common.user_of(stack), f"er-awake-{secrets.token_hex(6)}.service"
    words = ["--user", "--quiet", "--collect", "--pipe", f"--unit={name}", "--description=er keeps it awake"]
    _wait_for_manager(user)
    argv = [*common.in_session(user), "systemd-run", *words, *needs(unit.name for unit in units.values()), "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        try:
            yield list(units)
        finally:
            _let_go(user, name, holder)


# Seconds that a manager has to answer which has just been started.
_BEGINS: Final = 60.0


def _wait_for_manager(user: str) -> None:
    deadline = time.monotonic() + _BEGINS
    while True:
        try:
            common.as_user(user, ["systemctl", "--user", "show", "-p", "Version"])
        except RemoteError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _let_go(user: str, name: str, holder: subprocess.Popen[bytes]) -> None:
    if holder.stdin:
        holder.stdin.close()
    # It may not have begun: its units are still on their way.
    common.as_user(user, ["systemctl", "--user", "stop", name], check=False, timeout=_END)
    try:
        holder.wait(_END)
    except subprocess.TimeoutExpired:
        holder.kill()


def wake(stack: str, services: Collection[str], seconds: int) -> list[str]:
    """Wake those of these services that sleep, and keep them awake for so long; returns those that were asleep.

    Raises RemoteError for one that does not come up.
    """
    found = {name: one for name, one in of_stack(stack).items() if name in services}
    if not found:
        return []
    user, units = common.user_of(stack), [one.unit.name for one in found.values()]
    words = ["--user", "--quiet", "--collect", f"--unit=er-awake-{secrets.token_hex(6)}.service"]
    words += ["--description=er keeps it awake", *needs(units), "sleep", str(seconds)]
    common.as_user(user, ["systemd-run", *words], timeout=_WAKE)
    if down := [name for name, one in of_stack(stack).items() if name in found and one.state != "active"]:
        raise RemoteError(f"{stack}/{down[0]} was asleep and does not wake", f"er server logs HOST {stack} says why")
    return [name for name, one in found.items() if one.is_asleep]


# Seconds that a wake may take; a pull of the image counts.
_WAKE: Final = 300
