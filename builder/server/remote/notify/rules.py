"""The rules: from what a look has seen to what of that is worth a notice. Values only, no host.

`seen` is what `watch` gathers, see there; `memory` is what the rules remember from look to look, such as counters.
docs/notify.md has them as a table, which a test holds against this one.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote.notify.ledger import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server.remote.common import Value

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Seconds: two looks, so that what is between two states is not told.
TWICE: Final = 10


@dataclass(frozen=True)
class Check:
    """How a check of `er server doctor` is told: see Finding; `every` is how often it is asked, in seconds.

    A `basic` one counts on a host whose stacks do not run, too. It is not told beside `unless`, which explains it.
    """

    key: str
    urgent: bool = False
    wait: int = 0
    every: int = 0
    basic: bool = False
    unless: str = ""


# Seconds: a check that is asked less often than that costs much, and is not asked at each look while it is wrong.
SELDOM: Final = _HOUR
# By the name that `doctor` has for the check.
CHECKS: Final = {
    "disk for data": Check("data-disk", urgent=True, basic=True),
    "firewall in force": Check("firewall", urgent=True, wait=TWICE, basic=True),
    "firewall complete": Check("firewall", urgent=True, wait=TWICE, basic=True, unless="firewall in force"),
    "ssh by key only": Check("ssh", urgent=True, every=5 * _MINUTE, basic=True),
    "no passwords": Check("password", urgent=True, basic=True),
    "fail2ban": Check("fail2ban", urgent=True, wait=TWICE, every=5 * _MINUTE),
    "system services": Check("unit", wait=TWICE),
    "room on the disk": Check("disk", urgent=True, basic=True),
    "no change half-way": Check("change", wait=15 * _MINUTE, every=_MINUTE),
    "egress resolves": Check("name", wait=_HOUR, every=5 * _MINUTE),
    "security updates": Check("update", wait=36 * _HOUR, every=_HOUR, basic=True),
    "packages": Check("package", wait=_HOUR, every=6 * _HOUR),
    "backups": Check("backup"),
    "restores tried": Check("drill"),
    "restores whole": Check("restore", wait=_HOUR),
    "certificates": Check("certificate"),
    "clock": Check("clock", wait=2 * _HOUR, every=_HOUR),
}
# Units of which another rule speaks, or that tell of themselves.
_OF_OTHER_RULES: Final = re.compile(
    r"user(-runtime-dir)?@\d+\.service|er-(first-boot|firewall|notify.*|watch@.*)\.(service|path)|"
    r"firewall-unconfined\.service|fail2ban\.service|easyrunner-(backup|drill|data|restore|move)\.service|"
    r"var-lib-easyrunner-data\.mount|ssh@.*"
)
# How often a service has to start within how many seconds, by itself, to count as restarting for ever.
_RESTARTS, _RESTARTS_WITHIN = 3, 5 * _MINUTE
# Of the memory, the share that is to be available.
_LEAST_MEMORY: Final = 0.05
# Seconds: package lists that are older cannot say what waits.
_OLD_LISTS: Final = 4 * _DAY

# Each of them within so many seconds: connections that one stack was refused, and addresses that were banned.
_REFUSED, _REFUSED_WITHIN = 25, 2 * _MINUTE
_BANNED, _BANNED_WITHIN = 40, 10 * _MINUTE
# Seconds of calm after which another burst is one, and until the same is told again.
_CALM, _AGAIN = _HOUR, _DAY
# Networks from which somebody has logged in are remembered for so long.
_KNOWN_LOGINS: Final = 90 * _DAY
# Ports from here on are given to whoever asks for none, and change.
_ANY_PORT: Final = 32_768


def judge(seen: Value, memory: Value) -> tuple[list[Finding], set[str], Value]:
    """What is wrong now and what has happened; what cannot be said now, by key or id of findings; the new memory."""
    new = dict(memory)
    found = [*_conditions(seen, new), *_tripwires(seen, new)]
    unknown = {"stack"} if seen["services"] is None else set()
    unknown |= {f"stack:{stack}:" for stack in (*seen["busy"], *seen["filled"])}
    # A wake that failed is told once, however often it is tried again: it is over when one comes to its end.
    unknown |= {f"stack:{one['stack']}:" for one in seen["services"] or () if one["state"] == "waking"}
    if not _is_whole(seen):
        unknown |= {"stack", *(row.key for row in CHECKS.values() if not row.basic)}
    return found, unknown, new


# ---- conditions


def _conditions(seen: Value, memory: Value) -> Iterator[Finding]:
    checks = {name: one["wrong"] for name, one in seen["checks"].items()}
    is_whole = _is_whole(seen)
    for name, row in CHECKS.items():
        if checks.get(name) and (is_whole or row.basic) and not checks.get(row.unless):
            yield from _of_check(name, row, checks[name], seen)
    if is_whole:
        yield from _stacks(seen, memory)
    yield from _memory(seen)
    if seen["reboot"]:
        yield Finding("reboot", "updates are installed that need a reboot", _todo("sudo reboot, when it suits", seen))
    if seen["uptime"] > _OLD_LISTS and seen["now"] - seen["lists_at"] > _OLD_LISTS:
        days = (seen["now"] - seen["lists_at"]) // _DAY
        todo = _todo("sudo apt-get update says why", seen)
        yield Finding("update", f"security updates are unknown: not looked for in {days} days", todo, subject="lists")


def _is_whole(seen: Value) -> bool:
    """Whether all that runs here is to run now: not while it starts, is upgraded, lacks its data, or was moved away."""
    return not (seen["starting"] or seen["installing"] or seen["held"] or seen["checks"]["disk for data"]["wrong"])


def _of_check(name: str, row: Check, wrong: str, seen: Value) -> Iterator[Finding]:
    todo = _todo(seen["checks"][name]["remedy"], seen)
    if row.key != "unit":
        yield Finding(row.key, f"{name}: {wrong}", todo, subject=name, urgent=row.urgent, wait=row.wait)
        return
    for unit in wrong.split(", "):
        if not _OF_OTHER_RULES.fullmatch(unit):
            todo = _todo(f"journalctl -u {unit} on the server says why", seen)
            yield Finding(row.key, f"the unit {unit} has failed", todo, subject=unit, wait=row.wait)


def _todo(remedy: str, seen: Value) -> str:
    """The way out, with this host's name; every notice has a command of er's."""
    text = re.sub(r"\bHOST\b", seen["name"], remedy)
    return text if "er server" in text else f"{text}; er server doctor {seen['name']} looks at all of it"


def _stacks(seen: Value, memory: Value) -> Iterator[Finding]:
    """One finding for each stack that is down, or starts again and again; not while somebody changes it."""
    again = _restarting(seen, memory)
    for stack, group in groupby(seen["services"] or (), key=lambda one: one["stack"]):
        services = list(group)
        down = [f"{one['service']} ({one['state']})" for one in services if not one["up"] and one["id"] not in again]
        loops = [f"{one['service']}, {again[one['id']]} times of late" for one in services if one["id"] in again]
        if stack in seen["busy"] or stack in seen["filled"] or not (down or loops):
            continue
        what = [f"{stack} is down: {', '.join(down)}"] * bool(down)
        what += [f"{stack} restarts for ever: {', '.join(loops)}"] * bool(loops)
        logs = f"er server logs {seen['name']} {stack}" if stack != "proxy" else f"er server doctor {seen['name']}"
        yield Finding("stack", "; ".join(what), f"{logs} says why", stack, urgent=True, wait=TWICE)


def _restarting(seen: Value, memory: Value) -> dict[str, int]:
    """The services that start again and again, and how often of late."""
    old: Value = memory.get("restarts", {})
    new, found = {}, {}
    for one in seen["services"] or ():
        past = [pair for pair in old.get(one["id"], []) if seen["now"] - pair[0] <= _RESTARTS_WITHIN]
        if past and past[-1][1] > one["restarts"]:
            past = []  # somebody has started it anew
        new[one["id"]] = [*past, [seen["now"], one["restarts"]]]
        if one["restarts"] - new[one["id"]][0][1] >= _RESTARTS:
            found[one["id"]] = one["restarts"] - new[one["id"]][0][1]
    memory["restarts"] = new
    return found


def _memory(seen: Value) -> Iterator[Finding]:
    total, available = seen["memory"]["total"], seen["memory"]["available"]
    if available < _LEAST_MEMORY * total:
        title = f"memory is nearly used up: {available >> 20} MiB of {total >> 20} are available"
        yield Finding("memory", title, f"er server status {seen['name']} says who has it", urgent=True, wait=TWICE)


# ---- tripwires


def _tripwires(seen: Value, memory: Value) -> Iterator[Finding]:
    _remember_activity(seen, memory)
    for rule in (_killed, _egress, _bans, _listeners, _logins, _changes, _integrity, _programs):
        yield from rule(seen, memory)


def _killed(seen: Value, memory: Value) -> Iterator[Finding]:
    old = memory.get("killed", {})
    for stack, count in seen["killed"].items():
        if (more := count - old.get(stack, count)) > 0:
            title = f"{stack} has met its limit of memory: {more} of its processes ended by the kernel"
            todo = f"give it more: memory, in the spec; er server logs {seen['name']} {stack}"
            yield Finding("killed", title, todo, stack, again=_AGAIN)
    memory["killed"] = seen["killed"]


def _egress(seen: Value, memory: Value) -> Iterator[Finding]:
    """A burst of refused connections; a stack that is refused all the time is told of once."""
    bursts: dict[str, int] = {}
    for stack, more in _growth("refused", seen, memory, _REFUSED_WITHIN).items():
        if more < _REFUSED:
            continue
        last = memory.get("bursts", {}).get(stack, 0)
        bursts[stack] = seen["now"]
        if seen["now"] - last > _CALM:
            where = ", ".join(seen["destinations"].get(stack, [])[:5])
            title = f"{stack} was refused {more} packets to the outside within {_REFUSED_WITHIN // _MINUTE} minutes"
            todo = f"er server status {seen['name']} says where to; egress in the spec allows it, if it is wanted"
            yield Finding("egress", f"{title}{where and f': {where}'}", todo, stack, urgent=True, again=_CALM)
    memory["bursts"] = {**memory.get("bursts", {}), **bursts}


def _growth(name: str, seen: Value, memory: Value, within: int) -> dict[str, int]:
    """By how much each counter of that name has grown within so many seconds; one that has begun anew is new."""
    old: Value = memory.get(name, {})
    new: Value = {}
    for who, count in seen[name].items():
        past = [pair for pair in old.get(who, []) if seen["now"] - pair[0] <= within]
        past = past or old.get(who, [])[-1:]
        new[who] = [*(past if not past or past[-1][1] <= count else [[seen["now"], 0]]), [seen["now"], count]]
    memory[name] = new
    return {who: pairs[-1][1] - pairs[0][1] for who, pairs in new.items()}


def _bans(seen: Value, memory: Value) -> Iterator[Finding]:
    times = [at for at in memory.get("bans", []) if seen["now"] - at <= _BANNED_WITHIN]
    times += [seen["now"]] * len(seen["bans"])
    if len(times) >= _BANNED:
        title = f"Fail2Ban has banned {len(times)} addresses within {_BANNED_WITHIN // _MINUTE} minutes"
        todo = f"er server fail2ban-status {seen['name']}; nothing has to be done as long as the sites answer"
        yield Finding("bans", title, todo, again=_AGAIN)
    memory["bans"] = times[-_BANNED:]


def _listeners(seen: Value, memory: Value) -> Iterator[Finding]:
    """Who listens on an address that others could reach, twice in a row: some ask and are gone."""
    old: Value = memory.get("listeners", {})
    new: Value = {}
    for one in seen["listeners"]:
        if one["protocol"] != "tcp" and one["port"] >= _ANY_PORT:
            continue
        name = f"{one['port']}/{one['protocol']}"
        new[name] = old.get(name, 0) + 1
        if new[name] == 2:
            title = f"a new listener: {one['program'] or 'something'} on port {name}, behind the firewall"
            todo = f"is it wanted? sudo ss -tulnp on the server; er server doctor {seen['name']}"
            yield Finding("listener", title, todo, subject=name, urgent=True, again=_DAY)
    memory["listeners"] = new


def _logins(seen: Value, memory: Value) -> Iterator[Finding]:
    """Somebody from where nobody has logged in before. The first look takes what the journal has as known."""
    is_first = "logins" not in memory
    known: Value = {net: at for net, at in memory.get("logins", {}).items() if seen["now"] - at < _KNOWN_LOGINS}
    for one in seen["logins"]:
        if one["user"] == facts.DEPLOY_LOGIN or not (network := network_of(one["address"])):
            continue
        if network not in known and not is_first:
            title = f"{one['user']} has logged in from {one['address']}, where nobody has before"
            todo = (
                f"was it you, by {one['key'] or 'that key'}? Else take the key out: er server apply {seen['name']} SPEC"
            )
            yield Finding("login", title, todo, subject=network, urgent=True, again=_HOUR)
        known[network] = seen["now"]
    memory["logins"] = known


def network_of(address: str) -> str:
    """The network by which an address counts as known: a provider gives its clients another one of it now and then."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 56), strict=False))


# Seconds around what packages and er do; and how long that is remembered, which is more than a comparison needs.
_AROUND, _REMEMBERED = 30, 3 * _DAY


def _remember_activity(seen: Value, memory: Value) -> None:
    """When packages, er or a boot were at work: each time from its beginning to its end."""
    recent = [one for one in memory.get("activity", []) if seen["now"] - one[1] < _REMEMBERED]
    merged: list[list[float]] = []
    for first, last in sorted([*recent, *seen["activity"]]):
        if merged and first - merged[-1][1] <= _AROUND:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    memory["activity"] = merged


def _changes(seen: Value, memory: Value) -> Iterator[Finding]:
    """A watched file that neither a package nor er has changed, seen by the audit system."""
    for one in seen["changes"]:
        if not is_excused(one["at"], memory["activity"]):
            title = f"{one['path']} was changed by {one['program']}, of {one['user']}"
            yield Finding("changed", title, _changed(seen), subject=one["path"], urgent=True, again=_HOUR)


def _integrity(seen: Value, memory: Value) -> Iterator[Finding]:
    """The same, by the daily comparison."""
    for one in seen["integrity"]:
        if not any(is_excused(at, memory["activity"]) for at in one["times"]):
            title = f"{one['path']} was {one['how']} since the last comparison"
            yield Finding("changed", title, _changed(seen), subject=one["path"], urgent=True, again=_HOUR)


def _changed(seen: Value) -> str:
    return f"was it you? er server verify {seen['name']} SPEC compares all files of er's with the spec"


def is_excused(at: float, activity: Iterable[list[float]]) -> bool:
    """Whether packages, er or a boot were at work then, or just before or after."""
    return any(first - _AROUND <= at <= last + _AROUND for first, last in activity)


def _programs(seen: Value, _: Value) -> Iterator[Finding]:
    """Programs that stacks ran from where only data belongs, or tried to."""
    for one in seen["programs"]:
        stack, path = one["stack"], one["path"]
        if one["ran"] and stack in seen["allow_exec"]:
            continue
        name = path.rpartition("/")[2]
        what = f"has run {path}, which is among its data" if one["ran"] else f"has tried to run {path}, and was refused"
        title = f"{stack} {what}"
        todo = f"er server logs {seen['name']} {stack}; if it is of the app's own: notify: {{allow_exec: [{stack}]}}"
        if not one["ran"]:
            todo = f"er server logs {seen['name']} {stack}, and er server exec {seen['name']} {stack} to look inside"
        yield Finding("program", title, todo, stack, subject=name, urgent=True, again=7 * _DAY)
