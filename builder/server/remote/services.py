"""Units of the system and of the stacks: restart, stop and start them; how each service does."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, locks, sleepers
from builder.server.remote.common import RemoteError, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from builder.server.remote.sleepers import Sleeper

    Say = Callable[..., None]

# Seconds: an image may have to be pulled, and its unit waits so long for that.
_TIMEOUT: Final = 1000


def services(action: str, stack: str, service: str = "") -> Value:
    """restart, stop or start a whole stack, or one service of it; returns the ActiveState of each unit afterwards."""
    user = common.stack_user(stack)
    units = {name: unit for _, name, unit in common.services(stack) if service in ("", name)}
    if not units:
        names = ", ".join(name for _, name, _ in common.services(stack))
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {names}")
    with locks.stack(stack, f"er server {action}"):
        act(action, stack, units)
    asleep = sleepers.asleep(stack)
    return {
        name: "asleep" if name in asleep else common.show(unit, "ActiveState", user=user).get("ActiveState")
        for name, unit in units.items()
    }


def act(action: str, stack: str, services: Iterable[str]) -> None:
    """restart, stop or start these services of a stack. The caller holds its lock.

    What sleeps is not started, its socket is: visitors wake it.
    """
    user, chosen = common.stack_user(stack), set(services)
    names = [name for _, name, _ in common.services(stack) if name in chosen]
    left = _left_asleep(action, stack, chosen)
    if action == "stop":
        _ingress_sockets(user, "stop", names)
    if units := [unit for _, name, unit in common.services(stack) if name in chosen and name not in left]:
        common.as_user(user, ["systemctl", "--user", action, *units], timeout=_TIMEOUT)
    if action != "stop":
        sleepers.forget_failures(stack, left)
        _ingress_sockets(user, "start", names)


def _left_asleep(action: str, stack: str, services: Iterable[str]) -> list[str]:
    """Of these services those that visitors start: who is asleep reads everything anew when it wakes."""
    found = sleepers.of_stack(stack) if action != "stop" else {}
    left = {name for name, one in found.items() if action == "start" or one.state in {"inactive", "failed"}}
    return [name for name in services if name in left]


def running(stack: str) -> list[str]:
    """The services of a stack that run, are about to, or are asleep and would run for the next visitor."""
    user, asleep = common.stack_user(stack), sleepers.asleep(stack)
    states = {name: common.show(unit, "ActiveState", user=user) for _, name, unit in common.services(stack)}
    return [
        name for name, state in states.items() if name in asleep or state.get("ActiveState") in {"active", "activating"}
    ]


class State(NamedTuple):
    """A service, as `stack/service`: its unit's ActiveState, whether that is right, how often systemd restarted it."""

    user: str
    where: str
    unit: str
    state: str
    is_up: bool
    restarts: int


# The state of one whose visitors wait for it.
WAKING: Final = "waking"
_UNIT_PROPERTIES: Final = ("Id", "ActiveState", "Result", "Restart", "ExecMainExitTimestampMonotonic", "NRestarts")


def down() -> Iterator[State]:
    """Who does not run, of the proxy and of all stacks; a job that ended well is not one, nor is who is asleep."""
    return (one for one in states() if not one.is_up)


def states() -> Iterator[State]:
    """Every service, the proxy first; each user's manager is asked once."""
    yield from _of_user(facts.PROXY_USER, {"er-proxy.service": "proxy"})
    for stack in common.stacks():
        units = {unit: f"{stack}/{service}" for _, service, unit in common.services(stack)}
        yield from _of_user(common.user_of(stack), units, stack)


def _of_user(user: str, units: Mapping[str, str], stack: str = "") -> Iterator[State]:
    sleeping = sleepers.units_of(stack) if stack else {}
    properties = dict.fromkeys((*_UNIT_PROPERTIES, *sleepers.PROPERTIES * bool(sleeping)))
    asked = dict.fromkeys((*units, *sleepers.asked(sleeping)))
    shown = sleepers.shown(user.removeprefix(facts.STACK_USER_PREFIX), asked, properties)
    judged = sleepers.judge(sleeping, shown, sleepers.Marks.of_stack(stack, sleeping))
    asleep = {one.unit.name: one for one in judged.values()}
    for unit, where in units.items():
        state = _state(user, where, unit, shown.get(unit, {}))
        yield _of_sleeper(state, asleep[unit]) if unit in asleep else state


def _state(user: str, where: str, unit: str, found: Mapping[str, str]) -> State:
    ended = found.get("Result") == "success" and found.get("ExecMainExitTimestampMonotonic") not in {"0", None}
    ended = ended and found.get("Restart") in {"no", "on-failure"}
    state = found.get("ActiveState", "unknown")
    is_up = state == "active" or (state == "inactive" and ended)
    return State(user, where, unit, state, is_up, int(found.get("NRestarts") or 0))


def _of_sleeper(state: State, found: Sleeper) -> State:
    words = "asleep" if found.is_asleep else WAKING if found.is_waking else state.state
    words = f"its wake failed: {found.failed}" if found.failed else words
    return state._replace(state=words, is_up=found.is_up)


def start_down() -> None:
    """Start those; of what sleeps its socket too, and what it is not needed for ends by itself again."""
    for one in down():
        service = one.where.rpartition("/")[2]
        names = [one.unit, f"er-ingress-{service}.service", f"er-ingress-{service}.socket"]
        common.as_user(one.user, ["systemctl", "--user", "reset-failed", *names], check=False)
        common.as_user(one.user, ["systemctl", "--user", "start", one.unit], timeout=300)
        _ingress_sockets(one.user, "start", [service])


def _ingress_sockets(user: str, action: str, services: Iterable[str]) -> None:
    """A stopped service must not be started again by its next request: its socket goes with it."""
    if sockets := common.ingress_sockets(user, services):
        common.as_user(user, ["systemctl", "--user", action, *sockets])


def stop_stacks(stacks: Iterable[str]) -> None:
    """Stop everything that runs of these stacks; their volumes and data stay."""
    for stack, uid in common.uids(stacks).items():
        common.begin(stack)  # else its sockets would still start it
        common.run(["loginctl", "disable-linger", common.user_of(stack)], check=False)
        common.run(["systemctl", "stop", f"user@{uid}.service"], check=False)


def stop_units(removed: Iterable[str]) -> None:
    """Stop the units of files that will be removed, while systemd still knows them."""
    for path in map(Path, removed):
        if path.parent == Path("/etc/systemd/system") and path.suffix in (".service", ".socket", ".timer", ".path"):
            common.run(["systemctl", "stop", path.name], check=False)
        if path.suffix not in (".container", ".socket", ".path") or not path.parent.name.isdigit():
            continue
        user = pwd.getpwuid(int(path.parent.name)).pw_name
        unit = f"{path.stem}.service" if path.suffix == ".container" else path.name
        common.as_user(user, ["systemctl", "--user", "stop", unit], check=False)


def remove_users(stacks: Iterable[str]) -> None:
    """Remove the users of stacks that are gone. Their data stays, and belongs to them again when they come back."""
    for stack in common.uids(stacks):
        common.run(["userdel", common.user_of(stack)], check=False)


def container_errors() -> list[str]:
    """What containers printed last when they did not start, from both journals: the host's and that of the stacks."""
    argv = ["journalctl", f"--namespace=+{facts.JOURNAL}", "-b", "-q", "-o", "cat", "--no-pager", "-n", "5"]
    text = common.run([*argv, "--since=-10min", "--grep", "^Error:"], check=False)
    return list(dict.fromkeys(line[:300] for line in text.strip().splitlines()))
