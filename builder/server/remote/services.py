"""Units of the system and of the stacks: restart, stop and start them, and reload those whose files have changed.

`affected` says which services read changed files, `reload` lets them read those, in the order of a boot.
"""

from __future__ import annotations

import pwd
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, egress, locks, start_first
from builder.server.remote.common import RemoteError, Value
from builder.server.remote.images import role_logins
from builder.server.remote.notify import notices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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
    return {name: common.show(unit, "ActiveState", user=user).get("ActiveState") for name, unit in units.items()}


def act(action: str, stack: str, services: Iterable[str]) -> None:
    """restart, stop or start these services of a stack. The caller holds its lock."""
    user, chosen = common.stack_user(stack), set(services)
    names, units = zip(*((name, unit) for _, name, unit in common.services(stack) if name in chosen), strict=True)
    if action == "stop":
        _ingress_sockets(user, "stop", names)
    common.as_user(user, ["systemctl", "--user", action, *units], timeout=_TIMEOUT)
    if action != "stop":
        _ingress_sockets(user, "start", names)


def running(stack: str) -> list[str]:
    """The services of a stack that run, or are about to."""
    user = common.stack_user(stack)
    states = {name: common.show(unit, "ActiveState", user=user) for _, name, unit in common.services(stack)}
    return [name for name, state in states.items() if state.get("ActiveState") in {"active", "activating"}]


class State(NamedTuple):
    """A service, as `stack/service`: its unit's ActiveState, whether that is right, how often systemd restarted it."""

    user: str
    where: str
    unit: str
    state: str
    is_up: bool
    restarts: int


_UNIT_PROPERTIES: Final = ("Id", "ActiveState", "Result", "Restart", "ExecMainExitTimestampMonotonic", "NRestarts")


def down() -> Iterator[State]:
    """Who does not run, of the proxy and of all stacks; a job that ended well is not one."""
    return (one for one in states() if not one.is_up)


def states() -> Iterator[State]:
    """Every service, the proxy first; each user's manager is asked once."""
    for user, group in groupby(_each(), key=itemgetter(0)):
        units = {unit: where for _, where, unit in group}
        argv = ["systemctl", "--user", "show", *units, "-p", ",".join(_UNIT_PROPERTIES)]
        found = [common.assignments(one) for one in common.as_user(user, argv, check=False).split("\n\n")]
        by_unit = {one["Id"]: one for one in found if "Id" in one}
        yield from (_state(user, where, unit, by_unit.get(unit, {})) for unit, where in units.items())


def _state(user: str, where: str, unit: str, found: dict[str, str]) -> State:
    ended = found.get("Result") == "success" and found.get("ExecMainExitTimestampMonotonic") not in {"0", None}
    ended = ended and found.get("Restart") in {"no", "on-failure"}
    state = found.get("ActiveState", "unknown")
    is_up = state == "active" or (state == "inactive" and ended)
    return State(user, where, unit, state, is_up, int(found.get("NRestarts") or 0))


def _each() -> Iterator[tuple[str, str, str]]:
    """User, `stack/service` and unit of every service, the proxy first."""
    yield facts.PROXY_USER, "proxy", "er-proxy.service"
    for stack in common.stacks():
        for _, service, unit in common.services(stack):
            yield common.user_of(stack), f"{stack}/{service}", unit


def start_down() -> None:
    """Start those."""
    for one in down():
        common.as_user(one.user, ["systemctl", "--user", "reset-failed", one.unit], check=False)
        common.as_user(one.user, ["systemctl", "--user", "start", one.unit], timeout=300)


def _ingress_sockets(user: str, action: str, services: Iterable[str]) -> None:
    """A stopped service must not be started again by its next request: its socket goes with it."""
    sockets = [f"er-ingress-{name}.socket" for name in services]
    loaded = [name for name in sockets if common.show(name, "LoadState", user=user).get("LoadState") == "loaded"]
    if loaded:
        common.as_user(user, ["systemctl", "--user", action, *loaded])


# What each stack may have of the memory, by how many there are.
_SHARES: Final = "/etc/systemd/system/user@.service.d/10-easyrunner.conf"
# Path pattern, and what is reloaded when such a file changes.
_SYSTEM_FILES: Final = (
    (_SHARES, "shares"),
    ("/etc/systemd/journald*", "journal"),
    ("/etc/systemd/*", "systemd"),
    ("/etc/systemd/system/easyrunner-deploy*", "deploy"),
    ("/etc/systemd/system/easyrunner-*.timer", "timers"),
    ("/etc/systemd/system/er-notify*", "notify"),
    (f"{facts.ETC}/notify.rules", "notify"),
    ("/usr/lib/systemd/system/*", "systemd"),
    (f"{facts.FIREWALL}/*", "firewall"),
    # The firewall has a chain for each stack by its ids.
    (f"{facts.STACKS}/*/subids", "firewall"),
    (f"{facts.LIB}/firewall*", "firewall"),
    ("/etc/ssh/*", "ssh"),
    ("/etc/fail2ban/*", "fail2ban"),
    # Its server reads them only when it starts; bans come back from its database.
    ("/etc/fail2ban/fail2ban.d/*", "fail2ban server"),
    ("/etc/sysctl.d/*", "sysctl"),
    (f"{facts.ETC}/caddy/*", "caddy"),
    (facts.ROLE_LOGINS, "role"),
    (f"{facts.LIB}/ecr", "role"),
)
_USER_UNIT: Final = re.compile(
    rf"({facts.QUADLETS}|{facts.ETC}/units|/etc/systemd/system)/(?:user@)?(?P<uid>\d+)(?:\.service\.d)?/(?P<rest>.*)"
)
_STACK_FILE: Final = re.compile(rf"{facts.STACKS}/(?P<stack>[^/]+)/(?P<rest>.*)")
# `<stack>-<service>.container`, its drop-ins, its ingress.
_SERVICE_UNIT: Final = re.compile(r"(?:er-ingress-(?P<ingress>[^/.]+)\.|(?P<unit>[^/.]+)\.(?:container|service))")
# Files of a stack that no container reads.
_NOT_READ: Final = frozenset({"services", "subids", "archives", facts.GIT})


@dataclass
class Affected:
    """What reads the changed files. `system` has words of `_SYSTEM_FILES`.

    `stacks` maps a stack to the services to restart, None for all of them; `managers` are stacks whose user manager
    restarts. `proxy` is whether Caddy's own unit changed.
    """

    system: set[str] = field(default_factory=set)
    stacks: dict[str, set[str] | None] = field(default_factory=dict)
    managers: set[str] = field(default_factory=set)
    proxy: bool = False


def affected(changed: Iterable[str], stacks: dict[int, str]) -> Affected:
    """What reads the files at these changed paths. `stacks` maps a user's number to its stack."""
    found = Affected()
    for path in changed:
        found.system |= {reader for pattern, reader in _SYSTEM_FILES if fnmatch(path, pattern)}
        if match := _USER_UNIT.fullmatch(path):
            _add_unit(found, int(match["uid"]), match["rest"], stacks, manager=match[1].startswith("/etc/systemd"))
        elif (match := _STACK_FILE.fullmatch(path)) and match["rest"] not in _NOT_READ:
            found.stacks[match["stack"]] = None
    return found


def _add_unit(found: Affected, uid: int, rest: str, stacks: dict[int, str], *, manager: bool) -> None:
    if uid == facts.PROXY_UID:
        found.proxy = True
        return
    stack = stacks.get(uid)
    if stack is None:
        return
    if manager:
        found.managers.add(stack)
    service = _service_of(stack, rest)
    services = found.stacks.setdefault(stack, set())
    if service is None:
        found.stacks[stack] = None
    elif services is not None:
        services.add(service)


def _service_of(stack: str, rest: str) -> str | None:
    """The service that a unit file belongs to; None when it is the whole stack's."""
    match = _SERVICE_UNIT.match(rest)
    if match is None:
        return None
    return match["ingress"] or (match["unit"] or "").removeprefix(f"{stack}-") or None


def reload(found: Affected, seconds: float, say: Say, ran: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Reload or restart everything affected, in the order of a boot. Raises RemoteError with all that failed.

    A public service that can have a next container is waited for, up to so many seconds; `say` is told. With `ran`, by
    stack what its services' runs were called, those of them that have not restarted since do not restart now. Returns
    why others had to, by `stack/service`.
    """
    if "systemd" in found.system:
        common.run(["systemctl", "daemon-reload"])
    if "shares" in found.system:
        _tell_shares()
    _reload_system(found.system)
    if "role" in found.system:
        role_logins.ask()
    if found.proxy:
        _restart_units(facts.PROXY_USER, [*_images_unit(facts.PROXY_UID), "er-proxy.service"])
    elif "caddy" in found.system:
        _load_caddyfile()
    return _restart_stacks(found, seconds, say, ran)


def _tell_shares() -> None:
    text = Path(_SHARES).read_text()
    for uid in common.uids(common.stacks()).values():
        if common.show(f"user@{uid}.service", "ActiveState").get("ActiveState") == "active":
            common.run(shares_words(uid, text))


def shares_words(uid: int, drop_in: str) -> list[str]:
    """The words that give a running stack the limits of a drop-in, until the next boot.

    After a reload systemd shows what its files say, but tells the kernel at the unit's next start only (seen with 257).
    """
    limits = [f"{name}={value}" for name, value in common.assignments(drop_in).items() if name.startswith("Memory")]
    return ["systemctl", "set-property", "--runtime", f"user@{uid}.service", *limits]


# Where deploy keys are served, on hosts that have such.
_DEPLOYS: Final = Path("/etc/systemd/system/easyrunner-deploy.socket")
# What a spec has done at its time: backups.
_TIMERS: Final = "easyrunner-*.timer"


def _reload_system(readers: set[str]) -> None:
    if "journal" in readers:
        common.run(["systemctl", "restart", "systemd-journald.service"])
        common.run(["systemctl", "try-restart", f"systemd-journald@{facts.JOURNAL}.service"], check=False)
    if "sysctl" in readers:
        common.run(["sysctl", "--quiet", "--system"], check=False)
    if "firewall" in readers:
        egress.resolve()
        common.run(["systemctl", "restart", "er-firewall.service"], check=False)
        if not common.firewall_loaded():
            raise RemoteError("the firewall's rules do not load")
    _reload_own(readers)
    if "ssh" in readers:
        common.run(["sshd", "-t"])
        common.run(["systemctl", "reload-or-restart", "ssh.service"])
    if "fail2ban server" in readers:
        common.run(["systemctl", "restart", "fail2ban.service"])
    elif "fail2ban" in readers:
        common.run(["fail2ban-client", "reload"])


def _reload_own(readers: set[str]) -> None:
    """What only hosts with certain keys in their spec have."""
    if "deploy" in readers and _DEPLOYS.exists():
        common.run(["systemctl", "restart", _DEPLOYS.name])
    if "timers" in readers and (timers := [path.name for path in Path("/etc/systemd/system").glob(_TIMERS)]):
        common.run(["systemctl", "restart", *timers])
    if "notify" in readers:
        notices.start()


def _load_caddyfile() -> None:
    """The running proxy loads the changed file, and no request is lost."""
    options = ["--silent", "--show-error", "--fail-with-body", "--header", "Content-Type: text/caddyfile"]
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/load"
    argv = ["curl", *options, "--data-binary", f"@{Path(facts.ETC, 'caddy', 'Caddyfile')}", url]
    with new_connections_paused():
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RemoteError(f"the proxy refuses its configuration: {(done.stdout or done.stderr).strip()[:300]}")


# Seconds that open connections have to finish handshake and request before the reload: some round trips from anywhere.
_SETTLE: Final = 0.5
# The rule ends by itself after so many seconds, whatever becomes of who made it.
_PAUSE_AT_MOST: Final = 10.0
_IPTABLES: Final = ("iptables", "ip6tables")


@contextmanager
def new_connections_paused() -> Iterator[None]:
    """Drop new connections to the proxy inside the block: clients send again. Nothing if the kernel lacks the match."""
    words = pause_rule(time.time() + _PAUSE_AT_MOST)
    try:
        for tool in _IPTABLES:
            common.run([tool, "--wait", "--insert", *words], check=False)
        time.sleep(_SETTLE)
        yield
    finally:
        for tool in _IPTABLES:
            common.run([tool, "--wait", "--delete", *words], check=False)


def pause_rule(until: float) -> list[str]:
    """The rule that drops the first packet of a new connection to the proxy, which the client sends again.

    `until` is in seconds since 1970.
    """
    ports = f"{facts.PROXY_HTTP},{facts.PROXY_HTTPS}"
    stop = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until))
    match = ["-p", "tcp", "--syn", "-m", "multiport", "--dports", ports, "-m", "time", "--datestop", stop]
    return ["INPUT", *match, "-j", "DROP"]


def _restart_units(user: str, units: list[str]) -> None:
    common.as_user(user, ["systemctl", "--user", "daemon-reload"])
    if units:
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])


def _images_unit(uid: int) -> list[str]:
    """The unit that loads images from archives, where a user has it: it ran at boot, and an archive may be new."""
    unit = "er-images.service"
    return [unit] if Path(facts.ETC, "units", str(uid), unit).exists() else []


def _restart_stacks(found: Affected, seconds: float, say: Say, ran: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Restart what is affected of each stack; the other stacks do so although one fails."""
    changed: dict[str, list[str]] = {}
    errors = []
    for stack, services in found.stacks.items():
        try:
            if _has_begun(stack) and not _restart_manager(stack, always=stack in found.managers):
                names = [name for _, name, _ in common.services(stack) if services is None or name in services]
                changed[stack] = start_first.restarted(stack, names, ran[stack]) if stack in ran else names
        except RemoteError as error:
            errors.append(str(error))
    try:
        reasons = start_first.replace(changed, seconds, say).reasons if changed else {}
    except RemoteError as error:
        errors.append(str(error))
    if errors:
        raise RemoteError("; ".join(errors))
    return reasons


def _has_begun(stack: str) -> bool:
    """False of a new one: first boot starts it."""
    return stack in common.uids([stack]) and Path("/var/lib/systemd/linger", common.user_of(stack)).exists()


def _restart_manager(stack: str, *, always: bool) -> bool:
    """Restart a stack's user manager, and so all of it, if it is to be or does not answer any more; else reload it."""
    user = common.user_of(stack)
    uid = common.uid(user)
    try:
        if not always:
            common.as_user(user, ["systemctl", "--user", "daemon-reload"])
            if unit := _images_unit(uid):
                common.as_user(user, ["systemctl", "--user", "restart", *unit], timeout=_TIMEOUT)
            return False
    except RemoteError:
        pass  # its units hang: the manager's restart ends all of the stack
    common.run(["systemctl", "restart", f"user@{uid}.service"])
    return True


def stop_stacks(stacks: Iterable[str]) -> None:
    """Stop everything that runs of these stacks; their volumes and data stay."""
    for stack, uid in common.uids(stacks).items():
        common.run(["loginctl", "disable-linger", common.user_of(stack)], check=False)
        common.run(["systemctl", "stop", f"user@{uid}.service"], check=False)


def stop_units(removed: Iterable[str]) -> None:
    """Stop the units of files that will be removed, while systemd still knows them."""
    for path in map(Path, removed):
        if path.parent == Path("/etc/systemd/system") and path.suffix in (".service", ".socket", ".timer", ".path"):
            common.run(["systemctl", "stop", path.name], check=False)
        if path.suffix not in (".container", ".socket") or not path.parent.name.isdigit():
            continue
        user = pwd.getpwuid(int(path.parent.name)).pw_name
        unit = path.name if path.suffix == ".socket" else f"{path.stem}.service"
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
