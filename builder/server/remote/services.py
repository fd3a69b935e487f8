"""The deeds of an apply: telling services, ending stacks, waiting."""

from __future__ import annotations

import pwd
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, egress
from builder.server.remote.common import RemoteError, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# Both journals, the host's and that of the stacks.
_JOURNALCTL: Final = ("journalctl", f"--namespace=+{facts.JOURNAL}")
_CADDYFILE: Final = Path(facts.ETC, "caddy", "Caddyfile")


def uids(stacks: Iterable[str]) -> dict[str, int]:
    """The users' numbers of stacks that have users."""
    found = {}
    for stack in stacks:
        try:
            found[stack] = pwd.getpwnam(f"{facts.STACK_USER_PREFIX}{stack}").pw_uid
        except KeyError:
            continue
    return found


def tell(found: Effects) -> None:
    """Everyone whose files have changed; the order is that of a boot."""
    if "systemd" in found.system:
        common.run(["systemctl", "daemon-reload"])
    _system(found.system)
    if found.proxy:
        _user(facts.PROXY_USER, [*_images(facts.PROXY_UID), "er-proxy.service"])
    elif "caddy" in found.system:
        _caddy()
    errors = [_trouble(stack, services, manager=stack in found.managers) for stack, services in found.stacks.items()]
    if troubles := "; ".join(filter(None, errors)):
        raise RemoteError(troubles)


def _trouble(stack: str, services: set[str] | None, *, manager: bool) -> str:
    """What kept one stack from being told; the others are, all the same."""
    try:
        _stack(stack, services, manager=manager)
    except RemoteError as error:
        return str(error)
    return ""


def _system(words: set[str]) -> None:
    if "journal" in words:
        common.run(["systemctl", "restart", "systemd-journald.service"])
        common.run(["systemctl", "try-restart", f"systemd-journald@{facts.JOURNAL}.service"], check=False)
    if "sysctl" in words:
        common.run(["sysctl", "--quiet", "--system"], check=False)
    if "firewall" in words:
        egress.resolve()
        common.run(["systemctl", "restart", "er-firewall.service"], check=False)
        if not common.loaded():
            raise RemoteError("the firewall's rules do not load")
    if "ssh" in words:
        common.run(["sshd", "-t"])
        common.run(["systemctl", "reload-or-restart", "ssh.service"])
    if "fail2ban" in words:
        common.run(["fail2ban-client", "reload"])


def _caddy() -> None:
    """Files are the truth; the running proxy takes them over, and no request is lost."""
    options = ["--silent", "--show-error", "--fail-with-body", "--header", "Content-Type: text/caddyfile"]
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/load"
    argv = ["curl", *options, "--data-binary", f"@{_CADDYFILE}", url]
    with new_connections():
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RemoteError(f"the proxy refuses its configuration: {(done.stdout or done.stderr).strip()[:300]}")


def _user(user: str, units: list[str]) -> None:
    common.as_user(user, ["systemctl", "--user", "daemon-reload"])
    if units:
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])


def _images(uid: int) -> list[str]:
    """The unit that takes images from archives, where a user has it: it ran at boot, and an archive may be new."""
    unit = "er-images.service"
    return [unit] if Path(facts.ETC, "units", str(uid), unit).exists() else []


def _stack(stack: str, services: set[str] | None, *, manager: bool) -> None:
    user = f"{facts.STACK_USER_PREFIX}{stack}"
    if stack not in uids([stack]) or not Path("/var/lib/systemd/linger", user).exists():
        return  # it is new: first boot brings it up
    uid = pwd.getpwnam(user).pw_uid
    if manager:
        common.run(["systemctl", "restart", f"user@{uid}.service"])
        return
    try:
        _restart(stack, user, uid, services)
    except RemoteError:
        # Its manager does not answer, or its units hang: all of the stack ends with it.
        common.run(["systemctl", "restart", f"user@{uid}.service"])


def _restart(stack: str, user: str, uid: int, services: set[str] | None) -> None:
    units = [unit for _, name, unit in common.services(stack) if services is None or name in services]
    sockets = [f"er-ingress-{name}.socket" for kind, name, _ in common.services(stack) if kind == "web"]
    _user(user, [*_images(uid), *units])
    common.as_user(user, ["systemctl", "--user", "--no-block", "start", *sockets])


def stop_stacks(stacks: Iterable[str]) -> None:
    """End what runs of these stacks; their volumes and data stay."""
    for stack in stacks:
        user = f"{facts.STACK_USER_PREFIX}{stack}"
        if stack not in uids([stack]):
            continue
        uid = pwd.getpwnam(user).pw_uid
        common.run(["loginctl", "disable-linger", user], check=False)
        common.run(["systemctl", "stop", f"user@{uid}.service"], check=False)


def stop_units(gone: Iterable[str]) -> None:
    """Services whose units go away are stopped while systemd still knows them."""
    for path in map(Path, gone):
        if path.parent == Path("/etc/systemd/system") and path.suffix == ".service":
            common.run(["systemctl", "stop", path.name], check=False)
        if path.suffix not in (".container", ".socket") or not path.parent.name.isdigit():
            continue
        user = pwd.getpwuid(int(path.parent.name)).pw_name
        unit = path.name if path.suffix == ".socket" else f"{path.stem}.service"
        common.as_user(user, ["systemctl", "--user", "stop", unit], check=False)


def forget(stacks: Iterable[str]) -> None:
    """The users of stacks that are gone. Their data stays, and belongs to them again when they come back."""
    for stack in uids(stacks):
        common.run(["userdel", f"{facts.STACK_USER_PREFIX}{stack}"], check=False)


def complaints() -> list[str]:
    """What containers said last when they did not start."""
    text = common.run(
        [*_JOURNALCTL, "-b", "-q", "-o", "cat", "--no-pager", "-n", "5", "--since=-10min", "--grep", "^Error:"],
        check=False,
    )
    return list(dict.fromkeys(line[:300] for line in text.strip().splitlines()))


def key_files(plan: Value) -> list[str]:
    """The admin's authorized_keys, when the plan has keys for an admin that is there."""
    try:
        home = pwd.getpwnam(plan["admin"]["name"]).pw_dir
    except KeyError:
        return []
    return [f"{home}/.ssh/authorized_keys"]


def keys(plan: Value) -> None:
    """Whom the spec lets in, and nobody else."""
    for name in key_files(plan):
        path, who = Path(name), pwd.getpwnam(plan["admin"]["name"])
        text = "".join(f"{key}\n" for key in plan["admin"]["ssh_keys"])
        if path.exists() and path.read_text() == text:
            continue
        owner = (who.pw_uid, who.pw_gid)
        files.replace(path, text.encode(), 0o600, owner=owner, name=".authorized_keys.er-new")


# Path pattern, and who is told.
_SYSTEM: Final = (
    ("/etc/systemd/journald*", "journal"),
    ("/etc/systemd/*", "systemd"),
    ("/usr/lib/systemd/system/*", "systemd"),
    (f"{facts.FIREWALL}/*", "firewall"),
    # The firewall has a chain for each stack by its ids.
    (f"{facts.STACKS}/*/subids", "firewall"),
    (f"{facts.LIB}/firewall*", "firewall"),
    ("/etc/ssh/*", "ssh"),
    ("/etc/fail2ban/*", "fail2ban"),
    ("/etc/sysctl.d/*", "sysctl"),
    (f"{facts.ETC}/caddy/*", "caddy"),
)
_USER: Final = re.compile(
    rf"({facts.QUADLETS}|{facts.ETC}/units|/etc/systemd/system)/(?:user@)?(?P<uid>\d+)(?:\.service\.d)?/(?P<rest>.*)"
)
_STACK: Final = re.compile(rf"{facts.STACKS}/(?P<stack>[^/]+)/(?P<rest>.*)")
# `<stack>-<service>.container`, its drop-ins, its ingress.
_UNIT: Final = re.compile(r"(?:er-ingress-(?P<ingress>[^/.]+)\.|(?P<unit>[^/.]+)\.(?:container|service))")
# These say what is there, no container reads them.
_REGISTER: Final = frozenset({"services", "subids", "archives"})


@dataclass
class Effects:
    """`system` are words of the table; `stacks` maps a stack to the services to restart, None for all of them.

    `proxy` is whether Caddy's own unit changed; `managers` are stacks whose user manager starts with new settings.
    """

    system: set[str] = field(default_factory=set)
    stacks: dict[str, set[str] | None] = field(default_factory=dict)
    managers: set[str] = field(default_factory=set)
    proxy: bool = False


def effects(changed: Iterable[str], uids: dict[int, str]) -> Effects:
    """Who is told of these changed paths. `uids` maps a user's number to its stack."""
    found = Effects()
    for path in changed:
        found.system |= {word for pattern, word in _SYSTEM if fnmatch(path, pattern)}
        if match := _USER.fullmatch(path):
            _user_effect(found, int(match["uid"]), match["rest"], uids, manager=match[1].startswith("/etc/systemd"))
        elif (match := _STACK.fullmatch(path)) and match["rest"] not in _REGISTER:
            found.stacks[match["stack"]] = None
    return found


def _user_effect(found: Effects, uid: int, rest: str, uids: dict[int, str], *, manager: bool) -> None:
    if uid == facts.PROXY_UID:
        found.proxy = True
        return
    stack = uids.get(uid)
    if stack is None:
        return
    if manager:
        found.managers.add(stack)
    service = _service(stack, rest)
    known = found.stacks.setdefault(stack, set())
    if service is None:
        found.stacks[stack] = None
    elif known is not None:
        known.add(service)


def _service(stack: str, rest: str) -> str | None:
    """The service that a unit file belongs to; None when it is the whole stack's."""
    match = _UNIT.match(rest)
    if match is None:
        return None
    return match["ingress"] or (match["unit"] or "").removeprefix(f"{stack}-") or None


# Seconds: an image may have to be pulled, as long as its unit waits for that.
_LIMIT: Final = 1000


def services(action: str, stack: str, service: str = "") -> Value:
    """restart, stop or start a whole stack, or one service of it; returns how each unit stands afterwards."""
    user = common.stack_user(stack)
    units = {name: unit for _, name, unit in common.services(stack) if service in ("", name)}
    if not units:
        names = ", ".join(name for _, name, _ in common.services(stack))
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {names}")
    if action == "stop":
        _sockets(user, "stop", units)
    common.as_user(user, ["systemctl", "--user", action, *units.values()], limit=_LIMIT)
    if action != "stop":
        _sockets(user, "start", units)
    return {name: common.show(unit, "ActiveState", user=user).get("ActiveState") for name, unit in units.items()}


def _sockets(user: str, action: str, units: dict[str, str]) -> None:
    """A stopped service must not be started again by its next request: its socket goes with it."""
    sockets = [f"er-ingress-{name}.socket" for name in units]
    there = [name for name in sockets if common.show(name, "LoadState", user=user).get("LoadState") == "loaded"]
    if there:
        common.as_user(user, ["systemctl", "--user", action, *there])


# How long who was let in has for handshake and request, in seconds: some round trips from anywhere on earth.
_SETTLE: Final = 0.5
# The rule ends by itself, whatever becomes of who made it.
_AT_MOST: Final = 10.0
_TOOLS: Final = ("iptables", "ip6tables")


def rule(until: float) -> list[str]:
    """What waits: the beginnings of connections to the proxy, until a moment in seconds since 1970."""
    ports = f"{facts.PROXY_HTTP},{facts.PROXY_HTTPS}"
    stop = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until))
    match = ["-p", "tcp", "--syn", "-m", "multiport", "--dports", ports, "-m", "time", "--datestop", stop]
    return ["INPUT", *match, "-j", "DROP"]


@contextmanager
def new_connections() -> Iterator[None]:
    """Hold them back; where the kernel has no such rule, nobody waits."""
    words = rule(time.time() + _AT_MOST)
    try:
        for tool in _TOOLS:
            common.run([tool, "--wait", "--insert", *words], check=False)
        time.sleep(_SETTLE)
        yield
    finally:
        for tool in _TOOLS:
            common.run([tool, "--wait", "--delete", *words], check=False)
