"""What `er server report` asks beside `status` and `doctor`: containers, the firewall's counters, bans by day.

No name of a file, value of a variable or address of a visitor is in it, save those that are banned in `status`.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, edge, sleepers
from builder.server.remote.common import RemoteError
from builder.server.remote.move.move import addresses, site_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from builder.server.remote.common import Value


def report_facts() -> Value:
    """Times are in seconds since 1970, sizes in bytes."""
    return {
        "at": int(time.time()),
        "addresses": addresses(),
        "domains": {path.stem: sorted({*site_names(path.read_text())}) for path in _sites()},
        "sleeping": [name for path in _sites() for name in _sleeping(path)],
        "authority": _authority(),
        "users": [_user(name) for name in ("proxy", *common.stacks())],
        "packets": packets("".join(common.run([f"{tool}-save", "-c"]) for tool in ("iptables", "ip6tables"))),
        "bans": _bans(),
        "edge": _edge(),
    }


def _edge() -> str:
    """Whether visitors come by an edge: `only` where nobody else may, `too` where others may as well; else empty."""
    found = edge.settings()
    return "" if found is None else "only" if found.get("only") else "too"


def _sites() -> list[Path]:
    return sorted(Path(facts.ETC, "caddy/sites").glob("*.caddy"))


def _sleeping(path: Path) -> list[str]:
    """The names in a stack's file for Caddy at which a service answers that sleeps: who asks there wakes it."""
    stack = path.stem
    services = sleepers.units_of(stack) if stack in common.stacks() else {}
    return sorted(names_of(path.read_text(), stack, services)) if services else []


_BLOCK: Final = re.compile(r"^\S[^\n]* \{$.*?^\}$", re.MULTILINE | re.DOTALL)


def names_of(text: str, stack: str, services: Collection[str]) -> set[str]:
    """The names of the sites that lead to one of these services of a stack."""
    led = re.compile(rf"^\s+import \S+ {re.escape(stack)}/(\S+)", re.MULTILINE)
    blocks = (block for block in _BLOCK.findall(text) if set(services) & set(led.findall(block)))
    return {name for block in blocks for name in site_names(block)}


def _authority() -> str:
    """The certificate of the proxy's own authority as PEM; empty where it has none."""
    path = Path(facts.CADDY_DATA, "caddy/pki/authorities/local/root.crt")
    # The directory is the proxy's: a link of its making would lead elsewhere.
    if path.is_symlink() or not path.is_file():
        return ""
    text = path.read_text(errors="replace")
    return text if text.startswith("-----BEGIN CERTIFICATE-----") else ""


def _user(stack: str) -> Value:
    """The user of a stack: its numbers, its containers, and what it takes of its memory."""
    user = common.user_of(stack)
    try:
        uid = common.uid(user)
        containers, said = _containers(user), ""
    except (RemoteError, KeyError) as error:
        return {"stack": stack, "user": user, "uid": None, "containers": [], "said": str(error)}
    group = common.show(f"user@{uid}.service", "MemoryCurrent", "MemoryMax")
    memory, limit = (_number(group.get(name, "")) for name in ("MemoryCurrent", "MemoryMax"))
    return {
        "stack": stack,
        "user": user,
        "uid": uid,
        "first": (uid - facts.UID_BASE) * facts.SUBID_SIZE,
        "containers": containers,
        "said": said,
        "memory": memory,
        "limit": limit,
    }


def _number(text: str) -> int | None:
    """None for `[not set]` and for `infinity`."""
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None


def _containers(user: str) -> list[Value]:
    """Every container of a user, with the host's number of who runs in it."""
    if common.rests(user.removeprefix(facts.STACK_USER_PREFIX)):
        return []
    listed = common.as_user(user, ["podman", "ps", "--all", "--format", "json"], timeout=common.PODMAN_TIMEOUT)
    return [
        {
            "name": str((one.get("Names") or ["?"])[0]),
            "image": str(one.get("Image", "")),
            "state": str(one.get("State", "")),
            "started": int(one.get("StartedAt") or 0),
            "uid": _runs_as(int(one.get("Pid") or 0)),
        }
        for one in json.loads(listed or "[]")
    ]


def _runs_as(pid: int) -> int | None:
    """The user of a process; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid if pid else None
    except OSError:
        return None


# What each rule's counter stands for; the first that is found in a rule counts. As iptables-save -c prints them.
_COUNTED: Final = (
    ("let in to the web", re.compile(r"-A ER-INPUT -p \S+ .*--ctorigdstport \d+ .*-j ACCEPT")),
    ("let in to SSH", re.compile(r"-A ER-SSH .*-j ACCEPT")),
    ("dropped: banned", re.compile(r"-A ER-BANS\S* .*--match-set .*-j DROP")),
    ("dropped: too many from one visitor", re.compile(r"-A ER-WEB .*(?:hashlimit|connlimit).*-j DROP")),
    ("dropped: straight at the proxy's own ports", re.compile(r"-A ER-INPUT .*(?:8080|8443|2019).*-j DROP")),
)
_RULE: Final = re.compile(r"^\[(\d+):\d+\] (-A .*)$", re.MULTILINE)
_POLICY: Final = re.compile(r"^:INPUT DROP \[(\d+):\d+\]$", re.MULTILINE)


def packets(saved: str) -> Value:
    """How many packets each kind of rule has met since the firewall was loaded, of both families together."""
    found = {name: 0 for name, _ in _COUNTED}
    for count, rule in _RULE.findall(saved):
        for name, pattern in _COUNTED:
            if pattern.match(rule):
                found[name] += int(count)
                break
    return {**found, "dropped: not asked for": sum(map(int, _POLICY.findall(saved)))}


# Days that are looked back.
_DAYS: Final = 30
_BAN: Final = re.compile(r"\[(?P<jail>[\w.-]+)\] Ban \S+$")


def _bans() -> Value:
    """How many bans each day had, and since when the journal has any, today the last."""
    fields = ["--output=json", "--output-fields=MESSAGE", "--quiet", "--no-pager"]
    which = ["_SYSTEMD_UNIT=fail2ban.service", f"--since=-{_DAYS}d", "--grep=\\] Ban "]
    journal = common.run(["journalctl", *fields, *which], check=False)
    return {"days": bans_by_day(map(json.loads, journal.splitlines()), int(time.time())), "since": _journal_since()}


def bans_by_day(entries: Iterable[Value], now: int) -> list[list[str | int]]:
    """Each of the last days, as its date in the host's time zone, with its number of bans."""
    days = {time.strftime("%Y-%m-%d", time.localtime(now - 86_400 * back)): 0 for back in range(_DAYS - 1, -1, -1)}
    for at in _times_of_bans(entries):
        if (day := time.strftime("%Y-%m-%d", time.localtime(at))) in days:
            days[day] += 1
    return [[day, count] for day, count in days.items()]


def _times_of_bans(entries: Iterable[Value]) -> Iterator[int]:
    """`Restore Ban` is of one that was counted before, and an entry that is no text is none of Fail2Ban's."""
    for entry in entries:
        message = entry.get("MESSAGE")
        if isinstance(message, str) and _BAN.search(message):
            yield int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000


def _journal_since() -> int | None:
    """When the oldest entry of the journal was written: before that nobody knows."""
    fields = ["--output=json", "--output-fields=MESSAGE", "--quiet", "--no-pager", "--lines=+1"]
    oldest = common.run(["journalctl", *fields], check=False)
    try:
        return int(json.loads(oldest.splitlines()[0])["__REALTIME_TIMESTAMP"]) // 1_000_000
    except (IndexError, KeyError, ValueError):
        return None
