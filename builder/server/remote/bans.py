"""Fail2Ban: its jails, their policy, and who is banned."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.server.remote import common, edge
from builder.server.remote.common import RemoteError, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SETTINGS: Final = ("maxretry", "findtime", "bantime")
_PROMPT: Final = "fail2ban> "


def jails() -> list[Value]:
    """Every jail: policy, counts, and each ban with its end."""
    names = _jail_names()
    questions = [
        question
        for name in names
        for question in (f"status {name}", f"get {name} banip --with-time", *(f"get {name} {key}" for key in _SETTINGS))
    ]
    answers = iter(_answers(questions))
    return [_jail(name, next(answers), next(answers), *(next(answers) for _ in _SETTINGS)) for name in names]


def _jail_names() -> list[str]:
    listed = common.run(["fail2ban-client", "status"]).rpartition("Jail list:")[2]
    return sorted(name.strip() for name in listed.split(",") if name.strip())


def _answers(questions: Sequence[str]) -> list[str]:
    """Ask all of them of one client: each start of it costs a small server a noticeable time."""
    typed = "".join(f"{question}\n" for question in questions).encode()
    # It exits at the end of its input, with a code that is not 0.
    _, *answers = common.run(["fail2ban-client", "-i"], stdin=typed, check=False).split(_PROMPT)
    if len(answers) <= len(questions):
        raise RemoteError("Fail2Ban does not answer", "see: systemctl status fail2ban")
    return answers[: len(questions)]


def _jail(name: str, status: str, banned: str, *settings: str) -> Value:
    fields = {
        key.strip(" `|-\t"): value.strip() for key, _, value in (line.partition(":") for line in status.splitlines())
    }
    return {
        "jail": name,
        **{key: int(value) for key, value in zip(_SETTINGS, settings, strict=True)},
        "failing": int(fields["Currently failed"]),
        "failed_total": int(fields["Total failed"]),
        "banned": [_ban(line) for line in banned.strip().splitlines()],
        "banned_total": int(fields["Total banned"]),
    }


def _ban(line: str) -> Value:
    """`203.0.113.9 \\t2026-01-01 10:00:00 + 3600 = 2026-01-01 11:00:00`, as Fail2Ban prints it."""
    address, _, times = line.partition(" ")
    since, _, until = times.strip().partition(" + ")
    return {"address": address, "since": since.strip(), "until": until.partition(" = ")[2].strip()}


def ban(address: str, jail: str = "sshd") -> Value:
    """Ban an address now, for the jail's own time: of IPv6 its /64, as Fail2Ban does."""
    found = _address(address)
    edge.refuse_to_ban(found)
    banned, names = str(_as_banned(found)), _jail_names()
    if jail not in names:
        raise RemoteError(f"there is no jail {jail}", f"there are: {', '.join(names)}")
    common.run(["fail2ban-client", "set", jail, "banip", banned])
    return {"address": banned, "jail": jail}


# The addresses of this host.
_OWN_ADDRESSES: Final = Path("/proc/net/if_inet6")


def _as_banned(address: Address) -> Address | ipaddress.IPv6Network:
    """What is banned for a client, as in /usr/lib/easyrunner/watch.awk: of IPv6 its /64, but not this host's own."""
    if address.version == 4:
        return address
    network = ipaddress.IPv6Network((address, 64), strict=False)
    own = (ipaddress.IPv6Address(int(line.split()[0], 16)) for line in _OWN_ADDRESSES.read_text().splitlines())
    return address if any(one in network for one in own) else network


def unban(address: str) -> Value:
    """Take an address, and of IPv6 its /64, out of every jail; `was` names those it was in."""
    unbanned = _address(address)
    bans = [(jail["jail"], ban["address"]) for jail in jails() for ban in jail["banned"]]
    matching = [(jail, banned) for jail, banned in bans if _within(unbanned, banned)]
    for banned in dict.fromkeys(banned for _, banned in matching):
        common.run(["fail2ban-client", "unban", banned])
    return {"address": str(unbanned), "was": list(dict.fromkeys(jail for jail, _ in matching))}


def _address(text: str) -> Address:
    """The address; of a network, as `fail2ban-status` shows one, its first. Raises RemoteError."""
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        raise RemoteError(f"{text} is no IP address", "as in 203.0.113.7 or 2001:db8::7") from None


def _within(address: Address, banned: str) -> bool:
    return address in ipaddress.ip_network(banned, strict=False)
