"""What the firewall refuses to stacks and the proxy, and the names that `egress:` allows.

A rule counts each refused packet; the kernel's log, limited to some lines a minute for each rule, has the destinations.
"""

from __future__ import annotations

import ipaddress
import json
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Users of our range that no stack has; they have no rules of their own.
OTHERS: Final = ""


def egress() -> list[Value]:
    """A row for each user, the last one for those that no stack has: packets refused since the firewall was loaded.

    `destinations` has the most frequent first; `logged` counts lines of the log, which may be fewer than packets.
    """
    since = _loaded_at()
    logged = list(refusals(_kernel_log(since))) if since else []
    counted = counts("".join(common.run([f"{tool}-save", "-c", "-t", "filter"]) for tool in ("iptables", "ip6tables")))
    every_name = names()
    return [
        {
            "user": user,
            "since": since,
            "refused": counted.get(uid, 0) if since else None,
            "destinations": destinations(one for one in logged if one.user == user),
            "names": [one for one in every_name if common.user_of(one["stack"]) == user],
        }
        for user, uid in _users()
    ]


def _loaded_at() -> int | None:
    """When the counters began, in seconds since 1970; None in the lockdown."""
    return _modified(common.FIREWALL_LOADED)


def _users() -> Iterator[tuple[str, int]]:
    """The users that have rules of their own, with their numbers; 0 stands for all others."""
    for user in (facts.PROXY_USER, *map(common.user_of, common.stacks())):
        try:
            yield user, pwd.getpwnam(user).pw_uid
        except KeyError:
            continue
    yield OTHERS, 0


# As iptables-save -c prints them: the last rule of a user's chain, and of the chain for all others.
_COUNTER: Final = re.compile(r"^\[(\d+):\d+\] -A ER-(?:NO-(\d+)|OUT-DENY) -j ER-OUT-REJECT$", re.MULTILINE)


def counts(saved: str) -> dict[int, int]:
    """Packets refused by user, both families together, from what iptables-save and ip6tables-save print."""
    found: dict[int, int] = {}
    for count, user in _COUNTER.findall(saved):
        found[int(user or 0)] = found.get(int(user or 0), 0) + int(count)
    return found


# Lines of the log that are read.
_LOG_LINES: Final = 5000
# As the kernel logs a packet: our prefix, then KEY=value.
_LOG_LINE: Final = re.compile(rf"^(?:(?P<user>{facts.STACK_USER_PREFIX}[a-z0-9-]+): |er-egress )IN=\S* OUT=")
_LOG_FIELD: Final = re.compile(r"\b([A-Z]+)=(\S+)")


def _kernel_log(since: int) -> str:
    """The newest lines of the firewall in the kernel's log: an entry of the journal as JSON on each line."""
    fields = ["--output=json", "--output-fields=MESSAGE", f"--lines={_LOG_LINES}"]
    which = ["_TRANSPORT=kernel", "--boot", f"--since=@{since}", "--grep=^er-"]
    return common.run(["journalctl", "--quiet", "--no-pager", *fields, *which], check=False)


@dataclass(frozen=True)
class Refusal:
    """One packet of the log: its user, when (seconds since 1970) and where to; `port` is None for protocols without."""

    user: str
    at: int
    address: str
    protocol: str
    port: int | None


def refusals(journal: str) -> Iterator[Refusal]:
    """The refusals among entries of the journal, which are JSON, one on each line; other entries are left out."""
    for entry in map(json.loads, journal.splitlines()):
        message = entry.get("MESSAGE")
        if isinstance(message, str) and (line := _LOG_LINE.match(message)):
            at = int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000
            # An ICMP error has the fields of the packet that it is about in brackets.
            yield _refusal(line["user"] or OTHERS, at, dict(_LOG_FIELD.findall(message.partition(" [")[0])))


def _refusal(user: str, at: int, fields: dict[str, str]) -> Refusal:
    port = fields.get("DPT")
    return Refusal(
        user,
        at,
        str(ipaddress.ip_address(fields["DST"])),
        fields.get("PROTO", "").lower(),
        int(port) if port else None,
    )


def destinations(found: Iterable[Refusal]) -> list[Value]:
    """Where to, how often and when last, the most frequent first; of equals the latest."""
    rows: dict[tuple[str, str, int | None], Value] = {}
    for one in found:
        row = rows.setdefault(
            (one.address, one.protocol, one.port),
            {"address": one.address, "protocol": one.protocol, "port": one.port, "logged": 0, "last": 0},
        )
        row["logged"] += 1
        row["last"] = max(row["last"], one.at)
    return sorted(rows.values(), key=lambda row: (-row["logged"], -row["last"]))


# Of the addresses of a name, those that no stack may reach under any name.
_REFUSED: Final = tuple(map(ipaddress.ip_network, (*facts.METADATA, "127.0.0.0/8", "::1/128")))
_IPTABLES: Final = (("ipv4", "iptables"), ("ipv6", "ip6tables"))


def reapply_firewall() -> Value:
    """Resolve the names of egress and load the rules again, both families; Fail2Ban's bans stay."""
    found = resolve()
    common.run(["systemctl", "restart", "er-firewall.service"], check=False)
    if not common.firewall_loaded():
        log = common.run(["journalctl", "-u", "er-firewall.service", "-n", "3", "-o", "cat", "--no-pager"], check=False)
        raise RemoteError(
            f"the rules did not load, only SSH is open: {log.strip().replace(chr(10), '; ')}",
            "mend the file that it names under /etc/easyrunner/firewall.d, then reapply",
        )
    # It was tried as well while a rule was broken, and would count as failed until the next boot.
    common.run(["systemctl", "reset-failed", "firewall-unconfined.service"], check=False)
    lines = {family: len(common.run([f"{tool}-save"]).splitlines()) for family, tool in _IPTABLES}
    return {"lines": lines, "names": found}


def resolve() -> list[Value]:
    """Resolve every name anew and bring the rules in line; returns what `names` does."""
    if not Path(facts.NAMES).exists():
        return []  # no spec has names
    common.run([facts.NAMES], check=False)
    found = names()
    if any(one["failing_since"] for one in found):
        common.run(["systemctl", "--no-block", "restart", "er-names.service"], check=False)  # it goes on trying
    return found


# A file of rules with names, and the one that the host generates from it.
_NAMES_FILE: Final = re.compile(rf"{facts.FIREWALL}/30-(?P<stack>[^/.]+)\.names")
GENERATED: Final = re.compile(r"\.names\.filter(\.new)?$")
_DESTINATION: Final = re.compile(r" -d (\S+) ")


def names() -> list[Value]:
    """Each name of each stack: its addresses, when they were resolved, and since when there is no answer.

    Times are in seconds since 1970. `refused` are those of the addresses that no stack may reach under any name.
    """
    files = sorted(Path(facts.FIREWALL).glob("30-*.names"))
    pairs = ((path, name) for path in files for name in dict.fromkeys(_DESTINATION.findall(path.read_text())))
    return [_name_state(match["stack"], name) for path, name in pairs if (match := _NAMES_FILE.fullmatch(str(path)))]


def _name_state(stack: str, name: str) -> Value:
    answer = Path(facts.ANSWERS, name)
    addresses = answer.read_text().split() if answer.exists() else []
    return {
        "stack": stack,
        "name": name,
        "addresses": addresses,
        "refused": [text for text in addresses if _is_refused(text)],
        "resolved": _modified(answer),
        "failing_since": _modified(Path(facts.ANSWERS, f"{name}~")),
    }


def _modified(path: Path) -> int | None:
    try:
        return int(path.stat().st_mtime)
    except FileNotFoundError:
        return None


def _is_refused(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return any(address in network for network in _REFUSED)


def generated_from(paths: Iterable[str]) -> list[str]:
    """The files that the host generates from those of these paths that have rules with names."""
    return [f"{path}.filter" for path in paths if _NAMES_FILE.fullmatch(path)]
