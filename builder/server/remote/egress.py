"""What the firewall has refused to the stacks and the proxy: how many packets, and where they wanted to go.

Each packet is counted by a rule; the kernel's log, limited to some lines a minute for each of them, says where to.
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
# As iptables-save -c prints them: the last rule of a user's chain, and of what is left.
_COUNT: Final = re.compile(r"^\[(\d+):\d+\] -A ER-(?:NO-(\d+)|OUT-DENY) -j ER-OUT-REJECT$", re.MULTILINE)
# As the kernel logs a packet: our prefix, then KEY=value.
_LINE: Final = re.compile(rf"^(?:(?P<user>{facts.STACK_USER_PREFIX}[a-z0-9-]+): |er-egress )IN=\S* OUT=")
_FIELD: Final = re.compile(r"\b([A-Z]+)=(\S+)")
_NEWEST: Final = 5000
"""Lines of the log that are looked at."""


@dataclass(frozen=True)
class Refusal:
    """One packet of the log: whose, when (seconds since 1970), where to; `port` is None where there are none."""

    user: str
    at: int
    address: str
    protocol: str
    port: int | None


def egress() -> list[Value]:
    """A row for each user, the last one for those that no stack has: packets refused since the firewall was loaded.

    With their destinations, the most frequent first; `logged` counts lines, which may be fewer than packets.
    """
    since = _loaded()
    logged = list(refusals(_kernel_log(since))) if since else []
    counted = counts("".join(common.run([f"{tool}-save", "-c", "-t", "filter"]) for tool in ("iptables", "ip6tables")))
    by_name = every()
    return [
        {
            "user": user,
            "since": since,
            "refused": counted.get(uid, 0) if since else None,
            "destinations": destinations(one for one in logged if one.user == user),
            "names": [one for one in by_name if f"{facts.STACK_USER_PREFIX}{one['stack']}" == user],
        }
        for user, uid in _users()
    ]


def _loaded() -> int | None:
    """When the counters began."""
    try:
        return int(Path("/run/er-firewall.loaded").stat().st_mtime)
    except FileNotFoundError:
        return None


def _users() -> Iterator[tuple[str, int]]:
    """Whom the firewall knows, with their numbers; 0 stands for all others."""
    for user in (facts.PROXY_USER, *(f"{facts.STACK_USER_PREFIX}{stack}" for stack in common.stacks())):
        try:
            yield user, pwd.getpwnam(user).pw_uid
        except KeyError:
            continue
    yield OTHERS, 0


def counts(saved: str) -> dict[int, int]:
    """Packets refused by user, both families together, from what iptables-save and ip6tables-save print."""
    found: dict[int, int] = {}
    for count, user in _COUNT.findall(saved):
        found[int(user or 0)] = found.get(int(user or 0), 0) + int(count)
    return found


def _kernel_log(since: int) -> str:
    """The newest lines of ours in the kernel's log, as JSON, one an entry."""
    fields = ["--output=json", "--output-fields=MESSAGE", f"--lines={_NEWEST}"]
    which = ["_TRANSPORT=kernel", "--boot", f"--since=@{since}", "--grep=^er-"]
    return common.run(["journalctl", "--quiet", "--no-pager", *fields, *which], check=False)


def refusals(journal: str) -> Iterator[Refusal]:
    """The refusals among entries of the journal; what is none of ours is left out."""
    for entry in map(json.loads, journal.splitlines()):
        message = entry.get("MESSAGE")
        if isinstance(message, str) and (line := _LINE.match(message)):
            at = int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000
            # A packet that tells of another one has that one's fields in brackets.
            yield _refusal(line["user"] or OTHERS, at, dict(_FIELD.findall(message.partition(" [")[0])))


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


_LIST: Final = re.compile(rf"{facts.FIREWALL}/30-(?P<stack>[^/.]+)\.names")
MADE: Final = re.compile(r"\.names\.filter(\.new)?$")
_NAME: Final = re.compile(r" -d (\S+) ")
_REFUSED: Final = tuple(map(ipaddress.ip_network, (*facts.METADATA, "127.0.0.0/8", "::1/128")))


def resolve() -> list[Value]:
    """Ask for every name anew and bring the rules in line; returns how each stands. None where no spec has names."""
    if not Path(facts.NAMES).exists():
        return []
    common.run([facts.NAMES], check=False)
    found = every()
    if any(one["failing_since"] for one in found):
        common.run(["systemctl", "--no-block", "restart", "er-names.service"], check=False)  # it goes on asking
    return found


def every() -> list[Value]:
    """Each name of each stack: its addresses, when they were found (seconds since 1970), since when there is no answer.

    `refused` are those of the addresses that no stack may reach under any name.
    """
    lists = sorted(Path(facts.FIREWALL).glob("30-*.names"))
    pairs = ((path, name) for path in lists for name in dict.fromkeys(_NAME.findall(path.read_text())))
    return [_name(match["stack"], name) for path, name in pairs if (match := _LIST.fullmatch(str(path)))]


def _name(stack: str, name: str) -> Value:
    answer = Path(facts.ANSWERS, name)
    addresses = answer.read_text().split() if answer.exists() else []
    return {
        "stack": stack,
        "name": name,
        "addresses": addresses,
        "refused": [text for text in addresses if _inside(text)],
        "resolved": _changed(answer),
        "failing_since": _changed(Path(facts.ANSWERS, f"{name}~")),
    }


def _changed(path: Path) -> int | None:
    return int(path.stat().st_mtime) if path.exists() else None


def _inside(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return any(address in network for network in _REFUSED)


def made_from(paths: Iterable[str]) -> list[str]:
    """The files of rules that the host makes from those of these paths that are lists of names."""
    return [f"{path}.filter" for path in paths if _LIST.fullmatch(path)]


def reapply_firewall() -> Value:
    """Resolve the names of egress and load the rules anew, both families; Fail2Ban's bans stay."""
    found = resolve()
    common.run(["systemctl", "restart", "er-firewall.service"], check=False)
    if not common.loaded():
        said = common.run(
            ["journalctl", "-u", "er-firewall.service", "-n", "3", "-o", "cat", "--no-pager"], check=False
        )
        raise RemoteError(
            f"the rules did not load, only SSH is open: {said.strip().replace(chr(10), '; ')}",
            "mend the file that it names under /etc/easyrunner/firewall.d, then reapply",
        )
    lines = {family: len(common.run([f"{tool}-save"]).splitlines()) for family, tool in _TOOLS}
    return {"lines": lines, "names": found}


_TOOLS = (("ipv4", "iptables"), ("ipv6", "ip6tables"))
