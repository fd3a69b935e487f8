"""What has to be told that its files have changed: a table, so that nothing else is disturbed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            _user(found, int(match["uid"]), match["rest"], uids, manager=match[1].startswith("/etc/systemd"))
        elif (match := _STACK.fullmatch(path)) and match["rest"] not in _REGISTER:
            found.stacks[match["stack"]] = None
    return found


def _user(found: Effects, uid: int, rest: str, uids: dict[int, str], *, manager: bool) -> None:
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
