"""What reads a host's files, and reads them anew once they have changed.

`affected` says which programs and services that is, `reload` lets them read, in the order of a boot.
"""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, egress, start_first
from builder.server.remote.common import RemoteError
from builder.server.remote.images import role_logins
from builder.server.remote.notify import notices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Say = Callable[..., None]


# Seconds: an image may have to be pulled, and its unit waits so long for that.
_TIMEOUT: Final = 1000

# What each stack may have of the memory, by how many there are.
_SHARES: Final = "/etc/systemd/system/user@.service.d/10-easyrunner.conf"
# Path pattern, and what is reloaded when such a file changes.
_SYSTEM_FILES: Final = (
    (_SHARES, "shares"),
    ("/etc/tmpfiles.d/er-*", "directories"),
    ("/usr/lib/tmpfiles.d/easyrunner.conf", "directories"),
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
# `<stack>-<service>.container`, its drop-ins, its ingress, or what shows the socket that it makes itself.
_SERVICE_UNIT: Final = re.compile(
    r"(?:er-(?:ingress|listen|passed)-(?P<ingress>[^/.]+)\.|(?P<unit>[^/.]+)\.(?:container|service))"
)
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
    if "directories" in found.system:
        # Those of a stack that has no user yet are made by first boot.
        places = (f"--prefix={facts.RUN}", f"--prefix={facts.STATE}")
        common.run(["systemd-tmpfiles", "--create", *places], check=False)
    if "shares" in found.system:
        _tell_shares()
    _reload_system(found.system)
    if "role" in found.system:
        role_logins.ask()
    if found.proxy:
        restart_proxy()
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


def restart_proxy() -> None:
    """Its listeners are systemd's: who connects meanwhile waits."""
    _restart_units(facts.PROXY_USER, [*_images_unit(facts.PROXY_UID), "er-proxy.service"])


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
    begun = common.rests(stack) or Path("/var/lib/systemd/linger", common.user_of(stack)).exists()
    return begun and stack in common.uids([stack])


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
